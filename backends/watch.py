"""What the members of etcd say of themselves, asked of each and compared."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from backends.endpoints import NO_LEADER, Endpoints, NobodyCan
from backends.gateway import EtcdError, NoAnswer, NotSent
from backends.messages import (
    RANGE,
    STATUS,
    Empty,
    Member,
    MemberList,
    Message,
    Range,
    RangeAnswer,
    Status,
)
from backends.roster import Roster
from cluster.events import EventLog
from models import NodeId

MEMBERS = "/v3/cluster/member/list"
NO_SPACE = "NOSPACE"  # the alarm of a member whose quota is used up
PROBE_SECONDS_MAX = 0.7  # for a member to say something
PROBES_AT_ONCE = 8


class Seen(msgspec.Struct, frozen=True):
    """A member, and what it said when it was asked last."""

    node_id: NodeId
    member: Member
    url: str = ""  # where it answers, or should
    status: Status | None = None  # None: it did not answer
    last: Status | None = None  # what it said last, if it ever did
    keys: int | None = None  # values that it held then; None: never counted
    counted_at: int = -1  # the revision of that count
    trouble: str = ""  # why it did not answer

    @property
    def is_leader(self) -> bool:
        """True if it says that it leads."""
        return self.status is not None and self.status.leader == self.member.number

    @property
    def is_full(self) -> bool:
        """True if it says that its quota is used up."""
        errors = self.status.errors if self.status is not None else ()
        return any(NO_SPACE in error for error in errors)

    @property
    def is_led(self) -> bool:
        """True if it answers and knows a leader."""
        return self.status is not None and self.status.leader != 0


class View(msgspec.Struct, frozen=True):
    """All members, as they were at one moment."""

    seen: tuple[Seen, ...] = ()  # in the order of their numbers
    at: float = float("-inf")  # when the look began, monotonic
    counted: bool = False
    settled: int = 0  # entry of the log that was known to be committed one look before

    def of(self, node_id: NodeId) -> Seen | None:
        """The member with this number."""
        return next((each for each in self.seen if each.node_id == node_id), None)

    @property
    def voters(self) -> tuple[Seen, ...]:
        """Those whose majority decides."""
        return tuple(each for each in self.seen if not each.member.is_learner)

    @property
    def leader(self) -> Seen | None:
        """The one that leads; of two that say so the one of the later term."""
        leaders = [each for each in self.seen if each.is_leader and each.status]
        return max(
            leaders,
            key=lambda each: each.status.term if each.status else 0,
            default=None,
        )

    @property
    def revision(self) -> int:
        """The newest that any member ever told of."""
        told = (each.last.header.revision for each in self.seen if each.last)
        return max(told, default=0)

    @property
    def committed(self) -> int:
        """The newest entry of the log that any member knows to be committed."""
        return max((s.last.committed for s in self.seen if s.last), default=0)


class Quota:
    """Whether etcd's quota is used up, as far as anybody has told."""

    def __init__(self) -> None:
        self.is_full = False


class Watch:
    """Looks at every member, and puts the endpoints in order after what it sees.

    `base` gives the URLs that are asked in any case; others are those that members say
    themselves. `failed` gives those that were failed here, and their URLs: they are not asked.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        roster: Roster,
        space: bytes,
        events: EventLog,
        base: Callable[[], Sequence[str]],
        *,
        failed: Callable[[], Mapping[NodeId, str]],
    ) -> None:
        self.view = View()
        self.quota = Quota()
        self._endpoints = endpoints
        self._roster = roster
        self._count = Range(
            space, space[:-1] + bytes((space[-1] + 1,)), 0, True, False, True
        )
        self._events = events
        self._base = base
        self._failed = failed
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(PROBES_AT_ONCE, "kv-etcd-probe")
        self._led_by = NO_LEADER
        self._told_leader = 0  # who led when that was told last
        self._members: tuple[Member, ...] = ()
        self._url_of: dict[int, str] = {}  # where each member answered last
        self._cluster = 0  # its id, from the first that answered
        self._strange: set[str] = set()  # URLs at which one of another has
        self._ours: set[str] = set()  # URLs at which a member of it has answered

    def look(self, *, within: float = 0.0, count: bool = False) -> View:
        """All members as they are now, or were at most `within` seconds ago.

        `count` has their keys counted too. Never an error: who does not answer is silent.
        """
        came = time.monotonic()
        with self._lock:
            # Or somebody else has looked while this one waited for the lock.
            if self.view.at >= came - within and self.view.counted >= count:
                return self.view
            before, now = self.view, self._look(count=count)
            self.view = now
            self.quota.is_full = any(each.is_full for each in now.seen)
            self._arrange()
            self._tell(before, now)
            return now

    def begin_anew(self) -> None:
        """Forget which cluster it was: whoever answers next is of the one that matters."""
        with self._lock:
            self.view, self._members, self._led_by = View(), (), NO_LEADER
            self._cluster, self._url_of = 0, {}
            self._ours.clear()
            self._strange.clear()

    @property
    def named(self) -> int:
        """How many members it was told to ask."""
        return len(self._base())

    def close(self) -> None:
        """Ask nobody any more."""
        self._pool.shutdown(cancel_futures=True)

    def each(
        self, urls: Iterable[str], path: str, message: Message, shape: type[Message]
    ) -> dict[str, Message | Exception]:
        """The answer of each of these members, all asked at once."""

        def ask(url: str) -> Message | Exception:
            try:
                return self._endpoints.ask_one(
                    url, path, message, shape, PROBE_SECONDS_MAX
                )
            except (NotSent, NoAnswer, EtcdError) as error:
                return error

        wanted = list(dict.fromkeys(urls))
        return dict(zip(wanted, self._pool.map(ask, wanted), strict=True))

    def _look(self, *, count: bool) -> View:
        began, settled = time.monotonic(), self.view.committed
        base, failed = list(self._base()), set(self._failed().values())
        asked = [url for url in base if url not in failed]  # who would keep all waiting
        answers = self.each(asked, STATUS, Empty(), Status)
        by_member = self._by_member(answers)
        self._leave([url for url in base if url not in self._ours], answers)
        if by_member:
            # The leader knows best: another one may not have heard of a change yet.
            knowing = sorted(
                by_member, key=lambda each: by_member[each][1].leader != each
            )
            self._members = self._list([by_member[each][0] for each in knowing])
        others = [
            url
            for member in self._members
            if member.number not in by_member
            for url in member.client_urls
            if url not in answers and url not in failed
        ]
        if others:
            more = self.each(others, STATUS, Empty(), Status)
            answers |= more
            by_member |= self._by_member(more)
        self._url_of |= {member: url for member, (url, _) in by_member.items()}
        is_led = any(status.leader for _, status in by_member.values())
        numbers = self._roster.of(self._members, keep=is_led)
        old = {each.member.number: each for each in self.view.seen}
        seen = [
            self._seen(
                each, numbers[each.number], old.get(each.number), by_member, answers
            )
            for each in self._members
        ]
        if count:
            seen = self._counted(seen)
        seen.sort(key=lambda each: each.node_id)
        return View(tuple(seen), began, count, settled)

    def _leave(
        self, urls: Sequence[str], answers: Mapping[str, Message | Exception]
    ) -> None:
        """Have these asked for nothing, not even for the numbers of the members."""
        told = (answers.get(url) for url in urls)
        troubles = (each for each in told if isinstance(each, Exception))
        self._endpoints.leave(urls, str(next(troubles, "")))

    def _by_member(
        self, answers: Mapping[str, Message | Exception]
    ) -> dict[int, tuple[str, Status]]:
        """What members of this cluster said, and where; others are none of ours."""
        found = {}
        for url, answer in answers.items():
            if not isinstance(answer, Status):
                continue
            self._cluster = self._cluster or answer.header.cluster_id
            if answer.header.cluster_id == self._cluster:
                self._ours.add(url)
                found[answer.header.member_id] = url, answer
            elif url in self._ours or url not in self._strange:
                self._ours.discard(url)
                self._strange.add(url)
                detail = f"{url} is a member of another cluster: it is not asked"
                self._events.record("wrong_cluster", detail)
        return found

    def _list(self, urls: Sequence[str]) -> tuple[Member, ...]:
        """The members, as the first of these that answers knows them."""
        for url in urls:
            try:
                found = self._endpoints.ask_one(
                    url, MEMBERS, Empty(), MemberList, PROBE_SECONDS_MAX
                )
            except (NotSent, NoAnswer, EtcdError, NobodyCan):
                continue
            return found.members
        return self._members

    def _seen(
        self,
        member: Member,
        node_id: NodeId,
        old: Seen | None,
        by_member: Mapping[int, tuple[str, Status]],
        answers: Mapping[str, Message | Exception],
    ) -> Seen:
        known = old or Seen(node_id, member)
        answered = by_member.get(member.number)
        if answered is not None:
            url, status = answered
            return msgspec.structs.replace(
                known,
                node_id=node_id,
                member=member,
                url=url,
                status=status,
                last=status,
                trouble="",
            )
        url = self._url_of.get(member.number, "") or next(iter(member.client_urls), "")
        error = answers.get(url, "it has not been started yet")
        return msgspec.structs.replace(
            known,
            node_id=node_id,
            member=member,
            url=url,
            status=None,
            trouble=str(error),
        )

    def _counted(self, seen: Sequence[Seen]) -> list[Seen]:
        """With the keys of those that changed since they were counted."""
        changed = [
            each.url
            for each in seen
            if each.status and each.status.header.revision != each.counted_at
        ]
        answers = self.each(changed, RANGE, self._count, RangeAnswer)
        found = []
        for each in seen:
            answer = answers.get(each.url)
            if isinstance(answer, RangeAnswer):
                each = msgspec.structs.replace(
                    each, keys=answer.count, counted_at=answer.header.revision
                )
            found.append(each)
        return found

    def _arrange(self) -> None:
        """Ask the leader first, then who knows one; write to nobody who is silent."""
        told = {each.url: each for each in self.view.seen if each.url}

        def rank(url: str) -> int:
            each = told.get(url)
            if each is None or each.status is None:
                return 3
            if each.is_leader:
                return 0
            return 1 if each.is_led and not each.member.is_learner else 2

        # Only whom one knows to be of this cluster: another one has other data.
        base = [url for url in self._base() if url in self._ours]
        silent = [url for url in base if url in told and told[url].status is None]
        leader = self.view.leader
        if leader is not None:
            self._led_by = leader.url, leader.member.number
        self._endpoints.arrange(sorted(base, key=rank), silent, self._led_by)

    def _tell(self, before: View, now: View) -> None:
        """Record what changed between two looks, until all is closed."""
        if self._endpoints.closed.is_set():
            return
        old = {each.node_id: each for each in before.seen}
        for each in now.seen:
            was = old.get(each.node_id)
            if was is None or (was.status is None) == (each.status is None):
                continue
            if each.status is None and each.node_id in self._failed():
                continue
            if each.status is None:
                detail = f"node {each.node_id} does not answer: {each.trouble}"
                self._events.record("member_silent", detail, each.node_id)
            else:
                detail = f"node {each.node_id} answers again"
                self._events.record("member_back", detail, each.node_id)
        leader = now.leader
        if leader is None or leader.status is None:
            if self._told_leader and not any(each.is_led for each in now.seen):
                self._told_leader = 0
                self._events.record("leader_lost", "no member knows a leader")
        elif self._told_leader != leader.member.number:
            self._told_leader = leader.member.number
            detail = f"node {leader.node_id} leads, in term {leader.status.term}"
            self._events.record("leader_elected", detail, leader.node_id)
