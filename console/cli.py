"""The client commands as one click group: finds a command, runs it, tells what is wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from console.catalogue import CLIENT
from console.exits import Exit
from console.failures import problem
from console.words import one_line

PROGRAM = "python run.py"


class Commands(click.Group):
    """The commands of the catalogue, each imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(CLIENT)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in CLIENT:
            return None
        module, _, name = CLIENT[cmd_name].where.partition(":")
        found: click.Command = getattr(import_module(module), name)
        return found


def main(argv: Sequence[str]) -> int:
    """Run the command that is named first; the status to exit with."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal may lack a key's letters
            stream.reconfigure(errors="backslashreplace")
    try:
        status = Commands("run.py").main(list(argv), PROGRAM, standalone_mode=False)
    except click.ClickException as error:
        return _refuse(error, as_json="--json" in argv)
    except click.Abort:
        raise KeyboardInterrupt from None
    return int(status or Exit.DONE)


def _refuse(error: click.ClickException, *, as_json: bool) -> int:
    """One line on what is wrong with the call."""
    text = one_line(error.format_message()).rstrip(".")
    if isinstance(error, click.NoSuchOption):
        near = f", did you mean {error.possibilities[0]}" if error.possibilities else ""
        text = (
            f"no option {error.option_name}{near} (a word that is none goes after --)"
        )
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else PROGRAM
    text = f"{command.removeprefix('python ')}: {text}; --help tells more"
    line = json.dumps(problem(text, "called_wrongly")) if as_json else text
    click.echo(line, err=True)
    return Exit.WRONG
