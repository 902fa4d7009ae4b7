"""Power lost under a whole store: every acknowledged write is there after the restart.

All nodes are on one disk that forgets what was not flushed (tests/power_loss.py), as all
replicas of this store live on one machine. What clients were told is judged over all losses.
"""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from cluster.placement import PLACEMENTS, ring
from replication import ReplicationManager, open_manager
from storage.sqlite import Committer
from tests.histories import Caller, Direct, Histories, follow, went_back
from tests.interleaving import judge
from tests.power_loss import FILES, FOLDERS, Disk, explained, made, noticed

KEYS = [f"key-{number}" for number in range(6)]
LOSSES = 3  # in a row, of each seed
STEPS_MAX = 200  # of the client until the power is lost
NOTICED_WITHIN = 20  # seeds: by then every planted fault must have shown
slow = pytest.mark.slow
pytestmark = slow  # all of it: `make check` is to stay under a minute


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


def lose_all(seed: int, folder: Path, *, lies: Any = (), **settings: Any) -> None:
    """Losses of power to a whole store under one client."""
    chance, ticks = random.Random(seed), count(1)
    now = partial(next, ticks)
    noted = Histories()
    root = made(folder / "0")
    for number in range(LOSSES):
        with Disk(root, f"{seed}-{number}", lies=lies) as disk, in_turn():
            disk.lose_power(after_calls=chance.randint(1, 400))
            with store_on(disk, **settings) as store:
                caller = caller_of(store, f"{number}", chance, disk, now)
                for key in KEYS:
                    caller.read(key)
                for _ in range(STEPS_MAX):
                    if disk.lost:
                        break
                    if chance.random() < 0.9:
                        caller.once(chance.choice(KEYS))
                    else:
                        disturb(store, chance)
                disk.lose_power()  # unless it was
                noted.extend(caller.noted)
        root = disk.lay_out(folder / str(number + 1))
    noted.extend(read_all(root, now))
    for key, entries in noted.entries.items():
        assert judge(entries), f"{key}: {sorted(entries)}"
        assert went_back(noted.sights[key]) is None, key


def caller_of(
    store: ReplicationManager, name: str, chance: random.Random, disk: Disk, now: Any
) -> Caller:
    """A client that takes no answer for one that came after the loss."""
    return Caller(Direct(store), name, chance, counts=lambda: not disk.lost, now=now)


def disturb(store: ReplicationManager, chance: random.Random) -> None:
    """Take a node down where all are up, or bring it back, or tidy up."""
    down = [node.node_id for node in store.nodes() if node.status != "up"]
    if down:
        store.recover(down[0])
    elif chance.random() < 0.3:
        store.maintain()
    else:
        store.fail(chance.randrange(3), chance.choice(("stop", "stop", "wipe")))


def read_all(root: Path, now: Any) -> Histories:
    """Bring everything back after the last loss, and see what every key is."""
    with Disk(root, "last") as disk, store_on(disk) as store:
        caller = caller_of(store, "last", random.Random(0), disk, now)
        for node in store.nodes():
            store.recover(node.node_id)
        assert {node.status for node in store.nodes()} == {"up"}
        for key in KEYS:
            caller.read(key)
            versions = {replica.version for replica in store.locate(key).replicas}
            assert len(versions) == 1, f"the replicas of {key} differ"
        assert caller.noted.answered == len(KEYS)
    return caller.noted


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
    now = partial(next, count(1))
    values: dict[str, set[Any]] = {key: {None} for key in KEYS}
    root = made(folder / "0")
    for number in range(LOSSES):
        with Disk(root, f"{seed}-{number}") as disk:
            disk.lose_power(after_calls=chance.randint(1, 600))
            with store_on(disk) as store:
                noted = press(store, f"{seed}-{number}", disk, now)
        root = disk.lay_out(folder / str(number + 1))
        for key in KEYS:
            values[key] = follow(noted.entries[key], values[key])
            assert values[key], f"{key}: {sorted(noted.entries[key])}"
    last = read_all(root, now)
    assert all(follow(last.entries[key], values[key]) for key in KEYS)


def press(store: ReplicationManager, name: str, disk: Disk, now: Any) -> Histories:
    """Some threads that go on until the power is lost."""
    callers = [
        caller_of(store, f"{name}-{n}", random.Random(f"{name}-{n}"), disk, now)
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
    noted = Histories()
    for caller in callers:
        noted.extend(caller.noted)
    return noted
