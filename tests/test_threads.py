"""Many threads on one live manager: no lost or stale answer, nobody waits for a stranger."""

import random
import sys
import threading
import time
from pathlib import Path

import pytest

from models import Condition, KeyNotFound, StoreError, VersionMismatch
from replication import open_manager
from tests.interleaving import INFINITY, judge

THREADS = 6
ROUNDS = {"memory": 1_000, "sqlite": 60}  # of each thread
ROUNDS_PER_KEY = 5  # few enough for the judge


class Client(threading.Thread):
    """Writes, deletes, compares-and-sets and reads, and notes what it was told."""

    def __init__(self, store, number, rounds, keys):
        super().__init__(name=f"client-{number}")
        self.rounds = rounds
        self.keys = keys
        self.store = store
        self.random = random.Random(number)
        self.number = number
        self.history: list[tuple] = []
        self.versions: dict[str, tuple] = {}
        self.failure: BaseException | None = None

    def run(self):
        try:
            for turn in range(self.rounds):
                self.once(self.random.choice(self.keys), f"{self.number}-{turn}")
        except BaseException as error:
            self.failure = error

    def once(self, key, value):
        draw, expected = self.random.random(), None
        name = "write" if draw < 0.35 else "delete" if draw < 0.45 else "read"
        if 0.45 <= draw < 0.6 and key in self.versions:
            name = "cas"
        began = time.monotonic_ns()
        try:
            if name == "write":
                self.store.write(key, value)
            elif name == "delete":
                value = None
                self.store.delete(key)
            elif name == "cas":
                version, expected = self.versions[key]
                self.store.write(
                    key, value, condition=Condition(if_versions=(version,))
                )
            else:
                outcome = self.store.read(key)
                value = outcome.value
                self.versions[key] = (outcome.version, value)
        except KeyNotFound:
            name, value = "read", None
        except VersionMismatch:
            return
        except StoreError as error:
            if not error.definite:
                self.history.append((key, began, INFINITY, name, value, expected))
            return
        self.history.append((key, began, time.monotonic_ns(), name, value, expected))


def break_things(store, ended):
    """Fail, wipe and recover nodes; never the last one, so that data survive."""
    draw = random.Random(1)
    while not ended.is_set():
        victim = draw.randrange(3)
        mode = "wipe" if draw.random() < 0.3 else "stop"
        store.fail(victim, mode)
        ended.wait(0.003)
        assert store.recover(victim).status == "up"
        store.maintain()


@pytest.fixture
def eager_threads():
    """Let threads take turns far more often than they would."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("eager_threads")
@pytest.mark.parametrize("storage", ["memory", "sqlite"])
def test_threads_see_one_history_while_nodes_fail_and_recover(storage, tmp_path: Path):
    ended = threading.Event()
    rounds = ROUNDS[storage]
    keys = [f"key-{n}" for n in range(rounds // ROUNDS_PER_KEY)]
    with open_manager(
        nodes=3, replication_factor=2, storage=storage, data_dir=tmp_path / "data"
    ) as store:
        clients = [Client(store, number, rounds, keys) for number in range(THREADS)]
        breaker = threading.Thread(target=break_things, args=(store, ended))
        breaker.start()
        for client in clients:
            client.start()
        for client in clients:
            client.join(60)
        ended.set()
        breaker.join(60)
        final = {key: final_read(store, key) for key in keys}
        statuses = {node.status for node in store.nodes()}

    assert not breaker.is_alive()
    assert [client.failure for client in clients] == [None] * THREADS
    assert statuses == {"up"}
    for key in keys:
        history = [
            op[1:] for client in clients for op in client.history if op[0] == key
        ]
        now = time.monotonic_ns()
        history.append((now, now + 1, "read", final[key], None))
        assert judge(history), f"{key}: {sorted(history)}"
    answered = sum(len(client.history) for client in clients)
    assert answered > THREADS * rounds // 2  # a run in which all fails proves nothing


def final_read(store, key):
    try:
        return store.read(key).value
    except KeyNotFound:
        return None


def test_operations_on_other_keys_go_on_while_one_key_is_busy():
    entered, leave = threading.Event(), threading.Event()
    with open_manager() as store:
        store.write("other", 1)
        put = store._nodes[0].storage.put_many

        def slow_put(records):
            if records[0].key == "busy":
                entered.set()
                assert leave.wait(30)
            return put(records)

        for node in store._nodes.values():
            node.storage.put_many = slow_put  # type: ignore[method-assign]
        writer = threading.Thread(target=store.write, args=("busy", 1))
        writer.start()
        assert entered.wait(30)

        value = store.read("other").value
        blocked = threading.Thread(target=final_read, args=(store, "busy"))
        blocked.start()
        blocked.join(0.05)
        was_blocked = blocked.is_alive()
        leave.set()
        writer.join(30)
        blocked.join(30)

    assert value == 1
    assert was_blocked, "two operations on one key overlapped"


def test_a_closed_store_leaves_no_thread_behind():
    before = threading.active_count()

    with open_manager() as store:
        store.write("key", 1, consistency="one")

    assert threading.active_count() == before
