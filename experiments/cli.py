"""`python run.py experiment NAME`: run an experiment, show and keep what it found.

Exit status: 0 it holds, 1 it is violated, 2 unknown, or called wrongly.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from access import KEEP, cannot, require
from client import InvalidRequest, sendable
from experiments.catalogue import CATALOGUE, Experiment
from experiments.clusters import OwnClusters, RunningClusters
from experiments.plot import draw
from experiments.recording import Recording
from experiments.report import exit_status, outcome_of, save, table_of, words_of
from experiments.results import TrialResult
from experiments.runner import Runner, Watch, units
from processes.signals import stoppable

LIST = "list"
RESULTS = Path("results")


def main(argv: Sequence[str]) -> int:
    """Run one experiment, or list them; returns the exit status."""
    console = Console()
    try:
        chosen = parser().parse_args(argv)
    except SystemExit as stop:  # argparse has said why
        return int(stop.code or 0)
    if chosen.name == LIST:
        console.print(catalogue(), markup=False, highlight=False)
        return 0
    if not chosen.no_plot and find_spec("matplotlib") is None:
        console.print("cannot draw without matplotlib: install it, or give --no-plot")
        return 2
    experiment = CATALOGUE[chosen.name]
    try:
        folder = new_folder(chosen.out, experiment.name)
    except OSError as error:
        return _no_folder(console, chosen.out or RESULTS, error)
    try:
        with stoppable():
            results = _run(console, experiment, chosen, folder)
            return _report(console, experiment, results, chosen, folder)
    except OSError as error:
        console.print(f"cannot write results: {error}", markup=False)
        return 2
    except KeyboardInterrupt:
        console.print("Unknown: interrupted before there was a result.")
        return 2


def _run(
    console: Console, experiment: Experiment, chosen: argparse.Namespace, folder: Path
) -> list[TrialResult]:
    """Every trial, with a progress bar and a line as each ends."""
    trials = experiment.trials
    total = sum(units(trial, chosen.repeat) for trial in trials)
    title = f"{experiment.name}, seed {chosen.seed}"
    console.print(title, highlight=False)
    with (
        (folder / "history.jsonl").open("w", encoding="utf-8", buffering=1) as history,
        _clusters(experiment, chosen, folder) as clusters,
        Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        ) as progress,
    ):
        bar = progress.add_task(experiment.name, total=total)

        def finished(result: TrialResult) -> None:
            text = f"test {result.trial.name}: {result.verdict.value}, {outcome_of(result)}"
            progress.console.print(text, markup=False, highlight=False)

        watch = Watch(lambda count: progress.advance(bar, count), finished)
        runner = Runner(
            clusters,
            watch,
            seed=chosen.seed,
            repeats=chosen.repeat,
            recording=Recording(history.write, note=f"experiment {title}"),
        )
        return runner.run(trials)


def _clusters(
    experiment: Experiment, chosen: argparse.Namespace, folder: Path
) -> OwnClusters | RunningClusters:
    if chosen.url:
        prefix = f"{experiment.name}-{secrets.token_hex(4)}-"
        return RunningClusters(chosen.url, chosen.token, prefix)
    return OwnClusters(folder, chosen.storage, chosen.token)


def _report(
    console: Console,
    experiment: Experiment,
    results: Sequence[TrialResult],
    chosen: argparse.Namespace,
    folder: Path,
) -> int:
    """The table, the verdict in words and the files; returns the exit status."""
    console.print(table_of(experiment, results))
    console.print(words_of(results), markup=False, highlight=False, soft_wrap=True)
    options = {n: v for n, v in vars(chosen).items() if n not in {"token", "out"}}
    try:
        save(folder, experiment, results, options)
        if not chosen.no_plot:
            draw(folder, results)
    except OSError as error:
        return _no_folder(console, folder, error)
    console.print(f"Kept in {folder}", markup=False, highlight=False, soft_wrap=True)
    return exit_status(results)


def _token(text: str) -> str:
    try:
        return sendable(text)
    except InvalidRequest as error:
        raise argparse.ArgumentTypeError(error.detail) from None


def new_folder(chosen: Path | None, name: str) -> Path:
    """The folder of this run, made; one of its own unless the caller chose it.

    OSError if it cannot be written to.
    """
    folder = chosen or RESULTS / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    folder.mkdir(parents=True, exist_ok=True)
    require(folder, KEEP)
    return folder.resolve()


def _no_folder(console: Console, folder: Path, error: OSError) -> int:
    text = cannot(KEEP, folder, error, "give --out another folder")
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    return 2


def catalogue() -> str:
    """Every experiment, with its tests."""
    lines = []
    for experiment in CATALOGUE.values():
        lines.append(f"{experiment.name}: {experiment.title}")
        lines += [
            f"  {trial.name}  {trial.shape!s:<14}{trial.steps}: {trial.claim}"
            for trial in experiment.trials
        ]
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    """The arguments of `run.py experiment`."""
    made = argparse.ArgumentParser(
        prog="run.py experiment",
        description="Break a cluster on purpose and see what survives.",
        epilog=f"{catalogue()}\n\nexit status: 0 holds, 1 violated, 2 unknown",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "name", choices=[*CATALOGUE, LIST], metavar="NAME", help="which one, or list"
    )
    made.add_argument(
        "--url",
        action="append",
        default=[],
        help="use this running server instead of one of our own; may be given again, for "
        "another shape",
    )
    made.add_argument("--token", type=_token, help="the store's api_token")
    made.add_argument("--seed", type=int, default=1, help="of keys and values (1)")
    made.add_argument("--out", type=Path, help="folder (results/<name>-<time>)")
    made.add_argument(
        "--storage",
        choices=("memory", "sqlite"),
        default="sqlite",
        help="of servers of our own (sqlite)",
    )
    made.add_argument(
        "--repeat", type=_repeats, default=1, help="runs of each test (1)"
    )
    made.add_argument("--no-plot", action="store_true", help="draw nothing")
    return made


def _repeats(text: str) -> int:
    count = int(text)
    if not 1 <= count <= 1_000:
        raise argparse.ArgumentTypeError(f"1 to 1000, not {text}")
    return count


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
