"""The hybrid logical clock that versions and expiry are made of.

It never goes back, and it goes at the pace of a steady clock, so that durations (times to
live, the grace of tombstones) pass in real time. The wall clock says where it begins, and
how long the process was down; while it runs nobody who sets the wall clock moves it.
Source: Kulkarni et al., "Logical Physical Clocks" (OPODIS 2014), section 3, with time and
counter in one number, and a steady clock in place of the physical one: with theirs, time
would stand still after the wall clock was set back, until that has caught up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import msgspec

from models import Version

_TICK = 1 << Version.ORIGIN_BITS
_MS_SHIFT = Version.MS_SHIFT
_MS_NS = 1_000_000
# Of Linux's clocks that nobody sets, the one that goes on while the machine sleeps: what
# is to end in an hour ends in an hour. Where it is missing the other one does so, or is
# the best there is.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
OFF_SECONDS = 10  # leap seconds and what is put right in small steps stay below


def steady_ns() -> int:
    """A clock that nobody sets, in nanoseconds since some moment before the start."""
    return time.clock_gettime_ns(_STEADY)


class Wall(msgspec.Struct, frozen=True):
    """The wall clock at one moment, in milliseconds since 1970."""

    shown_ms: int
    course_ms: int  # as it would be had nobody set it while a process of the store ran


class HybridClock:
    """Makes versions that grow.

    `wall_ms` is the wall clock, milliseconds since 1970: hybrid time begins there.
    `steady_ns` is the clock by which it goes on. `origin` (0 to 65,535) names this clock,
    so that two clocks never make the same version.
    """

    def __init__(
        self,
        wall_ms: Callable[[], int],
        steady_ns: Callable[[], int],
        origin: int = 0,
    ) -> None:
        assert 0 <= origin < _TICK, f"origin out of range (origin={origin})"
        self.wall_ms = wall_ms
        self._steady_ns = steady_ns
        self._origin = origin
        self._last = 0
        self._lock = threading.Lock()
        self._ahead_ns = 0  # of the steady clock, as the next one
        self._course_ns = 0
        began_ms = wall_ms()
        self._begin_at(began_ms, began_ms)

    def take_origin(self, origin: int) -> None:
        """From now on make versions of this origin."""
        assert 0 <= origin < _TICK, f"origin out of range (origin={origin})"
        self._origin = origin

    def resume(self, version: int, then: Wall | None) -> None:
        """Go on from this version, saved by another process when the wall clock was `then`.

        What the wall clock says has passed since then; nothing where it was set back, and
        not what it was set back by where it is right again. None: it was not noted, so
        time begins as in a new store. To be called before time is asked for.
        """
        wall_ms = self.wall_ms()
        if then is not None:
            passed_ms = max(0, wall_ms - then.shown_ms)
            if wall_ms >= then.course_ms:
                passed_ms = min(passed_ms, wall_ms - then.course_ms)
            now_ms = (version >> _MS_SHIFT) + passed_ms
            self._begin_at(now_ms, then.course_ms + passed_ms)
        self.observe(version)

    def next_version(self) -> Version:
        """A version above every one made or observed before."""
        now = (self._steady_ns() + self._ahead_ns) // _MS_NS << _MS_SHIFT
        with self._lock:
            last = self._last + _TICK
            self._last = last = now if now > last else last
        return Version(last | self._origin)

    def observe(self, version: int) -> None:
        """Make every later version greater than this one, whoever made it.

        Where it is ahead of time, time goes on from it.
        """
        with self._lock:
            self._last = max(
                self._last, version >> Version.ORIGIN_BITS << Version.ORIGIN_BITS
            )
            seen_ns = (version >> _MS_SHIFT) * _MS_NS - self._steady_ns()
            self._ahead_ns = max(self._ahead_ns, seen_ns)

    def now_ms(self) -> int:
        """The hybrid time in milliseconds; never less than at an earlier call."""
        now = (self._steady_ns() + self._ahead_ns) // _MS_NS << _MS_SHIFT
        with self._lock:
            self._last = max(self._last, now)
            return self._last >> _MS_SHIFT

    def ahead_ms(self) -> int:
        """How far hybrid time is ahead of the wall clock; below 0: behind it."""
        return self.now_ms() - self.wall_ms()

    def wall(self) -> Wall:
        """The wall clock now, to be saved beside a version."""
        course_ns = self._steady_ns() + self._course_ns
        return Wall(self.wall_ms(), course_ns // _MS_NS)

    def _begin_at(self, now_ms: int, course_ms: int) -> None:
        """From now on it is this late, or as late as the newest version observed."""
        begin_ms, steady_ns = max(now_ms, self._last >> _MS_SHIFT), self._steady_ns()
        self._ahead_ns = begin_ms * _MS_NS - steady_ns
        self._course_ns = course_ms * _MS_NS - steady_ns


def off_by(ahead_seconds: float) -> str | None:
    """How the machine's clock and the store's time differ, in words; None: they do not."""
    if abs(ahead_seconds) < OFF_SECONDS:
        return None
    side = "behind" if ahead_seconds > 0 else "ahead of"
    return (
        f"the machine's clock is {abs(ahead_seconds):,.0f} seconds {side} the store's"
    )


def told_of(ahead_seconds: float) -> str:
    """The same for an event, which is told when that has changed."""
    off = off_by(ahead_seconds)
    if off is None:
        return "the machine's clock and the store's are together again"
    return f"{off}, which goes on at its own pace: times to live are not touched"
