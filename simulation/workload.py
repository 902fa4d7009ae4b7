"""Simulated clients: each works through its steps of the plan, and notes what it was told.

A client asks, waits for the answer or gives up, thinks, and asks again. What it knows of
a key is what it was last told, and that is what its conditions are made of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

from checker.history import ABSENT, PRESENT, Operation, State
from cluster.listing import KeyPage
from models import (
    Condition,
    KeyNotFound,
    ReadOutcome,
    StoreError,
    VersionMismatch,
    WriteOutcome,
)
from simulation.driver import Task
from simulation.kernel import MS_US
from simulation.plan import Step
from simulation.world import World

READ, WRITE, DELETE = "read", "write", "delete"
SWAP = "swap"  # write if the version is the one last seen
DELETE_SEEN = "delete-seen"
CREATE, UPDATE = "create", "update"
READ_ONE, WRITE_ONE = "read-one", "write-one"
LIST = "list"
ACTIONS = (
    READ, WRITE, DELETE, SWAP, DELETE_SEEN, CREATE, UPDATE, READ_ONE, WRITE_ONE, LIST,
)  # fmt: skip
ONE = "one"
LIMITS = (1, 2, 5, 100)  # of keys on a page
RETRY_US = 10 * MS_US  # until a client asks again where nobody listened
WEAK = "weak"


class Lasting(NamedTuple):
    """A value that was written, or may be, with a time to live. Times are microseconds."""

    client: str
    key: str
    value: str | None
    ttl: int
    began: int
    ended: int | None  # when that was acknowledged

    def ending(self, earliest: int) -> Operation:
        """Its end as the checker has it: a delete that may happen from then on."""
        is_it = State("is", self.value)
        return Operation(
            f"{self.client}'s ttl",
            self.key,
            DELETE,
            earliest,
            None,
            "unknown",
            None,
            is_it,
        )


class Request:
    """One request under way."""

    __slots__ = ("action", "began", "condition", "is_open", "step", "value")

    def __init__(self, step: Step, began: int) -> None:
        self.step = step
        self.began = began
        self.action = READ
        self.value: str | None = None
        self.condition: State | None = None
        self.is_open = True


class Client:
    """One client. `operations` is what it asked and was told, `lasting` what will end."""

    def __init__(self, world: World, name: str, steps: Iterable[Step]) -> None:
        self.name = name
        self.operations: list[Operation] = []
        self.lasting: list[Lasting] = []
        self.request: Request | None = None
        self.acknowledged: Callable[[str, WriteOutcome], None] = lambda key, outcome: (
            None
        )
        self._world = world
        self._steps = list(reversed(list(steps)))
        self.watch: Callable[[Client, Request, str], None] | None = None
        self.done: Callable[[], None] = lambda: None
        self._is_thinking = False
        self._is_watched = False  # its patience is being timed
        self._known: dict[str, tuple[str, str]] = {}  # key: (version, value) last seen

    @property
    def is_done(self) -> bool:
        """Nothing is left to do, and nothing is waited for."""
        return not self._steps and not self._is_thinking and self.request is None

    def go_on(self) -> None:
        """Think, then do the next step, if there is one."""
        if self._steps:
            step = self._steps.pop()
            self._is_thinking = True
            self._world.kernel.after(step.think_us, self._ask, step)
        else:
            self.done()

    def give_up(self) -> None:
        """Whatever it waits for has died, or takes too long: nobody knows."""
        request = self.request
        if request is not None and request.is_open:
            self._note(request, "unknown", request.value)
            self._next()

    def _ask(self, step: Step) -> None:
        world = self._world
        if not world.is_serving:  # nobody listens: nothing was done, and it comes again
            world.kernel.after(RETRY_US, self._ask, step)
            return
        self._is_thinking = False
        request = self.request = Request(step, world.kernel.now)
        world.driver.next_number = step.number
        try:
            task = self._start(request, step)
        except StoreError as error:  # before anything was begun
            self._told(request, None, error)
            return
        if self.watch is not None:
            self.watch(self, request, f"asks to {_words(request)}")
        task.then(partial(self._told, request))
        if not self._is_watched:
            self._is_watched = True
            world.kernel.after(world.plan.times.client, self._lose_patience)

    def _start(self, request: Request, step: Step) -> Task:
        """Hand the request to the manager, as app.py does."""
        manager, key, action = self._world.manager, step.key, step.action
        answer: Any
        if action in (READ, READ_ONE):
            level = ONE if action == READ_ONE else None
            answer = manager.read(key, consistency=level)
        elif action == LIST:
            answer = manager.keys(limit=LIMITS[step.number % len(LIMITS)])
        else:
            condition = self._condition(request, key, action)
            if action in (DELETE, DELETE_SEEN):
                request.action = DELETE
                request.condition = request.condition or PRESENT
                answer = manager.delete(key, condition=condition)
            else:
                request.action = WRITE
                request.value = str(step.number)
                answer = manager.write(
                    key,
                    step.number,
                    ttl=step.ttl_ms / 1000 if step.ttl_ms else None,
                    condition=condition,
                    consistency=ONE if action == WRITE_ONE else None,
                )
        task: Task = (
            answer  # the simulated driver returns what will end, not how it did
        )
        return task

    def _condition(self, request: Request, key: str, action: str) -> Condition | None:
        if action == CREATE:
            request.condition = ABSENT
            return Condition(if_absent=True)
        if action == UPDATE:
            request.condition = PRESENT
            return Condition(if_present=True)
        if action in (SWAP, DELETE_SEEN) and key in self._known:
            version, value = self._known[key]
            request.condition = State("is", value)
            return Condition(if_versions=(version,))
        return None

    # --- What it is told ---------------------------------------------------------------

    def _told(self, request: Request, outcome: Any, error: Exception | None) -> None:
        if error is not None and not isinstance(error, StoreError):
            raise error
        if not request.is_open:
            return
        if error is not None:
            self._told_error(request, error)
        elif isinstance(outcome, WriteOutcome):
            if request.action == WRITE and request.value is not None:
                self._known[request.step.key] = (outcome.version, request.value)
            self._note(request, "ok", request.value, version=outcome.version)
            self.acknowledged(request.step.action, outcome)
        elif isinstance(outcome, ReadOutcome):
            value = bytes(outcome.text).decode()
            self._known[request.step.key] = (outcome.version, value)
            self._note(request, "ok", value, version=outcome.version)
        else:
            self._told_page(request, outcome)
        self._next()

    def _told_error(self, request: Request, error: StoreError) -> None:
        version = None
        saw: State | None = None
        if isinstance(error, KeyNotFound):
            version, saw = error.extra.get("version"), ABSENT
            self._known.pop(request.step.key, None)
            if request.action == READ:
                self._note(request, "ok", None, version=version)
                return
        elif isinstance(error, VersionMismatch):
            version = error.extra.get("version")
            saw = ABSENT if version is None else PRESENT
        elif not error.definite:
            self._note(request, "unknown", request.value)
            return
        self._note(request, "failed", request.value, saw=saw, version=version)

    def _told_page(self, request: Request, page: KeyPage) -> None:
        """A page of keys is a look at each of them, no more: not a snapshot."""
        listed = {info.key: info.version for info in page.keys}
        now = self._world.kernel.now
        for key in self._world.keys:
            if page.next is not None and key > page.next:
                continue  # of another page
            saw = PRESENT if key in listed else ABSENT
            if self.watch is not None:
                told = "is" if key in listed else "is not"
                self.watch(self, request, f"is told that {key} {told} there")
            name = f"{self.name} lists {key}"
            self.operations.append(
                Operation(name, key, READ, request.began, now, "failed", None, None,
                          saw, listed.get(key))
            )  # fmt: skip

    def _lose_patience(self) -> None:
        """Give up what takes too long; one timer does for all requests."""
        self._is_watched = False
        request = self.request
        if request is None:
            return
        kernel = self._world.kernel
        left = request.began + self._world.plan.times.client - kernel.now
        if left > 0:
            self._is_watched = True
            kernel.after(left, self._lose_patience)
        else:
            self.give_up()

    def _note(
        self,
        request: Request,
        outcome: str,
        value: str | None,
        *,
        saw: State | None = None,
        version: str | None = None,
    ) -> None:
        step = request.step
        request.is_open = False
        if self.watch is not None:
            self.watch(
                self, request, f"is told {outcome}{_found(request, outcome, value)}"
            )
        ended = None if outcome == "unknown" else self._world.kernel.now
        if step.action == LIST:
            return
        self.operations.append(
            Operation(self.name, step.key, request.action, request.began, ended, outcome,
                      value, request.condition, saw, version,
                      WEAK if step.action in (READ_ONE, WRITE_ONE) else "")
        )  # fmt: skip
        if step.ttl_ms and request.action == WRITE and outcome != "failed":
            ttl = step.ttl_ms * MS_US
            self.lasting.append(
                Lasting(self.name, step.key, value, ttl, request.began, ended)
            )

    def _next(self) -> None:
        if self.request is not None:
            self.request.is_open = False
        self.request = None
        self.go_on()


def _words(request: Request) -> str:
    """A request as a person would say it."""
    condition = request.condition
    text = f"{request.step.action} {request.step.key}"
    if request.value is not None:
        text += f" = {request.value}"
    if request.step.action != DELETE and condition is not None:
        known = "absent" if condition.value is None else condition.value
        text += f" if it is {'not ' if condition.kind == 'is_not' else ''}{known}"
    return text


def _found(request: Request, outcome: str, value: str | None) -> str:
    if request.action != READ or outcome != "ok":
        return f" ({request.step.action} {request.step.key})"
    return f" ({request.step.key} is {value if value is not None else 'absent'})"
