"""What a key's client is told when etcd is full, or holds what nobody wrote here."""

from typing import Any

import pytest

from app import create_app
from backends.endpoints import NobodyCan
from backends.gateway import EtcdError, NoAnswer
from backends.keys import Keys
from backends.leases import GRANT
from backends.messages import (
    PUT,
    RANGE,
    TXN,
    Header,
    KeyValue,
    PutAnswer,
    RangeAnswer,
    TxnAnswer,
    Written,
)
from backends.watch import Quota
from config import Settings
from models import (
    Condition,
    Intent,
    StorageFull,
    Unavailable,
    Uncertain,
    VersionMismatch,
)

FULL = EtcdError(EtcdError.NO_SPACE)
WRITE = Intent("k", b"1")
WRITE_WITH_TTL = Intent("k", b"1", 5_000)
WRITE_IF_ABSENT = Intent("k", b"1", condition=Condition(if_absent=True))
DELETE = Intent("k", None, condition=Condition())


class Etcd:
    """What `Endpoints` has; a path in `says` has its answer, or raises it."""

    def __init__(self):
        self.says = {}
        self.sent = []

    def ask(self, path, message, _shape):
        self.sent.append((path, message))
        done = {PUT: Written(Header(revision=7)), GRANT: PutAnswer()}
        answer = self.says.get(
            path, done.get(path, TxnAnswer(Header(revision=7), True))
        )
        if isinstance(answer, Exception):
            raise answer
        return answer

    read = peek = change = ask

    def paths(self):
        return [path for path, _ in self.sent]


@pytest.fixture
def etcd():
    return Etcd()


@pytest.fixture
def keys(etcd):
    return Keys(etcd, b"kv/", Quota(), grace_seconds=60.0, seconds=5.0)


def changes(etcd):
    return [(path, message) for path, message in etcd.sent if path in (PUT, TXN)]


# --- A quota that is used up -------------------------------------------------------------


@pytest.mark.parametrize("write", [WRITE, WRITE_IF_ABSENT, WRITE_WITH_TTL])
def test_write_that_found_etcd_full_may_be_done_and_is_not_called_refused(
    etcd, keys, write
):
    etcd.says = {PUT: FULL, TXN: FULL}

    with pytest.raises(Uncertain, match="quota"):
        keys.change(write)

    assert len(changes(etcd)) == 1


@pytest.mark.parametrize("write", [WRITE, WRITE_IF_ABSENT, WRITE_WITH_TTL])
def test_write_to_a_store_that_is_known_to_be_full_is_refused_without_being_sent(
    etcd, keys, write
):
    etcd.says = {PUT: FULL}
    with pytest.raises(Uncertain):
        keys.change(WRITE)
    etcd.sent.clear()

    for _ in range(3):
        with pytest.raises(StorageFull):
            keys.change(write)

    assert etcd.sent == []


def test_write_is_sent_again_once_there_is_room(etcd, keys):
    keys._quota.is_full = True
    with pytest.raises(StorageFull):
        keys.change(WRITE)
    keys._quota.is_full = False

    assert keys.change(WRITE).revision == 7


def test_write_for_which_no_lease_was_granted_is_known_not_to_be_done(etcd, keys):
    etcd.says = {GRANT: FULL}

    with pytest.raises(StorageFull):
        keys.change(WRITE_WITH_TTL)

    assert changes(etcd) == []


def test_delete_that_found_etcd_full_is_not_sent_twice(etcd, keys):
    etcd.says = {TXN: FULL}

    with pytest.raises(Uncertain):
        keys.change(DELETE)

    assert len(changes(etcd)) == 1


@pytest.mark.parametrize("grant", [None, FULL])
def test_delete_in_a_store_that_is_known_to_be_full_takes_no_room(etcd, keys, grant):
    keys._quota.is_full = grant is None
    if grant is not None:
        etcd.says = {GRANT: grant}

    keys.change(DELETE)

    ((_, txn),) = changes(etcd)
    assert all(each.request_put is None for each in txn.success)
    assert [each.request_delete_range.key for each in txn.success] == [
        b"kv/k/k", b"kv/d/k",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("trouble", "told"), [(NobodyCan("no"), Unavailable), (NoAnswer("no"), Uncertain)]
)
def test_other_troubles_do_not_make_a_store_full(etcd, keys, trouble, told):
    etcd.says = {PUT: trouble}

    with pytest.raises(told):
        keys.change(WRITE)

    assert not keys._quota.is_full


# --- What has ended ----------------------------------------------------------------------


def test_entry_that_has_ended_has_no_time_left_to_be_restored_with(etcd, keys):
    now = keys._leases.now_ms

    with pytest.raises(VersionMismatch) as caught:
        keys.until(now - 1)

    assert caught.value.extra == {"version": None}
    assert 0 < keys.until(now + 60_000) <= 60_000
    assert etcd.sent == []


# --- Keys of others ----------------------------------------------------------------------


class Held(Etcd):
    """Keys in order, as etcd pages them."""

    def __init__(self, names):
        super().__init__()
        self.names = sorted(b"kv/k/" + name for name in names)

    def ask(self, path, message, _shape):
        assert path == RANGE
        found = [n for n in self.names if message.key <= n < message.range_end]
        page = tuple(
            KeyValue(n, b"1", mod_revision=7) for n in found[: message.limit or None]
        )
        return RangeAnswer(Header(), page, len(page) < len(found), len(found))

    read = ask


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
@pytest.mark.parametrize(
    "names",
    [
        [b"a", b"b\xff", b"c"],
        [b"\x80", b"\x80\x80", b"\x81", b"z"],
        [b"a", b"\xff", b"\xff\xff", b"\xff\xff\xff"],
        [b"\xff"],
        [b"a", b"\xc3\xa9", b"\xc3", b"z"],
    ],
)
def test_key_that_is_no_text_hides_none_of_those_behind_it(names, limit):
    held: Any = [Held(names)]
    keys = Keys(held[0], b"kv/", Quota(), grace_seconds=1.0, seconds=5.0)
    wanted = sorted(n.decode() for n in names if n not in BAD)

    assert all_of(lambda after: keys.page("", after, limit), "keys") == wanted
    assert all_of(lambda after: keys.records(after, limit), "records") == wanted


BAD = {b"b\xff", b"\x80", b"\x80\x80", b"\x81", b"\xff", b"\xff\xff", b"\xff\xff\xff",
       b"\xc3"}  # fmt: skip


def all_of(page_after, name):
    found, after = [], ""
    for _ in range(20):
        page = page_after(after)
        found += [each.key for each in getattr(page, name)]
        after = page.next
        if after is None:
            return found
    raise AssertionError("the pages come to no end")


# --- An application that cannot be made --------------------------------------------------


def test_engine_that_was_opened_for_an_application_that_fails_is_closed(monkeypatch):
    closed = []

    class Broken:
        settings = Settings(storage="memory")

        def __getattr__(self, name):
            raise ZeroDivisionError("after it was opened")

        def close(self):
            closed.append(self)

    monkeypatch.setattr("app.ENGINES", {"embedded": lambda _: Broken()})
    given: Any = [Broken()]

    for engine in (None, *given):
        with pytest.raises(ZeroDivisionError):
            create_app(Settings(storage="memory"), engine)

    assert len(closed) == 1
    assert given[0] not in closed
