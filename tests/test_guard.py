"""Who may call: which requests get past the guard, and what the others are told."""

import pytest

from config import Settings
from models import StoreError
from web.guard import SENT_HOST, Guard
from web.problems import WrongHost

TOKENS = {"api_token": "secret-token", "read_token": "weaker-token"}


def verdict(environ, **changes):
    """The code of the refusal, or None where the request may go on."""
    guard = Guard(Settings(storage="memory", **changes))
    request = {"REQUEST_METHOD": "GET", "PATH_INFO": "/nodes", "HTTP_HOST": "localhost"}
    for _ in range(2):  # what passed once must not pass for another reason
        try:
            guard.check({**request, **environ})
            found = None
        except StoreError as error:
            found = error.code
    return found


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:5000", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:5000",
     "127.9.9.9", "store.example", "Store.Example:443", "localhost.", "LocalHost.:5000",
     "store.example.", "localhost:"],
)  # fmt: skip
def test_known_host_may_call(host):
    assert verdict({"HTTP_HOST": host}, allowed_host=("store.example",)) is None


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "store.example.evil", "", "localhost:x",
     "localhost:80@evil", "[::1", "::1", "localhost,evil", "localhost..", ".localhost",
     ".", "127.0.0.1.evil.example", "127.0.0.1.", "127.0.0.1.:80", "0x7f.1", "0x7f.0.0.1",
     "2130706433", "1.2.3", "127.1", "0177.0.0.1", "127.0.0.01", "1.2.3.4.5", "256.1.1.1",
     "1.2.3.4\n", "[127.0.0.1]", "[::1]evil", "[::1].evil.example", "[::1%]", "[::1%25a]b",
     "[fe80::1%25et h0]", "[1::2::3]", "[::g]", "[]", "[:]", "[localhost]", "[v1.a]",
     "10.0.0.1,evil", "evil@10.0.0.1", "10.0.0.1:80:80", "10.0.0.1/", "a.store.example",
     "\u0661.2.3.4", "l\xf6calhost"],
)  # fmt: skip
def test_name_that_was_rebound_to_this_address_may_not_call(host):
    assert verdict({"HTTP_HOST": host}, allowed_host=("store.example",)) == "wrong_host"


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "10.0.0.1", "[::]", "10.0.0.1:5000", "169.254.169.254", "255.255.255.255",
     "[fe80::1]", "[FE80::ABCD]:5000", "[2001:DB8::1]", "[::ffff:10.0.0.1]",
     "[::FFFF:10.0.0.1]:80", "[fe80::1%25eth0]", "[fe80::1%eth0]:5000",
     "[0:0:0:0:0:0:0:1]"],
)  # fmt: skip
def test_address_may_call_since_nothing_was_looked_up_that_could_be_rebound(host):
    for path in ("/nodes", "/metrics", "/healthz"):
        assert verdict({"HTTP_HOST": host, "PATH_INFO": path}) is None


@pytest.mark.parametrize("host", ["evil.example", "", None, "a,b", "[::1", "\xff"])
def test_health_is_answered_under_any_host_and_nothing_else_is(host):
    headers = {} if host is None else {"HTTP_HOST": host}
    guard = Guard(Settings(storage="memory"))
    for path in ("/healthz", "/readyz"):
        guard.check({"REQUEST_METHOD": "GET", "PATH_INFO": path, **headers})

    for path in ("/", "/nodes", "/metrics", "/healthz/", "//healthz", "/Healthz", "*"):
        with pytest.raises(WrongHost):
            guard.check({"REQUEST_METHOD": "GET", "PATH_INFO": path, **headers})


@pytest.mark.parametrize(
    ("host", "passes"),
    [("example.com", True), ("a.example.com", True), ("A.b.Example.COM.:443", True),
     ("evilexample.com", False), (".example.com", False), ("a..example.com", False),
     ("example.com.evil", False), ("com", False), ("a.other.example", False),
     ("other.example", True)],
)  # fmt: skip
def test_dot_before_an_allowed_name_lets_in_all_below_it_and_itself(host, passes):
    allowed = (".Example.com.", "other.example.")

    found = verdict({"HTTP_HOST": host}, allowed_host=allowed)

    assert found == (None if passes else "wrong_host")


def test_target_that_is_a_url_names_the_host_that_counts_and_both_must_be_known():
    def asked(target, sent, **more):
        return verdict({"HTTP_HOST": target, SENT_HOST: sent, **more})

    assert asked("localhost", "10.0.0.1") is None
    assert asked("evil.example", "localhost") == "wrong_host"
    assert asked("localhost", "evil.example") == "wrong_host"
    post = {"REQUEST_METHOD": "POST", "HTTP_ORIGIN": "http://10.0.0.1"}
    assert asked("10.0.0.1", "localhost", **post) is None
    assert asked("localhost", "10.0.0.1", **post) == "forbidden"


@pytest.mark.parametrize("host", ["10.0.0.1:5000", "[::1]:5000", "localhost."])
@pytest.mark.parametrize(
    "origin",
    ["http://10.0.0.2:5000", "http://10.0.0.1", "http://10.0.0.1:5001", "http://localhost",
     "http://[::2]:5000", "http://[::1]", "null", "http://10.0.0.1:5000.evil.example"],
)  # fmt: skip
def test_page_at_one_address_may_change_nothing_at_another(host, origin):
    request = {"REQUEST_METHOD": "POST", "HTTP_HOST": host, "HTTP_ORIGIN": origin}

    assert verdict(request) == "forbidden"
    assert verdict({**request, "PATH_INFO": "/healthz"}) == "forbidden"
    assert verdict({**request, "HTTP_ORIGIN": f"http://{host}"}) is None


def test_address_that_it_was_told_to_listen_on_is_a_known_host():
    assert verdict(
        {"HTTP_HOST": "10.0.0.1:5000", "HTTP_AUTHORIZATION": "Bearer secret-token"},
        host="10.0.0.1",
        api_token="secret-token",
    ) is None  # fmt: skip


@pytest.mark.parametrize(
    "headers",
    [
        {"HTTP_ORIGIN": "http://evil.example"},
        {"HTTP_ORIGIN": "http://localhost:8080"},
        {"HTTP_ORIGIN": "null"},
        {"HTTP_ORIGIN": ""},
        {"HTTP_SEC_FETCH_SITE": "cross-site"},
        {"HTTP_SEC_FETCH_SITE": "same-site"},
        {"HTTP_ORIGIN": "http://localhost", "HTTP_SEC_FETCH_SITE": "cross-site"},
    ],
)
def test_page_of_another_site_may_change_nothing_and_read_what_it_cannot_see(headers):
    for method in ("POST", "DELETE", "PUT", "PATCH"):
        assert verdict({"REQUEST_METHOD": method, **headers}) == "forbidden"
    assert verdict(headers) is None


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"HTTP_ORIGIN": "http://localhost"},
        {"HTTP_ORIGIN": "https://LOCALHOST"},
        {"HTTP_SEC_FETCH_SITE": "same-origin"},
        {"HTTP_SEC_FETCH_SITE": "none"},
    ],
)
def test_own_page_and_programs_may_change_things(headers):
    assert verdict({"REQUEST_METHOD": "POST", **headers}) is None


@pytest.mark.parametrize(
    ("authorization", "reading", "writing"),
    [
        (None, "unauthorized", "unauthorized"),
        ("", "unauthorized", "unauthorized"),
        ("Bearer", "unauthorized", "unauthorized"),
        ("Bearer wrong-token", "unauthorized", "unauthorized"),
        ("Bearer secret-toke", "unauthorized", "unauthorized"),
        ("Bearer sécret-token", "unauthorized", "unauthorized"),
        ("Basic secret-token", "unauthorized", "unauthorized"),
        ("Bearer weaker-token", None, "forbidden"),
        ("Bearer secret-token", None, None),
        ("bearer secret-token", None, None),
    ],
)
def test_token_opens_what_it_is_for_and_no_more(authorization, reading, writing):
    headers = {} if authorization is None else {"HTTP_AUTHORIZATION": authorization}

    assert verdict(headers, **TOKENS) == reading
    assert verdict({"REQUEST_METHOD": "POST", **headers}, **TOKENS) == writing


def test_only_health_and_the_pages_files_are_open_without_a_token():
    for path in ("/", "/docs", "/docs/docs.js", "/dashboard/x", "/healthz", "/readyz"):
        assert verdict({"PATH_INFO": path}, **TOKENS) is None
    for path in ("/openapi.json", "/config", "/read/docs/", "/healthz/", "/Docs/x", ""):
        assert verdict({"PATH_INFO": path}, **TOKENS) == "unauthorized"
