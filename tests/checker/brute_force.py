"""Whether a short history is linearizable, by trying every order: slow and plain.

It shares nothing with the checks it is to judge but the data of a history: no calls, no
events, no rules to leave something out. What was tried once is not tried again.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

from checker.history import ABSENT, PRESENT, Operation, State

LATER = 10**9


def explainable(
    operations: Sequence[Operation], optional: Collection[int] = ()
) -> bool:
    """Whether some order explains the history.

    Those at the places in `optional` may happen in their interval or not at all, and
    nothing of what they were told counts.
    """
    steps = [
        step
        for at, operation in enumerate(operations)
        if (step := _step(operation, at in optional)) is not None
    ]
    needed = sum(1 << at for at, step in enumerate(steps) if step[4])
    failed = set()

    def goes_on(done: int, value: str | None) -> bool:
        if done & needed == needed:
            return True
        if (done, value) in failed:
            return False
        for at, (demand, effect, began, ended, _) in enumerate(steps):
            if done >> at & 1 or not _holds(demand, value):
                continue
            if any(
                (not done >> other & 1 and must and its_end < began)
                or (done >> other & 1 and ended < its_begin)
                for other, (_, _, its_begin, its_end, must) in enumerate(steps)
            ):
                continue
            if goes_on(done | 1 << at, value if effect is None else effect[0]):
                return True
        failed.add((done, value))
        return False

    return goes_on(0, None)


def _holds(demand: State | None, value: str | None) -> bool:
    if demand is None:
        return True
    return (demand.value == value) == (demand.kind == "is")


def _step(operation: Operation, is_optional: bool):
    """(demand, effect, began, ended, must) or None; an effect is in a tuple."""
    began = operation.began
    ended = LATER if operation.ended is None else operation.ended
    if operation.action == "read" or operation.outcome == "failed":
        if operation.outcome == "unknown" or operation.level or is_optional:
            return None
        demand = operation.saw
        if operation.outcome == "ok":
            demand = State("is", operation.value)
        return demand and (demand, None, began, ended, True)
    effect = (operation.value if operation.action == "write" else None,)
    if operation.outcome == "unknown" or operation.level:
        return operation.condition, effect, began, LATER, False
    return operation.condition, effect, began, ended, not is_optional


def draw(chance: random.Random, longest: int = 7) -> list[Operation]:
    """A short history that may or may not be linearizable, of every kind of operation."""
    values = [str(value) for value in range(1, chance.randint(1, 4) + 1)]
    span, width = chance.choice((4, 10, 20)), chance.choice((1, 4, 8))
    plain = chance.random() < 0.3  # as zones like it
    history = []
    for number in range(chance.randint(1, longest)):
        began = chance.randrange(span)
        ended = began + chance.randrange(width)
        kind = chance.choice(("read", "write") if plain else KINDS)
        own = str(number + 1) if plain else chance.choice(values)
        state = None if kind in ("write", "delete") else _state(chance, values)
        operation = Operation(f"c{number}", "x", "write", began, ended, "ok", own)
        changes_of: dict[str, dict[str, object]] = {
            "read": {"action": "read", "value": chance.choice([None, *values])},
            "write": {},
            "delete": {"action": "delete", "value": None},
            "cas": {"condition": state},
            "cad": {"action": "delete", "value": None, "condition": state},
            "told": {"outcome": "failed", "saw": state},
            "refused": {"outcome": "failed"},
            "weak": {"level": "weak"},
            "weak read": {"action": "read", "level": "weak"},
        }
        changes = changes_of[kind]
        if kind in ("write", "delete", "cas", "cad") and chance.random() < 0.25:
            changes |= {"outcome": "unknown", "ended": None}
        fields = {
            name: getattr(operation, name) for name in Operation.__struct_fields__
        }
        history.append(Operation(**fields | changes))
    return history


KINDS = "read read read write write delete cas cas cad told refused weak".split()
KINDS.append("weak read")


def _state(chance: random.Random, values: list[str]) -> State:
    draws = [ABSENT, PRESENT, *(State("is", value) for value in values * 2)]
    draws += [State("is_not", value) for value in values[:1]]
    return chance.choice(draws)
