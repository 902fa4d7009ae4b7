"""Lost data beside copies that are only down: who waits for whom, and who in vain."""

import pytest

from models import Condition, DataLost, KeyNotFound, Put, StoreError, Unavailable
from replication import open_manager
from tests.scene import LOST, Scene, at


@pytest.fixture
def opened():
    made = []

    def open_one(nodes=2, factor=2, **changes):
        made.append(open_manager(nodes=nodes, replication_factor=factor, **changes))
        return made[-1]

    yield open_one
    for store in made:
        store.close()


def code_of(act, *arguments, **options):
    """What is told of a request: the code of the error; nothing else may come of it."""
    with pytest.raises(StoreError) as caught:
        act(*arguments, **options)
    assert caught.value.definite
    return caught.value.code


def lose_newest(store):
    """Node 1 alone has the newest and is wiped; node 0 is down with an older copy."""
    store.write("k", "old")
    store.fail(0)
    store.write("k", "new")
    store.fail(1, "wipe")


def test_stale_copy_that_is_live_answers_at_level_one_though_the_data_are_lost(opened):
    store = opened()
    lose_newest(store)
    while_all_are_down = code_of(store.read, "k", consistency="one")

    store.recover(0)

    found = store.read("k", consistency="one")
    assert while_all_are_down == "data_lost"
    assert (found.value, found.may_be_stale) == ("old", True)
    assert code_of(store.read, "k") == "data_lost"
    assert code_of(store.write, "k", 1, consistency="one") == "data_lost"


def test_node_that_comes_back_while_data_are_lost_waits_for_nobody(opened):
    store = opened()
    lose_newest(store)

    nodes = [store.recover(node) for node in (0, 1)]

    for node in nodes:
        assert (node.status, node.waiting_for) == ("recovering", ())
        assert node.lost_shards == 1
    assert "waiting" not in [event.kind for event in store.events()]
    assert store.recover(0, accept_loss=True).lost_shards == 0


def test_node_waits_for_what_is_down_and_not_for_what_is_lost(opened):
    store = opened(nodes=3)
    keys = [f"key-{number}" for number in range(64)]
    for key in keys:
        store.write(key, "old")
    store.fail(0)
    for key in keys:  # only nodes 1 and 2 have it, each alone where it shares with 0
        store.write(key, "new")
    store.fail(1, "wipe")
    store.fail(2)

    node = store.recover(0)

    assert (node.waiting_for, node.lost_shards) == ((2,), 1)
    codes = {
        frozenset(store.locate(k).replica_set): code_of(store.read, k) for k in keys
    }
    assert codes == {
        frozenset((0, 1)): "data_lost",
        frozenset((0, 2)): "unavailable",
        frozenset((1, 2)): "unavailable",
    }
    assert code_of(store.keys) == code_of(store.records) == "data_lost"
    assert isinstance(store.why_not_ready(), DataLost)


def test_wiped_member_loses_nothing_while_another_in_sync_one_is_only_down(opened):
    store = opened()
    store.write("k", 1)
    store.fail(0)
    store.fail(1, "wipe")

    assert code_of(store.read, "k") == code_of(store.write, "k", 2) == "unavailable"
    assert type(store.why_not_ready()) is Unavailable
    assert store.recover(1).waiting_for == (0,)
    store.recover(0)
    assert store.read("k").value == 1


def test_lost_data_are_told_before_too_few_in_sync_replicas(opened):
    store = opened(min_in_sync=2)
    store.write("k", 1)
    store.fail(0)
    too_few = code_of(store.write, "k", 2)
    store.fail(1)
    store.fail(0, "wipe")

    store.fail(1, "wipe")

    assert too_few == "unavailable"
    assert code_of(store.write, "k", 2) == code_of(store.read, "k") == "data_lost"


@pytest.mark.parametrize("act", ["read", "write", "delete", "create", "keys"])
def test_key_with_an_unsettled_write_or_an_ended_value_is_lost_like_any_other(act):
    scene = Scene(nodes=2, factor=2)
    scene.write("k", value="v", ttl=1)
    scene.store.fail(0)
    scene.write("k", value="v", ttl=1)
    scene.store.cluster.shard("k").unsettled.add("k")
    scene.pass_time(5_000)
    scene.store.fail(1, "wipe")
    scene.store.recover(0)
    acts = {
        "read": lambda: scene.store.read("k"),
        "write": lambda: scene.write("k"),
        "delete": lambda: scene.store.delete("k"),
        "create": lambda: scene.write("k", condition=Condition(if_absent=True)),
        "keys": scene.store.keys,
    }

    assert code_of(acts[act]) == "data_lost"


@pytest.mark.parametrize("act", ["settle", "bury", "list"])
def test_loss_in_the_middle_of_an_operation_is_told_as_a_loss(act):
    """The node that alone is in sync is wiped while a rewrite is on its way to it."""
    scene = Scene(nodes=2, factor=2)
    scene.store.fail(0)
    scene.write("k", value="v", ttl=1)
    if act == "settle":
        scene.store.cluster.shard("k").unsettled.add("k")
    else:
        scene.pass_time(5_000)

    def wipe():
        scene.spawn(scene.store.change.fail(1, "wipe"))

    wiping = at(1, Put, 1, wipe)
    scene.fate = lambda node, message: (
        wiping(node, message) or (LOST if isinstance(message, Put) else None)
    )
    acts = {
        "settle": lambda: scene.write("k"),
        "bury": lambda: scene.write("k", condition=Condition(if_absent=True)),
        "list": scene.store.keys,
    }

    assert code_of(acts[act]) == "data_lost"


def test_accepted_loss_ends_the_refusals(opened):
    store = opened()
    lose_newest(store)

    store.recover(1, accept_loss=True)  # what it holds is nothing

    with pytest.raises(KeyNotFound):
        store.read("k")
    assert store.why_not_ready() is None
    store.recover(0)
    assert {node.lost_shards for node in store.nodes()} == {0}
