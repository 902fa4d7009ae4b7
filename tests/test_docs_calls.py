"""Each call of the program in the README and in docs/ is one that the program takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

import benchmarks.cli
import checker.cli
import experiments.cli
import simulation.cli
from console.catalogue import CLIENT
from console.cli import Commands
from flags import BadSetting, load_settings

ROOT = Path(__file__).resolve().parent.parent
CALL = re.compile(r"python run\.py([^`\n]*)")
PARSERS = {
    "simulate": simulation.cli.parser,
    "experiment": experiments.cli.parser,
    "bench": benchmarks.cli.parser,
}
NOT_YET = "--faults slow"  # how to add it is what that page tells


def calls() -> list[str]:
    """The words after `python run.py`, of every call, without comments and pipes."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    found = [  # what a shell puts in for $(...) is one word
        re.split(r"\s+#|\s*\||\)\"|\s&&", text)[0].strip()
        for page in pages
        for text in CALL.findall(
            re.sub(r"\$\(date.*?\)", "now", page.read_text("utf-8"))
        )
    ]
    return sorted({each for each in found if NOT_YET not in each})


def take(words: list[str], folder: Path) -> None:
    """Parse a call as the command that it is for does; raises where it is wrong."""
    name = words[0] if words and not words[0].startswith("-") else "serve"
    if "--help" in words:
        return
    if name in PARSERS:
        PARSERS[name]().parse_args(words[1:])
    elif name == "check":
        checker.cli._parse(words[1:] or ["-"])
    elif name in CLIENT:
        commands = Commands("run.py")
        command = commands.get_command(click.Context(commands), name)
        assert command is not None, name
        command.make_context(name, words[1:])
    else:
        assert name == "serve", name
        load_settings([word for word in words if word != "serve"], {}, folder)


@pytest.mark.parametrize("call", calls())
def test_no_call_in_the_docs_is_refused_as_a_wrong_one(call, tmp_path):
    take(shlex.split(call), tmp_path)


def test_wrong_call_would_be_noticed(tmp_path):
    assert len(calls()) > 25
    for call in ("simulate --sed 1", "--nods 5", "check a b", "put", "experiment x"):
        with pytest.raises((SystemExit, click.UsageError, BadSetting)):
            take(shlex.split(call), tmp_path)
