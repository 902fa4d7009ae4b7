"""Processes of etcd that are ours: what is kept of them, and that none is left behind.

Where etcd is not installed the tests of what is kept run all the same.
"""

import base64
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from backends import local, local_program, local_state
from backends.local import (
    ClusterDamaged,
    ClusterMismatch,
    EtcdMissing,
    FolderInUse,
    LocalFailed,
    LocalMembers,
    WrongState,
)
from backends.local_program import installed, is_grave, plain
from models import NodeNotFound
from processes.keeper import Keeper
from processes.server import ROOT, Server

SECONDS_MAX = 30.0
LIMITS = {"quota_bytes": 64 << 20, "request_bytes": 2 << 20}


def is_installed():
    try:
        return bool(installed())
    except EtcdMissing:
        return False


def with_etcd(test):
    """Mark a test that runs real members."""
    reason = "etcd is not installed: apt-get install etcd-server"
    test = pytest.mark.skipif(not is_installed(), reason=reason)(test)
    return pytest.mark.slow(pytest.mark.e2e(test))


def wait_until(look):
    """What `look` finds, once it finds something."""
    deadline = time.monotonic() + SECONDS_MAX
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{look} finds nothing")


def text64(text):
    return base64.b64encode(text.encode()).decode()


def call(url, path, **body):
    """What a member answers to this, None if it does not or says no."""
    request = urllib.request.Request(url + path, json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=2) as answer:
            return json.load(answer)
    except (OSError, ValueError):
        return None


def put(url, key, value):
    return call(url, "/v3/kv/put", key=text64(key), value=text64(value))


def get(url, key):
    answer = call(url, "/v3/kv/range", key=text64(key))
    return answer and [
        base64.b64decode(each["value"]).decode() for each in answer.get("kvs", ())
    ]


def is_alive(pid):
    """True if it runs; one that ended and was not waited for yet does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text("utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def pids_of(members):
    return [each.pid for each in members.members if each.pid]


def states_of(members):
    return [each.state for each in members.members]


def in_a_short_thread(job):
    thread = threading.Thread(target=job)
    thread.start()
    thread.join(SECONDS_MAX)
    assert not thread.is_alive()


@pytest.fixture
def opened(tmp_path):
    """Open the members of a folder, and close them after the test."""
    everything = []

    def open_members(count=1, name="etcd"):
        members = LocalMembers(tmp_path / "data" / name, count, **LIMITS)
        everything.append(members)
        return members

    yield open_members
    for members in everything:
        members.close()


@pytest.fixture
def pretended(monkeypatch):
    """A program that is there, for tests that start nothing."""
    monkeypatch.setattr("shutil.which", lambda _name: "/bin/false")


@pytest.fixture
def saved(tmp_path):
    """What is saved, as it was written."""
    path = tmp_path / "data" / "etcd" / local_state.STATE
    return lambda: json.loads(path.read_text("utf-8"))


# --- What is kept ------------------------------------------------------------------------


def test_missing_etcd_is_one_line_and_leaves_no_folder(tmp_path, opened, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda _name: None)

    with pytest.raises(EtcdMissing, match="apt-get install etcd-server") as raised:
        opened()

    assert "\n" not in str(raised.value)
    assert "--etcd-endpoints" in str(raised.value)
    assert not (tmp_path / "data").exists()


def test_members_listen_where_no_connection_is_given_a_port(opened, pretended):
    members = opened(7).members

    urls = [url for each in members for url in (each.client_url, each.peer_url)]
    ports = {int(url.rpartition(":")[2]) for url in urls}
    assert len(ports) == 14
    assert ports <= set(range(20_000, 32_000))
    assert all(url.startswith("http://127.0.0.1:") for url in urls)


def test_port_that_is_taken_is_not_given(monkeypatch):
    monkeypatch.setattr(local_state, "PORTS", range(20_000, 20_200))

    given = {local_state.free_port(range(20_000, 20_190)) for _ in range(20)}

    assert given <= set(range(20_190, 20_200))


def test_ports_ids_and_token_are_the_same_after_a_restart(opened, pretended, saved):
    first = opened(3)
    members, before = first.members, saved()
    first.close()

    assert opened(3).members == members
    assert saved() == before


def test_two_clusters_do_not_share_a_token(opened, pretended, tmp_path):
    folders = [opened(1, name)._folder for name in ("one", "two")]

    tokens = {json.loads((f / "cluster.json").read_text())["token"] for f in folders}

    assert len(tokens) == 2


def test_id_of_a_forgotten_member_is_never_given_again(opened, pretended):
    first = opened(3)
    assert first.add().node_id == 3
    first.forget(3)
    first.close()

    added = opened(3).add()

    assert (added.node_id, added.name, added.state) == (4, "node-4", "new")
    assert added.pid is None


def test_count_may_be_that_of_the_beginning_or_that_of_today_and_no_other(
    opened, pretended, saved
):
    first = opened(3)
    first.add()
    first.close()
    before = saved()

    with pytest.raises(ClusterMismatch) as raised:
        opened(5)

    assert "4 members (it began with 3) and 5 were asked for" in str(raised.value)
    assert "--local-members 4" in str(raised.value)
    assert saved() == before
    for count in (3, 4):
        members = opened(count)
        assert len(members.members) == 4
        members.close()


def test_folder_that_is_served_is_refused_and_left_alone(
    opened, pretended, saved, monkeypatch
):
    monkeypatch.setattr(local_state, "LOCK_SECONDS_MAX", 0.0)
    first = opened(3)
    before = saved()

    with pytest.raises(FolderInUse, match=rf"id {os.getpid()}.* --data-dir"):
        opened(3)

    assert saved() == before
    first.close()
    opened(3)


def test_refused_count_does_not_keep_the_folder(opened, pretended):
    opened(3).close()

    for _ in range(2):
        with pytest.raises(ClusterMismatch):
            opened(5)

    assert len(opened(3).members) == 3


@pytest.mark.parametrize(
    "text", ["", "{", '{"format": 2}', '{"members": []}', "\xff", '{"more": 1}']
)
def test_damaged_file_is_said_and_not_replaced(opened, pretended, tmp_path, text):
    opened(3).close()
    path = tmp_path / "data" / "etcd" / local_state.STATE
    path.write_text(text, "latin-1")

    with pytest.raises(ClusterDamaged, match="restore it from a backup"):
        opened(3)

    assert path.read_text("latin-1") == text


def test_data_without_their_file_are_not_taken_for_those_of_a_new_cluster(
    opened, pretended, tmp_path
):
    opened(3).close()
    folder = tmp_path / "data" / "etcd"
    (folder / "node-1").mkdir()
    (folder / local_state.STATE).unlink()

    with pytest.raises(ClusterDamaged, match=r"no cluster\.json"):
        opened(3)

    assert (folder / "node-1").is_dir()


def test_folder_that_cannot_be_made_is_one_line(tmp_path, opened, pretended):
    (tmp_path / "data").write_text("a file")

    with pytest.raises(LocalFailed, match=r"cannot use .*etcd") as raised:
        opened()

    assert "\n" not in str(raised.value)


def test_failed_save_changes_nothing(opened, pretended, saved, monkeypatch):
    members = opened(3)
    before = saved(), members.members

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(local_state, "flush", full)
    monkeypatch.setattr("os.fsync", full)
    for change in (members.add, members.start, lambda: members.wipe(1)):
        with pytest.raises(OSError, match="no space"):
            change()

    assert (saved(), members.members) == before


def test_crash_in_a_wipe_leaves_no_half_of_the_data(
    opened, pretended, tmp_path, monkeypatch
):
    first = opened(3)
    data = tmp_path / "data" / "etcd" / "node-1" / "member"
    data.mkdir(parents=True)

    def crash(_path):
        raise OSError("crash")

    with monkeypatch.context() as patched:
        patched.setattr("shutil.rmtree", crash)
        with pytest.raises(OSError, match="crash"):
            first.wipe(1)
    first.close()

    assert states_of(opened(3)) == ["new", "wiped", "new"]
    assert not data.parent.exists()


def test_unknown_node_is_said_with_those_that_are_known(opened, pretended):
    members = opened(2)

    for call_it in (members.launch, members.kill, members.wipe, members.forget):
        with pytest.raises(NodeNotFound, match=r"node_id=7, nodes: 0, 1"):
            call_it(7)


def test_member_that_does_not_run_is_neither_paused_nor_resumed(
    opened, pretended, saved
):
    members = opened(2)
    before = saved()

    for call_it in (members.pause, members.resume):
        with pytest.raises(WrongState, match="launch it first"):
            call_it(1)

    assert saved() == before


def test_member_without_data_is_not_launched_into_no_cluster(opened, pretended):
    members = opened(3)
    members.wipe(1)

    for node_id in (1, members.add().node_id):
        with pytest.raises(WrongState, match="it has to join the cluster again"):
            members.launch(node_id)
        with pytest.raises(ValueError, match="without itself"):
            members.launch(node_id, [("node-0", "http://127.0.0.1:20000")])

    assert states_of(members) == ["new", "wiped", "new", "new"]


def test_data_are_not_given_up_by_a_new_beginning_that_nobody_wiped_for(
    opened, pretended, saved
):
    members = opened(2)
    members.start()
    before = saved()
    cluster = [(each.name, each.peer_url) for each in members.members]

    with pytest.raises(WrongState, match="wipe it first"):
        members.launch(1, cluster)

    assert saved() == before


def test_closed_members_are_closed_once_and_do_nothing_more(opened, pretended):
    members = opened(1)

    members.close()
    members.close()

    for call_it in (members.start, members.add, lambda: members.launch(0)):
        with pytest.raises(WrongState, match="closed"):
            call_it()


def test_last_words_are_the_reason_and_not_a_line_for_machines():
    fatal = '{"level":"fatal","msg":"discovery failed","error":"in use","ts":1}'

    assert is_grave(fatal)
    assert is_grave("panic: runtime error")
    assert not is_grave('{"level":"warn","msg":"slow"}')
    assert plain(fatal) == "discovery failed: in use"
    for line in ("not JSON", "[1]", "7", '{"level":"warn"}'):
        assert plain(line) == line


# --- The keeper --------------------------------------------------------------------------


def test_keeper_does_all_in_one_thread_and_hands_on_what_went_wrong():
    keeper = Keeper("a keeper", lambda: None, 60.0)
    keeper.start()
    threads = []

    for _ in range(3):
        in_a_short_thread(lambda: threads.append(keeper.do(threading.current_thread)))
    with pytest.raises(ZeroDivisionError):
        keeper.do(lambda: 1 / 0)

    assert keeper.do(lambda: "goes on") == "goes on"
    assert threads == [keeper] * 3
    keeper.finish()
    assert not keeper.is_alive()


def test_keeper_that_has_nothing_to_do_looks_after_things():
    looked = threading.Event()
    keeper = Keeper("a keeper", looked.set, 0.001)
    keeper.start()

    assert looked.wait(SECONDS_MAX)
    keeper.finish()


def test_upkeep_that_fails_does_not_end_the_thread_that_the_members_live_by():
    looks = []
    again = threading.Event()

    def fail():
        looks.append(1)
        if len(looks) > 1:
            again.set()
        raise OSError("the disk is full")

    keeper = Keeper("a keeper", fail, 0.001)
    keeper.start()

    assert again.wait(SECONDS_MAX)
    assert keeper.do(lambda: "goes on") == "goes on"
    keeper.finish()


def test_keeper_that_has_ended_refuses_what_it_will_never_do():
    keeper = Keeper("a keeper", lambda: None, 60.0)
    caught = []

    def ask():
        try:
            keeper.do(lambda: None)
        except RuntimeError as error:
            caught.append(str(error))

    in_a_short_thread(ask)  # or it would have waited for ever
    keeper.start()
    keeper.finish()
    in_a_short_thread(ask)

    assert caught == ["a keeper has ended"] * 2


def test_id_of_a_member_is_not_below_what_others_were_given(opened, pretended):
    members = opened(3)

    assert [members.add(n).node_id for n in (0, 7, 5)] == [3, 7, 8]


# --- Processes that are no etcd ----------------------------------------------------------


@pytest.mark.slow
@pytest.mark.e2e
def test_member_that_cannot_run_says_why(opened, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda _name: "/nowhere/etcd")
    members = opened(1)

    members.start()

    died = wait_until(members.died)
    assert "cannot run /nowhere/etcd" in died[0]
    assert members.last_words(0) == died[0]


@pytest.mark.slow
@pytest.mark.e2e
def test_log_is_gone_on_with_and_does_not_grow_for_ever(tmp_path):
    log = tmp_path / "x.log"
    log.write_text("what was before\n" * 10)
    program = "import sys; sys.stdout.write(sys.stdin.read() + 'said\\n')"

    for _ in range(2):
        server = Server(
            [sys.executable, "-c", program], log, log_bytes_max=log.stat().st_size
        )
        server.launch()
        wait_until(lambda server=server: server.status is not None)
        assert server.said() == "said\n"
    assert log.read_text().splitlines()[-3:] == ["what was before", "said", "said"]

    Server(["true"], log, log_bytes_max=20).cut_log()
    assert log.read_text() == ""


@pytest.fixture
def play(tmp_path, monkeypatch):
    """Let a script of the shell be what is started."""

    def write(script):
        program = tmp_path / "etcd"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o700)
        monkeypatch.setattr("shutil.which", lambda _name: str(program))

    return write


@pytest.mark.slow
@pytest.mark.e2e
def test_members_that_do_not_listen_to_a_close_are_ended_all_the_same(opened, play):
    play("trap '' TERM\necho ready\nwhile :; do sleep 60; done")
    members = opened(4)
    members.start()
    for node_id in range(4):
        wait_until(lambda n=node_id: members.last_words(n) == "ready")
    pids = pids_of(members)

    began = time.monotonic()
    members.close()

    assert time.monotonic() - began < 3
    assert len(pids) == 4
    assert not any(is_alive(pid) for pid in pids)


@pytest.mark.slow
@pytest.mark.e2e
def test_calls_of_many_threads_leave_each_member_as_it_is_said_to_be(opened, play):
    play("exec sleep 60")
    members = opened(3)
    members.start()
    seen, wrong = set(pids_of(members)), []

    def operate(chance):
        calls = (members.launch, members.kill, members.pause, members.resume)
        for _ in range(25):
            try:
                seen.add(chance.choice(calls)(chance.randrange(3)).pid)
                members.died()
            except WrongState:
                pass
            except Exception as error:
                wrong.append(error)

    threads = [
        threading.Thread(target=operate, args=[random.Random(seed)])
        for seed in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS_MAX)

    assert wrong == []
    assert members.died() == {}
    living = {pid for pid in seen if pid and is_alive(pid)}
    assert living == set(pids_of(members))
    for each in members.members:
        assert bool(each.pid) == (each.state in ("running", "paused"))
    members.close()
    assert not any(is_alive(pid) for pid in living)
    assert members.died() == {}  # they were ended


# --- etcd --------------------------------------------------------------------------------


@with_etcd
def test_three_members_form_a_cluster_that_keeps_what_a_killed_one_missed(opened):
    members = opened(3)
    members.start()
    urls = members.client_urls

    wait_until(lambda: put(urls[0], "a", "1"))
    killed = members.kill(2)
    assert (killed.state, killed.pid) == ("stopped", None)
    wait_until(lambda: put(urls[0], "b", "2"))
    assert get(urls[2], "a") is None
    assert members.died() == {}
    assert members.launch(2).state == "running"

    assert wait_until(lambda: get(urls[2], "a")) == ["1"]
    assert get(urls[2], "b") == ["2"]
    assert members.launch(2) == members.members[2]  # it runs already


@with_etcd
def test_paused_member_stands_still_and_goes_on_with_the_same_process(opened):
    members = opened(3)
    members.start()
    urls = members.client_urls
    wait_until(lambda: put(urls[1], "a", "1") and get(urls[0], "a"))
    before = members.members[1]

    paused = members.pause(1)

    assert (paused.state, paused.pid) == ("paused", before.pid)
    assert get(urls[1], "a") is None  # connected to, and silent
    assert members.died() == {}
    with pytest.raises(WrongState, match="resume it"):
        members.launch(1)
    assert members.resume(1) == before
    assert wait_until(lambda: get(urls[1], "a")) == ["1"]


@with_etcd
def test_wiped_member_has_no_data_and_joins_again_as_another_one(opened, tmp_path):
    members = opened(3)
    members.start()
    url = members.client_urls[0]
    wait_until(lambda: put(url, "a", "1"))
    data = tmp_path / "data" / "etcd" / "node-2"
    assert data.exists()

    wiped = members.wipe(2)

    assert (wiped.state, wiped.pid) == ("wiped", None)
    assert not data.exists()
    join(members, url, wiped)
    assert wait_until(lambda: get(wiped.client_url, "a")) == ["1"]
    assert states_of(members) == ["running"] * 3
    members.close()

    again = opened(3)  # what it began with is kept, and in no one's way
    again.start()
    assert wait_until(lambda: get(wiped.client_url, "a")) == ["1"]


@with_etcd
def test_added_member_takes_part_and_a_forgotten_one_leaves_nothing(opened, tmp_path):
    members = opened(1)
    members.start()
    url = members.client_urls[0]
    wait_until(lambda: put(url, "a", "1"))

    added = members.add()
    join(members, url, added)

    assert wait_until(lambda: get(added.client_url, "a")) == ["1"]
    pid = members.members[1].pid
    members.forget(1)
    assert not is_alive(pid)
    assert len(members.members) == 1
    assert not list((tmp_path / "data" / "etcd").glob("node-1*"))


@with_etcd
def test_majority_without_its_data_is_gone_on_without_when_that_is_accepted(opened):
    members = opened(3)
    members.start()
    urls = members.client_urls
    for url in urls.values():
        wait_until(lambda url=url: put(url, "a", "1"))
    members.wipe(0)
    members.wipe(2)

    taken = members.take_for_truth(1)

    assert wait_until(lambda: get(taken.client_url, "a")) == ["1"]
    assert states_of(members) == ["wiped", "running", "wiped"]
    for each in (members.members[0], members.members[2]):
        join(members, taken.client_url, each)
        assert wait_until(lambda url=each.client_url: get(url, "a")) == ["1"]
    members.kill(1)
    members.launch(1)  # who joined since is not thrown out by that
    assert wait_until(lambda: get(urls[1], "a")) == ["1"]
    assert len(call(urls[1], "/v3/cluster/member/list")["members"]) == 3
    members.close()
    again = opened(3)
    again.start()
    assert wait_until(lambda: get(urls[0], "a")) == ["1"]


@with_etcd
def test_cluster_without_any_data_begins_anew_when_that_is_accepted(opened, saved):
    members = opened(3)
    members.start()
    wait_until(lambda: put(members.client_urls[0], "a", "1"))
    before = saved()["token"]
    for node_id in range(3):
        members.wipe(node_id)

    taken = members.take_for_truth(1)

    wait_until(lambda: put(taken.client_url, "b", "2"))
    assert get(taken.client_url, "a") == []
    assert saved()["token"] != before
    assert states_of(members) == ["wiped", "running", "wiped"]
    join(members, taken.client_url, members.members[0])
    assert wait_until(lambda: get(members.client_urls[0], "b")) == ["2"]


def test_copy_that_is_taken_for_the_truth_is_kept_and_no_other(
    opened, pretended, tmp_path
):
    members = opened(3)
    members.start()
    folders = [tmp_path / "data" / "etcd" / f"node-{n}" for n in range(3)]
    for folder in folders:
        folder.mkdir()

    members.take_for_truth(2)

    assert [folder.exists() for folder in folders] == [False, False, True]
    with pytest.raises(NodeNotFound):
        members.take_for_truth(3)


def join(members, url, member):
    """Let the cluster take a member in, instead of the one that had its place."""
    wait_until(lambda: not remove(url, member.peer_url))
    answer = wait_until(
        lambda: call(url, "/v3/cluster/member/add", peerURLs=[member.peer_url])
    )
    cluster = [
        (each.get("name") or member.name, each["peerURLs"][0])
        for each in answer["members"]
    ]
    members.launch(member.node_id, cluster)


def remove(url, peer_url):
    """Who is at this URL in the cluster; it is asked to let them go."""
    listed = call(url, "/v3/cluster/member/list")["members"]
    found = [each["ID"] for each in listed if each["peerURLs"] == [peer_url]]
    for each in found:  # what is asked while there is no leader is lost
        call(url, "/v3/cluster/member/remove", ID=each)
    return found


@with_etcd
def test_restart_brings_back_what_ran_and_leaves_down_what_was_taken_down(opened):
    first = opened(5)
    first.start()
    wait_until(lambda: put(first.client_urls[0], "a", "1"))
    urls = first.client_urls
    first.kill(1)
    first.pause(2)
    pids = pids_of(first)
    first.close()
    assert not any(is_alive(pid) for pid in pids)

    again = opened(5)
    again.start()

    running = ["running", "stopped", "stopped", "running", "running"]
    assert states_of(again) == running  # a pause is lost with its process: it failed
    assert [bool(each.pid) for each in again.members] == [
        state == "running" for state in running
    ]
    assert again.client_urls == urls
    assert wait_until(lambda: get(urls[0], "a")) == ["1"]


@with_etcd
def test_member_that_ends_by_itself_is_told_with_its_last_words(opened):
    members = opened(1)
    members.start()
    url = members.client_urls[0]
    wait_until(lambda: put(url, "a", "1"))

    os.kill(members.members[0].pid, signal.SIGKILL)

    (told,) = wait_until(members.died).values()
    assert told.startswith("ended by signal 9")
    assert members.members[0].state == "running"  # it should
    members.launch(0)
    assert wait_until(lambda: get(url, "a")) == ["1"]
    assert members.died() == {}


@with_etcd
def test_port_that_somebody_took_is_what_a_member_died_of(opened):
    members = opened(1)
    port = int(members.client_urls[0].rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)):
        members.start()

        died = wait_until(members.died)

    assert "address already in use" in died[0]
    assert "\n" not in died[0]


@with_etcd
def test_crash_before_the_first_launch_is_harmless(opened, monkeypatch):
    first = opened(3)
    launched = []

    def crash(server):
        launched.append(server)
        if len(launched) > 1:
            raise OSError("crash")

    with monkeypatch.context() as patched:
        patched.setattr(Server, "launch", crash)
        with pytest.raises(OSError, match="crash"):
            first.start()
    assert states_of(first) == ["running", "running", "new"]
    first.close()

    again = opened(3)
    again.start()

    assert wait_until(lambda: put(again.client_urls[2], "a", "1"))


@with_etcd
def test_crash_before_the_launch_of_one_that_joins_is_harmless(opened, monkeypatch):
    first = opened(1)
    first.start()
    url = first.client_urls[0]
    wait_until(lambda: put(url, "a", "1"))
    added = first.add()
    with monkeypatch.context() as patched:
        patched.setattr(Server, "launch", lambda _server: None)
        join(first, url, added)
    first.close()

    again = opened(2)
    again.start()

    def look():
        for node_id in again.died():  # it asks the other one, which may not listen yet
            again.launch(node_id)
        return get(added.client_url, "a")

    assert wait_until(look) == ["1"]


@with_etcd
def test_log_of_a_member_that_runs_for_long_does_not_fill_the_disk(
    opened, monkeypatch, tmp_path
):
    monkeypatch.setattr(local_program, "LOG_BYTES_MAX", 1000)
    monkeypatch.setattr(local, "LOG_LOOK_SECONDS", 0.05)
    log = tmp_path / "data" / "etcd" / "node-0.log"
    members = opened(2)
    members.start()
    wait_until(lambda: put(members.client_urls[0], "a", "1"))

    members.kill(1)  # which the other one complains about

    sizes = [0]

    def is_cut():
        sizes.append(log.stat().st_size)
        return sizes[-1] < max(sizes)

    wait_until(is_cut)


@with_etcd
def test_settings_of_another_etcd_do_not_reach_a_member(opened, monkeypatch):
    monkeypatch.setenv("ETCD_INITIAL_CLUSTER_STATE", "existing")
    monkeypatch.setenv("KV_API_TOKEN", "secret")
    monkeypatch.setenv("ETCD_UNSUPPORTED_ARCH", "arm64")
    members = opened(1)
    members.start()
    wait_until(lambda: put(members.client_urls[0], "a", "1"))

    environment = Path(f"/proc/{members.members[0].pid}/environ").read_bytes()

    names = {each.partition(b"=")[0].decode() for each in environment.split(b"\0")}
    assert {n for n in names if n.startswith(("ETCD_", "KV_"))} == {
        "ETCD_UNSUPPORTED_ARCH"
    }


@with_etcd
@pytest.mark.parametrize("ready", [True, False])
def test_close_is_quick_and_leaves_no_process(opened, ready):
    members = opened(3)
    members.start()
    if ready:  # they have a leader, which would like to hand over its lead
        for url in members.client_urls.values():
            wait_until(lambda url=url: get(url, "a") is not None)
        members.pause(1)
    pids = pids_of(members)
    assert len(pids) == 3

    began = time.monotonic()
    members.close()

    assert time.monotonic() - began < 3
    assert not any(is_alive(pid) for pid in pids)
    assert "kv-etcd-keeper" not in {each.name for each in threading.enumerate()}


# --- The leash ---------------------------------------------------------------------------

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="no leash elsewhere")


@on_linux
@with_etcd
def test_member_does_not_end_with_the_thread_that_launched_it(opened):
    members = opened(1)
    url = members.client_urls[0]

    def relaunch():  # and wait until it is on the leash
        members.kill(0)
        members.launch(0)
        wait_until(lambda: put(url, "a", "1"))

    members.start()
    in_a_short_thread(relaunch)
    time.sleep(0.5)  # the signal would be there by now

    assert members.died() == {}
    assert is_alive(members.members[0].pid)
    assert get(url, "a") == ["1"]


PARENT = """
import sys, threading, time
from pathlib import Path
from backends.local import LocalMembers
members = LocalMembers(Path(sys.argv[1]), 3, quota_bytes=1 << 26, request_bytes=1 << 20)
members.start()
members.kill(2)
thread = threading.Thread(target=members.launch, args=[2])
thread.start()
thread.join()
if sys.argv[2] == "paused":
    time.sleep(1)  # it is etcd by now
    members.pause(1)
print(*(each.pid for each in members.members), flush=True)
time.sleep(60)
"""


@on_linux
@with_etcd
@pytest.mark.parametrize("how", ["running", "paused"])
def test_no_member_outlives_a_process_that_is_killed(opened, tmp_path, how):
    folder = tmp_path / "data" / "etcd"
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(folder), how],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    pids = []
    try:
        assert parent.stdout
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 3
        assert all(is_alive(pid) for pid in pids)

        parent.kill()
        members = opened(3)  # waits until they are gone

        wait_until(lambda: not any(is_alive(pid) for pid in pids))
        members.start()
        assert wait_until(lambda: put(members.client_urls[0], "a", "1"))
        assert members.died() == {}
    finally:
        parent.kill()
        parent.communicate()
        for pid in pids:  # where the test failed
            with suppress(OSError):
                if str(folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)
