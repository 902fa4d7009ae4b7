"""Requests that share a trip: each gets its own answer, and nobody waits for a stuck one."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from backends.keys import TOGETHER_BYTES, _fits
from backends.messages import Put
from backends.together import PATIENCE_SECONDS, TOGETHER_MAX, Apart, Together


class Trips:
    """A `send` that can be held, and that notes what was sent together."""

    def __init__(self):
        self.sent = []
        self.free = threading.Event()
        self.free.set()

    def send(self, items):
        self.sent.append(tuple(items))
        assert self.free.wait(10)
        if "bad" in items:
            raise OSError(f"not these: {items}")
        return [f"answer to {item}" for item in items]


@pytest.fixture
def patient(monkeypatch):
    """Who waits does so for as long as a busy machine may take."""
    monkeypatch.setattr("backends.together.PATIENCE_SECONDS", 5.0)


def in_threads(together, items):
    """Ask for each in a thread of its own, one after the other; what comes of them."""
    pool = ThreadPoolExecutor(len(items))
    asked = []
    for item in items:
        asked.append(pool.submit(together.ask, item))
        time.sleep(0.001)
    pool.shutdown(wait=False)
    return asked


def test_who_comes_alone_is_sent_at_once_and_alone():
    trips = Trips()
    together = Together(trips.send)

    assert [together.ask(n) for n in range(3)] == [f"answer to {n}" for n in range(3)]
    assert trips.sent == [(0,), (1,), (2,)]


def test_who_come_while_one_is_under_way_share_the_next_trip_and_get_their_own_answers(
    patient,
):
    trips = Trips()
    together = Together(trips.send)
    trips.free.clear()

    asked = in_threads(together, range(6))
    time.sleep(PATIENCE_SECONDS / 5)
    trips.free.set()

    assert [each.result(5) for each in asked] == [f"answer to {n}" for n in range(6)]
    assert trips.sent == [(0,), (1, 2, 3, 4, 5)]


def test_error_of_a_trip_is_told_to_all_on_it_and_to_nobody_else(patient):
    trips = Trips()
    together = Together(trips.send)
    trips.free.clear()

    asked = in_threads(together, ["first", "bad", "with it"])
    time.sleep(PATIENCE_SECONDS / 5)
    trips.free.set()

    assert asked[0].result(5) == "answer to first"
    for each in asked[1:]:
        with pytest.raises(OSError, match="not these"):
            each.result(5)
    assert together.ask("later") == "answer to later"


def test_trip_that_is_stuck_keeps_nobody_who_is_not_on_it():
    stuck = threading.Event()

    def send(items):
        assert items != ("stuck",) or stuck.wait(10)
        return items

    together = Together(send)
    first = in_threads(together, ["stuck"])[0]
    try:
        began = time.monotonic()
        others = in_threads(together, ["a", "b", "c"])
        assert [each.result(5) for each in others] == ["a", "b", "c"]
        assert time.monotonic() - began < 5
        assert not first.done()
    finally:
        stuck.set()
    assert first.result(5) == "stuck"


def test_what_does_not_fit_waits_for_the_trip_after(patient):
    trips = Trips()
    together = Together(trips.send, lambda batch, item: item not in batch)
    trips.free.clear()

    asked = in_threads(together, ["x", "a", "a", "b"])
    time.sleep(PATIENCE_SECONDS / 5)
    trips.free.set()

    assert [each.result(5) for each in asked] == [f"answer to {i}" for i in "xaab"]
    assert trips.sent == [("x",), ("a", "b"), ("a",)]


def test_many_threads_lose_no_answer_and_no_trip_is_too_large():
    trips = Trips()
    together = Together(trips.send)

    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(together.ask, range(4_000)))

    assert answers == [f"answer to {n}" for n in range(4_000)]
    assert sorted(n for trip in trips.sent for n in trip) == [*range(4_000)]
    assert max(map(len, trips.sent)) <= TOGETHER_MAX


def test_puts_of_one_key_or_of_too_many_bytes_do_not_share_a_trip():
    small = Put(b"a", b"1")

    assert _fits((), Put(b"a", b"x" * 2 * TOGETHER_BYTES)) is False
    assert _fits((small,), Put(b"b", b"2"))
    assert not _fits((small,), Put(b"a", b"2"))
    assert not _fits((small,), Put(b"b", b"x" * TOGETHER_BYTES))


class Small(Trips):
    """Takes so many at most."""

    def __init__(self, most):
        super().__init__()
        self.most = most

    def send(self, items):
        answers = super().send(items)
        if len(items) > self.most:
            raise Apart
        return answers


@pytest.mark.parametrize("most", [1, 2, 3])
def test_items_that_are_too_many_together_are_sent_each_alone(patient, most):
    trips = Small(most)
    together = Together(trips.send)
    trips.free.clear()
    asked = in_threads(together, range(9))
    trips.free.set()

    assert [each.result() for each in asked] == [f"answer to {n}" for n in range(9)]
    taken = [n for items in trips.sent if len(items) <= most for n in items]
    assert sorted(taken) == [*range(9)]


def test_fewer_go_together_once_some_were_too_many(patient):
    trips = Small(2)
    together = Together(trips.send)
    for _ in range(4):
        trips.free.clear()
        asked = in_threads(together, range(9))
        trips.free.set()
        assert [each.result() for each in asked] == [f"answer to {n}" for n in range(9)]
    sent = len(trips.sent)

    trips.free.clear()
    asked = in_threads(together, range(9))
    trips.free.set()

    assert [each.result() for each in asked] == [f"answer to {n}" for n in range(9)]
    assert max(len(items) for items in trips.sent[sent:]) <= 2
