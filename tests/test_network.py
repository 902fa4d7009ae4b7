"""The live driver: what it makes of nodes that answer, refuse or fail, and its locks.

Threads here meet at events and barriers and wait for a bounded time only; nothing is
timed, and what "does not happen" is shown by something else that happens first.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

import cluster.network
from cluster.network import STRIPE_SHIFT, LiveDriver
from models import (
    Answers,
    Ask,
    Barrier,
    Exclusive,
    Get,
    Message,
    Operation,
    Refused,
    Spawn,
    Staged,
    Unavailable,
    Unconfirmed,
    key_token,
)

PATIENCE = 30  # seconds until a test gives up: never reached where all is well
GET = Get("k")


class Node:
    """Answers, refuses or fails as it is told, and keeps what it was asked."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.asked: list[Message] = []

    def handle(self, message: Message) -> Any:
        self.asked.append(message)
        answer = self.answer() if callable(self.answer) else self.answer
        if isinstance(answer, BaseException):
            raise answer
        return answer


class Later(Staged):
    """Staged: the answer, or what went wrong, once somebody waits for it."""

    def __init__(self, outcome: Any, waited: list[Any]) -> None:
        self.outcome = outcome
        self.waited = waited

    def result(self) -> Any:
        self.waited.append(self.outcome)
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


class Live:
    """A driver over some nodes, and what it said of failures."""

    def __init__(self, *nodes: Node) -> None:
        self.nodes = dict(enumerate(nodes))
        self.failures: list[tuple[int, Exception]] = []
        self.driver = LiveDriver(
            self.nodes, lambda node, error: self.failures.append((node, error))
        )

    def ask(self, *targets: int) -> Answers:
        answers: Answers = self.driver.run(one_ask(targets))
        return answers


@pytest.fixture
def live() -> Iterator[Live]:
    made = Live(Node("zero"), Node("one"), Node("two"))
    yield made
    made.driver.close()


def one_ask(targets: tuple[int, ...]) -> Operation[Answers]:
    answers: Answers = yield Ask(targets, GET)
    return answers


def returning(value: Any) -> Operation[Any]:
    yield Ask((), GET)
    return value


def raising(error: BaseException) -> Operation[Any]:
    yield Ask((), GET)
    raise error


def nested(key: str | None, inner: Operation[Any]) -> Operation[Any]:
    """Run an operation inside this one and tell how it ended."""
    try:
        outcome = yield Exclusive(key, inner)
    except Exception as error:
        return error
    return outcome


def spawning(key: str, operation: Operation[Any]) -> Operation[None]:
    yield Spawn(key, operation)


def calling(work: Callable[[], Any]) -> Operation[Any]:
    """An operation that does something in the middle."""
    yield Ask((), GET)
    return work()


def waiting_in_vain(ended: list[str]) -> Operation[None]:
    try:
        yield Ask((), GET)
    finally:
        ended.append("closed")


def stripe(key: str) -> int:
    return key_token(key) >> STRIPE_SHIFT


def key_beside(key: str) -> str:
    """A key that does not share the other's lock."""
    return next(name for name in map(str, range(99)) if stripe(name) != stripe(key))


def key_under_the_same_lock(key: str) -> str:
    names = (f"other-{number}" for number in range(1_000_000))
    return next(name for name in names if stripe(name) == stripe(key))


def start(work: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def end(*threads: threading.Thread) -> None:
    for thread in threads:
        thread.join(timeout=PATIENCE)
    assert not any(thread.is_alive() for thread in threads), "a thread is stuck"


def wait_for(event: threading.Event) -> None:
    assert event.wait(timeout=PATIENCE), "it never happened"


# --- Who answered, refused, was silent ---------------------------------------------------


def test_refusal_silence_and_answer_are_not_taken_for_one_another(live):
    error = OSError("disk")
    live.nodes[0].answer, live.nodes[2].answer = Refused("down"), error

    answers = live.ask(2, 1, 0)

    assert answers.answered == {1: "one"}
    assert (answers.refused, answers.silent) == ((0,), (2,))
    assert live.failures == [(2, error)]
    assert [node.asked for node in live.nodes.values()] == [[GET]] * 3


def test_answer_that_is_none_is_not_taken_for_no_answer(live):
    live.nodes[0].answer = None

    assert live.ask(0).answered == {0: None}


def test_ask_of_nobody_does_not_wait_for_ever(live):
    assert live.ask() == Answers({})


def test_staged_answer_does_not_pass_for_durable_before_it_is(live):
    waited: list[Any] = []
    live.nodes[0].answer = lambda: Later("kept", waited)
    live.nodes[1].answer = lambda: Later(None, waited)

    answers = live.ask(0, 1, 2)

    assert answers.answered == {0: "kept", 1: None, 2: "two"}
    assert waited == ["kept", None]


def test_one_replica_is_not_waited_for_before_the_next_is_asked(live):
    asked: list[int] = []

    class Counting(Later):
        def result(self) -> Any:
            asked.append(len(live.nodes[2].asked))
            return super().result()

    for node in live.nodes.values():
        node.answer = lambda: Counting(None, [])

    live.ask(0, 1, 2)

    assert asked == [1, 1, 1]  # the last was asked before the first was waited for


def test_staged_answer_that_fails_is_not_counted_among_the_answers(live):
    waited: list[Any] = []
    error, full = OSError("flush failed"), Refused("the disk is full")
    live.nodes[0].answer = lambda: Later(error, waited)
    live.nodes[1].answer = lambda: Later(full, waited)
    live.nodes[2].answer = lambda: Later("kept", waited)

    answers = live.ask(0, 1, 2)

    assert answers.answered == {2: "kept"}
    assert (answers.refused, answers.silent) == ((1,), (0,))
    assert live.failures == [(0, error)]


@pytest.mark.parametrize("staged", [False, True])
def test_node_that_cannot_tell_whether_it_did_it_is_silent_and_not_called_failed(
    live, staged
):
    error = Unconfirmed("a write failed")
    live.nodes[1].answer = (lambda: Later(error, [])) if staged else error
    live.nodes[2].answer = lambda: Later("kept", [])

    answers = live.ask(0, 1, 2)

    assert answers.answered == {0: "zero", 2: "kept"}
    assert (answers.refused, answers.silent) == ((), (1,))
    assert live.failures == []


def test_replicas_are_not_made_durable_one_after_the_other(live):
    order: list[str] = []

    class Begun(Later):
        def begin(self) -> None:
            order.append(f"{self.outcome} begins")

        def result(self) -> Any:
            order.append(f"{self.outcome} is waited for")
            return super().result()

    for name, node in zip("abc", live.nodes.values(), strict=True):
        node.answer = partial(Begun, name, [])

    answers = live.ask(0, 1, 2)

    assert answers.answered == {0: "a", 1: "b", 2: "c"}
    waits = [f"{name} is waited for" for name in "abc"]
    assert order == ["b begins", "c begins", *waits]  # the first is done by the caller


# --- Operations inside operations --------------------------------------------------------


@pytest.mark.parametrize("key", ["k", None])
def test_outcome_or_error_of_a_nested_operation_does_not_get_lost(live, key):
    error = Unavailable("too few")

    assert live.driver.run(nested(key, returning(7))) == 7
    assert live.driver.run(nested(key, raising(error))) is error


def test_error_that_nobody_catches_does_not_leave_a_lock_behind(live):
    def outer() -> Operation[None]:
        yield Exclusive("inner", raising(Unavailable("too few")))

    for _ in range(2):  # a second time: it would wait for ever
        with pytest.raises(Unavailable):
            live.driver.run(outer())
    assert live.driver.run_key("inner", returning("free")) == "free"
    assert live.driver.run(nested(None, nested("inner", returning(1)))) == 1


def test_operation_goes_on_after_an_error_it_caught(live):
    def stubborn() -> Operation[list[Any]]:
        seen: list[Any] = []
        for number in range(3):
            try:
                yield Exclusive("k", raising(Unavailable(str(number))))
            except Unavailable as error:
                seen.append(error.detail)
        answers: Answers = yield Ask((1,), GET)
        return [*seen, answers.answered]

    assert live.driver.run(stubborn()) == ["0", "1", "2", {1: "one"}]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_interrupted_operation_is_closed_and_its_locks_are_free(live, interruption):
    ended: list[str] = []

    def inner() -> Operation[None]:
        try:
            yield Ask((0,), GET)
        except BaseException as error:  # as a protocol does: nobody knows who has it
            ended.append(type(error).__name__)
            raise

    def outer() -> Operation[None]:
        try:
            yield Exclusive("inner", inner())
        finally:
            ended.append("outer")

    live.nodes[0].answer = interruption()
    with pytest.raises(interruption):
        live.driver.run(nested(None, outer()))

    assert ended == ["GeneratorExit", "outer"]
    assert live.failures == []  # the node is not to blame
    for key in ("inner", None):
        assert live.driver.run(nested(key, returning("free"))) == "free"


# --- Key locks ---------------------------------------------------------------------------


class Gate:
    """Holds an operation in its middle until it is let go."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def __call__(self) -> None:
        self.reached.set()
        wait_for(self.go_on)


def test_operations_on_one_key_do_not_overlap(live):
    inside = threading.Lock()
    overlaps: list[int] = []
    together = threading.Barrier(6)

    def visit() -> None:
        if not inside.acquire(blocking=False):
            overlaps.append(1)
            return
        for _ in range(20):
            key_token("let others run")
        inside.release()

    def client() -> None:
        together.wait(timeout=PATIENCE)
        for turn in range(100):
            key = "k" if turn % 2 else key_under_the_same_lock("k")
            live.driver.run_key(key, calling(visit))

    end(*(start(client) for _ in range(6)))

    assert overlaps == []


def test_second_operation_on_a_key_does_not_begin_before_the_first_has_ended(live):
    gate, order = Gate(), []
    first = start(lambda: live.driver.run_key("k", calling(gate)))
    wait_for(gate.reached)
    began = threading.Event()

    def next_one() -> None:
        began.set()
        live.driver.run_key("k", calling(lambda: order.append("second")))

    second = start(next_one)
    wait_for(began)
    live.driver.run_key(key_beside("k"), calling(lambda: order.append("other key")))
    order.append("first goes on")
    gate.go_on.set()
    end(first, second)

    assert order == ["other key", "first goes on", "second"]


def test_operations_on_different_keys_do_not_wait_for_each_other(live):
    meeting = threading.Barrier(2)
    keys = ("k", key_beside("k"))

    def meet() -> int:
        return meeting.wait(timeout=PATIENCE)  # breaks if the other cannot come

    met: list[int] = []

    def client(key: str) -> None:
        met.append(live.driver.run_key(key, calling(meet)))

    end(*(start(partial(client, key)) for key in keys))

    assert sorted(met) == [0, 1]


def test_reconfigurations_do_not_overlap_and_do_not_hold_up_keys(live):
    gate, order = Gate(), []
    first = start(lambda: live.driver.run(nested(None, calling(gate))))
    wait_for(gate.reached)

    second = start(
        lambda: live.driver.run(nested(None, calling(lambda: order.append("second"))))
    )
    live.driver.run_key("k", calling(lambda: order.append("key")))
    order.append("first goes on")
    gate.go_on.set()
    end(first, second)

    assert order == ["key", "first goes on", "second"]


def test_barrier_does_not_resume_while_a_key_operation_that_was_running_runs(live):
    gates, order = [Gate(), Gate()], []
    began = threading.Event()

    def key_operation(gate: Gate) -> Operation[None]:
        yield from calling(gate)
        order.append("key operation")

    def waiter() -> Operation[None]:
        order.append("barrier")
        began.set()
        yield Barrier()
        order.append("resumed")

    keys = ("k", key_beside("k"))
    running = [
        start(partial(live.driver.run_key, key, key_operation(gate)))
        for key, gate in zip(keys, gates, strict=True)
    ]
    for gate in gates:
        wait_for(gate.reached)
    barrier = start(lambda: live.driver.run(waiter()))
    wait_for(began)
    for gate, thread in zip(gates, running, strict=True):
        gate.go_on.set()
        end(thread)
    end(barrier)

    assert order == ["barrier", "key operation", "key operation", "resumed"]


def test_barrier_with_nobody_running_does_not_wait(live):
    def waiter() -> Operation[str]:
        yield Barrier()
        return "resumed"

    assert live.driver.run(waiter()) == "resumed"


# --- What runs in the background ---------------------------------------------------------


def background_threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "kv-background"]


def test_spawned_operation_does_not_hold_up_who_spawned_it(live):
    gate, done = Gate(), []

    live.driver.run(spawning("k", calling(gate)))
    live.driver.run(spawning("other", calling(lambda: done.append("other"))))
    wait_for(gate.reached)  # in the background, while this thread went on
    early = done.copy()
    gate.go_on.set()
    live.driver.drain()

    assert (early, done) == ([], ["other"])


def test_spawned_operation_does_not_overlap_one_on_its_key(live):
    gate, order = Gate(), []
    live.driver.run(spawning("k", calling(gate)))
    wait_for(gate.reached)
    began = threading.Event()

    def client() -> None:
        began.set()
        live.driver.run_key("k", calling(lambda: order.append("client")))

    waiting = start(client)
    wait_for(began)
    live.driver.run_key(key_beside("k"), calling(lambda: order.append("other key")))
    order.append("background goes on")
    gate.go_on.set()
    end(waiting)
    live.driver.drain()

    assert order == ["other key", "background goes on", "client"]


def test_operation_that_spawns_one_on_its_own_key_does_not_wait_for_it(live):
    order = []

    def writer() -> Operation[None]:
        yield Spawn("k", calling(lambda: order.append("background")))
        yield from calling(lambda: order.append("writer"))

    live.driver.run_key("k", writer())
    live.driver.drain()

    assert order == ["writer", "background"]


def test_failing_background_work_does_not_stop_what_comes_after_it(live, caplog):
    done: list[str] = []
    with caplog.at_level(logging.INFO, logger="cluster.network"):
        live.driver.run(spawning("k", raising(Unavailable("too few"))))
        live.driver.run(spawning("k", raising(ValueError("planted"))))
        live.driver.run(spawning("k", calling(lambda: done.append("after"))))
        live.driver.drain()

    assert done == ["after"]
    assert [r.levelname for r in caplog.records] == ["INFO", "ERROR"]


def test_full_backlog_closes_what_it_cannot_take_and_does_not_block(monkeypatch):
    monkeypatch.setattr(cluster.network, "BACKLOG_MAX", 1)
    live, gate = Live(), Gate()
    closed: list[str] = []

    live.driver.run(spawning("k", calling(gate)))
    wait_for(gate.reached)  # the worker has taken it: the backlog is empty again
    done: list[str] = []
    live.driver.run(spawning("k", calling(lambda: done.append("queued"))))
    next(begun := waiting_in_vain(closed))
    live.driver.run(spawning("k", begun))
    early = closed.copy()
    gate.go_on.set()
    live.driver.close()

    assert (early, done) == (["closed"], ["queued"])


def test_close_finishes_what_was_spawned_and_leaves_no_thread():
    before, live = background_threads(), Live()
    done: list[int] = []
    for number in range(20):
        live.driver.run(spawning("k", calling(partial(done.append, number))))
    during = background_threads()

    live.driver.close()

    assert done == list(range(20))
    assert len(during) == len(before) + 1
    assert background_threads() == before


def test_driver_that_never_spawned_anything_has_no_thread_to_stop():
    before, live = background_threads(), Live(Node("zero"))

    live.ask(0)
    during = background_threads()
    live.driver.drain()
    live.driver.close()

    assert during == background_threads() == before


@pytest.mark.parametrize("spawned_before", [0, 1])
def test_spawn_after_close_is_not_kept_for_ever(spawned_before):
    live = Live()
    done: list[str] = []
    for _ in range(spawned_before):
        live.driver.run(spawning("k", calling(partial(done.append, "before"))))
    live.driver.close()

    next(begun := waiting_in_vain(done))
    live.driver.run(spawning("k", begun))

    assert done == ["before"] * spawned_before + ["closed"]
    live.driver.drain()  # would wait for ever, had it been kept
