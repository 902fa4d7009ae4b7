"""What a node lacks and on whom it waits, for `GET /nodes`: measured, not remembered."""

from __future__ import annotations

from collections.abc import Callable

from cluster.membership import Membership
from cluster.shard import DOWN, RECOVERING, ShardState
from models import NodeId

Compare = Callable[[ShardState, NodeId], set[str]]


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


def stale_keys(cluster: Membership, node: NodeId, compare: Compare) -> int:
    """How many records the node should hold and lacks, or holds older.

    `compare(shard, member)` finds the keys in which the node differs from a member; it
    is used where no notes were kept, as after a restart.
    """
    count = 0
    for shard in cluster.shards_of(node):
        if node in shard.in_sync or shard.lost:
            continue
        notes = shard.missed.get(node)
        if notes is None:
            notes = compare(shard, shard.in_sync[0])
            shard.note_stale(node, notes)
        count += len(notes)
    return count
