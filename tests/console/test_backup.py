"""`backup` and `restore` against stores in this process: what they do, and refuse."""

import io
import json
import os
import stat
import time

import pytest
import requests
from msgspec import Raw

from app import create_app
from client import Client, NoConnection
from config import Settings
from console import cli, restoring, saving, session
from console.archive import ArchiveReader, ArchiveWriter, Entry, Header
from tests.test_client import ApplicationAdapter

VERSION = "01a203f300fc00000000"
HEADER = Header(
    made_at="2026-01-05T03:00:00+00:00",
    nodes=3,
    replication_factor=2,
    placement="ring",
    protocol="primary-backup",
)


class Wire(requests.adapters.BaseAdapter):
    """Carries requests to one application, and notes them; `disturb` may do more."""

    def __init__(self, app):
        super().__init__()
        self.app = app
        self.sent = []
        self.disturb = lambda request, send: send()

    def send(self, request, *_, **__):
        self.sent.append((request.method, request.path_url.partition("?")[0]))
        adapter = ApplicationAdapter(self.app)  # of its own: there are many threads
        return self.disturb(request, lambda: adapter.send(request))

    def changes(self):
        return [path for method, path in self.sent if method != "GET"]

    def close(self):
        pass


class Store:
    """A store in this process, and the commands on it."""

    def __init__(self, patch, **changes):
        self.app = create_app(Settings(**{"storage": "memory", **changes}))
        self.wire = Wire(self.app)
        self.client = self.connect("http://localhost", None, 30)
        self._patch = patch

    def connect(self, url, token, timeout):
        client = Client("http://localhost", token, timeout)
        client._session.mount("http://", self.wire)
        return client

    def run(self, *args):
        self._patch.setattr(session, "Client", self.connect)
        return cli.main([str(arg) for arg in args])

    def keys(self):
        return [info.key for info in self.client.keys("")]

    def content(self):
        return self.client.call("GET", "/records", limit=1000)


@pytest.fixture
def make(monkeypatch):
    made = []

    def make(**changes):
        made.append(Store(monkeypatch, **changes))
        return made[-1]

    monkeypatch.setattr(saving, "PAUSE_SECONDS", 0.01)
    monkeypatch.delenv("KV_URL", raising=False)
    yield make
    for store in made:
        store.app.close()


@pytest.fixture
def file(tmp_path):
    return tmp_path / "monday.kv"


def write_archive(file, *entries):
    with file.open("wb") as out:
        writer = ArchiveWriter(out, HEADER)
        for entry in entries:
            writer.add(entry)
        writer.finish()


def entries_of(file):
    return list(ArchiveReader(io.BytesIO(file.read_bytes())))


def some(count, value=b"1"):
    return [Entry(f"key{n:05}", VERSION, Raw(value)) for n in range(count)]


def is_alone(file):
    return os.listdir(file.parent) == [file.name]


def fails_first(count, error):
    """Let the first requests that change something fail, after they were done."""
    left = [count]

    def disturb(request, send):
        answer = send()
        if request.method != "GET" and left[0]:
            left[0] -= 1
            raise error
        return answer

    return disturb


def test_store_is_the_same_in_another_shape(make, file, capsys):
    source = make()
    source.client.call(
        "POST", "/write", b'{"key":"a\\u2028/\\"b\\" \xc3\xa4","value":{\n"n":1.50}}'
    )
    source.client.call("POST", "/write", b'{"key":"big","value":123456789012345678901}')
    source.client.write("null", None)
    source.client.write("passing", "x", ttl=1000)
    source.client.write("gone", 1)
    source.client.delete("gone")
    assert source.run("backup", file) == 0
    assert "4 keys" in capsys.readouterr().out
    assert is_alone(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    for shape in (
        {"nodes": 1, "replication_factor": 1},
        {"nodes": 5, "placement": "full"},
    ):
        target = make(**shape)
        assert target.run("restore", file) == 0
        assert "4 keys restored, compared" in capsys.readouterr().out
        assert target.content() == source.content()
        assert target.client.write("null", 1).version > entries_of(file)[-1].version


def test_empty_store_is_backed_up_and_restored(make, file, capsys):
    assert make().run("backup", file) == 0
    assert make().run("restore", file, "--json") == 0

    *_, told = capsys.readouterr().out.splitlines()
    assert json.loads(told)["records"] == 0


def test_restore_into_a_store_with_keys_is_refused_with_nothing_changed(
    make, file, capsys
):
    write_archive(file, *some(3))
    target = make()
    target.client.write("other", 1)
    before, target.wire.sent = target.content(), []

    assert target.run("restore", file) == 1

    assert "'other'" in capsys.readouterr().err
    assert target.wire.changes() == []
    assert target.content() == before


@pytest.mark.parametrize("how", ["flipped", "cut", "swapped"])
def test_damaged_file_is_refused_with_nothing_sent(make, file, capsys, how):
    write_archive(file, *some(9))
    lines = file.read_bytes().splitlines(keepends=True)
    if how == "flipped":
        lines[5] = lines[5].replace(b'"value":1', b'"value":2')
    elif how == "cut":
        lines[5:] = [lines[5][:-9]]
    else:
        lines[5], lines[6] = lines[6], lines[5]
    file.write_bytes(b"".join(lines))
    target = make()
    place = f"line 6, which begins at byte {sum(map(len, lines[:5]))},"

    assert target.run("restore", file) == 1
    assert place in capsys.readouterr().err
    assert target.run("restore", file, "--check", "--json") == 1
    assert place in json.loads(capsys.readouterr().err)["detail"]
    assert target.wire.sent == []


def test_check_tells_what_is_in_a_file_without_a_store(file, capsys):
    write_archive(file, *some(3))

    assert (
        cli.main(["restore", "--check", str(file), "--url", "http://127.0.0.1:9"]) == 0
    )

    told = capsys.readouterr().out
    assert "intact, 3 keys" in told
    assert VERSION in told
    assert HEADER.made_at in told


def test_restore_that_was_broken_off_is_gone_on_with(make, file, capsys):
    write_archive(file, *some(700))
    target = make()

    def disturb(request, send):
        if len(target.wire.changes()) > 1:
            raise requests.ConnectionError("gone")
        return send()

    target.wire.disturb = disturb
    assert target.run("restore", file, "--patience", 0) == 4
    assert "go on with --resume" in capsys.readouterr().err
    target.wire.disturb = lambda request, send: send()

    assert target.run("restore", file) == 1
    capsys.readouterr()
    assert target.run("restore", file, "--resume", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["restored"] + told["present"] == 700
    assert told["present"] >= 250


def test_answers_that_were_lost_are_asked_for_again(make, file, capsys):
    write_archive(file, *some(700))
    target = make()
    target.wire.disturb = fails_first(2, requests.ReadTimeout("lost"))

    assert target.run("restore", file, "--json") == 0

    told = json.loads(capsys.readouterr().out)
    assert told["present"] + told["restored"] == 700
    assert told["present"] >= 200  # one batch twice, or two of them


def test_restore_waits_for_nodes_that_come_back(make, file, capsys):
    write_archive(file, *some(50))
    target = make()
    direct = target.connect("", None, 30)

    def disturb(request, send):
        if request.path_url == "/batch":
            batches = target.wire.sent.count(("POST", "/batch"))
            steps = {1: direct.fail, 4: direct.recover}
            if batches in steps:
                steps[batches](0)
                steps[batches](1)
        return send()

    target.wire.disturb = disturb
    assert target.run("restore", file, "--json") == 0
    assert json.loads(capsys.readouterr().out)["restored"] == 50
    assert target.wire.sent.count(("POST", "/batch")) == 4


def test_restore_gives_up_when_nodes_stay_down_and_says_how_to_go_on(
    make, file, capsys
):
    write_archive(file, *some(50))
    target = make()
    target.client.fail(0)
    target.client.fail(1)

    assert target.run("restore", file, "--resume", "--patience", 0.1) == 4
    assert "recover one of them" in capsys.readouterr().err

    target.client.recover(0)
    target.client.recover(1)
    assert target.run("restore", file, "--resume") == 0


def test_newer_values_and_later_deletes_stay_and_are_told(make, file, capsys):
    write_archive(file, *some(4))
    target = make()
    target.run("restore", file)
    newer = target.client.write("key00001", "new").version
    target.client.delete("key00002")
    target.client.write("key00003", 1)  # newer, but the same
    target.client.write("more", 1)
    capsys.readouterr()

    assert target.run("restore", file, "--resume") == 1

    told = capsys.readouterr().out
    assert "2 left" in told
    assert "key00001, key00002" in told
    assert "1 in the store only" in told
    assert target.client.read("key00001").version == newer
    assert target.keys() == [
        "key00000",
        "key00001",
        "key00003",
        "more",
    ]


def test_without_comparing_what_stays_newer_is_told_all_the_same(make, file, capsys):
    write_archive(file, *some(2))
    target = make()
    target.client.write("key00001", "new")

    assert target.run("restore", file, "--resume", "--no-verify") == 1

    told = capsys.readouterr().out
    assert "key00001" in told
    assert "not compared" in told


def test_comparing_finds_what_the_store_lost_or_has_wrong(make, file, capsys):
    write_archive(file, *some(3), Entry("z", VERSION, Raw(b"1")))
    target, other = make(), make()
    target.run("restore", file)
    data = json.loads(target.content())["records"]
    for record in data[:2]:  # the first is right, the second wrong, the others lost
        value = record["value"] if record is data[0] else "wrong"
        restored = {"op": "restore", **record, "value": value}
        other.client.batch([restored])
    capsys.readouterr()

    def disturb(request, send):  # a store that says that it has all of it
        answer = send()
        if request.path_url == "/batch":
            count = json.loads(request.body)["operations"]
            text = json.dumps({"results": [{"status": 200} for _ in count]})
            answer._content = text.encode()
        return answer

    other.wire.app.store.restore = lambda *_: None
    other.wire.disturb = disturb
    assert other.run("restore", file, "--resume") == 1
    assert "3 NOT as in the file (key00001, key00002, z)" in capsys.readouterr().out


@pytest.mark.parametrize("archived", ["0" * 20, "7" + "f" * 19])
def test_store_that_gives_versions_of_its_own_has_what_has_the_same_value(
    make, file, capsys, archived
):
    write_archive(file, *(Entry(key, archived, Raw(b"1")) for key in "ab"))
    target = make()
    store = target.app.store
    store.restore = lambda key, value, *_: store.write(key, value)

    assert target.run("restore", file) == 0

    assert "NOT" not in capsys.readouterr().out
    assert archived not in {target.client.read(key).version for key in "ab"}


@pytest.mark.parametrize(
    ("held", "value", "outcome"),
    [
        ("2", b"1", (0, 0)),
        ("1", b"1", (0, 0)),
        ("3", b"1", (0, 0)),
        ("3", b"other", (1, 0)),
        ("2", b"other", (0, 1)),
        ("1", b"other", (0, 1)),
    ],
)
def test_other_value_is_kept_only_under_a_version_above_that_of_the_file(
    held, value, outcome
):
    done = restoring.Tally()

    restoring._weigh(Entry("k", "2", Raw(b"1")), held, Raw(value), done)

    assert (done.kept, done.wrong) == outcome


def test_record_that_expired_since_is_counted_apart_and_one_that_did_not_still_expires(
    make, file, capsys
):
    now_ms = int(time.time() * 1000)
    write_archive(
        file,
        Entry("lasting", VERSION, Raw(b"1")),
        Entry("past", VERSION, Raw(b"1"), now_ms - 1000),
        Entry("soon", VERSION, Raw(b"1"), now_ms + 3_600_000),
    )
    target = make()

    assert target.run("restore", file) == 0

    assert "1 expired meanwhile" in capsys.readouterr().out
    assert target.keys() == ["lasting", "soon"]
    assert str(now_ms + 3_600_000).encode() in target.content()
    assert target.run("restore", file, "--resume") == 0


def test_versions_go_on_above_a_backup_that_is_ahead_of_the_clock(make, file):
    ahead = f"{(int(time.time() * 1000) + 86_400_000) << 32:020x}"
    write_archive(file, Entry("a", ahead, Raw(b"1")), Entry("b", VERSION, Raw(b"1")))
    assert make().run("restore", file) == 1  # not without being told to
    target = make(nodes=4, replication_factor=4, max_clock_jump_seconds=100_000)

    assert target.run("restore", file) == 0

    assert target.client.read("a").version == ahead
    assert target.client.write("a", 2).version > ahead
    assert target.client.write("new", 2).version > ahead
    assert target.client.delete("b").version > ahead


def test_backup_of_a_store_that_cannot_be_read_is_no_file_at_all(make, file, capsys):
    source = make()
    for number in range(30):
        source.client.write(f"key{number}", number)
    source.client.fail(0)
    source.client.fail(1)

    assert source.run("backup", file, "--patience", 0.1) == 4

    assert "no backup was made" in capsys.readouterr().err
    assert os.listdir(file.parent) == []


def test_backup_waits_for_a_store_that_can_be_read_again(make, file):
    source = make()
    source.client.write("a", 1)
    source.client.fail(0)
    source.client.fail(1)

    def disturb(request, send):
        if source.wire.sent.count(("GET", "/records")) == 3:
            source.wire.sent.append(("GET", "/records"))
            source.client.recover(0)
            source.client.recover(1)
        return send()

    source.wire.disturb = disturb
    assert source.run("backup", file) == 0
    assert [entry.key for entry in entries_of(file)] == ["a"]


def test_existing_file_is_replaced_only_by_force_and_only_by_a_whole_one(
    make, file, capsys
):
    source = make()
    file.write_text("precious")
    assert source.run("backup", file) == 2
    assert "--force" in capsys.readouterr().err
    source.client.fail(0)
    source.client.fail(1)
    assert source.run("backup", file, "--force", "--patience", 0) == 4
    assert file.read_text() == "precious"
    assert is_alone(file)
    source.client.recover(0)
    source.client.recover(1)

    assert source.run("backup", file, "--force") == 0

    assert entries_of(file) == []
    assert is_alone(file)


def test_file_that_another_made_meanwhile_is_not_replaced(make, file):
    source = make()

    def disturb(request, send):
        if "/records" in request.path_url:
            file.write_text("precious")
        return send()

    source.wire.disturb = disturb
    assert source.run("backup", file) == 2
    assert file.read_text() == "precious"
    assert is_alone(file)


@pytest.mark.parametrize(
    "signal_is", [KeyboardInterrupt, NoConnection("", code="x", definite=True)]
)
def test_backup_that_is_broken_off_leaves_nothing(make, file, signal_is):
    source = make()

    def disturb(request, send):
        if "/records" in request.path_url:
            raise signal_is
        return send()

    source.wire.disturb = disturb
    status = 130 if signal_is is KeyboardInterrupt else 4
    assert source.run("backup", file) == status
    assert os.listdir(file.parent) == []


def test_folder_that_cannot_be_written_to_is_a_wrong_call(make, tmp_path, capsys):
    (tmp_path / "file").touch()
    source = make()

    assert source.run("backup", tmp_path / "none" / "a.kv") == 2
    assert source.run("backup", tmp_path / "file" / "a.kv") == 2
    assert source.run("backup", "-") == 2
    assert source.run("restore", tmp_path / "none.kv") == 2
    assert source.run("restore", "/dev/null") == 2
    assert len(capsys.readouterr().err.splitlines()) == 5
    assert source.wire.sent == []


def test_what_does_not_read_back_gets_no_name(make, file, monkeypatch, capsys):
    source = make()
    source.client.write("a", 1)
    real = os.fsync

    def damaging(number):
        if stat.S_ISREG(os.fstat(number).st_mode):
            os.pwrite(number, b"#", 200)
        real(number)

    monkeypatch.setattr(os, "fsync", damaging)
    assert source.run("backup", file) == 1
    assert "does not read back: line 2" in capsys.readouterr().err
    assert os.listdir(file.parent) == []


def test_store_that_was_started_anew_in_the_middle_makes_no_backup(make, file, capsys):
    source = make()
    starts = iter(range(1, 9))

    def disturb(request, send):
        answer = send()
        if "/metrics" in request.path_url:
            answer._content = b"process_start_time_seconds %d\n" % next(starts)
        return answer

    source.wire.disturb = disturb
    assert source.run("backup", file) == 4
    assert "started anew" in capsys.readouterr().err
    assert os.listdir(file.parent) == []


def test_wrong_token_backs_nothing_up_and_a_reading_one_restores_nothing(make, file):
    source = make(api_token="all-of-it", read_token="read-only")
    source.client = source.connect("", "all-of-it", 30)
    source.client.write("a", 1)

    assert source.run("backup", file) == 6
    assert source.run("backup", file, "--token", "wrong-one") == 6
    assert os.listdir(file.parent) == []
    assert source.run("backup", file, "--token", "read-only") == 0
    source.client.delete("a")
    assert source.run("restore", file, "--token", "read-only") == 6
    assert source.keys() == []


def test_full_store_stops_the_restore_and_says_so(make, file, capsys):
    write_archive(file, *some(60, b'"%s"' % (b"x" * 100)))
    target = make(max_stored_bytes=4096)

    assert target.run("restore", file) == 1

    assert "max_stored_bytes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "setting"),
    [
        (b'"%s"' % (b"x" * 3000), "max_value_bytes"),
        (b"[" * 128 + b"]" * 128, "max_depth"),
    ],
)
def test_value_that_the_store_does_not_take_is_named(
    make, file, capsys, value, setting
):
    odd = Entry("key00001-odd", VERSION, Raw(value))
    write_archive(file, *sorted([*some(4), odd], key=lambda entry: entry.key))
    target = make(max_value_bytes=2048)

    assert target.run("restore", file) == 1

    told = capsys.readouterr().err
    assert "'key00001-odd'" in told
    assert setting in told


def test_large_values_fit_into_what_the_store_takes(make, file):
    large = b'"%s"' % (b"\xc3\xa4" * 1020)
    write_archive(file, *some(30, large))
    target = make(
        max_value_bytes=len(large), max_body_bytes=len(large) + 8192, max_batch=7
    )

    assert target.run("restore", file) == 0


def test_pages_are_followed_to_the_end(make, file, monkeypatch):
    monkeypatch.setattr(saving, "PAGE", 7)
    source = make()
    for number in range(50):
        source.client.write(f"key{number:02}", number)

    assert source.run("backup", file) == 0
    assert len(entries_of(file)) == 50
    assert source.wire.sent.count(("GET", "/records")) == 8
