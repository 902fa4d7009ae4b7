"""Stores with one classical bug each, every one of which the simulator must find.

A simulator that finds nothing proves nothing, unless it is known to find what is there.
To see after how many seeds each is found, and by how small a run it is shown:

    python -m tests.planted_bugs
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from simulation.plan import Plan
from simulation.shrink import Shrinker
from simulation.swarm import draw_plan
from simulation.trial import Outcome, Trial, Violation
from tests.planted_bugs_base import Bug
from tests.planted_bugs_cluster import CLUSTER_BUGS
from tests.planted_bugs_copies import COPY_BUGS
from tests.planted_bugs_nodes import NODE_BUGS
from tests.planted_bugs_protocol import PROTOCOL_BUGS

BUGS: dict[str, Bug] = {
    bug.name: bug for bug in (*PROTOCOL_BUGS, *CLUSTER_BUGS, *COPY_BUGS, *NODE_BUGS)
}
SHRINK_RUNS_MAX = 500
BEGIN, END = "<!-- planted bugs: begin -->", "<!-- planted bugs: end -->"
WORDS_MAX = 180  # letters of a reason


class NotFound(Exception):
    """No seed showed the bug."""


class Found(NamedTuple):
    """After how many seeds a bug was found, and what the run of the last one came to."""

    bug: Bug
    seeds: int
    violation: Violation
    outcome: Outcome


def find(bug: Bug, first_seed: int = 0, seeds_max: int | None = None) -> Found:
    """Run seeds in order in the store that has the bug, up to the first violation."""
    most = seeds_max if seeds_max is not None else bug.seeds_max
    with bug.plant():
        for seeds in range(1, most + 1):
            outcome = run(draw_plan(first_seed + seeds - 1))
            if outcome.violation is not None:
                return Found(bug, seeds, outcome.violation, outcome)
    raise NotFound(f"{most:,} seeds from {first_seed} on did not find it: {bug.name}")


def shrunk(found: Found, runs_max: int = SHRINK_RUNS_MAX) -> Outcome:
    """A run as small as may be that shows the bug by the same property."""
    with found.bug.plant():
        return Shrinker(found.outcome, run, runs_max).shrink()


def run(plan: Plan) -> Outcome:
    """Run a plan and judge it."""
    return Trial(plan).run()


# --- The table -------------------------------------------------------------------------


def table(bugs: Iterable[Bug], say: Callable[[str], None]) -> str:
    """The bugs, what found them, and how, as Markdown. NotFound if one was not."""
    lines = [
        "| the store | known from | seeds | violated | shown by |",
        "|---|---|--:|---|---|",
    ]
    seeds = []
    for bug in bugs:
        found = find(bug)
        smallest = shrunk(found)
        seeds.append(found.seeds)
        lines.append(row(found, smallest))
        say(f"{found.seeds:>5,} {bug.name}")
    median = statistics.median(seeds)
    quick = sum(count <= 100 for count in seeds)
    lines += [
        "",
        f"{len(seeds)} of {len(seeds)} found: half of them within {median:,.0f} seeds (the "
        f"median), {quick} within 100, the last within {max(seeds):,}.",
    ]
    return "\n".join(lines)


def row(found: Found, smallest: Outcome) -> str:
    """One line of the table."""
    violation = smallest.violation
    assert violation is not None, "what was shrunk still violates something"
    cells = (
        found.bug.name,
        found.bug.source,
        f"{found.seeds:,}",
        violation.what,
        f"{_size(smallest)}: {_reason(violation)}",
    )
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _size(outcome: Outcome) -> str:
    """How large a run is, and which faults it needs."""
    plan = outcome.plan
    anomalies = plan.anomalies if plan.anomalies is not None else outcome.anomalies
    faults = Counter(
        [fault.kind for fault in plan.faults]
        + [anomaly.kind.replace("_", " ") for anomaly in anomalies]
    )
    kinds = [f"{kind} ×{n}" if n > 1 else kind for kind, n in faults.items()]
    return f"{_many(len(plan.steps), 'request')}, {' + '.join(kinds) or 'no fault'}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _reason(violation: Violation) -> str:
    """Why it is a violation, times and the store's own numbers left out."""
    text = re.sub(r" \((?:from )?\d[^)]*\)", "", violation.why)
    text = re.sub(r",? ?version=\w+|, held=.*(?=\))", "", text).replace("( ", "(")
    if len(text) > WORDS_MAX:
        text = f"{text[:WORDS_MAX].rpartition(' ')[0].rstrip(';:,')} ..."
    return text


# --- The command -----------------------------------------------------------------------


def replaced(text: str, by: str) -> str:
    """The text with what stands between the marks replaced; ValueError without marks."""
    for mark in (BEGIN, END):
        if text.count(mark) != 1:
            raise ValueError(f"the line {mark} must be there once")
    before, _, rest = text.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"{END} must come after {BEGIN}")
    return f"{before}{BEGIN}\n\n{by}\n\n{END}{after}"


def main(arguments: list[str] | None = None) -> int:
    """Print the table, or write it into a document."""
    parser = argparse.ArgumentParser(prog="python -m tests.planted_bugs")
    parser.description = "After how many seeds the simulator finds each planted bug."
    parser.add_argument(
        "--write",
        type=Path,
        metavar="FILE",
        help="put the table between its marks here",
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="bugs named so only")
    chosen = parser.parse_args(arguments)
    if chosen.write is not None:
        try:
            replaced(chosen.write.read_text("utf-8"), "")
        except (OSError, ValueError) as error:
            print(f"cannot write to {chosen.write}: {error}", file=sys.stderr)
            return 2
    bugs = [bug for name, bug in BUGS.items() if chosen.only in name]
    try:
        text = table(bugs, lambda line: print(line, file=sys.stderr, flush=True))
    except NotFound as error:
        print(error, file=sys.stderr)
        return 1
    if chosen.write is None:
        print(text)
    else:
        whole = replaced(chosen.write.read_text("utf-8"), text)
        chosen.write.write_text(whole, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
