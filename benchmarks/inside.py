"""Measurements of the ReplicationManager itself, each in a process of its own."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from typing import Any

from benchmarks.children import Child
from benchmarks.figures import Bar, Figure, figure_of, ratios
from benchmarks.options import Options
from processes.server import ProcessFailed

OPERATIONS_A_ROUND = 20_000
MISSED = 1_000
FEW_KEYS, MANY_KEYS = 10_000, 1_000_000
MEMORY_KEYS = 200_000
CHILD_SECONDS_MAX = 1_800.0

WRITE_BAR_US = Bar(8)
READ_BAR_US = Bar(4)
RECOVERY_BAR = Bar(2)
MEMORY_BAR_BYTES = Bar(600)


def measure_operations(options: Options) -> list[Figure]:
    """A write of a new key, an overwrite and a read, in turn, in one process."""
    options.tell("writing and reading in process")
    count = {"count": options.scaled(OPERATIONS_A_ROUND)}
    with Child("operations", count, CHILD_SECONDS_MAX) as child:
        child.wait_until_ready()
        rounds = [child.measure() for _ in range(options.rounds)]
    return [
        figure_of(name, [each[what] for each in rounds], "µs", bar)
        for name, what, bar in (
            ("write, new keys", "fresh_us", WRITE_BAR_US),
            ("write, overwriting", "overwrite_us", WRITE_BAR_US),
            ("read", "read_us", READ_BAR_US),
        )
    ]


def measure_recovery(options: Options) -> list[Figure]:
    """The same recovery in a small and in a large store, turn and turn about."""
    figures = _recovery(options, "memory")
    if options.full:
        figures += _recovery(options, "sqlite")
    return figures


def _recovery(options: Options, storage: str) -> list[Figure]:
    few, many = options.scaled(FEW_KEYS), options.scaled(MANY_KEYS)
    missed = MISSED if options.scale == 1 else MISSED // 10
    with ExitStack() as opened:
        children = []
        for keys in (few, many):
            options.tell(f"filling a {storage} store with {keys:,} keys")
            what: dict[str, Any] = {"keys": keys, "missed": missed}
            if storage == "sqlite":
                folder = tempfile.TemporaryDirectory(dir=options.folder, prefix="data-")
                what["directory"] = opened.enter_context(folder)
            child = opened.enter_context(Child("recovery", what, CHILD_SECONDS_MAX))
            children.append(child.wait_until_ready())
        options.tell(f"recovering a node of a {storage} store")
        rounds = [
            [child.measure() for child in children] for _ in range(options.rounds)
        ]
    for each in (answer for answers in rounds for answer in answers):
        if each["copied"] != missed:
            raise ProcessFailed(f"a recovery copied {each['copied']} keys of {missed}")
    small = [answers[0]["seconds"] * 1000 for answers in rounds]
    large = [answers[1]["seconds"] * 1000 for answers in rounds]
    return [
        figure_of(f"{storage}, {few:,} keys", small, "ms"),
        figure_of(f"{storage}, {many:,} keys", large, "ms"),
        figure_of(f"{storage}, large : small", ratios(large, small), "×", RECOVERY_BAR),
    ]


def measure_memory(options: Options) -> list[Figure]:
    """Growth of the process while keys of 20 and values of 100 bytes come in."""
    figures = []
    for keys in (MEMORY_KEYS, MANY_KEYS) if options.full else (MEMORY_KEYS,):
        keys = options.scaled(keys)
        options.tell(f"weighing {keys:,} keys")
        with Child("memory", {"keys": keys}, CHILD_SECONDS_MAX) as child:
            grown = child.wait_until_ready().measure()["bytes_per_key"]
        figures.append(figure_of(f"{keys:,} keys", [grown], "bytes", MEMORY_BAR_BYTES))
    return figures
