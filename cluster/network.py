"""The live network: runs operations in the calling thread, with direct calls.

`LiveDriver` is one of the two drivers of the store's operations; the simulator is the
other. An `Ask` here is a call per target: no queue, no hand-over between threads. What
a node has staged but not yet made durable is waited for after every target was asked,
so that the replicas of one write, and writers beside each other, share their commits.

It owns the key locks and one background thread for what clients need not wait for.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, Protocol, TypeVar

from models import (
    Answers,
    Ask,
    Barrier,
    Exclusive,
    Message,
    NodeId,
    Operation,
    Refused,
    Spawn,
    Staged,
    StoreError,
    Unconfirmed,
    key_token,
)

T = TypeVar("T")
STRIPE_BITS = 12  # 4,096 locks: two keys in flight rarely share one
STRIPE_SHIFT = 64 - STRIPE_BITS
BACKLOG_MAX = 10_000
log = logging.getLogger(__name__)


class Node(Protocol):
    """Whoever answers messages: a ReplicaNode."""

    def handle(self, message: Message) -> Any:
        """Answer one message, or something staged; raise Refused if nothing was done."""


class Driver(Protocol):
    """What runs operations: live in the caller's thread, or in a simulator's time."""

    def run(self, operation: Operation[T]) -> T:
        """Run an operation to its end, under no lock."""

    def run_key(self, key: str, operation: Operation[T]) -> T:
        """Run an operation to its end, under its key's lock."""

    def drain(self) -> None:
        """Wait until everything spawned so far has run."""

    def close(self) -> None:
        """Finish the background work and take no more."""


class LiveDriver:
    """Drives operations over nodes in this process.

    `on_failure` is told of a node whose storage failed under a message; what the
    message did there is unknown. Close it to stop the background thread.
    """

    def __init__(
        self,
        nodes: Mapping[NodeId, Node],
        on_failure: Callable[[NodeId, Exception], None],
    ) -> None:
        self._nodes = nodes
        self._on_failure = on_failure
        self._stripes = tuple(threading.Lock() for _ in range(1 << STRIPE_BITS))
        self._reconfiguration = threading.Lock()
        self._backlog: queue.Queue[Spawn | None] = queue.Queue(BACKLOG_MAX)
        self._worker: threading.Thread | None = None
        self._worker_lock = threading.Lock()
        self._waiting_lock = threading.Lock()
        self._waiting = 0  # operations that wait for something staged
        self._closed = False

    def run(self, operation: Operation[T]) -> T:
        """Run an operation to its end in this thread, under no lock."""
        need: Any = None
        try:
            need = next(operation)
            while True:
                kind = type(need)
                if kind is Ask:
                    need = operation.send(self._ask(need))
                elif kind is Exclusive:
                    need = self._run_nested(operation, need)
                elif kind is Barrier:
                    self._wait_for_key_operations()
                    need = operation.send(None)
                elif kind is Spawn:
                    self._spawn(need)
                    need = operation.send(None)
                else:
                    raise TypeError(f"an operation needs what no driver has: {need!r}")
        except StopIteration as stop:
            outcome: T = stop.value
            return outcome
        except BaseException:
            operation.close()
            raise

    def run_key(self, key: str, operation: Operation[T]) -> T:
        """Run an operation under its key's lock."""
        with self._stripes[key_token(key) >> STRIPE_SHIFT]:
            return self.run(operation)

    def close(self) -> None:
        """Finish the background work and stop its thread."""
        with self._worker_lock:
            self._closed = True
            worker = self._worker
        if worker is not None:
            self._backlog.put(None)
            worker.join()

    def drain(self) -> None:
        """Wait until everything spawned so far has run."""
        self._backlog.join()

    def _run_nested(self, operation: Operation[Any], need: Exclusive) -> Any:
        try:
            if need.key is None:
                with self._reconfiguration:
                    outcome = self.run(need.operation)
            else:
                outcome = self.run_key(need.key, need.operation)
        except Exception as error:
            return operation.throw(error)
        return operation.send(outcome)

    def _ask(self, ask: Ask) -> Answers:
        nodes, message = self._nodes, ask.message
        answered: dict[NodeId, Any] = {}
        refused: tuple[NodeId, ...] = ()
        silent: tuple[NodeId, ...] = ()
        staged = False
        for target in ask.targets:
            try:
                answered[target] = answer = nodes[target].handle(message)
                staged = staged or isinstance(answer, Staged)
            except Refused:
                refused += (target,)
            except Unconfirmed:
                silent += (target,)
            except Exception as error:
                silent += (target,)
                self._on_failure(target, error)
        if staged:
            return self._wait(answered, refused, silent)
        return Answers(answered, refused, silent)

    def _wait(
        self,
        answered: dict[NodeId, Any],
        refused: tuple[NodeId, ...],
        silent: tuple[NodeId, ...],
    ) -> Answers:
        """Wait until every staged answer is durable.

        A caller who is alone makes one of them so itself and has the others made so at
        the same time. Where several wait, their commits run side by side anyway, and the
        fewer there are the more each carries.
        """
        with self._waiting_lock:
            self._waiting += 1
            alone = self._waiting == 1
        try:
            if alone:
                staged = (a for a in answered.values() if isinstance(a, Staged))
                for answer in islice(staged, 1, None):
                    answer.begin()
            return self._results(answered, refused, silent)
        finally:
            with self._waiting_lock:
                self._waiting -= 1

    def _results(
        self,
        answered: dict[NodeId, Any],
        refused: tuple[NodeId, ...],
        silent: tuple[NodeId, ...],
    ) -> Answers:
        for target, answer in tuple(answered.items()):
            if not isinstance(answer, Staged):
                continue
            try:
                answered[target] = answer.result()
            except Refused:
                del answered[target]
                refused += (target,)
            except Unconfirmed:
                del answered[target]
                silent += (target,)
            except Exception as error:
                del answered[target]
                silent += (target,)
                self._on_failure(target, error)
        return Answers(answered, refused, silent)

    def _wait_for_key_operations(self) -> None:
        """Every operation holds its key's lock: take and release each lock once."""
        for lock in self._stripes:
            with lock:
                pass

    def _spawn(self, spawn: Spawn) -> None:
        """Hand it to the background thread, or give it up: then its key stays unsettled."""
        with self._worker_lock:
            if self._worker is None and not self._closed:
                self._worker = threading.Thread(
                    target=self._work, name="kv-background", daemon=True
                )
                self._worker.start()
            try:
                if not self._closed:
                    self._backlog.put_nowait(spawn)
                    return
            except queue.Full:
                log.warning("background work is behind; some is put off")
        spawn.operation.close()

    def _work(self) -> None:
        while (spawn := self._backlog.get()) is not None:
            try:
                self.run_key(spawn.key, spawn.operation)
            except StoreError as error:
                log.info("background work put off: %s", error.code)
            except Exception:
                log.exception("background work failed")
            finally:
                self._backlog.task_done()
        self._backlog.task_done()
