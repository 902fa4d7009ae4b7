"""One replica: a state machine over its own storage that answers messages.

It knows nothing of the cluster. Who is asked what, and what an answer means, is the
business of protocols and of `cluster.membership`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from models import (
    BucketDigests,
    Digests,
    Expired,
    Fetch,
    Get,
    Message,
    NodeId,
    Purge,
    Put,
    Record,
    Refused,
    SaveState,
    Scan,
    Tombstones,
    Versions,
)
from storage.base import Storage


class _Fence(msgspec.Struct):
    """The one field of the state record that a node itself obeys."""

    fence: int


_fenced = msgspec.json.Decoder(_Fence)


class OldEpoch(Refused):
    """The message was sent before the fence went up."""


class ReplicaNode:
    """One replica: answers messages from its storage, one at a time per key.

    It refuses a message when it is stopped (but keeps the cluster's state record all
    the same) and when a Put or Purge is of an epoch below its fence.
    """

    def __init__(self, node_id: NodeId, storage: Storage) -> None:
        self.node_id = node_id
        self.storage = storage
        self._session = 1  # changes at every start; 0 while stopped
        self._sessions = 1
        state = storage.load_state()
        self._fence = _fenced.decode(state[1]).fence if state else 0

    @property
    def identity(self) -> str:
        """The identity of the storage: new where the storage is."""
        return self.storage.identity

    @property
    def epoch(self) -> int:
        """The epoch of the state record that the storage has; 0: it has none."""
        return (self.storage.load_state() or (0, b""))[0]

    @property
    def problem(self) -> str | None:
        """Why the storage cannot be used, in words; None: it can."""
        return self.storage.problem

    @property
    def damage(self) -> str | None:
        """What was wrong with its file when it was opened."""
        return self.storage.damage

    def reopen(self) -> None:
        """Make storage with a problem usable again; StorageEnded if it still is not."""
        self.storage.reopen()
        state = self.storage.load_state()
        if state is not None:
            found = _fenced.decode(state[1]).fence
            self._fence = max(self._fence, found)

    def start(self) -> None:
        """Answer messages again."""
        self._sessions += 1
        self._session = self._sessions

    def stop(self) -> None:
        """Refuse messages of data from now on."""
        self._session = 0

    def wipe(self) -> None:
        """Lose the storage. Only while stopped."""
        assert not self._session, f"a running node is not wiped (node={self.node_id})"
        self.storage.wipe()

    def handle(self, message: Message) -> Any:
        """Answer a message, or return what is `Staged` where that is not durable yet.

        Raises Refused if nothing was done and nothing will be.
        """
        session = self._session
        if not session and type(message) is not SaveState:
            raise Refused(f"node {self.node_id} is down")
        answer = _HANDLERS[type(message)](self, message)
        if session != self._session and isinstance(message, _READS):
            raise Refused(f"node {self.node_id} went down")  # the storage may be wiped
        return answer

    def _get(self, message: Get) -> Record | None:
        return self.storage.get(message.key)

    def _put(self, message: Put) -> Any:
        if message.epoch < self._fence:
            raise OldEpoch(f"the message is of an old epoch (fence={self._fence})")
        return self.storage.put_many(message.records)

    def _purge(self, message: Purge) -> Any:
        if message.epoch < self._fence:
            raise OldEpoch(f"the message is of an old epoch (fence={self._fence})")
        return self.storage.purge(message.versions)

    def _save_state(self, message: SaveState) -> Any:
        self._fence = max(self._fence, message.fence)
        return self.storage.save_state(message.epoch, message.record)

    def _fetch(self, message: Fetch) -> dict[str, Record]:
        found = ((key, self.storage.get(key)) for key in message.keys)
        return {key: record for key, record in found if record is not None}

    def _digests(self, message: Digests) -> tuple[int, ...]:
        return self.storage.content.partition_digests(message.partitions)

    def _bucket_digests(self, message: BucketDigests) -> dict[int, int]:
        found: dict[int, int] = {}
        for partition in message.partitions:
            found.update(self.storage.content.bucket_digests(partition))
        return found

    def _versions(self, message: Versions) -> dict[str, int]:
        bucket = self.storage.content.bucket
        return {r.key: r.version for index in message.buckets for r in bucket(index)}

    def _scan(self, message: Scan) -> list[Record]:
        return self.storage.content.scan(message.prefix, message.after, message.limit)

    def _tombstones(self, message: Tombstones) -> dict[str, int]:
        held = list(self.storage.content.tombstones.items())
        return {key: version for key, version in held if version.ms < message.before_ms}

    def _expired(self, message: Expired) -> list[str]:
        held = list(self.storage.content.expiring.items())
        return [key for key, expires_at_ms in held if expires_at_ms <= message.now_ms]


_HANDLERS: dict[type, Callable[[ReplicaNode, Any], Any]] = {
    Get: ReplicaNode._get,
    Put: ReplicaNode._put,
    Purge: ReplicaNode._purge,
    SaveState: ReplicaNode._save_state,
    Fetch: ReplicaNode._fetch,
    Digests: ReplicaNode._digests,
    BucketDigests: ReplicaNode._bucket_digests,
    Versions: ReplicaNode._versions,
    Scan: ReplicaNode._scan,
    Tombstones: ReplicaNode._tombstones,
    Expired: ReplicaNode._expired,
}
_READS = tuple(kind for kind in _HANDLERS if kind not in (Put, Purge, SaveState))
