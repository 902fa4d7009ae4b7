"""Requests that wait and are overtaken: they act on what they were asked of, or on nothing.

Each is stepped by hand, so that anything may happen between two of its steps.
"""

from __future__ import annotations

import shutil
from collections.abc import Generator
from typing import Any

import pytest

from cluster.listing import Listed, list_keys
from cluster.shard import DOWN, RECOVERING, UP
from models import (
    Answers,
    Ask,
    Barrier,
    Exclusive,
    Operation,
    SaveState,
    Scan,
    StoreError,
    Unavailable,
    Uncertain,
)
from replication import open_manager
from storage.base import StorageEnded
from tests.scene import LOST, Scene


@pytest.fixture
def scene() -> Scene:
    """Two nodes that both hold "k"."""
    scene = Scene(nodes=2, factor=2)
    scene.write("k", value="old")
    return scene


def answers_to(scene: Scene, need: Ask) -> Answers:
    """What the nodes answer just now."""
    return Answers({n: scene.nodes[n].handle(need.message) for n in need.targets})


def saving(operation: Operation[Any]) -> Ask:
    """The state record that an operation asks for first, and waits for."""
    need = next(operation)
    assert isinstance(need, Ask)
    assert isinstance(need.message, SaveState)
    return need


def waiting(operation: Operation[Any]) -> Generator[Any, Any, Any]:
    """What an operation is about to run alone, and waits to be let in for."""
    need = next(operation)
    assert isinstance(need, Exclusive)
    assert need.key is None
    return need.operation


def end(scene: Scene, operation: Operation[Any], need: Ask) -> None:
    """Let what was asked for be answered, and the operation end."""
    with pytest.raises(StopIteration):
        operation.send(answers_to(scene, need))


def kinds(scene: Scene) -> list[str]:
    return [event.kind for event in scene.store.events()]


# --- A wipe ------------------------------------------------------------------------------


def last_copy_at_1(scene: Scene) -> None:
    """Node 1 comes back, alone takes what is written, and is failed by somebody else."""
    scene.store.recover(1)
    scene.store.fail(0)
    scene.write("k", value="new")
    scene.store.fail(1)


def test_acknowledged_write_is_not_wiped_by_who_asked_before_it_was_made(scene):
    wipe = scene.store.change.fail(1, "wipe")
    need = saving(wipe)
    last_copy_at_1(scene)

    with pytest.raises(Unavailable, match="recovered meanwhile") as told:
        wipe.send(answers_to(scene, need))

    assert told.value.definite
    assert scene.status(1) == DOWN
    scene.store.recover(1)
    assert scene.store.read("k").value == "new"
    assert "data_lost" not in kinds(scene)


def test_node_that_is_up_again_is_not_wiped_and_that_is_not_called_a_wipe(scene):
    wipe = scene.store.change.fail(1, "wipe")
    need = saving(wipe)
    scene.store.recover(1)
    identity = scene.storages[1].identity

    with pytest.raises(Unavailable, match="its storage stays"):
        wipe.send(answers_to(scene, need))

    assert (scene.status(1), scene.storages[1].identity) == (UP, identity)
    scene.check_equal(keys=1)


def test_copy_that_was_taken_for_the_truth_is_not_wiped_by_an_earlier_request(scene):
    scene.store.fail(0, "wipe")
    wipe = scene.store.change.fail(1, "wipe")
    need = saving(wipe)
    scene.store.recover(1, accept_loss=True)
    scene.store.fail(1)

    with pytest.raises(Unavailable):
        wipe.send(answers_to(scene, need))

    scene.store.recover(1)
    assert scene.store.read("k").value == "old"


def test_wipe_that_was_overtaken_can_be_asked_for_again(scene):
    overtaken = scene.store.change.fail(1, "wipe")
    need = saving(overtaken)
    scene.store.recover(1)
    with pytest.raises(Unavailable):
        overtaken.send(answers_to(scene, need))

    scene.store.fail(1, "wipe")

    assert scene.storages[1].get("k") is None
    assert scene.recover(1).copied == 1
    scene.check_equal(keys=1)


@pytest.mark.parametrize("second", ["stop", "wipe"])
def test_wipe_is_done_though_somebody_else_fails_the_node_once_more(scene, second):
    wipe = scene.store.change.fail(1, "wipe")
    need = saving(wipe)
    scene.store.fail(1, second)

    end(scene, wipe, need)

    assert scene.storages[1].get("k") is None
    assert scene.recover(1).copied == 1


def test_kill_before_the_wipe_leaves_a_copy_that_counts_as_lost(scene):
    scene.store.fail(0)
    scene.write("k", value="new")  # by node 1 alone
    wipe = scene.store.change.fail(1, "wipe")
    need = saving(wipe)
    answers_to(scene, need)
    scene.arrive()  # it is durable

    scene.kill()

    assert scene.view.shard("k").lost
    scene.store.recover(0)
    scene.store.recover(1)
    with pytest.raises(Unavailable, match="accept_loss"):
        scene.store.read("k")


def test_files_that_were_to_be_wiped_count_as_lost_when_the_process_is_killed(tmp_path):
    folder, killed = tmp_path / "data", tmp_path / "killed"
    options: dict[str, Any] = {
        "nodes": 2, "replication_factor": 2, "storage": "sqlite", "durability": "os",
        "maintenance_seconds": 3_600, "scrub_rows": 0,
    }  # fmt: skip
    with open_manager(data_dir=folder, **options) as store:
        store.write("k", "value")
        wipe = store.change.fail(1, "wipe")
        need: Any = next(wipe)
        store._driver.run(asking(need))
        shutil.copytree(folder, killed)
        wipe.close()

    with open_manager(data_dir=killed, **options) as store:
        assert [event.kind for event in store.events()] == ["storage_replaced"]
        assert store.node(1).status == DOWN
        assert {shard.in_sync for shard in store.cluster.shards.values()} == {(0,)}
        assert store.recover(1).status == UP
        store.fail(0)
        assert store.read("k").value == "value"


def asking(need: Ask) -> Operation[Answers]:
    answers: Answers = yield need
    return answers


def test_wipe_does_not_take_what_alone_tells_that_the_other_copy_is_old(scene):
    scene.fate = lambda node, message: LOST if node == 0 else None
    scene.crash(0)
    scene.write("k", value="new")  # node 0 never hears that it is out of sync

    with pytest.raises(Uncertain, match="nothing is wiped"):
        scene.store.fail(1, "wipe")

    scene.kill()
    scene.fate = lambda node, message: None
    for node in (0, 1):
        scene.store.recover(node)
    with pytest.raises(Unavailable):  # the node that had it was given up
        scene.store.read("k")


def test_wipe_is_done_where_a_failed_node_remembers_it(scene):
    scene.store.fail(0)
    scene.write("k", value="new")

    scene.store.fail(1, "wipe")

    assert scene.storages[1].get("k") is None
    scene.kill()
    assert scene.view.shard("k").lost


def test_only_node_can_be_wiped_though_nobody_else_remembers_it():
    scene = Scene(nodes=1, factor=1)
    scene.write("k")

    scene.store.fail(0, "wipe")

    assert scene.storages[0].get("k") is None


def test_wipe_that_was_refused_is_not_waited_for_by_what_is_saved_later(scene):
    scene.fate = lambda node, message: LOST if node == 0 else None
    scene.crash(0)
    with pytest.raises(Uncertain):
        scene.store.fail(1, "wipe")

    scene.store.recover(1)  # saved at node 1 alone, as before

    assert not +scene.view.wipes
    assert scene.view.unsaved() is None


# --- A failure ---------------------------------------------------------------------------


def test_failure_is_not_told_as_remembered_because_the_node_was_down_already(scene):
    scene.crash(1)
    assert scene.view.unsaved() is not None

    scene.store.fail(1)

    assert scene.view.unsaved() is None
    scene.kill()
    assert scene.status(1) == DOWN


def test_loss_is_told_though_nobody_remembers_the_failure(scene):
    scene.store.fail(0)
    scene.write("k", value="new")
    scene.fate = lambda node, message: LOST if isinstance(message, SaveState) else None

    with pytest.raises(Uncertain):
        scene.store.fail(1, "wipe")

    assert kinds(scene)[-2:] == ["node_failed", "data_lost"]
    assert scene.storages[1].get("k") is not None  # nothing is wiped unremembered


def late_failure(scene: Scene) -> StorageEnded:
    """Node 1's storage fails, is mended and used again; what is told of it too late."""
    storage = scene.storages[1]
    storage.problem = "its disk failed"
    error = StorageEnded(storage.problem)
    scene.store.change.storage_failed(1, error)
    scene.store.recover(1)
    return error


def test_node_is_not_taken_down_by_a_failure_of_storage_that_was_mended_since(scene):
    error = late_failure(scene)

    scene.store.change.storage_failed(1, error)

    assert scene.status(1) == UP
    assert kinds(scene).count("storage_failed") == 1


def test_node_that_was_mended_is_taken_down_when_its_storage_fails_once_more(scene):
    late_failure(scene)
    scene.storages[1].problem = "its disk failed again"

    scene.store.change.storage_failed(1, StorageEnded("its disk failed again"))

    assert scene.status(1) == DOWN


# --- A recovery --------------------------------------------------------------------------


@pytest.mark.parametrize("state", [UP, DOWN])
def test_node_that_was_failed_after_its_recovery_was_asked_for_stays_down(scene, state):
    if state == DOWN:
        scene.store.fail(1)
    recovery = scene.store.change.recover(1)
    alone = waiting(recovery)
    scene.store.recover(1)
    scene.store.fail(1)

    with pytest.raises(Unavailable, match="went down after that was asked for"):
        scene.run(alone)

    assert scene.status(1) == DOWN
    scene.recover(1)


def test_recovery_of_a_node_that_somebody_else_recovered_is_no_error(scene):
    scene.store.fail(1)
    recovery = scene.store.change.recover(1)
    alone = waiting(recovery)
    scene.store.recover(1)

    outcome = scene.run(alone)

    assert outcome.copied == 0
    assert scene.status(1) == UP


def losing(scene: Scene) -> None:
    """Node 0 alone takes a write, and is wiped."""
    scene.write("k", value="new")
    scene.store.fail(0, "wipe")


def test_loss_that_came_after_the_request_is_not_accepted_with_it(scene):
    scene.store.fail(1)
    alone = waiting(scene.store.change.recover(1, accept_loss=True))
    losing(scene)

    scene.run(alone)

    assert scene.status(1) == RECOVERING
    with pytest.raises(Unavailable, match="accept_loss"):
        scene.store.read("k")
    assert "loss_accepted" not in kinds(scene)
    scene.store.recover(1, accept_loss=True)  # now it is known what is given up
    assert scene.store.read("k").value == "old"


def test_second_loss_is_not_accepted_by_who_was_told_of_the_first(scene):
    scene.store.fail(1)
    losing(scene)
    alone = waiting(scene.store.change.recover(1, accept_loss=True))
    scene.store.recover(0, accept_loss=True)  # empty: somebody else decides so
    losing(scene)

    scene.run(alone)

    assert scene.view.shard("k").lost
    assert kinds(scene).count("loss_accepted") == 1


@pytest.mark.parametrize("mode", ["stop", "wipe"])
def test_copy_of_a_node_that_went_down_again_is_not_taken_for_the_truth(scene, mode):
    scene.store.fail(1)
    losing(scene)
    alone = waiting(scene.store.change.recover(1, accept_loss=True))
    assert isinstance(next(alone), Barrier)
    scene.store.fail(1, mode)

    with pytest.raises(Unavailable, match="nothing is given up"):
        alone.send(None)

    assert scene.view.shard("k").lost
    assert "loss_accepted" not in kinds(scene)


def test_member_does_not_leave_the_set_for_one_that_it_could_not_be_compared_with(
    scene,
):
    scene.kill()
    shard = scene.view.shard("k")
    shard.unchecked = {0, 1}
    scene.view.set_status(0, DOWN)

    scene.view.evict_uncompared(shard, [0])

    assert shard.in_sync == (0, 1)


# --- The end -----------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["recover", "maintain", "fail"])
def test_nothing_is_begun_once_the_process_has_ended(scene, what):
    change = scene.store.change
    scene.store.fail(1)
    waits = {
        "recover": change.recover(1),
        "maintain": change.maintain(0),
        "fail": change.fail(0, "wipe"),
    }[what]
    alone = waiting(waits) if what != "fail" else waits
    scene.run(change.stop())
    record = scene.view.unsaved()

    with pytest.raises(Unavailable, match="closed"):
        scene.run(alone)

    assert scene.view.unsaved() == record is None
    assert scene.storages[0].get("k") is not None
    with pytest.raises(StoreError):
        scene.write("k")


def test_storage_that_is_let_go_of_is_not_wiped(scene):
    wipe = scene.store.change.fail(1, "wipe")
    need = saving(wipe)
    scene.run(scene.store.change.stop())

    with pytest.raises(Uncertain, match="counts as lost"):
        wipe.send(answers_to(scene, need))

    assert scene.storages[1].get("k") is not None
    scene.boot()
    assert scene.view.shard("k").in_sync == (0,)
    assert scene.status(1) == DOWN


# --- A page ------------------------------------------------------------------------------


def test_page_does_not_lack_what_a_node_lacked_while_it_was_filled_again(scene):
    protocol = scene.store.protocol
    listing = list_keys(
        scene.view,
        lambda key: protocol.settle(scene.view, key),
        lambda key: protocol.expire(scene.view, key),
        Listed(limit=10),
    )
    need: Any = next(listing)
    assert isinstance(need.message, Scan)
    scene.store.fail(1, "wipe")
    scene.nodes[1].start()
    empty = scene.nodes[1].handle(need.message)
    scene.nodes[1].stop()
    scene.store.recover(1)

    with pytest.raises(Unavailable):  # node 0 did not answer
        listing.send(Answers({1: empty}, silent=(0,)))

    assert empty == []
    assert scene.view.shard("k").sources == (0, 1)
