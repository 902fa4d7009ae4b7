"""`run.py bench --quick`: every measurement runs, with real servers and processes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.processes import answers

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]


def test_every_measurement_runs_and_leaves_nothing_behind(tmp_path):
    command = [
        sys.executable,
        "run.py",
        "bench",
        "--quick",
        "--full",
        "--out",
        str(tmp_path),
    ]

    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    kept = json.loads((tmp_path / "result.json").read_text("utf-8"))
    assert set(kept["results"]) == {
        "routes",
        "operations",
        "recovery",
        "memory",
        "startup",
    }
    figures = [figure for each in kept["results"].values() for figure in each]
    assert all(figure["value"] > 0 and not figure["failures"] for figure in figures)
    assert not list(tmp_path.glob("data-*"))


def test_server_that_is_gone_does_not_answer():
    assert not answers(1, "/")
