"""Bringing copies together again: what it costs, and what may go wrong on the way.

The cluster is a simulated one, with the fate of every message in the hands of the test:
it may be lost, or arrive without anybody hearing of it, or be the moment at which
something else breaks.
"""

from collections.abc import Callable
from typing import Any

import pytest

from cluster.membership import COPY_BATCH as BATCH
from cluster.shard import DOWN, RECOVERING, UP
from models import (
    BucketDigests,
    Digests,
    Fetch,
    Get,
    Intent,
    KeyNotFound,
    Message,
    NodeInfo,
    Purge,
    Put,
    Recovery,
    Refused,
    Tombstones,
    Unavailable,
    Uncertain,
    Versions,
    key_token,
)
from replication import ReplicaNode
from storage.content import BUCKET_SHIFT
from tests.scene import LOST, UNHEARD, Scene, at, names

# --- What a recovery costs ---------------------------------------------------------------


NEIGHBOURS = ["k379", "k653", "k2673"]  # in one bucket
NEAR = ["k273", "k331", "k645", "k809"]  # in one partition, each in another bucket


def bucket_of(key: str) -> int:
    return key_token(key) >> BUCKET_SHIFT


def recovery_of_a_few_changes(keys: int) -> tuple[Scene, Recovery]:
    scene = Scene()
    scene.write(*names(keys), *NEIGHBOURS)
    scene.store.fail(2)
    scene.write(*names(10), value="changed")
    scene.write(*names(5, "new"))
    scene.write(NEIGHBOURS[0], value="changed")
    for key in names(20)[15:]:
        scene.store.delete(key)
    scene.sent.clear()
    return scene, scene.recover(2)


def test_recovery_does_not_copy_what_the_node_has():
    scene, recovery = recovery_of_a_few_changes(keys=500)

    put = [r for node, m in scene.messages(Put) if node == 2 for r in m.records]
    missed = {*names(10), *names(5, "new"), *names(20)[15:], NEIGHBOURS[0]}
    assert {record.key for record in put} == missed
    assert len(put) == recovery.copied == 21
    assert recovery.removed == 5
    assert recovery.bytes == sum(record.size_bytes for record in put)
    assert scene.info(2).stale_keys == 0
    scene.check_equal(keys=503)


def test_comparison_does_not_ask_for_keys_of_buckets_that_agree():
    scene = Scene()
    scene.write(*names(500), *NEIGHBOURS, *NEAR)
    scene.store.fail(2)
    changed = [NEIGHBOURS[0], NEAR[0], *names(20)]
    scene.write(*changed, value="changed")
    scene.kill()  # what node 2 missed has to be found out
    scene.sent.clear()

    assert scene.recover(2).copied == 22

    listed = {bucket for _, m in scene.messages(Versions) for bucket in m.buckets}
    assert listed == {bucket_of(key) for key in changed}
    assert scene.messages(Get) == []  # equal neighbours need no second look
    assert [len({*map(bucket_of, keys)}) for keys in (NEIGHBOURS, NEAR)] == [1, 4]
    scene.check_equal(keys=507)


def test_cost_of_a_recovery_does_not_grow_with_what_is_stored():
    (small, _), (large, _) = map(recovery_of_a_few_changes, (50, 500))

    kinds = (Put, Fetch, Digests, BucketDigests, Versions)
    counts = [
        {kind: len(scene.messages(kind)) for kind in kinds} for scene in (small, large)
    ]
    assert counts[0] == counts[1]
    assert sum(counts[0].values()) <= 16


@pytest.mark.parametrize("mode", ["stop", "crash"])
def test_node_that_missed_nothing_does_not_copy_or_wait(mode):
    scene = Scene()
    scene.write(*names(50))
    if mode == "stop":
        scene.store.fail(2)
    else:
        scene.crash(2)
    scene.sent.clear()

    assert scene.recover(2).copied == 0

    assert scene.messages(Put, Fetch, Versions, BucketDigests) == []
    scene.check_equal(keys=50)


def test_node_whose_answer_was_lost_is_not_said_to_copy_what_it_has():
    scene = Scene()
    scene.fate = lambda node, m: UNHEARD if node == 2 and isinstance(m, Put) else None
    scene.write(*names(5))
    scene.fate = lambda node, message: None
    out_of_sync = scene.status(2)

    recovery = scene.recover(2)

    assert out_of_sync == RECOVERING
    assert (recovery.copied, recovery.bytes) == (0, 0)
    scene.check_equal(keys=5)


def test_wiped_node_is_not_up_before_it_has_everything_again():
    scene = Scene()
    scene.write(*names(2 * BATCH + 1))
    scene.store.delete("k0000")
    scene.store.fail(2, "wipe")
    lacking = scene.info(2)

    recovery = scene.recover(2)

    assert (lacking.keys, lacking.stale_keys) == (0, 2 * BATCH + 1)
    assert recovery.copied == 2 * BATCH + 1
    assert recovery.removed == 0  # it had nothing that could have been deleted
    scene.check_equal(keys=2 * BATCH)


# --- What dies on the way ----------------------------------------------------------------


def half_way(scene: Scene, kind: type, node: int, work: Callable[[], Any]) -> NodeInfo:
    """Recover node 1, which lacks three batches; break something at the second."""
    scene.store.fail(1)
    scene.write(*names(2 * BATCH + 10))
    scene.fate = at(2, kind, node, work)
    info = scene.store.recover(1)
    scene.fate = lambda node, message: None
    return info


def test_source_that_dies_half_way_is_replaced_by_another():
    scene = Scene()

    info = half_way(scene, Fetch, 0, lambda: scene.crash(0))

    assert (info.status, info.stale_keys) == (UP, 0)
    assert scene.status(0) == DOWN
    fetched = [m.keys for node, m in scene.messages(Fetch) if node in (0, 2)]
    assert sum(map(len, fetched)) <= 2 * BATCH + 10 + BATCH  # it did not begin anew
    scene.store.recover(0)
    scene.check_equal(keys=2 * BATCH + 10)


def test_node_is_not_up_half_filled_when_its_only_source_dies():
    scene = Scene(nodes=2, factor=2)

    info = half_way(scene, Fetch, 0, lambda: scene.crash(0))

    assert (info.status, info.waiting_for) == (RECOVERING, (0,))
    assert info.keys is not None
    assert 0 < info.keys < 2 * BATCH + 10
    assert info.stale_keys == 2 * BATCH + 10 - info.keys
    for key in names(2 * BATCH + 10):
        with pytest.raises(Unavailable):  # neither "not found" nor a value
            scene.store.read(key)
    with pytest.raises(Unavailable):
        scene.write("new")
    assert [e.kind for e in scene.store.events()][-1] == "waiting"

    scene.store.recover(0)  # nobody asks for node 1: it goes on by itself

    scene.check_equal(keys=2 * BATCH + 10)
    put = [r for node, m in scene.messages(Put) if node == 1 for r in m.records]
    assert len(put) == 2 * BATCH + 10  # what had been copied was not copied again


def test_node_that_dies_again_half_way_does_not_lose_what_it_copied():
    scene = Scene()

    info = half_way(scene, Put, 1, lambda: scene.crash(1))
    again = scene.recover(1)

    assert (info.status, info.keys) == (DOWN, BATCH)
    assert again.copied == BATCH + 10
    scene.check_equal(keys=2 * BATCH + 10)


@pytest.mark.parametrize("kind", [Digests, BucketDigests, Versions, Fetch, Put])
def test_one_lost_message_of_a_recovery_does_not_leave_a_node_up_with_a_gap(kind):
    scene = Scene()
    scene.store.fail(1)
    scene.write(*names(20))
    for shard in scene.view.shards_of(1):  # as after a restart: found by digests alone
        shard.missed[1] = None
    lost = iter([LOST])
    scene.fate = lambda node, m: next(lost, None) if isinstance(m, kind) else None

    first = scene.store.recover(1)
    caught_up = first.stale_keys == 0
    scene.maintain(before_ms=0)

    assert (first.status == UP) == caught_up
    assert next(lost, None) is None  # the message was lost indeed
    scene.check_equal(keys=20)


def test_node_that_catches_up_behind_another_one_waits_for_the_one_that_knows():
    scene = Scene()
    for node, key in ((0, "one"), (1, "two")):
        scene.write(f"before {key}")
        scene.store.fail(node)
    scene.write("known to 2 alone")
    scene.store.fail(2)

    waiting = [scene.store.recover(node).waiting_for for node in (0, 1)]
    with pytest.raises(Unavailable):
        scene.store.read("before one")
    scene.store.recover(2)

    assert waiting == [(2,), (2,)]
    scene.check_equal(keys=3)
    assert scene.info(0).waiting_for == ()


def test_node_does_not_wait_for_a_down_node_where_another_one_has_the_same():
    scene = Scene(nodes=4, factor=3)
    by_shard = {scene.view.shard(key).replicas: key for key in names(100)}
    only_2_knows, more_know = by_shard[1, 2, 3], by_shard[0, 1, 3]
    scene.store.fail(1)
    scene.write(only_2_knows, more_know)
    scene.store.fail(3)
    scene.write(only_2_knows, value="changed")
    scene.store.fail(2)

    info = scene.store.recover(1)

    assert (info.status, info.waiting_for) == (RECOVERING, (2,))
    assert scene.view.shard(more_know).in_sync == (0, 1, 3)
    assert scene.store.read(more_know).value == "v"


def test_kill_at_any_step_of_a_recovery_leaves_a_state_it_can_go_on_from():
    for steps in range(200):
        scene = Scene(nodes=2, factor=2)
        scene.write(*names(30))
        scene.store.fail(1)
        scene.write(*names(20), value="changed")
        ended: list[Any] = []
        scene.spawn(scene.store.change.recover(1), done=ended.append)
        for _ in range(steps):
            if scene.ready:
                scene.tick()
        was_over = bool(ended)

        scene.kill()

        if scene.status(1) == DOWN:  # that it came back was not saved yet
            scene.store.recover(1)
        scene.check_equal(keys=30)
        assert scene.values("k0000") == {b'"changed"'}
        if was_over:
            assert steps > 10  # or there was nothing to interrupt
            return
    pytest.fail("the recovery never ended")


# --- Writes during a recovery ------------------------------------------------------------


def write_operation(scene: Scene, key: str) -> Any:
    intent = Intent(key, b'"during"', level="linearizable")
    return scene.store.protocol.write(scene.view, intent)


@pytest.mark.parametrize("missed", [False, True])
def test_write_during_the_copy_is_not_missing_when_the_node_is_up(missed):
    scene = Scene()
    keys = names(5, "during")
    outcomes: list[Any] = []

    def write() -> None:
        for key in keys:
            scene.spawn(write_operation(scene, key), key, outcomes.append)

    begin = at(2, Fetch, 0, write)

    def fate(node: int, message: Message) -> str | None:
        begin(node, message)
        if not missed or node != 1 or not isinstance(message, Put):
            return None
        return LOST if len(message.records) == 1 else None  # not what is copied

    scene.store.fail(1)
    scene.write(*names(2 * BATCH + 10))
    scene.fate = fate
    scene.store.recover(1)
    scene.drain()

    assert [outcome.missed for outcome in outcomes] == [(1,) if missed else ()] * 5
    scene.maintain(before_ms=0)
    scene.check_equal(keys=2 * BATCH + 15)


def test_write_that_only_the_returning_node_took_does_not_come_back_after_it_was_gone():
    scene = Scene(nodes=2, factor=2)
    scene.fate = lambda node, m: (LOST, UNHEARD)[node] if isinstance(m, Put) else None
    with pytest.raises(Uncertain):
        scene.write("k")
    scene.fate = lambda node, message: None
    held = scene.held("k")
    scene.store.fail(1)
    with pytest.raises(KeyNotFound):
        scene.store.read("k")

    scene.store.recover(1)

    assert [record is None for record in held] == [True, False]
    with pytest.raises(KeyNotFound):
        scene.store.read("k")
    assert scene.values("k") == {None}
    scene.check_equal(keys=0)


def test_node_that_could_not_be_compared_is_not_said_to_lack_nothing():
    scene = Scene(nodes=2, factor=2)
    scene.write("k", "other", value="old")
    scene.fate = lambda node, m: LOST if isinstance(m, Put) and node == 1 else None
    scene.spawn(write_operation(scene, "k"), "k")
    scene.arrive()
    scene.fate = lambda node, m: LOST if isinstance(m, Digests) else None

    scene.kill()

    assert scene.store.read("k").value == "during"
    assert scene.view.shard("k").in_sync == (0,)
    assert scene.info(1).stale_keys == 1


def test_newer_write_that_only_the_returning_node_has_does_not_stay_there_alone():
    scene = Scene(nodes=2, factor=2)
    scene.write("k", value="old")
    scene.fate = lambda node, m: (LOST, UNHEARD)[node] if isinstance(m, Put) else None
    with pytest.raises(Uncertain):
        scene.write("k", value="unknown")
    scene.fate = lambda node, message: None
    scene.store.fail(1)
    scene.kill()  # that the key is unsettled is forgotten
    scene.write("other")  # node 1 is out of sync from here on
    assert scene.store.read("k").value == "old"

    scene.store.recover(1)

    assert scene.values("k") == {b'"old"'}
    scene.check_equal(keys=2)


def test_replicas_that_a_kill_left_different_do_not_answer_differently():
    scene = Scene()
    scene.write("k", value="old")
    scene.fate = lambda node, m: LOST if isinstance(m, Put) and node != 1 else None
    scene.spawn(write_operation(scene, "k"), "k")
    scene.arrive()  # what came back is never heard of
    scene.fate = lambda node, message: None
    before = scene.values("k")

    scene.kill()

    assert before == {b'"old"', b'"during"'}
    assert len(scene.values("k")) == 1
    scene.check_equal(keys=1)


# --- Tombstones --------------------------------------------------------------------------


def scene_with_a_tombstone() -> Scene:
    scene = Scene()
    scene.write("k", "other")
    scene.store.delete("k")
    return scene


def test_tombstone_that_everybody_has_is_not_kept_for_ever():
    scene = scene_with_a_tombstone()

    scene.maintain()

    assert scene.held("k") == [None, None, None]
    scene.check_equal(keys=1)
    assert [e.kind for e in scene.store.events()][-1] == "purged"


def test_tombstone_younger_than_the_grace_is_not_purged():
    scene = scene_with_a_tombstone()
    [version] = {record.version for record in scene.held("k") if record}

    scene.maintain(before_ms=version.ms)
    kept = scene.values("k"), None not in scene.held("k")
    scene.maintain(before_ms=version.ms + 1)

    assert kept == ({None}, True)
    assert scene.held("k") == [None, None, None]


@pytest.mark.parametrize(
    "reason", ["down", "wiped", "recovering", "silent", "unsettled"]
)
def test_tombstone_is_not_purged_while_a_replica_may_still_need_it(reason):
    scene = scene_with_a_tombstone()
    if reason == "down":
        scene.store.fail(2)
    elif reason == "wiped":
        scene.store.fail(2, "wipe")
    elif reason == "recovering":
        scene.store.fail(2)
        scene.write("other", value="changed")
        scene.fate = lambda node, m: LOST if isinstance(m, Digests) else None
        assert scene.store.recover(2).status == RECOVERING
    elif reason == "silent":
        scene.fate = lambda node, m: (
            LOST if node == 2 and isinstance(m, Tombstones) else None
        )
    else:
        scene.fate = lambda node, m: LOST if isinstance(m, Put | Get) else None
        scene.view.shard("k").unsettled.add("k")

    scene.maintain()

    assert scene.messages(Purge) == []
    assert all(scene.storages[node].get("k") for node in (0, 1))
    scene.fate = lambda node, message: None
    scene.store.recover(2)
    scene.maintain()
    assert scene.held("k") == [None, None, None]


def test_replica_that_missed_the_purge_does_not_stay_different():
    scene = scene_with_a_tombstone()
    scene.fate = lambda node, m: LOST if node == 2 and isinstance(m, Purge) else None
    scene.maintain()
    half_purged = [record is None for record in scene.held("k")]
    scene.fate = lambda node, message: None

    scene.maintain()
    scene.maintain()

    assert half_purged == [True, True, False]
    assert scene.held("k") == [None, None, None]
    scene.check_equal(keys=1)


def test_node_that_slept_through_delete_and_purge_does_not_bring_the_value_back():
    scene = Scene()
    scene.write("k", "other")
    scene.store.fail(2)
    scene.store.delete("k")
    scene.maintain()  # must keep the tombstone: node 2 has the value
    kept = [record is not None for record in scene.held("k")]

    recovery = scene.recover(2)
    scene.maintain()

    assert kept == [True, True, True]
    assert recovery.removed == 1
    assert scene.held("k") == [None, None, None]
    with pytest.raises(KeyNotFound):
        scene.store.read("k")


def deliver_everywhere(scene: Scene, messages: list[Message]) -> list[str]:
    """Old messages come late, at every node; who took one."""
    taken = []
    for node in scene.nodes.values():
        for message in messages:
            try:
                node.handle(message)
            except Refused:
                continue
            taken.append(f"node {node.node_id} took {message}")
    return taken


@pytest.mark.parametrize("then", ["at once", "killed", "wiped", "wiped and killed"])
def test_late_put_of_an_old_epoch_does_not_bring_back_a_purged_key(then):
    scene = Scene()
    scene.write("k")
    old = [message for _, message in scene.messages(Put)]
    scene.store.delete("k")
    scene.maintain()
    purged = scene.held("k")

    if "wiped" in then:
        scene.store.fail(1, "wipe")
        scene.store.recover(1)
    if "killed" in then:
        scene.kill()

    assert old
    assert purged == [None, None, None]
    assert deliver_everywhere(scene, old) == []
    assert scene.held("k") == [None, None, None]
    with pytest.raises(KeyNotFound):
        scene.store.read("k")


def test_late_put_from_before_a_kill_is_not_taken_by_the_next_process():
    scene = Scene()
    scene.write("k", value="old")
    old = [message for _, message in scene.messages(Put)]

    scene.kill()

    assert deliver_everywhere(scene, old) == []


def test_fence_is_kept_by_the_node_before_the_next_process_has_said_a_word():
    scene = Scene()
    scene.write("k")
    [old, *_] = [message for _, message in scene.messages(Put)]
    scene.store.delete("k")
    scene.maintain()

    node = ReplicaNode(0, scene.storages[0])

    with pytest.raises(Refused, match="old epoch"):
        node.handle(old)
    assert scene.storages[0].get("k") is None


# --- Expiry ------------------------------------------------------------------------------


def restart_with_the_clock_set_back(scene: Scene) -> None:
    scene.move_clock(-3_600_000)
    scene.kill()


@pytest.mark.parametrize("told", ["maintain", "read", "list"])
def test_expired_key_does_not_come_back_when_the_clock_is_set_back(told):
    scene = Scene()
    scene.move_clock(7_200_000)
    scene.write("k", ttl=10)
    scene.write("lasting", ttl=100_000)
    scene.pass_time(11_000)

    if told == "maintain":
        scene.maintain(before_ms=0)
    elif told == "read":
        with pytest.raises(KeyNotFound):
            scene.store.read("k")
    else:
        assert [key.key for key in scene.store.keys().keys] == ["lasting"]
    buried = scene.held("k")
    restart_with_the_clock_set_back(scene)

    assert all(record and record.value is None for record in buried)
    with pytest.raises(KeyNotFound):
        scene.store.read("k")
    assert [key.key for key in scene.store.keys().keys] == ["lasting"]
    assert scene.store.read("lasting").value == "v"


def test_key_is_not_buried_before_its_time():
    scene = Scene()
    scene.write("k", ttl=10)
    scene.pass_time(9_000)

    scene.maintain(before_ms=0)

    assert scene.store.read("k").value == "v"
    assert scene.values("k") == {b'"v"'}


def test_node_that_was_down_when_a_key_expired_does_not_bring_it_back():
    scene = Scene()
    scene.write("k", ttl=10)
    scene.store.fail(2)
    scene.pass_time(11_000)
    scene.maintain(before_ms=0)

    recovery = scene.recover(2)

    assert recovery.removed == 1
    assert scene.values("k") == {None}
    restart_with_the_clock_set_back(scene)
    with pytest.raises(KeyNotFound):
        scene.store.read("k")


def test_expired_key_of_a_shard_that_is_down_is_buried_later():
    scene = Scene(nodes=2, factor=2)
    scene.write("k", ttl=10)
    scene.store.fail(1)
    scene.write("seen by 0 alone")
    scene.store.fail(0)
    scene.store.recover(1)
    scene.pass_time(11_000)
    scene.maintain()  # node 1 must not bury what node 0 may have newer

    kept = scene.storages[1].get("k")
    scene.store.recover(0)
    scene.maintain(before_ms=0)

    assert kept is not None
    assert kept.value == b'"v"'
    assert scene.values("k") == {None}


# --- Accepting a loss --------------------------------------------------------------------


def scene_with_a_loss() -> Scene:
    """Node 1 has "k" as it was; node 0 had it as it is now, and is wiped."""
    scene = Scene(nodes=2, factor=2)
    scene.write("k", value="old")
    scene.store.fail(1)
    scene.write("k", "later", value="new")
    scene.store.fail(0, "wipe")
    return scene


def test_old_copy_is_not_taken_for_the_truth_unless_somebody_says_so():
    scene = scene_with_a_loss()

    statuses = [scene.store.recover(node).status for node in (0, 1)]
    scene.maintain()

    assert statuses == [RECOVERING, RECOVERING]
    for key in ("k", "later"):
        with pytest.raises(Unavailable, match="accept_loss"):
            scene.store.read(key)
    with pytest.raises(Unavailable):
        scene.write("k")
    assert not scene.store.is_ready()


def test_accepted_loss_leaves_one_truth_everywhere():
    scene = scene_with_a_loss()
    scene.store.recover(0)
    scene.store.recover(1)

    scene.recover(1, accept_loss=True)

    assert scene.store.read("k").value == "old"
    with pytest.raises(KeyNotFound):
        scene.store.read("later")
    scene.check_equal(keys=1)
    kinds = [event.kind for event in scene.store.events()]
    assert kinds.index("data_lost") < kinds.index("loss_accepted")
    scene.write("k", value="newer")
    scene.kill()
    assert scene.store.read("k").value == "newer"


def test_loss_is_not_forgotten_at_a_restart():
    scene = scene_with_a_loss()

    scene.kill()
    scene.store.recover(0)
    scene.store.recover(1)

    with pytest.raises(Unavailable, match="accept_loss"):
        scene.store.read("k")


def test_accepting_a_loss_where_there_was_none_costs_nothing():
    scene = Scene(nodes=2, factor=2)
    scene.write("k", value="old")
    scene.store.fail(1)
    scene.write("k", value="new")

    assert scene.recover(1, accept_loss=True).copied == 1

    assert scene.store.read("k").value == "new"
    assert "loss_accepted" not in [event.kind for event in scene.store.events()]
