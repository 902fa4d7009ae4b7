"""What a node lacks, on whom it waits, who is in sync: measured, not remembered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import msgspec

from cluster.membership import Membership
from cluster.placement import PARTITION_COUNT, grouped
from cluster.repair import Progress
from cluster.shard import DOWN, RECOVERING, UP, ShardState
from models import NodeId, Unavailable
from storage.content import Content, differing_keys
from storage.durations import Durations

Compare = Callable[[ShardState, NodeId], int]


def waiting_for(cluster: Membership, node: NodeId) -> tuple[NodeId, ...]:
    """The down nodes that alone hold what this one lacks."""
    if cluster.status[node] != RECOVERING:
        return ()
    found = {
        member
        for shard in cluster.shards_of(node)
        if not shard.sources and not shard.lost
        for member in shard.in_sync
        if member != node and cluster.status[member] == DOWN
    }
    return tuple(sorted(found))


def lost_shards(cluster: Membership, node: NodeId) -> int:
    """How many shards of the node lost every in-sync copy: for these it waits in vain."""
    return sum(shard.lost for shard in cluster.shards_of(node))


def stale_keys(cluster: Membership, node: NodeId, compare: Compare) -> int:
    """How many records the node should hold and lacks, or holds older.

    `compare(shard, member)` counts the keys in which the node differs from a member; it
    is used where no notes were kept, as after a restart. What it finds is told and no more:
    a write that was acknowledged while it looked would be missing in any note of it.
    """
    count = 0
    for shard in cluster.shards_of(node):
        if node in shard.in_sync or shard.lost:
            continue
        notes = shard.missed.get(node)
        count += compare(shard, shard.in_sync[0]) if notes is None else len(notes)
    return count


class Differences:
    """How many keys of a node and of another one are in different versions.

    Each partition is counted once, and again where the digest of a copy has changed since:
    the digests are read before the count, so that no change is ever missed.
    """

    def __init__(self) -> None:
        # (node, partition) -> (the other node, both digests), and the count
        self._counts: dict[tuple[NodeId, int], tuple[tuple[NodeId, int, int], int]] = {}

    def count(
        self,
        copies: Mapping[NodeId, Content],
        node: NodeId,
        shard: ShardState,
        other: NodeId,
    ) -> int:
        """In how many keys of a shard the copy of a node differs from that of another."""
        mine, theirs = copies[node], copies[other]
        partitions = shard.partitions
        digests = zip(
            partitions,
            mine.partition_digests(partitions),
            theirs.partition_digests(partitions),
            strict=True,
        )
        total = 0
        for partition, own, wanted in digests:
            if own == wanted:
                continue
            seen = (other, own, wanted)
            known, count = self._counts.get((node, partition), (None, 0))
            if known != seen:
                count = len(differing_keys(mine, theirs, (partition,)))
                self._counts[node, partition] = seen, count
            total += count
        return total


class ShardInfo(msgspec.Struct, frozen=True):
    """The keys that share a set of replicas: who holds them, and who is in sync."""

    replicas: tuple[NodeId, ...]  # in the order of their ids
    in_sync: tuple[NodeId, ...]  # hold every acknowledged write, down ones included
    live: tuple[NodeId, ...]  # are not down
    readable: bool  # now
    writable: bool  # now
    lost: bool  # every in-sync copy lost its storage: see accept_loss
    share: float  # of the key space, 0 to 1


class ShardMap(msgspec.Struct, frozen=True):
    """Every shard, and the shard of each partition of the key space."""

    partition_count: int
    shards: tuple[ShardInfo, ...]
    # (place in `shards`, first replica), in the order of tokens
    partitions: tuple[tuple[int, NodeId], ...]


def shard_map(cluster: Membership) -> ShardMap:
    """Who holds which part of the key space, and who of them is in sync now."""
    _, places = grouped(cluster.assignment)
    first = (replicas[0] for replicas in cluster.assignment)
    return ShardMap(
        PARTITION_COUNT,
        tuple(_info(cluster, shard) for shard in cluster.shards.values()),
        tuple(zip(places, first, strict=True)),
    )


def _info(cluster: Membership, shard: ShardState) -> ShardInfo:
    return ShardInfo(
        replicas=shard.replicas,
        in_sync=() if shard.lost else shard.in_sync,
        live=shard.targets,
        readable=is_readable(shard),
        writable=is_writable(cluster, shard),
        lost=shard.lost,
        share=len(shard.partitions) / PARTITION_COUNT,
    )


def is_readable(shard: ShardState) -> bool:
    """True if every key of the shard can be read now."""
    return bool(shard.sources)


def is_writable(cluster: Membership, shard: ShardState) -> bool:
    """True if every key of the shard can be written now."""
    return is_readable(shard) and len(shard.members) >= cluster.min_in_sync


def why_not_ready(cluster: Membership) -> Unavailable | None:
    """The error for a shard that cannot be both read and written, a lost one first."""
    obstructed = [s for s in cluster.shards.values() if not is_writable(cluster, s)]
    if not obstructed:
        return None
    away = ", ".join(str(n) for n, status in cluster.status.items() if status != UP)
    refusal = cluster.refusal(max(obstructed, key=lambda shard: shard.lost))
    return type(refusal)(
        f"some keys cannot be served (not up: nodes {away}): {refusal}"
    )


class ShardCounts(msgspec.Struct, frozen=True):
    """How the shards do, in numbers."""

    in_sync: dict[int, int]  # in-sync replicas that are up: shards with so many
    unreadable: int
    unwritable: int
    lost: int
    unsettled_keys: int  # with a write of unknown outcome


def count_shards(cluster: Membership) -> ShardCounts:
    """The shards as they are now."""
    shards = cluster.shards.values()
    sizes = Counter(len(shard.members) for shard in shards)
    return ShardCounts(
        in_sync={
            size: sizes[size] for size in range(max(map(len, cluster.shards)) + 1)
        },
        unreadable=sum(not is_readable(shard) for shard in shards),
        unwritable=sum(not is_writable(cluster, shard) for shard in shards),
        lost=sum(shard.lost for shard in shards),
        unsettled_keys=sum(len(shard.unsettled) for shard in shards),
    )


class Measures(msgspec.Struct, frozen=True):
    """What happened since a process began, and how its shards do, in numbers."""

    shards: ShardCounts
    events: Mapping[tuple[str, NodeId | None], int]  # of each kind, at each node
    copied: Mapping[NodeId, Progress]  # by nodes that came back
    commits: Mapping[NodeId, Durations | None]  # None: in memory only
    clock_ahead_seconds: float  # its time, of the machine's clock; below 0: behind it
