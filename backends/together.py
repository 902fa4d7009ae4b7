"""Requests that come while one is under way, sent as one when it has ended.

As a group commit does for a disk: who comes alone is sent at once, and who has to wait
anyway shares the next trip with all who wait: a good part of what a request costs here
and at etcd is the trip (docs/decisions/0015).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
PATIENCE_SECONDS = 0.05  # then it is sent alone: what is under way may be stuck
TOGETHER_MAX = 64  # etcd takes 128 operations in a transaction


class Apart(Exception):
    """Raised by `send` of several items: nothing was done, and each may be sent alone."""


class _Waiting(Generic[T, R]):
    """One who waits: to be answered, or to send a batch that begins with its own."""

    __slots__ = ("answer", "batch", "error", "item", "woken")

    def __init__(self, item: T) -> None:
        self.item = item
        # Released once, to wake its thread; an Event would cost each of them 30 µs more.
        self.woken = threading.Lock()
        self.woken.acquire()
        self.batch: list[_Waiting[T, R]] | None = None
        self.answer: R | None = None
        self.error: BaseException | None = None


class Together(Generic[T, R]):
    """Sends items by `send`, which answers each of them in order or raises for all.

    If it raises Apart they are sent one by one, and from then on half as many together.
    `fits` tells whether an item may go with those before it. Safe for many threads. Nobody
    waits for another one's trip for longer than PATIENCE_SECONDS, but for the trip that
    its own item is on.
    """

    def __init__(
        self,
        send: Callable[[Sequence[T]], Sequence[R]],
        fits: Callable[[Sequence[T], T], bool] = lambda batch, item: True,
    ) -> None:
        self._send = send
        self._fits = fits
        self._lock = threading.Lock()
        self._queue: list[_Waiting[T, R]] = []
        self._is_busy = False
        self._most = TOGETHER_MAX

    def ask(self, item: T) -> R:
        """What comes of this item. Raises what `send` does."""
        if self._most == 1:
            return self._send((item,))[0]
        with self._lock:
            if not self._is_busy:
                self._is_busy = True
                mine = None
            else:
                mine = _Waiting[T, R](item)
                self._queue.append(mine)
        if mine is None:
            try:
                return self._send((item,))[0]
            finally:
                self._hand_over()
        if not mine.woken.acquire(timeout=PATIENCE_SECONDS):
            if self._leave(mine):
                return self._send((item,))[0]
            mine.woken.acquire()
        if mine.batch is not None:
            self._lead(mine.batch)
        if isinstance(mine.error, Apart):
            return self._send((item,))[0]
        if mine.error is not None:
            raise mine.error
        return mine.answer  # type: ignore[return-value]  # R, where there is no error

    def _lead(self, batch: list[_Waiting[T, R]]) -> None:
        """Send for all of a batch, and let each of the others know."""
        try:
            answers = self._send([each.item for each in batch])
            for each, answer in zip(batch, answers, strict=True):
                each.answer = answer
        except BaseException as error:
            if isinstance(error, Apart):
                self._most = max(1, len(batch) // 2)
            for each in batch:
                each.error = error
        finally:
            self._hand_over()  # first: whoever is woken before it delays the next trip
            for each in batch[1:]:
                each.woken.release()

    def _hand_over(self) -> None:
        """Let the first who waits send for as many as fit, or nobody be busy."""
        with self._lock:
            batch: list[_Waiting[T, R]] = []
            left: list[_Waiting[T, R]] = []
            for each in self._queue:
                items = [other.item for other in batch]
                may = len(batch) < self._most and self._fits(items, each.item)
                (batch if may or not batch else left).append(each)
            self._queue = left
            self._is_busy = bool(batch)
            if batch:
                batch[0].batch = batch
        if batch:
            batch[0].woken.release()

    def _leave(self, mine: _Waiting[T, R]) -> bool:
        """Wait no longer; False if somebody has taken it along already."""
        with self._lock:
            if mine not in self._queue:
                return False
            self._queue.remove(mine)
            return True
