"""A driver for tests that interleaves operations in every order a seed can draw.

It runs the real manager, protocol and nodes. Between any two messages another client
may run, a node may fail, be wiped or come back, the whole process may be killed and
started again from what the nodes hold; messages are lost, doubled, and come late, also
after a restart. `judge` says whether the histories of single keys could have come from
a correct register.
"""

import random
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from cluster.clock import HybridClock
from cluster.events import EventLog
from cluster.shard import UP
from config import Settings
from db import MemoryStorage
from models import (
    Answers,
    Ask,
    Barrier,
    Condition,
    Exclusive,
    Intent,
    KeyNotFound,
    Operation,
    Put,
    Refused,
    Spawn,
    StoreError,
    VersionMismatch,
)
from replication import ReplicaNode, ReplicationManager, restore_cluster

UNKNOWN = "unknown"
INFINITY = 1 << 60


class Task:
    """One operation and those that it runs inside itself."""

    def __init__(self, operation, key, done):
        self.frames = [operation]
        self.locks = [("key", key)] if key is not None else [None]
        self.done = done
        self.key = key


class Cluster:
    """The nodes with their storage, which outlive the process that manages them."""

    def __init__(self, seed: int, nodes: int = 3, factor: int = 2, **faults: float):
        self.random = random.Random(seed)
        self.faults = {"drop": 0.0, "late": 0.0, "double": 0.0, "kill": 0.0, **faults}
        self.settings = Settings(
            nodes=nodes,
            replication_factor=factor,
            storage="memory",
            **self.choose_settings(),
        )
        names = iter(range(1_000_000))
        self.storages = [
            MemoryStorage(lambda: f"storage-{next(names)}") for _ in range(nodes)
        ]
        self.wall_ms = 1_000_000
        self.steps = 0
        self.late: list[Callable[[], Any]] = []
        self.killed = 0
        self.boot()

    def choose_settings(self):
        return {}

    def boot(self):
        """Start a process on what the nodes hold. The wall clock may have gone back."""
        self.wall_ms = max(1, self.wall_ms - self.random.choice([0, 0, 5_000]))
        self.tasks: list[Task] = []
        self.ready: list[Callable[[], None]] = []
        self.locks: dict[Any, list[tuple[Task, Callable[[], None]]]] = {}
        self.barriers: list[tuple[set[Task], Task]] = []
        nodes = {n: ReplicaNode(n, s) for n, s in enumerate(self.storages)}
        clock = HybridClock(lambda: self.wall_ms)
        view = restore_cluster(self.settings, nodes, clock)
        self.nodes = nodes
        self.manager = ReplicationManager(
            self.settings,
            nodes,
            view,
            EventLog(lambda: self.wall_ms),
            make_driver=lambda *_: self,
            monotonic=lambda: self.steps / 1000,
        )
        self.view = view
        faults = self.faults
        while True:
            try:
                self.run(self.manager.change.start())
                break
            except StoreError:  # too many messages were lost: the next try is spared
                self.faults = dict.fromkeys(faults, 0.0)
        self.faults = faults

    # --- Driving -----------------------------------------------------------------------

    def spawn(self, operation, key=None, done=lambda outcome: None):
        task = Task(operation, key, done)
        self.tasks.append(task)
        self.acquire(task, task.locks[0], lambda: self.step(task, None))
        return task

    def run(self, operation, key=None):
        """Run an operation to its end with nothing but itself going on beside it."""
        outcomes: list[Any] = []
        self.spawn(operation, key, outcomes.append)
        while not outcomes and self.ready:
            self.tick()
        assert outcomes, "an operation can go no further"
        if isinstance(outcomes[0], Exception):
            raise outcomes[0]
        return outcomes[0]

    def run_key(self, key, operation):
        return self.run(operation, key)

    def drain(self):
        while self.ready:
            self.tick()

    def tick(self):
        """Let one thing happen, whichever."""
        self.steps += 1
        self.wall_ms += self.random.choice([0, 0, 1])
        if self.late and self.random.random() < 0.05:
            self.late.pop(self.random.randrange(len(self.late)))()
        if self.ready:
            self.ready.pop(self.random.randrange(len(self.ready)))()

    def kill(self):
        """The process dies between two messages; those on their way may still arrive."""
        self.killed += 1
        for task in self.tasks:
            task.done(UNKNOWN)
        self.boot()

    def acquire(self, task, lock, then):
        if lock is None:
            self.ready.append(then)
            return
        queue = self.locks.setdefault(lock, [])
        queue.append((task, then))
        if len(queue) == 1:
            self.ready.append(then)

    def release(self, lock):
        if lock is None:
            return
        queue = self.locks[lock]
        queue.pop(0)
        if queue:
            self.ready.append(queue[0][1])
        else:
            del self.locks[lock]

    def step(self, task, value, error=None):
        frame = task.frames[-1]
        try:
            need = frame.throw(error) if error is not None else frame.send(value)
        except StopIteration as stop:
            self.leave(task, stop.value, None)
        except StoreError as failure:
            self.leave(task, None, failure)
        else:
            self.serve(task, need)

    def leave(self, task, value, error):
        task.frames.pop()
        self.release(task.locks.pop())
        if task.frames:
            self.ready.append(lambda: self.step(task, value, error))
            return
        self.tasks.remove(task)
        for waited, waiter in list(self.barriers):
            waited.discard(task)
            if not waited:
                self.barriers.remove((waited, waiter))
                self.ready.append(partial(self.step, waiter, None))
        task.done(error if error is not None else value)

    def serve(self, task, need):
        if isinstance(need, Ask):
            self.ask(task, need)
        elif isinstance(need, Exclusive):
            lock = ("key", need.key) if need.key is not None else "reconfiguration"
            held = task.locks[-1]
            assert held is None or held == "reconfiguration", "locks in the wrong order"
            task.frames.append(need.operation)
            task.locks.append(lock)
            self.acquire(task, lock, lambda: self.step(task, None))
        elif isinstance(need, Barrier):
            waited = {t for t in self.tasks if t.key is not None}
            if waited:
                self.barriers.append((waited, task))
            else:
                self.ready.append(lambda: self.step(task, None))
        else:
            assert isinstance(need, Spawn)
            self.spawn(need.operation, need.key)
            self.ready.append(lambda: self.step(task, None))

    def ask(self, task, need):
        answers = Answers({})
        waiting = set(need.targets)

        def account(target):
            waiting.discard(target)
            if not waiting:
                self.ready.append(lambda: self.step(task, answers))

        def deliver(target: int, *, counts: bool, double: bool = False) -> None:
            """A message arrives. Only a node that took it may be sent it again."""
            try:
                answer = self.nodes[target].handle(need.message)
            except Refused:
                if counts:
                    answers.refused += (target,)
            else:
                if counts:
                    answers.answered[target] = answer
                if double:
                    self.late.append(lambda: deliver(target, counts=False))
            if counts:
                account(target)

        def silence(target):
            answers.silent += (target,)
            account(target)

        if not need.targets:
            self.ready.append(lambda: self.step(task, answers))
        for target in need.targets:
            draw = self.random.random
            if draw() < self.faults["drop"]:
                self.ready.append(partial(silence, target))
            elif draw() < self.faults["late"]:
                self.late.append(partial(deliver, target, counts=False))
                self.ready.append(partial(silence, target))
            else:
                double = (
                    isinstance(need.message, Put) and draw() < self.faults["double"]
                )
                self.ready.append(partial(deliver, target, counts=True, double=double))

    def close(self):
        """The driver's interface; nothing to let go of."""


class Run:
    """Clients that write, read, delete and compare-and-set while an operator breaks things."""

    def __init__(self, cluster: Cluster, keys: int = 3, operations: int = 60):
        self.cluster = cluster
        self.random = cluster.random
        self.keys = [f"key-{n}" for n in range(keys)]
        self.budget = operations
        self.history: dict[str, list[tuple]] = {key: [] for key in self.keys}
        self.versions: dict[str, tuple[str, Any]] = {}
        self.values = iter(range(1_000_000))
        self.seen: set[str] = set()

    def go(self):
        cluster = self.cluster
        idle = 4
        while self.budget > 0 or cluster.ready:
            if self.budget > 0 and (not cluster.ready or self.random.random() < 0.15):
                if len(cluster.tasks) < idle + 4:
                    self.budget -= 1
                    self.begin()
            elif self.random.random() < cluster.faults["kill"]:
                cluster.kill()
            else:
                cluster.tick()
        self.heal()

    def begin(self):
        draw = self.random.random()
        if draw < 0.12:
            self.break_something()
        else:
            self.client(self.random.choice(self.keys), draw)

    def break_something(self):
        cluster, node = self.cluster, self.random.randrange(len(self.cluster.nodes))
        change = cluster.manager.change
        draw = self.random.random()
        if draw < 0.4:
            cluster.spawn(change.fail(node, "stop"))
        elif draw < 0.5:
            if not self.last_copy(node):
                cluster.spawn(change.fail(node, "wipe"))
        elif draw < 0.9:
            cluster.spawn(change.recover(node))
        else:
            cluster.spawn(change.maintain(cluster.view.now_ms()))

    def last_copy(self, node):
        """True if wiping the node could lose data: then nothing is promised."""
        shards = self.cluster.view.shards_of(node)
        busy = any(t.frames and t.key is None for t in self.cluster.tasks)
        return busy or any(set(s.members) <= {node} for s in shards)

    def client(self, key, draw):
        cluster, protocol = self.cluster, self.cluster.manager.protocol
        began = cluster.steps
        kind: tuple[Any, ...] = ("read",)
        operation: Operation[Any]
        if draw < 0.45:
            value = str(next(self.values)).encode()
            intent = Intent(key, value, level="linearizable")
            operation, kind = protocol.write(cluster.view, intent), ("write", value)
        elif draw < 0.55:
            intent = Intent(key, None, condition=Condition(), level="linearizable")
            operation, kind = protocol.write(cluster.view, intent), ("delete", None)
        elif draw < 0.7 and key in self.versions:
            version, expected = self.versions[key]
            value = str(next(self.values)).encode()
            condition = Condition(if_versions=(version,))
            intent = Intent(key, value, condition=condition, level="linearizable")
            operation = protocol.write(cluster.view, intent)
            kind = ("cas", value, expected)
        else:
            operation = protocol.read(cluster.view, key, "linearizable")
        cluster.spawn(
            operation, key, lambda outcome: self.note(key, kind, began, outcome)
        )

    def note(self, key, kind, began, outcome):
        ended = self.cluster.steps + 0.5
        name = kind[0]
        if isinstance(outcome, KeyNotFound):
            self.history[key].append((began, ended, "read", None, None))
        elif isinstance(outcome, VersionMismatch):
            return
        elif outcome == UNKNOWN or (
            isinstance(outcome, StoreError) and not outcome.definite
        ):
            if name != "read":
                expected = kind[2] if name == "cas" else None
                self.history[key].append((began, INFINITY, name, kind[1], expected))
        elif isinstance(outcome, StoreError):
            return
        elif name == "read":
            value = bytes(outcome.text)
            self.versions[key] = (outcome.version, value)
            self.history[key].append((began, ended, "read", value, None))
        else:
            expected = kind[2] if name == "cas" else None
            self.history[key].append((began, ended, name, kind[1], expected))

    def heal(self):
        """Bring everything back, deliver what is late, and read every key."""
        cluster = self.cluster
        cluster.faults = dict.fromkeys(cluster.faults, 0.0)
        for late in cluster.late:
            late()
        cluster.late.clear()
        for _ in range(2):
            for node in cluster.nodes:
                cluster.run(cluster.manager.change.recover(node))
        if any(shard.lost for shard in cluster.view.shards.values()):
            self.history.clear()  # the last copy was wiped: nothing is promised
            return
        assert set(cluster.view.status.values()) == {UP}, cluster.view.status
        for key in self.keys:
            self.client(key, 1.0)
            while cluster.ready:
                cluster.tick()
        cluster.run(cluster.manager.change.maintain(cluster.view.now_ms()))
        self.check_convergence()

    def check_convergence(self):
        cluster = self.cluster
        for shard in cluster.view.shards.values():
            assert shard.in_sync == shard.replicas == shard.sources, vars_of(shard)
            assert not shard.unsettled
            contents = [cluster.storages[n].content for n in shard.replicas]
            for partition in shard.partitions:
                digests = {content.partition_digest(partition) for content in contents}
                assert len(digests) == 1, f"replicas of {shard.replicas} differ"


def vars_of(shard):
    return {
        name: getattr(shard, name) for name in shard.__slots__ if name != "partitions"
    }


def judge(history) -> bool:
    """Linearizable as a register with deletes, compare-and-set and unknown outcomes?

    Wing and Gong's search with Lowe's memo: take any operation that began before every
    other's end, see whether it fits, go on. An unknown operation may also never happen.
    """
    operations = sorted(history, key=lambda op: op[0])
    count = len(operations)
    everything = (1 << count) - 1
    unknown = sum(1 << n for n, op in enumerate(operations) if op[1] == INFINITY)

    @cache
    def fits(done: int, value) -> bool:
        if (done | unknown) == everything:
            return True
        horizon = min(op[1] for n, op in enumerate(operations) if not done >> n & 1)
        for n, (began, _, name, new, expected) in enumerate(operations):
            if done >> n & 1 or began > horizon:
                continue
            if name == "read":
                if value == new and fits(done | 1 << n, value):
                    return True
            elif name == "cas":
                if value == expected and fits(done | 1 << n, new):
                    return True
            elif name == "delete":
                if value is not None and fits(done | 1 << n, None):
                    return True
            elif fits(done | 1 << n, new):
                return True
        return False

    return fits(0, None)
