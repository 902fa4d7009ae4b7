"""One member of etcd, as its JSON gateway: requests that are sent once, and what went wrong.

libcurl carries them (docs/decisions/0013): it keeps connections, speaks TLS and waits
without holding the interpreter. What it does on its own accord has to be kept from it: it
would send a request again if a connection that it used before is closed on it, and that
can be a write that was done. A body that it cannot rewind makes it give up instead.
"""

from __future__ import annotations

import io
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pycurl

from backends.messages import Failure, decode

CONNECT_SECONDS_MAX = 1.0
IDLE_MAX = 128  # connections that are kept for later
_HEADERS = ["Content-Type: application/json", "Expect:"]
_HEADERS_TO_LEADER = [*_HEADERS, "Grpc-Metadata-hasleader: true"]


class NotSent(Exception):
    """Nothing of the request has left: another member may be asked."""


class NoAnswer(Exception):
    """The request left, and what became of it is unknown."""


class Meaning(Enum):
    """What an error of etcd says of the request that got it."""

    ELSEWHERE = "nothing was done; another member may be able"
    REFUSED = "nothing was done, and no other member would do it"
    LOGIN = "nothing was done; the token is no longer good"
    FULL = "no other member would do it; the first to get this was done all the same"
    UNKNOWN = "it may have been done"


# What etcd 3.4 to 3.6 say before or instead of doing anything (api/v3rpc/rpctypes). All
# else, such as "request timed out" or "leader changed", leaves a write unknown.
_MEANINGS = {
    "etcdserver: no leader": Meaning.ELSEWHERE,
    "etcdserver: not leader": Meaning.ELSEWHERE,
    "etcdserver: rpc not supported for learner": Meaning.ELSEWHERE,
    "etcdserver: too many requests": Meaning.ELSEWHERE,
    "etcdserver: not capable": Meaning.ELSEWHERE,
    "etcdserver: mvcc: database space exceeded": Meaning.FULL,
    "etcdserver: mvcc: required revision has been compacted": Meaning.REFUSED,
    "etcdserver: request is too large": Meaning.REFUSED,
    "etcdserver: too many operations in txn request": Meaning.REFUSED,
    "etcdserver: requested lease not found": Meaning.REFUSED,
    "etcdserver: lease already exists": Meaning.REFUSED,
    "etcdserver: too large lease TTL": Meaning.REFUSED,
    "etcdserver: permission denied": Meaning.REFUSED,
    "etcdserver: authentication failed, invalid user ID or password": Meaning.REFUSED,
    "etcdserver: authentication is not enabled": Meaning.REFUSED,
    "etcdserver: user name is empty": Meaning.REFUSED,
    "etcdserver: member not found": Meaning.REFUSED,
    "etcdserver: member ID already exist": Meaning.REFUSED,
    "etcdserver: Peer URLs already exists": Meaning.REFUSED,
    "etcdserver: unhealthy cluster": Meaning.REFUSED,
    "etcdserver: re-configuration failed due to not enough started members": Meaning.REFUSED,
    "etcdserver: can only promote a learner member which is in sync with leader": (
        Meaning.REFUSED
    ),
    "etcdserver: can only promote a learner member": Meaning.REFUSED,
    "etcdserver: too many learner members in cluster": Meaning.REFUSED,
    "etcdserver: invalid auth token": Meaning.LOGIN,
    "etcdserver: revision of auth store is old": Meaning.LOGIN,
}


_TOO_LARGE_BY_FAR = "grpc: received message larger than max"  # and then both sizes


class EtcdError(Exception):
    """etcd answered that something went wrong."""

    NO_SPACE: ClassVar[str] = "etcdserver: mvcc: database space exceeded"
    TOO_LARGE: ClassVar[str] = "etcdserver: request is too large"
    TOO_MANY: ClassVar[str] = "etcdserver: too many operations in txn request"
    COMPACTED: ClassVar[str] = "etcdserver: mvcc: required revision has been compacted"
    NO_LEASE: ClassVar[str] = "etcdserver: requested lease not found"
    LEASE_EXISTS: ClassVar[str] = "etcdserver: lease already exists"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.meaning = _MEANINGS.get(message, Meaning.UNKNOWN)
        if message.startswith(_TOO_LARGE_BY_FAR):
            self.message, self.meaning = self.TOO_LARGE, Meaning.REFUSED


class Request(msgspec.Struct, frozen=True, gc=False):
    """What is posted where.

    What needs a leader is refused at once by a member that knows of none, where else it
    would wait for one.
    """

    path: str
    body: bytes
    needs_leader: bool = True


class Security(msgspec.Struct, frozen=True):
    """How a member is trusted, and how it knows us; None: as the system has it, or not."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


class Gateway:
    """The gateway of one member. Safe for many threads, each with its own connection."""

    def __init__(self, url: str, security: Security) -> None:
        self.url = url
        self._security = security
        self._idle: list[pycurl.Curl] = []
        self._closed = False

    def post(self, request: Request, seconds: float, token: str = "") -> bytes:
        """The answer to one request, which is sent at most once.

        Raises NotSent, NoAnswer (after `seconds`, too) or EtcdError.
        """
        body = request.body
        unsent = io.BytesIO(body)
        handle = self._take()
        chunks: list[bytes] = []
        headers = _HEADERS_TO_LEADER if request.needs_leader else _HEADERS
        if token:
            headers = [*headers, f"Authorization: {token}"]
        handle.setopt(pycurl.URL, self.url + request.path)
        handle.setopt(pycurl.HTTPHEADER, headers)
        handle.setopt(pycurl.POSTFIELDSIZE, len(body))
        handle.setopt(pycurl.READFUNCTION, unsent.read)
        handle.setopt(pycurl.WRITEFUNCTION, chunks.append)
        handle.setopt(pycurl.TIMEOUT_MS, max(1, int(seconds * 1000)))
        try:
            handle.perform()
        except pycurl.error as error:
            # Without its body a request does nothing, whatever has gone wrong.
            raise self._failed(handle, error, is_sent=unsent.tell() > 0) from error
        status = handle.getinfo(pycurl.RESPONSE_CODE)
        self._keep(handle)
        answer = b"".join(chunks)
        chunks.clear()  # for the handle keeps both while it is idle
        unsent.close()
        if status == 200:
            return answer
        raise EtcdError(_message(answer, status))

    def close(self) -> None:
        """Close the connections that nobody uses; the others when they are done."""
        self._closed = True
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _take(self) -> pycurl.Curl:
        try:
            return self._idle.pop()
        except IndexError:  # also if another thread was faster
            return self._new()

    def _keep(self, handle: pycurl.Curl) -> None:
        if len(self._idle) >= IDLE_MAX:
            handle.close()
            return
        self._idle.append(handle)
        if self._closed:  # which it may have become meanwhile
            self.close()

    def _failed(
        self, handle: pycurl.Curl, error: pycurl.error, *, is_sent: bool
    ) -> Exception:
        details: tuple[Any, ...] = error.args
        code, reason = details
        # Kept, though its connection is closed: to close it as well would wait for a name
        # that is still being looked up, however long that takes.
        self._keep(handle)
        if code == pycurl.E_SEND_FAIL_REWIND:  # it would have sent it again
            reason = "the connection was closed without an answer"
        text = f"{self.url}: {reason or f'libcurl error {code}'}"
        return NoAnswer(text) if is_sent else NotSent(text)

    def _new(self) -> pycurl.Curl:
        handle = pycurl.Curl()
        handle.setopt(pycurl.NOSIGNAL, 1)
        handle.setopt(pycurl.NOPROXY, "*")
        handle.setopt(pycurl.POST, 1)
        handle.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        handle.setopt(pycurl.CONNECTTIMEOUT_MS, int(CONNECT_SECONDS_MAX * 1000))
        security = self._security
        if security.ca is not None:
            handle.setopt(pycurl.CAINFO, str(security.ca))
        if security.certificate is not None and security.key is not None:
            handle.setopt(pycurl.SSLCERT, str(security.certificate))
            handle.setopt(pycurl.SSLKEY, str(security.key))
        return handle


def _message(answer: bytes, status: int) -> str:
    try:
        failure = decode(answer, Failure)
    except msgspec.DecodeError:
        return f"HTTP status {status}, and no answer of etcd's v3 gateway"
    return failure.message or failure.error or f"HTTP status {status}"
