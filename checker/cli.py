"""The command line: `python run.py check FILE` judges a history file.

Exit status: 0 every property holds, 1 at least one is violated, 2 at least one is
unknown and none violated, or the file or the call is no good. `docs/histories.md`
describes the file and the properties.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence

import msgspec
from rich.console import Console
from rich.table import Table

from access import READ, cannot
from checker.history import BadHistory, History, read_history
from checker.judgement import judge
from checker.linearizability import BUDGET
from checker.timeline import timeline
from checker.verdict import HOLDS, UNKNOWN, VIOLATED, Verdict

STATUS = {HOLDS: 0, VIOLATED: 1, UNKNOWN: 2}
COLOURS = {HOLDS: "green", VIOLATED: "bold red", UNKNOWN: "yellow"}
SHOWN_MAX = 5  # violations of one property that are shown in full


def main(argv: Sequence[str]) -> int:
    """Judge one file; the status to exit with."""
    try:
        options = _parse(argv)
    except SystemExit as done:  # argparse has said what is wrong, or printed the help
        return int(done.code or 0)
    try:
        history = _read(options.file)
    except BadHistory as error:
        return _refuse(f"{options.file}: {error}")
    except OSError as error:
        return _refuse(cannot(READ, options.file, error))
    if not history.operations:
        return _refuse(f"{options.file}: there is no operation in it to judge")
    verdicts = judge(history, options.budget)
    if options.json:
        document = {"answer": overall(verdicts), "verdicts": verdicts}
        sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
    else:
        show(verdicts, history, Console(soft_wrap=True, highlight=False))
    return STATUS[overall(verdicts)]


def overall(verdicts: Sequence[Verdict]) -> str:
    """The one answer: violated if anything is, else unknown if anything is."""
    answers = {verdict.answer for verdict in verdicts}
    return next(
        each for each in (VIOLATED, UNKNOWN, HOLDS) if each in {*answers, HOLDS}
    )


def show(verdicts: Sequence[Verdict], history: History, console: Console) -> None:
    """Print a table of the properties, then what speaks against each."""
    by_property: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        by_property.setdefault(verdict.property, []).append(verdict)
    table = Table("property", "answer", "details")
    for name, group in by_property.items():
        answer = overall(group)
        table.add_row(name, f"[{COLOURS[answer]}]{answer}[/]", _details(group))
    keys = len({each.key for each in history.operations})
    note = f" ({history.note})" if history.note else ""
    title = f"{len(history.operations)} operations on {keys} keys{note}"
    console.print(title, markup=False)
    console.print(table)
    for group in by_property.values():
        bad = [verdict for verdict in group if verdict.answer != HOLDS]
        for verdict in bad[:SHOWN_MAX]:
            _show_one(verdict, history.unit, console)
        if len(bad) > SHOWN_MAX:
            console.print(f"\n{bad[0].property}: {len(bad) - SHOWN_MAX} more keys")


def _show_one(verdict: Verdict, unit: str, console: Console) -> None:
    where = f" on {verdict.key}" if verdict.key is not None else ""
    head = f"\n{verdict.property} {verdict.answer}{where}: {_clip(verdict.why)}"
    console.print(head, markup=False)
    if verdict.evidence:
        console.print(timeline(verdict.evidence, unit), markup=False)


def _details(group: Sequence[Verdict]) -> str:
    bad = [verdict for verdict in group if verdict.answer != HOLDS]
    if len(bad) > 1:
        return f"{len(bad)} keys"
    shown = (bad or group)[0]
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in shown.details.items()
        if value
    )


def _clip(text: str) -> str:
    return text if len(text) <= 400 else text[:397] + "..."


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run.py check", description=__doc__)
    parser.add_argument("file", help="the history, JSON lines; - is standard input")
    parser.add_argument(
        "--budget",
        type=_positive,
        default=BUDGET,
        help="configurations to look at for one key before giving up (%(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser.parse_args(argv)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 on, not {text}")
    return int(text)


def _read(name: str) -> History:
    if name != "-":
        with open(name, "rb") as stream:
            return read_history(_lines(stream))
    if sys.stdin is None:
        raise OSError("there is no standard input")
    given = getattr(sys.stdin, "buffer", None)  # none where text was put in its place
    return read_history(sys.stdin if given is None else _lines(given))


def _lines(stream: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of a file, whichever of the three line ends they have."""
    for line in stream:
        yield from line.splitlines()


def _refuse(reason: str) -> int:
    sys.stderr.write(f"{reason}\n")
    return 2
