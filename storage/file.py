"""One SQLite file of records: its form, its checksums, and how it is read and written.

Each row carries a checksum, and each commit the digest of the whole, so that a row that
changed, vanished or was swapped for an older one is noticed. A commit is one statement
where it can be: each statement lets go of the interpreter's lock once, and taking it
again among busy threads costs more than the statement.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from itertools import chain, islice
from pathlib import Path
from typing import Any

import apsw
import msgspec
from xxhash import xxh3_64_intdigest

from models import Record, Version, record_digest
from storage import wal
from storage.base import DamagedStorage, FormatUnknown, StorageInUse
from storage.content import BUCKET_COUNT, BUCKET_SHIFT, Content, bucket_of

FORMAT = 2
VERSION_BYTES = 10
CHUNK_ROWS = 256  # in one statement
LOG_BYTES = 4_500_000  # of SQLite's 1,000 pages between checkpoints
ZEROS = bytes(1 << 16)
DIGEST_BUCKET = -1  # of the row that has the digest of the whole: the first one
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
COLUMNS = "bucket, key, version, value, expires_at_ms, checksum"
ALL_ROWS = f"select {COLUMNS} from records where bucket >= ? order by bucket, key"
FORGET_ROW = "delete from records where bucket = ? and key = ?"
WRITE_META = "insert or replace into meta values (?, ?, ?)"

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


class Header(msgspec.Struct, frozen=True):
    """What a file says of itself."""

    identity: str
    epoch: int  # of the state record; 0: there is none
    state: bytes


class RecordFile:
    """An open file of records. One thread at a time.

    Raises StorageInUse, FormatUnknown or DamagedStorage, or what the disk does, when it
    is opened. `durable` False leaves flushing to the operating system.
    """

    def __init__(
        self, path: Path, *, durable: bool, vfs: str | None, fresh: Callable[[], Header]
    ) -> None:
        self.path = path
        self._log = path.with_name(f"{path.name}-wal")
        self.digest = 0
        self._durable = durable
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        self._database = _connect(path, durable=durable, vfs=vfs)
        # Open for as long as the database is: to close it gives up SQLite's lock.
        self._descriptor = os.open(path, os.O_RDONLY)
        try:
            with _damage_named(path):
                self._check_log()
                self._places = {p: _place(p) for p in (path, self._log) if p.exists()}
                if durable and vfs is None:
                    _extend(self._log)
                with self._database:
                    self._database.execute(SCHEMA)
                self.header = self._read_header() or self._begin(fresh())
                self.digest = self._read_digest()
                self._schema = self._read_schema()
        except BaseException:
            self.close()
            raise

    def records(self, known: dict[str, Record]) -> Iterator[tuple[int, Record, int]]:
        """Every record, checked, with its bucket and its digest, in order of buckets.

        One that is equal to that in `known` is shared with it; the others are added.
        """
        from_bytes, share = Version.from_bytes, known.setdefault
        with _damage_named(self.path):
            for row in self._database.execute(ALL_ROWS, (0,)):
                bucket, key, version, value, expires_at_ms, checksum = row
                record = Record(key, from_bytes(version), value, expires_at_ms)
                encoded = key.encode()
                digest = record_digest(encoded, record.version)
                sound = checksum == _checksum(digest, value, expires_at_ms)
                if not sound or bucket != xxh3_64_intdigest(encoded) >> BUCKET_SHIFT:
                    raise DamagedStorage(f"{self.path}: a row fails its checksum")
                shared = share(key, record)
                yield bucket, shared if shared == record else record, digest

    def commit(
        self,
        puts: Iterable[Record],
        purges: Collection[str],
        digest: int,
        state: tuple[int, bytes] | None,
    ) -> None:
        """Write all, or nothing, in one commit; durable when it returns."""
        rows = chain(map(_row, puts), (_digest_row(digest),))
        some = list(islice(rows, CHUNK_ROWS))
        if len(some) < CHUNK_ROWS and not purges and state is None:
            self._write_rows(some)
        else:
            with _transaction(self._database):
                while some:
                    self._write_rows(some)
                    some = list(islice(rows, CHUNK_ROWS))
                for key in purges:
                    self._database.execute(FORGET_ROW, (bucket_of(key), key))
                if state is not None:
                    self._write_meta({"epoch": state[0], "state": state[1]})
        self.digest = digest
        if state is not None:
            self.header = Header(self.header.identity, *state)

    def check(self, content: Content, first: int, rows_max: int) -> int:
        """Compare buckets from `first` on with what is held; the bucket to go on from.

        Looks at about `rows_max` rows, at least one bucket. Raises DamagedStorage.
        """
        with _damage_named(self.path):
            self._check_place()
            if first == 0:
                self._check_whole()
            self._database.pragma("shrink_memory")  # read the file, not what was kept
            digests: dict[int, int] = {}
            last = BUCKET_COUNT
            rows = self._database.execute(ALL_ROWS, (first,))
            for count, row in enumerate(rows):
                if count >= rows_max and row[0] not in digests:
                    last = row[0]
                    break
                digests[row[0]] = digests.get(row[0], 0) ^ _record_of(row)[1]
            for bucket in range(first, last):
                if digests.get(bucket, 0) != content.bucket_digest(bucket):
                    raise DamagedStorage(f"{self.path}: rows are missing or changed")
        return last % BUCKET_COUNT

    def take_in_log(self) -> None:
        """Bring what is in the log into the file; closing does too, and hides failure."""
        self._database.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def close(self) -> None:
        """Let go of the file, which takes in its log first if it was found sound."""
        try:
            self._database.close()
        finally:
            os.close(self._descriptor)

    def _check_log(self) -> None:
        """Tell a log whose end was torn by a crash from one that is damaged."""
        log = self._log
        if self._durable and log.exists() and log.stat().st_size:
            frames = self._database.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            if wal.is_damaged(log, max(0, frames[0])):
                raise DamagedStorage(f"{log}: commits follow a damaged one")
        self._database.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)

    def _check_place(self) -> None:
        """That the file and its log are still those that were opened."""
        for path, place in self._places.items():
            try:
                found = _place(path)
            except OSError as error:
                raise DamagedStorage(f"{path} cannot be found: {error}") from error
            if found != place:
                raise DamagedStorage(f"{path} was replaced by another file")

    def _check_whole(self) -> None:
        """That the file says the same of itself as it did."""
        if hasattr(os, "posix_fadvise"):  # so that it is read from the disk
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        self._database.pragma("shrink_memory")  # read the file, not what was kept
        if self._read_schema() != self._schema:
            raise DamagedStorage(f"{self.path}: its tables are not as they were made")
        header = self._read_header()
        if header != self.header:
            raise DamagedStorage(f"{self.path}: what it says of itself has changed")
        if self._read_digest() != self.digest:
            raise DamagedStorage(f"{self.path}: the digest has changed")

    def _read_schema(self) -> list[tuple[Any, ...]]:
        return list(self._database.execute("select * from sqlite_schema"))

    def _read_header(self) -> Header | None:
        """What the file says of itself; None if nothing is in it."""
        rows = list(self._database.execute("select name, value, checksum from meta"))
        found = {row[0]: row[1] for row in rows if row == _meta_row(row[:2])}
        form = found.get("format", FORMAT)
        if form != FORMAT:
            raise FormatUnknown(
                f"{self.path} is of format {form}, this version reads format {FORMAT}: "
                "use the version that wrote it, or another --data-dir"
            )
        if not rows and not list(
            self._database.execute("select 1 from records limit 1")
        ):
            return None
        if len(found) != len(rows) or found.keys() != {
            "format",
            *Header.__struct_fields__,
        }:
            raise DamagedStorage(f"{self.path}: what it says of itself is damaged")
        return Header(found["identity"], found["epoch"], found["state"])

    def _begin(self, header: Header) -> Header:
        with _transaction(self._database):
            self._write_meta({"format": FORMAT, **msgspec.structs.asdict(header)})
            self._write_rows([_digest_row(0)])
        return header

    def _read_digest(self) -> int:
        rows = f"select {COLUMNS} from records where bucket < 0"
        found = list(self._database.execute(rows))
        if len(found) != 1 or found[0] != _digest_row(int.from_bytes(found[0][2])):
            raise DamagedStorage(f"{self.path}: the digest is damaged")
        return int.from_bytes(found[0][2])

    def _write_rows(self, rows: Sequence[tuple[Any, ...]]) -> None:
        values = [value for row in rows for value in row]
        self._database.execute(_write_statement(len(rows)), values)

    def _write_meta(self, values: Mapping[str, Any]) -> None:
        self._database.executemany(WRITE_META, map(_meta_row, values.items()))


def create(path: Path, header: Header, content: Content, *, vfs: str | None) -> None:
    """Write a whole file anew and flush it; nothing but `path` is touched."""
    path.unlink(missing_ok=True)
    file = RecordFile(path, durable=True, vfs=vfs, fresh=lambda: header)
    try:
        file.commit(content.records(), (), content.digest(), None)
        file.take_in_log()
    finally:
        file.close()
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Wreck:
    """A file that failed its checks, opened for what is intact in it."""

    def __init__(self, path: Path, *, vfs: str | None) -> None:
        self._database = _connect(path, durable=True, vfs=vfs)

    def __enter__(self) -> Wreck:
        return self

    def __exit__(self, *error: object) -> None:
        self._database.close()

    def records(self) -> Iterator[Record]:
        """The records that can still be read, from both ends up to what is damaged."""
        for order in ("bucket, key", "bucket desc, key desc"):
            rows = f"select {COLUMNS} from records where bucket >= 0 order by {order}"
            with suppress(*DAMAGE, apsw.IOError):
                for row in self._database.execute(rows):
                    with suppress(*DAMAGE):
                        yield _record_of(row)[0]

    def state(self) -> tuple[int, bytes]:
        """The (epoch, state record) if both are intact, or (0, nothing)."""
        found: dict[str, Any] = {}
        with suppress(*DAMAGE, apsw.IOError):
            for row in self._database.execute("select name, value, checksum from meta"):
                if row == _meta_row(row[:2]):
                    found[row[0]] = row[1]
        if found.keys() >= {"epoch", "state"}:
            return found["epoch"], found["state"]
        return 0, b""


def _connect(path: Path, *, durable: bool, vfs: str | None) -> apsw.Connection:
    """A connection that has the file to itself; its log stays when it is closed."""
    database = apsw.Connection(str(path), vfs=vfs)
    try:
        database.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        database.pragma("locking_mode", "exclusive")
        database.pragma("journal_mode", "wal")
        database.pragma("synchronous", "full" if durable else "normal")
        database.execute("begin immediate; rollback")  # takes the lock
    except (apsw.BusyError, apsw.LockedError) as error:
        database.close()
        raise StorageInUse(
            f"another process has {path} open: stop it, or use another --data-dir"
        ) from error
    except apsw.ReadOnlyError as error:
        database.close()
        if os.access(path, os.W_OK):  # the file says so of itself, the system does not
            raise DamagedStorage(f"{path}: {error}") from error
        raise
    except DAMAGE as error:
        database.close()
        raise DamagedStorage(f"{path}: {error}") from error
    except BaseException:
        database.close()
        raise
    return database


def _extend(log: Path) -> None:
    """Let the log have its whole length from the start.

    To flush a file that grew takes a commit of the file system's journal as well, which
    costs half as much again, and far more on a busy machine. Zeros are no frames.
    """
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        while size < LOG_BYTES:
            size += os.write(descriptor, ZEROS)
        os.fsync(descriptor)
    except OSError:
        pass  # there is no room: it will grow as far as it can
    finally:
        os.close(descriptor)


def _place(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


class _damage_named:  # noqa: N801 - used as a `with` only, and faster than a generator
    """Raises DamagedStorage, with the file's name, for what reading damage raises."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, DAMAGE):
            raise DamagedStorage(f"{self._path}: {error!r}") from error


class _transaction:  # noqa: N801 - as above
    """All that is executed in it is one commit, or nothing of it happens."""

    def __init__(self, database: apsw.Connection) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._database.execute("begin immediate")

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            if error is None:
                self._database.execute("commit")
        finally:
            if self._database.in_transaction:  # SQLite may have rolled back by itself
                self._database.execute("rollback")


@cache
def _write_statement(rows: int) -> str:
    """The statement that writes so many rows."""
    return "insert or replace into records values " + ",".join(["(?,?,?,?,?,?)"] * rows)


def _row(record: Record) -> tuple[Any, ...]:
    encoded = record.key.encode()
    value, expires_at_ms = record.value, record.expires_at_ms
    return (
        xxh3_64_intdigest(encoded) >> BUCKET_SHIFT,
        record.key,
        record.version.to_bytes(VERSION_BYTES),
        value,
        expires_at_ms,
        _checksum(record_digest(encoded, record.version), value, expires_at_ms),
    )


def _record_of(row: Sequence[Any]) -> tuple[Record, int]:
    """The record of a row and its digest; one of DAMAGE if the row is not sound."""
    bucket, key, version, value, expires_at_ms, checksum = row
    record = Record(key, Version.from_bytes(version), value, expires_at_ms)
    encoded = key.encode()
    digest = record_digest(encoded, record.version)
    sound = checksum == _checksum(digest, value, expires_at_ms)
    if not sound or bucket != xxh3_64_intdigest(encoded) >> BUCKET_SHIFT:
        raise ValueError("a row fails its checksum")
    return record, digest


def _checksum(digest: int, value: bytes | None, expires_at_ms: int) -> int:
    """Of a whole row, 63 bits; `digest` stands for its key and version."""
    seed = digest ^ (expires_at_ms << 1 | (value is None))
    return xxh3_64_intdigest(value or b"", seed) >> 1


def _digest_row(digest: int) -> tuple[Any, ...]:
    checksum = xxh3_64_intdigest(b"digest", digest) >> 1
    return (DIGEST_BUCKET, "", digest.to_bytes(8), None, 0, checksum)


def _meta_row(pair: Sequence[Any]) -> tuple[Any, ...]:
    name, value = pair
    return (name, value, xxh3_64_intdigest(f"{name}\0{value!r}".encode()) >> 1)
