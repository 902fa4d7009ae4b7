"""A small part of a history that already cannot be explained.

A part is a weaker question: what is left out of it may or may not have happened. So a
part without an order refutes the whole, and is found faster. First a window of time
around the event that the search could not pass, with any value before it; then as many
of its calls as can be spared are weakened, in halves, quarters and so on (delta
debugging: Zeller & Hildebrandt 2002). Weakened means: a call without an effect is
dropped, one with an effect may happen once in its interval, or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from checker.calls import ANY, MAY, MUST, NEVER, REPEATS, Call, settle
from checker.search import search
from checker.verdict import VIOLATED

WINDOW_MIN = 8  # calls before the event
SHRINK_WORK = 150_000  # configurations and calls, in sum: about a second
SWEEPS_MAX = 4


class Part:
    """Some calls, and the values that the register may have before them."""

    def __init__(
        self, calls: list[Call], value_count: int, starts: Sequence[int] = (0,)
    ) -> None:
        self.calls = calls
        self.value_count = value_count  # every value is below
        self.starts = starts

    def musts(self) -> list[int]:
        """Where the calls are that must happen."""
        return [at for at, call in enumerate(self.calls) if call.duty == MUST]

    def without(self, weak: set[int]) -> Part:
        """The part in which the calls at these places are weakened."""
        calls = []
        for at, call in enumerate(self.calls):
            if at not in weak:
                calls.append(call)
            elif call.effect >= 0:
                calls.append(call._replace(duty=MAY))
        return Part(calls, self.value_count, self.starts)


class Work:
    """How much may still be spent, in configurations and calls."""

    def __init__(self, left: int) -> None:
        self.left = left

    def refutes(self, part: Part, budget: int) -> bool:
        """Whether no order explains the part; False if that is not known."""
        budget = min(budget, self.left)
        if budget <= 0:
            return False
        calls = settle(part.calls, part.starts)
        found = search(calls, part.value_count, budget, part.starts)
        self.left -= found.expanded + len(part.calls) // 2
        return found.answer == VIOLATED


def refute(
    calls: Sequence[Call], value_count: int, around: float, work: Work
) -> Part | None:
    """The smallest window around the time `around` that cannot be explained.

    None: none was found within the work allowed, which says nothing about the whole.
    """
    for part, size in _windows(calls, value_count, around):
        if work.refutes(part, 1_000 + 50 * size):
            return part
    return None


def _windows(
    calls: Sequence[Call], value_count: int, around: float
) -> Iterator[tuple[Part, int]]:
    ordered = sorted(calls, key=lambda call: call.began)
    middle = sum(call.began <= around for call in ordered)
    size = WINDOW_MIN
    while True:
        first, last = middle - size, middle + size
        start = ordered[first].began if first > 0 else -NEVER
        stop = ordered[last].began if last < len(ordered) else NEVER
        for end in (around, stop):
            inside = _inside(ordered, start, end)
            if any(call.duty == MUST for call in inside):
                starts = _starts(ordered[: max(first, 0)], inside, value_count)
                yield Part(inside, value_count + 1, starts), size
        if first <= 0 and last >= len(ordered):
            return
        size *= 2


def _starts(
    before: Sequence[Call], inside: Sequence[Call], unnamed: int
) -> Sequence[int]:
    """The values that the register may have when a window begins.

    Of those that no call in the window names, one stands for all.
    """
    if not before:
        return (0,)
    written = {call.effect for call in before} | {0}
    named = {call.need >> 1 for call in inside if call.need >= 0}
    return [*sorted(named & written), unnamed]


def _inside(calls: Sequence[Call], start: float, stop: float) -> list[Call]:
    """What of the calls is certain about the time from `start` to `stop`.

    All that ended before `start` came before all that began in the window, and left
    some value. What was open at `start` with an effect may have had it before, so it
    may happen, and more often than once, which asks for less and is found out faster;
    if it was open for ever, its condition does not count either. What was open at
    `stop` may have its effect later. What began after `stop` need not happen by then.
    """
    inside = []
    for call in calls:
        if call.ended < start or call.began > stop:
            continue
        if call.began >= start and call.ended <= stop:
            inside.append(call)
        elif call.effect >= 0:
            need, _, began, ended, duty, _ = call
            if began < start:
                began, duty = int(start), REPEATS
                need = need if ended < NEVER else ANY
            elif duty == MUST:
                duty = MAY
            if ended > stop:
                ended = NEVER
            inside.append(Call(need, call.effect, began, ended, duty, call.origin))
    return inside


def shrink(part: Part, work: Work) -> Part:
    """The part with as few calls that must happen as can be told; never more."""
    size = max(1, len(part.musts()) // 2)
    sweeps = 0
    while work.left > 0 and sweeps < SWEEPS_MAX:
        before = len(part.musts())
        part = _sweep(part, size, work)
        if size > 1:
            size = max(1, min(size, len(part.musts())) // 2)
        elif len(part.musts()) == before:
            return part
        else:
            sweeps += 1
    return part


def _sweep(part: Part, size: int, work: Work) -> Part:
    """Weaken `size` calls at a time, the earliest first, where it stays refuted."""
    skipped = 0
    while True:
        chosen = part.musts()[skipped : skipped + size]
        if not chosen or work.left <= 0:
            return part
        weaker = part.without(set(chosen))
        if weaker.musts() and work.refutes(weaker, 2_000 + 20 * len(weaker.calls)):
            part = weaker
        else:
            skipped += len(chosen)
