"""A server in a process of its own: started, waited for, ended; ours or a peer's.

It is a session of its own, so that Ctrl-C is ours to handle, and on a leash, so that it
does not outlive us (processes/leash.py).
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from processes.signals import uninterrupted

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")  # as ours say it at their start
SETTINGS = ("KV_", "ETCD_")  # how variables begin that would set up a store
START_SECONDS_MAX = 120.0
STOP_SECONDS_MAX = 20.0
POLL_SECONDS = 0.002

Found = TypeVar("Found")


class ProcessFailed(Exception):
    """A process that is needed did not start, or ended, or fell silent."""


class Server:
    """A server to start and to stop. What it says goes to `log`.

    It runs in the folder of the log, not where a kv.toml may lie, and without the
    settings of a store that the environment may hold, except those in `variables`.
    It goes on with a log of up to `log_bytes_max`, and empties a longer one first.
    `keep_open` are descriptors of files that it has open too, for as long as it lives.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        variables: Mapping[str, str] | None = None,
        *,
        log_bytes_max: int = 0,
        keep_open: Sequence[int] = (),
    ) -> None:
        self._command = command
        self._log = log
        self._variables = variables or {}
        self._log_bytes_max = log_bytes_max
        self._keep_open = keep_open
        self._log_begins = 0  # what others said into it before is none of ours
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Start it and return its URL once it says it."""
        self.launch()
        return self.wait_for(lambda: ADDRESS.search(self.said()))[0]

    def launch(self) -> None:
        """Start it and wait for nothing; it ends with the thread that calls."""
        leash = [sys.executable, "-I", "-S", str(Path(__file__).with_name("leash.py"))]
        self.cut_log()
        with self._log.open("ab") as log, uninterrupted():
            self._log_begins = log.tell()
            self._process = subprocess.Popen(
                [*leash, str(os.getpid()), *self._command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._log.parent,
                env={**environment(), **self._variables},
                start_new_session=True,
                pass_fds=self._keep_open,
            )

    def wait_for(self, look: Callable[[], Found | None]) -> Found:
        """What `look` finds once it does. ProcessFailed, and it is ended, if never."""
        try:
            return self._wait_for(look)
        except BaseException:
            self.kill()
            raise

    def _wait_for(self, look: Callable[[], Found | None]) -> Found:
        assert self._process is not None, "wait_for before launch"
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                how = ended(self._process.returncode)
                raise ProcessFailed(f"{self._log.stem} {how}: {self.last_line()}")
            found = look()
            if found:
                return found
            time.sleep(POLL_SECONDS)
        raise ProcessFailed(f"{self._log.stem} does not answer: {self.last_line()}")

    def stop(self, seconds_max: float | None = None) -> None:
        """End it, by force if it does not listen."""
        if self._process is not None:
            end(self._process, seconds_max)

    def kill(self) -> None:
        """End it by force, if nothing that it has yet to do is wanted."""
        if self._process is not None:
            kill(self._process)

    @property
    def pid(self) -> int | None:
        """The id of its process, None if it has none: not launched, or ended."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    @property
    def status(self) -> int | None:
        """How it ended: a status, -n for signal n, None if it has not or never began."""
        return None if self._process is None else self._process.poll()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; nothing if it has ended."""
        if self._process is not None:
            self._process.send_signal(number)

    def cut_log(self) -> None:
        """Empty the log if it is too long; a running server goes on at its beginning."""
        with suppress(FileNotFoundError):
            if self._log.stat().st_size > self._log_bytes_max:
                os.truncate(self._log, 0)
                self._log_begins = 0

    def said(self, bytes_max: int | None = None) -> str:
        """What it said since it was launched, or the end of that."""
        try:
            with self._log.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                longest = size if bytes_max is None else bytes_max
                log.seek(max(self._log_begins, size - longest))
                return log.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def last_line(self) -> str:
        """The last line that it said."""
        lines = self.said().strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def ended(status: int) -> str:
    """How a process ended, in words: a signal by its name."""
    return "ended" if status >= 0 else f"ended by {signal.Signals(-status).name}"


def end(process: subprocess.Popen[bytes], seconds_max: float | None = None) -> None:
    """Ask a process that we started to end, and force it if it does not listen."""
    try:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS_MAX if seconds_max is None else seconds_max)
    finally:
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a session of its own by force, and its workers."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def environment() -> dict[str, str]:
    """Ours, without settings of a store that is not meant here."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(SETTINGS)}
    return {**kept, "PYTHONPATH": str(ROOT)}


def store_command(**settings: object) -> list[str]:
    """`run.py` on a free port, with these settings as flags."""
    flags = {"port": 0, "log_level": "warning", **settings}
    words = [
        word
        for name, value in flags.items()
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]
    return [sys.executable, str(ROOT / "run.py"), *words]


def answers(port: int, path: str) -> bool:
    """True if a GET of `path` is answered with a 2xx."""
    request = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
    try:
        with socket.create_connection((HOST, port), timeout=5) as connection:
            connection.sendall(request.encode())
            head = connection.recv(65_536)
    except OSError:
        return False
    return head[9:10] == b"2"
