"""Processes of etcd that come and go with the service that started them."""

from __future__ import annotations

import json
import random
import signal
import statistics
import threading
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from client import Client, NoConnection, StoreError, Unavailable, Uncertain
from experiments.recording import Recording
from tests.callers import look
from tests.e2e.etcd_cluster import (
    MARKS,
    MEMBERS,
    etcds,
    nodes_of,
    seconds_until_gone,
    serve,
)
from tests.e2e.etcd_load import (
    KEYS,
    MODES,
    OPERATOR_SECONDS_MAX,
    MemberOperator,
    counted,
    load,
    look_at_all,
    recorded,
    verdict,
)
from tests.e2e.pressure import DOWN, READY_SECONDS_MAX, REQUEST_SECONDS_MAX, UP
from tests.e2e.served import Served

pytestmark = MARKS

SEED = 1
ROUNDS = 5


class Kills:
    """One folder of data, and what every client was ever told of it.

    In every other round a member is failed before the kill, and in the one after it the
    kill comes while it is brought back, or after that.
    """

    def __init__(self, folder: Path, recording: Recording, seed: int) -> None:
        self.folder = folder
        self.recording = recording
        self.chance = random.Random(seed)
        self.operator = MemberOperator(random.Random(f"{seed}-operator"))
        self.failed = 0  # the member that was failed last
        self.found_down = 0
        self.seconds: list[float] = []  # until the last etcd was gone

    def round(self, number: int) -> None:
        """Start, look, let everybody go at it, kill; nothing of it is left then."""
        with serve(self.folder) as server:
            with operator_of(server) as store:
                self.look(store, number)
                if number % 2 == 0:
                    self.operator.bring_back(store, self.failed)
                    mode, likely = MODES[number // 2 % 3], self.chance.random() < 0.5
                    self.failed = self.operator.fail(store, mode, of_leader=likely)
            breaker = threading.Thread(target=self.recover, args=(server.url, number))
            with load(self.recording, [server.url], self.chance.random(), f"{number}-"):
                breaker.start()
                time.sleep(self.chance.uniform(0.1, 2.0))
                self.seconds.append(stop(server, signal.SIGKILL)[1])
            breaker.join(REQUEST_SECONDS_MAX)
            assert not breaker.is_alive(), "the operator is stuck"

    def recover(self, url: str, number: int) -> None:
        """Bring back who is down, in every other round."""
        if number % 2:
            time.sleep(self.chance.uniform(0.0, 0.5))
            client = Client(url, timeout=OPERATOR_SECONDS_MAX)
            with client as store, suppress(StoreError):
                self.operator.recover(store, self.failed)

    def look(self, store: Client, number: int) -> None:
        """Members that were failed are failed still; all else can be read."""
        for node, told in nodes_of(store).items():
            known = self.operator.known[node]
            if known is not None:
                assert (told["status"] == DOWN) == (known == DOWN), (node, known, told)
                self.found_down += known == DOWN
            self.operator.known[node] = DOWN if told["status"] == DOWN else UP
        wait_until_ready(store)
        look(self.recording.client(store, f"{number}-reader"), KEYS)


def stop(server: Served, number: signal.Signals) -> tuple[int, float]:
    """Let it end; how it ended, and how long it took until no etcd was left."""
    started = etcds(server.process.pid)
    assert started, "nothing was running"
    status, seconds = server.stop(number)
    return status, seconds + seconds_until_gone(started)


def wait_until_ready(store: Client) -> None:
    """Until a majority is up and somebody leads."""
    deadline = time.monotonic() + READY_SECONDS_MAX
    while not store.is_ready():
        assert time.monotonic() < deadline, store.events()
        time.sleep(0.05)


def test_no_kill_of_the_service_loses_a_write_or_leaves_an_etcd_behind(tmp_path):
    path = tmp_path / "history.jsonl"
    with recorded(path, f"{ROUNDS} kills") as recording:
        kills = Kills(tmp_path, recording, SEED)
        for number in range(ROUNDS):
            try:
                kills.round(number)
            except BaseException as error:
                error.add_note(f"seed {SEED}, round {number}")
                raise
        with serve(tmp_path) as server, Client(server.url) as store:
            kills.look(store, ROUNDS)
            kills.operator.recover_all(store)
            look_at_all(recording, store)
            store.fail(0, "pause")
            status, seconds = stop(server, signal.SIGTERM)

    history = verdict(path)
    print(f"{counted(history.operations)}; {dict(kills.operator.changes)}; "
          f"{kills.found_down} members found down; gone after "
          f"{statistics.median(kills.seconds):.2f} s, at most {max(kills.seconds):.2f} s; "
          f"stopped in {seconds:.2f} s")  # fmt: skip
    assert status == 0
    assert sum(each.outcome == "ok" for each in history.operations) > 50 * ROUNDS
    assert kills.found_down >= ROUNDS // 2 + 1


# --- A recovery that is broken off ---------------------------------------------------

NODE = 1  # that loses its data


class Moment(NamedTuple):
    """How far the members are changed when the service that does it is killed."""

    without_old: bool  # the member that lost its data is none any more
    members: int
    started: int  # those of them that have told their names


REMOVED, ADDED, JOINED = Moment(True, 2, 2), Moment(True, 3, 2), Moment(True, 3, 3)


def members_of(url: str) -> dict[str, str]:
    """The members that a member of etcd knows of, by id; a name is empty before a start."""
    asked = urllib.request.Request(f"{url}/v3/cluster/member/list", b"{}")
    with urllib.request.urlopen(asked, timeout=2) as answer:
        return {
            each["ID"]: each.get("name", "") for each in json.load(answer)["members"]
        }


def moment_of(members: dict[str, str], old: str) -> Moment:
    """How far it is now; `old` is the id of the member that lost its data."""
    return Moment(old not in members, len(members), sum(map(bool, members.values())))


def kill_while_it_recovers(server: Served, url: str, moment: Moment) -> None:
    """Ask for a recovery until it is that far, or a little further, and kill the service."""
    (old,) = (each for each, name in members_of(url).items() if name == f"node-{NODE}")

    def recover() -> None:
        with operator_of(server) as store, suppress(NoConnection):
            while time.monotonic() < deadline:
                with suppress(Unavailable, Uncertain):  # nobody leads yet
                    store.recover(NODE)

    deadline = time.monotonic() + REQUEST_SECONDS_MAX
    asking = threading.Thread(target=recover)
    asking.start()
    while moment_of(members_of(url), old) < moment:
        assert time.monotonic() < deadline, (moment, members_of(url))
    stop(server, signal.SIGKILL)
    asking.join(REQUEST_SECONDS_MAX)
    assert not asking.is_alive(), "the client is stuck"


def test_recovery_that_a_kill_broke_off_is_gone_on_with_when_it_is_asked_for(tmp_path):
    path = tmp_path / "history.jsonl"
    with recorded(path, "kills while a wiped member comes back") as recording:
        for number, moment in enumerate((REMOVED, ADDED, JOINED)):
            with serve(tmp_path) as server, operator_of(server) as store:
                wait_until_ready(store)
                if number:
                    check_recovery(store)
                with load(recording, [server.url], number, f"{number}-"):
                    time.sleep(0.2)
                    store.fail(NODE, "wipe")
                    url = nodes_of(store)[0]["raft"]["urls"][0]
                    kill_while_it_recovers(server, url, moment)
        with serve(tmp_path) as server, operator_of(server) as store:
            wait_until_ready(store)
            check_recovery(store)
            look_at_all(recording, store)
            for _ in range(3):  # in the same second
                store.fail(NODE, "wipe")
                check_recovery(store)
            status, _ = stop(server, signal.SIGINT)

    verdict(path)
    assert status == 0


def operator_of(server: Served) -> Client:
    """A client that waits long enough for an operator."""
    return Client(server.url, timeout=OPERATOR_SECONDS_MAX)


def check_recovery(store: Client) -> None:
    """The member that lost its data comes back, and then there are as many as before."""
    operator = MemberOperator(random.Random(SEED))
    operator.bring_back(store, NODE)
    # As etcd says where a member is added twice in the same second.
    assert "member not found" not in str(operator.refusals)
    statuses = {number: node["status"] for number, node in nodes_of(store).items()}
    assert statuses == dict.fromkeys(range(MEMBERS), UP), store.events()
