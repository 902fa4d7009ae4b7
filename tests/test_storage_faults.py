"""Disks that are full, fail to write, fail to flush, or lose power.

A failure may refuse, leave in doubt or end the storage. What was acknowledged is there
when it is opened again, and of what was not there is all of a commit or nothing.
"""

import errno
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from db import SqliteStorage, StorageEnded, open_storage
from models import Record, Refused, Unconfirmed
from storage import connection
from tests.storage_case import (
    FIRST,
    SECOND,
    FaultyDisk,
    copy_files,
    failed_flush,
    failed_write,
    faulty_disk,
    file_of,
    files_of,
    finish,
    held,
    names,
    no_room,
    open_durable,
    open_folder,
    put,
    record,
)

BEFORE = {"a": record("a", 1), "gone": record("gone", 1, None)}
AFTER = {"a": record("a", 2, b'"' + b"2" * 9_000 + b'"'), "b": record("b", 2)}
LATER = record("later", 3)


@pytest.fixture
def disk() -> Iterator[FaultyDisk]:
    with faulty_disk() as made:
        yield made


def stage_a_change(storage: SqliteStorage) -> list[Any]:
    """Of everything that a commit can hold, one: from BEFORE to AFTER."""
    return [
        storage.put_many(list(AFTER.values())),
        storage.purge({"gone": BEFORE["gone"].version}),
        storage.save_state(2, b"after"),
    ]


def prepared(folder: Path) -> SqliteStorage:
    storage = open_durable(folder, FaultyDisk.name)
    put(storage, *BEFORE.values())
    finish(storage.save_state(1, b"before"))
    return storage


def calls_of_a_change(disk: FaultyDisk, folder: Path) -> list[str]:
    storage = prepared(folder)
    disk.calls.clear()
    for staged in stage_a_change(storage):
        staged.result()
    made = [kind for kind, _ in disk.calls]
    storage.close()
    return made


def killed(folder: Path, target: Path, **options: Any) -> SqliteStorage:
    """What a process finds that is started after this one was killed."""
    return open_durable(copy_files(folder, target), **options)


def check_killed(folder: Path, target: Path, *expected: dict[str, Record]) -> None:
    """A process that is killed now leaves one of these, and no damage."""
    again = killed(folder, target)
    assert (again.problem, again.damage) == (None, None)
    assert held(again) in expected
    again.close()


def test_put_is_not_answered_before_it_is_flushed(disk, tmp_path):
    calls = calls_of_a_change(disk, tmp_path / "fsync")
    storage = open_folder(tmp_path / "os", vfs=disk.name)
    put(storage, record("k", 1))  # SQLite flushes the head of a log that it begins anew
    disk.calls.clear()

    put(storage, record("k", 2))

    assert calls.count("flush") == 1  # for all three changes
    assert calls[-1] == "flush"
    kinds = {kind for kind, _ in disk.calls}
    assert "write" in kinds
    assert "flush" not in kinds
    storage.close()


# --- A disk that is full -----------------------------------------------------------------


def test_full_disk_leaves_no_half_and_later_puts_are_kept_again(disk, tmp_path):
    writes = calls_of_a_change(disk, tmp_path / "count").count("write")
    assert writes > 3
    for at in range(1, writes + 1):  # a flush does not fail for want of room
        folder = tmp_path / f"full-{at}"
        storage = prepared(folder)
        disk.fail(no_room, at, "write")

        for staged in stage_a_change(storage):
            with pytest.raises(Refused, match="the disk is full"):
                staged.result()

        assert (held(storage), storage.load_state()) == (BEFORE, (1, b"before"))
        assert storage.problem is None
        check_killed(folder, tmp_path / f"killed-{at}", BEFORE)  # refused for good
        disk.mend()
        assert put(storage, LATER) is None
        check_killed(folder, tmp_path / f"later-{at}", {**BEFORE, "later": LATER})
        storage.close()
        again = open_folder(folder)
        assert held(again) == {**BEFORE, "later": LATER}
        assert again.load_state() == (1, b"before")
        again.close()


def test_disk_that_fills_while_large_values_are_written_only_refuses(disk, tmp_path):
    storage = open_folder(tmp_path, vfs=disk.name)
    put(storage, record("k", 1))
    large = [record(f"large-{n}", 1, b"1" * (1 << 20)) for n in range(2)]
    disk.fail(no_room, 1, "write")  # SQLite writes early what its cache cannot hold

    with pytest.raises(Refused, match="the disk is full"):
        put(storage, *large)

    disk.mend()
    assert held(storage) == {"k": record("k", 1)}
    assert put(storage, *large) is None
    storage.close()


def test_file_that_may_not_grow_refuses_and_takes_what_still_fits(tmp_path):
    storage = open_folder(tmp_path)
    put(storage, record("k", 1))
    database = file_of(storage)._database
    pages = database.pragma("page_count")
    database.pragma("max_page_count", pages + 1)

    with pytest.raises(Refused, match="the disk is full"):
        put(storage, record("large", 1, b"1" * 50_000), record("k", 2))

    assert held(storage) == {"k": record("k", 1)}
    assert put(storage, record("k", 3)) is None
    database.pragma("max_page_count", pages + 1_000)
    assert put(storage, record("large", 1, b"1" * 50_000)) is None
    storage.close()
    again = open_folder(tmp_path)
    assert {r.key: r.version.ms for r in held(again).values()} == {"k": 3, "large": 1}
    again.close()


def test_trouble_is_told_until_a_record_fits_again(disk, tmp_path):
    storage = prepared(tmp_path)
    disk.fail(no_room, 1, "write")
    with pytest.raises(Refused):
        put(storage, record("k", 1))
    told = storage.trouble
    finish(storage.save_state(5, b"small"))
    still = storage.trouble
    put(storage, record("k", 2))

    assert told is not None
    assert "the disk is full" in told
    assert still == told
    assert storage.trouble is None
    storage.close()


# --- A write that fails ------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["write", "written"])
def test_write_that_fails_is_in_doubt_and_costs_nothing_else(disk, tmp_path, moment):
    writes = calls_of_a_change(disk, tmp_path / "count").count("write")
    for at in range(1, writes + 1):
        folder = tmp_path / f"failed-{at}"
        storage = prepared(folder)
        identity = storage.identity
        disk.fail(failed_write, at, moment)

        for staged in stage_a_change(storage):
            with pytest.raises(Unconfirmed):
                staged.result()

        assert storage.problem is None
        assert (held(storage), storage.load_state()) == (BEFORE, (1, b"before"))
        check_killed(folder, tmp_path / f"killed-{at}", BEFORE, AFTER)
        assert put(storage, LATER) is None
        assert storage.identity == identity
        check_killed(folder, tmp_path / f"later-{at}", {**BEFORE, "later": LATER})
        for staged in stage_a_change(storage):
            staged.result()
        again = killed(folder, tmp_path / f"retried-{at}")
        assert (held(again), again.load_state()) == (held(storage), (2, b"after"))
        assert held(again) == {**AFTER, "later": LATER}
        again.close()
        storage.close()


def test_failed_writes_of_any_length_do_not_pass_for_damage_after_a_kill(
    disk, tmp_path
):
    draw = random.Random(3)
    for number in range(12):
        storage = prepared(tmp_path / f"{number}")
        for turn in range(3):  # each leaves its frames behind the end of the log
            at = draw.randint(1, 14)
            disk.fail(failed_write, at, "written")
            with pytest.raises(Unconfirmed):
                put(
                    storage,
                    record("big", turn + 1, b"1" * draw.randint(30_000, 60_000)),
                )
        put(storage, LATER)
        expected = {**BEFORE, "later": LATER}
        check_killed(tmp_path / f"{number}", tmp_path / f"killed-{number}", expected)
        storage.close()


# --- A flush that fails, and whatever else may -------------------------------------------


def test_flush_that_failed_is_not_tried_again_and_believed(disk, tmp_path):
    storage = prepared(tmp_path / "live")
    identity = storage.identity
    disk.fail(failed_flush, 1, "flush")
    for staged in stage_a_change(storage):
        with pytest.raises(StorageEnded):
            staged.result()
    for answer in (put, lambda s, r: finish(s.save_state(9, b""))):
        with pytest.raises(StorageEnded):  # the disk is well again: too late
            answer(storage, LATER)
    problem = storage.problem
    check_killed(tmp_path / "live", tmp_path / "killed", BEFORE, AFTER)

    storage.reopen()

    assert problem is not None
    assert str(tmp_path / "live") in problem
    assert (storage.problem, storage.damage) == (None, None)
    assert (held(storage), storage.load_state()) == (BEFORE, (1, b"before"))
    assert names(tmp_path / "live")[-3:] == files_of(SECOND)
    check_killed(tmp_path / "live", tmp_path / "reopened", BEFORE)  # nothing of AFTER
    put(storage, *AFTER.values())  # unless it is tried again
    again = killed(tmp_path / "live", tmp_path / "retried")
    assert held(again) == {**BEFORE, **AFTER}
    assert (again.identity, again.load_state()) == (identity, (1, b"before"))
    again.close()
    storage.close()


def test_no_other_failure_of_a_disk_loses_what_was_acknowledged(disk, tmp_path):
    calls = calls_of_a_change(disk, tmp_path / "count")
    for at in range(1, len(calls) + 1):
        folder = tmp_path / f"broken-{at}"
        storage = prepared(folder)
        disk.fail(apsw.IOError, at, *set(calls))
        ended = [staged for staged in stage_a_change(storage) if not kept(staged)]

        if ended:
            assert storage.problem is not None
            assert (held(storage), storage.load_state()) == (BEFORE, (1, b"before"))
            check_killed(folder, tmp_path / f"killed-{at}", BEFORE, AFTER)
            storage.reopen()
        expected = BEFORE if ended else AFTER
        assert held(storage) == expected
        put(storage, LATER)
        storage.close()
        again = open_folder(folder)
        assert held(again) == {**expected, "later": LATER}
        again.close()


def kept(staged: Any) -> bool:
    try:
        staged.result()
    except StorageEnded:
        return False
    return True


def test_reopening_on_a_disk_that_still_fails_says_so_and_works_once_it_does_not(
    disk, tmp_path
):
    storage = prepared(tmp_path)
    disk.fail(failed_flush, 1, "flush")
    with pytest.raises(StorageEnded):
        put(storage, LATER)
    first = storage.problem
    for error in (no_room, failed_write, failed_flush):
        disk.fail(error, 1, "write", "flush", file=".new-wal")
        with pytest.raises(StorageEnded, match="disk"):
            storage.reopen()
        assert storage.problem is not None
        with pytest.raises(StorageEnded):
            put(storage, LATER)

    disk.mend()
    storage.reopen()
    storage.reopen()  # nothing is wrong any more: nothing is done

    assert first is not None
    aside = [f"damaged-{name}" for name in files_of(FIRST)]
    assert names(tmp_path) == [*aside, *files_of(SECOND)]
    assert held(storage) == BEFORE
    assert put(storage, LATER) is None
    storage.close()


def test_broken_storage_that_is_wiped_does_not_stay_broken(disk, tmp_path):
    storage = prepared(tmp_path)
    identity = storage.identity
    disk.fail(failed_flush, 1, "flush")
    with pytest.raises(StorageEnded):
        put(storage, record("k", 1))
    disk.mend()

    storage.wipe()

    assert (storage.problem, storage.identity == identity) == (None, False)
    assert put(storage, record("new", 1)) is None
    assert set(held(storage)) == {"new"}
    storage.close()


def test_wipe_that_cannot_make_files_anew_says_so_and_shows_nothing_old(disk, tmp_path):
    storage = prepared(tmp_path)
    identity = storage.identity
    disk.fail_always(no_room, "write")

    with pytest.raises(StorageEnded):
        storage.wipe()

    assert storage.problem is not None
    assert (held(storage), storage.load_state()) == ({}, None)
    assert storage.identity != identity
    disk.mend()
    storage.reopen()
    assert put(storage, record("new", 1)) is None
    assert identity != storage.identity != ""
    storage.close()


def test_interrupted_commit_does_not_cost_the_file_at_the_next_start(
    tmp_path, monkeypatch
):
    storage = open_folder(tmp_path)
    put(storage, record("k", 1), record("other", 1))
    keep = storage.content.put_many

    def interrupted(records):
        monkeypatch.setattr(storage.content, "put_many", keep)
        raise KeyboardInterrupt

    monkeypatch.setattr(storage.content, "put_many", interrupted)
    with pytest.raises(KeyboardInterrupt):
        put(storage, record("k", 2))
    try:
        put(storage, record("k", 3))
    except StorageEnded:
        acknowledged = 1
    else:
        acknowledged = 3
    storage.close()

    again = open_storage(tmp_path, durable=False)
    left = held(again)
    again.close()
    assert set(left) == {"k", "other"}
    assert left["k"].version.ms >= acknowledged


def test_log_that_does_not_fit_on_the_disk_leaves_the_room_that_there_is(
    tmp_path, monkeypatch
):
    log, left = tmp_path / "log", [3]
    log.write_bytes(b"begun")
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        left[0] -= 1
        if not left[0]:
            raise OSError(errno.ENOSPC, "planted")
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)

    laid_out = connection.extend(log, 10_000_000)

    assert (laid_out, log.read_bytes()) == (0, b"begun")


def test_wiped_storage_does_not_tell_of_damage_that_went_with_its_files(tmp_path):
    (tmp_path / FIRST).write_bytes(b"no database at all")
    storage = open_folder(tmp_path)
    assert storage.damage is not None

    storage.wipe()

    assert storage.damage is None
    storage.close()
