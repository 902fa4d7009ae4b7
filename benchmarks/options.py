"""What a run of the benchmarks was asked for; handed to every measurement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """How much to measure and where to put what is needed on the way."""

    folder: Path  # of this run: its files, and its stores while it runs
    seconds: float = 1.0  # of load in one round of one case
    rounds: int = 5
    scale: float = 1.0  # of the number of keys; below 1 only to try whether it works
    full: bool = False  # also what takes minutes
    tell: Callable[[str], None] = lambda _text: None  # what it is doing just now

    def scaled(self, keys: int) -> int:
        """So many keys, or fewer in a run that only tries."""
        return max(2_000, int(keys * self.scale))
