"""A client of the store's REST API: one file that may be copied, on `requests` alone.

    with Client("http://127.0.0.1:5000") as store:
        written = store.write("greeting", {"text": "hello"})
        store.write("greeting", "again", if_version=written.version)
        store.read("greeting").value

Every failure is a `StoreError` with a `code` and `definite`: True when nothing was done
and nothing will be, False when it may have happened all the same. Nothing is tried
again behind the caller's back, since only the caller knows what a second write means.

    StoreError             itself for a code that is not known here
    |-- InvalidRequest     the request is wrong and will never succeed: mend it
    |-- NotAllowed         no token, or one that may not do this, or another name is wanted
    |-- KeyNotFound        the key is absent, or was deleted (`deleted`, `version`)
    |-- NodeNotFound       no node has this id
    |-- VersionMismatch    the condition does not hold; `version` is the current one
    |-- Conflict           this store does not do that, or not with the nodes that it has
    |-- Unavailable        nothing was done: try again later
    |-- DataLost           nothing was done, and trying again will not help: see recover
    |-- Timeout            a read got no answer: try again
    |-- Uncertain          a write may or may not have happened (never definite)
    `-- NoConnection       no server, or none that answered: definite if nothing was sent
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any, TypeVar

import requests

D = TypeVar("D")
_to_json = json.JSONEncoder(
    allow_nan=False, ensure_ascii=False, separators=(",", ":")
).encode
CONNECT_SECONDS_MAX = 5.0
PAGE = 1_000
_TUPLES = frozenset(("replicas", "missed", "waiting_for"))


class StoreError(Exception):
    """What went wrong; `fields` is the whole problem document (RFC 9457)."""

    def __init__(
        self,
        detail: str,
        *,
        code: str,
        definite: bool,
        status: int = 0,
        fields: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code
        self.definite = definite
        self.status = status  # of HTTP; 0 where there was no answer
        self.fields = dict(fields or {})

    @property
    def version(self) -> str | None:
        """The key's current version, where the answer had it."""
        return self.fields.get("version")

    @property
    def deleted(self) -> bool:
        """True if the key was there once and is deleted."""
        return bool(self.fields.get("deleted"))


class InvalidRequest(StoreError):
    """The request is wrong and will never succeed."""


class NotAllowed(StoreError):
    """The token is missing, wrong or too weak, or the server does not go by this name."""


class KeyNotFound(StoreError):
    """The key has no value."""


class NodeNotFound(StoreError):
    """No node has this id."""


class VersionMismatch(StoreError):
    """The condition of a write or delete does not hold."""


class Conflict(StoreError):
    """The store does not do that (`not_offered`), or too few nodes would stay."""


class Unavailable(StoreError):
    """Nothing was done: trying again is safe."""


class DataLost(StoreError):
    """Every complete copy is lost: only recover(..., accept_loss=True) helps."""


class Timeout(StoreError):
    """A read was not answered in time: reading again is safe."""


class Uncertain(StoreError):
    """A write may or may not have happened; read before deciding what to do."""


class NoConnection(StoreError):
    """There is no server, or it did not answer."""


_KINDS: dict[str, type[StoreError]] = {
    **dict.fromkeys(("invalid_request", "too_large", "not_json"), InvalidRequest),
    **dict.fromkeys(("unauthorized", "forbidden", "wrong_host"), NotAllowed),
    "key_not_found": KeyNotFound,
    "node_not_found": NodeNotFound,
    "version_mismatch": VersionMismatch,
    **dict.fromkeys(("not_offered", "too_few_nodes"), Conflict),
    **dict.fromkeys(("unavailable", "overloaded"), Unavailable),
    "data_lost": DataLost,
    "timeout": Timeout,
    "uncertain": Uncertain,
}


@dataclass(frozen=True)
class Written:
    """A write or delete that happened, and which nodes have it or miss it."""

    key: str
    version: str
    replicas: tuple[int, ...]
    missed: tuple[int, ...] = ()


@dataclass(frozen=True)
class Found:
    """A value that was read; a number that float would change is a decimal.Decimal."""

    key: str
    value: Any
    version: str
    replicas: tuple[int, ...]
    may_be_stale: bool = False


@dataclass(frozen=True)
class KeyInfo:
    """A key that has a value."""

    key: str
    version: str


@dataclass(frozen=True)
class Node:
    """One node. A number is None where the store cannot know it, or does not measure it."""

    node_id: int
    status: str  # up | down | recovering
    keys: int | None
    bytes: int | None
    stale_keys: int | None
    waiting_for: tuple[int, ...]
    zone: str | None = None
    lost_shards: int = 0  # of its own, whose data are lost: for these it waits in vain
    problem: str | None = None  # what is wrong with it
    recovery: Mapping[str, Any] | None = None  # what bringing it back took
    raft: Mapping[str, Any] | None = None  # its role, term and more, if it is a member


@dataclass(frozen=True)
class Event:
    """Something that happened to the cluster."""

    number: int
    at: str
    kind: str
    detail: str
    node_id: int | None = None
    mode: str | None = None  # in which the node was failed


class Client:
    """Talks to one server, over connections that are kept; for many threads.

    `timeout` is in seconds and bounds each wait for the server. Proxies and .netrc of
    the environment are not used.
    """

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:5000",
        token: str | None = None,
        timeout: float = 30.0,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._timeout = (min(timeout, CONNECT_SECONDS_MAX), timeout)
        self._shards: tuple[str, dict[str, Any]] | None = None  # with its ETag
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=64))
        if token is not None:
            self._session.headers["Authorization"] = f"Bearer {sendable(token)}"

    def write(
        self,
        key: str,
        value: Any,
        *,
        ttl: float | None = None,
        if_version: str | None = None,
        if_absent: bool = False,
        consistency: str | None = None,
    ) -> Written:
        """Create or update a key; `ttl` in seconds, after which it is gone.

        `if_version` writes only over that version, `if_absent` only where there is none.
        """
        body = {"key": key, "value": value, **({} if ttl is None else {"ttl": ttl})}
        headers = _conditions(if_version, if_absent)
        answer = self._call("POST", "/write", body, headers, consistency=consistency)
        return _make(Written, answer)

    def read(self, key: str, *, consistency: str | None = None) -> Found:
        """The value of a key; KeyNotFound where there is none."""
        return _make(
            Found, self._call("GET", "/read", key=key, consistency=consistency)
        )

    def delete(
        self, key: str, *, if_version: str | None = None, consistency: str | None = None
    ) -> Written:
        """Delete a key; KeyNotFound where there is no value."""
        asked = {"key": key, "consistency": consistency}
        headers = _conditions(if_version, False)
        return _make(Written, self._call("DELETE", "/delete", None, headers, **asked))

    def batch(self, operations: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Do many operations, such as {"op": "read", "key": "a"}; each has its result.

        Look at the `status` of each: one that failed does not raise.
        """
        asked = {"operations": list(operations)}
        return list(self._call("POST", "/batch", asked)["results"])

    def keys(self, prefix: str = "") -> Iterator[KeyInfo]:
        """Every key with a value, in order, fetched in pages as it is iterated."""
        after: str | None = ""
        while after is not None:
            page = self._call("GET", "/keys", prefix=prefix, after=after, limit=PAGE)
            yield from (_make(KeyInfo, item) for item in page["keys"])
            after = page["next"]

    def replicas(self, key: str) -> dict[str, Any]:
        """Where a key lives, why, and which version each replica holds."""
        return self._call("GET", "/replicas", key=key)

    def shards(self) -> dict[str, Any]:
        """Each set of nodes that shares keys: its part of them, and what it can serve.

        While nothing changed, a second call costs little; so do not change the answer.
        """
        known = self._shards
        headers = {} if known is None else {"If-None-Match": known[0]}
        answer = self._send("GET", "/shards", None, headers)
        if known is not None and answer.status_code == 304:
            return known[1]
        self._shards = (answer.headers.get("ETag", ""), _parse(answer))
        return self._shards[1]

    def nodes(self) -> list[Node]:
        """Every node's state."""
        return [_make(Node, item) for item in self._call("GET", "/nodes")["nodes"]]

    def fail(self, node_id: int, mode: str | None = None) -> Node:
        """Take a node down, in one of the store's modes: `stop`, `wipe` and maybe more."""
        body = {} if mode is None else {"mode": mode}
        return _make(Node, self._call("POST", f"/fail/{node_id}", body))

    def recover(self, node_id: int, *, accept_loss: bool = False) -> Node:
        """Bring a node back and wait until it has caught up, as far as it can now."""
        body = {"accept_loss": accept_loss}
        return _make(Node, self._call("POST", f"/recover/{node_id}", body))

    def add_node(self, url: str | None = None) -> Node:
        """Add a node; `url` is where its peers reach it, if the store does not start it."""
        return _make(Node, self._call("POST", "/nodes", {"url": url}))

    def remove_node(self, node_id: int) -> Node:
        """Take a node out for good; its last state. Conflict if too few would stay."""
        return _make(Node, self._call("DELETE", f"/nodes/{node_id}"))

    def events(self, since: int = 0) -> list[Event]:
        """What happened after event number `since`, oldest first."""
        told = self._call("GET", "/events", since=since)["events"]
        return [_make(Event, item) for item in told]

    def config(self) -> dict[str, Any]:
        """The settings in force."""
        return self._call("GET", "/config")

    def metrics(self, *names: str) -> str:
        """What is measured, as Prometheus text: of these samples only, if any are named."""
        query: dict[str, Any] = {"name[]": names} if names else {}
        return self.call("GET", "/metrics", **query).decode()

    def is_ready(self) -> bool:
        """True if every key can be read and written now."""
        try:
            self._call("GET", "/readyz")
        except (Unavailable, DataLost, NoConnection):
            return False
        return True

    def close(self) -> None:
        """Let go of the connections."""
        self._session.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        **query: Any,
    ) -> bytes:
        """The answer as it was sent: for what no method here is for.

        `body` is sent as JSON; bytes are JSON already. What is None in `query` is left
        out. A key goes into the query: HTTP libraries tidy `a//b` and `..` in a path.
        """
        return _content(self._send(method, path, body, headers, **query))

    def _call(self, *request: Any, **query: Any) -> dict[str, Any]:
        return _parse(self._send(*request, **query))

    def _send(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        **query: Any,
    ) -> requests.Response:
        try:
            data = body if isinstance(body, bytes | None) else _to_json(body).encode()
            kind = {} if data is None else {"Content-Type": "application/json"}
            url, sent = self._base_url + path, {**kind, **(headers or {})}
            query = {name: text for name, text in query.items() if text is not None}
            asked = requests.Request(method, url, sent, data=data, params=query)
            prepared = self._session.prepare_request(asked)
            self._session.get_adapter(str(prepared.url))
            for text in prepared.headers.values():
                str(text).encode("latin-1")
        except (TypeError, ValueError, RecursionError) as error:
            raise _invalid(f"cannot be sent as JSON over HTTP: {error}") from error
        try:
            return self._session.send(
                prepared, timeout=self._timeout, allow_redirects=False
            )
        except requests.RequestException as error:
            raise _no_connection(error) from error


def sendable(token: str) -> str:
    """The token, if a header can carry it. Raises InvalidRequest, which never shows it."""
    if token.isascii() and token.isprintable() and token == token.strip():
        return token
    raise _invalid("a token is printable ASCII without a blank at either end")


def _invalid(detail: str) -> InvalidRequest:
    return InvalidRequest(detail, code="invalid_request", definite=True)


def _conditions(if_version: str | None, if_absent: bool) -> dict[str, str]:
    headers = {} if if_version is None else {"If-Match": f'"{if_version}"'}
    return {**headers, "If-None-Match": "*"} if if_absent else headers


def _make(kind: type[D], answer: Mapping[str, Any]) -> D:
    """The dataclass from JSON; a field that a newer server added is left out."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    known = {name: answer[name] for name in answer if name in names}
    return kind(**known | {name: tuple(known[name]) for name in _TUPLES & {*known}})


def _parse(answer: requests.Response) -> dict[str, Any]:
    try:
        found: dict[str, Any] = _from_json(_content(answer).decode())
    except (ValueError, ArithmeticError) as error:
        raise _failure(answer) from error
    return found


def _content(answer: requests.Response) -> bytes:
    if answer.status_code != 200:
        raise _failure(answer)
    return answer.content


def _number(text: str) -> int | float | Decimal:
    """A number to its last digit: a Decimal where an int or float would lose some."""
    if text.lstrip("-").isdecimal() and len(text) <= 4_300:  # what an int may have
        return int(text)
    short, exact = float(text), Decimal(text)
    return short if Decimal(repr(short)) == exact else exact


_from_json = json.JSONDecoder(parse_int=_number, parse_float=_number).decode


def _failure(answer: requests.Response) -> StoreError:
    """The error that an answer stands for; one that is not the store's is indefinite."""
    try:
        document = json.loads(answer.content)
        code, detail = str(document["code"]), str(document["detail"])
        definite = document["definite"] is True
    except (ValueError, TypeError, KeyError):
        document = {}
        code, definite = "unknown", False
        detail = f"an answer that is not the store's: {answer.text[:200]!r}"
    kind, status = _KINDS.get(code, StoreError), answer.status_code
    return kind(detail, code=code, definite=definite, status=status, fields=document)


def _no_connection(error: requests.RequestException) -> NoConnection:
    """Definite where no connection was made, so that nothing can have been sent."""
    unsent = isinstance(error, requests.ConnectTimeout)
    cause: BaseException | None = error
    while cause is not None:
        unsent = unsent or isinstance(cause, ConnectionRefusedError | socket.gaierror)
        cause = cause.__cause__ or cause.__context__
    text = f"no answer from the server: {error}"
    return NoConnection(text, code="no_connection", definite=unsent)
