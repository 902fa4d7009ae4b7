"""A server that is killed again and again: nothing that it acknowledged is taken back."""

import random
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from client import Client, StoreError
from experiments.recording import Recording, RecordingClient
from tests.callers import Caller, judged, look
from tests.e2e.pressure import (
    DOWN,
    READY_SECONDS_MAX,
    REQUEST_SECONDS_MAX,
    UP,
    Operator,
    press,
)
from tests.e2e.served import Served

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SEED = 1
ROUNDS = 50
CLIENTS = 8
KEYS = [f"key-{number}" for number in range(8)]


class Kills:
    """One folder of data, and what every client was ever told of it."""

    def __init__(self, folder: Path, recording: Recording, seed: int) -> None:
        self.folder = folder
        self.recording = recording
        self.chance = random.Random(seed)
        self.operator = Operator(random.Random(f"{seed}-operator"))
        self.found_down = 0

    def round(self, number: int) -> None:
        """Start, look, let everybody go at it, kill."""
        flags = ("--maintenance-seconds", 0.3, "--tombstone-grace-seconds", 1)
        with Served(self.folder, *flags) as server:
            with Client(server.url, timeout=REQUEST_SECONDS_MAX) as store:
                self._look(store, self.recording.client(store, f"{number}-reader"))
            ended = threading.Event()
            stores = [
                Client(server.url, timeout=REQUEST_SECONDS_MAX) for _ in range(CLIENTS)
            ]
            callers = [
                Caller(
                    self.recording.client(store, f"{number}-{n}"),
                    random.Random(self.chance.random()),
                )
                for n, store in enumerate(stores)
            ]
            join = press(callers, KEYS, ended, self.chance.random())
            breaker = threading.Thread(
                target=self.operator.go_on, args=(server.url, ended, 0.05)
            )
            breaker.start()
            time.sleep(self.chance.uniform(0.05, 0.6))
            server.stop(signal.SIGKILL)
            ended.set()
            join()
            breaker.join(REQUEST_SECONDS_MAX)
            assert not breaker.is_alive(), "the operator is stuck"
        for store in stores:
            store.close()

    def _look(self, store: Client, reader: RecordingClient) -> None:
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
            with suppress(StoreError):  # some are down
                look(reader, [key])
            check_in_sync(store, key)
        if self.chance.random() < 0.5:
            return  # go on with those nodes down
        self.operator.recover_all(store)
        look(reader, KEYS)

    def finish(self) -> None:
        """After the last kill: what every key is, and every replica of it."""
        with Served(self.folder) as server, Client(server.url) as store:
            self.operator.recover_all(store)
            last = self.recording.client(store, "last")
            look(last, KEYS)
            for key in KEYS:
                told = store.replicas(key)
                assert len({each["version"] for each in told["replicas"]}) == 1, told
                self.recording.replicas(last, told)
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
    path = tmp_path / "history.jsonl"
    with path.open("w", encoding="utf-8", buffering=1) as file:
        kills = Kills(tmp_path, Recording(file.write, note=f"{ROUNDS} kills"), SEED)
        for number in range(ROUNDS):
            try:
                kills.round(number)
            except BaseException as error:
                error.add_note(f"seed {SEED}, round {number}")
                raise
        kills.finish()

    with path.open(encoding="utf-8") as file:
        operations = judged(file).operations
    answered = sum(1 for each in operations if each.outcome == "ok")
    unknown = sum(1 for each in operations if each.outcome == "unknown")
    print(f"{len(operations)} operations, {answered} acknowledged, {unknown} unknown, "
          f"{dict(kills.operator.changes)}, {kills.found_down} nodes found down")  # fmt: skip
    assert answered > ROUNDS * CLIENTS
    assert kills.found_down > ROUNDS // 10
