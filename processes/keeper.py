"""A thread that starts processes and lives as long as they do.

A process on a leash ends with the thread that started it (processes/leash.py). Where
threads come and go, as those of requests, one that stays has to start them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import TypeVar

T = TypeVar("T")
log = logging.getLogger(__name__)


class Keeper(threading.Thread):
    """Does one job after the other, and `upkeep` if there is none for so many seconds.

    Where nobody lets it finish it goes with the interpreter, and what it started too.
    """

    def __init__(self, name: str, upkeep: Callable[[], None], seconds: float) -> None:
        super().__init__(name=name, daemon=True)
        self._upkeep = upkeep
        self._seconds = seconds
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()  # nothing is given to it after its end
        self._finishes = False

    def do(self, job: Callable[[], T]) -> T:
        """Let the thread do this; what comes of it, or the error."""
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(job())
            except BaseException as error:
                done.set_exception(error)

        with self._lock:
            if self._finishes or not self.is_alive():
                raise RuntimeError(f"{self.name} has ended")
            self._jobs.put(run)
        return done.result()

    def finish(self) -> None:
        """Let the thread end, after all that it was given to do."""
        with self._lock:
            self._finishes = True
            self._jobs.put(None)
        self.join()

    def run(self) -> None:
        """Do what is to be done, until it may finish."""
        while True:
            try:
                job = self._jobs.get(timeout=self._seconds)
            except Empty:
                job = self._keep_up
            if job is None:
                return
            job()

    def _keep_up(self) -> None:
        """Whatever goes wrong with it: what was started would end with this thread."""
        try:
            self._upkeep()
        except Exception:
            log.exception("the upkeep of %s failed; it goes on", self.name)
