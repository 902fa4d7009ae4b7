"""Text as people and their programs save it, told from what only looks like it.

Files and standard input are UTF-8. Some programs put a byte order mark before it, which
is no part of the text, and some save UTF-16, which is refused by its name.
"""

from __future__ import annotations

import codecs

BYTE_ORDER_MARK = "\ufeff"
# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
# Without a mark, where zeros (0) are among the first four bytes, of plain characters.
_ZEROS = {
    b"\1\0\0\0": "UTF-32LE",
    b"\0\0\0\1": "UTF-32BE",
    b"\1\0\1\0": "UTF-16LE",
    b"\0\1\0\1": "UTF-16BE",
}


class NotUtf8(ValueError):
    """Bytes that are no UTF-8; the message names what they are, and what to do."""


def utf8_text(data: bytes) -> str:
    """The text that these bytes are, without a byte order mark; NotUtf8 if they are none."""
    head = data[:4]
    if b"\0" in head or not head.isascii():
        _check_encoding(head)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise NotUtf8(
            f"it is not UTF-8 text: {error.reason} (byte {error.start + 1}); save it as UTF-8"
        ) from error
    return text.removeprefix(BYTE_ORDER_MARK)


def _check_encoding(head: bytes) -> None:
    marks = (name for mark, name in _MARKS.items() if head.startswith(mark))
    encoding = next(marks, None) or _ZEROS.get(bytes(map(bool, head)))
    if encoding is not None:
        raise NotUtf8(
            f"it is {encoding}, not UTF-8: save it as UTF-8, for instance with "
            f"`iconv -f {encoding} -t UTF-8`"
        )
