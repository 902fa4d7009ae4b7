"""The published API description against the service itself, by schemathesis.

It makes requests from /openapi.json, good ones and ones that are wrong in one place, sends
them over real HTTP, and holds every answer against the description. It works for about
30 seconds, and for about 100 where the variable CI is set; FUZZ_SECONDS says otherwise.
The seed is fixed, so that a run can be had again: FUZZ_SEED is another one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.abuse import API_TOKEN, JSON
from tests.e2e.served import Served, environment

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SECONDS = int(
    os.environ.get("FUZZ_SECONDS") or ("100" if os.environ.get("CI") else "30")
)
SEED = os.environ.get("FUZZ_SEED") or "1"
END_SECONDS_MAX = 120  # beyond SECONDS, for a phase that is under way
RECOVER_SECONDS = 0.2
TOKEN = f"Authorization: Bearer {API_TOKEN}"
# Every check is on. What stands here widens one of them, each time for a reason.
CONFIGURATION = """
[checks.not_a_server_error]
# Nodes are failed on purpose, and 503 is then the right answer; 500 and 504 never are.
expected-statuses = ["2xx", "3xx", "4xx", 503]

[checks.positive_data_acceptance]
# 412: a condition that is well-formed need not hold. 413: a key is limited in bytes, and
# JSON Schema can only count characters.
expected-statuses = ["2xx", "3xx", 401, 403, 404, 409, 412, 413, 503]

[checks.negative_data_rejection]
# 413: as above.
expected-statuses = [400, 401, 403, 404, 405, 409, 413, 415, 503]

[[operations]]
include-path = "/batch"
# A wrong operation spoils its own result only: the batch itself is a 200.
checks.negative_data_rejection.expected-statuses = [200, 400, 401, 403, 405, 413, 415]
"""


@pytest.fixture
def served(tmp_path) -> Iterator[Served]:
    """A server with a token, so that what it asks of callers is tested too."""
    flags = ("--storage", "memory", "--api-token", API_TOKEN)
    with Served(tmp_path, *flags) as one:
        yield one
        assert "Traceback" not in one.log.read_text("utf-8")


def test_service_keeps_what_its_description_says(served, tmp_path):
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text(CONFIGURATION, "utf-8")
    options = (
        "--checks=all", "--continue-on-failure", "--output-sanitize=false",
        f"--max-time={SECONDS}", f"--seed={SEED}", "--generation-database=none",
        "--request-timeout=10", f"--header={TOKEN}", f"{served.url}/openapi.json",
    )  # fmt: skip
    with recovering(served):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli"),
                *("--no-color", f"--config-file={configuration}", "run", *options),
            ],
            cwd=tmp_path,
            env={**environment(), "NO_PROXY": "127.0.0.1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS + END_SECONDS_MAX,
            check=False,
        )

    assert done.returncode == 0, done.stdout


@contextmanager
def recovering(served: Served) -> Iterator[None]:
    """Bring back nodes again and again, or soon nothing but 503 would be tested."""
    stop = threading.Event()
    headers = dict((TOKEN.split(": ", 1),))

    def recover() -> None:
        body = json.dumps({"accept_loss": True}).encode()
        while not stop.wait(RECOVER_SECONDS):
            nodes = json.loads(served.ask("GET", "/nodes", None, **headers)[2])["nodes"]
            for node in nodes:
                if node["status"] != "up":
                    target = f"/recover/{node['node_id']}"
                    served.ask("POST", target, body, Content_Type=JSON, **headers)

    thread = threading.Thread(target=recover)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
