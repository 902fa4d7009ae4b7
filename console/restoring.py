"""The work of `restore`: the records of an archive into a store, then compared with it.

Sending one again is harmless: the store takes a record only where it holds none that is
as new. So whatever got no answer is sent again, and a restore that was broken off is
gone on with from the beginning.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO

import msgspec
from msgspec import Raw, Struct

from client import InvalidRequest, KeyNotFound
from console.archive import ArchiveReader, Entry
from console.exits import Exit
from console.saving import AGAIN, Asker, Stopped, Tell, next_page

WORKERS = 8  # requests side by side: durable writes that come together share a flush
BATCH_MAX = 250  # records in one, so that a slow disk answers within a request's time
BATCH_BYTES_MAX = 1 << 19
DATA_LOST = "data_lost"  # to ask again does not help
NAMED_MAX = 5  # keys that are told by name
_encode = msgspec.json.Encoder().encode
_OPEN, _CLOSE = b'{"operations":[', b"]}"


class Limits(Struct, frozen=True):
    """Of the answer of GET /config, what bounds a batch."""

    max_batch: int
    max_body_bytes: int


class Tally(Struct):
    """What became of records."""

    restored: int = 0
    present: int = 0  # the store had them already
    expired: int = 0  # their time was over
    kept: int = 0  # the store has something newer, or a later delete, which stays
    wrong: int = 0  # neither what the archive has, nor anything newer
    added: int = 0  # keys of the store that the archive has not
    kept_keys: list[str] = msgspec.field(default_factory=list)  # the first few
    wrong_keys: list[str] = msgspec.field(default_factory=list)

    @property
    def count(self) -> int:
        """Records that were dealt with."""
        return self.restored + self.present + self.expired + self.kept

    def keep(self, key: str) -> None:
        """Count a key that was left as it is."""
        self.kept += 1
        self.kept_keys = [*self.kept_keys, key][:NAMED_MAX]

    def miss(self, key: str) -> None:
        """Count a key that is not as it should be."""
        self.wrong += 1
        self.wrong_keys = [*self.wrong_keys, key][:NAMED_MAX]

    def add(self, other: Tally) -> None:
        """Count what was counted apart."""
        self.restored += other.restored
        self.present += other.present
        self.expired += other.expired
        self.kept += other.kept
        self.kept_keys = [*self.kept_keys, *other.kept_keys][:NAMED_MAX]


class _Restore(Struct, frozen=True, omit_defaults=True, tag_field="op", tag="restore"):
    """An operation of POST /batch."""

    key: str
    version: str
    value: Raw
    expires_at_ms: int = 0


class _Result(Struct, frozen=True):
    """What came of one: a problem document where the status is not 200."""

    status: int
    version: str | None = None  # that is held now
    code: str = ""
    detail: str = ""


class _Results(Struct, frozen=True):
    results: list[_Result]


class _Found(Struct, frozen=True):
    """Of an answer of GET /read."""

    version: str
    value: Raw


Batch = list[tuple[Entry, bytes]]  # each with its operation as JSON


def send(asker: Asker, file: IO[bytes], done: Tally, tell: Tell) -> None:
    """Restore every record, and count each in `done`.

    Raises Stopped or StoreError where it cannot go on; what was sent stays.
    """
    limits = asker.ask(Limits, "GET", "/config")
    reader = ArchiveReader(file)
    pool = ThreadPoolExecutor(WORKERS)
    waiting: deque[Future[Tally]] = deque()

    def finish_one() -> None:
        done.add(waiting.popleft().result())
        tell("Restoring", done.count, reader.size_bytes)

    try:
        for batch in batches(reader, limits):
            waiting.append(pool.submit(_send, asker, batch))
            if len(waiting) > WORKERS:
                finish_one()
        while waiting:
            finish_one()
    except BaseException:
        asker.end()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def batches(entries: Iterable[Entry], limits: Limits) -> Iterator[Batch]:
    """Records in batches that the store takes; one that is large goes alone."""
    count_max = min(limits.max_batch, BATCH_MAX)
    bytes_max = min(limits.max_body_bytes, BATCH_BYTES_MAX)
    batch: Batch = []
    size = len(_OPEN) + len(_CLOSE)
    for entry in entries:
        restore = _Restore(entry.key, entry.version, entry.value, entry.expires_at_ms)
        text = _encode(restore)
        if batch and (len(batch) == count_max or size + len(text) + 1 > bytes_max):
            yield batch
            batch, size = [], len(_OPEN) + len(_CLOSE)
        batch.append((entry, text))
        size += len(text) + 1
    if batch:
        yield batch


def compare(asker: Asker, file: IO[bytes], done: Tally, tell: Tell) -> None:
    """Read the store back beside the archive; count anew what is not as in the archive.

    Both are in the order of their keys, so one page of the store is in memory.
    """
    done.kept, done.expired, done.kept_keys = 0, 0, []
    reader = ArchiveReader(file)
    held = _held(asker)
    current = next(held, None)
    for count, entry in enumerate(reader, 1):
        while current is not None and current.key < entry.key:
            done.added += 1
            current = next(held, None)
        if current is not None and current.key == entry.key:
            _weigh(entry, current.version, current.value, done)
            current = next(held, None)
        else:
            _look_again(asker, entry, done)
        if count % 1_000 == 0:
            tell("Comparing", count, reader.size_bytes)
    done.added += (current is not None) + sum(1 for _ in held)


def _send(asker: Asker, batch: Batch) -> Tally:
    """Restore some records; those that the store could not take just now again."""
    began = time.monotonic()
    tally = Tally()
    while True:
        again: Batch = []
        for (entry, text), result in zip(batch, _ask(asker, batch), strict=True):
            if result.status == 200:
                tally.restored += 1
            elif result.status == 412:
                _count_held(asker, entry, result.version, tally)
            elif result.code in AGAIN:
                again.append((entry, text))
                reason = result.detail
            else:
                raise _refused(entry, result.detail, result.code)
        if not again:
            return tally
        if not asker.pause(began):
            raise Stopped(reason, Exit.UNAVAILABLE, "unavailable")
        batch = again


def _ask(asker: Asker, batch: Batch) -> list[_Result]:
    """The result of each. A batch that is refused whole is sent one by one."""
    body = _OPEN + b",".join(text for _, text in batch) + _CLOSE
    try:
        return asker.ask(_Results, "POST", "/batch", body=body).results
    except InvalidRequest as error:
        if len(batch) == 1:
            raise _refused(batch[0][0], error.detail, error.code) from error
    return [result for one in batch for result in _ask(asker, [one])]


def _refused(entry: Entry, detail: str, code: str) -> Stopped:
    status = Exit.LOST if code == DATA_LOST else Exit.NO
    return Stopped(f"key {entry.key!r} was refused: {detail}", status, code)


def _count_held(asker: Asker, entry: Entry, version: str | None, tally: Tally) -> None:
    """Count a record that was not taken, as the store holds one that is as new.

    One that is newer may be the same: the store writes again, under a version of today,
    what got no answer.
    """
    if version == entry.version:
        tally.present += 1
        return
    try:
        found = asker.ask(_Found, "GET", "/read", key=entry.key)
    except KeyNotFound:
        _count_gone(entry, tally)
    else:
        if found.value == entry.value:
            tally.present += 1
        else:
            tally.keep(entry.key)


def _count_gone(entry: Entry, tally: Tally) -> None:
    """Count a record that has a tombstone above it."""
    if entry.expires_at_ms:
        tally.expired += 1
    else:
        tally.keep(entry.key)


def _held(asker: Asker) -> Iterator[Entry]:
    """Every record of the store, in order."""
    after: str | None = ""
    while after is not None:
        page = next_page(asker, after)
        yield from page.records
        after = page.next


def _weigh(entry: Entry, version: str, value: Raw, done: Tally) -> None:
    """Whether what the store holds is the record, or above it.

    The same value is right under any version: another engine gives versions of its own.
    """
    if value == entry.value:
        return
    if version > entry.version:
        done.keep(entry.key)
    else:
        done.miss(entry.key)


def _look_again(asker: Asker, entry: Entry, done: Tally) -> None:
    """Why a record is not among those of the store."""
    if 0 < entry.expires_at_ms <= time.time() * 1000:
        done.expired += 1
        return
    try:
        found = asker.ask(_Found, "GET", "/read", key=entry.key)
    except KeyNotFound as error:
        if error.deleted and (error.version or "") > entry.version:
            _count_gone(entry, done)
        else:
            done.miss(entry.key)
    else:
        _weigh(entry, found.version, found.value, done)
