"""Tables: coloured and folded to the width of a terminal, plain and unfolded in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDE = 1_000  # columns, where no person looks
COLOURS = {
    "up": "green",
    "down": "bold red",
    "recovering": "yellow",
    "ready": "green",
    "leader": "bold",
    "learner": "yellow",
    "newest": "green",
    "older": "yellow",
    "absent": "yellow",
}


def console() -> Console:
    """The standard output, as wide as it is. NO_COLOR is respected."""
    width = None if sys.stdout.isatty() else WIDE
    return Console(width=width, highlight=False, emoji=False, markup=False)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table without lines; a column named with `>` before it has numbers in it."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        number = name.startswith(">")
        made.add_column(
            name.removeprefix(">"),
            justify="right" if number else "left",
            no_wrap=number,
            overflow="fold",
        )
    for row in rows:
        made.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in row))
    return made


def text_of(*parts: Table | Text | str) -> str:
    """The parts as they look on this output, one below the other."""
    screen = console()
    with screen.capture() as capture:
        for part in parts:
            screen.print(part)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())
