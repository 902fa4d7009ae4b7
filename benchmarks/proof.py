"""Measurements of what judges the store: the simulator and the checker."""

from __future__ import annotations

from benchmarks.children import Child
from benchmarks.figures import Bar, Figure, figure_of
from benchmarks.options import Options
from processes.server import ProcessFailed

SEEDS = 40
LONG_SCALE = 20.0  # of a seed's requests: what starting a cluster costs is spread out
CHILD_SECONDS_MAX = 600.0
ONE_KEY, MANY_KEYS = (1, 10_000), (100, 100_000)  # keys, operations
CLIENTS = 10

SIMULATED_BAR = Bar(20_000, at_most=False)
CHECKED_BAR = Bar(1)


def measure_simulation(options: Options) -> list[Figure]:
    """Client operations simulated and judged, on one core, in its processor time."""
    figures = []
    for name, scale, bar in (
        ("long runs", LONG_SCALE, SIMULATED_BAR),
        ("seeds as they are drawn", 1.0, None),
    ):
        options.tell(f"simulating: {name}")
        seeds = max(2, int(SEEDS * options.scale / (4 if scale > 1 else 1)))
        what = {"seeds": seeds, "scale": scale}
        with Child("simulation", what, CHILD_SECONDS_MAX) as child:
            child.wait_until_ready()
            rounds = [child.measure() for _ in range(options.rounds)]
        if any(each["violated"] for each in rounds):
            raise ProcessFailed("a simulated run violated a property")
        for unit, label in (
            ("operations/s", "operations"), ("× real time", "virtual"), ("seeds/s", "seeds"),
        ):  # fmt: skip
            found = [each[label] / each["seconds"] for each in rounds]
            figures.append(
                figure_of(f"{name}, {label}", found, unit, bar if label == "operations" else None)
            )  # fmt: skip
    return figures


def measure_checker(options: Options) -> list[Figure]:
    """Judging histories of a correct register, all of it by the search."""
    figures = []
    for (keys, operations), bar in ((ONE_KEY, CHECKED_BAR), (MANY_KEYS, None)):
        operations = options.scaled(operations)
        options.tell(f"judging {operations:,} operations")
        what = {"keys": keys, "operations": operations, "clients": CLIENTS}
        with Child("checker", what, CHILD_SECONDS_MAX) as child:
            child.wait_until_ready()
            rounds = [child.measure() for _ in range(options.rounds)]
        for mix in ("reads and writes", "deletes and conditions too"):
            if any(each[mix]["answer"] != "holds" for each in rounds):
                raise ProcessFailed("the checker did not answer that a history holds")
            figures.append(
                figure_of(
                    f"{operations:,} operations, {keys} keys, {CLIENTS} clients: {mix}",
                    [each[mix]["seconds"] for each in rounds],
                    "s",
                    bar,
                )
            )
    return figures
