"""The manager beside a model, in any order of requests, failures and restarts.

The model is a dict, and it knows who was up when: so it also says which keys must be
readable, and that a refusal changed nothing.
"""

import tempfile
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from config import Settings
from models import (
    Condition,
    KeyNotFound,
    StoreError,
    Unavailable,
    Version,
    VersionMismatch,
)
from replication import open_manager

KEYS = [f"key-{n}" for n in range(6)] + ["a/b ?%", "\u00e9\U0001f600"]
SHAPES = [(1, 1), (2, 2), (3, 2), (3, 3), (5, 3)]

keys = st.sampled_from(KEYS)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


class Clock:
    """A wall clock that the test sets, forward and back; `ms` is the time that passes."""

    def __init__(self):
        self.ms = 1_700_000_000_000
        self.ahead_ms = 0


class StoreBesideModel(RuleBasedStateMachine):
    """What the store says, checked against what was acknowledged."""

    storage = "memory"

    def __init__(self):
        super().__init__()
        self.clock = Clock()
        self.folder = tempfile.TemporaryDirectory()
        clock = self.clock
        self.patches = (
            patch("replication.wall_ms", lambda: clock.ms + clock.ahead_ms),
            patch("replication.steady_ns", lambda: clock.ms * 1_000_000),
        )
        for each in self.patches:
            each.start()
        self.model = {}  # key -> (value, version, expires_at_ms or None)
        self.versions = dict.fromkeys(
            KEYS, ""
        )  # the highest version ever seen of a key

    @initialize(
        shape=st.sampled_from(SHAPES), placement=st.sampled_from(["ring", "full"])
    )
    def open(self, shape, placement):
        nodes, factor = shape
        self.settings = Settings(
            nodes=nodes,
            replication_factor=factor,
            placement=placement,
            storage=self.storage,
            data_dir=Path(self.folder.name),
            durability="os",
            tombstone_grace_seconds=0,
            maintenance_seconds=3600,
        )
        self.store = open_manager(self.settings)

    def teardown(self):
        if hasattr(self, "store"):
            self.store.close()
        for each in self.patches:
            each.stop()
        self.folder.cleanup()

    # --- Requests ----------------------------------------------------------------------

    @rule(key=keys, value=json_values, ttl=st.none() | st.integers(1, 20))
    def write(self, key, value, ttl):
        outcome = self.attempt(key, partial(self.store.write, key, value, ttl=ttl))
        if outcome is not None:
            self.acknowledged(key, outcome, value, ttl)

    @rule(key=keys)
    def delete(self, key):
        try:
            outcome = self.attempt(key, partial(self.store.delete, key))
        except KeyNotFound:
            assert self.current(key) is None
            return
        if outcome is not None:
            assert self.current(key) is not None, "deleted what is not there"
            self.acknowledged(key, outcome, None, None)
            del self.model[key]

    @rule(key=keys, value=json_values, stale=st.booleans())
    def write_if_unchanged(self, key, value, stale):
        current = self.current(key)
        version = current[1] if current is not None and not stale else "0" * 20
        condition = Condition(if_versions=(version,))
        try:
            outcome = self.attempt(
                key, partial(self.store.write, key, value, condition=condition)
            )
        except VersionMismatch as error:
            assert stale or current is None
            assert error.extra["version"] == (current[1] if current else None)
            return
        if outcome is not None:
            assert current is not None
            assert not stale
            self.acknowledged(key, outcome, value, None)

    @rule(key=keys, value=json_values)
    def create(self, key, value):
        condition = Condition(if_absent=True)
        try:
            outcome = self.attempt(
                key, partial(self.store.write, key, value, condition=condition)
            )
        except VersionMismatch:
            assert self.current(key) is not None
            return
        if outcome is not None:
            assert self.current(key) is None
            self.acknowledged(key, outcome, value, None)

    @rule(key=keys, value=json_values, ahead=st.sampled_from([-1, 0, 30_000 << 32]))
    def restore(self, key, value, ahead):
        """As a backup would have it: older or newer than what is held, or than the clock."""
        current = self.current(key)
        if ahead >= 0:  # above all that was ever made
            above = (self.store.cluster.now_ms() + 1 << Version.MS_SHIFT) + ahead
            text = Version(above).text
        elif current is not None:
            text = current[1]
        else:
            return  # what was deleted may be forgotten, and then there is nothing newer
        version = Version(int(text, 16))
        try:
            outcome = self.attempt(
                key, partial(self.store.restore, key, value, version)
            )
        except VersionMismatch as error:
            assert ahead < 0
            assert error.extra["version"] == current[1]
            return
        if outcome is not None:
            assert ahead >= 0
            assert outcome.version == text
            self.acknowledged(key, outcome, value, None)

    @rule(key=keys)
    def read(self, key):
        try:
            outcome = self.attempt(key, partial(self.store.read, key))
        except KeyNotFound:
            assert self.current(key) is None, "an acknowledged write is gone"
            return
        if outcome is not None:
            current = self.current(key)
            assert current is not None, f"{outcome.value!r} came back"
            assert outcome.value == current[0]
            assert outcome.version == current[1]

    @rule()
    def list_keys(self):
        try:
            page = self.store.keys(limit=100)
        except Unavailable:
            assert (
                any(not self.is_available(key) for key in KEYS)
                or not self.store.is_ready()
            )
            return
        expected = sorted(key for key in KEYS if self.current(key) is not None)
        assert [entry.key for entry in page.keys] == expected

    # --- What breaks -------------------------------------------------------------------

    @rule(data=st.data())
    def fail(self, data):
        node = data.draw(st.integers(0, self.settings.nodes - 1))
        assert self.store.fail(node).status == "down"

    @rule(data=st.data())
    def wipe(self, data):
        """Only where some other in-sync replica survives: beyond that, all may be lost."""
        node = data.draw(st.integers(0, self.settings.nodes - 1))
        shards = self.store.cluster.shards_of(node)
        if all(set(shard.in_sync) - {node} for shard in shards):
            assert self.store.fail(node, "wipe").keys == 0

    @rule(data=st.data())
    def recover(self, data):
        node = data.draw(st.integers(0, self.settings.nodes - 1))
        info = self.store.recover(node)
        assert info.status == "up" or info.waiting_for

    @rule(ms=st.integers(1, 15_000))
    def time_passes(self, ms):
        before_ms = self.store.cluster.now_ms()
        self.clock.ms += ms
        assert self.store.cluster.now_ms() == before_ms + ms, "time has another pace"

    @rule(ms=st.sampled_from([-86_400_000, -60_000, 60_000, 86_400_000]))
    def clock_is_set(self, ms):
        before_ms = self.store.cluster.now_ms()
        self.clock.ahead_ms += ms
        assert self.store.cluster.now_ms() == before_ms, "it moves what is to end"

    @rule()
    def maintain(self):
        self.store.maintain()

    @rule()
    def scrub(self):
        self.store.scrub()
        kinds = {event.kind for event in self.store.events()}
        assert not kinds & {"damage_found", "storage_failed"}

    @precondition(lambda self: self.storage == "sqlite")
    @rule(clean=st.booleans(), set_ms=st.sampled_from([0, 0, -60_000, 60_000]))
    def restart(self, clean, set_ms):
        """Stop in good order or as if killed; the clock may be set meanwhile."""
        newest = Version(
            max(node.storage.content.version_max for node in self.store._nodes.values())
        )
        before = {node.node_id: node.status for node in self.store.nodes()}
        if clean:
            self.store.close()
        else:
            self.store._upkeep.stop()
            self.store._scrub.stop()
            for node in self.store._nodes.values():
                node.storage.close()
        self.clock.ahead_ms += set_ms
        self.store = open_manager(self.settings)
        assert self.store.cluster.now_ms() >= newest.ms
        after = {node.node_id: node.status for node in self.store.nodes()}
        down = {node for node, status in before.items() if status == "down"}
        assert {node for node, status in after.items() if status == "down"} == down

    @invariant()
    def replicas_that_are_up_agree(self):
        if not hasattr(self, "store"):
            return
        all_up = {node.status for node in self.store.nodes()} == {"up"}
        for shard in self.store.cluster.shards.values():
            assert shard.in_sync, "an in-sync set is empty"
            assert not all_up or shard.sources == shard.replicas
            contents = [self.store._nodes[n].storage.content for n in shard.sources]
            for partition in shard.partitions[::64]:
                assert len({c.partition_digest(partition) for c in contents}) <= 1

    # --- The model ---------------------------------------------------------------------

    def attempt(self, key, call):
        """The outcome, or None where the store is entitled to refuse and did."""
        try:
            return call()
        except Unavailable as error:
            assert error.definite
            assert not self.is_available(key), f"refused, but a replica is up: {error}"
            return None
        except StoreError as error:
            assert error.definite, "nothing here makes an outcome uncertain"
            raise

    def is_available(self, key):
        shard = self.store.cluster.shard(key)
        return bool(shard.sources)

    def acknowledged(self, key, outcome, value, ttl):
        assert outcome.version > self.versions[key], "a version went back"
        self.versions[key] = outcome.version
        written_ms = int(outcome.version[:12], 16)
        expires = written_ms + ttl * 1000 if ttl is not None else None
        self.model[key] = (value, outcome.version, expires)
        note(f"{key} = {value!r} at {outcome.version}")

    def current(self, key):
        """What a reader must see: (value, version, expiry), or None."""
        found = self.model.get(key)
        now_ms = self.store.cluster.now_ms()
        if found is not None and found[2] is not None and found[2] <= now_ms:
            del self.model[key]
            return None
        return found


class StoreOnFilesBesideModel(StoreBesideModel):
    """The same on SQLite files, with restarts of the whole process."""

    storage = "sqlite"


def test_memory_store_never_disagrees_with_its_model():
    run_state_machine_as_test(
        StoreBesideModel, settings=settings(max_examples=80, stateful_step_count=40)
    )


@pytest.mark.slow
def test_store_on_files_never_disagrees_with_its_model():
    run_state_machine_as_test(
        StoreOnFilesBesideModel,
        settings=settings(max_examples=40, stateful_step_count=40),
    )
