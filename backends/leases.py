"""When keys end: leases of etcd, shared by all keys that end at the same time.

A lease ends no earlier than it says. It may end later: etcd takes whole seconds and at
least two, looks twice a second, and a new leader gives every lease its whole time again
(https://etcd.io/docs/v3.4/learning/api/#lease-api). So what tells that a key has ended is
its absence, which is the same for all who ask, and never a clock.

The number of a lease holds the second in which it is to end, by the clock of the process
that granted it, and a number of that process. So a process knows which of its leases it
may put a key under, and a backup when a key was to end.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable

from backends.endpoints import Endpoints
from backends.gateway import EtcdError
from backends.messages import LeaseGrant, PutAnswer
from cluster.clock import steady_ns

GRANT = "/v3/lease/grant"
SECOND_NS = 1_000_000_000
_PROCESS_BITS = 30


def ends_at_ms(lease: int) -> int:
    """When the keys under a lease were to end, in milliseconds since 1970; 0: never."""
    return (lease >> _PROCESS_BITS) * 1000


class Leases:
    """The leases of this process. `clock` is in seconds since 1970 and never set back."""

    def __init__(
        self, endpoints: Endpoints, clock: Callable[[], float] | None = None
    ) -> None:
        self._endpoints = endpoints
        self._process = random.SystemRandom().getrandbits(_PROCESS_BITS)
        self._granted: frozenset[int] = frozenset()  # the seconds in which they end
        self._clock = clock or _steady_clock()

    @property
    def now_ms(self) -> int:
        """The time by which leases are granted, in milliseconds since 1970."""
        return int(self._clock() * 1000)

    @property
    def ahead_seconds(self) -> float:
        """How far that is ahead of the wall clock; below 0: behind it."""
        return self._clock() - time.time()

    def ending_in(self, seconds: float, slot: int = 1) -> int:
        """A lease that ends after so many seconds, at the next whole `slot` of them.

        Raises what `Endpoints.read` does; nothing was done then that anybody sees.
        """
        now = self._clock()
        end = math.ceil((now + seconds) / slot) * slot
        lease = end << _PROCESS_BITS | self._process
        if end not in self._granted:
            grant = LeaseGrant(seconds=math.ceil(end - now), number=lease)
            try:
                self._endpoints.read(GRANT, grant, PutAnswer)
            except EtcdError as error:
                if error.message != EtcdError.LEASE_EXISTS:
                    raise
            self._granted = frozenset({end, *(e for e in self._granted if e > now)})
        return lease

    def forget(self, lease: int) -> None:
        """Etcd does not know this lease (any more): the next one is granted anew."""
        self._granted -= {lease >> _PROCESS_BITS}


def _steady_clock() -> Callable[[], float]:
    """The wall clock as it was at the start, and steady since."""
    began = time.time() - steady_ns() / SECOND_NS
    return lambda: began + steady_ns() / SECOND_NS
