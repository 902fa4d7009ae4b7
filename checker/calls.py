"""Operations on one register, brought into the one form that the checks work on.

Whatever was asked and answered becomes a `Call`: what it requires of the value before
it, what value it leaves, when, and whether it must have happened. Values are small
integers here, 0 is absent. What the sources call an incomplete operation (Herlihy &
Wing 1990, section 2) is a call that may happen; `settle` decides most of those at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from checker.history import Operation, State

ANY = -1  # requires nothing
NOTHING = -1  # changes nothing
NEVER = float("inf")
MAY, MUST, FADES, REPEATS = 0, 1, 2, 3
SETTLING_ROUNDS_MAX = 10


class Call(NamedTuple):
    """One operation as a register sees it.

    need: `ANY`, or 2 * v: the value is v, or 2 * v + 1: the value is not v.
    effect: the value it leaves, or `NOTHING`.
    began, ended: its interval; `ended` is `NEVER` where it is open.
    duty: `MUST` happen in the interval, or `MAY`; `FADES`: may, and from `ended` on it
        makes no difference any more; `REPEATS`: may, as often as you like.
    origin: which operation it is.
    """

    need: int
    effect: int
    began: int
    ended: float
    duty: int
    origin: int


def translate(operations: Iterable[Operation]) -> tuple[list[Call], list[str | None]]:
    """The calls that say something about one key, and the text of each value.

    Left out are weak reads, reads without an answer, and what failed and was told
    nothing. A failed operation that was told something is a read of that.
    """
    ids: dict[str | None, int] = {None: 0}
    number = ids.setdefault
    calls = []
    for index, item in enumerate(operations):
        outcome, action, ended, duty = item.outcome, item.action, item.ended, MUST
        need, effect = ANY, NOTHING
        if outcome == "ok" and action == "read":
            if item.level:
                continue
            value = item.value
            need = number(value, len(ids)) * 2
        elif outcome == "failed" or action == "read":
            if outcome != "failed" or item.saw is None or item.level:
                continue
            need = _need(item.saw, ids)
        else:
            if item.condition is not None:
                need = _need(item.condition, ids)
            effect = 0 if action == "delete" else number(item.value, len(ids))
            if outcome != "ok" or item.level:
                duty, ended = MAY, None
        calls.append(
            Call(
                need, effect, item.began, NEVER if ended is None else ended, duty, index
            )
        )
    return calls, list(ids)


def _need(state: State, ids: dict[str | None, int]) -> int:
    return ids.setdefault(state.value, len(ids)) * 2 + (state.kind != "is")


def fits(need: int, value: int) -> bool:
    """Whether a register with this value gives a call what it needs."""
    return need < 0 or (need >> 1 == value) != (need & 1)


class Wants(NamedTuple):
    """What a history requires of its values.

    exact: for each value that some call requires exactly, the earliest end of such a
        call that must happen (`NEVER`: only calls that may happen require it).
    nots: the values that some call requires the register not to have.
    """

    exact: dict[int, float]
    nots: set[int]

    def want(self, value: int) -> bool:
        """Whether any requirement (other than none) is met by this value."""
        return value in self.exact or any(other != value for other in self.nots)


def wants(calls: Iterable[Call]) -> Wants:
    """What these calls require."""
    exact: dict[int, float] = {}
    nots = set()
    for need, _, _, ended, duty, _ in calls:
        if need < 0:
            continue
        value = need >> 1
        if need & 1:
            nots.add(value)
        else:
            before = exact.get(value, NEVER)
            exact[value] = min(before, ended) if duty == MUST else before
    return Wants(exact, nots)


def settle(calls: Sequence[Call], starts: Sequence[int] = (0,)) -> list[Call]:
    """The same question with as few calls that may happen as can be told at once.

    `starts` are the values that the register may have before all.

    1. A call whose value meets no requirement at all is dropped. Take any order that
       explains the history and leave the call out: until the next change, those that
       follow it see the older value instead, and each of them requires nothing, or it
       would require what this value does not meet. So the shorter order explains the
       rest. The other way round, a call that may happen may as well not.
    2. A call that alone writes a value, which a call that must happen requires exactly,
       has happened, and before that one ended.
    Both may decide further calls, so this goes round until nothing changes (or often
    enough: an undecided call is no mistake, only work).
    3. What is still open cannot matter once every call whose requirement its value
       meets has ended: from there on, leaving it out is as good by the argument of 1.
    4. Values that no requirement names are one value: none can tell them apart.
    """
    left = list(calls)
    for _ in range(SETTLING_ROUNDS_MAX):
        if all(call.duty == MUST for call in left):
            return left
        before, left = left, _decide(left, starts)
        if len(left) == len(before) and left == before:
            break
    return _fade(_unname(left))


def _decide(calls: list[Call], starts: Sequence[int]) -> list[Call]:
    asked = wants(calls)
    writers: dict[int, int] = defaultdict(int, dict.fromkeys(starts, 1))
    for call in calls:
        if call.effect >= 0:
            writers[call.effect] += 1 if call.duty != REPEATS else 2
    decided = []
    for call in calls:
        if call.duty != MUST:
            if not asked.want(call.effect):
                continue
            needed_by = asked.exact.get(call.effect, NEVER)
            if needed_by < NEVER and writers[call.effect] == 1:
                ended = max(call.began, min(call.ended, needed_by))
                call = call._replace(ended=ended, duty=MUST)
        decided.append(call)
    return decided


def _unname(calls: list[Call]) -> list[Call]:
    named = {call.need >> 1 for call in calls if call.need >= 0}
    unnamed = {call.effect for call in calls} - named - {NOTHING}
    if len(unnamed) < 2:
        return calls
    one = min(unnamed)
    renamed = []
    repeated = set()
    for call in calls:
        if call.effect in unnamed:
            call = call._replace(effect=one)
        if call.duty == REPEATS and call.ended == NEVER:
            alike = (call.need, call.effect, call.began)
            if alike in repeated:
                continue
            repeated.add(alike)
        renamed.append(call)
    return renamed


def _fade(calls: list[Call]) -> list[Call]:
    exact: dict[int, float] = {}
    other: dict[int, float] = {}
    for call in calls:
        if call.need >= 0:
            ends = other if call.need & 1 else exact
            ends[call.need >> 1] = max(ends.get(call.need >> 1, 0), call.ended)
    faded = []
    for call in calls:
        if call.duty != MUST:
            last = exact.get(call.effect, -NEVER)
            for value, ended in other.items():
                if value != call.effect and ended > last:
                    last = ended
            if last < call.began:
                continue
            if last <= call.ended and last < NEVER and call.duty != REPEATS:
                call = call._replace(ended=last, duty=FADES)
        faded.append(call)
    return faded
