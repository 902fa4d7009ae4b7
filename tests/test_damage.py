"""Files that were damaged before a start: nothing wrong is shown, and the store heals.

One node's files are damaged at every place; the other nodes are sound, so nothing may be
lost. Then the same damage on every replica, which must be told and not hidden; and whole
folders that are gone, or something else.
"""

import gc
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest

from db import Storage, open_storage
from models import Record, Staged, Unavailable, Version
from replication import StorageUnreadable
from storage.content import Content, bucket_of
from tests.damaged_store import (
    KEYS,
    VICTIM,
    Cluster,
    Damage,
    check_healed,
    cut,
    damage_newest,
    flip_bit,
    flip_byte,
    make_ended,
    make_killed,
    memory_folder,
    read_all,
    short_logs,
    store_in,
)

FAST = 12  # places of each kind in the fast part
# The slow part takes each 11th place, about a minute; DAMAGE_STEP=1 takes all, in ten.
STEP = int(os.environ.get("DAMAGE_STEP", "11"))
# Bytes that SQLite looks at before it writes: whether the file is only to be read, how much
# of a page is used, and where a page has room.
SEEN_AT_WRITES = (18, 20, 4_097)
slow = pytest.mark.slow
pytestmark = slow  # all of it: `make check` is to stay short


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    with memory_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def ended(memory: Path) -> Cluster:
    return make_ended(memory / "ended")


@pytest.fixture(scope="module")
def killed(memory: Path, ended: Cluster) -> Cluster:
    return make_killed(memory / "killed", ended)


# --- One node, every place ---------------------------------------------------------------


class Trials:
    """One file of one node, damaged at one place after the other."""

    def __init__(self, cluster: Cluster, memory: Path, ending: str) -> None:
        [file] = cluster.folder.glob(f"*{ending}")
        self.content = file.read_bytes()
        self._name = file.relative_to(cluster.data)
        self._cluster = cluster
        self._data = memory / "trial"
        with store_in(shutil.copytree(cluster.data, self._data)) as store:
            self._identity = store.cluster.identity[VICTIM]
        shutil.rmtree(self._data)

    def run(self, damage: Damage, place: int) -> None:
        """Start the whole store on it: it must heal by itself."""
        with self._copied(self._cluster.data, self._data, damage, place):
            with store_in(self._data) as store:
                check_healed(store, self._cluster)
            with store_in(self._data) as store:
                check_healed(store, self._cluster)

    def outcome(self, damage: Damage, place: int) -> object:
        """All that the rest of the store can see of what the node makes of it."""
        folder = self._data / f"node-{VICTIM}"
        with (
            self._copied(self._cluster.data / folder.name, folder, damage, place),
            short_logs(),
            mock.patch.object(Content, "records", _in_order),
        ):
            storage = open_storage(folder)
            found = facts(storage, self._identity)
            if storage.damage is not None:  # it is a new file by now
                storage.close()
                return found
            answers = write_more(storage), write_more(storage)
            storage.close()
            storage = open_storage(folder)
            again = facts(storage, self._identity)
            storage.close()
        return found, answers, again

    @contextmanager
    def _copied(
        self, source: Path, target: Path, damage: Damage, place: int
    ) -> Iterator[None]:
        shutil.copytree(source, target)
        (self._data / self._name).write_bytes(damage(self.content, place))
        try:
            yield
        except Exception as error:
            error.add_note(f"{damage.__name__} at {place} of {self._name}")
            raise
        finally:
            shutil.rmtree(self._data)


def _in_order(content: Content) -> list[Record]:
    """The records in order of buckets, found faster where there are few."""
    return sorted(content.scan("", "", 1_000), key=lambda record: bucket_of(record.key))


def facts(storage: Storage, identity: str) -> object:
    """What a storage shows, its words and the letters of a new identity aside."""
    held = frozenset((r.key, r.version) for r in storage.content.scan("", "", 1_000))
    is_same = storage.identity == identity
    return held, storage.load_state(), is_same, storage.problem is None


def write_more(storage: Storage) -> object:
    """How it takes a record, and a state record."""
    epoch = 1 + (storage.load_state() or (0, b""))[0]
    record = Record("new", Version((1 << 79) + epoch), b"1")
    try:
        for staged in (storage.put_many([record]), storage.save_state(epoch, b"{}")):
            assert isinstance(staged, Staged)
            staged.result()
    except Exception as error:
        return type(error)
    return None


@pytest.mark.parametrize("damage", [flip_byte, flip_bit, cut])
@pytest.mark.parametrize("ending", [".db", "-wal"])
def test_damage_of_one_nodes_files_neither_shows_nor_loses_anything(
    killed, ended, memory, ending, damage
):
    cluster = ended if ending == ".db" else killed
    trials = Trials(cluster, memory, ending)
    size = len(trials.content)
    for place in range(size // FAST // 2, size, size // FAST):
        trials.run(damage, place)


@slow
@pytest.mark.parametrize("damage", [flip_bit, cut])
@pytest.mark.parametrize("ending", [".db", "-wal"])
def test_no_place_of_one_nodes_files_is_one_to_damage_unseen(
    killed, ended, memory, ending, damage
):
    """Place after place; the whole store is started once for each way that it turns out."""
    cluster = ended if ending == ".db" else killed
    trials = Trials(cluster, memory, ending)
    outcomes = set()
    for place in range(0, len(trials.content), STEP):
        if place % (200 * STEP) == 0:
            gc.collect()  # a storage is large, made of few objects, and holds itself
        outcome = trials.outcome(damage, place)
        if outcome not in outcomes:
            outcomes.add(outcome)
            trials.run(damage, place)
    assert len(outcomes) > 1


@pytest.mark.parametrize("place", SEEN_AT_WRITES)
def test_damage_that_is_seen_at_the_first_write_does_not_cost_the_node(
    ended, memory, place
):
    Trials(ended, memory, ".db").run(flip_bit, place)


# --- Every replica, and whole folders ----------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "place"), [(flip_byte, 0), (flip_byte, 3_800), (cut, 6_000), (cut, 0)]
)
def test_damage_of_every_replica_is_told_and_costs_no_other_key(
    ended, tmp_path, damage, place
):
    data = shutil.copytree(ended.data, tmp_path / "data")
    for node in (0, 1):
        damage_newest(data / f"node-{node}", damage, place)

    with store_in(data) as store:
        replica_sets = {key: store.locate(key).replica_set for key in KEYS}
        lost = {key for key in KEYS if 2 not in replica_sets[key]}
        assert lost
        for key in lost:
            with pytest.raises(Unavailable, match=r"every in-sync replica .* lost"):
                store.read(key)
            with pytest.raises(Unavailable, match=r"every in-sync replica .* lost"):
                store.write(key, "over it")
        sound = read_all(store, set(KEYS) - lost)
        statuses = [node.status for node in store.nodes()]
        told = {event.kind for event in store.events()}
        store.recover(0, accept_loss=True)
        store.recover(1)
        accepted = read_all(store, lost)
        healed = {node.status for node in store.nodes()}

    assert sound == {key: ended.values[key] for key in sound}
    assert statuses == ["recovering", "recovering", "up"]
    assert told >= {"storage_replaced", "data_lost"}
    assert all(accepted[key] in (None, ended.values[key]) for key in lost)
    assert healed == {"up"}


@pytest.mark.parametrize("state", ["missing", "empty"])
def test_node_whose_folder_is_gone_is_rebuilt(ended, tmp_path, state):
    data = shutil.copytree(ended.data, tmp_path / "data")
    shutil.rmtree(data / f"node-{VICTIM}")
    if state == "empty":
        (data / f"node-{VICTIM}").mkdir()

    for _ in range(2):
        with store_in(data) as store:
            check_healed(store, ended)


def test_node_whose_folder_is_a_file_is_down_until_it_is_none(ended, tmp_path):
    data = shutil.copytree(ended.data, tmp_path / "data")
    folder = data / f"node-{VICTIM}"
    shutil.rmtree(folder)
    folder.write_text("in the way")

    with store_in(data) as store:
        node = store.node(VICTIM)
        found = read_all(store)
        with pytest.raises(Unavailable, match="cannot come back"):
            store.recover(VICTIM)
        store.write(KEYS[0], "while it was down")
        left = folder.read_text()
        folder.unlink()
        store.recover(VICTIM)
        check_healed(
            store, ended._replace(values={**ended.values, KEYS[0]: "while it was down"})
        )

    assert node.status == "down"
    assert str(folder) in str(node.problem)
    assert found == ended.values
    assert left == "in the way"


def test_store_does_not_start_on_what_may_be_the_wrong_half(ended, tmp_path):
    data = shutil.copytree(ended.data, tmp_path / "data")
    for node in (0, 1):
        shutil.rmtree(data / f"node-{node}")
        (data / f"node-{node}").write_text("in the way")

    with pytest.raises(StorageUnreadable), store_in(data):
        pass

    for node in (0, 1):
        (data / f"node-{node}").unlink()
        shutil.copytree(ended.data / f"node-{node}", data / f"node-{node}")
    with store_in(data) as store:
        check_healed(store, ended)
