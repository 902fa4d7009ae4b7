"""The lines of a history file, as data: one JSON object a line, of a `type` each.

What a field means, and how events make operations, is in `docs/histories.md`. Here is
only the shape; `checker.history` pairs the events and finds what shape cannot say.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, field

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
KINDS: tuple[type[Struct], ...] = (Header, Invoke, Ok, Fail, Unknown, Info, Held)

_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
_kind_decoder = msgspec.json.Decoder(dict[str, Raw])
_fields = {
    str(kind.__struct_config__.tag): kind.__struct_encode_fields__ for kind in KINDS
}


def decode(line: str | bytes, number: int) -> Event:
    """The event of one line; BadHistory says what is wrong with line `number`."""
    try:
        event: Event = _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise BadHistory(number, f"{error}; {_advice(line)}") from error
    return event


def encode(event: Event) -> str:
    """One line with its end."""
    return msgspec.json.encode(event).decode() + "\n"


def raw(text: str) -> Raw:
    """A value whose JSON text is known."""
    return Raw(text.encode())


def _advice(line: str | bytes) -> str:
    kinds = ", ".join(_fields)
    try:
        kind = msgspec.json.decode(_kind_decoder.decode(line)["type"])
    except (msgspec.DecodeError, KeyError, UnicodeError):
        return f'a line is one JSON object with a "type": {kinds}'
    if not isinstance(kind, str) or kind not in _fields:
        return f'"type" is one of {kinds}'
    return f'"{kind}" may have: {", ".join(_fields[kind])}'
