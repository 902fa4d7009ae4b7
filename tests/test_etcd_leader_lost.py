"""A member that fell silent or a leader that is gone gets nothing that could be lost there.

A member that still follows a lost leader would pass a write on to it, and nobody could say
what became of that.
"""

import pytest

from backends.endpoints import ELECTION_SECONDS, LOOK_SECONDS_MAX, NobodyCan
from backends.gateway import EtcdError, NoAnswer, NotSent
from backends.messages import PUT, RANGE, STATUS, Range, RangeAnswer
from tests.played_cluster import (
    DONE,
    SECONDS,
    A,
    B,
    C,
    always,
    change,
    played,
    read,
)

FOLLOWS = b'{"header":{"member_id":"%d"},"leader":"%d"}'
LED_BY_1, LED_BY_3, NOT_LED = (FOLLOWS % (2, leader) for leader in (1, 3, 0))


@pytest.fixture
def cluster(monkeypatch):
    return played(monkeypatch)


def test_member_that_fell_silent_gets_no_write_until_it_is_seen_again(cluster):
    members = cluster.open()
    cluster.play[A] = always(NoAnswer("closed"))
    with pytest.raises(NoAnswer):
        change(members)
    cluster.play[A] = always(DONE)
    cluster.play[B] = cluster.play[C] = always(NotSent("refused"))
    cluster.got.clear()

    with pytest.raises(NobodyCan, match="refused"):
        change(members)
    assert A not in cluster.asked

    members.arrange((A, B, C))
    change(members)
    assert cluster.asked[-1] == A


def test_nothing_is_written_to_members_that_are_called_silent(cluster):
    members = cluster.open()
    members.arrange((A, B, C), silent=(url for url in (A, B)))

    change(members)
    assert cluster.asked == [C]

    members.arrange((A, B, C), silent=(A, B, C))
    with pytest.raises(NobodyCan):
        change(members)
    assert cluster.asked == [C]
    members.peek(RANGE, Range(b"k", serializable=True), RangeAnswer)
    assert cluster.asked == [C, A]  # that does no harm


@pytest.mark.parametrize("is_told", [True, False])
def test_member_that_still_follows_a_lost_leader_gets_no_write(cluster, is_told):
    members = cluster.open()
    members.arrange((A, B, C), leader=(A, 1))
    cluster.play[A] = always(NotSent("refused"))
    cluster.play[B] = always(LED_BY_1)  # the others have elected the third meanwhile
    cluster.play[C] = lambda path, *_: LED_BY_3 if path == STATUS else DONE
    if is_told:
        members.arrange((A, B, C), silent=(A,), leader=(A, 1))

    change(members)
    change(members)

    found_out = [] if is_told else [(A, PUT)]
    looked = [(B, STATUS), (C, STATUS)]
    assert cluster.paths == [*found_out, *looked, (C, PUT), (C, PUT)]


def test_leader_that_is_found_lost_is_passed_over_within_the_same_write(cluster):
    members = cluster.open()
    members.arrange((A, B, C), leader=(A, 1))
    cluster.play[A] = always(NotSent("refused"))
    elected_at = cluster.now + 1.2

    def follower(path, *_):
        if path != STATUS:
            assert cluster.now > elected_at, "it was passed on to who is gone"
            return DONE
        return LED_BY_3 if cluster.now > elected_at else LED_BY_1

    cluster.play[B] = cluster.play[C] = follower

    assert change(members).header.revision == 7
    assert cluster.now > elected_at
    cluster.got.clear()
    change(members)
    assert STATUS not in [path for _, path in cluster.paths]  # once was enough


@pytest.mark.parametrize(
    "status",
    [
        NOT_LED,
        LED_BY_1,
        NoAnswer("timed out"),
        NotSent("refused"),
        EtcdError("etcdserver: request timed out"),
        EtcdError("HTTP status 404, and no answer of etcd's v3 gateway"),
        b"<html>",
        b"{}",
    ],
)
def test_member_of_which_nobody_knows_whom_it_follows_leaves_a_write_definite(
    cluster, status
):
    members = cluster.open()
    cluster.now += ELECTION_SECONDS + 0.1
    members.arrange((A, B, C), silent=(A,), leader=(A, 1))
    cluster.play[B] = cluster.play[C] = always(status)

    with pytest.raises(NobodyCan):
        change(members)

    assert {path for _, path in cluster.paths} == {STATUS}


def test_leader_that_is_back_is_asked_without_a_question_before(cluster):
    members = cluster.open()
    members.arrange((A, B, C), silent=(A,), leader=(A, 1))
    members.arrange((A, B, C), leader=(A, 1))
    cluster.play[A] = always(EtcdError("etcdserver: too many requests"))

    change(members)

    assert cluster.paths == [(A, PUT), (B, PUT)]


def test_look_at_whom_a_member_follows_is_short(cluster):
    members = cluster.open()
    members.arrange((A, B), silent=(A,), leader=(A, 1))
    given = []

    def follower(path, _token, seconds):
        given.append(seconds)
        return LED_BY_3 if path == STATUS else DONE

    cluster.play[B] = follower
    change(members)

    assert given == [LOOK_SECONDS_MAX, SECONDS]


def test_leader_that_only_we_cannot_reach_is_written_to_through_another_member(cluster):
    members = cluster.open()
    cluster.play[A] = always(NotSent("refused"))
    cluster.play[B] = cluster.play[C] = lambda path, *_: (
        LED_BY_1 if path == STATUS else DONE
    )

    def look():  # as is done each second, and finds the same
        members.arrange((A, B, C), silent=(A,), leader=(A, 1))

    look()
    cluster.now += ELECTION_SECONDS / 2
    look()
    began = cluster.now
    change(members)
    assert began + ELECTION_SECONDS / 2 <= cluster.now <= began + ELECTION_SECONDS

    cluster.got.clear()
    look()
    change(members)
    read(members)
    assert cluster.paths == [(B, PUT), (B, RANGE)]


def test_leader_that_is_lost_once_more_is_waited_for_once_more(cluster):
    members = cluster.open()
    cluster.play[B] = cluster.play[C] = always(LED_BY_1)
    for _ in range(2):
        members.arrange((A, B, C), leader=(A, 1))
        cluster.now += 10 * ELECTION_SECONDS
        members.arrange((A, B, C), silent=(A,), leader=(A, 1))
        cluster.got.clear()
        with pytest.raises(NobodyCan):
            change(members)
        assert {path for _, path in cluster.paths} == {STATUS}


def test_member_that_was_left_is_asked_for_nothing_until_it_is_named_again(cluster):
    members = cluster.open()
    members.leave((A, B), "it is of another cluster")
    cluster.play[C] = always(NotSent("refused"))

    for ask in (change, read):
        with pytest.raises(NobodyCan):
            ask(members)
    with pytest.raises(NobodyCan):
        members.peek(RANGE, Range(b"k", serializable=True), RangeAnswer)
    assert set(cluster.asked) == {C}

    members.leave((C,), "it is of another cluster")
    with pytest.raises(NobodyCan, match="another cluster"):
        change(members)
    members.arrange((B,))
    change(members)
    assert cluster.asked[-1] == B
