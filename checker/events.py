"""The lines of a history file, as data: one JSON object a line, of a `type` each.

What a field means, and how events make operations, is in `docs/histories.md`. Here is
only the shape; `checker.history` pairs the events and finds what shape cannot say.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, field

from checker.values import BadValue, NotJson, canonical, parse
from texts import BYTE_ORDER_MARK, NotUtf8, utf8_text

FORMAT = 1
ACTIONS = ("read", "write", "delete")
LEVELS = ("", "weak")


class BadHistory(ValueError):
    """A line that is no part of a history; the message says what would be right.

    line: its number, from 1.
    """

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason


class Header(
    Struct, tag="history", tag_field="type", forbid_unknown_fields=True, frozen=True
):
    """The first line, if there is one."""

    format: int = FORMAT
    unit: str = "us"
    note: str = ""


class Invoke(
    Struct, tag="invoke", tag_field="type", forbid_unknown_fields=True, frozen=True
):
    """A client asks."""

    client: str
    time: int
    action: str
    key: str
    value: Raw | UnsetType = UNSET
    condition: Raw | UnsetType = field(name="if", default=UNSET)
    level: str | UnsetType = UNSET


class Ok(Struct, tag="ok", tag_field="type", forbid_unknown_fields=True, frozen=True):
    """It was done."""

    client: str
    time: int
    value: Raw | UnsetType = UNSET
    version: str | UnsetType | None = UNSET


class Fail(
    Struct, tag="fail", tag_field="type", forbid_unknown_fields=True, frozen=True
):
    """It was not done and never will be."""

    client: str
    time: int
    saw: Raw | UnsetType = UNSET
    version: str | UnsetType | None = UNSET


class Unknown(
    Struct, tag="unknown", tag_field="type", forbid_unknown_fields=True, frozen=True
):
    """Nobody knows whether it was done."""

    client: str
    time: int


class Info(Unknown, tag="info", frozen=True):
    """The same, as Jepsen calls it."""


class Held(
    Struct, tag="replica", tag_field="type", forbid_unknown_fields=True, frozen=True
):
    """What a replica holds at the end."""

    node: str
    key: str
    value: Raw | UnsetType = UNSET
    version: str | UnsetType | None = UNSET


Event = Header | Invoke | Ok | Fail | Unknown | Info | Held
KINDS: tuple[type[Event], ...] = (Header, Invoke, Ok, Fail, Unknown, Info, Held)

_VALUES = ("value", "if", "saw")
_kinds = {str(kind.__struct_config__.tag): kind for kind in KINDS}


def text_of(line: str | bytes, number: int) -> str:
    """The text of line `number`; BadHistory says what its bytes are if not UTF-8."""
    if isinstance(line, str):
        return line.removeprefix(BYTE_ORDER_MARK)
    try:
        return utf8_text(line)
    except NotUtf8 as error:
        raise BadHistory(number, f"{error}; {_advice(None)}") from error


def decode(text: str, number: int) -> Event:
    """The event of one line, its values in their one spelling (`checker.values`).

    BadHistory says what is wrong with line `number`.
    """
    try:
        return _event(parse(text), number)
    except NotJson as error:
        raise BadHistory(number, f"{error}; {_advice(None)}") from error
    except BadValue as error:
        raise BadHistory(number, str(error)) from error


def encode(event: Event) -> str:
    """One line with its end."""
    return msgspec.json.encode(event).decode() + "\n"


def raw(text: str) -> Raw:
    """A value whose JSON text is known."""
    return Raw(text.encode())


def _event(fields: Any, number: int) -> Event:
    kind = _kind_of(fields)
    if kind is None:
        raise BadHistory(number, _advice(fields))
    for name in _VALUES:
        if name in fields:
            fields[name] = raw(canonical(fields[name]))
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise BadHistory(number, f"{error}; {_advice(fields)}") from error


def _kind_of(fields: Any) -> type[Event] | None:
    name = fields.get("type") if isinstance(fields, dict) else None
    return _kinds.get(name) if isinstance(name, str) else None


def _advice(fields: Any) -> str:
    """What would be right in place of a line of these fields."""
    kinds = ", ".join(_kinds)
    if not isinstance(fields, dict):
        return f'a line is one JSON object with a "type": {kinds}'
    if "type" not in fields:
        has = ", ".join(fields) or "nothing"
        return f'a line is one JSON object with a "type": {kinds}; this one has {has}'
    kind = _kind_of(fields)
    if kind is None:
        return f'"type" is one of {kinds}'
    known = ", ".join(kind.__struct_encode_fields__)
    return f'"{fields["type"]}" may have: {known}'
