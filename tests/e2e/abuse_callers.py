"""Callers: foreign hosts and origins, and tokens that do not open what they are shown to."""

from __future__ import annotations

import base64
from collections.abc import Iterator

from tests.e2e.abuse import (
    API_TOKEN,
    FORBIDDEN,
    INVALID,
    NO_NODE,
    NOT_ASCII,
    NOT_HTTP,
    OK,
    READ_TOKEN,
    UNAUTHORIZED,
    WRONG_HOST,
    Case,
    ask,
    done,
    either,
    raw,
    refused,
    write,
)
from tests.e2e.abuse_bodies import GOOD

OWN = "127.0.0.1:@PORT@"
CHANGES = (
    ("POST", "/write"), ("DELETE", "/delete/seed"), ("DELETE", "/delete?key=seed"),
    ("POST", "/fail/1"), ("POST", "/recover/1"), ("POST", "/batch"),
)  # fmt: skip
READS = (
    "/read/seed", "/read?key=seed", "/nodes", "/keys", "/config", "/events",
    "/replicas/seed", "/openapi.json", "/nowhere", "/write", "/fail/1", "//nodes",
    "/healthz/", "/Docs", "/readyz%00",
)  # fmt: skip
BODIES = {"/write": GOOD, "/batch": b'{"operations":[{"op":"delete","key":"seed"}]}'}


def callers() -> Iterator[Case]:
    """Every case of somebody who may not do what is asked."""
    for group in (_hosts, _targets, _origins, _tokens, _reading_token, _open_routes):
        yield from group()


# --- Hosts ---------------------------------------------------------------------------


def _hosts() -> Iterator[Case]:
    for host in (
        "evil.example", "localhost.evil.com", "127.0.0.1.nip.io", "127.0.0.1.evil.com",
        "localtest.me", "127.0.0.1@evil.com", "evil.com@127.0.0.1", "localhost:80@evil",
        "localhost:x", "localhost:-1", "localhost:80:80", "localhost:80, evil",
        "0", "2130706433", "127.1", "0x7f.0.0.1", "0177.0.0.1", "1.2.3", "10.0.0.1.",
        "10.0.0.1, evil", "[10.0.0.1]", "[::1", "::1", "[::1]evil", "[::g]", "",
        "localhost/", "localhost?", "localhost#", "localhost\\evil", "local host",
        "localhost\tevil", "localhost,evil", "localhost;evil", "localhost%00.evil.com",
        "localhost%2eevil", "l\xf6calhost", "\xff", "xn--lcalhost-n4a", "a" * 1_000, ".",
        "localhost..", "*", "_", "store.example", "http://localhost", "//localhost",
    ):  # fmt: skip
        name = ascii(host)[1:-1][:30].replace("/", "|") or "empty"
        owed = either(WRONG_HOST, NOT_HTTP)
        yield Case(f"host-{name}", ask("POST", "/fail/1", host=host), owed)
    for host in ("evil.example", "localhost.evil.com", "127.0.0.1.nip.io"):
        for method, target in (
            ("GET", "/nodes"),
            ("OPTIONS", "/write"),
            ("OPTIONS", "*"),
            ("GET", "/metrics"),
            ("GET", "/healthz/"),
        ):
            wire = ask(method, target, host=host)
            yield Case(f"host-{host}-{method}-{target[1:]}", wire, WRONG_HOST)
        same = ask("POST", "/fail/1", f"Origin: http://{host}", host=host)
        yield Case(f"host-{host}-with-its-own-origin", same, WRONG_HOST)
    owed = either(WRONG_HOST, NOT_HTTP)
    yield Case("host-missing", ask("POST", "/fail/1", host=None), owed)
    yield Case("host-missing-in-1.0", raw(b"POST /fail/1 HTTP/1.0\r\n\r\n"), owed)
    for first, second in (
        ("localhost", "evil.example"), ("evil.example", "localhost"),
        ("localhost", "localhost"), ("10.0.0.1", "[::1]"),
    ):  # fmt: skip
        twice = ask("POST", "/fail/1", f"Host: {second}", host=first)
        yield Case(f"host-{first}-and-{second}", twice, owed)
    for host in (
        "LOCALHOST", "localhost:", "127.0.0.1", OWN, "[::1]:80", "127.9.9.9", "0.0.0.0",
        "10.0.0.1", "169.254.169.254:80", "[::]", "[fe80::1]", "[FE80::1%25eth0]:80",
        "[::ffff:10.0.0.1]", "localhost.", "Localhost.:80",
    ):  # fmt: skip
        name = host.replace(":@PORT@", "-and-port")
        yield Case(f"host-{name}-is-known", ask("GET", "/nodes", host=host), OK)
    for host in (
        "Store.Example:443",
        "store.example.",
        "a.b.below.example",
        "below.example",
    ):
        known = ask("GET", "/nodes", _bearer(API_TOKEN), host=host)
        yield Case(f"host-{host}-that-was-allowed-is-known", known, OK, site="guarded")
    for host in ("a.store.example", "notbelow.example", ".below.example"):
        wire = ask("GET", "/nodes", _bearer(API_TOKEN), host=host)
        yield Case(f"host-{host}-was-not-allowed", wire, WRONG_HOST, site="guarded")
    yield from _health()


def _health() -> Iterator[Case]:
    """Whoever asks for health often sends any Host, or none; but never two."""
    for path in ("/healthz", "/readyz"):
        for host in ("evil.example", "", None, "10.0.0.1:80", "localhost, evil"):
            for method in ("GET", "HEAD"):
                name = f"health-{method}-{path[1:]}-for-{host or ascii(host)}"
                yield Case(name, ask(method, path, host=host), OK)
        old = raw(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        yield Case(f"health-{path[1:]}-in-1.0-without-host", old, OK)
        target = ask("GET", f"http://evil.example{path}")
        yield Case(f"health-{path[1:]}-of-a-foreign-url", target, OK)
        twice = ask("GET", path, "Host: localhost")
        yield Case(f"health-{path[1:]}-for-two-hosts", twice, INVALID)
        foreign = ask("POST", path, "Origin: http://evil.example", host="10.0.0.1")
        yield Case(f"health-{path[1:]}-changed-by-a-foreign-page", foreign, FORBIDDEN)


def _targets() -> Iterator[Case]:
    """RFC 9112, section 3.2.2: in the absolute form it is the target that names the host."""
    owed = either(WRONG_HOST, NOT_HTTP)
    for target, host in (
        ("http://evil.example/fail/1", "localhost"),
        ("http://evil.example/fail/1", "10.0.0.1"),
        ("http://127.0.0.1.evil.com/fail/1", "127.0.0.1"),
        ("http://10.0.0.1/fail/1", "evil.example"),
        ("http://localhost.evil.com:80/fail/1", "localhost"),
        ("http://localhost@evil.com/fail/1", "localhost"),
        ("http://localhost/fail/1", "evil.example"),
        ("https://evil.example/fail/1", "localhost"),
        ("ftp://evil.example/fail/1", "localhost"),
    ):
        name = f"target-{target[:-7]}-for-{host}".replace("/", "|")
        yield Case(name, ask("POST", target, host=host), owed)
    for target, host in (
        ("http://localhost/nodes", "localhost"), ("http://10.0.0.1/nodes", "LOCALHOST"),
        ("http://LOCALHOST./nodes", "[::1]:80"),
    ):  # fmt: skip
        name = f"target-{target[7:-6]}-for-{host}-is-known"
        yield Case(name, ask("GET", target, host=host), OK)
    # It is the target that an Origin must be equal to.
    theirs = ask("POST", "http://10.0.0.1/fail/1", "Origin: http://localhost")
    yield Case("target-absolute-of-another-origin", theirs, FORBIDDEN)


# --- Origins -------------------------------------------------------------------------


def _origins() -> Iterator[Case]:
    for origin in (
        "null", "", "http://evil.example", "https://evil.example", "http://localhost",
        "http://localhost:@PORT@", "http://127.0.0.1", "http://127.0.0.1:1",
        f"http://{OWN}.evil.com", f"http://{OWN}@evil.com", f"http://evil.com#{OWN}",
        f"http://evil.com/?://{OWN}", f"http://{OWN}/", OWN, f"//{OWN}", "file://",
        f"http://{OWN}, http://evil.example", f"http://evil.example {OWN}",
        "chrome-extension://abc", "about:blank",
    ):  # fmt: skip
        name = origin.replace("@PORT@", "PORT").replace("/", "|") or "empty"
        wire = ask("POST", "/fail/1", f"Origin: {origin}", host=OWN)
        yield Case(f"origin-{ascii(name)[1:-1]}", wire, FORBIDDEN)
    unread = ask("POST", "/fail/1", "Origin: \xff")
    yield Case("origin-not-ascii", unread, either(FORBIDDEN, NOT_ASCII))
    for site in ("cross-site", "same-site", "CROSS-SITE", "", "x", "none, cross-site"):
        wire = ask("POST", "/fail/1", f"Sec-Fetch-Site: {site}")
        yield Case(f"fetch-site-{site or 'empty'}", wire, FORBIDDEN)
    for method, target in CHANGES:
        name = f"{method}-{target[1:]}".replace("/", "-")
        foreign = ask(
            method, target, "Origin: http://evil.example", body=BODIES.get(target)
        )
        yield Case(f"origin-foreign-{name}", foreign, FORBIDDEN)
    for first, second in ((f"http://{OWN}", "null"), ("null", f"http://{OWN}")):
        twice = ask(
            "POST", "/fail/1", f"Origin: {first}", f"Origin: {second}", host=OWN
        )
        name = f"{first}-and-{second}".replace("/", "|").replace("@PORT@", "PORT")
        yield Case(f"origin-{name}", twice, FORBIDDEN)
    lie = "Sec-Fetch-Site: same-origin"
    both = ask("POST", "/fail/1", "Origin: http://evil.example", lie)
    yield Case("origin-foreign-fetch-site-own", both, FORBIDDEN)
    # A gateway interface writes both as HTTP_SEC_FETCH_SITE; only one is the browser's.
    cross, none = "Sec-Fetch-Site: cross-site", "Sec_Fetch_Site: none"
    yield Case("fetch-site-overridden", ask("POST", "/fail/1", cross, none), FORBIDDEN)
    yield Case(
        "fetch-site-overridden-before", ask("POST", "/fail/1", none, cross), FORBIDDEN
    )
    form = write(GOOD, "Origin: http://evil.example", kind="text/plain")
    yield Case("origin-foreign-form", form, FORBIDDEN)
    preflight = ask(
        "OPTIONS", "/write", "Origin: http://evil.example",
        "Access-Control-Request-Method: POST",
        "Access-Control-Request-Headers: content-type",
    )  # fmt: skip
    no_grant = done(
        200, Access_Control_Allow_Origin="", Access_Control_Allow_Headers=""
    )
    yield Case("origin-preflight-grants-nothing", preflight, no_grant)
    read = ask("GET", "/read/seed", "Origin: http://evil.example")
    yield Case("origin-foreign-reads-unseen", read, no_grant)
    small = ask("post", "/fail/1", "Origin: null")
    yield Case("origin-null-method-in-small-letters", small, FORBIDDEN_OR_NO_METHOD)
    for header in (f"Origin: http://{OWN}", lie, "Sec-Fetch-Site: none"):
        wire = ask("POST", "/fail/99", header, host=OWN)
        name = header.replace("@PORT@", "PORT").replace("/", "|").replace(": ", "-")
        yield Case(f"{name}-is-own", wire, NO_NODE)


FORBIDDEN_OR_NO_METHOD = either(FORBIDDEN, refused(405, "method_not_allowed"), NOT_HTTP)

# --- Tokens --------------------------------------------------------------------------


def _bearer(token: str) -> str:
    return f"Authorization: Bearer {token}"


def _tokens() -> Iterator[Case]:
    basic = base64.b64encode(f"user:{API_TOKEN}".encode()).decode()
    wrong: dict[str, tuple[str, ...]] = {
        "none": (),
        "wrong": (_bearer("wrong-token"),),
        "prefix": (_bearer(API_TOKEN[:-1]),),
        "longer": (_bearer(API_TOKEN + "x"),),
        "both-in-one": (_bearer(API_TOKEN + READ_TOKEN),),
        "in-capitals": (_bearer(API_TOKEN.upper()),),
        "empty": (_bearer(""),),
        "header-empty": ("Authorization: ",),
        "scheme-only": ("Authorization: Bearer",),
        "token-only": (f"Authorization: {API_TOKEN}",),
        "no-blank": (f"Authorization: Bearer{API_TOKEN}",),
        "tab": (f"Authorization: Bearer\t{API_TOKEN}",),
        "quoted": (_bearer(f'"{API_TOKEN}"'),),
        "basic": (f"Authorization: Basic {basic}",),
        "basic-with-the-token": (f"Authorization: Basic {API_TOKEN}",),
        "digest": (f'Authorization: Digest token="{API_TOKEN}"',),
        "not-ascii": (_bearer("s\xe9cret-token"),),
        "utf8": (_bearer("sécret-token".encode().decode("latin-1")),),
        "bytes": (_bearer("\xff\xfe\xfd"),),
        "four-thousand-letters": (_bearer("s" * 4_000),),
        "none-word": (_bearer("None"),),
        "null-word": (_bearer("null"),),
        "list": (_bearer(f"wrong, Bearer {API_TOKEN}"),),
        "twice-wrong-first": (_bearer("wrong-token"), _bearer(API_TOKEN)),
        "proxy-header": (f"Proxy-Authorization: Bearer {API_TOKEN}",),
        "other-header": (f"X-Api-Key: {API_TOKEN}", f"X-Auth-Token: {API_TOKEN}"),
        "cookie": (f"Cookie: token={API_TOKEN}; Authorization=Bearer {API_TOKEN}",),
        "alien-letters": (_bearer("ѕecret-token".encode().decode("latin-1")),),
    }
    for name, headers in wrong.items():
        plain = "".join(headers).isascii()
        owed = UNAUTHORIZED if plain else either(UNAUTHORIZED, NOT_ASCII)
        for method, target in (("GET", "/read/seed"), ("POST", "/fail/1")):
            wire = ask(method, target, *headers)
            yield Case(f"token-{name}-{method}", wire, owed, site="guarded")
    for target in READS:
        name = target[1:].replace("/", "-")
        for method in ("GET", "HEAD", "OPTIONS"):
            wire = ask(method, target)
            yield Case(
                f"token-none-{method}-{name}", wire, UNAUTHORIZED, site="guarded"
            )
    for method, target in CHANGES:
        name = target[1:].replace("/", "-")
        wire = ask(method, target, body=BODIES.get(target))
        yield Case(f"token-none-{method}-{name}", wire, UNAUTHORIZED, site="guarded")
    for name, target in {
        "token": f"/nodes?token={API_TOKEN}",
        "access-token": f"/nodes?access_token={API_TOKEN}",
        "authorization": f"/nodes?Authorization=Bearer%20{API_TOKEN}",
        "userinfo": f"http://user:{API_TOKEN}@localhost/nodes",
    }.items():
        owed = either(UNAUTHORIZED, NOT_HTTP)
        yield Case(
            f"token-in-the-query-{name}", ask("GET", target), owed, site="guarded"
        )
    nul = ask("GET", "/nodes", _bearer(API_TOKEN + "\x00"))
    yield Case("token-with-nul", nul, NOT_HTTP, site="guarded")


def _reading_token() -> Iterator[Case]:
    header = _bearer(READ_TOKEN)
    for method, target in CHANGES:
        name = f"{method}-{target[1:]}".replace("/", "-")
        wire = ask(method, target, header, body=BODIES.get(target))
        yield Case(f"reading-token-{name}", wire, FORBIDDEN, site="guarded")
    for method in ("PUT", "PATCH", "DELETE", "TRACE", "FROB"):
        wire = ask(method, "/read/seed", header)
        yield Case(f"reading-token-{method}-read", wire, FORBIDDEN, site="guarded")
    small = ask("delete", "/delete/seed", header)
    yield Case(
        "reading-token-small-letters", small, FORBIDDEN_OR_NO_METHOD, site="guarded"
    )
    override = ask("GET", "/read/seed", header, "X-HTTP-Method-Override: DELETE")
    yield Case("reading-token-override", override, INVALID, site="guarded")
    batch = b'{"operations":[{"op":"read","key":"seed"}]}'
    only_reads = ask("POST", "/batch", header, body=batch)
    yield Case("reading-token-batch-of-reads", only_reads, FORBIDDEN, site="guarded")
    for method, target in (
        ("GET", "/read/seed"),
        ("HEAD", "/read/seed"),
        ("GET", "/keys"),
    ):
        wire = ask(method, target, header)
        name = f"reading-token-{method}-{target[1:5]}-may"
        yield Case(name, wire, OK, site="guarded")
    foreign = ask("GET", "/nodes", header, host="evil.example")
    yield Case("reading-token-foreign-host", foreign, WRONG_HOST, site="guarded")
    cross = ask("POST", "/fail/1", _bearer(API_TOKEN), "Origin: http://evil.example")
    yield Case("token-good-origin-foreign", cross, FORBIDDEN, site="guarded")
    bad = ask("GET", "/nodes?x=1", _bearer(API_TOKEN))
    yield Case("token-good-query-bad", bad, INVALID, site="guarded")


def _open_routes() -> Iterator[Case]:
    for target in ("/healthz", "/readyz", "/docs", "/docs/docs.js"):
        name = target[1:].replace("/", "-")
        yield Case(f"token-none-{name}-is-open", ask("GET", target), OK, site="guarded")
    for target in ("/healthz", "/docs/docs.js"):
        owed = either(UNAUTHORIZED, refused(405, "method_not_allowed"))
        name = f"token-none-POST-{target[1:]}".replace("/", "-")
        yield Case(name, ask("POST", target), owed, site="guarded")
