"""What happened to the cluster, numbered and in order, for people and scripts to read."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from datetime import UTC, datetime

from models import Event, NodeId

KEPT_MAX = 10_000
# Of what somebody should look into; all else is news.
GRAVE = frozenset(
    "storage_failed damage_found data_lost clock_off member_silent member_died "
    "wrong_cluster".split()
)
log = logging.getLogger(__name__)


class EventLog:
    """The newest events, in memory. Numbers grow by one from `first`.

    `tell` is called with each, after it was added, by whoever recorded it.
    """

    def __init__(
        self,
        wall_ms: Callable[[], int],
        first: int = 1,
        kept_max: int = KEPT_MAX,
        tell: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self.counts: Counter[tuple[str, NodeId | None]] = Counter()
        self._wall_ms = wall_ms
        self._tell = tell
        self._events: deque[Event] = deque(maxlen=kept_max)
        self._next = first
        self._lock = threading.Lock()

    def record(
        self,
        kind: str,
        detail: str,
        node_id: NodeId | None = None,
        *,
        mode: str | None = None,
    ) -> None:
        """Add an event; `kind` is one of a few fixed words, `detail` a sentence.

        `mode` is how a node was failed, for programs: they do not read `detail`.
        """
        at = datetime.fromtimestamp(self._wall_ms() / 1000, UTC)
        with self._lock:
            stamp = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            event = Event(self._next, stamp, kind, detail, node_id, mode)
            self._events.append(event)
            self.counts[kind, node_id] += 1
            self._next += 1
        self._tell(event)

    def since(self, number: int) -> list[Event]:
        """The events with a number above `number`, oldest first.

        All of them if no event has that number yet: whoever asks knows it from another
        process, whose numbers are not ours where nothing is kept.
        """
        with self._lock:
            if number >= self._next:
                number = 0
            return [event for event in self._events if event.number > number]


def log_event(event: Event) -> None:
    """Write an event to the log, as a warning if somebody should look into it."""
    level = logging.WARNING if event.kind in GRAVE else logging.INFO
    told = {"event": event.kind, "node": event.node_id}
    log.log(level, "%s: %s", event.kind, event.detail, extra=told)


def wall_ms() -> int:
    """The wall clock, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000
