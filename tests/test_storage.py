"""What a node keeps: one contract for every storage, then what is durable in a file."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from db import MemoryStorage, Storage, StorageInUse, open_storage
from models import Record, Version, key_token
from storage.content import PARTITION_COUNT, PARTITION_SHIFT, Content
from tests.storage_case import (
    FIRST,
    LOG,
    MARK,
    alter,
    copy_files,
    filled,
    finish,
    held,
    names,
    open_folder,
    put,
    record,
)

ROOT = Path(__file__).resolve().parent.parent


def facts(content: Content) -> object:
    """All that a content says of itself beside its records."""
    return (
        [content.partition_digest(number) for number in range(PARTITION_COUNT)],
        [content.bucket_digests(key_token(key) >> PARTITION_SHIFT) for key in KEYS],
        (content.key_count, content.size_bytes, content.tombstones, content.expiring),
    )


@pytest.fixture(params=["memory", "sqlite"])
def storage(request, tmp_path: Path) -> Iterator[Storage]:
    made = MemoryStorage() if request.param == "memory" else open_folder(tmp_path)
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
    st.tuples(st.just("scrub"), st.integers(1, 5)),
    st.tuples(st.just("restart"), st.none()),
    st.tuples(st.just("kill"), st.none()),
)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@settings(max_examples=40)
@given(steps=st.lists(STEPS, max_size=15))
def test_no_order_of_changes_scrubs_and_restarts_loses_or_invents_one(
    steps, kind, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("storage")
    storage: Storage = MemoryStorage() if kind == "memory" else open_folder(folder)
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
        elif step == "scrub":
            assert storage.scrub(argument) is None
            storage.reopen()  # nothing is wrong with it, so it changes nothing
        elif kind == "sqlite":
            if step == "kill":
                folder = copy_files(folder, tmp_path_factory.mktemp("killed") / "left")
            storage.close()
            storage = open_folder(folder)
        assert held(storage) == expected
        assert facts(storage.content) == facts(filled(expected))
        assert storage.load_state() == state
        assert storage.identity == identity
        assert (storage.problem, storage.trouble, storage.damage) == (None, None, None)
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
    made = [open_folder(tmp_path / "a"), open_folder(tmp_path / "b"), MemoryStorage()]

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
    storage = open_folder(tmp_path)
    put(storage, *AWKWARD)
    finish(storage.save_state(7, b'{"fence":3}'))
    before = (storage.identity, held(storage), storage.content.digest())
    counts = (storage.content.key_count, storage.content.tombstones.copy())
    storage.close()

    again = open_folder(tmp_path)

    assert (again.identity, held(again), again.content.digest()) == before
    assert facts(again.content) == facts(filled({r.key: r for r in AWKWARD}))
    assert (again.content.key_count, again.content.tombstones) == counts
    assert again.content.expiring == {"expires": 123_456_789_012}
    assert again.load_state() == (7, b'{"fence":3}')
    assert held(again) == {r.key: r for r in AWKWARD}
    assert again.content.version_max == (1 << 80) - 1  # for the clock to start above
    again.close()


def test_identity_after_a_wipe_is_not_forgotten_at_the_next_start(tmp_path):
    storage = open_folder(tmp_path)
    put(storage, record("k", 1))
    storage.wipe()
    put(storage, record("after", 1))
    after = storage.identity
    storage.close()

    again = open_folder(tmp_path)

    assert again.identity == after
    assert set(held(again)) == {"after"}
    again.close()


def test_what_is_staged_and_not_committed_does_not_show(tmp_path):
    storage = open_folder(tmp_path)
    put(storage, record("k", 1), record("old", 1, None))

    storage.put_many([record("k", 2), record("new", 1)])
    storage.purge({"old": record("old", 1).version})
    storage.save_state(4, b"state")

    expected = {"k": record("k", 1), "old": record("old", 1, None)}
    assert (held(storage), storage.load_state()) == (expected, None)
    storage.close()
    again = open_folder(tmp_path)
    assert (held(again), again.load_state()) == (expected, None)
    again.close()


def test_what_was_answered_is_not_lost_when_the_process_is_killed(tmp_path):
    storage = open_folder(tmp_path / "live")
    for number in range(1, 30):
        put(storage, record(f"k{number % 7}", number), record("all", number))
        if number % 5 == 0:
            finish(storage.purge({"all": record("all", number).version}))
        left = copy_files(tmp_path / "live", tmp_path / f"killed-{number}")

        again = open_storage(left, durable=False)

        assert held(again) == held(storage)
        assert again.identity == storage.identity
        again.close()
    storage.close()


def test_replicas_do_not_each_keep_their_own_copy_of_a_record(tmp_path):
    for folder, other in (("a", record("other", 1)), ("b", record("other", 2))):
        storage = open_folder(tmp_path / folder)
        put(storage, record("same", 1), other)
        storage.close()
    known: dict[str, Record] = {}

    first, second = (open_folder(tmp_path / folder, known=known) for folder in "ab")

    assert second.get("same") is first.get("same")
    assert second.get("other") == record("other", 2)  # theirs is older: not shared
    assert first.get("other") == record("other", 1)
    first.close()
    second.close()


def test_files_are_not_open_to_other_users(tmp_path):
    folder, umask = tmp_path / "data", os.umask(0)
    try:
        storage = open_folder(folder)
        put(storage, record("k", 1))
        modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
        storage.wipe()
        wiped = (folder / FIRST).stat().st_mode & 0o777
        storage.close()
    finally:
        os.umask(umask)

    assert folder.stat().st_mode & 0o777 == 0o700
    assert modes == {FIRST: 0o600, LOG: 0o600, MARK: 0o600}
    assert wiped == 0o600


def test_second_opening_neither_serves_nor_harms_nor_sets_aside_a_file_in_use(tmp_path):
    storage = open_folder(tmp_path)
    put(storage, record("k", 1))

    for _ in range(2):
        with pytest.raises(StorageInUse, match="another process has"):
            open_storage(tmp_path, durable=False)
    put(storage, record("k", 2))
    storage.close()

    again = open_storage(tmp_path, durable=False)
    assert held(again) == {"k": record("k", 2)}
    assert names(tmp_path) == [FIRST, MARK, LOG]
    again.close()


OPEN_IN_USE = """
import sys
from pathlib import Path
from db import StorageInUse, open_storage
try:
    open_storage(Path(sys.argv[1]))
except StorageInUse:
    sys.exit(7)
"""


def test_nothing_that_is_done_to_its_files_lets_another_process_in(tmp_path):
    storage = open_folder(tmp_path / "node", durable=True)
    put(storage, record("k", 1))
    assert storage.scrub(10) is None
    alter(storage, "delete from records where key = 'k'")
    assert storage.scrub(10) is not None  # written anew
    put(storage, record("k", 2))

    opened = [sys.executable, "-c", OPEN_IN_USE, str(tmp_path / "node")]
    ended = subprocess.run(opened, cwd=ROOT, timeout=60, check=False)

    assert ended.returncode == 7
    assert storage.scrub(10) is None
    put(storage, record("k", 3))
    storage.close()
    again = open_folder(tmp_path / "node")
    assert held(again) == {"k": record("k", 3)}
    again.close()
