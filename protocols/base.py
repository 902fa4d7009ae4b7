"""The contract between a replication protocol and the rest of the store.

A protocol is a set of operations: generators that yield needs (models.Ask and its
kin) and are sent what came back. They never block, sleep, lock, draw a random number
or look at a clock; every `yield` is a point where another client may get in between,
a node may die or the process may be killed, and nothing happens between two yields.

What a protocol may know of the cluster it gets from a `View`; what it may change of it,
it changes by the View's methods, each of them atomic. Which replicas are in sync, who is
down, which keys are unsettled: all that is the View's, so that it is saved, restored
and shown in one place for every protocol.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Protocol, TypeVar

from models import (
    Condition,
    Intent,
    KeyNotFound,
    NodeId,
    Operation,
    ReadOutcome,
    Record,
    Unavailable,
    Version,
    VersionMismatch,
    WriteOutcome,
)


class Shard(Protocol):
    """The keys that share a replica set, and who of it holds what.

    The tuples are replaced, never changed, whenever a node's state or the in-sync set
    changes: hold one and compare it by identity to learn whether anything did.
    """

    @property
    def replicas(self) -> tuple[NodeId, ...]:
        """Every node that should hold these keys."""

    @property
    def in_sync(self) -> tuple[NodeId, ...]:
        """Those that hold every acknowledged write, down ones included; never empty."""

    @property
    def sources(self) -> tuple[NodeId, ...]:
        """Those that may serve a read: in sync, live, and compared with the others."""

    @property
    def members(self) -> tuple[NodeId, ...]:
        """The live ones of `in_sync`; none if every copy of the shard was lost."""

    @property
    def targets(self) -> tuple[NodeId, ...]:
        """Those that a write is sent to: every live replica, recovering ones too."""

    @property
    def writable(self) -> bool:
        """False if a member must leave, or a change be saved, before a write is sent."""

    @property
    def unsettled(self) -> set[str]:
        """Keys with a write of unknown outcome."""


S = TypeVar("S", bound=Shard)


class View(Protocol[S]):
    """The cluster as an operation sees it."""

    @property
    def epoch(self) -> int:
        """Grows with every change of a node's state, an in-sync set or the fence."""

    @property
    def min_in_sync(self) -> int:
        """How many in-sync replicas must take a write, at least 1."""

    def shard(self, key: str) -> S:
        """The shard of a key."""

    def next_version(self) -> Version:
        """A version above every one that was made or observed here."""

    def observe(self, version: Version) -> None:
        """Make later versions greater than this one."""

    def now_ms(self) -> int:
        """The hybrid time that expiry is decided by; never goes back."""

    def evict_absent(self, shard: S, enough: int) -> None:
        """Take down members out of the in-sync set, if `enough` would be left."""

    def conclude(
        self, shard: S, key: str, confirmed: tuple[NodeId, ...], enough: int
    ) -> bool:
        """Account for a write that only `confirmed` are known to have.

        Members that did not confirm leave the in-sync set; every other replica that
        did not confirm has the key noted as missed. False, and nothing changed, if fewer than
        `enough` members would be left: then the write must not be acknowledged.
        """

    def save(self) -> Operation[bool]:
        """Make what changed of the cluster's state durable, before what depends on it.

        At a majority of the live nodes; False if they did not confirm it.
        """

    def refusal(self, shard: S, otherwise: str = "") -> Unavailable:
        """The error for a shard that cannot be served now; it says what would help.

        DataLost if every in-sync copy is lost. `otherwise` is what went wrong, in words,
        where the shard itself could be served.
        """


class ReplicationProtocol(ABC):
    """One way to keep the replicas of a key together.

    `levels` are the consistency levels on offer, the default first. The driver lets no
    two operations on one key overlap.
    """

    name: ClassVar[str]
    levels: ClassVar[tuple[str, ...]]

    @abstractmethod
    def write(self, view: View[S], intent: Intent) -> Operation[WriteOutcome]:
        """Write or delete one key."""

    @abstractmethod
    def read(self, view: View[S], key: str, level: str) -> Operation[ReadOutcome]:
        """Read one key; raises KeyNotFound where there is no value."""

    @abstractmethod
    def settle(self, view: View[S], key: str) -> Operation[None]:
        """Give a key whose replicas may differ one newest version everywhere."""

    @abstractmethod
    def expire(self, view: View[S], key: str) -> Operation[bool]:
        """Turn an expired record into a tombstone; False if it is not expired."""


def check_condition(
    condition: Condition, current: Record | None, intent: Intent, now_ms: int
) -> None:
    """Raise what the client is told if the condition does not hold for `current`."""
    live = current if current is not None and current.is_live(now_ms) else None
    if intent.value is None and live is None:
        raise absent(intent.key, current)
    version = live.version.text if live is not None else None
    verb = "delete" if intent.value is None else "write"
    expected = condition.if_versions
    if expected is not None and version not in expected:
        raise VersionMismatch(
            f"cannot {verb} when the version is not the expected one "
            f"(key={intent.key!r}, expected={' or '.join(expected)}, current={version or 'none'})",
            version=version,
        )
    if condition.if_absent and live is not None:
        raise VersionMismatch(
            f"cannot create when the key exists (key={intent.key!r}, current={version or 'none'})",
            version=version,
        )
    if condition.if_present and live is None:
        raise VersionMismatch(
            f"cannot update when the key does not exist (key={intent.key!r})",
            version=None,
        )


def as_restored(intent: Intent, current: Record | None) -> Record:
    """The record of a backup, or VersionMismatch if what is held is at least as new."""
    version = intent.version
    assert version is not None, "only what has a version is restored"
    if current is not None and current.version >= version:
        raise VersionMismatch(
            f"cannot restore when a version at least as new is held (key={intent.key!r}, "
            f"version={version.text}, current={current.version.text})",
            version=current.version.text,
        )
    return Record(intent.key, version, intent.value, intent.expires_at_ms)


def absent(key: str, record: Record | None) -> KeyNotFound:
    """The error for a key without a value, told apart from one that was deleted."""
    if record is None:
        return KeyNotFound(f"no such key (key={key!r})")
    return KeyNotFound(
        f"the key was deleted (key={key!r})", version=record.version.text, deleted=True
    )
