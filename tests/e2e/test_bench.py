"""`run.py bench --quick`: every measurement runs, with real servers and processes."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from backends.endpoints import Endpoints
from backends.gateway import Security
from backends.messages import TXN, Op, Put, Txn, TxnAnswer
from benchmarks.catalogue import CATALOGUE
from benchmarks.etcd import HOW_TO_INSTALL, EtcdCluster, program, puts_at
from processes.server import ProcessFailed, Server, answers
from processes.signals import ENDING, stoppable, uninterrupted

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
SECONDS_MAX = 60
LINES = {"etcd": 8, "front": 6}  # of what is measured beside etcd
needs_etcd = pytest.mark.skipif(
    program() is None, reason=f"etcd is not installed; {HOW_TO_INSTALL}"
)


def command(folder, *arguments):
    return [sys.executable, "run.py", "bench", "--out", str(folder), *arguments]


def run_bench(folder, *arguments, **variables):
    return subprocess.run(
        command(folder, *arguments),
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def results_of(folder):
    return json.loads((folder / "result.json").read_text("utf-8"))["results"]


def processes_of(folder):
    """Processes whose command names the folder, such as servers with data in it (Linux)."""
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = each.read_bytes()
        except OSError:  # it has ended
            continue
        if str(folder).encode() in words:
            found.append(words)
    return found


def wait_until(true):
    deadline = time.monotonic() + SECONDS_MAX
    while not true():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


def test_every_measurement_runs_and_leaves_nothing_behind(tmp_path):
    done = run_bench(tmp_path, "--quick", "--full")

    assert done.returncode == 0, done.stdout + done.stderr
    kept = results_of(tmp_path)
    assert list(kept) == [each.name for each in CATALOGUE]
    if program() is None:
        assert HOW_TO_INSTALL in done.stdout
        for name in LINES:
            assert {each["standing"] for each in kept.pop(name)} == {"not measured"}
    figures = [figure for each in kept.values() for figure in each]
    assert all(figure["value"] > 0 and not figure["failures"] for figure in figures)
    assert not list(tmp_path.glob("data-*"))
    assert processes_of(tmp_path) == []


# --- etcd --------------------------------------------------------------------------------


@needs_etcd
@pytest.mark.parametrize("name", LINES)
def test_etcd_is_measured_beside_and_takes_no_settings_from_outside(tmp_path, name):
    outside = {
        "ETCD_INITIAL_CLUSTER_STATE": "existing",  # would wait for the others
        "KV_ETCD_PREFIX": "other/",  # fronts would not write what the gateway reads
    }

    done = run_bench(tmp_path, "--quick", "--only", name, **outside)

    assert done.returncode == 0, done.stdout + done.stderr
    figures = results_of(tmp_path)[name]
    assert len(figures) == LINES[name]
    for figure in figures:
        assert figure["failures"] == 0, figure["detail"]
        for tally in figure["extra"]["ours"] + figure["extra"]["theirs"]:
            assert tally["answers"] > 0
    assert not list(tmp_path.glob("data-*"))
    assert processes_of(tmp_path) == []


@needs_etcd
def test_puts_are_counted_one_by_one_also_where_they_came_in_one_transaction(tmp_path):
    found = program()
    assert found is not None
    endpoints = Endpoints((), Security(), SECONDS_MAX)
    both = Txn(success=tuple(Op(request_put=Put(key, b"1")) for key in (b"a", b"b")))
    with EtcdCluster(found, 1, tmp_path) as cluster:
        (url,) = cluster.urls
        for message in (both, both, Txn(success=both.success[:1])):
            endpoints.ask_one(url, TXN, message, TxnAnswer, SECONDS_MAX)

        assert puts_at(url) == 5


@pytest.mark.parametrize("name", LINES)
def test_bench_without_etcd_says_so_and_keeps_the_lines(tmp_path, name):
    nothing = tmp_path / "empty"
    nothing.mkdir()

    done = run_bench(tmp_path, "--quick", "--only", name, PATH=str(nothing))

    assert done.returncode == 2, done.stdout + done.stderr
    assert f"Not measured: {name} (etcd is not installed; {HOW_TO_INSTALL})." in (
        done.stdout
    )
    assert len(results_of(tmp_path)[name]) == LINES[name]


@needs_etcd
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, and Linux for a kill")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("name", LINES)
def test_etcd_does_not_outlive_a_bench_that_is_ended(tmp_path, name, number):
    arguments = ["--only", name, "--seconds", "20"]
    everything = 6  # the bench, three members, and one more and ours, or two fronts
    with (tmp_path / "said.txt").open("wb") as said:
        bench = subprocess.Popen(
            command(tmp_path / "out", *arguments), cwd=ROOT, stdout=said, stderr=said
        )
    try:
        wait_until(
            lambda: (
                len(processes_of(tmp_path)) == everything or bench.poll() is not None
            )
        )
        assert bench.poll() is None, (tmp_path / "said.txt").read_text()

        bench.send_signal(number)
        status = bench.wait(SECONDS_MAX)
    finally:
        bench.kill()
        bench.wait()

    wait_until(lambda: not processes_of(tmp_path))
    if number != signal.SIGKILL:  # which lets nobody tidy up
        assert status == 2, (tmp_path / "said.txt").read_text()
        assert not list((tmp_path / "out").glob("data-*"))


# --- Servers -----------------------------------------------------------------------------


def test_server_that_is_gone_does_not_answer():
    assert not answers(1, "/")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["a-program-that-nobody-has"], ": cannot run a-program-that-nobody-has"),
        ([sys.executable, "-c", "raise SystemExit('it broke')"], ": it broke"),
        (["sh", "-c", "kill -SEGV $$"], " by SIGSEGV: it said nothing"),
    ],
)
def test_server_that_does_not_start_says_why(tmp_path, words, reason):
    server = Server(words, tmp_path / "server-x.log")

    with pytest.raises(ProcessFailed, match=f"server-x ended{reason}"):
        server.start()


@pytest.mark.skipif(sys.platform != "linux", reason="there is no leash elsewhere")
def test_server_whose_starter_has_died_already_never_runs():
    somebody_else = os.getpid() + 1
    leash = [sys.executable, str(ROOT / "processes" / "leash.py"), str(somebody_else)]

    done = subprocess.run([*leash, "echo", "it runs"], capture_output=True, check=False)

    assert (done.returncode, done.stdout) == (1, b"")


def test_server_that_does_not_listen_to_a_stop_is_ended_all_the_same(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("processes.server.STOP_SECONDS_MAX", 0.1)
    deaf = (
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('http://127.0.0.1:1', flush=True)\n"
        "time.sleep(60)"
    )
    server = Server([sys.executable, "-c", deaf, str(tmp_path)], tmp_path / "x.log")
    server.start()

    server.stop()

    assert processes_of(tmp_path) == []


@pytest.mark.parametrize("number", ENDING)
@pytest.mark.usefixtures("heard")
def test_server_whose_start_is_interrupted_can_still_be_ended(
    tmp_path, monkeypatch, number
):
    class StopsUs(subprocess.Popen):
        def __init__(self, *arguments, **more):
            super().__init__(*arguments, **more)
            signal.raise_signal(number)  # when it runs, and nobody knows it yet

    monkeypatch.setattr("processes.server.subprocess.Popen", StopsUs)
    server = Server(["sleep", "60"], tmp_path / "x.log")

    with stoppable(), pytest.raises(KeyboardInterrupt):
        server.launch()

    assert server.pid is not None
    server.kill()
    assert server.pid is None


@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize("change", range(6))  # all are set, and all set back
@pytest.mark.usefixtures("heard")
def test_signal_that_comes_while_another_is_put_off_is_heard_ever_after(
    monkeypatch, number, change
):
    changes = iter(range(100))
    real = signal.signal

    def signalled(which, handler):
        before = real(which, handler)
        if next(changes) == change:
            signal.raise_signal(number)
        return before

    with stoppable():
        handlers = [signal.getsignal(n) for n in ENDING]
        with monkeypatch.context() as patched, suppress(KeyboardInterrupt):
            patched.setattr("processes.signals.signal.signal", signalled)
            with uninterrupted():
                pass

        assert [signal.getsignal(n) for n in ENDING] == handlers
