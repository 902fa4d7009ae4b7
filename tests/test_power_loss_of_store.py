"""Power lost under a whole store: every acknowledged write is there after the restart.

All nodes are on one disk that forgets what was not flushed (tests/power_loss.py), as all
replicas of this store live on one machine. What clients were told is judged over all losses.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pytest

from client import StoreError
from cluster.placement import PLACEMENTS, ring
from experiments.recording import Recording
from replication import ReplicationManager, open_manager
from storage.committer import Committer
from tests.callers import Caller, Direct, judged, look
from tests.power_loss import FILES, FOLDERS, Disk, explained, made, noticed

KEYS = [f"key-{number}" for number in range(6)]
LOSSES = 3  # in a row, of each seed
STEPS_MAX = 200  # of the client until the power is lost
NOTICED_WITHIN = 20  # seeds: by then every planted fault must have shown
slow = pytest.mark.slow
pytestmark = slow  # all of it: `make check` is to stay short


@pytest.fixture(autouse=True)
def _short_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs of SQLite that are long from the start, but not so long that tests take long."""
    monkeypatch.setattr("storage.file.LOG_BYTES", 40_000)


cached_ring = cache(ring)  # the same for every store here, and slow to make
# Replicas commit one after the other, so that a seed says what happens.
in_turn = partial(mock.patch.object, Committer, "put")


@contextmanager
def store_on(disk: Disk, **settings: Any) -> Iterator[ReplicationManager]:
    """A store of three nodes, all on one disk, that does nothing by itself."""
    with (
        mock.patch.dict(PLACEMENTS, ring=cached_ring),
        open_manager(
            storage="sqlite",
            data_dir=disk.root / "data",
            maintenance_seconds=1e6,
            scrub_rows=0,
            tombstone_grace_seconds=0,
            **settings,
        ) as store,
    ):
        yield store


class Noted:
    """One history of several starts and losses; time is the order of what happened."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        now = partial(next, count(1))
        self.recording = Recording(self.lines.append, now=now, unit="steps")

    def caller(
        self, store: ReplicationManager, name: str, chance: random.Random, disk: Disk
    ) -> Caller:
        """A client that takes no answer for one that came after the loss."""
        direct = Direct(store, heard=lambda: not disk.lost)
        return Caller(self.recording.client(direct, name), chance)


def lose_all(seed: int, folder: Path, *, lies: Any = (), **settings: Any) -> None:
    """Losses of power to a whole store under one client."""
    chance = random.Random(seed)
    noted = Noted()
    root = made(folder / "0")
    for number in range(LOSSES):
        with Disk(root, f"{seed}-{number}", lies=lies) as disk, in_turn():
            disk.lose_power(after_calls=chance.randint(1, 400))
            with store_on(disk, **settings) as store:
                caller = noted.caller(store, f"{number}", chance, disk)
                for key in KEYS:
                    with suppress(StoreError):  # a node may be down
                        look(caller.store, [key])
                for _ in range(STEPS_MAX):
                    if disk.lost:
                        break
                    if chance.random() < 0.9:
                        caller.once(chance.choice(KEYS))
                    else:
                        disturb(store, chance)
                disk.lose_power()  # unless it was
        root = disk.lay_out(folder / str(number + 1))
    read_all(root, noted)
    judged(noted.lines)


def disturb(store: ReplicationManager, chance: random.Random) -> None:
    """Take a node down where all are up, or bring it back, or tidy up."""
    down = [node.node_id for node in store.nodes() if node.status != "up"]
    if down:
        store.recover(down[0])
    elif chance.random() < 0.3:
        store.maintain()
    else:
        store.fail(chance.randrange(3), chance.choice(("stop", "stop", "wipe")))


def read_all(root: Path, noted: Noted) -> None:
    """Bring everything back after the last loss, and see what every key is."""
    with Disk(root, "last") as disk, store_on(disk) as store:
        last = noted.caller(store, "last", random.Random(0), disk).store
        for node in store.nodes():
            store.recover(node.node_id)
        assert {node.status for node in store.nodes()} == {"up"}
        look(last, KEYS)
        for key in KEYS:
            told = msgspec.to_builtins(store.locate(key))
            versions = {replica["version"] for replica in told["replicas"]}
            assert len(versions) == 1, f"the replicas of {key} differ"
            noted.recording.replicas(last, told)


@pytest.mark.parametrize(
    "seeds", [range(10), pytest.param(range(100, 250), marks=slow)]
)
def test_power_loss_of_all_nodes_takes_back_no_acknowledged_write(seeds, tmp_path):
    for seed in seeds:
        with explained(seed):
            lose_all(seed, made(tmp_path / str(seed)))


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"durability": "os"}, id="no commit is flushed"),
        pytest.param({"lies": [FILES]}, id="the disk lies about flushes of files"),
        pytest.param({"lies": [FOLDERS]}, id="no folder is flushed"),
    ],
)
def test_flush_that_every_node_forgets_does_not_go_unnoticed(fault, tmp_path):
    assert noticed(partial(lose_all, **fault), tmp_path, NOTICED_WITHIN)


@slow
def test_power_loss_under_many_threads_takes_back_no_acknowledged_write(tmp_path):
    for seed in range(20):
        with explained(seed):
            lose_under_threads(seed, made(tmp_path / str(seed)))


def lose_under_threads(seed: int, folder: Path) -> None:
    """As above, with commits that threads share; so a seed says little of what happens."""
    chance = random.Random(seed)
    noted = Noted()
    root = made(folder / "0")
    for number in range(LOSSES):
        with Disk(root, f"{seed}-{number}") as disk:
            disk.lose_power(after_calls=chance.randint(1, 600))
            with store_on(disk) as store:
                press(store, noted, f"{seed}-{number}", disk)
        root = disk.lay_out(folder / str(number + 1))
    read_all(root, noted)
    judged(noted.lines)


def press(store: ReplicationManager, noted: Noted, name: str, disk: Disk) -> None:
    """Some threads that go on until the power is lost."""
    callers = [
        noted.caller(store, f"{name}-{n}", random.Random(f"{name}-{n}"), disk)
        for n in range(4)
    ]

    def go_on(caller: Caller, chance: random.Random) -> None:
        while not disk.lost:
            caller.once(chance.choice(KEYS))

    threads = [
        threading.Thread(target=go_on, args=(caller, random.Random(number)))
        for number, caller in enumerate(callers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "a thread is stuck"
