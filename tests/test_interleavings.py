"""Every order in which operations, failures and lost messages can come, by seed.

Each seed draws a cluster, its faults and a workload; the history of every key must be
linearizable, and the replicas must agree once everything is back. The same must fail
for stores with a bug planted in them, or this suite would prove nothing.
"""

import itertools
import random

import pytest

import cluster.repair
from cluster.membership import Membership
from models import Ask, Get, Put
from protocols.primary_backup import PrimaryBackup
from replication import ReplicaNode
from tests.interleaving import INFINITY, Cluster, Run, judge

FAULTS = {
    "drop": [0, 0, 0.02, 0.1],
    "late": [0, 0, 0.02, 0.1],
    "double": [0, 0, 0.02, 0.1],
    "kill": [0, 0, 0.002, 0.01],
}


def run_seed(seed: int) -> None:
    """Raise AssertionError if the seed's run breaks a promise."""
    draw = random.Random(f"shape {seed}")
    faults = {name: draw.choice(rates) for name, rates in FAULTS.items()}
    nodes = draw.choice([1, 2, 3, 3, 4])
    run = Run(
        Cluster(seed, nodes, draw.randint(1, min(nodes, 3)), **faults),
        keys=draw.choice([1, 2, 3]),
        operations=draw.choice([30, 60, 90]),
    )
    run.go()
    for key, history in run.history.items():
        assert judge(history), f"{key} is not linearizable: {sorted(history)}"


@pytest.mark.parametrize("first", range(0, 300, 50))
def test_no_order_of_faults_breaks_a_promise(first):
    for seed in range(first, first + 50):
        run_seed(seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1_000, 4_000, 500))
def test_no_order_of_faults_breaks_a_promise_in_many_more_seeds(first):
    for seed in range(first, first + 500):
        run_seed(seed)


# --- Stores with a bug, each of which must be found ------------------------------------


def settle_nothing(self, view, key):
    view.shard(key).unsettled.discard(key)
    yield from ()


def settle_with_the_old_version(self, view, key):
    shard = view.shard(key)
    answers = yield Ask(shard.members, Get(key))
    held = [record for record in answers.answered.values() if record is not None]
    if held:
        newest = max(held, key=lambda record: record.version)
        yield Ask(shard.targets, Put((newest,), view.epoch))
    shard.unsettled.discard(key)


def acknowledge_what_one_replica_has(self, shard, key, confirmed, enough):
    return bool(confirmed)


def keep_in_sync_sets_in_memory_only(self):
    self.mark_saved(self.epoch)
    return True
    yield


def copy_nothing(cluster, shard, source, target, settle, progress):
    return
    yield


def delete_without_a_tombstone(self, message):
    kept = tuple(record for record in message.records if record.value is not None)
    for record in message.records:
        held = self.storage.get(record.key)
        if record.value is None and held is not None:
            self.storage.purge({record.key: held.version})
    return self.storage.put_many(kept)


BUGS = {
    "unknown writes are never settled": (PrimaryBackup, "settle", settle_nothing),
    "settled under the old version": (
        PrimaryBackup,
        "settle",
        settle_with_the_old_version,
    ),
    "acknowledged without the in-sync set": (
        Membership,
        "conclude",
        acknowledge_what_one_replica_has,
    ),
    "in-sync sets not durable": (Membership, "save", keep_in_sync_sets_in_memory_only),
    "joined before it has copied": (cluster.repair, "_copy", copy_nothing),
    "hard delete": (ReplicaNode, "_put", delete_without_a_tombstone),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug, monkeypatch):
    owner, name, planted = BUGS[bug]
    monkeypatch.setattr(owner, name, planted)
    if name == "_put":
        monkeypatch.setitem(ReplicaNode.handle.__globals__["_HANDLERS"], Put, planted)
    for seed in range(2_000):
        try:
            run_seed(seed)
        except AssertionError:
            return
    pytest.fail(f"2,000 seeds did not find it: {bug}")


# --- The judge itself ------------------------------------------------------------------


def brute_force(history) -> bool:
    """Try every order of every choice of the operations that may not have happened."""
    sure = [op for op in history if op[1] != INFINITY]
    maybe = [op for op in history if op[1] == INFINITY]
    for count in range(len(maybe) + 1):
        for chosen in itertools.combinations(maybe, count):
            for order in itertools.permutations([*sure, *chosen]):
                if in_real_time_order(order) and is_a_register(order):
                    return True
    return False


def in_real_time_order(order) -> bool:
    return not any(
        later[1] < earlier[0] for earlier, later in itertools.combinations(order, 2)
    )


def is_a_register(order) -> bool:
    value = None
    for _, _, name, new, expected in order:
        if (name == "read" and value != new) or (name == "cas" and value != expected):
            return False
        if name == "delete" and value is None:
            return False
        if name != "read":
            value = new
    return True


def random_history(draw: random.Random):
    history, values = [], [b"a", b"b", None]
    for _ in range(draw.randint(1, 5)):
        began = draw.randint(0, 8)
        ended = INFINITY if draw.random() < 0.2 else began + draw.randint(0, 5) + 0.5
        name = draw.choice(["read", "write", "cas", "delete"])
        if name == "read" and ended == INFINITY:
            continue
        new = (
            None
            if name == "delete"
            else draw.choice(values[: 3 if name == "read" else 2])
        )
        expected = draw.choice(values) if name == "cas" else None
        history.append((began, ended, name, new, expected))
    return history


def test_the_judge_agrees_with_brute_force():
    draw = random.Random(5)
    verdicts = []
    for _ in range(3_000):
        history = random_history(draw)
        verdicts.append(judge(history))
        assert verdicts[-1] == brute_force(history), history
    assert 300 < sum(verdicts) < 2_700  # both answers were asked for
