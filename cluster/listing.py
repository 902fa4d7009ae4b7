"""Answers that span shards: keys in order, and where one key lives.

Each shard's keys are listed from one replica that may serve it, so that a page shows
neither what a stale copy still holds nor a key twice.
"""

from __future__ import annotations

from cluster.membership import Membership
from cluster.placement import partition_of
from cluster.repair import KeyOperation
from cluster.shard import DOWN
from models import (
    Answers,
    Ask,
    Exclusive,
    Get,
    KeyInfo,
    KeyPage,
    Location,
    NodeId,
    Operation,
    Record,
    ReplicaInfo,
    Scan,
    Unavailable,
    key_token,
)


def list_keys(
    cluster: Membership,
    settle: KeyOperation,
    expire: KeyOperation,
    *,
    prefix: str,
    after: str,
    limit: int,
) -> Operation[KeyPage]:
    """Up to `limit` live keys with a prefix, after a key, in order.

    Unavailable if some shard cannot be read: a page is never silently partial. Keys
    that are written while pages are fetched may or may not be listed.
    """
    for shard in cluster.shards.values():
        for key in sorted(shard.unsettled):
            if key.startswith(prefix):
                yield Exclusive(key, settle(key))
    found: list[KeyInfo] = []
    cursor: str | None = after
    while cursor is not None and len(found) <= limit:
        records, cursor = yield from _scan(cluster, prefix, cursor, limit + 1)
        now_ms = cluster.now_ms()
        for record in records:
            if record.is_live(now_ms):
                found.append(KeyInfo(record.key, record.version.text))
            elif record.value is not None:  # its end is shown by its absence: bury it
                yield Exclusive(record.key, expire(record.key))
    more = len(found) > limit
    page = tuple(found[:limit])
    return KeyPage(page, page[-1].key if more else None)


def _scan(
    cluster: Membership, prefix: str, after: str, limit: int
) -> Operation[tuple[list[Record], str | None]]:
    """The records after a key in order, and the key up to which they are complete.

    The second is None where there are no more.
    """
    owners = {replicas: shard.sources[:1] for replicas, shard in cluster.shards.items()}
    asked = sorted({node for owner in owners.values() for node in owner})
    answers: Answers = yield Ask(tuple(asked), Scan(prefix, after, limit))
    for replicas, shard in cluster.shards.items():
        owner = owners[replicas]
        if (
            not owner
            or owner[0] not in answers.answered
            or owner[0] not in shard.sources
        ):
            raise Unavailable(cluster.explain(shard))
    full = [page[-1].key for page in answers.answered.values() if len(page) == limit]
    complete_to = min(full, default=None)
    found = {
        record.key: record
        for node, page in answers.answered.items()
        for record in page
        if owners[cluster.shard(record.key).replicas] == (node,)
        and (complete_to is None or record.key <= complete_to)
    }
    return [found[key] for key in sorted(found)], complete_to


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
