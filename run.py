"""The command line: `python run.py [serve] [flags]`, or one of the commands of its help.

Finds the command, loads what it needs and nothing else, and exits with its status.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from console.catalogue import CLIENT, COMMANDS, MEASURE, PROGRAMS, SERVE, Entry
from console.exits import MEANING
from processes.signals import Stop

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
    if command in CLIENT:
        return _load("console.cli:main")(argv)
    if command == "serve":
        with Stop() as stop:  # also what comes while the program is loaded
            return _load(SERVE[command].where)(rest, stop)
    if command in PROGRAMS:
        try:
            program = _load(PROGRAMS[command].where)
        except ModuleNotFoundError as error:  # an image may leave parts out
            print(
                f"run.py: {command} is not in this installation: {error}",
                file=sys.stderr,
            )
            return 2
        return program(rest)
    print(f"run.py: unknown command {command}: {_hint(command)}", file=sys.stderr)
    return 2


def overview() -> str:
    """Every command on one screen."""
    lines = [HEAD]
    for title, commands in GROUPS.items():
        lines += [f"{title}:", *_lines(commands), ""]
    lines.append(TAIL)
    lines += [f"  {int(status)}  {meaning}" for status, meaning in MEANING.items()]
    return "\n".join(lines) + "\n"


def _lines(commands: dict[str, Entry]) -> list[str]:
    return [f"  {name:<11} {entry.about}" for name, entry in commands.items()]


def _load(where: str) -> Callable[..., int]:
    module, _, name = where.partition(":")
    found: Callable[..., int] = getattr(import_module(module), name)
    return found


def _hint(command: str) -> str:
    from difflib import get_close_matches  # only a mistake pays for it

    near = get_close_matches(command, COMMANDS, 1)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(COMMANDS)}"


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:  # where nothing else was made of it
        sys.exit(130)
