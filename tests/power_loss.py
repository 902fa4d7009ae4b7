"""A disk for tests that forgets, when the power goes, what was not flushed.

Files are real, and written through; beside them `Disk` notes what is flushed of them and
what was done since (tests/volatile.py). What a loss leaves can be laid into another folder
and opened there by the ordinary code.

SQLite's part comes in through a VFS; what Python's `os` does in the disk's folder is seen
by standing in for its functions while the disk is in use. After SQLite's own test of power
loss (sqlite.org/testing.html, 3.2; test6.c), and Pillai et al., OSDI 2014, for names.
"""

from __future__ import annotations

import os
import random
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

import apsw

from tests.volatile import File, Folder, Image, Tree, lay_out

FILES, FOLDERS = "files", "folders"  # whose flushes a disk may lie about
_numbers = count(1)


class Disk:
    """The disk under a folder, in use within a `with`; what the folder holds is flushed.

    Everything else on the machine is not of this disk. `lies` says whose flushes do
    nothing; those of folders are then left to SQLite.
    """

    def __init__(self, root: Path, seed: object, *, lies: Iterable[str] = ()) -> None:
        self.root = Path(os.path.realpath(root))
        self.tree = Tree(self.root)
        self.left: Image | None = None  # by the loss
        self.drawn: list[Image] = []  # what `draw_images` asked for
        self.failing: Path | None = None  # the folder in which flushes fail
        self._device = self.root.stat().st_dev
        self._chance = random.Random(str(seed))
        self._lies = frozenset(lies)
        self._calls = 0  # that change what a loss leaves
        self._lost_at: int | None = None
        self._draws = 0
        self._lock = threading.RLock()
        self._in_use = ExitStack()

    @property
    def lost(self) -> bool:
        """True once the power was lost; nothing that happens after it counts."""
        return self.left is not None

    def lose_power(self, *, after_calls: int = 0) -> None:
        """Lose it before so many more calls were made, or now; once only."""
        with self._lock:
            self._lost_at = self._calls + after_calls
            if not after_calls and self.left is None:
                self.left = self.tree.after_loss(self._chance)

    def draw_images(self, draws: int) -> None:
        """From now on draw before each call so often what a loss there would leave."""
        self._draws = draws

    def lay_out(self, target: Path) -> Path:
        """Write what the loss left into a new folder."""
        assert self.left is not None, "the power was not lost"
        return lay_out(self.left, target)

    def __enter__(self) -> Disk:
        vfs = _Vfs(self)
        self._in_use.callback(vfs.unregister)
        stand_in = _StandIn(self)
        for name, ours in stand_in.functions().items():
            self._in_use.enter_context(mock.patch.object(os, name, ours))
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._in_use.close()
        if kind is None:
            seen = self.tree.now() == Tree(self.root).now()
            assert seen, "files were changed in a way that this disk cannot see"

    def change(self, real: Callable[[], Any], note: Callable[[], None]) -> Any:
        """Do something that changes what a loss leaves, and note it."""
        with self._lock:
            if self._calls == self._lost_at and self.left is None:
                self.left = self.tree.after_loss(self._chance)
            for _ in range(self._draws):
                self.drawn.append(self.tree.after_loss(self._chance))
            self._calls += 1
            answer = real()
            note()
            return answer

    def flush_file(self, file: File | None) -> None:
        if file is not None and FILES not in self._lies:
            self.change(lambda: None, file.flush)

    def flush_folder(self, path: Path, *, asked_by_sqlite: bool = False) -> None:
        if FOLDERS not in self._lies or asked_by_sqlite:
            self.change(lambda: None, lambda: self.tree.flush_folder(path))

    def file(self, path: Path | None) -> File | None:
        """The file at a path, if there is one on this disk."""
        found = self.tree.find(path) if path is not None else None
        return found if isinstance(found, File) else None

    def path(self, name: Any) -> Path | None:
        """Where on this disk that is, None for elsewhere."""
        if isinstance(name, int):
            return self._path_of_descriptor(name)
        text = os.path.abspath(os.fspath(name))
        found = Path(os.path.realpath(os.path.dirname(text)), os.path.basename(text))
        is_here = found == self.root or self.root in found.parents
        return found if is_here else None

    def _path_of_descriptor(self, descriptor: int) -> Path | None:
        told = os.fstat(descriptor)
        if told.st_dev == self._device:
            for path in (self.root, *self.root.rglob("*")):
                with suppress(FileNotFoundError):
                    if os.path.samestat(told, path.stat()):
                        return path
        return None


class _StandIn:
    """What is called in place of functions of `os` while a disk is in use."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def functions(self) -> dict[str, Callable[..., Any]]:
        """By the name of what each takes the place of."""
        made: dict[Callable[..., Any], tuple[str, ...]] = {
            self._fsync: ("fsync", "fdatasync"),
            self._rename: ("rename", "replace"),
            self._remove: ("unlink", "remove", "rmdir"),
            self._mkdir: ("mkdir",),
            self._open: ("open",),
            self._write: ("write",),
            self._pwrite: ("pwrite",),
        }
        return {
            name: self._before(getattr(os, name), ours)
            for ours, names in made.items()
            for name in names
        }

    @staticmethod
    def _before(real: Any, ours: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **options: ours(real, *args, **options)

    def _fsync(self, real: Any, descriptor: int) -> None:
        path = self._disk.path(descriptor)
        if path is None:
            real(descriptor)
        elif stat.S_ISDIR(os.fstat(descriptor).st_mode):
            self._disk.flush_folder(path)
        else:
            self._disk.flush_file(self._disk.file(path))

    def _rename(self, real: Any, old: Any, new: Any, **options: Any) -> None:
        disk, source, target = self._disk, self._disk.path(old), self._disk.path(new)
        if source is None or target is None:
            real(old, new, **options)
            return
        node = disk.tree.find(source)
        disk.change(
            lambda: real(old, new, **options),
            lambda: disk.tree.name((source, None), (target, node)),
        )

    def _remove(self, real: Any, name: Any, **options: Any) -> None:
        path = self._disk.path(name) if options.get("dir_fd") is None else None
        if path is None:
            real(name, **options)
            return
        self._disk.change(
            lambda: real(name, **options), lambda: self._disk.tree.name((path, None))
        )

    def _mkdir(self, real: Any, name: Any, *args: Any, **options: Any) -> None:
        path = self._disk.path(name)
        if path is None:
            real(name, *args, **options)
            return
        self._disk.change(
            lambda: real(name, *args, **options),
            lambda: self._disk.tree.name((path, Folder())),
        )

    def _open(
        self, real: Any, name: Any, flags: int, *args: Any, **options: Any
    ) -> Any:
        path = self._disk.path(name) if flags & os.O_CREAT else None
        if path is None or path.exists():
            return real(name, flags, *args, **options)
        return self._disk.change(
            lambda: real(name, flags, *args, **options),
            lambda: self._disk.tree.name((path, File())),
        )

    def _write(self, real: Any, descriptor: int, data: Any) -> Any:
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        file = self._disk.file(self._disk.path(descriptor)) if is_file else None
        if file is None:
            return real(descriptor, data)
        place = os.lseek(descriptor, 0, os.SEEK_CUR)
        return self._disk.change(
            lambda: real(descriptor, data),
            lambda: file.since.append((place, bytes(data))),
        )

    def _pwrite(self, real: Any, descriptor: int, data: Any, place: int) -> Any:
        file = self._disk.file(self._disk.path(descriptor))
        if file is None:
            return real(descriptor, data, place)
        return self._disk.change(
            lambda: real(descriptor, data, place),
            lambda: file.since.append((place, bytes(data))),
        )


class _Vfs(apsw.VFS):
    """How SQLite reaches the disk; it is the default one meanwhile."""

    def __init__(self, disk: Disk) -> None:
        super().__init__(f"power-loss-{next(_numbers)}", "unix", makedefault=True)
        self._disk = disk

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        text = name.filename() if isinstance(name, apsw.URIFilename) else name
        path = self._disk.path(text) if text is not None else None
        return _VfsFile(self._disk, path, name, flags)

    def xDelete(self, name: str, syncdir: bool) -> None:  # noqa: N802
        path = self._disk.path(name)
        if path is None:
            super().xDelete(name, syncdir)
            return
        self._disk.change(
            lambda: super(_Vfs, self).xDelete(name, False),
            lambda: self._disk.tree.name((path, None)),
        )
        if syncdir:
            self._disk.flush_folder(path.parent, asked_by_sqlite=True)


class _VfsFile(apsw.VFSFile):
    """One file that SQLite has open."""

    def __init__(
        self, disk: Disk, path: Path | None, name: Any, flags: list[int]
    ) -> None:
        self._disk = disk
        self._path = path
        opened = super().__init__
        makes = flags[0] & apsw.SQLITE_OPEN_CREATE
        if path is None or path.exists() or not makes:
            opened("unix", name, flags)
        else:
            disk.change(
                lambda: opened("unix", name, flags),
                lambda: disk.tree.name((path, File())),
            )
        self._file = disk.file(path)
        # SQLite flushes the folder at the first flush of a journal that it may have made.
        self._folder_is_due = makes and not flags[0] & apsw.SQLITE_OPEN_MAIN_DB

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._change(lambda: super(_VfsFile, self).xWrite(data, offset), offset, data)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self._change(lambda: super(_VfsFile, self).xTruncate(size), size, None)

    def xSync(self, flags: int) -> None:  # noqa: N802
        path = self._path
        if path is not None and self._disk.failing == path.parent:
            raise apsw.IOError("planted: a flush failed")
        self._disk.flush_file(self._file)
        if self._folder_is_due and path is not None:
            self._folder_is_due = False
            self._disk.flush_folder(path.parent, asked_by_sqlite=True)

    def _change(self, real: Callable[[], None], place: int, data: bytes | None) -> None:
        file = self._file
        if file is None:
            real()
        else:
            self._disk.change(real, lambda: file.since.append((place, data)))


# --- For seeds ---------------------------------------------------------------------------


@contextmanager
def explained(seed: int) -> Iterator[None]:
    """Name the seed of what fails."""
    try:
        yield
    except Exception as error:
        error.add_note(f"seed {seed}")
        raise


def made(folder: Path) -> Path:
    """A new folder."""
    folder.mkdir()
    return folder


def noticed(lose: Callable[[int, Path], object], folder: Path, seeds: int) -> bool:
    """True if a loss is found within so many seeds."""
    for seed in range(seeds):
        try:
            lose(seed, made(folder / str(seed)))
        except AssertionError:
            return True
    return False
