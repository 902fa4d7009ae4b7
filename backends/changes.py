"""How members of etcd fail, come back, are added and removed.

Any member can be added and removed. Only those that run here, as processes of ours, can
be failed and brought back: for others the answer says who can. What takes many steps can
be broken off between any two of them, and is gone on with when it is asked for again.
"""

from __future__ import annotations

import re
import threading
import time
from contextlib import suppress
from functools import partial
from typing import TypeVar

from msgspec import UNSET

from backends.endpoints import Endpoints, NobodyCan
from backends.gateway import EtcdError, NoAnswer, NotSent
from backends.local import LocalMember, LocalMembers, WrongState
from backends.members import Members, majority
from backends.messages import (
    Member,
    MemberAdd,
    MemberId,
    MemberList,
    Message,
    MoveLeader,
    PutAnswer,
)
from backends.room import make_room
from backends.roster import Roster, joining, name_of, replaced
from backends.watch import Seen, View
from models import (
    InvalidRequest,
    NodeId,
    NodeInfo,
    NotOffered,
    Recovery,
    StoreError,
    TooFewNodes,
    Unavailable,
)

T = TypeVar("T", bound=Message)
ADD, REMOVE, PROMOTE = (
    f"/v3/cluster/member/{what}" for what in ("add", "remove", "promote")
)
MOVE_LEADER = "/v3/maintenance/transfer-leadership"
LOCAL_MODES = STOP, WIPE, PAUSE = ("stop", "wipe", "pause")
CATCH_UP_SECONDS = 30.0  # that a caller waits; it goes on by itself after that
ALONE_SECONDS = 6.0  # in which a member that is back should have found a leader
SETTLE_SECONDS = 10.0  # for etcd to call a cluster healthy after a change: 5, it says
LOOK_SECONDS = 0.05
UPKEEP_SECONDS = 1.0
URL = re.compile(r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")
# What etcd says of a change of members that it may take a little later.
NOT_NOW = frozenset(
    (
        "etcdserver: unhealthy cluster",
        "etcdserver: too many learner members in cluster",
        "etcdserver: can only promote a learner member which is in sync with leader",
    )
)
TOO_FEW = "etcdserver: re-configuration failed due to not enough started members"
GONE = "etcdserver: member not found"


class Changes:
    """Changes the members, one change at a time; to fail one waits for no other."""

    def __init__(
        self,
        endpoints: Endpoints,
        members: Members,
        roster: Roster,
        local: LocalMembers | None,
        quota_bytes: int,
    ) -> None:
        self._endpoints = endpoints
        self._members = members
        self._watch = members.watch
        self._record = members.events.record
        self._roster = roster
        self._local = local
        self._quota_bytes = quota_bytes
        self._lock = threading.Lock()
        self._told_dead: set[NodeId] = set()
        self._ended = threading.Event()
        self._upkeep = threading.Thread(
            target=self._keep_up, name="kv-etcd-watch", daemon=True
        )

    @property
    def fail_modes(self) -> tuple[str, ...]:
        """In which members can be failed from here: none where none runs here."""
        return LOCAL_MODES if self._local is not None else ()

    def start(self) -> None:
        """Look at the members again and again, from now on."""
        self._upkeep.start()

    def close(self) -> None:
        """Change nothing any more, and end what runs here."""
        self._ended.set()
        if self._local is not None:
            self._local.close()
        if self._upkeep.is_alive():
            self._upkeep.join()

    # --- Failing and coming back -----------------------------------------------------

    def fail(self, node_id: NodeId, mode: str | None) -> NodeInfo:
        """Take a member of here down: killed, paused, or killed and its data lost."""
        mode = mode or STOP
        if mode not in LOCAL_MODES:
            raise InvalidRequest(
                f"unknown mode of failure (mode={mode!r}, known: {', '.join(LOCAL_MODES)})"
            )
        local, member = self._of_here(node_id, "fail")
        # One that is down can still lose its data; all else changes nothing.
        if member.state == "running" or (mode == WIPE and member.state != "wiped"):
            act = {STOP: local.kill, WIPE: local.wipe, PAUSE: local.pause}[mode]
            try:
                act(node_id)
            except WrongState as error:
                raise Unavailable(str(error)) from error
            self._record("node_failed", f"node {node_id} failed ({mode})", node_id)
        return self._members.node(node_id)

    def recover(self, node_id: NodeId, *, accept_loss: bool) -> NodeInfo:
        """Bring a member of here back; `recovering` if it cannot catch up just now."""
        self._of_here(node_id, "recover")
        with self._lock:
            local, member = self._of_here(node_id, "recover")
            began, before = time.monotonic(), self._watch.look()
            seen = before.of(node_id)
            if member.state == "running" and seen is not None and _serves(seen):
                return self._members.node(node_id, Recovery(0, None, None, 0.0))
            held = seen.last.header.revision if seen is not None and seen.last else 0
            if member.state in ("wiped", "new"):
                held = 0
            self._bring_back(local, member, before, accept_loss=accept_loss)
            self._told_dead.discard(node_id)
            is_up = self._catch_up(node_id)
            seconds = time.monotonic() - began
        copied = max(0, self._watch.view.revision - held) if is_up else 0
        if is_up:
            detail = (
                f"node {node_id} caught up with {copied} changes in {seconds:.1f} s"
            )
            self._record("node_recovered", detail, node_id)
        return self._members.node(node_id, Recovery(copied, None, None, seconds))

    def _bring_back(
        self, local: LocalMembers, member: LocalMember, view: View, *, accept_loss: bool
    ) -> None:
        node_id = member.node_id
        states = {n: each.state for n, each in self._members.local_members().items()}
        whole = sum(states.get(each.node_id) != "wiped" for each in view.voters)
        is_lost = view.leader is None and whole < majority(len(view.voters or states))
        if is_lost and accept_loss:
            local.take_for_truth(node_id)
            detail = f"node {node_id} as it is: what it lacks is given up"
            self._record("loss_accepted", detail, node_id)
        elif member.state in ("wiped", "new"):
            if is_lost:
                raise Unavailable(
                    "a majority of the members lost their data, so nobody knows what was "
                    "acknowledged; to go on with what one of them holds, recover that one "
                    'with {"accept_loss": true} (whole: '
                    f"{[n for n, state in states.items() if state != 'wiped'] or 'none'})"
                )
            self._join(local, member)
        elif member.state == "paused":
            local.resume(node_id)
        else:
            local.launch(node_id)
        self._record("recovery_began", f"node {node_id} is back", node_id)

    def _catch_up(self, node_id: NodeId) -> bool:
        """Wait until a member has all that was committed when it came back."""
        began, target = time.monotonic(), self._watch.look().committed
        while time.monotonic() < began + CATCH_UP_SECONDS:
            seen = self._watch.look().of(node_id)
            if seen is not None and seen.status is not None:
                if seen.member.is_learner:
                    self._promote(seen.member)
                elif _serves(seen) and seen.status.applied >= target:
                    return True
            is_alone = seen is None or not seen.is_led
            if is_alone and time.monotonic() > began + ALONE_SECONDS:
                return False
            if self._ended.wait(LOOK_SECONDS):
                return False
        return False

    def _of_here(self, node_id: NodeId, what: str) -> tuple[LocalMembers, LocalMember]:
        """A member that runs here; NodeNotFound, or NotOffered and who can do it."""
        member = self._members.local_members().get(node_id)
        if self._local is not None and member is not None:
            return self._local, member
        raft = self._members.node(node_id).raft
        urls = " and ".join(raft.urls) if raft is not UNSET else ""
        raise NotOffered(
            f"cannot {what} a member that this service did not start (node_id={node_id}"
            f"{', ' if urls else ''}{urls}): whoever runs that etcd can stop its process "
            "and start it again"
        )

    # --- Coming and going ------------------------------------------------------------

    def add(self, url: str | None) -> NodeInfo:
        """Add a member: one that is started here, or one that will run at a peer URL."""
        with self._lock:
            if self._local is not None:
                return self._add_here(self._local, url)
            if url is None or URL.fullmatch(url) is None:
                raise InvalidRequest(
                    "where will it run? Give the URL at which its peers will reach it: "
                    '{"url": "http://10.0.0.4:2380"}'
                    + (f" (got {url!r})" if url else "")
                )
            members = self._members.listed()
            known = [each for each in members if url in each.peer_urls]
            number = known[0].number if known else self._add(url)
            node_id = self._roster.of([*members, Member(number)])[number]
            if not known:
                self._record(
                    "node_added", f"node {node_id} may join, at {url}", node_id
                )
        return self._members.node(node_id)

    def remove(self, node_id: NodeId) -> NodeInfo:
        """Remove a member for good; its data too, if it ran here."""
        with self._lock:
            last = self._members.node(node_id)
            view = self._watch.view
            seen = view.of(node_id)
            if seen is not None:
                others = [each for each in view.voters if each.node_id != node_id]
                able = sum(each.is_led for each in others)
                is_voter = not seen.member.is_learner
                if is_voter and (not others or able < majority(len(others))):
                    raise TooFewNodes(
                        f"{able} of the {len(others)} other members would be able to "
                        f"decide, which is no majority (node_id={node_id})"
                    )
                if seen.is_leader:
                    self._hand_over(seen, others)
                self._ask(REMOVE, MemberId(seen.member.number), MemberList, GONE)
            if self._local is not None and node_id in self._members.local_members():
                self._local.forget(node_id)
            self._record(
                "node_removed", f"node {node_id} is no member any more", node_id
            )
            self._watch.look()
        return last

    def _add_here(self, local: LocalMembers, url: str | None) -> NodeInfo:
        if url is not None:
            raise InvalidRequest(
                "this service starts its members itself, where it likes: leave out url"
            )
        member = local.add()
        try:
            self._join(local, member)
        except (StoreError, NobodyCan):  # definite: nothing was added
            local.forget(member.node_id)
            raise
        detail = f"node {member.node_id} joins, at {member.client_url}"
        self._record("node_added", detail, member.node_id)
        self._catch_up(member.node_id)
        return self._members.node(member.node_id)

    def _join(self, local: LocalMembers, member: LocalMember) -> None:
        """Have the cluster take a member without data, in place of what it was before.

        Under its old id it would have promised what it has forgotten (Raft, section 5).
        """
        peer = member.peer_url
        for each in self._members.listed():
            if peer in each.peer_urls:
                self._ask(REMOVE, MemberId(each.number), MemberList, GONE)
        number = self._add(peer)
        self._roster.change(partial(replaced, member=number, node_id=member.node_id))
        initial = [
            (
                member.name
                if each.number == number
                else each.name or name_of(each.number),
                url,
            )
            for each in self._members.listed()
            for url in each.peer_urls
        ]
        local.launch(member.node_id, initial)

    def _add(self, url: str) -> int:
        """Have a learner added at a peer URL, to be a voter once it can; its id."""
        added = self._ask(ADD, MemberAdd((url,), True), MemberList)
        assert added.member is not None, "etcd names the member that it added"
        number = added.member.number
        names = (*self._roster.numbers.joining, name_of(number))
        self._roster.change(lambda numbers: joining(numbers, names))
        return number

    def _ask(
        self, path: str, message: Message, shape: type[T], fine: str | None = None
    ) -> T:
        """A change of members, patiently; an error that is `fine` is no error."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            try:
                return self._endpoints.change(path, message, shape)
            except EtcdError as error:
                if error.message == fine:
                    return shape()
                if error.message == TOO_FEW:
                    raise TooFewNodes(f"etcd refuses: {error.message}") from error
                if error.message not in NOT_NOW or time.monotonic() > deadline:
                    raise Unavailable(
                        f"etcd refuses for now: {error.message}; nothing was done"
                    ) from error
            if self._ended.wait(4 * LOOK_SECONDS):
                raise Unavailable("the service ends; nothing was done")

    def _hand_over(self, leader: Seen, others: list[Seen]) -> None:
        """Let another one lead, so that nobody has to wait for an election."""
        able = [each for each in others if each.status is not None]
        target = max(able, key=lambda each: each.status.applied if each.status else 0)
        message = MoveLeader(target.member.number)
        with suppress(NotSent, NoAnswer, EtcdError):  # or there will be an election
            self._endpoints.ask_one(
                leader.url, MOVE_LEADER, message, PutAnswer, ALONE_SECONDS
            )
        self._watch.look()

    def _promote(self, member: Member) -> None:
        """Make a learner a voter, if it has caught up; else a later look will."""
        try:
            self._endpoints.change(PROMOTE, MemberId(member.number), MemberList)
        except (NobodyCan, NoAnswer, EtcdError):
            return
        name = name_of(member.number)
        left = [each for each in self._roster.numbers.joining if each != name]
        with suppress(NobodyCan, NoAnswer, EtcdError):  # a voter it is already
            self._roster.change(lambda numbers: joining(numbers, left))

    # --- Upkeep ----------------------------------------------------------------------

    def _keep_up(self) -> None:
        while not self._ended.wait(UPKEEP_SECONDS):
            view = self._watch.look()
            if self._local is not None and make_room(
                self._endpoints, self._watch, view, self._quota_bytes
            ):
                self._record("room_made", "writes are taken again")
            learners = [each for each in view.seen if each.member.is_learner]
            if learners:
                self._roster.refresh()
            for each in learners:
                wanted = name_of(each.member.number) in self._roster.numbers.joining
                if wanted and each.status is not None:
                    self._promote(each.member)
            for node_id, words in self._members.died().items():
                if node_id not in self._told_dead:
                    self._told_dead.add(node_id)
                    self._record("member_died", f"node {node_id}: {words}", node_id)


def _serves(seen: Seen) -> bool:
    return seen.is_led and not seen.member.is_learner
