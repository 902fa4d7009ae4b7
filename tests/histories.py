"""Clients that note what they were told, and a judge of what they noted.

An entry of a history is (began, ended, name, value, expected), as for `judge` in
tests/interleaving.py; `ended` is INFINITY where the outcome is unknown. `follow` judges
longer histories than that one, and one window after the other.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

import client
import models
from replication import ReplicationManager
from tests.interleaving import INFINITY

Entry = tuple[int, int, str, Any, Any]
ERRORS = (client.StoreError, models.StoreError)


class Store(Protocol):
    """What a caller needs of a store: a `client.Client` is one."""

    def write(
        self, key: str, value: Any, *, if_version: str | None, if_absent: bool
    ) -> Any: ...

    def delete(self, key: str, *, if_version: str | None) -> Any: ...

    def read(self, key: str) -> Any: ...


class Direct:
    """A manager as a client sees it."""

    def __init__(self, manager: ReplicationManager) -> None:
        self._manager = manager
        self.read = manager.read

    def write(
        self, key: str, value: Any, *, if_version: str | None, if_absent: bool
    ) -> Any:
        return self._manager.write(
            key, value, condition=_condition(if_version, if_absent)
        )

    def delete(self, key: str, *, if_version: str | None) -> Any:
        return self._manager.delete(key, condition=_condition(if_version, False))


class Sight(NamedTuple):
    """A version of a key that somebody was shown, and when."""

    began: int
    ended: int
    version: str


class Histories:
    """What happened to each key, as its clients saw it."""

    def __init__(self) -> None:
        self.entries: dict[str, list[Entry]] = defaultdict(list)
        self.sights: dict[str, list[Sight]] = defaultdict(list)
        self.answered = 0

    def extend(self, other: Histories) -> None:
        """Take in what another client noted."""
        self.answered += other.answered
        for key, entries in other.entries.items():
            self.entries[key] += entries
        for key, sights in other.sights.items():
            self.sights[key] += sights


class Caller:
    """One client: does to a key whatever is drawn, and notes what it was told.

    `counts` is asked after each answer: False leaves the outcome unknown. Values are at
    least `size` characters long.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        chance: random.Random,
        *,
        counts: Callable[[], bool] = lambda: True,
        now: Callable[[], int] = time.monotonic_ns,
        size: int = 0,
    ) -> None:
        self.store = store
        self.noted = Histories()
        self._name = name
        self._chance = chance
        self._counts = counts
        self._now = now
        self._size = size
        self._turns = 0
        self._known: dict[
            str, tuple[str | None, Any]
        ] = {}  # (version, value) last seen

    def take_notes(self) -> Histories:
        """What was noted since this was asked last."""
        noted, self.noted = self.noted, Histories()
        return noted

    def once(self, key: str) -> None:
        """Write, delete or read, with a condition or without."""
        draw = self._chance.random()
        version, held = self._known.get(key, (None, None))
        if draw < 0.3:
            self.write(key)
        elif draw < 0.4:
            self.delete(key)
        elif draw < 0.5:
            self.write(key, if_absent=True)
        elif draw < 0.65 and version is not None:
            self.write(key, if_version=version, expected=held)
        elif draw < 0.7 and version is not None:
            self.delete(key, if_version=version, expected=held)
        else:
            self.read(key)

    def read(self, key: str) -> None:
        self._note(key, "read", None, None, lambda: self.store.read(key))

    def write(
        self,
        key: str,
        *,
        if_version: str | None = None,
        if_absent: bool = False,
        expected: Any = None,
    ) -> None:
        self._turns += 1
        value = f"{self._name}-{self._turns}".ljust(self._size, ".")
        name = "cas" if if_version is not None or if_absent else "write"
        self._note(
            key,
            name,
            value,
            expected,
            lambda: self.store.write(
                key, value, if_version=if_version, if_absent=if_absent
            ),
        )

    def delete(
        self, key: str, *, if_version: str | None = None, expected: Any = None
    ) -> None:
        name = "cas" if if_version is not None else "delete"
        self._note(
            key,
            name,
            None,
            expected,
            lambda: self.store.delete(key, if_version=if_version),
        )

    def _note(
        self, key: str, name: str, value: Any, expected: Any, call: Callable[[], Any]
    ) -> None:
        began = self._now()
        try:
            answer = call()
        except ERRORS as error:
            if not error.definite:
                self._unknown(key, name, began, value, expected)
            elif error.code in ("key_not_found", "version_mismatch"):
                if not self._counts():
                    return
                self._seen(key, began, getattr(error, "version", None))
                if error.code == "key_not_found":
                    self._known[key] = (None, None)
                    self._known_outcome(key, "read", began, None, None)
            return
        if not self._counts():
            self._unknown(key, name, began, value, expected)
            return
        if name == "read":
            value = answer.value
        self._known[key] = (answer.version if value is not None else None, value)
        self._seen(key, began, answer.version)
        self._known_outcome(key, name, began, value, expected)

    def _known_outcome(
        self, key: str, name: str, began: int, value: Any, expected: Any
    ) -> None:
        self.noted.answered += 1
        self.noted.entries[key].append((began, self._now(), name, value, expected))

    def _unknown(
        self, key: str, name: str, began: int, value: Any, expected: Any
    ) -> None:
        if name != "read":
            self.noted.entries[key].append((began, INFINITY, name, value, expected))

    def _seen(self, key: str, began: int, version: str | None) -> None:
        if version is not None:
            self.noted.sights[key].append(Sight(began, self._now(), version))


def follow(history: Iterable[Entry], values: Iterable[Any] = (None,)) -> set[Any]:
    """The values that a key may have after a history; none if it is not linearizable.

    `values` are those that it may have had before. What is unknown happened within the
    history or not at all. The search of Wing and Gong, made just in time (Lowe 2017): an
    operation is put in its place when it, or one that began before its end, returns.
    """
    entries = sorted(history, key=lambda entry: entry[0])
    events = [(entry[0], 0, n) for n, entry in enumerate(entries)]
    events += [(e[1], 1, n) for n, e in enumerate(entries) if e[1] != INFINITY]
    open_ones: set[int] = set()
    states = {(value, 0) for value in values}
    for _, is_end, number in sorted(events):
        if not is_end:
            open_ones.add(number)
            continue
        states = _place(entries, open_ones, states, number)
        open_ones.discard(number)
        states = {(value, done & ~(1 << number)) for value, done in states}
    return {value for value, _ in _place(entries, open_ones, states, None)}


def _place(
    entries: list[Entry],
    open_ones: set[int],
    states: set[tuple[Any, int]],
    target: int | None,
) -> set[tuple[Any, int]]:
    """The states in which `target` has happened, or, for None, all that can be reached."""
    seen = set(states)
    stack = list(states)
    found = set()
    while stack:
        value, done = stack.pop()
        if target is None or done >> target & 1:
            found.add((value, done))
            if target is not None:
                continue
        for number in open_ones:
            if done >> number & 1:
                continue
            _, _, name, new, expected = entries[number]
            if name == "read":
                fits, after = value == new, value
            elif name == "cas":
                fits, after = value == expected, new
            else:
                fits, after = name == "write" or value is not None, new
            state = (after, done | 1 << number)
            if fits and state not in seen:
                seen.add(state)
                stack.append(state)
    return found


def went_back(sights: Iterable[Sight]) -> tuple[Sight, Sight] | None:
    """A version, and an older one that somebody was shown who asked later."""
    ordered = list(sights)
    by_end = sorted(ordered, key=lambda sight: sight.ended)
    ended = 0
    newest: Sight | None = None
    for sight in sorted(ordered, key=lambda sight: sight.began):
        while by_end[ended].ended < sight.began:
            if newest is None or by_end[ended].version > newest.version:
                newest = by_end[ended]
            ended += 1
        if newest is not None and sight.version < newest.version:
            return newest, sight
    return None


def _condition(if_version: str | None, if_absent: bool) -> models.Condition | None:
    if if_version is None and not if_absent:
        return None
    versions = None if if_version is None else (if_version,)
    return models.Condition(if_versions=versions, if_absent=if_absent)
