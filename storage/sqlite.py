"""A replica's records in memory with a SQLite file behind them.

Each row carries a checksum, and each commit the digest of the whole, so that a row that
changed, vanished or was swapped for an older one is noticed when the file is loaded.
"""

from __future__ import annotations

import gc
import secrets
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
from xxhash import xxh3_64_intdigest

from models import Record, Refused, Staged, Version, record_digest
from storage.base import DamagedStorage, Storage, StorageInUse
from storage.content import BUCKET_SHIFT, Content, bucket_of

FORMAT = 1
VERSION_BYTES = 10
SCHEMA = """
create table if not exists records (
    bucket integer not null, key text not null, version blob not null, value blob,
    expires_at_ms integer not null, checksum integer not null,
    primary key (bucket, key) -- so that a file is loaded bucket by bucket
) without rowid;
create table if not exists meta (
    name text primary key, value, checksum integer not null
) without rowid;
"""
ALL_ROWS = "select bucket, key, version, value, expires_at_ms, checksum from records"
WRITE_ROW = "insert or replace into records values (?, ?, ?, ?, ?, ?)"
WRITE_META = "insert or replace into meta values (?, ?, ?)"
FORGET_ROW = "delete from records where bucket = ? and key = ?"


# What reading a damaged file raises. Anything else (no memory, a disk that does not
# answer) says nothing of the file, which must not be set aside for it.
DAMAGE = (
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.SQLError,  # a table that is not as it was made
    apsw.ConstraintError,
    UnicodeDecodeError,
    AttributeError,  # a number or bytes where there was text
    TypeError,
    ValueError,
    KeyError,
    OverflowError,
)


class StorageEnded(Exception):
    """A commit failed and what the file holds is unknown: it is not used any more."""


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
    What it loads it shares with other nodes through `known`, by key.
    """

    def __init__(
        self,
        path: Path,
        *,
        durable: bool = True,
        known: dict[str, Record] | None = None,
        new_identity: Callable[[], str] | None = None,
    ) -> None:
        self._path = path
        self._durable = durable
        self._known = {} if known is None else known
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
            batch.done = True
            try:
                self._write(batch)
            except Refused as error:
                batch.error = error
            except BaseException as error:
                # A failed flush is never tried again and believed: what the file
                # holds now is unknown, so this storage has ended.
                self._broken = batch.error = StorageEnded(f"{self._path}: {error!r}")
                if not isinstance(error, Exception):
                    raise

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
        meta: dict[str, Any] = {"digest": f"{digest:016x}"}
        if state is not None:
            meta |= {"epoch": state[0], "state": state[1]}
        self._transact(
            (WRITE_ROW, map(_row, records.values())),
            (FORGET_ROW, ((bucket_of(key), key) for key in purges)),
            (WRITE_META, map(_meta_row, meta.items())),
        )
        self._digest = digest
        content.put_many(records.values())
        content.purge(purges)
        self._state = state or self._state

    def _transact(self, *changes: tuple[str, Iterable[tuple[Any, ...]]]) -> None:
        """Run all in one commit. Refused if the disk is full: then nothing changed."""
        database = self._database
        database.execute("begin immediate")
        try:
            for statement, rows in changes:
                database.executemany(statement, rows)
            database.execute("commit")
        except BaseException as error:
            if database.in_transaction:  # SQLite may have rolled back by itself
                database.execute("rollback")
            if isinstance(error, apsw.FullError):
                raise Refused(f"the disk is full ({self._path}: {error})") from error
            raise

    def wipe(self) -> None:
        """Delete the file and begin a new one with a new identity."""
        with self._commit_lock:
            self._database.close()
            for file in files_of(self._path):
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
        except DAMAGE as error:
            database.close()
            raise DamagedStorage(f"{self._path}: {error}") from error
        except BaseException:
            database.close()
            raise
        return database

    def _load(self) -> None:
        """Read the file into memory, checking every row and the whole."""
        try:
            meta = self._meta()
            with _garbage_collector_paused():
                self._content.fill(self._rows())
            self._known = {}
        except DamagedStorage:
            raise
        except DAMAGE as error:
            raise DamagedStorage(f"{self._path}: {error!r}") from error
        self._digest = self._content.digest()
        if f"{self._digest:016x}" != meta["digest"]:
            raise DamagedStorage(f"{self._path}: rows are missing or were changed")
        self.identity = meta["identity"]
        self._state = (meta["epoch"], meta["state"]) if meta["epoch"] else None

    def _meta(self) -> dict[str, Any]:
        """What the file says of itself; a file without a table in it is a new one."""
        rows = list(self._database.execute("select name, value, checksum from meta"))
        if not rows and not self._database.execute("select 1 from records").fetchall():
            fresh = {
                "format": FORMAT,
                "identity": self._new_identity(),
                "digest": f"{0:016x}",
                "epoch": 0,
                "state": b"",
            }
            self._transact((WRITE_META, map(_meta_row, fresh.items())))
            return fresh
        for row in rows:
            if row != _meta_row(row[:2]):
                raise DamagedStorage(f"{self._path}: {row[0]!r} fails its checksum")
        meta = {name: value for name, value, _ in rows}
        if meta.get("format") != FORMAT or len(meta) != 5:
            raise DamagedStorage(f"{self._path}: unknown format {meta.get('format')!r}")
        return meta

    def _rows(self) -> Iterator[tuple[int, Record, int]]:
        """Every record of the file with its bucket and its digest.

        A record that another node has too is shared with it.
        """
        from_bytes, share = Version.from_bytes, self._known.setdefault
        for row in self._database.execute(ALL_ROWS):
            bucket, key, version, value, expires_at_ms, checksum = row
            record = Record(key, from_bytes(version), value, expires_at_ms)
            encoded = key.encode()
            digest = record_digest(encoded, record.version)
            sound = checksum == _checksum(digest, value, expires_at_ms)
            if not sound or bucket != xxh3_64_intdigest(encoded) >> BUCKET_SHIFT:
                raise DamagedStorage(f"{self._path}: a row fails its checksum")
            shared = share(key, record)
            yield (bucket, shared if shared == record else record, digest)


def files_of(path: Path) -> tuple[Path, ...]:
    """A SQLite file and what may lie beside it."""
    return tuple(path.with_name(path.name + end) for end in ("", "-wal", "-shm"))


@contextmanager
def _garbage_collector_paused() -> Iterator[None]:
    """While a file is loaded nothing becomes garbage; looking for it takes a sixth."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _checksum(digest: int, value: bytes | None, expires_at_ms: int) -> int:
    """Of a whole row, 63 bits; `digest` stands for its key and version."""
    seed = digest ^ (expires_at_ms << 1 | (value is None))
    return xxh3_64_intdigest(value or b"", seed) >> 1


def _row(record: Record) -> tuple[Any, ...]:
    digest = record_digest(record.key.encode(), record.version)
    return (
        bucket_of(record.key),
        record.key,
        record.version.to_bytes(VERSION_BYTES),
        record.value,
        record.expires_at_ms,
        _checksum(digest, record.value, record.expires_at_ms),
    )


def _meta_row(pair: Sequence[Any]) -> tuple[Any, ...]:
    name, value = pair
    return (name, value, zlib.crc32(f"{name}\0{value!r}".encode()))
