"""Histories of correct registers, drawn from a seed, for the checker to judge."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from checker.history import PRESENT, Operation, State

LONGEST = 40  # of an operation, in the unit of time


def history_of(
    seed: int, keys: int, operations: int, clients: int, *, simple: bool
) -> list[Operation]:
    """Operations of so many clients on each of the keys, evenly.

    Each takes effect at one moment between its beginning and its end. `simple`: reads and
    writes only, otherwise deletes and conditional writes too, and some answers are lost.
    """
    found: list[Operation] = []
    for number in range(keys):
        draw = Random(f"{seed} {number}")
        found += _register(draw, f"key-{number}", operations // keys, clients, simple)
    return found


def _register(
    draw: Random, key: str, count: int, clients: int, simple: bool
) -> Iterator[Operation]:
    free_at = [0] * clients
    calls = []
    for number in range(count):
        client = draw.randrange(clients)
        began = free_at[client] + draw.randint(1, LONGEST)
        ended = began + draw.randint(1, LONGEST)
        free_at[client] = ended
        calls.append((draw.uniform(began, ended), number, client, began, ended))
    value: str | None = None
    for _, number, client, began, ended in sorted(calls):
        action = draw.random()
        outcome = "ok" if simple or draw.random() > 0.002 else "unknown"
        end = ended if outcome == "ok" else None
        name, new = f"c{client}", str(number)
        if action < 0.5:
            yield Operation(name, key, "read", began, end, outcome, value)
        elif simple or action < 0.8:
            value = new
            yield Operation(name, key, "write", began, end, outcome, new)
        elif action < 0.9 and value is not None:
            value = None
            yield Operation(name, key, "delete", began, end, outcome, None, PRESENT)
        else:
            condition = State("is", value)
            value = new
            yield Operation(name, key, "write", began, end, outcome, new, condition)
