"""JSON values in one spelling each, so that two are equal if their texts are.

A number is the decimal number that its digits say, of any length and with any exponent:
1, 1.0 and 10e-1 are spelled 1, and 0.1 is not what a double makes of it. An object has
its members in the order of their names. A string is spelled without escapes, but for
what JSON demands. JSON is as RFC 8259 has it, and stricter in one thing: a doubled
member is refused, as is half of a surrogate pair, since readers of JSON differ in what
these say (its sections 4 and 8.2).
"""

from __future__ import annotations

import json
import re
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from json.encoder import encode_basestring
from typing import Any, NoReturn

DEPTH_MAX = 512  # arrays and objects in one another: more than this store can be set to
ZEROS_MAX = 20  # that a number is spelled with; one that needs more has an exponent
_PLAIN_DIGITS_MAX = 600  # of an int: Python may be told to read no more than 640
_NUMBER = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?)0*([0-9]*))?")
_EXPONENT_DIGITS_MAX = 18
# Reads and adds the longer ones, to the last digit and in no more time than that takes.
_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)


class BadValue(ValueError):
    """What is no JSON value; the message says why."""


class NotJson(BadValue):
    """What is not JSON at all."""


class Number:
    """A number that is no moderate whole one, by its one spelling."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


def parse(text: str) -> Any:
    """The value of a JSON text, as `canonical` takes it; BadValue if it is none.

    A whole number is an int, any other one a `Number`, the rest as in `json`.
    """
    try:
        found = _decode(text)
        if "\\u" in text or not text.isascii():
            _check_characters(_spelled(found, 2 * DEPTH_MAX))
    except json.JSONDecodeError as error:
        raise NotJson(f"not JSON: {error.msg} (character {error.pos + 1})") from error
    except RecursionError as error:
        raise _too_deep() from error
    return found


def canonical(value: object) -> str:
    """The one spelling of a value, which may also be a float or a Decimal.

    Raises TypeError for what JSON does not know, BadValue for what it cannot say.
    """
    try:
        text = _spelled(value, DEPTH_MAX)
    except RecursionError as error:
        raise _too_deep() from error
    _check_characters(text)
    return text


def _check_characters(text: str) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        raise BadValue(
            f"{half} is half of a surrogate pair, and no character"
        ) from error


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadValue(f"an object has {twice!r} twice; each name is there once")
    return found


def _whole(text: str) -> int | Number:
    return int(text) if len(text) <= _PLAIN_DIGITS_MAX else Number(_number(text))


def _fraction(text: str) -> int | Number:
    spelled = _number(text)
    is_whole = "." not in spelled and "e" not in spelled
    return _whole(spelled) if is_whole else Number(spelled)


def _refuse(constant: str) -> NoReturn:
    raise BadValue(f"{constant} is not JSON; null or a string could stand for it")


def _spelled(value: object, depth_left: int) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return encode_basestring(value)
        case Number():
            return value.text
        case int() | Decimal():  # through Decimal: the text of an int is limited
            return _number(str(Decimal(value)))
        case float():
            return _number(float.__repr__(value))
        case list() | tuple() | dict() if not depth_left:
            raise _too_deep()
        case list() | tuple():  # loops, as comprehensions would double the depth
            parts = []
            for each in value:
                parts.append(_spelled(each, depth_left - 1))
            return f"[{','.join(parts)}]"
        case dict():
            parts = []
            members = _members([(_name(each), value[each]) for each in value])
            for name in sorted(members):
                spelled = _spelled(members[name], depth_left - 1)
                parts.append(f"{encode_basestring(name)}:{spelled}")
            return f"{{{','.join(parts)}}}"
    raise TypeError(f"cannot say a {type(value).__name__} in JSON (value={value!r})")


def _name(name: object) -> str:
    """The name of a member; JSON has names of its own for what is no text."""
    if isinstance(name, str):
        return name
    (text,) = json.loads(json.dumps({name: None}))
    return str(text)


def _number(text: str) -> str:
    """The one spelling of a number: its sign, digits and exponent, none of them to spare."""
    parts = _NUMBER.fullmatch(text)
    if parts is None:
        _refuse(text)
    sign, whole, fraction, direction, power = parts.groups("")
    padded = (whole + fraction).lstrip("0")
    digits = padded.rstrip("0")
    if not digits:
        return "0"
    size = len(digits)
    point = len(padded) - len(fraction)  # how many digits stand before it
    if len(power) > _EXPONENT_DIGITS_MAX:
        away = _EXACT.add(Decimal(direction + power), Decimal(point - 1))
        return sign + _with_exponent(digits, str(away))
    point += int(direction + power) if power else 0
    if size <= point <= size + ZEROS_MAX:
        return f"{sign}{digits}{'0' * (point - size)}"
    if 0 < point < size:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -ZEROS_MAX < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    return sign + _with_exponent(digits, str(point - 1))


def _with_exponent(digits: str, exponent: str) -> str:
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{fraction}e{exponent}"


def _too_deep() -> BadValue:
    return BadValue(
        f"nested too deeply: at most {DEPTH_MAX} arrays and objects in one another"
    )


_decode = json.JSONDecoder(
    object_pairs_hook=_members,
    parse_int=_whole,
    parse_float=_fraction,
    parse_constant=_refuse,
).decode
