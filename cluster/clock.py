"""The hybrid logical clock that versions and expiry are made of.

It follows the wall clock and never goes back: not when the wall clock is set back, not
across restarts once the versions in storage were observed. Source: Kulkarni et al.,
"Logical Physical Clocks" (OPODIS 2014), section 3, with time and counter in one number.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from models import Version

_TICK = 1 << Version.ORIGIN_BITS
_MS_SHIFT = Version.MS_SHIFT


class HybridClock:
    """Makes versions that grow.

    `wall_ms` is the wall clock, milliseconds since 1970. `origin` (0 to 65,535) names
    this clock, so that two clocks never make the same version.
    """

    def __init__(self, wall_ms: Callable[[], int], origin: int = 0) -> None:
        assert 0 <= origin < _TICK, f"origin out of range (origin={origin})"
        self._wall_ms = wall_ms
        self._origin = origin
        self._last = 0
        self._lock = threading.Lock()

    def take_origin(self, origin: int) -> None:
        """From now on make versions of this origin."""
        assert 0 <= origin < _TICK, f"origin out of range (origin={origin})"
        self._origin = origin

    def next_version(self) -> Version:
        """A version above every one made or observed before."""
        wall = self._wall_ms() << _MS_SHIFT
        with self._lock:
            last = self._last + _TICK
            self._last = last = wall if wall > last else last
        return Version(last | self._origin)

    def observe(self, version: int) -> None:
        """Make every later version greater than this one, whoever made it."""
        with self._lock:
            self._last = max(
                self._last, version >> Version.ORIGIN_BITS << Version.ORIGIN_BITS
            )

    def now_ms(self) -> int:
        """The hybrid time in milliseconds; never less than at an earlier call."""
        wall = self._wall_ms() << Version.MS_SHIFT
        with self._lock:
            self._last = max(self._last, wall)
            return self._last >> Version.MS_SHIFT
