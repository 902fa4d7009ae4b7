"""Bytes that people give: UTF-8 with or without a mark, or something else by its name."""

import pytest

from texts import NotUtf8, utf8_text


@pytest.mark.parametrize("text", ["", "a", "é", "{}", "a\0bc", "\ufeff", "a\ufeffb"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_mark_is_skipped_once_and_nothing_else_is(text, encoding):
    given = text.encode(encoding)

    found = utf8_text(given)

    mark_is_text = encoding == "utf-8" and text.startswith("\ufeff")
    assert found == (text[1:] if mark_is_text else text)


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ("utf-16", "UTF-16"),
        ("utf-16-le", "UTF-16LE"),
        ("utf-16-be", "UTF-16BE"),
        ("utf-32", "UTF-32"),
        ("utf-32-le", "UTF-32LE"),
        ("utf-32-be", "UTF-32BE"),
    ],
)
@pytest.mark.parametrize("text", ['{"type":"history"}', "port = 1\n"])
def test_other_encoding_is_not_taken_for_text(text, encoding, name):
    with pytest.raises(NotUtf8, match=f"it is {name}, not UTF-8: .* -f {name} "):
        utf8_text(text.encode(encoding))


def test_byte_that_is_no_character_is_counted_from_one():
    with pytest.raises(NotUtf8, match=r"not UTF-8 text: .* \(byte 3\); save it as"):
        utf8_text(b"ab\xff")
