"""The thread that keeps the live cluster tidy while nobody asks it to."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


class Upkeep:
    """Calls `work` every `pause_seconds` until it is stopped."""

    def __init__(self, work: Callable[[], None], pause_seconds: float) -> None:
        self._work = work
        self._pause_seconds = pause_seconds
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="kv-upkeep", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, once the round that is running has."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._pause_seconds):
            try:
                self._work()
            except Exception:  # tried again at the next round
                log.exception("a round of upkeep failed")
