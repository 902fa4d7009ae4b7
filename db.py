"""One replica's storage: the Storage interface, in memory and with a file behind it.

A node serves from memory. `SqliteStorage` is the same with a SQLite file of the node's
own: loaded at start, written before a put returns, never read to serve; a record shows
in memory only once it is durable. `open_storage` chooses and opens one.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from models import Record, Staged, Version
from storage.base import DamagedStorage, Storage, StorageInUse
from storage.content import Content
from storage.sqlite import SqliteStorage, StorageEnded, files_of

__all__ = [
    "DamagedStorage",
    "MemoryStorage",
    "SqliteStorage",
    "Storage",
    "StorageEnded",
    "StorageInUse",
    "open_storage",
]
log = logging.getLogger(__name__)


class MemoryStorage(Storage):
    """A node's records in memory only: gone when the process ends."""

    def __init__(self, new_identity: Callable[[], str] | None = None) -> None:
        self._new_identity = new_identity or (lambda: secrets.token_hex(8))
        self._content = Content()
        self._state: tuple[int, bytes] | None = None
        self.identity = self._new_identity()

    @property
    def content(self) -> Content:
        """What is held."""
        return self._content

    def get(self, key: str) -> Record | None:
        """The record of a key, tombstones included."""
        return self._content.get(key)

    def put_many(self, records: Sequence[Record]) -> Staged | Version | None:
        """Keep each record that is newer than what is held for its key."""
        return self._content.put_many(records)

    def purge(self, versions: Mapping[str, Version]) -> Staged | None:
        """Forget each record whose version is exactly the one named."""
        self._content.purge(versions)
        return None

    def save_state(self, epoch: int, record: bytes) -> Staged | None:
        """Keep the cluster's state record unless one of a newer epoch is held."""
        if self._state is None or self._state[0] < epoch:
            self._state = (epoch, record)
        return None

    def load_state(self) -> tuple[int, bytes] | None:
        """The (epoch, record) saved last, or None."""
        return self._state

    def wipe(self) -> None:
        """Lose everything and take a new identity."""
        self._content = Content()
        self._state = None
        self.identity = self._new_identity()

    def close(self) -> None:
        """Nothing to let go of."""


def open_storage(
    directory: Path | None,
    node_id: int,
    *,
    durable: bool = True,
    known: dict[str, Record] | None = None,
) -> Storage:
    """The storage of one node: a file in `directory`, or memory where that is None.

    A file that fails its checks is set aside as `node-<id>.db.damaged-<n>` and a new,
    empty one begun; its new identity tells the manager to rebuild the node.
    """
    if directory is None:
        return MemoryStorage()
    path = directory / f"node-{node_id}.db"
    try:
        return SqliteStorage(path, durable=durable, known=known)
    except DamagedStorage:
        aside = [p.suffix for p in directory.glob(f"{path.name}.damaged-*")]
        numbers = [int(n) for end in aside if (n := end.rpartition("-")[2]).isdigit()]
        number = 1 + max(numbers, default=0)
        log.warning("%s fails its checks: set aside as .damaged-%d", path, number)
        for file in files_of(path):
            with suppress(FileNotFoundError):
                file.rename(
                    f"{path}.damaged-{number}{file.name.removeprefix(path.name)}"
                )
        return SqliteStorage(path, durable=durable, known=known)
