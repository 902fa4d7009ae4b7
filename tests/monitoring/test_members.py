"""The dashboard's row of etcd, and its alerts, on real members and a real Prometheus."""

from __future__ import annotations

import json
import math
import shutil
import time

import pytest

from client import Client
from tests.e2e.prometheus import DOCS, MISSING, WHY_MISSING, Prometheus, queries_of
from tests.e2e.served import Served

DASHBOARD = json.loads((DOCS / "grafana-dashboard.json").read_text("utf-8"))
ALL = {"job": "kv", "instance": ".*", "node": ".*", "__rate_interval": "10s"}
TOKEN, READ_TOKEN = "may-do-everything", "may-only-read"
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=WHY_MISSING),
    pytest.mark.skipif(shutil.which("etcd") is None, reason="etcd is not installed"),
]


def test_row_of_the_members_has_data_and_a_silent_one_is_told(tmp_path):
    titles = [panel["title"] for panel in DASHBOARD["panels"]]
    row = titles[titles.index("Members of etcd") + 1 :]
    queries = {
        name: text
        for name, (text, _) in queries_of(DASHBOARD, **ALL).items()
        if name.rpartition(" (")[0] in row
    }
    flags = ("--engine", "etcd", "--local-members", 3, "--data-dir", "data")
    tokens = ("--api-token", TOKEN, "--read-token", READ_TOKEN)
    began = time.time()
    with (
        Served(tmp_path, *flags, *tokens) as server,
        Prometheus(
            tmp_path / "prometheus", f"127.0.0.1:{server.port}", READ_TOKEN
        ) as prometheus,
        Client(server.url, TOKEN) as store,
    ):
        prometheus.wait_for(lambda: prometheus.now("kv_node_raft_leader == 1"), 20)
        followers = [
            node.node_id
            for node in store.nodes()
            if node.raft is not None and node.raft["role"] == "follower"
        ]
        store.fail(followers[0])  # so that there is no election
        prometheus.wait_for(lambda: "MemberSilent" in names(prometheus), 20)

        found = {name: prometheus.since(text, began) for name, text in queries.items()}

        assert len(found) == 4
        for name, values in found.items():
            assert any(not math.isnan(value) for value in values), name
        assert not {"NodeDown", "StorageProblem", "NoLeader"} & names(prometheus)


def names(prometheus):
    """The alerts that fire, or would if it went on."""
    alerts = prometheus.ask("alerts")["alerts"]
    return {alert["labels"]["alertname"] for alert in alerts}
