"""The client, on an application in this process and on servers that misbehave."""

import io
import json
import shutil
from decimal import Decimal
from urllib.parse import urlsplit

import pytest
import requests

import client
from app import create_app
from client import Client
from config import Settings
from tests.e2e.served import Served


class ApplicationAdapter(requests.adapters.BaseAdapter):
    """Carries requests to a WSGI application without a network."""

    def __init__(self, app):
        super().__init__()
        self._client = app.test_client()

    def send(self, request, *_, **__):
        parts = urlsplit(request.url)
        answer = self._client.open(
            parts.path,
            method=request.method,
            query_string=parts.query,
            headers=dict(request.headers),
            data=request.body,
        )
        made = response(answer.status_code, answer.get_data())
        made.headers.update(dict(answer.headers))
        return made

    def close(self):
        pass


class FailingAdapter(requests.adapters.BaseAdapter):
    """Answers every request in one way, or fails."""

    def __init__(self, outcome):
        super().__init__()
        self._outcome = outcome

    def send(self, request, *_, **__):
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome

    def close(self):
        pass


def response(status, data):
    made = requests.Response()
    made.status_code = status
    made.raw = io.BytesIO(data)
    return made


def client_with(adapter, **options):
    made = Client("http://localhost", **options)
    made._session.mount("http://", adapter)
    return made


@pytest.fixture
def store():
    app = create_app(Settings(storage="memory", api_token="secret-token"))
    with client_with(ApplicationAdapter(app), token="secret-token") as made:
        yield made
    app.close()


@pytest.mark.parametrize(
    "value", [None, 0, 1.5, "é😀", [1, [2]], {"a": {"b": None}}, 10**30]
)
def test_value_is_read_as_it_was_written(store, value):
    written = store.write("k", value)

    found = store.read("k")

    assert found.value == value
    assert (found.version, found.key) == (written.version, "k")
    assert len(written.replicas) == 2


@pytest.mark.parametrize(
    "key", ["a/b", "a//b", ".", "..", "/", "?a=b&c", "%2F", "+ é\ufffd"]
)
def test_key_that_http_libraries_tidy_away_is_the_same_for_all_calls(store, key):
    store.write(key, 1)

    assert store.read(key).key == key
    assert store.replicas(key)["key"] == key
    assert [info.key for info in store.keys("")] == [key]
    assert store.delete(key).key == key


def test_conditions_protect_what_another_client_wrote(store):
    first = store.write("k", 1, if_absent=True)
    with pytest.raises(client.VersionMismatch):
        store.write("k", 2, if_absent=True)
    second = store.write("k", 2, if_version=first.version)

    with pytest.raises(client.VersionMismatch) as caught:
        store.delete("k", if_version=first.version)

    assert caught.value.version == second.version
    assert store.read("k").value == 2


def test_deleted_key_is_told_from_one_that_never_was(store):
    store.write("k", 1)
    deleted = store.delete("k")

    with pytest.raises(client.KeyNotFound) as gone:
        store.read("k")
    with pytest.raises(client.KeyNotFound) as never:
        store.read("other")

    assert (gone.value.deleted, gone.value.version) == (True, deleted.version)
    assert (never.value.deleted, never.value.version) == (False, None)


def test_nodes_fail_recover_and_are_listed_with_events(store):
    store.fail(0)
    store.write("k", 1)
    assert store.nodes()[0].status == "down"

    node = store.recover(0)

    assert (node.status, node.waiting_for) == ("up", ())
    assert node.recovery["seconds"] >= 0
    kinds = [event.kind for event in store.events()]
    assert kinds[0] == "node_failed"
    assert store.events(since=len(kinds)) == []
    with pytest.raises(client.NodeNotFound):
        store.fail(9)


def test_unavailable_key_is_definite_and_readiness_says_so(store):
    store.write("k", 1)
    assert store.is_ready()
    for node in store.replicas("k")["replica_set"]:
        store.fail(node)

    with pytest.raises(client.Unavailable) as caught:
        store.write("k", 2)

    assert caught.value.definite
    assert not store.is_ready()


def test_lost_data_are_no_pause_and_found_by_class_and_fields(store):
    store.write("k", 1)
    for node in store.nodes():
        store.fail(node.node_id, "wipe")

    for act in (lambda: store.write("k", 2), lambda: store.read("k"), store.keys):
        with pytest.raises(client.DataLost) as caught:
            list(act() or ())

        assert not isinstance(caught.value, client.Unavailable)
        assert (caught.value.code, caught.value.definite) == ("data_lost", True)
    assert not store.is_ready()
    assert all(node.lost_shards for node in store.nodes())
    assert store.events()[0].mode == "wipe"


def test_keys_are_listed_over_all_pages(store, monkeypatch):
    monkeypatch.setattr(client, "PAGE", 3)
    keys = [f"key-{number}" for number in range(8)]
    for key in [*keys, "other"]:
        store.write(key, 1)

    assert [info.key for info in store.keys("key-")] == keys


def test_batch_gives_results_and_raises_for_none_of_them(store):
    results = store.batch(
        [{"op": "write", "key": "k", "value": 1}, {"op": "read", "key": "x"}]
    )

    assert [result["status"] for result in results] == [200, 404]


def test_map_of_shards_is_sent_again_only_after_a_change(store):
    first = store.shards()
    assert sum(shard["share"] for shard in first["shards"]) == pytest.approx(1)
    assert store.shards() is first

    store.fail(0)

    second = store.shards()
    assert any(shard["live"] == [1] for shard in second["shards"])
    assert store.shards() is second


def test_metrics_are_text_of_the_wanted_samples(store):
    text = store.metrics("kv_node_up")

    assert 'kv_node_up{node="0"} 1' in text
    assert "kv_http" not in text


def test_answer_and_body_pass_as_they_are_where_no_digit_may_be_lost(store):
    body = b'{"key":"k","value":1.000000000000000000001}'
    store.call("POST", "/write", body)

    assert b":1.000000000000000000001," in store.call(
        "GET", "/read", key="k", after=None
    )
    with pytest.raises(client.KeyNotFound):
        store.call("GET", "/read", key="other")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.50", 1.5),
        ("1e3", 1000.0),
        ("-0.1", -0.1),
        ("123456789012345678901", 123456789012345678901),
        ("1700000000.123456789", Decimal("1700000000.123456789")),
        ("[1e400]", [Decimal("1e400")]),
        ('{"n":-1e-400}', {"n": Decimal("-1e-400")}),
        ("7" * 20_000, Decimal("7" * 20_000)),
    ],
)
def test_value_that_is_read_has_every_digit_that_was_written(store, text, value):
    store.call("POST", "/write", f'{{"key":"k","value":{text}}}'.encode())

    found = store.read("k").value

    assert repr(found) == repr(value)


@pytest.mark.parametrize("version", ["é☃", "a\nb"])
def test_condition_that_no_header_can_hold_is_refused_before_it_is_sent(store, version):
    with pytest.raises(client.InvalidRequest) as caught:
        store.write("k", 1, if_version=version)

    assert caught.value.definite


def test_address_that_is_none_is_refused_before_anything_is_sent():
    for url in ("localhost:5000", "http://127.0.0.1:99999"):
        with Client(url) as store, pytest.raises(client.InvalidRequest):
            store.nodes()


def test_what_json_cannot_say_is_refused_before_it_is_sent(store):
    for key, value in (("k", float("nan")), ("k", {1, 2}), ("k", object())):
        with pytest.raises(client.InvalidRequest) as caught:
            store.write(key, value)
        assert caught.value.definite
    with pytest.raises(client.InvalidRequest):
        store.read("\ud800")
    assert list(store.keys()) == []


def test_missing_token_is_told_from_a_wrong_request():
    app = create_app(Settings(storage="memory", api_token="secret-token"))

    with pytest.raises(client.StoreError) as caught:
        client_with(ApplicationAdapter(app)).nodes()

    app.close()
    assert (caught.value.code, caught.value.status) == ("unauthorized", 401)
    assert isinstance(caught.value, client.NotAllowed)


@pytest.mark.parametrize(
    "token", ["schlüssel", "пароль", "hunter2\n", "hunter2 ", " hunter2", "hun\0ter2"]
)
def test_token_that_cannot_be_sent_is_refused_unseen_when_it_is_given(token):
    with pytest.raises(client.InvalidRequest) as caught:
        client.Client("http://127.0.0.1:1", token=token)

    assert caught.value.definite
    assert token.strip() not in str(caught.value)


def test_write_of_unknown_outcome_is_uncertain():
    document = {"code": "uncertain", "detail": "may show", "definite": False}
    answer = response(504, json.dumps(document).encode())

    with pytest.raises(client.Uncertain) as caught:
        client_with(FailingAdapter(answer)).write("k", 1)

    assert not caught.value.definite


@pytest.mark.parametrize(
    "answer",
    [
        (502, b"<html>bad gateway</html>"),
        (500, b'{"detail": "no code"}'),
        (404, b"[]"),
        (302, b""),
        (200, b"<html>"),
    ],
)
def test_answer_that_is_not_the_stores_leaves_a_write_in_doubt(answer):
    with pytest.raises(client.StoreError) as caught:
        client_with(FailingAdapter(response(*answer))).write("k", 1)

    assert (caught.value.code, caught.value.definite) == ("unknown", False)


def chained(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "definite"),
    [
        (
            chained(requests.ConnectionError("x"), ConnectionRefusedError(111, "x")),
            True,
        ),
        (requests.ConnectTimeout("x"), True),
        (requests.ReadTimeout("x"), False),
        (chained(requests.ConnectionError("x"), ConnectionResetError(104, "x")), False),
        (requests.exceptions.ChunkedEncodingError("x"), False),
    ],
)
def test_lost_connection_is_definite_only_where_nothing_was_sent(error, definite):
    with pytest.raises(client.NoConnection) as caught:
        client_with(FailingAdapter(error)).write("k", 1)

    assert caught.value.definite is definite


def test_answer_of_a_newer_server_with_more_fields_is_understood():
    body = b'{"key":"k","version":"v","replicas":[1],"missed":[],"colour":"red"}'

    written = client_with(FailingAdapter(response(200, body))).write("k", 1)

    assert (written.version, written.replicas) == ("v", (1,))


def test_engine_that_cannot_do_something_says_so_and_nothing_was_done(store):
    for refused in (store.add_node, lambda: store.remove_node(0)):
        with pytest.raises(client.Conflict) as caught:
            refused()
        assert (caught.value.code, caught.value.definite) == ("not_offered", True)

    assert len(store.nodes()) == 3
    assert store.fail(0).status == "down"  # in the mode that comes first
    assert store.fail(0, "wipe").status == "down"


MEMBER = {
    "node_id": 4,
    "status": "down",
    "keys": None,
    "bytes": None,
    "stale_keys": None,
    "waiting_for": [],
    "zone": None,
    "raft": {"role": "unknown", "term": 7, "urls": []},
}


def test_numbers_that_nobody_knows_are_none_and_a_member_tells_of_its_raft():
    answer = response(200, json.dumps({"nodes": [MEMBER]}).encode())

    (node,) = client_with(FailingAdapter(answer)).nodes()

    assert (node.keys, node.bytes, node.stale_keys) == (None, None, None)
    assert node.raft == MEMBER["raft"]
    assert node.waiting_for == ()


def test_removal_that_would_leave_too_few_nodes_is_a_conflict():
    document = {"code": "too_few_nodes", "detail": "no majority", "definite": True}
    answer = response(409, json.dumps(document).encode())

    with pytest.raises(client.Conflict) as caught:
        client_with(FailingAdapter(answer)).remove_node(0)

    assert (caught.value.code, caught.value.status) == ("too_few_nodes", 409)


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.skipif(shutil.which("etcd") is None, reason="etcd is not installed")
def test_members_of_etcd_fail_come_back_come_and_go(tmp_path):
    flags = ("--engine", "etcd", "--local-members", 3, "--data-dir", "data")
    with Served(tmp_path, *flags) as served, Client(served.url, timeout=60) as store:
        store.write("k", 1)

        assert all(node.raft and node.raft["term"] > 0 for node in store.nodes())
        assert store.fail(2, "pause").status == "down"
        store.write("k", 2)
        back = store.recover(2)
        added = store.add_node()
        last = store.remove_node(added.node_id)

        assert back.recovery is not None
        assert (back.status, back.recovery["bytes"]) == ("up", None)
        assert (added.status, added.keys) == ("up", 1)
        assert last.node_id == added.node_id
        assert [node.node_id for node in store.nodes()] == [0, 1, 2]
        assert store.read("k").value == 2
        with pytest.raises(client.InvalidRequest):
            store.add_node("http://127.0.0.1:9")
