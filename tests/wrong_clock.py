"""A machine whose wall clock may be wrong, and the stores that are started on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

from config import Settings
from models import KeyNotFound
from replication import ReplicationManager, open_manager

DAY = 86_400
GRACE = 60  # seconds


class Machine:
    """Its time passes when the test says so; `wrong_by` is the error of its wall clock."""

    def __init__(self, folder: Path) -> None:
        self.seconds = 1_700_000_000.0
        self.wrong_by = 0.0
        self.store: ReplicationManager
        self.settings = Settings(
            data_dir=folder,
            durability="os",
            tombstone_grace_seconds=GRACE,
            maintenance_seconds=3_600,
            scrub_rows=0,
        )

    def start(self, **changes: Any) -> None:
        """A process of the store, on what is in the folder."""
        with (
            patch("replication.wall_ms", self._wall_ms),
            patch("replication.steady_ns", lambda: int(self.seconds * 1e9)),
        ):
            self.store = open_manager(self.settings, **changes)

    def end(self, *, killed: bool = False) -> None:
        """It ends in good order, or with no word to anybody."""
        if not killed:
            self.store.close()
            return
        self.store._upkeep.stop()
        for node in self.store._nodes.values():
            node.storage.close()

    def restart(self, *, killed: bool = False, down: float = 0.0) -> None:
        """It ends, and begins again after so many seconds."""
        self.end(killed=killed)
        self.seconds += down
        self.start()

    def run(self, seconds: float) -> None:
        """So much time passes while it runs, with a round of upkeep in the end."""
        self.seconds += seconds
        self.store.maintain()

    def kinds(self) -> list[str]:
        """What happened to the store that runs."""
        return [event.kind for event in self.store.events()]

    def has(self, key: str) -> bool:
        """Whether a reader is shown a value."""
        try:
            self.store.read(key)
        except KeyNotFound:
            return False
        return True

    def remembers_delete_of(self, key: str) -> bool:
        """Whether a reader is told that there was a value."""
        try:
            self.store.read(key)
        except KeyNotFound as error:
            return "version" in error.extra
        raise AssertionError(f"not deleted ({key})")

    def _wall_ms(self) -> int:
        return int((self.seconds + self.wrong_by) * 1000)
