"""Fresh seeds, other ones in every run: nothing is violated, and much is exercised."""

import secrets

import pytest

from simulation.goals import reached
from simulation.search import Search, run_seeds
from simulation.swarm import Mix

FRESH = secrets.randbits(40)


def check(tally):
    failures = [(failure.seed, failure.violation) for failure in tally.failures]
    assert not failures, failures
    assert not tally.undecided
    assert tally.answered > tally.operations * 0.4  # or the seeds prove nothing


def test_no_fresh_seed_violates_anything():
    check(run_seeds(range(FRESH, FRESH + 60), Mix()))


@pytest.mark.slow
def test_no_fresh_seed_of_many_violates_anything_and_all_is_exercised():
    seeds = 600
    tally = Search(Mix(), FRESH + 60, seeds, None).run(workers=2)

    check(tally)
    assert tally.seeds == seeds
    rare = {  # too rare for so few seeds
        "commit cut off in its middle",
        "killed while stopping",
        "start refused, too few disks readable",
    }
    missed = {goal for goal, count in reached(tally.exercised).items() if not count}
    assert missed <= rare, f"seeds from {FRESH + 60} on never exercised {missed}"


@pytest.mark.slow
def test_several_workers_find_what_one_finds():
    one = Search(Mix(), 0, 60, None).run(workers=1)
    two = Search(Mix(), 0, 60, None).run(workers=2)

    assert (one.seeds, one.operations, one.events) == (
        two.seeds,
        two.operations,
        two.events,
    )
    assert one.injected == two.injected
    assert one.exercised == two.exercised


def test_a_fault_that_was_not_asked_for_does_not_happen():
    tally = run_seeds(range(15), Mix(families=("crash",)))

    assert set(tally.injected) == {"crash", "restart"}


def test_without_faults_everything_is_served():
    tally = run_seeds(range(15), Mix(families=()))

    check(tally)
    assert not tally.injected
    refused = tally.exercised["a request was refused, and nothing was done"]
    assert not refused
