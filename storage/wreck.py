"""A file that failed its checks, and what is intact in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw

from models import Record
from storage.connection import DAMAGE, connect
from storage.rows import COLUMNS, meta_row, record_of


class Wreck:
    """A file that failed its checks, opened for what is intact in it."""

    def __init__(self, path: Path, *, vfs: str | None) -> None:
        self._database = connect(path, durable=True, vfs=vfs)

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
                        yield record_of(row)[0]

    def state(self) -> tuple[int, bytes]:
        """The (epoch, state record) if both are intact, or (0, nothing)."""
        found: dict[str, Any] = {}
        with suppress(*DAMAGE, apsw.IOError):
            for row in self._database.execute("select name, value, checksum from meta"):
                if row == meta_row(row[:2]):
                    found[row[0]] = row[1]
        if found.keys() >= {"epoch", "state"}:
            return found["epoch"], found["state"]
        return 0, b""
