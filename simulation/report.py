"""What a campaign found, in words and tables for a terminal, and what is kept of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.box import SIMPLE
from rich.table import Table

from checker.history import write_history
from simulation.faults import FAULTS
from simulation.goals import injected_by_kind, reached
from simulation.kernel import SECOND_US
from simulation.network import ANOMALIES
from simulation.plan import Plan, save_plan
from simulation.search import Tally
from simulation.shrink import Shrinker
from simulation.timeline import told
from simulation.trial import Outcome, run


def summary_of(tally: Tally, seconds: float) -> str:
    """How much was run, in a line or two."""
    virtual = tally.virtual_us / SECOND_US
    share = tally.answered / tally.operations if tally.operations else 0.0
    return (
        f"{tally.seeds:,} seeds in {seconds:,.1f} s ({tally.seeds / seconds:,.0f} a second): "
        f"{virtual:,.0f} s of virtual time, {virtual / seconds:,.0f} times the real time\n"
        f"{tally.operations:,} operations checked ({tally.operations / seconds:,.0f} a second; "
        f"{share:.0%} acknowledged), {sum(tally.injected.values()):,} faults injected"
    )


def tables_of(
    tally: Tally, families: frozenset[str] | None = None, width: int = 80
) -> list[Table]:
    """The faults that were injected, by kind, and what was exercised, how often."""
    faults = injected_by_kind(tally.injected)
    if families is not None:
        faults = {
            kind: count
            for kind, count in faults.items()
            if count or _family_of(kind) in families
        }
    exercised = _table("exercised", reached(tally.exercised), max(1, width // 55))
    return [_table("faults injected", faults, 3), exercised] if faults else [exercised]


def never(tally: Tally) -> list[str]:
    """What was never exercised."""
    return [goal for goal, count in reached(tally.exercised).items() if not count]


def _family_of(kind: str) -> str:
    return "noise" if kind in ANOMALIES else FAULTS[kind].family


def _table(title: str, counts: Mapping[str, int], columns: int) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=SIMPLE,
        show_header=False,
    )
    for _ in range(columns):
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
    cells = []
    for name, count in counts.items():
        style = "" if count else "yellow"
        cells.append((f"[{style}]{name}[/]" if style else name,
                      f"{count:,}" if count else "[yellow]never[/]"))  # fmt: skip
    rows = -(-len(cells) // columns)
    for row in range(rows):
        line = [cells[n] for n in range(row, len(cells), rows)]
        table.add_row(*(text for cell in line for text in cell))
    return table


class Explanation:
    """A violation made small: the shrunk outcome, its timeline, and where it is kept."""

    def __init__(self, outcome: Outcome, shrink: bool = True) -> None:
        self.first = outcome
        self.runs = 0
        self.smallest = outcome
        if shrink:
            shrinker = Shrinker(outcome, run)
            self.smallest = shrinker.shrink()
            self.runs = shrinker.runs

    def text(self) -> str:
        """What was violated, by how little, and step by step."""
        violation = self.smallest.violation
        assert violation is not None, "there is nothing to explain"
        verdict = violation.verdict
        key = verdict.key if verdict is not None else None
        plan = self.smallest.plan
        size = _size(plan, self.smallest)
        if self.runs:
            before = _size(self.first.plan, self.first)
            size = f"{before} shrunk to {size} in {self.runs} runs"
        return (
            f"Violated: {violation.what}\n  {violation.why}\n\n"
            f"{plan.nodes} nodes, replication factor {plan.replication_factor}, "
            f"min_in_sync {plan.min_in_sync}; {size}\n\n"
            f"{told(plan, key)}"
        )

    def save(self, folder: Path) -> Path:
        """Write the plans and the histories; returns the path of the smallest plan."""
        folder.mkdir(parents=True, exist_ok=True)
        seed = self.first.plan.seed
        save_plan(self.first.plan, folder / f"seed-{seed}.json")
        smallest = folder / f"seed-{seed}-shrunk.json"
        save_plan(self.smallest.plan, smallest)
        save_history(self.smallest, folder / f"seed-{seed}-shrunk.history.jsonl")
        return smallest


def save_history(outcome: Outcome, path: Path) -> None:
    """Write what clients saw, for the checker or another tool to judge."""
    with path.open("w", encoding="utf-8") as stream:
        write_history(stream, outcome.history)


def _size(plan: Plan, outcome: Outcome) -> str:
    anomalies = plan.anomalies if plan.anomalies is not None else outcome.anomalies
    return ", ".join(
        f"{len(parts)} {word if len(parts) == 1 else plural}"
        for parts, word, plural in (
            (plan.steps, "request", "requests"),
            (plan.faults, "fault", "faults"),
            (anomalies, "anomaly", "anomalies"),
        )
    )
