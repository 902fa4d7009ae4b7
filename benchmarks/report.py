"""What a run of the benchmarks found: a table to read and a JSON file to keep."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from benchmarks.figures import Figure, shown
from provenance import commit, machine

STYLES = {
    "holds": "green",
    "missed": "yellow",
    "failed": "bold red",
    "reached": "green",
    "not reached": "dim",
    "not measured": "yellow",
    "": "dim",
}
UNJUDGED = ("failed", "not measured")  # what is so however short the run was

Results = Mapping[str, Sequence[Figure]]  # name of the measurement -> its figures


def table_of(title: str, figures: Sequence[Figure], *, judged: bool) -> Table:
    """One measurement, a line a figure."""
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE)
    table.add_column("what")
    table.add_column("median", justify="right")
    table.add_column("bar")
    table.add_column("")
    table.add_column("rounds, detail", style="dim", overflow="fold")
    for figure in figures:
        bar = figure.bar.text(figure.unit) if figure.bar else ""
        standing = standing_of(figure, judged=judged)
        table.add_row(
            figure.name,
            shown(figure.value, figure.unit),
            bar,
            f"[{STYLES[standing]}]{standing}[/]",
            figure.detail or spread(figure),
        )
    return table


def spread(figure: Figure) -> str:
    """From which to which value the rounds went."""
    if len(figure.rounds) < 2:
        return ""
    low, high = min(figure.rounds), max(figure.rounds)
    return f"{shown(low, '')} to {shown(high, '')} in {len(figure.rounds)} rounds"


def standing_of(figure: Figure, *, judged: bool) -> str:
    """Where a figure stands; a run that only tries says nothing about bars."""
    if judged or figure.standing in UNJUDGED:
        return figure.standing
    return ""


def verdict_of(results: Results, *, judged: bool) -> tuple[int, str]:
    """The exit status, and why in words."""
    status, words = _verdict_of(results, judged=judged)
    return status, " ".join([words, *_not_measured(results)])


def _verdict_of(results: Results, *, judged: bool) -> tuple[int, str]:
    every = [(name, figure) for name, figures in results.items() for figure in figures]
    standings = [
        (standing_of(f, judged=judged), f"{name}: {f.name}") for name, f in every
    ]
    failed = [where for standing, where in standings if standing == "failed"]
    missed = [where for standing, where in standings if standing == "missed"]
    held = sum(standing == "holds" for standing, _ in standings)
    if failed:
        return 1, f"Failed: wrong or no answers came ({'; '.join(failed)})."
    if missed:
        bars = held + len(missed)
        return 1, f"{held} of {bars} bars hold; missed: {'; '.join(missed)}."
    if all(standing == "not measured" for standing, _ in standings):
        return 2, "Unknown: nothing was measured."
    if not judged:
        return 0, "It runs. Too short to judge by: leave out --quick for that."
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
