"""Folders that cannot be read, or not yet, and files of another version of the program."""

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

import storage.file as storage_file
from db import FormatUnknown, SqliteStorage, StorageEnded, open_storage
from tests.storage_case import (
    FIRST,
    FaultyDisk,
    alter,
    by_key,
    copy_files,
    failed_read,
    faulty_disk,
    file_bytes,
    finish,
    held,
    names,
    open_durable,
    open_folder,
    put,
    record,
)

STATE = (7, b"state")
ALL = by_key(record("a", 1), record("b", 2), record("gone", 3, None))
LATER = record("later", 99)


@pytest.fixture
def disk() -> Iterator[FaultyDisk]:
    with faulty_disk() as made:
        yield made


def prepared(folder: Path) -> SqliteStorage:
    made = open_durable(folder)
    put(made, *ALL.values())
    finish(made.save_state(*STATE))
    return made


# --- A file or folder that cannot be read ------------------------------------------------


def test_sound_file_is_not_set_aside_when_the_disk_does_not_let_it_be_read(
    disk, tmp_path
):
    storage = prepared(tmp_path / "live")
    folder = copy_files(tmp_path / "live", tmp_path / "killed")  # with its log
    storage.close()
    before = names(folder)
    for error, kind, file in (
        (apsw.CantOpenError, "open", "-wal"),  # no more files can be opened
        (apsw.CantOpenError, "open", ".db"),
        (failed_read, "read", ".db"),
        (failed_read, "read", "-wal"),
    ):
        disk.fail(error, 1, kind, file=file)
        refused = open_folder(folder, vfs=disk.name)

        assert refused.problem is not None
        assert (held(refused), refused.load_state()) == ({}, None)
        assert (refused.identity, refused.damage) == ("", None)
        with pytest.raises(StorageEnded):
            put(refused, LATER)
        assert refused.scrub(10) is None  # there is nothing to compare with
        refused.close()
        assert names(folder) == before
        disk.mend()

    again = open_folder(folder)
    assert (held(again), again.identity) == (ALL, storage.identity)
    again.close()


def test_folder_that_could_not_be_read_at_the_start_is_not_empty_once_it_can(tmp_path):
    storage = prepared(tmp_path / "away")
    storage.close()
    folder = tmp_path / "node"
    folder.write_text("not a folder")

    late = open_folder(folder)
    problem = late.problem
    for _ in range(2):
        with pytest.raises(StorageEnded, match="not a folder"):
            late.reopen()
    with pytest.raises(StorageEnded):
        put(late, LATER)
    folder.unlink()
    (tmp_path / "away").rename(folder)
    late.reopen()

    assert problem is not None
    assert str(folder) in problem
    assert (late.problem, late.identity) == (None, storage.identity)
    assert (held(late), late.load_state()) == (ALL, STATE)
    assert put(late, LATER) is None
    late.close()
    assert names(folder) == [FIRST]


def test_reading_again_what_came_apart_meanwhile_finds_the_damage(tmp_path):
    storage = prepared(tmp_path / "away")
    storage.close()
    (tmp_path / "node").write_text("not a folder")
    late = open_folder(tmp_path / "node")
    (tmp_path / "node").unlink()
    (tmp_path / "away" / FIRST).write_bytes(b"damaged")
    (tmp_path / "away").rename(tmp_path / "node")

    late.reopen()

    assert late.problem is None
    assert late.damage is not None
    assert late.identity not in ("", storage.identity)
    assert held(late) == {}
    late.close()


# --- A file of another version -----------------------------------------------------------


def of_format(folder: Path, form: int) -> None:
    """A sound file, cleanly closed, that says that it is of this format."""
    storage = prepared(folder)
    row = storage_file._meta_row(("format", form))
    alter(storage, storage_file.WRITE_META, row)
    storage.close()


@pytest.mark.parametrize("newer", [1, 100])
def test_file_of_a_newer_version_is_neither_served_from_nor_touched(tmp_path, newer):
    of_format(tmp_path, storage_file.FORMAT + newer)
    before = file_bytes(tmp_path)

    for _ in range(2):
        with pytest.raises(FormatUnknown, match="use the version that wrote it"):
            open_storage(tmp_path)

    assert file_bytes(tmp_path) == before


def test_format_that_is_damaged_is_not_taken_for_a_newer_one(tmp_path):
    storage = prepared(tmp_path)
    alter(storage, "update meta set value = 99 where name = 'format'")
    storage.close()

    again = open_folder(tmp_path)

    assert again.damage is not None
    assert again.identity != storage.identity
    assert held(again) == ALL
    again.close()


def test_file_of_a_newer_version_in_a_folder_that_comes_late_is_not_touched(tmp_path):
    (tmp_path / "node").write_text("not a folder")
    late = open_folder(tmp_path / "node")
    of_format(tmp_path / "away", storage_file.FORMAT + 1)
    (tmp_path / "node").unlink()
    (tmp_path / "away").rename(tmp_path / "node")
    before = file_bytes(tmp_path / "node")

    with pytest.raises(StorageEnded, match="use the version that wrote it"):
        late.reopen()

    assert late.problem is not None
    late.close()
    assert file_bytes(tmp_path / "node") == before
