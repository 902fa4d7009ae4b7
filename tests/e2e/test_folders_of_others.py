"""Folders and files that are not ours: each refusal says whose they are and what to do,
nothing is taken for damage, and nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.served import ROOT, Served, command, environment
from tests.ordinary_user import OTHER, as_ordinary_user, give_away, take_back

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
KEYS = [f"key-{number}" for number in range(40)]
RUN = [sys.executable, str(ROOT / "run.py")]
US, THEM = f"(uid {os.geteuid()})", f"(uid {OTHER})"


def said(folder: Path, *words: str, status: int = 2) -> str:
    """What an ordinary user's command says, which must be one line, on either output."""
    made = subprocess.run(
        as_ordinary_user(*words),
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    lines = (made.stdout + made.stderr).strip().splitlines()
    assert (made.returncode, len(lines)) == (status, 1), made
    return lines[0]


def refusal(folder: Path, *flags: str) -> str:
    """What a start that must fail says."""
    return said(folder, *command("--port", 0, *flags))


@pytest.fixture
def data(tmp_path) -> Path:
    """A data folder with KEYS in it, of a service that has stopped."""
    with Served(tmp_path) as server:
        for key in KEYS:
            body = json.dumps({"key": key, "value": key}).encode()
            status, _, _ = server.ask(
                "POST", "/write", body, Content_Type="application/json"
            )
            assert status == 200
        server.stop()
    folder: Path = tmp_path / "data"
    return folder


def nodes(server: Served) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(server.ask("GET", "/nodes")[2])["nodes"]
    return found


def read_all(server: Served) -> None:
    for key in KEYS:
        status, _, answer = server.ask("GET", f"/read/{key}")
        assert (status, json.loads(answer)["value"]) == (200, key)


# --- The data ----------------------------------------------------------------------------


def test_data_of_another_user_are_refused_by_the_name_of_their_folder(data):
    give_away(data)

    line = refusal(data.parent)

    assert line.startswith("run.py: cannot use the data folder data: it belongs to ")
    assert THEM in line
    assert US in line
    assert "chown -R" in line
    assert line.endswith("; or use another --data-dir")
    take_back(data)
    with Served(data.parent) as server:
        read_all(server)


def test_nodes_of_another_user_are_refused_also_where_they_can_be_read(data):
    give_away(data)
    for path in (data, *data.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)

    line = refusal(data.parent)

    assert "disk" not in line
    assert "data/node-0" in line
    assert THEM in line


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("node-0", 0o700),
        ("node-0", 0o755),
        ("node-0/records-1.db", 0o600),
        ("node-0/records-1.db", 0o644),
        ("node-0/records-1.db-wal", 0o600),
        ("node-0/records-1.db-wal", 0o644),
    ],
)
def test_what_one_node_may_not_use_is_not_taken_for_damage_and_comes_back_whole(
    data, name, mode
):
    path = data / name
    path.touch()  # the log is gone after a stop in good order
    path.chmod(mode)
    before = sorted(each.name for each in (data / "node-0").iterdir())
    give_away(path)

    with Served(data.parent, as_user=as_ordinary_user) as server:
        node = nodes(server)[0]
        assert node["status"] == "down"
        assert THEM in str(node["problem"])
        assert str(path.relative_to(data.parent)) in str(node["problem"])
        assert THEM in server.log.read_text("utf-8").partition("not up")[2]
        read_all(server)
        status, _, answer = server.ask("POST", "/recover/0")
        assert (status, THEM in json.loads(answer)["detail"]) == (503, True)
        take_back(path)
        path.chmod(0o700 if path.is_dir() else 0o600)

        assert server.ask("POST", "/recover/0")[0] == 200

        assert nodes(server)[0]["keys"] != 0
        assert sorted(e.name for e in (data / "node-0").iterdir() if e.name in before)
        assert not list((data / "node-0").glob("damaged-*"))
        kinds = [
            event["kind"]
            for event in json.loads(server.ask("GET", "/events")[2])["events"]
        ]
        assert not {"damage_found", "storage_replaced"} & {*kinds}
        assert server.ask("POST", "/fail/1")[0] == 200
        read_all(server)


def test_own_folders_that_lost_their_rights_are_not_taken_for_damage(data):
    for folder in data.iterdir():
        folder.chmod(0o500)

    line = refusal(data.parent)

    assert "data/node-0: it is ours, but its mode 0500 keeps us out" in line
    assert "chmod u+rwx data/node-0" in line
    for folder in data.iterdir():
        folder.chmod(0o700)
    with Served(data.parent) as server:
        read_all(server)


def make_file(path: Path) -> None:
    path.write_text("")


def make_dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def make_loop(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (make_file, "it is not a folder"),
        (make_dangling, "a symbolic link to nowhere"),
        (make_loop, "Too many levels of symbolic links"),
    ],
)
def test_thing_in_the_place_of_the_data_folder_is_told_as_what_it_is(
    tmp_path, make: Callable[[Path], None], words
):
    make(tmp_path / "data")

    line = refusal(tmp_path)

    assert line.startswith("run.py: cannot use the data folder data: ")
    assert words in line
    assert "; or use another --data-dir" in line
    assert os.path.lexists(tmp_path / "data")


def test_data_folder_that_cannot_be_made_names_the_folder_above_it(tmp_path):
    (tmp_path / "srv").mkdir()
    give_away(tmp_path / "srv")

    line = refusal(tmp_path, "--data-dir", "srv/kv/data")

    assert "cannot use the data folder srv/kv/data: srv belongs to " in line
    assert "install -d" in line
    assert not list((tmp_path / "srv").iterdir())


def test_folder_of_the_data_need_not_be_ours_if_those_of_the_nodes_are(data):
    give_away(data)
    for node in data.glob("node-*"):
        take_back(node)
    data.chmod(0o755)

    with Served(data.parent, as_user=as_ordinary_user) as server:
        assert [node["status"] for node in nodes(server)] == ["up"] * 3
        read_all(server)


@pytest.mark.skipif(shutil.which("etcd") is None, reason="etcd is not installed")
@pytest.mark.parametrize("name", ["etcd", "etcd/lock", "etcd/cluster.json"])
def test_cluster_of_etcd_of_another_user_is_told_likewise(tmp_path, name):
    flags = ("--engine", "etcd", "--local-members", "1")
    with Served(tmp_path, *flags) as server:
        server.stop()
    path = tmp_path / "data" / name
    path.chmod(0o700 if path.is_dir() else 0o600)
    give_away(path)

    line = refusal(tmp_path, *flags)

    assert "cannot use " in line
    assert f"{THEM}, mode 0" in line
    assert f"`chown {'-R ' if name == 'etcd' else ''}" in line
    assert line.endswith("; or use another --data-dir")


# --- Other files -------------------------------------------------------------------------


def closed(path: Path) -> Path:
    """A file of another user that nobody else may read."""
    path.write_text("")
    path.chmod(0o600)
    give_away(path)
    return path


def closed_folder(path: Path) -> Path:
    path.mkdir(mode=0o755)
    give_away(path)
    return path


def test_settings_that_may_not_be_read_say_whose_they_are(tmp_path):
    closed(tmp_path / "kv.toml")

    line = refusal(tmp_path)

    assert line.startswith("run.py: cannot read kv.toml: it belongs to ")
    assert THEM in line
    assert "chown" in line


def test_key_for_tls_that_may_not_be_read_says_whose_it_is(tmp_path):
    closed(tmp_path / "ca.pem")
    flags = ("--etcd-endpoints", "https://127.0.0.1:1", "--etcd-ca", "ca.pem")

    line = refusal(tmp_path, "--engine", "etcd", *flags)

    assert "cannot use etcd_ca=ca.pem: it belongs to " in line
    assert THEM in line


@pytest.mark.parametrize(
    "words",
    [
        ("check", "file"),
        ("simulate", "--replay", "file"),
        ("restore", "--check", "file"),
    ],
)
def test_file_to_read_that_may_not_be_read_says_whose_it_is(tmp_path, words):
    closed(tmp_path / "file")

    line = said(tmp_path, *RUN, *words)

    assert "cannot read file: it belongs to " in line
    assert THEM in line


@pytest.mark.parametrize(
    "words",
    [
        ("experiment", "paper"),
        ("experiment", "paper", "--out", "results"),
        ("bench", "--quick", "--only", "memory"),
        ("bench", "--quick", "--only", "memory", "--out", "results/mine"),
    ],
)
def test_results_that_may_not_be_written_are_refused_before_the_run(tmp_path, words):
    closed_folder(tmp_path / "results")

    line = said(tmp_path, *RUN, *words)

    assert "results" in line
    assert THEM in line
    assert line.endswith("; or give --out another folder")


def test_history_that_may_not_be_written_says_whose_its_folder_is(tmp_path):
    closed_folder(tmp_path / "results")
    words = ("simulate", "--seed", "1", "--history", "results/history.jsonl")

    line = said(tmp_path, *RUN, *words)

    assert "cannot write results/history.jsonl: results belongs to " in line
    assert THEM in line


def test_backup_that_may_not_be_written_says_whose_its_folder_is(tmp_path):
    closed_folder(tmp_path / "backups")
    with Served(tmp_path, "--storage", "memory") as server:
        line = said(tmp_path, *RUN, "backup", "--url", server.url, "backups/monday.kv")

    assert "cannot write backups/monday.kv: backups belongs to " in line
    assert THEM in line
    assert "no backup was made" in line
