"""The verdicts agree with brute force, and the evidence is small and enough."""

import random
from itertools import pairwise

import pytest

from checker import refutation, zones
from checker.calls import settle, translate
from checker.history import ABSENT, PRESENT, History, Operation, State
from checker.linearizability import check, check_key
from checker.refutation import Work, refute, shrink
from checker.search import search
from tests.checker.brute_force import draw, explainable
from tests.checker.registers import Mix, changed, correct, correct_history

PLENTY = 10**6
ANSWER = {True: "holds", False: "violated"}


def weakened(history, evidence):
    """Whether brute force explains the evidence with all the rest optional."""
    shown = set(map(id, evidence))
    return explainable(
        history, {at for at, each in enumerate(history) if id(each) not in shown}
    )


def agree(seed: int, count: int) -> None:
    chance = random.Random(seed)
    tally = {"holds": 0, "violated": 0, "zones": 0}
    for _ in range(count):
        history = draw(chance)
        expected = ANSWER[explainable(history)]
        tally[expected] += 1

        calls, values = translate(history)
        settled = settle(calls)
        conflict = zones.conflict(settled)
        verdict = check_key(history)

        assert search(settled, len(values), PLENTY).answer == expected, history
        assert search(calls, len(values), PLENTY).answer == expected, history
        assert conflict is None or expected == "violated", history
        if zones.apply_to(settled):
            tally["zones"] += 1
            assert (conflict is None) == (expected == "holds"), history
        assert verdict.answer == expected, history
        if expected == "violated":
            assert not weakened(history, verdict.evidence), (history, verdict)
    assert min(tally.values()) > count / 12, tally


def test_verdicts_agree_with_brute_force():
    agree(1, 3_000)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 6))
def test_verdicts_agree_with_brute_force_on_a_hundred_thousand(seed):
    agree(seed, 25_000)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_part_without_an_order_refutes_the_whole(monkeypatch, size):
    monkeypatch.setattr(refutation, "WINDOW_MIN", size)
    chance = random.Random(size)
    refuted = 0
    for _ in range(300):
        history = draw(chance)
        calls, values = translate(history)
        expected = explainable(history)
        for around in {each.ended for each in history if each.ended is not None}:
            part = refute(calls, len(values), around, Work(PLENTY))
            if part is None:
                assert expected, history
                continue
            assert not expected, (history, part.calls)
            refuted += 1
            small = shrink(part, Work(PLENTY))
            shown = [history[small.calls[at].origin] for at in small.musts()]
            assert not weakened(history, shown), (history, shown)
    assert refuted > 100


# --- Mutations: a history that is right, made wrong or not ------------------


def mutations(history, chance):
    """The history with one thing changed, in several ways."""
    reads = [at for at, each in enumerate(history) if each.action == "read"]
    for first, second in pairwise(reads):
        swapped = list(history)
        swapped[first] = changed(history[first], value=history[second].value)
        swapped[second] = changed(history[second], value=history[first].value)
        yield swapped
    for at, each in enumerate(history):
        if each.action == "write":
            yield history[:at] + history[at + 1 :]
        if each.ended is not None:
            shift = chance.choice((-12, -6, 6, 12))
            moved = changed(each, began=each.began + shift, ended=each.ended + shift)
            yield [*history[:at], moved, *history[at + 1 :]]


def test_verdict_flips_exactly_when_brute_force_says_so():
    chance = random.Random(5)
    answers = []
    for seed in range(240):
        history = correct(seed, 5, Mix(clients=2, lost=0.1))
        assert check_key(history).answer == "holds"
        for mutated in mutations(history, chance):
            verdict = check_key(mutated)
            assert verdict.answer == ANSWER[explainable(mutated)], mutated
            answers.append(verdict.answer)
    assert 200 < answers.count("violated") < len(answers) - 200


def test_wider_intervals_never_turn_holds_into_violated():
    chance = random.Random(6)
    for seed in range(60):
        history = correct(seed, 60, Mix(clients=4, lost=0.05))
        wider = [
            changed(
                each,
                began=each.began - chance.randrange(4),
                ended=None if each.ended is None else each.ended + chance.randrange(4),
            )
            for each in history
        ]
        assert check_key(history).answer == check_key(wider).answer == "holds"


def test_unread_write_of_unknown_outcome_never_changes_the_verdict():
    chance = random.Random(7)
    answers = []
    for _ in range(1_500):
        history = [
            each
            for each in draw(chance, 6)
            if all(s is None or s.kind == "is" for s in (each.condition, each.saw))
        ]
        extra = Operation("z", "x", "write", chance.randrange(9), None, "unknown", "99")
        answers.append(check_key([*history, extra]).answer)
        assert answers[-1] == ANSWER[explainable(history)], history
    assert 300 < answers.count("violated") < 1_200


def test_order_of_the_list_does_not_matter():
    chance = random.Random(8)
    for _ in range(300):
        history = draw(chance)
        shuffled = chance.sample(history, len(history))
        assert check_key(history).answer == check_key(shuffled).answer


# --- Known anomalies --------------------------------------------------------


def write(began, ended, value, **more):
    outcome = "unknown" if ended is None else "ok"
    return Operation("w", "x", "write", began, ended, outcome, value, **more)


def read(began, ended, value, client="r"):
    return Operation(client, "x", "read", began, ended, "ok", value)


def delete(began, ended, **more):
    return Operation("d", "x", "delete", began, ended, "ok", **more)


BAD = {
    "stale read": [write(1, 2, "1"), write(3, 4, "2"), read(5, 6, "1")],
    "lost write": [write(1, 2, "1"), read(3, 4, None)],
    "ghost": [write(1, 2, "1"), read(3, 4, "7")],
    "from the future": [read(1, 2, "1"), write(3, 4, "1")],
    "aborted read": [
        Operation("w", "x", "write", 1, 2, "failed", "1"),
        read(3, 4, "1"),
    ],
    "new, then old": [
        write(1, 2, "1"),
        write(3, 9, "2"),
        read(4, 5, "2"),
        read(6, 7, "1", "s"),
    ],
    "resurrection": [write(1, 2, "1"), delete(3, 4), read(5, 6, "1")],
    "delete undone": [
        write(1, 2, "1"),
        delete(3, 4),
        read(5, 6, None),
        read(7, 8, "1"),
    ],
    "unknown shown, then not": [
        write(1, 2, "1"),
        write(3, None, "2"),
        read(4, 5, "2"),
        read(6, 7, "1"),
    ],
    "two winners": [
        write(1, 2, "1"),
        write(3, 6, "2", condition=State("is", "1")),
        write(3, 6, "3", condition=State("is", "1")),
    ],
    "created twice": [
        write(1, 4, "1", condition=ABSENT),
        write(2, 5, "2", condition=ABSENT),
    ],
    "deleted twice": [
        write(1, 2, "1"),
        delete(3, 6, condition=PRESENT),
        delete(4, 7, condition=PRESENT),
    ],
    "told of nothing": [
        write(1, 2, "1"),
        Operation("c", "x", "delete", 3, 4, "failed", condition=PRESENT, saw=ABSENT),
    ],
}


@pytest.mark.parametrize("name", BAD)
def test_known_anomaly_is_found_with_evidence_of_four_at_most(name):
    verdict = check_key(BAD[name])

    assert verdict.answer == "violated"
    assert 1 <= len(verdict.evidence) <= 4
    assert not weakened(BAD[name], verdict.evidence)
    assert "x" in verdict.why


@pytest.mark.parametrize(
    "history",
    [
        [],
        [write(1, 3, "1"), read(3, 4, None)],  # what touches is concurrent
        [write(1, None, "1"), read(3, 4, None), read(5, 6, "1")],
        [write(1, 2, "1"), delete(3, 9), read(4, 5, None), write(6, 8, "1")],
        [write(1, 2, "1", level="weak"), read(3, 4, None), read(5, 6, "1")],
        [write(1, 2, "1"), changed(read(3, 4, None), level="weak")],
        [write(1, 2, "1"), changed(read(3, 4, None), outcome="unknown", ended=None)],
    ],
)
def test_what_an_order_explains_is_left_alone(history):
    assert check_key(history).answer == "holds"


def test_sentence_names_the_clients_and_the_values():
    assert check_key(BAD["stale read"]).why == (
        "x cannot have been 2, it must have been 1 then: "
        "w wrote 1 (1 to 2); w wrote 2 (3 to 4); r read 1 (5 to 6)"
    )


# --- Size -------------------------------------------------------------------

SIZES = [(10, 0.0, True), (10, 0.02, True), (10, 0.02, False), (20, 0.0, True)]


@pytest.mark.parametrize(("clients", "lost", "deletes"), SIZES)
def test_long_history_of_a_correct_register_holds(clients, lost, deletes):
    history = correct(1, 4_000, Mix(clients, lost, deletes))

    verdict = check_key(history)

    assert verdict.answer == "holds"
    assert verdict.details["configurations"] < 3 * len(history)


@pytest.mark.parametrize(("clients", "lost", "deletes"), SIZES)
@pytest.mark.parametrize("age", [30, 120])
def test_one_stale_read_in_a_long_history_is_found_and_shown(
    clients, lost, deletes, age
):
    history = correct(2, 2_000, Mix(clients, lost, deletes))
    at = next(n for n in range(1_500, 2_000) if is_read(history[n]))
    old = next(e for e in reversed(history[: at - age]) if is_write(e))
    history[at] = changed(history[at], value=old.value)

    verdict = check_key(history)

    assert verdict.answer == "violated"
    assert history[at] in verdict.evidence
    assert len(verdict.evidence) <= 5


def is_read(operation):
    return operation.action == "read" and operation.outcome == "ok"


def is_write(operation):
    return operation.action == "write" and operation.outcome == "ok"


def test_used_up_budget_is_unknown_and_never_holds():
    history = correct(3, 300, Mix(lost=0.1))

    assert check_key(history, budget=5).answer == "unknown"
    assert check_key(history).answer == "holds"
    assert check_key(history, budget=5) == check_key(history, budget=5)


def test_keys_are_judged_one_by_one():
    history = correct_history(4, 50, 5)
    (good,) = check(history)
    broken = [read(10**6, 10**6 + 1, "99")]
    history.operations += [changed(each, key="k2") for each in broken]

    (bad,) = check(history)

    assert good.answer == "holds"
    assert good.details["keys"] == 5
    assert (bad.answer, bad.key, len(bad.evidence)) == ("violated", "k2", 1)
    assert check(History())[0].answer == "holds"


def test_search_alone_judges_what_zones_judge():
    chance = random.Random(9)
    for seed in range(20):
        history = correct(seed, 200, Mix(4, 0.02, deletes=False))
        calls, values = translate(history)
        settled = settle(calls)
        assert zones.apply_to(settled)
        assert zones.conflict(settled) is None
        assert search(settled, len(values), PLENTY).answer == "holds"
        at = chance.choice([n for n, each in enumerate(history) if is_read(each)])
        other = chance.choice([each for each in history if is_write(each)])
        history[at] = changed(history[at], value=other.value)
        calls, values = translate(history)
        answer = search(settle(calls), len(values), PLENTY).answer
        assert (zones.conflict(settle(calls)) is None) == (answer == "holds")
