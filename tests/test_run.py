"""The command line: which command runs, what is said at the start, what is refused."""

import shutil
import sys
from types import SimpleNamespace

import pytest

import run
import serving
from backends.etcd import open_etcd
from config import Settings
from console.catalogue import CLIENT, COMMANDS, MEASURE
from console.exits import Exit
from replication import open_manager


def test_other_commands_get_their_arguments_and_decide_the_status(monkeypatch):
    calls = []

    def main(argv, *stop):
        calls.append(list(argv))
        return 1

    modules = [entry.where.partition(":")[0] for entry in MEASURE.values()]
    for module in [*modules, "serving", "console.cli"]:
        monkeypatch.setitem(sys.modules, module, SimpleNamespace(main=main))

    called = [
        ["experiment", "list", "--x"],
        ["bench"],
        ["--port", "1"],
        [],
        ["get", "k"],
    ]
    statuses = [run.main(argv) for argv in called]

    assert statuses == [1] * 5
    assert calls == [["list", "--x"], [], ["--port", "1"], [], ["get", "k"]]


@pytest.mark.parametrize("flag", ["--help", "-h", "help"])
def test_help_names_every_command_and_status_on_a_narrow_screen(capsys, flag):
    assert run.main([flag]) == 0

    text = capsys.readouterr().out
    for name, entry in COMMANDS.items():
        assert f"\n  {name:<11} {entry.about}\n" in text
    for status in Exit:
        assert f"\n  {int(status)}  " in text
    assert max(map(len, text.splitlines())) <= 90
    assert len(text.splitlines()) <= 50


@pytest.mark.parametrize("name", CLIENT)
def test_misspelt_command_is_told_the_near_one(capsys, name):
    assert run.main([f"{name}x"]) == 2

    assert f"did you mean {name}?" in capsys.readouterr().err


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


def greeting(settings: Settings, *, port: int = 1, failed: tuple[int, ...] = ()) -> str:
    with open_manager(settings) as store:
        for node in failed:
            store.fail(node)
        return serving.greeting(settings, store.scheme, port, store.nodes())


def test_start_says_where_and_what_and_whether_it_survives():
    text = greeting(
        Settings(storage="memory", nodes=5, replication_factor=3), port=1234
    )

    assert text.count("http://127.0.0.1:1234") == 4
    for word in ("5 nodes", "on 3 of them", "ring", "primary-backup", "linearizable"):
        assert word in text
    assert text.count("curl") == 3
    assert len(text.splitlines()) <= 24
    assert "not up" not in text


def test_start_does_not_hide_that_nodes_are_still_down():
    text = greeting(Settings(storage="memory"), failed=(0, 2))

    assert "not up: nodes 0, 2" in text
    assert "POST /recover/0" in text


def test_start_tells_of_a_node_whose_storage_cannot_be_used_what_is_wrong(tmp_path):
    settings = Settings(data_dir=tmp_path, nodes=5, durability="os")
    with open_manager(settings) as store:
        store.fail(2)
    shutil.rmtree(tmp_path / "node-0")
    (tmp_path / "node-0").write_text("not a folder")

    text = greeting(settings)

    assert "not up: node 0, cannot open" in text
    assert "it is not a folder" in text
    assert "not up: node 2, as before the start: POST /recover/2" in text


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"storage": "memory"}, "not a restart"),
        ({"durability": "os"}, "a power cut may lose"),
        ({}, "survives a restart and a power cut"),
    ],
)
def test_start_promises_only_what_the_storage_keeps(tmp_path, changes, word):
    assert word in greeting(Settings(data_dir=tmp_path, **changes))


def test_start_shows_no_token_and_an_address_that_works():
    everywhere = Settings(storage="memory", host="::", api_token="secret-token")

    text = greeting(everywhere)

    assert "secret-token" not in text
    assert "$KV_API_TOKEN" in text
    assert "http://127.0.0.1:1/write" in text
    loopback = Settings(storage="memory", host="::1")
    assert "http://[::1]:1/write" in greeting(loopback)


def test_start_before_any_member_of_etcd_answers_says_so_and_offers_no_failure():
    settings = Settings(engine="etcd", etcd_endpoints=("http://127.0.0.1:1",))
    with open_etcd(settings) as store:
        text = serving.greeting(settings, store.scheme, 1, store.nodes())

    assert "no node answers yet" in text
    assert "in etcd at http://127.0.0.1:1" in text
    assert "/fail/" not in text
    assert text.count("curl") == 3
