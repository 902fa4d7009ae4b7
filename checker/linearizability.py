"""Whether each register behaved as if every operation happened at one moment.

A history is linearizable if its operations can be put in one order that keeps to real
time and in which each was answered as a single register would answer (Herlihy & Wing
1990). Keys are judged one by one: linearizability is local (section 3.1). A key whose
history is simple enough is judged by zones, any other by the search.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from checker import zones
from checker.calls import MUST, Call, settle, translate
from checker.history import History, Operation, State
from checker.refutation import SHRINK_WORK, Part, Work, refute, shrink
from checker.search import Found, search
from checker.verdict import HOLDS, UNKNOWN, VIOLATED, Verdict, by_key
from checker.wording import all_in_words, state_in_words

PROPERTY = "linearizable"
BUDGET = 500_000  # configurations for one key: two to five seconds


def check(history: History, budget: int = BUDGET) -> list[Verdict]:
    """A verdict for each key that is violated or unknown; one "holds" if none is.

    `budget` is the most configurations to look at for one key; the answer for a key
    that would need more is "unknown".
    """
    keys = by_key(history.operations)
    bad = []
    configurations = 0.0
    for _, operations in sorted(keys.items()):
        verdict = check_key(operations, budget)
        configurations += verdict.details["configurations"]
        if verdict.answer != HOLDS:
            bad.append(verdict)
    details = {
        "keys": len(keys),
        "operations": len(history.operations),
        "configurations": configurations,
    }
    return bad or [Verdict(PROPERTY, HOLDS, details=details)]


def check_key(operations: Sequence[Operation], budget: int = BUDGET) -> Verdict:
    """The verdict on the operations of one key, in any order.

    The details say how many `operations` were judged and how many `configurations`
    were looked at (none by zones). The evidence of a violation is a few operations that
    cannot all have happened as noted, even if any other happened or not.
    """
    calls, values = translate(operations)
    settled = settle(calls)
    if zones.apply_to(settled):
        conflict = zones.conflict(settled)
        if conflict is None:
            return _holds(operations, 0)
        chosen = _grounds(conflict.calls, calls, settled)
        return _explain(operations, conflict, values, chosen, 0)
    first = min(budget, 1_000 + 4 * len(calls))  # most need less than one for each
    found = search(settled, len(values), first)
    if found.answer == HOLDS:
        return _holds(operations, found.expanded)
    conflict = zones.conflict(settled)
    if conflict is not None:
        chosen = _grounds(conflict.calls, calls, settled)
        return _explain(operations, conflict, values, chosen, found.expanded)
    return _look_closer(operations, calls, len(values), found, budget)


def _look_closer(
    operations: Sequence[Operation],
    calls: Sequence[Call],
    value_count: int,
    found: Found,
    budget: int,
) -> Verdict:
    """Judge a history that a short search did not explain."""
    part = refute(calls, value_count, found.reached, Work(SHRINK_WORK))
    spent = found.expanded
    if part is None and found.answer == UNKNOWN:
        found = search(settle(calls), value_count, budget)
        spent += found.expanded
        if found.answer == HOLDS:
            return _holds(operations, spent)
        if found.answer == UNKNOWN:
            return _unknown(operations, spent, budget)
        part = refute(calls, value_count, found.reached, Work(SHRINK_WORK))
    if part is None:
        part = Part(list(calls), value_count)
    return _violated(operations, _evidence(part, calls), spent)


def _evidence(part: Part, calls: Sequence[Call]) -> list[int]:
    """Which operations show that the part has no order, and what they speak of.

    Those that must have happened, and the write of each value that they found, if it
    has only one: that one is not needed for the proof, but to read it.
    """
    part = shrink(part, Work(SHRINK_WORK))
    musts = [part.calls[at] for at in part.musts()]
    chosen = {call.origin for call in musts}
    found = {call.need >> 1 for call in musts if call.need >= 0 and not call.need & 1}
    writers = defaultdict(list)
    for call in calls:
        if call.effect in found:
            writers[call.effect].append(call.origin)
    for indexes in writers.values():
        if len(indexes) == 1:
            chosen.update(indexes)
    return sorted(chosen)


def _grounds(
    shown: Sequence[Call], calls: Sequence[Call], settled: Sequence[Call]
) -> list[int]:
    """The operations behind these settled calls.

    Where one of unknown outcome was settled, so is the one that shows it happened.
    """
    certain = {call.origin for call in calls if call.duty == MUST}
    chosen: dict[int, None] = {}
    pending = list(shown)
    while pending:
        call = pending.pop()
        if call.origin in chosen:
            continue
        chosen[call.origin] = None
        if call.origin not in certain:
            pending += _users(call, settled, certain)
    return list(chosen)


def _users(call: Call, settled: Sequence[Call], certain: set[int]) -> list[Call]:
    """Those that need its value, by end, up to the first that certainly happened."""
    users = [
        other
        for other in settled
        if other.need == 2 * call.effect
        and other.duty == MUST
        and other.origin != call.origin
    ]
    users.sort(key=lambda other: other.ended)
    for count, other in enumerate(users, 1):
        if other.origin in certain:
            return users[:count]
    return users


def _explain(
    operations: Sequence[Operation],
    conflict: zones.Conflict,
    values: Sequence[str | None],
    chosen: Sequence[int],
    configurations: int,
) -> Verdict:
    """The verdict for what zones found."""
    texts = [state_in_words(State("is", values[value])) for value in conflict.values]
    key = operations[0].key
    reasons = {
        "unwritten": f"nobody wrote {texts[0]} to {key}",
        "early": f"{texts[0]} was read from {key} before anyone wrote it",
        "overlap": f"{key} must have been {texts[0]} and {texts[-1]} at one time",
        "inside": f"{key} cannot have been {texts[0]}, it must have been {texts[-1]} then",
        "against": f"{key} must have been {texts[0]} all the while",
    }
    return _violated(operations, chosen, configurations, reasons[conflict.kind])


def _holds(operations: Sequence[Operation], configurations: int) -> Verdict:
    key = operations[0].key if operations else None
    return Verdict(PROPERTY, HOLDS, key, details=_details(operations, configurations))


def _unknown(
    operations: Sequence[Operation], configurations: int, budget: int
) -> Verdict:
    key = operations[0].key
    why = f"gave up on {key} after {budget} configurations; a larger budget may do"
    return Verdict(
        PROPERTY, UNKNOWN, key, why, details=_details(operations, configurations)
    )


def _violated(
    operations: Sequence[Operation],
    chosen: Sequence[int],
    configurations: int,
    reason: str = "",
) -> Verdict:
    evidence = [operations[index] for index in chosen]
    evidence.sort(key=lambda operation: operation.began)
    key = operations[0].key
    why = f"{reason or f'no order explains {key}'}: {all_in_words(evidence)}"
    details = _details(operations, configurations)
    return Verdict(PROPERTY, VIOLATED, key, why, tuple(evidence), details)


def _details(operations: Sequence[Operation], configurations: int) -> dict[str, float]:
    return {"operations": len(operations), "configurations": configurations}
