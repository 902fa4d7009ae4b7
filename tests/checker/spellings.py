"""JSON texts as hypothesis draws them: any value, and one value in many spellings."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import NamedTuple

from hypothesis import strategies as st


class Power(NamedTuple):
    """The number `digits * 10 ** exponent`."""

    digits: int
    exponent: int


numbers = st.builds(Power, st.integers(-(10**24), 10**24), st.integers(-45, 45))
near_ones = st.builds(Power, st.integers(-12, 12), st.integers(-2, 2))
strings = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
values = st.recursive(
    st.none() | st.booleans() | near_ones | numbers | strings,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda each: ["list", *each])
        | st.dictionaries(strings, inner, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def spellings(draw: st.DrawFn, value: object) -> str:
    """A JSON text of the value: blanks, escapes, zeros and order as they come."""
    blank = draw(st.sampled_from(["", "", " ", "\t", "\r\n"]))
    match value:
        case Power():
            text = _number(draw, value)
        case list():
            parts = [draw(spellings(each)) for each in value[1:]]
            text = f"[{','.join(parts)}]"
        case dict():
            members = [
                f"{draw(spellings(name))}:{draw(spellings(value[name]))}"
                for name in draw(st.permutations(list(value)))
            ]
            text = f"{{{','.join(members)}}}"
        case _:
            text = json.dumps(value, ensure_ascii=draw(st.booleans()))
    return f"{blank}{text}{blank}"


def _number(draw: st.DrawFn, number: Power) -> str:
    zeros, shift = draw(st.integers(0, 25)), draw(st.integers(0, 50))
    text = f"{abs(number.digits)}{'0' * zeros}".rjust(shift + 1, "0")
    whole, fraction = text[: len(text) - shift], text[len(text) - shift :]
    sign = (
        "-" if number.digits < 0 or (not number.digits and draw(st.booleans())) else ""
    )
    power = number.exponent - zeros + shift
    padding = "0" * draw(st.integers(0, 22))
    letter = draw(st.sampled_from(["e", "E"]))
    exponents = [f"{letter}{'-' if power < 0 else ''}{padding}{abs(power)}"]
    if power >= 0:
        exponents.append(f"{letter}+{padding}{power}")
    if power == 0:
        exponents.append("")
    point = f".{fraction}" if fraction else ""
    return f"{sign}{whole.lstrip('0') or '0'}{point}{draw(st.sampled_from(exponents))}"


json_texts = values.flatmap(spellings)


def meaning(text: str) -> object:
    """The value of a JSON text, slowly: equal ones are equal, and true is not 1."""

    def number(digits: str) -> tuple[str, Fraction]:
        return "number", Fraction(digits)

    return _tagged(json.loads(text, parse_int=number, parse_float=number))


def _tagged(value: object) -> object:
    match value:
        case list():
            return "list", [_tagged(each) for each in value]
        case dict():
            return "object", {name: _tagged(each) for name, each in value.items()}
        case tuple():
            return value
    return type(value).__name__, value
