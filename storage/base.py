"""What a node keeps its records in: the interface, and what may be wrong with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from config import CannotOpen
from models import Record, Staged, Version
from storage.content import Content
from storage.durations import Durations


class DamagedStorage(Exception):
    """A file's content fails its checks: set it aside and rebuild from the peers."""


class StorageInUse(CannotOpen):
    """Another process has the file open."""


class FormatUnknown(CannotOpen):
    """A newer or an older version of this program wrote the file."""


class StorageEnded(Exception):
    """The storage failed: it takes nothing any more until it is opened anew."""


class Storage(ABC):
    """What a node keeps. One thread at a time; `identity` is new when it is made anew.

    A put, purge or saved state is durable when the call returns, or, if it returns
    something `Staged`, when the `result()` of that returns. What a put returns, or its
    `result()`, is None, or the highest version held that kept one of the records out.
    """

    identity: str  # empty while what is stored cannot be read
    problem: str | None = None  # why it cannot be used, in words; None: it can
    trouble: str | None = None  # why its last commit failed; None: it did not
    damage: str | None = None  # what was wrong with what it found when it was opened
    epoch_marked = 0  # of the newest state record that it is known to have had
    commits: Durations | None = None  # of making changes durable; None: it never does

    @abstractmethod
    def get(self, key: str) -> Record | None:
        """The record of a key, tombstones included."""

    @abstractmethod
    def put_many(self, records: Sequence[Record]) -> Staged | Version | None:
        """Keep each record that is newer than what is held for its key."""

    @abstractmethod
    def purge(self, versions: Mapping[str, Version]) -> Staged | None:
        """Forget each record whose version is exactly the one named."""

    @abstractmethod
    def save_state(self, epoch: int, record: bytes) -> Staged | None:
        """Keep the cluster's state record unless one of a newer epoch is held."""

    @abstractmethod
    def load_state(self) -> tuple[int, bytes] | None:
        """The (epoch, record) saved last, or None."""

    @property
    @abstractmethod
    def content(self) -> Content:
        """What is held, to be read only: digests, counts, scans."""

    @abstractmethod
    def wipe(self) -> None:
        """Lose everything, the state record too, and take a new identity."""

    @abstractmethod
    def reopen(self) -> None:
        """Make storage with a problem usable again; StorageEnded if it still is not.

        What was acknowledged is still there, under the same identity, unless its
        medium lost it: then the identity is new.
        """

    @abstractmethod
    def scrub(self, rows_max: int) -> str | None:
        """Compare the next `rows_max` rows of the medium with what is held.

        Where they differ the medium is written anew, from what is held, and what was
        wrong is returned. StorageEnded if that fails: then there is a problem.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of files. Nothing else may be called after."""
