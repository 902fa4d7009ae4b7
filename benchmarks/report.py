"""What a run of the benchmarks found: a table to read and a JSON file to keep."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from benchmarks.figures import Figure, shown
from provenance import commit, machine

RUNS = "runs"  # all that a run tells that only tries
STYLES = {
    "holds": "green",
    "missed": "yellow",
    "failed": "bold red",
    "reached": "green",
    "not reached": "dim",
    "not measured": "yellow",
    RUNS: "green",
    "": "dim",
}

Results = Mapping[str, Sequence[Figure]]  # name of the measurement -> its figures


def table_of(title: str, figures: Sequence[Figure]) -> Table:
    """One measurement, a line a figure."""
    table = _table(title)
    table.add_column("median", justify="right")
    table.add_column("bar")
    table.add_column("")
    table.add_column("rounds, detail", style="dim", overflow="fold")
    for figure in figures:
        bar = figure.bar.text(figure.unit) if figure.bar else ""
        table.add_row(
            figure.name,
            shown(figure.value, figure.unit),
            bar,
            _styled(figure.standing),
            figure.detail or spread(figure),
        )
    return table


def table_of_tries(title: str, figures: Sequence[Figure]) -> Table:
    """One measurement of a run that only tries: that it runs, and no number."""
    table = _table(title)
    table.add_column("")
    table.add_column("why", style="dim", overflow="fold")
    for figure in figures:
        why = figure.detail if figure.standing else ""
        table.add_row(figure.name, _styled(figure.standing or RUNS), why)
    return table


def without_bars(figures: Sequence[Figure]) -> list[Figure]:
    """The figures of a run that is too short to be held against a bar."""
    return [replace(figure, bar=None) for figure in figures]


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE)
    table.add_column("what")
    return table


def _styled(standing: str) -> str:
    return f"[{STYLES[standing]}]{standing}[/]"


def spread(figure: Figure) -> str:
    """From which to which value the rounds went."""
    if len(figure.rounds) < 2:
        return ""
    low, high = min(figure.rounds), max(figure.rounds)
    return f"{shown(low, '')} to {shown(high, '')} in {len(figure.rounds)} rounds"


def verdict_of(results: Results, *, is_try: bool = False) -> tuple[int, str]:
    """The exit status, and why in words; of a try only whether each part runs."""
    every = [(name, figure) for name, figures in results.items() for figure in figures]
    standings = [(figure.standing, f"{name}: {figure.name}") for name, figure in every]
    failed = [where for standing, where in standings if standing == "failed"]
    if failed:
        status, words = 1, f"Failed: wrong or no answers came ({'; '.join(failed)})."
    elif all(standing == "not measured" for standing, _ in standings):
        status, words = 2, "Unknown: nothing was measured."
    elif is_try:
        status, words = 0, _tried([standing for standing, _ in standings])
    else:
        status, words = _beside_bars(standings)
    return status, " ".join([words, *_not_measured(results)])


def _tried(standings: Sequence[str]) -> str:
    runs = sum(standing != "not measured" for standing in standings)
    return (
        f"It runs ({runs} of {len(standings)} lines), and that is all this says: too short "
        "to measure anything. Leave out --quick for that."
    )


def _beside_bars(standings: Sequence[tuple[str, str]]) -> tuple[int, str]:
    missed = [where for standing, where in standings if standing == "missed"]
    held = sum(standing == "holds" for standing, _ in standings)
    if missed:
        bars = held + len(missed)
        return 1, f"{held} of {bars} bars hold; missed: {'; '.join(missed)}."
    return 0, f"Every bar that was measured holds ({held} of {held})."


def _not_measured(results: Results) -> list[str]:
    """A sentence for each reason why something was not measured."""
    names: dict[str, set[str]] = defaultdict(set)
    for name, figures in results.items():
        for figure in figures:
            if figure.value is None:
                names[figure.detail].add(name)
    return [
        f"Not measured: {', '.join(sorted(which))} ({why})."
        for why, which in names.items()
    ]


def save(folder: Path, results: Results, options: Mapping[str, Any]) -> Path:
    """Write `result.json` into the folder of the run."""
    path = folder / "result.json"
    content = {
        "at": datetime.now().astimezone().isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "options": dict(options),
        "results": {name: list(map(as_dict, each)) for name, each in results.items()},
    }
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return path


def as_dict(figure: Figure) -> dict[str, Any]:
    """A figure with what follows from it."""
    return {
        **asdict(figure),
        "standing": figure.standing,
        "share_of_bar": figure.share_of_bar,
    }
