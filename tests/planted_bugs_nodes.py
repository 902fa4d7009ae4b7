"""Bugs in a node: its disk, its clock, and what it answers."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from cluster.clock import HybridClock
from models import Version
from replication import ReplicaNode
from simulation.storage import SimulatedStorage
from storage.content import Content
from tests.planted_bugs_base import Bug, around, edit, swap
from tests.planted_bugs_protocol import NEWER_IGNORED


def show_at_once(original: Any) -> Any:
    """What is put shows, and is answered, before it is on the disk."""

    def put_many(self: Any, records: Any) -> Any:
        commit = original(self, records)
        before = [self.content.get(record.key) for record in records]
        answer = self.content.put_many(records)
        pending = self.__dict__.setdefault("pending", {})
        pending[commit] = [record for record in before if record is not None]
        commit.then(lambda answer, error: pending.pop(commit, None))
        return answer

    return put_many


def forget_what_was_not_durable(original: Any) -> Any:
    def crash(self: Any) -> bool:
        for commit, before in reversed(self.__dict__.pop("pending", {}).items()):
            self.content.purge(
                {record.key: record.version for record in commit.records}
            )
            self.content.put_many(before)
        torn: bool = original(self)
        return torn

    return crash


def mix_up(original: Any) -> Any:
    """A crash leaves two keys with each other's values."""

    def crash(self: Any) -> bool:
        torn: bool = original(self)
        held = [r for r in self.content.records() if r.value is not None]
        if len(held) > 1:
            one, two = held[:2]
            for record, other in ((one, two), (two, one)):
                self.content.purge({record.key: record.version})
                self.content.put_many([replace(record, value=other.value)])
        return torn

    return crash


def answer_for_the_next(original: Any) -> Any:
    """The values of a batch are handed out one key off."""

    def fetch(self: Any, message: Any) -> Any:
        found = original(self, message)
        values = [record.value for record in found.values()]
        shifted = values[1:] + values[:1]
        return {
            key: replace(record, value=value)
            for (key, record), value in zip(found.items(), shifted, strict=True)
        }

    return fetch


def by_the_wall_clock(self: Any) -> Version:
    return Version(self.wall_ms() << Version.MS_SHIFT)


STEADY = "(self._steady_ns() + self._ahead_ns) // _MS_NS"


NODE_BUGS = (
    Bug(
        "a write shows, and is acknowledged, before it is durable",
        "etcd #14370; NATS 2.12.1 (Jepsen)",
        40,
        (
            around(SimulatedStorage, "put_many", show_at_once),
            around(SimulatedStorage, "crash", forget_what_was_not_durable),
        ),
    ),
    Bug(
        "a flush that failed is taken for success",
        "PostgreSQL: fsyncgate",
        800,
        (edit(SimulatedStorage, "_flush", ('Unconfirmed("a flush failed")', "")),),
    ),
    Bug(
        "a full disk is taken for success",
        "Pillai et al., OSDI 2014: errors that are dropped",
        200,
        (
            edit(
                SimulatedStorage,
                "_flush",
                (', Refused(f"node {self.node}\'s disk is full"))', ")"),
            ),
        ),
    ),
    Bug(
        "two keys have each other's values after a crash",
        "TigerBeetle: misdirected writes",
        40,
        (around(SimulatedStorage, "crash", mix_up),),
    ),
    Bug(
        "a copy hands out the value of the next key",
        "TigerBeetle: misdirected reads",
        40,
        (around(ReplicaNode, "_fetch", answer_for_the_next),),
    ),
    Bug(
        "a late message overwrites what is newer",
        "hints replayed unconditionally (Scylla #23712)",
        100,
        (
            edit(
                Content,
                "put_many",
                (
                    "elif held.version < record.version:",
                    "elif held.version != record.version:",
                ),
            ),
        ),
    ),
    Bug(
        "versions are the wall clock's, and the lower one loses unseen",
        "Cassandra, Riak: last write wins (Kingsbury)",
        100,
        (swap(HybridClock, "next_version", by_the_wall_clock), NEWER_IGNORED),
    ),
    Bug(
        "time stands still where the wall clock is set back",
        "hybrid logical clocks (Kulkarni et al. 2014), where they decide what expired",
        640,
        (
            edit(HybridClock, "next_version", (STEADY, "self.wall_ms()")),
            edit(HybridClock, "now_ms", (STEADY, "self.wall_ms()")),
        ),
    ),
    Bug(
        "time goes as far ahead as the wall clock is set forward",
        "Cassandra, Redis: a time to live ends by the wall clock",
        760,
        (
            edit(
                HybridClock,
                "now_ms",
                (STEADY, f"max({STEADY}, self.wall_ms())"),
            ),
        ),
    ),
    Bug(
        "time does not pass while the process is down",
        "times to live that are counted by the uptime of a process",
        5_000,
        (edit(HybridClock, "resume", ("max(0, wall_ms - then.shown_ms)", "0")),),
    ),
    Bug(
        "a node takes messages of any epoch",
        "Kafka: a zombie that is not fenced",
        300,
        (
            edit(ReplicaNode, "_put", ("if message.epoch < self._fence:", "if False:")),
            edit(
                ReplicaNode, "_purge", ("if message.epoch < self._fence:", "if False:")
            ),
        ),
    ),
)
