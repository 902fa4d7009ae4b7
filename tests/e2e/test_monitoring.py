"""A real Prometheus beside a real server on a bad day: dashboard, alerts and counts."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.prometheus import (
    DOCS,
    MISSING,
    WHY_MISSING,
    Prometheus,
    queries_of,
    substitute,
)
from tests.e2e.served import Served
from tests.monitoring.scrape import requests

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
needs_prometheus = pytest.mark.skipif(bool(MISSING), reason=WHY_MISSING)
TOKEN = "of-the-operators"
READ_TOKEN = "of-the-scraper"
PAUSE_SECONDS = 0.01  # between two requests of a client
PHASE_SECONDS = 2.5  # two scrapes at least
KEYS = 200
ALL = {"job": ".*", "instance": ".*", "node": ".*", "__rate_interval": "5s"}
DASHBOARD = json.loads((DOCS / "grafana-dashboard.json").read_text("utf-8"))


def ask(server: Served, method: str, target: str, body: Any = None) -> int:
    """The status of an answer."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Content_Type": "application/json"}
    sent = None if body is None else json.dumps(body).encode()
    return server.ask(method, target, sent, **headers)[0]


class Clients:
    """Two clients that write, read and delete, with a pause after each request."""

    def __init__(self, server: Served) -> None:
        self._server = server
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in (0, 1)]
        self.seen: set[int] = set()

    def _run(self, number: int) -> None:
        while not self._ended.wait(PAUSE_SECONDS):
            number += 2
            key = f"key-{number % KEYS}"
            body = {"key": key, "value": "v" * 100}
            self.seen.add(ask(self._server, "POST", "/write", body))
            self.seen.add(ask(self._server, "GET", f"/read/{key}"))
            level = "?consistency=one" if number % 3 else "?consistency=nonsense"
            self.seen.add(ask(self._server, "GET", f"/read/{key}{level}"))
            if number % 7 == 0:
                self.seen.add(ask(self._server, "DELETE", f"/delete/{key}"))

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(20)


@pytest.fixture(scope="module")
def watched(tmp_path_factory) -> Iterator[tuple[Prometheus, float]]:
    """A Prometheus that has seen a bad day: two nodes away, one wiped, both back."""
    folder = tmp_path_factory.mktemp("store")
    flags = ("--api-token", TOKEN, "--read-token", READ_TOKEN)
    with Served(folder, *flags, "--maintenance-seconds", 1) as server:
        target = f"127.0.0.1:{server.port}"
        began = time.time()
        with Prometheus(folder / "prometheus", target, READ_TOKEN) as prometheus:
            prometheus.wait_for(lambda: prometheus.now("up == 1"), 15)
            with Clients(server) as clients:
                time.sleep(PHASE_SECONDS)
                assert ask(server, "POST", "/fail/1", {"mode": "wipe"}) == 200
                time.sleep(PHASE_SECONDS)
                assert ask(server, "POST", "/fail/2") == 200
                time.sleep(PHASE_SECONDS)
                assert ask(server, "POST", "/recover/1") == 200  # waits for node 2
                time.sleep(PHASE_SECONDS)
                assert ask(server, "POST", "/recover/2") == 200
                prometheus.wait_for(lambda: prometheus.now("kv_ready == 1"), 15)
                time.sleep(PHASE_SECONDS)
            assert {200, 400, 404, 503} <= clients.seen
            yield prometheus, began


@needs_prometheus
@pytest.mark.parametrize("chosen", ["all of them", "one of them"])
def test_every_query_of_every_panel_has_data(watched, chosen):
    prometheus, began = watched
    (instance,) = prometheus.ask("label/instance/values")
    one = {"job": "kv", "instance": instance, "node": "1"}
    variables = ALL if chosen == "all of them" else {**ALL, **one}

    found = {
        name: prometheus.now(query) if instant else prometheus.since(query, began)
        for name, (query, instant) in queries_of(DASHBOARD, **variables).items()
    }

    assert len(found) > 40
    empty = [name for name, values in found.items() if not any(map(is_data, values))]
    assert empty == of_etcd()  # which is not there


def of_etcd() -> list[str]:
    """The queries of the row that only members of etcd fill, which is the last one."""
    titles = [panel["title"] for panel in DASHBOARD["panels"]]
    members = titles[titles.index("Members of etcd") :]
    return [
        name for name in queries_of(DASHBOARD) if name.rpartition(" (")[0] in members
    ]


def is_data(value: float) -> bool:
    return not math.isnan(value)


@needs_prometheus
def test_variables_of_the_dashboard_find_what_there_is(watched):
    prometheus, _ = watched
    found = {}
    for each in DASHBOARD["templating"]["list"]:
        if each["type"] == "query":
            inside = each["query"]["query"].removeprefix("label_values(")[:-1]
            match, _, label = substitute(inside, ALL).rpartition(", ")
            found[each["name"]] = prometheus.ask(
                f"label/{label}/values", **{"match[]": match}
            )

    assert found["job"] == ["kv"]
    assert len(found["instance"]) == 1
    assert found["node"] == ["0", "1", "2"]


@needs_prometheus
def test_what_prometheus_saw_is_what_happened(watched):
    prometheus, began = watched

    assert set(prometheus.since("sum(kv_node_up)", began)) >= {1.0, 2.0, 3.0}
    assert 0 in prometheus.since("kv_ready", began)
    assert max(prometheus.since('kv_node_waiting_for{node="1"}', began)) == 1
    assert max(prometheus.since("kv_shards_unreadable", began)) > 0
    assert prometheus.now('kv_events_total{kind="node_failed"}') == [2]
    assert prometheus.now('kv_node_copied_keys_total{node="1"}')[0] > 0
    assert prometheus.now("sum(kv_node_stale_keys)") == [0]
    for status in ("200", "400", "404", "503"):
        name = f'kv_http_request_duration_seconds_count{{status="{status}"}}'
        assert prometheus.now(f"sum({name})")[0] > 0


@needs_prometheus
def test_every_alert_rule_is_evaluated_without_an_error(watched):
    prometheus, _ = watched
    (group,) = prometheus.ask("rules")["groups"]
    rules = group["rules"]

    assert len(rules) > 12
    assert {rule["health"] for rule in rules} == {"ok"}
    assert not any(rule.get("lastError") for rule in rules)
    for alert in prometheus.ask("alerts")["alerts"]:
        for text in alert["annotations"].values():
            assert "<error" not in text, text  # as a template that fails says


@needs_prometheus
def test_token_is_wanted_and_the_scrape_shows_no_key(watched):
    prometheus, _ = watched

    assert prometheus.now("up") == [1]
    names = prometheus.ask("labels")
    for name in names:
        for value in prometheus.ask(f"label/{name}/values"):
            assert "key-" not in value


def test_what_the_server_itself_refuses_is_counted(tmp_path):
    """What never reaches a route: refused while a request is taken in."""
    flags = ("--storage", "memory", "--body-seconds", 0.5, "--max-body-bytes", 70_000)
    with Served(tmp_path, *flags, "--max-value-bytes", 1_000) as server:
        long = "x" * 20_000
        assert server.ask("GET", "/nodes", X_Long=long)[0] == 431
        assert server.ask("POST", "/write", Transfer_Encoding="chunked")[0] == 411
        assert server.ask("POST", "/write", b"x" * 70_001)[0] == 413
        assert server.ask("BREW", "/nodes")[0] == 405
        with server.connect() as slow:
            slow.sendall(
                b"POST /write HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
            )
            assert slow.recv(12) == b"HTTP/1.1 408"

        _, headers, text = server.ask("GET", "/metrics")

    found = requests(text.decode(), route="")
    assert found == {
        ("GET", "", "", "431"): 1,
        ("POST", "", "", "411"): 1,
        ("POST", "", "", "413"): 1,
        ("other", "", "", "405"): 1,
        ("POST", "", "", "408"): 1,
    }
    assert "text/plain" in {k.lower(): v for k, v in headers.items()}["content-type"]
    assert 'kv_http_requests_open{state="working"} 1.0' in text.decode()


def test_every_request_that_was_logged_is_in_the_log_after_a_stop(tmp_path):
    flags = ("--storage", "memory", "--log-requests", "all", "--log-format", "json")
    with Served(tmp_path, *flags) as server:
        names = [f"request-{number}" for number in range(50)]
        for name in names:
            assert server.ask("GET", "/read/none", X_Request_Id=name)[0] == 404
        status, seconds = server.stop()

        text = server.log.read_text("utf-8")

    assert (status, seconds < 5) == (0, True)
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert [line["request_id"] for line in lines if "route" in line] == names
    assert {line["status"] for line in lines if "route" in line} == {404}
