"""What must hold inside a run, whatever clients were told: asserted where it is cheap.

Numbers are those of the list that these come from (`docs/simulation.md`, "Invariants").
A violation is an AssertionError whose text says what was found where.
"""

from __future__ import annotations

from collections.abc import Iterable

from cluster.shard import UP
from models import Purge, Version, WriteOutcome
from simulation.kernel import MS_US
from simulation.workload import READ, WRITE_ONE, Client, Lasting
from simulation.world import World

LAST = "a write was acknowledged by the last in-sync replica alone"
INEXACT_US = 2 * MS_US  # the store's times are whole milliseconds
WITHOUT = "a write was acknowledged without some replica"


def check_acknowledged(world: World, action: str, outcome: WriteOutcome) -> None:
    """A write that is acknowledged is durable at every in-sync replica.

    At those that the newest state record on the disks calls in sync, too: after a crash
    of everything they are believed. And at least `min_in_sync` replicas took it (of
    which one may have been wiped since). Level one promises none of this.
    """
    if action == WRITE_ONE:
        return
    shard = world.manager.cluster.shard(outcome.key)
    version = Version(int(outcome.version, 16))
    believed = world.saved_in_sync(shard.replicas)
    for node in dict.fromkeys(shard.in_sync + believed):
        held = world.storages[node].on_disk().get(outcome.key)
        if held is not None and held.version >= version:
            continue
        is_kept = held is None and _was_purged(world, outcome.key)
        assert is_kept, (
            f"an acknowledged write is not durable at in-sync node {node} "
            f"(key={outcome.key}, version={outcome.version}, held={held})"
        )
    assert len(outcome.replicas) >= world.settings.min_in_sync, (
        f"acknowledged by replicas {outcome.replicas} alone "
        f"(min_in_sync={world.settings.min_in_sync}, key={outcome.key})"
    )
    if len(shard.in_sync) < len(shard.replicas):
        world.exercised[LAST if len(shard.in_sync) == 1 else WITHOUT] += 1


def _was_purged(world: World, key: str) -> bool:
    """A tombstone that every replica had may be forgotten before its writer hears."""
    shard = world.manager.cluster.shard(key)
    return all(
        world.storages[node].on_disk().get(key) is None for node in shard.replicas
    )


def check_nodes_up(world: World) -> None:
    """A node that is up serves every shard of its own."""
    cluster = world.manager.cluster
    for node, status in cluster.status.items():
        if status == UP:
            lacking = [s for s in cluster.shards_of(node) if node not in s.in_sync]
            assert not lacking, (
                f"node {node} is up and not in sync in {lacking[0].replicas}"
            )


def check_one_value_a_version(world: World) -> None:
    """One version of a key is one value, on whichever node."""
    values: dict[tuple[str, int], bytes | None] = {}
    for storage in world.storages:
        for key in world.keys:
            record = storage.get(key)
            if record is not None:
                known = values.setdefault((key, record.version), record.value)
                assert known == record.value, (
                    f"two values under one version (key={key}, version={record.version.text})"
                )


def check_refused_left_nothing(world: World, clients: Iterable[Client]) -> None:
    """What was definitely refused is on no node."""
    refused = {
        (operation.key, operation.value)
        for client in clients
        for operation in client.operations
        if operation.outcome == "failed" and operation.value is not None
    }
    for storage in world.storages:
        for key in world.keys:
            record = storage.get(key)
            if record is not None and record.value is not None:
                assert (key, record.value.decode()) not in refused, (
                    f"node {storage.node} holds a value that was refused "
                    f"(key={key}, value={record.value.decode()})"
                )


def check_converged(world: World, nodes: Iterable[int]) -> None:
    """These nodes are up, and hold the same of every shard that they share."""
    cluster = world.manager.cluster
    alive = set(nodes)
    for node in sorted(alive):
        assert cluster.status[node] == UP, (
            f"node {node} is {cluster.status[node]} although all is well again"
        )
    for shard in cluster.shards.values():
        held = [n for n in shard.replicas if n in alive]
        if len(held) == len(shard.replicas):
            assert not shard.unsettled, f"unsettled for ever: {shard.unsettled}"
        serving = set(shard.sources)
        assert alive.intersection(shard.replicas) <= serving, (
            f"replicas {held} are up and {sorted(serving)} serve"
        )
    for key in world.keys:
        held = [n for n in cluster.shard(key).replicas if n in alive]
        versions = {
            record.version if (record := world.storages[node].get(key)) else None
            for node in held
        }
        assert len(versions) <= 1, f"nodes {held} differ in {key}"


def check_purge(world: World, purge: Purge) -> None:
    """A tombstone is forgotten only where no node holds an older value of the key."""
    for key, version in purge.versions.items():
        for storage in world.storages:
            record = storage.on_disk().get(key)
            if record is not None and record.value is not None:
                assert record.version > version, (
                    f"a tombstone is purged while node {storage.node} holds an older "
                    f"value (key={key})"
                )


def check_expired(world: World) -> None:
    """No replica that may serve holds a value that ends, once the longest time has passed.

    By virtual time, after a round of upkeep: a store whose time stands still finds nothing
    that has expired.
    """
    cluster = world.manager.cluster
    for key in world.keys:
        for node in cluster.shard(key).sources:
            record = world.storages[node].get(key)
            assert record is None or not record.expires_at_ms, (
                f"node {node} still holds a value that has expired (key={key})"
            )


def earliest_end(world: World, value: Lasting) -> int:
    """When a value may be gone by itself, in virtual time."""
    if not world.keeps_time:
        return value.began
    return value.began + max(0, value.ttl - INEXACT_US)


def check_times_to_live(world: World, clients: Iterable[Client]) -> None:
    """No read that was begun after the time of a value shows it."""
    ends = {
        (value.key, value.value): value.ended + value.ttl + INEXACT_US
        for client in clients
        for value in client.lasting
        if value.ended is not None
    }
    for client in clients if world.keeps_time else ():
        for operation in client.operations:
            if operation.action == READ and operation.outcome == "ok":
                end = ends.get((operation.key, operation.value), operation.began)
                assert operation.began <= end, (
                    f"a value is read {operation.began - end} us after its time "
                    f"(key={operation.key}, value={operation.value})"
                )


def check_sources_agree(world: World) -> None:
    """With nothing under way, replicas that may serve hold the same of a settled key."""
    cluster = world.manager.cluster
    for key in world.keys:
        shard = cluster.shard(key)
        if key in shard.unsettled:
            continue
        held = {
            record.version if (record := world.storages[node].get(key)) else None
            for node in shard.sources
        }
        assert len(held) <= 1, f"replicas {shard.sources} may serve and differ in {key}"
