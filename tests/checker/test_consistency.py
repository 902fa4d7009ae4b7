"""Each weaker property finds what it is for, and never accuses a register that works."""

import random

import pytest

from checker.consistency import (
    lost_writes,
    monotonic_reads,
    read_your_writes,
    resurrection,
    stale_reads,
    written_only,
)
from checker.history import ABSENT, History, Operation, Replica, State
from checker.judgement import WEAKER, judge
from checker.linearizability import check_key
from checker.versions import convergence, versions
from tests.checker.brute_force import draw, explainable
from tests.checker.registers import Mix, changed, correct, correct_history


def write(began, ended, value, client="w", **more):
    outcome = "unknown" if ended is None else "ok"
    return Operation(client, "x", "write", began, ended, outcome, value, **more)


def read(began, ended, value, client="r", **more):
    return Operation(client, "x", "read", began, ended, "ok", value, **more)


def delete(began, ended, client="w", **more):
    return Operation(client, "x", "delete", began, ended, "ok", **more)


def violated(operations, replicas=()):
    """The names of the violated properties, the weaker ones only."""
    history = History(list(operations), list(replicas))
    verdicts = [verdict for look in WEAKER for verdict in look(history)]
    assert all(verdict.why for verdict in verdicts if verdict.answer != "holds")
    return {verdict.property for verdict in verdicts if verdict.answer == "violated"}


ONE, TWO = write(1, 2, "1"), write(3, 4, "2")


@pytest.mark.parametrize(
    ("operations", "names"),
    [
        ([ONE, read(3, 4, "9")], {"written_only", "lost_writes"}),
        ([write(1, None, "1"), read(3, 4, "9")], {"written_only"}),
        ([read(1, 2, "1"), write(3, 4, "1")], {"written_only"}),
        (
            [Operation("w", "x", "write", 1, 2, "failed", "1"), read(3, 4, "1")],
            {"written_only"},
        ),
        ([changed(read(1, 2, "9"), level="weak")], {"written_only"}),
        ([ONE, read(3, 4, None)], {"lost_writes", "stale_reads"}),
        ([ONE, TWO, read(5, 6, "1")], {"lost_writes", "stale_reads"}),
        ([ONE, TWO, read(5, 6, "1"), read(7, 8, "2", "s")], {"stale_reads"}),
        (
            [ONE, write(3, 9, "2"), read(4, 5, "2"), read(6, 7, "1")],
            {"monotonic_reads"},
        ),
        ([ONE, write(3, 9, "2"), read(4, 5, "2"), read(6, 7, "1", "s")], set()),
        (
            [ONE, TWO, read(5, 6, "1", "w"), read(7, 8, "2")],
            {"stale_reads", "read_your_writes"},
        ),
        (
            [ONE, delete(3, 4), read(5, 6, "1"), read(7, 8, None, "s")],
            {"resurrection", "stale_reads"},
        ),
        ([write(1, 2, "1", version="5"), write(3, 4, "2", version="5")], {"versions"}),
        ([write(1, 2, "1", version="5"), write(3, 4, "2", version="4")], {"versions"}),
        ([write(1, 4, "1", version="5"), read(2, 3, "2", version="5")], None),
        ([write(1, 2, "1", version="5"), read(3, 4, "1", version="6")], set()),
        ([write(1, 2, "1", version="5"), write(2, 3, "2", version="4")], set()),
        (
            [ONE, write(2, 3, "2"), read(2, 2, "2"), read(4, 5, "1")],
            set(),  # at 2: the second write, the first read, the first write
        ),
        ([read(1, 2, None, version="5"), read(3, 4, None, version="5")], set()),
        (
            [
                read(1, 2, None, version="5"),
                read(3, 4, None, version="4", level="weak"),
            ],
            set(),
        ),
    ],
)
def test_only_what_is_wrong_is_violated(operations, names):
    if names is None:
        names = {"versions", "written_only"}
    assert violated(operations) == names


def test_told_of_another_state_counts_as_seeing_it():
    told = Operation("c", "x", "delete", 3, 4, "failed", saw=ABSENT)

    assert violated([ONE, told]) == {"lost_writes", "stale_reads"}
    assert violated([ONE, changed(told, saw=State("is_not", "1"))]) == {"lost_writes"}
    assert violated([ONE, changed(told, saw=State("is_not", "2"))]) == set()


@pytest.mark.parametrize(
    "between",
    [
        write(2, 3, "2"),
        write(3, None, "2"),
        write(0, 1, "2", level="weak"),
        delete(1, 9),
    ],
)
def test_write_that_may_have_been_overwritten_is_not_lost(between):
    history = History([ONE, between, read(5, 6, None)])

    assert lost_writes(history)[0].answer == "holds"


def test_staleness_is_measured_in_versions_and_time():
    writes = [write(10 * n, 10 * n + 5, str(n)) for n in range(1, 6)]
    reads = [read(100, 101, "5"), read(110, 111, "2"), read(120, 121, "4")]
    weak = [changed(each, level="weak") for each in reads[:2]]

    (verdict,) = stale_reads(History([*writes, *reads, *weak]))

    assert verdict.answer == "violated"
    assert verdict.details == {
        "reads": 3,
        "stale": 2,
        "share": 2 / 3,
        "versions_max": 3,
        "time_max": 75,
        "weak_reads": 2,
        "weak_stale": 1,
        "weak_share": 0.5,
        "weak_versions_max": 3,
        "weak_time_max": 75,
    }
    assert [each.value for each in verdict.evidence] == ["2", "3", "2"]


def test_weak_reads_are_measured_against_weak_writes_but_not_judged():
    writes = [write(1, 2, "1", level="weak"), write(3, 4, "2", level="weak")]

    (verdict,) = stale_reads(History([*writes, read(5, 6, "1", level="weak")]))

    assert verdict.answer == "holds"
    assert verdict.details["weak_versions_max"] == 1
    assert verdict.details["weak_time_max"] == 1


def holds(value, version=None, node="n1"):
    return Replica(node, "x", value, version)


@pytest.mark.parametrize(
    ("operations", "replicas", "good"),
    [
        ([ONE, TWO], [holds("2", "7"), holds("2", "7", "n2")], True),
        ([ONE, TWO], [holds("2", "7"), holds("2", "8", "n2")], False),
        ([ONE, TWO], [holds("2"), holds("1", None, "n2")], False),
        ([ONE, TWO], [holds("1"), holds("1", None, "n2")], False),
        ([ONE, TWO, delete(5, 6)], [holds(None, "7"), holds(None, None, "n2")], True),
        ([ONE, TWO, delete(5, 6)], [holds("2")], False),
        ([ONE, write(1, 3, "2")], [holds("1")], True),
        ([ONE, write(0, None, "2")], [holds("2")], True),
        ([ONE, write(0, None, "2")], [holds(None)], False),
        ([ONE, write(0, 1, "2", level="weak")], [holds("2")], True),
        ([write(0, None, "2")], [holds(None)], True),
        ([], [holds(None)], True),
        ([], [holds("1")], False),
    ],
)
def test_replicas_converge_on_what_may_be_last(operations, replicas, good):
    (verdict,) = convergence(History(list(operations), replicas))

    assert verdict.answer == ("holds" if good else "violated")


def test_linearizable_histories_have_every_weaker_property():
    chance = random.Random(1)
    explained = 0
    for _ in range(4_000):
        history = draw(chance)
        if explainable(history):
            explained += 1
            # A weak read may show anything, and weak ones are judged by one property.
            history = [e for e in history if not (e.level and e.action == "read")]
            assert violated(history) == set(), history
    assert explained > 1_000


@pytest.mark.parametrize("lost", [0.0, 0.05])
def test_correct_registers_with_versions_have_every_property(lost):
    for seed in range(30):
        history = correct_history(seed, 100, 2, Mix(4, lost))
        assert {each.answer for each in judge(history)} == {"holds"}


def test_each_violation_of_a_weaker_property_is_one_of_linearizability():
    found = set()
    chance = random.Random(2)
    for _ in range(3_000):
        history = [each for each in draw(chance) if not each.level]
        names = violated(history)
        found |= names
        if names:
            assert check_key(history).answer == "violated", (history, names)
    assert found >= {"written_only", "lost_writes", "stale_reads"}


def test_clients_are_told_apart():
    chance = random.Random(3)
    found = set()
    for seed in range(300):
        history = correct(seed, 30, Mix(3, 0.0))
        reads = [n for n, e in enumerate(history) if e.action == "read"]
        writes = [e for e in history if e.action == "write" and e.outcome == "ok"]
        if reads and writes:
            at = chance.choice(reads)
            history[at] = changed(history[at], value=chance.choice(writes).value)
        names = violated([changed(each, version=None) for each in history])
        found |= names
        if names:
            assert check_key(history).answer == "violated"
    assert found >= {
        "written_only",
        "lost_writes",
        "stale_reads",
        "monotonic_reads",
        "read_your_writes",
        "resurrection",
    }


@pytest.mark.parametrize(
    "look",
    [
        written_only,
        lost_writes,
        stale_reads,
        monotonic_reads,
        read_your_writes,
        resurrection,
        versions,
        convergence,
    ],
)
def test_empty_history_holds(look):
    (verdict,) = look(History())

    assert (verdict.property, verdict.answer) == (look.__name__, "holds")
