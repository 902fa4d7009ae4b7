"""The simulated disk: what is durable, what a crash keeps of the rest, and how it fails."""

from collections import Counter
from typing import Any

import pytest

from models import Refused, Unconfirmed
from simulation.storage import FAILING, FULL, OK, UNCONFIRMED
from storage.base import StorageEnded
from tests.simulation.disks import Disk
from tests.simulation.small import pass_time
from tests.storage_case import by_key, held, record

LATER = 1_000_000


# --- Durability ------------------------------------------------------------------------


def test_a_put_does_not_show_and_is_not_acknowledged_before_it_is_durable():
    disk = Disk(flush=(100, 100))
    disk.put("put", record("k", 1))

    pass_time(disk.kernel, 99)
    early = (disk.storage.get("k"), list(disk.told["put"]))
    pass_time(disk.kernel, 1)

    assert early == (None, [])
    assert disk.storage.get("k") == record("k", 1)
    assert disk.told["put"] == [None]


def test_commits_do_not_overtake_each_other_however_long_each_takes():
    for seed in range(50):
        disk = Disk(seed)
        for number in range(20):
            disk.storage.place = number * 7_919 << 1  # each has a draw of its own
            disk.put(f"{number}", record("k", number + 1))
        seen: list[int] = []
        while not seen or seen[-1] < 20:
            pass_time(disk.kernel, 1)
            found = disk.storage.get("k")
            if found is not None and [found.version.ms] != seen[-1:]:
                seen.append(found.version.ms)
        assert seen == sorted(seen)
        assert all(disk.told[str(number)] == [None] for number in range(20))


def durable_after(places: list[int]) -> list[int]:
    """When each of some commits that are staged at once is durable."""
    disk = Disk(flush=(0, 1_500))
    times: list[int] = []
    for number, place in enumerate(places):
        disk.storage.place = place
        staged: Any = disk.storage.put_many([record("k", number + 1)])
        staged.then(lambda answer, error: times.append(disk.kernel.now))
    disk.settle()
    return times


def test_a_commit_does_not_end_before_its_own_time_because_a_later_one_is_quicker():
    places = [number * 7_919 << 1 for number in range(20)]
    alone = [durable_after([place])[0] for place in places]
    together = durable_after(places)

    assert together == [max(alone[: n + 1]) for n in range(20)]
    assert sorted(alone) != alone


def test_an_older_record_is_not_kept_and_its_writer_is_not_left_in_the_dark():
    disk = Disk()
    disk.put("new", record("k", 5), record("other", 1))
    disk.put("old", record("k", 3), record("other", 2))
    disk.settle()

    assert disk.told["old"] == [record("k", 5).version]
    assert held(disk.storage) == by_key(record("k", 5), record("other", 2))


def test_a_state_record_does_not_go_back_to_an_older_epoch():
    disk = Disk()
    disk.save("new", 5, b"new")
    disk.save("old", 4, b"old")
    before = disk.storage.load_state()
    disk.settle()

    assert before is None
    assert disk.storage.load_state() == (5, b"new")


# --- A crash ---------------------------------------------------------------------------


def staged_disk(seed: int) -> Disk:
    """Something durable, then four commits of three records each on their way."""
    disk = Disk(seed)
    disk.put("durable", record("durable", 1), record("k-0-0", 1))
    disk.settle()
    pass_time(disk.kernel, seed)  # crashes are drawn by their time too
    for commit in range(4):
        disk.put(f"{commit}", *(record(f"k-{commit}-{n}", 2) for n in range(3)))
    return disk


def test_a_crash_keeps_no_later_record_without_every_earlier_one():
    kept: Counter[int] = Counter()
    order = [record(f"k-{commit}-{n}", 2) for commit in range(4) for n in range(3)]
    for seed in range(150):
        disk = staged_disk(seed)
        torn = disk.storage.crash()
        found = held(disk.storage)
        is_kept = [found.get(each.key) == each for each in order]
        count = sum(is_kept)
        assert is_kept == [True] * count + [False] * (12 - count)
        assert found["durable"] == record("durable", 1)
        assert found["k-0-0"].version.ms == (2 if count else 1)
        assert torn == bool(count % 3)
        kept[count] += 1

    assert set(kept) == set(range(13))  # cut off at every place there is


def test_what_was_acknowledged_is_not_lost_in_a_crash_at_any_time():
    for seed in range(80):
        disk = Disk(seed, (0, 1_500))
        for number in range(10):
            disk.put(f"{number}", record(f"k{number}", 1), record("all", number + 1))
        pass_time(disk.kernel, seed * 20)
        acknowledged = [name for name, told in disk.told.items() if told]
        identity = disk.storage.identity

        disk.storage.crash()

        assert all(disk.storage.get(f"k{name}") for name in acknowledged)
        assert len(acknowledged) <= len(held(disk.storage))
        assert disk.storage.identity == identity


def test_commits_of_an_earlier_start_never_end():
    disk = staged_disk(3)
    disk.storage.crash()
    disk.put("new", record("new", 1))
    found = held(disk.storage)
    disk.settle()

    assert [disk.told[str(commit)] for commit in range(4)] == [[]] * 4
    assert disk.told["new"] == [None]
    assert held(disk.storage) == {**found, "new": record("new", 1)}


def test_a_commit_is_not_durable_at_the_time_of_one_before_the_crash():
    disk = Disk(flush=(100, 100))
    disk.put("lost", record("lost", 1))
    pass_time(disk.kernel, 60)
    disk.storage.crash()
    disk.put("new", record("new", 1))
    pass_time(disk.kernel, 99)
    early = list(disk.told["new"])
    pass_time(disk.kernel, 1)

    assert (early, disk.told["new"]) == ([], [None])


def test_a_crash_does_not_keep_a_state_record_or_a_purge_out_of_turn():
    for seed in range(40):
        disk = Disk(seed)
        disk.put("tombstone", record("k", 1, None))
        disk.settle()
        pass_time(disk.kernel, seed)
        disk.purge("purge", record("k", 1))
        disk.save("state", 9, b"state")
        disk.storage.crash()

        if disk.storage.load_state() is not None:
            assert disk.storage.get("k") is None


# --- A full disk, and a flush that fails -----------------------------------------------


def test_a_full_disk_takes_nothing_says_so_and_goes_on_once_there_is_room():
    disk = Disk()
    disk.put("before", record("before", 1))
    disk.settle()
    disk.storage.disk = FULL
    disk.put("full", record("full", 1))
    disk.save("state", 1, b"state")
    disk.settle()
    disk.storage.disk = OK
    disk.put("after", record("after", 1))
    disk.settle()

    assert isinstance(disk.told["full"][0], Refused)
    assert disk.storage.problem is None
    assert set(held(disk.storage)) == {"before", "after"}


def test_an_unconfirmed_flush_is_not_always_kept_or_always_lost_and_there_is_one():
    kept: Counter[bool] = Counter()
    for seed in range(60):
        disk = Disk(seed)
        disk.storage.disk = UNCONFIRMED
        disk.put("one", record("one", 1))
        disk.put("two", record("two", 1))
        disk.settle()

        [error] = disk.told["one"]
        assert isinstance(error, Unconfirmed)
        assert disk.told["two"] == [None]
        assert (disk.storage.disk, disk.storage.problem) == (OK, None)
        assert disk.storage.get("two") is not None
        kept[disk.storage.get("one") is not None] += 1
    assert min(kept.values()) > 10


# --- A disk that fails -----------------------------------------------------------------


def failed_disk(seed: int = 1) -> Disk:
    disk = Disk(seed)
    disk.put("durable", record("durable", 1))
    disk.settle()
    disk.storage.disk = FAILING
    disk.put("first", record("first", 1))
    disk.save("second", 1, b"state")
    disk.settle()
    return disk


def test_a_failing_disk_fails_what_is_under_way_and_takes_nothing_after():
    disk = failed_disk()

    assert [type(disk.told[name][0]) for name in ("first", "second")] == [
        StorageEnded,
        StorageEnded,
    ]
    assert disk.storage.problem is not None
    for change in (
        lambda: disk.storage.put_many([record("k", 1)]),
        lambda: disk.storage.purge({"durable": record("durable", 1).version}),
        lambda: disk.storage.save_state(2, b"new"),
        disk.storage.reopen,  # it still fails
    ):
        with pytest.raises(StorageEnded):
            change()
    assert held(disk.storage) == by_key(record("durable", 1))  # memory is the truth


def test_storage_whose_disk_was_mended_takes_nothing_before_it_is_reopened():
    disk = failed_disk()
    identity = disk.storage.identity
    disk.storage.disk = OK
    with pytest.raises(StorageEnded):
        disk.storage.put_many([record("k", 1)])

    disk.storage.reopen()
    disk.put("new", record("new", 1))
    disk.settle()

    assert (disk.storage.problem, disk.storage.identity) == (None, identity)
    assert held(disk.storage) == by_key(record("durable", 1), record("new", 1))
    assert len(disk.told["first"]) == 1


def test_a_crash_on_a_failing_disk_shows_nothing_before_it_is_mended_and_reopened():
    disk = Disk()
    disk.put("put", record("durable", 1))
    disk.save("state", 3, b"state")
    disk.settle()
    identity = disk.storage.identity
    disk.storage.disk = FAILING

    disk.storage.crash()
    disk.storage.crash()  # and again
    hidden = (held(disk.storage), disk.storage.load_state(), disk.storage.identity)
    with pytest.raises(StorageEnded):
        disk.storage.reopen()
    disk.storage.disk = OK
    disk.storage.crash()
    still = (held(disk.storage), disk.storage.problem is not None)
    disk.storage.reopen()

    assert hidden == ({}, None, "")
    assert still == ({}, True)
    assert held(disk.storage) == by_key(record("durable", 1))
    assert disk.storage.load_state() == (3, b"state")
    assert (disk.storage.identity, disk.storage.problem) == (identity, None)


def test_what_failed_is_not_always_gone_after_a_crash():
    kept: Counter[bool] = Counter()
    for seed in range(60):
        disk = failed_disk(seed)
        disk.storage.disk = OK
        disk.storage.crash()
        assert disk.storage.get("durable") is not None
        kept[disk.storage.get("first") is not None] += 1

    assert min(kept.values()) > 10


def test_what_failed_does_not_come_back_after_it_was_reopened():
    for seed in range(30):
        disk = failed_disk(seed)
        disk.storage.disk = OK
        disk.storage.reopen()
        disk.storage.crash()

        assert held(disk.storage) == by_key(record("durable", 1))


@pytest.mark.parametrize("how", ["wipe", "lose"])
def test_a_disk_that_was_lost_does_not_keep_its_name_or_anything_else(how):
    disk = failed_disk()
    names = {disk.storage.identity}
    for _ in range(3):
        disk.storage.disk = OK
        if how == "wipe":
            disk.storage.wipe()
        else:
            disk.storage.lose(0)
        names.add(disk.storage.identity)
        assert (held(disk.storage), disk.storage.load_state()) == ({}, None)
        assert disk.storage.problem is None
        disk.put("new", record("new", 1))  # still under way when it is lost again
    disk.settle()

    assert len(names) == 4
    assert held(disk.storage) == by_key(record("new", 1))
    disk.storage.crash()
    assert held(disk.storage) == by_key(record("new", 1))


@pytest.mark.parametrize("disk", [FAILING, FULL])
def test_an_empty_disk_is_not_as_bad_as_the_one_that_it_replaces(disk):
    one = Disk()
    one.storage.disk = disk
    one.storage.lose(0)

    assert one.storage.disk == OK


def test_a_damaged_disk_keeps_a_part_of_its_records_under_a_new_name_and_says_so():
    disk = Disk()
    disk.put("put", *(record(f"k{n}", 1) for n in range(200)))
    disk.settle()
    before, identity = held(disk.storage), disk.storage.identity

    disk.storage.lose(70)

    left = held(disk.storage)
    assert 100 < len(left) < 170
    assert left.items() <= before.items()
    assert disk.storage.damage is not None
    assert disk.storage.identity != identity
