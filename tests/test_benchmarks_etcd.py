"""What is said to etcd, what of its answers counts, and what is made of them.

No etcd is needed here; tests/e2e/test_bench.py runs a real one.
"""

import json
from base64 import b64decode
from pathlib import Path

import pytest

from backends.local_state import SavedCluster, SavedMember, client_url, peer_url
from backends.messages import Header, Status
from benchmarks import beside_etcd, etcd
from benchmarks.beside_etcd import BARS, COMPARISONS, STORAGE, figures_of, title_of
from benchmarks.dialects import DIALECTS, Etcd, Store, key_of
from benchmarks.etcd import EtcdCluster, audited, commands_of, name_of
from benchmarks.load import Load, Tally
from benchmarks.options import Options
from processes.server import ProcessFailed, environment

KEY = key_of(7)
OK = b"HTTP/1.1 200 OK"
REFUSED = b"HTTP/1.1 503 Service Unavailable"
HEADER = {"cluster_id": "1", "member_id": "2", "revision": "9", "raft_term": "2"}


def body_of(exchange):
    return json.loads(exchange.request.partition(b"\r\n\r\n")[2])


def answer_to_range(key, value):
    return {"header": HEADER, "kvs": [{"key": key, "value": value}], "count": "1"}


def text(answer):
    """JSON as etcd spells it."""
    return json.dumps(answer, separators=(",", ":")).encode()


# --- The dialect -------------------------------------------------------------------------


def test_etcd_is_sent_the_key_and_value_that_the_store_is_sent():
    put, ranged = body_of(Etcd().write(KEY)), body_of(Etcd().read(KEY))

    assert {name: b64decode(each).decode() for name, each in put.items()} == body_of(
        Store().write(KEY)
    )
    assert put["key"] == ranged["key"]
    assert "serializable" not in ranged  # so it is linearizable


@pytest.mark.parametrize("operation", ["write", "read"])
@pytest.mark.parametrize("name", DIALECTS)
def test_request_says_how_long_it_is(name, operation):
    exchange = getattr(DIALECTS[name], operation)(KEY)

    head, _, body = exchange.request.partition(b"\r\n\r\n")
    assert (f"Content-Length: {len(body)}".encode() in head) == bool(body)
    assert exchange.key == KEY


@pytest.mark.parametrize(
    ("head", "answer", "right"),
    [
        (OK, {"header": HEADER}, True),
        (REFUSED, {"header": HEADER}, False),
        (OK, {"error": "etcdserver: no leader", "code": 14}, False),
        (OK, {}, False),
    ],
)
def test_only_a_put_that_has_a_revision_is_right(head, answer, right):
    assert Etcd().write(KEY).is_right(head, text(answer)) == right


def test_only_a_range_with_the_key_and_the_value_is_right():
    ranged, put = Etcd().read(KEY), body_of(Etcd().write(KEY))
    other = body_of(Etcd().write(key_of(8)))
    whole = text(answer_to_range(put["key"], put["value"]))

    assert ranged.is_right(OK, whole)
    assert not ranged.is_right(REFUSED, whole)
    assert not ranged.is_right(OK, text(answer_to_range(other["key"], put["value"])))
    assert not ranged.is_right(OK, text(answer_to_range(put["key"], "b3RoZXI=")))
    assert not ranged.is_right(OK, text({"header": HEADER}))  # it was not found


def test_answers_of_etcd_are_parsed_for_their_key():
    parses, put = Etcd().parses, body_of(Etcd().write(KEY))

    assert parses(KEY, text({"header": HEADER}))
    assert parses(KEY, text(answer_to_range(put["key"], put["value"])))
    assert not parses(KEY, text(answer_to_range("b3RoZXI=", put["value"])))
    assert not parses(KEY, text({"header": {**HEADER, "revision": "0"}}))
    assert not parses(KEY, text({"error": "no leader"}))
    assert not parses(KEY, text(["revision"]))
    assert not parses(KEY, text({"header": HEADER})[:-1])


# --- Clusters ----------------------------------------------------------------------------


def saved(members):
    """A cluster of so many members: 0 answers clients at 1 and members at 11."""
    ports = {n: SavedMember(n + 1, n + 11) for n in range(members)}
    initial = tuple((f"member-{n}", peer_url(each)) for n, each in ports.items())
    founders = {n: SavedMember(n + 1, n + 11, initial=initial) for n in ports}
    return SavedCluster("token", members, members, founders)


def test_members_know_each_other_and_share_neither_port_nor_folder():
    commands = commands_of("etcd", Path("/data-1"), saved(3))

    flags = [dict(word.split("=", 1) for word in command[1:]) for command in commands]
    assert {each["--initial-cluster"] for each in flags} == {
        "member-0=http://127.0.0.1:11,member-1=http://127.0.0.1:12,"
        "member-2=http://127.0.0.1:13"
    }
    own = ["--name", "--data-dir", "--listen-client-urls", "--listen-peer-urls"]
    for name in own:
        assert len({each[name] for each in flags}) == 3


def test_nothing_that_etcd_syncs_is_switched_off_and_nothing_is_tuned():
    (command,) = commands_of("etcd", Path("/data-1"), saved(1))

    for word in command:
        assert not any(
            part in word for part in ("unsafe", "sync", "snapshot", "compact")
        )


LEADER = 2  # of `cluster`, by its port
PUTS = 40  # applied by `cluster` before a load


@pytest.fixture
def cluster(monkeypatch):
    """A cluster of three members, of which the second one leads."""
    made = EtcdCluster("etcd", 3, Path())
    ports = {client_url(each): n + 1 for n, each in saved(3).members.items()}
    monkeypatch.setattr(made, "_cluster", saved(3))
    monkeypatch.setattr(
        etcd,
        "status_of",
        lambda url: Status(Header(member_id=ports[url]), "3", leader=LEADER),
    )
    return made


def bear(bear_load, monkeypatch, operation="write", applied=0, **tally):
    """Let a load be borne that comes to this: the tally, and where it was sent."""
    seen = []
    counts = [PUTS, PUTS + applied]
    monkeypatch.setattr(etcd, "puts_at", lambda url: counts.pop(0))

    def drive(load):
        seen.append((load.ports, load.dialect))
        return Tally(**tally)

    monkeypatch.setattr(etcd, "drive", drive)
    return bear_load(Load(operation, 1, 1.0, ports=(77,))), seen


def test_load_goes_to_the_leader(cluster, monkeypatch):
    tally, seen = bear(cluster.bear, monkeypatch, "read", answers=7)

    assert seen == [((LEADER,), "etcd")]
    assert (tally.answers, tally.failures) == (7, 0)


def test_load_behind_somebody_goes_where_it_was_sent(cluster, monkeypatch):
    tally, seen = bear(cluster.bear_behind, monkeypatch, "read", answers=7)

    assert seen == [((77,), "store")]
    assert (tally.answers, tally.failures) == (7, 0)


@pytest.mark.parametrize("bears", ["bear", "bear_behind"])
@pytest.mark.parametrize(("applied", "failures"), [(7, 0), (8, 0), (6, 1), (0, 7)])
def test_acknowledged_put_that_was_not_applied_is_a_failure(
    cluster, monkeypatch, applied, failures, bears
):
    tally, _ = bear(getattr(cluster, bears), monkeypatch, applied=applied, answers=7)

    assert tally.failures == failures
    assert ("acknowledged" in tally.first_failure) == bool(failures)


def test_audit_keeps_what_went_wrong_first():
    tally = audited(Tally(answers=3, failures=1, first_failure="HTTP/1.1 503"), 2)

    assert (tally.failures, tally.first_failure) == (2, "HTTP/1.1 503")


def test_cluster_without_a_leader_cannot_be_measured(cluster, monkeypatch):
    monkeypatch.setattr(etcd, "status_of", lambda _: Status(Header(member_id=1)))

    with pytest.raises(ProcessFailed, match="no leader"):
        bear(cluster.bear, monkeypatch)


def test_member_that_is_not_there_cannot_be_measured():
    with pytest.raises(ProcessFailed, match="does not answer"):
        etcd.status_of("http://127.0.0.1:1")


def test_settings_of_stores_outside_do_not_reach_a_server(monkeypatch):
    for name in ("KV_NODES", "ETCD_UNSAFE_NO_FSYNC", "KEPT"):
        monkeypatch.setenv(name, "1")

    kept = environment()

    assert [name in kept for name in ("KV_NODES", "ETCD_UNSAFE_NO_FSYNC", "KEPT")] == [
        False,
        False,
        True,
    ]


# --- Figures -----------------------------------------------------------------------------


def tallies_of(ours, one, three):
    """Three rounds of each case, always at the same rates."""
    rates = {STORAGE: ours, name_of(1): one, name_of(3): three}
    return {
        (name, operation, connections): [Tally(rate=rate)] * 3
        for name, rate in rates.items()
        for operation, connections, _ in COMPARISONS
    }


def test_bars_are_those_of_the_design():
    bars = {title_of(each): bar.text("×") for each, bar in BARS.items()}

    assert bars == {
        "/write, 1 connection, one-member etcd": "at least 0.9 ×",
        "/write, 16 connections, three-member etcd": "at least 1 ×",
        "/write, 16 connections, one-member etcd": "stretch: at least 1 ×",
        "/read, 16 connections, one-member etcd": "at least 0.9 ×",
    }


def test_figures_are_our_share_of_each_cluster():
    figures = figures_of(tallies_of(90.0, 100.0, 50.0), "3.4.23")

    assert {each.name: each.value for each in figures} == {
        title_of(each): {1: 0.9, 3: 1.8}[each[2]] for each in COMPARISONS
    }
    assert {each.standing for each in figures} == {"holds", "not reached", ""}
    assert {each.extra["etcd"] for each in figures} == {"3.4.23"}


def test_every_line_stays_where_etcd_is_not_installed(monkeypatch, tmp_path):
    monkeypatch.setattr(beside_etcd, "program", lambda: None)

    figures = beside_etcd.measure_beside_etcd(Options(folder=tmp_path))

    assert [each.name for each in figures] == list(map(title_of, COMPARISONS))
    assert {each.standing for each in figures} == {"not measured"}
    assert [each.bar for each in figures] == list(map(BARS.get, COMPARISONS))
    assert all("apt-get install etcd-server" in each.detail for each in figures)
    assert list(tmp_path.iterdir()) == []  # nothing was started
