"""Leases: none ends before it was asked to, and those that end together are one."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.endpoints import NobodyCan
from backends.gateway import EtcdError, NoAnswer
from backends.leases import GRANT, Leases, ends_at_ms
from backends.messages import PutAnswer
from limits import TTL_SECONDS_MAX

NOW = 1_790_000_000.0  # autumn 2026
ROUNDING = 1e-5  # of a time of that size, seconds
SECONDS = st.floats(0.001, 10_000.0)
SLOTS = st.sampled_from([1, 1, 2, 60])
STEPS = st.lists(
    st.tuples(st.floats(0.0, 40.0), SECONDS, SLOTS, st.booleans()), max_size=30
)


class Etcd:
    """Grants leases and lets them end, by a clock of its own that shows the same."""

    def __init__(self, now=NOW):
        self.now = now
        self.ends = {}
        self.granted = []
        self.trouble = None

    def read(self, path, grant, shape):
        assert (path, shape) == (GRANT, PutAnswer)
        if self.trouble is not None:
            raise self.trouble
        self.granted.append(grant)
        if self.ends.get(grant.number, 0.0) > self.now:
            raise EtcdError(EtcdError.LEASE_EXISTS)
        assert isinstance(grant.seconds, int)
        assert grant.seconds >= 1
        self.ends[grant.number] = self.now + grant.seconds
        return PutAnswer()


def leases_of(etcd, **clock):
    return Leases(etcd, **{"clock": lambda: etcd.now, **clock})


@given(STEPS)
def test_lease_never_ends_before_it_was_asked_to_nor_long_after(steps):
    etcd = Etcd()
    leases = leases_of(etcd)

    for pause, seconds, slot, is_lost in steps:
        etcd.now += pause
        lease = leases.ending_in(seconds, slot)

        asked = etcd.now + seconds
        assert asked - ROUNDING <= etcd.ends[lease] <= asked + slot + 1 + ROUNDING
        assert asked - ROUNDING <= ends_at_ms(lease) / 1000 <= asked + slot + ROUNDING
        assert ends_at_ms(lease) <= etcd.ends[lease] * 1000 + 1
        if is_lost:
            del etcd.ends[lease]
            leases.forget(lease)


@given(SECONDS, SECONDS, SLOTS)
def test_keys_that_end_in_the_same_second_share_a_lease_and_others_do_not(
    one, other, slot
):
    etcd = Etcd()
    leases = leases_of(etcd)

    first, second = leases.ending_in(one, slot), leases.ending_in(other, slot)

    same = math.ceil((NOW + one) / slot) == math.ceil((NOW + other) / slot)
    assert (first == second) == same
    assert len(etcd.granted) == (1 if same else 2)


@given(
    st.floats(0.0, 7_000_000_000.0 - TTL_SECONDS_MAX),
    st.floats(0.001, TTL_SECONDS_MAX),
    SLOTS,
)
def test_number_of_a_lease_is_a_positive_int64_that_holds_its_end(now, seconds, slot):
    lease = leases_of(Etcd(now)).ending_in(seconds, slot)

    assert 0 < lease < 1 << 63
    assert ends_at_ms(lease) % (slot * 1000) == 0
    assert ends_at_ms(lease) >= (now + seconds - ROUNDING) * 1000


def test_two_processes_never_put_keys_under_the_same_lease():
    etcd = Etcd()
    numbers = {leases_of(etcd).ending_in(10.0) for _ in range(20)}

    assert len(numbers) == 20
    assert len({ends_at_ms(number) for number in numbers}) == 1


def test_lease_that_etcd_lost_is_granted_anew_and_not_before():
    etcd = Etcd()
    leases = leases_of(etcd)
    lease = leases.ending_in(10.0)
    other = leases.ending_in(20.0)
    etcd.ends.clear()

    assert leases.ending_in(10.0) == lease
    assert etcd.ends == {}
    leases.forget(lease)
    assert (leases.ending_in(10.0), leases.ending_in(20.0)) == (lease, other)
    assert set(etcd.ends) == {lease}
    leases.forget(1)  # which it never knew


def test_grant_that_was_done_though_its_answer_got_lost_does_no_harm():
    etcd = Etcd()
    leases = leases_of(etcd)
    lease = leases.ending_in(10.0)
    leases.forget(lease)

    assert leases.ending_in(10.0) == lease
    assert len(etcd.granted) == 2
    assert leases.ending_in(10.0) == lease
    assert len(etcd.granted) == 2


@pytest.mark.parametrize(
    "trouble",
    [NobodyCan("no leader"), NoAnswer("closed"), EtcdError(EtcdError.NO_SPACE)],
)
def test_lease_that_was_not_granted_is_not_believed_in(trouble):
    etcd = Etcd()
    leases = leases_of(etcd)
    etcd.trouble = trouble

    with pytest.raises(type(trouble)):
        leases.ending_in(10.0)
    etcd.trouble = None
    lease = leases.ending_in(10.0)

    assert lease in etcd.ends


def test_what_is_remembered_of_leases_does_not_grow_for_ever():
    etcd = Etcd()
    leases = leases_of(etcd)

    for _ in range(1_000):
        leases.ending_in(10.0)
        etcd.now += 1.0

    assert len(leases._granted) <= 12


def test_key_without_a_lease_never_ends():
    assert ends_at_ms(0) == 0


def test_wall_clock_that_is_set_back_moves_no_lease(monkeypatch):
    wall, steady = [NOW], [50.0]
    monkeypatch.setattr("backends.leases.time.time", lambda: wall[0])
    monkeypatch.setattr("backends.leases.steady_ns", lambda: int(steady[0] * 1e9))
    leases = leases_of(Etcd(), clock=None)

    wall[0] -= 3_600.0
    steady[0] += 2.0

    assert leases.now_ms == (NOW + 2.0) * 1000
    assert leases.ahead_seconds == 3_602.0
