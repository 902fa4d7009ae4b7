"""How often each member of here was failed and brought back, by this service.

Whoever waits and then acts compares the counts with those of when it was asked: a member
may be in the same state again and not be the same. Of two requests the later one wins, and
the earlier one is told that nothing of it was done.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from models import NodeId, Unavailable


class Asked(NamedTuple):
    """The counts when something was asked for, by number of the member."""

    failed: Counter[NodeId]
    back: Counter[NodeId]


class Turns:
    """Counts what was done, and lets one act at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failed: Counter[NodeId] = Counter()
        self._back: Counter[NodeId] = Counter()

    def now(self) -> Asked:
        """The counts, for who is asked for something now."""
        with self._lock:
            return Asked(self._failed.copy(), self._back.copy())

    @contextmanager
    def failing(self, node_id: NodeId, asked: Asked) -> Iterator[None]:
        """For what takes a member down, unless it was brought back since it was asked."""
        with self._lock:
            self.check_not_back(node_id, asked, "fail")
            yield
            self._failed[node_id] += 1

    @contextmanager
    def returning(self, node_id: NodeId, asked: Asked) -> Iterator[None]:
        """For what lets a member run again, unless it was failed since it was asked."""
        with self._lock:
            self.check_not_failed(node_id, asked)
            yield
            self._back[node_id] += 1

    @contextmanager
    def returning_alone(self, node_id: NodeId, asked: Asked) -> Iterator[None]:
        """The same at the cost of all others, unless any of them was changed since."""
        with self._lock:
            if (self._failed, self._back) != asked:
                raise Unavailable(
                    "cannot accept a loss when members were failed or recovered after that "
                    "was asked for: nothing is given up; see in /nodes what each holds, and "
                    "ask again"
                )
            yield
            self._back[node_id] += 1

    def check_not_failed(self, node_id: NodeId, asked: Asked) -> None:
        """Unavailable if the member was failed since."""
        if self._failed[node_id] != asked.failed[node_id]:
            raise Unavailable(
                f"cannot recover node {node_id} when it was failed after that was asked for: "
                "it stays down; ask again to recover it"
            )

    def check_not_back(self, node_id: NodeId, asked: Asked, what: str) -> None:
        """Unavailable if the member was brought back since."""
        if self._back[node_id] != asked.back[node_id]:
            raise Unavailable(
                f"cannot {what} node {node_id} when it was recovered meanwhile: nothing of "
                f"this was done; ask again to {what} it as it is now"
            )
