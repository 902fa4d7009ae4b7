"""Running many seeds, on several processors, and adding up what came of them."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from itertools import count, islice

from msgspec import Struct, field

from processes.leash import end_with
from simulation.swarm import Mix, draw_plan
from simulation.trial import Outcome, Violation, run

COLLECT_EVERY = 10  # seeds: a few megabytes each
CHUNK = 25  # seeds in one message to a worker


class SeedFailed(Exception):
    """A run could not be drawn or judged: neither does it hold, nor is it violated."""


class Failure(Struct, frozen=True):
    """A seed whose run violates something."""

    seed: int
    violation: Violation


class Tally(Struct):
    """What came of some seeds."""

    seeds: int = 0
    operations: int = 0
    answered: int = 0
    events: int = 0
    virtual_us: int = 0
    undecided: int = 0
    injected: Counter[str] = field(default_factory=Counter)
    exercised: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Take in what came of other seeds."""
        self.seeds += other.seeds
        self.operations += other.operations
        self.answered += other.answered
        self.events += other.events
        self.virtual_us += other.virtual_us
        self.undecided += other.undecided
        self.injected += other.injected
        self.exercised += other.exercised
        self.failures += other.failures


def run_seeds(seeds: Iterable[int], mix: Mix) -> Tally:
    """Run some seeds here, up to the first that violates something."""
    with _collecting_between_runs() as collect:
        return _run_seeds(seeds, mix, collect)


@contextmanager
def _collecting_between_runs() -> Iterator[Callable[[], object]]:
    """Without Python's search for unused cycles, but when the caller says so.

    A run makes many small objects and throws them all away at its end: looking for
    cycles meanwhile costs a quarter of the time and finds nothing.
    """
    was_on = gc.isenabled()
    gc.freeze()
    gc.disable()
    try:
        yield gc.collect
    finally:
        gc.unfreeze()
        if was_on:
            gc.enable()


def _run_seeds(seeds: Iterable[int], mix: Mix, collect: Callable[[], object]) -> Tally:
    tally = Tally()
    for seed in seeds:
        if tally.seeds % COLLECT_EVERY == 0:
            collect()
        try:
            outcome = run(draw_plan(seed, mix))
        except Exception as error:
            raise SeedFailed(f"seed {seed}: {type(error).__name__}: {error}") from error
        tally.add(_tally_of(seed, outcome))
        if tally.failures:
            break
    return tally


def _tally_of(seed: int, outcome: Outcome) -> Tally:
    failures = []
    if outcome.violation is not None:
        failures.append(Failure(seed, outcome.violation))
    return Tally(
        1,
        outcome.operations,
        outcome.answered,
        outcome.events,
        outcome.virtual_us,
        outcome.undecided,
        outcome.injected,
        outcome.exercised,
        failures,
    )


class Search:
    """Seeds from `first` on: `seeds` of them, or for as long as `seconds`, or for ever.

    `told` is handed the sum so far whenever more is known. It ends at a violation.
    """

    def __init__(
        self,
        mix: Mix,
        first: int,
        seeds: int | None,
        seconds: float | None,
        told: Callable[[Tally], None] = lambda tally: None,
    ) -> None:
        self._mix = mix
        self._seconds = seconds
        self._told = told
        self.tally = Tally()
        every = count(first)
        self._seeds = islice(every, seeds) if seeds is not None else every

    def run(self, workers: int) -> Tally:
        """Run them in so many processes; 1 is this one."""
        ends = time.monotonic() + self._seconds if self._seconds is not None else None
        chunks = iter(lambda: list(islice(self._seeds, CHUNK)), [])
        if workers == 1:
            for chunk in chunks:
                if not self._goes_on(run_seeds(chunk, self._mix), ends):
                    break
            return self.tally
        context = multiprocessing.get_context("spawn")  # no thread of ours is copied
        parent = (os.getpid(),)
        with ProcessPoolExecutor(workers, context, _begin_worker, parent) as pool:
            try:
                self._run_in(pool, chunks, workers, ends)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return self.tally

    def _run_in(
        self,
        pool: ProcessPoolExecutor,
        chunks: Iterator[list[int]],
        workers: int,
        ends: float | None,
    ) -> None:
        running: set[Future[Tally]] = set()
        goes_on = True
        while True:
            while goes_on and len(running) < workers * 2:
                chunk = next(chunks, None)
                if chunk is None:
                    break
                with _kept_from_workers(signal.SIGINT):
                    running.add(pool.submit(run_seeds, chunk, self._mix))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                goes_on = self._goes_on(future.result(), ends) and goes_on
            if not goes_on:
                running = {future for future in running if not future.cancel()}

    def _goes_on(self, tally: Tally, ends: float | None) -> bool:
        self.tally.add(tally)
        self._told(self.tally)
        return not tally.failures and (ends is None or time.monotonic() < ends)


def _begin_worker(parent: int) -> None:
    """A worker does not outlive whoever it works for."""
    if not end_with(parent):
        os._exit(1)


@contextmanager
def _kept_from_workers(number: signal.Signals) -> Iterator[None]:
    """A process that is started meanwhile never hears of this signal: Ctrl-C is ours."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
