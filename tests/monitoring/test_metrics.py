"""GET /metrics: what the official parsers read, what is counted, and what never grows."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from werkzeug.test import Client

from app import StoreApp, create_app
from config import Settings
from models import Timeout, Uncertain
from tests.monitoring.scrape import (
    OPENMETRICS,
    REQUESTS,
    families,
    label_values,
    open_families,
    requests,
    samples,
)
from web.metrics import EVENT_KINDS, METHODS
from web.problems import HeaderTooLarge, Overloaded, TooSlow

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "of-the-operators"
READ_TOKEN = "of-the-scraper"
LEVEL = "linearizable"


@pytest.fixture
def app() -> Iterator[StoreApp]:
    made = create_app(Settings(storage="memory"))
    yield made
    made.close()


@pytest.fixture
def durable(tmp_path) -> Iterator[StoreApp]:
    made = create_app(Settings(data_dir=tmp_path / "data"))
    yield made
    made.close()


def scrape(app: StoreApp, accept: str = "", query: str = "") -> str:
    answer = app.test_client().get(f"/metrics{query}", headers={"Accept": accept})
    assert answer.status_code == 200
    return answer.get_data(as_text=True)


def write(app: StoreApp, key: str, **options) -> int:
    sent = {"json": {"key": key, "value": 1}, **options}
    return app.test_client().post("/write", **sent).status_code


def exercise(app: StoreApp) -> None:
    """A little of everything: requests that go well and ones that do not, a recovery."""
    client = app.test_client()
    assert {write(app, f"key-{number}") for number in range(20)} == {200}
    assert client.post("/fail/1", json={"mode": "wipe"}).status_code == 200
    assert client.get("/read/key-1").status_code == 200
    assert client.get("/read/none").status_code == 404
    assert client.delete("/delete/key-2").status_code == 200
    assert client.post("/recover/1").status_code == 200


# --- The format --------------------------------------------------------------------------


def test_page_is_read_by_the_official_parsers_in_both_formats(durable):
    exercise(durable)
    client = durable.test_client()

    plain = client.get("/metrics")
    strict = client.get("/metrics", headers={"Accept": OPENMETRICS})

    assert plain.content_type.startswith("text/plain; version=")
    assert strict.content_type.startswith("application/openmetrics-text; version=1")
    assert strict.get_data(as_text=True).endswith("# EOF\n")
    simple = {each.name for each in families(plain.get_data(as_text=True))}
    exact = {each.name for each in open_families(strict.get_data(as_text=True))}
    assert {re.sub("_(total|info)$", "", name) for name in simple} == {
        re.sub("_(total|info)$", "", name) for name in exact
    }
    assert len(exact) > 25


@pytest.mark.parametrize(
    "accept", ["", "*/*", "text/html", OPENMETRICS + ";q=0.1", ";;,,q=x"]
)
def test_whatever_is_accepted_there_is_an_answer(app, accept):
    assert "kv_ready 1.0" in scrape(app, accept)


def test_names_choose_among_the_metrics(app):
    chosen = scrape(app, query="?name[]=kv_ready,kv_node_up")

    assert {each.name for each in families(chosen)} == {"kv_ready", "kv_node_up"}
    assert scrape(app, query="?name[]=no_such_metric") == ""


def test_every_metric_says_what_it_is_and_is_named_by_convention(durable):
    exercise(durable)

    for family in open_families(scrape(durable, OPENMETRICS)):
        assert family.documentation, family.name
        if family.name.startswith(("process_", "python_")):
            continue
        assert re.fullmatch("kv(_[a-z]+)+", family.name), family.name
        assert not family.name.endswith(("_ms", "_millis", "_kb", "_mb", "_percent"))
        names = {each.name for each in family.samples}
        if family.type == "counter":
            assert names == {f"{family.name}_total"}
        elif family.type == "histogram":
            assert family.name.endswith("_duration_seconds")
        elif family.type == "gauge":
            assert not family.name.endswith("_total")


@pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is not installed; tests/install_tools.sh",
)
def test_promtool_has_nothing_against_the_page(durable):
    exercise(durable)

    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=scrape(durable),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


# --- What is counted ---------------------------------------------------------------------


def counted(app: StoreApp) -> dict[tuple[str, str, str, str], int]:
    found = requests(scrape(app))
    return {each: n for each, n in found.items() if each[1] != "/metrics"}


def test_each_answer_is_counted_once_under_its_route_level_and_status(app):
    client = app.test_client()
    assert [write(app, "key") for _ in range(3)] == [200] * 3
    version = client.get("/read/key").headers["ETag"]
    client.get("/read/key?consistency=one")
    client.get("/read?key=key")
    client.get("/read/key", headers={"If-None-Match": version})
    client.head("/read/key")
    client.get("/read/another")
    write(app, "key", headers={"If-Match": '"0"'})
    client.post("/write", data="{", content_type="application/json")
    write(app, "k" * 300)
    client.get("/read/key?consistency=nonsense")
    client.delete("/delete/key")
    client.post("/fail/99")

    assert counted(app) == {
        ("POST", "/write", LEVEL, "200"): 3,
        ("GET", "/read/{key}", LEVEL, "200"): 1,
        ("GET", "/read/{key}", "one", "200"): 1,
        ("GET", "/read", LEVEL, "200"): 1,
        ("GET", "/read/{key}", LEVEL, "304"): 1,
        ("HEAD", "/read/{key}", LEVEL, "200"): 1,
        ("GET", "/read/{key}", LEVEL, "404"): 1,
        ("POST", "/write", LEVEL, "412"): 1,
        ("POST", "/write", LEVEL, "400"): 1,
        ("POST", "/write", LEVEL, "413"): 1,
        ("GET", "/read/{key}", "unknown", "400"): 1,
        ("DELETE", "/delete/{key}", LEVEL, "200"): 1,
        ("POST", "/fail/{node_id}", "", "404"): 1,
    }


def test_keys_that_are_not_served_are_counted_as_503_and_504(app):
    client = app.test_client()
    write(app, "key")
    for node in range(3):
        client.post(f"/fail/{node}")
    client.get("/read/key")
    write(app, "key")
    client.get("/readyz")
    client.get("/healthz")
    with patch.object(app.store, "read", side_effect=Timeout("too long")):
        client.get("/read/key")
    with patch.object(app.store, "write", side_effect=Uncertain("who knows")):
        write(app, "key")
    with patch.object(app.store, "read", side_effect=OSError("unexpected")):
        client.get("/read/key")

    found = counted(app)

    assert found["GET", "/read/{key}", LEVEL, "503"] == 1
    assert found["POST", "/write", LEVEL, "503"] == 1
    assert found["GET", "/readyz", "", "503"] == 1
    assert found["GET", "/healthz", "", "200"] == 1
    assert found["GET", "/read/{key}", LEVEL, "504"] == 1
    assert found["POST", "/write", LEVEL, "504"] == 1
    assert found["GET", "/read/{key}", LEVEL, "500"] == 1


def test_requests_that_are_refused_before_a_route_are_counted_too():
    settings = Settings(storage="memory", api_token=TOKEN, read_token=READ_TOKEN)
    app = create_app(settings)
    read_only = {"Authorization": f"Bearer {READ_TOKEN}"}
    client = app.test_client()
    try:
        client.get("/read/key")
        client.post("/write", headers=read_only)
        client.get("/nodes", headers={**read_only, "Host": "rebound.example"})
        client.get("/no/such/path", headers=read_only)
        client.put("/nodes", headers={"Authorization": f"Bearer {TOKEN}"})
        refused = (Overloaded("busy"), TooSlow("late"), HeaderTooLarge("long"))
        for error in refused:  # as the server has it answered
            Client(app.refuse(error)).get("/read/key")
        text = client.get("/metrics", headers=read_only).get_data(as_text=True)
    finally:
        app.close()

    found = requests(text, route="")
    statuses = "401 403 404 405 408 421 431 503".split()
    assert {s: n for (*_, s), n in found.items()} == dict.fromkeys(statuses, 1)
    assert client.get("/metrics").status_code == 401


def test_counters_never_go_down(durable):
    before = samples(scrape(durable))
    for _ in range(3):
        exercise(durable)
        after = samples(scrape(durable))
        for (name, labels), value in before.items():
            if name.endswith(("_total", "_count", "_sum", "_bucket")):
                assert after[name, labels] >= value, (name, labels)
        before = after


def test_buckets_of_a_histogram_add_up(durable):
    exercise(durable)
    found = samples(scrape(durable))

    for name in (REQUESTS, "kv_node_commit_duration_seconds"):
        counts = {k: v for k, v in found.items() if k[0] == f"{name}_count"}
        assert counts
        for (_, labels), count in counts.items():
            own = [
                (float(dict(pairs)["le"]), value)
                for (each, pairs), value in found.items()
                if each == f"{name}_bucket" and set(labels) <= set(pairs)
            ]
            values = [value for _, value in sorted(own)]
            assert values == sorted(values)
            assert values[-1] == count
            assert (found[f"{name}_sum", labels] > 0) == (count > 0)


# --- What the gauges say -----------------------------------------------------------------


def test_gauges_say_what_the_store_says_of_itself(durable):
    exercise(durable)
    client = durable.test_client()
    client.post("/fail/2")
    found = samples(scrape(durable))

    for node in client.get("/nodes").get_json()["nodes"]:
        labels = (("node", str(node["node_id"])),)
        assert found["kv_node_keys", labels] == node["keys"]
        assert found["kv_node_bytes", labels] == node["bytes"]
        assert found["kv_node_stale_keys", labels] == node["stale_keys"]
        assert found["kv_node_up", labels] == (node["status"] == "up")
        states = {
            state: found["kv_node_state", (*labels, ("state", state))]
            for state in ("up", "down", "recovering")
        }
        assert sum(states.values()) == 1
        assert states[node["status"]] == 1
    shards = client.get("/shards").get_json()["shards"]
    sizes = [sum(n in s["live"] for n in s["in_sync"]) for s in shards]
    for size in range(3):
        labels = (("in_sync", str(size)),)
        assert found["kv_shards", labels] == sizes.count(size)
    assert found["kv_ready", ()] == 1  # one of each pair of replicas is still there
    assert found["kv_node_copied_keys_total", (("node", "1"),)] > 0
    assert found["kv_events_total", (("kind", "node_failed"),)] == 2
    limit = durable.store.settings.max_stored_bytes
    assert found["kv_stored_bytes_limit", ()] == limit


def test_store_in_memory_shows_no_commits(app):
    exercise(app)

    assert not any("commit" in name for name, _ in samples(scrape(app)))


def test_each_kind_of_event_is_there_before_the_first_of_its_kind(app):
    found = samples(scrape(app))

    kinds = {dict(labels)["kind"] for n, labels in found if n == "kv_events_total"}
    assert kinds == set(EVENT_KINDS) == kinds_in_the_source()


def kinds_in_the_source() -> set[str]:
    """The first argument of each call of `record` on the events of the cluster."""
    found = set()
    engines = [*(ROOT / "cluster").glob("*.py"), *(ROOT / "backends").glob("*.py")]
    for path in (ROOT / "replication.py", *engines):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if (
                isinstance(node, ast.Call)
                and ast.unparse(node.func).endswith(("events.record", "self._record"))
                and isinstance(node.args[0], ast.Constant)
            ):
                found.add(str(node.args[0].value))
    return found


# --- What no client can do ---------------------------------------------------------------

HOSTILE = (
    'secret"key\\with\nlines', "{}", "ключ", "k" * 200, "../../etc/passwd", "a b{c=\"d\"}",
)  # fmt: skip


def ask_for_anything(app: StoreApp, number: int) -> None:
    client = app.test_client()
    for word in HOSTILE:
        text = f"{word}{number}"
        client.get(f"/{text}")
        client.get(f"/read/{text}", query_string={"consistency": text})
        client.get("/read", query_string={"key": text, text: text})
        client.get("/metrics", query_string={"name[]": text})
        client.post(f"/recover/{text}", headers={"X-Request-Id": text[:9]})
        client.post(f"/fail/{number + 100}")
        client.post("/write", json={"key": text, "value": text})
        client.open(f"/read/{number}", method=f"VERB{number}")
        client.get("/nodes", headers={"Host": f"host{number}.example"})


def test_no_request_makes_the_page_grow_without_end_or_shows_what_it_said(app):
    ask_for_anything(app, 0)
    once = samples(scrape(app))
    for number in range(1, 30):
        ask_for_anything(app, number)
    often = samples(scrape(app))

    assert set(often) == set(once)
    routes = {dict(labels).get("route", "") for _, labels in often}
    assert all(re.fullmatch(r"|/[a-z.{}_/]*", route) for route in routes)
    methods = {dict(labels).get("method") for _, labels in often} - {None}
    assert methods <= METHODS | {"other"}
    statuses = {dict(labels).get("status") for _, labels in often} - {None}
    assert all(re.fullmatch("[1-5][0-9][0-9]", str(status)) for status in statuses)
    for value in label_values(often):
        assert "key-" not in value
        assert not any(word[:6] in value for word in HOSTILE if word != "{}"), value


def test_what_is_known_of_a_label_set_is_kept_for_real_methods_only(app):
    for number in range(50):
        app.test_client().open("/nodes", method=f"VERB{number}")

    assert {method for method, *_ in app.metrics._known} <= METHODS


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text; version=abc",
        "text/plain;version=1.a",
        "text/plain; version=",
        ";;;",
        "*/*",
    ],
)
def test_odd_accept_gets_the_page_all_the_same(app, accept):
    answer = app.test_client().get("/metrics", headers={"Accept": accept})

    assert answer.status_code == 200
    assert b"kv_ready 1.0" in answer.get_data()
