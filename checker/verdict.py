"""What a check found, and what it found it in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from msgspec import Struct

from checker.history import Operation

HOLDS, VIOLATED, UNKNOWN = "holds", "violated", "unknown"


class Verdict(Struct, frozen=True):
    """What was found about one property, of one key or (key None) of them all.

    answer: "holds"; "violated", and `evidence` shows it; "unknown": the budget was
        used up, or the history does not say enough. Never taken for "holds".
    why: one sentence in plain words.
    evidence: the operations that contradict each other, few.
    details: counts and measures, by name.
    """

    property: str
    answer: str
    key: str | None = None
    why: str = ""
    evidence: tuple[Operation, ...] = ()
    details: dict[str, float] = {}


def by_key(operations: Iterable[Operation]) -> dict[str, list[Operation]]:
    """The operations on each key, in the order given; registers are independent."""
    keys: dict[str, list[Operation]] = defaultdict(list)
    for operation in operations:
        keys[operation.key].append(operation)
    return keys
