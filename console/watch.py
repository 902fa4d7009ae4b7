"""The cluster, live: `watch`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from client import NoConnection, StoreError, Unavailable
from console.around import event_text
from console.command import ClientCommand, WholeNumber
from console.exits import meanings
from console.failures import line_of
from console.rates import SAMPLES, Rate, Timings, rates, timings_of
from console.session import Session, parsed, say, to_json
from console.state import fetch
from console.status import headline, node_table
from console.tables import console, table, text_of

EVENTS_SHOWN = 5
WATCH = """
$ python run.py watch --count 1
2026-11-23 00:20:00Z
3 nodes, 2 replicas of a key, primary-backup, ring: ready
node  status  keys  load  share  stale  waits for  problem
0     up         0   0 B  69.1%      0  -          -
1     up         0   0 B  65.2%      0  -          -
2     up         0   0 B  65.6%      0  -          -
"""


@dataclass(frozen=True)
class Frame:
    """What one look found, and what happened since the one before."""

    at: str
    problem: str | None  # why there is no state
    state: Mapping[str, Any] | None
    operations: (
        Mapping[str, Rate] | None
    )  # None: nothing to compare with, or no metrics
    events: Sequence[Mapping[str, Any]]


@click.command("watch", cls=ClientCommand, example=WATCH, ends=meanings())
@click.option(
    "--interval",
    type=click.FloatRange(0.05, 3_600),
    default=1.0,
    metavar="SECONDS",
    help="Between two looks.  [1]",
)
@click.option(
    "--count", type=WholeNumber(min=1), metavar="N", help="So many looks, then end."
)
@click.pass_obj
def watch(session: Session, interval: float, count: int | None) -> None:
    """Show the cluster again and again, until Ctrl-C.

    Its state, the operations a second and their latency, and the latest events; on a
    terminal in place, in a pipe as one block after the other, with --json one line for
    each look. A server that goes away is waited for. Exit status 0 however the cluster is:
    `status` tells a script whether all is well.
    """
    fetch(session)  # what never answered is not waited for
    shown: list[Mapping[str, Any]] = []
    screen = _screen(session)
    with screen as live:
        try:
            for frame in frames(session, interval, count):
                shown = [*shown, *frame.events][-EVENTS_SHOWN:]
                if session.as_json:
                    say(to_json(asdict(frame)))
                elif live is None:
                    say(text_of(*parts(frame, shown)) + "\n")
                else:
                    live.update(fitted(frame, shown, live.console.height), refresh=True)
        except KeyboardInterrupt:
            return  # this is how it ends


def frames(session: Session, interval: float, count: int | None) -> Iterator[Frame]:
    """A look each interval; `count` None goes on for ever."""
    since, timings, at = 0, None, 0.0
    done = 0
    while count is None or done < count:
        began = time.monotonic()
        problem, state, events, seen = None, None, [], None
        try:
            state = fetch(session)
            events = parsed(session.ask("GET", "/events", since=since))["events"]
            seen = _timings(session)
        except (NoConnection, Unavailable) as error:
            problem = line_of(error, session.url, changing=False)
        since = max([since, *(event["number"] for event in events)])
        both = timings is not None and seen is not None
        done_since = rates(timings or {}, seen or {}, began - at) if both else None
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        yield Frame(now, problem, state, done_since, events)
        timings, at, done = seen, began, done + 1
        if count is None or done < count:
            time.sleep(max(0.0, interval - (time.monotonic() - began)))


def parts(
    frame: Frame, events: Sequence[Mapping[str, Any]], nodes_max: int | None = None
) -> list[str | Table | Text]:
    """A look from top to bottom; of too many nodes those that are not well come first."""
    found: list[str | Table | Text] = [frame.at.replace("T", " ")]
    if frame.problem is not None:
        found.append(Text(frame.problem, style="bold red"))
    if frame.state is not None:
        nodes = frame.state["nodes"]
        found.append(headline(frame.state))
        if nodes_max is not None and len(nodes) > nodes_max:
            chosen = sorted(nodes, key=_is_well)[:nodes_max]
            found.append(node_table(sorted(chosen, key=lambda node: node["node_id"])))
            found.append(f"... and {len(nodes) - nodes_max} more nodes")
        else:
            found.append(node_table(nodes))
    if frame.operations:
        found += ["", _operations(frame.operations)]
    if events:
        found += ["", *(event_text(event) for event in events)]
    return found


def fitted(frame: Frame, events: Sequence[Mapping[str, Any]], height: int) -> Group:
    """A look that fits on the screen."""
    others = len(parts(frame, events, 0)) + len(frame.operations or ()) + 3
    return Group(*parts(frame, events, max(1, height - others)))


def _screen(session: Session) -> AbstractContextManager[Live | None]:
    if session.as_json or not sys.stdout.isatty():
        return nullcontext()
    return Live(console=console(), auto_refresh=False)


def _timings(session: Session) -> dict[str, Timings] | None:
    try:
        return timings_of(session.client.metrics(*SAMPLES))
    except StoreError as error:
        if error.status == 404:
            return None  # a server without metrics
        raise


def _operations(operations: Mapping[str, Rate]) -> Table:
    rows = [
        (
            name,
            f"{rate.per_second:,.1f}",
            f"{rate.failed_per_second:,.1f}",
            _ms(rate.mean_ms),
            _ms(rate.p99_ms),
        )
        for name, rate in sorted(operations.items())
    ]
    return table(("operation", ">a second", ">failed", ">mean ms", ">p99 ms"), rows)


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.2f}"


def _is_well(node: Mapping[str, Any]) -> bool:
    is_whole = not node["stale_keys"] or "raft" in node
    return bool(node["status"] == "up" and is_whole and not node.get("problem"))
