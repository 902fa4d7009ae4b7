"""Records as a backup takes them, and keys restored under the versions that they had."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster import listing
from models import InvalidRequest, KeyNotFound, Unavailable, Version, VersionMismatch
from replication import open_manager


@pytest.fixture
def store():
    with open_manager(nodes=3, replication_factor=2) as store:
        yield store


def records_of(store, limit=100):
    found, after = [], ""
    while after is not None:
        page = store.records(after, limit)
        found += page.records
        after = page.next
    return found


def restore(store, record):
    version = Version(int(record.version, 16))
    return store.restore(record.key, record.value, version, record.expires_at_ms)


def test_restored_key_has_its_value_and_its_version(store):
    version = store.write("a", {"n": 1}).version
    (record,) = records_of(store)

    with open_manager(nodes=5, replication_factor=3) as other:
        outcome = restore(other, record)
        found = other.read("a")

    assert outcome.version == found.version == version
    assert found.value == {"n": 1}
    assert len(outcome.replicas) == 3


def test_version_after_a_restore_is_not_below_one_from_a_clock_that_was_ahead(store):
    ahead = Version(store.cluster.now_ms() + 50_000 << Version.MS_SHIFT)

    store.restore("a", 1, ahead)

    assert store.write("a", 2).version > ahead.text
    assert store.write("b", 2).version > ahead.text


@pytest.mark.parametrize("ahead_ms", [70_000, 1 << 40, 1 << 60])
def test_restore_does_not_take_the_clock_far_ahead_so_that_keys_end_early(
    store, ahead_ms
):
    store.write("passing", 1, ttl=3600)
    before = store.cluster.now_ms()

    with pytest.raises(InvalidRequest):
        store.restore("a", 1, Version(before + ahead_ms << Version.MS_SHIFT))

    assert store.cluster.now_ms() < before + 60_000
    assert store.read("passing").value == 1


def test_operator_may_let_the_clock_jump_for_a_backup_of_a_machine_that_was_ahead():
    with open_manager(max_clock_jump_seconds=7200) as store:
        ahead = Version(store.cluster.now_ms() + 7_000_000 << Version.MS_SHIFT)
        store.restore("a", 1, ahead)

        assert store.write("a", 2).version > ahead.text


@pytest.mark.parametrize("version", [0, -1, 1 << 79])
def test_version_that_no_store_gives_is_not_restored(store, version):
    with pytest.raises(InvalidRequest):
        store.restore("a", 1, Version(version))


def test_restore_does_not_bring_a_deleted_key_back(store):
    store.write("a", 1)
    (record,) = records_of(store)
    deleted = store.delete("a").version

    with pytest.raises(VersionMismatch) as told:
        restore(store, record)

    assert told.value.extra["version"] == deleted
    with pytest.raises(KeyNotFound):
        store.read("a")


def test_restore_does_not_overwrite_what_was_written_since(store):
    store.write("a", "old")
    (record,) = records_of(store)
    store.write("a", "new")

    with pytest.raises(VersionMismatch):
        restore(store, record)

    assert store.read("a").value == "new"


def test_restoring_twice_changes_nothing(store):
    version = store.write("a", 1).version
    (record,) = records_of(store)

    with pytest.raises(VersionMismatch) as told:
        restore(store, record)

    assert told.value.extra["version"] == version
    assert store.read("a").version == version


def test_restore_reaches_the_replica_that_was_down_when_it_comes_back(store):
    set_ = store.locate("a").replica_set
    version = Version(store.cluster.now_ms() << Version.MS_SHIFT)
    store.fail(set_[0])
    assert store.restore("a", 1, version).missed == (set_[0],)

    assert store.recover(set_[0]).recovery.copied == 1

    store.fail(set_[1])
    assert store.read("a").version == version.text


def test_restored_key_expires_when_it_would_have(store):
    store.write("lasting", 1)
    store.write("passing", 1, ttl=1000)
    before = {record.key: record.expires_at_ms for record in records_of(store)}
    assert before["lasting"] == 0
    assert before["passing"] == pytest.approx(store.cluster.now_ms() + 1e6, abs=6e4)
    past = store.cluster.now_ms() - 1

    store.restore("past", 1, Version((past - 9) << Version.MS_SHIFT), past)

    with pytest.raises(KeyNotFound):
        store.read("past")
    assert {record.key for record in records_of(store)} == {"lasting", "passing"}


def test_page_of_records_is_bounded_in_bytes_and_still_goes_on(store, monkeypatch):
    monkeypatch.setattr(listing, "RECORDS_BYTES", 1000)
    for index in range(9):
        store.write(f"key{index}", "x" * (400 if index % 2 else 1500))

    page = store.records()

    assert 1 <= len(page.records) < 9
    assert page.next == page.records[-1].key
    assert [record.key for record in records_of(store)] == [f"key{i}" for i in range(9)]


def test_records_of_a_shard_that_is_down_are_not_left_out_but_unavailable(store):
    for index in range(20):
        store.write(f"key{index}", index)
    store.fail(0)
    assert len(records_of(store)) == 20
    store.fail(1)

    with pytest.raises(Unavailable):
        store.records()


@settings(max_examples=30)
@given(
    st.dictionaries(
        st.text("abcäé/ ", min_size=1, max_size=5),
        st.one_of(st.none(), st.integers(), st.text(max_size=5)),
        max_size=12,
    ),
    st.sampled_from([(1, 1), (2, 2), (4, 2), (5, 3)]),
    st.integers(1, 5),
)
def test_any_store_is_the_same_in_any_other_shape(content, shape, limit):
    nodes, factor = shape
    with (
        open_manager(nodes=3, replication_factor=2) as store,
        open_manager(nodes=nodes, replication_factor=factor) as other,
    ):
        for key, value in content.items():
            store.write(key, value)
        for key in list(content)[::3]:
            store.delete(key)
        records = records_of(store, limit)
        for record in records:
            restore(other, record)

        assert msgspec.json.encode(records_of(other)) == msgspec.json.encode(records)
