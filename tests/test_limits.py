"""What keys, values and times to live are taken, and what is said of the others."""

import json
import math
from decimal import Decimal

import msgspec
import pytest

from limits import TTL_SECONDS_MAX, check_key, check_ttl, json_text
from models import KEY_BYTES_MAX, InvalidRequest, TooLarge

GOOD_KEYS = {
    "one character": "k",
    "a space": " ",
    "slashes and dots": "../a/./b//c?d#e%2F",
    "as long as it may be": "k" * KEY_BYTES_MAX,
    "as long as it may be, in two-byte characters": "é" * 127 + "k",
    "as long as it may be, in four-byte characters": "🗝" * 63 + "key",
    "no-break space, the first after the controls": "\u00a0",
    "combining character": "e\u0301",
    "right to left": "مفتاح",
    "line separator, no control character": "a\u2028b",
    "highest code point": "\U0010ffff",
}
BAD_KEYS = {
    "empty": ("", "at least one character"),
    "nul": ("a\0b", "U+0000 at position 1"),
    "newline at the end": ("key\n", "U+000A at position 3"),
    "tab": ("\tkey", "U+0009 at position 0"),
    "delete": ("key\x7f", "U+007F"),
    "c1 control": ("ké\x85", "U+0085 at position 2"),
    "last c1 control": ("\x9f", "U+009F"),
    "lone surrogate": ("key\ud800", "lone surrogate"),
    "bytes": (b"key", "a key is a string (got bytes)"),
    "number": (7, "a key is a string (got int)"),
    "nothing": (None, "a key is a string (got NoneType)"),
}
LONG_KEYS = {
    "one byte too long": ("k" * (KEY_BYTES_MAX + 1), "it has 256"),
    "few characters, too many bytes": ("é" * 128, "it has 256"),
    "far too long": ("🗝" * 100_000, "it has 400000"),
}


@pytest.mark.parametrize("key", GOOD_KEYS.values(), ids=GOOD_KEYS)
def test_good_key_is_not_turned_away(key):
    check_key(key)  # raises if it is

    with pytest.raises(TooLarge):
        check_key(key * (KEY_BYTES_MAX + 1))


@pytest.mark.parametrize(("key", "said"), BAD_KEYS.values(), ids=BAD_KEYS)
def test_bad_key_is_not_let_in(key, said):
    with pytest.raises(InvalidRequest) as caught:
        check_key(key)

    assert said in caught.value.detail
    assert caught.value.definite
    assert not isinstance(caught.value, TooLarge)


@pytest.mark.parametrize(("key", "said"), LONG_KEYS.values(), ids=LONG_KEYS)
def test_key_is_measured_in_bytes_and_not_in_characters(key, said):
    with pytest.raises(TooLarge) as caught:
        check_key(key)

    assert said in caught.value.detail


# --- Values ------------------------------------------------------------------------------

GOOD_VALUES = [
    (None, b"null"),
    (True, b"true"),
    (0, b"0"),
    (-1.5, b"-1.5"),
    (2**100, b"1267650600228229401496703205376"),
    ("", b'""'),
    ('"\\\n', b'"\\"\\\\\\n"'),
    ("é🗝", '"é🗝"'.encode()),
    ([1, [2, [3]]], b"[1,[2,[3]]]"),
    ({"b": 1, "a": {}}, b'{"b":1,"a":{}}'),
    (msgspec.Raw(b'{ "as" : [ "written" ] }'), b'{ "as" : [ "written" ] }'),
]
BAD_VALUES = {
    "not a number": math.nan,
    "infinity": math.inf,
    "infinity inside": {"a": [-math.inf]},
    "bytes": b"text",
    "a set": {1},
    "a key that is a tuple": {(1, 2): 3},
    "lone surrogate": "a\udcffb",
    "lone surrogate in a name": {"\ud83d": 1},
    "an object": object(),
}


@pytest.mark.parametrize(("value", "text"), GOOD_VALUES)
def test_value_comes_back_as_it_was_given(value, text):
    assert json_text(value, 1_000) == text
    if not isinstance(value, msgspec.Raw):
        assert json.loads(text) == value


@pytest.mark.parametrize("value", BAD_VALUES.values(), ids=BAD_VALUES)
def test_value_that_json_cannot_say_is_not_let_in(value):
    with pytest.raises(InvalidRequest) as caught:
        json_text(value, 1_000)

    assert "cannot be said in JSON" in caught.value.detail


def test_value_that_holds_itself_does_not_end_in_a_recursion_error():
    circle: list[object] = []
    circle.append(circle)
    tower: list[object] = []
    for _ in range(200_000):
        tower = [tower]

    for value in (circle, tower):
        with pytest.raises(InvalidRequest):
            json_text(value, 1 << 20)


@pytest.mark.parametrize(
    ("value", "size"), [("é" * 4, 10), (msgspec.Raw(b'"12345678"'), 10), ([1, 22], 6)]
)
def test_value_is_measured_in_bytes_of_json(value, size):
    assert len(json_text(value, size)) == size

    with pytest.raises(TooLarge) as caught:
        json_text(value, size - 1)

    assert f"it has {size}" in caught.value.detail
    assert "max_value_bytes" in caught.value.detail


# --- Times to live -----------------------------------------------------------------------

GOOD_TTLS = [
    (1, 1_000),
    (0.5, 500),
    (0.0001, 1),
    (5e-324, 1),
    (1.0001, 1_001),
    (TTL_SECONDS_MAX, 3_153_600_000_000),
]
BAD_TTLS = {
    "zero": 0,
    "minus nothing": -0.0,
    "negative": -1,
    "not a number": math.nan,
    "for ever": math.inf,
    "backwards for ever": -math.inf,
    "beyond the limit": TTL_SECONDS_MAX + 1,
    "an integer that no float can hold": 10**400,
    "true": True,
    "text": "60",
    "decimal": Decimal(60),
    "nothing": None,
}


@pytest.mark.parametrize(("seconds", "ms"), GOOD_TTLS)
def test_time_to_live_is_never_rounded_down_to_nothing(seconds, ms):
    assert check_ttl(seconds) == ms


@pytest.mark.parametrize("seconds", BAD_TTLS.values(), ids=BAD_TTLS)
def test_bad_time_to_live_is_not_let_in(seconds):
    with pytest.raises(InvalidRequest) as caught:
        check_ttl(seconds)

    assert "ttl" in caught.value.detail


def test_integer_too_long_to_print_is_still_called_a_bad_time_to_live():
    with pytest.raises(InvalidRequest):
        check_ttl(10**5_000)
