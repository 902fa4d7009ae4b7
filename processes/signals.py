"""Signals that ask a process to end: heard, put off, and left alone where they are ignored.

A signal that was ignored when the process began stays so. That is how nohup lets it
outlive its terminal, and how a shell keeps Ctrl-C from what runs in the background.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType

# SIGHUP: the terminal went away.
ENDING = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGHUP")
    if hasattr(signal, name)
)
STOP_SECONDS_MAX = 7.5  # a supervisor waits for ten


class Stop:
    """The wish that this process ends, from a signal or from `ask`; it is never missed.

    Python runs a signal's handler between two steps of the main thread. One that comes
    when that thread is about to wait for a lock is handled after the wait, which is never.
    So it waits for a byte, which is written in the moment in which the signal comes.

    Only in the main thread, in a `with`. A second signal ends the process at once. So
    does the end of `seconds_max` after the first one, with status 1: whatever hangs, the
    process does not.
    """

    def __init__(self, seconds_max: float = STOP_SECONDS_MAX) -> None:
        self.asked = False
        self._seconds_max = seconds_max
        self._woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._begun, self._over = threading.Event(), threading.Event()
        self._limit = threading.Thread(
            target=self._end_if_late, name="kv-stop-limit", daemon=True
        )
        self._entered = ExitStack()

    def ask(self) -> None:
        """Wish it, in any thread."""
        self.asked = True
        self._begun.set()
        with suppress(BlockingIOError):  # then it is about to wake anyway
            self._waker.send(b"\0")

    def wait(self) -> None:
        """Until it is wished."""
        while not self.asked:
            self._woken.recv(64)

    def __enter__(self) -> Stop:
        with ExitStack() as entered:
            entered.enter_context(self._woken)
            entered.enter_context(self._waker)
            self._limit.start()
            entered.callback(self._end_limit)
            before = signal.set_wakeup_fd(
                self._waker.fileno(), warn_on_full_buffer=False
            )
            entered.callback(signal.set_wakeup_fd, before)
            entered.enter_context(_handled_by(self._on_signal))
            self._entered = entered.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._entered.close()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.asked:
            os._exit(128 + number)  # what was acknowledged is on the disk already
        self.ask()

    def _end_if_late(self) -> None:
        self._begun.wait()
        if not self._over.wait(self._seconds_max):
            os._exit(1)

    def _end_limit(self) -> None:
        self._over.set()
        self._begun.set()
        self._limit.join()


@contextmanager
def stoppable() -> Iterator[None]:
    """Let a signal end what runs, with everything that it started."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _handled_by(stop):
        yield


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Put off signals until the end of what may not be left half done.

    A process whose start is interrupted runs, and nobody has it to end it. Elsewhere than
    in the main thread, where Python handles signals, nothing has to be done.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    try:
        with _handled_by(lambda number, _frame: came.append(number)):
            yield
    finally:
        for number in came:
            signal.raise_signal(number)


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    with ExitStack() as restored:  # all of it, also if one of them comes meanwhile
        for number in ENDING:
            before = signal.getsignal(number)
            if before not in (signal.SIG_IGN, None):  # None: it is no handler of Python
                restored.callback(signal.signal, number, before)
                signal.signal(number, handler)
        yield
