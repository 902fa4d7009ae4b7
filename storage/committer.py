"""A thread that makes commits for those who do not wait for them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Batch = TypeVar("Batch")


class Committer(Generic[Batch]):
    """A thread that commits, from the first batch that it is given until it is closed."""

    def __init__(self, commit: Callable[[Batch], None]) -> None:
        self._commit = commit
        self._batches: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = False

    def put(self, batch: Batch) -> None:
        """Commit a batch soon; once closed, that is left to whoever waits for it."""
        if self._thread is None:
            self._start()
        self._batches.put(batch)

    def close(self) -> None:
        """Commit what was given, then end the thread."""
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is not None:
            self._batches.put(None)
            thread.join()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(
                    target=self._run, name="kv-commit", daemon=True
                )
                self._thread.start()

    def _run(self) -> None:
        while (batch := self._batches.get()) is not None:
            self._commit(batch)
