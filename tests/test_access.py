"""access.py: what stands in the way to a file or folder, whose it is and what would help."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import access
from access import CHANGE, ENTER, KEEP, READ, WRITE, Use, cannot, obstacle
from tests.ordinary_user import OTHER, as_ordinary_user, give_away

ROOT = Path(__file__).resolve().parent.parent
USES = {"READ": READ, "WRITE": WRITE, "CHANGE": CHANGE, "ENTER": ENTER, "KEEP": KEEP}
LOOK = """
import sys
from pathlib import Path
import access
path = Path(sys.argv[2])
found = access.obstacle(path, getattr(access, sys.argv[1]))
print(found and found.told_of(path))
"""


def told(folder: Path, name: str, use: Use) -> str:
    """What an ordinary user whose folder that is has in the way to a path in it."""
    (word,) = (each for each, known in USES.items() if known is use)
    made = subprocess.run(
        as_ordinary_user(sys.executable, "-c", LOOK, word, name),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return made.stdout.strip()


@pytest.mark.parametrize("use", [READ, CHANGE])
def test_file_of_another_user_is_told_with_its_owner_and_both_ways_out(tmp_path, use):
    file = tmp_path / "kv.toml"
    file.write_text("")
    file.chmod(0o600)
    give_away(file)

    line = told(tmp_path, "kv.toml", use)

    assert line.startswith("it belongs to ")
    assert f"(uid {OTHER}), mode 0600, and this process runs as " in line
    assert f"(uid {os.geteuid()}): run it as " in line
    assert line.endswith(" kv.toml`")
    assert "`chown " in line


def test_file_that_may_be_read_and_not_changed_is_in_the_way_of_a_change_only(tmp_path):
    file = tmp_path / "records-1.db-wal"
    file.write_text("")
    file.chmod(0o644)
    give_away(file)

    answers = [told(tmp_path, file.name, use) for use in (READ, CHANGE, WRITE)]

    assert answers[0] == "None"
    assert all("mode 0644" in answer for answer in answers[1:])


@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_folder_of_another_user_is_named_and_not_what_would_be_in_it(tmp_path, mode):
    folder = tmp_path / "data"
    folder.mkdir(mode=mode)
    give_away(folder)

    line = told(tmp_path, "data", KEEP)

    assert line.startswith("it belongs to ")
    assert f"mode {mode:04o}" in line
    assert "`chown -R " in line


def test_nobody_is_told_to_change_the_owner_of_a_folder_on_the_way(tmp_path):
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    give_away(folder)

    lines = [told(tmp_path, "home/kv/data", use) for use in (READ, WRITE, ENTER, KEEP)]

    for line in lines:
        assert line.startswith("home belongs to ")
        assert "chown" not in line
        assert "choose a place that is ours" in line


def test_folder_that_cannot_be_made_says_how_root_would_make_it(tmp_path):
    folder = tmp_path / "srv"
    folder.mkdir(mode=0o755)
    give_away(folder)

    line = told(tmp_path, "srv/kv data", KEEP)

    assert line.startswith("srv belongs to ")
    assert "`install -d -m 700 -o " in line
    assert line.endswith(" 'srv/kv data'`")


def test_folder_it_was_started_in_is_not_called_a_dot(tmp_path):
    folder = tmp_path / "here"
    folder.mkdir()
    folder.chmod(0o555)

    line = told(folder, "data", KEEP)

    assert line.startswith("the folder it was started in is ours, but its mode 0555")
    assert line.endswith("chmod u+wx .")


def test_own_folder_without_the_rights_needs_no_other_user(tmp_path):
    folder = tmp_path / "node-0"
    folder.mkdir()
    folder.chmod(0o500)

    assert told(tmp_path, "node-0", ENTER) == "None"
    line = told(tmp_path, "node-0", KEEP)

    assert line == "it is ours, but its mode 0500 keeps us out: chmod u+rwx node-0"


def test_root_is_no_user_to_run_it_as(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    monkeypatch.setattr(os, "geteuid", lambda: OTHER)

    found = obstacle(Path("/"), KEEP)

    assert found is not None
    assert "belongs to root (uid 0)" in found.why
    assert "run it as" not in found.remedy


def test_user_without_a_name_is_told_by_number(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_111_222)

    found = obstacle(tmp_path, KEEP)

    assert found is not None
    assert found.why.endswith("runs as uid 4000111222")
    assert "chown -R 4000111222 " in found.remedy


def test_read_only_file_system_is_not_called_one_of_rights(tmp_path, monkeypatch):
    flags = SimpleNamespace(f_flag=os.ST_RDONLY)
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    monkeypatch.setattr(os, "statvfs", lambda _: flags)

    found = obstacle(tmp_path, KEEP)

    assert found is not None
    assert found.told_of(tmp_path) == (
        "it is on a file system that is read-only: mount it for writing"
    )


def test_rights_that_mode_and_owner_do_not_explain_are_not_explained_by_them(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(os, "access", lambda *_, **__: False)

    found = obstacle(tmp_path, KEEP)

    assert found is not None
    assert "and yet we are kept out" in found.why
    assert "lsattr" in found.remedy


@pytest.mark.parametrize(
    ("name", "use", "words"),
    [
        ("file/data", KEEP, "file is not a folder"),
        ("file", KEEP, "it is not a folder"),
        ("file", ENTER, "it is not a folder"),
        ("folder", READ, "it is a folder, not a file"),
        ("folder", WRITE, "it is a folder, not a file"),
        ("nothing", READ, "it is not there"),
        ("nothing/file", WRITE, "nothing is not there"),
        ("nothing", ENTER, "it is not there"),
        ("dangling", KEEP, "it is a symbolic link to nowhere, which is not there"),
        ("dangling/data", KEEP, "dangling is a symbolic link to nowhere"),
        ("dangling", READ, "it is a symbolic link to nowhere"),
        ("loop", KEEP, "it cannot be looked up (Too many levels of symbolic links)"),
        ("x" * 300, KEEP, "it cannot be looked up (File name too long)"),
    ],
)
def test_what_is_no_matter_of_rights_is_told_as_what_it_is(
    tmp_path, monkeypatch, name, use, words
):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    Path("folder").mkdir()
    Path("dangling").symlink_to("nowhere")
    Path("loop").symlink_to("loop")

    found = obstacle(Path(name), use)

    assert found is not None
    assert found.told_of(Path(name)).startswith(words)


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("file", READ),
        ("file", WRITE),
        ("file", CHANGE),
        ("new", WRITE),
        ("folder", ENTER),
        ("folder", KEEP),
        ("new/folder", KEEP),
        ("link/new", KEEP),
        ("../folder/new", KEEP),
    ],
)
def test_nothing_is_in_the_way_of_what_can_be_used(tmp_path, monkeypatch, name, use):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("folder")
    monkeypatch.chdir(tmp_path / "folder" if name.startswith("..") else tmp_path)

    assert obstacle(Path(name), use) is None
    assert not Path("new").exists()  # it only looked


def test_error_that_the_way_does_not_explain_says_itself_what_it_is(tmp_path):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "part")

    line = cannot(WRITE, tmp_path / "file", full, "write elsewhere")

    assert line == (
        f"cannot write {tmp_path / 'file'}: No space left on device; or write elsewhere"
    )


def test_file_within_a_folder_of_ours_is_named_if_it_is_what_is_in_the_way(
    tmp_path, monkeypatch
):
    lock = tmp_path / "lock"
    lock.write_text("")
    error = PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(lock))
    monkeypatch.setattr(os, "access", lambda path, *_, **__: Path(path) != lock)
    monkeypatch.setattr(os, "geteuid", lambda: OTHER)

    line = cannot(KEEP, tmp_path, error, "use another folder")

    assert line.startswith(f"cannot use {tmp_path}: {lock} belongs to ")
    assert f"`chown nobody {lock}`" in line or f"`chown {OTHER} {lock}`" in line
    assert line.endswith("; or use another folder")


def test_error_without_a_number_says_what_its_text_says(tmp_path):
    told_before = PermissionError("it belongs to somebody: ask for it")

    line = cannot(KEEP, tmp_path, told_before)

    assert line == f"cannot use {tmp_path}: it belongs to somebody: ask for it"
    with pytest.raises(PermissionError, match="not there: check the name"):
        access.require(tmp_path / "nothing", READ)
