"""The simulated driver: runs operations, many at a time, in virtual time.

The other one is cluster.network.LiveDriver. An operation is a task here; `run` and
`run_key` return it at once, and it ends when virtual time has come so far.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from typing import Any

from models import (
    Answers,
    Ask,
    Barrier,
    Exclusive,
    NodeId,
    Operation,
    Spawn,
    StoreError,
)
from simulation.kernel import Kernel, bits
from simulation.network import ANSWERED, REFUSED, Exchange, Network

JITTER_US = 200  # between two steps that are not messages
SPAWNED = 1 << 50  # numbers of tasks that other tasks started
RECONFIGURATION = ""  # the lock of reconfigurations: no key is empty
Ended = Callable[[Any, Exception | None], None]
Failed = Callable[[NodeId, Exception], None]


def _ignore(outcome: Any, error: Exception | None) -> None:
    """For whom nobody waits."""


def _raise_what_is_no_answer(outcome: Any, error: Exception | None) -> None:
    """For whom nobody waits, and who may be refused."""
    if error is not None and not isinstance(error, StoreError):
        raise error


def name_of(operation: Operation[Any]) -> str:
    """The name of the function that an operation is a run of."""
    return str(getattr(operation, "__name__", type(operation).__name__)).lstrip("_")


class Task:
    """An operation, with those that it runs inside itself, and the locks they hold.

    `number` is its place in the plan. `locks` has an entry for each frame: a key, the
    lock of reconfigurations, or None.
    """

    __slots__ = (
        "asking", "ended", "frames", "has_begun", "locks", "name", "number", "sent",
    )  # fmt: skip

    def __init__(self, operation: Operation[Any], lock: str | None, number: int):
        self.name = name_of(operation)
        self.frames: list[Operation[Any]] = [operation]
        self.locks: list[str | None] = [lock]
        self.number = number
        self.sent = 0  # messages, to however many nodes
        self.has_begun = False  # holds its key's lock
        self.asking: _Asking | None = None
        self.ended: Ended = _ignore

    def then(self, ended: Ended) -> None:
        """Call `ended(outcome, error)` when it ends; never if the process dies before."""
        self.ended = ended


class _Asking:
    """One Ask under way."""

    __slots__ = ("answers", "driver", "message", "need", "task", "waiting")

    def __init__(self, driver: SimulatedDriver, task: Task, ask: Ask) -> None:
        self.driver = driver
        self.task = task
        self.message = ask.message
        self.answers = Answers({})
        self.waiting = set(ask.targets)
        self.need = ask.need if ask.need is not None else len(ask.targets)

    def reply(self, node: NodeId, kind: int, answer: Any) -> None:
        """An answer arrives; too late or twice it counts for nothing."""
        waiting, answers = self.waiting, self.answers
        if node not in waiting:
            return
        waiting.remove(node)
        if kind == ANSWERED:
            answers.answered[node] = answer
        elif kind == REFUSED:
            answers.refused += (node,)
        else:
            answers.silent += (node,)
        if not waiting or len(answers.answered) >= self.need:
            self.close()

    @property
    def is_over(self) -> bool:
        """The task has gone on, or died."""
        return self.task.asking is not self or self.driver.is_dead

    @property
    def is_dead(self) -> bool:
        """The process has died."""
        return self.driver.is_dead

    def failed(self, node: NodeId, error: Exception) -> None:
        """The node's storage failed under the message."""
        if not self.driver.is_dead:
            self.driver.failed(node, error)

    def close(self) -> None:
        """Go on with what has come."""
        driver, task = self.driver, self.task
        if task.asking is not self or driver.is_dead:
            return
        task.asking = None
        if self.waiting:
            self.answers.silent += tuple(sorted(self.waiting))
            self.waiting.clear()
        driver.step(task, self.answers)


class SimulatedDriver:
    """Runs operations over a network. `next_number` is that of the task started next."""

    def __init__(
        self, kernel: Kernel, network: Network, patience_us: int, failed: Failed
    ) -> None:
        self.is_dead = False
        self.next_number = 0
        self.tasks: dict[Task, None] = {}  # in the order in which they were started
        self._kernel = kernel
        self._network = network
        self._patience_us = patience_us
        self.failed = failed
        self._locks: dict[str, deque[Task]] = {}  # the first one holds it
        self._barriers: list[tuple[set[str], Task]] = []  # keys still held, who waits
        self._is_timed = False  # somebody's patience
        self._patient: deque[tuple[int, _Asking]] = deque()
        self.nested: Counter[str] = Counter()  # operations run inside others, by name

    # --- cluster.network.Driver --------------------------------------------------------

    def run(self, operation: Operation[Any]) -> Any:
        """Start an operation under no lock; returns its Task."""
        return self._start(Task(operation, None, self.next_number))

    def run_key(self, key: str, operation: Operation[Any]) -> Any:
        """Start an operation under its key's lock; returns its Task."""
        return self._start(Task(operation, key, self.next_number))

    def drain(self) -> None:
        """Nothing to wait for: it is virtual time that has to go on."""

    def close(self) -> None:
        """Nothing to let go of."""

    def kill(self) -> list[Task]:
        """The process dies between two messages. Returns what was running."""
        self.is_dead = True
        running = list(self.tasks)
        for task in running:
            for frame in reversed(task.frames):
                frame.close()
        return running

    # --- Inside ------------------------------------------------------------------------

    def _start(self, task: Task) -> Task:
        self.tasks[task] = None
        self._kernel.after(0, self._acquire, task, None)
        return task

    def _acquire(self, task: Task, value: Any) -> None:
        """Wait for the lock of the task's last frame, then run it."""
        if self.is_dead:
            return
        lock = task.locks[-1]
        if lock is not None:
            queue = self._locks.setdefault(lock, deque())
            queue.append(task)
            if queue[0] is not task:
                return
        self.step(task, value)

    def _release(self, lock: str) -> None:
        queue = self._locks[lock]
        queue.popleft()
        for waited, waiter in self._barriers[:]:
            waited.discard(lock)
            if not waited:
                self._barriers.remove((waited, waiter))
                self._kernel.after(0, self.step, waiter, None)
        if queue:
            self._kernel.after(0, self.step, queue[0], None)
        else:
            del self._locks[lock]

    def step(self, task: Task, value: Any, error: Exception | None = None) -> None:
        """Run a task up to the next thing that it must wait for."""
        if self.is_dead:
            return
        task.has_begun = True
        frames = task.frames
        while True:
            frame = frames[-1]
            try:
                need = frame.send(value) if error is None else frame.throw(error)
            except StopIteration as stop:
                value, error = stop.value, None
            except AssertionError:
                raise
            except Exception as raised:
                value, error = None, raised
            else:
                self._serve(task, need)
                return
            frames.pop()
            lock = task.locks.pop()
            if lock is not None:
                self._release(lock)
            if not frames:
                self._end(task, value, error)
                return

    def _end(self, task: Task, value: Any, error: Exception | None) -> None:
        del self.tasks[task]
        self._kernel.note(task.number, -1)
        task.ended(value, error)

    def _serve(self, task: Task, need: Any) -> None:
        kind = type(need)
        if kind is Ask:
            self._ask(task, need)
            return
        task.sent += 1
        pause = bits(0, task.number, task.sent, 1) % JITTER_US
        if kind is Exclusive:
            lock = need.key if need.key is not None else RECONFIGURATION
            held = task.locks[-1]
            assert held is None or held == RECONFIGURATION, (
                f"locks are taken in one order (held={held!r}, asked={lock!r})"
            )
            self.nested[name_of(need.operation)] += 1
            task.frames.append(need.operation)
            task.locks.append(lock)
            self._kernel.after(pause, self._acquire, task, None)
        elif kind is Barrier:
            assert not any(task.locks) or task.locks[-1] == RECONFIGURATION
            waited = {
                lock
                for lock, queue in self._locks.items()
                if lock != RECONFIGURATION and queue[0].has_begun
            }
            if waited:
                self._barriers.append((waited, task))
            else:
                self._kernel.after(pause, self.step, task, None)
        else:
            assert kind is Spawn, f"an operation needs what no driver has: {need!r}"
            spawned = Task(need.operation, need.key, SPAWNED | task.number << 8)
            spawned.number |= task.sent & 0xFF
            spawned.then(_raise_what_is_no_answer)
            self._start(spawned)
            self._kernel.after(pause, self.step, task, None)

    def _ask(self, task: Task, ask: Ask) -> None:
        task.sent += 1
        asking = task.asking = _Asking(self, task, ask)
        if not ask.targets:
            self._kernel.after(0, asking.close)
            return
        send, message, number, sent = (
            self._network.send, ask.message, task.number, task.sent,
        )  # fmt: skip
        for target in ask.targets:
            send(Exchange(number, sent, target, message, asking))
        if ask.within_ms is not None:
            self._kernel.after(ask.within_ms * 1_000, asking.close)
            return
        # They lose patience in the order in which they asked: one timer does for all.
        self._patient.append((self._kernel.now + self._patience_us, asking))
        if not self._is_timed:
            self._is_timed = True
            self._kernel.after(self._patience_us, self._lose_patience)

    def _lose_patience(self) -> None:
        patient, now = self._patient, self._kernel.now
        while patient and (patient[0][0] <= now or patient[0][1].is_over):
            patient.popleft()[1].close()
        self._is_timed = bool(patient)
        if patient:
            self._kernel.after(patient[0][0] - now, self._lose_patience)


def finished(task: Task) -> Callable[[], bool]:
    """Whether a task has ended, for `Kernel.run`."""
    ended: list[bool] = []
    before = task.ended

    def note(outcome: Any, error: Exception | None) -> None:
        ended.append(True)
        before(outcome, error)

    task.then(note)
    return partial(bool, ended)
