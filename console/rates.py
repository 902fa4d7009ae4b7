"""Operations a second and their latency, from two looks at the metrics of a server.

Calculation alone, on the text format of Prometheus and its histograms: `le` is the upper
end of a bucket in seconds, and each bucket counts those below it too.
(https://prometheus.io/docs/instrumenting/exposition_formats/)
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

NAME = "kv_http_request_duration_seconds"
SAMPLES = tuple(f"{NAME}_{part}" for part in ("bucket", "sum", "count"))
OPERATIONS = {
    "/write": "write",
    "/read": "read",
    "/read/{key}": "read",
    "/delete": "delete",
    "/delete/{key}": "delete",
    "/batch": "batch",
}
_SAMPLE = re.compile(r"(\w+)\{(.*)\}\s+(\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass
class Timings:
    """How often one operation was answered, and how fast, since the server's start."""

    count: float = 0.0
    failed: float = 0.0  # with a 5xx
    seconds: float = 0.0  # in all
    below: dict[float, float] = field(  # by upper end, in seconds
        default_factory=lambda: defaultdict(float)
    )


@dataclass(frozen=True)
class Rate:
    """What was answered between two looks; a latency is None where nothing was."""

    per_second: float
    failed_per_second: float
    mean_ms: float | None
    p99_ms: float | None


def timings_of(text: str) -> dict[str, Timings]:
    """The timings of each operation on keys, from the text of the metrics."""
    found: dict[str, Timings] = {}
    for name, labels, value in _samples(text):
        operation = OPERATIONS.get(labels.get("route", ""))
        if operation is None:
            continue
        timings = found.setdefault(operation, Timings())
        if name == f"{NAME}_count":
            timings.count += value
            timings.failed += value if labels.get("status", "")[:1] == "5" else 0
        elif name == f"{NAME}_sum":
            timings.seconds += value
        elif name == f"{NAME}_bucket":
            timings.below[float(labels["le"])] += value
    return found


def rates(
    before: Mapping[str, Timings], after: Mapping[str, Timings], seconds: float
) -> dict[str, Rate]:
    """What was done in between. A server that began anew in between counts from there."""
    found = {}
    for operation, now in after.items():
        then = before.get(operation, Timings())
        if then.count > now.count:
            then = Timings()
        count = now.count - then.count
        below = {end: number - then.below[end] for end, number in now.below.items()}
        p99 = quantile(below, 0.99)
        found[operation] = Rate(
            per_second=count / seconds,
            failed_per_second=(now.failed - then.failed) / seconds,
            mean_ms=(now.seconds - then.seconds) / count * 1_000 if count else None,
            p99_ms=None if p99 is None else p99 * 1_000,
        )
    return found


def quantile(below: Mapping[float, float], part: float) -> float | None:
    """Below which value the part lies, straight between the ends of its bucket."""
    ends = sorted(below)
    if not ends or below[ends[-1]] <= 0:
        return None
    wanted = part * below[ends[-1]]
    for low, high in pairwise([0.0, *ends]):
        if below[high] < wanted:
            continue
        if high == float("inf"):
            return low  # all that is known: it took longer
        under = below.get(low, 0.0)
        return low + (high - low) * (wanted - under) / (below[high] - under)
    return None


def _samples(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for line in text.splitlines():
        found = _SAMPLE.match(line)
        if found is not None:
            yield found[1], dict(_LABEL.findall(found[2])), float(found[3])
