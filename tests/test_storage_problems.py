"""Storage with a problem: what cannot be read, or not yet, or not be written anew."""

import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

import storage.file as storage_file
from db import FormatUnknown, SqliteStorage, StorageEnded, open_storage
from storage.file import RecordFile
from storage.rows import meta_row
from tests.storage_case import (
    FIRST,
    MARK,
    PLAIN,
    FaultyDisk,
    alter,
    by_key,
    copy_files,
    failed_flush,
    failed_read,
    faulty_disk,
    file_bytes,
    finish,
    held,
    names,
    no_room,
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


def prepared(folder: Path, vfs: str = PLAIN) -> SqliteStorage:
    made = open_durable(folder, vfs)
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
    assert names(folder) == [FIRST, MARK]


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
    row = meta_row(("format", form))
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


# --- A file that cannot be written anew --------------------------------------------------


@pytest.mark.parametrize("error", [no_room, failed_flush])
def test_file_that_cannot_be_written_anew_is_a_problem_until_it_can(
    disk, tmp_path, error
):
    made = prepared(tmp_path / "live", disk.name)
    identity = made.identity
    alter(made, "delete from records where key = 'b'")
    disk.fail_always(error, "write", "flush")

    with pytest.raises(StorageEnded):
        made.scrub(1_000)

    assert made.problem is not None
    assert str(tmp_path) in made.problem
    assert (held(made), made.identity) == (ALL, identity)  # in memory, to be read
    with pytest.raises(StorageEnded):
        put(made, LATER)
    assert made.scrub(1_000) is None  # known already
    again = open_durable(copy_files(tmp_path / "live", tmp_path / "killed"))
    assert again.damage is not None
    assert again.identity != identity
    again.close()
    disk.mend()
    made.reopen()
    assert (made.identity, made.load_state()) == (identity, STATE)
    check_whole_and_used(made, tmp_path)


def check_whole_and_used(made: SqliteStorage, tmp_path: Path) -> None:
    put(made, LATER)
    live = tmp_path / "live"
    again = open_durable(copy_files(live, tmp_path / "reopened"))
    assert (held(again), again.damage) == ({**ALL, "later": LATER}, None)
    assert again.identity == made.identity
    again.close()
    made.close()


def test_file_written_anew_does_not_count_before_its_log_is_in_it(
    tmp_path, monkeypatch
):
    """SQLite hides that it could not take in the log when a file is closed."""
    made = prepared(tmp_path / "live")
    identity = made.identity
    alter(made, "delete from records where key = 'b'")
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    commit = RecordFile.commit

    def then_full(*given: Any) -> None:
        commit(*given)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, hard))

    monkeypatch.setattr(RecordFile, "commit", then_full)
    try:
        with pytest.raises(StorageEnded):
            made.scrub(1_000)
    finally:
        monkeypatch.undo()
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))

    assert made.problem is not None
    assert FIRST in names(tmp_path / "live")
    made.reopen()
    assert (held(made), made.identity) == (ALL, identity)
    check_whole_and_used(made, tmp_path)


def test_folder_in_whose_place_a_file_came_is_a_problem_until_it_went(tmp_path):
    made = prepared(tmp_path / "live")
    (tmp_path / "live").rename(tmp_path / "away")
    (tmp_path / "live").write_text("not a folder")

    with pytest.raises(StorageEnded, match="not a folder"):
        made.scrub(1_000)

    (tmp_path / "live").unlink()
    made.reopen()
    assert made.load_state() == STATE
    check_whole_and_used(made, tmp_path)
