"""A process that is about to end while a node recovers: what it leaves can be gone on from."""

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cluster.membership import COPY_BATCH as BATCH
from cluster.shard import DOWN, RECOVERING, UP
from models import Fetch, StoreError
from replication import ReplicationManager, open_manager
from tests.scene import Scene, names

KEYS = [f"key-{n}" for n in range(30)]


def test_end_of_the_process_at_any_step_of_a_recovery_leaves_a_state_to_go_on_from():
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

        scene.view.stopping = True
        scene.drain()
        scene.run(scene.store.change.stop())

        assert ended, "the recovery did not end"
        assert not isinstance(ended[0], Exception)
        scene.boot()
        if scene.status(1) == DOWN:  # that it came back was not noted yet
            scene.store.recover(1)
        scene.check_equal(keys=30)
        assert scene.values("k0000") == {b'"changed"'}
        if was_over:
            assert steps > 10
            return
    pytest.fail("the recovery never ended")


def test_recovery_does_not_copy_on_when_the_process_is_about_to_end():
    scene = Scene()
    scene.store.fail(1)
    scene.write(*names(5 * BATCH))

    def fate(node: int, message: Any) -> None:
        if isinstance(message, Fetch) and len(scene.messages(Fetch)) == 3:
            scene.view.stopping = True

    scene.fate = fate
    info = scene.store.recover(1)

    assert info.status == RECOVERING
    assert info.keys is not None
    assert 0 < info.keys <= 2 * BATCH
    assert info.stale_keys == 5 * BATCH - info.keys
    scene.run(scene.store.change.stop())
    scene.boot()
    scene.check_equal(keys=5 * BATCH)


def test_store_that_is_closed_during_a_recovery_does_not_wait_for_its_end(tmp_path):
    store = open_on(tmp_path)
    store.cluster.copy_batch = 1
    store.fail(1)
    for key in KEYS:
        store.write(key, f"value of {key}")
    fetching, go_on = threading.Event(), threading.Event()
    handle = store._nodes[1].handle

    def slow(message: Any) -> Any:
        if isinstance(message, Fetch):
            fetching.set()
            assert go_on.wait(30)
        return handle(message)

    store._nodes[1].handle = slow  # type: ignore[method-assign]
    recovery = threading.Thread(target=partial(suppressing, store.recover, 1))
    recovery.start()
    assert fetching.wait(30)
    closing = threading.Thread(target=store.close)
    closing.start()
    while not store.cluster.stopping:
        threading.Event().wait(0.001)
    go_on.set()
    for thread in (recovery, closing):
        thread.join(30)

    assert not recovery.is_alive()
    assert not closing.is_alive()
    assert store.node(1).keys in (0, 1)
    with open_on(tmp_path) as store:
        assert {node.status for node in store.nodes()} == {UP}
        store.fail(0)
        for key in KEYS:
            assert store.read(key).value == f"value of {key}"


def open_on(folder: Path) -> ReplicationManager:
    return open_manager(
        nodes=2, replication_factor=2, storage="sqlite", data_dir=folder, scrub_rows=0
    )


def suppressing(work: Callable[..., Any], *given: Any) -> None:
    with suppress(StoreError):
        work(*given)
