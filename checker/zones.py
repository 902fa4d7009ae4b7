"""What zones of time say about the order of calls: everything, or at least something.

Where a value has one writer, the calls that wrote or found it are its cluster. Once the
register leaves the value it never comes back, so in any order a cluster stands together.
It covers the time from its earliest end to its latest beginning (a forward zone) or, if
all of it was open at once, fits anywhere between the two (a backward zone). No two
forward zones overlap, and nothing that contradicts a value lies inside its forward zone:
no backward zone, no call that needs or leaves another value. Comparisons are strict:
what touches is concurrent.

If every value is written once at most, without a condition, and nothing is deleted, then
this is all there is: an order exists exactly if there is no conflict (Gibbons & Korach
1997, section 4; as zones in Golab, Li & Shah, PODC 2011). Sorting is the costly part.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from checker.calls import MUST, NEVER, NOTHING, REPEATS, Call, fits


class Conflict(NamedTuple):
    """Why there is no order.

    kind: "unwritten": a value was read that nobody wrote; "early": a read ended before
        the write of its value began; "overlap": two values must both have been there;
        "inside": a value has no place because another had to stay; "against": a call
    contradicts the value that had to stay.
    values: the one or two values.
    calls: at most four, which show it.
    """

    kind: str
    values: tuple[int, ...]
    calls: tuple[Call, ...]


class Cluster:
    """A value, and the calls that bound the time in which it was there."""

    __slots__ = ("first_end", "high", "last_begin", "low", "write")

    def __init__(self, write: Call | None) -> None:
        self.write = write
        self.first_end: Call | None = None
        self.last_begin: Call | None = None
        self.low = -NEVER if write is None else NEVER
        self.high: float = -NEVER
        if write is not None and write.duty == MUST:
            self.first_end = self.last_begin = write
            self.low, self.high = write.ended, write.began

    def calls(self) -> tuple[Call, ...]:
        """Those that bound it; none if only the beginning of all does."""
        bounds = (self.first_end, self.last_begin)
        return tuple(call for call in bounds if call is not None)


def apply_to(calls: Sequence[Call]) -> bool:
    """Whether this is a history that zones can judge."""
    written = set()
    for need, effect, _, _, duty, _ in calls:
        if duty != MUST:
            return False
        if effect < 0:
            if need & 1:
                return False
        elif need >= 0 or effect == 0 or effect in written:
            return False
        else:
            written.add(effect)
    return True


def conflict(calls: Sequence[Call]) -> Conflict | None:
    """What keeps the calls from being put in order; None if zones know of nothing."""
    clusters: dict[int, Cluster | None] = {0: Cluster(None)}  # None: several writers
    for call in calls:
        if call.effect >= 0:
            several = call.effect in clusters or call.duty == REPEATS
            clusters[call.effect] = None if several else Cluster(call)
    for call in calls:
        if call.need < 0 or call.need & 1 or call.duty != MUST:
            continue
        value = call.need >> 1
        if value not in clusters:
            return Conflict("unwritten", (value,), (call,))
        cluster = clusters[value]
        if cluster is None:
            continue
        if cluster.write is not None and call.ended < cluster.write.began:
            return Conflict("early", (value,), (cluster.write, call))
        if call.ended <= cluster.low:  # the write of a settled call ends with a read
            cluster.low, cluster.first_end = call.ended, call
        if call.began > cluster.high:
            cluster.high, cluster.last_begin = call.began, call
    known = {value: cluster for value, cluster in clusters.items() if cluster}
    return _compare(known) or _contradict(known, calls)


def _forward(clusters: dict[int, Cluster]) -> list[tuple[float, float, int]]:
    return sorted(
        (cluster.low, cluster.high, value)
        for value, cluster in clusters.items()
        if cluster.low < cluster.high
    )


def _compare(clusters: dict[int, Cluster]) -> Conflict | None:
    """Two clusters of which neither can come before the other."""
    forward = _forward(clusters)
    for (_, high, value), (low, _, other) in pairwise(forward):
        if low < high:
            return _between("overlap", value, other, clusters)
    lows = [low for low, _, _ in forward]
    for value, cluster in clusters.items():
        if cluster.low >= cluster.high > -NEVER:
            at = bisect_left(lows, cluster.high) - 1
            if at >= 0 and cluster.low < forward[at][1]:
                return _between("inside", value, forward[at][2], clusters)
    return None


def _contradict(clusters: dict[int, Cluster], calls: Sequence[Call]) -> Conflict | None:
    """A call inside the forward zone of a value that it contradicts.

    The zones do not overlap: that was looked for before.
    """
    forward = _forward(clusters)
    lows = [low for low, _, _ in forward]
    for call in calls:
        at = bisect_left(lows, call.began) - 1
        if at < 0 or call.ended >= forward[at][1] or call.duty != MUST:
            continue
        value = forward[at][2]
        if call.effect not in (NOTHING, value) or not fits(call.need, value):
            shown = dict.fromkeys((*clusters[value].calls(), call))
            return Conflict("against", (value,), tuple(shown))
    return None


def _between(
    kind: str, value: int, other: int, clusters: dict[int, Cluster]
) -> Conflict:
    calls = dict.fromkeys((*clusters[value].calls(), *clusters[other].calls()))
    return Conflict(kind, (value, other), tuple(calls))
