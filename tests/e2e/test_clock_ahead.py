"""A real server whose machine's clock was a day ahead at one start."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

from tests.e2e.served import Served

DAY = 86_400
SECONDS_MAX = 20.0
AHEAD = f"""
import time

right = time.time_ns
time.time_ns = lambda: right() + {DAY} * 10**9
time.time = lambda: time.time_ns() / 1e9
"""


def ahead(folder: Path) -> str:
    """A path of modules that makes a Python process see a clock that is a day ahead."""
    (folder / "ahead").mkdir()
    (folder / "ahead" / "sitecustomize.py").write_text(AHEAD, "utf-8")
    return str(folder / "ahead")


def write(server: Served, **body: object) -> None:
    sent = json.dumps(body).encode()
    status, _, text = server.ask(
        "POST", "/write", sent, Content_Type="application/json"
    )
    assert status == 200, text


def told(server: Served, path: str) -> Any:
    status, _, text = server.ask("GET", path)
    assert status == 200, text
    return json.loads(text)


def test_key_ends_and_the_clock_is_told_of_after_a_start_with_a_clock_a_day_ahead(
    tmp_path,
):
    with Served(tmp_path, PYTHONPATH=ahead(tmp_path)) as server:
        write(server, key="early", value=1)
        assert told(server, "/readyz") == {"status": "ready"}
        server.stop(signal.SIGKILL)

    with Served(tmp_path) as server:
        began = time.monotonic()
        write(server, key="k", value=1, ttl=2)
        statuses = [200]
        while statuses[-1] == 200 and time.monotonic() < began + SECONDS_MAX:
            statuses.append(server.ask("GET", "/read/k")[0])
            time.sleep(0.02)
        ended = time.monotonic() - began
        ready = told(server, "/readyz")
        kinds = [event["kind"] for event in told(server, "/events")["events"]]
        metrics = server.ask("GET", "/metrics?name[]=kv_clock_ahead_seconds")[2]

        assert statuses[-1] == 404
        assert 1.9 < ended < SECONDS_MAX
        assert told(server, "/read/early")["value"] == 1
        assert ready["status"] == "ready"
        assert "behind the store's" in ready["warning"]
        assert kinds.count("clock_off") == 1
        assert float(metrics.split()[-1]) > DAY - SECONDS_MAX
