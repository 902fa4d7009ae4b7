"""Who calls: a token is fetched, kept, renewed, and never asked for without end."""

import pytest

from backends.endpoints import ELECTION_SECONDS, LOGIN_SECONDS_MAX, Login, NobodyCan
from backends.gateway import EtcdError, NoAnswer, NotSent
from backends.messages import PUT
from tests.played_cluster import DONE, A, B, C, always, change, played, read

LOGIN = "/v3/auth/authenticate"
USER = Login("kv", "a secret")


@pytest.fixture
def cluster(monkeypatch):
    return played(monkeypatch)


class Guarded:
    """A member that wants a token, and forgets those that it gave when told to."""

    def __init__(self, *, right=True, takes_any=True):
        self.given = 0
        self.good = set()
        self.right = right
        self.takes_any = takes_any
        self.logins = []

    def __call__(self, path, token, seconds):
        if path == LOGIN:
            self.logins.append(seconds)
            if not self.right:
                return EtcdError(
                    "etcdserver: authentication failed, invalid user ID or password"
                )
            self.given += 1
            self.good.add(f"token.{self.given}")
            return b'{"header":{},"token":"token.%d"}' % self.given
        if token not in self.good or not self.takes_any:
            return EtcdError("etcdserver: invalid auth token")
        return DONE


def test_token_is_fetched_once_and_used_again_with_every_member(cluster):
    guard = Guarded()
    cluster.all_play(guard)
    members = cluster.open(login=USER)

    for url in (A, B, C):
        members.arrange((url,))
        read(members)
        change(members)

    assert guard.given == 1
    assert [token for *_, token in cluster.got] == ["", *["token.1"] * 6]
    assert guard.logins == [LOGIN_SECONDS_MAX]


@pytest.mark.parametrize("ask", [change, read])
def test_token_that_ended_is_renewed_and_the_request_is_done(cluster, ask):
    guard = Guarded()
    cluster.all_play(guard)
    members = cluster.open(login=USER)
    ask(members)
    guard.good.clear()
    cluster.got.clear()

    ask(members)

    assert [path == LOGIN for _, path in cluster.paths] == [False, True, False]
    assert guard.given == 2


@pytest.mark.parametrize("ask", [change, read])
def test_token_that_nobody_takes_does_not_make_it_log_in_for_ever(cluster, ask):
    guard = Guarded(takes_any=False)
    cluster.all_play(guard)
    members = cluster.open(login=USER)
    cluster.now += ELECTION_SECONDS + 0.1

    with pytest.raises(NobodyCan, match="invalid auth token"):
        ask(members)

    assert guard.given <= 2 * 3  # members


@pytest.mark.parametrize("ask", [change, read])
def test_wrong_password_is_said_at_once_and_tried_once(cluster, ask):
    guard = Guarded(right=False)
    cluster.all_play(guard)

    with pytest.raises(EtcdError, match="invalid user ID or password") as raised:
        ask(cluster.open(login=USER))

    assert len(guard.logins) == 1
    assert USER.password not in str(raised.value)
    assert cluster.pauses == 0


@pytest.mark.parametrize(
    "answer",
    [
        NoAnswer("timed out"),
        NotSent("refused"),
        EtcdError("etcdserver: request timed out"),
        EtcdError("etcdserver: no leader"),
        EtcdError("HTTP status 404, and no answer of etcd's v3 gateway"),
        b"<html>It works!</html>",
        b"[]",
    ],
)
def test_login_that_fails_leaves_a_write_unsent_and_the_next_member_does_it(
    cluster, answer
):
    guard = Guarded()
    cluster.play[A] = always(answer)
    cluster.play[B] = guard

    done = change(cluster.open(login=USER))

    assert done.header.revision == 7
    assert cluster.paths == [(A, LOGIN), (B, LOGIN), (B, PUT)]


def test_without_a_user_nobody_is_logged_in_and_the_refusal_is_told(cluster):
    cluster.all_play(Guarded())
    cluster.now += ELECTION_SECONDS + 0.1
    members = cluster.open()
    cluster.now += ELECTION_SECONDS + 0.1

    with pytest.raises(NobodyCan, match="invalid auth token"):
        change(members)

    assert cluster.paths == [(url, PUT) for url in (A, B, C)]
