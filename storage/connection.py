"""A connection to a SQLite file that has it to itself, and what may be wrong with a file."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw

from storage.base import DamagedStorage, StorageInUse

ZEROS = bytes(1 << 16)

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


def connect(path: Path, *, durable: bool, vfs: str | None) -> apsw.Connection:
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


def extend(log: Path, log_bytes: int) -> int:
    """Let the log have its whole length from the start; how many bytes it will not lose.

    To flush a file that grew takes a commit of the file system's journal as well, which
    costs half as much again, and far more on a busy machine. Zeros are no frames. Where
    there is no room nothing is laid out.
    """
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        size = before = os.lseek(descriptor, 0, os.SEEK_END)
        while size < log_bytes:
            size += os.write(descriptor, ZEROS)
        os.fsync(descriptor)
        return log_bytes
    except OSError:
        with suppress(OSError):  # what was laid out may be the last room that there is
            os.ftruncate(descriptor, before)
        return 0
    finally:
        os.close(descriptor)


def size_of(path: Path) -> int:
    """The bytes of a file; 0 if it is not there."""
    return path.stat().st_size if path.exists() else 0


def place_of(path: Path) -> tuple[int, int]:
    """Which file a path names now, as (device, inode)."""
    found = path.stat()
    return found.st_dev, found.st_ino


class damage_named:  # noqa: N801 - used as a `with` only, and faster than a generator
    """Raises DamagedStorage, with the file's name, for what reading damage raises."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, DAMAGE):
            raise DamagedStorage(f"{self._path}: {error!r}") from error


class transaction:  # noqa: N801 - as above
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
