"""Histories of live clients over real members of etcd, while those fail and come back."""

from __future__ import annotations

import json
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from checker.history import History
from client import Client, KeyNotFound, StoreError
from experiments.recording import RecordingClient, now_us
from tests.callers import look
from tests.e2e.etcd_cluster import MARKS, etcds, nodes_of, serve, wait_for_leader
from tests.e2e.etcd_load import (
    KEYS,
    LAST,
    MODES,
    OPERATOR_SECONDS_MAX,
    PAUSE,
    STOP,
    WIPE,
    MemberOperator,
    counted,
    gaps_in_words,
    gaps_of,
    load,
    longest_gap,
    look_at_all,
    recorded,
    verdict,
    writes_and_reads,
)
from tests.e2e.pressure import UP
from tests.e2e.served import Served, free_port

pytestmark = MARKS

SEED = 1
# An election takes etcd one to two seconds, and a request that a paused leader holds is
# given up after etcd_seconds, 5; the rest is for a machine that has other things to do.
GAP_SECONDS_MAX = 15.0
REFUSED = ("unavailable", 503, True)
REFUSED_SECONDS_MAX = 15.0  # until that is all there is: etcd_seconds and an election
BACK_SECONDS_MAX = 20.0
STALE_SECONDS_MAX = 3.0
EACH_FAULT = [(mode, of_leader) for mode in MODES for of_leader in (True, False)]


class Ran(NamedTuple):
    """What was recorded while members failed one at a time, and by what."""

    history: History
    operator: MemberOperator


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Ran:
    return run(tmp_path_factory.mktemp("members"), SEED)


def run(folder: Path, seed: int, hold_seconds_max: float = 2.0) -> Ran:
    """Let clients go on while each kind of failure hits the leader and another member."""
    path = folder / "history.jsonl"
    chance = random.Random(seed)
    plan = chance.sample(EACH_FAULT, len(EACH_FAULT))
    operator = MemberOperator(chance)
    with (
        serve(folder) as server,
        recorded(path, "one member at a time") as recording,
        Client(server.url, timeout=OPERATOR_SECONDS_MAX) as store,
    ):
        with load(recording, [server.url], seed):
            time.sleep(1)
            for mode, of_leader in plan:
                node = operator.fail(store, mode, of_leader=of_leader)
                time.sleep(chance.uniform(0.3, hold_seconds_max))
                operator.bring_back(store, node)
                time.sleep(chance.uniform(0.0, 0.5))
        operator.recover_all(store)
        look_at_all(recording, store)
    return Ran(verdict(path), operator)


def test_members_failing_one_at_a_time_lose_nothing_that_was_acknowledged(ran):
    history, operator = ran

    print(f"{counted(history.operations)}; {dict(operator.changes)}, "
          f"asked for again: {operator.refusals}")  # fmt: skip
    outcomes = Counter((each.action, each.outcome) for each in history.operations)
    assert outcomes["write", "ok"] > 500
    assert outcomes["delete", "ok"] > 100
    assert outcomes["read", "ok"] > 500
    assert sum(bool(each.level) for each in history.operations) > 100
    assert {each.key for each in history.operations if each.client == LAST} == {*KEYS}
    assert len(history.replicas) == 3 * len(KEYS)
    assert {(each.kind, each.of_leader) for each in operator.done} >= {*EACH_FAULT}


def test_no_failure_of_one_member_stops_reads_or_writes_for_long(ran):
    history, operator = ran

    changes = operator.done
    for what, answers in zip(
        "writes reads".split(), writes_and_reads(history), strict=True
    ):
        print(f"without {what}: {gaps_in_words(gaps_of(changes, answers))}")
        whole = longest_gap(answers)
        print(f"longest without {what}: {whole:.2f} s")
        assert whole < GAP_SECONDS_MAX


# --- More than can be tolerated ------------------------------------------------------


class Outage(NamedTuple):
    """What one client was told while two of three members were down.

    From `settled` on all was refused for certain. Times are those of the history.
    """

    nodes: tuple[int, int]  # that were failed
    before: Counter[str]  # what it was told until then: "ok" or the code of the error
    failed: int
    settled: int
    ended: int


def told(call: Callable[[], object]) -> tuple[str, int, bool]:
    """The code, status and definiteness of the answer to a request."""
    try:
        call()
    except KeyNotFound:
        pass
    except StoreError as error:
        return error.code, error.status or 0, error.definite
    return "ok", 200, True


def answers_to(
    client: RecordingClient, key: str, value: str
) -> list[tuple[str, int, bool]]:
    """What a client is told that writes this, deletes and reads."""
    asked = (
        lambda: client.write(key, value),
        lambda: client.delete(key),
        lambda: client.read(key),
    )
    return [told(call) for call in asked]


def without_majority(store: Client, client: RecordingClient, mode: str) -> Outage:
    """Fail two of three members, and see what that means."""
    leader = wait_for_leader(store)
    one, other = (node for node in range(3) if node != leader)
    two = (leader, one) if mode == STOP else (one, other)
    for node in two:
        store.fail(node, mode)
    failed, before, refused, settled = now_us(), Counter[str](), 0, 0
    while refused < 4:
        settled = now_us() if not refused else settled
        assert now_us() - failed < 1e6 * REFUSED_SECONDS_MAX, before
        answers = answers_to(client, KEYS[0], f"asker-{failed}-{before.total()}")
        refused = refused + 1 if {*answers} == {REFUSED} else 0
        before.update(code for code, _, _ in answers)
    for key in KEYS:
        assert {*answers_to(client, key, f"asker-{settled}")} == {REFUSED}
        began = time.monotonic()
        with suppress(KeyNotFound):
            assert store.read(key, consistency="one").may_be_stale
        assert time.monotonic() - began < STALE_SECONDS_MAX
    assert told(lambda: store.call("GET", "/readyz"))[1] == 503
    return Outage(two, before, failed, settled, now_us())


@pytest.mark.parametrize("mode", [STOP, PAUSE])
def test_without_a_majority_nothing_is_done_that_was_refused(tmp_path, mode):
    path = tmp_path / "history.jsonl"
    operator = MemberOperator(random.Random(SEED))
    flags = () if mode == STOP else ("--etcd-seconds", 2)  # that all wait once
    with (
        serve(tmp_path, *flags) as server,
        recorded(path, f"{mode} two of three") as recording,
        Client(server.url, timeout=OPERATOR_SECONDS_MAX) as store,
    ):
        client = recording.client(store, "asker")
        with load(recording, [server.url], SEED):
            time.sleep(0.5)
            outage = without_majority(store, client, mode)
        began = now_us()
        store.recover(outage.nodes[0])
        while told(lambda: client.read(KEYS[0])) == REFUSED:
            assert now_us() - began < 1e6 * BACK_SECONDS_MAX, store.events()
        back = now_us()
        look(client, KEYS)  # before anybody could hide what comes to light
        with load(recording, [server.url], SEED, "again"):
            time.sleep(0.5)
        operator.recover_all(store)
        look_at_all(recording, store)

    history = verdict(path)
    meanwhile = [
        each for each in history.operations
        if outage.settled < each.began and (each.ended or back) < outage.ended
    ]  # fmt: skip
    outcomes = Counter((bool(each.level), each.outcome) for each in meanwhile)
    print(f"{mode} two of three: refused for certain after "
          f"{(outage.settled - outage.failed) / 1e6:.2f} s, before that {dict(outage.before)}; "
          f"back {(back - began) / 1e6:.2f} s after one came back; "
          f"{counted(history.operations)}; meanwhile {dict(outcomes)}")  # fmt: skip
    assert {*outcomes} == {(False, "failed"), (True, "ok")}
    assert outcomes[False, "failed"] > 50


# --- Two services --------------------------------------------------------------------


def urls_of(store: Client) -> str:
    """Where members answer clients, as a second service is told."""
    return ",".join(
        url for node in nodes_of(store).values() for url in node["raft"]["urls"]
    )


def names_of(store: Client) -> dict[int, str]:
    """Which member of etcd each node is."""
    return {number: node["raft"]["member"] for number, node in nodes_of(store).items()}


def test_two_services_over_one_etcd_are_one_store(tmp_path):
    path = tmp_path / "history.jsonl"
    other_folder = tmp_path / "other"
    other_folder.mkdir()
    operator = MemberOperator(random.Random(SEED))
    with (
        serve(tmp_path) as first,
        recorded(path, "two services") as recording,
        Client(first.url, timeout=OPERATOR_SECONDS_MAX) as store,
    ):
        wait_for_leader(store)
        flags = (
            "--engine",
            "etcd",
            "--etcd-endpoints",
            urls_of(store),
            "--port",
            free_port(),
        )
        with (
            Served(other_folder, *flags) as second,
            Client(second.url, timeout=OPERATOR_SECONDS_MAX) as other,
        ):
            assert names_of(other) == names_of(store)
            with pytest.raises(StoreError) as refused:
                other.fail(0)
            with load(recording, [first.url, second.url], SEED):
                for mode, of_leader in (STOP, True), (PAUSE, True), (WIPE, False):
                    node = operator.fail(store, mode, of_leader=of_leader)
                    time.sleep(1)
                    operator.bring_back(store, node)
                members = etcds(first.process.pid)
                second.stop(signal.SIGKILL)
                with Served(other_folder, *flags):
                    time.sleep(0.5)
                    assert names_of(other) == names_of(store)
                    look(recording.client(other, "other"), KEYS)
        operator.recover_all(store)
        look_at_all(recording, store)
        assert etcds(first.process.pid) == members

    history = verdict(path)
    print(f"two services: {counted(history.operations)}, "
          f"asked for again: {operator.refusals}")  # fmt: skip
    assert (refused.value.status, refused.value.code) == (409, "not_offered")
    assert "whoever runs that etcd" in str(refused.value)
    assert len(members) == 3
    assert sum(each.outcome == "ok" for each in history.operations) > 300


# --- More and fewer members ----------------------------------------------------------


def remove(store: Client, node: int) -> None:
    """Take a member out for good."""
    store.call("DELETE", f"/nodes/{node}")


def test_members_come_and_go_without_a_pause_or_a_loss(tmp_path):
    path = tmp_path / "history.jsonl"
    with recorded(path, "members come and go") as recording:
        with (
            serve(tmp_path) as server,
            Client(server.url, timeout=OPERATOR_SECONDS_MAX) as store,
        ):
            with load(recording, [server.url], SEED):
                time.sleep(1)
                come_and_go(store, server.process.pid, tmp_path / "data" / "etcd")
                time.sleep(0.5)
            (last,) = nodes_of(store)
            with pytest.raises(StoreError) as refused:
                remove(store, last)
            look(recording.client(store, "alone"), KEYS)
        with serve(tmp_path) as server, Client(server.url) as store:
            assert [*nodes_of(store)] == [last]
            look_at_all(recording, store)

    history = verdict(path)
    writes, reads = writes_and_reads(history)
    print(f"members come and go: {counted(history.operations)}; longest without writes "
          f"{longest_gap(writes):.2f} s, without reads {longest_gap(reads):.2f} s")  # fmt: skip
    assert (refused.value.status, refused.value.code) == (409, "too_few_nodes")
    assert longest_gap(writes) < GAP_SECONDS_MAX
    assert longest_gap(reads) < GAP_SECONDS_MAX


def come_and_go(store: Client, pid: int, folder: Path) -> None:
    """Add a member, then remove who leads, again and again, until one is left."""
    added = json.loads(store.call("POST", "/nodes", {}))
    assert (added["node_id"], added["status"]) == (3, UP), added
    assert added["raft"]["role"] == "follower", added
    for left in (3, 2, 1):
        before, leader = etcds(pid), wait_for_leader(store)
        assert len(before) == left + 1
        remove(store, leader)
        assert len(nodes_of(store)) == left
        assert etcds(pid) < before
        assert {each.name for each in folder.glob("node-?")} == {
            f"node-{node}" for node in nodes_of(store)
        }
