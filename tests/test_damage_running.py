"""Files that are damaged while they are in use: found, mended from memory, never shown."""

import shutil
from pathlib import Path

import pytest

from db import open_storage
from models import Unavailable
from replication import ReplicationManager
from tests.damaged_store import (
    KEYS,
    VICTIM,
    Cluster,
    check_healed,
    flip_in_place,
    make_ended,
    newest,
    read_all,
    short_logs,
    store_in,
    write_all,
)
from tests.power_loss import Disk

PAGE = 4_096  # SQLite's first one has the schema, the others what was written
slow = pytest.mark.slow
pytestmark = slow  # all of it: `make check` is to stay short


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    return make_ended(tmp_path_factory.mktemp("ended") / "data")


def scrub_all(store: ReplicationManager) -> None:
    """As often as it takes to go round each file, whichever part comes first."""
    for _ in range(2):
        store.scrub()


def damage_running(
    cluster: Cluster, tmp_path: Path, places: range
) -> tuple[int, list[int]]:
    """Flip bits of the file of a node that runs, one after the other.

    How many were found, and at which places they were not, but would be at a start.
    """
    folder = tmp_path / "data" / f"node-{VICTIM}"
    shutil.copytree(cluster.data, tmp_path / "data")
    found, unseen = 0, []
    with store_in(tmp_path / "data") as store:
        newest(folder).unlink()  # so that the next has everything, and its log nothing
        scrub_all(store)
        [event] = store.events()
        assert event.kind == "damage_found"
        seen = event.number
        for place in places:
            flip_in_place(newest(folder), place)
            scrub_all(store)
            assert read_all(store) == cluster.values, place
            new = store.events(seen)
            if new:
                seen = new[-1].number
                assert {event.kind for event in new} == {"damage_found"}, new
                found += 1
                continue
            if is_damaged(folder, tmp_path / "copy"):
                unseen.append(place)
            flip_in_place(newest(folder), place)  # back again
        check_healed(store, cluster)
    with store_in(tmp_path / "data") as store:
        check_healed(store, cluster)
    return found, unseen


def is_damaged(folder: Path, copy: Path) -> bool:
    """Whether a start would find something wrong with the files as they are."""
    shutil.copytree(folder, copy)
    with short_logs():
        storage = open_storage(copy)
    storage.close()
    shutil.rmtree(copy)
    return storage.damage is not None or storage.problem is not None


@pytest.mark.parametrize("step", [800, pytest.param(16, marks=slow)])
def test_damage_of_what_a_running_node_wrote_is_found_and_mended(ended, tmp_path, step):
    size = newest(ended.folder).stat().st_size

    found, unseen = damage_running(ended, tmp_path, range(PAGE, size, step))

    assert found > 0
    assert unseen == []


def test_damage_of_what_sqlite_wrote_itself_is_found_and_mended(ended, tmp_path):
    found, unseen = damage_running(ended, tmp_path, range(100, PAGE, 400))

    assert found > 0
    assert unseen == []


@pytest.mark.parametrize("step", [2_000, pytest.param(100, marks=slow)])
def test_damage_of_the_log_of_a_running_node_neither_shows_nor_loses_anything(
    ended, tmp_path, step
):
    """What of it a scrub cannot see yet, because it was read before, a start sees."""
    data = tmp_path / "data"
    for place in range(0, 16_000, step):
        with store_in(shutil.copytree(ended.data, data)) as store:
            values = write_all(store)
            [log] = (data / f"node-{VICTIM}").glob("*-wal")
            flip_in_place(log, place)
            scrub_all(store)
            check_healed(store, ended.now(**values))
            killed = shutil.copytree(data, tmp_path / "killed")
        for left in (killed, data):
            with store_in(left) as store:
                check_healed(store, ended.now(**values))
            shutil.rmtree(left)


def test_node_whose_disk_failed_is_down_and_comes_back_with_all(ended, tmp_path):
    data = shutil.copytree(ended.data, tmp_path / "data")
    folder = data / f"node-{VICTIM}"
    later = ended.now(**dict.fromkeys(KEYS, "later"))
    with Disk(data, 0) as disk, store_in(data) as store:
        before = newest(folder).name
        disk.failing = folder
        for key in KEYS:
            store.write(key, "later")
        node, found = store.node(VICTIM), read_all(store)
        with pytest.raises(Unavailable, match="cannot come back"):
            store.recover(VICTIM)
        disk.failing = None
        store.recover(VICTIM)
        check_healed(store, later)
        after = newest(folder).name
    with store_in(data) as store:
        check_healed(store, later)

    assert node.status == "down"
    assert "a flush failed" in str(node.problem)
    assert found == later.values
    assert after != before
