"""Damage to the files of the last in-sync copy, left by a killed process.

No peer can mend it, so it must be noticed: a key has the value that was acknowledged last,
or its request is refused because the data are lost. An older value, or a deleted key that
is there again, is never an answer.
"""

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cluster.shard import saved_state
from db import open_storage
from models import KeyNotFound, Unavailable
from replication import ReplicationManager
from tests.damaged_store import cut, flip_bit, flip_byte, memory_folder, store_in

pytestmark = pytest.mark.slow
LAST = "node-0"  # has the last copy; node 1 was failed long before
FILE, LOG, MARK = "records-1.db", "records-1.db-wal", "records-1.db-mark"
FILES = (FILE, LOG, MARK)
PLACES = 60  # in each file, where each place is hit in turn
PAGE = 4_096
NOTHING = object()

two_nodes = partial(store_in, nodes=2, replication_factor=2, log_bytes=90_000)


class Left(NamedTuple):
    """What a killed process left, and what it had acknowledged."""

    data: Path
    values: dict[str, Any]
    earlier: Path  # node-0's folder some commits before, in the same process
    before: Path  # and in the process before that


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    with memory_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def left(memory: Path) -> Left:
    live = memory / "live"
    with two_nodes(live) as store:
        store.write("kept", "before the failure")
        store.write("deleted", "before the failure")
        store.fail(1)
        store.write("changed", "first")
        shutil.copytree(live / LAST, memory / "before")
    with two_nodes(live) as store:
        store.write("changed", "second")
        shutil.copytree(live / LAST, memory / "earlier")
        store.write("changed", "third")
        store.delete("deleted")
        store.write("new", 1)
        shutil.copytree(live, memory / "killed")
    values = {"kept": "before the failure", "changed": "third", "new": 1}
    return Left(
        memory / "killed",
        {**values, "deleted": NOTHING},
        memory / "earlier",
        memory / "before",
    )


@pytest.fixture
def data(left: Left, memory: Path) -> Iterator[Path]:
    yield shutil.copytree(left.data, memory / "trial")
    shutil.rmtree(memory / "trial")


def answers(store: ReplicationManager, left: Left) -> dict[str, Any]:
    """What each key reads as; Unavailable where it is refused."""
    found: dict[str, Any] = {}
    for key in left.values:
        try:
            found[key] = store.read(key).value
        except KeyNotFound:
            found[key] = NOTHING
        except Unavailable:
            found[key] = Unavailable
    return found


def lost_or_right(data: Path, left: Left) -> bool:
    """Whether the data are told to be lost; if not, all of them must be right.

    Twice: what was refused once is not served after another start.
    """
    told: list[set[str]] = []
    answered: list[dict[str, Any]] = []
    for _ in range(2):
        with two_nodes(data) as store:
            found = answers(store, left)
            told.append({event.kind for event in store.events()})
        if Unavailable in found.values():
            assert set(found.values()) == {Unavailable}, found
        else:
            assert found == left.values
        answered.append(found)
    is_lost = Unavailable in found.values()
    if is_lost:
        assert "data_lost" in told[0]
    assert answered[0] == answered[1], "it says something else at the second start"
    return is_lost


def test_files_as_the_kill_left_them_are_all_that_is_needed(data, left):
    assert not lost_or_right(data, left)


# --- A file that is not there, or not its own -------------------------------------------


def remove(path: Path, left: Left) -> None:
    path.unlink()


def empty(path: Path, left: Left) -> None:
    path.write_bytes(b"")


def cut_after_a_page(path: Path, left: Left) -> None:
    path.write_bytes(path.read_bytes()[:PAGE])


def blank(path: Path, left: Left) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def take_the_peers(path: Path, left: Left) -> None:
    shutil.copy(path.parent.with_name("node-1") / path.name, path)


def take_one_from_before_the_start(path: Path, left: Left) -> None:
    shutil.copy(left.before / path.name, path)


def take_an_earlier_one(path: Path, left: Left) -> None:
    shutil.copy(left.earlier / path.name, path)


DAMAGES = (
    remove,
    empty,
    cut_after_a_page,
    blank,
    take_the_peers,
    take_one_from_before_the_start,
    take_an_earlier_one,
)


@pytest.mark.parametrize("damage", DAMAGES)
def test_log_that_is_missing_cut_older_or_anothers_is_noticed(data, left, damage):
    damage(data / LAST / LOG, left)

    assert lost_or_right(data, left)


@pytest.mark.parametrize("damage", [remove, empty, blank, take_the_peers])
def test_mark_that_is_missing_or_anothers_is_noticed(data, left, damage):
    damage(data / LAST / MARK, left)

    assert lost_or_right(data, left)


@pytest.mark.parametrize("damage", DAMAGES)
def test_file_that_is_missing_cut_older_or_anothers_shows_nothing_old(
    data, left, damage
):
    damage(data / LAST / FILE, left)

    lost_or_right(data, left)  # the log may have all of it


@pytest.mark.parametrize("damage", [remove, empty])
def test_log_and_mark_that_are_both_missing_are_noticed(data, left, damage):
    for name in (LOG, MARK):
        damage(data / LAST / name, left)

    assert lost_or_right(data, left)


def test_copy_of_the_folder_without_any_log_is_not_taken_for_a_whole_one(memory):
    live = memory / "both"
    with two_nodes(live) as store:
        store.write("key", "old")
    with two_nodes(live) as store:
        store.write("key", "new")
        without = shutil.ignore_patterns("*-wal")
        copy = shutil.copytree(live, memory / "copy", ignore=without)

    with two_nodes(copy) as store:
        with pytest.raises(Unavailable, match="lost its storage"):
            store.read("key")
        told = {event.kind for event in store.events()}

    assert told >= {"damage_found", "data_lost"}


def test_log_of_one_node_that_is_missing_is_mended_from_its_peer(memory):
    live = memory / "peers"
    with two_nodes(live) as store:
        store.write("key", "old")
        store.write("deleted", 1)
    with two_nodes(live) as store:
        store.write("key", "new")
        store.delete("deleted")
        killed = shutil.copytree(live, memory / "peers-killed")
    (killed / LAST / LOG).unlink()

    with two_nodes(killed) as store:
        value = store.read("key").value
        with pytest.raises(KeyNotFound):
            store.read("deleted")
        statuses = [node.status for node in store.nodes()]
        told = {event.kind for event in store.events()}

    assert (value, statuses) == ("new", ["up", "up"])
    assert "damage_found" in told


def test_log_that_is_put_back_beside_a_file_closed_in_good_order_is_noticed(data, left):
    with two_nodes(data):
        pass
    shutil.copy(left.earlier / LOG, data / LAST / LOG)

    assert lost_or_right(data, left)


def test_file_that_is_older_than_its_last_close_is_noticed(data, left):
    with two_nodes(data) as store:
        store.write("changed", "fourth")
    older = (data / LAST / FILE).read_bytes()
    with two_nodes(data) as store:
        store.write("changed", "third")
    (data / LAST / FILE).write_bytes(older)

    assert lost_or_right(data, left)


# --- Every place --------------------------------------------------------------------------

Damage = Callable[[bytes, int], bytes]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [flip_byte, flip_bit, cut])
def test_no_place_of_a_file_is_one_to_damage_unseen(
    left: Left, memory: Path, damage: Damage, name: str
) -> None:
    content = (left.data / LAST / name).read_bytes()
    lost = 0
    for place in places(content):
        data = shutil.copytree(left.data, memory / "place")
        (data / LAST / name).write_bytes(damage(content, place))
        try:
            lost += lost_or_right(data, left)
        except BaseException as error:
            error.add_note(f"{damage.__name__} at {place} of {name}")
            raise
        finally:
            shutil.rmtree(data)
    assert lost


def places(content: bytes) -> list[int]:
    """Some of each file, and more of what is in use."""
    used = len(content.rstrip(b"\0"))
    return sorted(
        {n * used // PLACES for n in range(PLACES)}
        | {n * len(content) // 8 for n in range(8)}
        | {used - 1, len(content) - 1}
    )


# --- A folder that is older as a whole ----------------------------------------------------


def test_folder_put_back_from_before_the_start_is_noticed_by_what_its_peers_know(
    data, left
):
    shutil.rmtree(data / LAST)
    shutil.copytree(left.before, data / LAST)

    assert lost_or_right(data, left)


def test_folder_put_back_is_mended_where_a_peer_has_everything(memory):
    live = memory / "pair"
    with two_nodes(live) as store:
        store.write("key", "old")
        store.write("deleted", 1)
        before = shutil.copytree(live / LAST, memory / "pair-before")
    with two_nodes(live) as store:
        store.write("key", "new")
        store.delete("deleted")
        killed = shutil.copytree(live, memory / "pair-killed")
    shutil.rmtree(killed / LAST)
    shutil.copytree(before, killed / LAST)

    with two_nodes(killed) as store:
        value = store.read("key").value
        with pytest.raises(KeyNotFound):
            store.read("deleted")
        told = {event.kind for event in store.events()}

    assert value == "new"
    assert "damage_found" in told


@pytest.mark.parametrize("is_interrupted", [False, True])
@pytest.mark.parametrize(
    ("damage", "name"), [(remove, LOG), (remove, FILE), (empty, FILE)]
)
def test_peer_that_knows_of_no_failure_is_not_believed_where_a_newer_state_is_gone(
    memory, tmp_path, damage, name, is_interrupted
):
    live = tmp_path / "live"
    with two_nodes(live) as store:
        store.write("key", "old")
        peer = shutil.copytree(live / "node-1", tmp_path / "peer")
        store.fail(1)
        store.write("key", "new")
        killed = shutil.copytree(live, tmp_path / "killed")
    damage(killed / LAST / name, None)
    shutil.rmtree(killed / "node-1")
    shutil.copytree(peer, killed / "node-1")
    if is_interrupted:  # a start that is killed when it has opened the storages
        storage = open_storage(killed / LAST)
        shutil.copytree(killed / LAST, tmp_path / "left")
        storage.close()
        shutil.rmtree(killed / LAST)
        (tmp_path / "left").rename(killed / LAST)

    for _ in range(2):
        with two_nodes(killed) as store, pytest.raises(Unavailable, match="lost"):
            store.read("key")


def test_folder_put_back_that_could_not_be_read_at_the_start_is_noticed_later(tmp_path):
    three = partial(two_nodes, nodes=3)
    live = tmp_path / "live"
    with three(live) as store:
        store.write("key", "old")
        before = shutil.copytree(live / LAST, tmp_path / "before")
    with three(live) as store:
        store.write("key", "new")
    shutil.rmtree(live / LAST)
    shutil.copytree(before, live / LAST)
    mark = live / LAST / MARK
    kept = mark.read_bytes()
    mark.unlink()
    mark.mkdir()

    with three(live) as store:
        status = store.node(0).status
        mark.rmdir()
        mark.write_bytes(kept)
        recovered = store.recover(0)
        value = store.read("key").value
        told = {event.kind for event in store.events()}

    assert (status, recovered.status, value) == ("down", "up", "new")
    assert "storage_replaced" in told


def test_state_of_a_store_that_flushes_nothing_tells_of_no_epoch_that_may_be_lost(
    tmp_path,
):
    with two_nodes(tmp_path, durability="os") as store:
        store.fail(1)
        store.maintain()
        flushed_by_the_system = saved_state(store.cluster.state().record)
    with two_nodes(tmp_path / "other") as store:
        store.fail(1)
        store.maintain()
        flushed = saved_state(store.cluster.state().record)

    assert flushed_by_the_system.confirmed == {}
    assert flushed.confirmed.keys() == {0, 1}
