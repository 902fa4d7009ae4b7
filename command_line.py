"""The commands of `python run.py`: finds the one that is called and runs it.

What it needs is loaded, and nothing else. A Python that lacks some of that is told which
one would do.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

from console.catalogue import CLIENT, COMMANDS, MEASURE, SERVE, Entry
from console.exits import EVERY
from processes.signals import Stop

ROOT = Path(__file__).resolve().parent
PARTS = frozenset(entry.where.partition(".")[0] for entry in COMMANDS.values())
GROUPS = {
    "Serve": SERVE,
    "A running store": CLIENT,
    "Try and measure": MEASURE,
}
HEAD = """\
usage: python run.py [COMMAND] [OPTIONS]

A replicated key-value store that you can break on purpose. Without a command it serves:
python run.py --port 5001 --nodes 5 --storage memory
"""
TAIL = """\
Every setting is in `python run.py serve --help`; every other one has --help too, those
on a running store with an example. They go to --url or KV_URL, else to
http://127.0.0.1:5000, with --token or KV_TOKEN, print JSON with --json, and exit with:
"""


def main(argv: Sequence[str]) -> int:
    """Run one command; the status to exit with."""
    if argv and argv[0] in ("--help", "-h", "help"):
        print(overview(), end="")
        return 0
    command, rest = (
        (argv[0], argv[1:]) if argv and argv[0][:1] != "-" else ("serve", argv)
    )
    if command not in COMMANDS:
        return _complain(f"unknown command {command}: {_hint(command)}")
    if command == "serve":
        with Stop() as stop:  # also for a signal that comes while the program is loaded
            return _run(command, rest, stop)
    return _run(command, rest)


def _run(command: str, arguments: Sequence[str], *more: Stop) -> int:
    try:
        program = _load(COMMANDS[command].where)
        if command in CLIENT:
            program, arguments = _load("console.cli:main"), [command, *arguments]
    except (ImportError, AttributeError, SystemError) as error:
        lacking = _lacking(error)
        if lacking is None:
            raise
        return _complain(_advice(command, lacking, error))
    return program(arguments, *more)


def overview() -> str:
    """Every command on one screen."""
    lines = [HEAD]
    for title, commands in GROUPS.items():
        lines += [f"{title}:", *_lines(commands), ""]
    lines.append(TAIL)
    lines += [f"  {int(status)}  {meaning}" for status, meaning in EVERY.items()]
    return "\n".join(lines) + "\n"


def _lines(commands: dict[str, Entry]) -> list[str]:
    return [f"  {name:<11} {entry.about}" for name, entry in commands.items()]


def _load(where: str) -> Callable[..., int]:
    module, _, name = where.partition(":")
    found: Callable[..., int] = getattr(import_module(module), name)
    return found


def _lacking(error: Exception) -> str | None:
    """What this Python lacks, or has a part of only; None for a mistake of ours."""
    name = getattr(error, "name", None) or ""
    if isinstance(error, AttributeError):  # of a module that is not whole
        if not isinstance(error.obj, ModuleType):
            return None
        name = error.obj.__name__
    name = name.partition(".")[0]
    is_ours = (ROOT / name).is_dir() or (ROOT / f"{name}.py").is_file()
    return None if name and is_ours else name or "a package"


def _advice(command: str, lacking: str, error: Exception) -> str:
    if lacking in PARTS:  # an image may leave some out
        return f"{command} is not in this installation: {error}"
    if Path(sys.prefix) == ROOT / ".venv":
        what = "`make clean run` sets .venv up anew"
    else:
        what = f"use .venv/bin/python run.py {command}, which `make run` sets up"
    return (
        f"cannot run {command} when this Python lacks {lacking} or a part of it "
        f"(python={sys.executable}, {_on_one_line(error)}): {what}"
    )


def _on_one_line(told: object) -> str:
    return " ".join(str(told).split())


def _complain(line: str) -> int:
    print(f"run.py: {line}", file=sys.stderr)
    return 2


def _hint(command: str) -> str:
    from difflib import get_close_matches  # only a mistake pays for it

    near = get_close_matches(command, COMMANDS, 1)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(COMMANDS)}"
