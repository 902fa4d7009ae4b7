"""Answers that span shards: keys in order, with or without values, and where one lives.

Keys are listed from the replicas that may serve them, so that a page shows neither what a
stale copy still holds, nor a write that may come to nothing, nor a key twice.
"""

from __future__ import annotations

import msgspec

from cluster.membership import Membership
from cluster.placement import partition_of
from cluster.repair import KeyOperation
from cluster.shard import DOWN
from models import (
    Answers,
    Ask,
    Exclusive,
    Get,
    NodeId,
    Operation,
    Record,
    Scan,
    Uncertain,
    key_token,
)

RECORDS_BYTES = 4 << 20  # of keys and values in one page of records


class KeyInfo(msgspec.Struct, frozen=True, gc=False):
    """A key that has a value."""

    key: str
    version: str


class KeyPage(msgspec.Struct, frozen=True, gc=False):
    """Keys in order; `next` goes into `after` for the next page, null after the last."""

    keys: tuple[KeyInfo, ...]
    next: str | None


class ReplicaInfo(msgspec.Struct, frozen=True, gc=False):
    """What one replica of a key holds."""

    node_id: NodeId
    status: str  # up | down | recovering
    in_sync: bool  # holds every acknowledged write of the shard
    version: str | None  # None: it is down, or never saw the key
    deleted: bool  # the version is a tombstone's, or has expired


class Location(msgspec.Struct, frozen=True, gc=False):
    """Where a key lives and why."""

    key: str
    token: str  # 16 hexadecimal digits: its place on the ring
    partition: int
    replica_set: tuple[NodeId, ...]  # in the order of the placement
    replicas: tuple[ReplicaInfo, ...]


class RecordInfo(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A key with all that a backup keeps of it."""

    key: str
    version: str
    value: msgspec.Raw  # JSON text, as it was written
    expires_at_ms: int = 0  # since 1970, in the time of versions; 0: never


class RecordPage(msgspec.Struct, frozen=True, gc=False):
    """Records in order of their keys; `next` as in `KeyPage`."""

    records: tuple[RecordInfo, ...]
    next: str | None


class Listed(msgspec.Struct, frozen=True):
    """What to list: up to `limit` keys with a prefix, after a key."""

    prefix: str = ""
    after: str = ""
    limit: int = 100


def list_keys(
    cluster: Membership, settle: KeyOperation, expire: KeyOperation, listed: Listed
) -> Operation[KeyPage]:
    """A page of live keys, in order.

    Unavailable if some shard cannot be read, DataLost if one is lost: a page is never
    silently partial. Each key was there, or was not, at some moment while its page was
    made; a page is no snapshot.
    """
    found, more = yield from _list(cluster, settle, expire, listed)
    page = tuple(KeyInfo(record.key, record.version.text) for record in found)
    return KeyPage(page, page[-1].key if more else None)


def list_records(
    cluster: Membership, settle: KeyOperation, expire: KeyOperation, listed: Listed
) -> Operation[RecordPage]:
    """A page of live keys with their values, in order, as `list_keys` finds them.

    It ends early, after at least one record, when its values come to RECORDS_BYTES.
    """
    found, more = yield from _list(cluster, settle, expire, listed)
    page: list[RecordInfo] = []
    room = RECORDS_BYTES
    for record in found:
        room -= record.size_bytes
        if room < 0 and page:
            more = True
            break
        assert record.value is not None, "what is listed has a value"
        value = msgspec.Raw(record.value)
        page.append(
            RecordInfo(record.key, record.version.text, value, record.expires_at_ms)
        )
    return RecordPage(tuple(page), page[-1].key if more else None)


def _list(
    cluster: Membership, settle: KeyOperation, expire: KeyOperation, listed: Listed
) -> Operation[tuple[list[Record], bool]]:
    """The records of a page, and whether more follow."""
    prefix, after, limit = listed.prefix, listed.after, listed.limit
    found: list[Record] = []
    cursor: str | None = after
    while cursor is not None and len(found) <= limit:
        records, cursor = yield from _scan(cluster, prefix, cursor, limit + 1, settle)
        for record in records:
            live = yield from _live(cluster, record, settle, expire)
            if live is not None:
                found.append(live)
    return found[:limit], len(found) > limit


def _live(
    cluster: Membership, found: Record, settle: KeyOperation, expire: KeyOperation
) -> Operation[Record | None]:
    """The record if a reader sees a value; one that expired is buried first.

    Its end is shown by its absence. What is not there to be buried any more was written
    over meanwhile.
    """
    key = found.key
    record: Record | None = found
    while record is not None and not record.is_live(cluster.now_ms()):
        if record.value is None:
            return None
        try:
            buried: bool = yield Exclusive(key, expire(key))
        except Uncertain as error:
            raise cluster.refusal(
                cluster.shard(key),
                f"cannot bury an expired record, try again (key={key!r})",
            ) from error
        if buried:
            return None
        record = yield Exclusive(key, _read(cluster, key, settle))
    return record


def _scan(
    cluster: Membership, prefix: str, after: str, limit: int, settle: KeyOperation
) -> Operation[tuple[list[Record], str | None]]:
    """The records after a key in order, and the key up to which they are complete.

    The second is None where there are no more. Every replica that may serve is asked: a
    write that only some of them have may still come to nothing, so that key is read
    again under its lock.
    """
    began = cluster.epoch
    asked = {replicas: shard.sources for replicas, shard in cluster.shards.items()}
    unsettled = set().union(*(s.unsettled for s in cluster.shards.values()))
    nodes = tuple(sorted({node for sources in asked.values() for node in sources}))
    answers: Answers = yield Ask(nodes, Scan(prefix, after, limit))
    pages = {
        node: {record.key: record for record in page}
        for node, page in answers.answered.items()
        if cluster.turned[node] <= began  # not wiped since, nor begun anew
    }
    silent = [
        shard
        for replicas, shard in cluster.shards.items()
        if not any(n in pages and n in shard.sources for n in asked[replicas])
    ]
    if silent:  # of several, one that no waiting brings back
        raise cluster.refusal(max(silent, key=lambda shard: shard.lost))
    full = [max(page) for page in pages.values() if len(page) == limit]
    complete_to = min(full, default=None)
    found: list[Record] = []
    for key in sorted({key for page in pages.values() for key in page}):
        if complete_to is not None and key > complete_to:
            break
        shard = cluster.shard(key)
        held = [pages[node].get(key) for node in shard.in_sync if node in pages]
        record = held[0] if held else None
        if (
            key in unsettled
            or key in shard.unsettled
            or not shard.writable  # a member is down, or that it left is not saved
            or shard.sources is not asked[shard.replicas]
            or len(held) < len(shard.in_sync)
            or any(each != record for each in held)
        ):
            record = yield Exclusive(key, _read(cluster, key, settle))
        if record is not None:
            found.append(record)
    return found, complete_to


def _read(
    cluster: Membership, key: str, settle: KeyOperation
) -> Operation[Record | None]:
    """The record of a key that nobody writes just now."""
    shard = cluster.shard(key)
    if key in shard.unsettled:
        try:
            yield from settle(key)
        except Uncertain as error:
            raise cluster.refusal(shard) from error
    for source in shard.sources:
        answers: Answers = yield Ask((source,), Get(key))
        if answers.answered and source in shard.sources:  # not wiped meanwhile
            record: Record | None = answers.answered[source]
            return record
    raise cluster.refusal(shard)


def locate(cluster: Membership, key: str) -> Operation[Location]:
    """Where a key lives and why: token, replica set in order, and who holds what."""
    token = key_token(key)
    replicas = cluster.assignment[partition_of(token)]
    shard = cluster.shard(key)
    live = tuple(node for node in replicas if cluster.status[node] != DOWN)
    answers: Answers = yield Ask(live, Get(key))

    def info(node: NodeId) -> ReplicaInfo:
        record = answers.answered.get(node)
        return ReplicaInfo(
            node_id=node,
            status=cluster.status[node],
            in_sync=node in shard.in_sync and not shard.lost,
            version=record.version.text if record is not None else None,
            deleted=record is not None and not record.is_live(cluster.now_ms()),
        )

    return Location(
        key, f"{token:016x}", partition_of(token), replicas, tuple(map(info, replicas))
    )
