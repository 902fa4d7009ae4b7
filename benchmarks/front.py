"""Our service as a front over etcd, beside that etcd's own JSON gateway.

One cluster of three members has it all: asked through the gateway of its leader, through
one front, and through two with the load split evenly. A front finds the leader by itself.
All put the same keys and values there, and of each it is counted what was applied.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from benchmarks.dialects import FRONT_PREFIX
from benchmarks.etcd import EtcdCluster, name_of, program, without_etcd
from benchmarks.figures import Bar, Figure
from benchmarks.load import Load, Tally
from benchmarks.options import Options
from benchmarks.service import Service
from benchmarks.turns import CASES, Tallies, in_words, share_of, take_turns
from processes.server import store_command

MEMBERS = 3
ONE, TWO = FRONTS = ("one front", "two fronts")
ONE_BAR = Bar(0.5, at_most=False)

Comparison = tuple[str, int, str]  # operation, connections, fronts
COMPARISONS: tuple[Comparison, ...] = tuple(
    (operation, connections, fronts)
    for fronts in FRONTS
    for operation, connections in CASES
    if fronts == ONE or connections > 1
)
BARS = {each: ONE_BAR if each[2] == ONE else None for each in COMPARISONS}


def measure_front(options: Options) -> list[Figure]:
    """The gateway, one front and two fronts take turns on one cluster."""
    found = program()
    if found is None:
        return without_etcd({title_of(each): bar for each, bar in BARS.items()})
    options.tell("starting etcd")
    with ExitStack() as opened:
        cluster = EtcdCluster(found, MEMBERS, options.folder, dialect="front")
        opened.enter_context(cluster)
        services = [
            opened.enter_context(front_server(number, cluster.urls, options.folder))
            for number in range(2)
        ]
        one, two = Fronts(ONE, services[:1], cluster), Fronts(TWO, services, cluster)
        tallies = take_turns(options, [cluster, one, two], several=(TWO,))
        return figures_of(tallies, cluster.version)


def figures_of(tallies: Tallies, version: str) -> list[Figure]:
    """The fronts' share of the gateway's rate in each comparison."""
    return [
        share_of(
            title_of((operation, connections, fronts)),
            tallies[fronts, operation, connections],
            tallies[name_of(MEMBERS), operation, connections],
            bar,
            etcd=version,
        )
        for (operation, connections, fronts), bar in BARS.items()
    ]


def title_of(comparison: Comparison) -> str:
    """A comparison in words."""
    operation, connections, fronts = comparison
    return f"/{operation}, {in_words(connections)}, {fronts}"


class Fronts:
    """Some services of one etcd, each with its share of the connections."""

    def __init__(
        self, name: str, services: list[Service], cluster: EtcdCluster
    ) -> None:
        self.name = name
        self._services = services
        self._cluster = cluster

    def bear(self, load: Load) -> Tally:
        """Let a load run; a write that etcd has not is a failure."""
        ports = tuple(service.port for service in self._services)
        return self._cluster.bear_behind(replace(load, ports=ports))


def front_server(number: int, urls: list[str], folder: Path) -> Service:
    """The service as `run.py` serves it, over members that run already."""
    command = store_command(
        engine="etcd",
        etcd_endpoints=",".join(urls),
        etcd_prefix=FRONT_PREFIX,
        data_dir=folder,  # of which it needs nothing
    )
    return Service(f"front-{number}", command, "/readyz", folder)
