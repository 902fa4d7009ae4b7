"""This side of benchmarks/child.py: something to measure, in an interpreter of its own.

It is told, one line at a time, to measure again: so that two of them can take turns.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

from processes.server import ROOT, STOP_SECONDS_MAX, ProcessFailed, kill


class Child:
    """A fresh interpreter that holds something to measure; see benchmarks/child.py."""

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
        try:
            if kind is None:
                self._process.stdin.close()  # it ends by itself, in good order
            else:
                self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS_MAX)
        finally:
            kill(self._process)
            self._process.stdin.close()
            self._process.stdout.close()
