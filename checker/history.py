"""What clients did to registers and were told: the data, and the file it is kept in.

A history is about registers, one per key. A register is absent or has a value, any JSON
value; in memory a value is its canonical JSON text (`checker.values`), and None is
absent. The format of the file is described in `docs/histories.md`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from heapq import merge
from typing import Any, NoReturn, Protocol

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from checker.events import (
    ACTIONS,
    FORMAT,
    LEVELS,
    BadHistory,
    Fail,
    Header,
    Held,
    Invoke,
    Ok,
    Unknown,
    decode,
    encode,
    raw,
    text_of,
)
from checker.values import canonical, parse

__all__ = [
    "ABSENT",
    "PRESENT",
    "BadHistory",
    "History",
    "Operation",
    "Recorder",
    "Replica",
    "State",
    "Token",
    "canonical",
    "read_history",
    "write_history",
]


class State(Struct, frozen=True, gc=False):
    """What is told, or demanded, of a register at one moment.

    kind: "is": it is exactly `value` (None: absent); "is_not": it is anything but
        `value` (None: anything but absent, so "present").
    value: canonical JSON text, or None for absent.
    """

    kind: str
    value: str | None = None


ABSENT = State("is", None)
PRESENT = State("is_not", None)


class Operation(Struct, frozen=True, gc=False):
    """One request of one client, and what became of it.

    client: who asked; a client waits for an answer before it asks again.
    key: the register.
    action: "read", "write" or "delete".
    began: when it was asked, on any one clock; the unit is the history's. Operations
        of which one ended exactly when the other began count as concurrent.
    ended: when it was answered, not before `began`; None: never, or the answer left
        the outcome open. Then it may take effect at any time after `began`, or never.
    outcome: "ok"; "failed": definite, had no effect and never will; "unknown".
    value: what was written (write) or found (read; None: absent).
    condition: of a write or delete: had to hold for it to take effect. None: none.
    saw: of a failed one: what it was told of the register, which makes it a read of
        that. None: it was told nothing.
    version: what the store calls the version it wrote, found or was told; as text in
        the order of versions. None: not told.
    level: "": linearizability is promised; "weak": it is not. A weak read is left out
        of linearizability, an acknowledged weak write may be lost or show later.
    """

    client: str
    key: str
    action: str
    began: int
    ended: int | None
    outcome: str
    value: str | None = None
    condition: State | None = None
    saw: State | None = None
    version: str | None = None
    level: str = ""


class Replica(Struct, frozen=True, gc=False):
    """What one replica holds of one key at the end; value None: absent."""

    node: str
    key: str
    value: str | None = None
    version: str | None = None


class History(Struct):
    """Everything that was seen, in any order.

    unit: of `began` and `ended`, for people; nothing is computed from it.
    note: one line on where it comes from.
    """

    operations: list[Operation] = []
    replicas: list[Replica] = []
    unit: str = "us"
    note: str = ""


class SupportsWrite(Protocol):
    """Where text can be written."""

    def write(self, text: str, /) -> object: ...


class Token(Struct, frozen=True, gc=False):
    """An operation that a recorder saw begin."""

    client: str
    action: str


class Recorder:
    """Notes what live clients do, a line at once, and keeps nothing.

    A recorder that dies leaves the operations that were open without an answer, which
    is what is known of them. `write` is called once for each event with the whole line
    and its end; where threads share it, it must keep a line in one piece (a file's
    write does if the file is line buffered), or be given a `lock`. `now` is one
    monotonic clock, in `unit`. It is asked before the beginning is noted and after the
    answer came, so that an interval may be too wide but never too narrow.
    """

    def __init__(
        self,
        write: Callable[[str], object],
        now: Callable[[], int],
        *,
        unit: str = "us",
        note: str = "",
        lock: AbstractContextManager[Any] | None = None,
    ) -> None:
        self._write = write
        self._now = now
        self._lock = nullcontext() if lock is None else lock
        self._note(Header(unit=unit, note=note))

    def invoke(
        self,
        client: str,
        action: str,
        key: str,
        value_text: str | None = None,
        condition: State | None = None,
        *,
        level: str = "",
    ) -> Token:
        """Note that `client` is about to ask; then let it ask.

        `value_text` is the canonical JSON text that a write is to write.
        """
        assert action in ACTIONS, f"action is one of {ACTIONS} (action={action})"
        assert (action == "write") == (value_text is not None), "a write has a value"
        began = self._now()
        self._note(
            Invoke(
                client,
                began,
                action,
                key,
                _raw_or_unset(value_text),
                _state_to_raw(condition),
                level or UNSET,
            )
        )
        return Token(client, action)

    def ok(
        self, token: Token, *, value: str | None = None, version: str | None = None
    ) -> None:
        """Note that it was done; `value` is what a read found, None: absent."""
        assert value is None or token.action == "read", "only a read finds a value"
        shown = UNSET if version is None else version
        self._note(Ok(token.client, self._now(), _raw_or_unset(value), shown))

    def failed(
        self, token: Token, *, saw: State | None = None, version: str | None = None
    ) -> None:
        """Note that it was not done and never will be, and what the client was told."""
        shown = UNSET if version is None else version
        self._note(Fail(token.client, self._now(), _state_to_raw(saw), shown))

    def unknown(self, token: Token) -> None:
        """Note that nobody knows whether it was done."""
        self._note(Unknown(token.client, self._now()))

    def _note(self, event: Header | Invoke | Ok | Fail | Unknown) -> None:
        line = encode(event)
        with self._lock:
            self._write(line)


def read_history(lines: Iterable[str | bytes]) -> History:
    """The history that these lines tell, such as those of an open file.

    Raises BadHistory, which names the line and what would be right there.
    """
    return _Reader().read(lines)


def write_history(stream: SupportsWrite, history: History) -> None:
    """Write a history so that `read_history` reads it again, in the order of time.

    What has no answer ends with the file. Raises ValueError, before anything is
    written, where a client has two operations open at one time.
    """
    threads: dict[str, list[Operation]] = defaultdict(list)
    for operation in history.operations:
        threads[operation.client].append(operation)
    scripts = [_script(thread) for thread in threads.values()]
    stream.write(encode(Header(unit=history.unit, note=history.note)))
    for event in merge(*scripts, key=lambda event: event.time):
        stream.write(encode(event))
    for replica in history.replicas:
        held = Held(
            replica.node,
            replica.key,
            _raw_or_unset(replica.value),
            UNSET if replica.version is None else replica.version,
        )
        stream.write(encode(held))


def invocation(operation: Operation) -> Invoke:
    """The event that begins an operation."""
    return Invoke(
        operation.client,
        operation.began,
        operation.action,
        operation.key,
        _raw_or_unset(operation.value if operation.action == "write" else None),
        _state_to_raw(operation.condition),
        operation.level or UNSET,
    )


def completion(operation: Operation) -> Ok | Fail | None:
    """The event that ends an operation; None where its outcome is open."""
    client, time = operation.client, operation.ended
    version = UNSET if operation.version is None else operation.version
    if time is None or operation.outcome == "unknown":
        return None
    if operation.outcome == "failed":
        return Fail(client, time, _state_to_raw(operation.saw), version)
    found = operation.value if operation.action == "read" else None
    return Ok(client, time, _raw_or_unset(found), version)


def _script(thread: list[Operation]) -> list[Invoke | Ok | Fail]:
    """What one client says, in order."""
    thread.sort(
        key=lambda each: (each.began, each.began if each.ended is None else each.ended)
    )
    events: list[Invoke | Ok | Fail] = []
    for operation in thread:
        if events and operation.began < events[-1].time:
            raise ValueError(
                f"cannot write a history in which {operation.client} has two operations "
                f"open at once (began={operation.began}, before={events[-1].time})"
            )
        events.append(invocation(operation))
        end = completion(operation)
        if end is not None:
            events.append(end)
    return events


class _Reader:
    """Pairs events by client; an operation stands where it began."""

    def __init__(self) -> None:
        self.history = History()
        self.open: dict[str, int] = {}  # client: where its operation is
        self.number = 0

    def read(self, lines: Iterable[str | bytes]) -> History:
        first = True
        for self.number, line in enumerate(lines, 1):
            text = text_of(line, self.number)
            if not text.strip():
                continue
            event = decode(text, self.number)
            if isinstance(event, Header):
                self._header(event, first)
            elif isinstance(event, Invoke):
                self._begin(event)
            elif isinstance(event, Held):
                value, version = _text(event.value), event.version or None
                replica = Replica(event.node, event.key, value, version)
                self.history.replicas.append(replica)
            else:
                self._end(event)
            first = False
        return self.history

    def _header(self, event: Header, first: bool) -> None:
        if not first:
            self._refuse('"history" is only ever the first line')
        if event.format != FORMAT:
            self._refuse(f"format {event.format} is not known; this reads {FORMAT}")
        self.history.unit, self.history.note = event.unit, event.note

    def _begin(self, event: Invoke) -> None:
        action, level = event.action, event.level or ""
        if action not in ACTIONS:
            self._refuse(f"action {action!r} is not one of {', '.join(ACTIONS)}")
        if (action == "write") != (event.value is not UNSET):
            wrong = "needs" if action == "write" else "cannot have"
            self._refuse(f'the invoke of a {action} {wrong} a "value"')
        if action == "read" and event.condition is not UNSET:
            self._refuse('a read cannot have an "if"')
        if level not in LEVELS:
            self._refuse(f'level {level!r} is not "weak"; leave it out for the default')
        self.open[event.client] = len(self.history.operations)
        value, condition = _text(event.value), self._state(event.condition, "if")
        self.history.operations.append(
            Operation(
                event.client,
                event.key,
                action,
                event.time,
                None,
                "unknown",
                value,
                condition,
                level=level,
            )
        )

    def _end(self, event: Ok | Fail | Unknown) -> None:
        at = self.open.pop(event.client, None)
        if at is None:
            self._refuse(
                f"{event.client} has nothing open; its invoke comes first, and one answer"
            )
        before = self.history.operations[at]
        if event.time < before.began:
            self._refuse(
                f"time {event.time} is before {before.began}, when {event.client} asked"
            )
        if isinstance(event, Unknown):
            return
        changes: dict[str, object] = {
            "ended": event.time,
            "version": event.version or None,
        }
        if isinstance(event, Fail):
            changes |= {"outcome": "failed", "saw": self._state(event.saw, "saw")}
        else:
            changes["outcome"] = "ok"
            if before.action == "read":
                changes["value"] = _text(event.value)
            elif event.value is not UNSET:
                self._refuse(f'the ok of a {before.action} cannot have a "value"')
        self.history.operations[at] = replace(before, **changes)

    def _state(self, value: msgspec.Raw | UnsetType, name: str) -> State | None:
        text = _text(value)
        if text is None:
            return None
        if text in _NAMED_STATES:
            return _NAMED_STATES[text]
        found = parse(text)
        if isinstance(found, dict) and len(found) == 1:
            ((kind, inner),) = found.items()
            if kind in _KINDS:
                return State(_KINDS[kind], canonical(inner))
        raise BadHistory(
            self.number,
            f'"{name}" is "absent", "present", {{"value": ...}} or {{"not": ...}}, '
            f"not {text}",
        )

    def _refuse(self, reason: str) -> NoReturn:
        raise BadHistory(self.number, reason)


_NAMED_STATES = {'"absent"': ABSENT, '"present"': PRESENT}
_KINDS = {"value": "is", "not": "is_not"}


def _text(value: msgspec.Raw | UnsetType) -> str | None:
    return None if value is UNSET else bytes(value).decode()


def _raw_or_unset(value: str | None) -> msgspec.Raw | UnsetType:
    return UNSET if value is None else raw(value)


def _state_to_raw(state: State | None) -> msgspec.Raw | UnsetType:
    if state is None:
        return UNSET
    if state.value is None:
        return raw('"absent"' if state.kind == "is" else '"present"')
    return raw(f'{{"{"value" if state.kind == "is" else "not"}":{state.value}}}')
