"""One shard of the cluster: who is in sync, who may serve, what is unsettled.

The facts are changed by `cluster.membership` alone, under its lock; what operations
read are tuples derived from them. Also here: the form in which they are saved.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from cluster.clock import Wall
from models import NodeId

UP = "up"
DOWN = "down"
RECOVERING = "recovering"


class LayoutMismatch(Exception):
    """A saved state belongs to another placement, number of nodes or factor."""


class SavedShard(msgspec.Struct, frozen=True):
    """The in-sync set of one shard, where it is not simply all of its replicas."""

    replicas: tuple[NodeId, ...]
    in_sync: tuple[NodeId, ...]
    lost: bool


class Layout(msgspec.Struct, frozen=True):
    """Which keys go where: the in-sync sets belong to one layout."""

    placement: str
    nodes: tuple[NodeId, ...]
    replication_factor: int

    def __str__(self) -> str:
        """As a person would give it in settings."""
        return (
            f"--placement {self.placement} --nodes {len(self.nodes)} "
            f"--replication-factor {self.replication_factor}"
        )


class SavedState(msgspec.Struct, frozen=True):
    """The state record: what the manager alone knows, as each node keeps it."""

    epoch: int
    fence: int
    clean: bool  # the process ended in good order, with no key unsettled
    layout: Layout
    clock: int  # every version made so far is below this one
    status: dict[NodeId, str]
    identity: dict[NodeId, str]  # the storage that each node had
    shards: tuple[SavedShard, ...]
    confirmed: dict[NodeId, int] = {}  # the newest epoch that each node's storage had
    wall: Wall | None = None  # when `clock` was made; None: it was not noted


_saved = msgspec.json.Decoder(SavedState)


def saved_state(record: bytes) -> SavedState:
    """A state record as it was saved."""
    return _saved.decode(record)


class ShardState:
    """One shard: the facts, and the tuples derived from them that operations read.

    `unchecked` are members whose copy was not compared with the others' since they
    came back, or since the process was killed. `missed` notes, per replica out of sync,
    the keys that it lacks (None: unknown, compare to find out). `dirty` are replicas
    that missed a write since their copy began.
    """

    __slots__ = (
        "changed",
        "dirty",
        "in_sync",
        "lost",
        "members",
        "missed",
        "partitions",
        "replicas",
        "sources",
        "targets",
        "unchecked",
        "unsettled",
        "writable",
    )

    def __init__(
        self, replicas: tuple[NodeId, ...], partitions: tuple[int, ...]
    ) -> None:
        self.replicas = replicas
        self.partitions = partitions
        self.in_sync = replicas
        self.lost = False
        self.unchecked: set[NodeId] = set()
        self.missed: dict[NodeId, set[str] | None] = {}
        self.dirty: set[NodeId] = set()
        self.unsettled: set[str] = set()
        self.changed = 0  # the epoch of the last change of `in_sync` or `lost`
        self.members: tuple[NodeId, ...] = ()
        self.sources: tuple[NodeId, ...] = ()
        self.targets: tuple[NodeId, ...] = ()
        self.writable = False

    # These two need no lock: each is one step on a set that only grows or shrinks.

    def begin_copy(self, node: NodeId) -> None:
        """From now on, note whether the node misses a write of this shard."""
        self.dirty.discard(node)

    def copied(self, node: NodeId, keys: Iterable[str]) -> None:
        """The node has what the members have of these keys."""
        notes = self.missed.get(node)
        if notes is not None:
            notes.difference_update(keys)

    def derive(
        self, status: dict[NodeId, str], saved_epoch: int, min_in_sync: int
    ) -> None:
        """Bring the derived tuples up to date after any change."""
        absent = [node for node in self.in_sync if status[node] == DOWN]
        saved = self.changed <= saved_epoch
        self.targets = tuple(node for node in self.replicas if status[node] != DOWN)
        self.members = (
            ()
            if self.lost
            else tuple(node for node in self.targets if node in self.in_sync)
        )
        self.sources = tuple(n for n in self.members if n not in self.unchecked)
        enough = len(self.members) >= min_in_sync
        self.writable = saved and enough and not absent and bool(self.sources)
