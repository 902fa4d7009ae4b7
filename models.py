"""The vocabulary of the store: versions, records, messages, needs, outcomes, errors.

Nothing of ours is imported here, nor has a value behaviour beyond what it knows of itself.

A client's request becomes an *operation*: a generator that yields what it needs (an
`Ask` of some nodes, a `Barrier`, ...) and is sent what came back, so that the same text
runs live and in a simulator. Messages are what a node is asked; outcomes are what a
client gets, and are also the shapes of the HTTP answers.

The error tree; each error carries `code` (one fixed word), and `definite`: True when
nothing was done and nothing will be, False when it may have happened all the same:

    StoreError
    |-- InvalidRequest     the request itself is wrong: mend it
    |   `-- TooLarge       a body, key or value beyond its limit
    |-- KeyNotFound        the key is absent, deleted or expired
    |-- NodeNotFound       no node has this id
    |-- VersionMismatch    the condition does not hold: read again, decide again
    |-- NotOffered         this engine does not do that; the text says who or what would
    |-- TooFewNodes        fewer nodes would stay than are needed
    |-- Unavailable        too few replicas are up; nothing was done: try again later
    |   `-- DataLost       the data are lost; nothing was done: waiting does not help
    |-- StorageFull        the limit of stored bytes is reached: delete, or raise it
    |-- Timeout            a read got no answer: try again
    `-- Uncertain          a write may or may not have happened (never definite)

A node raises `Refused` or `Unconfirmed`, after Maelstrom's definite and indefinite errors
(doc/protocol.md); anything else means that its storage failed, with the outcome unknown.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from typing import Any, ClassVar, TypeAlias, TypeVar

import msgspec
from xxhash import xxh3_64_intdigest

T = TypeVar("T")
NodeId: TypeAlias = int

KEY_BYTES_MAX = 255
TOKEN_BITS = 64
_LOW_64 = (1 << 64) - 1
_ODD_64 = 0x9E3779B97F4A7C15


def key_token(key: str) -> int:
    """Where a key lies in the token space, 0 to 2**64 - 1; the same for ever.

    XXH3's output is frozen; `hash()` differs per process and would move every key.
    """
    return xxh3_64_intdigest(key.encode())


def record_digest(key: bytes, version: int) -> int:
    """64 bits for a (key in UTF-8, version), and so for its one value, in a digest."""
    return xxh3_64_intdigest(key, ((version >> 64) * _ODD_64 ^ version) & _LOW_64)


class Version(int):
    """When a record was written: hybrid logical time, then origin; unique, ordered.

    The layout is milliseconds (48 bits), a counter (16), the clock that made it (16).
    """

    __slots__ = ()
    ORIGIN_BITS: ClassVar[int] = 16
    MS_SHIFT: ClassVar[int] = 32

    @property
    def text(self) -> str:
        """20 hexadecimal digits: opaque to clients, and sorts like the version."""
        return f"{self:020x}"

    @property
    def ms(self) -> int:
        """The hybrid time in milliseconds since 1970; may be ahead of the wall clock."""
        return self >> self.MS_SHIFT


class Record(msgspec.Struct, frozen=True, gc=False):
    """One version of one key. Shared between replicas, so never changed."""

    key: str
    version: Version
    value: bytes | None  # JSON text as it was written; None: a tombstone
    expires_at_ms: int = 0  # in the hybrid time of versions; 0: never

    def is_live(self, now_ms: int) -> bool:
        """True if a reader at hybrid time `now_ms` sees a value."""
        return self.value is not None and not 0 < self.expires_at_ms <= now_ms

    @property
    def size_bytes(self) -> int:
        """Bytes of key and value, bookkeeping left out."""
        key = self.key
        key_bytes = len(key) if key.isascii() else len(key.encode())
        return key_bytes + len(self.value or b"")


# --- What a node is asked (ReplicaNode.handle) ---------------------------------------


class Put(msgspec.Struct, frozen=True, gc=False):
    """Keep each record if it is newer than what is held. Durable once answered.

    The answer is None, or the highest version held that kept one of them out.
    `epoch` is the cluster's when the sender chose its targets: a node refuses one
    below its fence, so that a late message cannot revive what was purged since.
    """

    records: tuple[Record, ...]
    epoch: int


class Get(msgspec.Struct, frozen=True, gc=False):
    """The record of a key, tombstones included; None if the node never saw one."""

    key: str


class Fetch(msgspec.Struct, frozen=True, gc=False):
    """The records of many keys, those that the node does not have left out."""

    keys: tuple[str, ...]


class Digests(msgspec.Struct, frozen=True, gc=False):
    """The digest of each partition, in the order asked."""

    partitions: tuple[int, ...]


class BucketDigests(msgspec.Struct, frozen=True, gc=False):
    """For some partitions, the digest of each bucket that is not empty: {bucket: digest}."""

    partitions: tuple[int, ...]


class Versions(msgspec.Struct, frozen=True, gc=False):
    """What is held in some buckets: {key: version}, tombstones included."""

    buckets: tuple[int, ...]


class Scan(msgspec.Struct, frozen=True, gc=False):
    """Up to `limit` records in key order, after the key `after`, with a prefix."""

    prefix: str
    after: str
    limit: int


class Tombstones(msgspec.Struct, frozen=True, gc=False):
    """The (key, version) of every tombstone older than `before_ms`, in hybrid time."""

    before_ms: int


class Expired(msgspec.Struct, frozen=True, gc=False):
    """The keys whose record has expired at `now_ms` and is not yet a tombstone."""

    now_ms: int


class Purge(msgspec.Struct, frozen=True, gc=False):
    """Forget these tombstones where the version held is exactly the one named."""

    versions: Mapping[str, Version]
    epoch: int


class SaveState(msgspec.Struct, frozen=True, gc=False):
    """Keep the cluster's state record, durably, unless a newer one is held."""

    epoch: int
    fence: int  # refuse a Put or Purge of a lower epoch from now on
    record: bytes


_Query: TypeAlias = Get | Fetch | Digests | BucketDigests | Versions | Scan
Message: TypeAlias = Put | Purge | SaveState | Tombstones | Expired | _Query


class Staged:
    """An answer that is not durable yet: whoever carries messages waits for it.

    A plain class to inherit from: asking for an abstract one takes three times as long,
    and drivers ask it of every answer.
    """

    __slots__ = ()

    def begin(self) -> None:
        """Start making it durable beside the caller, who will ask for `result` later."""

    def result(self) -> Any:
        """Wait until it is durable and return the answer; raise what went wrong."""
        raise AssertionError(f"{type(self).__name__} does not say when it is durable")


# --- What an operation may need (the driver provides) --------------------------------


class Ask(msgspec.Struct, frozen=True, gc=False):
    """Send `message` to each target; resume with `Answers`.

    It resumes as soon as `need` targets answered (None: all of them), or every target
    is accounted for, or `within_ms` ran out (None: the driver's own limit).
    """

    targets: tuple[NodeId, ...]
    message: Message
    need: int | None = None
    within_ms: int | None = None


class Answers(msgspec.Struct, gc=False):
    """What came back from an `Ask`; each target is in exactly one of the three."""

    answered: dict[NodeId, Any]
    refused: tuple[NodeId, ...] = ()  # nothing happened there and nothing will
    silent: tuple[NodeId, ...] = ()  # it may have happened there, or may yet


class Barrier(msgspec.Struct, frozen=True, gc=False):
    """Resume once every key operation of now has ended; never asked for under a key's lock."""


class Exclusive(msgspec.Struct, frozen=True, gc=False):
    """Run another operation under a key's lock; resume with its outcome or error.

    `key` None is the lock of reconfigurations, of which one runs at a time. Locks are
    taken in that order: a reconfiguration may take a key's, never the other way round.
    """

    key: str | None
    operation: Operation[Any]


class Spawn(msgspec.Struct, frozen=True, gc=False):
    """Run another operation under a key's lock later; resume at once with None."""

    key: str
    operation: Operation[Any]


Need: TypeAlias = Ask | Barrier | Exclusive | Spawn
Operation: TypeAlias = Generator[Need, Any, T]

# --- What a client asks and gets -----------------------------------------------------


class Condition(msgspec.Struct, frozen=True, gc=False):
    """What must hold for a write to go ahead. All that is set must hold."""

    if_versions: tuple[str, ...] | None = None  # the current version is one of these
    if_absent: bool = False  # there is no value now (create only)
    if_present: bool = False  # there is a value now


class Intent(msgspec.Struct, frozen=True, gc=False):
    """One write as the client means it, before it has a version."""

    key: str
    value: bytes | None  # JSON text; None: delete
    ttl_ms: int | None = None
    condition: Condition | None = None
    level: str = ""  # the consistency level, one of the protocol's
    # As a backup has them, which writes over older ones only; else made when it is written.
    version: Version | None = None
    expires_at_ms: int = 0


class WriteOutcome(msgspec.Struct, frozen=True, gc=False):
    """A write or delete that happened."""

    key: str
    version: str
    replicas: tuple[NodeId, ...]  # hold it now
    missed: tuple[NodeId, ...] = ()  # should hold it and do not yet


class ReadOutcome(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A value that was read."""

    key: str
    text: msgspec.Raw = msgspec.field(name="value")  # JSON text, as it was written
    version: str
    replicas: tuple[NodeId, ...]  # were asked
    may_be_stale: bool = False  # a weaker level than linearizable was used

    @property
    def value(self) -> Any:
        """The value as a Python object."""
        return json.loads(bytes(self.text))


class Recovery(msgspec.Struct, frozen=True):
    """What bringing a node back took. None: the engine does not measure it."""

    copied: int = 0  # records that it lacked, or held an older version of
    removed: int | None = 0  # of those, values that had been deleted meanwhile
    bytes: int | None = 0  # of key and value, copied
    seconds: float = 0.0


class RaftInfo(msgspec.Struct, frozen=True):
    """What a member of a Raft cluster says of itself, or said last."""

    member: str  # 16 hexadecimal digits: its id in the cluster
    name: str  # empty until it has been started for the first time
    role: str  # leader | follower | learner, or unknown until it has said so
    term: int  # of the last election that it knows of
    applied: int  # entries of the log that it has applied
    revision: int  # of the newest change that it holds, the number that versions are of
    size_bytes: int  # of its file
    urls: tuple[str, ...]  # where clients reach it


class NodeInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """One node as `GET /nodes` shows it."""

    node_id: NodeId
    status: str  # up | down | recovering
    # None where the engine cannot know, as of a node that never answered:
    keys: int | None  # values held, tombstones not counted
    bytes: int | None  # of key and value
    stale_keys: int | None  # records that it should hold and lacks, or holds older
    waiting_for: tuple[NodeId, ...]  # down nodes that alone hold what it lacks
    zone: str | None
    lost_shards: int = (
        0  # of its own: their data are lost, and no waiting brings them back
    )
    problem: str | msgspec.UnsetType = msgspec.UNSET  # what is wrong with it
    recovery: Recovery | msgspec.UnsetType = msgspec.UNSET
    raft: RaftInfo | msgspec.UnsetType = msgspec.UNSET


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that happened to the cluster."""

    number: int
    at: str  # ISO 8601, UTC, wall clock
    kind: str
    detail: str
    node_id: NodeId | None = None
    mode: str | None = None  # in which a node was failed


# --- Errors --------------------------------------------------------------------------


class Refused(Exception):
    """A node did nothing with a message and never will; the text says why.

    A driver that was told so must not deliver the same message again.
    """


class Unconfirmed(Exception):
    """A node cannot tell whether it did what it was asked, and goes on."""


class StoreError(Exception):
    """What a client is told went wrong. Raise one of its children."""

    code: ClassVar[str]
    definite: ClassVar[bool] = True

    def __init__(self, detail: str, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = extra  # further fields of the problem document


class InvalidRequest(StoreError):
    """The request is wrong and will never succeed; the detail says what would."""

    code = "invalid_request"


class TooLarge(InvalidRequest):
    """A body, key or value is beyond its limit."""

    code = "too_large"


class KeyNotFound(StoreError):
    """There is no value; `version` and `deleted` are set where it was deleted."""

    code = "key_not_found"


class NodeNotFound(StoreError):
    """No node has this id."""

    code = "node_not_found"


class VersionMismatch(StoreError):
    """The condition does not hold; `version` is the current one, None if absent."""

    code = "version_mismatch"


class NotOffered(StoreError):
    """This engine does not do that, or not to this node; the text says who would."""

    code = "not_offered"


class TooFewNodes(StoreError):
    """Fewer nodes would stay than are needed; nothing was done."""

    code = "too_few_nodes"


class Unavailable(StoreError):
    """Nothing was done and nothing will be: trying again is safe."""

    code = "unavailable"


class DataLost(Unavailable):
    """Every copy that was complete is lost, none is merely down: waiting never helps."""

    code = "data_lost"


class StorageFull(StoreError):
    """The limit of stored bytes is reached: delete something, or raise it."""

    code = "storage_full"


class Timeout(StoreError):
    """A read was not answered in time; reading again is safe."""

    code = "timeout"


class Uncertain(StoreError):
    """A write may have been taken by some replica: it may or may not show later."""

    code = "uncertain"
    definite = False
