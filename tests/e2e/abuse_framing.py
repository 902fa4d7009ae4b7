"""Framing: what is no HTTP, lengths that contradict, chunks, smuggling, half requests."""

from __future__ import annotations

from collections.abc import Iterator

from tests.e2e.abuse import (
    CUT_OFF,
    INVALID,
    NO_KEY,
    NO_LENGTH,
    NO_ROUTE,
    NOT_HTTP,
    NOT_JSON,
    OK,
    TOO_LARGE,
    WRONG_HOST,
    Case,
    Owed,
    ask,
    chunked,
    joined,
    kept_open,
    raw,
    write,
)
from tests.e2e.abuse_bodies import GOOD

SMUGGLED = b"POST /fail/1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
LAST = ask("GET", "/healthz")  # closes the connection


def framing() -> Iterator[Case]:
    """Every case of where a request begins and ends."""
    for group in (_not_http, _lengths, _chunks, _smuggling, _half_sent):
        yield from group()


def _not_http() -> Iterator[Case]:
    get = "GET /nodes HTTP/1.1\r\nHost: localhost\r\n"
    for name, data in {
        "garbage": b"\x00\xff\r\n\r\n",
        "all-bytes": bytes(range(256)) + b"\r\n\r\n",
        "tls-hello": bytes.fromhex("16030100c8010000c40303") + b"\x55" * 189,
        "socks": b"\x05\x01\x00\r\n\r\n",
        "redis": b"*1\r\n$4\r\nPING\r\n\r\n",
        "ssh": b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
        "method-only": b"GET\r\n\r\n",
        "no-version": b"GET /nodes\r\n\r\n",
        "version-9": b"GET /nodes HTTP/9\r\nHost: localhost\r\n\r\n",
        "version-1.2": b"GET /nodes HTTP/1.2\r\nHost: localhost\r\n\r\n",
        "version-2.0": b"GET /nodes HTTP/2.0\r\nHost: localhost\r\n\r\n",
        "version-small": b"GET /nodes http/1.1\r\nHost: localhost\r\n\r\n",
        "empty-target": b"GET  HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "space-in-target": b"GET /no des HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "tab-in-target": b"GET /no\tdes HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "nul-in-target": b"GET /no\x00des HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "no-slash": b"GET nodes HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "authority-for-get": b"GET localhost:80 HTTP/1.1\r\nHost: localhost\r\n"
        b"Connection: close\r\n\r\n",
        "bracket-in-method": b"GE(T /nodes HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "header-without-colon": f"{get}X-A\r\n\r\n".encode(),
        "header-without-name": f"{get}: b\r\n\r\n".encode(),
        "space-before-colon": f"{get}Content-Length : 5\r\n\r\n".encode(),
        "space-in-name": f"{get}X A: b\r\n\r\n".encode(),
        "nul-in-header": f"{get}X-A: a\x00b\r\n\r\n".encode(),
        "return-in-header": f"{get}X-A: a\rSet-Cookie: b\r\n\r\n".encode(),
        "folded-header": f"{get}X-A: a\r\n b\r\n\r\n".encode(),
        "latin-1-in-name": f"{get}X-\xe9: a\r\n\r\n".encode("latin-1"),
    }.items():
        yield Case(f"not-http-{name}", raw(data), NOT_HTTP)
    # Who speaks HTTP/2 cannot read an answer of HTTP/1, so none is owed.
    preface = raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))
    yield Case("not-http-version-2-preface", preface, CUT_OFF)


def _lengths() -> Iterator[Case]:
    for text in (
        "-1", "+2", "abc", "0x10", "", "2, 3", "1e1", "2.0", "2 2", "9" * 30,
        str(2**64), "\xb2",
    ):  # fmt: skip
        wire = ask("POST", "/write", f"Content-Length: {text}")
        yield Case(f"content-length-{ascii(text)[1:-1] or 'empty'}", wire, NOT_HTTP)
    twice = ask("POST", "/fail/1", "Content-Length: 2", "Content-Length: 3")
    yield Case("content-length-two-values", joined(twice, raw(b"{}x")), NOT_HTTP)
    both = chunked(_chunk(GOOD), f"Content-Length: {len(GOOD)}")
    yield Case("content-length-and-chunks", both, NOT_HTTP)
    for coding in (
        "gzip",
        "identity",
        "xchunked",
        "chunked, gzip",
        "chunked;q=1",
        "\x0b",
    ):
        data = f"POST /write HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: {coding}\r\n"
        wire = raw(
            data.encode() + b"Content-Type: application/json\r\n\r\n" + _chunk(GOOD)
        )
        yield Case(f"transfer-encoding-{ascii(coding)[1:-1]}", wire, NOT_HTTP)
    old = b"POST /write HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    yield Case("transfer-encoding-in-1.0", raw(old + b"\r\n" + _chunk(GOOD)), NOT_HTTP)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)


def _chunks() -> Iterator[Case]:
    good = b"%x\r\n%b\r\n" % (
        len(GOOD),
        GOOD,
    )  # whole JSON, so that only framing is wrong
    for name, data in {
        "size-no-number": good + b"zz\r\n\r\n",
        "size-negative": good + b"-1\r\n\r\n",
        "size-signed": b"+" + good + b"0\r\n\r\n",
        "size-prefixed": b"0x" + good + b"0\r\n\r\n",
        "size-beyond-64-bits": good + b"f" * 17 + b"\r\n\r\n",
        "size-empty": good + b"\r\n\r\n",
        "longer-than-said": b"%x\r\n%b\r\n0\r\n\r\n" % (len(GOOD), GOOD + b" "),
        "end-missing": b"%x\r\n%bXX0\r\n\r\n" % (len(GOOD), GOOD),
        "trailer-broken": good + b"0\r\nX-A\r\n\r\n",
    }.items():
        yield Case(f"chunks-{name}", chunked(data), NOT_HTTP)
    # Without a length nobody knows how much will come, so that sound ones are refused too.
    for name, data in {
        "sound": good + b"0\r\n\r\n",
        "many": b"".join(b"1\r\n%c\r\n" % byte for byte in GOOD) + b"0\r\n\r\n",
        "trailer": good + b"0\r\nX-Trailer: 1\r\n\r\n",
        "extension": b"%x;a=b\r\n%b\r\n0\r\n\r\n" % (len(GOOD), GOOD),
    }.items():
        yield Case(f"chunks-{name}", chunked(data), NO_LENGTH)


def _smuggling() -> Iterator[Case]:
    """What looks like a second request inside a first one is never carried out."""
    body = kept_open(ask("GET", "/healthz", body=SMUGGLED, kind=None))
    yield Case("smuggled-in-the-body-of-a-get", joined(body, LAST), _two(OK))
    post = kept_open(write(SMUGGLED, kind="text/plain"))
    yield Case("smuggled-in-a-refused-body", joined(post, LAST), _two(NOT_JSON))
    lost = kept_open(ask("POST", "/nowhere", body=SMUGGLED, kind="text/plain"))
    yield Case("smuggled-in-the-body-of-no-route", joined(lost, LAST), _two(NO_ROUTE))
    foreign = kept_open(ask("POST", "/fail/2", host="evil.example", body=SMUGGLED))
    owed = _two(WRONG_HOST)
    yield Case("smuggled-in-a-body-for-a-foreign-host", joined(foreign, LAST), owed)
    deleted = kept_open(ask("DELETE", "/delete/none", body=SMUGGLED, kind=None))
    yield Case("smuggled-in-the-body-of-a-delete", joined(deleted, LAST), _two(NO_KEY))
    large = kept_open(write(lambda: SMUGGLED * (9 * 2**20 // len(SMUGGLED))))
    yield Case("smuggled-in-a-body-too-large", joined(large, LAST), _two(TOO_LARGE))
    for name, first, second in (
        ("length-then-chunks", "Content-Length: 4", "Transfer-Encoding: chunked"),
        ("chunks-then-length", "Transfer-Encoding: chunked", "Content-Length: 4"),
        ("chunks-with-a-space", "Content-Length: 4", "Transfer-Encoding : chunked"),
        ("chunks-with-a-tab", "Content-Length: 4", "Transfer-Encoding:\tchunked"),
        ("chunks-twice", "Content-Length: 4", "Transfer-Encoding: chunked, chunked"),
    ):
        head = f"POST /write HTTP/1.1\r\nHost: localhost\r\n{first}\r\n{second}\r\n\r\n"
        wire = joined(raw(head.encode() + b"0\r\n\r\n" + SMUGGLED), LAST)
        yield Case(f"smuggled-by-{name}", wire, NOT_HTTP)


def _two(first: Owed) -> Owed:
    """Answered as one request, and then the last one or a closed connection."""
    return first._replace(answers_max=2)


def _half_sent() -> Iterator[Case]:
    head = (
        b"POST /write HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    )
    for name, data in {
        "length-longer-than-the-body": head + b"Content-Length: 99\r\n\r\n" + GOOD,
        "body-missing": head + b"Content-Length: 24\r\n\r\n",
        "last-chunk-missing": head
        + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(GOOD), GOOD),
        "chunk-cut-short": head + b"Transfer-Encoding: chunked\r\n\r\n99\r\n" + GOOD,
        "end-of-the-last-chunk-missing": head
        + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n" % (len(GOOD), GOOD),
        "headers-cut-short": head,
        "line-cut-short": b"POST /fail/1 HT",
    }.items():
        yield Case(f"half-sent-{name}", raw(data), CUT_OFF, half_close=True)
    longer = raw(head + b"Content-Length: 10\r\n\r\n" + GOOD)
    yield Case("length-shorter-than-the-body", longer, _two(INVALID), half_close=True)
