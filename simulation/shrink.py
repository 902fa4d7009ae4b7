"""Making a plan that violates something as small as it gets, while it still does.

Faults, anomalies of the network and steps of clients are taken away by delta debugging
(Zeller & Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002). It works
because what is left keeps its fate: a message's is drawn by its place (`kernel.bits`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from msgspec.structs import replace

from simulation.plan import Noise, Plan
from simulation.trial import Outcome, Violation

T = TypeVar("T")
RUNS_MAX = 1_500


class Shrinker:
    """Shrinks one plan. `run` is asked at most `runs_max` times."""

    def __init__(
        self, outcome: Outcome, run: Callable[[Plan], Outcome], runs_max: int = RUNS_MAX
    ) -> None:
        assert outcome.violation is not None, "there is nothing to shrink towards"
        self.best = outcome
        self.runs = 0
        self._kind = _kind_of(outcome.violation)
        self._run = run
        self._runs_max = runs_max

    def shrink(self) -> Outcome:
        """The outcome of the smallest plan that violates the same property."""
        self._write_anomalies_down()
        size = -1
        while size != (size := self._size()) and self.runs < self._runs_max:
            self._reduce(lambda p: p.faults, lambda p, kept: replace(p, faults=kept))
            self._reduce(lambda p: p.steps, lambda p, kept: replace(p, steps=kept))
            self._reduce(
                lambda p: p.anomalies or (), lambda p, kept: replace(p, anomalies=kept)
            )
            self._drop_nodes()
        return self.best

    def _size(self) -> int:
        plan = self.best.plan
        parts = len(plan.faults) + len(plan.steps) + len(plan.anomalies or ())
        return plan.nodes + parts

    def _write_anomalies_down(self) -> None:
        """What the network's noise did becomes a list, from which some can be taken."""
        plan = self.best.plan
        if plan.anomalies is None:
            self._try(replace(plan, noise=Noise(), anomalies=self.best.anomalies))

    def _drop_nodes(self) -> None:
        plan = self.best.plan
        fewer = plan.nodes - 1
        if fewer < 1 or any(fault.node >= fewer for fault in plan.faults):
            return
        factor = min(plan.replication_factor, fewer)
        if factor >= plan.min_in_sync:
            self._try(replace(plan, nodes=fewer, replication_factor=factor))

    def _try(self, plan: Plan) -> bool:
        """Take a plan for the best one if it still violates the same."""
        if self.runs >= self._runs_max:
            return False
        self.runs += 1
        outcome = self._run(plan)
        if outcome.violation is None or _kind_of(outcome.violation) != self._kind:
            return False
        self.best = outcome
        return True

    def _reduce(
        self,
        parts: Callable[[Plan], Sequence[T]],
        with_parts: Callable[[Plan, tuple[T, ...]], Plan],
    ) -> None:
        """Take away ever smaller pieces of a list, from its end on."""
        piece = len(parts(self.best.plan))
        while piece >= 1:
            end = len(parts(self.best.plan))
            while end > 0:
                kept = parts(self.best.plan)
                start = max(0, end - piece)
                shorter = (*kept[:start], *kept[end:])
                self._try(with_parts(self.best.plan, shorter))
                end = start
            piece //= 2


def _kind_of(violation: Violation) -> tuple[str, str]:
    """The property, and of what is told in words how it begins."""
    if violation.verdict is not None:
        return violation.what, ""
    return violation.what, re.split(r"[0-9(\[]", violation.why, maxsplit=1)[0]
