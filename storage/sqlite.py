"""A replica's records in memory with a SQLite file behind them.

The file is read when it is opened and when it is scrubbed, never to serve. So what is in
memory is the truth while the process lives, and a file that is damaged or whose disk
failed is written anew from it.
"""

from __future__ import annotations

import gc
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw
from msgspec.structs import replace

from access import KEEP, cannot
from models import Record, Refused, Staged, Unconfirmed, Version
from storage import mark
from storage.base import (
    DamagedStorage,
    FormatUnknown,
    Storage,
    StorageEnded,
    StorageInUse,
)
from storage.committer import Committer
from storage.content import Content
from storage.durations import Durations
from storage.file import Header, RecordFile, create
from storage.folder import Folder, flush
from storage.wreck import Wreck

# The disk does not let us in, or does not answer. That says nothing of the content.
UNREADABLE = (
    OSError,
    apsw.CantOpenError,
    apsw.IOError,
    apsw.FullError,
    apsw.ReadOnlyError,
    apsw.PermissionsError,
    apsw.AuthError,
)
UNUSABLE = (*UNREADABLE, DamagedStorage, StorageInUse, FormatUnknown)
UNWRITABLE = (apsw.CorruptError, apsw.NotADBError, apsw.ReadOnlyError)  # by damage
log = logging.getLogger(__name__)


class _Batch(Staged):
    """Changes that share one commit. `result()` returns once they are durable."""

    __slots__ = ("_storage", "begun", "done", "error", "purges", "records", "state")

    def __init__(self, storage: SqliteStorage) -> None:
        self._storage = storage
        self.records: list[Record] = []
        self.purges: dict[str, Version] = {}
        self.state: tuple[int, bytes] | None = None
        self.begun = False
        self.done = False
        self.error: Exception | None = None

    def begin(self) -> None:
        """Have the storage's own thread commit it."""
        if not self.begun:
            self.begun = True
            self._storage.committer.put(self)

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

    def begin(self) -> None:
        """Have the storage's own thread commit it."""
        self._batch.begin()

    def result(self) -> Version | None:
        """Wait for the commit; the highest version held that kept a record out."""
        self._batch.result()
        held = ((self._content.get(record.key), record) for record in self._records)
        newer = (h.version for h, r in held if h is not None and h.version > r.version)
        return max(newer, default=None)


class SqliteStorage(Storage):
    """A node's records in memory, with a SQLite file in a folder of its own behind them.

    Group commit: whoever first waits for the open batch commits it for all who are in it,
    while the next batch fills; a caller who waits for several storages commits one itself
    and lets the others' threads do theirs at the same time. `durable` False leaves flushing
    to the operating system: a killed process loses nothing, a power cut may. What it loads
    it shares with other nodes through `known`, by key.

    A folder that cannot be read leaves it with a `problem` and nothing in it. A damaged
    file is set aside, and what is intact in it begins a new one, of a new identity.
    """

    def __init__(
        self,
        folder: Path,
        *,
        durable: bool = True,
        known: dict[str, Record] | None = None,
        new_identity: Callable[[], str] | None = None,
        vfs: str | None = None,
    ) -> None:
        self._folder = Folder(folder)
        self._durable = durable
        self._known: dict[str, Record] | None = {} if known is None else known
        self._new_identity = new_identity or (lambda: secrets.token_hex(8))
        self._vfs = vfs
        self._queue_lock = threading.Lock()
        self._commit_lock = threading.Lock()
        self.committer = Committer(self.commit)
        self.commits: Durations = Durations()
        self._content = Content()
        self._state: tuple[int, bytes] | None = None
        self._open_batch = _Batch(self)
        self._file: RecordFile | None = None
        self._generation = 0
        self._scrubbed = 0  # the bucket to go on from
        self._mended: str | None = None  # damage that a commit met, to be told of
        self.identity = ""
        try:
            self._open()
        except (*UNREADABLE, DamagedStorage) as error:
            self.problem = f"cannot open {folder}: {error}"

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
            self._commit(batch)

    def _commit(self, batch: _Batch) -> None:
        """Write a batch, or note in it why that failed.

        A full disk refuses it: nothing was written. A write that failed leaves it
        unconfirmed, and the file as it was for whoever comes next. Whatever else goes
        wrong ends the storage: a failed flush is never tried again and believed.
        """
        try:
            self._write_or_mend(batch)
        except Refused as error:
            batch.error = error
        except apsw.FullError as error:
            batch.error = Refused(self._note(f"the disk is full: {error}"))
        except apsw.IOError as error:
            if getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_WRITE:
                batch.error = Unconfirmed(self._note(f"a write failed: {error}"))
            else:
                batch.error = self._end(error)
        except BaseException as error:
            batch.error = self._end(error)
            if not isinstance(error, Exception):
                raise

    def _write_or_mend(self, batch: _Batch) -> None:
        """Write a batch; into a new file, written from memory, if the file is damaged."""
        try:
            self._write(batch)
        except UNWRITABLE as error:
            self._mended = f"{self._folder.file(self._generation)}: {error}"
            self._rewrite()
            self._write(batch)

    def reopen(self) -> None:
        """Make storage with a problem usable again; StorageEnded if it still is not.

        From what is in memory, which is all that was acknowledged: after a failed flush
        the system may show what is not on the disk. From the file if it was never read.
        """
        with self._commit_lock:
            if self.problem is None:
                return
            try:
                if self.identity:
                    self._rewrite()
                else:
                    self._open()
            except UNUSABLE as error:
                raise self._end(error) from error
            self.problem = None

    def scrub(self, rows_max: int) -> str | None:
        """Compare the next rows of the file with what is held; mend it if they differ."""
        with self._commit_lock:
            if self._file is None or self.problem is not None:
                return None
            try:
                self._scrubbed = self._file.check(
                    self._content, self._scrubbed, rows_max
                )
                mended, self._mended = self._mended, None
                return mended
            except (DamagedStorage, FormatUnknown, apsw.IOError) as error:
                damage = str(error)
            try:
                self._rewrite()
            except UNUSABLE as error:
                raise self._end(error) from error
            return damage

    def wipe(self) -> None:
        """Delete every file and begin anew with a new identity."""
        with self._commit_lock:
            self._close_file()
            self._content, self._state, self.identity = Content(), None, ""
            try:
                self._folder.make()
                self._folder.clear()
                self.damage = None
                self._open()
            except UNUSABLE as error:
                raise self._end(error) from error
            self.problem = None

    def close(self) -> None:
        """Let go of the file and of the thread."""
        self.committer.close()
        with self._commit_lock:
            if self._file is not None and self.problem is None:
                # What fails is in the log, and the log stays.
                with suppress(apsw.Error):
                    self._file.end_use()
            self._close_file()

    def _write(self, batch: _Batch) -> None:
        if self.problem is not None:
            raise StorageEnded(self.problem)
        if self._file is None:
            raise Refused("the storage is closed")
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
        digest = self._file.digest ^ content.digest_change(records, purges)
        began = time.perf_counter()
        self._file.commit(records.values(), purges, digest, state)
        self.commits.add(time.perf_counter() - began)
        if records:  # a state record may still fit where they do not
            self.trouble = None
        content.put_many(records.values())
        content.purge(purges)
        self._state = state or self._state

    def _note(self, trouble: str) -> str:
        """Tell of a failed commit, once for many in a row."""
        if self.trouble is None:
            log.warning("%s: %s", self._folder.path, trouble)
        self.trouble = trouble
        return f"{self._folder.path}: {trouble}"

    def _end(self, error: BaseException) -> StorageEnded:
        if self.problem is None or not isinstance(error, StorageEnded):
            self.problem = cannot(KEEP, self._folder.path, error)
            log.error("storage failed: %s", self.problem)
        return StorageEnded(self.problem)

    def _open(self) -> None:
        """Read the newest file into memory, or begin one."""
        folder = self._folder
        folder.make()
        self._generation = folder.generation() or 1
        folder.check_files(self._generation)
        self.epoch_marked = mark.newest_epoch(folder.path)
        try:
            self._load(self._open_file())
            folder.tidy(self._generation)
        except DamagedStorage as error:
            log.warning(
                "%s; it is set aside, and what is intact begins a new one", error
            )
            self.damage = str(error)
            content, (epoch, state) = self._salvaged()
            self._replace(content, Header(self._new_identity(), epoch, state))
        self._known = None

    def _open_file(self) -> RecordFile:
        path = self._folder.file(self._generation)
        is_new = not path.exists()
        fresh = Header(self._new_identity(), 0, b"")
        file = RecordFile(
            path, durable=self._durable, vfs=self._vfs, fresh=lambda: fresh
        )
        if is_new:
            flush(self._folder.path)
        return file

    def _load(self, file: RecordFile) -> None:
        known = self._known
        content = Content()
        try:
            with _garbage_collector_paused():
                content.fill(file.records({} if known is None else known))
            if content.digest() != file.digest:
                raise DamagedStorage(f"{file.path}: rows are missing or were changed")
        except BaseException:
            file.close()
            raise
        try:
            self._take(file, content)
        except UNWRITABLE as error:  # all of it was read, and was sound
            self._mended = f"{file.path}: {error}"
            self._replace(content, replace(file.header, log_bytes=None))

    def _take(self, file: RecordFile, content: Content) -> None:
        try:
            file.use(self.epoch_marked)
        except BaseException:
            file.close()
            raise
        header = file.header
        self._file, self._content, self._scrubbed = file, content, 0
        self.identity = header.identity
        self._state = (header.epoch, header.state) if header.epoch else None

    def _salvaged(self) -> tuple[Content, tuple[int, bytes]]:
        """What is intact in the damaged file, and its (epoch, state record).

        The records are a copy to be compared, never the truth; the state record has a
        checksum of its own, and tells that this copy is not the one that it knew.
        """
        content = Content()
        path = self._folder.file(self._generation)
        with suppress(DamagedStorage, *UNREADABLE), Wreck(path, vfs=self._vfs) as wreck:
            content.put_many(wreck.records())
            return content, wreck.state()
        return content, (0, b"")

    def _rewrite(self) -> None:
        """Write what is in memory to a new file, which takes the old one's place."""
        epoch, state = self._state or (0, b"")
        self._replace(self._content, Header(self.identity, epoch, state))

    def _replace(self, content: Content, header: Header) -> None:
        folder, old = self._folder, self._generation
        folder.make()
        new = max(old, folder.generation()) + 1
        create(folder.unfinished(new), header, content, vfs=self._vfs)
        self._close_file()
        folder.publish(new)
        self._generation = new
        self._take(self._open_file(), content)
        folder.set_aside(old)  # once the new mark tells what the old one told
        folder.tidy(new)

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(apsw.Error):
                file.close()


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
