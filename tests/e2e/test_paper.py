"""`run.py experiment paper` against real servers: ours, and one that is broken."""

import json
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from client import Client, NoConnection, StoreError
from experiments import cli
from experiments.clusters import ServerProcess
from tests.planted_store import PlantedStore

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]
SECONDS_MAX = 120
STATUS = {"key_not_found": 404, "unavailable": 503, "no_connection": 500}


@contextmanager
def serving(folder, *flags, token=None):
    """A server of ours in memory; its URL."""
    command = [
        sys.executable,
        str(ROOT / "run.py"),
        "--port",
        "0",
        "--storage",
        "memory",
    ]
    server = ServerProcess([*command, *flags], folder / "server.log", token)
    try:
        yield server.start()
    finally:
        server.stop()


def run_paper(folder, *arguments):
    out = folder / "out"
    return cli.main(["paper", "--out", str(out), "--no-plot", *arguments])


def result(folder):
    return json.loads((folder / "out" / "result.json").read_text("utf-8"))


def verdicts(folder):
    return {trial["name"]: trial["verdict"] for trial in result(folder)["trials"]}


@pytest.mark.slow
def test_servers_of_its_own_hold_every_claim_and_are_gone_afterwards(tmp_path):
    command = [sys.executable, "run.py", "experiment", "paper", "--out", str(tmp_path)]

    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Holds: of 5 tests, 5 hold." in done.stdout
    assert judged(tmp_path / "history.jsonl") == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert {"result.json", "history.jsonl", "latency.png", "latency.svg"} <= names
    assert not [name for name in names if name.startswith("data-")]
    for log in tmp_path.glob("server-*.log"):
        assert not answers(url_in(log))


@pytest.mark.slow
def test_running_server_is_left_as_it_was(tmp_path, capsys):
    with serving(tmp_path) as url, Client(url) as store:
        store.write("mine", {"kept": True})

        status = run_paper(tmp_path, "--url", url)

        assert {node.status for node in store.nodes()} == {"up"}
        assert [info.key for info in store.keys("")] == ["mine"]
        assert store.read("mine").value == {"kept": True}
    assert status == 0, capsys.readouterr().out
    assert judged(tmp_path / "out" / "history.jsonl") == 0
    assert verdicts(tmp_path) == {
        "1": "holds",
        "2": "not run",
        "3": "holds",
        "4": "holds",
        "5": "holds",
    }


@pytest.mark.slow
def test_token_is_used_and_not_kept(tmp_path):
    token = "a-token-of-this-test"

    with serving(tmp_path, token=token) as url:
        without = run_paper(tmp_path / "without", "--url", url)
        with_it = run_paper(tmp_path / "with", "--url", url, "--token", token)

    assert (without, with_it) == (2, 0)
    kept = (tmp_path / "with" / "out" / "result.json").read_text("utf-8")
    assert token not in kept


def test_server_of_another_shape_is_not_touched(tmp_path):
    with serving(tmp_path, "--nodes", "4") as url, Client(url) as store:
        before = len(store.events())

        status = run_paper(tmp_path, "--url", url)

        assert len(store.events()) == before
        assert list(store.keys()) == []
    assert status == 2
    assert set(verdicts(tmp_path).values()) == {"not run"}


def test_server_with_a_node_down_is_not_touched(tmp_path):
    with serving(tmp_path) as url, Client(url) as store:
        store.fail(1)

        status = run_paper(tmp_path, "--url", url)

        assert [node.status for node in store.nodes()] == ["up", "down", "up"]
    assert status == 2


def test_no_server_leaves_the_claims_unknown(tmp_path):
    with serving(tmp_path) as url:
        pass

    assert run_paper(tmp_path, "--url", url) == 2
    assert set(verdicts(tmp_path).values()) == {"unknown"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruption_stops_the_servers_and_keeps_what_was_found(tmp_path, number):
    command = [sys.executable, "run.py", "experiment", "paper", "--out", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as running:
        log, history = tmp_path / "server-3-2.log", tmp_path / "history.jsonl"
        wait_for(lambda: log.exists() and url_in(log))
        wait_for(lambda: len(history.read_text("utf-8").splitlines()) > 1)  # a request

        running.send_signal(number)
        status = running.wait(SECONDS_MAX)

    assert status == 2
    assert judged(history) == 0
    assert not answers(url_in(log))
    assert not list(tmp_path.glob("data-*"))
    assert (
        json.loads((tmp_path / "result.json").read_text("utf-8"))["verdict"]
        == "unknown"
    )


@pytest.mark.parametrize(
    ("bug", "words"),
    [
        ("loses writes", "lost: "),
        ("brings back deletes", "came back: "),
        ("skips resync", "stale: "),
        ("says 404 for 503", "a guess: "),
        ("dies", "stopped answering"),
    ],
)
def test_broken_store_is_found_out_over_http(tmp_path, bug, words):
    with broken_server(bug) as url:
        status = run_paper(tmp_path, "--url", url)

    assert status == 1
    assert result(tmp_path)["verdict"] == "violated"
    assert words in json.dumps(result(tmp_path))
    assert judged(tmp_path / "out" / "history.jsonl") == (0 if bug == "dies" else 1)


def test_right_store_behind_the_same_server_is_not_found_guilty(tmp_path):
    with broken_server("") as url:
        assert run_paper(tmp_path, "--url", url) == 0


# --- What the tests need -----------------------------------------------------------------


def judged(history):
    """The exit status of `run.py check`."""
    command = [sys.executable, "run.py", "check", str(history)]
    return subprocess.run(
        command, cwd=ROOT, timeout=SECONDS_MAX, check=False
    ).returncode


def url_in(log):
    found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text("utf-8"))
    return found and found[0]


def answers(url):
    with Client(url, timeout=2) as client:
        try:
            client.nodes()
        except NoConnection:
            return False
    return True


def wait_for(condition):
    deadline = time.monotonic() + SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


@contextmanager
def broken_server(bug):
    """A PlantedStore behind the routes of the contract; its URL."""
    handler = type("Bound", (Handler,), {"store": PlantedStore(bug=bug)})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class Handler(BaseHTTPRequestHandler):
    """The routes that an experiment uses, in a few lines."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet, or the second waits 40 ms
    store: PlantedStore

    def do_GET(self):
        path, key = self._asked()
        if path == "/read":
            self._answer(lambda: vars(self.store.read(key)))
        elif path == "/keys":
            keys = [vars(info) for info in self.store.keys(self._query("prefix"))]
            self._answer(lambda: {"keys": keys, "next": None})
        else:
            shape = {"placement": "ring"}
            shape["replication_factor"] = self.store.replication_factor
            nodes = [vars(node) for node in self.store.nodes()]
            self._answer(lambda: {"nodes": nodes, **shape})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path, _ = self._asked()
        if path == "/write":
            self._answer(lambda: vars(self.store.write(body["key"], body["value"])))
        else:
            _, verb, node = path.split("/")
            act = self.store.fail if verb == "fail" else self.store.recover
            self._answer(lambda: vars(act(int(node))))

    def do_DELETE(self):
        _, key = self._asked()
        self._answer(lambda: vars(self.store.delete(key)))

    def log_message(self, *_):
        pass

    def _asked(self):
        return urlsplit(self.path).path, self._query("key")

    def _query(self, name):
        return parse_qs(urlsplit(self.path).query).get(name, [""])[0]

    def _answer(self, act):
        try:
            status, content = 200, act()
        except StoreError as error:
            status = STATUS[error.code]
            content = {"code": error.code, "detail": error.detail, "definite": True}
        if status == 500:  # it is dead: no answer at all
            self.close_connection = True
            return
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
