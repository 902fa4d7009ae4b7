"""Over real connections: what arrived at one member arrives at no other one."""

import threading

import pytest

from backends.endpoints import Endpoints
from backends.gateway import NoAnswer, Security
from backends.messages import PUT, Message, Written
from tests.played_cluster import change, read
from tests.played_member import HANG_UP, SECONDS_MAX, Last, Played, says


class Numbered(Message, frozen=True):
    """A write that a played member can tell from others."""

    n: int


@pytest.mark.parametrize(
    "answer",
    [HANG_UP, Last(b"HTTP/1.1 200 OK\r\nContent-"), says(b"<p>", 404), says(b"<p>")],
    ids=["closed", "half a head", "another server's 404", "another server's page"],
)
def test_write_that_arrived_at_one_member_arrives_at_no_other_one(answer):
    with Played(lambda _: answer) as first, Played(lambda _: says()) as second:
        members = Endpoints((first.url, second.url), Security(), SECONDS_MAX)
        with pytest.raises(NoAnswer):
            change(members)
        assert (len(first.got), len(second.got)) == (1, 0)

        assert read(members).header.revision == 7
        members.close()
        assert len(second.got) == 1


def test_many_threads_lose_no_write_while_members_come_and_go():
    """Each write is counted where it arrived: once if it was done, at most once if not."""
    done: list[int] = []
    lost: list[int] = []

    def play(got):
        return HANG_UP if got.body["n"] % 10 == 0 else says()

    def write(thread):
        for place in range(20):
            n = thread * 100 + place
            try:
                members.change(PUT, Numbered(n), Written)
                done.append(n)
            except NoAnswer:
                lost.append(n)

    with Played(play) as first, Played(play) as second:
        members = Endpoints((first.url, second.url), Security(), SECONDS_MAX)
        threads = [threading.Thread(target=write, args=(t,)) for t in range(8)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            members.arrange((second.url, first.url))  # its connections are kept
            members.arrange((first.url,))  # and here they are closed
            threads[0].join(0.001)
        for thread in threads:
            thread.join(SECONDS_MAX)
        members.close()
        arrived = [got.body["n"] for got in (*first.got, *second.got)]

    assert sorted(arrived) == sorted({*arrived})
    assert set(arrived) == {*done, *lost}
    assert len(done) + len(lost) == 160
    assert sorted(lost) == [n for n in sorted(arrived) if n % 10 == 0]
