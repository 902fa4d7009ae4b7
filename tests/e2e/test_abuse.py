"""Abuse over real HTTP: each case gets what the contract owes it and changes nothing.

The cases are tables, in the modules `abuse_*.py`. Two servers take them, one of them
with tokens; after each case the store is what it was, unless the case may change it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import quote, quote_plus

import pytest

from tests.e2e import abuse_keys
from tests.e2e.abuse import (
    API_TOKEN,
    INVALID,
    JSON,
    LONG_HEADER,
    NO_KEY,
    OK,
    READ_TOKEN,
    TOO_LARGE,
    Answer,
    Case,
    Store,
    answers_in,
    ask,
    check,
    exchange,
    joined,
    kept_open,
    value,
    write,
)
from tests.e2e.abuse_bodies import bodies, value_nested, value_of
from tests.e2e.abuse_callers import callers
from tests.e2e.abuse_framing import framing
from tests.e2e.abuse_keys import keys
from tests.e2e.abuse_requests import requests
from tests.e2e.served import Served

pytestmark = pytest.mark.e2e

SITES = {
    "open": (),
    "guarded": (
        "--api-token", API_TOKEN, "--read-token", READ_TOKEN,
        "--allowed-host", "store.example", "--allowed-host", ".below.example",
    ),
}  # fmt: skip
CASES = [*bodies(), *keys(), *framing(), *requests(), *callers()]
CASES_MIN = 180
# Values that come back letter for letter, whatever a parser would make of them.
VALUES = (
    b"null", b"true", b"0", b"-0", b"-0.0", b"1e999", b"-1e999", b"1E+2", b"0.10",
    b"1e-400", b"9007199254740993", b"123456789012345678901234567890", b"9" * 5_000,
    b"0." + b"1" * 5_000, b"3.141592653589793238462643383279", b'""', b'"\\u0000"',
    b'"\\ud83d\\ude00"', '"😀"'.encode(), b'"\\u00e9\\/"', b'"\x7f"', b'"\\u2028"',
    b'"</script>"', b"[]", b"{}", b'{"a":1,"a":2}', b'{"":{"":[]}}', b"[1, 2 ,\t3]",
    b'{"__proto__":{"x":1},"constructor":null}', b'"' + b"\\\\" * 1_000 + b'"',
    '"\u202e\ufeff\uffff"'.encode(), b'"NaN"', b'{ "b" : 1,\r\n"a" : 2 }',
)  # fmt: skip


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> Iterator[dict[str, Store]]:
    """The servers, each with a few keys."""
    with ExitStack() as running:
        found = {}
        for site, flags in SITES.items():
            folder = tmp_path_factory.mktemp(site)
            server = Served(folder, "--storage", "memory", *flags)
            running.enter_context(server)
            found[site] = Store(server, API_TOKEN if flags else None)
            found[site].restore()
        yield found


@pytest.fixture
def store(stores):
    """The server without tokens; what is left there is cleared away."""
    yield stores["open"]
    stores["open"].restore()


def test_table_is_large_and_no_two_cases_have_one_name():
    names = [case.name for case in CASES]

    assert len(names) == len(set(names)), sorted(n for n in names if names.count(n) > 1)
    assert len(names) >= CASES_MIN


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_abuse_gets_the_answer_it_is_owed_and_changes_nothing(stores, case):
    store = stores[case.site]
    before = store.fingerprint()
    try:
        answers = check(store.server, case)

        refused = not answers or answers[0].status >= 400
        if refused or not case.changes:
            assert store.fingerprint() == before
    finally:
        store.restore()


def test_operations_of_a_batch_that_are_wrong_fail_one_by_one(store):
    before = store.fingerprint()
    (case,) = (each for each in CASES if each.name == "batch-of-wrong-operations")

    (answer,) = check(store.server, case)

    for result in answer.document["results"]:
        assert (result["status"], result["code"]) == (400, "invalid_request"), result
    assert store.fingerprint() == before


@pytest.mark.parametrize("text", VALUES, ids=lambda text: ascii(text[:24])[2:-1])
def test_value_comes_back_letter_for_letter(store, text):
    expect(store, Case("write", value(text), OK))

    read = expect(store, Case("read", ask("GET", "/read/seed"), OK))

    assert b'"value":' + text + b"," in read.body


# --- Keys ----------------------------------------------------------------------------


@pytest.mark.parametrize("key", abuse_keys.ALLOWED.values(), ids=abuse_keys.ALLOWED)
def test_awkward_key_is_read_as_it_was_written_and_gone_once_deleted(store, key):
    before = store.fingerprint()
    for delete in forms("delete", key):
        seen = key in before[0]
        for read in forms("read", key):
            expect(store, Case(read, ask("GET", read), OK if seen else NO_KEY))

        written = expect(store, Case("write", write(record(key)), OK))
        assert written.document["key"] == key
        for read in forms("read", key):
            document = expect(store, Case(read, ask("GET", read), OK)).document
            assert (document["key"], document["value"]) == (key, {"of": key}), read
        for target in forms("replicas", key):
            location = expect(store, Case(target, ask("GET", target), OK))
            assert location.document["key"] == key
        assert key in store.fingerprint()[0]
        assert key in listed(store, key)

        expect(store, Case(delete, ask("DELETE", delete), OK))
        for read in forms("read", key):
            gone = expect(store, Case(read, ask("GET", read), NO_KEY)).document
            assert gone["deleted"] is True
        expect(store, Case("again", ask("DELETE", delete), NO_KEY))
        store.restore()

    keys_now, nodes, settings = store.fingerprint()
    assert keys_now.keys() == before[0].keys()
    assert (nodes, settings) == before[1:]
    others = keys_now.keys() - {key}
    assert all(keys_now[other] == before[0][other] for other in others)


def test_keys_that_look_alike_are_different_keys(store):
    alike = ["\u00e9", "e\u0301", "a", "A", "a ", " a", "a/", "/a", "a+", "%61", "ａ"]
    for key in alike:
        expect(store, Case("write", write(record(key)), OK))

    for key in alike:
        for read in forms("read", key):
            found = expect(store, Case(read, ask("GET", read), OK)).document
            assert found["value"] == {"of": key}


def forms(route: str, key: str) -> list[str]:
    """The targets that name this key: encoded wholly, barely, and in the query."""
    barely = "/:@!$&'()*+,;=.~"
    return [
        f"/{route}/{quote(key, safe='')}",
        f"/{route}/{quote(key, safe=barely)}",
        f"/{route}?key={quote(key, safe='')}",
        f"/{route}?key={quote_plus(key)}",
    ]


def record(key: str) -> bytes:
    """A write whose value says which key it is of."""
    return json.dumps({"key": key, "value": {"of": key}}).encode()


def listed(store: Store, key: str) -> list[str]:
    """The keys that begin with this one."""
    page = store.ask("GET", f"/keys?prefix={quote(key, safe='')}")
    return [info["key"] for info in page["keys"]]


def expect(store: Store, case: Case) -> Answer:
    """The one answer to a case, which must be what it is owed."""
    (answer,) = check(store.server, case)
    return answer


# --- Connections and logs ------------------------------------------------------------


def test_requests_sent_without_waiting_are_answered_in_their_order(store):
    paths = ["/read/seed", "/read/none", "/write", "/nodes", "/read/1"]
    waiting = [kept_open(ask("GET", path)) for path in paths]
    data = joined(*waiting, ask("GET", "/nowhere"))()

    answers = answers_in(exchange(store.server, data), "GET")

    assert [answer.status for answer in answers] == [200, 404, 405, 200, 200, 404]
    assert answers[0].document["key"] == "seed"
    assert answers[4].document["key"] == "1"


def test_abuse_left_no_error_in_the_logs(stores):
    for store in stores.values():
        text = store.server.log.read_text("utf-8", "replace")
        assert "Traceback" not in text, text[-5_000:]
        assert "panicked" not in text, text[-5_000:]


# --- Limits that were set ------------------------------------------------------------


def test_every_limit_is_where_its_setting_puts_it(tmp_path):
    flags = {
        "max-body-bytes": 40_000, "max-value-bytes": 2_000, "max-key-bytes": 20,
        "max-batch": 3, "max-depth": 10, "max-header-bytes": 4_096,
    }  # fmt: skip
    given = [text for name, size in flags.items() for text in (f"--{name}", size)]
    header = ask("GET", "/nodes", "X-Long: " + "a" * 5_000)
    three = b'{"operations":[' + b",".join([b'{"op":"read","key":"seed"}'] * 3)
    with Served(tmp_path, "--storage", "memory", *given) as server:
        store = Store(server)
        store.restore()
        kept = store.fingerprint()
        settings = {name.replace("-", "_"): size for name, size in flags.items()}
        assert kept[2].items() >= settings.items()
        for case in (
            Case("value", value_of(2_001), TOO_LARGE),
            Case("key", write(record("k" * 21)), TOO_LARGE),
            Case(
                "body",
                ask("POST", "/batch", body=(three + b"]}").ljust(40_001)),
                TOO_LARGE,
            ),
            Case("batch", ask("POST", "/batch", body=three + b",0]}"), TOO_LARGE),
            Case("depth", value_nested(10), INVALID),
            Case("header", header, LONG_HEADER),
        ):
            expect(store, case)
            assert store.fingerprint() == kept
        for case in (
            Case("value", value_of(2_000), OK),
            Case("key", write(record("k" * 20)), OK),
            Case("body", ask("POST", "/batch", body=(three + b"]}").ljust(40_000)), OK),
            Case("depth", value_nested(9), OK),
            Case("header", ask("GET", "/nodes", "X-Long: " + "a" * 3_000), OK),
        ):
            expect(store, case)


def test_full_store_refuses_writes_and_goes_on_reading_and_deleting(tmp_path):
    text = json.dumps({"key": "", "value": "v" * 9_990}).encode()
    with Served(
        tmp_path, "--storage", "memory", "--max-stored-bytes", 100_000
    ) as server:
        store = Store(server)
        taken, refusal = fill(store, text)

        assert (refusal["status"], refusal["code"]) == (507, "storage_full")
        assert refusal["definite"] is True
        assert 3 <= taken <= 5  # two replicas of 10 kB each, in 100 kB
        assert len(store.fingerprint()[0]) == taken
        assert store.ask("GET", "/read/key-0")["value"] == "v" * 9_990
        status, _, body = attempt(store, text.replace(b'"key": ""', b'"key": "key-0x"'))
        assert (status, json.loads(body)["code"]) == (507, "storage_full")

        for number in range(taken):
            store.ask("DELETE", f"/delete/key-{number}")
        assert fill(store, text)[0] >= 1


def fill(store: Store, text: bytes) -> tuple[int, dict]:
    """Write until it is refused: how many were taken, and the refusal."""
    for number in range(50):
        key = b'"key": "key-%d"' % number
        status, _, body = attempt(store, text.replace(b'"key": ""', key))
        if status != 200:
            return number, json.loads(body)
    raise AssertionError("it never was full")


def attempt(store: Store, body: bytes) -> tuple[int, dict[str, str], bytes]:
    return store.server.ask("POST", "/write", body, Content_Type=JSON)
