"""Bringing copies together again: the one routine behind recovery and start-up.

A replica that comes back receives live writes from then on, copies what it lacks, found
by digests, and only then serves. Members whose copies must agree are compared the same
way. A failure at any point leaves a state from which the routine can run again, and what
it costs follows the difference, never the size of the store.

These are operations like a protocol's (see protocols/base.py); they run under the
reconfiguration lock and take a key's lock only around that key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from cluster.membership import Membership
from cluster.shard import DOWN, ShardState
from models import (
    Answers,
    Ask,
    Barrier,
    BucketDigests,
    Digests,
    Exclusive,
    Expired,
    Fetch,
    Get,
    Message,
    NodeId,
    Operation,
    Purge,
    Put,
    Record,
    StoreError,
    Tombstones,
    Version,
    Versions,
)

T = TypeVar("T")
KeyOperation = Callable[[str], Operation[Any]]  # the protocol's settle, on its view


class CopyInterrupted(Exception):
    """A node of the pair, or the process, is stopping; what was copied so far stays."""


class Progress:
    """What a recovery has copied so far, over all shards; counted in `total` too."""

    def __init__(self, total: Progress | None = None) -> None:
        self.copied = 0
        self.removed = 0
        self.bytes = 0
        self._total = total

    def count(self, record: Record, held: Record | None) -> None:
        """One more record was copied, over the one held."""
        self.copied += 1
        self.bytes += record.size_bytes
        if record.value is None and held is not None and held.value is not None:
            self.removed += 1
        if self._total is not None:
            self._total.count(record, held)


def catch_up(
    cluster: Membership, node: NodeId, settle: KeyOperation, progress: Progress
) -> Operation[bool]:
    """Bring a recovering node to where it serves all of its shards; True if it does.

    Where no in-sync member is up to copy from, the node waits (`waiting_for` says on
    whom) and this is run again when one returns.
    """
    for shard in cluster.shards_of(node):
        yield from _catch_up_shard(cluster, shard, node, settle, progress)
    complete = cluster.promote(node)
    yield from cluster.save()
    return complete


def _catch_up_shard(
    cluster: Membership,
    shard: ShardState,
    node: NodeId,
    settle: KeyOperation,
    progress: Progress,
) -> Operation[bool]:
    while cluster.status[node] != DOWN and not cluster.stopping:
        if shard.lost:
            return False
        if node in shard.in_sync:
            yield from check_members(cluster, shard, settle)
            return node in shard.sources
        if not (yield from _fenced(cluster, (node,))) or not shard.sources:
            return False
        source = shard.sources[0]
        shard.begin_copy(node)
        try:
            yield from _copy(cluster, shard, source, node, settle, progress)
        except CopyInterrupted:
            if cluster.status[node] == DOWN or source in shard.sources:
                return False
            continue  # the source died: go on from another
        if cluster.join(shard, node):
            yield from cluster.save()
            return True
    return False


def check_members(
    cluster: Membership, shard: ShardState, settle: KeyOperation
) -> Operation[None]:
    """Compare the live members of a shard, settle what differs, and let them serve.

    If none serves yet, as after a kill, members that cannot be compared leave the set
    before the others do.
    """
    if not shard.unchecked.intersection(shard.members):
        return
    members = yield from _fenced(cluster, shard.members)
    if not members:
        return
    base = shard.sources[0] if shard.sources else members[0]
    agreed = [base]
    for member in members:
        if member == base or member in shard.sources:
            continue
        try:
            differing = yield from _differing(cluster, shard, base, member)
            for key in differing:
                _go_on(cluster)
                yield Exclusive(key, _agree(cluster, key, (base, member), settle))
        except (CopyInterrupted, StoreError):
            continue  # stays unchecked, and is compared when it comes back
        agreed.append(member)
    if cluster.stopping:
        return
    if not shard.sources:
        cluster.evict_uncompared(shard, agreed)
        if not (yield from cluster.save()):
            return
    cluster.mark_checked(shard, agreed)


def _fenced(
    cluster: Membership, nodes: tuple[NodeId, ...]
) -> Operation[tuple[NodeId, ...]]:
    """Those of these nodes that refuse from now on what an earlier process sent.

    A copy must not change behind the back of who compares it: the node may not have heard
    of this process yet. What it took before is durable when it answers.
    """
    answers: Answers = yield Ask(nodes, cluster.state())
    return tuple(node for node in nodes if node in answers.answered)


def _copy(
    cluster: Membership,
    shard: ShardState,
    source: NodeId,
    target: NodeId,
    settle: KeyOperation,
    progress: Progress,
) -> Operation[None]:
    """Give `target` what `source` has of a shard.

    First what it is known to have missed, then what the digests still find. What only
    the target has, or has newer, is left over from a write of unknown outcome (or is
    being written right now): the key is settled, under its lock.
    """
    noted = sorted(shard.missed.get(target) or ())
    yield from _copy_keys(cluster, shard, (source, target), noted, progress)
    differing = yield from _differing(cluster, shard, source, target)
    behind = []
    for key, (held, wanted) in differing.items():
        if wanted is not None and (held is None or held < wanted):
            behind.append(key)
            continue
        _go_on(cluster)
        cluster.observe(held or Version(0))
        try:
            yield Exclusive(key, _agree(cluster, key, (source, target), settle))
        except StoreError as error:
            raise CopyInterrupted from error
    yield from _copy_keys(cluster, shard, (source, target), behind, progress)


def _copy_keys(
    cluster: Membership,
    shard: ShardState,
    pair: tuple[NodeId, NodeId],
    wanted: Sequence[str],
    progress: Progress,
) -> Operation[None]:
    source, target = pair
    for keys in _batches(wanted, cluster.copy_batch):
        _go_on(cluster)
        epoch = cluster.epoch
        found = yield from _ask(source, Fetch(keys))
        old = yield from _ask(target, Fetch(keys))
        records: tuple[Record, ...] = tuple(found.values())
        yield from _ask(target, Put(records, epoch))
        shard.copied(target, keys)
        _count(progress, records, old)


def _count(
    progress: Progress, records: Sequence[Record], old: dict[str, Record]
) -> None:
    for record in records:
        held = old.get(record.key)
        if held is None or held.version < record.version:
            progress.count(record, held)


def _differing(
    cluster: Membership, shard: ShardState, source: NodeId, target: NodeId
) -> Operation[dict[str, tuple[Version | None, Version | None]]]:
    """The keys of a shard whose versions differ: {key: (target's, source's)}."""
    differing: dict[str, tuple[Version | None, Version | None]] = {}
    partitions = yield from _differing_partitions(shard, source, target)
    for some in _batches(partitions, cluster.copy_batch):
        wanted = yield from _ask(source, BucketDigests(some))
        held = yield from _ask(target, BucketDigests(some))
        buckets = [
            bucket
            for bucket in sorted(wanted.keys() | held.keys())
            if wanted.get(bucket) != held.get(bucket)
        ]
        for few in _batches(buckets, cluster.copy_batch):
            ours = yield from _ask(source, Versions(few))
            theirs = yield from _ask(target, Versions(few))
            for key in sorted({key for key, _ in ours.items() ^ theirs.items()}):
                differing[key] = (theirs.get(key), ours.get(key))
    return differing


def _differing_partitions(
    shard: ShardState, source: NodeId, target: NodeId
) -> Operation[list[int]]:
    partitions = shard.partitions
    wanted = yield from _ask(source, Digests(partitions))
    held = yield from _ask(target, Digests(partitions))
    if wanted == held:
        return []
    return [p for p, a, b in zip(partitions, wanted, held, strict=True) if a != b]


def _agree(
    cluster: Membership, key: str, nodes: tuple[NodeId, ...], settle: KeyOperation
) -> Operation[None]:
    """Settle a key unless, now that nobody writes it, its two copies are the same."""
    answers: Answers = yield Ask(nodes, Get(key))
    held = answers.answered.values()
    versions = {record.version if record is not None else None for record in held}
    if len(answers.answered) == len(nodes) and len(versions) == 1:
        return
    for version in versions:
        cluster.observe(version or Version(0))
    yield from settle(key)


def purge_tombstones(cluster: Membership, before_ms: int) -> Operation[int]:
    """Forget tombstones older than `before_ms` that every replica holds; how many.

    Only where every replica is up and in sync. The fence comes first, so that a message
    of an older operation that is still on its way cannot bring back what they hid.
    """
    listed: Answers = yield Ask(cluster.live, Tombstones(before_ms))
    if not any(_common(cluster, listed.answered).values()):
        return 0
    state = cluster.state(fence=True)
    yield Barrier()
    fenced: Answers = yield Ask(cluster.live, state)
    held = {n: listed.answered[n] for n in fenced.answered if n in listed.answered}
    purged = 0
    for replicas, versions in _common(cluster, held).items():
        answers: Answers = yield Ask(replicas, Purge(versions, cluster.epoch))
        if len(answers.answered) < len(replicas):  # some may still hold them
            cluster.shards[replicas].unsettled.update(versions)
        purged += len(versions)
    return purged


def _settle_if_unsettled(
    shard: ShardState, key: str, settle: KeyOperation
) -> Operation[None]:
    if key in shard.unsettled:
        yield from settle(key)


def settle_all(cluster: Membership, settle: KeyOperation) -> Operation[None]:
    """Settle what no client has asked for since it became unsettled."""
    for shard in cluster.shards.values():
        for key in sorted(shard.unsettled):
            if cluster.stopping:
                return
            try:
                yield Exclusive(key, _settle_if_unsettled(shard, key, settle))
            except StoreError:
                break  # its shard cannot be written now: next time


def _common(
    cluster: Membership, listed: dict[NodeId, dict[str, Version]]
) -> dict[tuple[NodeId, ...], dict[str, Version]]:
    """The tombstones that every replica of their shard holds, per replica set."""
    found: dict[tuple[NodeId, ...], dict[str, Version]] = {}
    for node, versions in listed.items():
        for key, version in versions.items():
            shard = cluster.shard(key)
            if (
                node == shard.replicas[0]
                and shard.sources == shard.replicas
                and key not in shard.unsettled
                and all(listed.get(n, {}).get(key) == version for n in shard.replicas)
            ):
                found.setdefault(shard.replicas, {})[key] = version
    return found


def expire_records(cluster: Membership, expire: KeyOperation) -> Operation[int]:
    """Turn expired records into tombstones, as reading them would; how many."""
    answers: Answers = yield Ask(cluster.live, Expired(cluster.now_ms()))
    keys = sorted({key for found in answers.answered.values() for key in found})
    buried = 0
    for key in keys:
        if cluster.stopping:
            break
        try:
            buried += yield Exclusive(key, expire(key))
        except StoreError:
            continue  # its shard cannot be written now: next time
    return buried


def _ask(node: NodeId, message: Message) -> Operation[Any]:
    """One node's answer, or CopyInterrupted."""
    answers: Answers = yield Ask((node,), message)
    if node not in answers.answered:
        raise CopyInterrupted
    return answers.answered[node]


def _go_on(cluster: Membership) -> None:
    """Raise CopyInterrupted when the process is about to end."""
    if cluster.stopping:
        raise CopyInterrupted


def _batches(items: Sequence[T], size: int) -> Iterator[tuple[T, ...]]:
    for start in range(0, len(items), size):
        yield tuple(items[start : start + size])
