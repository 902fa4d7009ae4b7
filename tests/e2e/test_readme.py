"""What the README shows is what happens: its curl lines, its Python, the same four ways."""

import json
import re
import shlex
import subprocess
import sys
import unittest
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from client import Client, KeyNotFound
from experiments.clusters import ServerProcess
from models import KeyNotFound as NoKey
from replication import open_manager

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
URL = "http://127.0.0.1:5000"


@pytest.fixture
def server(tmp_path):
    """A server as `make run` starts it, on a free port and in a folder of its own."""
    command = [sys.executable, str(ROOT / "run.py"), "--port", "0"]
    command += ["--data-dir", str(tmp_path / "data")]
    server = ServerProcess(command, tmp_path / "server.log", None)
    try:
        yield server.start()
    finally:
        server.stop()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def curl_lines() -> list[tuple[str, str]]:
    """Each command of the README's console block with the answer below it."""
    (block,) = blocks("console")
    lines = block.strip().split("\n")
    assert all(line.startswith("$ ") for line in lines[::2])
    return [
        (line[2:], answer) for line, answer in zip(lines[::2], lines[1::2], strict=True)
    ]


def curl(line: str, url: str) -> str:
    words = shlex.split(line.replace(URL, url))
    assert words.pop(0) == "curl"
    answer = subprocess.run(
        ["curl", "-sS", *words], capture_output=True, text=True, timeout=30, check=True
    )
    return answer.stdout


def steady(text: str) -> str:
    """Without what differs from run to run: versions, and what a recovery took."""
    text = re.sub(r"\b[0-9a-f]{20}\b", "VERSION", text.strip())
    return re.sub(r'"seconds":[0-9.e-]+', '"seconds":SECONDS', text)


def test_every_curl_line_of_the_readme_gives_the_answer_that_it_shows(server):
    lines = curl_lines()

    answers = [curl(line, server) for line, _ in lines]

    assert len(lines) == 6
    assert [steady(a) for a in answers] == [steady(shown) for _, shown in lines]


def test_python_of_the_readme_runs(server):
    shown = blocks("python")

    for text in shown:
        exec(compile(text.replace(URL, server), "README.md", "exec"), {})

    assert len(shown) == 2


def by_curl(url: str) -> list[object]:
    return [json.loads(curl(line, url)) for line, _ in curl_lines()]


def by_client(url: str) -> list[object]:
    with Client(url) as store:
        answers: list[object] = [store.write("greeting", {"text": "hello"})]
        answers += [store.fail(0), store.read("greeting"), store.delete("greeting")]
        answers += [store.recover(0)]
        with pytest.raises(KeyNotFound) as caught:
            store.read("greeting")
        return [*answers, caught.value]


def by_manager() -> list[object]:
    with open_manager(nodes=3, replication_factor=2) as store:
        answers: list[object] = [store.write("greeting", {"text": "hello"})]
        answers += [store.fail(0), store.read("greeting"), store.delete("greeting")]
        answers += [store.recover(0)]
        with pytest.raises(NoKey) as caught:
            store.read("greeting")
        return [*answers, caught.value]


class AsAUnitTest(unittest.TestCase):
    """As somebody's own unit test would have it."""

    def test_scenario(self):
        with open_manager(nodes=3, replication_factor=2) as store:
            self.assertEqual(
                store.write("greeting", {"text": "hello"}).replicas, (0, 2)
            )
            self.assertEqual(store.fail(0).status, "down")
            self.assertEqual(store.read("greeting").value, {"text": "hello"})
            self.assertEqual(store.delete("greeting").missed, (0,))
            self.assertEqual(store.recover(0).status, "up")
            self.assertRaises(NoKey, store.read, "greeting")


TOLD = "key value replicas missed node_id status keys bytes stale_keys recovery".split()


def essence(answer: object) -> dict[str, object]:
    """What an answer says, whichever way it came; versions and times left out."""
    failed = isinstance(answer, Exception) or (
        isinstance(answer, dict) and "code" in answer
    )
    told = ["code", "definite"] if failed else TOLD
    have = answer.get if isinstance(answer, dict) else partial(said_by, answer)
    found = {name: value for name in told if (value := have(name)) is not None}
    for name, value in found.items():
        if isinstance(value, tuple):
            found[name] = list(value)
    if not isinstance(recovery := found.get("recovery", {}), dict):
        found["recovery"] = recovery = msgspec.to_builtins(recovery)
    recovery.pop("seconds", None)
    return found


def said_by(answer: object, name: str) -> Any:
    value = getattr(answer, name, None)
    return None if value is msgspec.UNSET else value


def test_the_same_scenario_has_the_same_answers_four_ways(server, tmp_path):
    second = ServerProcess(
        [sys.executable, str(ROOT / "run.py"), "--port", "0", "--storage", "memory"],
        tmp_path / "second.log",
        None,
    )
    try:
        ways = [by_curl(server), by_client(second.start()), by_manager()]
    finally:
        second.stop()
    result = unittest.TestResult()
    AsAUnitTest("test_scenario").run(result)

    first, *others = [[essence(answer) for answer in answers] for answers in ways]
    assert len(first) == 6
    assert others == [first, first]
    assert (result.testsRun, result.failures, result.errors) == (1, [], [])
