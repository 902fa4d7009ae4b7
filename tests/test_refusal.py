"""A start that is refused says what would work, and each of its ways out does."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from backends.local_state import ClusterMismatch, load
from config import Settings
from flags import load_settings
from replication import SettingsMismatch, open_manager


def refusal(folder: Path, *flags: str) -> str:
    """What a start on data of 3 nodes says, with other settings."""
    with open_manager(Settings(data_dir=folder, durability="os")) as store:
        store.write("key", 1)
    with pytest.raises(SettingsMismatch) as caught:
        open_manager(load_settings([*flags, "--data-dir", str(folder)], {}))
    return str(caught.value)


def keys(*flags: str) -> list[str]:
    """The keys of a store with these flags, which starts."""
    with open_manager(load_settings([*flags, "--durability", "os"], {})) as store:
        return [key.key for key in store.keys().keys]


SHAPES = [
    ("--nodes", "5", "--replication-factor", "3"),
    ("--nodes", "2"),
    ("--replication-factor", "3"),
    ("--placement", "full"),
]


@pytest.mark.parametrize("flags", SHAPES)
def test_flags_with_which_data_were_written_can_be_pasted(tmp_path, flags):
    line = refusal(tmp_path / "my data", *flags)

    (written,) = re.findall(r"written with (--[^:]+):", line)
    (asked,) = re.findall(r" with (--[^,]+), as they", line)

    assert keys(*shlex.split(written), "--data-dir", str(tmp_path / "my data")) == [
        "key"
    ]
    assert {*flags} <= {*shlex.split(asked)}


@pytest.mark.parametrize("flags", SHAPES)
def test_folder_to_begin_anew_in_can_be_pasted_with_the_settings_asked_for(
    tmp_path, flags
):
    line = refusal(tmp_path / "my data", *flags)

    (fresh,) = re.findall(r"with (--data-dir (?:'[^']+'|\S+)),", line)

    words = shlex.split(fresh)
    assert keys(*flags, *words) == []
    assert keys(*flags, *words) == []  # and again: it is of this shape now
    assert keys("--data-dir", str(tmp_path / "my data")) == ["key"]


def test_command_that_makes_room_in_the_folder_removes_the_nodes_and_nothing_else(
    tmp_path,
):
    folder = tmp_path / "my data"
    line = refusal(folder, "--nodes", "5")
    (folder / "notes.txt").write_text("mine")
    (command,) = re.findall(r"`(rm [^`]+)`", line)

    subprocess.run(["sh", "-c", command], check=True, cwd=tmp_path)

    assert keys("--nodes", "5", "--data-dir", str(folder)) == []
    assert (folder / "notes.txt").read_text() == "mine"


def test_way_to_take_the_data_along_is_named(tmp_path):
    line = refusal(tmp_path / "data", "--nodes", "5")

    assert "run.py backup, then run.py restore" in line


def test_cluster_of_etcd_of_another_size_says_how_to_begin_anew(tmp_path):
    folder = tmp_path / "my etcd"
    folder.mkdir()
    load(folder, 3)
    with pytest.raises(ClusterMismatch) as caught:
        load(folder, 5)
    (command,) = re.findall(r"`(rm [^`]+)`", str(caught.value))

    subprocess.run(["sh", "-c", command], check=True, cwd=tmp_path)
    folder.mkdir()

    assert len(load(folder, 5).members) == 5
    assert "--local-members 3" in str(caught.value)
    assert "another --data-dir" in str(caught.value)
