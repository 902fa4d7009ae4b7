"""Which nodes hold which keys.

The token space is cut into a fixed number of equal partitions, and a placement gives
each its replica set: so the unit that moves, that digests are kept of and that a node
lists is one and the same (Dynamo, SOSP 2007, section 6.2, strategy 3; the ring with
virtual nodes that assigns them is section 4.2).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import lru_cache

from models import TOKEN_BITS, NodeId, key_token

PARTITION_BITS = 12
PARTITION_COUNT = 1 << PARTITION_BITS
PARTITION_SHIFT = TOKEN_BITS - PARTITION_BITS
VIRTUAL_NODES = 512  # a node; the fullest of 10 then has about 1.07 of the mean

Assignment = tuple[tuple[NodeId, ...], ...]  # partition -> its replica set, in order


def partition_of(token: int) -> int:
    """The partition of a token, 0 to PARTITION_COUNT - 1."""
    return token >> PARTITION_SHIFT


def ring(node_ids: Sequence[NodeId], replication_factor: int) -> Assignment:
    """Consistent hashing: a partition belongs to the next distinct nodes on the ring.

    Adding a node moves only what the new node takes over.
    """
    points = sorted(
        (key_token(f"node-{node}/{index}"), node)
        for node in node_ids
        for index in range(VIRTUAL_NODES)
    )
    tokens = [token for token, _ in points]
    owners = [node for _, node in points]
    return tuple(
        _walk(
            owners,
            bisect_right(tokens, partition << PARTITION_SHIFT),
            replication_factor,
        )
        for partition in range(PARTITION_COUNT)
    )


def _walk(owners: Sequence[NodeId], start: int, count: int) -> tuple[NodeId, ...]:
    """The first `count` distinct owners from `start` on, around the ring."""
    found: list[NodeId] = []
    for step in range(len(owners)):
        owner = owners[(start + step) % len(owners)]
        if owner not in found:
            found.append(owner)
            if len(found) == count:
                break
    return tuple(found)


def full(node_ids: Sequence[NodeId], replication_factor: int) -> Assignment:
    """Every node holds every key, whatever the replication factor."""
    del replication_factor
    return (tuple(sorted(node_ids)),) * PARTITION_COUNT


@lru_cache(maxsize=32)  # whoever starts many clusters of few shapes: the simulator
def assignment_of(
    placement: str, node_ids: tuple[NodeId, ...], replication_factor: int
) -> Assignment:
    """What the placement of that name gives each partition."""
    return PLACEMENTS[placement](node_ids, replication_factor)


Groups = tuple[tuple[tuple[NodeId, ...], tuple[int, ...]], ...]


@lru_cache(maxsize=32)
def grouped(assignment: Assignment) -> tuple[Groups, tuple[int, ...]]:
    """The shards of an assignment, and the place of each partition's shard among them.

    A shard is its nodes, in the order of their ids, and its partitions.
    """
    shards: dict[tuple[NodeId, ...], list[int]] = {}
    for partition, replicas in enumerate(assignment):
        shards.setdefault(tuple(sorted(replicas)), []).append(partition)
    places = {nodes: place for place, nodes in enumerate(shards)}
    return (
        tuple((nodes, tuple(partitions)) for nodes, partitions in shards.items()),
        tuple(places[tuple(sorted(replicas))] for replicas in assignment),
    )


PLACEMENTS: dict[str, Callable[[Sequence[NodeId], int], Assignment]] = {
    "ring": ring,
    "full": full,
}
