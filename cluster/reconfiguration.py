"""Changing who takes part: start, fail, recover, maintain, stop.

Each is an operation (see protocols/base.py). All but `fail` run one at a time, under the
reconfiguration lock; a failure must not wait for a recovery that is under way, and the
recovery notices it at its next step.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from cluster.clock import OFF_SECONDS, told_of
from cluster.events import EventLog
from cluster.membership import Membership, is_older
from cluster.repair import (
    KeyOperation,
    Progress,
    catch_up,
    check_members,
    expire_records,
    purge_tombstones,
    settle_all,
)
from cluster.reports import lost_shards, waiting_for
from cluster.shard import DOWN, RECOVERING, UP, ShardState
from models import (
    Barrier,
    Exclusive,
    InvalidRequest,
    NodeId,
    Operation,
    Recovery,
    Unavailable,
    Uncertain,
)
from storage.base import StorageEnded

STOP = "stop"
WIPE = "wipe"
FAIL_MODES = (STOP, WIPE)


class Member(Protocol):
    """What a reconfiguration does to a node itself: a ReplicaNode."""

    @property
    def identity(self) -> str:
        """The identity of the node's storage."""

    @property
    def epoch(self) -> int:
        """The epoch of the state record that it has; 0: it has none."""

    @property
    def problem(self) -> str | None:
        """Why its storage cannot be used; None: it can."""

    @property
    def damage(self) -> str | None:
        """What was wrong with its file when it was opened."""

    def reopen(self) -> None:
        """Make storage with a problem usable again; StorageEnded if it still is not."""

    def start(self) -> None:
        """Answer messages again."""

    def stop(self) -> None:
        """Refuse messages of data from now on."""

    def wipe(self) -> None:
        """Lose the storage."""


class Reconfiguration:
    """The operations that change the cluster.

    `settle` and `expire` are the protocol's, for one key. `monotonic` is a clock in
    seconds, for what a recovery took.
    """

    def __init__(
        self,
        cluster: Membership,
        members: Mapping[NodeId, Member],
        events: EventLog,
        *,
        settle: KeyOperation,
        expire: KeyOperation,
        monotonic: Callable[[], float],
    ) -> None:
        self._cluster = cluster
        self._members = members
        self._events = events
        self._settle = settle
        self._expire = expire
        self._monotonic = monotonic
        self.copied = {node: Progress() for node in members}  # since the start
        self._waiting: dict[NodeId, tuple[NodeId, ...]] = {}
        self._lost: dict[NodeId, int] = {}  # shards, as last reported
        self._ahead_seconds = 0.0  # of the wall clock, as last reported
        self._transition = threading.Lock()  # a node's status and the node itself agree
        self._has_ended = False

    def start(self) -> Operation[None]:
        """Take up where the last process ended: reconcile, then serve."""
        yield Exclusive(None, self._start())

    def fail(self, node: NodeId, mode: str) -> Operation[None]:
        """Take a node down; it is remembered as failed before this returns.

        A wipe follows once that is remembered. Unavailable if the node was recovered
        meanwhile: then it may hold what was acknowledged since, and is left alone.
        """
        self._cluster.check_node(node)
        if mode not in FAIL_MODES:
            raise InvalidRequest(
                f"unknown mode of failure (mode={mode!r}, known: {', '.join(FAIL_MODES)})"
            )
        failed_at = self._take_down(node, mode)
        if mode == STOP:
            yield from self._save()
            return
        try:
            yield from self._save(", so nothing is wiped")
            self._wipe(node, failed_at)
        finally:
            with self._transition:
                self._cluster.wipes[node] -= 1

    def recover(
        self, node: NodeId, *, accept_loss: bool = False
    ) -> Operation[Recovery]:
        """Bring a node back and let it catch up, as far as it can now.

        `accept_loss` takes its copy for the truth in shards that lost every in-sync
        copy: what it lacks is gone, and that is what the caller accepts.
        """
        self._cluster.check_node(node)
        asked_at = self._cluster.epoch
        recovery: Recovery = yield Exclusive(
            None, self._recover(node, asked_at, accept_loss=accept_loss)
        )
        return recovery

    def maintain(self, tombstones_before_ms: int) -> Operation[None]:
        """Let waiting nodes catch up, bury what expired, purge old tombstones."""
        yield Exclusive(None, self._maintain(tombstones_before_ms))

    def stop(self) -> Operation[None]:
        """Note that the process ends in good order, once nothing changes any more."""
        yield Exclusive(None, self._stop())

    def _stop(self) -> Operation[None]:
        yield Barrier()
        with self._transition:
            self._has_ended = True
            for member in self._members.values():
                member.stop()
        yield Barrier()
        self._cluster.mark_clean(clean=True)
        yield from self._cluster.save()

    def storage_failed(self, node: NodeId, error: Exception | str) -> None:
        """A node's storage failed: the node stops, as if it crashed.

        Unless it was made usable again before this was told.
        """
        with self._transition:
            member = self._members[node]
            was_mended = isinstance(error, StorageEnded) and member.problem is None
            if was_mended or self._cluster.status[node] == DOWN:
                return
            self._cluster.set_status(node, DOWN)
            member.stop()
        self._events.record("storage_failed", f"node {node} stopped: {error}", node)

    def _start(self) -> Operation[None]:
        cluster = self._cluster
        cluster.mark_clean(clean=False)
        self._look_at_clock()
        for node, member in self._members.items():
            if member.problem is not None:
                self.storage_failed(node, member.problem)
            elif cluster.identity[node] != member.identity:
                self._take_new_storage(node, member)
            if cluster.status[node] == DOWN:
                member.stop()
        yield from self._save()
        cluster.tell_confirmed()
        yield from self._save()
        for shard in cluster.shards.values():
            yield from check_members(cluster, shard, self._settle)
        for node, status in tuple(cluster.status.items()):
            if status == UP and any(
                node not in s.sources for s in cluster.shards_of(node)
            ):
                cluster.set_status(node, RECOVERING)
        yield from self._catch_up_all()

    def _take_new_storage(self, node: NodeId, member: Member) -> None:
        """What the node held is gone, or was in a damaged file: it is rebuilt."""
        cluster = self._cluster
        lost = cluster.forget_copy(node, member.identity)
        if cluster.status[node] == UP:
            cluster.set_status(node, RECOVERING)
        if member.damage is not None:
            self._events.record("damage_found", f"node {node}: {member.damage}", node)
        self._events.record(
            "storage_replaced", f"node {node} has new storage, to be rebuilt", node
        )
        self._report_lost(node, lost)

    def _take_down(self, node: NodeId, mode: str) -> int:
        """Take a node down, and forget its copy if that is to be wiped; at which epoch."""
        cluster = self._cluster
        lost: list[ShardState] = []
        with self._transition:
            self._check_open()
            was_down = cluster.status[node] == DOWN
            if not was_down:
                cluster.set_status(node, DOWN)
                self._members[node].stop()
            if mode == WIPE:
                cluster.wipes[node] += 1
                lost = cluster.forget_copy(node, "")
            if not was_down or mode == WIPE:
                detail = f"node {node} failed ({mode})"
                self._events.record("node_failed", detail, node, mode=mode)
            self._report_lost(node, lost)
            return cluster.epoch

    def _wipe(self, node: NodeId, failed_at: int) -> None:
        """Wipe the storage of a node that is down since then."""
        with self._transition:
            if self._cluster.turned[node] > failed_at:
                raise Unavailable(
                    f"cannot wipe node {node} when it was recovered meanwhile: it was down "
                    "for a while, its storage stays; ask again to wipe what it holds now"
                )
            if self._has_ended:
                raise Uncertain(
                    f"cannot wipe node {node} when the store is closed: its copy counts as "
                    "lost from the next start on, its files are still there"
                )
            try:
                self._members[node].wipe()
            except StorageEnded as error:
                self._events.record("storage_failed", f"node {node}: {error}", node)
                raise Uncertain(
                    f"node {node} is down and its copy forgotten, but its files cannot be "
                    f"made anew: {error}"
                ) from error

    def _recover(
        self, node: NodeId, asked_at: int, *, accept_loss: bool
    ) -> Operation[Recovery]:
        cluster = self._cluster
        began = self._monotonic()
        progress = Progress(self.copied[node])
        if cluster.status[node] == DOWN:
            self._reopen(node)
        self._bring_back(node, asked_at)
        yield Barrier()  # writes that chose their targets without the node have ended
        if accept_loss:
            self._accept_loss(node, asked_at)
        yield from self._save()
        if cluster.status[node] != UP or accept_loss:
            yield from self._catch_up(node, progress)
        yield from self._catch_up_all()
        seconds = round(self._monotonic() - began, 6)
        return Recovery(progress.copied, progress.removed, progress.bytes, seconds)

    def _bring_back(self, node: NodeId, asked_at: int) -> None:
        """Let a node answer again, unless it was failed after that was asked for."""
        cluster, member = self._cluster, self._members[node]
        with self._transition:
            self._check_open()
            if cluster.status[node] != DOWN:
                return
            if cluster.turned[node] > asked_at:
                raise Unavailable(
                    f"cannot recover node {node} when it went down after that was asked "
                    "for: it stays down; see in /events why, and recover it again"
                )
            member.start()
            is_new = cluster.identity[node] != member.identity
            if is_new or is_older(cluster, node, member.epoch):
                self._take_new_storage(node, member)
            cluster.set_status(node, RECOVERING)
            self._events.record("recovery_began", f"node {node} is back", node)

    def _accept_loss(self, node: NodeId, asked_at: int) -> None:
        """Accept what was lost when that was asked for, and no loss that came later."""
        accepted = self._cluster.accept_loss(node, asked_at)
        if accepted:
            self._events.record(
                "loss_accepted",
                f"node {node}'s copy is the truth in {_count(len(accepted), 'shard')}: what it "
                "lacks is given up",
                node,
            )
        elif self._cluster.status[node] == DOWN:
            raise Unavailable(
                f"cannot accept a loss when node {node} went down again: nothing is given "
                "up; recover it again"
            )

    def _check_open(self) -> None:
        if self._has_ended:
            raise Unavailable(
                "cannot change nodes when the store is closed: open it again"
            )

    def _reopen(self, node: NodeId) -> None:
        """Let storage that failed be used again, or say why it cannot."""
        try:
            self._members[node].reopen()
        except StorageEnded as error:
            raise Unavailable(
                f"node {node} cannot come back, its storage still fails ({error}): mend "
                'that, or fail it with {"mode": "wipe"} to let it begin anew'
            ) from error

    def _maintain(self, tombstones_before_ms: int) -> Operation[None]:
        self._check_open()
        cluster = self._cluster
        if self._look_at_clock():
            yield from cluster.save(anew=True)
        for shard in cluster.shards.values():
            yield from check_members(cluster, shard, self._settle)
        yield from self._catch_up_all()
        cluster.tell_confirmed()
        yield from cluster.save()
        yield from settle_all(cluster, self._settle)
        expired = yield from expire_records(cluster, self._expire)
        if expired:
            self._events.record("expired", f"{_count(expired, 'expired key')} buried")
        purged = yield from purge_tombstones(cluster, tombstones_before_ms)
        if purged:
            self._events.record(
                "purged", f"{_count(purged, 'tombstone')} forgotten everywhere"
            )

    def _look_at_clock(self) -> bool:
        """True, and told, if the wall clock is not where hybrid time expects it."""
        before, ahead = self._ahead_seconds, self._cluster.clock.ahead_ms() / 1000
        if abs(ahead - before) < OFF_SECONDS:
            return False
        self._ahead_seconds = ahead
        self._events.record("clock_off", told_of(ahead))
        return True

    def _catch_up_all(self) -> Operation[None]:
        if RECOVERING in self._cluster.status.values():
            yield Barrier()
        for node, status in tuple(self._cluster.status.items()):
            if status == RECOVERING:
                yield from self._catch_up(node, Progress(self.copied[node]))

    def _catch_up(self, node: NodeId, progress: Progress) -> Operation[None]:
        complete = yield from catch_up(self._cluster, node, self._settle, progress)
        awaited = waiting_for(self._cluster, node)
        before = self._waiting.pop(node, ())
        if complete:
            self._events.record(
                "node_recovered",
                f"node {node} caught up ({progress.copied} copied)",
                node,
            )
        else:
            self._report_lost_shards(node)
        if awaited:
            self._waiting[node] = awaited
        if awaited and awaited != before:
            names = ", ".join(map(str, awaited))
            self._events.record("waiting", f"node {node} waits for {names}", node)

    def _report_lost_shards(self, node: NodeId) -> None:
        lost = lost_shards(self._cluster, node)
        if lost > 0 and lost != self._lost.get(node, 0):
            self._events.record(
                "data_lost",
                f"node {node} cannot serve {_count(lost, 'shard')} of its own, whose every "
                'in-sync copy is lost: recover it with {"accept_loss": true} to go on '
                "without",
                node,
            )
        self._lost[node] = lost

    def _save(self, more: str = "") -> Operation[Any]:
        if not (yield from self._cluster.save()):
            raise Uncertain(
                f"the change is in force, but may be forgotten at a restart{more}"
            )

    def _report_lost(self, node: NodeId, lost: list[ShardState]) -> None:
        if lost:
            self._events.record(
                "data_lost",
                f"node {node} was the last in-sync replica of {_count(len(lost), 'shard')}: "
                "their keys answer 503 until a node is recovered with accept_loss",
                node,
            )


def _count(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
