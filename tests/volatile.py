"""Files of which only a part is flushed, and what a power loss may leave of them.

The model below tests/power_loss.py: no real file is touched here. A seed decides for each
write since the flush whether it is kept, dropped or torn at a sector, whichever came first,
and for each name made, changed or removed whether that is undone, unless its folder was
flushed since. What was written and not flushed may also be zeros; it is never something
else, as it could be on a file system that orders nothing at all.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import TypeAlias

SECTOR_BYTES = 512


class File:
    """What is flushed of a file, and what was done to it since, in order.

    A write is (offset, bytes), a truncation (size, None).
    """

    def __init__(self, flushed: bytes = b"") -> None:
        self.flushed = flushed
        self.since: list[tuple[int, bytes | None]] = []

    def flush(self) -> None:
        self.flushed = self.content()
        self.since = []

    def content(self) -> bytes:
        """As a reader sees it now."""
        content = bytearray(self.flushed)
        for change in self.since:
            _apply(content, *change)
        return bytes(content)

    def after_loss(self, chance: random.Random) -> bytes:
        """What a power loss leaves of it."""
        content = bytearray(self.flushed)
        keeps = chance.choice((0.0, 1.0, 0.6, 0.3))
        first = chance.choice((0, chance.randrange(len(self.since) + 1)))
        for number, (place, data) in enumerate(self.since):
            draw = 0.0 if number < first else chance.random()
            if draw <= keeps:
                _apply(content, place, data)
            elif data is not None:
                _apply(content, *_torn(place, data, chance))
                if chance.random() < 0.2:  # as long as it was, without what it had
                    content.extend(bytes(max(0, place + len(data) - len(content))))
        return bytes(content)


class Folder:
    """The names in a folder, as a reader sees them and as they are flushed."""

    def __init__(self) -> None:
        self.now: dict[str, Node] = {}
        self.flushed: dict[str, Node] = {}


Node: TypeAlias = File | Folder
# A step that a crash does or undoes as a whole: in each folder, a name and what it means.
Step: TypeAlias = tuple[tuple[Folder, str, "Node | None"], ...]
Image: TypeAlias = dict[str, bytes | None]  # every file by its path; None: a folder


class Tree:
    """Everything below a folder; `path` is one that is real, and taken for flushed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._root = _scan(path)
        self._steps: list[Step] = []  # since their folders were flushed

    def find(self, path: PurePath) -> Node | None:
        """What a path means now."""
        node: Node | None = self._root
        for part in path.relative_to(self._path).parts:
            node = node.now.get(part) if isinstance(node, Folder) else None
        return node

    def name(self, *names: tuple[PurePath, Node | None]) -> None:
        """Let paths mean something else, None for nothing: all of them or none."""
        step = []
        for path, node in names:
            folder = self.find(path.parent)
            assert isinstance(folder, Folder), path
            step.append((folder, path.name, node))
            _set(folder.now, path.name, node)
        self._steps.append(tuple(step))

    def flush_folder(self, path: PurePath) -> None:
        """Make the names in a folder durable."""
        folder = self.find(path)
        kept = []
        for step in self._steps:
            if all(changed is not folder for changed, _, _ in step):
                kept.append(step)
                continue
            for changed, name, node in step:
                _set(changed.flushed, name, node)
        self._steps = kept

    def after_loss(self, chance: random.Random) -> Image:
        """What a power loss leaves."""
        names: dict[int, dict[str, Node]] = {}
        first = chance.choice((0, chance.randrange(len(self._steps) + 1)))
        keeps = chance.choice((0.0, 0.5, 0.5, 1.0))
        for number, step in enumerate(self._steps):
            if number < first or chance.random() < keeps:
                for folder, name, node in step:
                    _set(names.setdefault(id(folder), {**folder.flushed}), name, node)
        return {
            name: node.after_loss(chance) if isinstance(node, File) else None
            for name, node in _walk(self._root, lambda f: names.get(id(f), f.flushed))
        }

    def now(self) -> Image:
        """As a reader sees it."""
        return {
            name: node.content() if isinstance(node, File) else None
            for name, node in _walk(self._root, lambda folder: folder.now)
        }


def lay_out(image: Image, target: Path) -> Path:
    """Write an image into a new folder."""
    target.mkdir()
    for name, content in image.items():
        if content is None:
            (target / name).mkdir()
        else:
            (target / name).write_bytes(content)
    return target


def _scan(path: Path) -> Folder:
    folder = Folder()
    for entry in path.iterdir():
        node = _scan(entry) if entry.is_dir() else File(entry.read_bytes())
        folder.now[entry.name] = folder.flushed[entry.name] = node
    return folder


def _walk(
    folder: Folder, names: Callable[[Folder], dict[str, Node]], path: str = ""
) -> Iterator[tuple[str, Node]]:
    """Everything below a folder, each folder before what is in it."""
    for name, node in names(folder).items():
        yield path + name, node
        if isinstance(node, Folder):
            yield from _walk(node, names, f"{path}{name}/")


def _set(names: dict[str, Node], name: str, node: Node | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


def _apply(content: bytearray, place: int, data: bytes | None) -> None:
    if data is None:
        del content[place:]
    if len(content) < place:
        content.extend(bytes(place - len(content)))
    if data is not None:
        content[place : place + len(data)] = data


def _torn(place: int, data: bytes, chance: random.Random) -> tuple[int, bytes]:
    """Some sectors of a write, from its beginning or up to its end, or none."""
    first = place - place % SECTOR_BYTES + SECTOR_BYTES
    cuts = range(first, place + len(data), SECTOR_BYTES)
    if not cuts or chance.random() < 0.5:
        return place, b""
    cut = chance.choice(cuts)
    if chance.random() < 0.7:
        return place, data[: cut - place]
    return cut, data[cut - place :]
