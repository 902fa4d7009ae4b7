"""What an experiment found, for people and for programs: a table, words and files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from experiments.catalogue import Experiment
from experiments.expectation import OK
from experiments.results import TrialResult, Verdict, overall
from provenance import commit, machine

FINDINGS_SHOWN = 5  # of each trial; the file has all
STYLES = {
    Verdict.HOLDS: "green",
    Verdict.VIOLATED: "bold red",
    Verdict.UNKNOWN: "yellow",
    Verdict.NOT_RUN: "dim",
}
# Of one test and of many, in the order in which they are told.
STANDINGS = {
    Verdict.HOLDS: ("holds", "hold"),
    Verdict.VIOLATED: ("does not hold", "do not hold"),
    Verdict.UNKNOWN: ("is unknown", "are unknown"),
    Verdict.NOT_RUN: ("was not run", "were not run"),
}
EXIT_STATUS = {Verdict.HOLDS: 0, Verdict.VIOLATED: 1}  # anything else is 2


def table_of(experiment: Experiment, results: Sequence[TrialResult]) -> Table:
    """A line for each trial: what was claimed beside what was found."""
    table = Table(
        title=f"{experiment.name}: {experiment.title}",
        title_justify="left",
        title_style="bold",
        box=SIMPLE,
    )
    for heading in ("", "test", "claim", "result", "verdict"):
        table.add_column(heading, overflow="fold")
    for result in results:
        trial, verdict = result.trial, result.verdict
        table.add_row(
            trial.name,
            f"{trial.shape}: {trial.steps}",
            trial.claim,
            Text(outcome_of(result)),
            Text(verdict.value, STYLES[verdict]),
        )
    return table


def outcome_of(result: TrialResult) -> str:
    """What a trial found, in a few words."""
    if result.not_run:
        return result.not_run
    if result.findings:
        wrong = sum(bool(case.findings) for case in result.cases)
        return f"{len(result.findings)} wrong answers, in {wrong} of {len(result.cases)} runs"
    if result.problems:
        return result.problems[0]
    latency = result.latency(result.timed_operation)
    if result.trial.mean_ms_max is not None and latency is not None:
        return f"mean of {latency.mean:.1f} ms, 99 % within {latency.p99:.1f} ms"
    reads = sum(
        seen.operation == "read" for case in result.cases for seen in case.observations
    )
    choices = len({case.case.failed for case in result.cases})
    return f"{reads} of {reads} reads answered right, {choices} choices of nodes"


def words_of(results: Sequence[TrialResult]) -> str:
    """The verdict on the experiment in words, with the first of what was wrong."""
    lines = [_sentence(results)]
    for result in results:
        found = [*result.findings, *(result.problems if not result.findings else [])]
        lines += [
            f"  test {result.trial.name} {text}" for text in found[:FINDINGS_SHOWN]
        ]
        if len(found) > FINDINGS_SHOWN:
            lines.append(f"  ... and {len(found) - FINDINGS_SHOWN} more like these")
    return "\n".join(lines)


def _sentence(results: Sequence[TrialResult]) -> str:
    """The verdict, and where each test stands, so that the numbers add up."""
    names: dict[Verdict, list[str]] = {verdict: [] for verdict in STANDINGS}
    for result in results:
        names[result.verdict].append(result.trial.name)
    parts = [_standing(verdict, which) for verdict, which in names.items() if which]
    tests = "1 test" if len(results) == 1 else f"{len(results)} tests"
    verdict = overall(results).value.capitalize()
    return f"{verdict}: of {tests}, {', '.join(parts) or 'none was run'}."


def _standing(verdict: Verdict, names: Sequence[str]) -> str:
    """How many tests stand so; which, where they do not simply hold."""
    one, many = STANDINGS[verdict]
    text = f"{len(names)} {one if len(names) == 1 else many}"
    if verdict is Verdict.HOLDS:
        return text
    return f"{text} (test{'' if len(names) == 1 else 's'} {', '.join(names)})"


def exit_status(results: Sequence[TrialResult]) -> int:
    """0 holds, 1 violated, 2 unknown."""
    return EXIT_STATUS.get(overall(results), 2)


# --- Files -------------------------------------------------------------------------------


def save(
    folder: Path,
    experiment: Experiment,
    results: Sequence[TrialResult],
    options: Mapping[str, Any],
) -> None:
    """Write `result.json` and `requests.jsonl` into the folder of the run."""
    content = {
        "experiment": experiment.name,
        "at": datetime.now().astimezone().isoformat(timespec="seconds"),
        "verdict": overall(results).value,
        "options": dict(options),
        "commit": commit(),
        "machine": machine(),
        "trials": [as_dict(result) for result in results],
    }
    text = json.dumps(content, indent=2, ensure_ascii=False)
    (folder / "result.json").write_text(text + "\n", "utf-8")
    with (folder / "requests.jsonl").open("w", encoding="utf-8") as requests:
        for result in results:
            for case in result.cases:
                head = {"trial": result.trial.name, "case": str(case.case)}
                for seen in case.observations:
                    requests.write(json.dumps({**head, **asdict(seen)}) + "\n")


def as_dict(result: TrialResult) -> dict[str, Any]:
    """A trial, what it found, and how long its requests took."""
    trial = asdict(result.trial)
    trial["scenario"] = result.trial.scenario.value
    latencies = {name: result.latency(name) for name in result.operations}
    return {
        **trial,
        "verdict": result.verdict.value,
        "not_run": result.not_run or None,
        "latency_ms": {name: asdict(each) for name, each in latencies.items() if each},
        "cases": [
            {
                "failed": case.case.failed,
                "changes": case.case.changes,
                "repeat": case.case.repeat,
                "verdict": case.verdict.value,
                "findings": case.findings,
                "problem": case.problem or None,
                "requests": len(case.observations),
                "answered_ok": sum(seen.outcome == OK for seen in case.observations),
            }
            for case in result.cases
        ],
    }
