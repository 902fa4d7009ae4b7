"""Many threads on one live manager: no lost or stale answer, nobody waits for a stranger."""

import random
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest

from experiments.recording import Recording
from replication import open_manager
from tests.callers import Caller, Direct, judged, look

THREADS = 6
ROUNDS = {"memory": 1_000, "sqlite": 60}  # of each thread
KEYS = [f"key-{number}" for number in range(8)]


class Client(threading.Thread):
    """Writes, deletes, compares-and-sets and reads, and notes what it was told."""

    def __init__(self, caller, number, rounds):
        super().__init__(name=f"client-{number}")
        self.caller = caller
        self.rounds = rounds
        self.random = random.Random(number)
        self.failure: BaseException | None = None

    def run(self):
        try:
            for _ in range(self.rounds):
                self.caller.once(self.random.choice(KEYS))
        except BaseException as error:
            self.failure = error


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
    lines: list[str] = []
    recording = Recording(lines.append, now=time.monotonic_ns, unit="ns")
    rounds = ROUNDS[storage]
    with open_manager(
        nodes=3, replication_factor=2, storage=storage, data_dir=tmp_path / "data"
    ) as store:
        clients = [
            Client(caller_of(recording, store, number), number, rounds)
            for number in range(THREADS)
        ]
        breaker = threading.Thread(target=break_things, args=(store, ended))
        breaker.start()
        for client in clients:
            client.start()
        for client in clients:
            client.join(60)
        ended.set()
        breaker.join(60)
        statuses = {node.status for node in store.nodes()}
        last = recording.client(Direct(store), "last")
        look(last, KEYS)
        for key in KEYS:
            recording.replicas(last, msgspec.to_builtins(store.locate(key)))

    assert not breaker.is_alive()
    assert [client.failure for client in clients] == [None] * THREADS
    assert statuses == {"up"}
    judged(lines)
    answered = sum(client.caller.answered for client in clients)
    assert answered > THREADS * rounds // 2  # a run in which all fails proves nothing


def caller_of(recording, store, number):
    name = f"client-{number}"
    return Caller(recording.client(Direct(store), name), random.Random(name))


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
        blocked = threading.Thread(target=store.read, args=("busy",))
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
