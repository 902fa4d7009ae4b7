"""Who may call: which requests get past the guard, and what the others are told."""

import pytest

from config import Settings
from models import StoreError
from web.guard import Guard

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
     "127.9.9.9", "store.example", "Store.Example:443"],
)  # fmt: skip
def test_known_host_may_call(host):
    assert verdict({"HTTP_HOST": host}, allowed_host=("store.example",)) is None


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "store.example.evil", "", "localhost:x",
     "localhost:80@evil", "[::1", "::1", "localhost,evil", "0.0.0.0", "10.0.0.1", "[::]"],
)  # fmt: skip
def test_name_that_was_rebound_to_this_address_may_not_call(host):
    assert verdict({"HTTP_HOST": host}, allowed_host=("store.example",)) == "wrong_host"


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
