"""Files that come apart while they are in use: scrubbing finds it and writes them anew."""

import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import pytest

import storage.file
import storage.rows
from db import SqliteStorage
from models import Record
from storage.content import bucket_of
from tests.storage_case import (
    FIRST,
    LOG,
    PLAIN,
    SECOND,
    FaultyDisk,
    alter,
    by_key,
    copy_files,
    failed_read,
    faulty_disk,
    file_of,
    files_of,
    finish,
    flip,
    held,
    names,
    open_durable,
    open_folder,
    put,
    record,
)

MANY = by_key(*(record(f"k{n}", n + 1, b'"value of %d"' % n) for n in range(300)))
IN_ORDER = sorted(MANY, key=bucket_of)
STATE = (7, b'{"fence": 3}')
LATER = record("later", 9_000)
WRITE_ROW = "insert or replace into records values (?, ?, ?, ?, ?, ?)"
ROUND = 1_000  # rows: more than there are


@pytest.fixture
def disk() -> Iterator[FaultyDisk]:
    with faulty_disk() as made:
        yield made


def prepared(folder: Path, vfs: str = PLAIN) -> SqliteStorage:
    """A storage of MANY and STATE, all of it in the file but the first key's row."""
    made = open_durable(folder, vfs)
    put(made, record(IN_ORDER[0], 0), *list(MANY.values()))
    finish(made.save_state(6, b"older"))
    file_of(made).take_in_log()
    put(made, record("in the log", 5_000, b'"value in the log"'))
    finish(made.save_state(*STATE))
    return made


WHOLE = {**MANY, "in the log": record("in the log", 5_000, b'"value in the log"')}


def last_place(path: Path, text: bytes) -> int:
    place = path.read_bytes().rfind(text)
    assert place >= 0, f"{path.name} does not have it (text={text!r})"
    return place


def one_round(made: SqliteStorage, rows_max: int) -> list[str | None]:
    """What each slice found until all were looked at once."""
    found = [made.scrub(rows_max)]
    while made._scrubbed != 0:
        found.append(made.scrub(rows_max))
    return found


# --- What it finds -----------------------------------------------------------------------


def write_meta(made: SqliteStorage, name: str, value: Any) -> None:
    """With the checksum that belongs to it."""
    alter(made, storage.file.WRITE_META, storage.rows.meta_row((name, value)))


def write_row(made: SqliteStorage, row: tuple[Any, ...]) -> None:
    alter(made, WRITE_ROW, row)


def forget(made: SqliteStorage, folder: Path) -> None:
    alter(made, "delete from records where key = 'k7'")


def flip_in_file(made: SqliteStorage, folder: Path) -> None:
    flip(folder / FIRST, last_place(folder / FIRST, b"value of 123"))


def flip_in_log(made: SqliteStorage, folder: Path) -> None:
    flip(folder / LOG, last_place(folder / LOG, b"value in the log"))


def blank_a_page(made: SqliteStorage, folder: Path) -> None:
    page = last_place(folder / FIRST, b"value of 123") // 4_096 * 4_096
    with (folder / FIRST).open("r+b") as file:
        file.seek(page)
        file.write(bytes(4_096))


def older_row(made: SqliteStorage, folder: Path) -> None:
    write_row(made, storage.rows.row_of(record("k7", 1, b'"was right once"')))


def row_of_nobody(made: SqliteStorage, folder: Path) -> None:
    write_row(made, storage.rows.row_of(record("never written", 1)))


def older_digest(made: SqliteStorage, folder: Path) -> None:
    write_row(made, storage.rows.digest_row(12_345, 3, made.identity))


def other_identity(made: SqliteStorage, folder: Path) -> None:
    write_meta(made, "identity", "another")


def older_state(made: SqliteStorage, folder: Path) -> None:
    write_meta(made, "epoch", 6)
    write_meta(made, "state", b"older")


def newer_format(made: SqliteStorage, folder: Path) -> None:
    write_meta(made, "format", storage.file.FORMAT + 1)


def no_table(made: SqliteStorage, folder: Path) -> None:
    file_of(made)._database.execute("drop table records")


def file_deleted(made: SqliteStorage, folder: Path) -> None:
    (folder / FIRST).unlink()


def log_deleted(made: SqliteStorage, folder: Path) -> None:
    (folder / LOG).unlink()


def file_replaced(made: SqliteStorage, folder: Path) -> None:
    shutil.copy(folder / FIRST, folder / "copy")
    (folder / "copy").replace(folder / FIRST)


def log_replaced(made: SqliteStorage, folder: Path) -> None:
    shutil.copy(folder / LOG, folder / "copy")
    (folder / "copy").replace(folder / LOG)


def folder_deleted(made: SqliteStorage, folder: Path) -> None:
    shutil.rmtree(folder)


def folder_replaced(made: SqliteStorage, folder: Path) -> None:
    folder.rename(folder.with_name("away"))
    open_folder(folder).close()  # with a file of the same name, of another node


def parent_deleted(made: SqliteStorage, folder: Path) -> None:
    shutil.rmtree(folder.parent)


DAMAGES: list[Callable[[SqliteStorage, Path], None]] = [
    forget,
    flip_in_file,
    flip_in_log,
    blank_a_page,
    older_row,
    row_of_nobody,
    older_digest,
    other_identity,
    older_state,
    newer_format,
    no_table,
    file_deleted,
    log_deleted,
    file_replaced,
    log_replaced,
    folder_deleted,
    folder_replaced,
    parent_deleted,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_to_a_file_in_use_is_found_and_mended_for_good(tmp_path, damage):
    folder = tmp_path / "data" / "node"
    made = prepared(folder)
    identity = made.identity
    assert set(one_round(made, 50)) == {None}  # what SQLite keeps of it is warm

    damage(made, folder)
    [found] = [text for text in one_round(made, 50) if text is not None][:1]

    assert str(folder) in found
    assert (made.problem, made.damage, made.identity) == (None, None, identity)
    assert (held(made), made.load_state()) == (WHOLE, STATE)
    again = open_durable(copy_files(folder, tmp_path / "killed"))
    assert (again.identity, again.damage) == (identity, None)
    assert (held(again), again.load_state()) == (WHOLE, STATE)
    again.close()
    assert set(one_round(made, 50)) == {None}
    put(made, LATER)
    made.close()
    again = open_folder(folder)
    assert (held(again), again.identity) == ({**WHOLE, "later": LATER}, identity)
    again.close()


def test_disk_that_does_not_let_a_row_be_read_is_left_for_a_new_file(disk, tmp_path):
    made = prepared(tmp_path, disk.name)
    disk.fail(failed_read, 3, "read")

    found = made.scrub(ROUND)

    assert found is not None
    assert made.problem is None
    again = open_durable(copy_files(tmp_path, tmp_path / "killed"))
    assert (held(again), again.identity) == (WHOLE, made.identity)
    again.close()
    made.close()


def test_what_was_found_damaged_is_kept_for_whoever_wants_to_look_at_it(tmp_path):
    made = prepared(tmp_path)
    forget(made, tmp_path)

    made.scrub(ROUND)

    aside = [f"damaged-{name}" for name in files_of(FIRST)]
    assert names(tmp_path) == [*aside, *files_of(SECOND)]
    database = apsw.Connection(str(tmp_path / f"damaged-{FIRST}"))
    [(count,)] = database.execute("select count(*) from records where bucket >= 0")
    database.close()
    assert count == len(WHOLE) - 1
    made.close()


# --- Slices ------------------------------------------------------------------------------


@pytest.mark.parametrize("rows_max", [1, 7, 100])
def test_round_in_slices_leaves_no_row_out(tmp_path, rows_max):
    made = prepared(tmp_path)
    slices = len(one_round(made, rows_max))
    assert len(WHOLE) // (2 * rows_max) <= slices <= len(WHOLE) // rows_max + 1

    for key in (IN_ORDER[0], *IN_ORDER[100:103], IN_ORDER[-1]):
        alter(made, "update records set checksum = checksum + 1 where key = ?", (key,))
        found = [text for text in one_round(made, rows_max) if text is not None]
        assert len(found) == 1, key
    for key in (IN_ORDER[0], IN_ORDER[150], IN_ORDER[-1]):
        alter(made, "delete from records where key = ?", (key,))
        found = [text for text in one_round(made, rows_max) if text is not None]
        assert len(found) == 1, key
    made.close()


def test_slice_does_not_read_more_than_it_may(disk, tmp_path):
    made = open_folder(tmp_path, vfs=disk.name)
    put(made, *(record(f"k{n}", 1, b"1" * 3_000) for n in range(100)))
    made.scrub(50)
    disk.calls.clear()
    made.scrub(10)
    some = len(disk.calls)
    disk.calls.clear()
    made.scrub(ROUND)

    assert 10 <= some < 30  # a row on each page, and what leads to them
    assert len(disk.calls) >= 40
    made.close()


def test_round_of_a_storage_with_nothing_in_it_ends(tmp_path):
    made = open_folder(tmp_path)
    assert one_round(made, 1) == [None]
    put(made, record("k", 1))
    finish(made.purge({"k": record("k", 1).version}))
    assert one_round(made, 1) == [None]

    row_of_nobody(made, tmp_path)
    assert made.scrub(1) is not None

    assert held(made) == {}
    made.close()
    assert made.scrub(1) is None  # it is closed: there is nothing to look at


def test_wiped_storage_is_looked_at_from_its_beginning(tmp_path):
    made = prepared(tmp_path)
    made.scrub(10)
    made.wipe()
    put(made, *MANY.values())

    alter(made, "delete from records where key = ?", (IN_ORDER[0],))

    assert made.scrub(1) is not None
    made.close()


def test_scrub_does_not_look_into_the_middle_of_a_commit(tmp_path, monkeypatch):
    made = open_folder(tmp_path)
    put(made, record("k", 1))
    began, go_on = threading.Event(), threading.Event()
    found: list[str | None] = []
    show = made.content.put_many

    def in_the_middle(records: list[Record]) -> None:  # in the file, not in memory
        began.set()
        assert go_on.wait(timeout=30)
        show(records)

    monkeypatch.setattr(made.content, "put_many", in_the_middle)
    writer = threading.Thread(target=lambda: put(made, record("k", 2)))
    writer.start()
    assert began.wait(timeout=30)
    scrubber = threading.Thread(target=lambda: found.append(made.scrub(ROUND)))
    scrubber.start()
    scrubber.join(timeout=0.05)
    early = found.copy()
    go_on.set()
    for thread in (writer, scrubber):
        thread.join(timeout=30)

    assert (early, found) == ([], [None])
    made.close()


def test_nothing_is_found_wrong_between_the_writes_of_other_threads(tmp_path):
    made = open_folder(tmp_path)
    ended = threading.Event()
    found: list[str | None] = []

    def scrub() -> None:
        while not ended.is_set() or len(found) < 10:
            found.append(made.scrub(3))

    def write(writer: int) -> None:
        for turn in range(60):
            one = record(f"k{turn % 20}", turn * 4 + writer + 1, b"%d" % turn)
            put(made, one, record(f"own-{writer}-{turn}", 1))
            finish(made.purge({f"own-{writer}-{turn - 1}": record("", 1).version}))
            finish(made.save_state(turn * 4 + writer, b"state"))

    scrubber = threading.Thread(target=scrub)
    writers = [threading.Thread(target=partial(write, n)) for n in range(4)]
    for thread in (scrubber, *writers):
        thread.start()
    for thread in writers:
        thread.join(timeout=60)
    ended.set()
    scrubber.join(timeout=60)

    assert not any(thread.is_alive() for thread in (scrubber, *writers))
    assert set(found) == {None}
    assert set(one_round(made, 3)) == {None}
    made.close()
    again = open_folder(tmp_path)
    assert held(again) == held(made)
    assert len(held(again)) == 24
    again.close()
