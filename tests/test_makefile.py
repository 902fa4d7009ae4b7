"""The Makefile: what a first `make` says while it sets up, with a stand-in for Python."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# It notes what had been said by the time pip was asked, and fails where it is told to.
PYTHON = """\
#!/bin/sh
case "$*" in
-c*) exit 0 ;;
-V) echo Python 3.99 ;;
"-m venv"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
"-m pip"*) cp said "said-before-$(ls said-before-* 2>/dev/null | wc -l)"; [ ! -e broken ] ;;
*) echo "ran $*" ;;
esac
"""


@pytest.fixture
def project(tmp_path):
    """What `make` needs, in a folder of its own; runs it and returns what it says."""
    for name in ("Makefile", "requirements.txt", "requirements-dev.txt"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copy(ROOT / "constraints.txt", tmp_path)
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)

    def make(*words: str, status: int = 0) -> str:
        with (tmp_path / "said").open("w") as said:
            done = subprocess.run(
                ["make", "--no-print-directory", *words, f"PYTHON={python}"],
                cwd=tmp_path,
                env={n: v for n, v in os.environ.items() if not n.startswith("MAKE")},
                stdout=said,
                stderr=subprocess.STDOUT,
                timeout=60,
                check=False,
            )
        assert done.returncode == status
        said_text: str = (tmp_path / "said").read_text()
        return said_text

    make.folder = tmp_path  # type: ignore[attr-defined]
    return make


def packages(name: str) -> int:
    """How many packages a file of requirements names."""
    lines = (ROOT / name).read_text("utf-8").splitlines()
    return sum(re.match(r"[a-z_-]+==", line) is not None for line in lines)


def test_set_up_is_not_silent_while_it_takes_long(project):
    project("run")

    before = (project.folder / "said-before-0").read_text()
    assert "Setting up .venv, this once" in before
    assert re.search(r"making it with Python 3\.99 \.\.\. done in \d+ s", before)
    count = packages("requirements.txt")
    assert before.endswith(f"installing {count} packages to run and their needs ... ")


def test_what_the_tests_need_is_not_added_in_silence(project):
    said = project("lint")

    before = (project.folder / "said-before-1").read_text()
    count = packages("requirements-dev.txt")
    assert f"installing {count} packages for the tests" in before
    assert len(re.findall(r"\.\.\. done in \d+ s$", said, re.MULTILINE)) == 3


def test_second_time_says_nothing_of_a_set_up(project):
    project("run")

    said = project("run")

    assert said == "ran run.py\n"


def test_set_up_that_failed_is_not_called_done_and_is_made_again(project):
    (project.folder / "broken").write_text("")

    said = project("run", status=2)

    assert said.count("done in") == 1  # the environment, not the packages
    assert "Is the package index within reach?" in said
    (project.folder / "broken").unlink()
    assert "ran run.py" in project("run")


def test_list_of_tools_installs_nothing(project):
    (project.folder / "tests").mkdir()
    (project.folder / "tests" / "install_tools.sh").write_text('echo "asked to $1"')

    assert project("tools") == "asked to list\n"
