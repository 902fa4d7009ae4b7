"""The experiments, as data: what each claims and what it does to show it.

A new experiment is an entry in `CATALOGUE`; a new way of breaking the store is a function
in experiments/scenarios.py and a word in `Scenario`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from itertools import combinations


class Scenario(Enum):
    """What a trial does to the store, in one word."""

    SURVIVAL = "survival"  # write, fail some nodes, read
    RESYNC = "resync"  # write, fail a node, recover it, make it the only one left
    WRITE_LATENCY = "write latency"
    READ_LATENCY = "read latency"


@dataclass(frozen=True)
class Shape:
    """How large a cluster a trial needs."""

    nodes: int
    replication_factor: int

    def __str__(self) -> str:
        return f"{self.nodes} nodes, RF {self.replication_factor}"


@dataclass(frozen=True)
class Case:
    """One run of a trial: which nodes fail, and whether clients write meanwhile."""

    failed: tuple[int, ...] = ()
    changes: bool = False
    repeat: int = 1

    def __str__(self) -> str:
        words = [f"failed {', '.join(map(str, self.failed))}"] if self.failed else []
        words += ["with changes meanwhile"] if self.changes else []
        return "; ".join([*words, f"run {self.repeat}"])


@dataclass(frozen=True)
class Trial:
    """One test: a claim, and the scenario that shows whether it holds."""

    name: str
    steps: str  # what is done, in words
    claim: str  # what is promised, in words
    scenario: Scenario
    shape: Shape
    pairs: int  # keys written
    failures: int = 0  # nodes that are down at the same time
    mean_ms_max: float | None = None  # the claimed mean latency

    def cases(self, repeats: int = 1) -> list[Case]:
        """Every choice of failed nodes, with and without changes where that matters."""
        changing = (False, True) if self.scenario is Scenario.RESYNC else (False,)
        return [
            Case(failed, changes, repeat)
            for repeat in range(1, repeats + 1)
            for changes in changing
            for failed in combinations(range(self.shape.nodes), self.failures)
        ]


@dataclass(frozen=True)
class Experiment:
    """Trials that belong together; it holds if every one of them does."""

    name: str
    title: str
    trials: tuple[Trial, ...]


THREE = Shape(nodes=3, replication_factor=2)
FIVE = Shape(nodes=5, replication_factor=3)

PAPER = Experiment(
    "paper",
    "the five tests of the original report, with every choice of failed nodes",
    (
        Trial(
            "1",
            "write 10, fail 1 node, read all",
            "all available",
            Scenario.SURVIVAL,
            THREE,
            pairs=10,
            failures=1,
        ),
        Trial(
            "2",
            "write 20, fail 2 nodes, read all",
            "all available",
            Scenario.SURVIVAL,
            FIVE,
            pairs=20,
            failures=2,
        ),
        Trial(
            "3",
            "write 10, fail a node, recover it, fail the others, read all; again with "
            "writes and deletes meanwhile",
            "it resynced: all available",
            Scenario.RESYNC,
            THREE,
            pairs=10,
            failures=1,
        ),
        Trial(
            "4",
            "write 1,000",
            "mean of 50 ms",
            Scenario.WRITE_LATENCY,
            THREE,
            pairs=1_000,
            mean_ms_max=50,
        ),
        Trial(
            "5",
            "read 1,000",
            "mean of 30 ms",
            Scenario.READ_LATENCY,
            THREE,
            pairs=1_000,
            mean_ms_max=30,
        ),
    ),
)

CATALOGUE = {experiment.name: experiment for experiment in (PAPER,)}
