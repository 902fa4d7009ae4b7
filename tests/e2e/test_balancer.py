"""Two services over one etcd behind the balancer of docs/balancing, while both sides fail."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from client import Client
from tests.e2e.etcd_cluster import MARKS, nodes_of, serve, wait_for_leader
from tests.e2e.etcd_load import (
    KEYS,
    load,
    longest_gap,
    look_at_all,
    recorded,
    verdict,
    writes_and_reads,
)
from tests.e2e.pressure import REQUEST_SECONDS_MAX
from tests.e2e.served import ROOT, Served, free_port

pytestmark = [
    *MARKS,
    pytest.mark.skipif(
        shutil.which("haproxy") is None,
        reason="haproxy is not installed: apt-get install haproxy",
    ),
]

SEED = 5
CONFIG = ROOT / "docs" / "balancing" / "haproxy.cfg"
READY_SECONDS_MAX = 15.0
GAP_SECONDS_MAX = 10.0


@contextmanager
def balanced(folder: Path, ports: list[int]) -> Iterator[str]:
    """The address of HAProxy, with the project's own settings, before two services."""
    port = free_port()
    settings = {
        "KV_BIND": f"127.0.0.1:{port}",
        "KV_ADMIN": str(folder / "admin.sock"),
        **{f"KV_SERVICE_{n}": f"127.0.0.1:{p}" for n, p in enumerate(ports, 1)},
    }
    with (folder / "haproxy.log").open("wb") as log:
        process = subprocess.Popen(
            ["haproxy", "-db", "-f", str(CONFIG)],
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not is_ready(port):
            assert process.poll() is None, (folder / "haproxy.log").read_text()
            assert time.monotonic() < deadline, "nothing is ready behind the balancer"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def front(folder: Path, urls: str, port: int) -> Served:
    """A service over members that somebody else started."""
    folder.mkdir(exist_ok=True)
    return Served(
        folder, "--engine", "etcd", "--etcd-endpoints", urls, "--port", port,
        "--log-level", "warning",
    )  # fmt: skip


def test_killed_service_and_killed_leader_behind_a_balancer_break_no_promise(tmp_path):
    path = tmp_path / "history.jsonl"
    ports = [free_port(), free_port()]
    with serve(tmp_path) as keeper, Client(keeper.url) as store:
        wait_for_leader(store)
        raft = [node["raft"] for node in nodes_of(store).values()]
        urls = ",".join(url for member in raft for url in member["urls"])
        folders = [tmp_path / "one", tmp_path / "two"]
        fronts = [front(f, urls, p) for f, p in zip(folders, ports, strict=True)]
        try:
            with (
                balanced(tmp_path, ports) as url,
                recorded(path, "balanced") as recording,
            ):
                with load(recording, [url], SEED):
                    time.sleep(1)
                    for number in (0, 1):
                        fronts[number].stop(signal.SIGKILL)
                        time.sleep(1)
                        fronts[number] = front(folders[number], urls, ports[number])
                        time.sleep(2.5)  # until the balancer has seen that it is ready
                    leader = wait_for_leader(store)
                    store.fail(leader)
                    time.sleep(3)
                    store.recover(leader)
                with Client(url, timeout=REQUEST_SECONDS_MAX) as through:
                    look_at_all(recording, through)
        finally:
            for each in fronts:
                each.__exit__()

    history = verdict(path)

    outcomes = Counter(each.outcome for each in history.operations)
    writes, reads = writes_and_reads(history)
    gaps = longest_gap(writes), longest_gap(reads)
    print(f"{dict(outcomes)}; longest without a write and a read: {gaps}")
    assert outcomes["ok"] > 500
    assert outcomes["unknown"] < 40  # at most what was under way, and an election
    assert max(gaps) < GAP_SECONDS_MAX
    assert {each.key for each in history.operations} == {*KEYS}
