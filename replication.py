"""The nodes and their manager.

A `ReplicaNode` answers messages from its own storage and knows nothing of the cluster.
The `ReplicationManager` is what clients talk to: it knows the members, hands requests to
a protocol, and changes the cluster. All that it does is an operation, which its methods
hand to a driver: the live one, or a simulator's. `open_manager` puts the live parts
together:

    with open_manager(nodes=3, replication_factor=2) as store:
        store.write("greeting", {"text": "hello"})
        store.fail(0)
        store.read("greeting").value
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import msgspec

from cluster.clock import HybridClock, steady_ns
from cluster.events import EventLog, log_event, wall_ms
from cluster.listing import (
    KeyPage,
    Listed,
    Location,
    RecordPage,
    list_keys,
    list_records,
    locate,
)
from cluster.membership import PROCESS_SHIFT, Membership
from cluster.network import Driver, LiveDriver
from cluster.node import ReplicaNode
from cluster.reconfiguration import FAIL_MODES, STOP, Reconfiguration
from cluster.refusal import (
    SettingsMismatch,
    StorageUnreadable,
    check_data_dir,
    check_layout,
)
from cluster.reports import (
    Differences,
    Measures,
    ShardMap,
    count_shards,
    lost_shards,
    shard_map,
    stale_keys,
    waiting_for,
    why_not_ready,
)
from cluster.restoring import restore_cluster
from cluster.upkeep import Upkeep
from config import Settings
from db import StorageEnded, open_storage
from engine import Engine, Scheme
from limits import Room, check_key, check_restored, check_ttl, json_text
from models import (
    Condition,
    Event,
    Intent,
    InvalidRequest,
    NodeId,
    NodeInfo,
    ReadOutcome,
    Record,
    Recovery,
    Unavailable,
    Version,
    WriteOutcome,
)
from protocols import PROTOCOLS

SCRUB_SECONDS = 1.0  # between two looks at a few rows of each file
__all__ = [
    "ReplicaNode",
    "ReplicationManager",
    "SettingsMismatch",
    "StorageUnreadable",
    "open_manager",
    "restore_cluster",
]
EVENTS_OF_A_PROCESS = 1_000_000  # numbers that a process may use before the next's


MakeDriver = Callable[
    [Mapping[NodeId, ReplicaNode], Callable[[NodeId, Exception], None]], Driver
]


class ReplicationManager(Engine):
    """The store: writes each key to its replica set and keeps serving while nodes fail.

    Operations on one key follow each other, those on different keys do not wait for each
    other.
    """

    def __init__(
        self,
        settings: Settings,
        nodes: Mapping[NodeId, ReplicaNode],
        cluster: Membership,
        events: EventLog,
        *,
        make_driver: MakeDriver = LiveDriver,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.protocol = PROTOCOLS[settings.protocol]()
        self.cluster = cluster
        settle = partial(self.protocol.settle, cluster)
        expire = partial(self.protocol.expire, cluster)
        self._on_key = settle, expire
        self.change = Reconfiguration(
            cluster, nodes, events, settle=settle, expire=expire, monotonic=monotonic
        )
        # What no other process has: its number where it is kept, new storage where not.
        self._origin = f"{cluster.epoch >> PROCESS_SHIFT:x}-{nodes[0].identity}"
        self._nodes = nodes
        self._events = events
        self._differences = Differences()
        self._driver = make_driver(nodes, self.change.storage_failed)
        self._upkeep = Upkeep(self.maintain, settings.maintenance_seconds)
        self._scrub = Upkeep(self.scrub, SCRUB_SECONDS)
        self._level = settings.consistency
        self._replicas = settings.replicas_of_a_key
        self._room = Room(settings.max_stored_bytes, partial(_stored_bytes, nodes))
        self._key_bytes_max = settings.max_key_bytes
        self._value_bytes_max = settings.max_value_bytes

    @property
    def scheme(self) -> Scheme:
        """How it replicates: as the settings say."""
        settings = self.settings
        return Scheme(
            protocol=settings.protocol,
            placement=settings.placement,
            replication_factor=settings.replication_factor,
            replicas=settings.replicas_of_a_key,
            levels=self.protocol.levels,
            fail_modes=FAIL_MODES,
            survival=_survival(settings),
        )

    def write(
        self,
        key: str,
        value: Any,
        *,
        ttl: float | None = None,
        condition: Condition | None = None,
        consistency: str | None = None,
    ) -> WriteOutcome:
        """Create or update a key."""
        check_key(key, self._key_bytes_max)
        text = json_text(value, self._value_bytes_max)
        self._room.take(self._replicas * (len(key) + len(text)))
        ttl_ms = check_ttl(ttl) if ttl is not None else None
        level = self._check_level(consistency) if consistency else self._level
        intent = Intent(key, text, ttl_ms, condition, level)
        return self._driver.run_key(key, self.protocol.write(self.cluster, intent))

    def read(self, key: str, *, consistency: str | None = None) -> ReadOutcome:
        """The value of a key; KeyNotFound where there is none."""
        check_key(key)
        level = self._check_level(consistency) if consistency else self._level
        return self._driver.run_key(key, self.protocol.read(self.cluster, key, level))

    def delete(
        self,
        key: str,
        *,
        condition: Condition | None = None,
        consistency: str | None = None,
    ) -> WriteOutcome:
        """Delete a key; KeyNotFound where there is no value."""
        check_key(key)
        level = self._check_level(consistency) if consistency else self._level
        intent = Intent(key, None, None, condition or Condition(), level)
        return self._driver.run_key(key, self.protocol.write(self.cluster, intent))

    def restore(
        self, key: str, value: Any, version: Version, expires_at_ms: int = 0
    ) -> WriteOutcome:
        """Write a key under the version that it had, as a backup has it.

        VersionMismatch where a version at least as new is held, a tombstone's too, so
        to restore again is harmless. Later versions will be above this one. A version
        belongs to one value: never restore two under the same.
        """
        check_key(key, self._key_bytes_max)
        text = json_text(value, self._value_bytes_max)
        jump_ms = int(self.settings.max_clock_jump_seconds * 1000)
        check_restored(version, expires_at_ms, self.cluster.now_ms(), jump_ms)
        self._room.take(self._replicas * (len(key) + len(text)))
        level = self.protocol.levels[0]
        intent = Intent(key, text, None, None, level, version, expires_at_ms)
        return self._driver.run_key(key, self.protocol.write(self.cluster, intent))

    def keys(self, prefix: str = "", after: str = "", limit: int = 100) -> KeyPage:
        """A page of the keys that have a value, in order."""
        listed = Listed(prefix, after, limit)
        return self._driver.run(list_keys(self.cluster, *self._on_key, listed))

    def records(self, after: str = "", limit: int = 100) -> RecordPage:
        """A page of the keys that have a value, with all that a backup keeps of them."""
        listed = Listed("", after, limit)
        return self._driver.run(list_records(self.cluster, *self._on_key, listed))

    def locate(self, key: str) -> Location:
        """Where a key lives, why, and which version each replica holds."""
        check_key(key)
        return self._driver.run(locate(self.cluster, key))

    def fail(self, node_id: NodeId, mode: str | None = None) -> NodeInfo:
        """Take a node down. Mode `stop` keeps its storage, `wipe` loses that too."""
        self._driver.run(self.change.fail(node_id, STOP if mode is None else mode))
        return self.node(node_id)

    def recover(self, node_id: NodeId, *, accept_loss: bool = False) -> NodeInfo:
        """Bring a node back; it catches up from its peers before this returns.

        Where they are down it stays `recovering`, and goes on by itself when they
        return. `accept_loss` makes its copy the truth where no in-sync copy survived.
        """
        recovery: Recovery = self._driver.run(
            self.change.recover(node_id, accept_loss=accept_loss)
        )
        return msgspec.structs.replace(self.node(node_id), recovery=recovery)

    def nodes(self) -> tuple[NodeInfo, ...]:
        """Every node's state, as it is now."""
        return tuple(map(self.node, self._nodes))

    def node(self, node_id: NodeId) -> NodeInfo:
        """One node's state."""
        self.cluster.check_node(node_id)
        storage = self._nodes[node_id].storage
        content = storage.content
        copies = {n: node.storage.content for n, node in self._nodes.items()}
        compare = partial(self._differences.count, copies, node_id)
        problem = storage.problem or storage.trouble
        return NodeInfo(
            node_id=node_id,
            status=self.cluster.status[node_id],
            keys=content.key_count,
            bytes=content.size_bytes,
            stale_keys=stale_keys(self.cluster, node_id, compare),
            waiting_for=waiting_for(self.cluster, node_id),
            lost_shards=lost_shards(self.cluster, node_id),
            zone=None,
            problem=problem if problem is not None else msgspec.UNSET,
        )

    def events(self, since: int = 0) -> list[Event]:
        """What happened to the cluster after event number `since`, oldest first."""
        return self._events.since(since)

    def measures(self) -> Measures:
        """What happened since this process began, and how the shards do, in numbers."""
        events, shards = dict(self._events.counts), count_shards(self.cluster)
        commits = {n: node.storage.commits for n, node in self._nodes.items()}
        ahead_seconds = self.cluster.clock.ahead_ms() / 1000
        return Measures(shards, events, self.change.copied, commits, ahead_seconds)

    def why_not_ready(self) -> Unavailable | None:
        """Which shard is lost, or which nodes are not up, where some shard lacks them."""
        return why_not_ready(self.cluster)

    def shards(self) -> ShardMap:
        """Who holds which part of the key space, and who of them is in sync."""
        return shard_map(self.cluster)

    @property
    def revision(self) -> str:
        """Differs whenever `shards()` may, in another process too."""
        return f"{self._origin}-{self.cluster.revision:x}"

    def start(self) -> None:
        """Reconcile what the last process left, then begin the background upkeep."""
        self._driver.run(self.change.start())
        self._upkeep.start()
        if self.settings.scrub_rows:
            self._scrub.start()

    def maintain(self) -> None:
        """One round of upkeep: catch up, bury what expired, purge old tombstones."""
        grace_ms = int(self.settings.tombstone_grace_seconds * 1000)
        before_ms = self.cluster.now_ms() - grace_ms
        self._driver.run(self.change.maintain(before_ms))

    def scrub(self) -> None:
        """Check some rows of every node's file, and have a damaged one written anew."""
        rows = max(1, self.settings.scrub_rows // len(self._nodes))
        for node_id, node in self._nodes.items():
            try:
                damage = node.storage.scrub(rows)
            except StorageEnded as error:
                self.change.storage_failed(node_id, error)
                continue
            if damage is not None:
                self._events.record(
                    "damage_found",
                    f"node {node_id}: {damage}; written anew from memory",
                    node_id,
                )

    def drain(self) -> None:
        """Wait until what was acknowledged at level one has been copied, or given up."""
        self._driver.drain()

    def close(self) -> None:
        """Finish, note that it ended in good order, and let go of files and threads."""
        self.cluster.stopping = True
        self._scrub.stop()
        self._upkeep.stop()
        self._driver.close()
        self._driver.run(self.change.stop())
        for node in self._nodes.values():
            node.storage.close()

    def _check_level(self, level: str) -> str:
        if level not in self.protocol.levels:
            raise InvalidRequest(
                f"consistency level not offered by {self.settings.protocol} "
                f"(consistency={level!r}, offered: {', '.join(self.protocol.levels)})"
            )
        return level


def _survival(settings: Settings) -> str:
    if settings.storage == "memory":
        return "in memory: survives failed nodes, but not a restart of this process"
    if settings.durability == "os":
        return f"in {settings.data_dir}/: survives a restart; a power cut may lose the last writes"
    return f"in {settings.data_dir}/: survives a restart and a power cut"


def _stored_bytes(nodes: Mapping[NodeId, ReplicaNode]) -> int:
    return sum(node.storage.content.size_bytes for node in nodes.values())


def open_manager(
    settings: Settings | None = None, **changes: Any
) -> ReplicationManager:
    """A running store. Without `settings` it is in memory, with the defaults.

    `changes` are settings by name, as in `open_manager(nodes=5, replication_factor=3)`.
    Raises SettingsMismatch if the data were written with another layout, and
    db.StorageInUse if another process serves them. Close it, or use it in a `with`.
    """
    base = settings or Settings(storage="memory")
    chosen = Settings(**{**base.model_dump(), **changes})
    directory = chosen.data_dir if chosen.storage == "sqlite" else None
    if directory is not None:
        check_data_dir(directory, chosen.nodes)
    with ExitStack() as opened:
        nodes: dict[NodeId, ReplicaNode] = {}
        known: dict[str, Record] = {}  # for replicas to share
        for node_id in range(chosen.nodes):
            durable = chosen.durability == "fsync"
            folder = directory / f"node-{node_id}" if directory is not None else None
            storage = open_storage(folder, durable=durable, known=known)
            opened.callback(storage.close)
            check_layout(chosen, storage)
            nodes[node_id] = ReplicaNode(node_id, storage)
        cluster = restore_cluster(chosen, nodes, HybridClock(wall_ms, steady_ns))
        process = cluster.epoch >> PROCESS_SHIFT  # how many came before this one
        events = EventLog(wall_ms, process * EVENTS_OF_A_PROCESS + 1, tell=log_event)
        manager = ReplicationManager(chosen, nodes, cluster, events)
        manager.start()
        opened.pop_all()
        return manager
