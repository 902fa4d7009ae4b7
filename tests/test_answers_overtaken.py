"""Answers that are out of date when they are used: operations stepped by hand."""

from typing import Any

import pytest

from cluster.listing import Listed, list_keys
from cluster.shard import DOWN, RECOVERING
from models import Answers, Ask, Barrier, Exclusive, Get, Scan, Unavailable
from tests.scene import Scene


@pytest.fixture
def scene():
    """Two nodes that both hold `key`."""
    scene = Scene(nodes=2, factor=2)
    scene.write("key", value=1)
    return scene


def wipe_and_start(scene: Scene, node: int) -> None:
    """The node is failed, loses its storage and answers again, empty."""
    scene.store.fail(node, "wipe")
    scene.nodes[node].start()
    scene.view.set_status(node, RECOVERING)


def ask(scene: Scene, need: Ask) -> Answers:
    return Answers({n: scene.nodes[n].handle(need.message) for n in need.targets})


def test_read_does_not_believe_a_source_that_was_wiped_after_it_was_chosen(scene):
    read = scene.store.protocol.read(scene.view, "key", "linearizable")
    first: Any = next(read)
    assert isinstance(first.message, Get)
    wipe_and_start(scene, first.targets[0])

    second: Any = read.send(ask(scene, first))  # the empty node's answer: never seen
    assert second.targets != first.targets
    with pytest.raises(StopIteration) as ended:
        read.send(ask(scene, second))

    assert bytes(ended.value.value.text) == b"1"


def test_settling_does_not_take_a_wiped_node_s_answer_for_the_newest(scene):
    scene.view.shard("key").unsettled.add("key")
    settle = scene.store.protocol.settle(scene.view, "key")
    need: Any = next(settle)
    assert need.targets == (0, 1)
    wipe_and_start(scene, 0)

    only_the_empty_one = Answers({0: None})
    with pytest.raises(Unavailable):
        settle.send(only_the_empty_one)

    assert "key" in scene.view.shard("key").unsettled


def test_page_of_keys_is_refused_when_its_owners_stopped_serving_meanwhile(scene):
    protocol = scene.store.protocol
    listing = list_keys(
        scene.view,
        lambda key: protocol.settle(scene.view, key),
        lambda key: protocol.expire(scene.view, key),
        Listed(limit=10),
    )
    need: Any = next(listing)
    assert isinstance(need.message, Scan)
    answers = ask(scene, need)
    for node in need.targets:
        scene.view.set_status(node, DOWN)

    with pytest.raises(Unavailable):
        listing.send(answers)


@pytest.mark.parametrize("accept_loss", [False, True])
def test_recovery_believes_nothing_before_writes_under_way_have_ended(
    scene, accept_loss
):
    scene.store.fail(0, "wipe")
    epoch = scene.view.epoch
    whole = next(scene.store.change.recover(0, accept_loss=accept_loss))
    assert isinstance(whole, Exclusive)

    first = next(whole.operation)

    assert isinstance(first, Barrier)
    assert scene.view.epoch == epoch + 2  # new storage, recovering: no more than that
    assert 0 not in scene.view.shard("key").in_sync
