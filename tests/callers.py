"""Clients that do to a store whatever is drawn, and the verdict on what they noted."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, TypeVar

import client
import models
from checker.history import History, read_history
from checker.judgement import judge
from checker.verdict import HOLDS
from experiments.recording import RecordingClient
from replication import ReplicationManager

T = TypeVar("T")
REFUSED_PAUSE_SECONDS = 0.05  # where no server listens: it may be back soon


class Direct:
    """A manager as a client sees it.

    `heard` is asked after each answer: False leaves the outcome unknown.
    """

    def __init__(
        self, manager: ReplicationManager, heard: Callable[[], bool] = lambda: True
    ) -> None:
        self._manager = manager
        self._heard = heard

    def write(
        self,
        key: str,
        value: Any,
        *,
        if_version: str | None,
        if_absent: bool,
        consistency: str | None,
    ) -> models.WriteOutcome:
        condition = _condition(if_version, if_absent)
        return self._ask(
            lambda: self._manager.write(
                key, value, condition=condition, consistency=consistency
            )
        )

    def read(self, key: str, *, consistency: str | None) -> models.ReadOutcome:
        return self._ask(lambda: self._manager.read(key, consistency=consistency))

    def delete(
        self, key: str, *, if_version: str | None, consistency: str | None
    ) -> models.WriteOutcome:
        condition = _condition(if_version, False)
        return self._ask(
            lambda: self._manager.delete(
                key, condition=condition, consistency=consistency
            )
        )

    def _ask(self, call: Callable[[], T]) -> T:
        try:
            answer = call()
        except models.StoreError as error:
            self._listen()
            kind = getattr(client, type(error).__name__, client.StoreError)
            raise kind(
                error.detail,
                code=error.code,
                definite=error.definite,
                fields=error.extra,
            ) from error
        self._listen()
        return answer

    def _listen(self) -> None:
        if not self._heard():
            raise client.NoConnection(
                "the answer was not heard", code="no_connection", definite=False
            )


class Caller:
    """Asks for whatever is drawn, and counts the answers that it got.

    Values are at least `size` characters long, and each is written once.
    """

    def __init__(
        self, store: RecordingClient, chance: random.Random, *, size: int = 0
    ) -> None:
        self.store = store
        self.answered = 0
        self._name = store.name
        self._chance = chance
        self._size = size
        self._turns = 0

    def once(self, key: str) -> None:
        """Write, delete or read, with a condition or without."""
        draw, store = self._chance.random(), self.store
        seen = store.seen(key)
        version = seen[0] if seen is not None else None
        self._turns += 1
        value = f"{self._name}-{self._turns}".ljust(self._size, ".")
        try:
            if draw < 0.3:
                store.write(key, value)
            elif draw < 0.4:
                store.delete(key)
            elif draw < 0.5:
                store.write(key, value, if_absent=True)
            elif draw < 0.65 and version is not None:
                store.write(key, value, if_version=version)
            elif draw < 0.7 and version is not None:
                store.delete(key, if_version=version)
            else:
                store.read(key)
        except client.NoConnection as error:
            if error.definite:
                time.sleep(REFUSED_PAUSE_SECONDS)
        except (client.KeyNotFound, client.VersionMismatch):
            self.answered += 1
        except client.StoreError:
            pass
        else:
            self.answered += 1


def look(store: RecordingClient, keys: Iterable[str]) -> None:
    """Read every key; that there is no value is an answer, anything else is not."""
    for key in keys:
        with suppress(client.KeyNotFound):
            store.read(key)


def judged(lines: Iterable[str]) -> History:
    """The history that these lines tell; every property must hold of it."""
    history = read_history(lines)
    bad = [verdict for verdict in judge(history) if verdict.answer != HOLDS]
    assert not bad, [(each.property, each.answer, each.why) for each in bad]
    return history


def _condition(if_version: str | None, if_absent: bool) -> models.Condition | None:
    if if_version is None and not if_absent:
        return None
    versions = None if if_version is None else (if_version,)
    return models.Condition(if_versions=versions, if_absent=if_absent)
