"""The program itself against a real server: its examples, pipes, signals and shells."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from client import Client
from console.catalogue import CLIENT
from console.cli import Commands
from console.command import ClientCommand
from tests.e2e.served import ROOT, Served, environment

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
RUN = [sys.executable, str(ROOT / "run.py")]
COMMANDS = Commands("run.py")
SECONDS_MAX = 30


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server that no test fails a node of."""
    with Served(tmp_path_factory.mktemp("server"), "--storage", "memory") as made:
        yield made


def surroundings(url: str) -> dict[str, str]:
    return {**environment(), "KV_URL": url, "LC_ALL": "C.UTF-8"}


def call(url: str, *argv: str, data: bytes | None = None) -> tuple[int, str, str]:
    done = subprocess.run(
        [*RUN, *argv],
        input=b"" if data is None else data,
        capture_output=True,
        timeout=SECONDS_MAX,
        env=surroundings(url),
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def shell(url: str, text: str, *words: str, folder: Path | None = None) -> str:
    """What bash, or the shell of `words`, prints on both its outputs."""
    done = subprocess.run(
        [*(words or ("bash", "--noprofile", "--norc", "-c")), text],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=SECONDS_MAX,
        env=surroundings(url),
        cwd=folder,
    )
    return done.stdout.decode()


def etcd_flags() -> tuple[str, ...]:
    """What serves three members of etcd; the test is skipped where there is no etcd."""
    if shutil.which("etcd") is None:
        pytest.skip("etcd is not installed (Debian: apt-get install etcd-server)")
    return ("--engine", "etcd", "--local-members", "3", "--data-dir", "data")


# --- Examples ------------------------------------------------------------------------


def example_of(name: str) -> list[tuple[str, str]]:
    """Each command of the example in a command's help, with what it prints there."""
    command = COMMANDS.get_command(click.Context(COMMANDS), name)
    assert isinstance(command, ClientCommand)
    steps = re.split(r"^\$ ", command.example.strip(), flags=re.MULTILINE)[1:]
    return [
        (line, shown) for line, _, shown in (step.partition("\n") for step in steps)
    ]


def steady(text: str) -> list[str]:
    """Without what differs from run to run: versions, times, sizes of files."""
    text = re.sub(r"\b[0-9a-f]{20}\b", "VERSION", text)
    text = re.sub(r"[0-9-]{10} [0-9:.]{8,12}Z", "TIME", text)
    text = re.sub(r"\bin [0-9.]+ s\b", "in SECONDS", text)
    text = re.sub(r"\(\d+ B\)", "(SIZE)", text)
    text = re.sub(r"(port +|http://127\.0\.0\.1:)\d+", r"\1PORT", text)
    return text.strip().splitlines()


@pytest.mark.parametrize("name", [name for name in CLIENT if name != "completion"])
def test_example_in_the_help_does_what_it_shows(name, tmp_path):
    steps = example_of(name)
    flags: tuple[str, ...] = ("--storage", "memory")
    if name in ("add-node", "remove-node"):  # the engine that can
        flags = etcd_flags()

    with Served(tmp_path, *flags) as server:
        program = " ".join(RUN)
        for line, shown in steps:
            line = line.replace("python run.py", program)
            printed = steady(shell(server.url, line, folder=tmp_path))
            expected = steady(shown)
            if expected[-1:] == ["..."]:
                printed, expected = printed[: len(expected) - 1], expected[:-1]
            assert printed == expected

    assert any(f" {name}" in line for line, _ in steps)


# --- Pipes, signals, time ------------------------------------------------------------


def test_reader_of_a_pipe_that_goes_away_gets_no_traceback(server):
    with Client(server.url) as store:
        store.batch(
            [{"op": "write", "key": f"pipe-{n:04}", "value": n} for n in range(1_000)]
        )
        for n in range(3):
            operations = [
                {"op": "write", "key": f"pipe-{n}-{m:04}", "value": "x"}
                for m in range(1_000)
            ]
            store.batch(operations)
    program = " ".join(RUN)

    for command in ("keys pipe-", "keys pipe- --json", "status", "events --follow"):
        text = f"{program} fail 0 >/dev/null; {program} {command} | head -1"
        if "events" in command:  # what it follows must happen for it to notice
            text = (
                f"({program} events --follow | head -1) & sleep 1.5; "
                f"{program} recover 0 >/dev/null; {program} fail 0 >/dev/null; wait"
            )
        said = shell(server.url, text)
        assert "Traceback" not in said
        assert "rror" not in said
        assert len(said.splitlines()) == 1
    call(server.url, "recover", "0")
    assert len(call(server.url, "keys", "pipe-")[1].splitlines()) == 4_000


def test_long_list_of_keys_is_printed_before_its_end_is_known(server):
    with Client(server.url) as store:
        for n in range(20):
            operations = [
                {"op": "write", "key": f"many-{n:02}-{m:04}-{'x' * 200}", "value": 0}
                for m in range(1_000)
            ]
            store.batch(operations)
    before = server.ask("GET", "/keys?prefix=many-&limit=1")[0]

    with subprocess.Popen(
        [*RUN, "keys", "many-"], stdout=subprocess.PIPE, env=surroundings(server.url)
    ) as listing:
        assert listing.stdout is not None
        first = listing.stdout.readline()
        still_runs = listing.poll() is None  # the pipe is full, so it cannot have ended
        rest = listing.stdout.read().splitlines()

    assert (before, listing.returncode) == (200, 0)
    assert first.startswith(b"many-00-0000")
    assert still_runs
    assert len(rest) == 19_999


def test_output_in_a_pipe_has_no_colour_and_no_folds(server):
    program = " ".join(RUN)

    said = shell(server.url, f"COLUMNS=20 {program} status | cat")

    assert "\x1b" not in said
    assert len(said.splitlines()) == 5


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_terminal_gets_colour_unless_it_is_not_wanted(server, no_color, coloured):
    if shutil.which("script") is None:
        pytest.skip("the program `script`, which makes a terminal, is not installed")
    text = f"NO_COLOR={no_color} TERM=xterm {' '.join(RUN)} status"

    said = shell(server.url, f"script -qec '{text}' /dev/null")

    assert "up" in said
    assert ("\x1b[32m" in said) is coloured


@pytest.mark.parametrize(
    "argv", [["watch", "--interval", "0.1"], ["events", "--follow"]]
)
def test_interrupt_ends_a_live_view_without_a_word(server, argv):
    running = subprocess.Popen(
        [*RUN, *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=surroundings(server.url),
        # It is ignored by what a shell runs in the background, and by its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    if argv[0] == "watch":
        assert running.stdout is not None
        running.stdout.readline()
    else:
        time.sleep(1.5)

    running.send_signal(signal.SIGINT)

    _, said = running.communicate(timeout=SECONDS_MAX)
    assert (running.returncode, said) == (0, b"")


def test_client_command_loads_no_server_and_answers_soon(server):
    program = (
        "import sys; sys.argv = ['run.py', 'status']; import runpy\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        f"try: runpy.run_path({str(ROOT / 'run.py')!r}, run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print(sorted({'flask', 'pydantic', 'matplotlib', 'apsw', 'app'} & {*sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        env=surroundings(server.url),
    )

    assert done.stdout.splitlines()[-1] == "[]", done.stderr


# --- Statuses ------------------------------------------------------------------------


def test_server_that_is_down_is_told_with_what_would_start_it():
    status, out, err = call("http://127.0.0.1:9", "put", "k", "1")

    assert (status, out) == (4, "")
    assert "python run.py" in err
    assert "--url" in err
    status, _, err = call("http://127.0.0.1:9", "get", "k", "--json")
    assert (status, json.loads(err)["code"]) == (4, "no_connection")


def test_server_that_takes_a_write_and_never_answers_leaves_it_uncertain():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        put = call(url, "put", "k", "1", "--timeout", "0.3")
        get = call(url, "get", "k", "--timeout", "0.3")

    assert (put[0], get[0]) == (5, 4)
    assert "may have happened" in put[2]
    assert "try again" in get[2]


def test_token_is_wanted_and_a_weak_one_may_only_read(tmp_path):
    flags = [
        "--storage",
        "memory",
        "--api-token",
        "api-token",
        "--read-token",
        "readonly",
    ]
    with Served(tmp_path, *flags) as server:
        url = server.url
        assert call(url, "put", "k", "1")[0] == 6
        assert call(url, "put", "k", "1", "--token", "readonly")[0] == 6
        assert call(url, "put", "k", "1", "--token", "api-token")[0] == 0
        assert call(url, "get", "k", "--token", "readonly")[:2] == (0, "1\n")


def test_client_variables_do_not_stop_a_server_and_misspelt_ones_do(tmp_path):
    names = {"KV_URL": "http://127.0.0.1:1", "KV_TOKEN": "some-token"}
    for extra, status in (({}, None), ({"KV_TOKN": "x"}, 2)):
        process = subprocess.Popen(
            [*RUN, "--port", "0", "--storage", "memory"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**environment(), **names, **extra},
            cwd=tmp_path,
        )
        if status is None:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, b"")
            assert any(b"Key-value store on" in line for line in lines)
            time.sleep(0.5)  # it tells its address shortly before it can be stopped
            process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=SECONDS_MAX)
        assert process.returncode == (status or 0)
        assert (b"KV_TOKEN" in err) is (status == 2)


# --- Shells --------------------------------------------------------------------------


@pytest.fixture
def filled(server):
    with Client(server.url) as store:
        for key in ("user:1", "user:22", "user:2x", "a b", "it's", "😀"):
            store.write(key, 1)
    return server


def complete_in_bash(url: str, line: str) -> list[str]:
    text = (
        f'eval "$({" ".join(RUN)} completion bash)"\n'
        f"COMP_LINE={quoted(line)} COMP_POINT=${{#COMP_LINE}}\n"
        "COMP_POINT=${#COMP_LINE}; compopt() { echo FILES; }\n"
        "_kv_complete; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    return shell(url, text).split("\n")[:-1]


def quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


@pytest.mark.parametrize(
    ("line", "replies"),
    [
        ("kv stat", ["status"]),
        ("kv get user:", ["1", "22", "2x"]),
        ("kv del user:2", ["22", "2x"]),
        ("kv where a", ["a\\ b"]),
        ('kv get "a ', ["a b"]),
        ("kv get it", ["it\\'s"]),
        ("kv get no-such", [""]),
        ("kv fail ", ["0", "1", "2"]),
        ("kv put k v --if-a", ["--if-absent"]),
        ("kv serve --storage", ["--storage"]),
        ("kv get --url http://127.0.0.1:9 us", [""]),
        ("kv check ", ["FILES", ""]),
    ],
)
def test_bash_completes_what_goes_after_its_last_break(filled, line, replies):
    assert complete_in_bash(filled.url, line) == replies


def test_completed_line_of_bash_runs_as_it_stands(filled):
    script = f'eval "$({" ".join(RUN)} completion bash)"; cd /; kv get a\\ b'

    assert shell(filled.url, script) == "1\n"


def test_completion_does_not_wait_for_a_server_that_hangs():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        replies = call(url, "completion", "bash", "--line", "kv get a")
        took = time.monotonic() - began

    assert replies == (0, "", "")
    assert took < 5  # half a second, and the start of a process on a busy machine


def test_zsh_completes_keys_as_they_are_and_describes_commands(filled, tmp_path):
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed")
    text = (
        "compdef() { }\n"
        f'eval "$({" ".join(RUN)} completion zsh)"\n'
        "compadd() { print -rl -- $values; print -rl -- $shown }\n"
        "words=(kv get user:2) CURRENT=3 PREFIX=user:2; _kv_complete\n"
        "words=(kv stat) CURRENT=2 PREFIX=stat; _kv_complete"
    )

    said = shell(filled.url, text, "zsh", "-f", "-c").splitlines()

    assert said[:2] == ["user:22", "user:2x"]
    assert said[-2] == "status"
    assert said[-1].startswith("status  -- ")
    assert os.environ.get("ZDOTDIR", "") == ""
