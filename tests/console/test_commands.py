"""The client commands one by one, in text and in JSON, and the status they exit with."""

import io
import json
import sys

import click
import pytest
import requests

from console.catalogue import CLIENT
from console.cli import Commands
from console.command import ClientCommand
from console.exits import ALWAYS, Exit
from tests.console.in_process import Store


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in ("KV_URL", "KV_TOKEN", "KV_API_TOKEN", "KV_READ_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def store(monkeypatch, capsys):
    made = Store(monkeypatch, capsys)
    yield made
    made.close()


@pytest.fixture
def guarded(monkeypatch, capsys):
    made = Store(monkeypatch, capsys, api_token="api-token", read_token="read-token")
    yield made
    made.close()


# --- Keys and values -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("1", "1"),
        ('"1"', '"1"'),
        ("Ada", '"Ada"'),
        ("", '""'),
        ("-5", "-5"),
        ("-1.5e3", "-1.5e3"),
        ("null", "null"),
        ("NaN", '"NaN"'),
        ("{broken", '"{broken"'),
        ("1.000000000000000000000000001", "1.000000000000000000000000001"),
        ("9" * 5_000, "9" * 5_000),
        ('{"b": 1, "a": [1.10]}', '{"b": 1, "a": [1.10]}'),
    ],
)
def test_value_loses_no_digit_and_changes_no_type_on_its_way(store, given, kept):
    store.lines("put", "k", given)

    assert store.lines("get", "k") == [kept]


def test_text_that_looks_like_json_stays_text_where_that_is_asked(store):
    store.lines("put", "k", "1", "--text")

    assert store.lines("get", "k") == ['"1"']
    assert store.lines("get", "k", "--raw") == ["1"]


def test_value_that_is_no_text_is_json_in_raw_too(store):
    store.lines("put", "k", "[1]")

    assert store.lines("get", "k", "--raw") == ["[1]"]


@pytest.mark.parametrize(
    ("data", "flags", "kept"),
    [
        (b"hello\n", [], '"hello"'),
        (b"a\nb\n\n", [], '"a\\nb\\n"'),
        (b'{"a": 1}\n', [], '{"a": 1}'),
        (b"1\n", ["--text"], '"1"'),
        (b"", [], '""'),
        (b"hello\r\n", [], '"hello"'),
        (b"a\r\nb\r\n\r\n", [], '"a\\r\\nb\\r\\n"'),
        (b"a\r", [], '"a\\r"'),
        (b"\xef\xbb\xbf1.0\r\n", [], "1.0"),
        (b"\xef\xbb\xbfhello", ["--text"], '"hello"'),
        (b"a\0b", [], '"a\\u0000b"'),
    ],
)
def test_value_from_standard_input_is_kept_but_for_its_last_line_end(
    store, monkeypatch, data, flags, kept
):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    store.lines("put", "k", "-", *flags)

    assert json.loads(store.lines("get", "k")[0]) == json.loads(kept)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"\xff", "is not UTF-8 text"),
        ("Ada".encode("utf-16"), "is UTF-16, not UTF-8"),
        ("Ada".encode("utf-16-be"), "is UTF-16BE, not UTF-8"),
    ],
)
def test_input_that_is_not_utf_8_is_refused_and_nothing_is_written(
    store, monkeypatch, data, word
):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    result = store.run("put", "k", "-")

    assert (result.status, store.carrier.asked) == (Exit.WRONG, [])
    assert "UTF-8" in result.err
    assert word in result.err


def test_closed_standard_input_is_refused_and_nothing_is_written(store, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)

    result = store.run("put", "k", "-")

    assert (result.status, store.carrier.asked) == (Exit.WRONG, [])
    assert "there is no standard input" in result.err


@pytest.mark.parametrize(
    "key",
    ["a b", "a//b", "..", "/", "%2F", "😀/x", "-k", "--json", "it's", 'q"', "a:b"],
)
def test_key_with_awkward_letters_is_the_same_for_every_command(store, key):
    store.lines("put", "--", key, "v")

    assert store.lines("get", "--", key) == ['"v"']
    assert store.lines("keys", "--", key) == [key]
    assert store.lines("where", "--", key)[0].startswith(f"{key}: token ")
    assert store.lines("del", "--", key)[0].startswith(f"{key}: deleted on nodes")


def test_conditions_and_time_to_live_reach_the_store(store):
    version = json.loads(store.lines("put", "k", "1", "--json")[0])["version"]

    assert store.run("put", "k", "2", "--if-absent").status == Exit.CONDITION
    assert store.run("put", "k", "2", "--if-version", "0").status == Exit.CONDITION
    assert store.run("del", "k", "--if-version", "0").status == Exit.CONDITION
    assert store.run("put", "k", "2", "--if-version", version).status == Exit.DONE
    assert store.run("put", "k", "2", "--ttl", "-1").status == Exit.WRONG
    assert store.run("put", "k", "3", "--consistency", "nope").status == Exit.WRONG
    assert store.lines("get", "k", "--consistency", "one") == ["2"]


def test_every_key_is_listed_in_order_whatever_the_pages(store, monkeypatch):
    monkeypatch.setattr("console.keys.PAGE", 2)
    keys = [f"key-{number}" for number in range(5)]
    for key in keys:
        store.lines("put", key, "1")

    assert store.lines("keys") == keys
    assert store.lines("keys", "key-3") == ["key-3"]
    assert store.lines("keys", "--limit", "3") == keys[:3]
    assert store.lines("keys", "none") == []
    document = json.loads("".join(store.lines("keys", "--json")))
    assert [info["key"] for info in document["keys"]] == keys
    assert json.loads("".join(store.lines("keys", "none", "--json"))) == {"keys": []}


# --- Nodes ---------------------------------------------------------------------------


def test_status_says_what_is_not_well_and_a_script_can_tell(store):
    well = store.run("status")
    assert (well.status, "ready" in well.out) == (Exit.DONE, True)

    store.lines("fail", "0")
    one_down = store.run("status")
    store.lines("fail", "2")
    two_down = store.run("status")

    assert (one_down.status, two_down.status) == (Exit.NO, Exit.NO)
    assert ": ready" in one_down.out
    assert "not ready" in two_down.out
    assert "nodes 0 and 2" in two_down.out
    document = json.loads(store.run("status", "--json").out)
    assert (document["well"], document["ready"]) == (False, False)
    assert [node["status"] for node in document["nodes"]] == ["down", "up", "down"]
    assert sum(node["share"] for node in document["nodes"]) == pytest.approx(2)


def test_recovery_tells_what_it_copied_and_for_whom_it_waits(store):
    store.lines("fail", "0")
    for number in range(9):
        store.lines("put", f"key-{number}", "1")
    missed = store.run("put", "greeting", "1").out

    assert "node 0 missed it" in missed
    assert store.lines("recover", "0")[0].startswith("node 0: up; copied ")
    store.lines("fail", "1", "--mode", "wipe")
    store.lines("fail", "0")
    store.lines("fail", "2")
    waiting = store.run("recover", "1")
    assert waiting.status == Exit.NO
    assert "recovering, waits for nodes 0 and 2" in waiting.out
    assert json.loads(store.lines("recover", "0", "--json")[0])["recovery"]


def test_place_of_a_key_tells_newest_older_absent_and_deleted(store):
    store.lines("put", "t", "1")
    nodes = json.loads(store.lines("where", "t", "--json")[0])["replica_set"]
    store.lines("fail", str(nodes[0]))

    down = store.lines("where", "t")
    store.lines("del", "t")
    deleted = store.lines("where", "t")

    assert [line.split()[:3] for line in down[3:]] == [
        [str(nodes[0]), "down", "unknown"],
        [str(nodes[1]), "up", "newest"],
    ]
    assert "newest, deleted" in deleted[4]
    store.lines("recover", str(nodes[0]))
    assert "absent" in store.lines("where", "never")[3]


def test_events_come_in_order_and_only_from_where_they_are_wanted(store):
    store.lines("fail", "0")
    store.lines("recover", "0")

    kinds = [line.split()[3] for line in store.lines("events")]
    assert kinds[0] == "node_failed"
    assert store.lines("events", "--since", "1") == store.lines("events")[1:]
    document = json.loads(store.lines("events", "--json")[0])
    assert [event["kind"] for event in document["events"]] == kinds


def test_settings_are_shown_and_no_token_is(guarded):
    shown = guarded.run("config", "--token", "read-token")

    assert "replication_factor       2" in shown.out
    assert "-token" not in shown.out


def test_live_view_prints_blocks_in_a_pipe_and_a_line_each_in_json(store):
    store.lines("put", "k", "1")

    text = store.run("watch", "--count", "2", "--interval", "0.05").out
    lines = store.lines("watch", "--count", "2", "--interval", "0.05", "--json")

    assert text.count("3 nodes") == 2
    assert "write" in text
    assert "\x1b" not in text
    frames = [json.loads(line) for line in lines]
    assert frames[0]["operations"] is None
    assert frames[1]["operations"]["write"]["per_second"] == 0
    assert frames[1]["state"]["well"]


# --- What goes wrong -----------------------------------------------------------------


def refused_connection():
    error = requests.ConnectionError("x")
    error.__cause__ = ConnectionRefusedError(111, "x")
    return error


def problem(status, code, definite):
    document = {"code": code, "detail": f"it is {code}", "definite": definite}
    return (status, json.dumps(document).encode())


@pytest.mark.parametrize(
    ("outcome", "put", "get", "words"),
    [
        (refused_connection(), 4, 4, "cannot reach start --url"),
        (requests.ReadTimeout("x"), 5, 4, "no answer"),
        (problem(503, "unavailable", True), 4, 4, "try again"),
        (problem(503, "overloaded", True), 4, 4, "try again"),
        (problem(503, "data_lost", True), 7, 7, "data_lost --accept-loss"),
        (problem(504, "uncertain", False), 5, 4, "may have happened"),
        (problem(504, "timeout", True), 4, 4, "timeout"),
        (problem(507, "storage_full", True), 4, 4, "storage_full"),
        (problem(408, "request_timeout", True), 4, 4, "request_timeout"),
        (problem(500, "internal", False), 5, 4, "internal"),
        (problem(400, "invalid_request", True), 2, 2, "invalid_request"),
        (problem(413, "too_large", True), 2, 2, "too_large"),
        (problem(404, "not_found", True), 2, 2, "not_found"),
        (problem(404, "key_not_found", True), 1, 1, "key_not_found"),
        (problem(412, "version_mismatch", True), 3, 3, "version_mismatch"),
        (problem(401, "unauthorized", True), 6, 6, "--token KV_TOKEN"),
        (problem(403, "forbidden", True), 6, 6, "--token"),
        (problem(421, "wrong_host", True), 6, 6, "wrong_host"),
        ((502, b"<html>"), 5, 4, "answer like a store 502"),
    ],
)
def test_each_failure_has_its_status_and_one_line_that_helps(
    store, outcome, put, get, words
):
    store.carrier.outcome = outcome

    for argv, status in ((["put", "k", "1"], put), (["get", "k"], get)):
        result = store.run(*argv)
        assert (result.status, result.out) == (status, "")
        assert result.err.startswith("run.py: ")
        assert result.err.count("\n") == 1
        for word in words.split():
            assert word in result.err

        document = json.loads(store.run(*argv, "--json").err)
        assert document["detail"]
        if status == Exit.UNCERTAIN:
            assert document["definite"] is False


def test_answer_of_something_that_is_no_store_is_no_traceback(store):
    for body in (b"<html>", b"[]", b"{}"):
        store.carrier.outcome = (200, body)
        for argv in (["status"], ["get", "k"], ["put", "k", "1"], ["keys"], ["config"]):
            result = store.run(*argv)
            if body == b"{}" and argv == ["config"]:
                continue  # there is nothing in it to miss
            expected = Exit.UNCERTAIN if argv[0] == "put" else Exit.WRONG
            assert (argv, body, result.status) == (argv, body, expected)
            assert "--url" in result.err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["get"], "get KEY --help"),
        (["get", "a", "b"], "unexpected b"),
        (["put", "k", "--tl", "5", "v"], "--tl --ttl"),
        (["put", "-k", "v"], "-k --"),
        (["fail", "x"], "x whole number"),
        (["fail", "99"], "99 nodes: 0, 1, 2"),
        (["fail", "0", "--mode", "burn"], "burn stop wipe"),
        (["add-node"], "--nodes restore"),
        (["remove-node", "0"], "--nodes restore"),
        (["remove-node", "x"], "x whole number"),
        (["keys", "--limit", "-1"], "--limit -1"),
        (["status", "--url", "localhost:5000"], "--url localhost:5000 http://"),
        (["status", "--token", "é"], "--token ASCII"),
        (["status", "--timeout", "0"], "--timeout 0"),
        (["put", "k", "1", "--if-version", "é☃"], "HTTP"),
        (["get", "\udcff"], "HTTP"),
    ],
)
def test_wrong_call_is_one_line_that_names_what_is_wrong(store, argv, words):
    result = store.run(*argv)

    assert (result.status, result.out) == (Exit.WRONG, "")
    assert result.err.count("\n") == 1
    for word in words.split():
        assert word in result.err


def test_wrong_call_is_json_where_json_is_wanted(store):
    result = store.run("get", "--json")

    assert result.status == Exit.WRONG
    assert "KEY" in json.loads(result.err)["detail"]


def test_tokens_come_from_the_line_then_from_the_environment(guarded, monkeypatch):
    assert guarded.run("put", "k", "1").status == Exit.NOT_ALLOWED
    monkeypatch.setenv("KV_READ_TOKEN", "read-token")
    assert guarded.run("put", "k", "1").status == Exit.NOT_ALLOWED
    assert guarded.run("get", "k").status == Exit.NO
    monkeypatch.setenv("KV_API_TOKEN", "api-token")
    assert guarded.run("put", "k", "1").status == Exit.DONE
    monkeypatch.setenv("KV_TOKEN", "no-such-token")
    assert guarded.run("put", "k", "1").status == Exit.NOT_ALLOWED
    assert guarded.run("put", "k", "1", "--token", "api-token").status == Exit.DONE
    assert "no-such-token" not in guarded.run("put", "k", "1").err


@pytest.mark.parametrize("token", ["schlüssel", "hunter2\n", "hunter2 ", " hunter2"])
def test_token_that_cannot_be_sent_is_refused_unseen(guarded, monkeypatch, token):
    by_flag = guarded.run("get", "k", "--token", token)
    monkeypatch.setenv("KV_TOKEN", token)
    by_variable = guarded.run("get", "k")

    for result in (by_flag, by_variable):
        assert result.status == Exit.WRONG
        assert result.err.count("\n") == 1
        assert "printable ASCII without a blank at either end" in result.err
        assert token.strip() not in result.err


def test_key_without_an_in_sync_replica_is_unavailable_and_nothing_was_done(store):
    store.lines("put", "k", "1")
    for node in json.loads(store.lines("where", "k", "--json")[0])["replica_set"]:
        store.lines("fail", str(node))

    for argv in (["get", "k"], ["put", "k", "2"], ["del", "k"]):
        result = store.run(*argv)
        assert result.status == Exit.UNAVAILABLE
        assert "try again" in result.err


# --- Help ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLIENT)
def test_help_of_no_command_lacks_an_example_or_a_status(store, name):
    result = store.run(name, "--help")

    assert result.status == 0
    assert "$ " in result.out.partition("Example:")[2]
    command = Commands("x").get_command(click.Context(Commands("x")), name)
    if isinstance(command, ClientCommand):
        for option in ("--url", "--token", "--timeout", "--json"):
            assert option in result.out
        assert {*ALWAYS} <= command.ends.keys()
        for meaning in command.ends.values():
            assert meaning in result.out
    assert max(map(len, result.out.splitlines())) <= 100
