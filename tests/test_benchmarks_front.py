"""What a front is measured by: that it and the gateway beside it do the same work.

No etcd is needed here; tests/e2e/test_bench.py runs a real one.
"""

import json
from base64 import b64decode

import pytest

from backends.endpoints import Endpoints
from backends.gateway import Security
from backends.keys import Keys
from backends.messages import Header, PutAnswer
from backends.watch import Quota
from benchmarks import front
from benchmarks.dialects import DIALECTS, FRONT_PREFIX, VALUE, key_of
from benchmarks.etcd import EtcdCluster, name_of
from benchmarks.front import BARS, COMPARISONS, MEMBERS, ONE, TWO, Fronts, title_of
from benchmarks.load import Load, Tally
from benchmarks.options import Options
from benchmarks.service import Service
from models import Intent

KEY = key_of(7)
ROUNDS = 3


def test_gateway_is_sent_the_very_put_that_a_front_sends(monkeypatch):
    sent = []

    def change(_endpoints, path, message, shape):
        sent.append((path, message))
        return PutAnswer(Header())

    monkeypatch.setattr(Endpoints, "change", change)
    nobody = Endpoints((), Security(), 1.0)
    prefix, quota = FRONT_PREFIX.encode(), Quota()
    keys = Keys(nobody, prefix, quota, grace_seconds=0, seconds=1.0)

    keys.change(Intent(KEY, json.dumps(VALUE).encode()))

    head, _, body = DIALECTS["front"].write(KEY).request.partition(b"\r\n\r\n")
    ((path, put),) = sent
    assert head.startswith(f"POST {path} ".encode())
    assert {name: b64decode(text) for name, text in json.loads(body).items()} == {
        "key": put.key,
        "value": put.value,
    }


def test_gateway_has_to_answer_a_read_with_what_a_front_wrote():
    put, ranged = DIALECTS["front"].write(KEY), DIALECTS["front"].read(KEY)
    written = json.loads(put.request.partition(b"\r\n\r\n")[2])
    ok = b"HTTP/1.1 200 OK"

    assert ranged.is_right(ok, json.dumps(written).encode())
    assert not ranged.is_right(ok, DIALECTS["etcd"].write(KEY).request)


@pytest.mark.parametrize("count", [1, 2])
def test_load_goes_to_every_front_and_is_audited_where_the_keys_are(
    count, tmp_path, monkeypatch
):
    seen: list[Load] = []
    cluster = EtcdCluster("etcd", MEMBERS, tmp_path)
    monkeypatch.setattr(cluster, "bear_behind", seen.append)
    services = [Service(str(n), [], "", tmp_path) for n in range(count)]
    for number, service in enumerate(services):
        service.port = 5000 + number

    Fronts("some", services, cluster).bear(Load("write", 16, 1.0))

    assert [load.ports for load in seen] == [tuple(range(5000, 5000 + count))]


# --- Figures -----------------------------------------------------------------------------


def test_one_front_has_to_reach_half_of_the_gateway_and_two_are_only_shown():
    bars = {title_of(each): bar and bar.text("×") for each, bar in BARS.items()}

    assert bars == {
        "/write, 1 connection, one front": "at least 0.5 ×",
        "/write, 16 connections, one front": "at least 0.5 ×",
        "/read, 1 connection, one front": "at least 0.5 ×",
        "/read, 16 connections, one front": "at least 0.5 ×",
        "/write, 16 connections, two fronts": None,
        "/read, 16 connections, two fronts": None,
    }


def test_figures_are_the_share_of_the_gateway():
    rates = {name_of(MEMBERS): 100.0, ONE: 60.0, TWO: 90.0}
    tallies = {
        (name, operation, connections): [Tally(rate=rate)] * ROUNDS
        for name, rate in rates.items()
        for operation, connections, _ in COMPARISONS
    }

    figures = front.figures_of(tallies, "3.4.23")

    assert {each.name: each.value for each in figures} == {
        title_of(each): {ONE: 0.6, TWO: 0.9}[each[2]] for each in COMPARISONS
    }
    assert {each.standing for each in figures} == {"holds", ""}
    assert {each.extra["etcd"] for each in figures} == {"3.4.23"}


def test_every_line_stays_where_etcd_is_not_installed(monkeypatch, tmp_path):
    monkeypatch.setattr(front, "program", lambda: None)

    figures = front.measure_front(Options(folder=tmp_path))

    assert [each.name for each in figures] == list(map(title_of, COMPARISONS))
    assert {each.standing for each in figures} == {"not measured"}
    assert [each.bar for each in figures] == list(BARS.values())
    assert list(tmp_path.iterdir()) == []  # nothing was started
