"""Bugs in how one key is written, read and settled."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from cluster import listing
from models import Answers, Ask, Get, Put, Spawn, Uncertain, Version
from protocols import primary_backup
from protocols.primary_backup import PrimaryBackup
from simulation.driver import SimulatedDriver, Task
from tests.planted_bugs_base import Bug, around, edit, edited, swap

REPLICATE = (primary_backup, "_replicate")
WRITE, READ, SETTLE = ((PrimaryBackup, name) for name in ("write", "read", "settle"))
NEWER_IGNORED = edit(*REPLICATE, ("if newer is None:", "if True:"))
SAVE = "        if not (yield from view.save()):"
GIVE_UP = "            raise Uncertain(_uncertain(record))"


def settle_nothing(self: Any, view: Any, key: str) -> Any:
    view.shard(key).unsettled.discard(key)
    yield from ()


def settle_under_the_old_version(self: Any, view: Any, key: str) -> Any:
    shard = view.shard(key)
    answers: Answers = yield Ask(shard.members, Get(key))
    held = [record for record in answers.answered.values() if record is not None]
    if held:
        newest = max(held, key=lambda record: record.version)
        yield Ask(shard.targets, Put((newest,), view.epoch))
    shard.unsettled.discard(key)


def settle_members_only(original: Any) -> Any:
    """Settling writes to members alone, and notes nothing of the other replicas."""
    to_members = edited(
        primary_backup._replicate,
        ("targets = shard.targets", "targets = shard.members"),
        (
            "< len(shard.replicas) or targets is not shard.targets",
            "< len(shard.members)",
        ),
    )
    settle = edited(original, ("yield from _replicate(", "yield from view.to_members("))

    def settle_there(self: Any, view: Any, key: str) -> Any:
        view.to_members = to_members
        return settle(self, view, key)

    return settle_there


def send_again_later(original: Any) -> Any:
    """A client that takes an unknown outcome for none does the same once more."""

    def replicate(view: Any, shard: Any, record: Any, enough: int) -> Any:
        try:
            return (yield from original(view, shard, record, enough))
        except Uncertain:
            again = replace(record, version=view.next_version())
            yield Spawn(record.key, original(view, shard, again, enough))
            raise

    return replicate


def without_locks(self: Any, key: str, operation: Any) -> Any:
    """Each operation takes a lock of its own."""
    return self._start(Task(operation, f"{key} {self.next_number}", self.next_number))


def count_from_one(original: Any) -> Any:
    """A version is the number of writes of the key since it was created."""
    write = edited(original, ("view.next_version()", "view.counted(intent)"))

    def write_counted(self: Any, view: Any, intent: Any) -> Any:
        counts = view.__dict__.setdefault("counts", {})

        def counted(intent: Any) -> Version:
            count = counts.get(intent.key, 0) + 1
            counts[intent.key] = count if intent.value is not None else 0
            return Version(count << Version.ORIGIN_BITS)

        view.counted = counted
        return write(self, view, intent)

    return write_counted


PROTOCOL_BUGS = (
    Bug(
        "a write is acknowledged once one replica took it",
        "asynchronous replication: Redis with Sentinel",
        40,
        (
            edit(
                *REPLICATE,
                ("view.epoch))", "view.epoch), 1)"),
                ("if not view.conclude(", "if not confirmed and ("),
            ),
        ),
    ),
    Bug(
        "a replica that stayed silent counts as having confirmed",
        "Cassandra: hints counted towards the quorum (Scylla #8102)",
        40,
        (
            edit(
                *REPLICATE,
                ("tuple(answers.answered)", "(*answers.answered, *answers.silent)"),
            ),
        ),
    ),
    Bug(
        "a replica that stayed silent counts as having refused",
        "Maelstrom: definite and indefinite errors",
        40,
        (edit(*REPLICATE, ("not confirmed and not answers.silent", "not confirmed")),),
    ),
    Bug(
        "a write that may show later is answered as failed for good",
        "Cassandra WriteTimeout; Jepsen, aborted reads",
        40,
        (
            edit(
                *REPLICATE,
                (f"{GIVE_UP}\n{SAVE}", f"            raise Unavailable('no')\n{SAVE}"),
            ),
        ),
    ),
    Bug(
        "that a replica left the in-sync set is saved only after the answer",
        "KAFKA-948: stale entries of the in-sync set",
        40,
        (edit(*REPLICATE, ("if not (yield from view.save()):", "if False:")),),
    ),
    Bug(
        "a write of unknown outcome is never settled",
        "Cassandra: blocking read repair",
        40,
        (swap(*SETTLE, settle_nothing),),
    ),
    Bug(
        "a read does not settle an unknown write before it shows it",
        "Redis-Raft: dirty reads (Jepsen)",
        2_500,
        (edit(*READ, ("if key in shard.unsettled:", "if False:")),),
    ),
    Bug(
        "a key is settled under the version that it had",
        "ABD: the write-back of a read",
        100,
        (swap(*SETTLE, settle_under_the_old_version),),
    ),
    Bug(
        "a key is settled at the members only, while a replica is copying",
        "CASSANDRA-2434: pending ranges",
        100,
        (around(*SETTLE, settle_members_only),),
    ),
    Bug(
        "a write of unknown outcome is sent once more, under a new version",
        "FoundationDB: commit_unknown_result",
        3_000,
        (around(*REPLICATE, send_again_later),),
    ),
    Bug(
        "conditions are checked against any live replica's copy",
        "Dynamo: a coordinator that trusts its own replica",
        200,
        (
            edit(
                primary_backup,
                "_held",
                ("in shard.sources:\n", "in reversed(shard.targets):\n"),
                (" and source in shard.sources:", ":"),
            ),
        ),
    ),
    Bug(
        "operations on one key overlap",
        "CASPaxos: one register, one operation at a time",
        100,
        (swap(SimulatedDriver, "run_key", without_locks),),
    ),
    Bug(
        "the version of a key starts again when it is created again",
        "Riak: delete_mode keep",
        40,
        (NEWER_IGNORED, around(*WRITE, count_from_one)),
    ),
    Bug(
        "keys are listed from any live replica",
        "Cassandra: zombies",
        100,
        (
            edit(
                listing,
                "_scan",
                ("replicas: shard.sources for", "replicas: shard.targets[-1:] for"),
                ("n in pages and n in shard.sources for", "n in pages for"),
                ("for node in shard.in_sync if", "for node in shard.targets[-1:] if"),
                ("key in unsettled", "not held"),
                ("or key in shard.unsettled", ""),
                ("or not shard.writable", ""),
                ("or shard.sources is not asked[shard.replicas]", ""),
                ("or len(held) < len(shard.in_sync)", ""),
            ),
        ),
    ),
    Bug(
        "keys are listed as one replica has them, a write under way too",
        "pages of Redis-Raft: dirty reads",
        3_000,
        (
            edit(
                listing,
                "_scan",
                ("key in unsettled", "not held"),
                ("or key in shard.unsettled", ""),
                ("or not shard.writable", ""),
                ("or shard.sources is not asked[shard.replicas]", ""),
                ("or len(held) < len(shard.in_sync)", ""),
                ("or any(each != record for each in held)", ""),
            ),
        ),
    ),
)
