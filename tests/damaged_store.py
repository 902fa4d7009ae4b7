"""A small store whose files are damaged on purpose, for tests.

Three nodes, each key on two of them. What it had acknowledged is known, and what it must
be again once it has healed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from cluster.placement import PLACEMENTS, ring
from models import KeyNotFound
from replication import ReplicationManager, open_manager

VICTIM = 0
KEYS = [f"key-{number}" for number in range(8)]
DELETED = KEYS[3]


@contextmanager
def memory_folder() -> Iterator[Path]:
    """A folder in memory where there is one: tens of thousands of files are written."""
    shared = Path("/dev/shm")
    parent = shared if os.access(shared, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=parent, prefix="kv-damage-") as name:
        yield Path(name)


@contextmanager
def store_in(
    data: Path, *, log_bytes: int = 0, **settings: Any
) -> Iterator[ReplicationManager]:
    """A store that does nothing by itself, and is quick to start: its logs are short."""
    quiet: dict[str, Any] = {"maintenance_seconds": 1e6, "scrub_rows": 1_000}
    with (
        mock.patch("replication.SCRUB_SECONDS", 1e6),
        mock.patch.dict(PLACEMENTS, ring=cached_ring),
        mock.patch("cluster.network.STRIPE_BITS", 2),
        mock.patch("cluster.network.STRIPE_SHIFT", 62),
        mock.patch("storage.file.LOG_BYTES", log_bytes),
        open_manager(storage="sqlite", data_dir=data, **quiet, **settings) as store,
    ):
        yield store


cached_ring = cache(ring)  # the same for every store here
short_logs = partial(mock.patch, "storage.file.LOG_BYTES", 0)


class Cluster(NamedTuple):
    """The files that a small store left, and what it had acknowledged."""

    data: Path
    values: dict[str, Any]

    @property
    def folder(self) -> Path:
        """That of the node that is damaged."""
        return self.data / f"node-{VICTIM}"

    def now(self, **values: Any) -> Cluster:
        """After some writes."""
        return self._replace(values={**self.values, **values})


def write_all(store: ReplicationManager) -> dict[str, Any]:
    for number, key in enumerate(KEYS):
        store.write(key, [number, "v" * number])
    store.delete(DELETED)
    store.write(KEYS[0], "again")
    values: dict[str, Any] = {k: [n, "v" * n] for n, k in enumerate(KEYS)}
    return {**values, DELETED: None, KEYS[0]: "again"}


def make_ended(data: Path) -> Cluster:
    """What a store leaves that ended in good order."""
    with store_in(data) as store:
        values = write_all(store)
    return Cluster(data, values)


def make_killed(data: Path, ended: Cluster) -> Cluster:
    """What a killed store leaves: its last writes are in the log alone."""
    live = data.with_name("live")
    with store_in(shutil.copytree(ended.data, live)) as store:
        of_victim = [k for k in KEYS if VICTIM in store.locate(k).replica_set]
        store.write(of_victim[0], "after the start")
        store.delete(of_victim[-1])
        shutil.copytree(live, data)
    later = {of_victim[0]: "after the start", of_victim[-1]: None}
    return Cluster(data, {**ended.values, **later})


def read_all(store: ReplicationManager, keys: Iterable[str] = KEYS) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in keys:
        try:
            found[key] = store.read(key).value
        except KeyNotFound:
            found[key] = None
    return found


def check_healed(store: ReplicationManager, cluster: Cluster) -> None:
    """Every key as acknowledged, every node up, every replica the same."""
    assert read_all(store) == cluster.values
    assert {node.status for node in store.nodes()} == {"up"}, store.events()
    for key in KEYS:
        replicas = store.locate(key).replicas
        assert len({replica.version for replica in replicas}) == 1, replicas
        assert all(replica.in_sync for replica in replicas), replicas
    listed = {info.key for info in store.keys().keys}
    assert listed == {key for key, value in cluster.values.items() if value is not None}


Damage = Callable[[bytes, int], bytes]


def flip_byte(content: bytes, place: int) -> bytes:
    return _with(content, place, content[place] ^ 0xFF)


def flip_bit(content: bytes, place: int) -> bytes:
    return _with(content, place, content[place] ^ 1 << place * 5 % 8)


def cut(content: bytes, place: int) -> bytes:
    return content[:place]


def newest(folder: Path) -> Path:
    """The file of a node that counts."""
    return max(folder.glob("records-*.db"), key=lambda path: (len(path.name), path))


def damage_newest(folder: Path, damage: Damage, place: int) -> None:
    """Damage the file of a node that counts."""
    file = newest(folder)
    file.write_bytes(damage(file.read_bytes(), place))


def flip_in_place(file: Path, place: int) -> None:
    """Flip a bit of a file that somebody has open; again, and it is as it was."""
    with file.open("r+b") as opened:
        content = opened.read()
        opened.seek(place)
        opened.write(flip_bit(content, place)[place : place + 1])


def _with(content: bytes, place: int, byte: int) -> bytes:
    return content[:place] + bytes([byte]) + content[place + 1 :]
