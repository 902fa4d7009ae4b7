"""Measurements of the service as a client sees it: over HTTP, in its own process."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from benchmarks.children import Child
from benchmarks.figures import Bar, Figure, figure_of
from benchmarks.load import Load, Tally
from benchmarks.options import Options
from benchmarks.turns import CASES, drive, in_words, share_of, take_turns
from processes.server import Server, answers, store_command

BARE = "bare"
STORAGES = ("memory", "sqlite")
ROUTE_BAR = Bar(0.8, at_most=False)  # memory, 16 connections
EMPTY_BAR_SECONDS = Bar(1)
MILLION_BAR_SECONDS = Bar(6)
MILLION = 1_000_000
FILL_SECONDS_MAX = 1_800.0


def measure_routes(options: Options) -> list[Figure]:
    """Three servers take turns under the same load; the bare one sets the measure."""
    with ExitStack() as opened:
        bare = opened.enter_context(bare_server(options.folder))
        stores = []
        for storage in STORAGES:
            data = opened.enter_context(temporary_folder(options.folder))
            server = store_server(storage, data, options.folder)
            stores.append(opened.enter_context(server))
        tallies = take_turns(options, [bare, *stores])
    return [
        share_of(
            f"/{operation}, {in_words(connections)}, {storage}",
            tallies[storage, operation, connections],
            tallies[BARE, operation, connections],
            ROUTE_BAR if (storage, connections) == ("memory", 16) else None,
        )
        for storage in STORAGES
        for operation, connections in CASES
    ]


def measure_startup(options: Options) -> list[Figure]:
    """Start the service again and again, on an empty store and on a large one."""
    empty = []
    for _ in range(options.rounds):
        options.tell("starting on an empty store")
        with temporary_folder(options.folder) as data:
            empty.append(_start_seconds(data, options.folder))
    figures = [figure_of("empty store", empty, "s", EMPTY_BAR_SECONDS)]
    if not options.full:
        return figures
    keys = options.scaled(MILLION)
    with temporary_folder(options.folder) as data:
        options.tell(f"filling a sqlite store with {keys:,} keys")
        with Child(
            "fill", {"keys": keys, "directory": data}, FILL_SECONDS_MAX
        ) as child:
            child.wait_until_ready()
        options.tell(f"starting on {keys:,} keys")
        large = [_start_seconds(data, options.folder) for _ in range(options.rounds)]
    return [*figures, figure_of(f"{keys:,} keys", large, "s", MILLION_BAR_SECONDS)]


def _start_seconds(data: str, folder: Path) -> float:
    with store_server("sqlite", data, folder) as server:
        return server.started_in_seconds


class Service(Server):
    """A server of ours that a load can be put on, once inside a `with`.

    `started_in_seconds` is from the start of the process to the first answer to `probe`.
    """

    def __init__(
        self, name: str, command: Sequence[str], probe: str, folder: Path
    ) -> None:
        super().__init__(command, folder / f"server-{name}.log")
        self.name = name
        self.port = 0
        self.started_in_seconds = 0.0
        self._probe = probe

    def __enter__(self) -> Service:
        began = time.perf_counter()
        self.port = int(self.start().rpartition(":")[2])
        self.wait_for(lambda: answers(self.port, self._probe))
        self.started_in_seconds = time.perf_counter() - began
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def bear(self, load: Load) -> Tally:
        """Let a load run; what became of it."""
        return drive(replace(load, ports=(self.port,)))


def store_server(storage: str, data: str, folder: Path) -> Service:
    """The service as `run.py` serves it, 3 nodes, replication factor 2."""
    command = store_command(
        nodes=3, replication_factor=2, storage=storage, data_dir=data
    )
    return Service(storage, command, "/readyz", folder)


def bare_server(folder: Path) -> Service:
    """The peer: a Flask route on the same server that only parses and answers."""
    command = [sys.executable, "-m", "benchmarks.bare_app"]
    return Service(BARE, command, "/read/anything", folder)


def temporary_folder(parent: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder for a store's files, on the disk of the results; gone afterwards."""
    return tempfile.TemporaryDirectory(
        dir=parent, prefix="data-", ignore_cleanup_errors=True
    )
