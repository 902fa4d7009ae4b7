"""The durable store beside etcd, over HTTP and on one disk: what a synced log can do.

Ours acknowledges a write that is on disk at two of three nodes in one process. One member
of etcd syncs it once, three need two of three over loopback. Either is asked through its
JSON gateway, which is part of its cost, as routes and JSON are of ours.
"""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks.etcd import EtcdCluster, name_of, program, without_etcd
from benchmarks.figures import Bar, Figure
from benchmarks.options import Options
from benchmarks.service import store_server, temporary_folder
from benchmarks.turns import CASES, Tallies, in_words, share_of, take_turns

STORAGE = "sqlite"
MEMBERS = (1, 3)

Comparison = tuple[str, int, int]  # operation, connections, members of etcd
COMPARISONS: tuple[Comparison, ...] = tuple(
    (operation, connections, members)
    for operation, connections in CASES
    for members in MEMBERS
)
BARS: dict[Comparison, Bar] = {
    ("write", 1, 1): Bar(0.9, at_most=False),
    ("write", 16, 3): Bar(1, at_most=False),
    ("write", 16, 1): Bar(1, at_most=False, is_stretch=True),
    ("read", 16, 1): Bar(0.9, at_most=False),
}


def measure_beside_etcd(options: Options) -> list[Figure]:
    """Ours, one member and three members take turns; every line is reported anyhow."""
    found = program()
    if found is None:
        return without_etcd({title_of(each): BARS.get(each) for each in COMPARISONS})
    options.tell("starting etcd")
    with ExitStack() as opened:
        data = opened.enter_context(temporary_folder(options.folder))
        ours = opened.enter_context(store_server(STORAGE, data, options.folder))
        clusters = [
            opened.enter_context(EtcdCluster(found, members, options.folder))
            for members in MEMBERS
        ]
        tallies = take_turns(options, [ours, *clusters])
        return figures_of(tallies, clusters[0].version)


def figures_of(tallies: Tallies, version: str) -> list[Figure]:
    """Our share of etcd's rate in each comparison."""
    return [
        share_of(
            title_of((operation, connections, members)),
            tallies[STORAGE, operation, connections],
            tallies[name_of(members), operation, connections],
            BARS.get((operation, connections, members)),
            etcd=version,
        )
        for operation, connections, members in COMPARISONS
    ]


def title_of(comparison: Comparison) -> str:
    """A comparison in words."""
    operation, connections, members = comparison
    return f"/{operation}, {in_words(connections)}, {name_of(members)}"
