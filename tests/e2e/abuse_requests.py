"""Requests: methods, paths, headers, conditions, queries, node ids, overrides."""

from __future__ import annotations

from collections.abc import Iterator

from tests.e2e.abuse import (
    INVALID,
    LONG_HEADER,
    MISMATCH,
    NO_KEY,
    NO_NODE,
    NO_ROUTE,
    NOT_ASCII,
    NOT_HTTP,
    NOT_JSON,
    OK,
    UNMET,
    Case,
    Owed,
    Wire,
    ask,
    done,
    either,
    refused,
    write,
    wrong_method,
)
from tests.e2e.abuse_bodies import GOOD

HEADER_MAX = 16_384  # of the request line and the headers together
TRANSPORT_MAX = 65_536  # beyond this the transport itself may refuse
IGNORED = done(200)  # the header has no meaning here


def requests() -> Iterator[Case]:
    """Every case of a request that is wrong around its body."""
    for group in (_methods, _paths, _headers, _header_sizes, _conditions):
        yield from group()
    for group in (_queries, _node_ids, _overrides):
        yield from group()


# --- Methods and paths ---------------------------------------------------------------


def _methods() -> Iterator[Case]:
    reads, posts = ("GET", "HEAD", "OPTIONS"), ("POST", "OPTIONS")
    deletes = ("DELETE", "OPTIONS")
    for target, allowed in {
        "/write": posts, "/read/seed": reads, "/read?key=seed": reads,
        "/delete/seed": deletes, "/delete?key=seed": deletes, "/fail/1": posts,
        "/recover/1": posts, "/keys": reads, "/batch": posts, "/healthz": reads,
        "/openapi.json": reads,
    }.items():  # fmt: skip
        name = target[1:].replace("/", "-").replace("?", "-")
        owed = wrong_method(*allowed)
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
            if method not in allowed:
                yield Case(f"{method}-{name}", ask(method, target), owed)
    for method in ("TRACE", "PROPFIND", "FROB", "SEARCH", "A" * 100, "GET_", "DELETE2"):
        owed = either(wrong_method(*reads), refused(501, "not_implemented"), NOT_HTTP)
        yield Case(f"{method[:12]}-unknown-method", ask(method, "/nodes"), owed)
    # RFC 9110, section 9.1: a method's letters are as they are, so this is none of ours.
    small = either(wrong_method(*deletes), NOT_HTTP)
    yield Case("delete-in-small-letters", ask("delete", "/delete/seed"), small)
    yield Case("CONNECT", ask("CONNECT", "localhost:80"), NOT_HTTP_OR_NO_ROUTE)
    every = done(204, Allow="DELETE, GET, HEAD, OPTIONS, POST")
    yield Case("OPTIONS-of-the-server", ask("OPTIONS", "*"), every)
    owed = done(200, Allow=".*DELETE.*")
    yield Case("OPTIONS-delete", ask("OPTIONS", "/delete/seed"), owed)
    yield Case("HEAD-read", ask("HEAD", "/read/seed"), done(200, ETag='".+"'))
    yield Case("HEAD-read-of-no-key", ask("HEAD", "/read/none"), NO_KEY)
    yield Case("HEAD-nowhere", ask("HEAD", "/nowhere"), NO_ROUTE)
    yield Case("DELETE-of-no-key", ask("DELETE", "/delete/none"), NO_KEY)


NOT_HTTP_OR_NO_ROUTE = either(NOT_HTTP, NO_ROUTE, refused(405, "method_not_allowed"))


def _paths() -> Iterator[Case]:
    for target in (
        "/nowhere", "/WRITE", "/nodes/", "/keys/", "/write/", "/fail", "/fail/1/2",
        "/./nodes", "/nodes%20", "/nodes%00", "/nodes%3Fx", "/nodes;x=1", "/nodes%2F",
        "/etc/passwd", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/app.py",
        "/docs/../app.py", "/docs/%2e%2e/app.py", "/docs/..%2fapp.py", "/docs/.env",
        "/docs/..%5capp.py", "/docs//etc/passwd", "/docs/docs.html%00.css", "/.git/HEAD",
        "//nodes", "///nodes", "//read/seed", "/Nodes", "//",
        "/data/node-0", "/static/x", "/console", "/?__debugger__=yes&cmd=resource",
    ):  # fmt: skip
        owed = either(NO_ROUTE, INVALID) if "?" in target else NO_ROUTE
        yield Case(f"path-{target[1:]}".replace("/", "-"), ask("GET", target), owed)
    for target in ("//fail/1", "/Fail/1", "/fail/1/", "//delete/seed"):
        method = "DELETE" if "delete" in target else "POST"
        name = f"path-{method}-{target[1:]}".replace("/", "-")
        yield Case(name, ask(method, target), NO_ROUTE)
    long = ask("GET", "/" + "a" * 4_000)
    yield Case("path-of-4000-letters", long, NO_ROUTE)


# --- Headers -------------------------------------------------------------------------


def _headers() -> Iterator[Case]:
    for name, text in {
        "blank": "a b",
        "tab": "a\tb",
        "65-letters": "a" * 65,
        "4000-letters": "a" * 4_000,
        "html": "<script>",
        "encoded-line-end": "a%0d%0aSet-Cookie:b",
        "empty": "",
        "quotes": '"a"',
        "path": "../../x",
    }.items():
        wire = ask("GET", "/nodes", f"X-Request-Id: {text}")
        yield Case(f"request-id-{name}", wire, OWN_ID)
    twice = ask("GET", "/nodes", "X-Request-Id: a", "X-Request-Id: b")
    yield Case("request-id-twice", twice, done(200, X_Request_Id=r"[\w.-]+"))
    for name in ("X-Request-Id", "X-A", "Cookie"):
        wire = ask("GET", "/nodes", f"{name}: \xff\xfe")
        yield Case(f"header-{name}-not-ascii", wire, either(OK, NOT_ASCII))
    for text in ("a", "A.b_c-9", "a" * 64):
        wire = ask("GET", "/nodes", f"X-Request-Id: {text}")
        owed = done(200, X_Request_Id=text)
        yield Case(f"request-id-{text[:8]}-comes-back", wire, owed)
    for name, line in {
        "range": "Range: bytes=0-1",
        "ranges": "Range: bytes=" + "0-," * 1_000 + "0-1",
        "date": "If-Modified-Since: Thu, 01 Jan 1970",
        "accept": "Accept: text/html;q=nan",
        "accept-encoding": "Accept-Encoding: gzip;q=1, *;q=0",
        "cookie": "Cookie: " + "a=b;" * 500,
        "forwarded": "X-Forwarded-For: 127.0.0.1, evil",
        "original-url": "X-Original-URL: /fail/1",
        "rewrite-url": "X-Rewrite-URL: /fail/1",
        "forwarded-host": "X-Forwarded-Host: evil.example",
        "forwarded-prefix": "X-Forwarded-Prefix: /fail/1?",
        "script-name": "Script-Name: /fail",
        "proxy": "Proxy: http://evil.example",
        "upgrade-h2c": "Upgrade: h2c",
    }.items():
        yield Case(f"header-{name}-is-ignored", ask("GET", "/read/seed", line), IGNORED)
    socket = ask("GET", "/nodes", "Upgrade: websocket", "Sec-WebSocket-Key: AAAA")
    yield Case("header-upgrade-websocket", socket, either(OK, INVALID))
    expected = write(GOOD, "Expect: 100-continue")
    yield Case("header-expect", expected, OK, changes=True)
    for text in ("miracles", "100-continue, miracles"):
        yield Case(f"header-expect-{text}", write(GOOD, f"Expect: {text}"), UNMET)
    waits = ask("POST", "/fail/1", "Content-Length: 9", "Expect: miracles")
    yield Case("header-expect-more-and-wait", waits, UNMET)
    for name, line in {
        "content-range": "Content-Range: bytes 0-9/24",
        "unmodified-since": "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT",
    }.items():
        yield Case(f"header-{name}-at-a-write", write(GOOD, line), INVALID)
        deleted = ask("DELETE", "/delete/seed", line)
        yield Case(f"header-{name}-at-a-delete", deleted, INVALID)
    for target, body in (("/fail/1", None), ("/batch", b'{"operations":[]}')):
        for line in ('If-Match: "x"', "If-None-Match: *"):
            name = f"condition-{line[:-5]}-at{target}".replace("/", "-")
            yield Case(name, ask("POST", target, line, body=body), INVALID)


OWN_ID = done(200, X_Request_Id="[A-Za-z0-9._-]{8,64}")


def _header_sizes() -> Iterator[Case]:
    slack = (
        512  # how the transport counts line ends and its own additions is its affair
    )
    yield Case("header-below-the-limit", _long_header(HEADER_MAX - slack), OK)
    for size in (HEADER_MAX + slack, 2 * HEADER_MAX, TRANSPORT_MAX - slack):
        yield Case(f"header-of-{size}-bytes", _long_header(size), LONG_HEADER)
    yield Case("path-too-long", ask("GET", "/read/" + "a" * 20_000), LONG_HEADER)
    query = ask("GET", "/read?key=" + "a" * 20_000)
    yield Case("query-too-long", query, LONG_HEADER)
    posted = ask("POST", "/fail/1", "X-A: " + "a" * 20_000)
    yield Case("header-too-long-at-a-change", posted, LONG_HEADER)
    many = ask("GET", "/nodes", *(f"X-{n}: {'a' * 180}" for n in range(90)))
    yield Case("headers-many-too-long-together", many, LONG_HEADER)
    beyond = Owed(
        frozenset((414, 431)), frozenset(("header_too_large",)), by_transport=True
    )
    for size in (TRANSPORT_MAX + 4_096, 420_000, 2**21):
        wire = _long_header(size)
        yield Case(f"header-of-{size}-bytes-beyond-the-transport", wire, beyond)
    far = ask("GET", "/read/" + "a" * 100_000)
    yield Case("path-beyond-the-transport", far, beyond)
    thousand = ask("GET", "/nodes", *(f"X-{n}: a" for n in range(1_000)))
    yield Case("headers-a-thousand", thousand, either(beyond, OK))


def _long_header(size: int) -> Wire:
    """A request whose line and headers have so many bytes."""
    bare = len(ask("GET", "/nodes", "X-Long: ")())
    return ask("GET", "/nodes", "X-Long: " + "a" * (size - bare))


def _conditions() -> Iterator[Case]:
    for text in (
        "abc", 'W/"x"', "", '"a', '"a" "b"', "\xff", "*, *", '*, "a"', '"a", *', "**",
        '"a";', "'a'", '"a"b', ",",
    ):  # fmt: skip
        name = ascii(text)[1:-1] or "empty"
        header = f"If-Match: {text}"
        yield Case(f"if-match-{name}-on-a-write", write(GOOD, header), INVALID)
        deleted = ask("DELETE", "/delete/seed", header)
        yield Case(f"if-match-{name}-on-a-delete", deleted, INVALID)
    many = ", ".join(f'"{n:020x}"' for n in range(400))
    for text in ('"0"', '""', '"*"', '"a", "b"', '"' + "a" * 3_000 + '"', many):
        name = text[:12]
        wire = write(GOOD, f"If-Match: {text}")
        yield Case(f"if-match-{name}-does-not-hold", wire, MISMATCH)
    twice = write(GOOD, 'If-Match: "a"', 'If-Match: "b"')
    yield Case("if-match-twice", twice, MISMATCH)
    new = b'{"key":"new","value":1}'
    yield Case("if-match-any-of-no-key", write(new, "If-Match: *"), MISMATCH)
    yield Case("if-none-match-any-of-a-key", write(GOOD, "If-None-Match: *"), MISMATCH)
    both = write(GOOD, "If-None-Match: *", "If-Match: *")
    yield Case("if-match-and-if-none-match", both, MISMATCH)
    for text in ('"0"', "abc", "", "**", "\xff"):
        name = ascii(text)[1:-1] or "empty"
        wire = write(GOOD, f"If-None-Match: {text}")
        yield Case(f"if-none-match-{name}-on-a-write", wire, INVALID)
    for text in ("abc", "", '"a', "\xff", "'a'"):
        name = ascii(text)[1:-1] or "empty"
        wire = ask("GET", "/read/seed", f"If-None-Match: {text}")
        yield Case(f"if-none-match-{name}-on-a-read", wire, INVALID)
    # A header that cannot be read is not left out, whatever else is there twice.
    for name, lines in {
        "other": ("If-Match: \xff", "X-A: 1", "X-A: 2"),
        "others": ("If-Match: \xff", "X-A: 1", "X-A: 2", "X-A: 3"),
        "itself": ("If-Match: \xff", "If-Match: *"),
    }.items():
        yield Case(f"if-match-not-ascii-and-{name}-twice", write(GOOD, *lines), INVALID)
    same = ask("GET", "/read/seed", "If-None-Match: *")
    yield Case("if-none-match-any-on-a-read", same, done(304, ETag='".+"'))
    read = ask("GET", "/read/seed", "If-Match: *")
    yield Case("if-match-on-a-read", read, INVALID)
    deleted = ask("DELETE", "/delete/seed", "If-None-Match: *")
    yield Case("if-none-match-on-a-delete", deleted, INVALID)


# --- Queries, node ids, overrides ----------------------------------------------------


def _queries() -> Iterator[Case]:
    for target in (
        "/nodes?x=1", "/nodes?key=seed", "/healthz?x", "/config?x=1", "/docs?x=1",
        "/read/seed?x=1", "/read/seed?key=1", "/read?keys=seed", "/read", "/read?",
        "/read?key=seed&key=1", "/read?key=seed&key=seed", "/read?KEY=seed",
        "/read?key=seed&consistency=", "/read?key=seed&consistency=most",
        "/read?key=seed&consistency=ONE", "/read/seed?consistency=%00",
        "/read/seed?consistency=one&consistency=one", "/read?key=%ff", "/read?%ff=seed",
        "/keys?limit=0", "/keys?limit=-1", "/keys?limit=1e3", "/keys?limit=1001",
        "/keys?limit=", "/keys?limit=+1", "/keys?limit=%D9%A1", "/keys?limit=1.0",
        "/keys?limit=0x10", "/keys?limit=1_0", "/keys?limit=" + "9" * 5_000,
        "/keys?limit=1&limit=2", "/keys?prefix=%ff", "/keys?after=%c3", "/keys?Limit=1",
        "/events?since=-1", "/events?since=x", "/events?since=" + "9" * 30,
        "/nodes?" + "&".join(f"a{n}=1" for n in range(1_000)),
    ):  # fmt: skip
        name = f"query-{target[1:40]}".replace("/", "-")
        yield Case(name, ask("GET", target), INVALID)
    for method, target in (
        ("POST", "/write?x=1"), ("POST", "/fail/1?mode=wipe"), ("POST", "/recover/1?x"),
        ("POST", "/batch?x=1"), ("DELETE", "/delete/seed?x=1"), ("DELETE", "/delete"),
        ("DELETE", "/delete?key=seed&key=1"), ("DELETE", "/delete?key=seed&x=1"),
        ("POST", "/write?consistency=most"), ("DELETE", "/delete/seed?consistency=most"),
    ):  # fmt: skip
        body = GOOD if target.startswith("/write") else None
        wire = ask(method, target, body=body)
        yield Case(f"query-{method}-{target[1:]}".replace("/", "-"), wire, INVALID)
    broken = either(INVALID, NO_KEY)
    for text in ("%", "%z", "%2", "%%30%30", "seed%"):
        yield Case(f"query-key-{text}-percent", ask("GET", f"/read?key={text}"), broken)
        yield Case(f"path-key-{text}-percent", ask("GET", f"/read/{text}"), broken)
    yield Case("query-empty", ask("GET", "/nodes?"), OK)


def _node_ids() -> Iterator[Case]:
    nowhere = either(NO_ROUTE, NO_NODE)
    for text in (
        "-1", "99", "3", "1e1", "1.0", "+1", "0x1", "one", "%201", "1%20", "1%00", "1%0a",
        "null", "true", "1,2", "1;2", "*", "..", "%2e", "", "1/", "9" * 40, "9" * 5_000,
        "-0", "%C2%B9", "1_0", "18446744073709551617",
    ):  # fmt: skip
        name = text if len(text) < 30 else f"{len(text)}-digits"
        for route in ("fail", "recover"):
            wire = ask("POST", f"/{route}/{text}")
            yield Case(f"{route}-{name or 'nothing'}", wire, nowhere)
    for text in ("01", "%31", "%D9%A1"):  # a number all the same, if one is generous
        wire = ask("POST", f"/fail/{text}")
        yield Case(f"fail-{text}", wire, either(OK, nowhere), changes=True)


def _overrides() -> Iterator[Case]:
    for header, owed in {
        "X-HTTP-Method-Override": INVALID,
        "X-HTTP-Method": INVALID,
        "X-Method-Override": INVALID,
        "_method": OK,  # this one is said in forms, and means nothing in a header
    }.items():
        wire = ask("GET", "/read/seed", f"{header}: DELETE")
        yield Case(f"override-{header}-on-a-read", wire, owed)
        wire = ask("POST", "/delete/seed", f"{header}: DELETE")
        yield Case(
            f"override-{header}-on-a-post", wire, wrong_method("DELETE", "OPTIONS")
        )
    wire = ask("GET", "/read/seed?_method=DELETE")
    yield Case("override-in-the-query", wire, INVALID)
    form = write(b"_method=DELETE", kind="application/x-www-form-urlencoded")
    yield Case("override-in-a-form", form, NOT_JSON)
