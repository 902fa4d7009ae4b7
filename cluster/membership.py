"""Who is up, who is in sync, and what must be saved before it is believed.

`Membership` is the configuration authority of the cluster: node states, the in-sync set
of every shard, the epoch and the fence. It is the `View` that protocols work on. What
it knows is saved as one small record at the nodes themselves, newest epoch wins.

Everything here is short, never waits and takes one lock, so that each method is atomic
to operations that run side by side. In-sync sets follow Kafka's (KIP-966 for the last
member standing); the rules that a simulated sketch violated before they were written
down are in docs/architecture.md, "In-sync sets".
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

import msgspec

from cluster.clock import HybridClock
from cluster.placement import PARTITION_SHIFT, Assignment, grouped
from cluster.shard import (
    DOWN,
    RECOVERING,
    UP,
    Layout,
    LayoutMismatch,
    SavedShard,
    SavedState,
    ShardState,
)
from models import (
    Answers,
    Ask,
    DataLost,
    NodeId,
    NodeNotFound,
    Operation,
    SaveState,
    Unavailable,
    Version,
    key_token,
)

PROCESS_SHIFT = 32  # an epoch is the number of the process, then of the change in it
ORIGINS = 1 << Version.ORIGIN_BITS
COPY_BATCH = 256  # keys, partitions or buckets in one message of a copy


class Membership:
    """The cluster's state, safe for many threads; satisfies protocols.base.View."""

    def __init__(
        self,
        assignment: Assignment,
        layout: Layout,
        identities: dict[NodeId, str],
        clock: HybridClock,
        *,
        min_in_sync: int = 1,
    ) -> None:
        self.min_in_sync = min_in_sync
        self.assignment = assignment
        self.epoch = 1
        self.fence = 0
        self.clean = False
        self.copy_batch = COPY_BATCH
        self.stopping = False  # what takes long should give up
        self.status: dict[NodeId, str] = dict.fromkeys(identities, UP)
        # The epoch at which each node last went down or came back. Who waits and then acts
        # on a node looks here: it may be in the same state again and not be the same.
        self.turned: dict[NodeId, int] = dict.fromkeys(identities, 0)
        self.identity = dict(identities)
        # Wipes asked for and not done yet: what only their nodes remember is soon forgotten.
        self.wipes: Counter[NodeId] = Counter()
        self.observe = clock.observe
        self.now_ms = clock.now_ms
        self.next_version = clock.next_version
        self.layout = layout
        self.clock = clock
        self.revision = 0  # grows with whatever a client can see of the shards
        self._saved_epoch = 0
        self._confirmed: dict[NodeId, int] = {}  # epochs that nodes' storages have
        self._told_epoch = 0  # of the last record that tells them
        self.keeps_what_it_has = True  # a power cut takes nothing from a storage
        self._lock = threading.Lock()
        self.live: tuple[NodeId, ...] = ()
        groups, places = grouped(assignment)
        self.shards = {nodes: ShardState(nodes, its) for nodes, its in groups}
        every = tuple(self.shards.values())
        self._by_partition = [every[place] for place in places]
        self._shards_of: dict[NodeId, list[ShardState]] = {n: [] for n in identities}
        for shard in every:
            for node in shard.replicas:
                self._shards_of[node].append(shard)
        self._derive(self.shards.values())

    # --- What protocols use (protocols.base.View) ------------------------------------

    def shard(self, key: str) -> ShardState:
        """The shard of a key."""
        return self._by_partition[key_token(key) >> PARTITION_SHIFT]

    def evict_absent(self, shard: ShardState, enough: int) -> None:
        """Take down members out of the in-sync set, if `enough` would be left."""
        with self._lock:
            if len(shard.members) >= enough:
                self._evict(shard, [n for n in shard.in_sync if self.status[n] == DOWN])

    def conclude(
        self, shard: ShardState, key: str, confirmed: tuple[NodeId, ...], enough: int
    ) -> bool:
        """Account for a write that only `confirmed` are known to have."""
        with self._lock:
            staying = tuple(node for node in shard.in_sync if node in confirmed)
            if shard.lost or len(staying) < enough:
                return False
            if staying != shard.in_sync:
                self._set_in_sync(shard, staying)
            for node in shard.replicas:
                if node not in confirmed:
                    shard.dirty.add(node)
                    notes = shard.missed.setdefault(node, set())
                    if notes is not None:
                        notes.add(key)
            return True

    def save(self, *, anew: bool = False) -> Operation[bool]:
        """Make what changed durable; False if too few nodes confirmed it.

        `anew`: although nothing but the time has changed. A majority of the nodes that
        are up must, and a member of each shard that changed. Failed nodes are asked
        too: one that was failed on purpose still keeps state records, so that it is
        known to be failed even if all are. One that is about to be wiped does not count,
        or with it would go what alone tells that it was.
        """
        if anew:
            with self._lock:
                self.epoch += 1
        while (state := self.unsaved()) is not None:
            answers: Answers = yield Ask(tuple(self.status), state)
            if not _is_kept_by(self, set(answers.answered), self._saved_epoch):
                return False
            self.mark_saved(state.epoch)
            with self._lock:
                for node in answers.answered if self.keeps_what_it_has else ():
                    if not self.wipes[node]:
                        self._confirmed[node] = state.epoch
        return True

    def tell_confirmed(self) -> None:
        """Have the next state record tell which epochs nodes confirmed, if none does yet.

        A node whose files are older than that, all of them together, is noticed so.
        """
        with self._lock:
            if self._told_epoch != self.epoch:
                self.epoch += 1
                self._told_epoch = self.epoch

    def unsaved(self) -> SaveState | None:
        """The state record to save, or None if the last change is saved."""
        with self._lock:
            if self.epoch <= self._saved_epoch:
                return None
            return self._state_record()

    def mark_saved(self, epoch: int) -> None:
        """The state of this epoch is durable at enough nodes."""
        with self._lock:
            before = self._saved_epoch
            self._saved_epoch = max(before, epoch)
            self._derive(s for s in self.shards.values() if s.changed > before)

    def refusal(self, shard: ShardState, otherwise: str = "") -> Unavailable:
        """The error for a shard that cannot be served now; it says what would help."""
        if shard.lost:
            return DataLost(
                "every in-sync replica of the shard lost its storage, so waiting does not "
                'help; recover a node with {"accept_loss": true} to go on with what its '
                f"copy still holds (replicas: {_listed(shard.replicas)})"
            )
        return Unavailable(_obstacle(self, shard) or otherwise or _untold(shard))

    # --- What reconfigurations use ---------------------------------------------------

    def check_node(self, node: NodeId) -> None:
        """Raise NodeNotFound unless the node exists."""
        if node not in self.status:
            raise NodeNotFound(
                f"no such node (node_id={node}, nodes: {_listed(tuple(self.status))})"
            )

    def shards_of(self, node: NodeId) -> list[ShardState]:
        """The shards that a node is a replica of."""
        return self._shards_of[node]

    def set_status(self, node: NodeId, status: str) -> None:
        """Change a node's state. A member that comes back is unchecked at first."""
        with self._lock:
            was_down, is_down = self.status[node] == DOWN, status == DOWN
            back = was_down and not is_down
            self.status[node] = status
            for shard in self.shards_of(node):
                shard.dirty.discard(node)
                if back and node in shard.in_sync and len(shard.in_sync) > 1:
                    shard.unchecked.add(node)
            self.epoch += 1
            if was_down != is_down:
                self.turned[node] = self.epoch
            self._derive(self.shards_of(node))

    def forget_copy(self, node: NodeId, identity: str) -> list[ShardState]:
        """The node's storage is gone: it leaves every in-sync set, for good.

        Where it was the last member the shard is lost; those shards are returned.
        """
        with self._lock:
            self.identity[node] = identity
            self._confirmed.pop(node, None)
            self.epoch += 1
            lost = []
            for shard in self.shards_of(node):
                shard.missed[node] = None
                shard.dirty.discard(node)
                if node not in shard.in_sync:
                    continue
                staying = tuple(n for n in shard.in_sync if n != node)
                if staying:
                    self._set_in_sync(shard, staying)
                    shard.missed[node] = None
                elif not shard.lost:
                    shard.lost = True
                    shard.changed = self.epoch
                    lost.append(shard)
            self._derive(self.shards_of(node))
            return lost

    def accept_loss(self, node: NodeId, since: int | None = None) -> list[ShardState]:
        """Take the node's copy for the truth in its lost shards, which are returned.

        Only in those that were lost at the epoch `since` (None: now) and are so still, and
        in none if the node is down.
        """
        with self._lock:
            if self.status[node] == DOWN:
                return []
            known = self.epoch if since is None else since
            lost = [s for s in self.shards_of(node) if s.lost and s.changed <= known]
            for shard in lost:
                shard.lost = False
                shard.missed = {n: None for n in shard.replicas if n != node}
                self._set_in_sync(shard, (node,))
                shard.missed = {n: None for n in shard.replicas if n != node}
            return lost

    def promote(self, node: NodeId) -> bool:
        """The node is up if it is recovering and serves every shard of its own."""
        with self._lock:
            ready = self.status[node] == RECOVERING and all(
                node in shard.sources for shard in self.shards_of(node)
            )
            if ready:
                self.status[node] = UP
                self.epoch += 1
            return ready

    def join(self, shard: ShardState, node: NodeId) -> bool:
        """Put a node whose copy is complete into the in-sync set.

        False, and nothing changed, if it missed a write since `begin_copy`, is not
        live any more, or there is no member left that it was compared with.
        """
        with self._lock:
            if self.status[node] == DOWN or node in shard.dirty or not shard.sources:
                return False
            members = (*shard.in_sync, node)
            self._set_in_sync(shard, tuple(n for n in shard.replicas if n in members))
            shard.missed.pop(node, None)
            self._derive((shard,))
            return True

    def evict_uncompared(self, shard: ShardState, agreed: Sequence[NodeId]) -> None:
        """Members whose copies could not be compared with `agreed` leave the set.

        After a kill such a member may lack, or alone hold, what the others will show. If
        nobody of `agreed` is left to show anything, nobody leaves.
        """
        with self._lock:
            if all(self.status[node] == DOWN for node in agreed):
                return
            doubtful = [node for node in shard.unchecked if node not in agreed]
            self._evict(shard, doubtful)
            for node in set(doubtful) - set(shard.in_sync):
                shard.missed[node] = None

    def mark_checked(self, shard: ShardState, nodes: Iterable[NodeId]) -> None:
        """The copies of these members were compared and agree."""
        with self._lock:
            live = {node for node in nodes if self.status[node] != DOWN}
            shard.unchecked -= live
            self._derive((shard,))

    def state(self, *, fence: bool = False) -> SaveState:
        """The state record; `fence`: nodes that have it refuse earlier operations' messages."""
        with self._lock:
            if fence:
                self.epoch += 1
                self.fence = self.epoch
            return self._state_record()

    def restore(self, saved: SavedState, absent: Collection[NodeId] = ()) -> None:
        """Take up the newest state record found at the nodes, some of them absent now.

        Unless the last process ended in good order, no member's copy is trusted to
        equal another's until they are compared: a write may have been under way.
        Raises LayoutMismatch if the record is of another placement.
        """
        if saved.layout != self.layout:
            raise LayoutMismatch(str(saved.layout))
        with self._lock:
            # Above every epoch of that process, saved or not.
            process = (saved.epoch >> PROCESS_SHIFT) + 1
            self.epoch = process << PROCESS_SHIFT
            # What that one sent may still arrive: it must not be taken for ours.
            self.clock.take_origin(process % ORIGINS)
            self.fence = saved.fence
            self.status.update(saved.status)
            self.identity.update(saved.identity)
            self._confirmed.update(saved.confirmed)
            self.clock.resume(saved.clock, saved.wall)
            for kept in saved.shards:
                shard = self.shards[kept.replicas]
                shard.in_sync = kept.in_sync
                shard.lost = kept.lost
                shard.missed = {n: None for n in kept.replicas if n not in kept.in_sync}
            for shard in self.shards.values():
                live = {n for n in shard.in_sync if self.status[n] != DOWN}
                if len(shard.in_sync) > 1:
                    agree = live.difference(absent) if saved.clean else shard.in_sync
                    shard.unchecked = set(agree)
            self._derive(self.shards.values())

    def mark_clean(self, *, clean: bool) -> None:
        """Note in the next saved state whether no write can be under way any more.

        Not clean is how a process begins; its fence keeps out what an earlier one sent.
        """
        with self._lock:
            self.clean = clean and not any(
                shard.unsettled or shard.unchecked for shard in self.shards.values()
            )
            self.epoch += 1
            if not clean:
                self.fence = self.epoch

    # --- Under the lock --------------------------------------------------------------

    def _evict(self, shard: ShardState, nodes: Sequence[NodeId]) -> None:
        staying = tuple(node for node in shard.in_sync if node not in nodes)
        if staying and staying != shard.in_sync:
            self._set_in_sync(shard, staying)

    def _set_in_sync(self, shard: ShardState, nodes: Sequence[NodeId]) -> None:
        assert nodes, f"an in-sync set must not become empty (shard={shard.replicas})"
        for node in shard.in_sync:
            if node not in nodes:
                shard.missed.setdefault(node, set())
                shard.unchecked.discard(node)
                if self.status[node] == UP:
                    self.status[node] = RECOVERING
        shard.in_sync = tuple(nodes)
        self.epoch += 1
        shard.changed = self.epoch
        self._derive((shard,))

    def _derive(self, shards: Iterable[ShardState]) -> None:
        self.live = tuple(
            node for node, status in self.status.items() if status != DOWN
        )
        for shard in shards:
            shard.derive(self.status, self._saved_epoch, self.min_in_sync)
        self.revision += 1  # last: whoever saw it may have seen all of the change

    def _state_record(self) -> SaveState:
        state = SavedState(
            epoch=self.epoch,
            fence=self.fence,
            clean=self.clean,
            layout=self.layout,
            clock=int(self.clock.next_version()),
            status=dict(self.status),
            identity=dict(self.identity),
            shards=tuple(
                SavedShard(shard.replicas, shard.in_sync, shard.lost)
                for shard in self.shards.values()
                if shard.lost or shard.in_sync != shard.replicas
            ),
            confirmed=dict(self._confirmed),
            wall=self.clock.wall(),
        )
        return SaveState(self.epoch, self.fence, msgspec.json.encode(state))


def _is_kept_by(cluster: Membership, nodes: set[NodeId], saved_epoch: int) -> bool:
    """Tell whether a state that these nodes have is found again, whoever of them is left."""
    up = {node for node, status in cluster.status.items() if status == UP}
    staying = {n for n in nodes if not cluster.wipes[n] or len(cluster.status) == 1}
    voters = up or set(cluster.live) or staying
    changed = [s for s in cluster.shards.values() if s.changed > saved_epoch]
    return 2 * len(nodes & voters) > len(voters) and all(
        nodes.intersection(shard.members or nodes) for shard in changed
    )


def is_older(cluster: Membership, node: NodeId, epoch: int) -> bool:
    """Tell whether a node's storage, with a state of this epoch, lacks one that it had."""
    return epoch < cluster._confirmed.get(node, 0)


def _obstacle(cluster: Membership, shard: ShardState) -> str:
    """Who is missing, and what would help; empty if the shard can be served."""
    absent = tuple(node for node in shard.in_sync if cluster.status[node] == DOWN)
    if not shard.members:
        return (
            "every in-sync replica of the shard is down; recover one of them "
            f"(in sync and down: {_listed(absent)})"
        )
    if len(shard.members) < cluster.min_in_sync:
        return (
            f"too few in-sync replicas are up (up: {_listed(shard.members)}, "
            f"min_in_sync={cluster.min_in_sync})"
        )
    return ""


def _untold(shard: ShardState) -> str:
    return f"the replicas did not take part, try again ({_listed(shard.replicas)})"


def _listed(nodes: tuple[NodeId, ...]) -> str:
    return ", ".join(str(node) for node in nodes) or "none"
