"""One member's gateway: what is sent, how often, and what is known of a failure.

Each test plays the member itself, and counts what arrives there.
"""

import gc
import os
import random
import socket
import subprocess
import sys
import threading
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from backends import gateway as gateway_module
from backends.gateway import (
    EtcdError,
    Gateway,
    Meaning,
    NoAnswer,
    NotSent,
    Request,
    Security,
)
from tests.played_member import (
    HANG_UP,
    SECONDS_MAX,
    SILENCE,
    Got,
    Last,
    Played,
    refuses,
    says,
)

WRITE = Request("/v3/kv/put", b'{"key":"YQ==","value":"MQ=="}')
READ = Request("/v3/kv/range", b'{"key":"YQ=="}', needs_leader=False)
ROOT = Path(__file__).resolve().parents[1]
HALF = Last(b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"header":')
SECOND = Request(WRITE.path, b'{"second":1}')
THREADS, REQUESTS = 16, 25
NOBODY_ELSES = b"of this test "


def gateway_of(url):
    """One that is closed at the end of a `with`."""
    return closing(Gateway(url, Security()))


def is_second(got: Got) -> bool:
    """True of `SECOND`, which comes over a connection that was used before."""
    return "second" in got.body


def refused_url():
    """Where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


# --- Sent at most once -------------------------------------------------------------------


@pytest.mark.parametrize("path", [WRITE.path, READ.path])
def test_request_is_not_sent_again_when_a_used_connection_is_closed_on_it(path):
    request = Request(path, SECOND.body)

    def play(got):
        return HANG_UP if is_second(got) else says()

    with Played(play) as member, gateway_of(member.url) as gateway:
        gateway.post(WRITE, SECONDS_MAX)
        with pytest.raises(NoAnswer, match="closed without an answer"):
            gateway.post(request, SECONDS_MAX)

        assert [(got.connection, got.path) for got in member.got] == [
            (0, WRITE.path),
            (0, path),
        ]


def test_write_that_a_dying_member_took_is_not_called_unsent_as_none_can_connect():
    def play(got):
        if not is_second(got):
            return says()
        member.stop_listening()
        return HANG_UP

    with Played(play) as member, gateway_of(member.url) as gateway:
        gateway.post(WRITE, SECONDS_MAX)
        with pytest.raises(NoAnswer):
            gateway.post(SECOND, SECONDS_MAX)

        assert len(member.got) == 2
        with pytest.raises(NotSent):  # and now it is
            gateway.post(SECOND, SECONDS_MAX)


def test_connection_is_used_again_after_answers_and_after_errors_of_etcd():
    answers = iter([says(), refuses("etcdserver: no leader"), says()])

    with (
        Played(lambda _: next(answers)) as member,
        gateway_of(member.url) as gateway,
    ):
        gateway.post(WRITE, SECONDS_MAX)
        with pytest.raises(EtcdError):
            gateway.post(WRITE, SECONDS_MAX)
        gateway.post(WRITE, SECONDS_MAX)

        assert [got.connection for got in member.got] == [0, 0, 0]


def test_what_is_sent_is_the_request_with_the_token_and_what_needs_a_leader_says_so():
    with (
        Played(lambda _: says({"ok": 1})) as member,
        gateway_of(member.url) as gateway,
    ):
        answer = gateway.post(WRITE, SECONDS_MAX, "a.token")
        gateway.post(READ, SECONDS_MAX)

        assert answer == b'{"ok": 1}'
        first, second = member.got
    assert (first.path, first.body) == ("/v3/kv/put", {"key": "YQ==", "value": "MQ=="})
    assert first.headers["content-type"] == "application/json"
    assert first.headers["authorization"] == "a.token"
    assert first.headers["grpc-metadata-hasleader"] == "true"
    assert "accept" in first.headers  # without it etcd takes its own certificate's name
    assert second.headers.keys().isdisjoint(
        {"authorization", "grpc-metadata-hasleader", "expect"}
    )


# --- What is known of a failure ----------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        refused_url,
        lambda: "http://no-such-host.invalid:2379",
        lambda: "ftp://127.0.0.1",
    ],
)
def test_what_could_not_be_sent_is_told_from_what_got_no_answer(url):
    with gateway_of(url()) as gateway, pytest.raises(NotSent, match="://"):
        gateway.post(WRITE, SECONDS_MAX)


def test_listener_that_speaks_no_tls_gets_nothing_of_a_request():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"

        def hang_up():
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=hang_up)
        thread.start()
        with gateway_of(url) as gateway, pytest.raises(NotSent):
            gateway.post(WRITE, SECONDS_MAX)
        thread.join(SECONDS_MAX)


@pytest.mark.parametrize(
    "answer",
    [
        HANG_UP,
        HALF,
        Last(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        Last(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"),
        Last(b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n" * 9),
        Last(b"HTTP/7 200 OK\r\n\r\n{}"),
    ],
    ids=["none", "half", "bad chunk", "bad size", "no HTTP", "HTTP 7"],
)
def test_request_that_left_and_got_no_whole_answer_is_not_called_unsent(answer):
    with Played(lambda _: answer) as member, gateway_of(member.url) as gateway:
        with pytest.raises(NoAnswer, match=member.url):
            gateway.post(WRITE, SECONDS_MAX)

        assert len(member.got) == 1


def test_silent_member_is_waited_for_no_longer_than_asked():
    with Played(lambda _: SILENCE) as member, gateway_of(member.url) as gateway:
        with pytest.raises(NoAnswer, match="timed out"):
            gateway.post(WRITE, 0.05)

        assert len(member.got) == 1


def test_redirection_is_not_followed_since_the_write_may_be_done_already():
    moved = Last(
        b"HTTP/1.1 307 Moved\r\nLocation: /v3/kv/txn\r\nContent-Length: 0\r\n\r\n"
    )

    with Played(lambda _: moved) as member, gateway_of(member.url) as gateway:
        with pytest.raises(EtcdError) as raised:
            gateway.post(WRITE, SECONDS_MAX)

        assert raised.value.meaning is Meaning.UNKNOWN
        assert len(member.got) == 1


def test_proxy_of_the_environment_never_sees_a_request(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, refused_url())

    with Played(lambda _: says()) as member, gateway_of(member.url) as gateway:
        gateway.post(WRITE, SECONDS_MAX)

        assert len(member.got) == 1


# --- What an error means -----------------------------------------------------------------

MEANINGS = {
    Meaning.ELSEWHERE: """
        etcdserver: no leader
        etcdserver: not leader
        etcdserver: not capable
        etcdserver: too many requests
        etcdserver: rpc not supported for learner""",
    Meaning.REFUSED: """
        etcdserver: request is too large
        etcdserver: requested lease not found
        etcdserver: lease already exists
        etcdserver: permission denied
        etcdserver: authentication failed, invalid user ID or password
        etcdserver: authentication is not enabled
        etcdserver: user name is empty
        etcdserver: unhealthy cluster""",
    Meaning.LOGIN: """
        etcdserver: invalid auth token
        etcdserver: revision of auth store is old""",
    Meaning.UNKNOWN: """
        etcdserver: request timed out
        etcdserver: request timed out, possibly due to previous leader failure
        etcdserver: request timed out, possibly due to connection lost
        etcdserver: request timed out, waiting for the applied index took too long
        etcdserver: leader changed
        etcdserver: server stopped
        etcdserver: corrupt cluster
        etcdserver: no leader!
        no leader
        context deadline exceeded
        connection closed
        transport is closing
        rpc error: code = Unavailable desc = etcdserver: no leader
        what no version of etcd ever said""",
}


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        (line.strip(), meaning)
        for meaning, lines in MEANINGS.items()
        for line in lines.strip().splitlines()
    ],
)
def test_error_that_leaves_a_write_open_is_not_taken_for_a_refusal(text, meaning):
    with (
        Played(lambda _: refuses(text)) as member,
        gateway_of(member.url) as gateway,
        pytest.raises(EtcdError) as raised,
    ):
        gateway.post(WRITE, SECONDS_MAX)

    assert (raised.value.message, raised.value.meaning) == (text, meaning)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (says(b"<html>404 Not Found</html>", 404), "HTTP status 404, and no answer of"),
        (says({"error": "Not Found", "code": 5}, 404), "Not Found"),
        (says(b"", 502), "HTTP status 502, and no answer of etcd"),
        (says(b"[]", 500), "HTTP status 500, and no answer of etcd"),
        (says(b"\xff\xfe", 500), "HTTP status 500, and no answer of etcd"),
        (says({}, 500), "HTTP status 500"),
        (says({"message": {"a": 1}}, 500), "HTTP status 500, and no answer of etcd"),
        (says(b"", 201), "HTTP status 201"),
    ],
)
def test_answer_of_something_that_is_no_etcd_leaves_a_write_open(answer, told):
    with (
        Played(lambda _: answer) as member,
        gateway_of(member.url) as gateway,
        pytest.raises(EtcdError, match=told) as raised,
    ):
        gateway.post(WRITE, SECONDS_MAX)

    assert raised.value.meaning is Meaning.UNKNOWN


# --- Many at once, and nothing left ------------------------------------------------------


def test_many_threads_get_each_its_own_answer_over_connections_that_are_few():
    def play(got):
        return says({"said": got.body["n"]}) if got.body["n"] % 7 else HANG_UP

    wrong: list[tuple[int, bytes]] = []

    def ask(thread):
        draw = random.Random(thread)
        for _ in range(REQUESTS):
            n = draw.randrange(1_000_000)
            request = Request("/v3/kv/put", b'{"n":%d}' % n)
            try:
                answer = gateway.post(request, SECONDS_MAX)
            except NoAnswer:
                answer = b"" if n % 7 == 0 else b"an answer got lost"
            if answer not in (b"", b'{"said": %d}' % n):
                wrong.append((n, answer))

    with Played(play) as member, gateway_of(member.url) as gateway:
        threads = [threading.Thread(target=ask, args=(n,)) for n in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS_MAX)

        hung_up = sum(got.body["n"] % 7 == 0 for got in member.got)
        assert wrong == []
        assert len(member.got) == THREADS * REQUESTS  # none twice
        assert max(got.connection for got in member.got) < THREADS + hung_up


def test_idle_connections_are_kept_up_to_a_limit(monkeypatch):
    monkeypatch.setattr(gateway_module, "IDLE_MAX", 1)
    both = threading.Barrier(2)

    def play(_got):
        both.wait(SECONDS_MAX)
        return says()

    with Played(play) as member, gateway_of(member.url) as gateway:
        for _ in range(2):
            threads = [
                threading.Thread(target=gateway.post, args=(WRITE, SECONDS_MAX))
                for _ in range(2)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(SECONDS_MAX)

        assert sorted({got.connection for got in member.got}) == [0, 1, 2]


def test_connection_that_is_busy_when_the_gateway_closes_is_not_kept_after_that():
    def play(_got):
        gateway.close()
        return says()

    before = descriptors()
    with Played(play) as member:
        gateway = Gateway(member.url, Security())
        gateway.post(WRITE, SECONDS_MAX)

    gc.collect()
    assert descriptors() == before


def test_closed_gateway_leaves_no_descriptor_whatever_went_wrong_before():
    before = descriptors()

    for answer in (says(), HANG_UP, HALF, refuses("etcdserver: no leader"), SILENCE):
        play = partial(lambda said, _: said, answer)
        with Played(play) as member, gateway_of(member.url) as gateway:
            try:
                gateway.post(WRITE, 0.05)
            except (NoAnswer, EtcdError):
                assert answer != says()

    gc.collect()
    assert descriptors() == before


def descriptors():
    """How many files and sockets this process has open."""
    return len(os.listdir("/proc/self/fd"))


def test_file_of_authorities_that_cannot_be_read_means_that_nothing_was_sent():
    security = Security(ca=Path("/no/such/file.pem"))

    with (
        closing(Gateway("https://127.0.0.1:1", security)) as gateway,
        pytest.raises(NotSent),
    ):
        gateway.post(WRITE, SECONDS_MAX)


def test_connection_that_waits_keeps_neither_its_last_request_nor_the_answer():
    value = NOBODY_ELSES * 7_000
    request = Request("/v3/kv/put", b'{"value":"' + value + b'"}')
    before = sys.getrefcount(request.body)
    answer = says(b'{"kvs":[{"value":"' + value + b'"}]}')
    with Played(lambda _: answer) as member, gateway_of(member.url) as gateway:
        gateway.post(request, SECONDS_MAX)
        gc.collect()
        after = sys.getrefcount(request.body)

        assert after == before
        assert [each for each in gc.get_objects() if _is_kept(each)] == []


def _is_kept(something):
    """True for a list of what was received, in whatever pieces.

    Other tests of the process may have left lists of bytes, which hold something else.
    """
    return (
        isinstance(something, list)
        and all(isinstance(each, bytes) for each in something)
        and NOBODY_ELSES in b"".join(something)
    )


FIRST_ANSWERS = """
import sys, threading
sys.setswitchinterval(1e-6)
from backends.messages import PutAnswer, RangeAnswer, Status, TxnAnswer, decode
begin = threading.Barrier(8)
def read(shape):
    begin.wait()
    decode(b'{"header":{"cluster_id":"1","member_id":"2","revision":"3"}}', shape)
shapes = (PutAnswer, RangeAnswer, Status, TxnAnswer) * 2
threads = [threading.Thread(target=read, args=(shape,)) for shape in shapes]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_first_answers_that_come_at_once_do_not_end_the_process():
    for _ in range(20):
        done = subprocess.run(
            [sys.executable, "-c", FIRST_ANSWERS],
            cwd=ROOT,
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")
