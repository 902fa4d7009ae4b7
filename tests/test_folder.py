"""A node's folder: which generation of files counts, whatever a kill left of another."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import pytest

from db import SqliteStorage, StorageEnded
from storage.folder import Folder
from tests.storage_case import (
    FIRST,
    LOG,
    MARK,
    SECOND,
    FaultyDisk,
    alter,
    by_key,
    copy_files,
    failed_flush,
    faulty_disk,
    file_of,
    finish,
    flip_in,
    held,
    left_by_kills,
    names,
    open_durable,
    open_folder,
    put,
    record,
)

STATE = (7, b"state")
ALL = by_key(*(record(f"k{n}", n + 1, b'"value %d"' % n) for n in range(8)))
LATER = record("later", 99)


@pytest.fixture
def disk() -> Iterator[FaultyDisk]:
    with faulty_disk() as made:
        yield made


def prepared(folder: Path, **options: Any) -> SqliteStorage:
    """A storage of ALL, in as many commits, and STATE."""
    made = open_durable(folder, **options)
    for one in ALL.values():
        put(made, one)
    finish(made.save_state(*STATE))
    return made


@pytest.fixture
def flushes(monkeypatch) -> list[tuple[int, int]]:
    """What is flushed but by SQLite, in order, as (device, inode)."""
    made: list[tuple[int, int]] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        made.append(identity_of(os.fstat(descriptor)))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return made


def identity_of(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


# --- The folder itself -------------------------------------------------------------------


def test_new_folders_do_not_vanish_in_a_power_cut_with_what_is_in_them(
    tmp_path, flushes
):
    way = [tmp_path, tmp_path / "data", tmp_path / "data" / "node-0"]

    open_folder(way[-1]).close()

    found = [identity_of(folder.stat()) for folder in way]
    mark = identity_of((way[-1] / MARK).stat())
    # Each once the next on the way was made in it.
    assert flushes == [*found, mark, found[-1]]
    flushes.clear()
    open_folder(way[-1]).close()
    assert flushes == []


def test_folders_made_on_the_way_are_not_open_to_other_users(tmp_path):
    umask = os.umask(0)
    try:
        Folder(tmp_path / "data" / "node-0").make()
    finally:
        os.umask(umask)

    for folder in (tmp_path / "data", tmp_path / "data" / "node-0"):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_folder_that_is_there_is_not_touched(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir(mode=0o750)
    (folder / "notes.txt").write_text("mine")
    before = folder.stat().st_mode

    storage = open_folder(folder)
    storage.wipe()
    storage.close()

    assert folder.stat().st_mode == before
    assert names(folder) == ["notes.txt", FIRST, MARK]


def test_only_whole_generations_count_and_the_highest_one_does(tmp_path):
    folder = Folder(tmp_path)
    assert folder.generation() == 0
    for name in (
        "records-7.db.new",
        "damaged-records-9.db",
        "records-8.db-wal",
        "records-.db",
        "records-x.db",
        "my-records-6.db",
        "records-1234567890.db",
    ):
        (tmp_path / name).touch()
    assert folder.generation() == 0
    for number in (2, 10, 9):
        folder.file(number).touch()

    assert folder.generation() == 10  # and not 9, which sorts behind it


def test_only_the_newest_damaged_files_are_kept_so_that_a_disk_does_not_fill_up(
    tmp_path,
):
    identities = set()
    for number, text in enumerate((b"first damage", b"second damage"), 1):
        path = tmp_path / f"records-{number}.db"
        path.write_bytes(text)
        made = open_folder(tmp_path)
        identities.add(made.identity)
        assert (held(made), made.problem) == ({}, None)
        assert put(made, record("k", 1)) is None
        made.close()

    assert names(tmp_path) == [
        f"damaged-{SECOND}",
        f"damaged-{SECOND}-mark",
        "records-3.db",
        "records-3.db-mark",
    ]
    assert (tmp_path / f"damaged-{SECOND}").read_bytes() == b"second damage"
    assert len(identities) == 2


def test_wipe_leaves_no_file_in_which_a_value_still_is(tmp_path):
    storage = prepared(tmp_path)
    alter(storage, "delete from records where key = 'k3'")
    assert storage.scrub(100) is not None
    assert f"damaged-{FIRST}" in names(tmp_path)

    storage.wipe()

    assert names(tmp_path) == [FIRST, MARK, LOG]
    assert not any(b"value 4" in path.read_bytes() for path in tmp_path.iterdir())
    storage.close()


# --- What a kill leaves of a generation --------------------------------------------------


def test_generation_that_was_not_finished_is_not_taken_and_does_not_stay(tmp_path):
    prepared(tmp_path / "live").close()
    other = open_folder(tmp_path / "other")
    put(other, record("not", 1), record("finished", 2))
    copy_files(tmp_path / "other", tmp_path / "killed")
    other.close()
    for source, name in ((FIRST, f"{SECOND}.new"), (LOG, f"{SECOND}.new-wal")):
        (tmp_path / "killed" / source).rename(tmp_path / "live" / name)

    again = open_folder(tmp_path / "live")

    assert held(again) == ALL
    again.close()
    assert names(tmp_path / "live") == [FIRST, MARK]


def test_what_is_left_of_an_unfinished_generation_does_not_mix_with_the_next(
    disk, tmp_path
):
    storage = prepared(tmp_path / "live", vfs=disk.name)
    other = open_folder(tmp_path / "other")
    put(other, record("not", 1), record("finished", 2))
    copy_files(tmp_path / "other", tmp_path / "killed")
    other.close()
    for source, name in ((FIRST, f"{SECOND}.new"), (LOG, f"{SECOND}.new-wal")):
        (tmp_path / "killed" / source).rename(tmp_path / "live" / name)
    disk.fail(failed_flush, 1, "flush")
    with pytest.raises(StorageEnded):
        put(storage, LATER)

    storage.reopen()

    again = open_folder(copy_files(tmp_path / "live", tmp_path / "again"))
    assert (held(again), again.identity) == (ALL, storage.identity)
    again.close()
    storage.close()


def test_older_generation_that_a_kill_left_is_not_taken_and_does_not_stay(tmp_path):
    old = open_folder(tmp_path / "old")
    put(old, *ALL.values(), LATER)
    copy_files(tmp_path / "old", tmp_path / "live")  # with its log
    old.close()
    prepared(tmp_path / "new").close()
    (tmp_path / "new" / FIRST).rename(tmp_path / "live" / SECOND)

    again = open_folder(tmp_path / "live")

    assert held(again) == ALL
    again.close()
    assert names(tmp_path / "live") == [SECOND, f"{SECOND}-mark"]


def test_new_generation_is_flushed_before_it_counts_and_its_name_before_the_old_goes(
    disk, tmp_path, monkeypatch
):
    steps: list[str] = []

    def step(name: str, real: Callable[..., None], *given: Any) -> None:
        if name == "fsync":
            number = os.fstat(given[0]).st_ino
            [found] = [p for p in every(tmp_path) if p.stat().st_ino == number]
            steps.append(f"flush {found.name}")
        else:
            steps.append(" ".join([name, *(Path(path).name for path in given)]))
        real(*given)

    for name in ("rename", "unlink", "fsync"):
        monkeypatch.setattr(os, name, partial(step, name, getattr(os, name)))
    storage = prepared(tmp_path / "node", vfs=disk.name)
    disk.fail(failed_flush, 1, "flush")
    with pytest.raises(StorageEnded):
        put(storage, LATER)
    steps.clear()
    disk.calls.clear()

    storage.reopen()

    new = f"{SECOND}.new"
    assert steps[-9:] == [
        f"flush {new}",
        f"rename {new} {SECOND}",
        "flush node",
        f"flush {SECOND}-mark",
        "flush node",
        f"rename {FIRST} damaged-{FIRST}",
        f"rename {MARK} damaged-{MARK}",
        f"rename {LOG} damaged-{LOG}",
        "flush node",
    ]
    assert ("flush", f"{new}-wal") in disk.calls
    storage.close()


def every(folder: Path) -> list[Path]:
    return [folder, *folder.rglob("*")]


Work = Callable[[SqliteStorage, FaultyDisk], Any]


def vanish(storage: SqliteStorage, disk: FaultyDisk) -> None:
    alter(storage, "delete from records where key = 'k3'")


def kills_during(
    work: str, disk: FaultyDisk, tmp_path: Path, prepare: Work = lambda s, d: None
) -> tuple[str, list[SqliteStorage]]:
    """What processes find that were killed at each step of a method of a storage."""
    live = prepared(tmp_path / "live", vfs=disk.name)
    identity = live.identity
    prepare(live, disk)
    with left_by_kills(disk, tmp_path / "live", tmp_path) as copies:
        getattr(live, work)(*([100] if work == "scrub" else []))
    live.close()
    found = [open_durable(copy) for copy in copies]
    assert len(found) > 10
    for one in found:
        assert one.problem is None
        assert put(one, LATER) is None  # it is not only there, it can be used
        one.close()
    return identity, found


def test_kill_while_a_file_is_mended_leaves_the_old_or_the_new_one_whole(
    disk, tmp_path
):
    identity, found = kills_during("scrub", disk, tmp_path, vanish)

    all_of_it = {**ALL, "later": LATER}
    mended = [one.identity == identity for one in found]
    for one in found:
        if one.identity == identity:
            assert (held(one), one.load_state(), one.damage) == (all_of_it, STATE, None)
        else:  # the file that lacks a row, found at the start
            assert one.damage is not None
            assert held(one) == {k: r for k, r in all_of_it.items() if k != "k3"}
            assert one.load_state() == STATE
    assert mended == sorted(mended)  # once it is mended it stays so
    assert {*mended} == {False, True}


def test_kill_while_a_file_that_failed_is_written_anew_loses_nothing(disk, tmp_path):
    def fail(storage: SqliteStorage, disk: FaultyDisk) -> None:
        disk.fail(failed_flush, 1, "flush")
        with pytest.raises(StorageEnded):
            put(storage, record("failed", 1))

    identity, found = kills_during("reopen", disk, tmp_path, fail)

    whole = {**ALL, "later": LATER}
    for one in found:
        assert (one.identity, one.load_state()) == (identity, STATE)
        assert held(one) in (whole, {**whole, "failed": record("failed", 1)})
    assert held(found[0]) != held(found[-1])


def test_kill_while_a_node_is_wiped_leaves_all_of_it_or_another_identity(
    disk, tmp_path
):
    identity, found = kills_during("wipe", disk, tmp_path)

    whole = {**ALL, "later": LATER}
    for one in found:
        if one.identity == identity:
            assert (held(one), one.load_state()) == (whole, STATE)
        else:
            assert (held(one), one.load_state()) == ({"later": LATER}, None)
    assert found[0].identity == identity != found[-1].identity


def test_kill_while_an_unreadable_node_is_wiped_leaves_nothing_of_the_old_identity(
    disk, tmp_path
):
    made = prepared(tmp_path / "made")
    file_of(made).take_in_log()
    put(made, LATER)
    copy_files(tmp_path / "made", tmp_path / "live")  # with its log
    made.close()
    disk.fail_always(apsw.CantOpenError, "open")
    unread = open_durable(tmp_path / "live", disk.name)
    assert unread.problem is not None

    with left_by_kills(disk, tmp_path / "live", tmp_path) as copies:
        unread.wipe()

    unread.close()
    for number, copy in enumerate(copies):
        one = open_durable(copy)
        assert (one.problem, one.damage) == (None, None)
        expected = held(made) if one.identity == made.identity else {}
        assert held(one) == expected, f"before step {number}"
        one.close()
    assert unread.identity not in ("", made.identity)


def test_kill_while_a_new_folder_is_made_is_not_taken_for_damage(disk, tmp_path):
    with left_by_kills(disk, tmp_path / "data", tmp_path) as copies:
        prepared(tmp_path / "data" / "node", vfs=disk.name).close()

    for copy in copies:
        one = open_durable(copy / "node")
        assert (one.problem, one.damage) == (None, None)
        count = len(held(one))
        assert held(one) == dict(list(ALL.items())[:count])
        one.close()
    assert len(copies) > 30


@pytest.mark.parametrize("where", ["row", "log"])
def test_damage_is_not_forgotten_when_a_kill_comes_before_it_is_dealt_with(
    disk, tmp_path, where
):
    made = prepared(tmp_path / "made")
    identity = made.identity
    copy_files(tmp_path / "made", tmp_path / "live")
    made.close()
    if where == "row":
        (tmp_path / "live" / LOG).unlink()
        (tmp_path / "made" / FIRST).replace(tmp_path / "live" / FIRST)
        flip_in(tmp_path / "live" / FIRST, b"value 3")
    else:
        flip_in(tmp_path / "live" / LOG, b"value 3")
    with left_by_kills(disk, tmp_path / "live", tmp_path) as copies:
        open_durable(tmp_path / "live", disk.name).close()

    assert len(copies) > 10
    for copy in copies:
        one = open_durable(copy)
        assert one.problem is None
        assert one.identity != identity
        assert one.load_state() in (STATE, None)
        assert held(one).items() <= ALL.items()
        one.close()
        again = open_folder(copy)
        assert (again.identity, again.damage) == (one.identity, None)
        assert held(again) == held(one)
        again.close()


def test_damage_is_not_forgotten_when_there_is_no_room_to_deal_with_it(disk, tmp_path):
    made = prepared(tmp_path / "made")
    folder = copy_files(tmp_path / "made", tmp_path / "live")
    made.close()
    flip_in(folder / LOG, b"value 3")
    disk.fail_always(apsw.FullError, "write")

    storage = open_durable(folder, disk.name)

    assert storage.problem is not None
    assert (storage.identity, held(storage)) == ("", {})
    with pytest.raises(StorageEnded):
        storage.reopen()
    disk.mend()
    storage.reopen()
    assert storage.identity not in ("", made.identity)
    assert storage.damage is not None
    assert held(storage).items() <= ALL.items()
    storage.close()
