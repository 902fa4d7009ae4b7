"""The logs: a line a message, with its request's id, and never a value or a key in it."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import patch

import pytest

from app import StoreApp, create_app
from config import Settings
from models import Uncertain
from web.logs import KEPT_MAX, configure

VALUE = "the-secret-value\nWARNING forged: a line of its own"
KEYS = ("of-a\u2028customer", "%0Aforged line", 'key-of-"a"\\customer')
TEXT_LINE = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (DEBUG|INFO|WARNING|ERROR) "
    r"[a-z_.]+:( \[[A-Za-z0-9._-]+\])? \S.*"
)
Start = Callable[..., StoreApp]


@pytest.fixture
def start() -> Iterator[Start]:
    """Make an application whose log goes where `capsys` reads, as `run.py` does it."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    made: list[StoreApp] = []

    def begin(**changes: Any) -> StoreApp:
        settings = Settings(**{"storage": "memory", **changes})
        root.handlers.clear()  # pytest's own are not to be closed
        configure(settings)
        made.append(create_app(settings))
        return made[-1]

    yield begin
    for app in made:
        app.close()
    for handler in root.handlers:
        handler.close()
    root.handlers[:], root.level = before, level


def logged(capsys: pytest.CaptureFixture[str]) -> str:
    """All that was logged so far."""
    for handler in logging.getLogger().handlers:
        handler.flush()
    return capsys.readouterr().err


def ask_for_everything(app: StoreApp) -> dict[str, int]:
    """Requests that go well and that fail in each way, by the id that each gives itself."""
    client = app.test_client()

    def ask(name: str, method: str, path: str, **options: Any) -> None:
        headers = {**options.pop("headers", {}), "X-Request-Id": name}
        answer = client.open(path, method=method, headers=headers, **options)
        said[name] = answer.status_code

    said: dict[str, int] = {}
    for number, key in enumerate(KEYS):
        sent = {"key": key, "value": {"text": VALUE, VALUE: 1}}
        ask(f"write-{number}", "POST", "/write", json=sent)
        ask(f"read-{number}", "GET", "/read", query_string={"key": key})
    ask("refused-key", "POST", "/write", json={"key": f"a\n{VALUE}", "value": VALUE})
    ask("refused-field", "POST", "/write", json={"key": "k", "value": 1, VALUE: VALUE})
    ask("broken", "POST", "/write", data=f'{{"key":"{VALUE}', content_type="text/json")
    ask("conflict", "POST", "/write", json={"key": KEYS[0], "value": VALUE},
        headers={"If-Match": '"0"'})  # fmt: skip
    batch = {"operations": [{"op": "write", "key": KEYS[0], "value": VALUE}, VALUE]}
    ask("batch", "POST", "/batch", json=batch)
    ask("no-path", "GET", f"/{VALUE}")
    ask("level", "GET", "/read/k", query_string={"consistency": VALUE})
    for node in range(3):
        ask(f"fail-{node}", "POST", f"/fail/{node}", json={"mode": "wipe"})
    for number, key in enumerate(KEYS):
        ask(f"again-{number}", "GET", "/read", query_string={"key": key})
    with patch.object(app.store, "write", side_effect=Uncertain(f"who knows {VALUE}")):
        ask("uncertain", "POST", "/write", json={"key": KEYS[0], "value": VALUE})
    with patch.object(app.store, "write", side_effect=OSError("the disk is gone")):
        ask("unexpected", "POST", "/write", json={"key": KEYS[0], "value": VALUE})
    for node in range(3):
        ask(f"recover-{node}", "POST", f"/recover/{node}", json={"accept_loss": True})
    return said


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_value_and_no_key_is_ever_in_a_log(start, capsys, log_format):
    app = start(log_format=log_format, log_level="debug", log_requests="all")

    said = ask_for_everything(app)

    log = logged(capsys)
    assert {200, 400, 404, 412, 415, 500, 503, 504} <= {*said.values()}
    for secret in ("secret", "forged", "customer", "of-a"):
        assert secret not in log, log
    assert "the disk is gone" in log  # it is told all the same, and where from
    assert "Traceback" in log


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_every_answer_has_a_line_with_its_id_if_all_are_asked_for(
    start, capsys, log_format
):
    app = start(log_format=log_format, log_requests="all")

    said = ask_for_everything(app)

    lines = answered(logged(capsys), log_format)
    assert [(name, status) for name, status, _ in lines] == list(said.items())
    assert all((level == "WARNING") == (status >= 500) for _, status, level in lines)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_failed_ones_alone_are_logged_if_those_are_asked_for(start, capsys, log_format):
    app = start(log_format=log_format, log_requests="failed")

    said = ask_for_everything(app)

    lines = answered(logged(capsys), log_format)
    failed = {name: status for name, status in said.items() if status >= 500}
    assert len(failed) > 3
    assert {name: status for name, status, _ in lines} == failed


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_none_is_logged_unless_asked_for_but_events_and_errors_are(
    start, capsys, log_format
):
    app = start(log_format=log_format)

    ask_for_everything(app)

    log = logged(capsys)
    assert answered(log, log_format) == []
    assert "node_failed: node 0 failed (wipe)" in log
    assert "data_lost" in log
    assert "the disk is gone" in log


def answered(log: str, log_format: str) -> list[tuple[str, int, str]]:
    """The requests in a log: id, status and the level of the line."""
    if log_format == "json":
        lines = [json.loads(line) for line in log.splitlines()]
        return [
            (line["request_id"], line["status"], line["level"])
            for line in lines
            if line["logger"] == "requests.answered"
        ]
    form = r"^\S+ \S+ (\w+) requests.answered: \[(\S+)\] \w+ \S+ (\d+) [\d.]+ ms$"
    found = re.findall(form, log, re.MULTILINE)
    return [(name, int(status), level) for level, name, status in found]


def test_key_in_a_path_is_not_logged_when_the_request_fails_unexpectedly(start, capsys):
    app = start()

    with patch.object(app.store, "read", side_effect=OSError("the disk is gone")):
        assert app.test_client().get("/read/of-a-customer").status_code == 500

    log = logged(capsys)
    assert "the disk is gone" in log
    assert "customer" not in log


# --- The lines ---------------------------------------------------------------------------


def test_each_line_of_json_is_one_object_with_the_same_fields(start, capsys):
    app = start(log_format="json", log_level="debug", log_requests="all")
    ask_for_everything(app)
    logging.getLogger("somewhere").warning("a\nb \u2028 \x1b[31m %s", {"c": "d"})

    lines = [json.loads(line) for line in logged(capsys).split("\n")[:-1]]

    usual = {"timestamp", "level", "logger", "message"}
    assert all(usual <= line.keys() for line in lines)
    assert all(re.fullmatch(r"[\d-]+T[\d:.]+\+00:00", x["timestamp"]) for x in lines)
    (request,) = [line for line in lines if line.get("request_id") == "write-0"]
    assert request.keys() - usual == set(
        "request_id method route consistency status ms".split()
    )
    assert (request["route"], request["status"]) == ("/write", 200)
    assert request["ms"] > 0
    (event,) = [x for x in lines if x.get("event") == "node_failed" and not x["node"]]
    assert event["request_id"] == "fail-0"
    (odd,) = [line for line in lines if line["logger"] == "somewhere"]
    assert "request_id" not in odd  # it belongs to none
    (error,) = [line for line in lines if line["level"] == "ERROR"]
    assert error["request_id"] == "unexpected"
    assert "Traceback" in error["exc_info"]


def test_each_message_of_text_is_one_line_and_a_traceback_is_indented(start, capsys):
    app = start(log_level="debug", log_requests="all")
    ask_for_everything(app)
    logging.getLogger("somewhere").warning("two\r\nlines \x1b[31m \x85 \u2028 é")
    forged = "2026-01-01 00:00:00,000 INFO somewhere: forged"
    with patch.object(app.store, "read", side_effect=OSError(f"a\n{forged}\r{forged}")):
        app.test_client().get("/read/k")

    log = logged(capsys)

    assert "\r" not in log
    traces = [line for line in log.splitlines() if line.startswith("  ")]
    assert sum("Traceback (most recent call last):" in line for line in traces) == 2
    assert f"  {forged}\\r{forged}" in traces
    for line in log.splitlines():
        assert line in traces or TEXT_LINE.fullmatch(line), line
    assert r"two\r\nlines \x1b[31m \x85 \u2028 é" in log


def test_id_of_a_caller_that_is_not_sane_is_replaced(start, capsys):
    app = start(log_requests="all")

    answer = app.test_client().get("/nodes", headers={"X-Request-Id": "a b] forged:"})

    log = logged(capsys)
    assert "forged" not in log
    assert f"[{answer.headers['X-Request-Id']}]" in log


@pytest.mark.parametrize(
    ("level", "seen"),
    [("debug", 3), ("info", 3), ("warning", 2), ("error", 1)],
)
def test_level_is_the_least_that_is_logged(start, capsys, level, seen):
    app = start(log_level=level, log_requests="all")
    client = app.test_client()

    client.get("/nodes")
    with patch.object(app.store, "read", side_effect=OSError("gone")):
        client.get("/read/k")

    lines = re.findall(r"^\S+ \S+ (INFO|WARNING|ERROR) ", logged(capsys), re.M)
    assert len(lines) == seen


# --- Lines of requests are written many at a time ----------------------------------------


def test_line_of_a_request_is_written_soon_even_if_nothing_follows(start, capsys):
    app = start(log_requests="all")
    app.test_client().get("/nodes")

    said, deadline = "", time.monotonic() + 10
    while "/nodes" not in said:
        assert time.monotonic() < deadline, "it was never written"
        time.sleep(0.02)
        said += capsys.readouterr().err  # nobody flushes


def test_lines_stay_in_order_and_none_is_lost_when_many_threads_log(start, capsys):
    app = start(log_requests="all", log_format="json")

    def ask(thread: int) -> None:
        client = app.test_client()
        for number in range(250):
            client.get("/healthz", headers={"X-Request-Id": f"{thread}-{number}"})
        logging.getLogger("somewhere").warning("thread %s ended", thread)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))

    lines = [json.loads(line) for line in logged(capsys).splitlines()]
    assert len(lines) == 8 * 251
    for thread in range(8):
        mine = [x for x in lines if x.get("request_id", "").startswith(f"{thread}-")]
        assert [x["request_id"] for x in mine] == [f"{thread}-{n}" for n in range(250)]
        end = next(x for x in lines if x["message"] == f"thread {thread} ended")
        assert lines.index(mine[-1]) < lines.index(end)


def test_log_that_takes_nothing_any_more_costs_no_answer_and_keeps_nothing(
    start, monkeypatch
):
    app = start(log_requests="all")
    (handler,) = logging.getLogger().handlers
    broken = open("/dev/full", "w")  # noqa: SIM115 - the handler has it
    monkeypatch.setattr(handler, "stream", broken)
    client = app.test_client()

    statuses = {client.get("/healthz").status_code for _ in range(KEPT_MAX + 10)}

    handler.flush()
    assert statuses == {200}
    assert len(handler._kept) == 0  # type: ignore[attr-defined]
    monkeypatch.undo()
    with contextlib.suppress(OSError):
        broken.close()
