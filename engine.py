"""The seam between the service and where the data live: what any engine offers.

The routes, the page, the metrics and the checker know an `Engine` and no more. Two are
made: `replication.ReplicationManager`, whose replicas live in this process, and
`backends.etcd.EtcdEngine`, whose data live in etcd. What a method promises is said here;
what a whole engine promises is a part of docs/guarantees.md.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

import msgspec

from cluster.listing import KeyPage, Location, RecordPage
from cluster.reports import Measures, ShardMap
from config import Settings
from models import (
    Condition,
    Event,
    NodeId,
    NodeInfo,
    NotOffered,
    ReadOutcome,
    Unavailable,
    Version,
    WriteOutcome,
)


class Scheme(msgspec.Struct, frozen=True):
    """How an engine replicates, in the words of the API."""

    protocol: str
    placement: str
    replication_factor: int  # as asked for
    replicas: int  # nodes that hold each key: all of them, where the placement is full
    levels: tuple[str, ...]  # consistency levels offered, the strongest first
    fail_modes: tuple[str, ...]  # in which a node may be failed, the default first
    survival: str  # where the data are, and what they survive: a phrase


class Engine(ABC):
    """A store. Safe for many threads; versions are opaque and grow with each write.

    What works on keys checks what it is given (limits.py), and may raise a
    `models.StoreError`; so may what changes nodes. `definite` tells whether that means
    that nothing was done: a change that was sent and got no clear refusal is Uncertain,
    and Timeout is for reads alone. What only tells (nodes, shards, events, measures, why
    not ready) raises nothing and takes a second at most.

    `close` is for once nothing is asked any more, ends what was started here and nothing
    else, and may be called again. It is called at the end of a `with`.
    """

    settings: Settings

    @property
    @abstractmethod
    def scheme(self) -> Scheme:
        """How it replicates now. Cheap, and known even when nothing can be served."""

    # --- Keys ------------------------------------------------------------------------

    @abstractmethod
    def write(
        self,
        key: str,
        value: Any,
        *,
        ttl: float | None = None,
        condition: Condition | None = None,
        consistency: str | None = None,
    ) -> WriteOutcome:
        """Create or update a key.

        `value` is anything that JSON can say, or `msgspec.Raw` with JSON text that is
        kept as it is. `ttl` is in seconds: after it the key is gone.
        """

    @abstractmethod
    def read(self, key: str, *, consistency: str | None = None) -> ReadOutcome:
        """The value of a key; KeyNotFound where there is none."""

    @abstractmethod
    def delete(
        self,
        key: str,
        *,
        condition: Condition | None = None,
        consistency: str | None = None,
    ) -> WriteOutcome:
        """Delete a key; KeyNotFound where there is no value."""

    @abstractmethod
    def restore(
        self, key: str, value: Any, version: Version, expires_at_ms: int = 0
    ) -> WriteOutcome:
        """Write a key as a backup has it; to restore again is harmless.

        VersionMismatch where something at least as new is held.
        """

    @abstractmethod
    def keys(self, prefix: str = "", after: str = "", limit: int = 100) -> KeyPage:
        """A page of the keys that have a value, in order of their code points."""

    @abstractmethod
    def records(self, after: str = "", limit: int = 100) -> RecordPage:
        """A page of the keys that have a value, with all that a backup keeps of them."""

    @abstractmethod
    def locate(self, key: str) -> Location:
        """Where a key lives, why, and which version each replica holds."""

    # --- Nodes -----------------------------------------------------------------------

    @abstractmethod
    def nodes(self) -> tuple[NodeInfo, ...]:
        """Every node's state, as it is now."""

    @abstractmethod
    def fail(self, node_id: NodeId, mode: str | None = None) -> NodeInfo:
        """Take a node down, in one of the scheme's modes; None: the first of them."""

    @abstractmethod
    def recover(self, node_id: NodeId, *, accept_loss: bool = False) -> NodeInfo:
        """Bring a node back; it catches up from its peers before this returns.

        Where it cannot it stays `recovering`, and goes on by itself. `accept_loss` makes
        its copy the truth where no other that is complete survived.
        """

    def add_node(self, url: str | None = None) -> NodeInfo:
        """Add a node, which then holds what it should; `url` is where it will run."""
        raise NotOffered(
            "this engine cannot add a node while it runs: back it up, and restore it into "
            "a store that was started with more (--nodes)"
        )

    def remove_node(self, node_id: NodeId) -> NodeInfo:
        """Take a node out for good, keeping every key readable; its last state."""
        raise NotOffered(
            "this engine cannot remove a node while it runs: back it up, and restore it "
            "into a store that was started with fewer (--nodes)"
        )

    @property
    def can_change_nodes(self) -> bool:
        """True if nodes can be added and removed while it runs."""
        return type(self).add_node is not Engine.add_node

    # --- The whole -------------------------------------------------------------------

    @abstractmethod
    def why_not_ready(self) -> Unavailable | None:
        """The error for some key that cannot be read or written now; None: each can.

        DataLost where that is so until somebody decides, however long one waits.
        """

    def is_ready(self) -> bool:
        """True if every key can be read and written now."""
        return self.why_not_ready() is None

    @abstractmethod
    def shards(self) -> ShardMap:
        """Who holds which part of the key space, and who of them is in sync."""

    @property
    @abstractmethod
    def revision(self) -> str:
        """Differs whenever `shards()` may, in another process too."""

    @abstractmethod
    def events(self, since: int = 0) -> list[Event]:
        """What happened to the cluster after event number `since`, oldest first."""

    @abstractmethod
    def measures(self) -> Measures:
        """What happened since this process began, and how the shards do, in numbers."""

    @abstractmethod
    def close(self) -> None:
        """Finish what runs, and let go of files, threads and processes."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
