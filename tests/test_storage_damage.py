"""Files whose content came apart: what is never shown of them, and what is saved.

A file is damaged here in every way that a disk or a hand can. It is set aside, and what
is intact begins a new one under another identity: never a value that was not written,
never less under the name of the whole.
"""

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from db import open_storage
from tests.storage_case import (
    FIRST,
    MARK,
    SECOND,
    by_key,
    file_bytes,
    finish,
    held,
    names,
    open_folder,
    put,
    record,
)

STATE = (7, b'{"fence": 3, "in_sync": [0, 1]}')
ORIGINAL = by_key(
    *(
        record(
            f"key-{n}" + "é" * (n % 3),
            1_000 + n,
            None if n % 5 == 0 else b'"%d"' % n * 10,
            expires=0 if n % 4 or n % 5 == 0 else 10**12 + n,
        )
        for n in range(25)
    )
)
LEAF = 0x0A  # the first byte of a page that has rows and no pages below it
INTACT, SET_ASIDE = "intact", "set aside"
WRONG_RECORDS, WRONG_STATE, DOES_NOT_OPEN = "records", "state", "error"


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> tuple[bytes, str]:
    """The file of a small storage that was closed in good order, and its identity."""
    folder = tmp_path_factory.mktemp("original")
    storage = open_folder(folder)
    put(storage, *ORIGINAL.values())
    finish(storage.save_state(*STATE))
    identity = storage.identity
    storage.close()
    assert names(folder) == [FIRST, MARK]
    return (folder / FIRST).read_bytes(), identity


def verdict(folder: Path, identity: str) -> str:
    """What the storage makes of a file that was damaged."""
    try:
        storage = open_storage(folder, durable=False)
    except Exception:
        return DOES_NOT_OPEN
    found, state = held(storage), storage.load_state()
    same, problem = storage.identity == identity, storage.problem
    storage.close()
    if problem is not None:
        return DOES_NOT_OPEN
    if not (found == ORIGINAL if same else found.items() <= ORIGINAL.items()):
        return WRONG_RECORDS
    if state != STATE and (same or state is not None):
        return WRONG_STATE
    return INTACT if same else SET_ASIDE


def flipped(content: bytes, step: int) -> Iterator[tuple[str, bytes]]:
    for place in range(0, len(content), step):
        bit = 1 << (place * 5 // step) % 8
        changed = bytes([content[place] ^ bit])
        yield f"byte {place}", content[:place] + changed + content[place + 1 :]


def cut_short(content: bytes, step: int) -> Iterator[tuple[str, bytes]]:
    for size in range(0, len(content), step * 8):
        yield f"{size} bytes", content[:size]


def blanked(content: bytes, step: int) -> Iterator[tuple[str, bytes]]:
    del step
    for start in range(0, len(content), 512):
        yield f"block at {start}", content[:start] + bytes(512) + content[start + 512 :]


def swapped(content: bytes, step: int) -> Iterator[tuple[str, bytes]]:
    del step
    pages = [content[at : at + 4_096] for at in range(0, len(content), 4_096)]
    for one in range(len(pages)):
        for other in range(one):
            mixed = pages.copy()
            mixed[one], mixed[other] = mixed[other], mixed[one]
            yield f"pages {one} and {other}", b"".join(mixed)


DAMAGES = (flipped, cut_short, blanked, swapped)


def verdicts(
    damage: Callable[[bytes, int], Iterator[tuple[str, bytes]]],
    step: int,
    original: tuple[bytes, str],
    folder: Path,
) -> dict[str, list[str]]:
    """Which damages of a kind ended how."""
    content, identity = original
    found = defaultdict(list)
    for number, (name, changed) in enumerate(damage(content, step)):
        (folder / str(number)).mkdir(parents=True)
        (folder / str(number) / FIRST).write_bytes(changed)
        found[verdict(folder / str(number), identity)].append(name)
        shutil.rmtree(folder / str(number))
    return found


@pytest.fixture(scope="module")
def sampled(original, tmp_path_factory) -> dict[str, dict[str, list[str]]]:
    folder = tmp_path_factory.mktemp("damaged")
    return {
        damage.__name__: verdicts(damage, 131, original, folder / damage.__name__)
        for damage in DAMAGES
    }


KINDS = [damage.__name__ for damage in DAMAGES]


@pytest.mark.parametrize("damage", KINDS)
def test_damaged_file_never_shows_a_record_that_was_not_written(sampled, damage):
    assert sampled[damage][WRONG_RECORDS] == []
    assert sampled[damage][SET_ASIDE]  # the damage was seen, not missed


@pytest.mark.parametrize("damage", KINDS)
def test_damaged_file_never_shows_a_state_that_was_not_saved(sampled, damage):
    assert sampled[damage][WRONG_STATE] == []


@pytest.mark.parametrize("damage", KINDS)
def test_damaged_file_does_not_keep_the_store_from_starting(sampled, damage):
    assert sampled[damage][DOES_NOT_OPEN] == []


def test_damage_to_what_is_not_in_use_does_not_cost_the_file(sampled):
    assert len(sampled["flipped"][INTACT]) > 40


@pytest.fixture(scope="module")
def exhaustive(original, tmp_path_factory) -> dict[str, list[str]]:
    """How every single byte flipped, one at a time, ended."""
    return verdicts(flipped, 1, original, tmp_path_factory.mktemp("exhaustive"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "unwanted",
    [WRONG_RECORDS, WRONG_STATE, DOES_NOT_OPEN],
)
def test_no_single_byte_of_a_file_can_be_damaged_unseen(exhaustive, unwanted):
    assert exhaustive[unwanted] == []


ALL = set(ORIGINAL)
TWO = {"key-3", "key-6"}
DIGEST = "bucket < 0"  # which row of the records it is
BOTH = "where key in ('key-3', 'key-6')"
BEFORE = f"create temp table before as select * from records {BOTH};"
OTHER = f"from before as other where other.key <> records.key) {BOTH}"
OLDER = "x'00000000000000000001'"
# What is done to the file: how, and which records are not to be had any more.
STATEMENTS: dict[str, tuple[str, set[str]]] = {
    "a row gone": ("delete from records where key = 'key-3'", {"key-3"}),
    "a tombstone gone": ("delete from records where key = 'key-0'", {"key-0"}),
    "every row gone": ("delete from records where bucket >= 0", ALL),
    "a value changed": (
        "update records set value = cast('9' as blob) where key = 'key-3'",
        {"key-3"},
    ),
    "a value gone": ("update records set value = null where key = 'key-3'", {"key-3"}),
    "a value where there was none": (
        "update records set value = cast('' as blob) where key = 'key-0'",
        {"key-0"},
    ),
    "a value as text": (
        "update records set value = 'text' where key = 'key-3'",
        {"key-3"},
    ),
    "a value as number": (
        "update records set value = 7 where key = 'key-3'",
        {"key-3"},
    ),
    "an older version": (
        f"update records set version = {OLDER} where key = 'key-3'",
        {"key-3"},
    ),
    "a version that is none": (
        "update records set version = 'x' where key = 'key-3'",
        {"key-3"},
    ),
    "a later expiry": (
        "update records set expires_at_ms = 1 where key = 'key-3'",
        {"key-3"},
    ),
    "a checksum changed": (
        "update records set checksum = 1 where key = 'key-3'",
        {"key-3"},
    ),
    "a key changed": (
        "update records set key = 'key-x' where key = 'key-3'",
        {"key-3"},
    ),
    "another bucket": (
        "update records set bucket = bucket + 1 where key = 'key-3'",
        {"key-3"},
    ),
    "a row in two buckets": (
        "insert into records select bucket + 1, key, version, value, expires_at_ms,"
        " checksum from records where key = 'key-3'",
        set(),
    ),
    "values of two rows swapped": (
        f"{BEFORE} update records set value = (select value {OTHER}",
        TWO,
    ),
    "all of two rows swapped but their keys": (
        f"{BEFORE} update records set (version, value, expires_at_ms, checksum) ="
        f" (select version, value, expires_at_ms, checksum {OTHER}",
        TWO,
    ),
    "the digest changed": (
        f"update records set version = x'0000000000000001' where {DIGEST}",
        set(),
    ),
    "the digest's checksum changed": (
        f"update records set checksum = 1 where {DIGEST}",
        set(),
    ),
    "the digest gone": (f"delete from records where {DIGEST}", set()),
    "two digests": (
        "insert into records select bucket - 1, key, version, value, expires_at_ms,"
        f" checksum from records where {DIGEST}",
        set(),
    ),
    "every row and the digest gone": ("delete from records", ALL),
    "the identity gone": ("delete from meta where name = 'identity'", set()),
    "another identity": ("update meta set value = 'x' where name = 'identity'", set()),
    "an unknown format": ("update meta set value = 99 where name = 'format'", set()),
    "all about the file gone": ("delete from meta", set()),
    "something else about the file": ("insert into meta values ('x', 1, 1)", set()),
    "no table of records": ("drop table records", ALL),
    "no table about the file": ("drop table meta", set()),
    "a table that lacks a column": ("alter table records drop column checksum", ALL),
    "an older state": (
        "update meta set value = cast('{}' as blob) where name = 'state'",
        set(),
    ),
    "a lower epoch": ("update meta set value = 6 where name = 'epoch'", set()),
    "the state gone": ("delete from meta where name = 'state'", set()),
    "the epoch gone": ("delete from meta where name = 'epoch'", set()),
}

STATE_LOST = (
    "all about the file gone",
    "no table about the file",
    "an older state",
    "a lower epoch",
    "the state gone",
    "the epoch gone",
)
OF_THE_STATE = [STATEMENTS[name][0] for name in STATE_LOST]


@pytest.mark.parametrize(
    ("statement", "lost"), [pytest.param(*done, id=n) for n, done in STATEMENTS.items()]
)
def test_altered_file_is_not_served_from_and_what_is_intact_in_it_is_not_lost(
    original, tmp_path, statement, lost
):
    content, identity = original
    (tmp_path / FIRST).write_bytes(content)
    database = apsw.Connection(str(tmp_path / FIRST))
    database.execute(statement)
    assert database.total_changes() or "table" in statement
    database.close()

    storage = open_folder(tmp_path)

    assert storage.damage is not None
    assert storage.problem is None
    assert storage.identity != identity
    assert storage.load_state() == (None if statement in OF_THE_STATE else STATE)
    assert set(held(storage)) == ALL - lost
    assert held(storage).items() <= ORIGINAL.items()
    assert {f"damaged-{FIRST}", SECOND} <= set(names(tmp_path))
    storage.close()
    again = open_folder(tmp_path)  # and what was saved is sound
    assert (again.identity, again.damage) == (storage.identity, None)
    assert held(again) == held(storage)
    again.close()


def test_row_that_was_right_once_does_not_pass_for_the_newest(tmp_path):
    storage = open_folder(tmp_path)
    put(storage, record("k", 1), record("other", 1))
    identity = storage.identity
    storage.close()
    old = rows_of(tmp_path, "k")
    storage = open_folder(tmp_path)
    put(storage, record("k", 2))
    storage.close()

    database = apsw.Connection(str(tmp_path / FIRST))
    database.execute("insert or replace into records values (?, ?, ?, ?, ?, ?)", old)
    database.close()

    again = open_folder(tmp_path)
    assert again.damage is not None
    assert again.identity != identity
    assert held(again)["other"] == record("other", 1)
    again.close()


def rows_of(folder: Path, key: str) -> tuple[Any, ...]:
    database = apsw.Connection(str(folder / FIRST))
    row: tuple[Any, ...]
    [row] = database.execute("select * from records where key = ?", (key,))
    database.close()
    return row


def test_damaged_page_does_not_cost_the_rows_on_both_sides_of_it(tmp_path):
    many = by_key(*(record(f"k{n}", n + 1, b'"%d"' % n) for n in range(600)))
    storage = open_folder(tmp_path / "made")
    put(storage, *many.values())
    storage.close()
    content = (tmp_path / "made" / FIRST).read_bytes()
    leaves = 0
    for at in range(4_096, len(content), 4_096):
        cells = int.from_bytes(content[at + 3 : at + 5])
        if content[at] != LEAF or cells < 10:
            continue
        leaves += 1
        folder = tmp_path / f"page-{at}"
        folder.mkdir()
        blank = content[:at] + bytes(4_096) + content[at + 4_096 :]
        (folder / FIRST).write_bytes(blank)

        storage = open_folder(folder)

        assert storage.damage is not None
        assert len(held(storage)) >= len(many) - cells
        assert held(storage).items() <= many.items()
        storage.close()
    assert leaves > 5


def test_file_set_aside_is_kept_as_it_was(tmp_path):
    for text in (b"no database at all", b""):
        (tmp_path / FIRST).write_bytes(text)
        storage = open_folder(tmp_path)
        assert held(storage) == {}
        assert put(storage, record("k", 1)) is None
        storage.close()
        (tmp_path / SECOND).unlink(missing_ok=True)

    assert file_bytes(tmp_path)[f"damaged-{FIRST}"] == b"no database at all"
    assert names(tmp_path) == [f"damaged-{FIRST}", FIRST, MARK]


def test_storage_that_was_damaged_can_be_used_as_any_other(original, tmp_path):
    content, _ = original
    (tmp_path / FIRST).write_bytes(content[:-4_096])
    storage = open_folder(tmp_path)
    saved = held(storage)
    put(storage, *ORIGINAL.values())
    finish(storage.save_state(8, b"state"))
    storage.close()

    again = open_folder(tmp_path)

    assert saved != ORIGINAL
    assert (held(again), again.load_state()) == (ORIGINAL, (8, b"state"))
    assert (again.identity, again.damage) == (storage.identity, None)
    again.close()
