"""The members of etcd as nodes of the API: what is told of them, and who looks after them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping

from msgspec import UNSET
from msgspec.structs import replace

from backends.endpoints import Endpoints
from backends.local import LocalMember, LocalMembers
from backends.messages import TXN, Member, Range, Txn, TxnAnswer
from backends.watch import Seen, View, Watch
from cluster.events import EventLog
from cluster.listing import Location, ReplicaInfo
from cluster.placement import PARTITION_COUNT, partition_of
from cluster.reports import Measures, ShardCounts, ShardInfo, ShardMap
from models import (
    DataLost,
    NodeId,
    NodeInfo,
    NodeNotFound,
    RaftInfo,
    Recovery,
    Unavailable,
    Version,
    key_token,
)

READY_SECONDS_MAX = 1.0
FRESH_SECONDS = 1.0  # for what need not be newer than that
# Members of these versions may diverge after a crash: postmortem of etcd, 2022-04-20.
DIVERGING = ("3.5.0", "3.5.1", "3.5.2")


class Members:
    """Tells of the members, as `watch` sees them and `local` runs some of them."""

    def __init__(
        self,
        endpoints: Endpoints,
        watch: Watch,
        local: LocalMembers | None,
        events: EventLog,
    ) -> None:
        self.events = events
        self.watch = watch
        self.local = local
        self._endpoints = endpoints
        self._founders: tuple[NodeId, ...] = ()  # of a cluster that began anew here

    def begin_anew(self, node_id: NodeId) -> None:
        """A member of here is the whole cluster from now on, until it tells of others."""
        self._founders = (node_id,)
        self.watch.begin_anew()

    def close(self) -> None:
        """Ask nobody any more."""
        self.watch.close()

    # --- Numbers that every answer has -----------------------------------------------

    def ids_of(self, member: int) -> tuple[NodeId, ...]:
        """The number of a member as a tuple; empty if it is not known yet."""
        for each in self.watch.view.seen:
            if each.member.number == member:
                return (each.node_id,)
        return ()

    @property
    def down(self) -> tuple[NodeId, ...]:
        """Those that did not answer when they were asked last."""
        view = self.watch.view
        return tuple(each.node_id for each in view.voters if each.status is None)

    @property
    def voters(self) -> int:
        """How many decide; while nobody told that yet, how many were named."""
        known = len(self.watch.view.voters)
        return known or self.watch.named

    # --- Nodes -----------------------------------------------------------------------

    def nodes(self) -> tuple[NodeInfo, ...]:
        """Every member as it is now; those of here also while nobody answers."""
        view = self.watch.look(count=True)
        found = [self._info(view, each) for each in view.seen]
        told = {node.node_id for node in found}
        for node_id, member in self.local_members().items():
            if node_id not in told:
                found.append(_unheard_here(member, is_lost=self.is_lost(view)))
        return tuple(sorted(found, key=lambda node: node.node_id))

    def node(self, node_id: NodeId, recovery: Recovery | None = None) -> NodeInfo:
        """One member as it is now, with what bringing it back took."""
        nodes = self.nodes()
        for node in nodes:
            if node.node_id == node_id:
                if recovery is None:
                    return node
                return replace(node, recovery=recovery)
        known = ", ".join(str(node.node_id) for node in nodes)
        raise NodeNotFound(f"no such node (node_id={node_id}, nodes: {known})")

    def listed(self) -> tuple[Member, ...]:
        """The members as the cluster has them now."""
        return tuple(each.member for each in self.watch.look().seen)

    def died(self) -> Mapping[NodeId, str]:
        """Those of here that should run and ended by themselves, with their last words."""
        return {} if self.local is None else self.local.died()

    def local_members(self) -> Mapping[NodeId, LocalMember]:
        """Those that run here, by number."""
        if self.local is None:
            return {}
        return {member.node_id: member for member in self.local.members}

    def _info(self, view: View, seen: Seen) -> NodeInfo:
        local = self.local_members().get(seen.node_id)
        status = _status(seen, local)
        is_stuck = status != "up" and self.is_lost(view)
        last = seen.last
        behind = None if last is None else max(0, view.revision - last.header.revision)
        keys = seen.keys
        if local is not None and not _has_data(local):
            keys, behind = 0, view.revision
        return NodeInfo(
            node_id=seen.node_id,
            status=status,
            keys=keys,
            bytes=None if last is None else last.size_in_use,
            stale_keys=behind,
            waiting_for=self._waiting_for(view, seen) if status == "recovering" else (),
            zone=None,
            lost_shards=int(is_stuck),
            problem=self._problem(view, seen, local) or UNSET,
            raft=UNSET if last is None else _raft(seen),
        )

    def _waiting_for(self, view: View, seen: Seen) -> tuple[NodeId, ...]:
        """Those that are down and, with their data, could give it a leader."""
        if seen.is_led or seen.member.is_learner or self.is_lost(view):
            return ()
        local = self.local_members()
        silent = (each.node_id for each in view.voters if each.status is None)
        return tuple(n for n in silent if n not in local or _has_data(local[n]))

    def _problem(self, view: View, seen: Seen, local: LocalMember | None) -> str:
        """What is wrong with a member and what to do; empty: nothing, or as asked."""
        if local is not None and local.state != "running":
            return ""
        words = self.died().get(seen.node_id)
        if words is not None:
            return f"its process ended: {words}"
        if seen.status is None:
            return _how_to_start(view, seen) or f"it does not answer: {seen.trouble}"
        alarms = _alarms(seen)
        if seen.is_full:
            return "its quota is used up (alarm NOSPACE): it takes deletes only"
        if alarms:
            return "; ".join(alarms)
        if seen.status.version in DIVERGING:
            return (
                f"etcd {seen.status.version} may lose what it acknowledged when it "
                "crashes: upgrade to 3.5.3 or later"
            )
        return ""

    # --- The whole -------------------------------------------------------------------

    def why_not_ready(self, any_key: Range) -> Unavailable | None:
        """The error for keys that cannot be read and written now; None: they can."""
        view = self.watch.look(within=FRESH_SECONDS)
        trouble = self._endpoints.why_no_leader(any_key, READY_SECONDS_MAX)
        if trouble is None:
            return None
        if (lost := self.lost(view)) is not None:
            return lost
        if not view.voters:
            return Unavailable(trouble)
        answering = sum(each.status is not None for each in view.voters)
        return Unavailable(
            f"no leader: {answering} of {len(view.voters)} members answer, and a majority "
            f"has to ({trouble})"
        )

    def shards(self) -> ShardMap:
        """One shard, of every member: each holds every key."""
        view = self.watch.look(within=FRESH_SECONDS)
        ids = tuple(each.node_id for each in view.voters)
        live = tuple(each.node_id for each in view.voters if each.status is not None)
        is_led = view.leader is not None
        leader = view.leader.node_id if view.leader is not None else (ids or (0,))[0]
        shard = ShardInfo(
            replicas=ids,
            in_sync=tuple(each.node_id for each in view.voters if _in_sync(view, each)),
            live=live,
            readable=is_led,
            writable=is_led,
            lost=self.is_lost(view),
            share=1.0,
        )
        return ShardMap(PARTITION_COUNT, (shard,), ((0, leader),) * PARTITION_COUNT)

    def is_lost(self, view: View) -> bool:
        """True if a majority is known to have lost its data, so that no other can be had.

        Nothing is known of members that run elsewhere and never told of themselves.
        """
        local = self.local_members()
        # While none of them answers, those of here are all that one knows of.
        told = tuple(each.node_id for each in view.voters)
        voters = told or self._founders or tuple(local)
        whole = sum(n not in local or _has_data(local[n]) for n in voters)
        is_led = view.leader is not None
        return bool(voters) and not is_led and whole < majority(len(voters))

    def lost(self, view: View | None = None) -> DataLost | None:
        """The error for what a majority would have to decide, if its data are lost."""
        if not self.is_lost(view or self.watch.look(within=FRESH_SECONDS)):
            return None
        whole = [n for n, each in self.local_members().items() if _has_data(each)]
        return DataLost(
            "a majority of the members lost their data, so nobody knows what was "
            "acknowledged, and waiting does not help; to go on with what one of them holds, "
            f'recover that one with {{"accept_loss": true}} (whole: {whole or "none"})'
        )

    @property
    def revision(self) -> str:
        """A digest of `shards`."""
        shard = self.shards()
        told = repr((shard.shards, shard.partitions[0]))
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    def locate(self, key: str, both: Txn) -> Location:
        """Which version each member holds: `both` asks for the value and the tombstone."""
        view = self.watch.look()
        urls = [each.url for each in view.seen if each.status is not None]
        answers = self.watch.each(urls, TXN, both, TxnAnswer)
        local = self.local_members()

        def info(each: Seen) -> ReplicaInfo:
            answer = answers.get(each.url)
            live = dead = None
            if isinstance(answer, TxnAnswer):
                live, dead = answer.found(0), answer.found(1)
            found = live or dead
            return ReplicaInfo(
                node_id=each.node_id,
                status=_status(each, local.get(each.node_id)),
                in_sync=_in_sync(view, each),
                version=Version(found.mod_revision).text if found else None,
                deleted=live is None and dead is not None,
            )

        token = key_token(key)
        return Location(
            key,
            f"{token:016x}",
            partition_of(token),
            tuple(each.node_id for each in view.voters),
            tuple(info(each) for each in view.seen),
        )

    def measures(self, ahead_seconds: float) -> Measures:
        """The one shard in numbers, and the events; etcd counts what it copies itself.

        `ahead_seconds` is how far the time of keys is ahead of the machine's clock.
        """
        (shard,) = self.shards().shards
        sizes = Counter({len(set(shard.in_sync) & set(shard.live)): 1})
        counts = ShardCounts(
            in_sync={size: sizes[size] for size in range(len(shard.replicas) + 1)},
            unreadable=int(not shard.readable),
            unwritable=int(not shard.writable),
            lost=int(shard.lost),
            unsettled_keys=0,
        )
        return Measures(counts, dict(self.events.counts), {}, {}, ahead_seconds)


def _status(seen: Seen, local: LocalMember | None) -> str:
    """The state of a node."""
    if seen.status is None or (local is not None and local.state != "running"):
        return "down"
    return "up" if seen.is_led and not seen.member.is_learner else "recovering"


def _has_data(member: LocalMember) -> bool:
    """True unless what a member of here held is gone."""
    return member.state != "wiped"


def _alarms(seen: Seen) -> list[str]:
    """What a member complains of; that nobody leads is told otherwise."""
    errors = seen.status.errors if seen.status is not None else ()
    return [error for error in errors if error != "etcdserver: no leader"]


def _in_sync(view: View, seen: Seen) -> bool:
    """True if it has applied all that was known to be committed a look before."""
    return (
        seen.status is not None
        and seen.status.applied >= view.settled
        and not seen.member.is_learner
    )


def _how_to_start(view: View, seen: Seen) -> str:
    """The command for a member that was added and never started."""
    if seen.member.name or not seen.member.peer_urls:
        return ""
    name = f"node-{seen.node_id}"
    peers = [
        f"{each.member.name or name}={url}"
        for each in view.seen
        for url in each.member.peer_urls
    ]
    url = seen.member.peer_urls[0]
    return (
        f"not started yet: etcd --name {name} --initial-cluster-state existing "
        f"--initial-cluster {','.join(peers)} --listen-peer-urls {url} "
        f"--initial-advertise-peer-urls {url} --listen-client-urls URL "
        "--advertise-client-urls URL"
    )


def majority(count: int) -> int:
    """How many of so many decide."""
    return count // 2 + 1


def _raft(seen: Seen) -> RaftInfo:
    last = seen.last
    assert last is not None, "only what was heard is told"
    role = "learner" if seen.member.is_learner else "follower"
    if last.leader == seen.member.number:
        role = "leader"
    if seen.status is None:
        role = "unknown"
    return RaftInfo(
        member=f"{seen.member.number:016x}",
        name=seen.member.name,
        role=role,
        term=last.term,
        applied=last.applied,
        revision=last.header.revision,
        size_bytes=last.size,
        urls=seen.member.client_urls,
    )


def _unheard_here(member: LocalMember, *, is_lost: bool) -> NodeInfo:
    """A member of here of which no other one has told yet."""
    status = "recovering" if member.pid else "down"
    found = unheard(member.node_id, status, is_wiped=not _has_data(member))
    return replace(found, lost_shards=int(is_lost))


def unheard(node_id: NodeId, status: str, *, is_wiped: bool = False) -> NodeInfo:
    """A member of which no other one has told yet."""
    return NodeInfo(
        node_id=node_id,
        status=status,
        keys=0 if is_wiped else None,
        bytes=0 if is_wiped else None,
        stale_keys=None,
        waiting_for=(),
        zone=None,
    )
