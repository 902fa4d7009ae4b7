"""Servers take turns under the same load, and what one does is a share of another's.

Every case goes through all servers before the next one begins: a slow moment of the
machine weighs on each of them, and a share is of two rates of the same round.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any, Protocol

from benchmarks.figures import Bar, Figure, figure_of, ratios
from benchmarks.load import Load, Tally
from benchmarks.options import Options
from processes.server import ROOT, ProcessFailed

CASES = (("write", 1), ("write", 16), ("read", 1), ("read", 16))
OVERTIME_SECONDS_MAX = 60.0  # of a load generator

Tallies = Mapping[tuple[str, str, int], list[Tally]]  # server, operation, connections


class Target(Protocol):
    """A server, or several that act as one, that a load can be put on."""

    @property
    def name(self) -> str:
        """What it is called among those that take turns."""

    def bear(self, load: Load) -> Tally:
        """Let a load run, to this target; what became of it."""


def take_turns(
    options: Options, targets: Sequence[Target], several: Collection[str] = ()
) -> Tallies:
    """Every case in every round on every target, each time another one first.

    Those in `several` are several servers, which one connection cannot be split over.
    """
    tallies: dict[tuple[str, str, int], list[Tally]] = defaultdict(list)
    for target in targets:
        _fill(target)
    for number in range(options.rounds):
        first = number % len(targets)
        for operation, connections in CASES:
            options.tell(
                f"round {number + 1} of {options.rounds}: "
                f"{operation}, {in_words(connections)}"
            )
            for target in [*targets[first:], *targets[:first]]:
                if connections == 1 and target.name in several:
                    continue
                tally = target.bear(Load(operation, connections, options.seconds))
                tallies[target.name, operation, connections].append(tally)
    return tallies


def _fill(target: Target) -> None:
    """Write every key once, so that each of them can be read."""
    tally = target.bear(Load("write", 16, 0))
    if tally.failures:
        raise ProcessFailed(f"{target.name} could not be filled: {tally.first_failure}")


def drive(load: Load) -> Tally:
    """Run the load generator in a process of its own and read its tally."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.load"],
            input=json.dumps(asdict(load)),
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=load.seconds + OVERTIME_SECONDS_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ProcessFailed(f"the load generator did not end: {error}") from error
    if done.returncode != 0:
        raise ProcessFailed(f"the load generator failed: {done.stderr.strip()[-200:]}")
    return Tally(**json.loads(done.stdout))


def share_of(
    name: str,
    ours: Sequence[Tally],
    theirs: Sequence[Tally],
    bar: Bar | None,
    **extra: Any,
) -> Figure:
    """Our rate as a share of theirs, round by round; any wrong answer fails it."""
    wrong = [tally for tally in [*ours, *theirs] if tally.failures]
    our_rates, their_rates = [t.rate for t in ours], [t.rate for t in theirs]
    if min(their_rates) == 0:
        raise ProcessFailed(
            f"no right answer to compare with: {wrong[0].first_failure}"
        )
    shares = ratios(our_rates, their_rates)
    speed = (
        f"{min(shares):.2f} to {max(shares):.2f}; medians "
        f"{median(our_rates):,.0f}/s beside {median(their_rates):,.0f}/s, "
        f"99 % within {median(tally.p99_ms for tally in ours):.1f} ms"
    )
    return figure_of(
        name,
        shares,
        "×",
        bar,
        detail=f"wrong: {wrong[0].first_failure}" if wrong else speed,
        failures=sum(tally.failures for tally in wrong),
        extra={
            "ours": [asdict(t) for t in ours],
            "theirs": [asdict(t) for t in theirs],
            **extra,
        },
    )


def in_words(connections: int) -> str:
    """A number of connections, in words."""
    return "1 connection" if connections == 1 else f"{connections} connections"
