"""The rules of in-sync sets, one by one, and all of them together under random changes.

The second half keeps, beside the real membership, what every node truly holds: whoever
is called in sync must hold every write that was acknowledged.
"""

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cluster.clock import HybridClock
from cluster.membership import Membership
from cluster.placement import PARTITION_COUNT, Assignment
from cluster.shard import (
    DOWN,
    RECOVERING,
    UP,
    Layout,
    LayoutMismatch,
    SavedState,
    ShardState,
)
from models import Answers, Ask, NodeNotFound, SaveState

ALL_THREE: Assignment = ((0, 1, 2),) * PARTITION_COUNT
PAIRS: Assignment = (((0, 1), (1, 2), (2, 0)) * PARTITION_COUNT)[:PARTITION_COUNT]


def members_of(assignment: Assignment = ALL_THREE, min_in_sync: int = 1) -> Membership:
    nodes = sorted({node for replicas in assignment for node in replicas})
    return Membership(
        assignment,
        Layout("by hand", tuple(nodes), len(assignment[0])),
        {node: f"storage-{node}" for node in nodes},
        HybridClock(lambda: 1_000, lambda: 0),
        min_in_sync=min_in_sync,
    )


def only_shard(cluster: Membership) -> ShardState:
    [shard] = cluster.shards.values()
    return shard


def saved(cluster: Membership) -> SavedState:
    """Save what there is to save, and what was saved."""
    state = cluster.unsaved()
    assert state is not None, "nothing to save"
    cluster.mark_saved(state.epoch)
    return msgspec.json.decode(state.record, type=SavedState)


def facts(cluster: Membership) -> object:
    """All that may change, to show that nothing did."""
    return (
        cluster.epoch,
        cluster.fence,
        dict(cluster.status),
        dict(cluster.identity),
        [
            (s.in_sync, s.members, s.sources, s.targets, s.writable, s.lost)
            for s in cluster.shards.values()
        ],
        [
            (
                set(s.unchecked),
                set(s.dirty),
                {n: k and set(k) for n, k in s.missed.items()},
            )
            for s in cluster.shards.values()
        ],
    )


@pytest.fixture
def cluster() -> Membership:
    made = members_of()
    saved(made)
    return made


@pytest.fixture
def shard(cluster: Membership) -> ShardState:
    return only_shard(cluster)


# --- Leaving the set ---------------------------------------------------------------------


def test_new_cluster_does_not_refuse_its_first_write():
    shard = only_shard(members_of(min_in_sync=3))

    assert shard.in_sync == shard.members == shard.sources == (0, 1, 2)
    assert shard.writable


def test_member_that_missed_a_write_is_not_read_from_again(cluster, shard):
    assert cluster.conclude(shard, "k", (0, 2), cluster.min_in_sync)

    assert shard.in_sync == shard.sources == (0, 2)
    assert shard.targets == (0, 1, 2)  # it goes on being written to
    assert cluster.status == {0: UP, 1: RECOVERING, 2: UP}
    assert shard.missed == {1: {"k"}}


def test_eviction_is_not_believed_before_it_is_saved(cluster, shard):
    cluster.conclude(shard, "k", (0, 2), cluster.min_in_sync)

    unsaved = shard.writable
    cluster.mark_saved(cluster.epoch - 1)
    too_old = shard.writable
    saved(cluster)

    assert (unsaved, too_old, shard.writable) == (False, False, True)
    cluster.mark_saved(cluster.epoch - 1)  # the answer to an earlier save, come late
    assert cluster.unsaved() is None


@pytest.mark.parametrize("confirmed", [(), (1,), (1, 2)])
def test_write_that_no_member_confirmed_does_not_empty_the_set(
    cluster, shard, confirmed
):
    cluster.conclude(shard, "other", (0,), cluster.min_in_sync)
    before = facts(cluster)

    assert not cluster.conclude(shard, "k", confirmed, cluster.min_in_sync)

    assert facts(cluster) == before


def test_too_few_confirmations_are_not_acknowledged_and_change_nothing():
    cluster = members_of(min_in_sync=2)
    before = facts(cluster)

    assert not cluster.conclude(only_shard(cluster), "k", (1,), cluster.min_in_sync)

    assert facts(cluster) == before
    assert cluster.conclude(only_shard(cluster), "k", (1, 2), cluster.min_in_sync)


def test_two_writes_that_shrink_the_set_at_once_do_not_empty_it(cluster, shard):
    assert cluster.conclude(shard, "one", (0, 1), cluster.min_in_sync)
    assert cluster.conclude(
        shard, "two", (1, 2), cluster.min_in_sync
    )  # 2 is no member any more

    assert shard.in_sync == (1,)
    assert shard.missed == {2: {"one"}, 0: {"two"}}


def test_write_that_everybody_confirmed_changes_nothing(cluster, shard):
    before = facts(cluster)

    assert cluster.conclude(shard, "k", (2, 1, 0), cluster.min_in_sync)

    assert facts(cluster) == before


def test_write_that_a_recovering_replica_missed_is_not_forgotten(cluster, shard):
    cluster.conclude(shard, "one", (0, 1), cluster.min_in_sync)
    epoch = cluster.epoch

    assert cluster.conclude(shard, "two", (0, 1), cluster.min_in_sync)
    assert cluster.conclude(shard, "three", (0, 1, 2), cluster.min_in_sync)

    assert shard.missed == {2: {"one", "two"}}
    assert cluster.epoch == epoch  # the set did not change: nothing to save


def test_down_members_leave_before_a_write_and_the_last_one_never(cluster, shard):
    for node in (2, 1):
        cluster.set_status(node, DOWN)
    cluster.evict_absent(shard, cluster.min_in_sync)
    left = shard.in_sync

    cluster.set_status(0, DOWN)
    cluster.evict_absent(shard, cluster.min_in_sync)

    assert left == shard.in_sync == (0,)
    assert (shard.members, shard.sources, shard.writable) == ((), (), False)


def test_eviction_does_not_leave_fewer_members_than_writes_need():
    cluster = members_of(min_in_sync=2)
    shard = only_shard(cluster)
    for node in (1, 2):
        cluster.set_status(node, DOWN)

    cluster.evict_absent(shard, cluster.min_in_sync)

    assert shard.in_sync == (0, 1, 2)
    assert not shard.writable


def test_member_that_could_not_be_compared_is_not_kept_beside_those_that_agree(
    cluster, shard
):
    for node in (0, 1, 2):
        cluster.set_status(node, DOWN)
        cluster.set_status(node, RECOVERING)
    cluster.set_status(2, DOWN)

    cluster.evict_uncompared(shard, [0, 1])
    cluster.mark_checked(shard, [0, 1])

    assert shard.in_sync == shard.sources == (0, 1)
    assert (shard.unchecked, shard.missed) == (set(), {2: None})


def test_leaving_out_whom_nothing_agrees_with_does_not_empty_the_set(cluster, shard):
    for node in (0, 1, 2):
        cluster.set_status(node, DOWN)
        cluster.set_status(node, RECOVERING)

    cluster.evict_uncompared(shard, [])

    assert shard.in_sync == (0, 1, 2)


def test_member_that_comes_back_is_not_read_from_before_it_was_compared(cluster, shard):
    cluster.set_status(1, DOWN)
    cluster.set_status(1, RECOVERING)
    sources = shard.sources

    cluster.mark_checked(shard, [0, 1])

    assert sources == (0, 2)
    assert shard.members == shard.sources == (0, 1, 2)


def test_last_member_does_not_wait_for_anybody_when_it_comes_back(cluster, shard):
    cluster.conclude(shard, "k", (1,), cluster.min_in_sync)
    cluster.set_status(1, DOWN)

    cluster.set_status(1, RECOVERING)

    assert shard.sources == (1,)


def test_member_that_went_down_while_it_was_compared_is_not_called_checked(
    cluster, shard
):
    cluster.set_status(1, DOWN)
    cluster.set_status(1, RECOVERING)
    cluster.set_status(1, DOWN)

    cluster.mark_checked(shard, [0, 1])

    assert shard.unchecked == {1}


# --- Losing copies -----------------------------------------------------------------------


def test_wiped_node_is_no_longer_in_any_set(cluster, shard):
    cluster.set_status(1, DOWN)

    assert cluster.forget_copy(1, "new") == []

    assert shard.in_sync == (0, 2)
    assert shard.missed == {1: None}  # what it lacks is not known: everything
    assert cluster.identity[1] == "new"


def test_notes_of_what_a_replica_missed_do_not_outlive_what_it_had(cluster, shard):
    cluster.conclude(shard, "k", (0, 2), cluster.min_in_sync)
    cluster.set_status(1, DOWN)

    cluster.forget_copy(1, "new")

    assert shard.missed == {1: None}  # not "k" alone


def test_wiping_the_last_copy_is_told_once_and_nobody_takes_its_place(cluster, shard):
    cluster.conclude(shard, "k", (1,), cluster.min_in_sync)
    cluster.set_status(1, DOWN)

    assert cluster.forget_copy(1, "new") == [shard]
    assert cluster.forget_copy(1, "newer") == []

    cluster.set_status(1, RECOVERING)
    saved(cluster)
    assert shard.in_sync == (1,)
    assert (shard.lost, shard.members, shard.sources) == (True, (), ())
    assert not shard.writable
    assert not cluster.join(shard, 0)
    assert not cluster.conclude(shard, "k", (0, 1, 2), cluster.min_in_sync)
    refusal = cluster.refusal(shard)
    assert (refusal.code, "accept_loss" in refusal.detail) == ("data_lost", True)


def test_accepted_loss_does_not_trust_anybody_but_the_node_named(cluster, shard):
    cluster.conclude(shard, "k", (1,), cluster.min_in_sync)
    cluster.set_status(1, DOWN)
    cluster.forget_copy(1, "new")

    assert cluster.accept_loss(0) == [shard]

    saved(cluster)
    assert (shard.in_sync, shard.sources, shard.lost) == ((0,), (0,), False)
    assert shard.missed == {1: None, 2: None}
    assert shard.writable
    assert cluster.accept_loss(0) == []


def test_accepting_a_loss_does_not_touch_shards_that_lost_nothing():
    cluster = members_of(PAIRS)
    mine = cluster.shards[0, 1]
    cluster.conclude(mine, "k", (1,), cluster.min_in_sync)
    cluster.set_status(1, DOWN)
    assert cluster.forget_copy(1, "new") == [mine]

    assert cluster.accept_loss(2) == []  # holds no replica of the lost shard
    assert mine.lost
    assert cluster.accept_loss(0) == [mine]

    assert cluster.shards[0, 2].in_sync == (0, 2)
    assert cluster.shards[1, 2].in_sync == (2,)


# --- Coming back -------------------------------------------------------------------------


def test_replica_that_missed_a_write_while_it_copied_does_not_join(cluster, shard):
    cluster.conclude(shard, "one", (0, 1), cluster.min_in_sync)
    shard.begin_copy(2)
    cluster.conclude(shard, "two", (0, 1), cluster.min_in_sync)
    before = facts(cluster)

    assert not cluster.join(shard, 2)

    assert facts(cluster) == before
    shard.begin_copy(2)
    assert cluster.join(shard, 2)
    assert (shard.in_sync, shard.missed) == ((0, 1, 2), {})


@pytest.mark.parametrize("down", [2, 0])
def test_replica_does_not_join_when_it_or_all_members_are_down(cluster, shard, down):
    cluster.conclude(shard, "k", (0,), cluster.min_in_sync)
    shard.begin_copy(2)
    cluster.set_status(down, DOWN)
    before = facts(cluster)

    assert not cluster.join(shard, 2)

    assert facts(cluster) == before


def test_notes_of_what_is_missed_shrink_by_what_was_copied_only(cluster, shard):
    for key in ("one", "two", "three"):
        cluster.conclude(shard, key, (0, 1), cluster.min_in_sync)

    shard.copied(2, ["one", "unknown"])

    assert shard.missed == {2: {"two", "three"}}


def test_what_a_wiped_copy_lacks_stays_unknown_whatever_is_copied_or_written(
    cluster, shard
):
    cluster.set_status(2, DOWN)
    cluster.forget_copy(2, "new")

    shard.copied(2, ["one"])
    unknown = shard.missed[2]
    cluster.conclude(shard, "two", (0, 1), cluster.min_in_sync)

    assert unknown is None
    assert shard.missed == {2: None}  # not "two" alone


def test_node_is_not_up_before_it_serves_every_shard_of_its_own():
    cluster = members_of(PAIRS)
    one, other = cluster.shards_of(1)
    for shard in (one, other):
        [partner] = set(shard.replicas) - {1}
        assert cluster.conclude(shard, "k", (partner,), cluster.min_in_sync)

    answers = []
    for shard in (one, other):
        shard.begin_copy(1)
        assert cluster.join(shard, 1)
        saved(cluster)
        answers.append(cluster.promote(1))

    assert answers == [False, True]
    assert cluster.status[1] == UP
    assert saved(cluster).status[1] == UP
    assert not cluster.promote(1)  # up already
    cluster.set_status(1, DOWN)
    assert not cluster.promote(1)


# --- What is saved -----------------------------------------------------------------------


def damaged() -> Membership:
    """A cluster to which everything has happened that is saved."""
    cluster = members_of(PAIRS)
    cluster.conclude(cluster.shards[0, 1], "k", (1,), cluster.min_in_sync)
    cluster.conclude(cluster.shards[1, 2], "k", (1,), cluster.min_in_sync)
    cluster.set_status(1, DOWN)
    cluster.forget_copy(1, "new")
    cluster.set_status(2, DOWN)
    cluster.state(fence=True)
    return cluster


def restarted(state: SavedState) -> Membership:
    cluster = members_of(PAIRS)
    cluster.restore(state)
    return cluster


def test_nothing_that_was_saved_is_forgotten_or_changed_at_a_restart():
    before = damaged()
    state = saved(before)

    after = restarted(state)

    assert (after.status, after.identity) == (before.status, before.identity)
    assert after.epoch > before.epoch
    assert after.fence == before.fence
    assert {
        key: (shard.in_sync, shard.lost) for key, shard in after.shards.items()
    } == {key: (shard.in_sync, shard.lost) for key, shard in before.shards.items()}
    assert after.next_version() > state.clock
    again = saved(after)
    assert msgspec.structs.replace(again, epoch=0, clock=0) == msgspec.structs.replace(
        state, epoch=0, clock=0
    )


def test_epochs_that_were_never_saved_are_not_used_a_second_time():
    before = members_of(PAIRS)
    state = saved(before)
    for _ in range(1_000):
        before.state(fence=True)

    assert restarted(state).epoch > before.epoch


def test_copies_are_not_taken_for_equal_after_an_unclean_end():
    cluster = members_of(PAIRS)
    cluster.conclude(cluster.shards[0, 1], "k", (1,), cluster.min_in_sync)
    cluster.set_status(2, DOWN)

    after = restarted(saved(cluster))

    shards = after.shards
    assert shards[0, 1].unchecked == set()  # one member: nobody to differ from
    assert shards[0, 1].missed == {0: None}
    assert (shards[0, 2].unchecked, shards[0, 2].sources) == ({0, 2}, ())
    assert (shards[1, 2].unchecked, shards[1, 2].sources) == ({1, 2}, ())


def test_down_member_is_not_doubted_after_a_clean_end():
    cluster = members_of(PAIRS)
    cluster.set_status(2, DOWN)
    cluster.mark_clean(clean=True)

    after = restarted(saved(cluster))

    assert after.shards[0, 2].unchecked == {0}
    assert after.shards[0, 1].unchecked == {0, 1}


def test_end_with_a_key_unsettled_or_a_member_unchecked_does_not_pass_for_clean(
    cluster, shard
):
    shard.unsettled.add("k")
    cluster.mark_clean(clean=True)
    with_unsettled = saved(cluster).clean
    shard.unsettled.clear()
    cluster.set_status(1, DOWN)
    cluster.set_status(1, RECOVERING)
    cluster.mark_clean(clean=True)
    with_unchecked = saved(cluster).clean
    cluster.mark_checked(shard, [1])
    cluster.mark_clean(clean=True)
    in_order = saved(cluster).clean
    fence = cluster.fence
    cluster.mark_clean(clean=False)

    assert (with_unsettled, with_unchecked, in_order) == (False, False, True)
    assert not saved(cluster).clean
    assert cluster.fence == cluster.epoch > fence  # an earlier process is kept out


def test_state_of_another_placement_is_not_taken_up_in_part():
    other = saved(members_of(ALL_THREE))
    cluster = members_of(PAIRS)
    before = facts(cluster)

    with pytest.raises(LayoutMismatch, match="--replication-factor 3"):
        cluster.restore(other)

    assert facts(cluster) == before


def test_fence_is_in_the_record_that_is_returned_and_above_every_epoch_before(cluster):
    before = cluster.epoch

    state = cluster.state(fence=True)

    record = msgspec.json.decode(state.record, type=SavedState)
    assert state.fence == record.fence == cluster.fence == cluster.epoch > before
    assert state.epoch == cluster.epoch


# --- Saving it ---------------------------------------------------------------------------


def save(cluster: Membership, *kept: tuple[int, ...]) -> tuple[bool, list[Ask]]:
    """Run a save whose n-th message reaches the n-th of these; its outcome and asks."""
    operation, asks, answers = cluster.save(), [], iter(kept)
    try:
        ask = next(operation)
        while True:
            assert isinstance(ask, Ask)
            asks.append(ask)
            ask = operation.send(Answers(dict.fromkeys(next(answers))))
    except StopIteration as stop:
        return stop.value, asks


@pytest.mark.parametrize(
    ("down", "kept", "durable"),
    [
        ((), (0, 1), True),
        ((), (0,), False),
        ((), (), False),
        (
            (2,),
            (0, 2),
            False,
        ),  # a down node's copy does not make a majority of the live
        ((2,), (0, 1), True),
        ((1, 2), (0,), True),
        ((1, 2), (1, 2), False),
        ((0, 1, 2), (1,), True),  # all failed on purpose: they still keep state records
        ((0, 1, 2), (), False),
    ],
)
def test_change_is_not_called_saved_before_a_majority_of_the_live_has_it(
    down, kept, durable
):
    cluster = members_of()
    for node in down:
        cluster.set_status(node, DOWN)

    outcome, asks = save(cluster, kept)

    assert outcome == durable
    assert (cluster.unsaved() is None) == durable
    assert [ask.targets for ask in asks] == [(0, 1, 2)]


def test_recovering_node_does_not_make_or_break_a_majority(cluster):
    cluster.conclude(only_shard(cluster), "k", (0, 1), cluster.min_in_sync)

    assert cluster.status[2] == RECOVERING
    assert save(cluster, (0, 2))[0] is False
    assert save(cluster, (0, 1))[0] is True


def test_change_of_a_shard_is_not_saved_by_those_who_hold_none_of_it():
    pairs = ((0, 1), (2, 3), (3, 4), (2, 4))
    cluster = members_of(pairs * (PARTITION_COUNT // 4))
    cluster.conclude(cluster.shards[0, 1], "k", (1,), cluster.min_in_sync)

    assert save(cluster, (0, 2, 3, 4))[0] is False  # 0 has just left the shard
    assert save(cluster, (1, 2, 3))[0] is True


def test_change_that_comes_while_an_older_one_is_saved_is_not_skipped(cluster, shard):
    cluster.conclude(shard, "k", (0, 1), cluster.min_in_sync)
    operation = cluster.save()
    first = next(operation)
    cluster.conclude(shard, "k", (0,), cluster.min_in_sync)

    second = operation.send(Answers(dict.fromkeys((0, 1, 2))))
    between = shard.writable
    with pytest.raises(StopIteration) as stop:
        operation.send(Answers(dict.fromkeys((0, 1, 2))))

    for ask in (first, second):
        assert isinstance(ask.message, SaveState)
    assert second.message.epoch == cluster.epoch > first.message.epoch
    assert stop.value.value is True
    assert (between, shard.writable) == (False, True)


def test_nothing_is_sent_where_nothing_changed(cluster):
    assert save(cluster) == (True, [])


def test_unknown_node_is_named_with_those_that_exist(cluster):
    cluster.check_node(2)
    with pytest.raises(NodeNotFound, match=r"node_id=3, nodes: 0, 1, 2"):
        cluster.check_node(3)


def test_explanation_does_not_name_the_wrong_nodes():
    cluster = members_of(min_in_sync=2)
    shard = only_shard(cluster)
    cluster.conclude(shard, "k", (0, 1), cluster.min_in_sync)
    cluster.set_status(1, DOWN)
    too_few = cluster.refusal(shard)
    cluster.set_status(0, DOWN)

    all_down = cluster.refusal(shard)

    assert "up: 0, min_in_sync=2" in too_few.detail
    assert "in sync and down: 0, 1" in all_down.detail
    assert {too_few.code, all_down.code} == {"unavailable"}


# --- All of it together ------------------------------------------------------------------

NODES = st.integers(0, 2)
FEW: st.SearchStrategy[set[int]] = st.sets(NODES, max_size=1) | st.sets(NODES)
SELDOM = st.sampled_from([False, False, False, True])


class Promises(RuleBasedStateMachine):
    """Operations and failures in any order, as the protocol and the repair use them.

    Writes are numbered. `held` is the number that a node truly has of a key of a shard,
    `kept` the newest that a client knows: it was acknowledged, or read.
    """

    @initialize(
        assignment=st.sampled_from([ALL_THREE, PAIRS]), min_in_sync=st.integers(1, 2)
    )
    def begin(self, assignment, min_in_sync):
        self.assignment, self.min_in_sync = assignment, min_in_sync
        self.numbers = iter(range(1, 1_000_000))
        self.cluster = members_of(assignment, min_in_sync)
        self.saved = saved(self.cluster)
        self.held: dict[tuple, dict[int, dict[str, int]]] = {
            replicas: {node: {"a": 0, "b": 0} for node in replicas}
            for replicas in self.cluster.shards
        }
        self.kept = {replicas: {"a": 0, "b": 0} for replicas in self.cluster.shards}
        self.acknowledged = {
            replicas: kept.copy() for replicas, kept in self.kept.items()
        }
        self.copied: set[tuple[tuple, int]] = set()  # complete, if nothing was missed
        self.epoch = 0

    def pick(self, number: int) -> ShardState:
        shards = list(self.cluster.shards.values())
        return shards[number % len(shards)]

    def save(self) -> None:
        if self.cluster.unsaved() is not None:
            self.saved = saved(self.cluster)

    @rule(number=NODES, key=st.sampled_from("ab"), silent=FEW, lost=FEW)
    def write(self, number, key, silent, lost):
        """Silent nodes took it and nobody knows; at the others it was lost."""
        shard = self.pick(number)
        if key in shard.unsettled and not self.settle(shard, key):
            return
        if self.make_writable(shard) and shard.sources:
            self.replicate(shard, key, silent, lost)

    def make_writable(self, shard: ShardState) -> bool:
        if not shard.writable:
            self.cluster.evict_absent(shard, self.cluster.min_in_sync)
            if len(shard.members) < self.min_in_sync:
                return False
            self.save()
        return True

    def replicate(
        self, shard: ShardState, key: str, silent: set[int], lost: set[int]
    ) -> bool:
        number = next(self.numbers)
        for node in set(shard.targets) - lost:
            self.held[shard.replicas][node][key] = number
        confirmed = tuple(n for n in shard.targets if n not in silent | lost)
        if not self.cluster.conclude(shard, key, confirmed, self.cluster.min_in_sync):
            shard.unsettled.add(key)
            return False
        self.save()
        self.kept[shard.replicas][key] = self.acknowledged[shard.replicas][key] = number
        shard.unsettled.discard(key)
        return True

    def settle(self, shard: ShardState, key: str) -> bool:
        """The newest that the members have, written again: that is a newer number."""
        shard.unsettled.add(key)
        return self.make_writable(shard) and self.replicate(shard, key, set(), set())

    @rule(number=NODES, key=st.sampled_from("ab"))
    def read(self, number, key):
        """What a reader was shown must be there from then on, acknowledged or not."""
        shard = self.pick(number)
        if key not in shard.unsettled and shard.sources:
            shown = self.held[shard.replicas][shard.sources[0]][key]
            assert shown >= self.kept[shard.replicas][key]
            self.kept[shard.replicas][key] = shown

    @rule(node=NODES, wipe=SELDOM)
    def fail(self, node, wipe):
        self.cluster.set_status(node, DOWN)
        self.copied = {pair for pair in self.copied if pair[1] != node}
        if wipe:
            self.wipe(node)

    def wipe(self, node: int) -> None:
        alone = [
            shard
            for shard in self.cluster.shards_of(node)
            if shard.in_sync == (node,) and not shard.lost
        ]
        assert self.cluster.forget_copy(node, f"wiped-{next(self.numbers)}") == alone
        self.save()
        for shard in self.cluster.shards_of(node):
            self.held[shard.replicas][node] = {"a": 0, "b": 0}

    @precondition(lambda self: DOWN in self.cluster.status.values())
    @rule(data=st.data())
    def come_back(self, data):
        status = self.cluster.status
        node = data.draw(st.sampled_from([n for n in status if status[n] == DOWN]))
        self.cluster.set_status(node, RECOVERING)

    def behind(self) -> list[tuple[tuple[int, ...], int]]:
        """Live replicas that could copy what they lack."""
        return [
            (replicas, node)
            for replicas, shard in self.cluster.shards.items()
            for node in shard.targets
            if shard.sources and node not in shard.in_sync
        ]

    @precondition(lambda self: self.behind())
    @rule(data=st.data())
    def copy(self, data):
        replicas, node = data.draw(st.sampled_from(self.behind()))
        shard, held = self.cluster.shards[replicas], self.held[replicas]
        source = held[shard.sources[0]]
        shard.begin_copy(node)
        for key in "ab":
            if held[node][key] > source[key] and not self.settle(shard, key):
                return  # interrupted
            held[node][key] = max(held[node][key], source[key])
            shard.copied(node, [key])
        self.copied.add((replicas, node))

    @precondition(lambda self: self.copied)
    @rule(data=st.data())
    def join(self, data):
        replicas, node = data.draw(st.sampled_from(sorted(self.copied)))
        shard = self.cluster.shards[replicas]
        self.copied.discard((replicas, node))
        before, missed = facts(self.cluster), node in shard.dirty
        joined = self.cluster.join(shard, node)
        assert joined == (bool(shard.sources) and not missed)
        assert node in shard.sources if joined else facts(self.cluster) == before
        self.promote(node)

    def uncompared(self) -> list[tuple[int, ...]]:
        return [
            replicas
            for replicas, shard in self.cluster.shards.items()
            if shard.unchecked.intersection(shard.members)
        ]

    @precondition(lambda self: self.uncompared())
    @rule(data=st.data(), silent=FEW)
    def compare(self, data, silent):
        """Settle whatever differs between members; those not reached stay unchecked."""
        shard = self.cluster.shards[data.draw(st.sampled_from(self.uncompared()))]
        base = (*shard.sources, *shard.members)[0]
        sure = {base, *shard.sources}
        agreed = tuple(n for n in shard.members if n in sure or n not in silent)
        held = self.held[shard.replicas]
        for key in "ab":
            if len({held[node][key] for node in agreed}) > 1:
                if not self.settle(shard, key):
                    return
                agreed = tuple(node for node in agreed if node in shard.members)
        if not shard.sources:
            self.cluster.evict_uncompared(shard, agreed)
            self.save()
        self.cluster.mark_checked(shard, agreed)
        assert shard.sources == agreed
        for node in agreed:
            self.promote(node)

    def promote(self, node: int) -> None:
        serves = all(node in s.sources for s in self.cluster.shards_of(node))
        expected = serves and self.cluster.status[node] == RECOVERING
        assert self.cluster.promote(node) == expected

    @precondition(lambda self: any(s.lost for s in self.cluster.shards.values()))
    @rule(node=NODES)
    def accept_loss(self, node):
        if self.cluster.status[node] == DOWN:
            return
        for shard in self.cluster.accept_loss(node):
            held = self.held[shard.replicas][node]
            for promised in (self.kept, self.acknowledged):
                for key, number in promised[shard.replicas].items():
                    promised[shard.replicas][key] = min(number, held[key])
            self.copied = {pair for pair in self.copied if pair[0] != shard.replicas}
            assert shard.in_sync == (node,)
        assert not any(s.lost for s in self.cluster.shards_of(node))

    @rule(really=SELDOM, clean=st.booleans())
    def restart(self, really, clean):
        """A new process, on what was saved last; what was not is forgotten."""
        if not really:
            return
        if clean:
            self.cluster.mark_clean(clean=True)
            self.save()
        self.cluster = members_of(self.assignment, self.min_in_sync)
        self.cluster.restore(self.saved)
        self.copied.clear()
        assert self.cluster.epoch > self.saved.epoch
        self.epoch = 0
        self.cluster.mark_clean(clean=False)
        for shard in self.cluster.shards.values():
            if len(shard.in_sync) > 1:
                assert not shard.sources

    @invariant()
    def whoever_is_in_sync_holds_every_write_that_was_acknowledged(self):
        for replicas, shard in self.cluster.shards.items():
            assert shard.in_sync
            assert set(shard.in_sync) <= set(replicas)
            for node in shard.in_sync if not shard.lost else ():
                for key, number in self.kept[replicas].items():
                    assert self.held[replicas][node][key] >= number

    @invariant()
    def two_that_serve_differ_in_unsettled_keys_only(self):
        for replicas, shard in self.cluster.shards.items():
            held = self.held[replicas]
            for key in {"a", "b"} - shard.unsettled:
                assert len({held[node][key] for node in shard.sources}) <= 1

    @invariant()
    def only_those_serve_who_may(self):
        status = self.cluster.status
        for shard in self.cluster.shards.values():
            up = [node for node in shard.in_sync if status[node] != DOWN]
            assert list(shard.members) == ([] if shard.lost else up)
            assert set(shard.sources) == set(shard.members) - shard.unchecked
            assert set(shard.targets) == {
                n for n in shard.replicas if status[n] != DOWN
            }
            if shard.writable:
                assert len(up) == len(shard.in_sync) >= self.min_in_sync

    @invariant()
    def a_node_that_is_up_is_in_sync_everywhere(self):
        for node, status in self.cluster.status.items():
            if status == UP:
                assert all(node in s.in_sync for s in self.cluster.shards_of(node))

    @invariant()
    def what_was_acknowledged_and_a_replica_lacks_is_noted(self):
        for replicas, shard in self.cluster.shards.items():
            for node in set(replicas) - set(shard.in_sync):
                notes, held = shard.missed[node], self.held[replicas][node]
                newest = self.acknowledged[replicas]
                behind = {key for key in "ab" if held[key] < newest[key]}
                assert notes is None or behind <= notes

    @invariant()
    def the_epoch_never_goes_back(self):
        assert self.cluster.epoch >= self.epoch
        self.epoch = self.cluster.epoch


TestPromises = Promises.TestCase
TestPromises.settings = settings(max_examples=60, stateful_step_count=50)


@pytest.mark.slow
def test_no_longer_run_of_changes_breaks_a_promise():
    run_state_machine_as_test(
        Promises, settings=settings(max_examples=600, stateful_step_count=50)
    )
