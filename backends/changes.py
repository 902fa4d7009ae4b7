"""How members of etcd fail, come back, are added and removed.

Any member can be added and removed. Only those that run here, as processes of ours, can
be failed and brought back: for others the answer says who can. What takes many steps can
be broken off between any two of them, and is gone on with when it is asked for again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

from msgspec import UNSET

from backends.asking import PROMOTE, Asking
from backends.endpoints import Endpoints, NobodyCan, NobodyLeads
from backends.gateway import EtcdError, NoAnswer, NotSent
from backends.local import LocalMember, LocalMembers
from backends.members import Members, majority, unheard
from backends.messages import (
    Member,
    MemberId,
    MemberList,
    MoveLeader,
    PutAnswer,
)
from backends.room import Room
from backends.roster import Numbers, Roster, joined, joining, name_of, replaced
from backends.turns import Asked, Turns
from backends.watch import Seen, View
from config import is_member_url
from models import (
    InvalidRequest,
    NodeId,
    NodeInfo,
    NodeNotFound,
    NotOffered,
    Recovery,
    TooFewNodes,
    Unavailable,
    Uncertain,
)
from processes.server import ProcessFailed

log = logging.getLogger(__name__)
MOVE_LEADER = "/v3/maintenance/transfer-leadership"
LOCAL_MODES = STOP, WIPE, PAUSE = ("stop", "wipe", "pause")
CATCH_UP_SECONDS = 30.0  # that a caller waits; it goes on by itself after that
ALONE_SECONDS = 6.0  # in which a member that is back should have found a leader
LOOK_SECONDS = 0.05
QUEUE_SECONDS = 1.0  # that a change waits for the one before
UPKEEP_SECONDS = 1.0
PROMOTE_SECONDS_MAX = 2.0


@contextmanager
def _half_done() -> Iterator[None]:
    """For what can break off in the middle because the disk or the kernel refuses."""
    try:
        yield
    except (OSError, ProcessFailed) as error:
        raise Uncertain(
            f"this machine refuses ({error}), so it may be half done: mend that, see in "
            "/nodes what there is, and ask for what is missing"
        ) from error


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
        self._room = Room(endpoints, self._watch, quota_bytes)
        self._lock = threading.Lock()
        self._turns = Turns()
        self._told_dead: set[NodeId] = set()
        self._told_lost = False
        self._ended = threading.Event()
        self._asking = Asking(endpoints, members, self._ended)
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

    @_half_done()
    def fail(self, node_id: NodeId, mode: str | None) -> NodeInfo:
        """Take a member of here down: killed, paused, or killed and its data lost.

        Unavailable if it was brought back before that was done: then it is left alone.
        """
        asked = self._turns.now()
        mode = STOP if mode is None else mode
        if mode not in LOCAL_MODES:
            raise InvalidRequest(
                f"unknown mode of failure (mode={mode!r}, known: {', '.join(LOCAL_MODES)})"
            )
        local, member = self._of_here(node_id, "fail")
        # One that is down can still lose its data; all else changes nothing.
        if member.state == "running" or (mode == WIPE and member.state != "wiped"):
            self._watch.look(count=True)  # what it has now is the last that it tells
            act = {STOP: local.kill, WIPE: local.wipe, PAUSE: local.pause}[mode]
            with self._turns.failing(node_id, asked):
                act(node_id)
            detail = f"node {node_id} failed ({mode})"
            self._record("node_failed", detail, node_id, mode=mode)
        return self._members.node(node_id)

    @_half_done()
    def recover(self, node_id: NodeId, *, accept_loss: bool) -> NodeInfo:
        """Bring a member of here back; `recovering` if it cannot catch up just now."""
        self._of_here(node_id, "recover")
        asked = self._turns.now()
        with self._alone():
            now = self._turns.now()
            local, member = self._of_here(node_id, "recover")
            began, before = time.monotonic(), self._watch.look()
            seen = before.of(node_id)
            if member.state == "running" and seen is not None and _serves(seen):
                return self._members.node(node_id, Recovery(0, None, None, 0.0))
            held = seen.last.header.revision if seen is not None and seen.last else 0
            if member.state in ("wiped", "new"):
                held = 0
            if accept_loss and self._members.is_lost(before):
                self._take_for_truth(local, node_id, asked)
            else:
                if member.state == "running":
                    asked = now  # somebody else had it started: on from there
                self._bring_back(local, member, before, asked)
            self._record("recovery_began", f"node {node_id} is back", node_id)
            self._told_dead.discard(node_id)
            is_up = self._catch_up(node_id)
            seconds = time.monotonic() - began
        copied = max(0, self._watch.view.revision - held) if is_up else 0
        if is_up:
            changes = "1 change" if copied == 1 else f"{copied} changes"
            detail = f"node {node_id} caught up with {changes} in {seconds:.1f} s"
            self._record("node_recovered", detail, node_id)
        return self._members.node(node_id, Recovery(copied, None, None, seconds))

    def _take_for_truth(
        self, local: LocalMembers, node_id: NodeId, asked: Asked
    ) -> None:
        with self._turns.returning_alone(node_id, asked):
            local.take_for_truth(node_id)
        self._members.begin_anew(node_id)  # without data it is another cluster
        detail = f"node {node_id} as it is: what it lacks is given up"
        self._record("loss_accepted", detail, node_id)

    def _bring_back(
        self, local: LocalMembers, member: LocalMember, view: View, asked: Asked
    ) -> None:
        node_id = member.node_id
        self._turns.check_not_failed(node_id, asked)
        if member.state in ("wiped", "new"):
            lost = self._members.lost(view)
            if lost is not None:
                raise lost
            self._join(local, member, asked)
            return
        is_paused = member.state == "paused" and member.pid is not None
        with self._turns.returning(node_id, asked):
            (local.resume if is_paused else local.launch)(node_id)

    def _catch_up(self, node_id: NodeId) -> bool:
        """Wait until a member has all that was committed when it came back."""
        began, target = time.monotonic(), self._watch.look().committed
        while time.monotonic() < began + CATCH_UP_SECONDS:
            self._number_local()
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

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One change of members at a time; nobody waits for another one for long."""
        if not self._lock.acquire(timeout=QUEUE_SECONDS):
            raise Unavailable(
                "another change of members is under way: try again when it has ended; "
                "nothing of this one was done"
            )
        try:
            yield
        finally:
            self._lock.release()

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

    @_half_done()
    def add(self, url: str | None) -> NodeInfo:
        """Add a member: one that is started here, or one that will run at a peer URL."""
        with self._alone():
            if self._local is not None:
                return self._add_here(self._local, url)
            if url is None or not is_member_url(url):
                raise InvalidRequest(
                    "where will it run? Give the URL at which its peers will reach it: "
                    '{"url": "http://10.0.0.4:2380"}'
                    + (f" (got {url!r})" if url else "")
                )
            url = url.rstrip("/")  # as etcd keeps it
            members = self._members.listed()
            known = [each for each in members if url in each.peer_urls]
            number = known[0].number if known else self._add(url)
            if known and known[0].is_learner:
                self._roster.change(partial(joining, member=number))
            node_id = self._roster.of([*members, Member(number)])[number]
            if not known:
                self._record(
                    "node_added", f"node {node_id} may join, at {url}", node_id
                )
        try:
            return self._members.node(node_id)
        except NodeNotFound:  # who was asked has not heard of it yet
            return unheard(node_id, "down")

    @_half_done()
    def remove(self, node_id: NodeId) -> NodeInfo:
        """Remove a member for good; its data too, if it ran here."""
        asked = self._turns.now()
        with self._alone():
            self._turns.check_not_back(node_id, asked, "remove")
            last = self._members.node(node_id)
            view = self._watch.view
            seen = view.of(node_id)
            if view.leader is None:
                raise NobodyLeads(
                    "nobody leads, so no member can be removed: recover members first; "
                    "nothing was done"
                )
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
                self._asking.remove(seen.member.number)
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
        self._roster.refresh()
        member = local.add(self._roster.numbers.next)
        try:
            self._join(local, member, self._turns.now())
        except (Unavailable, TooFewNodes, NobodyCan):  # nothing was added
            local.forget(member.node_id)
            raise
        detail = f"node {member.node_id} joins, at {member.client_url}"
        self._record("node_added", detail, member.node_id)
        self._catch_up(member.node_id)
        return self._members.node(member.node_id)

    def _join(self, local: LocalMembers, member: LocalMember, asked: Asked) -> None:
        """Have the cluster take a member without data, in place of what it was before.

        Under its old id it would have promised what it has forgotten (Raft, section 5).
        """
        peer, node_id = member.peer_url, member.node_id
        for each in self._members.listed():
            if peer in each.peer_urls:
                self._asking.remove(each.number)
        number = self._add(peer, node_id)
        # Whoever lists them may not have heard of it yet.
        own = Member(number, member.name, (peer,))
        others = [each for each in self._members.listed() if each.number != number]
        initial = [
            (each.name or name_of(each.number), url)
            for each in (*others, own)
            for url in each.peer_urls
        ]
        try:
            with self._turns.returning(node_id, asked):
                local.launch(node_id, initial)
        except Unavailable as error:
            raise Uncertain(f"it may join, and was not started: {error}") from error
        self._number_local()

    def _add(self, url: str, node_id: NodeId | None = None) -> int:
        """Have a learner added at a peer URL, to be a voter once it can; its id."""
        number = self._asking.add(url)

        def known(numbers: Numbers) -> Numbers:
            if node_id is not None:
                numbers = replaced(numbers, number, node_id)
            return joining(numbers, number)

        try:
            self._roster.change(known)
        except (NobodyCan, NoAnswer, EtcdError) as error:
            log.warning(
                "a learner at %s will not become a voter by itself: %s", url, error
            )
        return number

    def _number_local(self) -> None:
        """Have members of here go by their numbers here, whatever they were given."""
        local = {
            each.peer_url: each.node_id
            for each in self._members.local_members().values()
        }
        for seen in self._watch.view.seen:
            for url in seen.member.peer_urls:
                node_id = local.get(url, seen.node_id)
                if node_id != seen.node_id:
                    with suppress(NobodyCan, NoAnswer, EtcdError):  # it is tried again
                        member = seen.member.number
                        self._roster.change(
                            partial(replaced, member=member, node_id=node_id)
                        )

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
        leader, message = self._watch.view.leader, MemberId(member.number)
        if leader is None:
            return
        try:
            # Of it alone: it says nothing if another service asks in the same moment, and
            # that is no reason to take it for lost.
            self._endpoints.ask_one(
                leader.url, PROMOTE, message, MemberList, PROMOTE_SECONDS_MAX
            )
        except (NotSent, NoAnswer, EtcdError):
            return
        with suppress(NobodyCan, NoAnswer, EtcdError):  # a voter it is already
            self._roster.change(partial(joined, member=member.number))

    # --- Upkeep ----------------------------------------------------------------------

    def _keep_up(self) -> None:
        while not self._ended.wait(UPKEEP_SECONDS):
            try:
                self._keep_up_once()
            except Exception:  # the next round may do better, and must come
                log.exception("the upkeep of the members failed; it goes on")

    def _keep_up_once(self) -> None:
        view = self._watch.look()
        self._number_local()
        if self._local is not None and self._room.make(view):
            self._record("room_made", "writes are taken again")
        learners = [each for each in view.seen if each.member.is_learner]
        if learners:
            self._roster.refresh()
        here = {each.peer_url for each in self._members.local_members().values()}
        for each in learners:
            # Those of here in any case, whatever could be kept of them.
            is_here = not here.isdisjoint(each.member.peer_urls)
            wanted = name_of(each.member.number) in self._roster.numbers.joining
            if (wanted or is_here) and each.status is not None:
                self._promote(each.member)
        self._tell_loss(view)
        for node_id, words in self._members.died().items():
            if node_id not in self._told_dead:
                self._told_dead.add(node_id)
                self._record("member_died", f"node {node_id}: {words}", node_id)

    def _tell_loss(self, view: View) -> None:
        """Record once that the data are lost, however they were."""
        lost = self._members.lost(view)
        if lost is not None and not self._told_lost:
            self._record("data_lost", lost.detail)
        self._told_lost = lost is not None


def _serves(seen: Seen) -> bool:
    return seen.is_led and not seen.member.is_learner
