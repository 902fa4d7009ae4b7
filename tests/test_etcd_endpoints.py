"""Which member gets a request, who gets it next, and when nobody may any more."""

import threading

import pytest

from backends.endpoints import (
    ASK_AGAIN_SECONDS,
    ELECTION_SECONDS,
    Endpoints,
    NobodyCan,
)
from backends.gateway import EtcdError, NoAnswer, NotSent, Security
from backends.messages import (
    PUT,
    RANGE,
    STATUS,
    TXN,
    Empty,
    Put,
    Range,
    RangeAnswer,
    Status,
    Txn,
    TxnAnswer,
    Written,
)
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
    silent,
)

FOLLOWS = b'{"header":{"member_id":"%d"},"leader":"%d"}'


@pytest.fixture
def cluster(monkeypatch):
    return played(monkeypatch)


# --- Who is asked next -------------------------------------------------------------------


@pytest.mark.parametrize("ask", [change, read])
@pytest.mark.parametrize(
    "error",
    [
        NotSent("refused"),
        EtcdError("etcdserver: no leader"),
        EtcdError("etcdserver: too many requests"),
        EtcdError("etcdserver: rpc not supported for learner"),
    ],
)
def test_request_of_which_nothing_was_done_goes_on_to_the_next_member(
    cluster, ask, error
):
    cluster.play[A] = always(error)

    answer = ask(cluster.open())

    assert answer.header.revision == 7
    assert cluster.asked == [A, B]
    assert cluster.pauses == 0


LOST = [
    NoAnswer("closed"),
    EtcdError("etcdserver: request timed out"),
    EtcdError("etcdserver: leader changed"),
    EtcdError("context deadline exceeded"),
    EtcdError("HTTP status 404, and no answer of etcd's v3 gateway"),
    b"",
    b"<html>It works!</html>",
    b'{"header":{"revision":"7"',
    b"[]",
    b'{"header":7}',
    b"{}",
    b'{"status":"ok"}',
]


@pytest.mark.parametrize("lost", LOST)
def test_write_whose_answer_got_lost_is_sent_to_nobody_else(cluster, lost):
    cluster.play[A] = always(lost)

    for shape, path, message in (
        (Written, PUT, Put(b"k", b"v")),
        (TxnAnswer, TXN, Txn()),
    ):
        members = cluster.open()
        cluster.got.clear()
        with pytest.raises(NoAnswer):
            members.change(path, message, shape)
        assert cluster.asked == [A]

    assert cluster.pauses == 0


@pytest.mark.parametrize(
    "lost", LOST[:-2]
)  # a range that found nothing looks like that
def test_read_whose_answer_got_lost_goes_on_to_the_next_member(cluster, lost):
    cluster.play[A] = always(lost)

    answer = read(cluster.open())

    assert answer.header.revision == 7
    assert cluster.asked == [A, B]


@pytest.mark.parametrize("ask", [change, read])
def test_refusal_that_every_member_would_repeat_is_told_at_once(cluster, ask):
    cluster.play[A] = always(EtcdError("etcdserver: permission denied"))

    with pytest.raises(EtcdError, match="permission denied"):
        ask(cluster.open())

    assert cluster.asked == [A]


def test_read_that_nobody_answers_is_given_up_in_time_and_each_member_was_asked(
    cluster,
):
    cluster.all_play(silent(cluster))
    began = cluster.now

    with pytest.raises((NoAnswer, NobodyCan)):
        read(cluster.open())

    assert set(cluster.asked) == {A, B, C}
    assert cluster.now - began <= SECONDS + 2 * ASK_AGAIN_SECONDS


def test_write_that_nobody_answers_takes_no_longer_than_one_request(cluster):
    cluster.all_play(silent(cluster))
    began = cluster.now

    with pytest.raises(NoAnswer):
        change(cluster.open())

    assert (cluster.asked, cluster.now - began) == ([A], SECONDS)


def test_only_what_may_be_stale_goes_without_a_leader(cluster):
    members = cluster.open()

    read(members)
    change(members)
    members.peek(RANGE, Range(b"k", serializable=True), RangeAnswer)
    members.ask_one(B, STATUS, Empty(), Status, 1.0)

    assert [needs_leader for *_, needs_leader, _ in cluster.got] == [
        True, True, False, False,
    ]  # fmt: skip
    assert cluster.asked == [A, A, A, B]


# --- No leader ---------------------------------------------------------------------------


@pytest.mark.parametrize("ask", [change, read])
def test_request_waits_for_an_election_and_no_longer(cluster, ask):
    members = cluster.open()
    read(members)
    cluster.all_play(always(EtcdError("etcdserver: no leader")))
    began = cluster.now

    with pytest.raises(NobodyCan, match="no leader"):
        ask(members)

    waited = cluster.now - began
    assert ELECTION_SECONDS <= waited <= ELECTION_SECONDS + 2 * ASK_AGAIN_SECONDS


def test_request_that_waits_for_an_election_is_done_once_somebody_leads(cluster):
    members = cluster.open()
    read(members)
    led_at = cluster.now + 1.5

    def play(*_):
        return DONE if cluster.now > led_at else EtcdError("etcdserver: no leader")

    cluster.all_play(play)

    assert change(members).header.revision == 7
    assert cluster.now <= led_at + 2 * ASK_AGAIN_SECONDS


def test_request_is_refused_at_once_where_nobody_has_led_for_long(cluster):
    members = cluster.open()
    read(members)
    cluster.all_play(always(EtcdError("etcdserver: no leader")))
    cluster.now += ELECTION_SECONDS + 0.1
    cluster.got.clear()

    with pytest.raises(NobodyCan):
        change(members)

    assert (cluster.asked, cluster.pauses) == ([A, B, C], 0)


def test_stale_answer_is_no_sign_of_a_leader_to_wait_for(cluster):
    members = cluster.open()
    cluster.now += ELECTION_SECONDS + 0.1
    members.peek(RANGE, Range(b"k", serializable=True), RangeAnswer)
    cluster.all_play(always(NotSent("refused")))

    with pytest.raises(NobodyCan, match="refused"):
        change(members)

    assert cluster.pauses == 0


def test_request_waits_no_longer_than_its_own_limit_for_an_election(cluster):
    cluster.all_play(always(NotSent("refused")))
    began = cluster.now

    with pytest.raises(NobodyCan):
        change(cluster.open(seconds=0.5))

    assert cluster.now - began <= 0.5 + 2 * ASK_AGAIN_SECONDS


def test_why_no_leader_is_told_in_the_words_of_who_was_asked_last(cluster):
    members = cluster.open()

    assert members.why_no_leader(Range(b"k"), 1.0) is None
    cluster.all_play(always(NotSent("C: refused")))
    assert members.why_no_leader(Range(b"k"), 1.0) == "C: refused"
    assert cluster.pauses == 0


# --- The order ---------------------------------------------------------------------------


def test_members_are_asked_in_the_order_that_was_arranged_last(cluster):
    members = cluster.open()

    members.arrange((C, A, C, B))
    read(members)

    assert members.urls == (C, A, B)
    assert cluster.asked == [C]


def test_member_that_is_left_out_is_closed_and_one_that_stays_is_not(cluster):
    members = cluster.open()

    members.arrange((B,))
    assert (members.urls, sorted(cluster.closed)) == ((B,), [A, C])

    members.close()
    assert (members.urls, sorted(cluster.closed)) == ((), [A, B, C])


def test_member_that_cannot_be_reached_is_asked_last_from_then_on(cluster):
    members = cluster.open()
    cluster.play[A] = always(NotSent("refused"))

    read(members)

    assert members.urls == (B, C, A)


def test_one_member_that_is_none_of_ours_can_be_asked_and_leaves_nothing(cluster):
    members = cluster.open(urls=(A,))
    cluster.play[B] = always(FOLLOWS % (2, 1))

    status = members.ask_one(B, STATUS, Empty(), Status, 1.0)

    assert (status.header.member_id, status.leader) == (2, 1)
    assert (members.urls, cluster.closed) == ((A,), [B])


@pytest.mark.parametrize(
    "answer", [b"", b"{}", b"<html>", b"[]", b'{"header":{"member_id":"x"}}']
)
def test_what_is_no_etcd_is_not_taken_for_a_member_that_answers(cluster, answer):
    cluster.play[A] = always(answer)

    with pytest.raises(NoAnswer, match="not an answer of etcd"):
        cluster.open().ask_one(A, STATUS, Empty(), Status, 1.0)


# --- Closing -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [EtcdError("etcdserver: no leader"), NotSent(""), NoAnswer("")]
)
def test_nobody_waits_any_longer_once_all_is_closed(cluster, error):
    cluster.all_play(always(error))
    members = Endpoints((A, B, C), Security(), SECONDS, None, lambda: 0.0)
    told = []

    def ask():
        try:
            read(members)  # for ever: this clock stands still
        except (NobodyCan, NoAnswer) as raised:
            told.append(raised)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    members.close()
    for thread in threads:
        thread.join(SECONDS)

    assert len(told) == 4
    with pytest.raises(NobodyCan, match="no member of etcd answers"):
        change(members)
