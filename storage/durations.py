"""How long something took, counted in buckets as a histogram of Prometheus is."""

from __future__ import annotations

from bisect import bisect_left

# Upper bounds in seconds; one more bucket takes what is above the last.
BOUNDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5),
)


class Durations:
    """Written by one thread at a time; a reader may see one too few."""

    __slots__ = ("counts", "sum_seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)  # of each bucket alone
        self.sum_seconds = 0.0

    def add(self, seconds: float) -> None:
        """Count one more."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.sum_seconds += seconds
