"""One spelling of each value: two values are equal where the numbers in them are."""

import json
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checker.values import DEPTH_MAX, BadValue, canonical, parse
from tests.checker.spellings import (
    json_texts,
    meaning,
    near_ones,
    numbers,
    spellings,
    values,
)


def spelled(text):
    return canonical(parse(text))


# --- Equal, and only if --------------------------------------------------------------


@given(*[(near_ones | numbers).flatmap(spellings)] * 2)
def test_two_numbers_are_equal_exactly_if_their_fractions_are(one, other):
    are_equal = Fraction(one.strip()) == Fraction(other.strip())

    assert (spelled(one) == spelled(other)) == are_equal


@given(values.flatmap(lambda value: st.tuples(*[spellings(value)] * 2)))
def test_value_is_the_same_however_it_is_spelled(texts):
    one, other = texts

    assert spelled(one) == spelled(other)


@given(json_texts, json_texts)
def test_two_values_are_equal_exactly_if_they_mean_the_same(one, other):
    assert (spelled(one) == spelled(other)) == (meaning(one) == meaning(other))


@given(json_texts)
def test_spelling_says_the_value_itself_and_stays_as_it_is(text):
    once = spelled(text)

    assert meaning(once) == meaning(text)
    assert spelled(once) == once


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_number_of_python_is_spelled_as_its_json_is(number):
    assert canonical(number) == spelled(json.dumps(number))
    assert canonical(Decimal(repr(number))) == canonical(number)


# --- As people read it ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("1", "1"),
        ("1.0", "1"),
        ("-1e0", "-1"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("0e5", "0"),
        ("0e-999999999999999999999", "0"),
        ("1E+3", "1000"),
        ("1e00000000000000000000000000000000001", "10"),
        ("1700000000.123456789", "1700000000.123456789"),
        ("0.00001", "0.00001"),
        ("12345678901234567890123456789", "12345678901234567890123456789"),
        ("1e400", "1e400"),
        ("0.12e401", "1.2e400"),
        ("10e-401", "1e-400"),
        ("1e999999999999", "1e999999999999"),
        ("-25e99999999999999999999999", "-2.5e100000000000000000000000"),
        ("1e-99999999999999999999999", "1e-99999999999999999999999"),
        ('{"b":[1.0,true],"a":"\\u00e9"}', '{"a":"é","b":[1,true]}'),
        ('"\\ud83d\\ude00\\u0000\\/"', '"😀\\u0000/"'),
    ],
)
def test_spelling_is_the_plain_one(text, shown):
    assert spelled(text) == shown


def test_python_values_that_json_has_no_word_for_are_refused():
    with pytest.raises(TypeError, match="cannot say a object in JSON"):
        canonical([object()])
    for number in (float("nan"), float("-inf"), Decimal("NaN"), Decimal("Infinity")):
        with pytest.raises(BadValue, match="is not JSON"):
            canonical({"n": number})


def test_name_that_is_no_text_is_the_one_that_json_gives_it():
    value = {2: "two", None: "none", True: "true", "b": (2, 3)}

    assert canonical(value) == spelled(json.dumps(value))
    with pytest.raises(BadValue, match="twice"):
        canonical({1: 0, "1": 0})


# --- Large ones ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("7" * 20_000, "7" * 20_000 + ".0"),
        ("7" * 20_000, f"0.{'7' * 20_000}e20000"),
        (f"1e{'9' * 5_000}", f"10e{'9' * 4_999}8"),
        (f"1e-{'9' * 5_000}", f"0.1e-{'9' * 4_999}8"),
        (f"0.{'0' * 10_000}1", "1e-10001"),
        (f"1{'0' * 10_000}", "1e10000"),
    ],
)
def test_number_of_any_length_and_exponent_is_one_value(one, other):
    assert spelled(one) == spelled(other)
    assert spelled(f"[{one}]") != spelled(f"[{other}1]")


def test_long_integer_of_python_is_spelled_to_the_last_digit():
    assert canonical(7 * (10**20_000 - 1) // 9) == "7" * 20_000


def test_nothing_is_nested_too_deeply_up_to_the_limit_and_everything_beyond():
    def nested(depth):
        return '[{"a":' * (depth // 2) + "[" * (depth % 2) + "1.0" * (depth > 0)

    def closed(depth):
        return nested(depth) + "]" * (depth % 2) + "}]" * (depth // 2)

    assert len(spelled(closed(DEPTH_MAX))) == len(closed(DEPTH_MAX)) - len(".0")
    for depth in (DEPTH_MAX + 1, 2 * DEPTH_MAX, 100_000):
        with pytest.raises(BadValue, match=f"at most {DEPTH_MAX} arrays and objects"):
            spelled(closed(depth))
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises(BadValue, match="nested too deeply"):
        canonical(circle)
