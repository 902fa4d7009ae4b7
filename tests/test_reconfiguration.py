"""Nodes whose storage has a problem: what they may do, and how they come back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.clock import HybridClock
from cluster.events import EventLog
from cluster.shard import DOWN, RECOVERING, UP
from config import Settings
from db import MemoryStorage, SqliteStorage, Storage
from models import NodeInfo, Recovery, Unavailable, Uncertain
from replication import (
    ReplicaNode,
    ReplicationManager,
    StorageUnreadable,
    open_manager,
    restore_cluster,
)
from tests.storage_case import (
    FIRST,
    FaultyDisk,
    alter,
    failed_flush,
    failed_write,
    faulty_disk,
    flip_in,
    no_room,
)

KEYS = [f"key-{n}" for n in range(30)]


def options(folder: Path, **changes: Any) -> dict[str, Any]:
    base = {"nodes": 3, "replication_factor": 2, "maintenance_seconds": 3_600}
    files = {"storage": "sqlite", "data_dir": folder, "durability": "os"}
    return {**base, **files, "scrub_rows": 0, **changes}


def write_all(store: ReplicationManager, value: str, keys: list[str] = KEYS) -> None:
    for key in keys:
        store.write(key, f"{value} of {key}")


def read_all(store: ReplicationManager, value: str) -> None:
    assert [store.read(key).value for key in KEYS] == [f"{value} of {k}" for k in KEYS]


def kinds(store: ReplicationManager) -> list[str]:
    return [event.kind for event in store.events()]


def copied(info: NodeInfo) -> int:
    assert isinstance(info.recovery, Recovery)
    return info.recovery.copied


def hide(folder: Path) -> None:
    """Let a node's folder not be read, as if its disk was not there."""
    folder.rename(folder.with_name("away"))
    folder.write_text("not a folder")


def bring_back(folder: Path) -> None:
    folder.unlink()
    folder.with_name("away").rename(folder)


# --- Storage that cannot be read at the start --------------------------------------------


def test_node_that_cannot_be_read_at_the_start_is_down_and_loses_nothing(tmp_path):
    with open_manager(**options(tmp_path)) as store:
        write_all(store, "value")
    hide(tmp_path / "node-1")

    with open_manager(**options(tmp_path)) as store:
        info = store.node(1)
        assert info.status == DOWN
        assert "not a folder" in str(info.problem)
        assert kinds(store) == ["storage_failed"]
        read_all(store, "value")
        bring_back(tmp_path / "node-1")

        info = store.recover(1)

        assert (info.status, info.problem is not None) == (UP, True)
        assert copied(info) == 0
        for shard in store.cluster.shards.values():
            assert shard.in_sync == shard.sources == shard.replicas


def test_node_that_cannot_be_read_after_a_clean_end_keeps_its_place_in_sync(tmp_path):
    with open_manager(**options(tmp_path)) as store:
        write_all(store, "value")
    hide(tmp_path / "node-1")

    with open_manager(**options(tmp_path)) as store:
        for shard in store.cluster.shards_of(1):
            assert 1 in shard.in_sync, "it has all that was acknowledged"


def test_recovering_a_node_that_cannot_be_read_says_why_and_changes_nothing(tmp_path):
    with open_manager(**options(tmp_path)) as store:
        write_all(store, "value")
    hide(tmp_path / "node-1")
    with open_manager(**options(tmp_path)) as store:
        before = [shard.in_sync for shard in store.cluster.shards.values()]
        for accept_loss in (False, True):
            with pytest.raises(Unavailable, match=r"not a folder.*mend that") as told:
                store.recover(1, accept_loss=accept_loss)
            assert '"mode": "wipe"' in str(told.value)

        assert store.node(1).status == DOWN
        assert [shard.in_sync for shard in store.cluster.shards.values()] == before
        (tmp_path / "node-1").unlink()
        store.fail(1, "wipe")  # what it said that would help
        info = store.recover(1)
        assert (info.status, info.stale_keys) == (UP, 0)
        read_all(store, "value")


def test_writes_that_an_unreadable_node_missed_are_all_that_it_copies(tmp_path):
    with open_manager(**options(tmp_path, replication_factor=3)) as store:
        write_all(store, "old")
    hide(tmp_path / "node-1")
    with open_manager(**options(tmp_path, replication_factor=3)) as store:
        write_all(store, "new", KEYS[:7])
        bring_back(tmp_path / "node-1")

        info = store.recover(1)

        assert info.status == UP
        assert copied(info) == 7
        for other in (0, 2):
            store.fail(other)
        for key in KEYS:
            value = "new" if key in KEYS[:7] else "old"
            assert store.read(key).value == f"{value} of {key}"


def test_keys_whose_only_copy_cannot_be_read_are_unavailable_and_neither_lost_nor_stale(
    tmp_path,
):
    with open_manager(**options(tmp_path, nodes=4)) as store:
        write_all(store, "old")
        store.fail(0)
        write_all(store, "new")
        only_1 = [k for k in KEYS if set(store.locate(k).replica_set) == {0, 1}]
    assert only_1
    hide(tmp_path / "node-1")
    with open_manager(**options(tmp_path, nodes=4)) as store:
        assert store.recover(0).waiting_for == (1,)
        for key in KEYS:
            if key in only_1:
                with pytest.raises(Unavailable):
                    store.read(key)
                with pytest.raises(Unavailable):
                    store.write(key, "newer")
            else:
                assert store.read(key).value == f"new of {key}"
        bring_back(tmp_path / "node-1")

        store.recover(1)

        assert {node.status for node in store.nodes()} == {UP}
        read_all(store, "new")
        store.fail(1)
        read_all(store, "new")


def test_store_does_not_start_on_what_too_few_nodes_can_tell(tmp_path):
    with open_manager(**options(tmp_path)) as store:
        write_all(store, "value")
    for node in (0, 2):
        (tmp_path / f"node-{node}").rename(tmp_path / f"away-{node}")
        (tmp_path / f"node-{node}").write_text("not a folder")

    with pytest.raises(StorageUnreadable, match="too few nodes can be read"):
        open_manager(**options(tmp_path))

    for node in (0, 2):
        (tmp_path / f"node-{node}").unlink()
        (tmp_path / f"away-{node}").rename(tmp_path / f"node-{node}")
    with open_manager(**options(tmp_path)) as store:
        read_all(store, "value")


# --- Storage that is found damaged at the start ------------------------------------------


def test_node_with_a_damaged_file_copies_what_is_damaged_and_not_the_rest(tmp_path):
    with open_manager(**options(tmp_path)) as store:
        write_all(store, "value")
        held = store.node(1).keys
        damaged = next(k for k in KEYS if 1 in store.locate(k).replica_set)
    flip_in(tmp_path / "node-1" / FIRST, f'value of {damaged}"'.encode())

    with open_manager(**options(tmp_path)) as store:
        found = store.events()
        assert [event.kind for event in found] == [
            "damage_found",
            "storage_replaced",
            "node_recovered",
        ]
        assert found[-1].detail == "node 1 caught up (1 copied)"
        assert (store.node(1).status, store.node(1).keys) == (UP, held)
        read_all(store, "value")
        for other in (0, 2):
            store.fail(other)
        assert store.read(damaged).value == f"value of {damaged}"


def test_what_was_saved_of_damaged_files_is_not_taken_for_the_truth_unasked(tmp_path):
    with open_manager(**options(tmp_path, nodes=2)) as store:
        write_all(store, "value")
    for node in (0, 1):
        flip_in(tmp_path / f"node-{node}" / FIRST, f'value of {KEYS[node]}"'.encode())

    with open_manager(**options(tmp_path, nodes=2)) as store:
        for key in KEYS:
            with pytest.raises(Unavailable):
                store.read(key)
        assert "data_lost" in kinds(store)
        assert not store.is_ready()

        store.recover(0, accept_loss=True)  # it lacks KEYS[0], which node 1 has

        assert store.read(KEYS[2]).value == f"value of {KEYS[2]}"
        assert [node.status for node in store.nodes()] == [UP, UP]


# --- Storage that fails while it is used -------------------------------------------------


@pytest.fixture
def disk() -> Iterator[FaultyDisk]:
    with faulty_disk() as made:
        yield made


def store_on(storages: list[Storage]) -> ReplicationManager:
    """A store over these storages."""
    settings = Settings(
        storage="memory",
        nodes=len(storages),
        replication_factor=len(storages),
        maintenance_seconds=3_600,
        scrub_rows=0,
    )
    nodes = {n: ReplicaNode(n, storage) for n, storage in enumerate(storages)}
    view = restore_cluster(settings, nodes, HybridClock(lambda: 1_000, lambda: 0))
    made = ReplicationManager(settings, nodes, view, EventLog(lambda: 1_000))
    made.start()
    return made


@pytest.fixture
def store(disk, tmp_path) -> Iterator[ReplicationManager]:
    """A store whose node 1 is on the faulty disk."""
    storage = SqliteStorage(tmp_path / "node-1", vfs=disk.name)
    with store_on([MemoryStorage(), storage, MemoryStorage()]) as made:
        write_all(made, "old")
        yield made


def test_node_whose_flush_failed_is_down_until_it_is_recovered_and_then_has_it_all(
    disk, store
):
    disk.fail(failed_flush, 1, "flush")

    outcome = store.write(KEYS[0], "new")

    assert outcome.replicas == (0, 2)
    info = store.node(1)
    assert (info.status, info.problem is not None) == (DOWN, True)
    assert kinds(store) == ["storage_failed"]
    disk.fail_always(no_room, "write")
    with pytest.raises(Unavailable, match="still fails"):
        store.recover(1)
    disk.mend()
    info = store.recover(1)
    assert (info.status, copied(info)) == (UP, 1)
    for other in (0, 2):
        store.fail(other)
    assert store.read(KEYS[0]).value == "new"
    assert store.read(KEYS[1]).value == f"old of {KEYS[1]}"


def test_node_that_may_have_missed_a_write_is_not_read_from_and_not_taken_down(
    disk, store
):
    disk.fail(failed_write, 1, "write")

    outcome = store.write(KEYS[0], "new")

    assert (outcome.replicas, outcome.missed) == ((0, 2), (1,))
    assert store.node(1).status == RECOVERING
    assert "storage_failed" not in kinds(store)
    assert store.write(KEYS[1], "new").replicas == (0, 1, 2)
    store.maintain()
    assert store.node(1).status == UP
    for other in (0, 2):
        store.fail(other)
    assert store.read(KEYS[0]).value == "new"


def test_node_with_a_full_disk_goes_on_with_what_it_has(disk, store):
    disk.fail_always(no_room, "write")

    outcome = store.write(KEYS[0], "new")

    assert outcome.replicas == (0, 2)
    assert store.node(1).status != DOWN
    assert "disk is full" in str(store.node(1).problem)
    disk.mend()
    store.maintain()
    assert store.node(1).status == UP
    store.write(KEYS[1], "new")
    for other in (0, 2):
        store.fail(other)
    assert [store.read(key).value for key in KEYS[:2]] == ["new", "new"]


def test_wipe_whose_files_cannot_be_made_is_not_said_to_have_worked(disk, store):
    disk.fail_always(no_room, "write")

    with pytest.raises(Uncertain, match="cannot be made anew"):
        store.fail(1, "wipe")

    assert store.node(1).status == DOWN
    with pytest.raises(Unavailable):
        store.recover(1)
    disk.mend()
    info = store.recover(1)
    assert (info.status, info.stale_keys) == (UP, 0)
    assert copied(info) == len(KEYS)
    read_all(store, "old")


def test_node_that_failed_does_not_serve_what_it_missed_when_the_other_is_unreadable(
    disk, tmp_path
):
    node_0 = SqliteStorage(tmp_path / "node-0", vfs=disk.name)
    with store_on([node_0, SqliteStorage(tmp_path / "node-1")]) as store:
        write_all(store, "old")
        disk.fail(failed_flush, 1, "flush")
        write_all(store, "new")
        assert store.node(0).status == DOWN
    hide(tmp_path / "node-1")
    changes = {"nodes": 2, "replication_factor": 2, "placement": "ring"}

    with pytest.raises(StorageUnreadable):  # node 0 does not know what it missed
        open_manager(**options(tmp_path, **changes))

    bring_back(tmp_path / "node-1")
    with open_manager(**options(tmp_path, **changes)) as store:
        store.recover(0)
        read_all(store, "new")
        store.fail(1)
        read_all(store, "new")


def test_damage_found_by_scrubbing_is_told_and_costs_the_node_nothing(store):
    storage = store._nodes[1].storage
    assert isinstance(storage, SqliteStorage)
    alter(storage, "delete from records where key = ?", (KEYS[3],))
    for _ in KEYS:  # a row at a time
        store.scrub()

    [event] = store.events()
    assert (event.kind, event.node_id) == ("damage_found", 1)
    assert store.node(1).status == UP
    for other in (0, 2):
        store.fail(other)
    read_all(store, "old")


def test_damage_that_cannot_be_mended_takes_the_node_down_and_not_the_store(
    disk, store
):
    storage = store._nodes[1].storage
    assert isinstance(storage, SqliteStorage)
    alter(storage, "delete from records where key = ?", (KEYS[3],))
    disk.fail_always(no_room, "write")

    for _ in KEYS:  # a row at a time
        store.scrub()

    assert kinds(store) == ["storage_failed"]
    assert store.node(1).status == DOWN
    read_all(store, "old")
    disk.mend()
    assert store.recover(1).status == UP
