"""What tells of the cluster changes nothing of it, and is right when it is asked again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import msgspec
import pytest

from cluster import reports
from cluster.membership import Membership
from cluster.reports import Differences, stale_keys
from replication import ReplicationManager, open_manager
from storage.content import Content, differing_keys
from tests.scene import Scene, names
from tests.storage_case import record


@pytest.fixture
def scene() -> Scene:
    """Three nodes, of which node 2 was wiped."""
    scene = Scene()
    scene.write(*names(20))
    scene.run(scene.store.change.fail(2, "wipe"))  # and nobody asked about it yet
    return scene


def facts(cluster: Membership) -> object:
    """All that there is to know of a cluster."""
    shards = [
        (
            s.in_sync, s.members, s.sources, s.targets, s.writable, s.lost, s.changed,
            set(s.unchecked), set(s.dirty), set(s.unsettled),
            {n: k and set(k) for n, k in s.missed.items()},
        )
        for s in cluster.shards.values()
    ]  # fmt: skip
    return (
        cluster.epoch, cluster.fence, cluster.clean, cluster.revision,
        dict(cluster.status), dict(cluster.identity), dict(cluster.turned), shards,
    )  # fmt: skip


REPORTS: dict[str, Callable[[ReplicationManager], Any]] = {
    "nodes": lambda store: store.nodes(),
    "node": lambda store: store.node(2),
    "measures": lambda store: store.measures(),
    "shards": lambda store: store.shards(),
    "locate": lambda store: store.locate("k0001"),
    "events": lambda store: store.events(),
    "ready": lambda store: str(store.why_not_ready()),
    "revision": lambda store: store.revision,
    "scheme": lambda store: store.scheme,
    "keys": lambda store: store.keys(),
    "records": lambda store: msgspec.json.encode(store.records()),
}


@pytest.mark.parametrize("state", ["down", "recovering", "unknown", "lost"])
def test_reports_change_nothing_of_the_cluster(scene, state):
    if state == "recovering":
        scene.nodes[2].start()
        scene.view.set_status(2, "recovering")
    if state == "unknown":
        scene.kill()
    if state == "lost":
        for node in (0, 1):
            scene.run(scene.store.change.fail(node, "wipe"))
    asked = REPORTS.keys() - ({"keys", "records"} if state == "lost" else set())
    before = facts(scene.view)

    told = [{name: REPORTS[name](scene.store) for name in asked} for _ in range(2)]

    assert facts(scene.view) == before
    assert told[0] == told[1]


def test_write_that_is_acknowledged_during_the_comparison_is_counted(scene):
    compare = differing_keys
    new = iter(names(3, "new"))

    def interrupted(*copies: Any) -> set[str]:
        key = next(new, None)
        if key is not None:
            scene.write(key)
        found: set[str] = compare(*copies)
        key = next(new, None)
        if key is not None:
            scene.write(key)
        return found

    with patch.object(reports, "differing_keys", interrupted):
        scene.info(2)

    assert scene.info(2).stale_keys == 23
    scene.write("k0001", "later", value="changed")
    assert scene.info(2).stale_keys == 24


def test_wiped_node_is_not_said_to_lack_what_it_has_copied_meanwhile(scene):
    asked = []
    scene.view.copy_batch = 5

    def fate(node: int, message: object) -> None:
        asked.append((scene.info(2).keys, scene.info(2).stale_keys))

    scene.fate = fate
    scene.recover(2)

    assert len({keys for keys, _ in asked}) > 3
    assert all(keys + stale == 20 for keys, stale in asked)
    assert scene.info(2).stale_keys == 0


def test_asking_again_does_not_compare_again_what_has_not_changed(scene):
    compared: list[tuple[int, ...]] = []
    compare = differing_keys

    def counting(one: Content, other: Content, partitions: Any) -> set[str]:
        compared.append(tuple(partitions))
        found: set[str] = compare(one, other, partitions)
        return found

    scene.info(2)
    with patch.object(reports, "differing_keys", counting):
        scene.write("k0001", value="changed")
        scene.info(2)
        after_a_write = len(compared)
        for _ in range(5):
            assert scene.info(2).stale_keys == 20

    assert after_a_write == len(compared) == 1


def test_count_is_of_the_two_copies_that_were_asked_for():
    copies = {node: Content() for node in range(3)}
    copies[0].put_many([record("a", 1), record("b", 1)])
    copies[1].put_many([record("a", 2)])
    shard = next(iter(Scene(nodes=3).view.shards.values()))
    differences = Differences()

    def count(node: int, other: int) -> int:
        return differences.count(copies, node, shard, other)

    assert [count(2, 0), count(2, 1), count(2, 0), count(1, 0)] == [2, 1, 2, 2]
    copies[2] = copies[0]
    assert [count(2, 0), count(2, 1)] == [0, 2]


def test_note_is_believed_and_nothing_is_compared_where_there_is_one():
    scene = Scene()
    scene.store.fail(2)
    scene.write(*names(4))

    def compare(*_: Any) -> int:
        raise AssertionError("there is a note of it")

    assert stale_keys(scene.view, 2, compare) == 4


def test_node_that_is_asked_about_while_it_is_unknown_is_right_after_a_restart(
    tmp_path,
):
    options: dict[str, Any] = {
        "nodes": 3, "replication_factor": 3, "storage": "sqlite", "durability": "os",
        "data_dir": tmp_path, "maintenance_seconds": 3_600, "scrub_rows": 0,
    }  # fmt: skip
    with open_manager(**options) as store:
        store.write("a", 1)
        store.fail(2)
        store.write("a", 2)
    with open_manager(**options) as store:
        first = store.node(2).stale_keys
        store.write("b", 1)
        second = store.node(2).stale_keys

    assert (first, second) == (1, 2)
