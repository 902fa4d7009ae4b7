"""What a node keeps: one contract for every storage, then what only a file must stand.

A file is damaged, filled, torn and broken here on purpose. It may then refuse or be set
aside; it must never show a value that is not the one that was written.
"""

import os
import shutil
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from db import (
    MemoryStorage,
    SqliteStorage,
    Storage,
    StorageEnded,
    StorageInUse,
    open_storage,
)
from models import Record, Refused, Staged, Version, key_token
from storage.content import PARTITION_COUNT, PARTITION_SHIFT, Content

FILE = "node-0.db"


def record(key: str, number: int, value: bytes | None = b'"v"', expires: int = 0):
    return Record(key, Version(number << Version.MS_SHIFT), value, expires)


def finish(answer: Any) -> Any:
    """What a storage answers once it is durable."""
    return answer.result() if isinstance(answer, Staged) else answer


def put(storage: Storage, *records: Record) -> Version | None:
    version: Version | None = finish(storage.put_many(records))
    return version


def held(storage: Storage) -> dict[str, Record]:
    return {found.key: found for found in storage.content.scan("", "", 1 << 30)}


def facts(content: Content) -> object:
    """All that a content says of itself beside its records."""
    return (
        [content.partition_digest(number) for number in range(PARTITION_COUNT)],
        [content.bucket_digests(key_token(key) >> PARTITION_SHIFT) for key in KEYS],
        (content.key_count, content.size_bytes, content.tombstones, content.expiring),
    )


def filled(records: dict[str, Record]) -> Content:
    content = Content()
    content.put_many(records.values())
    return content


def open_file(folder: Path, **options: Any) -> SqliteStorage:
    return SqliteStorage(folder / FILE, **{"durable": False, **options})


def copy_files(folder: Path, target: Path) -> Path:
    """What a process killed now would leave."""
    shutil.copytree(folder, target)
    return target


@pytest.fixture(params=["memory", "sqlite"])
def storage(request, tmp_path: Path) -> Iterator[Storage]:
    made = MemoryStorage() if request.param == "memory" else open_file(tmp_path)
    yield made
    made.close()


# --- The contract of every storage -------------------------------------------------------

KEYS = ["a", "b", "ключ", "🗝"]
records = st.builds(
    record,
    st.sampled_from(KEYS),
    st.integers(1, 9),
    st.just(b"null"),  # a version has one value: tombstones are told by their number
).map(lambda r: record(r.key, r.version.ms, None) if r.version.ms % 3 == 0 else r)
batches = st.lists(records, max_size=4, unique_by=lambda r: r.key)
states = st.tuples(st.integers(1, 9), st.binary(max_size=4))
STEPS = st.one_of(
    st.tuples(st.just("put"), batches),
    st.tuples(st.just("purge"), batches),
    st.tuples(st.just("state"), states),
    st.tuples(st.just("reopen"), st.none()),
)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@settings(max_examples=60)
@given(steps=st.lists(STEPS, max_size=15))
def test_no_order_of_changes_and_reopenings_loses_or_invents_one(
    steps, kind, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("storage")
    storage: Storage = MemoryStorage() if kind == "memory" else open_file(folder)
    identity, state = storage.identity, None
    expected: dict[str, Record] = {}

    for step, argument in steps:
        if step == "put":
            newer = [
                expected[r.key].version
                for r in argument
                if r.key in expected and expected[r.key].version > r.version
            ]
            assert put(storage, *argument) == max(newer, default=None)
            for r in argument:
                expected[r.key] = max(
                    expected.get(r.key, r), r, key=lambda one: one.version
                )
        elif step == "purge":
            finish(storage.purge({r.key: r.version for r in argument}))
            for r in argument:
                if r.key in expected and expected[r.key].version == r.version:
                    del expected[r.key]
        elif step == "state":
            finish(storage.save_state(*argument))
            state = argument if state is None or state[0] < argument[0] else state
        elif kind == "sqlite":
            storage.close()
            storage = open_file(folder)
        assert held(storage) == expected
        assert facts(storage.content) == facts(filled(expected))
        assert storage.load_state() == state
        assert storage.identity == identity
    storage.close()


def test_late_copy_of_a_value_does_not_come_back_over_its_tombstone(storage):
    value, tombstone = record("k", 1), record("k", 2, None)
    put(storage, value)
    put(storage, tombstone)

    answer = put(storage, value)

    assert answer == tombstone.version
    assert storage.get("k") == tombstone
    assert storage.content.key_count == 0


def test_purge_does_not_take_another_version_than_the_one_it_names(storage):
    put(storage, record("k", 2, None), record("other", 2, None))

    finish(
        storage.purge({"k": record("k", 1).version, "never": record("k", 1).version})
    )
    untouched = held(storage)
    finish(storage.purge({"k": record("k", 2).version}))

    assert set(untouched) == {"k", "other"}
    assert set(held(storage)) == {"other"}


def test_put_that_lost_is_not_answered_as_if_it_was_kept(storage):
    put(storage, record("k", 5), record("kk", 7))

    assert put(storage, record("k", 4), record("kk", 6), record("new", 1)) == 7 << 32
    assert put(storage, record("k", 5)) is None
    assert put(storage, record("k", 8)) is None
    assert put(storage) is None


def test_state_of_an_old_epoch_does_not_replace_a_newer_one(storage):
    assert storage.load_state() is None

    for epoch, text in ((3, b"three"), (2, b"two"), (5, b"five"), (4, b"four")):
        finish(storage.save_state(epoch, text))

    assert storage.load_state() == (5, b"five")


def test_wiped_storage_does_not_pass_for_the_one_it_was(storage):
    put(storage, record("k", 1), record("gone", 1, None))
    finish(storage.save_state(9, b"state"))
    before = storage.identity

    storage.wipe()

    assert storage.identity != before
    assert (held(storage), storage.load_state()) == ({}, None)
    assert storage.content.digest() == 0
    assert put(storage, record("k", 1)) is None  # nothing newer is held any more
    finish(storage.save_state(1, b"first"))
    assert (set(held(storage)), storage.load_state()) == ({"k"}, (1, b"first"))


def test_two_new_storages_do_not_take_each_other_for_themselves(tmp_path):
    made = [open_file(tmp_path / "a"), open_file(tmp_path / "b"), MemoryStorage()]

    assert len({storage.identity for storage in made}) == 3
    for storage in made:
        storage.close()


# --- A file: what is durable -------------------------------------------------------------

AWKWARD = [
    record("ключ/🗝 '\";--", 1, b'"\xd0\xbb\x00"'),
    record("null", 2, b"null"),
    record("empty", 3, b'""'),
    record("gone", 4, None),
    record("expires", 5, b"1", expires=123_456_789_012),
    record("large", 6, b"[" + b"1," * 100_000 + b"1]"),
    record("e\u0301", 7),
    record("\u00e9", 8),
    Record("newest", Version((1 << 80) - 1), b"2"),
    Record("oldest", Version(0), b"3"),
]


def test_nothing_is_lost_or_changed_when_a_file_is_opened_again(tmp_path):
    storage = open_file(tmp_path)
    put(storage, *AWKWARD)
    finish(storage.save_state(7, b'{"fence":3}'))
    before = (storage.identity, held(storage), storage.content.digest())
    counts = (storage.content.key_count, storage.content.tombstones.copy())
    storage.close()

    again = open_file(tmp_path)

    assert (again.identity, held(again), again.content.digest()) == before
    assert facts(again.content) == facts(filled({r.key: r for r in AWKWARD}))
    assert (again.content.key_count, again.content.tombstones) == counts
    assert again.content.expiring == {"expires": 123_456_789_012}
    assert again.load_state() == (7, b'{"fence":3}')
    assert held(again) == {r.key: r for r in AWKWARD}
    assert again.content.version_max == (1 << 80) - 1  # for the clock to start above
    again.close()


def test_identity_after_a_wipe_is_not_forgotten_at_the_next_start(tmp_path):
    storage = open_file(tmp_path)
    put(storage, record("k", 1))
    storage.wipe()
    put(storage, record("after", 1))
    after = storage.identity
    storage.close()

    again = open_file(tmp_path)

    assert again.identity == after
    assert set(held(again)) == {"after"}
    again.close()


def test_what_is_staged_and_not_committed_does_not_show(tmp_path):
    storage = open_file(tmp_path)
    put(storage, record("k", 1), record("old", 1, None))

    storage.put_many([record("k", 2), record("new", 1)])
    storage.purge({"old": record("old", 1).version})
    storage.save_state(4, b"state")

    expected = {"k": record("k", 1), "old": record("old", 1, None)}
    assert (held(storage), storage.load_state()) == (expected, None)
    storage.close()
    again = open_file(tmp_path)
    assert (held(again), again.load_state()) == (expected, None)
    again.close()


def test_what_was_answered_is_not_lost_when_the_process_is_killed(tmp_path):
    storage = open_file(tmp_path / "live")
    for number in range(1, 30):
        put(storage, record(f"k{number % 7}", number), record("all", number))
        if number % 5 == 0:
            finish(storage.purge({"all": record("all", number).version}))
        left = copy_files(tmp_path / "live", tmp_path / f"killed-{number}")

        again = open_storage(left, 0, durable=False)

        assert held(again) == held(storage)
        assert again.identity == storage.identity
        again.close()
    storage.close()


def test_replicas_do_not_each_keep_their_own_copy_of_a_record(tmp_path):
    for folder, other in (("a", record("other", 1)), ("b", record("other", 2))):
        storage = open_file(tmp_path / folder)
        put(storage, record("same", 1), other)
        storage.close()
    known: dict[str, Record] = {}

    first, second = (open_file(tmp_path / folder, known=known) for folder in "ab")

    assert second.get("same") is first.get("same")
    assert second.get("other") == record("other", 2)  # theirs is older: not shared
    assert first.get("other") == record("other", 1)
    first.close()
    second.close()


def test_files_are_not_open_to_other_users(tmp_path):
    folder, umask = tmp_path / "data", os.umask(0)
    try:
        storage = open_file(folder)
        put(storage, record("k", 1))
        modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
        storage.wipe()
        wiped = (folder / FILE).stat().st_mode & 0o777
        storage.close()
    finally:
        os.umask(umask)

    assert folder.stat().st_mode & 0o777 == 0o700
    assert modes == {FILE: 0o600, f"{FILE}-wal": 0o600}
    assert wiped == 0o600


def test_second_opening_neither_serves_nor_harms_nor_sets_aside_a_file_in_use(tmp_path):
    storage = open_file(tmp_path)
    put(storage, record("k", 1))

    for _ in range(2):
        with pytest.raises(StorageInUse, match="another process has"):
            open_storage(tmp_path, 0, durable=False)
    put(storage, record("k", 2))
    storage.close()

    again = open_storage(tmp_path, 0, durable=False)
    assert held(again) == {"k": record("k", 2)}
    assert [path.name for path in tmp_path.glob("*damaged*")] == []
    again.close()


# --- Group commit ------------------------------------------------------------------------


def in_threads(*work: Callable[[], Any]) -> list[threading.Thread]:
    threads = [threading.Thread(target=one) for one in work]
    for thread in threads:
        thread.start()
    return threads


def join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(timeout=30)
    assert not any(thread.is_alive() for thread in threads), "a thread is stuck"


class Commits:
    """Counts the commits of a storage, and holds up the first until it is let go."""

    def __init__(self, storage: SqliteStorage, *, hold_first: bool = False) -> None:
        self.count = 0
        self.began = threading.Event()
        self.go_on = threading.Event()
        if not hold_first:
            self.go_on.set()
        storage._database.set_commit_hook(self._commit)

    def _commit(self) -> bool:
        self.count += 1
        self.began.set()
        assert self.go_on.wait(timeout=30), "nobody let the first commit go on"
        return False


def test_writers_that_come_during_a_commit_do_not_pay_for_one_each(tmp_path):
    storage = open_file(tmp_path / "live")
    commits = Commits(storage, hold_first=True)
    first = in_threads(lambda: put(storage, record("first", 1)))
    assert commits.began.wait(timeout=30)

    staged = [storage.put_many([record(f"k{n}", 1)]) for n in range(20)]
    staged.append(storage.purge({"never": record("never", 1).version}))
    staged.append(storage.save_state(3, b"state"))
    before = held(storage)  # the first commit has not ended, so nothing shows
    others = in_threads(*(one.result for one in staged if isinstance(one, Staged)))
    commits.go_on.set()
    join(first + others)

    assert before == {}
    assert (commits.count, len(others)) == (2, 22)
    assert set(held(storage)) == {"first", *(f"k{n}" for n in range(20))}
    killed = open_file(copy_files(tmp_path / "live", tmp_path / "killed"))
    assert held(killed) == held(storage)
    assert killed.load_state() == (3, b"state")
    killed.close()
    storage.close()


def test_writers_side_by_side_lose_nothing_and_commit_no_more_than_they_are(tmp_path):
    storage = open_file(tmp_path / "live")
    commits = Commits(storage)
    answers: dict[int, Version | None] = {}

    def write(writer: int) -> None:
        for turn in range(25):
            number = turn * 8 + writer + 1  # higher at every turn, and all different
            one = record("shared", number, b"%d" % number)
            answers[number] = put(storage, one, record(f"own-{writer}-{turn}", 1))

    join(in_threads(*(partial(write, writer) for writer in range(8))))

    assert len(answers) == 200
    assert answers[200] is None
    assert all(v is None or v.ms > number for number, v in answers.items())
    assert 1 <= commits.count <= 200
    killed = open_file(copy_files(tmp_path / "live", tmp_path / "killed"))
    assert held(killed) == held(storage)
    assert len(held(killed)) == 201
    assert killed.get("shared") == record("shared", 200, b"200")
    killed.close()
    storage.close()


def test_one_batch_does_not_keep_an_older_record_or_purge_a_newer_one(tmp_path):
    storage = open_file(tmp_path)
    put(storage, record("k", 1, None), record("gone", 1, None))
    commits = Commits(storage)

    older = storage.put_many([record("k", 5)])
    newest = storage.put_many([record("k", 9)])
    purge = storage.purge({key: record(key, 1).version for key in ("k", "gone")})
    answers = [finish(one) for one in (purge, older, newest)]

    assert answers == [None, record("k", 9).version, None]
    assert held(storage) == {"k": record("k", 9)}
    assert commits.count == 1
    storage.close()
    again = open_file(tmp_path)
    assert held(again) == {"k": record("k", 9)}
    again.close()


# --- A disk that is full or fails --------------------------------------------------------


class FaultyDisk(apsw.VFS):
    """The real file system, until `fault` says otherwise of a write or a flush."""

    def __init__(self) -> None:
        super().__init__("faulty", "unix", makedefault=True)
        self.calls: list[str] = []
        self.fault: Callable[[str, int], Exception | None] = lambda kind, number: None

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        if not isinstance(name, apsw.URIFilename) or name.filename()[-4:] == "-wal":
            self.reach("open beside")
        return FaultyFile(self, name, flags)

    def reach(self, kind: str) -> None:
        self.calls.append(kind)
        if (error := self.fault(kind, len(self.calls))) is not None:
            raise error

    def fail(self, error: type[Exception], at: int) -> None:
        """Fail at the `at`-th write or flush from now on."""
        self.calls.clear()
        self.fault = lambda kind, number: error() if number == at else None

    def mend(self) -> None:
        self.fault = lambda kind, number: None


class FaultyFile(apsw.VFSFile):
    def __init__(self, disk: FaultyDisk, name: Any, flags: list[int]) -> None:
        self._disk = disk
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._disk.reach("write")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.reach("flush")
        super().xSync(flags)


@pytest.fixture
def disk() -> Iterator[FaultyDisk]:
    made = FaultyDisk()
    yield made
    made.unregister()


BEFORE = {"a": record("a", 1), "gone": record("gone", 1, None)}
AFTER = {"a": record("a", 2, b'"' + b"2" * 9_000 + b'"'), "b": record("b", 2)}


def stage_a_change(storage: SqliteStorage) -> list[Any]:
    """Of everything that a commit can hold, one: from BEFORE to AFTER."""
    return [
        storage.put_many(list(AFTER.values())),
        storage.purge({"gone": BEFORE["gone"].version}),
        storage.save_state(2, b"after"),
    ]


def prepared(folder: Path) -> SqliteStorage:
    storage = open_file(folder, durable=True)
    put(storage, *BEFORE.values())
    finish(storage.save_state(1, b"before"))
    return storage


def writes_of_a_change(disk: FaultyDisk, folder: Path) -> list[str]:
    storage = prepared(folder)
    disk.calls.clear()
    for staged in stage_a_change(storage):
        staged.result()
    made = disk.calls.copy()
    storage.close()
    return made


def test_put_is_not_answered_before_it_is_flushed(disk, tmp_path):
    calls = writes_of_a_change(disk, tmp_path / "fsync")
    storage = open_file(tmp_path / "os", durable=False)
    disk.calls.clear()

    put(storage, record("k", 1))

    assert calls.count("flush") == 1  # for all three changes
    assert calls[-1] == "flush"
    assert disk.calls
    assert "flush" not in disk.calls
    storage.close()


def test_full_disk_leaves_no_half_and_later_puts_are_kept_again(disk, tmp_path):
    calls = writes_of_a_change(disk, tmp_path / "count")
    assert len(calls) > 3
    for at in range(1, len(calls)):  # a flush does not fail for want of room
        folder = tmp_path / f"full-{at}"
        storage = prepared(folder)
        disk.fail(apsw.FullError, at)

        for staged in stage_a_change(storage):
            with pytest.raises(Refused, match="the disk is full"):
                staged.result()

        assert (held(storage), storage.load_state()) == (BEFORE, (1, b"before"))
        killed = open_file(copy_files(folder, tmp_path / f"killed-{at}"))
        assert held(killed) == BEFORE, "refused, and there after all"
        killed.close()
        disk.mend()
        assert put(storage, record("room", 1)) is None
        storage.close()
        again = open_file(folder)
        assert held(again) == {**BEFORE, "room": record("room", 1)}
        assert again.load_state() == (1, b"before")
        again.close()


def test_disk_that_fills_while_large_values_are_written_only_refuses(disk, tmp_path):
    storage = open_file(tmp_path)
    put(storage, record("k", 1))
    large = [record(f"large-{n}", 1, b"1" * (1 << 20)) for n in range(2)]
    disk.fail(apsw.FullError, 1)  # SQLite writes early what its cache cannot hold

    with pytest.raises(Refused, match="the disk is full"):
        put(storage, *large)

    disk.mend()
    assert held(storage) == {"k": record("k", 1)}
    assert put(storage, *large) is None
    storage.close()


def test_file_that_may_not_grow_refuses_and_takes_what_still_fits(tmp_path):
    storage = open_file(tmp_path)
    put(storage, record("k", 1))
    pages = storage._database.pragma("page_count")
    storage._database.pragma("max_page_count", pages + 1)

    with pytest.raises(Refused, match="the disk is full"):
        put(storage, record("large", 1, b"1" * 50_000), record("k", 2))

    assert held(storage) == {"k": record("k", 1)}
    assert put(storage, record("k", 3)) is None
    storage._database.pragma("max_page_count", pages + 1_000)
    assert put(storage, record("large", 1, b"1" * 50_000)) is None
    storage.close()
    again = open_file(tmp_path)
    assert {r.key: r.version.ms for r in held(again).values()} == {"k": 3, "large": 1}
    again.close()


def test_flush_that_failed_is_not_tried_again_and_believed(disk, tmp_path):
    calls = writes_of_a_change(disk, tmp_path / "count")
    for at in range(1, len(calls) + 1):
        folder = tmp_path / f"broken-{at}"
        storage = prepared(folder)
        disk.fail(apsw.IOError, at)
        for staged in stage_a_change(storage):
            with pytest.raises(StorageEnded):
                staged.result()

        disk.mend()  # too late: what the file holds now is unknown
        for answer in (put, lambda s, r: finish(s.save_state(9, b""))):
            with pytest.raises(StorageEnded):
                answer(storage, record("later", 1))

        assert (held(storage), storage.load_state()) == (BEFORE, (1, b"before"))
        storage.close()
        again = open_file(folder)
        assert held(again) in (BEFORE, AFTER)
        again.close()


def test_broken_storage_that_is_wiped_does_not_stay_broken(disk, tmp_path):
    storage = prepared(tmp_path)
    disk.fail(apsw.IOError, 1)
    with pytest.raises(StorageEnded):
        put(storage, record("k", 1))
    disk.mend()

    storage.wipe()

    assert put(storage, record("new", 1)) is None
    assert set(held(storage)) == {"new"}
    storage.close()


def test_interrupted_commit_does_not_cost_the_file_at_the_next_start(
    tmp_path, monkeypatch
):
    storage = open_file(tmp_path)
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
    except Exception:
        acknowledged = 1
    else:
        acknowledged = 3
    storage.close()

    again = open_storage(tmp_path, 0, durable=False)
    left = held(again)
    again.close()
    assert set(left) == {"k", "other"}
    assert left["k"].version.ms >= acknowledged


# --- A file that was damaged -------------------------------------------------------------

STATE = (7, b'{"fence": 3, "in_sync": [0, 1]}')
ORIGINAL = {
    r.key: r
    for r in (
        record(
            f"key-{n}" + "é" * (n % 3),
            1_000 + n,
            None if n % 5 == 0 else b'"%d"' % n * 10,
            expires=0 if n % 4 or n % 5 == 0 else 10**12 + n,
        )
        for n in range(25)
    )
}
INTACT, SET_ASIDE = "intact", "set aside"
WRONG_RECORDS, WRONG_STATE, DOES_NOT_OPEN = "records", "state", "error"


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> tuple[bytes, str]:
    """The file of a small storage that was closed in good order, and its identity."""
    folder = tmp_path_factory.mktemp("original")
    storage = open_file(folder)
    put(storage, *ORIGINAL.values())
    finish(storage.save_state(*STATE))
    identity = storage.identity
    storage.close()
    assert [path.name for path in folder.iterdir()] == [FILE]
    return (folder / FILE).read_bytes(), identity


def verdict(folder: Path, identity: str) -> str:
    """What the storage makes of a file that was damaged."""
    try:
        storage = open_storage(folder, 0, durable=False)
    except Exception:
        return DOES_NOT_OPEN
    found, state = held(storage), storage.load_state()
    same, aside = storage.identity == identity, bool([*folder.glob("*.damaged-*")])
    storage.close()
    if found != ORIGINAL and (found or same):
        return WRONG_RECORDS
    if state != STATE and (state is not None or same):
        return WRONG_STATE
    return SET_ASIDE if aside or not found else INTACT


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
        (folder / str(number) / FILE).write_bytes(changed)
        found[verdict(folder / str(number), identity)].append(name)
        shutil.rmtree(folder / str(number))
    return found


@pytest.fixture(scope="module")
def sampled(original, tmp_path_factory) -> dict[str, dict[str, list[str]]]:
    folder = tmp_path_factory.mktemp("damaged")
    return {
        damage.__name__: verdicts(damage, 23, original, folder / damage.__name__)
        for damage in DAMAGES
    }


names = [damage.__name__ for damage in DAMAGES]


@pytest.mark.parametrize("damage", names)
def test_damaged_file_never_shows_a_record_that_was_not_written(sampled, damage):
    assert sampled[damage][WRONG_RECORDS] == []
    assert sampled[damage][SET_ASIDE]  # the damage was seen, not missed


@pytest.mark.parametrize("damage", ["flipped", *names[1:]])
def test_damaged_file_never_shows_a_state_that_was_not_saved(sampled, damage):
    assert sampled[damage][WRONG_STATE] == []


@pytest.mark.parametrize("damage", ["flipped", *names[1:]])
def test_damaged_file_does_not_keep_the_store_from_starting(sampled, damage):
    assert sampled[damage][DOES_NOT_OPEN] == []


def test_damage_to_what_is_not_in_use_does_not_cost_the_file(sampled):
    assert len(sampled["flipped"][INTACT]) > 100


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


STATEMENTS = {
    "a row gone": "delete from records where key = 'key-3'",
    "a tombstone gone": "delete from records where key = 'key-0'",
    "every row gone": "delete from records",
    "a value changed": "update records set value = cast('9' as blob) where key = 'key-3'",
    "a value gone": "update records set value = null where key = 'key-3'",
    "a value where there was none": (
        "update records set value = cast('' as blob) where key = 'key-0'"
    ),
    "a value as text": "update records set value = 'text' where key = 'key-3'",
    "a value as number": "update records set value = 7 where key = 'key-3'",
    "an older version": (
        "update records set version = x'00000000000000000001' where key = 'key-3'"
    ),
    "a version that is none": "update records set version = 'x' where key = 'key-3'",
    "a later expiry": "update records set expires_at_ms = 1 where key = 'key-3'",
    "a checksum changed": "update records set checksum = 1 where key = 'key-3'",
    "a key changed": "update records set key = 'key-x' where key = 'key-3'",
    "values of two rows swapped": (
        "update records set value = (select value from records as other where"
        " other.key <> records.key and other.key in ('key-3', 'key-6'))"
        " where key in ('key-3', 'key-6')"
    ),
    "all of two rows swapped but their keys": (
        "update records set (version, value, expires_at_ms, checksum) ="
        " (select version, value, expires_at_ms, checksum from records as other where"
        " other.key <> records.key and other.key in ('key-3', 'key-6'))"
        " where key in ('key-3', 'key-6')"
    ),
    "the digest changed": "update meta set value = '0' where name = 'digest'",
    "the digest gone": "delete from meta where name = 'digest'",
    "every row and the digest gone": (
        "delete from records; delete from meta where name = 'digest'"
    ),
    "the identity gone": "delete from meta where name = 'identity'",
    "an unknown format": "update meta set value = 99 where name = 'format'",
    "all about the file gone": "delete from meta",
    "no table of records": "drop table records",
    "a table that lacks a column": "alter table records drop column checksum",
    "an older state": "update meta set value = cast('{}' as blob) where name = 'state'",
    "a lower epoch": "update meta set value = 6 where name = 'epoch'",
    "the state gone": "delete from meta where name = 'state'",
    "the epoch gone": "delete from meta where name = 'epoch'",
}


@pytest.mark.parametrize(
    "statement", [pytest.param(text, id=name) for name, text in STATEMENTS.items()]
)
def test_altered_file_is_not_served_from(original, tmp_path, statement):
    content, identity = original
    (tmp_path / FILE).write_bytes(content)
    database = apsw.Connection(str(tmp_path / FILE))
    database.execute(statement)
    assert database.total_changes() or "table" in statement
    database.close()

    assert verdict(tmp_path, identity) == SET_ASIDE


def damage_and_open(folder: Path, text: bytes) -> Storage:
    (folder / FILE).write_bytes(text)
    return open_storage(folder, 0, durable=False)


def test_file_set_aside_is_kept_as_it_was_beside_the_next_one(tmp_path):
    identities = set()
    for text in (b"first damage", b"second damage"):
        storage = damage_and_open(tmp_path, text)
        identities.add(storage.identity)
        assert held(storage) == {}
        assert put(storage, record("k", 1)) is None
        storage.close()

    aside = {path.name: path.read_bytes() for path in tmp_path.glob("*.damaged-*")}
    assert aside == {
        f"{FILE}.damaged-1": b"first damage",
        f"{FILE}.damaged-2": b"second damage",
    }
    assert len(identities) == 2


def test_removing_an_old_damaged_file_does_not_cost_a_newer_one(tmp_path):
    for text in (b"first damage", b"second damage"):
        damage_and_open(tmp_path, text).close()
    (tmp_path / f"{FILE}.damaged-1").unlink()

    damage_and_open(tmp_path, b"third damage").close()

    aside = {path.read_bytes() for path in tmp_path.glob("*.damaged-*")}
    assert aside == {b"second damage", b"third damage"}


def test_sound_file_is_not_set_aside_when_no_more_files_can_be_opened(disk, tmp_path):
    put(storage := open_file(tmp_path / "live"), record("k", 1))
    copy_files(tmp_path / "live", tmp_path / "killed")  # with a write-ahead log
    storage.close()

    disk.fault = lambda kind, _: apsw.CantOpenError() if kind == "open beside" else None
    with pytest.raises(apsw.CantOpenError):
        open_storage(tmp_path / "killed", 0, durable=False).close()

    disk.mend()
    again = open_storage(tmp_path / "killed", 0, durable=False)
    assert held(again) == {"k": record("k", 1)}
    again.close()
