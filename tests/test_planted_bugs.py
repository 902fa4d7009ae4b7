"""The simulator finds what is planted: each bug within its seeds, and nothing without one."""

import statistics

import pytest

from cluster import node, reconfiguration, repair
from cluster.membership import Membership
from protocols import primary_backup
from simulation.swarm import draw_plan
from tests import planted_bugs
from tests.planted_bugs import (
    BEGIN,
    BUGS,
    END,
    NotFound,
    find,
    main,
    replaced,
    run,
    shrunk,
)
from tests.planted_bugs_base import Bug, edit

QUICK = (  # one of each kind; the others take up to half a minute
    "a write of unknown outcome is never settled",
    "operations on one key overlap",
    "an out-of-sync replica takes the place of the last member, which is down",
    "a replica that is catching up serves reads",
    "a delete leaves no tombstone",
    "a write shows, and is acknowledged, before it is durable",
)
MEDIAN_MAX = 60  # seeds until the simulator finds a bug
CLEAN = 60


@pytest.fixture(scope="module")
def found():
    """Bugs already found: each is looked for once."""
    return {}


def look_for(name, found):
    if name not in found:
        found[name] = find(BUGS[name])
    return found[name]


@pytest.mark.parametrize("name", QUICK)
def test_a_bug_is_found_soon(name, found):
    assert look_for(name, found).seeds <= BUGS[name].seeds_max


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in BUGS if name not in QUICK])
def test_a_bug_is_found(name, found):
    assert look_for(name, found).seeds <= BUGS[name].seeds_max


@pytest.mark.slow
def test_half_of_the_bugs_are_found_within_a_few_seeds(found, capsys):
    seeds = sorted(look_for(name, found).seeds for name in BUGS)
    median = statistics.median(seeds)
    with capsys.disabled():
        print(f"\n{len(seeds)} planted bugs, found after {median:g} seeds (the median)")

    assert median <= MEDIAN_MAX, seeds


def test_there_are_enough_bugs_and_each_says_what_it_is():
    assert len(BUGS) >= 24
    for name, bug in BUGS.items():
        assert bug.name == name
        assert bug.source
        assert bug.changes
        assert 1 <= bug.seeds_max <= 6_000


def test_nothing_is_found_where_nothing_is_planted():
    for seed in range(CLEAN):
        assert run(draw_plan(seed)).violation is None, f"seed {seed}"


def test_a_bug_is_gone_after_it_was_planted():
    before = known()
    for bug in BUGS.values():
        with bug.plant():
            assert known() != before, f"nothing was changed: {bug.name}"
        assert known() == before, f"still there: {bug.name}"


def known():
    """What the changes of all bugs are about, as it is now, wherever it is known."""
    changes = [change for bug in BUGS.values() for change in bug.changes]
    modules = (reconfiguration, repair, primary_backup)
    return (
        [getattr(change.owner, change.name) for change in changes],
        [dict(vars(module)) for module in modules],
        dict(node._HANDLERS),
    )


def test_a_bug_is_gone_after_a_run_that_failed():
    before = Membership.conclude
    bug = BUGS["replicas that did not confirm a write stay in sync"]

    with pytest.raises(ZeroDivisionError), bug.plant():
        raise ZeroDivisionError

    assert Membership.conclude is before


def test_a_change_to_text_that_is_not_there_is_an_error():
    bug = Bug("none", "nowhere", 1, (edit(Membership, "join", ("no such text", "")),))

    with pytest.raises(AssertionError, match="no such text"), bug.plant():
        pass


def test_a_bug_that_no_seed_shows_is_not_found():
    harmless = Bug(
        "none",
        "nowhere",
        2,
        (edit(Membership, "join", ("return False", "return False")),),
    )

    with pytest.raises(NotFound, match="2 seeds"):
        find(harmless)


def test_what_is_found_is_shrunk_to_a_few_requests():
    first = find(BUGS["a replica that stayed silent counts as having confirmed"])

    plan = shrunk(first).plan

    assert len(plan.steps) <= 5 < len(first.outcome.plan.steps)
    assert len(plan.faults) + len(plan.anomalies or ()) <= 5


def test_the_table_goes_between_its_marks():
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"

    assert replaced(text, "new") == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert replaced(replaced(text, "one"), "new") == replaced(text, "new")


@pytest.mark.parametrize(
    "text", ["", BEGIN, END, f"{END}\n{BEGIN}", f"{BEGIN}{END}{END}"]
)
def test_the_table_goes_nowhere_without_its_marks(text, tmp_path, capsys):
    document = tmp_path / "simulation.md"
    document.write_text(text)

    assert main(["--write", str(document)]) == 2

    assert str(document) in capsys.readouterr().err
    assert document.read_text() == text


def test_the_command_writes_a_line_for_each_bug(tmp_path, capsys):
    document = tmp_path / "simulation.md"
    document.write_text(f"{BEGIN}\n{END}\n")

    assert main(["--write", str(document), "--only", "no tombstone"]) == 0

    assert "| a delete leaves no tombstone | Riak" in document.read_text()
    assert "1 of 1 found" in document.read_text()
    assert "a delete leaves no tombstone" in capsys.readouterr().err


def test_the_command_says_which_bug_was_not_found(monkeypatch, capsys):
    harmless = Bug(
        "none",
        "nowhere",
        1,
        (edit(Membership, "join", ("return False", "return False")),),
    )
    monkeypatch.setattr(planted_bugs, "BUGS", {"none": harmless})

    assert main([]) == 1

    assert "did not find it: none" in capsys.readouterr().err
