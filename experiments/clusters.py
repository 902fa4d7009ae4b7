"""Where the clusters of an experiment come from, and how they are left behind.

`OwnClusters` starts a server for each shape and ends it; `RunningClusters` uses servers
that somebody else runs, disturbs nothing there, and puts back what it changed.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from client import Client, KeyNotFound, StoreError
from experiments.catalogue import Shape
from experiments.runner import CannotRun, NoCluster
from experiments.session import UNREADABLE
from processes.server import ProcessFailed, Server, store_command

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
        command = store_command(
            nodes=shape.nodes,
            replication_factor=shape.replication_factor,
            storage=self._storage,
            data_dir=data,
        )
        name = f"server-{shape.nodes}-{shape.replication_factor}.log"
        server = ServerProcess(command, self._folder / name, self._token)
        self._opened.callback(server.stop)
        client = Client(server.start(), self._token, REQUEST_SECONDS_MAX)
        self._opened.callback(client.close)
        return client

    def __enter__(self) -> OwnClusters:
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()


class ServerProcess(Server):
    """One server of ours, which asks its clients for `token` if there is one."""

    def __init__(self, command: Sequence[str], log: Path, token: str | None) -> None:
        super().__init__(command, log, {"KV_API_TOKEN": token} if token else {})

    def start(self) -> str:
        """Start it and return its URL once it says it; CannotRun if it does not."""
        try:
            return super().start()
        except ProcessFailed as error:
            raise CannotRun(f"the server did not start: {error}") from error


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
    told = json.loads(client.call("GET", "/nodes"))
    nodes = len(told["nodes"])
    everywhere = told["placement"] == "full"
    return Shape(nodes, nodes if everywhere else told["replication_factor"])


def delete_keys(client: Client, prefix: str) -> None:
    """Delete every key with a prefix."""
    for info in client.keys(prefix):
        with suppress(KeyNotFound):  # somebody was faster
            client.delete(info.key)
