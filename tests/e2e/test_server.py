"""The service as it is run: a process, a port, signals and files."""

import json
import random
import signal
import socket
import subprocess
import time
from urllib.parse import quote

import pytest

from client import Client, KeyNotFound, NoConnection
from tests.e2e.served import Served, command, environment

pytestmark = pytest.mark.e2e

ODD_KEYS = [
    ".", "..", "/", "//", "/a", "a/", "a//b", "./a", "a/..", "a/../b", "%2F", "%", "%00",
    "?", "a?b=c", "#", "a#b", "&=;+", " ", "a b ", "é", "日本", "😀", "\ufeff",
    "\u200b", "\\", '"', "'", "<>", "{}", "[]", "|^`~", "key", "..%2f", "%c3%28",
    "http://x/y", "//evil.example", "x" * 255, "é" * 127,
]  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """One server in memory, for tests that leave it as they find it."""
    with Served(tmp_path_factory.mktemp("served"), "--storage", "memory") as server:
        yield server


@pytest.fixture
def store(served):
    with Client(served.url, timeout=10) as client:
        yield client


def refused(folder, *flags):
    """What a server says that does not start: one line on stderr."""
    done = subprocess.run(
        command(*flags),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done
    return done.stderr


# --- Requests ------------------------------------------------------------------------


def test_hundreds_of_odd_keys_are_read_as_they_were_written(served, store):
    chance = random.Random(7)
    pieces = [*map(chr, range(32, 127)), *"éß日😀", "..", "//", "%2F", "%25"]
    keys = ODD_KEYS + [
        "".join(chance.choices(pieces, k=chance.randint(1, 12))) for _ in range(300)
    ]
    keys = list(dict.fromkeys(keys))
    for number, key in enumerate(keys):
        store.write(key, number)
    for number, key in enumerate(keys):
        for kept in ("", "/:@!$&'()*+,;=.~"):  # more or less of it percent-encoded
            status, _, body = served.ask("GET", f"/read/{quote(key, safe=kept)}")
            assert (status, json.loads(body)["value"]) == (200, number), key
        assert store.read(key).value == number
    assert sorted(keys) == sorted(info.key for info in store.keys(""))
    for key in keys:
        store.delete(key)


def test_path_that_is_not_utf8_is_refused_over_the_wire(served):
    for target in ("/read/%ff", "/read/%c3%28", "/read/a%ed%a0%80", "/read?key=%ff"):
        status, _, body = served.ask("GET", target)
        assert (status, json.loads(body)["code"]) == (400, "invalid_request")


def test_large_value_comes_back_whole_and_a_larger_one_is_told_why(served, store):
    value = "v" * ((1 << 20) - 2)
    store.write("large", value)
    assert store.read("large").value == value

    body = json.dumps({"key": "large", "value": value * 2}).encode()
    status, _, answer = served.ask(
        "POST", "/write", body, Content_Type="application/json"
    )

    assert (status, json.loads(answer)["code"]) == (413, "too_large")
    assert store.read("large").value == value
    store.delete("large")


def test_body_in_chunks_is_refused_since_nobody_knows_its_length(served, store):
    with served.connect() as connection:
        connection.sendall(
            b"POST /write HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            b'd\r\n{"key":"parts\r\nc\r\n","value":1}\r\n0\r\n\r\n'
        )
        answer = b"".join(iter(lambda: connection.recv(4096), b""))

    assert answer.startswith(b"HTTP/1.1 411")
    assert b'"length_required"' in answer
    with pytest.raises(KeyNotFound):
        store.read("parts")


def test_write_that_was_cut_off_is_not_made(served, store):
    with served.connect() as connection:
        connection.sendall(
            b"POST /write HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b'Content-Length: 60\r\n\r\n{"key":"cut","value":1}'
        )
        connection.shutdown(socket.SHUT_WR)
        connection.recv(4096)

    with pytest.raises(KeyNotFound):
        store.read("cut")


def test_request_that_stalls_does_not_keep_others_waiting(served, store):
    with served.connect() as stalled:
        stalled.sendall(
            b"POST /write HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b'Content-Length: 60\r\n\r\n{"key":'
        )
        began = time.monotonic()
        for number in range(50):
            store.write("beside", number)
        assert time.monotonic() - began < 5
    store.delete("beside")


def test_nonsense_is_answered_and_the_server_lives_on(served, store):
    for nonsense in (b"\x00\xff\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9\r\n\r\n"):
        with served.connect() as connection:
            connection.sendall(nonsense)
            assert connection.recv(4096)[:12] in (b"HTTP/1.1 400", b"")
    assert store.is_ready()


def test_page_that_someone_has_open_may_not_fail_a_node(served, store):
    status, _, body = served.ask("POST", "/fail/0", Origin="http://evil.example")

    assert (status, json.loads(body)["code"]) == (403, "forbidden")
    assert {node.status for node in store.nodes()} == {"up"}


# --- Start and end -------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_stop_ends_in_good_order_with_idle_connections_open(tmp_path, number):
    with Served(tmp_path, "--storage", "memory") as server, server.connect() as idle:
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle.recv(4096).startswith(b"HTTP/1.1 200")

        status, seconds = server.stop(number)

        assert status == 0
        assert seconds < 5
        assert "Traceback" not in server.log.read_text("utf-8")


def test_request_under_way_at_the_stop_is_answered(tmp_path):
    body = b'{"key":"late","value":1}'
    head = (
        b"POST /write HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )
    with Served(tmp_path) as server, server.connect() as connection:
        connection.sendall(head + body[:5])
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        connection.sendall(body[5:])

        answer = connection.recv(4096)

        assert answer.startswith(b"HTTP/1.1 200"), answer
        assert server.process.wait(5) == 0
    with Served(tmp_path) as server, Client(server.url) as store:
        assert store.read("late").value == 1


def test_request_that_never_ends_does_not_hold_up_the_stop(tmp_path):
    with Served(tmp_path) as server, server.connect() as stalled:
        stalled.sendall(
            b"POST /write HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 60\r\n\r\n{"
        )
        time.sleep(0.3)

        status, seconds = server.stop()

        assert status == 0
        assert seconds < 5


def test_acknowledged_writes_survive_a_stop_and_a_kill(tmp_path):
    for number, how in enumerate([signal.SIGTERM, signal.SIGKILL, signal.SIGTERM]):
        with Served(tmp_path) as server, Client(server.url) as store:
            for earlier in range(number):
                assert store.read(f"key-{earlier}").value == earlier
            store.write(f"key-{number}", number)
            server.stop(how)


def test_memory_is_gone_after_a_restart_as_the_start_said(tmp_path):
    with Served(tmp_path, "--storage", "memory") as server, Client(server.url) as store:
        store.write("k", 1)
        assert "not a restart" in server.log.read_text("utf-8")
        server.stop()
    with Served(tmp_path, "--storage", "memory") as server, Client(server.url) as store:
        assert list(store.keys("")) == []


def test_curl_lines_of_the_start_work_as_they_are(tmp_path):
    with Served(tmp_path, "--storage", "memory") as server:
        text = server.log.read_text("utf-8")
        lines = [line.strip() for line in text.splitlines() if "curl" in line]
        assert len(lines) == 3

        for line in lines:
            done = subprocess.run(
                line, shell=True, capture_output=True, check=True, timeout=10
            )
            assert b'"definite"' not in done.stdout, done.stdout
        assert json.loads(done.stdout)["value"] == "hello"


def test_port_in_use_is_one_line(tmp_path, served):
    line = refused(tmp_path, "--port", served.port)

    assert f"port {served.port}" in line
    assert "--port" in line
    assert not (tmp_path / "data").exists()


def test_data_that_cannot_be_used_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with Served(tmp_path) as server:
        in_use = refused(tmp_path, "--port", 0)
        server.stop()

    assert "another process" in in_use
    assert "file" in refused(tmp_path, "--port", 0, "--data-dir", "file/data")
    mismatch = refused(tmp_path, "--port", 0, "--nodes", 4)
    assert "nodes 3" in mismatch
    assert "nodes 4" in mismatch


def test_client_knows_that_nothing_was_done_where_nobody_listens(tmp_path):
    with Served(tmp_path, "--storage", "memory") as server, Client(server.url) as store:
        store.write("k", 1)
        server.stop()

        with pytest.raises(NoConnection) as caught:
            store.write("k", 2)

        assert caught.value.definite
