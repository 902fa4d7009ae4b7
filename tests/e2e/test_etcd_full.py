"""Etcd with its quota used up, and clusters whose members lost what they held."""

from __future__ import annotations

import http.client
import json
import threading
import time

import pytest

from client import Client
from tests.e2e.etcd_cluster import MARKS, nodes_of, serve, wait_for_leader
from tests.e2e.served import Served

pytestmark = MARKS
QUOTA = 16 << 20
VALUE = "v" * 100_000
WRITERS = 8
FULL, UNAVAILABLE, UNCERTAIN, DONE = 507, 503, 504, 200
SECONDS_MAX = 40.0


class Writer(threading.Thread):
    """Writes keys of its own until it is told a few times that there is no room."""

    def __init__(self, port, number):
        super().__init__()
        self.port, self.number = port, number
        self.told = {}  # the status of each key

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        deadline = time.monotonic() + SECONDS_MAX
        for n in range(2_000):
            key = f"{self.number}-{n:04}"
            body = json.dumps({"key": key, "value": VALUE})
            headers = {"Content-Type": "application/json"}
            connection.request("POST", "/write", body, headers)
            answer = connection.getresponse()
            answer.read()
            self.told[key] = answer.status
            if [*self.told.values()].count(FULL) >= 5 or time.monotonic() > deadline:
                break
        connection.close()


def asked(server, method, target, body=None):
    """A status, and the document that came with it."""
    data = None if body is None else json.dumps(body).encode()
    status, _, text = server.ask(method, target, data, Content_Type="application/json")
    return status, json.loads(text) if text else None


def until(look, why):
    """What `look` finds, once it finds something; `why` says what there is instead."""
    deadline = time.monotonic() + SECONDS_MAX
    while not (found := look()):
        assert time.monotonic() < deadline, why()
        time.sleep(0.1)
    return found


@pytest.mark.parametrize("members", [1, 3])
def test_refused_write_was_not_done_when_etcd_is_full_and_room_comes_by_itself(
    tmp_path, members
):
    flags = ("--max-stored-bytes", QUOTA)
    with serve(tmp_path, *flags, members=members) as server:
        writers = [Writer(server.port, n) for n in range(WRITERS)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(2 * SECONDS_MAX)
        told = {key: s for writer in writers for key, s in writer.told.items()}
        assert set(told.values()) <= {DONE, FULL, UNAVAILABLE, UNCERTAIN}, told
        assert all(FULL in writer.told.values() for writer in writers)

        for key, status in told.items():
            found, _ = asked(server, "GET", f"/read?key={key}")
            if status == DONE:
                assert found == 200, key
            elif status != UNCERTAIN:  # which may be either
                assert found == 404, (key, status, found)

        done = [key for key, status in told.items() if status == DONE]
        deleted = [asked(server, "DELETE", f"/delete?key={k}")[0] for k in done[:10]]
        assert deleted == [200] * 10
        for key in done[10:]:
            until(
                lambda key=key: (
                    asked(server, "DELETE", f"/delete?key={key}")[0] in (200, 404)
                ),
                lambda: asked(server, "GET", "/nodes"),
            )
        again = {"key": "again", "value": VALUE}
        until(
            lambda: asked(server, "POST", "/write", again)[0] == DONE,
            lambda: (
                [
                    asked(server, "GET", where)
                    for where in ("/nodes", "/events", "/keys?limit=20")
                ]
                + [asked(server, "POST", "/write", again)]
            ),
        )
        with Client(server.url, timeout=30) as store:
            kinds = {event.kind for event in store.events()}
        assert "room_made" in kinds
        for key in done:
            assert asked(server, "GET", f"/read?key={key}")[0] == 404


def test_node_that_is_taken_for_truth_after_all_were_wiped_keeps_its_number(tmp_path):
    with serve(tmp_path) as server, Client(server.url, timeout=60) as store:
        store.write("k", 1)
        for node in range(3):
            store.fail(node, "wipe")

        back = store.recover(2, accept_loss=True)

        assert (back.node_id, back.status) == (2, "up")
        assert store.write("k", 2)  # its cluster is another one, and is the right one
        for node in (0, 1):
            assert store.recover(node).status == "up"
        assert [node.node_id for node in store.nodes()] == [0, 1, 2]
        assert {event.kind for event in store.events()} & {"wrong_cluster"} == set()
        assert store.add_node().node_id == 3


def test_loss_that_is_accepted_too_early_costs_no_member_that_only_stands_still(
    tmp_path,
):
    with serve(tmp_path) as server, Client(server.url, timeout=60) as store:
        store.write("k", 1)
        for node in range(3):
            store.fail(node)
    with serve(tmp_path) as server, Client(server.url, timeout=60) as store:
        store.recover(0, accept_loss=True)
        store.recover(1, accept_loss=True)
        wait_for_leader(store)

        assert store.read("k").value == 1
        store.recover(2)
        assert {node["status"] for node in nodes_of(store).values()} == {"up"}
        assert "loss_accepted" not in {event.kind for event in store.events()}


def test_keys_are_in_one_cluster_though_endpoints_of_two_are_named(tmp_path):
    folders = [tmp_path / name for name in ("one", "other", "service")]
    for folder in folders:
        folder.mkdir()
    with serve(folders[0], members=1) as one, serve(folders[1], members=1) as other:
        urls = []
        for server in (one, other):
            with Client(server.url, timeout=30) as store:
                wait_for_leader(store)
                (node,) = nodes_of(store).values()
                urls += node["raft"]["urls"]
        with _service(folders[2], urls) as server:
            for n in range(30):
                body = {"key": f"k{n}", "value": n}
                assert asked(server, "POST", "/write", body)[0] == DONE
            told = asked(server, "GET", "/events")[1]["events"]
            assert [e["kind"] for e in told].count("wrong_cluster") == 1
        assert len(asked(one, "GET", "/keys")[1]["keys"]) == 30
        assert asked(other, "GET", "/keys")[1]["keys"] == []


def _service(folder, urls):
    return Served(folder, "--engine", "etcd", "--etcd-endpoints", ",".join(urls))


def test_members_are_called_in_sync_under_load_for_as_long_as_they_follow(tmp_path):
    ended = threading.Event()
    with serve(tmp_path) as server, Client(server.url, timeout=30) as store:
        wait_for_leader(store)

        def load():
            with Client(server.url, timeout=30) as mine:
                for n in range(100_000):
                    if ended.is_set():
                        return
                    mine.write(f"k{n % 100}", n)

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        seen = []
        deadline = time.monotonic() + 4.0
        while time.monotonic() < deadline:
            (shard,) = asked(server, "GET", "/shards")[1]["shards"]
            seen.append(len(shard["in_sync"]))
        ended.set()
        for thread in threads:
            thread.join(30.0)

    assert seen.count(3) >= 0.99 * len(seen), (len(seen), seen.count(3))
