"""Histories of one register that works: every operation happens at one moment."""

from __future__ import annotations

import heapq
import random
from typing import NamedTuple

from checker.history import ABSENT, PRESENT, History, Operation, State


class Mix(NamedTuple):
    """What clients do: how many, the share of lost answers, and which operations."""

    clients: int = 10
    lost: float = 0.0
    deletes: bool = True
    pause: int = 5
    duration: int = 10


USUAL = Mix()


class Register:
    """A register and its clients, whose requests overlap."""

    def __init__(self, chance: random.Random, key: str, mix: Mix) -> None:
        self.chance, self.key, self.mix = chance, key, mix
        self.value: str | None = None
        self.version = 0
        self.serial = 0
        self.history: list[Operation] = []
        self.known: dict[str, str] = {}

    def run(self, count: int) -> list[Operation]:
        """About `count` operations, and those that were open at the end."""
        chance, mix = self.chance, self.mix
        agenda: list[tuple[int, int, str, Operation | None]] = [
            (chance.randrange(mix.pause + 1), number, f"c{number}", None)
            for number in range(mix.clients)
        ]
        while agenda:
            time, number, client, operation = heapq.heappop(agenda)
            if operation is None:
                if len(self.history) >= count:
                    continue
                operation = self.ask(client, time)
                delay = 1 + chance.randrange(mix.duration)
            elif operation.outcome == "asked":
                operation = self.do(operation)
                delay = chance.randrange(mix.duration)
            else:
                client = self.note(operation, time)
                operation, delay = None, chance.randrange(mix.pause + 1)
            heapq.heappush(agenda, (time + delay, number, client, operation))
        return self.history

    def ask(self, client: str, time: int) -> Operation:
        draw = self.chance.random()
        self.serial += 1
        action, condition = "write", None
        if draw < 0.45:
            action = "read"
        elif self.mix.deletes and draw > 0.7:
            action = "delete" if draw < 0.78 or draw > 0.95 else "write"
            known = self.known.get(client)
            states = (None, ABSENT, PRESENT, State("is", known) if known else PRESENT)
            condition = self.chance.choice(states)
        value = f'"{self.serial}"' if action == "write" else None
        return Operation(
            client, self.key, action, time, None, "asked", value, condition
        )

    def do(self, operation: Operation) -> Operation:
        outcome, saw, value = "ok", None, operation.value
        demand = operation.condition
        if operation.action == "read":
            value = self.value
        elif demand and (demand.value == self.value) != (demand.kind == "is"):
            outcome, saw = "failed", State("is", self.value)
        else:
            self.value = value
            self.version += 1
        if self.value is not None:
            self.known[operation.client] = self.value
        return changed(
            operation,
            outcome=outcome,
            saw=saw,
            value=value,
            version=f"{self.version:09d}",
        )

    def note(self, operation: Operation, time: int) -> str:
        """Keep what the client was told; the name that it goes on under."""
        if self.chance.random() < self.mix.lost:
            changes = {"outcome": "unknown", "saw": None, "version": None}
            if operation.action == "read":
                changes["value"] = None
            self.history.append(changed(operation, **changes))
            return f"{operation.client}'"
        self.history.append(changed(operation, ended=time))
        return operation.client


def changed(operation: Operation, **changes) -> Operation:
    fields = {name: getattr(operation, name) for name in Operation.__struct_fields__}
    return Operation(**fields | changes)


def correct(seed: int, count: int, mix: Mix = USUAL, key: str = "x") -> list[Operation]:
    """The operations of one linearizable register."""
    return Register(random.Random(f"{seed} {key}"), key, mix).run(count)


def correct_history(seed: int, count: int, keys: int, mix: Mix = USUAL) -> History:
    """Several registers."""
    operations = [
        operation
        for number in range(keys)
        for operation in correct(seed, count, mix, f"k{number}")
    ]
    return History(operations)
