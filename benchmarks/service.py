"""Measurements of the service as a client sees it: over HTTP, in its own process."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from statistics import median

from benchmarks.figures import Bar, Figure, figure_of, ratios
from benchmarks.load import Load, Tally
from benchmarks.options import Options
from benchmarks.processes import ROOT, Child, ProcessFailed, Server

BARE = "bare"
STORAGES = ("memory", "sqlite")
CONNECTIONS = (1, 16)
OPERATIONS = ("write", "read")
ROUTE_BAR = Bar(0.8, at_most=False)  # memory, 16 connections
EMPTY_BAR_SECONDS = Bar(1)
MILLION_BAR_SECONDS = Bar(6)
MILLION = 1_000_000
FILL_SECONDS_MAX = 1_800.0

Case = tuple[str, str, int]  # server, operation, connections


def measure_routes(options: Options) -> list[Figure]:
    """Three servers take turns under the same load; the bare one sets the measure."""
    tallies: dict[Case, list[Tally]] = defaultdict(list)
    with ExitStack() as opened:
        servers = [opened.enter_context(bare_server(options.folder))]
        for storage in STORAGES:
            data = opened.enter_context(temporary_folder(options.folder))
            servers.append(
                opened.enter_context(store_server(storage, data, options.folder))
            )
        for server in servers:
            _drive(Load(server.port, "write", 1, 0))  # so that every key can be read
        for number in range(options.rounds):
            for operation in OPERATIONS:
                for connections in CONNECTIONS:
                    options.tell(
                        f"round {number + 1} of {options.rounds}: "
                        f"/{operation}, {in_words(connections)}"
                    )
                    for server in servers:
                        load = Load(
                            server.port, operation, connections, options.seconds
                        )
                        case = (server.name, operation, connections)
                        tallies[case].append(_drive(load))
    return [
        _route_figure(tallies, (storage, operation, connections))
        for storage in STORAGES
        for operation in OPERATIONS
        for connections in CONNECTIONS
    ]


def _drive(load: Load) -> Tally:
    """Run the load generator in its own process and read its tally."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load"],
        input=json.dumps(asdict(load)),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=load.seconds + 60,
        check=False,
    )
    if done.returncode != 0:
        raise ProcessFailed(f"the load generator failed: {done.stderr.strip()[-200:]}")
    return Tally(**json.loads(done.stdout))


def _route_figure(tallies: dict[Case, list[Tally]], case: Case) -> Figure:
    storage, operation, connections = case
    ours, bare = tallies[case], tallies[BARE, operation, connections]
    wrong = [tally for tally in ours + bare if tally.failures]
    our_rates, bare_rates = [t.rate for t in ours], [t.rate for t in bare]
    if min(bare_rates) == 0:
        raise ProcessFailed(
            f"the bare route answered nothing: {wrong[0].first_failure}"
        )
    shares = ratios(our_rates, bare_rates)
    speed = (
        f"{min(shares):.2f} to {max(shares):.2f}; medians "
        f"{median(our_rates):,.0f}/s beside {median(bare_rates):,.0f}/s, "
        f"99 % within {median(tally.p99_ms for tally in ours):.1f} ms"
    )
    return figure_of(
        f"/{operation}, {in_words(connections)}, {storage}",
        shares,
        "×",
        ROUTE_BAR if (storage, connections) == ("memory", 16) else None,
        detail=f"wrong: {wrong[0].first_failure}" if wrong else speed,
        failures=sum(tally.failures for tally in wrong),
        extra={"ours": [asdict(t) for t in ours], "bare": [asdict(t) for t in bare]},
    )


def in_words(connections: int) -> str:
    """A number of connections, in words."""
    return "1 connection" if connections == 1 else f"{connections} connections"


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


def store_server(storage: str, data: str, folder: Path) -> Server:
    """The service as `run.py` serves it, 3 nodes, replication factor 2."""
    shape = ["--nodes", "3", "--replication-factor", "2", "--storage", storage]
    command = [
        str(ROOT / "run.py"),
        *shape,
        "--data-dir",
        data,
        "--log-level",
        "warning",
    ]
    return Server(storage, command, "/readyz", folder)


def bare_server(folder: Path) -> Server:
    """The peer: a Flask route on the same server that only parses and answers."""
    return Server(BARE, ["-m", "benchmarks.bare_app"], "/read/anything", folder)


def temporary_folder(parent: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder for a store's files, on the disk of the results; gone afterwards."""
    return tempfile.TemporaryDirectory(
        dir=parent, prefix="data-", ignore_cleanup_errors=True
    )
