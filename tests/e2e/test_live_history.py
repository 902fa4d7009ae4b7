"""A history that live clients recorded while all went wrong, judged as any other one."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from checker.history import History, Operation, write_history
from client import Client
from experiments.recording import Recording
from tests.callers import Caller, judged, look
from tests.e2e.pressure import REQUEST_SECONDS_MAX, Operator, press
from tests.e2e.served import ROOT, Served, environment, free_port

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SEED = 1
KILLS = 4
CLIENTS = 6
KEYS = [f"key-{number}" for number in range(6)]
LAST = "last"  # who reads every key at the end
FLAGS = ("--maintenance-seconds", 0.3, "--tombstone-grace-seconds", 1)


class Recorded(NamedTuple):
    """A history file, and what the operator did while it was written."""

    path: Path
    operator: Operator


def record(path: Path, folder: Path) -> Operator:
    """Let clients go on while nodes fail and recover and the process is killed."""
    chance = random.Random(SEED)
    operator = Operator(random.Random(f"{SEED}-operator"))
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    ended = threading.Event()
    with path.open("w", encoding="utf-8", buffering=1) as file:
        recording = Recording(file.write, note=f"{CLIENTS} clients, {KILLS} kills")
        stores = [Client(url, timeout=REQUEST_SECONDS_MAX) for _ in range(CLIENTS)]
        callers = [
            Caller(recording.client(store, f"c{n}"), random.Random(f"{SEED}-{n}"))
            for n, store in enumerate(stores)
        ]
        breaker = threading.Thread(target=operator.go_on, args=(url, ended, 0.15))
        server = Served(folder, "--port", port, *FLAGS)
        join = press(callers, KEYS, ended, SEED, pause_seconds=0.001)
        breaker.start()
        try:
            for _ in range(KILLS):
                time.sleep(chance.uniform(1.5, 2.5))
                server.stop(signal.SIGKILL)
                time.sleep(0.2)
                server = Served(folder, "--port", port, *FLAGS)
            time.sleep(2)
            ended.set()
            join()
            breaker.join(REQUEST_SECONDS_MAX)
            assert not breaker.is_alive(), "the operator is stuck"
            look_at_all(recording, operator, stores[0])
        finally:
            ended.set()
            server.__exit__()
            for store in stores:
                store.close()
    return operator


def look_at_all(recording: Recording, operator: Operator, store: Client) -> None:
    """When all is well again: every key, and every replica of it."""
    operator.recover_all(store)
    last = recording.client(store, LAST)
    look(last, KEYS)
    for key in KEYS:
        recording.replicas(last, store.replicas(key))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Recorded:
    folder = tmp_path_factory.mktemp("live")
    path = folder / "history.jsonl"
    return Recorded(path, record(path, folder))


def read(path: Path) -> History:
    with path.open(encoding="utf-8") as file:
        return judged(file)


def check(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "run.py"), "check", str(path)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_failures_and_kills_of_a_real_server_break_no_promise(recorded):
    history = read(recorded.path)

    told = [(each.action, each.outcome) for each in history.operations]
    acknowledged = sum(1 for action, outcome in told if outcome == "ok")
    unknown = sum(1 for action, outcome in told if outcome == "unknown")
    changes = recorded.operator.changes
    print(
        f"{len(told)} operations, {acknowledged} acknowledged, {unknown} unknown, "
        f"{len(told) - acknowledged - unknown} refused, {dict(changes)}"
    )
    assert acknowledged > 2_000
    assert {action for action, outcome in told if outcome == "ok"} == {
        "read",
        "write",
        "delete",
    }
    assert unknown >= KILLS
    assert told.count(("write", "failed")) > 100
    assert changes["stop"] + changes["wipe"] >= 10
    assert changes["wipe"] >= 1
    assert len(history.replicas) >= 2 * len(KEYS)
    assert {each.key for each in history.operations if each.client == LAST} == {*KEYS}


def test_command_line_finds_nothing_wrong_with_what_was_recorded(recorded):
    checked = check(recorded.path)

    assert (checked.returncode, checked.stderr) == (0, "")
    assert "violated" not in checked.stdout


def test_one_old_value_in_a_recorded_history_does_not_go_unnoticed(recorded, tmp_path):
    history = read(recorded.path)
    key, old = oldest_value(history.operations)
    history.operations = [
        replace(each, value=old) if (each.client, each.key) == (LAST, key) else each
        for each in history.operations
    ]
    path = tmp_path / "old.jsonl"
    with path.open("w", encoding="utf-8") as file:
        write_history(file, history)

    checked = check(path)

    assert checked.returncode == 1, checked.stderr
    assert f"linearizable violated on {key}" in checked.stdout
    assert "stale_reads violated" in checked.stdout


def oldest_value(operations: list[Operation]) -> tuple[str, str]:
    """The first acknowledged write of any key: its key and value."""
    writes = [each for each in operations if each.action == "write"]
    first = min(
        (each for each in writes if each.outcome == "ok"), key=lambda each: each.began
    )
    assert first.value is not None
    return first.key, first.value
