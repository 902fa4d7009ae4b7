"""Bugs in copying to a replica that comes back, and in forgetting tombstones."""

from __future__ import annotations

from typing import Any

from cluster import repair
from cluster.membership import Membership
from cluster.placement import partition_of
from cluster.shard import ShardState
from models import Put, key_token, record_digest
from replication import ReplicaNode
from storage.content import Content
from tests.planted_bugs_base import Bug, edit, swap

DIRTY_IGNORED = edit(Membership, "join", (" or node in shard.dirty", ""))


def copy_nothing(*arguments: Any) -> Any:
    return
    yield


def without_tombstones(self: Any, message: Any) -> tuple[int, ...]:
    content = self.storage.content
    held = content.partition_digests(message.partitions)
    digests = dict(zip(message.partitions, held, strict=True))
    for key, version in content.tombstones.items():
        partition = partition_of(key_token(key))
        if partition in digests:
            digests[partition] ^= record_digest(key.encode(), version)
    return tuple(digests.values())


def delete_for_good(self: Any, message: Put) -> Any:
    kept = tuple(record for record in message.records if record.value is not None)
    for record in message.records:
        held = self.storage.get(record.key)
        if record.value is None and held is not None:
            self.storage.purge({record.key: held.version})
    return self.storage.put_many(kept)


COPY_BUGS = (
    Bug(
        "a replica joins before it has copied anything",
        "chain replication: a tail without the history",
        40,
        (swap(repair, "_copy", copy_nothing),),
    ),
    Bug(
        "a copy that was interrupted counts as complete",
        "Scylla #24415: a repair that failed is reported as done",
        40,
        (
            edit(
                repair,
                "_catch_up_shard",
                (" or source in shard.sources:", ":"),
                ("continue  #", "pass  #"),
            ),
        ),
    ),
    Bug(
        "a replica copies from a peer that is not in sync itself",
        "Redis #2694, Kafka KIP-966",
        500,
        (
            edit(
                repair,
                "_catch_up_shard",
                ("or not shard.sources:", "or len(shard.targets) < 2:"),
                ("shard.sources[0]", "next(n for n in shard.targets if n != node)"),
            ),
            edit(Membership, "join", (" or not shard.sources", "")),
        ),
    ),
    Bug(
        "a replica that is copying is not sent the writes made meanwhile",
        "Scylla #5251, CASSANDRA-2434",
        200,
        (
            edit(
                ShardState,
                "derive",
                (
                    "self.targets = tuple(node for node in self.replicas if",
                    "self.targets = tuple(node for node in self.in_sync if",
                ),
            ),
            DIRTY_IGNORED,
        ),
    ),
    Bug(
        "a replica joins although it missed a write while it copied",
        "Scylla #5251, CASSANDRA-2434",
        6_000,
        (DIRTY_IGNORED,),
    ),
    Bug(
        "what only the copying replica has is left as it is",
        "DataStax: repair of the replicas that a read touched",
        2_000,
        (
            edit(
                repair,
                "_copy",
                (
                    "yield Exclusive(key, _agree(cluster, key, (source, target), settle))",
                    "pass",
                ),
            ),
        ),
    ),
    Bug(
        "digests leave tombstones out",
        "Merkle trees without tombstones",
        200,
        (swap(ReplicaNode, "_digests", without_tombstones),),
    ),
    Bug(
        "a delete leaves no tombstone",
        "Riak: object deletion; Cassandra: zombies",
        40,
        (swap(ReplicaNode, "_put", delete_for_good),),
    ),
    Bug(
        "tombstones are purged although a replica is down",
        "Cassandra: gc_grace_seconds; Riak, reaping",
        100,
        (
            edit(
                repair,
                "_common",
                ("shard.sources == shard.replicas", "shard.sources"),
                ("for n in shard.replicas)", "for n in shard.sources)"),
                ("node == shard.replicas[0]", "True"),
            ),
            edit(repair, "purge_tombstones", (".unsettled.update(versions)", "")),
        ),
    ),
    Bug(
        "a purge forgets whatever is held of the key by then",
        "CASPaxos: RemoveIfEqual",
        300,
        (edit(Content, "matching", (" and held.version == version", "")),),
    ),
)
