"""Bodies: wrong types, sizes at their limits, encodings, broken and hostile JSON."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator

from tests.e2e.abuse import (
    INVALID,
    JSON,
    MIB,
    NO_LENGTH,
    NO_NODE,
    NOT_ASCII,
    NOT_JSON,
    OK,
    TOO_LARGE,
    UNKNOWN_ENCODING,
    Body,
    Case,
    Wire,
    ask,
    chunked,
    either,
    value,
    write,
)

GOOD = b'{"key":"seed","value":1}'
BODY_MAX = 8 * MIB
VALUE_MAX = MIB
BATCH_MAX = 1_000
DEPTH_MAX = 128  # the body's own braces are the first
TTL_MAX = 3_153_600_000


def bodies() -> Iterator[Case]:
    """Every case of a body."""
    for group in (_types, _ttls, _batches, _node_bodies, _sizes, _depths):
        yield from group()
    for group in (_encodings, _packed, _content_types, _broken_json):
        yield from group()


def batch(text: bytes) -> Wire:
    """A batch with this body."""
    return ask("POST", "/batch", body=text)


# --- Types ---------------------------------------------------------------------------


def _types() -> Iterator[Case]:
    for name, text in {
        "list": b"[]",
        "string": b'"seed"',
        "number": b"1",
        "null": b"null",
        "true": b"true",
        "empty-object": b"{}",
        "key-number": b'{"key":1,"value":1}',
        "key-null": b'{"key":null,"value":1}',
        "key-list": b'{"key":["seed"],"value":1}',
        "key-object": b'{"key":{"$ne":""},"value":1}',
        "key-missing": b'{"value":1}',
        "value-missing": b'{"key":"seed"}',
        "extra-field": b'{"key":"seed","value":1,"tll":5}',
        "field-in-capitals": b'{"Key":"seed","value":1}',
        "prototype-field": b'{"key":"seed","value":1,"__proto__":{}}',
    }.items():
        yield Case(f"write-{name}", write(text), INVALID)


def _ttls() -> Iterator[Case]:
    refused = [
        '"5"', "true", "[]", "[5]", "{}", "0", "-1", "-0.0", "1e300", "1e999", "-1e999",
        "NaN", "Infinity", "-Infinity", str(TTL_MAX + 1), "1" + "0" * 20, "9" * 400,
        "05", "+5", "0x5", ".5", "5.",
    ]  # fmt: skip
    for text in refused:
        name = text if len(text) < 24 else f"{len(text)}-digits"
        yield Case(f"ttl-{name}", write(_with_ttl(text)), INVALID)
    for text in ("null", "5", "5.5", "0.5e2", "1e-9", str(TTL_MAX)):
        yield Case(f"ttl-{text}-is-taken", write(_with_ttl(text)), OK, changes=True)


def _with_ttl(text: str) -> bytes:
    return b'{"key":"mortal","value":1,"ttl":' + text.encode() + b"}"


def _batches() -> Iterator[Case]:
    for name, text in {
        "list": b"[]",
        "empty-object": b"{}",
        "null": b'{"operations":null}',
        "object": b'{"operations":{}}',
        "string": b'{"operations":"write"}',
        "extra-field": b'{"operations":[],"atomic":true}',
        "field-twice": b'{"operations":[],"operations":[]}',
        "broken-in-the-last": b'{"operations":[{"op":"delete","key":"seed"},{]}',
    }.items():
        yield Case(f"batch-{name}", batch(text), INVALID)
    yield Case("batch-empty", batch(b'{"operations":[]}'), OK)
    # Each is wrong by itself, so the batch is a 200 and every result a failure.
    yield Case("batch-of-wrong-operations", batch(_WRONG_OPERATIONS), OK)
    yield Case(f"batch-of-{BATCH_MAX}", batch(_reads(BATCH_MAX)), OK)
    over = either(INVALID, TOO_LARGE)
    yield Case(f"batch-of-{BATCH_MAX + 1}", batch(_deletes(BATCH_MAX + 1)), over)


_WRONG_OPERATIONS = (
    b'{"operations":[1,null,"delete",[],{},{"op":"drop","key":"seed"},{"op":"read"},'
    b'{"op":"delete","key":1},{"op":"delete","key":"seed","value":1},{"op":"delete"},'
    b'{"op":"write","key":"seed"},{"key":"seed"},{"op":null,"key":"seed"},'
    b'{"op":"delete","key":""},{"op":"delete","key":"\\u0000"},{"op":["delete"]},'
    b'{"op":"write","key":"seed","value":1,"ttl":-1},'
    b'{"op":"write","key":"seed","key":"1","value":1}]}'
)


def _reads(count: int) -> bytes:
    return _operations(b'{"op":"read","key":"seed"}', count)


def _deletes(count: int) -> bytes:
    return _operations(b'{"op":"delete","key":"seed"}', count)


def _operations(each: bytes, count: int) -> bytes:
    return b'{"operations":[' + b",".join([each] * count) + b"]}"


def _node_bodies() -> Iterator[Case]:
    for name, text in {
        "list": b"[]",
        "null": b"null",
        "mode-number": b'{"mode":1}',
        "mode-null": b'{"mode":null}',
        "mode-unknown": b'{"mode":"explode"}',
        "mode-twice": b'{"mode":"stop","mode":"wipe"}',
        "extra-field": b'{"mode":"stop","node":2}',
        "not-json": b"mode=wipe",
    }.items():
        yield Case(f"fail-body-{name}", ask("POST", "/fail/1", body=text), INVALID)
    yield Case(
        "recover-accept-loss-word",
        ask("POST", "/recover/1", body=b'{"accept_loss":"yes"}'),
        INVALID,
    )
    form = "application/x-www-form-urlencoded"
    for kind in ("text/plain", form, None):
        yield Case(
            f"fail-sent-as-{kind}",
            ask("POST", "/fail/1", body=b'{"mode":"wipe"}', kind=kind),
            NOT_JSON,
        )
    yield Case("fail-empty-body", ask("POST", "/fail/99", body=b""), NO_NODE)


# --- Sizes ---------------------------------------------------------------------------


def _sizes() -> Iterator[Case]:
    yield Case("value-at-the-limit", value_of(VALUE_MAX), OK, changes=True)
    yield Case("value-one-byte-over", value_of(VALUE_MAX + 1), TOO_LARGE)
    yield Case("value-of-blanks-over", write(lambda: _blank(VALUE_MAX + 1)), TOO_LARGE)
    yield Case("value-of-escapes-over", write(_escapes), TOO_LARGE)
    yield Case("body-at-the-limit", _batch_of(BODY_MAX), OK)
    yield Case("body-one-byte-over", _batch_of(BODY_MAX + 1), TOO_LARGE)
    yield Case("body-one-byte-over-in-chunks", _chunks_of(BODY_MAX + 1), NO_LENGTH)
    yield Case("body-far-over", write(lambda: _blank(2 * BODY_MAX)), TOO_LARGE)
    for target in ("/write", "/batch", "/fail/1", "/recover/1"):
        yield Case(
            f"length-of-a-terabyte-at-{target[1:]}",
            ask("POST", target, f"Content-Type: {JSON}", f"Content-Length: {10**12}"),
            TOO_LARGE,
        )


def value_of(size: int) -> Wire:
    """A write whose value is a string of this many bytes of JSON."""
    return write(lambda: b'{"key":"big","value":"' + b"v" * (size - 2) + b'"}')


def _blank(size: int) -> bytes:
    return b'{"key":"big","value":[' + b" " * (size - 2) + b"]}"


def _escapes() -> bytes:
    return b'{"key":"big","value":"' + b"\\u0041" * (VALUE_MAX // 6 + 1) + b'"}'


def _batch_of(size: int) -> Wire:
    return ask("POST", "/batch", body=lambda: _reads(1).ljust(size))


def _chunks_of(size: int) -> Wire:
    def build() -> bytes:
        data = b"%x\r\n%b\r\n0\r\n\r\n" % (size, GOOD.ljust(size))
        return chunked(data)()

    return build


def _depths() -> Iterator[Case]:
    deepest = DEPTH_MAX - 1  # of a value: the body's braces are around it
    for name, opening, closing in (("lists", b"[", b"]"), ("objects", b'{"a":', b"}")):
        for depth, owed in ((deepest, OK), (deepest + 1, INVALID), (100_000, INVALID)):
            yield Case(
                f"value-of-{depth}-{name}",
                value_nested(depth, opening, closing),
                owed,
                changes=owed is OK,
            )
    yield Case("value-of-100000-brackets-left-open", value(b"[" * 100_000), INVALID)
    yield Case("value-of-100000-closing-brackets", value(b"]" * 100_000), INVALID)
    yield Case("batch-nested-100000-deep", batch(b"[" * 100_000), INVALID)
    yield Case("key-nested-100000-deep", write(_deep_key), INVALID)
    deep_fail = ask("POST", "/fail/1", body=b'{"mode":' + b"[" * 100_000)
    yield Case("fail-nested-100000-deep", deep_fail, INVALID)
    operation = b'{"op":"write","key":"deep","value":%b}' % (b"[" * 200 + b"]" * 200)
    yield Case("batch-with-one-deep-value", batch(_operations(operation, 1)), INVALID)
    # None of these is deep, whatever a counter of brackets may think.
    wide = b"[" + b",".join([b"[{}]"] * 1_000) + b"]"
    for name, text in {
        "a-string": b'"' + b"[" * 1_000 + b'"',
        "a-string-with-quotes": b'"' + b'\\"[' * 1_000 + b'"',
        "a-string-after-backslashes": b'["\\\\","' + b"{" * 1_000 + b'"]',
        "a-name": b'{"' + b"[{" * 1_000 + b'":1}',
        "siblings": wide,
    }.items():
        yield Case(f"brackets-in-{name}", value(text), OK, changes=True)


def value_nested(depth: int, opening: bytes = b"[", closing: bytes = b"]") -> Wire:
    """A write whose value is nested so deep."""
    inner = b"" if opening == b"[" else b"1"
    return write(
        lambda: (
            b'{"key":"deep","value":' + opening * depth + inner + closing * depth + b"}"
        )
    )


def _deep_key() -> bytes:
    return b'{"key":' + b"[" * 100_000 + b"]" * 100_000 + b',"value":1}'


# --- Encodings -----------------------------------------------------------------------


def _encodings() -> Iterator[Case]:
    text = '{"key":"seed","value":"é"}'
    for encoding in (
        "utf-16",
        "utf-16-le",
        "utf-16-be",
        "utf-32",
        "utf-8-sig",
        "latin-1",
    ):
        yield Case(f"encoded-{encoding}", write(text.encode(encoding)), INVALID)
    for name, letters in {
        "surrogate": b"\xed\xa0\x80",
        "overlong": b"\xc0\xaf",
        "cut-short": b"\xe2\x82",
        "beyond-unicode": b"\xf4\x90\x80\x80",
        "lone-byte": b"\xff",
    }.items():
        yield Case(f"invalid-utf8-{name}", value(b'"' + letters + b'"'), INVALID)
        field = b'{"key":"seed","value":1,"' + letters + b'":1}'
        yield Case(f"invalid-utf8-{name}-in-a-name", write(field), INVALID)
    for form in (
        "utf-16",
        "utf-16-be",
        "latin-1",
        "utf-7",
        "utf8x",
        "'utf-8'",
        "ascii",
    ):
        wire = write(GOOD, kind=f"{JSON}; charset={form}")
        yield Case(f"charset-{form}", wire, NOT_JSON)
    for form in ("utf-8", "UTF-8", '"utf-8"', "utf8", '"UTF8"', "utf-8;"):
        wire = write(GOOD, kind=f"{JSON}; charset={form}")
        yield Case(f"charset-{form}-is-taken", wire, OK, changes=True)


def _packed() -> Iterator[Case]:
    """RFC 9110, section 8.4: what the body is packed in is undone, or it is refused."""
    good = gzip.compress(GOOD, mtime=0)
    halves = gzip.compress(GOOD[:9], mtime=0) + gzip.compress(GOOD[9:], mtime=0)
    for coding, data in {
        "gzip": good, "x-gzip": good, "GZIP": good, "identity": GOOD, "": GOOD,
        "gzip, identity": good, "deflate": zlib.compress(GOOD),
    }.items():  # fmt: skip
        wire = write(data, f"Content-Encoding: {coding}")
        yield Case(f"packed-in-{coding or 'nothing'}", wire, OK, changes=True)
    members = write(halves, "Content-Encoding: gzip")
    yield Case("packed-in-two-members", members, OK, changes=True)
    for coding in (
        "br",
        "zstd",
        "compress",
        "gzip, gzip",
        "gzip, br",
        "gzip;q=1",
        "utf-8",
    ):
        for method, target in (
            ("POST", "/write"), ("POST", "/batch"), ("POST", "/fail/1"),
            ("POST", "/recover/1"), ("POST", "/nodes"), ("DELETE", "/delete/seed"),
        ):  # fmt: skip
            wire = ask(method, target, f"Content-Encoding: {coding}", body=good)
            name = f"packed-in-{coding}-for-{target[1:]}".replace("/", "-")
            yield Case(name, wire, UNKNOWN_ENCODING)
    twice = write(good, "Content-Encoding: gzip", "Content-Encoding: gzip")
    yield Case("packed-in-gzip-said-twice", twice, UNKNOWN_ENCODING)
    mail = write(GOOD, "Content-Transfer-Encoding: quoted-printable")
    yield Case("packed-as-mail", mail, UNKNOWN_ENCODING)
    for name, data in {
        "text": GOOD, "nothing": b"", "cut": good[:-1], "garbage-after": good + b"x",
        "deflate": zlib.compress(GOOD), "header-only": good[:10],
    }.items():  # fmt: skip
        wire = write(data, "Content-Encoding: gzip")
        yield Case(f"packed-in-gzip-but-{name}", wire, INVALID)
    lie = ask("POST", "/fail/1", "Content-Encoding: gzip", body=b'{"mode":"stop"}')
    yield Case("packed-in-gzip-but-text-at-fail", lie, INVALID)
    raw_text = zlib.compress(GOOD)[2:-4]
    frameless = write(raw_text, "Content-Encoding: deflate")
    yield Case("packed-in-deflate-without-its-frame", frameless, INVALID)
    for target in ("/write", "/fail/1", "/batch"):
        bomb = ask("POST", target, "Content-Encoding: gzip", body=_bomb)
        yield Case(f"packed-bomb-at-{target[1:]}".replace("/", "-"), bomb, TOO_LARGE)


def _bomb() -> bytes:
    return gzip.compress(bytes(64 * MIB), mtime=0)


def _content_types() -> Iterator[Case]:
    for kind in (
        "text/plain", "text/json", "application/x-www-form-urlencoded", "*/*", "json",
        "multipart/form-data; boundary=x", "application/ld+json", "application/jsonx",
        "application/json-patch+json", "application/json, text/plain", "",
        "application/octet-stream", "text/plain; application/json", "application",
    ):  # fmt: skip
        name = kind.replace("/", "-").replace(" ", "") or "empty"
        yield Case(f"sent-as-{name}", write(GOOD, kind=kind), NOT_JSON)
    yield Case("sent-as-nothing", write(GOOD, kind=None), NOT_JSON)
    unread = either(NOT_ASCII, NOT_JSON)
    yield Case("sent-as-what-is-not-ascii", write(GOOD, kind="\xff"), unread)
    yield Case(
        "sent-as-APPLICATION-JSON", write(GOOD, kind="APPLICATION/JSON"), OK, True
    )
    refusal = either(INVALID, NOT_JSON)
    for first, second in ((JSON, "text/plain"), ("text/plain", JSON)):
        twice = write(GOOD, f"Content-Type: {second}", kind=first)
        yield Case(f"sent-as-{first}-and-{second}".replace("/", "-"), twice, refusal)


# --- Broken JSON ---------------------------------------------------------------------


def _broken_json() -> Iterator[Case]:
    for text in (
        b"NaN", b"Infinity", b"-Infinity", b"nan", b"[NaN]", b'{"a":-Infinity}', b"01",
        b"-", b"--1", b"+1", b"1e", b"1.", b".1", b"1.e3", b"0x1", b"1_000", b"tru",
        b"True", b"None", b"undefined", b"'a'", b"[1,]", b"[,1]", b"[1 2]", b'{"a":1,}',
        b"{a:1}", b'{"a"}', b'{"a":}', b'{1:2}', b"1 // why", b"/* why */ 1", b"# why",
        b'"a', b'"\\', b'"\\x41"', b'"\\u12"', b'"\\ud800"', b'"\\udc00\\ud800"',
        b'"\\ud800\\u0041"', b'{"\\udfff":1}', b'"a\x00b"', b'"a\nb"', b'"a\tb"', b"",
        b'"a" "b"', b"\xc2\xa01", b"[", b"]", b"[}", b'"\\\'"',
    ):  # fmt: skip
        yield Case(f"value-{ascii(text)[2:-1] or 'empty'}", value(text), INVALID)
    for name, body in _BROKEN_BODIES.items():
        yield Case(f"body-{name}", write(body), INVALID)


_BROKEN_BODIES: dict[str, Body] = {
    "empty": b"",
    "blank": b" \r\n\t ",
    "nul": b"\x00",
    "nul-after": GOOD + b"\x00",
    "letter-after": GOOD + b"x",
    "form-feed-after": GOOD + b"\x0c",
    "object-after": GOOD + GOOD,
    "line-after": GOOD + b"\n" + GOOD,
    "comma-after": GOOD + b",",
    "brace-missing": GOOD[:-1],
    "not-json": b"key=seed&value=1",
    "xml": b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///">]><x>&e;</x>',
    "key-twice": b'{"key":"seed","key":"1","value":1}',
    "value-twice": b'{"key":"seed","value":1,"value":2}',
    "key-twice-once-escaped": b'{"key":"seed","\\u006bey":"1","value":1}',
    "random": bytes(range(256)),
}
