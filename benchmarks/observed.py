"""What it costs to be watched: requests counted for /metrics, and logged.

One store in memory, four times: as it is, without the counting, and with a line in a file
for every request, as text and as JSON. They take turns under the same load. In memory,
since beside a flush to a disk none of it would be seen.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.options import Options
from benchmarks.service import Service, temporary_folder
from benchmarks.turns import CASES, Tallies, in_words, share_of, take_turns
from processes.server import store_command

AS_IT_IS, UNCOUNTED, TEXT, JSON = "as-it-is", "uncounted", "text", "json"
# What is watched, who does it, and who does without.
COMPARISONS = (
    ("counted", AS_IT_IS, UNCOUNTED),
    ("every request logged as text", TEXT, AS_IT_IS),
    ("every request logged as JSON", JSON, AS_IT_IS),
)


def measure_observed(options: Options) -> list[Figure]:
    """The four take turns; each is a share of the rate of the one that does less."""
    with ExitStack() as opened:
        logs = Path(opened.enter_context(temporary_folder(options.folder)))
        targets = [
            opened.enter_context(_server(name, logs))
            for name in (AS_IT_IS, UNCOUNTED, TEXT, JSON)
        ]
        tallies = take_turns(options, targets)
    return figures_of(tallies)


def figures_of(tallies: Tallies) -> list[Figure]:
    """The rate of who is watched as a share of the other's, in each case."""
    return [
        share_of(
            f"/{operation}, {in_words(connections)}, {what}",
            tallies[watched, operation, connections],
            tallies[unwatched, operation, connections],
            None,
        )
        for what, watched, unwatched in COMPARISONS
        for operation, connections in CASES
    ]


def _server(name: str, logs: Path) -> Service:
    """A store of 3 nodes at replication factor 2; its log is the file that it fills."""
    settings = {"storage": "memory", "log_level": "info"}
    if name in (TEXT, JSON):
        settings |= {"log_requests": "all", "log_format": name}
    command = store_command(nodes=3, replication_factor=2, **settings)
    if name == UNCOUNTED:
        command = [sys.executable, "-m", "benchmarks.uncounted", *command[2:]]
    return Service(name, command, "/readyz", logs)
