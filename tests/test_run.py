"""The command line: which command runs, what is said at the start, what is refused."""

import sys
from types import SimpleNamespace

import pytest

import run
from config import Settings


def test_other_commands_get_their_arguments_and_decide_the_status(monkeypatch):
    calls = []

    def main(argv):
        calls.append(list(argv))
        return 1

    for module in run.COMMANDS.values():
        monkeypatch.setitem(sys.modules, module, SimpleNamespace(main=main))

    statuses = [run.main(["experiment", "list", "--x"]), run.main(["bench"])]

    assert statuses == [1, 1]
    assert calls == [["list", "--x"], []]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["experimnt"], "experimnt experiment"),
        (["frobnicate"], "frobnicate serve experiment bench"),
        (["serve", "--port", "x"], "port=x number"),
        (["--port", "x"], "port=x number"),
        (["--nope"], "--nope"),
        (["--host", "203.0.113.1", "--api-token", "12345678"], "203.0.113.1 --host"),
    ],
)
def test_wrong_call_is_one_line_and_status_2(capsys, argv, words):
    status = run.main(argv)

    said = capsys.readouterr()
    assert status == 2
    assert (said.out, said.err.count("\n")) == ("", 1)
    for word in words.split():
        assert word in said.err


def test_start_says_where_and_what_and_whether_it_survives():
    text = run.greeting(Settings(nodes=5, replication_factor=3), 1234)

    assert text.count("http://127.0.0.1:1234") == 5
    for word in ("5 nodes", "on 3 of them", "ring", "primary-backup", "linearizable"):
        assert word in text
    assert text.count("curl") == 3
    assert len(text.splitlines()) <= 24


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"storage": "memory"}, "not a restart"),
        ({"durability": "os"}, "a power cut may lose"),
        ({}, "survives a restart and a power cut"),
    ],
)
def test_start_promises_only_what_the_storage_keeps(changes, word):
    assert word in run.greeting(Settings(**changes), 1)


def test_start_shows_no_token_and_an_address_that_works():
    everywhere = Settings(host="::", api_token="secret-token")

    text = run.greeting(everywhere, 1)

    assert "secret-token" not in text
    assert "$KV_API_TOKEN" in text
    assert "http://127.0.0.1:1/write" in text
    assert "http://[::1]:1/write" in run.greeting(Settings(host="::1"), 1)
