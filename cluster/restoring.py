"""The cluster as its nodes remember it: the newest state record, and what it is worth."""

from __future__ import annotations

from collections.abc import Mapping

from cluster.clock import HybridClock
from cluster.membership import Membership, is_older
from cluster.node import ReplicaNode
from cluster.placement import assignment_of
from cluster.refusal import check_readable, layout_of
from cluster.shard import UP, saved_state
from config import Settings
from models import NodeId


def restore_cluster(
    settings: Settings, nodes: Mapping[NodeId, ReplicaNode], clock: HybridClock
) -> Membership:
    """The cluster as the newest state record at the nodes has it, or a new one."""
    layout = layout_of(settings)
    assignment = assignment_of(
        settings.placement, tuple(nodes), settings.replication_factor
    )
    identities = {node_id: node.identity for node_id, node in nodes.items()}
    cluster = Membership(
        assignment, layout, identities, clock, min_in_sync=settings.min_in_sync
    )
    cluster.keeps_what_it_has = settings.durability == "fsync"
    for node in nodes.values():
        clock.observe(node.storage.content.version_max)
    absent = [n for n, node in nodes.items() if node.problem is not None]
    states = filter(None, (node.storage.load_state() for node in nodes.values()))
    found = [saved_state(record) for _, record in states]
    newest = max(found, key=lambda state: state.epoch, default=None)
    known = newest.epoch if newest is not None else 0
    if newest is not None:
        check_readable(nodes, {n for n, s in newest.status.items() if s == UP})
        cluster.restore(newest, absent)
        _forget_older(cluster, nodes)
    elif absent:
        check_readable(nodes, set(absent))  # nothing else knows anything
    if any(
        node.storage.epoch_marked > known or (node.damage is not None and not known)
        for node in nodes.values()
    ):
        # What was known of the copies is gone too: none can be taken for the truth.
        cluster.identity = dict.fromkeys(nodes, "")
    return cluster


def _forget_older(cluster: Membership, nodes: Mapping[NodeId, ReplicaNode]) -> None:
    """Take a node's storage for replaced where it lacks a state record that it had.

    Then its files are older than they were, all of them together, as when a copy of its
    folder was put back.
    """
    for node_id, node in nodes.items():
        is_same = node.identity == cluster.identity[node_id]
        if is_same and is_older(cluster, node_id, node.epoch):
            cluster.identity[node_id] = ""
            node.storage.damage = (
                f"its files are older than they were (epoch={node.epoch})"
            )
