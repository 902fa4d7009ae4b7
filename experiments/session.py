"""A conversation with a store: sends, times and notes each request, judges each answer.

Scenarios speak to the store through this alone, so that nothing they do goes unrecorded
and no answer unjudged. A `Session` lasts for one run of a trial.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from client import Node, StoreError, Written
from experiments.catalogue import Shape
from experiments.expectation import MALFORMED, NO_ANSWER, OK, Answer, Expectation
from experiments.recording import Recording
from experiments.recording import Store as Keys
from experiments.results import Observation

SILENCES_MAX = 5  # in a row, before it is taken for dead
# What the client raises where an answer lacks what the contract says is in it.
UNREADABLE = (TypeError, KeyError, AttributeError, ValueError)
UP = "up"
DOWN = "down"


class StoreSilent(Exception):
    """The store has stopped answering: there is no point in asking on."""


class Store(Keys, Protocol):
    """What an experiment needs of a store: a client.Client."""

    def fail(self, node_id: int) -> Node: ...
    def recover(self, node_id: int) -> Node: ...
    def nodes(self) -> list[Node]: ...


class Session:
    """One run's requests, what they showed, and what is expected next.

    `recording` is the history of the whole experiment, with times in microseconds.
    `prefix` begins every key, so that a store in use is not disturbed. `name` tells this
    run from all others: it draws keys and values, and is its client's in the history.
    `tick` is told after each request, for a progress bar.
    """

    def __init__(
        self,
        store: Store,
        recording: Recording,
        shape: Shape,
        *,
        prefix: str,
        name: str,
        tick: Callable[[], None],
    ) -> None:
        self.shape = shape
        self.random = random.Random(name)
        self.expectation = Expectation()
        self.findings: list[str] = []
        self.observations: list[Observation] = []
        self.down: set[int] = set()
        self._store = store
        self._keys = recording.client(store, name)
        self._prefix = prefix
        self._tick = tick
        self._now = recording.now
        self._began = self._now()
        self._silences = 0

    # --- Keys ------------------------------------------------------------------------

    def new_keys(self, count: int) -> list[str]:
        """Keys that were not used before; they fall anywhere in the cluster."""
        return [
            f"{self._prefix}{self.random.getrandbits(48):012x}" for _ in range(count)
        ]

    def write(self, key: str) -> None:
        """Write a value that was never used before, and expect it to be acknowledged."""
        value = {
            "text": f"{self.random.getrandbits(64):016x}",
            "number": len(self.observations),
        }
        answer = self._send("write", key, lambda: self._keys.write(key, value))
        if answer.code == OK:
            self.expectation.written(key, value, self._replicas(key, answer.value))
        else:
            self._refused("write", key, answer)

    def delete(self, key: str) -> None:
        """Delete a key that has a value, and expect it to be acknowledged."""
        answer = self._send("delete", key, lambda: self._keys.delete(key))
        if answer.code == OK:
            self.expectation.deleted(key, self._replicas(key, answer.value))
        else:
            self._refused("delete", key, answer)

    def check(self, keys: Sequence[str] | None = None) -> None:
        """Read the keys, by default all that have a known state, and judge the answers."""
        known = self.expectation.keys
        for key in known if keys is None else [key for key in keys if key in known]:
            answer = self._send("read", key, partial(self._keys.read, key))
            if answer.code == OK:
                asked = set(answer.value.replicas) & self.down
                if asked:
                    self.findings.append(f"a read of {key} says it asked {asked}, down")
                answer = Answer(OK, answer.value.value)
            finding = self.expectation.judge(key, answer, self.down)
            if finding:
                self.findings.append(finding)

    # --- Nodes -----------------------------------------------------------------------

    def fail(self, node: int) -> None:
        """Take a node down, and see that it is."""
        self.down.add(node)
        self._change("fail", node, DOWN, lambda: self._store.fail(node))

    def recover(self, node: int) -> None:
        """Bring a node back, and see that it is up and lacks nothing."""
        self._change("recover", node, UP, lambda: self._store.recover(node))
        self.down.discard(node)

    def restore(self) -> None:
        """Bring back every node that this session failed."""
        for node in sorted(self.down):
            self.recover(node)

    def put_back(self) -> None:
        """After a run that broke off: bring back what is still down, if it can be."""
        for node in sorted(self.down):
            with suppress(StoreError):
                self._store.recover(node)

    def states(self) -> dict[int, Node]:
        """Every node by its id; raises StoreError if the store does not say."""
        return {node.node_id: node for node in self._store.nodes()}

    def _change(
        self, verb: str, node: int, status: str, act: Callable[[], Any]
    ) -> None:
        answer = self._send(verb, str(node), act)
        if answer.code != OK:
            self.findings.append(f"node {node} could not be made to {verb}: {answer}")
            return
        state = self._send("nodes", str(node), lambda: self.states()[node])
        if state.code != OK or state.value.status != status:
            found = state.value.status if state.code == OK else state
            self.findings.append(f"node {node} is {found} after {verb}, not {status}")
        elif status == UP and state.value.stale_keys:
            self.findings.append(
                f"node {node} is up and lacks {state.value.stale_keys} records"
            )

    # --- What every request has in common --------------------------------------------

    def _send(self, operation: str, subject: str, act: Callable[[], Any]) -> Answer:
        began = self._now()
        try:
            answer = Answer(OK, act())
        except StoreError as error:
            answer = Answer(error.code, detail=error.detail)
        except UNREADABLE as error:
            answer = Answer(MALFORMED, detail=f"{type(error).__name__}: {error}")
        ended = self._now()
        self.observations.append(
            Observation(
                operation=operation,
                subject=subject,
                began_seconds=(began - self._began) / 1e6,
                latency_ms=(ended - began) / 1e3,
                outcome=answer.code,
            )
        )
        self._tick()
        self._silences = self._silences + 1 if answer.code == NO_ANSWER else 0
        if self._silences >= SILENCES_MAX:
            self.findings.append(f"the store stopped answering: {answer}")
            raise StoreSilent(self.findings[-1])
        return answer

    def _replicas(self, key: str, outcome: Written) -> list[int]:
        """The key's replica set, as the acknowledgement tells it, once it is checked."""
        holding, missing = set(outcome.replicas), set(outcome.missed)
        count = len(holding | missing)
        if count != self.shape.replication_factor:
            self.findings.append(
                f"{key} has {count} replicas, not {self.shape.replication_factor}"
            )
        if holding & self.down or missing - self.down:
            self.findings.append(
                f"{key} is said to be on {sorted(holding)} and not yet on "
                f"{sorted(missing)} while {sorted(self.down)} are down"
            )
        return sorted(holding | missing)

    def _refused(self, verb: str, key: str, answer: Answer) -> None:
        self.expectation.forget(key)
        self.findings.append(
            f"not available: a {verb} of {key} was answered with {answer}"
        )
