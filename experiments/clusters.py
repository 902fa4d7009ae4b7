"""Where the clusters of an experiment come from, and how they are left behind.

`OwnClusters` starts a server for each shape and ends it; `RunningClusters` uses servers
that somebody else runs, disturbs nothing there, and puts back what it changed.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from client import Client, KeyNotFound, StoreError
from experiments.catalogue import Shape
from experiments.runner import CannotRun, NoCluster
from experiments.session import UNREADABLE

ROOT = Path(__file__).resolve().parent.parent
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")  # as the server says it at its start
START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 15.0
POLL_SECONDS = 0.02
REQUEST_SECONDS_MAX = 10.0


class OwnClusters:
    """A server process of our own for each shape, started when it is first needed."""

    prefix = "paper-"

    def __init__(self, folder: Path, storage: str, token: str | None) -> None:
        self._folder = folder
        self._storage = storage
        self._token = token
        self._clients: dict[Shape, Client] = {}
        self._opened = ExitStack()

    def store(self, shape: Shape) -> Client:
        """A client of the server of this shape."""
        if shape not in self._clients:
            self._clients[shape] = self._start(shape)
        return self._clients[shape]

    def _start(self, shape: Shape) -> Client:
        data = self._opened.enter_context(
            tempfile.TemporaryDirectory(
                dir=self._folder, prefix="data-", ignore_cleanup_errors=True
            )
        )
        name = f"server-{shape.nodes}-{shape.replication_factor}.log"
        server = ServerProcess(
            self._command(shape, data), self._folder / name, self._token
        )
        self._opened.callback(server.stop)
        client = Client(server.start(), self._token, REQUEST_SECONDS_MAX)
        self._opened.callback(client.close)
        return client

    def _command(self, shape: Shape, data: str) -> list[str]:
        flags = {
            "--port": 0,
            "--nodes": shape.nodes,
            "--replication-factor": shape.replication_factor,
            "--storage": self._storage,
            "--data-dir": data,
            "--log-level": "warning",
        }
        words = [str(word) for pair in flags.items() for word in pair]
        return [sys.executable, str(ROOT / "run.py"), *words]

    def __enter__(self) -> OwnClusters:
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()


class ServerProcess:
    """One server of ours. What it says goes to `log`."""

    def __init__(self, command: Sequence[str], log: Path, token: str | None) -> None:
        self._command = command
        self._log = log
        self._token = token
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Start it and return its URL once it says it; CannotRun if it does not."""
        kept = {n: v for n, v in os.environ.items() if not n.startswith("KV_")}
        token = {"KV_API_TOKEN": self._token} if self._token else {}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._log.parent,  # not where a kv.toml may lie
                env={**kept, **token},
                start_new_session=True,  # Ctrl-C is ours to handle
            )
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline and self._process.poll() is None:
            found = ADDRESS.search(self._said())
            if found is not None:
                return found[0]
            time.sleep(POLL_SECONDS)
        lines = self._said().strip().splitlines() or ["it said nothing"]
        raise CannotRun(f"the server did not start: {lines[-1]}")

    def stop(self) -> None:
        """End it, by force if it does not listen."""
        process = self._process
        if process is None:
            return
        try:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS_MAX)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # a session of its own
                process.wait()

    def _said(self) -> str:
        return self._log.read_text("utf-8", "replace")


class RunningClusters:
    """Servers that run already, one of which may fit a shape.

    Every key begins with a prefix that nobody else uses, and is deleted afterwards. A
    server with a node that is not up is not touched: somebody may be at work there.
    """

    def __init__(self, urls: Sequence[str], token: str | None, prefix: str) -> None:
        self.prefix = prefix
        self._clients = {url: Client(url, token, REQUEST_SECONDS_MAX) for url in urls}
        self._used: dict[Shape, Client] = {}

    def store(self, shape: Shape) -> Client:
        """A client of the first server that fits."""
        if shape not in self._used:
            self._used[shape] = self._fitting(shape)
        return self._used[shape]

    def _fitting(self, shape: Shape) -> Client:
        found = []
        for url, client in self._clients.items():
            try:
                actual = shape_of(client)
            except (StoreError, *UNREADABLE) as error:
                raise CannotRun(f"{url} does not tell its nodes: {error}") from error
            if actual == shape:
                return client
            found.append(f"{url} has {actual}")
        raise NoCluster(f"needs {shape}; {', '.join(found)}")

    def __enter__(self) -> RunningClusters:
        return self

    def __exit__(self, *error: object) -> None:
        for client in self._used.values():
            with suppress(StoreError):
                delete_keys(client, self.prefix)
        for client in self._clients.values():
            client.close()


def shape_of(client: Client) -> Shape:
    """How large the cluster behind a client is."""
    nodes, config = client.nodes(), client.config()
    everywhere = config["placement"] == "full"
    return Shape(len(nodes), len(nodes) if everywhere else config["replication_factor"])


def delete_keys(client: Client, prefix: str) -> None:
    """Delete every key with a prefix."""
    for info in client.keys(prefix):
        with suppress(KeyNotFound):  # somebody was faster
            client.delete(info.key)
