"""Keys: awkward ones, which must work in both forms of the routes, and refused ones."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tests.e2e.abuse import INVALID, TOO_LARGE, Case, Owed, ask, write

KEY_MAX = 255  # bytes of UTF-8

# Each is written, read, listed and deleted, in every form that a route has for a key.
ALLOWED = {
    "dot": ".",
    "two-dots": "..",
    "three-dots": "...",
    "slash": "/",
    "slashes": "//",
    "slash-first": "/a",
    "slash-last": "a/",
    "slashes-inside": "a//b",
    "dot-segment": "a/./b",
    "dot-dot-segment": "a/../b",
    "passwd": "../../etc/passwd",
    "backslashes": "..\\..\\windows\\win.ini",
    "encoded-slash": "%2F",
    "encoded-nul": "%00",
    "encoded-twice": "%252F",
    "encoded-wrongly": "%zz%",
    "percent": "%",
    "plus": "+",
    "plus-inside": "1+1",
    "question-mark": "?",
    "query": "a?key=seed&consistency=one",
    "fragment": "a#b",
    "ampersand": "a&b=c;d",
    "space": " ",
    "spaces-around": " a ",
    "emoji": "😀",
    "emoji-joined": "👩‍👩‍👧",
    "accent-composed": "\u00e9",
    "accent-combining": "e\u0301",
    "case-folds": "ẞﬀİ",
    "right-to-left": "\u202eסוד",
    "zero-width": "\u200b",
    "byte-order-mark": "\ufeff",
    "line-separator": "\u2028",
    "noncharacter": "\uffff",
    "last-of-unicode": "\U0010ffff",
    "prototype": "__proto__",
    "constructor": "constructor",
    "null-word": "null",
    "empty-quotes": '""',
    "quotes": "\"'`",
    "sql": "'; DROP TABLE records; --",
    "sql-wildcards": "%_*",
    "html": "<script>alert(1)</script>",
    "template": "{{7*7}}${7*7}<%=7*7%>",
    "format": "%s%n{0}",
    "shell": "$(reboot)`id`|;&",
    "log-injection": "\\r\\nHTTP/1.1 200 OK",
    "url": "http://evil.example/x?y#z",
    "route": "key",
    "number": "0",
    "longest": "k" * KEY_MAX,
    "longest-of-two-bytes": "é" * (KEY_MAX // 2) + "k",
    "longest-of-three-bytes": "日" * (KEY_MAX // 3),
    "longest-of-four-bytes": "😀" * (KEY_MAX // 4) + "kkk",
    "longest-all-encoded": "%" * KEY_MAX,
}

# Refused wherever they are said: name, the bytes of the key, what is owed.
_REFUSED: tuple[tuple[str, bytes, Owed], ...] = (
    ("empty", b"", INVALID),
    ("nul", b"\x00", INVALID),
    ("nul-after-a-key", b"seed\x00", INVALID),
    ("line-feed", b"seed\n", INVALID),
    ("header-injection", b"seed\r\nSet-Cookie: a=b\r\n\r\n", INVALID),
    ("escape", b"\x1b[2J", INVALID),
    ("delete", b"\x7f", INVALID),
    ("next-line", "\u0085".encode(), INVALID),
    ("application-command", "\u009f".encode(), INVALID),
    ("one-byte-over", b"k" * (KEY_MAX + 1), TOO_LARGE),
    ("half-a-letter-over", "é".encode() * (KEY_MAX // 2 + 1), TOO_LARGE),
    ("emoji-over", "😀".encode() * (KEY_MAX // 4 + 1), TOO_LARGE),
    ("four-thousand-bytes", b"k" * 4_000, TOO_LARGE),
)
_NOT_UTF8 = {
    "lone-byte": b"\xff",
    "cut-short": b"\xc3",
    "overlong-slash": b"\xc0\xaf",
    "overlong-nul": b"\xc0\x80",
    "surrogate": b"\xed\xa0\x80",
    "beyond-unicode": b"\xf4\x90\x80\x80",
    "after-a-key": b"seed\xfe",
}
# Ways to say a key that a JSON text has and a path has not.
_REFUSED_IN_JSON = {
    "surrogate-escaped": b'"\\ud800"',
    "surrogate-pair-backwards": b'"\\ude00\\ud83d"',
    "surrogate-raw": b'"\xed\xa0\x80"',
    "nul-raw": b'"\x00"',
    "line-feed-raw": b'"seed\n"',
}


def keys() -> Iterator[Case]:
    """Every case of a key that is refused, in each place where a key can be said."""
    for name, key, owed in _REFUSED:
        yield from _in_the_address(name, key, owed)
        text = json.dumps(key.decode()).encode()
        yield Case(f"key-{name}-written", write(_record(text)), owed)
    for name, key in _NOT_UTF8.items():
        yield from _in_the_address(f"not-utf8-{name}", key, INVALID)
        wire = write(_record(b'"' + key + b'"'))
        yield Case(f"key-not-utf8-{name}-written", wire, INVALID)
    for name, text in _REFUSED_IN_JSON.items():
        yield Case(f"key-{name}-written", write(_record(text)), INVALID)


def _in_the_address(name: str, key: bytes, owed: Owed) -> Iterator[Case]:
    """Read and deleted, with the key in the path and in the query."""
    text = "".join(f"%{byte:02X}" for byte in key)
    for method, route in (("GET", "read"), ("DELETE", "delete"), ("GET", "replicas")):
        for form, target in (("path", f"/{route}/{text}"), ("query", f"?key={text}")):
            at = target if form == "path" else f"/{route}{target}"
            yield Case(f"key-{name}-{route}-by-{form}", ask(method, at), owed)


def _record(key: bytes) -> bytes:
    return b'{"key":' + key + b',"value":1}'
