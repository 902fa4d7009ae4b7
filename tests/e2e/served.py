"""A real server in a process of its own, for tests that need one."""

from __future__ import annotations

import http.client
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
ADDRESS = re.compile(r"store on http://127\.0\.0\.1:(\d+)")
START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 10.0


def command(*flags: object) -> list[str]:
    """The call that serves; the folder it runs in should be a temporary one."""
    return [sys.executable, str(ROOT / "run.py"), *map(str, flags)]


def environment() -> dict[str, str]:
    """This process's environment without settings of the store."""
    return {
        name: text for name, text in os.environ.items() if not name.startswith("KV_")
    }


def hear() -> None:
    """Let the process that begins hear signals, if a shell runs the tests unheard."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def free_port() -> int:
    """A port that a restarted server can have again.

    It is not one of those that connections are given, or a client that knocks while the
    server is down might get it, or reach itself.
    """
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


class Served:
    """`run.py` on a free port. Leaving it stops the process, by its own id.

    `as_user` gives the command that runs another one as another user.
    """

    def __init__(
        self,
        folder: Path,
        *flags: object,
        as_user: Callable[..., list[str]] = lambda *words: [*words],
        **variables: str,
    ) -> None:
        self.log = folder / "server.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                as_user(*command("--port", 0, *flags)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=environment() | variables,
                preexec_fn=hear,
            )
        self.port = self._wait_for_port()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Send a signal; the exit status, and how many seconds it took."""
        began = time.monotonic()
        self.process.send_signal(number)
        return self.process.wait(STOP_SECONDS_MAX), time.monotonic() - began

    def connect(self) -> socket.socket:
        """A connection of one's own."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=5)

    def ask(
        self, method: str, target: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """One request, its target sent as it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.putrequest(method, target, skip_accept_encoding=True)
            for name, text in headers.items():
                connection.putheader(name.replace("_", "-"), text)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, dict(answer.headers), answer.read()
        finally:
            connection.close()

    def _wait_for_port(self) -> int:
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline and self.process.poll() is None:
            found = ADDRESS.search(self.log.read_text("utf-8"))
            if found is not None:
                return int(found[1])
            time.sleep(0.02)
        self.__exit__()
        raise AssertionError(f"it did not start: {self.log.read_text('utf-8')}")

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(STOP_SECONDS_MAX)
