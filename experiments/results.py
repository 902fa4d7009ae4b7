"""What was observed and what follows from it. Pure: numbers in, verdicts out."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from experiments.catalogue import Case, Scenario, Trial
from experiments.expectation import OK


class Verdict(Enum):
    """Where a claim stands, with the exit status that says so."""

    HOLDS = "holds"
    VIOLATED = "violated"
    UNKNOWN = "unknown"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Observation:
    """One request and what became of it."""

    operation: str  # write, read, delete, fail, recover or nodes
    subject: str  # the key or the node
    began_seconds: float  # since the case began
    latency_ms: float
    outcome: str  # `ok`, or the code of the error


@dataclass(frozen=True)
class Latency:
    """How long requests of one kind took, in milliseconds."""

    count: int
    mean: float
    p50: float
    p95: float
    p99: float
    max: float


@dataclass(frozen=True)
class CaseResult:
    """One run: what was wrong in it, and why it could not be finished, if so."""

    case: Case
    findings: tuple[str, ...]
    observations: tuple[Observation, ...]
    problem: str = ""

    @property
    def verdict(self) -> Verdict:
        if self.findings:
            return Verdict.VIOLATED
        return Verdict.UNKNOWN if self.problem else Verdict.HOLDS


@dataclass(frozen=True)
class TrialResult:
    """All runs of a trial. `not_run` says why there are none, if so."""

    trial: Trial
    cases: tuple[CaseResult, ...] = ()
    not_run: str = ""

    @property
    def verdict(self) -> Verdict:
        """A violation anywhere outweighs a run that could not be finished."""
        if self.not_run:
            return Verdict.NOT_RUN
        verdicts = {result.verdict for result in self.cases}
        if Verdict.VIOLATED in verdicts or self.is_too_slow:
            return Verdict.VIOLATED
        if Verdict.UNKNOWN in verdicts or not self.cases:
            return Verdict.UNKNOWN
        return Verdict.HOLDS

    @property
    def findings(self) -> list[str]:
        """Everything that was wrong, each with the run that it was found in."""
        return [f"[{r.case}] {text}" for r in self.cases for text in r.findings]

    @property
    def problems(self) -> list[str]:
        """Why runs could not be finished."""
        return [f"[{r.case}] {r.problem}" for r in self.cases if r.problem]

    @property
    def timed_operation(self) -> str:
        """The operation that the claim is about."""
        return "write" if self.trial.scenario is Scenario.WRITE_LATENCY else "read"

    @property
    def is_too_slow(self) -> bool:
        """True if the claim is a mean latency and the measured one is above it."""
        limit = self.trial.mean_ms_max
        latency = self.latency(self.timed_operation)
        return limit is not None and latency is not None and latency.mean > limit

    def latencies_ms(self, operation: str) -> list[float]:
        """Of every request of this kind that succeeded, in order."""
        return [
            seen.latency_ms
            for result in self.cases
            for seen in result.observations
            if seen.operation == operation and seen.outcome == OK
        ]

    def latency(self, operation: str) -> Latency | None:
        """The latencies of an operation in a few numbers; None if there are none."""
        return summarise(self.latencies_ms(operation))

    @property
    def operations(self) -> list[str]:
        """The kinds of requests that were sent."""
        sent = (seen.operation for result in self.cases for seen in result.observations)
        return sorted(set(sent))


def summarise(latencies_ms: Sequence[float]) -> Latency | None:
    """Mean and percentiles; None of nothing."""
    if not latencies_ms:
        return None
    ordered = sorted(latencies_ms)
    return Latency(
        count=len(ordered),
        mean=statistics.fmean(ordered),
        p50=percentile(ordered, 50),
        p95=percentile(ordered, 95),
        p99=percentile(ordered, 99),
        max=ordered[-1],
    )


def percentile(ordered: Sequence[float], percent: int) -> float:
    """The smallest value that at least `percent` of 100 of them do not exceed."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def overall(results: Iterable[TrialResult]) -> Verdict:
    """The verdict on an experiment; trials that did not fit do not count."""
    verdicts = {result.verdict for result in results}
    for verdict in (Verdict.VIOLATED, Verdict.UNKNOWN, Verdict.HOLDS):
        if verdict in verdicts:
            return verdict
    return Verdict.UNKNOWN
