"""A real server that is told to end: whenever that is, it hears it; or ignores it, as told."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from processes.server import Server
from processes.signals import ENDING
from tests.e2e.served import (
    ROOT,
    STOP_SECONDS_MAX,
    Served,
    command,
    environment,
    free_port,
    hear,
)

pytestmark = pytest.mark.e2e
STARTS = 10
STARTED_BY = 1.0  # seconds, about, in which a server has started

# Its main thread waits; the signal goes to another thread, so that it does not break the
# wait off. A signal that comes just before the wait begins does not either.
UNBROKEN_WAIT = """
import signal, threading, time
from processes.signals import Stop
number = signal.{name}
def signalled():
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {{number}})
    time.sleep(0.3)
    signal.pthread_kill(threading.get_ident(), number)
with Stop() as stop:
    signal.pthread_sigmask(signal.SIG_BLOCK, {{number}})
    threading.Thread(target=signalled, daemon=True).start()
    stop.wait()
    print("heard")
"""


@pytest.mark.parametrize("number", ENDING)
def test_signal_that_does_not_break_the_wait_off_is_heard(number):
    done = subprocess.run(
        [sys.executable, "-c", UNBROKEN_WAIT.format(name=number.name)],
        env={**environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=STOP_SECONDS_MAX,
        preexec_fn=hear,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, b"heard\n", b"")


class Starting:
    """A server that is being started, and may be told to end before it has been."""

    def __init__(self, folder: Path, *flags: object) -> None:
        self.port = free_port()
        self.process = subprocess.Popen(
            command("--port", self.port, *flags),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment(),
            preexec_fn=hear,
        )

    def ended(self, number: signal.Signals) -> tuple[int, str]:
        """Send it a signal: the status with which it ends in time, and what it said."""
        self.process.send_signal(number)
        try:
            said, _ = self.process.communicate(timeout=STOP_SECONDS_MAX)
            return self.process.returncode, said.decode()
        finally:
            self.process.kill()
            self.process.communicate()


def wait_for_an_answer(server: Starting) -> None:
    asked = Served.__new__(Served)  # how it asks, of a server that another one started
    asked.port = server.port
    while server.process.poll() is None:
        try:
            if asked.ask("GET", "/healthz")[0] == 200:
                return
        except OSError:
            time.sleep(0.001)
    raise AssertionError("it ended by itself")


def wait_for_a_line(server: Starting) -> None:
    assert server.process.stdout is not None
    server.process.stdout.readline()


def wait_for_nothing(server: Starting) -> None:
    time.sleep(random.uniform(0.3, STARTED_BY))


@pytest.mark.slow
@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize(
    "wait", [wait_for_an_answer, wait_for_a_line, wait_for_nothing]
)
def test_signal_at_any_moment_of_the_start_ends_it_in_good_order(
    tmp_path, number, wait
):
    for start in range(STARTS):
        folder = tmp_path / str(start)
        folder.mkdir()
        server = Starting(folder)
        wait(server)

        status, said = server.ended(number)

        assert status == 0, said
        assert "Traceback" not in said
        assert list(folder.rglob("*.db-wal")) == []  # it closed what it had opened


@pytest.mark.parametrize("ignored", ENDING)
def test_server_that_was_told_to_ignore_a_signal_outlives_it(tmp_path, ignored):
    before = signal.signal(ignored, signal.SIG_IGN)  # a child is born with that
    try:
        process = subprocess.Popen(
            command("--port", 0, "--storage", "memory"),
            stdout=subprocess.PIPE,
            cwd=tmp_path,
            env=environment(),
        )
    finally:
        signal.signal(ignored, before)
    try:
        assert process.stdout is not None
        while b"Stop with" not in process.stdout.readline():
            assert process.poll() is None

        process.send_signal(ignored)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(next(number for number in ENDING if number != ignored))

        assert process.wait(STOP_SECONDS_MAX) == 0
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(not Path("/usr/bin/nohup").exists(), reason="there is no nohup")
def test_server_under_nohup_outlives_its_terminal(tmp_path):
    process = subprocess.Popen(
        ["/usr/bin/nohup", *command("--port", 0, "--storage", "memory")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
        env=environment(),
    )
    try:
        assert process.stdout is not None
        while b"Stop with" not in process.stdout.readline():
            assert process.poll() is None

        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.terminate()

        assert process.wait(STOP_SECONDS_MAX) == 0
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("ignored", ENDING)
def test_child_ignores_what_we_were_told_to_ignore_but_for_the_signal_that_ends_it(
    tmp_path, ignored
):
    server = Server(["sleep", "60"], tmp_path / "x.log")
    before = signal.signal(ignored, signal.SIG_IGN)
    try:
        server.launch()
        server.wait_for(lambda: _program_of(server.pid) == "sleep")

        assert (ignored in _ignored_by(server.pid)) is (ignored != signal.SIGTERM)
    finally:
        signal.signal(ignored, before)
        server.stop(STOP_SECONDS_MAX)
    assert server.status == -signal.SIGTERM


def _program_of(pid: int | None) -> str:
    return os.readlink(f"/proc/{pid}/exe").rpartition("/")[2]


def _ignored_by(pid: int | None) -> set[int]:
    lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    mask = int(next(line for line in lines if line.startswith("SigIgn")).split()[1], 16)
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


@pytest.mark.slow
@pytest.mark.parametrize("ignored", ENDING)
def test_command_that_was_told_to_ignore_a_signal_goes_on_to_its_end(tmp_path, ignored):
    before = signal.signal(ignored, signal.SIG_IGN)
    try:
        process = subprocess.Popen(
            command("simulate", "--seeds", 60, "--first", 1, "--workers", 1),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=tmp_path,
            env=environment(),
        )
    finally:
        signal.signal(ignored, before)
    try:
        assert process.stdout is not None
        assert b"seeds from" in process.stdout.readline()

        process.send_signal(ignored)
        said, _ = process.communicate(timeout=60)

        assert (process.returncode, b"nothing unknown in 60 seeds" in said) == (0, True)
    finally:
        process.kill()
        process.communicate()
