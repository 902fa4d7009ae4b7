"""The exit status of each client command: what its help promises is what it does."""

import json
import re

import click
import pytest

from console.catalogue import CLIENT
from console.cli import Commands
from console.command import ClientCommand
from console.exits import Exit
from tests.console.in_process import Store
from tests.console.test_commands import problem, refused_connection

ARGUMENTS = {
    "watch": ["--count", "1", "--interval", "0.05"],
    "put": ["k", "1"],
    "get": ["k"],
    "del": ["k"],
    "where": ["k"],
    "fail": ["0"],
    "recover": ["0"],
    "remove-node": ["0"],
    "backup": ["FILE", "--force", "--patience", "0"],
    "restore": ["FILE", "--patience", "0"],
}
NAMES = [
    name
    for name in CLIENT
    if isinstance(
        Commands("x").get_command(click.Context(Commands("x")), name), ClientCommand
    )
]
OF_KEYS = {"put", "get", "del", "keys", "backup", "restore"}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in ("KV_URL", "KV_TOKEN", "KV_API_TOKEN", "KV_READ_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def opened(monkeypatch, capsys):
    made = []

    def open_one(**settings):
        made.append(Store(monkeypatch, capsys, **settings))
        return made[-1]

    yield open_one
    for store in made:
        store.close()


class Calls:
    """Calls commands with the arguments that they need; a backup is there to be restored."""

    def __init__(self, store, folder):
        self.store = store
        self._folder = folder
        assert store.run("backup", str(folder / "restore.kv")).status == 0

    def __call__(self, name, *more):
        file = str(self._folder / f"{name}.kv")
        given = [file if part == "FILE" else part for part in ARGUMENTS.get(name, ())]
        return self.store.run(name, *given, *more)


@pytest.fixture
def call(opened, tmp_path):
    return Calls(opened(), tmp_path)


def promised(store, name):
    """The exit statuses that the help of a command tells."""
    told = store.run(name, "--help").out.partition("Exit status:")[2]
    return {int(line.split()[0]) for line in told.splitlines() if line.strip()}


@pytest.mark.parametrize("name", NAMES)
def test_no_command_ends_with_a_status_that_its_help_does_not_tell(call, name):
    outcomes = [
        None,
        refused_connection(),
        problem(503, "unavailable", True),
        problem(504, "uncertain", False),
        problem(400, "invalid_request", True),
        problem(401, "unauthorized", True),
    ]
    if name in OF_KEYS | {"recover", "add-node", "remove-node"}:
        outcomes.append(problem(503, "data_lost", True))
    if name in ("put", "del"):
        outcomes.append(problem(412, "version_mismatch", True))

    ends = set()
    for outcome in outcomes:
        call.store.carrier.outcome = outcome
        ends.add(call(name).status)
    call.store.carrier.outcome = None
    ends.add(call(name, "--no-such-option").status)

    assert ends <= promised(call.store, name)
    never = promised(call.store, name) - ends - {Exit.NO, Exit.DONE}
    assert never == set(), "the help tells of a status with which it never ends"


@pytest.mark.parametrize("name", NAMES)
def test_status_for_no_is_promised_where_it_can_come_and_nowhere_else(call, name):
    says_no = {"status", "get", "del", "recover", "backup", "restore"}

    assert (Exit.NO in promised(call.store, name)) == (name in says_no)


def test_no_is_said_of_what_is_not_there_and_of_what_is_not_well(call, tmp_path):
    store = call.store
    store.lines("fail", "1")
    store.lines("put", "there", "1")
    store.lines("fail", "0")
    store.lines("fail", "2")
    damaged = tmp_path / "damaged.kv"
    damaged.write_text("{}\n")

    assert store.run("restore", str(damaged)).status == Exit.NO
    assert store.run("recover", "1").status == Exit.NO
    assert store.run("status").status == Exit.NO
    store.lines("recover", "0")
    store.lines("recover", "2")
    assert store.run("get", "none").status == Exit.NO
    assert store.run("del", "none").status == Exit.NO


@pytest.mark.parametrize("name", NAMES)
def test_lost_data_end_no_command_as_if_trying_again_would_help(call, name):
    call.store.carrier.outcome = problem(503, "data_lost", True)

    result = call(name)

    assert result.status == Exit.LOST
    assert "--accept-loss" in result.err
    assert "try again" not in result.err


def test_lost_data_are_told_whatever_the_words_of_the_answer(call):
    words = '{"accept_loss": true} would not help here'
    document = {"code": "unavailable", "detail": words, "definite": True}
    call.store.carrier.outcome = (503, json.dumps(document).encode())

    result = call("get")

    assert result.status == Exit.UNAVAILABLE
    assert "try again" in result.err


def test_backup_and_restore_do_not_wait_for_data_that_are_lost(opened, tmp_path):
    store = opened()
    file, none = tmp_path / "a.kv", tmp_path / "b.kv"
    store.lines("put", "k", "1")
    store.lines("backup", str(file))
    for node in ("0", "1", "2"):
        store.lines("fail", node, "--mode", "wipe")
    store.carrier.asked.clear()

    ends = [
        store.run("backup", str(none), "--patience", "2"),
        store.run("restore", str(file), "--patience", "2"),
        store.run("restore", str(file), "--resume", "--patience", "2"),
    ]

    assert [end.status for end in ends] == [Exit.LOST] * 3
    assert all("accept_loss" in end.err for end in ends)
    assert not none.exists()


def test_recovery_in_vain_is_told_from_one_that_waits(opened):
    store = opened(nodes=2)
    store.lines("fail", "0")
    store.lines("put", "k", "1")
    store.lines("fail", "1")
    waiting = store.run("recover", "0")
    store.lines("fail", "1", "--mode", "wipe")

    in_vain = store.run("recover", "1")
    accepted = store.run("recover", "0", "--accept-loss")

    assert (waiting.status, "waits for node 1" in waiting.out) == (Exit.NO, True)
    assert (in_vain.status, "waits" in in_vain.out) == (Exit.LOST, False)
    assert "the data of 1 shard are lost" in in_vain.out
    assert accepted.status == Exit.DONE


# --- Status and watch --------------------------------------------------------------------

HEAD = "3 nodes, 2 replicas of a key, primary-backup, ring: "


def heads(store):
    """The first lines of `status` and `watch`, and the status of the first."""
    status, watch = store.run("status"), store.run("watch", "--count", "1")
    assert watch.status == Exit.DONE
    first, second = status.out.splitlines()[0], watch.out.splitlines()[1]
    assert first == second
    return first.removeprefix(HEAD), status.status


def test_all_is_well_where_ready_is_all_that_is_said(opened):
    assert heads(opened()) == ("ready", Exit.DONE)


def test_node_that_is_down_is_named_beside_ready_and_the_status_is_1(opened):
    store = opened(nodes=3)
    store.lines("fail", "1")

    assert heads(store) == ("ready, node 1 down", Exit.NO)


def test_nodes_that_are_down_are_named_together(opened):
    store = opened(nodes=3, replication_factor=3)
    store.lines("fail", "1")
    store.lines("fail", "2")

    status = store.run("status")

    assert re.search("ring: ready, nodes 1 and 2 down$", status.out, re.M)
    assert status.status == Exit.NO


def test_nodes_that_wait_are_told_from_those_that_are_held_up_by_lost_data(opened):
    store = opened(nodes=2)
    store.lines("fail", "0")
    store.lines("put", "k", "1")
    store.lines("fail", "1")
    store.run("recover", "0")
    waiting = store.run("status")
    store.lines("fail", "1", "--mode", "wipe")
    lost = store.run("status")

    assert (waiting.status, lost.status) == (Exit.NO, Exit.NO)
    assert ": not ready, node 1 down, node 0 waiting\n" in waiting.out
    assert ": not ready, node 1 down, node 0 held up by lost data\n" in lost.out
    assert "--accept-loss" in lost.out


def test_whatever_is_not_well_is_said_in_the_first_line(opened, monkeypatch):
    store = opened()
    found = store.run("status", "--json").out
    document = json.loads(found)
    recovering, stale, in_trouble = document["nodes"]
    nodes = [
        {**recovering, "status": "recovering"},
        {**stale, "stale_keys": 3},
        {**in_trouble, "problem": "a bad disk"},
    ]
    told = {**document, "nodes": nodes}
    monkeypatch.setattr(
        "console.status.fetch", lambda _session: {**told, "well": False}
    )

    result = store.run("status")

    head = result.out.splitlines()[0]
    assert head == f"{HEAD}ready, node 0 recovering, node 1 stale, node 2 in trouble"
    assert result.status == Exit.NO
