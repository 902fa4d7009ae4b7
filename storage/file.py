"""One SQLite file of records: its form, its checksums, and how it is read and written.

Each row carries a checksum, and each commit the digest of the whole, so that a row that
changed, vanished or was swapped for an older one is noticed. While a file is in use it
says so, and what must lie beside it: a log that is as long as it was laid out, and the
mark of the last commit that was acknowledged (storage/mark.py). So a log that is missing,
cut, older or another's is noticed too. A commit is one statement where it can be: each
statement lets go of the interpreter's lock once, and taking it again among busy threads
costs more than the statement.
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
from msgspec.structs import replace
from xxhash import xxh3_64_intdigest

from models import Record, Version, record_digest
from storage import mark, wal
from storage.base import DamagedStorage, FormatUnknown
from storage.connection import (
    connect,
    damage_named,
    extend,
    place_of,
    size_of,
    transaction,
)
from storage.content import BUCKET_COUNT, BUCKET_SHIFT, Content, bucket_of
from storage.rows import (
    COLUMNS,
    checksum_of,
    digest_row,
    meta_row,
    older_digest_row,
    record_of,
    row_of,
)

FORMAT = 3
FORMAT_WITHOUT_MARK = 2  # it is read, and changed to this one when it is first used
CHUNK_ROWS = 256  # in one statement
LOG_BYTES = 4_500_000  # of SQLite's 1,000 pages between checkpoints
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
ALL_ROWS = f"select {COLUMNS} from records where bucket >= ? order by bucket, key"
FORGET_ROW = "delete from records where bucket = ? and key = ?"
WRITE_META = "insert or replace into meta values (?, ?, ?)"


class Header(msgspec.Struct, frozen=True):
    """What a file says of itself.

    `log_bytes`: it is in use, and its log at least so long; None: it is not in use.
    """

    identity: str
    epoch: int  # of the state record; 0: there is none
    state: bytes
    log_bytes: int | None = None


class RecordFile:
    """An open file of records. One thread at a time.

    Raises StorageInUse, FormatUnknown or DamagedStorage, or what the disk does, when it
    is opened. `durable` False leaves flushing to the operating system.
    """

    def __init__(
        self, path: Path, *, durable: bool, vfs: str | None, fresh: Callable[[], Header]
    ) -> None:
        self.path = path
        self.digest = 0
        self.commits = 0  # the number of the last one
        self._log = path.with_name(f"{path.name}-wal")
        self._mark_path = mark.beside(path)
        self._mark: mark.Mark | None = None
        self._epoch_marked = 0
        self._keeps_log = True  # at the close
        self._durable = durable
        self._lays_out_log = durable and vfs is None
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        self._database = connect(path, durable=durable, vfs=vfs)
        # Open for as long as the database is: to close it gives up SQLite's lock.
        self._descriptor = os.open(path, os.O_RDONLY)
        try:
            with damage_named(path):
                with self._database:
                    self._database.execute(SCHEMA)
                self._format, header = self._read_header()
                self.header = header or self._begin(fresh())
                self.digest, self.commits = self._read_digest()
                self._check_beside()
                self._check_log()
                self._schema = self._read_schema()
            self._places = self._found_places()
            self._keeps_log = self.header.log_bytes is not None
        except BaseException:
            self.close()
            raise

    def records(self, known: dict[str, Record]) -> Iterator[tuple[int, Record, int]]:
        """Every record, checked, with its bucket and its digest, in order of buckets.

        One that is equal to that in `known` is shared with it; the others are added.
        """
        from_bytes, share = Version.from_bytes, known.setdefault
        with damage_named(self.path):
            for row in self._database.execute(ALL_ROWS, (0,)):
                bucket, key, version, value, expires_at_ms, checksum = row
                record = Record(key, from_bytes(version), value, expires_at_ms)
                encoded = key.encode()
                digest = record_digest(encoded, record.version)
                sound = checksum == checksum_of(digest, value, expires_at_ms)
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
        number = self.commits + 1
        rows = chain(
            map(row_of, puts), (digest_row(digest, number, self.header.identity),)
        )
        some = list(islice(rows, CHUNK_ROWS))
        if len(some) < CHUNK_ROWS and not purges and state is None:
            self._write_rows(some)
        else:
            with transaction(self._database):
                while some:
                    self._write_rows(some)
                    some = list(islice(rows, CHUNK_ROWS))
                for key in purges:
                    self._database.execute(FORGET_ROW, (bucket_of(key), key))
                if state is not None:
                    self._write_meta({"epoch": state[0], "state": state[1]})
        if state is not None:
            self.header = replace(self.header, epoch=state[0], state=state[1])
        self._count(number, digest)

    def use(self, epoch_marked: int) -> None:
        """Say in the file that it is in use, and lay beside it what must be there then.

        Before the first commit that anybody is told of. The mark goes on telling of
        `epoch_marked` until the file has a newer one. Raises what the disk does.
        """
        self._epoch_marked = epoch_marked
        log_bytes = extend(self._log, LOG_BYTES) if self._lays_out_log else 0
        now = mark.Noted(self.commits, max(epoch_marked, self.header.epoch))
        self._mark = mark.Mark(
            self._mark_path, self.header.identity, now, durable=self._durable
        )
        self._places = self._found_places()
        self._keeps_log = True
        if (self._format, self.header.log_bytes) != (FORMAT, log_bytes):
            self._say(log_bytes)

    def end_use(self) -> None:
        """Say in the file that it was closed in good order: nothing belongs beside it.

        Once everything else is in it: what is copied last into a file may be there first.
        """
        self.take_in_log()
        self._say(None)
        self._keeps_log = False

    def check(self, content: Content, first: int, rows_max: int) -> int:
        """Compare buckets from `first` on with what is held; the bucket to go on from.

        Looks at about `rows_max` rows, at least one bucket. Raises DamagedStorage.
        """
        with damage_named(self.path):
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
                digests[row[0]] = digests.get(row[0], 0) ^ record_of(row)[1]
            for bucket in range(first, last):
                if digests.get(bucket, 0) != content.bucket_digest(bucket):
                    raise DamagedStorage(f"{self.path}: rows are missing or changed")
        return last % BUCKET_COUNT

    def take_in_log(self) -> None:
        """Bring what is in the log into the file, which closing does too at the end of use."""
        frames, copied = self._database.wal_checkpoint()
        assert frames == copied, f"nobody else reads it ({frames=}, {copied=})"

    def close(self) -> None:
        """Let go of the file; its log stays while the file says that it is in use."""
        try:
            if not (self._keeps_log and size_of(self._log)):
                self._database.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
            self._database.close()
        finally:
            os.close(self._descriptor)
            if self._mark is not None:
                self._mark.close()

    def _say(self, log_bytes: int | None) -> None:
        """Say how long the log is laid out, or that it is not in use, in the file itself."""
        number = self.commits + 1
        header = replace(self.header, log_bytes=log_bytes)
        with transaction(self._database):
            if self._format != FORMAT:
                self._write_meta({"format": FORMAT})
            self._write_meta({"log_bytes": log_bytes})
            self._write_rows([digest_row(self.digest, number, header.identity)])
        self.take_in_log()
        self.header, self._format = header, FORMAT
        self._count(number, self.digest)

    def _count(self, number: int, digest: int) -> None:
        """Note that a commit is made."""
        self.commits, self.digest = number, digest
        if self._mark is not None:
            with suppress(OSError):  # it is made all the same
                self._mark.note(number, max(self._epoch_marked, self.header.epoch))

    def _check_beside(self) -> None:
        """That what must lie beside the file does: none of it missing, old or another's."""
        log_bytes = self.header.log_bytes
        noted = mark.read(self._mark_path, self.header.identity)
        if log_bytes is not None:
            found = size_of(self._log)
            if found < log_bytes:
                raise DamagedStorage(
                    f"{self._log} is missing or was cut (bytes={found}, were {log_bytes})"
                )
            if noted is None:
                raise DamagedStorage(
                    f"{self._mark_path} is missing, damaged or another file's"
                )
        if noted is not None and self.commits < noted.commit:
            raise DamagedStorage(
                f"commits are missing in {self._log} or the file itself, one of which is "
                f"older, cut or damaged (last={self.commits}, acknowledged={noted.commit})"
            )

    def _check_log(self) -> None:
        """Tell a log whose end was torn by a crash from one that is damaged."""
        log = self._log
        if self._durable and size_of(log):
            frames = self._database.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            if wal.is_damaged(log, max(0, frames[0])):
                raise DamagedStorage(f"{log}: commits follow a damaged one")

    def _found_places(self) -> dict[Path, tuple[int, int]]:
        paths = (self.path, self._log, self._mark_path)
        return {path: place_of(path) for path in paths if path.exists()}

    def _check_place(self) -> None:
        """Raise DamagedStorage unless all files are still those that were opened."""
        for path, place in self._places.items():
            try:
                found = place_of(path)
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
        if self._read_header() != (self._format, self.header):
            raise DamagedStorage(f"{self.path}: what it says of itself has changed")
        if self._read_digest() != (self.digest, self.commits):
            raise DamagedStorage(f"{self.path}: the digest has changed")

    def _read_schema(self) -> list[tuple[Any, ...]]:
        return list(self._database.execute("select * from sqlite_schema"))

    def _read_header(self) -> tuple[int, Header | None]:
        """The file's format, and what it says of itself; None if nothing is in it."""
        rows = list(self._database.execute("select name, value, checksum from meta"))
        found = {row[0]: row[1] for row in rows if row == meta_row(row[:2])}
        form = found.get("format", FORMAT)
        if form not in (FORMAT, FORMAT_WITHOUT_MARK):
            raise FormatUnknown(
                f"{self.path} is of format {form}, this version reads format {FORMAT}: "
                "use the version that wrote it, or another --data-dir"
            )
        if not rows and not list(
            self._database.execute("select 1 from records limit 1")
        ):
            return FORMAT, None
        expected = {"format", *Header.__struct_fields__}
        if form == FORMAT_WITHOUT_MARK:
            expected.remove("log_bytes")
        if len(found) != len(rows) or found.keys() != expected:
            raise DamagedStorage(f"{self.path}: what it says of itself is damaged")
        del found["format"]
        return form, Header(**found)

    def _begin(self, header: Header) -> Header:
        with transaction(self._database):
            self._write_meta({"format": FORMAT, **msgspec.structs.asdict(header)})
            self._write_rows([digest_row(0, 0, header.identity)])
        return header

    def _read_digest(self) -> tuple[int, int]:
        """The digest of the whole, and the number of the last commit."""
        rows = f"select {COLUMNS} from records where bucket < 0"
        found = list(self._database.execute(rows))
        digest, commit = (int.from_bytes(found[0][2]), found[0][4]) if found else (0, 0)
        right = digest_row(digest, commit, self.header.identity)
        if self._format == FORMAT_WITHOUT_MARK:
            right = older_digest_row(digest)
        if found != [right]:
            raise DamagedStorage(f"{self.path}: the digest is damaged")
        return digest, commit

    def _write_rows(self, rows: Sequence[tuple[Any, ...]]) -> None:
        values = [value for row in rows for value in row]
        self._database.execute(_write_statement(len(rows)), values)

    def _write_meta(self, values: Mapping[str, Any]) -> None:
        self._database.executemany(WRITE_META, map(meta_row, values.items()))


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


@cache
def _write_statement(rows: int) -> str:
    """The statement that writes so many rows."""
    return "insert or replace into records values " + ",".join(["(?,?,?,?,?,?)"] * rows)
