"""`python run.py simulate`: many seeds in virtual time, each judged; or one, told.

Exit status: 0 every property held, 1 one is violated, 2 unknown, or called wrongly.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from access import WRITE, cannot
from processes.signals import stoppable
from protocols import PROTOCOLS
from simulation.plan import BadPlan, Plan, load_plan
from simulation.report import (
    Explanation,
    never,
    save_history,
    summary_of,
    tables_of,
)
from simulation.search import Search, SeedFailed, Tally
from simulation.swarm import ALL_FAMILIES, Mix, draw_plan
from simulation.trial import Outcome, run, wrong_with

SEEDS = 1_000
FRESH_BITS = 40
GOALS_FROM = 1_000  # seeds, before what was never exercised is held against a run


def main(argv: Sequence[str]) -> int:
    """Run what was asked for; returns the exit status."""
    console = Console()
    try:
        chosen = _parsed(argv)
        mix = _mix_of(chosen)
    except SystemExit as stop:  # argparse has said why
        return int(stop.code or 0)
    try:
        with stoppable():
            if chosen.replay is not None:
                plan = load_plan(chosen.replay)
                if needed := wrong_with(plan):
                    raise BadPlan(f"{chosen.replay} cannot be run: it needs {needed}")
                return _one(console, plan, chosen)
            if chosen.seed is not None:
                return _one(console, draw_plan(chosen.seed, mix), chosen)
            return _many(console, mix, chosen)
    except (BadPlan, SeedFailed, BrokenProcessPool) as error:
        console.print(f"run.py simulate: {error}", markup=False, soft_wrap=True)
        return 2
    except OSError as error:
        console.print(
            f"run.py simulate: {cannot(WRITE, error.filename or 'results', error)}",
            markup=False,
            soft_wrap=True,
        )
        return 2
    except KeyboardInterrupt:  # in the middle of one seed
        console.print("Unknown: stopped before the end.")
        return 2


def _many(console: Console, mix: Mix, chosen: argparse.Namespace) -> int:
    first = chosen.first if chosen.first is not None else secrets.randbits(FRESH_BITS)
    seconds = chosen.minutes * 60 if chosen.minutes is not None else None
    seeds = chosen.seeds
    if seeds is None and seconds is None:
        seeds = SEEDS
    console.print(f"seeds from {first} on", highlight=False)
    began = time.monotonic()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rates]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as progress:
        bar = progress.add_task("seeds", total=seeds, rates="")

        def told(tally: Tally) -> None:
            spent = time.monotonic() - began
            rates = (
                f"{tally.seeds / spent:,.0f} seeds/s, "
                f"{tally.virtual_us / 1e6 / spent:,.0f} × real time, "
                f"{tally.operations:,} operations"
            )
            progress.update(bar, completed=tally.seeds, rates=rates)

        search = Search(mix, first, seeds, seconds, told)
        is_whole = True
        try:
            search.run(chosen.workers)
        except KeyboardInterrupt:
            is_whole = False
    if not search.tally.seeds:
        raise KeyboardInterrupt
    spent = time.monotonic() - began
    status = _report(console, search.tally, spent, mix, chosen)
    if is_whole or status == 1:
        return status
    console.print("Unknown: stopped before the end.")
    return 2


def _report(
    console: Console,
    tally: Tally,
    seconds: float,
    mix: Mix,
    chosen: argparse.Namespace,
) -> int:
    console.print(summary_of(tally, seconds), highlight=False, soft_wrap=True)
    if tally.failures:
        seed = min(failure.seed for failure in tally.failures)
        console.print(f"Seed {seed} violates a property.\n", style="bold red")
        return _explain(console, run(draw_plan(seed, mix)), chosen)
    families = frozenset(mix.families) if mix.families is not None else None
    for table in tables_of(tally, families, console.width):
        console.print(table)
    missed = never(tally)
    if missed and tally.seeds >= GOALS_FROM and families is None:
        console.print(f"Never exercised: {', '.join(missed)}.", style="yellow")
    if tally.undecided:
        console.print(
            f"Unknown: {tally.undecided} keys were too much work for the checker."
        )
        return 2
    console.print(f"Nothing violated, nothing unknown in {tally.seeds:,} seeds.")
    return 0


def _one(console: Console, plan: Plan, chosen: argparse.Namespace) -> int:
    """Run one plan and tell what came of it."""
    outcome = run(plan)
    if chosen.history is not None:
        save_history(outcome, chosen.history)
    console.print(
        f"seed {plan.seed}: {plan.nodes} nodes, replication factor "
        f"{plan.replication_factor}, {len(plan.steps)} requests, {len(plan.faults)} faults; "
        f"trace {outcome.trace_hash}",
        highlight=False,
        soft_wrap=True,
    )
    if outcome.violation is not None:
        return _explain(console, outcome, chosen)
    if outcome.undecided:
        console.print(f"Unknown: the checker gave up on {outcome.undecided} keys.")
        return 2
    console.print(
        f"Nothing violated: {outcome.operations} operations, "
        f"{outcome.answered} acknowledged, {sum(outcome.injected.values())} faults and "
        f"anomalies happened in {outcome.virtual_us / 1e6:.1f} s of virtual time.",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def _explain(console: Console, outcome: Outcome, chosen: argparse.Namespace) -> int:
    """Shrink, tell, keep, and say how to see it again."""
    is_replay = chosen.replay is not None
    with console.status("shrinking"):
        explanation = Explanation(outcome, shrink=not is_replay)
        text = explanation.text()
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    if is_replay:
        return 1
    folder = chosen.out or Path("results") / f"simulate-{datetime.now():%Y%m%d-%H%M%S}"
    path = explanation.save(folder)
    console.print(
        f"\nKept in {folder}. To see it again:\n"
        f"  python run.py simulate --replay {path}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    return 1


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments; a flag that another one leaves without meaning is refused."""
    made = parser()
    chosen = made.parse_args(argv)
    one = chosen.seed is not None or chosen.replay is not None
    if chosen.history is not None and not one:
        made.error("--history needs --seed or --replay")
    if one and (chosen.first is not None or chosen.minutes is not None):
        made.error("--first and --minutes are for many seeds, not for one")
    drawn = (chosen.nodes, chosen.faults, chosen.protocol)
    if chosen.replay is not None and any(each is not None for each in drawn):
        made.error("a plan says itself what is in it: --replay goes alone")
    if chosen.faults is not None and "none" in chosen.faults and len(chosen.faults) > 1:
        made.error("--faults none goes alone")
    return chosen


def parser() -> argparse.ArgumentParser:
    """The arguments of `run.py simulate`."""
    made = argparse.ArgumentParser(
        prog="run.py simulate",
        description="Run the store in virtual time, break it in every way that a seed can "
        "draw, and judge what its clients saw.",
        epilog=f"kinds of fault: {', '.join(ALL_FAMILIES)}\n\n"
        "exit status: 0 nothing violated, 1 violated, 2 unknown",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    which = made.add_mutually_exclusive_group()
    which.add_argument(
        "--seeds", type=_count, metavar="N", help=f"run so many ({SEEDS})"
    )
    which.add_argument(
        "--seed", type=_seed, metavar="S", help="run this one, and tell of it"
    )
    which.add_argument(
        "--replay", type=Path, metavar="FILE", help="run the plan in a file, exactly"
    )
    made.add_argument(
        "--minutes", type=_minutes, metavar="M", help="stop after so long"
    )
    made.add_argument(
        "--first", type=_seed, metavar="S", help="the first of the seeds (fresh ones)"
    )
    made.add_argument(
        "--protocol", choices=tuple(PROTOCOLS), help=f"which one ({Mix().protocol})"
    )
    made.add_argument(
        "--nodes", type=_nodes, metavar="N", help="so many (each seed draws 1 to 5)"
    )
    made.add_argument(
        "--faults",
        nargs="+",
        choices=(*ALL_FAMILIES, "none"),
        metavar="KIND",
        help="only these kinds, or none (all; each seed draws some of them)",
    )
    made.add_argument(
        "--scale", type=_scale, default=1.0, metavar="X", help="of the requests (1)"
    )
    made.add_argument(
        "--workers",
        type=_count,
        default=os.cpu_count() or 1,
        help="processes (all cores)",
    )
    made.add_argument(
        "--history",
        type=Path,
        metavar="FILE",
        help="with --seed or --replay: keep what clients saw, for run.py check",
    )
    made.add_argument("--out", type=Path, help="folder (results/simulate-<time>)")
    return made


def _mix_of(chosen: argparse.Namespace) -> Mix:
    families: tuple[str, ...] | None = None
    if chosen.faults is not None:
        families = tuple(name for name in chosen.faults if name != "none")
    protocol = chosen.protocol or Mix().protocol
    return Mix(protocol, chosen.nodes, families, chosen.scale)


def _within(
    kind: type[int] | type[float], least: float, most: float
) -> Callable[[str], Any]:
    """What reads a number in a range from the command line."""

    def read(text: str) -> int | float:
        with suppress(ValueError):
            number = kind(text)
            if least <= number <= most:
                return number
        what = "whole number" if kind is int else "number"
        raise argparse.ArgumentTypeError(f"a {what} from {least} to {most}, not {text}")

    return read


_seed = _within(int, 0, (1 << 62) - 1)
_count = _within(int, 1, 1_000_000_000)
_nodes = _within(int, 1, 20)
_minutes = _within(float, 0.001, 100_000)
_scale = _within(float, 0.1, 1_000)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
