"""One replica's storage: the Storage interface, in memory and with a file behind it.

A node serves from memory. `SqliteStorage` is the same with a SQLite file of the node's
own: loaded at start, written before a put returns, never read to serve; a record shows
in memory only once it is durable. Each row carries a checksum and each commit the
digest of the whole, so that a row that changed or vanished is noticed when loading.
"""

from __future__ import annotations

import secrets
import threading
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw

from models import Record, Refused, Staged, Version
from storage.content import Content

FORMAT = 1


SCHEMA = """
create table if not exists records (
    key text primary key, version text not null, value blob,
    expires_at_ms integer not null, checksum integer not null
) without rowid;
create table if not exists meta (name text primary key, value) without rowid;
"""
WRITE_ROW = "insert or replace into records values (?, ?, ?, ?, ?)"
WRITE_META = "insert or replace into meta values (?, ?)"


class DamagedStorage(Exception):
    """A file's content fails its checks: set it aside and rebuild from the peers."""


class StorageInUse(Exception):
    """Another process has the file open."""


class Storage(ABC):
    """What a node keeps. One thread at a time; `identity` is new when it is made anew.

    A put, purge or saved state is durable when the call returns, or, if it returns
    something `Staged`, when the `result()` of that returns. What a put returns, or its
    `result()`, is None, or the highest version held that kept one of the records out.
    """

    identity: str

    @abstractmethod
    def get(self, key: str) -> Record | None:
        """The record of a key, tombstones included."""

    @abstractmethod
    def put_many(self, records: Sequence[Record]) -> Staged | Version | None:
        """Keep each record that is newer than what is held for its key."""

    @abstractmethod
    def purge(self, versions: Mapping[str, Version]) -> Staged | None:
        """Forget each record whose version is exactly the one named."""

    @abstractmethod
    def save_state(self, epoch: int, record: bytes) -> Staged | None:
        """Keep the cluster's state record unless one of a newer epoch is held."""

    @abstractmethod
    def load_state(self) -> tuple[int, bytes] | None:
        """The (epoch, record) saved last, or None."""

    @property
    @abstractmethod
    def content(self) -> Content:
        """What is held, to be read only: digests, counts, scans."""

    @abstractmethod
    def wipe(self) -> None:
        """Lose everything, the state record too, and take a new identity."""

    @abstractmethod
    def close(self) -> None:
        """Let go of files. Nothing else may be called after."""


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


class _Batch(Staged):
    """Changes that share one commit. `result()` returns once they are durable."""

    __slots__ = ("_storage", "done", "error", "purges", "records", "state")

    def __init__(self, storage: SqliteStorage) -> None:
        self._storage = storage
        self.records: list[Record] = []
        self.purges: dict[str, Version] = {}
        self.state: tuple[int, bytes] | None = None
        self.done = False
        self.error: Exception | None = None

    def result(self) -> None:
        """Wait for the commit, or make it for everybody who waits."""
        self._storage.commit(self)
        if self.error is not None:
            raise self.error


class _Put(Staged):
    """One caller's records in a batch."""

    __slots__ = ("_batch", "_content", "_records")

    def __init__(
        self, batch: _Batch, content: Content, records: Sequence[Record]
    ) -> None:
        self._batch = batch
        self._content = content
        self._records = records

    def result(self) -> Version | None:
        """Wait for the commit; the highest version held that kept a record out."""
        self._batch.result()
        held = ((self._content.get(record.key), record) for record in self._records)
        newer = (h.version for h, r in held if h is not None and h.version > r.version)
        return max(newer, default=None)


class SqliteStorage(Storage):
    """A node's records in memory, with a SQLite file behind them.

    Group commit without a thread of its own: whoever first waits for the open batch
    commits it for all who are in it, while the next batch fills. `durable` False leaves
    flushing to the operating system: a killed process loses nothing, a power cut may.
    `known` holds records that other nodes have loaded, so that replicas share them.
    """

    def __init__(
        self,
        path: Path,
        *,
        durable: bool = True,
        known: Callable[[str], Record | None] | None = None,
        new_identity: Callable[[], str] | None = None,
    ) -> None:
        self._path = path
        self._durable = durable
        self._known = known or (lambda _key: None)
        self._new_identity = new_identity or (lambda: secrets.token_hex(8))
        self._queue_lock = threading.Lock()
        self._commit_lock = threading.Lock()
        self._broken: Exception | None = None
        self._content = Content()
        self._digest = 0  # of the whole, as the file has it
        self._state: tuple[int, bytes] | None = None
        self._open_batch = _Batch(self)
        self._database = self._connect()
        try:
            self._load()
        except BaseException:
            self._database.close()
            raise

    @property
    def content(self) -> Content:
        """What is held and durable."""
        return self._content

    def get(self, key: str) -> Record | None:
        """The record of a key, tombstones included."""
        return self._content.get(key)

    def put_many(self, records: Sequence[Record]) -> Staged | Version | None:
        """Keep each record that is newer than what is held for its key."""
        with self._queue_lock:
            self._open_batch.records.extend(records)
            return _Put(self._open_batch, self._content, records)

    def purge(self, versions: Mapping[str, Version]) -> Staged | None:
        """Forget each record whose version is exactly the one named."""
        with self._queue_lock:
            self._open_batch.purges.update(versions)
            return self._open_batch

    def save_state(self, epoch: int, record: bytes) -> Staged | None:
        """Keep the cluster's state record unless one of a newer epoch is held."""
        with self._queue_lock:
            batch = self._open_batch
            if batch.state is None or batch.state[0] < epoch:
                batch.state = (epoch, record)
            return batch

    def load_state(self) -> tuple[int, bytes] | None:
        """The (epoch, record) saved last, or None."""
        return self._state

    def commit(self, batch: _Batch) -> None:
        """Make a batch durable, then visible, unless somebody already did."""
        with self._commit_lock:
            if batch.done:
                return
            with self._queue_lock:
                self._open_batch = _Batch(self)
            try:
                self._write(batch)
            except apsw.FullError as error:
                batch.error = Refused(f"the disk is full ({self._path}: {error})")
            except Exception as error:
                # A failed flush is never tried again and believed: what the file
                # holds now is unknown, so this storage has ended.
                self._broken = batch.error = error
            batch.done = True

    def _write(self, batch: _Batch) -> None:
        if self._broken is not None:
            raise self._broken
        content = self._content
        records = content.newer(batch.records)
        purges = content.matching(batch.purges)
        for key in records.keys() & purges.keys():
            del purges[key]  # overtaken by a newer record in the same commit
        state = batch.state
        if state is not None and self._state is not None and state[0] <= self._state[0]:
            state = None
        if not records and not purges and state is None:
            return
        digest = self._digest ^ content.digest_change(records, purges)
        with self._database:
            self._database.executemany(WRITE_ROW, map(_row, records.values()))
            self._database.executemany(
                "delete from records where key = ?", ((key,) for key in purges)
            )
            self._database.execute(WRITE_META, ("digest", f"{digest:016x}"))
            if state is not None:
                self._database.execute(WRITE_META, ("state", state[1]))
                self._database.execute(WRITE_META, ("epoch", state[0]))
        self._digest = digest
        content.put_many(records.values())
        content.purge(purges)
        self._state = state or self._state

    def wipe(self) -> None:
        """Delete the file and begin a new one with a new identity."""
        with self._commit_lock:
            self._database.close()
            for file in _files(self._path):
                file.unlink(missing_ok=True)
            self._content = Content()
            self._state = None
            self._broken = None
            self._database = self._connect()
            self._load()

    def close(self) -> None:
        """Let go of the file."""
        with self._commit_lock:
            self._database.close()

    def _connect(self) -> apsw.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path.touch(mode=0o600)
        database = apsw.Connection(str(self._path))
        try:
            database.pragma("locking_mode", "exclusive")
            database.pragma("journal_mode", "wal")
            database.pragma("synchronous", "full" if self._durable else "normal")
            with database:
                database.execute(SCHEMA)
        except (apsw.BusyError, apsw.LockedError) as error:
            database.close()
            raise StorageInUse(f"another process has {self._path} open") from error
        except (apsw.NotADBError, apsw.CorruptError) as error:
            database.close()
            raise DamagedStorage(f"{self._path}: {error}") from error
        return database

    def _load(self) -> None:
        """Read the file into memory, checking every row and the whole."""
        try:
            meta = dict(self._database.execute("select name, value from meta"))
            self._content.put_many(self._rows())
        except apsw.Error as error:
            raise DamagedStorage(f"{self._path}: {error}") from error
        if not meta:
            self.identity = self._new_identity()
            with self._database:
                for pair in (("identity", self.identity), ("format", FORMAT)):
                    self._database.execute(WRITE_META, pair)
        elif meta.get("format") != FORMAT:
            raise DamagedStorage(f"{self._path}: unknown format {meta.get('format')!r}")
        else:
            self.identity = meta["identity"]
        self._digest = self._content.digest()
        if f"{self._digest:016x}" != meta.get("digest", f"{0:016x}"):
            raise DamagedStorage(f"{self._path}: rows are missing or were changed")
        if "state" in meta:
            self._state = (meta["epoch"], meta["state"])

    def _rows(self) -> Iterator[Record]:
        for row in self._database.execute("select * from records"):
            key, version, value, expires_at_ms, checksum = row
            if checksum != _checksum(key, version, value, expires_at_ms):
                raise DamagedStorage(f"{self._path}: a row fails its checksum")
            shared = self._known(key)
            number = Version(version, 16)
            if (
                shared is not None
                and shared.version == number
                and shared.value == value
            ):
                yield shared
            else:
                yield Record(key, number, value, expires_at_ms)


def open_storage(
    directory: Path | None,
    node_id: int,
    *,
    durable: bool = True,
    known: Callable[[str], Record | None] | None = None,
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
        number = 1 + sum(1 for _ in directory.glob(f"{path.name}.damaged-*"))
        for file in _files(path):
            with suppress(FileNotFoundError):
                file.rename(
                    f"{path}.damaged-{number}{file.name.removeprefix(path.name)}"
                )
        return SqliteStorage(path, durable=durable, known=known)


def _files(path: Path) -> tuple[Path, ...]:
    """A SQLite file and what may lie beside it."""
    return tuple(path.with_name(path.name + end) for end in ("", "-wal", "-shm"))


def _checksum(key: str, version: str, value: bytes | None, expires_at_ms: int) -> int:
    head = f"{key}\0{version}\0{expires_at_ms}\0{value is None}\0"
    return zlib.crc32(value or b"", zlib.crc32(head.encode()))


def _row(record: Record) -> tuple[Any, ...]:
    version = record.version.text
    checksum = _checksum(record.key, version, record.value, record.expires_at_ms)
    return (record.key, version, record.value, record.expires_at_ms, checksum)
