"""The JSON of etcd's v3 gateway, as far as it is spoken here.

Bytes are base64 and 64-bit numbers are strings there; the decoder takes both back. What
is absent is zero. https://etcd.io/docs/v3.4/dev-guide/api_reference_v3/
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

STATUS = "/v3/maintenance/status"
RANGE, PUT, TXN = "/v3/kv/range", "/v3/kv/put", "/v3/kv/txn"
T = TypeVar("T")
_encode = msgspec.json.Encoder().encode


class Message(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Fields at their default are not sent: the gateway takes them for just that."""


# --- What is asked -------------------------------------------------------------------


class Range(Message, frozen=True):
    """Keys from `key` up to, not including, `range_end`; `key` alone without one."""

    key: bytes
    range_end: bytes = b""
    limit: int = 0  # 0: none
    serializable: bool = False  # what this member has, which may be stale
    keys_only: bool = False
    count_only: bool = False


class Put(Message, frozen=True):
    """Write a key."""

    key: bytes
    value: bytes
    lease: int = 0


class DeleteRange(Message, frozen=True):
    """Delete a key."""

    key: bytes


class Compare(Message, frozen=True):
    """What must hold of a key: `target` MOD or CREATE, `result` EQUAL or GREATER.

    A key that is absent has 0 for both.
    """

    key: bytes
    target: str
    result: str
    mod_revision: int | None = None
    create_revision: int | None = None


class Op(Message, frozen=True):
    """One of a transaction's operations."""

    request_range: Range | None = None
    request_put: Put | None = None
    request_delete_range: DeleteRange | None = None


class Txn(Message, frozen=True):
    """If all of `compare` holds `success` is done, else `failure`: at one revision."""

    compare: tuple[Compare, ...] = ()
    success: tuple[Op, ...] = ()
    failure: tuple[Op, ...] = ()


class LeaseGrant(Message, frozen=True):
    """A lease of so many seconds; keys that are put under it go when it ends."""

    seconds: int = msgspec.field(name="TTL")
    number: int = msgspec.field(name="ID")


class MemberAdd(Message, frozen=True):
    """A member to be: a learner gets the log and has no vote."""

    peer_urls: tuple[str, ...] = msgspec.field(name="peerURLs")
    is_learner: bool = msgspec.field(name="isLearner")


class MemberId(Message, frozen=True):
    """Which member is to be removed or promoted."""

    number: int = msgspec.field(name="ID")


class MoveLeader(Message, frozen=True):
    """Which member is to lead."""

    target: int = msgspec.field(name="targetID")


class Compaction(Message, frozen=True):
    """Forget what keys held before a revision; `physical`: answer once it is gone."""

    revision: int
    physical: bool


class Alarm(Message, frozen=True):
    """GET or DEACTIVATE alarms, or one that is raised."""

    action: str = ""
    member: int = msgspec.field(default=0, name="memberID")
    alarm: str = ""


class Empty(Message, frozen=True):
    """A request that says nothing more."""


# --- What is answered ----------------------------------------------------------------


class Header(Message, frozen=True):
    """Who answered, at which revision of the store."""

    cluster_id: int = 0
    member_id: int = 0
    revision: int = 0
    raft_term: int = 0


class KeyValue(Message, frozen=True):
    """A key that is there."""

    key: bytes
    value: bytes = b""
    create_revision: int = 0
    mod_revision: int = 0
    version: int = 0  # how often it was put since it is there
    lease: int = 0


class RangeAnswer(Message, frozen=True):
    """What a `Range` found."""

    header: Header = Header()
    kvs: tuple[KeyValue, ...] = ()
    more: bool = False
    count: int = 0


class PutAnswer(Message, frozen=True):
    """A change was done."""

    header: Header = Header()


class Written(Message, frozen=True):
    """A `Put` was done. With its header, or it is not etcd that says so."""

    header: Header


class OpAnswer(Message, frozen=True):
    """What came of an `Op`."""

    response_range: RangeAnswer | None = None


class TxnAnswer(Message, frozen=True):
    """What came of a `Txn`. With its header, or it is not etcd that says so."""

    header: Header
    succeeded: bool = False
    responses: tuple[OpAnswer, ...] = ()

    def found(self, place: int) -> KeyValue | None:
        """The key that the range at this place of the operations found."""
        answer = self.responses[place].response_range
        return answer.kvs[0] if answer is not None and answer.kvs else None


class Member(Message, frozen=True):
    """A member of the cluster; without a name it was never started."""

    number: int = msgspec.field(name="ID")
    name: str = ""
    peer_urls: tuple[str, ...] = msgspec.field(default=(), name="peerURLs")
    client_urls: tuple[str, ...] = msgspec.field(default=(), name="clientURLs")
    is_learner: bool = msgspec.field(default=False, name="isLearner")


class MemberList(Message, frozen=True):
    """Every member, as the one that answered knows it."""

    header: Header = Header()
    members: tuple[Member, ...] = ()
    member: Member | None = None  # of an addition: the new one


class Status(Message, frozen=True):
    """What a member says of itself. With its header, or it is not etcd that says so."""

    header: Header
    version: str = ""
    size: int = msgspec.field(default=0, name="dbSize")
    size_in_use: int = msgspec.field(default=0, name="dbSizeInUse")
    leader: int = 0  # 0: it knows of none
    # Entries of the log: known to be committed, and of those applied.
    committed: int = msgspec.field(default=0, name="raftIndex")
    applied: int = msgspec.field(default=0, name="raftAppliedIndex")
    term: int = msgspec.field(default=0, name="raftTerm")
    is_learner: bool = msgspec.field(default=False, name="isLearner")
    errors: tuple[str, ...] = ()  # alarms, and that it knows of no leader


class Alarms(Message, frozen=True):
    """The alarms that are raised."""

    alarms: tuple[Alarm, ...] = ()


class Authenticated(Message, frozen=True):
    """A token that proves who calls."""

    token: str = ""


class Failure(Message, frozen=True):
    """What went wrong: a gRPC status code, and its text."""

    message: str = ""
    error: str = ""
    code: int = 0


# Made here, in one thread: where two threads make the first decoders of a shape at once,
# those of msgspec 0.22.0 may be half made, and decoding with them ends the process.
_DECODERS: dict[type, msgspec.json.Decoder[Any]] = {
    shape: msgspec.json.Decoder(shape, strict=False)
    for shape in (
        Alarms,
        Authenticated,
        Failure,
        MemberList,
        PutAnswer,
        RangeAnswer,
        Status,
        TxnAnswer,
        Written,
    )
}


def encode(message: Message) -> bytes:
    """The JSON of a request."""
    return _encode(message)


def decode(answer: bytes, shape: type[T]) -> T:
    """An answer of one of the shapes above. Raises msgspec.DecodeError."""
    found: T = _DECODERS[shape].decode(answer)
    return found
