"""Primary-backup replication with in-sync sets, the default protocol.

A write goes to every live replica, recovering ones included, and is acknowledged when
every in-sync member confirmed it; a member that did not leaves the set first, durably.
Reads come from one in-sync member. The model is Kafka's in-sync replicas (Kafka
documentation, "Replication"; KIP-966 for what the last member must not do), with the
manager as the one authority over who is in the set.

Linearizable, because operations on one key do not overlap, an acknowledged write is at
every member of the set, and only members are read. A write of unknown outcome leaves
its key unsettled, and the next operation on the key settles it first: the newest record
among the members is written again under a fresh version, so that neither a replica that
took the unknown write nor a late message of it can show it after it was gone.

Every operation here runs under its key's lock.
"""

from __future__ import annotations

from msgspec import Raw
from msgspec.structs import replace

from models import (
    Answers,
    Ask,
    Get,
    Intent,
    KeyNotFound,
    Operation,
    Put,
    ReadOutcome,
    Record,
    Spawn,
    Timeout,
    Unavailable,
    Uncertain,
    WriteOutcome,
)
from protocols.base import (
    ReplicationProtocol,
    S,
    View,
    absent,
    as_restored,
    check_condition,
)

LINEARIZABLE = "linearizable"
ONE = "one"


class PrimaryBackup(ReplicationProtocol):
    """In-sync sets: survives RF - 1 failures, loses no acknowledged write.

    Level `linearizable` is the default. Level `one` acknowledges a write that one
    replica took (it can be lost with it), and reads any live replica (may be stale).
    """

    name = "primary-backup"
    levels = (LINEARIZABLE, ONE)

    def write(self, view: View[S], intent: Intent) -> Operation[WriteOutcome]:
        """Write or delete. Unavailable: nothing sent. Uncertain: may show later."""
        key = intent.key
        shard = view.shard(key)
        if key in shard.unsettled:
            yield from self._settle_first(view, key)
        if not shard.writable:
            yield from _make_writable(view, shard, view.min_in_sync)
        if not shard.sources:
            raise view.refusal(shard)
        if intent.condition is not None:
            current = yield from self._current(view, shard, key)
            check_condition(intent.condition, current, intent, view.now_ms())
        if intent.version is not None:
            current = yield from self._current(view, shard, key)
            record = as_restored(intent, current)
            view.observe(record.version)
        else:
            version = view.next_version()
            expires = version.ms + intent.ttl_ms if intent.ttl_ms is not None else 0
            record = Record(key, version, intent.value, expires)
        if intent.level == ONE:
            return (yield from self._write_one(view, shard, record))
        return (yield from _replicate(view, shard, record, view.min_in_sync))

    def read(self, view: View[S], key: str, level: str) -> Operation[ReadOutcome]:
        """Read from a member of the in-sync set, or any live replica at level one."""
        shard = view.shard(key)
        if level == ONE:
            return (yield from _read_one(view, shard, key))
        if key in shard.unsettled:
            yield from self._settle_first(view, key)
        silent = False
        for source in shard.sources:
            answers: Answers = yield Ask((source,), Get(key))
            if answers.answered and source in shard.sources:  # not wiped meanwhile
                record = answers.answered[source]
                break
            silent = silent or bool(answers.silent)
        else:
            raise _unread(view, shard, silent)
        if record is None or record.value is None:
            raise absent(key, record)
        if record.expires_at_ms and not record.is_live(view.now_ms()):
            yield from self._bury(view, shard, key)
        return ReadOutcome(key, Raw(record.value), record.version.text, (source,))

    def settle(self, view: View[S], key: str) -> Operation[None]:
        """Write the newest record among the members again, under a fresh version.

        By what is left of the set where that is below `min_in_sync`: a replica can join
        only once what it has in another version is settled, so nobody else would.
        """
        shard = view.shard(key)
        shard.unsettled.add(key)  # until the rewrite below is confirmed
        enough = min(view.min_in_sync, len(shard.in_sync))
        yield from _make_writable(view, shard, enough)
        answers: Answers = yield Ask(shard.members, Get(key))
        held = [r for node, r in answers.answered.items() if node in shard.members]
        if not held:
            raise view.refusal(shard)
        records = [record for record in held if record is not None]
        newest = max(records, key=lambda record: record.version, default=None)
        value, expires = (newest.value, newest.expires_at_ms) if newest else (None, 0)
        record = Record(key, view.next_version(), value, expires)
        yield from _replicate(view, shard, record, enough)

    def expire(self, view: View[S], key: str) -> Operation[bool]:
        """Write a tombstone over an expired record, so that it stays expired.

        Without it a clock set back across a restart would bring the value back.
        """
        shard = view.shard(key)
        if key in shard.unsettled:
            yield from self._settle_first(view, key)
        yield from _make_writable(view, shard, view.min_in_sync)
        record = yield from _held(view, shard, key)
        if record is None or record.value is None or record.is_live(view.now_ms()):
            return False
        record = Record(key, view.next_version(), None)
        yield from _replicate(view, shard, record, view.min_in_sync)
        return True

    def _current(self, view: View[S], shard: S, key: str) -> Operation[Record | None]:
        """The record of a settled key; an expired one is buried before it is shown."""
        record = yield from _held(view, shard, key)
        if record is None or record.value is None or record.is_live(view.now_ms()):
            return record
        try:
            yield from self.expire(view, key)
        except Uncertain as error:
            raise view.refusal(
                shard,
                f"cannot bury the expired record, nothing else was done (key={key!r})",
            ) from error
        return (yield from _held(view, shard, key))

    def _bury(self, view: View[S], shard: S, key: str) -> Operation[None]:
        """Make an expiry durable before a reader is told of it, then tell."""
        try:
            yield from self.expire(view, key)
        except Uncertain as error:
            raise Timeout(error.detail) from error
        # What it is told is the tombstone's version: the other one is the value's.
        record = yield from _held(view, shard, key)
        if record is not None and record.value is not None:
            raise Unavailable(
                f"the key was written meanwhile, read again (key={key!r})"
            )
        raise absent(key, record)

    def _settle_first(self, view: View[S], key: str) -> Operation[None]:
        """Settle before the caller's own operation, none of which was sent yet."""
        try:
            yield from self.settle(view, key)
        except Uncertain as error:
            raise view.refusal(
                view.shard(key),
                "cannot go on while an earlier write of this key is unsettled; nothing of "
                f"this request was done, try again (key={key!r})",
            ) from error

    def _write_one(
        self, view: View[S], shard: S, record: Record
    ) -> Operation[WriteOutcome]:
        """Acknowledge what one member took; the others get it when the key is settled.

        Until then the key is unsettled, so that a linearizable operation on it never
        sees one replica's side of it first and another's later.
        """
        shard.unsettled.add(record.key)
        silent = False
        for target in shard.sources:
            answers: Answers = yield Ask((target,), Put((record,), view.epoch))
            if answers.answered.get(target) is not None:
                return (  # goes above it
                    yield from _replicate(view, shard, record, view.min_in_sync)
                )
            if answers.answered:
                yield Spawn(record.key, self._settle_if_unsettled(view, record.key))
                missed = tuple(node for node in shard.replicas if node != target)
                return WriteOutcome(record.key, record.version.text, (target,), missed)
            silent = silent or bool(answers.silent)
        if silent:
            raise Uncertain(_uncertain(record))
        raise view.refusal(shard)

    def _settle_if_unsettled(self, view: View[S], key: str) -> Operation[None]:
        if key in view.shard(key).unsettled:
            yield from self.settle(view, key)


def _replicate(
    view: View[S], shard: S, record: Record, enough: int
) -> Operation[WriteOutcome]:
    """Send a record to every live replica and acknowledge it, or raise.

    The shard must be writable; `enough` members must confirm. Those that do not leave the
    in-sync set, and that is durable, before this returns: an old copy is never taken for
    the truth.
    """
    sent_before = False
    while True:
        targets = shard.targets
        try:
            answers: Answers = yield Ask(targets, Put((record,), view.epoch))
        except BaseException:  # abandoned half-way: nobody knows who has it
            shard.unsettled.add(record.key)
            raise
        newer = None
        for held in answers.answered.values():
            if held is not None:
                newer = max(held, newer or held)
        if newer is None:
            break
        # A message of an operation that was given up, or of a process that was killed,
        # came late and is ahead of our clock: go above it.
        shard.unsettled.add(record.key)
        view.observe(newer)
        record = replace(record, version=view.next_version())
        sent_before = True
    confirmed = tuple(answers.answered)
    if len(confirmed) < len(shard.replicas) or targets is not shard.targets:
        if not confirmed and not answers.silent and not sent_before:
            raise view.refusal(shard)
        shard.unsettled.add(record.key)
        if not view.conclude(shard, record.key, confirmed, enough):
            raise Uncertain(_uncertain(record))
        if not (yield from view.save()):
            raise Uncertain(_uncertain(record))
    if shard.unsettled:
        shard.unsettled.discard(record.key)
    return WriteOutcome(
        record.key,
        record.version.text,
        confirmed,
        ()
        if len(confirmed) == len(shard.replicas)
        else tuple(node for node in shard.replicas if node not in confirmed),
    )


def _make_writable(view: View[S], shard: S, enough: int) -> Operation[None]:
    """Let down members leave, and save that, before the first message of a write.

    Unavailable if fewer than `enough` members are up.
    """
    view.evict_absent(shard, enough)
    if len(shard.members) < enough:
        raise view.refusal(shard)
    if not (yield from view.save()):
        raise view.refusal(
            shard, "cannot write when the cluster's state cannot be saved"
        )


def _held(view: View[S], shard: S, key: str) -> Operation[Record | None]:
    """The record of a settled key, from the first member that answers."""
    for source in shard.sources:
        answers: Answers = yield Ask((source,), Get(key))
        if answers.answered and source in shard.sources:  # not wiped meanwhile
            record: Record | None = answers.answered[source]
            return record
    raise view.refusal(shard)


def _read_one(view: View[S], shard: S, key: str) -> Operation[ReadOutcome]:
    """Any live replica's answer, in-sync ones first; it may be stale and says so."""
    others = tuple(node for node in shard.targets if node not in shard.sources)
    silent = False
    for node in shard.sources + others:
        answers: Answers = yield Ask((node,), Get(key))
        if answers.answered:
            record = answers.answered[node]
            if record is None or record.value is None:
                raise absent(key, record)
            if not record.is_live(view.now_ms()):
                raise KeyNotFound(f"the key has expired (key={key!r})", deleted=True)
            version = record.version.text
            return ReadOutcome(
                key, Raw(record.value), version, (node,), may_be_stale=True
            )
        silent = silent or bool(answers.silent)
    raise _unread(view, shard, silent)


def _unread(view: View[S], shard: S, silent: bool) -> Unavailable | Timeout:
    if silent:
        return Timeout("no replica answered the read in time; reading again is safe")
    return view.refusal(shard)


def _uncertain(record: Record) -> str:
    what = "delete" if record.value is None else "write"
    return (
        f"the {what} may have been taken by some replica and may show later "
        f"(key={record.key!r}, version={record.version.text})"
    )
