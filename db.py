"""One replica's storage: the Storage interface, in memory and with a file behind it.

A node serves from memory. `SqliteStorage` is the same with a SQLite file of the node's
own: loaded at start, written before a put returns, never read to serve; a record shows
in memory only once it is durable. `open_storage` chooses and opens one.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from models import Record, Staged, Version
from storage.base import (
    DamagedStorage,
    FormatUnknown,
    Storage,
    StorageEnded,
    StorageInUse,
)
from storage.content import Content
from storage.sqlite import SqliteStorage

__all__ = [
    "DamagedStorage",
    "FormatUnknown",
    "MemoryStorage",
    "SqliteStorage",
    "Storage",
    "StorageEnded",
    "StorageInUse",
    "open_storage",
]


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

    def reopen(self) -> None:
        """Nothing can be wrong with it."""

    def scrub(self, rows_max: int) -> str | None:
        """There is no medium to compare with."""
        return None

    def close(self) -> None:
        """Nothing to let go of."""


def open_storage(
    folder: Path | None,
    *,
    durable: bool = True,
    known: dict[str, Record] | None = None,
    vfs: str | None = None,
) -> Storage:
    """The storage of one node: files in a folder of its own, or memory where that is None.

    `vfs` names the file system that SQLite uses (sqlite.org/vfs.html), where it is not
    to be the ordinary one.
    """
    if folder is None:
        return MemoryStorage()
    return SqliteStorage(folder, durable=durable, known=known, vfs=vfs)
