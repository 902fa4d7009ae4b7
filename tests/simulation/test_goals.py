"""What a campaign must come across: every goal can be reached, and is."""

from collections import Counter
from pathlib import Path

import pytest

from simulation.faults import FAULTS
from simulation.goals import GOALS, injected_by_kind, reached
from simulation.network import ANOMALIES
from simulation.plan import Plan, Step, Times
from simulation.report import never, tables_of
from simulation.search import Search, Tally
from simulation.swarm import Mix
from simulation.trial import run
from simulation.workload import WRITE
from tests.simulation.small import numbered

ROOT = Path(__file__).resolve().parents[2]
SEEDS = 1_000  # from 0 on
TORN = "a commit was cut off in its middle"
BY_PLAN = {"commit cut off in its middle"}  # too rare for so few seeds
COUNTED_BY_NAME = ("event ", "a node stopped while asked for ", "killed during a ")


def texts_of(*folders: str) -> str:
    paths = sorted(path for folder in folders for path in (ROOT / folder).glob("*.py"))
    return "\n".join(
        path.read_text("utf-8") for path in paths if path.name != "goals.py"
    )


def test_no_goal_is_counted_under_a_name_that_nothing_counts():
    text = texts_of("simulation", "cluster", "protocols") + (
        ROOT / "models.py"
    ).read_text("utf-8")
    for counter in (counter for counters in GOALS.values() for counter in counters):
        start = next((each for each in COUNTED_BY_NAME if counter.startswith(each)), "")
        name = counter.removeprefix(start)
        if start == "event ":
            assert f'"{name}"' in text, counter
        elif start:
            assert start in text, counter
            assert f"class {name}(" in text or f"def {name}(" in text, counter
        else:
            assert f'"{name}"' in text or f"def {name}(" in text or f"_{name}(" in text


def test_a_goal_is_not_reached_by_the_counter_of_another():
    for goal, counters in GOALS.items():
        for counter in counters:
            counts = reached({counter: 3})
            assert [each for each, count in counts.items() if count] == [goal]
            assert counts[goal] == 3
    assert set(reached({}).values()) == {0}


def test_what_never_happened_is_not_left_out_of_a_report():
    counts = injected_by_kind(Counter({"crash": 2}))
    assert set(counts) == {*FAULTS, *ANOMALIES}
    assert counts["crash"] == sum(counts.values()) == 2

    tally = Tally(exercised=Counter({TORN: 1}))
    assert set(never(tally)) == set(GOALS) - BY_PLAN
    assert len(tables_of(tally)) == 2


def torn_plan(kill_at_us: int) -> Plan:
    """Twenty keys are copied to a node that was wiped, and all is killed meanwhile."""
    steps = tuple(Step(n, 0, WRITE, f"key-{n}", 100) for n in range(1, 21))
    faults = numbered(
        (60_000, "wipe", 1), (90_000, "recover", 1), (kill_at_us, "kill", 0)
    )
    last = Step(21, 0, WRITE, "key-1", 300_000)
    times = Times(message=(100, 100), flush=(1_000, 1_000), patience=5_000)
    return Plan(7, 2, 2, (*steps, last), faults, times=times)


def test_a_commit_is_not_always_kept_or_lost_as_a_whole():
    torn = whole = 0
    for kill_at_us in range(90_500, 96_000, 250):
        outcome = run(torn_plan(kill_at_us))
        assert outcome.violation is None, (kill_at_us, outcome.violation)
        torn += outcome.exercised[TORN] > 0
        whole += not outcome.exercised[TORN]

    assert torn > 0
    assert whole > 0


@pytest.mark.slow
def test_no_goal_is_out_of_the_reach_of_every_seed():
    tally = Search(Mix(), 0, SEEDS, None).run(workers=2)

    assert not tally.failures
    assert set(never(tally)) <= BY_PLAN
    assert not [kind for kind, n in injected_by_kind(tally.injected).items() if not n]
