"""The simulated driver: answers, silence, work for later, and a process that dies."""

from collections.abc import Callable
from typing import Any

import pytest

from models import (
    Ask,
    Get,
    Operation,
    Put,
    Spawn,
    Unavailable,
)
from simulation.network import DELAY_REPLY, LOSE_REQUEST, MANAGER
from simulation.plan import Anomaly
from simulation.storage import FAILING
from tests.simulation.operations import asking, exclusive, failing, waiting
from tests.simulation.small import (
    MESSAGE_US,
    PATIENCE_US,
    Driven,
    noted,
    pass_time,
)
from tests.storage_case import record

THERE_AND_BACK = 2 * MESSAGE_US
PUT = Put((record("k", 1),), 1)


# --- Answers and silence ---------------------------------------------------------------


def ask(driven: Driven, *asks: Ask) -> list[tuple[int, Any]]:
    """When each Ask, one after the other, was answered, and with what."""
    found: list[tuple[int, Any]] = []

    def operation() -> Operation[None]:
        for each in asks:
            answers = yield each
            found.append((driven.kernel.now, answers))

    driven.end(operation())
    return found


def test_enough_answers_are_not_waited_beyond_and_the_rest_counts_as_silent():
    driven = Driven(Anomaly(1, 1, 1, DELAY_REPLY, 1_000), nodes=3)
    [(when, answers)] = ask(driven, Ask((2, 1, 0), Get("k"), need=2))
    pass_time(driven.kernel, 100_000)

    assert when == THERE_AND_BACK
    assert answers.answered == {2: None, 0: None}
    assert (answers.refused, answers.silent) == ((), (1,))  # also when it came at last


def test_what_is_not_enough_is_waited_for_until_every_target_is_accounted_for():
    driven = Driven(nodes=3)
    driven.machines[0].node.stop()
    driven.storages[1].disk = FAILING
    [(when, answers)] = ask(driven, Ask((0, 1, 2), PUT, need=3))

    assert when < PATIENCE_US
    assert set(answers.answered) == {2}
    assert (answers.refused, answers.silent) == ((0,), (1,))
    assert [node for node, _ in driven.failures] == [1]


def test_silence_is_not_told_before_patience_is_over_nor_much_after():
    driven = Driven(
        Anomaly(1, 1, 1, LOSE_REQUEST),
        Anomaly(1, 2, 0, LOSE_REQUEST),
        Anomaly(1, 3, 0, LOSE_REQUEST),
    )
    found = ask(
        driven,
        Ask((0, 1), Get("k")),
        Ask((0,), Get("k")),
        Ask((0,), Get("k"), within_ms=2),
        Ask((), Get("k")),
    )

    times = [when for when, _ in found]
    assert times == [5_000, 10_000, 12_000, 12_000]
    assert [answers.silent for _, answers in found] == [(1,), (0,), (0,), ()]
    assert found[0][1].answered == {0: None}


def test_one_that_waits_does_not_lose_patience_with_another():
    driven = Driven(*(Anomaly(task, 1, 0, LOSE_REQUEST) for task in (1, 2, 3)))
    ends: list[int] = []
    for task in (1, 2, 3):
        operation = asking(driven, f"{task}")
        driven.start(operation, None, task).then(
            lambda outcome, error: ends.append(driven.kernel.now)
        )
        pass_time(driven.kernel, 1_300)
    pass_time(driven.kernel, 100_000)

    assert ends == [5_000, 6_300, 7_600]


def test_an_answer_that_comes_too_late_does_not_count_for_a_later_question():
    driven = Driven(
        Anomaly(1, 1, 0, DELAY_REPLY, 5_050), Anomaly(1, 2, 0, LOSE_REQUEST)
    )
    driven.storages[0]._content.put_many([record("k", 1)])
    found = ask(
        driven, Ask((0,), Get("k")), Ask((0,), Get("other")), Ask((0,), Get("k"))
    )

    assert [answers.answered for _, answers in found] == [{}, {}, {0: record("k", 1)}]
    assert [answers.silent for _, answers in found] == [(0,), (0,), ()]


def test_a_lost_answer_is_not_waited_for_by_the_key_for_ever():
    driven = Driven()
    driven.network.cuts.add((0, MANAGER))
    driven.start(asking(driven, "first"), "k", 1)
    driven.start(asking(driven, "second", node=1), "k", 2)
    pass_time(driven.kernel, 100_000)

    assert driven.told[-1] == (PATIENCE_US + THERE_AND_BACK, "second ends")


# --- Work for later --------------------------------------------------------------------


def spawning(driven: Driven, spawned: Operation[Any]) -> Operation[str]:
    answer = yield Spawn("k", spawned)
    driven.say("the spawner goes on")
    yield Ask((0,), Get("k"))
    driven.say("the spawner ends")
    return f"{answer}"


def test_spawned_work_is_not_waited_for_and_does_not_run_outside_its_lock():
    driven = Driven()
    outcome = driven.end(spawning(driven, asking(driven, "spawned")), "k")
    pass_time(driven.kernel, 100_000)

    assert outcome == "None"
    assert driven.words() == [
        "the spawner goes on", "the spawner ends", "spawned begins", "spawned ends",
    ]  # fmt: skip


def test_spawned_work_that_is_refused_does_not_disturb_anybody():
    driven = Driven()
    driven.end(spawning(driven, failing(Unavailable("planted"))), "k")
    pass_time(driven.kernel, 100_000)

    assert not driven.driver.tasks


def test_spawned_work_that_raises_what_is_no_answer_does_not_go_unnoticed():
    driven = Driven()
    driven.start(spawning(driven, failing(ZeroDivisionError())), "k")

    with pytest.raises(ZeroDivisionError):
        pass_time(driven.kernel, 100_000)


# --- The process dies ------------------------------------------------------------------


def cleaning_up(driven: Driven, inner: Callable[[], Operation[Any]]) -> Operation[None]:
    try:
        yield from inner()
    finally:
        driven.say("cleaned up")


def test_a_process_that_dies_tells_nobody_an_outcome_and_runs_nothing_more():
    driven = Driven()
    ends: list[Any] = []
    kinds: list[Operation[Any]] = [
        cleaning_up(driven, lambda: asking(driven, "asks")),
        exclusive(driven, None, cleaning_up(driven, lambda: asking(driven, "inner"))),
        spawning(driven, asking(driven, "spawned")),
        waiting(driven),
    ]
    driven.start(cleaning_up(driven, lambda: asking(driven, "holds", 9)), "k", 9)
    driven.start(asking(driven, "queued"), "k", 8)
    for number, operation in enumerate(kinds):
        driven.start(operation, None, number).then(noted(ends))
    pass_time(driven.kernel, 150)

    running = driven.driver.kill()
    told = list(driven.told)
    pass_time(driven.kernel, 100_000)

    assert len(running) >= 5
    assert (ends, driven.told) == ([], told)
    assert driven.words().count("cleaned up") >= 2
    assert driven.driver.is_dead


def test_a_process_that_dies_between_any_two_steps_does_not_take_another_one():
    for microseconds in range(0, 400, 10):
        driven = Driven()
        ends: list[Any] = []
        operations: list[Operation[Any]] = [
            exclusive(driven, "k", asking(driven, "inner")),
            spawning(driven, asking(driven, "spawned")),
            waiting(driven),
            asking(driven, "asks"),
        ]
        for number, operation in enumerate(operations):
            driven.start(operation, None, number).then(noted(ends))
        pass_time(driven.kernel, microseconds)
        before = (list(ends), list(driven.told))
        driven.driver.kill()
        pass_time(driven.kernel, 100_000)

        assert (ends, driven.told) == before


def test_messages_on_their_way_are_not_all_lost_with_their_sender():
    driven = Driven()

    def operation() -> Operation[None]:
        yield Ask((0, 1), PUT)

    for number in range(40):
        driven.start(operation(), None, number)
    pass_time(driven.kernel, 50)
    driven.driver.kill()
    pass_time(driven.kernel, 1_000_000)

    assert 20 <= driven.whats().count("handled") <= 80
    assert driven.versions() == [record("k", 1).version] * 2


def test_a_process_that_died_is_not_told_of_storage_that_fails_under_its_messages():
    driven = Driven()
    driven.start(asking_to_put())
    pass_time(driven.kernel, 105)  # taken, and not yet durable
    driven.driver.kill()
    driven.storages[0].disk = FAILING
    pass_time(driven.kernel, 100_000)

    assert driven.storages[0].problem is not None
    assert driven.failures == []


def asking_to_put() -> Operation[None]:
    yield Ask((0,), PUT)
