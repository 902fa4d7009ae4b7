"""Processes that a benchmark starts, talks to and ends; never any other.

`Child` is a fresh interpreter that holds something to measure (benchmarks/child.py) and
is told, one line at a time, to measure it again: so that two of them can take turns.
`Server` is an HTTP server of ours or of a peer, on a port of 127.0.0.1 that it picks.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
START_SECONDS_MAX = 120.0
STOP_SECONDS_MAX = 20.0
POLL_SECONDS = 0.002
ADDRESS = re.compile(rb"http://127\.0\.0\.1:(\d+)")  # as servers say it at the start


class ProcessFailed(Exception):
    """A process that a benchmark needs did not start, or ended, or fell silent."""


class Child:
    """Something to measure in an interpreter of its own; see benchmarks/child.py."""

    def __init__(self, kind: str, options: dict[str, Any], seconds_max: float) -> None:
        self._name = f"{kind} {options}"
        self._seconds_max = seconds_max
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.child", kind, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            start_new_session=True,  # Ctrl-C is ours to handle
        )
        self._unread = b""
        self.prepared: Any = None

    def wait_until_ready(self) -> Child:
        """Wait until what is to be measured has been prepared."""
        self.prepared = self._read()
        return self

    def measure(self) -> Any:
        """One round; what it returns is the kind's own."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"measure\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        source = self._process.stdout.fileno()
        deadline = time.monotonic() + self._seconds_max
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([source], [], [], left)[0]:
                raise ProcessFailed(
                    f"no answer in {self._seconds_max:.0f} s ({self._name})"
                )
            received = os.read(source, 65_536)
            if not received:
                raise ProcessFailed(f"ended before it answered ({self._name})")
            self._unread += received
        line, _, self._unread = self._unread.partition(b"\n")
        return json.loads(line)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if kind is None:
            self._process.stdin.close()  # it ends by itself, in good order
        end(self._process, politely=kind is not None)
        self._process.stdin.close()
        self._process.stdout.close()


class Server:
    """An HTTP server in a process of its own; `command` takes `--port 0`.

    Used in a `with`, it answers `probe` once inside. `started_in_seconds` is from the
    start of the process to its first answer.
    """

    def __init__(
        self, name: str, command: Sequence[str], probe: str, folder: Path
    ) -> None:
        self.name = name
        self.port = 0
        self.started_in_seconds = 0.0
        self._command = [sys.executable, *command, "--port", "0"]
        self._probe = probe
        self._folder = folder
        self._log = folder / f"server-{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        began = time.perf_counter()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,  # not where a kv.toml may lie
                env=environment(),
                start_new_session=True,
            )
        try:
            self._wait_for_answer(began + START_SECONDS_MAX)
        except BaseException:
            end(self._process)
            raise
        self.started_in_seconds = time.perf_counter() - began
        return self

    def _wait_for_answer(self, deadline: float) -> None:
        assert self._process is not None
        while time.perf_counter() < deadline:
            if self._process.poll() is not None:
                raise ProcessFailed(
                    f"{self.name} ended at once: {last_line(self._log)}"
                )
            found = ADDRESS.search(self._log.read_bytes())
            if found is not None:
                self.port = int(found[1])
                if answers(self.port, self._probe):
                    return
            time.sleep(POLL_SECONDS)
        raise ProcessFailed(f"{self.name} does not answer: {last_line(self._log)}")

    def __exit__(self, *error: object) -> None:
        if self._process is not None:
            end(self._process)


def environment() -> dict[str, str]:
    """Ours, without settings of a store that is not meant here."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith("KV_")}
    return {**kept, "PYTHONPATH": str(ROOT)}


def end(process: subprocess.Popen[bytes], *, politely: bool = True) -> None:
    """End a process that we started, by force if it does not listen."""
    if politely and process.poll() is None:
        process.terminate()
    try:
        process.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        pass
    finally:
        if process.poll() is None:
            os.killpg(
                process.pid, signal.SIGKILL
            )  # its own session: it and its workers
            process.wait()


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


def last_line(log: Path) -> str:
    """The end of what a process said, to say why it failed."""
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
