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
from functools import cache
from typing import Any, TypeVar, cast

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
    encode,
)

T = TypeVar("T")
# An election takes one to two of etcd's timeouts (1 s unless set otherwise). For so long
# after the last answer of a leader a request waits for the next one.
ELECTION_SECONDS = 3.0
ASK_AGAIN_SECONDS = 0.05
LOOK_SECONDS_MAX = 0.5  # for a member to say who leads
NO_LEADER = ("", 0)
SHARE_SECONDS_MIN = 0.5  # for a member that reads, before another one is asked


class NobodyCan(Exception):
    """No member could do it, and none did anything: no leader, no quorum, no member."""


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
        self._order: tuple[Gateway, ...] = ()
        self._silent: frozenset[str] = frozenset()  # took a request and did not answer
        self._led_at = monotonic()  # when a leader answered last
        self._leader = NO_LEADER
        self._lost = 0  # the leader that cannot be reached, whatever others believe
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
        """Ask these members, in this order; to those that are silent nothing is written.

        `leader` is the URL and the id of the member that leads, or led last.
        """
        with self._lock:
            self._leader = leader
            if leader[0] in silent:
                self._lost = leader[1]
            elif self._lost == leader[1]:
                self._lost = 0
            wanted = list(dict.fromkeys(urls))
            for url in wanted:
                if url not in self._gateways:
                    self._gateways[url] = Gateway(url, self._security)
            for url in self._gateways.keys() - set(wanted):
                self._gateways.pop(url).close()
            self._order = tuple(self._gateways[url] for url in wanted)
            self._silent = frozenset(silent)

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
        order = self._order
        if not again:
            order = tuple(each for each in order if each.url not in self._silent)
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
                self._put_last(gateway, is_silent=isinstance(error, NoAnswer))
                if isinstance(error, NoAnswer) and not again:
                    raise
                reason = error
            except EtcdError as error:
                if error.meaning is Meaning.REFUSED:
                    raise
                if error.meaning is Meaning.UNKNOWN and not again:
                    raise NoAnswer(f"{gateway.url}: {error.message}") from error
                reason = error
        if isinstance(reason, NoAnswer):
            raise reason
        raise NobodyCan(str(reason or "no member of etcd answers")) from reason

    def _check_leader(self, gateway: Gateway) -> None:
        """Raise NobodyCan while a member still follows a leader that is gone.

        It would pass the request on to it, and nobody could say what became of that.
        """
        try:
            status = self._post(gateway, _LOOK, Status, LOOK_SECONDS_MAX)
        except NoAnswer as error:
            raise NotSent(str(error)) from error  # of the request itself nothing was
        if status.leader in (0, self._lost):
            raise NobodyCan(f"{gateway.url}: no new leader yet")
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
            found: T = _decoder(cast(Any, shape)).decode(answer)
        except msgspec.DecodeError as error:
            raise NoAnswer(f"{gateway.url}: not an answer of etcd: {error}") from error
        return found

    def _log_in(self, gateway: Gateway, seconds: float) -> str:
        """A token, good for every member; empty where no user is set."""
        if self._login is None:
            return ""
        asked = Request("/v3/auth/authenticate", encode(self._login))
        try:
            answer = gateway.post(asked, seconds)
        except NoAnswer as error:
            raise NotSent(str(error)) from error  # of the request itself nothing was
        token: str = _decoder(cast(Any, Authenticated)).decode(answer).token
        self._token = token
        return token

    def _put_last(self, gateway: Gateway, *, is_silent: bool) -> None:
        with self._lock:
            if gateway in self._order:
                others = (each for each in self._order if each is not gateway)
                self._order = (*others, gateway)
            if is_silent:
                self._silent |= {gateway.url}
            if gateway.url == self._leader[0]:
                self._lost = self._leader[1]


@cache
def _decoder(shape: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(shape, strict=False)
