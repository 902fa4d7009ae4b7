"""A server that is killed again and again: nothing that it acknowledged is taken back."""

import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from client import Client
from tests.e2e.pressure import DOWN, REQUEST_SECONDS_MAX, UP, Operator, press
from tests.e2e.served import Served
from tests.histories import Caller, Sight, follow, went_back

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SEED = 1
ROUNDS = 50
CLIENTS = 8
KEYS = [f"key-{number}" for number in range(8)]
READY_SECONDS_MAX = 20.0


class Kills:
    """One folder of data, and what every client was ever told of it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.chance = random.Random(seed)
        self.operator = Operator(random.Random(f"{seed}-operator"))
        self.values: dict[str, set[Any]] = {key: {None} for key in KEYS}
        self.sights: dict[str, list[Sight]] = {key: [] for key in KEYS}
        self.answered = 0
        self.unknown = 0
        self.found_down = 0

    def round(self, number: int) -> None:
        """Start, look, let everybody go at it, kill, judge."""
        flags = ("--maintenance-seconds", 0.3, "--tombstone-grace-seconds", 1)
        with Served(self.folder, *flags) as server:
            with Client(server.url, timeout=REQUEST_SECONDS_MAX) as store:
                reader = Caller(store, f"{number}-reader", self.chance)
                self._look(store, reader)
            ended = threading.Event()
            callers = [
                Caller(Client(server.url, timeout=REQUEST_SECONDS_MAX), f"{number}-{n}",
                       random.Random(self.chance.random()))
                for n in range(CLIENTS)
            ]  # fmt: skip
            collect = press(callers, KEYS, ended, self.chance.random())
            breaker = threading.Thread(
                target=self.operator.go_on, args=(server.url, ended, 0.05)
            )
            breaker.start()
            time.sleep(self.chance.uniform(0.05, 0.6))
            server.stop(signal.SIGKILL)
            ended.set()
            noted = collect()
            breaker.join(REQUEST_SECONDS_MAX)
            assert not breaker.is_alive(), "the operator is stuck"
        for caller in callers:
            caller.store.close()  # type: ignore[attr-defined]
        noted.extend(reader.take_notes())
        self._judge(noted)

    def _look(self, store: Client, reader: Caller) -> None:
        """Failed nodes are failed still; every value can be read once they are back."""
        statuses = {node.node_id: node.status for node in store.nodes()}
        for node, known in self.operator.known.items():
            if known is not None:
                assert (statuses[node] == DOWN) == (known == DOWN), (
                    node,
                    known,
                    statuses,
                )
                self.found_down += known == DOWN
            self.operator.known[node] = DOWN if statuses[node] == DOWN else UP
        for key in KEYS:
            reader.read(key)
            check_in_sync(store, key)
        if self.chance.random() < 0.5:
            return  # go on with those nodes down
        before = reader.noted.answered
        self.recover_all(store)
        for key in KEYS:
            reader.read(key)
        assert reader.noted.answered == before + len(KEYS), "a key cannot be read"

    def recover_all(self, store: Client) -> None:
        for node in self.operator.known:
            self.operator.recover(store, node)
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not store.is_ready() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert store.is_ready(), store.events()
        assert {node.status for node in store.nodes()} == {UP}, store.nodes()

    def _judge(self, noted: Any) -> None:
        self.answered += noted.answered
        for key, entries in noted.entries.items():
            self.values[key] = follow(entries, self.values[key])
            assert self.values[key], f"{key}: {sorted(entries)}"
            self.sights[key] += noted.sights[key]
            assert went_back(self.sights[key]) is None, key

    def finish(self) -> None:
        """After the last kill: one version of every key everywhere."""
        with Served(self.folder) as server, Client(server.url) as store:
            self.recover_all(store)
            for key in KEYS:
                replicas = store.replicas(key)["replicas"]
                assert len({replica["version"] for replica in replicas}) == 1, replicas
            server.stop()


def check_in_sync(store: Client, key: str) -> None:
    """The replicas that may serve a key have one version of it, with no write under way."""
    deadline = time.monotonic() + READY_SECONDS_MAX
    while True:
        replicas = store.replicas(key)["replicas"]
        serving = [r for r in replicas if r["in_sync"] and r["status"] == UP]
        if len({replica["version"] for replica in serving}) <= 1:
            return  # a tombstone is forgotten by one after the other
        assert time.monotonic() < deadline, replicas
        time.sleep(0.05)


def test_no_kill_of_many_loses_a_write_or_forgets_a_failed_node(tmp_path):
    kills = Kills(tmp_path, SEED)
    for number in range(ROUNDS):
        try:
            kills.round(number)
        except BaseException as error:
            error.add_note(f"seed {SEED}, round {number}")
            raise
    kills.finish()

    print(f"{kills.answered} answers, {kills.operator.changes} changes, "
          f"{kills.found_down} nodes found down")  # fmt: skip
    assert kills.answered > ROUNDS * CLIENTS
    assert kills.found_down > ROUNDS // 10
