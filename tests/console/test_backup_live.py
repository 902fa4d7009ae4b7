"""`backup` and `restore` as processes, on real servers under load, killed and cut off."""

import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from msgspec import Raw

from client import Client, NoConnection, StoreError, Unavailable, Uncertain
from console.archive import ArchiveReader, ArchiveWriter, Entry, Header
from console.saving import Asker, Stopped, save
from tests.e2e.served import ROOT, Served, environment

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
SECONDS_MAX = 60


def call(*args, url=None, **options):
    """A command as a process of its own, not waited for."""
    where = [] if url is None else ["--url", url]
    return subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), *map(str, args), *where],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        **options,
    )


def run(*args, **options):
    """A command, to its end: the status and what it said."""
    process = call(*args, **options)
    out, err = process.communicate(timeout=SECONDS_MAX)
    return process.returncode, out + err


def entries_of(file):
    with file.open("rb") as source:
        return {entry.key: entry for entry in ArchiveReader(source)}


def records_of(client):
    found, after = [], ""
    while after is not None:
        page = json.loads(client.call("GET", "/records", after=after, limit=1000))
        found += page["records"]
        after = page["next"]
    return {record["key"]: record for record in found}


def fill(client, count):
    for first in range(0, count, 1000):
        numbers = range(first, min(first + 1000, count))
        client.batch(
            [{"op": "write", "key": f"key{n:06}", "value": {"n": n}} for n in numbers]
        )


def craft(file, count, version=1 << 70, padding=0):
    header = Header(
        made_at="", nodes=3, replication_factor=2, placement="ring", protocol=""
    )
    with file.open("wb") as out:
        writer = ArchiveWriter(out, header)
        for n in range(count):
            text = f"{version + n:020x}"
            writer.add(
                Entry(f"key{n:06}", text, Raw(b'{"n":%d%s}' % (n, b" " * padding)))
            )
        writer.finish()


class Load(threading.Thread):
    """A client that writes and deletes its own keys, and notes what was acknowledged."""

    def __init__(self, url, number, keys):
        super().__init__()
        self.state = {}  # key -> (version, value or None), as acknowledged
        self.maybe = {}  # key -> values of writes that may have happened
        self.stopping = threading.Event()
        self._client = Client(url)
        self._chance = random.Random(number)
        self._keys = [f"{number}/{key}" for key in range(keys)]

    def run(self):
        turn = 0
        while not self.stopping.is_set():
            turn += 1
            key = self._chance.choice(self._keys)
            value = turn if self._chance.random() < 0.8 else None
            try:
                self._ask(key, value)
            except Unavailable:
                pass
            except (Uncertain, NoConnection):
                self.maybe.setdefault(key, []).append(value)

    def _ask(self, key, value):
        if value is not None:
            self.state[key] = self._client.write(key, value).version, value
        elif self.state.get(key, (0, None))[1] is not None:
            self.state[key] = self._client.delete(key).version, None


class Faults(threading.Thread):
    """Takes one node after the other down and brings it back."""

    def __init__(self, url, nodes):
        super().__init__()
        self.rounds = 0
        self.stopping = threading.Event()
        self._client = Client(url)
        self._nodes = nodes

    def run(self):
        while not self.stopping.is_set():
            node = self.rounds % self._nodes
            self._client.fail(node, "wipe" if self.rounds % 4 == 3 else "stop")
            time.sleep(0.02)
            self._client.recover(node)
            self.rounds += 1


def assert_has(held, loads, before):
    """What was acknowledged `before` is held, or something later of that key."""
    for load in loads:
        for key, (version, value) in before[load].items():
            later, last = load.state[key]
            found = held.get(key)
            if found is not None:
                assert found.version >= version
                assert (
                    found.version > version or json.loads(bytes(found.value)) == value
                )
            elif value is not None:
                assert later > version or key in load.maybe, f"{key} is lost"
            if later == version and key not in load.maybe:
                assert (found is not None) is (last is not None), key


def test_backup_under_load_and_faults_has_all_that_was_acknowledged_in_any_shape(
    tmp_path,
):
    file = tmp_path / "busy.kv"
    with Served(tmp_path, "--storage", "memory") as source:
        client = Client(source.url)
        fill(client, 6000)
        for n in range(0, 6000, 60):
            client.delete(f"key{n:06}")
        loads = [Load(source.url, number, 300) for number in range(3)]
        faults = Faults(source.url, 3)
        threads: list[Load | Faults] = [*loads, faults]
        for thread in threads:
            thread.start()
        try:
            time.sleep(0.3)
            for _ in range(4):
                before = {load: dict(load.state) for load in loads}
                rounds = faults.rounds
                status, told = run("backup", "--force", file, url=source.url)
                assert status == 0, told
                assert faults.rounds > rounds
        finally:
            for thread in threads:
                thread.stopping.set()
            for thread in threads:
                thread.join()
    held = entries_of(file)
    assert_has(held, loads, before)
    gone = {f"key{n:06}" for n in range(0, 6000, 60)}
    still = {f"key{n:06}" for n in range(6000)} - gone
    assert still == {key for key in held if key.startswith("key")}

    flags = "--storage memory --nodes 5 --replication-factor 3".split()
    with Served(tmp_path, *flags) as target:
        status, told = run("restore", file, url=target.url)
        assert status == 0, told
        client = Client(target.url)
        restored = records_of(client)
        assert restored.keys() == held.keys()
        for key, entry in held.items():
            assert restored[key]["version"] == entry.version
            assert restored[key]["value"] == json.loads(bytes(entry.value))
        newest = max(entry.version for entry in held.values())
        assert client.write("key000001", 0).version > newest
        assert client.write("key000000", 0).version > newest  # was deleted
        client.fail(0)
        client.fail(1)
        assert records_of(client).keys() == held.keys() | {"key000000"}


def test_killed_restore_is_gone_on_with_and_versions_ahead_of_the_clock_stay_below(
    tmp_path,
):
    file = tmp_path / "ahead.kv"
    ahead = int((time.time() + 86_400) * 1000) << 32
    craft(file, 12_000, ahead)
    flags = f"--data-dir {tmp_path / 'data'} --nodes 4 --placement full".split()
    flags += ["--max-clock-jump-seconds", "100000"]
    with Served(tmp_path, *flags, "--durability", "os") as target:
        client = Client(target.url)
        process = call("restore", file, url=target.url)
        deadline = time.monotonic() + SECONDS_MAX
        while (client.nodes()[0].keys or 0) < 1000:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
        process.communicate()
        assert (client.nodes()[0].keys or 0) < 12_000

        status, told = run("restore", file, url=target.url)
        assert (status, "--resume" in told) == (1, True)
        status, told = run("restore", "--resume", "--json", file, url=target.url)

        found = json.loads(told)
        assert status == 0, told
        assert found["present"] >= 1000
        assert found["present"] + found["restored"] == 12_000
        assert client.write("key000000", 0).version > f"{ahead + 12_000:020x}"
        target.stop()
    with Served(tmp_path, *flags) as again:
        assert Client(again.url).nodes()[3].keys == 12_000


def test_interrupted_backup_leaves_nothing_behind(tmp_path):
    (tmp_path / "backups").mkdir()
    file = tmp_path / "backups" / "a.kv"
    with Served(tmp_path, "--storage", "memory") as source:
        client = Client(source.url)
        fill(client, 10)
        client.fail(0)
        client.fail(1)  # so that the backup waits
        for number in (signal.SIGINT, signal.SIGTERM):
            process = call("backup", file, url=source.url)
            deadline = time.monotonic() + SECONDS_MAX
            while not os.listdir(file.parent):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            process.send_signal(number)
            _, told = process.communicate(timeout=SECONDS_MAX)
            assert process.returncode == 130
            assert told == "run.py: stopped; no backup was made\n"
            assert os.listdir(file.parent) == []


def test_full_disk_makes_no_backup_and_keeps_the_old_one(tmp_path):
    (tmp_path / "backups").mkdir()
    file = tmp_path / "backups" / "a.kv"
    with Served(tmp_path, "--storage", "memory") as source:
        fill(Client(source.url), 1000)
        assert run("backup", file, url=source.url)[0] == 0
        old = file.read_bytes()

        def full():
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

        status, told = run("backup", "--force", file, url=source.url, preexec_fn=full)

    assert status == 1, told
    assert "cannot write" in told
    assert file.read_bytes() == old
    assert os.listdir(file.parent) == ["a.kv"]


@pytest.mark.parametrize("again", [False, True])
def test_server_that_goes_away_or_begins_anew_in_the_middle_makes_no_backup(
    tmp_path, again
):
    (tmp_path / "backups").mkdir()
    file = tmp_path / "backups" / "a.kv"
    servers = [Served(tmp_path, "--storage", "memory")]
    port = servers[0].port
    fill(Client(servers[0].url), 3000)

    def tell(what, records, size):
        if records == 1000:
            servers.pop().__exit__()
            if again:
                servers.append(Served(tmp_path, "--storage", "memory", "--port", port))

    client = Client(f"http://127.0.0.1:{port}")
    try:
        with pytest.raises((Stopped, StoreError)) as told:
            save(Asker(client, 0.5 + 10 * again), file, force=False, tell=tell)
    finally:
        for server in servers:
            server.__exit__()

    assert getattr(told.value, "code", "") == (
        "restarted" if again else "no_connection"
    )
    assert os.listdir(file.parent) == []


def peak_bytes(process):
    """The most memory that a process had, asked until it ends."""
    peak = 0
    while process.poll() is None:
        with suppress(FileNotFoundError, ProcessLookupError):
            told = Path(f"/proc/{process.pid}/status").read_text("ascii")
            found = re.search(r"VmHWM:\s+(\d+) kB", told)
            peak = max(peak, int(found[1]) * 1024) if found else peak
        time.sleep(0.01)
    process.communicate()
    return peak


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux")
def test_memory_does_not_grow_with_the_file(tmp_path):
    file = tmp_path / "large.kv"
    craft(file, 25_000, padding=4000)
    with Served(tmp_path, "--storage", "memory") as target:
        for name in ("restore", "backup"):
            process = call(name, file, *["--force"][: name == "backup"], url=target.url)
            assert peak_bytes(process) < 80e6 < file.stat().st_size
            assert process.returncode == 0
