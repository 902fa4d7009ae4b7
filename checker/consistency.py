"""Weaker properties than linearizability, each by a name of its own.

Every linearizable history without weak operations has all of them. A violation is only
ever stated where no order of the operations could explain it. Weak operations
are judged by `written_only` and measured by `stale_reads`.
Session guarantees: Terry et al. 1994; staleness as versions behind: Golab, Li & Shah,
PODC 2011.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Iterable

from checker.calls import NEVER
from checker.facts import (
    ALWAYS,
    Between,
    Facts,
    Finding,
    Sighting,
    answered,
    each_key,
    lasts_until,
    present,
    what_it_saw,
    worst,
    written,
)
from checker.history import History, Operation
from checker.verdict import HOLDS, VIOLATED, Verdict, by_key
from checker.wording import in_words


def written_only(history: History) -> list[Verdict]:
    """No sighting of a value that nobody wrote, weak reads included.

    Nor of one whose every write definitely failed (an aborted read), nor before the
    first possible write of it began.
    """
    return each_key("written_only", history, _unwritten)


def _unwritten(facts: Facts) -> Finding | None:
    findings = []
    for operation, value, ended in (*facts.sightings, *facts.weak):
        if value not in facts.first_begin:
            failed = facts.failed_writes.get(value)
            reason = "nobody wrote that" if failed is None else in_words(failed)
            evidence = present(failed, operation)
        elif ended < facts.first_begin[value]:
            reason = "that was written only later"
            evidence = present(facts.writer(value), operation)
        else:
            continue
        findings.append(Finding(f"{in_words(operation)}, but {reason}", evidence))
    return worst(findings)


def lost_writes(history: History) -> list[Verdict]:
    """No acknowledged change is gone though nothing could have overwritten it.

    A change W is lost if a sighting that began after W had ended shows another state,
    no other change (of any outcome but failed) could come after W and before that
    sighting, and no sighting that began after that one had ended shows W's value.
    """
    return each_key("lost_writes", history, _lost)


def _lost(facts: Facts) -> Finding | None:
    contradicting = [
        each
        for each in facts.operations
        if not each.level and each.ended is not None and what_it_saw(each) is not None
    ]
    contradicting.sort(key=lambda each: each.began)
    begins = [each.began for each in contradicting]
    shown_last: dict[str | None, int] = {}
    for each, value, _ in facts.sightings:
        shown_last[value] = max(shown_last.get(value, each.began), each.began)
    findings = []
    for change, until in _overwritten_from(facts):
        value = written(change)
        for at in range(bisect_right(begins, lasts_until(change)), len(begins)):
            sight = contradicting[at]
            ended = sight.ended if sight.ended is not None else NEVER
            if sight.began >= until:
                break
            saw = what_it_saw(sight)
            if ended >= until or saw is None:
                continue
            shown = (saw.value == value) == (saw.kind == "is")
            if not shown and shown_last.get(value, ALWAYS) <= ended:
                why = f"{in_words(change)}, nothing overwrote it, but {in_words(sight)}"
                findings.append(Finding(why, (change, sight)))
                break
    return worst(findings)


def _overwritten_from(facts: Facts) -> Iterable[tuple[Operation, float]]:
    """Each acknowledged change, and when the first that may follow it began."""
    by_end = sorted(facts.changes, key=lasts_until)
    ends = [lasts_until(each) for each in by_end]
    firsts: list[tuple[Operation, ...]] = [()]  # the two that began first, from here on
    for each in reversed(by_end):
        two = sorted((each, *firsts[-1]), key=lambda other: other.began)[:2]
        firsts.append(tuple(two))
    firsts.reverse()
    for change in facts.acknowledged:
        at = bisect_left(ends, change.began)
        others = [each for each in firsts[at] if each is not change]
        yield change, others[0].began if others else NEVER


def stale_reads(history: History) -> list[Verdict]:
    """No sighting is older than a change that was acknowledged before it began.

    Details, and the same for weak reads with "weak_" before the name: `reads`; `stale`,
    how many; `share` of them; `versions_max`, how many acknowledged changes lay wholly
    between the write that was read and the read, at most; `time_max`, for how long the
    first of those had been acknowledged, in the history's unit. For weak reads, weak
    writes count as acknowledged too. Weak reads are measured, not judged.
    """
    strict, weak = Staleness(), Staleness()
    for _, operations in sorted(by_key(history.operations).items()):
        facts = Facts(operations)
        strict.measure(facts, facts.sightings, facts.acknowledged)
        answers = [each for each in facts.changes if answered(each) < NEVER]
        weak.measure(facts, facts.weak, answers)
    details = strict.details() | {
        f"weak_{name}": value for name, value in weak.details().items()
    }
    if strict.worst is None:
        return [Verdict("stale_reads", HOLDS, details=details)]
    sight, newer = strict.worst
    why = f"{in_words(sight)}, but before that {in_words(newer)}"
    evidence = strict.evidence
    return [Verdict("stale_reads", VIOLATED, sight.key, why, evidence, details)]


def resurrection(history: History) -> list[Verdict]:
    """No value is seen again after a delete that certainly came after it.

    The delete was acknowledged, began after every possible write of the value had
    ended, and ended before the sighting began.
    """
    return each_key("resurrection", history, _resurrected)


def _resurrected(facts: Facts) -> Finding | None:
    deletes = Between(each for each in facts.acknowledged if each.action == "delete")
    findings = []
    for operation, value, _ in facts.sightings:
        if value is None:
            continue
        last = facts.last_end.get(value, NEVER)
        delete = deletes.first(last, operation.began)
        if delete is not None:
            why = f"{in_words(operation)}, but before that {in_words(delete)}"
            evidence = present(facts.writer(value), delete, operation)
            findings.append(Finding(why, evidence))
    return worst(findings)


def monotonic_reads(history: History) -> list[Verdict]:
    """No client sees a value and then one that is certainly older.

    Certainly older: every possible write of it had ended before any possible write of
    the value that the client saw before began. Only sightings of one client are
    compared, and only if the first had ended before the second began.
    """
    return each_key("monotonic_reads", history, _unmonotonic)


def _unmonotonic(facts: Facts) -> Finding | None:
    findings = []
    for mine in _by_client(facts.sightings).values():
        newest: Sighting | None = None
        newest_first = ALWAYS
        by_end = sorted(mine, key=lambda sight: sight.ended)
        at = 0
        for sight in sorted(mine, key=lambda sight: sight.operation.began):
            while by_end[at].ended < sight.operation.began:
                first = facts.first_begin.get(by_end[at].value, ALWAYS)
                if first > newest_first:
                    newest, newest_first = by_end[at], first
                at += 1
            if newest and facts.last_end.get(sight.value, NEVER) < newest_first:
                earlier, later = newest.operation, sight.operation
                why = f"{in_words(earlier)}, but then {in_words(later)}, which is older"
                writers = facts.writer(sight.value), facts.writer(newest.value)
                findings.append(Finding(why, present(*writers, earlier, later)))
    return worst(findings)


def read_your_writes(history: History) -> list[Verdict]:
    """No client sees a value that is certainly older than its own acknowledged change.

    Certainly older: every possible write of it had ended before the change began. The
    change had ended before the sighting began.
    """
    return each_key("read_your_writes", history, _forgotten)


def _forgotten(facts: Facts) -> Finding | None:
    changes: dict[str, list[Operation]] = defaultdict(list)
    for change in facts.acknowledged:
        changes[change.client].append(change)
    own = {client: Between(mine) for client, mine in changes.items()}
    findings = []
    for operation, value, _ in facts.sightings:
        if operation.client not in own:
            continue
        last = facts.last_end.get(value, NEVER)
        change_seen = own[operation.client].first(last, operation.began)
        if change_seen is not None:
            why = f"{in_words(change_seen)}, but then {in_words(operation)}"
            evidence = present(facts.writer(value), change_seen, operation)
            findings.append(Finding(why, evidence))
    return worst(findings)


def _by_client(sightings: Iterable[Sighting]) -> dict[str, list[Sighting]]:
    clients: dict[str, list[Sighting]] = defaultdict(list)
    for sight in sightings:
        clients[sight.operation.client].append(sight)
    return clients


class Staleness:
    """How far behind some reads were."""

    def __init__(self) -> None:
        self.reads = self.stale = self.versions_max = self.time_max = 0
        self.worst: tuple[Operation, Operation] | None = None
        self.evidence: tuple[Operation, ...] = ()

    def measure(
        self, facts: Facts, sightings: list[Sighting], changes: list[Operation]
    ) -> None:
        """Count the sightings of one key; these are its acknowledged changes."""
        self.reads += len(sightings)
        counted = set(map(id, changes))
        last_end: dict[str | None, float] = {None: ALWAYS}
        for each in facts.changes:
            ended = answered(each) if id(each) in counted else NEVER
            value = written(each)
            last_end[value] = max(last_end.get(value, ALWAYS), ended)
        between = Between(changes)
        by_end = sorted(changes, key=answered)
        done: list[int] = []  # when those began that had ended by then
        at = 0
        for operation, value, _ in sorted(sightings, key=lambda s: s.operation.began):
            while at < len(by_end) and answered(by_end[at]) < operation.began:
                insort(done, by_end[at].began)
                at += 1
            last = last_end.get(value, NEVER)
            newer = between.first(last, operation.began)
            if newer is not None:
                versions = len(done) - bisect_right(done, last)
                self._add(facts.writer(value), operation, newer, versions)

    def _add(
        self, writer: Operation | None, read: Operation, newer: Operation, versions: int
    ) -> None:
        self.stale += 1
        self.time_max = max(self.time_max, read.began - int(answered(newer)))
        if versions > self.versions_max:
            self.versions_max = versions
            self.worst = (read, newer)
            self.evidence = present(writer, newer, read)

    def details(self) -> dict[str, float]:
        """The measures by name."""
        return {
            "reads": self.reads,
            "stale": self.stale,
            "share": self.stale / self.reads if self.reads else 0.0,
            "versions_max": self.versions_max,
            "time_max": self.time_max,
        }
