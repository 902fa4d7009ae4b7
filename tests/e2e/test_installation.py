"""A Python that cannot run the program: it says so in a line, with one that can."""

import ast
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import command_line
from console.catalogue import COMMANDS
from tests.e2e.served import ROOT, environment

pytestmark = pytest.mark.e2e
PACKAGES = sysconfig.get_path("purelib")
# Sees no installed package, as a Python outside .venv does.
OUTSIDE = [sys.executable, "-S", str(ROOT / "run.py")]


def refused(folder: Path, words: list[str], path: str = "") -> str:
    """The one line with which a call is refused."""
    done = subprocess.run(
        words,
        cwd=folder,
        env={**environment(), "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, ""), done
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize("command", [*COMMANDS, ""])
def test_python_without_the_packages_is_told_which_one_has_them(tmp_path, command):
    line = refused(tmp_path, [*OUTSIDE, *command.split()])

    name = command or "serve"
    assert line.startswith(f"run.py: cannot run {name} when this Python lacks ")
    assert f"python={sys.executable}" in line
    assert f".venv/bin/python run.py {name}, which `make run` sets up" in line


def test_help_and_mistakes_need_no_package(tmp_path):
    done = subprocess.run(
        [*OUTSIDE, "--help"], capture_output=True, check=True, env=environment()
    )

    assert b"serve over HTTP" in done.stdout
    assert "did you mean serve?" in refused(tmp_path, [*OUTSIDE, "sevre"])


@pytest.mark.parametrize(
    ("command", "package", "text"),
    [
        ("serve", "apsw", ""),  # a module, and nothing in it
        ("serve", "granian", ""),
        ("serve", "pydantic", "raise SystemError('the core is of another version')"),
        ("serve", "msgspec", "raise ImportError('libcore.so: no such file')"),
        ("serve", "flask", "import no_such_package"),
        ("get", "requests", "import urllib3.none"),
        ("status", "rich", ""),
        ("completion", "click", ""),
        ("simulate", "xxhash", ""),
        ("bench", "rich", "from rich.none import nothing"),
    ],
)
def test_package_that_is_half_there_is_told_from_a_mistake_of_ours(
    tmp_path, command, package, text
):
    (tmp_path / f"{package}.py").write_text(text, "utf-8")

    line = refused(tmp_path, [*OUTSIDE, command], f"{tmp_path}:{PACKAGES}")

    assert line.startswith(f"run.py: cannot run {command} when this Python lacks ")
    assert "which `make run` sets up" in line


@pytest.mark.parametrize(
    "error",
    [
        ImportError("cannot import name", name="models"),
        ModuleNotFoundError("No module named", name="storage.none"),
        AttributeError("no attribute", name="x", obj=command_line),
        AttributeError("no attribute", name="x", obj=3),
    ],
)
def test_mistake_of_ours_is_not_blamed_on_the_installation(monkeypatch, error):
    def load(where):
        raise error

    monkeypatch.setattr(command_line, "_load", load)

    with pytest.raises(type(error)) as caught:
        command_line.main(["check"])

    assert caught.value is error


def test_part_that_an_image_leaves_out_is_not_in_this_installation(monkeypatch, capsys):
    def load(where):
        raise ModuleNotFoundError("No module named 'experiments'", name="experiments")

    monkeypatch.setattr(command_line, "ROOT", Path("/nowhere"))
    monkeypatch.setattr(command_line, "_load", load)

    assert command_line.main(["experiment"]) == 2
    assert "experiment is not in this installation" in capsys.readouterr().err


def test_python_of_the_project_that_lacks_a_package_is_set_up_anew(monkeypatch, capsys):
    def load(where):
        raise ModuleNotFoundError("No module named 'flask'", name="flask")

    monkeypatch.setattr(sys, "prefix", str(ROOT / ".venv"))
    monkeypatch.setattr(command_line, "_load", load)

    assert command_line.main(["check"]) == 2
    assert "lacks flask" in (said := capsys.readouterr().err)
    assert said.endswith("`make clean run` sets .venv up anew\n")


@pytest.mark.parametrize("version", [(2, 7, 18), (3, 6, 8), (3, 10, 12)])
def test_python_that_is_too_old_is_told_so_before_anything_is_loaded(tmp_path, version):
    older = (
        f"import sys; sys.version_info = {version}; sys.version = '0.0 (old)'\n"
        f"sys.path.clear()\nexec(open({str(ROOT / 'run.py')!r}).read())"
    )

    line = refused(tmp_path, [sys.executable, "-c", older])

    assert "older than 3.11" in line
    assert "version=0.0" in line
    assert "`make run PYTHON=" in line


def test_every_python_can_read_the_file_that_says_so():
    text = (ROOT / "run.py").read_text("ascii")  # and without a word on its encoding
    tree = ast.parse(text)

    newer = (
        ast.JoinedStr,
        ast.FunctionDef,
        ast.AsyncFunctionDef,
        ast.AnnAssign,
        ast.NamedExpr,
        ast.Match,
        ast.Lambda,
        ast.Starred,
    )
    assert [node for node in ast.walk(tree) if isinstance(node, newer)] == []
    assert "__future__" not in text
