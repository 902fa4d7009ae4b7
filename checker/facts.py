"""What the operations on one key say for certain, gathered once for all the checks.

A *possible writer* of a value is a write of it (a delete, for absent) that did not
definitely fail; the beginning of all is one of absent. An *acknowledged* change is a
write or delete that was answered ok at a level that promises to keep it. A *sighting*
is an operation that proves what the register was at one moment of its interval.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from checker.calls import NEVER
from checker.history import History, Operation, State
from checker.verdict import HOLDS, VIOLATED, Verdict, by_key

ALWAYS = float("-inf")


class Sighting(NamedTuple):
    """An operation that proves the register had exactly this value (None: absent)."""

    operation: Operation
    value: str | None
    ended: int


class Finding(NamedTuple):
    """What speaks against a property on one key, with the worst case as evidence."""

    why: str
    evidence: tuple[Operation, ...]
    cases: int = 1


class Facts:
    """The facts about one key.

    changes: writes and deletes that did not definitely fail, as they came.
    acknowledged: those of them that must last.
    sightings: by operations that promise linearizability; `weak`: by weak ones.
    """

    def __init__(self, operations: Iterable[Operation]) -> None:
        self.operations = list(operations)
        self.changes: list[Operation] = []
        self.failed_writes: dict[str | None, Operation] = {}
        self.sightings: list[Sighting] = []
        self.weak: list[Sighting] = []
        self._writers: dict[str | None, Operation] = {}
        self.last_end: dict[str | None, float] = {None: ALWAYS}
        self.first_begin: dict[str | None, float] = {None: ALWAYS}
        for operation in self.operations:
            self._add(operation)
        self.acknowledged = [each for each in self.changes if is_acknowledged(each)]

    def _add(self, operation: Operation) -> None:
        seen = what_it_saw(operation)
        if seen is not None and seen.kind == "is" and operation.ended is not None:
            found = Sighting(operation, seen.value, operation.ended)
            (self.weak if operation.level else self.sightings).append(found)
        if operation.action == "read":
            return
        value = written(operation)
        if operation.outcome == "failed":
            self.failed_writes.setdefault(value, operation)
            return
        self.changes.append(operation)
        ended = lasts_until(operation)
        if ended >= self.last_end.get(value, ALWAYS):
            self.last_end[value], self._writers[value] = ended, operation
        before = self.first_begin.get(value, NEVER)
        self.first_begin[value] = min(before, operation.began)

    def writer(self, value: str | None) -> Operation | None:
        """The possible writer of a value that ended last, if any did write it."""
        return self._writers.get(value)


class Between:
    """Finds changes that lie wholly between two moments."""

    def __init__(self, changes: Iterable[Operation]) -> None:
        by_begin = sorted(changes, key=lambda each: each.began)
        self._begins = [each.began for each in by_begin]
        self._earliest: list[Operation] = []  # to end, of this one and those after it
        for each in reversed(by_begin):
            if self._earliest and answered(self._earliest[-1]) <= answered(each):
                self._earliest.append(self._earliest[-1])
            else:
                self._earliest.append(each)
        self._earliest.reverse()

    def first(self, after: float, before: float) -> Operation | None:
        """The one that ended first, of those that began after and ended before."""
        at = bisect_right(self._begins, after)
        if at == len(self._begins):
            return None
        found = self._earliest[at]
        return found if answered(found) < before else None


def what_it_saw(operation: Operation) -> State | None:
    """The state that the register had at one moment of the operation, if it proves one."""
    if operation.outcome == "failed":
        return operation.saw
    if operation.outcome != "ok":
        return None
    if operation.action == "read":
        return State("is", operation.value)
    return operation.condition


def written(operation: Operation) -> str | None:
    """The value that a write or delete leaves."""
    return operation.value if operation.action == "write" else None


def lasts_until(operation: Operation) -> float:
    """By when a change has had its effect, if it has one; weak ones may show later."""
    if operation.ended is None or operation.outcome != "ok" or operation.level:
        return NEVER
    return operation.ended


def answered(operation: Operation) -> float:
    """When an operation was answered; never, if its outcome is open."""
    known = operation.ended is not None and operation.outcome != "unknown"
    return operation.ended if known and operation.ended is not None else NEVER


def is_acknowledged(operation: Operation) -> bool:
    """Whether this is a write or delete that must have happened, and must last."""
    return operation.outcome == "ok" and not operation.level


def each_key(
    name: str, history: History, look: Callable[[Facts], Finding | None]
) -> list[Verdict]:
    """A verdict for each key on which `look` finds something; one "holds" if none."""
    keys = by_key(history.operations)
    verdicts = []
    for key, operations in sorted(keys.items()):
        finding = look(Facts(operations))
        if finding is not None:
            verdicts.append(violated(name, key, finding))
    return verdicts or [Verdict(name, HOLDS, details={"keys": len(keys)})]


def violated(name: str, key: str, finding: Finding) -> Verdict:
    """The verdict for a finding."""
    evidence = tuple(sorted(finding.evidence, key=lambda each: each.began))
    details: dict[str, float] = {"violations": finding.cases}
    return Verdict(name, VIOLATED, key, finding.why, evidence, details)


def present(*operations: Operation | None) -> tuple[Operation, ...]:
    """Those that there are."""
    return tuple(each for each in operations if each is not None)


def worst(findings: Sequence[Finding]) -> Finding | None:
    """The first, with the number of them all."""
    return findings[0]._replace(cases=len(findings)) if findings else None
