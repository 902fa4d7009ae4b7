"""One key in etcd, or many in order: what is kept where, and what is compared.

A value is kept under `<prefix>k/<key>` as its JSON text, and its version is the revision
at which etcd wrote it. A delete leaves a tombstone under `<prefix>d/<key>` for as long as
deletes are remembered, whose revision is the version that a 404 tells. A time to live is
a lease. What a request wants to hold is part of the one transaction that changes the key,
so nobody can get in between, whichever of many services sent it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from msgspec import Raw

from backends.endpoints import Endpoints, NobodyCan, NobodyLeads
from backends.gateway import EtcdError, Meaning, NoAnswer
from backends.leases import Leases, ends_at_ms
from backends.messages import (
    PUT,
    RANGE,
    TXN,
    Compare,
    DeleteRange,
    Header,
    KeyValue,
    Op,
    Put,
    Range,
    RangeAnswer,
    Txn,
    TxnAnswer,
    Written,
)
from backends.together import Apart, Together
from backends.watch import Quota
from cluster.listing import RECORDS_BYTES, KeyInfo, KeyPage, RecordInfo, RecordPage
from limits import TTL_SECONDS_MAX
from models import (
    Intent,
    Record,
    StorageFull,
    StoreError,
    Timeout,
    TooLarge,
    Unavailable,
    Uncertain,
    Version,
    VersionMismatch,
)
from protocols.base import absent, check_condition

T = TypeVar("T")
LIVE = b"k/"  # after the prefix: where values are
NO_REVISION = -1  # that no key has
TOMBSTONES_SHARE = 10  # tombstones of a tenth of their time share a lease
TOGETHER_BYTES = 256 << 10  # of values that share a trip
Read = tuple[KeyValue | None, Header]
RECORDS_FIRST, RECORDS_MAX = 16, 64  # fetched at once: nobody knows how large they are


class Keys:
    """The keys of one store in etcd. Safe for many threads.

    `grace_seconds` is how long deletes are remembered, `seconds` how long a change is
    tried while others change the same key.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        prefix: bytes,
        quota: Quota,
        *,
        grace_seconds: float,
        seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.live, self.dead = prefix + LIVE, prefix + b"d/"
        self._endpoints = endpoints
        self._leases = Leases(endpoints)
        self._quota = quota
        self._reads = Together(self._read_all)
        self._puts = Together(self._put_all, _fits)
        self._grace = grace_seconds
        self._seconds = seconds
        self._monotonic = monotonic

    def read(self, key: str, *, stale: bool) -> tuple[KeyValue, Header]:
        """The value of a key, and who told it; `stale`: what some member has.

        KeyNotFound with the tombstone's version, if there is one.
        """
        ask = self._endpoints.peek if stale else self._endpoints.read
        live = Range(self.live + key.encode(), serializable=stale)
        if stale:
            answer = reading(lambda: ask(RANGE, live, RangeAnswer))
            there, header = answer.kvs[0] if answer.kvs else None, answer.header
        else:
            there, header = reading(lambda: self._reads.ask(live))
        if there is not None:
            return there, header
        both = self.look_for(key, stale=stale)  # again, at one revision
        again = reading(lambda: ask(TXN, both, TxnAnswer))
        found = again.found(0)
        if found is None:
            raise absent(key, _tombstone(key, again.found(1)))
        return found, again.header

    def look_for(self, key: str, *, stale: bool) -> Txn:
        """What asks for the value of a key, and for its tombstone."""
        name = key.encode()
        spaces = self.live, self.dead
        ranges = (Range(space + name, serializable=stale) for space in spaces)
        return Txn(success=tuple(Op(request_range=each) for each in ranges))

    def until(self, expires_at_ms: int) -> int:
        """The time to live of what is to end then: milliseconds that etcd has a lease for.

        VersionMismatch if it has ended already: it is not to be seen again.
        """
        left_ms = expires_at_ms - self._leases.now_ms
        if left_ms <= 0:
            raise VersionMismatch("its time to live is over", version=None)
        return min(left_ms, int(TTL_SECONDS_MAX * 1000))

    @property
    def ahead_seconds(self) -> float:
        """How far the time by which keys end is ahead of the machine's clock."""
        return self._leases.ahead_seconds

    def page(self, prefix: str, after: str, limit: int) -> KeyPage:
        """Keys in order: all of a page at one revision."""
        found, more = self._list(prefix, after, limit, keys_only=True)
        page = tuple(
            KeyInfo(self._name(each), Version(each.mod_revision).text) for each in found
        )
        return KeyPage(page, page[-1].key if more and page else None)

    def records(self, after: str, limit: int) -> RecordPage:
        """Keys with their values, of some RECORDS_BYTES at most."""
        page: list[RecordInfo] = []
        room, count, more = RECORDS_BYTES, RECORDS_FIRST, True
        while more and room > 0 and len(page) < limit:
            last = page[-1].key if page else after
            wanted = min(count, limit - len(page))
            found, more = self._list("", last, wanted, keys_only=False)
            for each in found:
                room -= len(each.key) + len(each.value)
                if room < 0 and page:
                    more = True
                    break
                page.append(self._record(each))
            count = min(2 * count, RECORDS_MAX)
        return RecordPage(tuple(page), page[-1].key if more and page else None)

    # --- Changes ---------------------------------------------------------------------

    def change(self, intent: Intent) -> Header:
        """Do what is meant if its condition holds; who did it, at which revision.

        The condition is compared by etcd, as far as it can be told beforehand. Where it
        fails etcd says what is there: if the condition holds for that after all, it is
        tried again against just that, which fails only if somebody else succeeded.
        """
        ends_at = self._monotonic() + self._seconds
        name = intent.key.encode()
        compare = self._first_guess(intent, name)
        look = self.look_for(intent.key, stale=False).success
        while True:
            success, lease = self._operations(intent, name)
            answer = self._send(compare, success, look)
            if answer is None:
                self._leases.forget(lease)
            elif answer.succeeded:
                return answer.header
            else:
                compare = self._next_guess(intent, name, answer)
            if self._monotonic() > ends_at:
                raise Unavailable(
                    "others change the key all the time; nothing of this request was done, "
                    f"try again (key={intent.key!r})"
                )

    def _send(
        self,
        compare: tuple[Compare, ...],
        success: tuple[Op, ...],
        look: tuple[Op, ...],
    ) -> TxnAnswer | None:
        """What came of it; None: etcd does not know the lease, and did nothing."""
        change = self._endpoints.change
        put = success[0].request_put
        try:
            if compare or put is None or len(success) > 1:
                txn = Txn(compare, success, look)
                return changing(lambda: change(TXN, txn, TxnAnswer), passing=True)
            header = changing(lambda: self._puts.ask(put), passing=True)
        except EtcdError as error:
            if error.message == EtcdError.NO_LEASE:
                return None
            if error.meaning is not Meaning.FULL:
                raise refused(error) from error
            self._quota.is_full = True  # the next one is told without being sent
            raise Uncertain(
                "etcd's quota is used up, and this request may have been the last that it "
                "took: read before you try again"
            ) from error
        return TxnAnswer(header, succeeded=True)

    def _read_all(self, ranges: Sequence[Range]) -> Sequence[Read]:
        """Read some keys linearizably: all after the last of those who ask came."""
        if len(ranges) == 1:
            one = self._endpoints.read(RANGE, ranges[0], RangeAnswer)
            return [(one.kvs[0] if one.kvs else None, one.header)]
        txn = Txn(success=tuple(Op(request_range=each) for each in ranges))
        with _one_by_one_if_too_large():
            answer = self._endpoints.read(TXN, txn, TxnAnswer)
        return [(answer.found(place), answer.header) for place in range(len(ranges))]

    def _put_all(self, puts: Sequence[Put]) -> Sequence[Header]:
        """Write some keys, no two the same: done all at one revision, or none."""
        change = self._endpoints.change
        if len(puts) == 1:
            return [change(PUT, puts[0], Written).header]
        txn = Txn(success=tuple(Op(request_put=each) for each in puts))
        with _one_by_one_if_too_large():
            return [change(TXN, txn, TxnAnswer).header] * len(puts)

    def _operations(self, intent: Intent, name: bytes) -> tuple[tuple[Op, ...], int]:
        """What changes the key, and the lease that is used. StorageFull: no room is left."""
        live, dead = self.live + name, self.dead + name
        if intent.value is None:
            lease = self._lease_of_tombstones()
            bury = Op(request_delete_range=DeleteRange(dead))
            if lease:
                bury = Op(request_put=Put(dead, b"", lease))
            return (Op(request_delete_range=DeleteRange(live)), bury), lease
        if self._quota.is_full:
            raise refused(EtcdError(EtcdError.NO_SPACE))
        if intent.ttl_ms is None:
            return (Op(request_put=Put(live, intent.value)),), 0
        seconds = intent.ttl_ms / 1000
        lease = reading(lambda: self._leases.ending_in(seconds), Unavailable)
        # An old tombstone would be told of once the value has ended.
        forget = Op(request_delete_range=DeleteRange(dead))
        return (Op(request_put=Put(live, intent.value, lease)), forget), lease

    def _lease_of_tombstones(self) -> int:
        """0 where none is kept: a delete makes room, its tombstone would take some."""
        if not self._grace or self._quota.is_full:
            return 0
        slot = max(1, int(self._grace / TOMBSTONES_SHARE))
        try:
            return reading(
                lambda: self._leases.ending_in(self._grace, slot), Unavailable
            )
        except StorageFull:
            return 0

    def _first_guess(self, intent: Intent, name: bytes) -> tuple[Compare, ...]:
        """What etcd is to compare, before anything is known of the key."""
        condition = intent.condition
        if condition is None:
            return ()
        live = self.live + name
        found = []
        if condition.if_versions is not None:
            revision = _revision_of(condition.if_versions[0])
            found.append(Compare(live, "MOD", "EQUAL", mod_revision=revision))
        if condition.if_absent:
            found.append(Compare(live, "CREATE", "EQUAL", create_revision=0))
        if condition.if_present or intent.value is None:
            found.append(Compare(live, "CREATE", "GREATER", create_revision=0))
        if intent.version is not None:  # a backup's: not over a later delete either
            dead = self.dead + name
            found.append(Compare(dead, "CREATE", "EQUAL", create_revision=0))
        return tuple(found)

    def _next_guess(
        self, intent: Intent, name: bytes, answer: TxnAnswer
    ) -> tuple[Compare, ...]:
        """The key as it is now; raises what the client is told if that will not do."""
        live, dead = answer.found(0), answer.found(1)
        held = _record(intent.key, live) or _tombstone(intent.key, dead)
        if intent.version is not None and held is not None:
            raise VersionMismatch(
                "cannot restore when the key has a value or was deleted "
                f"(key={intent.key!r}, current={held.version.text})",
                version=held.version.text,
            )
        assert intent.condition is not None, "only a condition can fail"
        check_condition(intent.condition, held, intent, self._leases.now_ms)
        revision = live.mod_revision if live is not None else 0
        key = self.live + name
        return (Compare(key, "MOD", "EQUAL", mod_revision=revision),)

    def _list(
        self, prefix: str, after: str, limit: int, *, keys_only: bool
    ) -> tuple[tuple[KeyValue, ...], bool]:
        space = self.live + prefix.encode()
        start, end = space, _successor(space)
        if after:
            start = max(start, self.live + after.encode() + b"\0")
        while start < end:
            asked = Range(start, end, limit=limit, keys_only=keys_only)
            answer = self._range(asked)
            # What others have put below the prefix may be no key of ours.
            found = tuple(each for each in answer.kvs if _is_text(each.key))
            if found or not answer.more:
                return found, answer.more
            start = answer.kvs[-1].key + b"\0"
        return (), False

    def _range(self, asked: Range) -> RangeAnswer:
        return reading(
            lambda: self._endpoints.read(RANGE, asked, RangeAnswer), Unavailable
        )

    def _record(self, found: KeyValue) -> RecordInfo:
        return RecordInfo(
            self._name(found),
            Version(found.mod_revision).text,
            Raw(found.value),
            ends_at_ms(found.lease),
        )

    def _name(self, found: KeyValue) -> str:
        return found.key[len(self.live) :].decode()


# --- What a client is told -----------------------------------------------------------


def reading(ask: Callable[[], T], silence: type[StoreError] = Timeout) -> T:
    """What is asked, where nothing that anybody sees is changed."""
    try:
        return ask()
    except NobodyCan as error:
        raise _nobody(error) from error
    except NoAnswer as error:
        raise silence(f"etcd did not answer in time, try again ({error})") from error
    except EtcdError as error:
        raise refused(error) from error


def changing(ask: Callable[[], T], *, passing: bool = False) -> T:
    """What is asked, where silence leaves it open whether it was done.

    `passing`: the caller makes something of what etcd refuses.
    """
    try:
        return ask()
    except NobodyCan as error:
        raise _nobody(error) from error
    except NoAnswer as error:
        raise Uncertain(
            "etcd took the request and did not say what became of it: read before you "
            f"try again ({error})"
        ) from error
    except EtcdError as error:
        if passing:
            raise
        raise refused(error) from error


def _nobody(error: NobodyCan) -> NobodyLeads:
    return NobodyLeads(
        f"etcd has no leader within reach; nothing was done, try again ({error})"
    )


def refused(error: EtcdError) -> StoreError:
    """What etcd will not do, in the words of the API."""
    if error.message == EtcdError.NO_SPACE:
        return StorageFull(
            "etcd's quota is used up: delete keys, and where its members were not started "
            "here compact, defragment and disarm the alarm; or raise the quota (local: "
            "max_stored_bytes); reads and deletes go on"
        )
    if error.message == EtcdError.TOO_LARGE:
        return TooLarge(
            "the request is larger than etcd takes: raise its --max-request-bytes, or lower "
            "max_value_bytes"
        )
    return Unavailable(f"etcd refuses: {error.message}; nothing was done")


def _fits(puts: Sequence[Put], put: Put) -> bool:
    """True if a put may go with these: etcd writes no key twice in a transaction."""
    size = len(put.value) + sum(len(each.value) for each in puts)
    return size <= TOGETHER_BYTES and all(each.key != put.key for each in puts)


@contextmanager
def _one_by_one_if_too_large() -> Iterator[None]:
    """Etcd's own limits can be set below what is sent together here."""
    try:
        yield
    except EtcdError as error:
        if error.message in (EtcdError.TOO_LARGE, EtcdError.TOO_MANY):
            raise Apart from error
        raise


def _is_text(key: bytes) -> bool:
    try:
        key.decode()
    except UnicodeDecodeError:
        return False
    return True


def _revision_of(version: str) -> int:
    """The revision that a version stands for; one that no key has if it is none of ours."""
    try:
        revision = int(version, 16)
    except ValueError:
        return NO_REVISION
    is_ours = 0 < revision < 1 << 63 and Version(revision).text == version
    return revision if is_ours else NO_REVISION


def _record(key: str, found: KeyValue | None) -> Record | None:
    if found is None:
        return None
    return Record(key, Version(found.mod_revision), found.value)


def _tombstone(key: str, found: KeyValue | None) -> Record | None:
    return None if found is None else Record(key, Version(found.mod_revision), None)


def _successor(prefix: bytes) -> bytes:
    """The first key after all those with a prefix; UTF-8 never ends with 0xff."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))
