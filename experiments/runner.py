"""Runs the trials of an experiment on clusters that somebody else provides.

It knows neither where a cluster comes from (experiments/clusters.py) nor what becomes of
the results (experiments/report.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from client import StoreError
from experiments.catalogue import Case, Scenario, Shape, Trial
from experiments.recording import Recording
from experiments.results import CaseResult, TrialResult
from experiments.scenarios import SCENARIOS
from experiments.session import UNREADABLE, UP, Session, Store, StoreSilent


class NoCluster(Exception):
    """No cluster of the shape can be had, so the trial is not run; the text says why."""


class CannotRun(Exception):
    """A run could not be begun, so nothing is known of its claim; the text says why."""


class Clusters(Protocol):
    """Where clusters come from."""

    @property
    def prefix(self) -> str:
        """What every key of this experiment begins with."""

    def store(self, shape: Shape) -> Store:
        """A cluster of this shape with every node up; NoCluster or CannotRun."""


@dataclass(frozen=True)
class Watch:
    """Who is told how it goes, in units of about a request each."""

    advanced: Callable[[float], None] = lambda _units: None
    finished: Callable[[TrialResult], None] = lambda _result: None


# About how many requests a case sends, in its number of pairs.
REQUESTS_A_PAIR = {
    Scenario.SURVIVAL: 2,
    Scenario.RESYNC: 6,
    Scenario.WRITE_LATENCY: 1,
    Scenario.READ_LATENCY: 2,
}


def units(trial: Trial, repeats: int) -> int:
    """The length of a trial on a progress bar."""
    return len(trial.cases(repeats)) * units_of_case(trial)


def units_of_case(trial: Trial) -> int:
    """The length of one run of a trial."""
    return trial.pairs * REQUESTS_A_PAIR[trial.scenario]


class Runner:
    """Runs trials. An interruption ends the run; what was found until then is kept.

    `recording` is told what clients asked and were told, by default for nobody.
    """

    def __init__(
        self,
        clusters: Clusters,
        watch: Watch,
        *,
        seed: int = 1,
        repeats: int = 1,
        recording: Recording | None = None,
    ) -> None:
        self.interrupted = False
        self._clusters = clusters
        self._seed = seed
        self._repeats = repeats
        self._watch = watch
        self._recording = recording or Recording(lambda _line: None)

    def run(self, trials: Sequence[Trial]) -> list[TrialResult]:
        """Every trial in order, each with all of its cases."""
        results: list[TrialResult] = []
        for trial in trials:
            if self.interrupted:
                results.append(TrialResult(trial, not_run="interrupted before"))
                continue
            results.append(self._run_trial(trial))
            self._watch.finished(results[-1])
        return results

    def _run_trial(self, trial: Trial) -> TrialResult:
        done: list[CaseResult] = []
        for case in trial.cases(self._repeats):
            try:
                done.append(self._run_case(trial, case))
            except NoCluster as error:
                return TrialResult(trial, not_run=str(error))
            if self.interrupted:
                break
        return TrialResult(trial, tuple(done))

    def _run_case(self, trial: Trial, case: Case) -> CaseResult:
        meter = _Meter(units_of_case(trial), self._watch.advanced)
        session: Session | None = None
        problem = ""
        try:
            session = self._session(trial, case, meter.tick)
            SCENARIOS[trial.scenario](session, trial, case)
            session.restore()
        except CannotRun as error:
            problem = str(error)
        except StoreSilent as error:
            problem = str(error)
        except KeyboardInterrupt:
            self.interrupted = True
            problem = "it was interrupted"
        meter.finish()
        if session is None:
            return CaseResult(case, (), (), problem)
        session.put_back()
        findings, seen = tuple(session.findings), tuple(session.observations)
        return CaseResult(case, findings, seen, problem)

    def _session(self, trial: Trial, case: Case, tick: Callable[[], None]) -> Session:
        store = self._clusters.store(trial.shape)
        session = Session(
            store,
            self._recording,
            trial.shape,
            prefix=self._clusters.prefix,
            name=f"seed {self._seed}, test {trial.name}, {case}",
            tick=tick,
        )
        try:
            states = session.states()
        except (StoreError, *UNREADABLE) as error:
            raise CannotRun(f"the store does not tell its nodes: {error}") from error
        not_up = [node for node, state in states.items() if state.status != UP]
        if not_up:
            raise CannotRun(f"nodes {not_up} are not up to begin with")
        return session


class _Meter:
    """Moves a progress bar by what a case was said to take, whatever it takes."""

    def __init__(self, length: int, advanced: Callable[[float], None]) -> None:
        self._left = length
        self._advanced = advanced

    def tick(self) -> None:
        """One request was answered."""
        if self._left:
            self._left -= 1
            self._advanced(1)

    def finish(self) -> None:
        """The case has ended."""
        self._advanced(self._left)
        self._left = 0
