"""What the load generator sends and accepts, and how servers take turns under it."""

import json
import socket
from contextlib import suppress

import pytest

from benchmarks.bare_app import create_app
from benchmarks.dialects import VALUE, Exchange, Store, key_of
from benchmarks.figures import Bar
from benchmarks.load import Generator, Load, Tally, complete
from benchmarks.options import Options
from benchmarks.turns import CASES, share_of, take_turns
from processes.server import ProcessFailed

# --- The load generator ------------------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\ncontent-length: 11"


def test_answer_is_complete_once_its_body_is():
    whole = HEAD + b"\r\n\r\n" + b'{"key":"k"}'

    for end in range(len(whole)):
        assert complete(whole[:end]) is None
    assert complete(whole) == (HEAD, b'{"key":"k"}')


def test_answer_of_unknown_length_is_an_error():
    with pytest.raises(ValueError, match="Content-Length"):
        complete(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")


@pytest.mark.parametrize(
    ("status", "body", "right"),
    [
        (b"200 OK", {"key": "k", "value": VALUE}, True),
        (b"200 OK", {"key": "k", "value": "other"}, False),
        (b"200 OK", {"key": "another", "value": VALUE}, False),
        (b"404 Not Found", {"key": "k", "value": VALUE}, False),
        (b"503 Unavailable", {"key": "k", "value": VALUE}, False),
    ],
)
def test_only_a_2xx_with_the_key_and_the_value_is_right(status, body, right):
    exchange = Exchange("k", b"", (b'"k"', VALUE.encode()))

    head = HEAD.replace(b"200 OK", status)

    assert exchange.is_right(head, json.dumps(body).encode()) == right


def test_broken_json_does_not_pass_for_an_answer():
    parses = Store().parses

    assert parses("k", b'{"key": "k"}')
    assert not parses("k", b'{"key": "k"')
    assert not parses("k", b'{"key": "other k"}')
    assert not parses("k", b'["k"]')
    assert not parses("k", b"{}")


def test_requests_fit_what_the_bare_route_answers():
    client = create_app().test_client()
    write, read = Store().write(key_of(7)), Store().read(key_of(7))
    head, _, body = write.request.partition(b"\r\n\r\n")
    path = read.request.split()[1].decode()

    written = client.post("/write", data=body, content_type="application/json")
    found = client.get(path)

    assert f"Content-Length: {len(body)}".encode() in head
    assert write.is_right(HEAD, written.data)
    assert read.is_right(HEAD, found.data)
    assert not read.is_right(HEAD, written.data)


@pytest.mark.parametrize(
    ("connections", "each"), [(16, [8, 8]), (3, [2, 1]), (1, [1, 0])]
)
def test_connections_are_spread_evenly_over_the_ports(connections, each):
    with (
        socket.create_server(("127.0.0.1", 0)) as first,
        socket.create_server(("127.0.0.1", 0)) as second,
    ):
        listeners = (first, second)
        ports = tuple(listener.getsockname()[1] for listener in listeners)

        Generator(Load("read", connections, 1e-9, ports=ports)).run()

        for listener in listeners:
            listener.settimeout(0)
        assert [accepted(listener) for listener in listeners] == each


def accepted(listener):
    """How many connections wait to be accepted."""
    count = 0
    with suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            count += 1
    return count


# --- Turns -------------------------------------------------------------------------------


class Bearer:
    """A target that is only told of its loads."""

    def __init__(self, name, log, tally):
        self.name = name
        self._log = log
        self._tally = tally

    def bear(self, load):
        self._log.append((self.name, load))
        return self._tally


def test_every_case_goes_through_all_targets_before_the_next_begins(tmp_path):
    log: list[tuple[str, Load]] = []
    targets = [Bearer(name, log, Tally(rate=1.0)) for name in "abc"]

    tallies = take_turns(Options(folder=tmp_path, rounds=4), targets)

    filled, measured = log[:3], log[3:]
    assert [(name, load.seconds) for name, load in filled] == [(n, 0) for n in "abc"]
    turns = [measured[at : at + 3] for at in range(0, len(measured), 3)]
    assert len(turns) == 4 * len(CASES)
    for turn in turns:
        assert {name for name, _ in turn} == set("abc")
        assert len({load for _, load in turn}) == 1
    assert {turn[0][0] for turn in turns} == set("abc")  # none always goes first
    assert {len(each) for each in tallies.values()} == {4}


def test_one_connection_is_not_split_over_several_servers(tmp_path):
    log: list[tuple[str, Load]] = []
    targets = [Bearer(name, log, Tally(rate=1.0)) for name in "abc"]

    tallies = take_turns(Options(folder=tmp_path, rounds=2), targets, several=("b",))

    borne = {load.connections for name, load in log if name == "b"}
    assert borne == {connections for _, connections in CASES} - {1}
    assert set(tallies) == {
        (name, *case) for name in "abc" for case in CASES if name != "b" or case[1] > 1
    }


def test_target_that_cannot_be_filled_is_not_measured(tmp_path):
    broken = Bearer("b", [], Tally(failures=1, first_failure="HTTP/1.1 500"))

    with pytest.raises(ProcessFailed, match="500"):
        take_turns(Options(folder=tmp_path), [broken])


def test_share_is_of_the_rates_of_each_round():
    ours = [Tally(rate=50.0), Tally(rate=300.0), Tally(rate=90.0)]
    theirs = [Tally(rate=100.0), Tally(rate=100.0), Tally(rate=100.0)]

    share = share_of("f", ours, theirs, Bar(0.9, at_most=False))

    assert (share.value, share.rounds) == (0.9, (0.5, 3.0, 0.9))
    assert share.standing == "holds"


@pytest.mark.parametrize("whose", ["ours", "theirs"])
def test_wrong_answer_of_either_side_fails_the_share(whose):
    tallies = {"ours": [Tally(rate=9.0)], "theirs": [Tally(rate=1.0)]}
    tallies[whose].append(Tally(rate=9.0, failures=2, first_failure="HTTP/1.1 503"))
    tallies["theirs" if whose == "ours" else "ours"].append(Tally(rate=9.0))

    share = share_of("f", tallies["ours"], tallies["theirs"], None)

    assert (share.standing, share.failures) == ("failed", 2)
    assert "503" in share.detail


def test_share_of_nothing_is_unknown():
    nothing = Tally(failures=1, first_failure="refused")

    with pytest.raises(ProcessFailed, match="refused"):
        share_of("f", [Tally(rate=1.0)], [nothing], None)
