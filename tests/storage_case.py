"""What the tests of storage share: records, folders, and disks that fail on purpose."""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import pytest

from db import SqliteStorage, Storage
from models import Record, Staged, Version
from storage.content import Content
from storage.file import RecordFile

FIRST = "records-1.db"  # the file of a folder that is new
SECOND = "records-2.db"
LOG = f"{FIRST}-wal"
MARK = f"{FIRST}-mark"
PLAIN = "unix"  # the ordinary file system, by its name


def record(key: str, number: int, value: bytes | None = b'"v"', expires: int = 0):
    return Record(key, Version(number << Version.MS_SHIFT), value, expires)


def finish(answer: Any) -> Any:
    """What a storage answers once it is durable."""
    return answer.result() if isinstance(answer, Staged) else answer


def put(storage: Storage, *records: Record) -> Version | None:
    version: Version | None = finish(storage.put_many(records))
    return version


def held(storage: Storage) -> dict[str, Record]:
    return {found.key: found for found in storage.content.scan("", "", 1 << 30)}


def files_of(name: str) -> list[str]:
    """The files of a generation in use, in order of names."""
    return [name, f"{name}-mark", f"{name}-wal"]


def by_key(*records: Record) -> dict[str, Record]:
    return {found.key: found for found in records}


def filled(records: dict[str, Record]) -> Content:
    content = Content()
    content.put_many(records.values())
    return content


def open_folder(folder: Path, **options: Any) -> SqliteStorage:
    """A storage that leaves flushing to the system, unless `options` say otherwise."""
    return SqliteStorage(folder, **{"durable": False, **options})


def open_durable(folder: Path, vfs: str | None = PLAIN) -> SqliteStorage:
    """A storage that flushes, and does not lay out its log in advance: that takes long."""
    return SqliteStorage(folder, vfs=vfs)


def file_of(storage: SqliteStorage) -> RecordFile:
    assert storage._file is not None, "the storage has no file open"
    return storage._file


def alter(storage: SqliteStorage, statement: str, values: Any = None) -> None:
    """Change the file behind the storage's back."""
    database = file_of(storage)._database
    before = database.total_changes()
    database.execute(statement, values)
    assert database.total_changes() > before, f"it changed nothing ({statement})"


def flip(path: Path, place: int, mask: int = 0x40) -> None:
    """Change one byte of a file, where it is."""
    with path.open("r+b") as file:
        file.seek(place)
        [byte] = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ mask]))


def flip_in(path: Path, text: bytes) -> None:
    """Change a byte in the middle of the first place at which a file has this text."""
    place = path.read_bytes().find(text)
    assert place >= 0, f"{path.name} does not have it (text={text!r})"
    flip(path, place + len(text) // 2)


def copy_files(folder: Path, target: Path) -> Path:
    """What a process killed now would leave."""
    shutil.copytree(folder, target)
    return target


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def file_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- Disks that fail ---------------------------------------------------------------------


def failed_write() -> apsw.IOError:
    return _io_error(apsw.SQLITE_IOERR_WRITE)


def failed_read() -> apsw.IOError:
    return _io_error(apsw.SQLITE_IOERR_READ)


def failed_flush() -> apsw.IOError:
    return _io_error(apsw.SQLITE_IOERR_FSYNC)


def no_room() -> apsw.FullError:
    return apsw.FullError("planted")


def _io_error(code: int) -> apsw.IOError:
    error = apsw.IOError("planted")
    error.extendedresult = code  # type: ignore[attr-defined]
    return error


Fault = Callable[[str, str, int], Exception | None]


class FaultyDisk(apsw.VFS):
    """The real file system, until `fault` says otherwise of a call.

    It is told the kind of call, the name of the file, and the number of the call.
    """

    name = "faulty"

    def __init__(self) -> None:
        super().__init__(self.name, "unix")
        self.calls: list[tuple[str, str]] = []
        self.fault: Fault = lambda kind, file, number: None

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        file = os.path.basename(path)
        self.reach("open", file)
        return FaultyFile(self, file, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        self.reach("delete", os.path.basename(filename))
        super().xDelete(filename, syncdir)

    def reach(self, kind: str, file: str) -> None:
        self.calls.append((kind, file))
        if (error := self.fault(kind, file, len(self.calls))) is not None:
            raise error

    def fail(
        self, error: Callable[[], Exception], at: int, *kinds: str, file: str = ""
    ) -> None:
        """Fail at the `at`-th call of these kinds, on files of such a name, from now on."""
        left = iter(range(at - 1, -1, -1))

        def fault(kind: str, name: str, _: int) -> Exception | None:
            chosen = kind in kinds and name.endswith(file)
            return error() if chosen and next(left, -1) == 0 else None

        self.fault = fault

    def fail_always(self, error: Callable[[], Exception], *kinds: str) -> None:
        """Fail at every call of these kinds from now on."""
        self.fault = lambda kind, file, number: error() if kind in kinds else None

    def mend(self) -> None:
        self.fault = lambda kind, file, number: None


class FaultyFile(apsw.VFSFile):
    def __init__(
        self, disk: FaultyDisk, file: str, name: Any, flags: list[int]
    ) -> None:
        self._disk = disk
        self._file = file
        super().__init__("unix", name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        self._disk.reach("read", self._file)
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._disk.reach("write", self._file)
        super().xWrite(data, offset)
        self._disk.reach("written", self._file)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self._disk.reach("truncate", self._file)
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.reach("flush", self._file)
        super().xSync(flags)


@contextmanager
def faulty_disk() -> Iterator[FaultyDisk]:
    made = FaultyDisk()
    try:
        yield made
    finally:
        made.unregister()


@contextmanager
def left_by_kills(disk: FaultyDisk, folder: Path, target: Path) -> Iterator[list[Path]]:
    """Copies of a folder as a kill would leave it, one from before each step.

    A step is whatever changes or flushes a file or folder.
    """
    copies: list[Path] = []
    looking = False

    def look() -> None:
        nonlocal looking
        if not looking and folder.exists():
            looking = True
            copies.append(copy_files(folder, target / f"step-{len(copies)}"))
            looking = False

    def fault(kind: str, file: str, number: int) -> None:
        if kind not in ("open", "read", "written"):
            look()

    def looking_first(real: Callable[..., Any], *given: Any, **named: Any) -> Any:
        look()
        return real(*given, **named)

    with pytest.MonkeyPatch.context() as patch:
        for name in ("rename", "unlink", "mkdir", "fsync"):
            patch.setattr(os, name, partial(looking_first, getattr(os, name)))
        disk.fault = fault
        yield copies
        disk.mend()
    look()


class Platter(apsw.VFS):
    """The real file system, and beside it what a power cut would leave of each file.

    What was flushed stays. Of the writes since, any may be there, in any order, or torn
    between two sectors.
    """

    name = "platter"

    def __init__(self) -> None:
        super().__init__(self.name, "unix")
        self.flushed: dict[str, bytes] = {}
        self.pending: dict[str, list[tuple[int, bytes | None]]] = {}
        self.watch: Callable[[], None] = lambda: None  # called before every change

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        self.flushed.setdefault(path, b"")
        self.pending.setdefault(path, [])
        return PlatterFile(self, path, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        self.watch()
        super().xDelete(filename, syncdir)
        self.flushed.pop(filename, None)
        self.pending.pop(filename, None)

    def note(self, path: str, offset: int, data: bytes | None) -> None:
        self.watch()
        self.pending[path].append((offset, data))

    def flush(self, path: str) -> None:
        self.watch()
        for offset, data in self.pending[path]:
            self.flushed[path] = _changed(self.flushed[path], offset, data)
        self.pending[path].clear()

    def cut(self, target: Path, draw: random.Random) -> Path:
        """Write what a power cut may leave to another folder."""
        target.mkdir()
        for path, content in self.flushed.items():
            pending = [one for one in self.pending[path] if draw.random() < 0.5]
            draw.shuffle(pending)
            for offset, data in pending:
                if data is not None and draw.random() < 0.2:
                    sector = (offset + draw.randrange(len(data))) // 512 * 512
                    data = data[: max(0, sector - offset)]
                content = _changed(content, offset, data)
            (target / os.path.basename(path)).write_bytes(content)
            mark = Path(f"{path}-mark")  # not SQLite's: it may be as new as can be
            if mark.exists():
                shutil.copy(mark, target)
        return target


class PlatterFile(apsw.VFSFile):
    def __init__(self, disk: Platter, path: str, name: Any, flags: list[int]) -> None:
        self._disk = disk
        self._path = path
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._disk.note(self._path, offset, bytes(data))
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self._disk.note(self._path, size, None)
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.flush(self._path)
        super().xSync(flags)


def _changed(content: bytes, offset: int, data: bytes | None) -> bytes:
    if data is None:
        return content[:offset]
    content = content.ljust(offset, b"\0")
    return content[:offset] + data + content[offset + len(data) :]
