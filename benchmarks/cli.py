"""`python run.py bench`: measure, print beside the bars, keep as JSON.

The exit statuses are told by its help.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.status import Status

from access import KEEP, cannot, require
from benchmarks.catalogue import CATALOGUE, Measurement
from benchmarks.figures import Figure
from benchmarks.options import Options
from benchmarks.report import (
    save,
    table_of,
    table_of_tries,
    verdict_of,
    without_bars,
)
from processes.server import ProcessFailed
from processes.signals import stoppable

RESULTS = Path("results")
EXITS = """\
exit status: 0 every bar holds (with --quick: each part runs), 1 a bar is missed or an
answer was wrong, 2 it could not be measured, or was called wrongly"""
QUICK = {"seconds": 0.2, "rounds": 1, "scale": 0.01}


def main(argv: Sequence[str]) -> int:
    """Run what was asked for; returns the exit status."""
    console = Console()
    try:
        chosen = parser().parse_args(argv)
    except SystemExit as stop:  # argparse has said why
        return int(stop.code or 0)
    try:
        options = options_of(chosen)
    except OSError as error:
        folder = chosen.out or RESULTS
        text = cannot(KEEP, folder, error, "give --out another folder")
        console.print(text, markup=False, highlight=False, soft_wrap=True)
        return 2
    selected = [
        each for each in CATALOGUE if not chosen.only or each.name in chosen.only
    ]
    try:
        with stoppable():
            return _run(console, selected, options, chosen)
    except KeyboardInterrupt:
        console.print("Stopped before the end: nothing was kept.")
        return 2
    except (ProcessFailed, OSError) as error:
        console.print(f"Unknown: {error}", markup=False)
        console.print(f"What the servers said is in {options.folder}.", markup=False)
        return 2


def _run(
    console: Console,
    selected: Sequence[Measurement],
    options: Options,
    chosen: argparse.Namespace,
) -> int:
    results: dict[str, list[Figure]] = {}
    with Status("", console=console) as status:
        for measurement in selected:
            telling = Options(**{**vars(options), "tell": status.update})
            figures = measurement.run(telling)
            title = f"{measurement.name}: {measurement.title}"
            if chosen.quick:
                figures = without_bars(figures)
                console.print(table_of_tries(title, figures))
            else:
                console.print(table_of(title, figures))
            results[measurement.name] = figures
    path = save(options.folder, results, {**vars(chosen), "out": str(options.folder)})
    code, words = verdict_of(results, is_try=chosen.quick)
    console.print(f"\n{words}\nKept in {path}", markup=False, soft_wrap=True)
    return code


def parser() -> argparse.ArgumentParser:
    """The flags of `run.py bench`."""
    listed = "\n".join(f"  {each.name:<12}{each.title}" for each in CATALOGUE)
    made = argparse.ArgumentParser(
        prog="run.py bench",
        description="Measure this store beside its bars and its peers.",
        epilog=f"what can be measured:\n{listed}\n\n{EXITS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [each.name for each in CATALOGUE]
    made.add_argument("--only", nargs="+", choices=names, metavar="NAME", default=[])
    made.add_argument("--full", action="store_true", help="also what takes minutes")
    made.add_argument(
        "--quick",
        action="store_true",
        help="only try whether each part runs: no number, no bar, no verdict on them",
    )
    made.add_argument(
        "--seconds",
        type=_seconds,
        default=None,
        help="of load in one round of one case (default: 1)",
    )
    made.add_argument("--out", type=Path, help="folder (default: results/bench-<time>)")
    return made


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0.05 <= seconds <= 600:
        raise argparse.ArgumentTypeError(f"0.05 to 600 seconds, not {text}")
    return seconds


def options_of(chosen: argparse.Namespace) -> Options:
    """What the flags mean; makes the folder of the run, or raises OSError."""
    folder = chosen.out or RESULTS / f"bench-{datetime.now():%Y%m%d-%H%M%S}"
    folder.mkdir(parents=True, exist_ok=True)
    require(folder, KEEP)
    amount = dict(QUICK) if chosen.quick else {}
    if chosen.seconds is not None:
        amount["seconds"] = chosen.seconds
    return Options(folder=folder.resolve(), full=chosen.full, **amount)  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
