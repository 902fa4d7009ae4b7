"""tests/install_tools.sh: what it says and does, with stand-ins for every program it calls."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("install_tools.sh")
TOOLS = {
    "chromium": "chromium",
    "promtool": "prometheus",
    "etcd": "etcd-server",
    "haproxy": "haproxy",
    "openssl": "openssl",
    "zsh": "zsh",
}


@pytest.fixture
def machine(tmp_path):
    """A machine with these programs and no others; what it says, and what apt was asked."""
    programs, asked = tmp_path / "bin", tmp_path / "asked"
    programs.mkdir()

    def put(name: str, text: str) -> None:
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)

    def run(
        tools: list[str],
        *words: str,
        user: int = 0,
        apt: str | None = "true",
        status: int = 0,
        terminal: int | None = None,
        **variables: str,
    ) -> str:
        for name in tools:
            put(name, "exit 0")
        put("id", f"echo {user}")
        put("true", "exit 0")  # as sudo finds it
        put("env", 'while [ "${1#*=}" != "$1" ]; do shift; done; exec "$@"')
        if apt is not None:
            put("apt-get", f'echo "$@" >> {asked}; {apt}')
        with (tmp_path / "said").open("w") as output:
            done = subprocess.run(
                [shutil.which("sh") or "/bin/sh", str(SCRIPT), *words],
                env={"PATH": str(programs), **variables},
                stdin=subprocess.DEVNULL,
                stdout=terminal or output,
                stderr=subprocess.PIPE,
                text=True,
                timeout=20,
                check=False,
            )
        assert (done.returncode, bool(done.stderr)) == (status, status != 0)
        said = (tmp_path / "said").read_text()
        return f"{said}{done.stderr}"

    run.asked = lambda: asked.read_text() if asked.exists() else ""  # type: ignore[attr-defined]
    run.put = put  # type: ignore[attr-defined]
    return run


def test_nothing_is_said_and_nobody_asked_where_everything_is_there(machine):
    assert machine([*TOOLS]) == ""
    assert machine.asked() == ""


def test_another_name_of_the_browser_will_do(machine):
    names = [name for name in TOOLS if name != "chromium"]

    assert machine([*names, "google-chrome"]) == ""


def test_root_installs_what_is_missing_and_nothing_else(machine):
    said = machine(["chromium", "haproxy", "openssl", "zsh"])

    asked = machine.asked()
    assert "not installed: prometheus etcd-server\n" in said
    assert asked.count("install -y") == 2
    assert "chromium" not in asked
    assert "these tests will not run" in said  # the stand-in installed nothing


def test_what_root_is_about_to_do_is_said_before_it_is_done_and_how_to_decline(
    machine, tmp_path
):
    said, heard = tmp_path / "said", tmp_path / "heard"
    copy = f"while read -r line; do echo $line; done <{said} >{heard}"

    machine(
        ["zsh"], apt=f"[ -e {heard} ] || {copy}"
    )  # as it is when apt is first asked

    first, second = heard.read_text().splitlines()
    assert first.endswith(": chromium prometheus etcd-server openssl haproxy")
    assert "with apt-get, as root" in second
    assert "INSTALL_TOOLS=no make test" in second


def test_there_is_time_to_stop_it_at_a_terminal_and_no_wait_elsewhere(
    machine, tmp_path
):
    slept = tmp_path / "slept"
    machine.put("sleep", f'echo "$@" >> {slept}')
    ours, its = os.openpty()

    machine([*TOOLS][1:])
    waited_without = slept.exists()
    machine([], terminal=its)

    os.close(its)
    shown = os.read(ours, 4_096).decode()
    os.close(ours)
    assert not waited_without
    assert slept.read_text() == "5\n"
    assert "Ctrl-C within 5 seconds" in shown


@pytest.mark.parametrize("words", [(), ("list",)])
def test_who_declines_gets_nothing_installed_and_is_told_what_will_not_run(
    machine, words
):
    said = machine(["zsh"], *words, INSTALL_TOOLS="no")

    assert machine.asked() == ""
    assert said.count("\n") == 1
    assert "the engine over etcd, and the benchmark beside it (etcd-server)" in said


def test_list_says_what_would_be_installed_and_does_nothing(machine):
    said = machine(["zsh", "chromium"], "list")

    assert machine.asked() == ""
    assert said.startswith("Missing, with the tests that need it: metrics, dashboard")
    assert "zsh" not in said
    assert machine([*TOOLS], "list") == (
        "Missing, with the tests that need it: nothing.\n"
    )


def test_yes_is_the_same_as_nothing_and_another_word_is_no_answer(machine):
    said = machine([], INSTALL_TOOLS="NO", status=2)

    assert machine.asked() == ""
    assert "INSTALL_TOOLS=NO: give yes or no" in said
    assert "list" in machine([], "lst", status=2)
    machine([], INSTALL_TOOLS="yes")
    assert machine.asked().count("install -y") == len(TOOLS)


def test_package_that_cannot_be_had_keeps_no_other_away(machine):
    said = machine([], apt='case "$*" in *chromium*) exit 100;; esac')

    assert "chromium could not be installed." in said
    assert machine.asked().count("install -y") == len(TOOLS)
    assert "zsh could not be" not in said


def test_who_is_not_root_and_has_no_sudo_without_asking_gets_one_line(machine):
    machine.put("sudo", "exit 1")

    said = machine(["zsh"], user=1000)

    assert machine.asked() == ""
    assert said.count("\n") == 1
    for package in ("chromium", "prometheus", "etcd-server"):
        assert f"({package})" in said
    assert "zsh" not in said


def test_sudo_that_does_not_ask_is_used(machine):
    machine.put("sudo", '[ "$1" = -n ] && shift; exec "$@"')

    machine([], user=1000)

    assert machine.asked().count("install -y") == len(TOOLS)


def test_machine_without_apt_gets_one_line(machine):
    said = machine([], apt=None)

    assert said.count("\n") == 1
    assert "Not installed, so these tests will not run" in said


def test_make_and_ci_call_it():
    root = SCRIPT.parent.parent
    makefile = (root / "Makefile").read_text("utf-8")
    lines = makefile.partition("\ntest:")[2].splitlines()

    assert "install_tools.sh" in lines[1]
    assert "make test" in (root / ".ci" / "run").read_text("utf-8")
    assert os.access(SCRIPT, os.X_OK)
