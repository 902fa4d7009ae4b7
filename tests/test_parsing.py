"""Bodies and conditions, against a naive second opinion."""

import json
import re

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from models import InvalidRequest
from web.parsing import decode, query_of, write_condition
from web.shapes import WriteBody

DECODER = msgspec.json.Decoder(WriteBody)
SPLINTERS = [
    *'{}[],:"\\/ \n\t-+.eE0159xu', "NaN", "null", "true", "\\u0041", "\\ud83d\\ude00",
    "\\ud83d", "\\ude00", "\x00", "\x7f", "\ufeff", "é", "😀", '"value":', '"a":1',
]  # fmt: skip


def is_json(text: str) -> bool:
    """The standard library's opinion, without what it allows beyond RFC 8259."""

    def refuse(constant):
        raise ValueError(constant)

    try:
        found = json.loads(text, parse_constant=refuse, parse_int=str, parse_float=str)
        json.dumps(found, ensure_ascii=False).encode()  # no half of a surrogate pair
    except ValueError:
        return False
    return True


json_texts = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
).flatmap(lambda v: st.sampled_from([json.dumps(v), json.dumps(v, ensure_ascii=False)]))


@st.composite
def damaged_texts(draw):
    """JSON with a splinter put in, or a piece taken out, somewhere."""
    text = draw(json_texts)
    for _ in range(draw(st.integers(0, 2))):
        position = draw(st.integers(0, len(text)))
        removed = draw(st.integers(0, 2))
        splinter = draw(st.sampled_from(["", *SPLINTERS]))
        text = text[:position] + splinter + text[position + removed :]
    return text.encode("utf-8", "replace").decode()


@given(damaged_texts())
@example('"\\ud800"')
@example('"\\\\ud800"')
@example("[1,]")
@example("01")
@example('1,"value":2')  # a second field, not a second value
def test_value_is_taken_as_it_is_if_and_only_if_it_is_json(text):
    body = f'{{"key": "k", "value": {text} }}'

    try:
        found = decode(body.encode(), DECODER)
    except InvalidRequest:
        found = None

    assert (found is not None) == is_json(text)
    if found is not None:
        assert bytes(found.value).decode() == text.strip(" \t\r\n")


@given(st.binary(max_size=30))
def test_bytes_are_never_an_unexpected_error(data):
    for body in (data, b'{"key":"k","value":"' + data + b'"}'):
        try:
            decode(body, DECODER)
        except InvalidRequest as error:
            assert error.detail


versions = st.from_regex("[0-9a-f]{20}", fullmatch=True)


@given(st.lists(versions, min_size=1, max_size=5), st.sampled_from([",", ", ", " ,  "]))
def test_every_version_of_a_list_is_found(names, separator):
    header = separator.join(f'"{name}"' for name in names)

    condition = write_condition({"HTTP_IF_MATCH": header})

    assert condition is not None
    assert condition.if_versions == tuple(names)


@given(st.text(alphabet='"W/*, ab', max_size=12))
def test_condition_is_either_understood_in_full_or_refused(header):
    understood = re.fullmatch(r'\s*\*\s*|\s*"[^"]*"\s*(,\s*"[^"]*"\s*)*,?\s*', header)

    try:
        condition = write_condition({"HTTP_IF_MATCH": header})
    except InvalidRequest:
        condition = None

    if condition is not None:
        assert understood, header
        assert condition.if_present or condition.if_versions


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("key=a%2Fb%3F", {"key": "a/b?"}),
        ("key=a+b", {"key": "a b"}),
        ("key=a%2Bb", {"key": "a+b"}),
        ("key=", {"key": ""}),
        ("key=a=b", {"key": "a=b"}),
        ("key=a;b", {"key": "a;b"}),
        ("key=%E2%98%83", {"key": "☃"}),
        ("key=" + "☃".encode().decode("latin-1"), {"key": "☃"}),
        ("key=%", {"key": "%"}),
    ],
)
def test_query_is_decoded_once(text, found):
    assert query_of({"QUERY_STRING": text}, ("key",)) == found
