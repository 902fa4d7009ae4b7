"""Every property, in the order of a report."""

from __future__ import annotations

from collections.abc import Callable

from checker.consistency import (
    lost_writes,
    monotonic_reads,
    read_your_writes,
    resurrection,
    stale_reads,
    written_only,
)
from checker.history import History
from checker.linearizability import BUDGET, check
from checker.verdict import Verdict
from checker.versions import convergence, versions

WEAKER: tuple[Callable[[History], list[Verdict]], ...] = (
    written_only,
    lost_writes,
    stale_reads,
    monotonic_reads,
    read_your_writes,
    resurrection,
    versions,
    convergence,
)


def judge(history: History, budget: int = BUDGET) -> list[Verdict]:
    """All verdicts: linearizability first, `budget` as for `linearizability.check`."""
    verdicts = check(history, budget)
    for look in WEAKER:
        verdicts += look(history)
    return verdicts
