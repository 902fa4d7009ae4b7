"""The members of etcd that requests go to, one after the other until one of them can.

A request goes on to the next member only where that is harmless: nothing of it was sent,
or the member said that it did nothing, or it only reads. A write that left and got no
answer is never sent again (Jepsen's finding on jetcd 0.8.2: a client that does turns one
write into two).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec

from backends.gateway import (
    EtcdError,
    Gateway,
    Meaning,
    NoAnswer,
    NotSent,
    Request,
    Security,
)
from backends.messages import (
    RANGE,
    STATUS,
    Authenticated,
    Empty,
    Message,
    RangeAnswer,
    Status,
    decode,
    encode,
)
from models import Unavailable

T = TypeVar("T")
# An election takes one to two of etcd's timeouts (1 s unless set otherwise). For so long
# after the last answer of a leader a request waits for the next one.
ELECTION_SECONDS = 3.0
ASK_AGAIN_SECONDS = 0.05
LOOK_SECONDS_MAX = 0.5  # for a member to say who leads
LOGIN_SECONDS_MAX = 2.0  # it hashes the password, which is slow on purpose
NO_LEADER = ("", 0)
SHARE_SECONDS_MIN = 0.5  # for a member that reads, before another one is asked


class NobodyCan(Exception):
    """No member could do it, and none did anything: no leader, no quorum, no member."""


class NobodyLeads(Unavailable):
    """`NobodyCan` as a client is told of it; nothing was done."""


class Login(Message, frozen=True):
    """Who calls."""

    name: str
    password: str


_LOOK = Request(STATUS, encode(Empty()), needs_leader=False)


class Endpoints:
    """Several members, the best first. Safe for many threads.

    `seconds` bounds every request, from its first member to its last.
    """

    def __init__(
        self,
        urls: Iterable[str],
        security: Security,
        seconds: float,
        login: Login | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._security = security
        self._seconds = seconds
        self._login = login
        self._token = ""
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._gateways: dict[str, Gateway] = {}
        # Who can do nothing without a majority can still tell what it has: two orders.
        self._order: tuple[Gateway, ...] = ()
        self._order_to_peek: tuple[Gateway, ...] = ()
        self._silent: frozenset[str] = frozenset()  # took a request and did not answer
        self._led_at = monotonic()  # when a leader answered last
        self._leader = NO_LEADER
        self._trouble = ""  # of the member that failed last
        self._lost = 0  # the leader that cannot be reached, whatever others believe
        self._lost_at = monotonic()
        self.closed = threading.Event()
        self.arrange(urls)

    @property
    def urls(self) -> tuple[str, ...]:
        """Every member that is asked, the best first."""
        return tuple(gateway.url for gateway in self._order)

    def arrange(
        self,
        urls: Iterable[str],
        silent: Iterable[str] = (),
        leader: tuple[str, int] = NO_LEADER,
    ) -> None:
        """Ask these members, in this order; the silent ones only for what may be stale.

        `leader` is the URL and the id of the member that leads, or led last.
        """
        with self._lock:
            self._leader, self._silent = leader, frozenset(silent)
            if leader[0] in self._silent:
                self._lose(leader[1])
            elif self._lost == leader[1]:
                self._lost = 0
            wanted = list(dict.fromkeys(urls))
            for url in wanted:
                if url not in self._gateways:
                    self._gateways[url] = Gateway(url, self._security)
            for url in self._gateways.keys() - set(wanted):
                self._gateways.pop(url).close()
            self._order = tuple(self._gateways[url] for url in wanted)
            self._order_to_peek = self._order

    def leave(self, urls: Iterable[str], trouble: str = "") -> None:
        """Ask these no more, from now on; `trouble` is why, if it is known."""
        left = frozenset(urls)
        with self._lock:
            if trouble:
                self._trouble = _failed_last(trouble)
            self._order = tuple(g for g in self._order if g.url not in left)
            self._order_to_peek = tuple(
                gateway for gateway in self._order_to_peek if gateway.url not in left
            )
            for url in self._gateways.keys() & left:
                self._gateways.pop(url).close()

    def read(self, path: str, message: Message, shape: type[T]) -> T:
        """The answer of the first member that has one. NobodyCan, NoAnswer, EtcdError."""
        return self._ask(Request(path, encode(message)), shape, again=True)

    def peek(self, path: str, message: Message, shape: type[T]) -> T:
        """What some member has, which may be stale: there need be no leader."""
        return self._ask(Request(path, encode(message), False), shape, again=True)

    def change(self, path: str, message: Message, shape: type[T]) -> T:
        """As `read` for what must not be sent twice: NoAnswer at the first silence."""
        return self._ask(Request(path, encode(message)), shape, again=False)

    def ask_one(
        self, url: str, path: str, message: Message, shape: type[T], seconds: float
    ) -> T:
        """What this very member has. NotSent, NoAnswer or EtcdError."""
        request = Request(path, encode(message), False)
        with self._lock:
            gateway = self._gateways.get(url)
        if gateway is not None:
            return self._post(gateway, request, shape, seconds)
        passing = Gateway(url, self._security)
        try:
            return self._post(passing, request, shape, seconds)
        finally:
            passing.close()

    def why_no_leader(self, message: Message, seconds: float) -> str | None:
        """Why this cannot be read linearizably of anybody just now; None: it can."""
        request = Request(RANGE, encode(message))
        ends_at = self._monotonic() + seconds
        try:
            self._ask_each(request, RangeAnswer, ends_at, again=True)
        except (NobodyCan, NoAnswer, EtcdError) as error:
            return str(error)
        return None

    def close(self) -> None:
        """Close every connection, and let nobody wait any longer."""
        self.closed.set()
        self.arrange(())

    def _ask(self, request: Request, shape: type[T], *, again: bool) -> T:
        ends_at = self._monotonic() + self._seconds
        while True:
            try:
                answer = self._ask_each(request, shape, ends_at, again=again)
            except NobodyCan:
                if self._monotonic() > min(ends_at, self._led_at + ELECTION_SECONDS):
                    raise
                if self.closed.wait(ASK_AGAIN_SECONDS):
                    raise
            except NoAnswer:
                if not again or self._monotonic() > ends_at:
                    raise
                if self.closed.wait(ASK_AGAIN_SECONDS):
                    raise
            else:
                if request.needs_leader:
                    self._led_at = self._monotonic()
                return answer

    def _ask_each(
        self, request: Request, shape: type[T], ends_at: float, *, again: bool
    ) -> T:
        """One round over the members."""
        order = self._order_to_peek
        if request.needs_leader:
            order = tuple(each for each in self._order if each.url not in self._silent)
        reason: Exception | None = None
        share = max(SHARE_SECONDS_MIN, self._seconds / (len(order) or 1))
        for gateway in order:
            left = ends_at - self._monotonic()
            if left <= 0:
                break
            try:
                if (
                    request.needs_leader
                    and self._lost
                    and gateway.url != self._leader[0]
                ):
                    self._check_leader(gateway)
                return self._post(
                    gateway, request, shape, min(left, share) if again else left
                )
            except NobodyCan as error:
                reason = error
            except (NotSent, NoAnswer) as error:
                self._put_last(gateway, request, is_silent=isinstance(error, NoAnswer))
                self._trouble = _failed_last(error)
                if isinstance(error, NoAnswer) and not again:
                    raise
                reason = error
            except EtcdError as error:
                if error.meaning in (Meaning.REFUSED, Meaning.FULL):
                    raise
                if error.meaning is Meaning.UNKNOWN and not again:
                    raise NoAnswer(f"{gateway.url}: {error.message}") from error
                reason = error
        if isinstance(reason, NoAnswer):
            raise reason
        nobody = f"no member of etcd answers{self._trouble}"
        raise NobodyCan(str(reason or nobody)) from reason

    def _check_leader(self, gateway: Gateway) -> None:
        """Raise NobodyCan while a member still follows a leader that is gone.

        It would pass the request on to it, and nobody could say what became of that.
        Who follows it for longer than an election reaches it, where we do not.
        """
        if self._monotonic() > self._lost_at + ELECTION_SECONDS:
            return
        try:
            status = self._post(gateway, _LOOK, Status, LOOK_SECONDS_MAX)
        except (NoAnswer, EtcdError) as error:
            raise _before(gateway, error) from error
        if status.leader in (0, self._lost):
            raise NobodyCan(f"{gateway.url}: no new leader yet")
        with self._lock:  # first from now on: others may not have heard of it yet
            if gateway in self._order:
                others = (each for each in self._order if each is not gateway)
                self._order = (gateway, *others)
            self._lost = 0

    def _post(
        self, gateway: Gateway, request: Request, shape: type[T], seconds: float
    ) -> T:
        token = self._token or self._log_in(gateway, seconds)
        try:
            answer = gateway.post(request, seconds, token)
        except EtcdError as error:
            if error.meaning is not Meaning.LOGIN or self._login is None:
                raise
            self._token = ""
            answer = gateway.post(request, seconds, self._log_in(gateway, seconds))
        try:
            found = decode(answer, shape)
        except msgspec.DecodeError as error:
            raise NoAnswer(f"{gateway.url}: not an answer of etcd: {error}") from error
        return found

    def _log_in(self, gateway: Gateway, seconds: float) -> str:
        """A token, good for every member; empty where no user is set."""
        if self._login is None:
            return ""
        asked = Request("/v3/auth/authenticate", encode(self._login))
        try:
            answer = gateway.post(asked, min(seconds, LOGIN_SECONDS_MAX))
            token = decode(answer, Authenticated).token
        except (NoAnswer, EtcdError, msgspec.DecodeError) as error:
            raise _before(gateway, error) from error
        self._token = token
        return token

    def _put_last(self, gateway: Gateway, request: Request, *, is_silent: bool) -> None:
        with self._lock:
            if not request.needs_leader:
                self._order_to_peek = _with_last(self._order_to_peek, gateway)
                return
            self._order = _with_last(self._order, gateway)
            if is_silent:
                self._silent |= {gateway.url}
            if gateway.url == self._leader[0]:
                self._lose(self._leader[1])

    def _lose(self, leader: int) -> None:
        if self._lost != leader:
            self._lost, self._lost_at = leader, self._monotonic()


def _failed_last(error: object) -> str:
    return f"; the last one that failed: {error}"


def _with_last(order: tuple[Gateway, ...], gateway: Gateway) -> tuple[Gateway, ...]:
    if gateway not in order:
        return order
    return (*(each for each in order if each is not gateway), gateway)


def _before(gateway: Gateway, error: Exception) -> Exception:
    """What it says of a request that something failed before it: nothing of it was sent."""
    if isinstance(error, EtcdError) and error.meaning is not Meaning.UNKNOWN:
        return error
    is_told = isinstance(error, NoAnswer)  # which names the member already
    return NotSent(str(error) if is_told else f"{gateway.url}: {error}")
