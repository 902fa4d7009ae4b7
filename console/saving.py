"""The work of `backup`: every record of a running store into one file, or no file.

The file comes to its name whole, flushed and read back, or not at all; until then it
lies beside it as `<name>.part-...`, which any end but a kill removes.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec
from msgspec import Struct

from access import WRITE, cannot
from client import Client, StoreError
from console.archive import ArchiveWriter, Damaged, Entry, Header, Summary, check
from console.exits import Exit

T = TypeVar("T")
Tell = Callable[[str, int, int], None]  # what is done, and its records and bytes so far
PAGE = 1_000
PAUSE_SECONDS = 1.0  # what the store's Retry-After says
# What goes away by itself; to ask again is harmless, as reads and restores are.
AGAIN = frozenset(
    "unavailable overloaded timeout uncertain request_timeout no_connection".split()
)
_START = "process_start_time_seconds"


class Stopped(Exception):
    """The work ended before its end: why, and the status to exit with."""

    def __init__(self, text: str, status: Exit, code: str) -> None:
        super().__init__(text)
        self.status = status
        self.code = code


class Asker:
    """Asks a store, and again for `seconds` while it cannot answer; for many threads."""

    def __init__(self, client: Client, seconds: float) -> None:
        self._client = client
        self._seconds = seconds
        self._ending = threading.Event()

    def ask(self, shape: type[T], method: str, path: str, **given: Any) -> T:
        """The answer in its shape. Raises StoreError."""
        began = time.monotonic()
        while True:
            try:
                return self.ask_once(shape, method, path, **given)
            except StoreError as error:
                if error.code not in AGAIN or not self.pause(began):
                    raise

    def ask_once(self, shape: type[T], method: str, path: str, **given: Any) -> T:
        """The same, without patience."""
        answer = self._client.call(method, path, **given)
        try:
            return msgspec.json.decode(answer, type=shape)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            text = f"{method} {path} does not answer like a store's: {error}"
            raise Stopped(text, Exit.WRONG, "unknown") from error

    def pause(self, began: float) -> bool:
        """Wait before asking again; False: it went on for too long, or must end."""
        if time.monotonic() + PAUSE_SECONDS > began + self._seconds:
            return False
        return not self._ending.wait(PAUSE_SECONDS)

    def end(self) -> None:
        """Let no thread ask again."""
        self._ending.set()

    def process(self) -> str:
        """Differs between two processes that served, where the system can tell."""
        page = self._client.metrics().splitlines()
        return next((line for line in page if line.startswith(_START)), "")

    def check_empty(self) -> None:
        """Stopped if the store has any key."""
        page = self.ask(_KeyPage, "GET", "/keys", limit=1)
        if page.keys:
            text = (
                f"the store has keys, such as {page.keys[0]['key']!r}, and a restore goes "
                "into an empty one (--resume goes on with one that was broken off)"
            )
            raise Stopped(text, Exit.NO, "not_empty")

    def check_process(self, before: str) -> None:
        """Stopped if another process serves now: it may have begun with nothing."""
        if self.process() != before:
            text = "the store was started anew in the middle, and may have lost keys"
            raise Stopped(text, Exit.UNAVAILABLE, "restarted")


class RecordPage(Struct, frozen=True):
    """An answer of GET /records."""

    records: list[Entry]
    next: str | None


class _KeyPage(Struct, frozen=True):
    keys: list[dict[str, Any]]


class _Cluster(Struct, frozen=True):
    """Of the answer of GET /nodes, what a backup is told of."""

    nodes: list[dict[str, Any]]
    replication_factor: int
    placement: str
    protocol: str


def save(asker: Asker, target: Path, *, force: bool, tell: Tell) -> Summary:
    """Write `target`, and tell what it holds.

    Raises Stopped or StoreError, and then there is no new file. `force` replaces one
    that is there.
    """
    if not force:
        _check_free(target)
    try:
        number, part = tempfile.mkstemp(
            prefix=f"{target.name}.part-", dir=target.parent
        )
    except OSError as error:
        raise _unwritable(target, error, Exit.WRONG) from error
    try:
        with open(number, "w+b") as file:
            count = _copy(asker, file, tell)
            summary = _read_back(file, tell)
            assert summary.records == count, (summary.records, count)
        _put_in_place(part, target, force=force)
    except OSError as error:
        raise _unwritable(target, error, Exit.NO) from error
    except Damaged as error:
        text = f"what was written to {target} does not read back: {error}"
        raise Stopped(text, Exit.NO, "damaged") from error
    finally:
        with suppress(FileNotFoundError):
            os.unlink(part)
    return summary


def next_page(asker: Asker, after: str) -> RecordPage:
    """The records after a key. Stopped if there is no end to them."""
    page = asker.ask(RecordPage, "GET", "/records", after=after, limit=PAGE)
    if page.next is not None and page.next <= after:
        text = f"GET /records goes back (after={after!r}, next={page.next!r})"
        raise Stopped(text, Exit.WRONG, "unknown")
    return page


def _copy(asker: Asker, file: IO[bytes], tell: Tell) -> int:
    """Write everything, and the end of it; the number of records."""
    cluster = asker.ask_once(_Cluster, "GET", "/nodes")
    process = asker.process()
    header = Header(
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        nodes=len(cluster.nodes),
        replication_factor=cluster.replication_factor,
        placement=cluster.placement,
        protocol=cluster.protocol,
    )
    writer = ArchiveWriter(file, header)
    after: str | None = ""
    while after is not None:
        page = next_page(asker, after)
        for entry in page.records:
            writer.add(entry)
        tell("Backing up", writer.records, writer.size_bytes)
        after = page.next
    asker.check_process(process)
    writer.finish()
    return writer.records


def _read_back(file: IO[bytes], tell: Tell) -> Summary:
    """Check what the disk has, where the system lets its own cache go."""
    file.flush()
    os.fsync(file.fileno())
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return check(file, lambda count, size: tell("Verifying", count, size))


def _put_in_place(part: str, target: Path, *, force: bool) -> None:
    """Give the file its name, durably."""
    if force:
        os.replace(part, target)
    else:
        try:
            os.link(part, target)  # fails if another made it meanwhile
            os.unlink(part)
        except OSError:
            _check_free(target)
            os.rename(part, target)  # a file system without links
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _check_free(target: Path) -> None:
    if os.path.lexists(target):
        text = f"{target} is there already: name another, or replace it with --force"
        raise Stopped(text, Exit.WRONG, "file_exists")


def _unwritable(target: Path, error: OSError, status: Exit) -> Stopped:
    return Stopped(cannot(WRITE, target, error), status, "cannot_write")
