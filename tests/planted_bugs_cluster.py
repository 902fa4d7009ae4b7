"""Bugs in who is in sync, and in what is saved of that."""

from __future__ import annotations

from typing import Any

from cluster import membership
from cluster.membership import Membership
from cluster.reconfiguration import Reconfiguration
from cluster.shard import ShardState
from tests.planted_bugs_base import Bug, around, edit, swap


def keep_all(self: Any, shard: Any, key: str, confirmed: Any, enough: int) -> bool:
    return len(confirmed) >= enough


def replace_the_last(original: Any) -> Any:
    """Where no member is left, whoever is there becomes the set."""

    def evict_absent(self: Any, shard: Any, enough: int) -> None:
        if not shard.members and shard.targets and not shard.lost:
            self._set_in_sync(shard, shard.targets)
        original(self, shard, enough)

    return evict_absent


def keep_in_memory(self: Any) -> Any:
    self.mark_saved(self.epoch)
    return True
    yield


def change_in_memory(original: Any) -> Any:
    """What it changes is not saved, until something else is."""

    def change(self: Any, *arguments: Any) -> bool:
        done: bool = original(self, *arguments)
        if done:
            self.mark_saved(self.epoch)
        return done

    return change


CLUSTER_BUGS = (
    Bug(
        "replicas that did not confirm a write stay in sync",
        "Kafka: shrink the in-sync set before the answer (KAFKA-948)",
        40,
        (swap(Membership, "conclude", keep_all),),
    ),
    Bug(
        "a write is acknowledged by fewer replicas than must take it",
        "Kafka: min.insync.replicas",
        200,
        (
            edit(Membership, "conclude", ("len(staying) < enough", "not staying")),
            edit(Membership, "evict_absent", (">= enough", ">= 1")),
        ),
    ),
    Bug(
        "an out-of-sync replica takes the place of the last member, which is down",
        "Kafka: unclean.leader.election",
        40,
        (around(Membership, "evict_absent", replace_the_last),),
    ),
    Bug(
        "a replica that is catching up serves reads",
        "TigerBeetle: a recovering replica does not vote",
        40,
        (
            edit(
                ShardState,
                "derive",
                ("tuple(n for n in self.members", "tuple(n for n in self.targets"),
            ),
        ),
    ),
    Bug(
        "in-sync sets are kept in memory only",
        "Kafka KIP-966: what an election must know",
        40,
        (swap(Membership, "save", keep_in_memory),),
    ),
    Bug(
        "that a replica is in sync again is not saved",
        "KAFKA-948: stale entries of the in-sync set",
        200,
        (
            around(Membership, "join", change_in_memory),
            around(Membership, "promote", change_in_memory),
        ),
    ),
    Bug(
        "the state record is kept by one node only",
        "Kafka KIP-966: the last one standing",
        40,
        (
            edit(Membership, "save", ("tuple(self.status)", "tuple(self.status)[:1]")),
            edit(
                membership, "_is_kept_by", ("    up = {", "    return True\n    up = {")
            ),
        ),
    ),
    Bug(
        "a replica that left the in-sync set is not told to catch up",
        "Redis #2694: a copy that diverges for ever",
        100,
        (
            edit(
                Membership, "_set_in_sync", ("if self.status[node] == UP:", "if False:")
            ),
        ),
    ),
    Bug(
        "an empty disk in a node's place counts as its old one",
        "KAFKA-18635: unclean shutdowns; Redis: a primary restarted empty",
        200,
        (
            edit(
                Reconfiguration,
                "_start",
                ("elif cluster.identity[node] != member.identity:", "elif False:"),
            ),
        ),
    ),
    Bug(
        "a wipe is of whatever the node holds by then",
        "Kubernetes: a delete without the UID that it is meant for",
        3_000,
        (
            edit(
                Reconfiguration,
                "_wipe",
                (
                    "self._cluster.turned[node] > failed_at",
                    "self._cluster.status[node] != DOWN",
                ),
            ),
        ),
    ),
    Bug(
        "copies are not compared after a kill",
        "Kafka KIP-101: divergence after a double failure",
        100,
        (edit(Membership, "restore", ("shard.unchecked = set(agree)", "pass")),),
    ),
    Bug(
        "a process begins without raising the fence",
        "Kafka: a zombie that is not fenced",
        6_000,
        (edit(Membership, "mark_clean", ("if not clean:", "if False:")),),
    ),
)
