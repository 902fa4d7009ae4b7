"""The files of one node: which generation counts, and how a new one takes its place.

A node's folder holds `records-<generation>.db`, with SQLite's `-wal` and a `-mark` (see
storage/mark.py) beside it. A new
generation is written under another name, flushed, renamed and the folder flushed (Pillai
et al., OSDI 2014: a rename is not durable until its folder is): so a crash leaves the
old one or the new one, whole. The highest generation counts.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from access import CHANGE, KEEP, require

_NAME = re.compile(r"records-([0-9]{1,9})\.db")
UNFINISHED = ".new"
SET_ASIDE = "damaged-"


class Folder:
    """One node's folder, made with its parents when it is first used."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def make(self) -> None:
        """Make what is missing of the way to the folder, private and durably there.

        PermissionError, which says what is in the way, if it cannot be ours.
        """
        require(self.path, KEEP)
        missing = [p for p in (self.path, *self.path.parents) if not p.exists()]
        for folder in reversed(missing):
            with suppress(FileExistsError):
                folder.mkdir(mode=0o700)
            flush(folder.parent)

    def generation(self) -> int:
        """The highest generation that is there, 0 for none."""
        found = (_NAME.fullmatch(name) for name in os.listdir(self.path))
        return max((int(match[1]) for match in found if match), default=0)

    def check_files(self, generation: int) -> None:
        """PermissionError if we may not read and write the files of a generation.

        SQLite would call that a disk error, or damage.
        """
        for name in sorted(os.listdir(self.path)):
            if name.startswith(f"records-{generation}.db") and UNFINISHED not in name:
                require(self.path / name, CHANGE, self.path)

    def file(self, generation: int) -> Path:
        """The file of a generation."""
        return self.path / f"records-{generation}.db"

    def unfinished(self, generation: int) -> Path:
        """Where a generation is written until it is whole."""
        return self.path / f"records-{generation}.db{UNFINISHED}"

    def publish(self, generation: int) -> None:
        """Let a generation, whole and flushed, take the place of all before it."""
        self.unfinished(generation).rename(self.file(generation))
        flush(self.path)

    def tidy(self, generation: int) -> None:
        """Remove what a crash left of other generations."""
        for name in os.listdir(self.path):
            belongs = name.startswith(f"records-{generation}.db")
            if name.startswith("records-") and (not belongs or UNFINISHED in name):
                (self.path / name).unlink(missing_ok=True)

    def set_aside(self, generation: int) -> None:
        """Keep the files of a damaged generation for whoever wants to look at them.

        Only the newest such set is kept, so that a bad disk does not fill up.
        """
        self._remove(SET_ASIDE)
        for name in sorted(os.listdir(self.path)):  # a file goes before its log
            if name.startswith(f"records-{generation}.db"):
                (self.path / name).rename(self.path / f"{SET_ASIDE}{name}")
        flush(self.path)

    def clear(self) -> None:
        """Remove every file of the node, those set aside too.

        What lies beside a file goes once the file is gone for good: else a power cut could
        leave the file alone, which is damage.
        """
        for name in os.listdir(self.path):
            if _NAME.fullmatch(name):
                (self.path / name).unlink(missing_ok=True)
        flush(self.path)
        self._remove("records-")
        self._remove(SET_ASIDE)
        flush(self.path)

    def _remove(self, prefix: str) -> None:
        for name in sorted(os.listdir(self.path)):  # a file goes before its log
            if name.startswith(prefix):
                (self.path / name).unlink(missing_ok=True)


def flush(folder: Path) -> None:
    """Make the names in a folder durable (files that were made, renamed or removed)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
