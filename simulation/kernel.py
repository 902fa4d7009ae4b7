"""Virtual time: a heap of what happens next, and a counter that breaks ties.

No real clock, no thread, no sleep. Everything that happens in a simulation is an action
on this heap, so a run is a function of what was put on it. The key of the heap is that of
simpy: (time, order of arrival), so that actions themselves are never compared.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from struct import Struct
from typing import Any

from xxhash import xxh3_64, xxh3_64_intdigest

Action = Callable[..., Any]
SECOND_US = 1_000_000
MS_US = 1_000
_NUMBERS = Struct("<qqq").pack


class OutOfEvents(Exception):
    """More happened than a run may take: something goes on without end."""


class Kernel:
    """The clock and the heap. Times are microseconds since the start of the run."""

    def __init__(self, events_max: int = 5_000_000) -> None:
        self.now = 0
        self.events = 0  # that have happened
        self._events_max = events_max
        self._is_stopped = False
        self._heap: list[tuple[int, int, Action, tuple[Any, ...]]] = []
        self._count = 0
        self._hash = xxh3_64()

    def after(self, delay_us: int, action: Action, *arguments: Any) -> None:
        """Let `action(*arguments)` happen `delay_us` from now (0 or more)."""
        self._count = count = self._count + 1
        heappush(self._heap, (self.now + delay_us, count, action, arguments))

    def stop(self) -> None:
        """End `run` once what happens just now has."""
        self._is_stopped = True

    def run(self, until_us: int, is_done: Callable[[], bool] | None = None) -> None:
        """Let things happen up to a time, or until `stop`, or `is_done`, asked after each.

        The time is then `until_us`, or that of the last thing that happened.
        """
        heap = self._heap
        events = 0
        self._is_stopped = False
        try:
            while heap and heap[0][0] <= until_us:
                self.now, _, action, arguments = heappop(heap)
                events += 1
                action(*arguments)
                if self._is_stopped or (is_done is not None and is_done()):
                    return
                if self.events + events > self._events_max:
                    raise OutOfEvents(
                        f"more than {self._events_max:,} events by {self.now / SECOND_US:.3f} s"
                    )
            self.now = max(self.now, until_us)
        finally:
            self.events += events

    def note(self, what: int, more: int) -> None:
        """Take something that happened into the hash of the run."""
        self._hash.update(_NUMBERS(self.now, what, more))

    @property
    def trace_hash(self) -> str:
        """16 hexadecimal digits that stand for all that was noted, in its order."""
        return self._hash.hexdigest()


def bits(seed: int, one: int, two: int = 0, three: int = 0) -> int:
    """64 random bits that belong to a place, not to an order.

    A draw here shifts no other: what becomes of the third message of operation 17 is the
    same whether operation 16 is there or not. That is what lets a schedule be shrunk.
    """
    return xxh3_64_intdigest(_NUMBERS(one, two, three), seed)
