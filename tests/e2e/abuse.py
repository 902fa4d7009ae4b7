"""What a case of abuse is, how it is sent, and what every answer owes its reader.

A case is some bytes for the wire and what the contract owes in return. The tables are in
the modules beside this one, `abuse_*.py`; `test_abuse.py` sends them. Nothing is tidied
on the way out, and no answer is read more kindly than a strict client would.
"""

from __future__ import annotations

import http.client
import io
import json
import re
import select
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

from tests.e2e.served import Served

ANSWER_SECONDS_MAX = 15.0
JSON = "application/json"
PROBLEM = "application/problem+json"
ANY_CODE = "*"
PORT = b"@PORT@"  # in what is sent: the server's own port
API_TOKEN = "secret-token"
READ_TOKEN = "weaker-token"
MIB = 1 << 20
SEEDS = {"seed": "kept", ".": "dot", "a//b": "slashes", "1": "one"}
LEAK = re.compile(
    rb'Traceback|File "|\bline \d+, in |'
    rb"(?i:granian|werkzeug|hyper|flask|cpython|python|msgspec)[/ ]v?\d"
)

Wire = Callable[[], bytes]
Body = bytes | Callable[[], bytes] | None

# --- What is sent --------------------------------------------------------------------


def raw(data: bytes) -> Wire:
    """These bytes and no others."""
    return lambda: data


def ask(
    method: str,
    target: str,
    *headers: str,
    body: Body = None,
    kind: str | None = JSON,
    host: str | None = "localhost",
) -> Wire:
    """A request on a connection of its own; text stands for Latin-1 bytes.

    A body brings its Content-Length, and `kind` as its Content-Type unless that is None.
    Large bodies are made when they are sent: give a function.
    """

    def build() -> bytes:
        data = body() if callable(body) else body
        lines = [f"{method} {target} HTTP/1.1"]
        lines += [] if host is None else [f"Host: {host}"]
        if data is not None:
            lines += [] if kind is None else [f"Content-Type: {kind}"]
            lines.append(f"Content-Length: {len(data)}")
        lines += ["Connection: close", *headers]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + (data or b"")

    return build


def write(text: Body, *headers: str, kind: str | None = JSON) -> Wire:
    """A write with this body."""
    return ask("POST", "/write", *headers, body=text, kind=kind)


def value(text: bytes) -> Wire:
    """A write with this text as its value."""
    return write(b'{"key":"seed","value":' + text + b"}")


def chunked(data: bytes, *headers: str) -> Wire:
    """A write whose body comes as `data`, the chunks' own framing included."""
    head = (
        "POST /write HTTP/1.1",
        "Host: localhost",
        f"Content-Type: {JSON}",
        "Transfer-Encoding: chunked",
        "Connection: close",
        *headers,
        "",
        "",
    )
    return raw("\r\n".join(head).encode("latin-1") + data)


def kept_open(wire: Wire) -> Wire:
    """The same request on a connection that may go on."""
    return lambda: wire().replace(b"Connection: close\r\n", b"", 1)


def joined(*wires: Wire) -> Wire:
    """One after the other on one connection, without waiting."""
    return lambda: b"".join(wire() for wire in wires)


# --- What is owed --------------------------------------------------------------------


class Owed(NamedTuple):
    """What the contract promises as the answer. Any of `statuses` will do."""

    statuses: frozenset[int]
    codes: frozenset[str] = frozenset()  # none: the answer is no failure
    headers: tuple[tuple[str, str], ...] = ()  # name, and a pattern for its text
    by_transport: bool = False  # then the answer may be empty
    or_silence: bool = False  # the connection may be closed without an answer
    answers_max: int = 1


def refused(status: int, code: str, **headers: str) -> Owed:
    """A failure with this status and code."""
    return Owed(frozenset((status,)), frozenset((code,)), _patterns(headers))


def done(*statuses: int, **headers: str) -> Owed:
    """An answer that is no failure."""
    return Owed(frozenset(statuses or (200,)), headers=_patterns(headers))


def either(*owed: Owed) -> Owed:
    """Whichever of these, where the contract leaves it open."""
    return Owed(
        frozenset[int]().union(*(each.statuses for each in owed)),
        frozenset[str]().union(*(each.codes for each in owed)),
        by_transport=any(each.by_transport for each in owed),
        or_silence=any(each.or_silence for each in owed),
        answers_max=max(each.answers_max for each in owed),
    )


def _patterns(headers: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((name.replace("_", "-"), text) for name, text in headers.items())


OK = done(200)
INVALID = refused(400, "invalid_request")
UNAUTHORIZED = refused(401, "unauthorized", WWW_Authenticate="Bearer .+")
FORBIDDEN = refused(403, "forbidden")
NO_ROUTE = refused(404, "not_found")
NO_NODE = refused(404, "node_not_found")
NO_KEY = refused(404, "key_not_found")
MISMATCH = refused(412, "version_mismatch")
TOO_LARGE = refused(413, "too_large")
NO_LENGTH = refused(411, "length_required")
NOT_JSON = refused(415, "not_json")
UNKNOWN_ENCODING = refused(415, "unknown_encoding", Accept_Encoding="gzip, deflate")
UNMET = refused(417, "expectation_failed")
WRONG_HOST = refused(421, "wrong_host")
LONG_HEADER = refused(431, "header_too_large")
NOT_HTTP = Owed(frozenset(range(400, 500)), frozenset((ANY_CODE,)), by_transport=True)
NOT_ASCII = INVALID  # a header that is not ASCII may be refused whatever it is for
CUT_OFF = NOT_HTTP._replace(or_silence=True)


def wrong_method(*allowed: str) -> Owed:
    """A 405 whose Allow names these methods and no others."""
    names = "|".join(allowed)
    every = "".join(rf"(?=.*\b{name}\b)" for name in allowed)
    return refused(405, "method_not_allowed", Allow=rf"{every}({names})(, *({names}))*")


class Case(NamedTuple):
    """Some bytes for the wire and what is owed for them."""

    name: str
    wire: Wire
    owed: Owed
    changes: bool = False  # a success may change the store
    half_close: bool = False  # the client ends its side once it has sent all
    site: str = "open"  # which of the servers it is for


# --- One exchange --------------------------------------------------------------------


class Answer(NamedTuple):
    """One answer, as it was read."""

    status: int
    headers: dict[str, str]  # names in small letters
    body: bytes

    @property
    def document(self) -> Any:
        """Its JSON."""
        return json.loads(self.body)


def exchange(server: Served, data: bytes, *, half_close: bool = False) -> bytes:
    """All that comes back until the server closes; AssertionError if it does not.

    Sends and reads at the same time, as a client must of a server that may answer early.
    """
    left = memoryview(data)
    deadline = time.monotonic() + ANSWER_SECONDS_MAX
    received = bytearray()
    with server.connect() as connection:
        connection.setblocking(False)
        while (seconds := deadline - time.monotonic()) > 0:
            writers = [connection] if left else []
            readable, writable, _ = select.select([connection], writers, [], seconds)
            if writable:
                left = _send(connection, left, half_close=half_close)
            if readable:
                try:
                    piece = connection.recv(65_536)
                except ConnectionResetError:
                    piece = b""
                if not piece:
                    return bytes(received)
                received += piece
    raise AssertionError(
        f"it hangs: {len(left)} bytes not taken, got {received[:300]!r}"
    )


def _send(
    connection: socket.socket, left: memoryview, *, half_close: bool
) -> memoryview:
    """Send some; what is still to be sent, nothing once the other side has hung up."""
    try:
        left = left[connection.send(left) :]
    except (BrokenPipeError, ConnectionResetError):
        return memoryview(b"")
    if half_close and not left:
        connection.shutdown(socket.SHUT_WR)
    return left


def answers_in(received: bytes, method: str) -> list[Answer]:
    """The answers that these bytes are, to requests of this method."""
    replay = _Replay(received)
    found = []
    while replay.file.tell() < len(received):
        response = http.client.HTTPResponse(replay, method=method)  # type: ignore[arg-type]
        response.begin()
        headers = {name.lower(): text for name, text in response.headers.items()}
        found.append(Answer(response.status, headers, response.read()))
    return found


class _Replay:
    """Bytes that were received, as a socket to read them from again."""

    def __init__(self, data: bytes) -> None:
        self.file = _KeptOpen(data)

    def makefile(self, mode: str) -> io.BytesIO:
        """The file, at the point where the answer before ended."""
        return self.file


class _KeptOpen(io.BytesIO):
    def close(self) -> None:
        """Another answer may follow."""


# --- What every answer owes ----------------------------------------------------------


def check(server: Served, case: Case) -> list[Answer]:
    """Send a case and hold its answers against what is owed; the answers."""
    data = case.wire().replace(PORT, str(server.port).encode())
    received = exchange(server, data, half_close=case.half_close)
    leak = LEAK.search(received)
    assert leak is None, f"it tells too much: {received[: leak.end() + 100]!r}"
    is_head = data.startswith(b"HEAD ")
    answers = answers_in(received, "HEAD" if is_head else "GET")
    if not answers and case.owed.or_silence:
        return []
    assert 1 <= len(answers) <= case.owed.answers_max, received[:600]
    check_manners(answers[0], case.owed, is_head=is_head)
    for answer in answers[1:]:  # to what was left over, which may be no HTTP
        check_manners(answer, NOT_HTTP, is_head=is_head)
    assert answers[0].status in case.owed.statuses, received[:600]
    for name, pattern in case.owed.headers:
        text = answers[0].headers.get(name.lower(), "")
        assert re.fullmatch(pattern, text), f"{name}: {text!r} is not {pattern}"
    return answers


def check_manners(answer: Answer, owed: Owed, *, is_head: bool) -> None:
    """What every answer of the store has, and every failure besides."""
    assert answer.status < 500 or answer.status in owed.statuses, answer
    assert "set-cookie" not in answer.headers
    if owed.by_transport and not answer.body:
        return
    assert answer.headers.get("x-content-type-options") == "nosniff", answer
    assert answer.headers.get("x-request-id"), answer
    if answer.headers.get("content-type") in (JSON, PROBLEM):
        assert answer.headers.get("cache-control") == "no-store", answer
    if is_head:
        assert answer.body == b""
    elif answer.status >= 400:
        check_problem(answer, owed)


def check_problem(answer: Answer, owed: Owed) -> None:
    """A failure says what it is in the shape of RFC 9457, with the two words of ours."""
    assert answer.headers.get("content-type") == PROBLEM, answer
    document = answer.document
    kinds = {name: type(document.get(name)) for name in document}
    expected = dict.fromkeys(("type", "title", "detail", "code"), str)
    assert kinds.items() >= {**expected, "status": int, "definite": bool}.items()
    assert document["status"] == answer.status
    assert document["definite"] is (answer.status != 504)
    if ANY_CODE not in owed.codes:
        assert document["code"] in owed.codes, document


# --- The store as it was -------------------------------------------------------------


class Store:
    """A server's keys and nodes: looked at, and put back as they were."""

    def __init__(self, server: Served, token: str | None = None) -> None:
        self.server = server
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def fingerprint(self) -> tuple[dict[str, str], list[str], Any]:
        """What no refused request may change: versions of keys, nodes, settings."""
        versions = {info["key"]: info["version"] for info in self._keys()}
        nodes = self.ask("GET", "/nodes")["nodes"]
        return versions, [node["status"] for node in nodes], self.ask("GET", "/config")

    def restore(self) -> None:
        """Bring back the nodes and the keys of the start."""
        for node in self.ask("GET", "/nodes")["nodes"]:
            if node["status"] != "up":
                self.ask("POST", f"/recover/{node['node_id']}")
        found = {info["key"] for info in self._keys()}
        for key in found - SEEDS.keys():
            target = f"/delete?key={quote(key, safe='')}"
            status, _, body = self.server.ask("DELETE", target, None, **self._headers)
            assert status in (200, 404), body  # it may have expired meanwhile
        for key in SEEDS.keys() - found:
            self.ask("POST", "/write", {"key": key, "value": SEEDS[key]})

    def ask(self, method: str, target: str, document: Any = None) -> Any:
        """One good request; its document."""
        headers = dict(self._headers)
        body = None
        if document is not None:
            headers["Content_Type"] = JSON
            body = json.dumps(document).encode()
        status, _, answer = self.server.ask(method, target, body, **headers)
        assert status == 200, (method, target, answer)
        return json.loads(answer)

    def _keys(self) -> Iterator[dict[str, str]]:
        after: str | None = ""
        while after is not None:
            page = self.ask("GET", f"/keys?limit=1000&after={quote(after, safe='')}")
            yield from page["keys"]
            after = page["next"]
