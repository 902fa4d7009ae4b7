"""The cluster as its nodes remember it: the newest state record, and what it is worth."""

from __future__ import annotations

from collections.abc import Mapping

from cluster.clock import HybridClock
from cluster.membership import Membership
from cluster.node import ReplicaNode
from cluster.placement import assignment_of
from cluster.refusal import check_readable, layout_of
from cluster.shard import UP, SavedState, saved_state
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
        _forget_older(cluster, nodes, newest)
    elif absent:
        check_readable(nodes, set(absent))  # nothing else knows anything
    if any(
        node.damage is not None and (not known or node.storage.epoch_confirmed > known)
        for node in nodes.values()
    ):
        # What was known of the copies is gone too: none can be taken for the truth.
        cluster.identity = dict.fromkeys(nodes, "")
    return cluster


def _forget_older(
    cluster: Membership, nodes: Mapping[NodeId, ReplicaNode], newest: SavedState
) -> None:
    """Take a node's storage for replaced where it lacks a state record that it had.

    Then its files are older than they were, all of them together, as when a copy of its
    folder was put back.
    """
    for node_id, confirmed in newest.confirmed.items():
        storage = nodes[node_id].storage
        found = (storage.load_state() or (0, b""))[0]
        if found < confirmed and storage.identity == newest.identity[node_id]:
            cluster.identity[node_id] = ""
            storage.damage = (
                f"its files are older than they were (epoch={found}, was {confirmed})"
            )
