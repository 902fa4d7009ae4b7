"""The commands on members of etcd: roles, modes, majorities, members that come and go."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

from tests.console.test_live import call, complete_in_bash, etcd_flags
from tests.e2e.served import Served

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """A server of three members of etcd; a test leaves them all up."""
    with Served(tmp_path_factory.mktemp("members"), *etcd_flags()) as made:
        yield made


def until_ready(url: str) -> list[dict[str, Any]]:
    """The nodes of `status`, once all are up and one of them leads."""
    for _ in range(100):
        status, out, _ = call(url, "status", "--json")
        nodes: list[dict[str, Any]] = json.loads(out)["nodes"]
        roles = [node.get("raft", {}).get("role") for node in nodes]
        if status == 0 and "leader" in roles:
            return nodes
        time.sleep(0.1)
    raise AssertionError(out)


def test_status_shows_role_term_and_revision_of_each_member(members):
    until_ready(members.url)

    status, out, _ = call(members.url, "status")

    head, titles, *rows = out.splitlines()
    assert (status, head) == (0, "3 nodes, all with every key, raft, full: ready")
    assert titles.split()[:5] == ["node", "status", "role", "term", "revision"]
    assert sorted(row.split()[2] for row in rows) == ["follower", "follower", "leader"]
    assert all(row.split()[3].isdecimal() for row in rows)


def test_member_is_paused_and_brought_back_in_the_modes_that_the_server_names(members):
    url = members.url
    nodes = until_ready(url)
    (follower, *_) = (
        str(node["node_id"]) for node in nodes if node["raft"]["role"] == "follower"
    )

    assert complete_in_bash(url, "kv fail 0 --mode ") == ["stop", "wipe", "pause"]
    paused = call(url, "fail", follower, "--mode", "pause")
    call(url, "put", "k", "1")
    status = call(url, "status")
    back = call(url, "recover", follower)

    assert paused[:2] == (0, f"node {follower}: down; its process stands still\n")
    assert status[0] == 1
    assert re.search(rf"^{follower} +down +unknown", status[1], re.M)
    assert back[0] == 0
    assert re.fullmatch(
        rf"node {follower}: up; caught up with 1 change, in [\d.]+ s\n", back[1]
    )
    refused = call(url, "fail", follower, "--mode", "burn")
    assert (refused[0], "stop, wipe, pause" in refused[2]) == (2, True)


def test_store_without_a_leader_is_told_with_how_many_it_takes(members):
    url = members.url
    until_ready(url)
    call(url, "fail", "0")
    call(url, "fail", "1")
    for _ in range(100):
        status, out, _ = call(url, "status")
        if re.search("^2 +recovering", out, re.M):  # it has noticed too
            break
        time.sleep(0.1)
    waiting = call(url, "recover", "2")  # which is up, and has nobody to follow

    call(url, "recover", "0")
    call(url, "recover", "1")
    until_ready(url)
    assert status == 1
    assert "1 of 3 members answers, and 2 have to: recover nodes 0 and 1" in out
    assert waiting[:2] == (
        1,
        "node 2: recovering, waits until a majority is up (nodes 0 and 1 down)\n",
    )


def test_members_that_run_elsewhere_can_be_added_and_removed_and_not_failed(
    members, tmp_path
):
    nodes = until_ready(members.url)
    urls = ",".join(url for node in nodes for url in node["raft"]["urls"])
    with Served(tmp_path, "--engine", "etcd", "--etcd-endpoints", urls) as served:
        url = served.url
        failed = call(url, "fail", "0")
        without = call(url, "add-node")
        added = call(url, "add-node", "--peer-url", "http://127.0.0.1:9")
        status = call(url, "status")
        number = added[1].split()[1].rstrip(":")
        removed = call(url, "remove-node", number)

        assert complete_in_bash(url, "kv fail 0 --mode ") == [""]
        assert (failed[0], "did not start" in failed[2]) == (2, True)
        assert (without[0], "http://10.0.0.4:2380" in without[2]) == (2, True)
        assert "down; not started yet: etcd --name" in added[1]
        assert re.search(rf"^{number} +down +(- +){{5}}", status[1], re.M)
        assert removed[:2] == (0, f"node {number}: removed\n")
