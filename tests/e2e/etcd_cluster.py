"""A service over members of etcd that it started, and what there is to know of them."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from client import Client
from tests.e2e.served import Served

MEMBERS = 3
GONE_SECONDS_MAX = 2.0  # in which no process of a killed service is left
MARKS = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("etcd") is None,
        reason="etcd is not installed: apt-get install etcd-server",
    ),
]


def serve(folder: Path, *flags: object, members: int = MEMBERS) -> Served:
    """A service that starts members of its own, with their data in this folder."""
    return Served(
        folder, "--engine", "etcd", "--local-members", members,
        "--data-dir", "data", *flags,
    )  # fmt: skip


def nodes_of(store: Client) -> dict[int, dict[str, Any]]:
    """What `GET /nodes` tells, by number."""
    told = json.loads(store.call("GET", "/nodes"))["nodes"]
    return {node["node_id"]: node for node in told}


def leader_of(nodes: dict[int, dict[str, Any]]) -> int | None:
    """Who leads, None while nobody does: of two that say so the one of the later term."""
    told = [
        (node["raft"]["term"], node_id)
        for node_id, node in nodes.items()
        if node["status"] == "up" and node.get("raft", {}).get("role") == "leader"
    ]
    return max(told)[1] if told else None


def wait_for_leader(store: Client, seconds: float = 10.0) -> int:
    """Who leads, once somebody does."""
    deadline = time.monotonic() + seconds
    while True:
        nodes = nodes_of(store)
        found = leader_of(nodes)
        if found is not None:
            return found
        assert time.monotonic() < deadline, nodes
        time.sleep(0.05)


def children(pid: int) -> dict[int, str]:
    """The processes that a process started and that run: their ids and programs."""
    found = {}
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            name, state, parent = stat(int(path.name))
            if parent == pid and state != "Z":
                found[int(path.name)] = name
    return found


def stat(pid: int) -> tuple[str, str, int]:
    """The program, state and parent of a process; empty if it is gone."""
    with suppress(FileNotFoundError, ProcessLookupError):
        text = Path(f"/proc/{pid}/stat").read_text("utf-8")
        head, _, tail = text.rpartition(")")
        state, parent = tail.split()[:2]
        return head.partition("(")[2], state, int(parent)
    return "", "", 0


def etcds(pid: int) -> set[int]:
    """The members of etcd among the processes that a process started."""
    return {each for each, name in children(pid).items() if name == "etcd"}


def seconds_until_gone(pids: Iterable[int]) -> float:
    """How long it takes until none of these processes runs as etcd any more."""
    began = time.monotonic()
    while left := [
        pid for pid in pids if stat(pid)[0] == "etcd" and stat(pid)[1] != "Z"
    ]:
        assert time.monotonic() < began + GONE_SECONDS_MAX, f"{left} run still"
        time.sleep(0.01)
    return time.monotonic() - began
