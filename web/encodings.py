"""The bytes of a body: as many as were announced, and without what they were packed in.

A body is taken for what its headers say, or refused. Content-Encoding is undone here
(RFC 9110, section 8.4), piece by piece, so that a body that inflates beyond its limit costs
no more memory than one that is sent so large.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

from models import InvalidRequest, TooLarge
from web.problems import LengthRequired, UnknownEncoding

# As zlib calls them. A deflate without zlib's frame around it, which some clients send
# against the RFC, has no sum to check it by, and is refused.
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_PIECE_BYTES = (
    4 << 10
)  # what is left after one of many members is copied: so small pieces
_UNPACKED = frozenset(("", "7bit", "8bit", "binary", "identity"))


def has_body(environ: Mapping[str, Any]) -> bool:
    """True if the request announces a body."""
    length = environ.get("CONTENT_LENGTH") or "0"
    return length != "0" or "HTTP_TRANSFER_ENCODING" in environ


def body_bytes(environ: Mapping[str, Any], bytes_max: int) -> bytes:
    """The body as it was before it was encoded; TooLarge if that has more than `bytes_max`.

    UnknownEncoding and LengthRequired say how to send it instead.
    """
    coding = _coding_of(environ)
    data = _sent_bytes(environ, bytes_max)
    return data if coding is None else _decoded(data, coding, bytes_max)


def too_large(bytes_max: int, why: str = "it has more") -> TooLarge:
    """The error for a body that is beyond the limit."""
    return TooLarge(
        f"a body has at most {bytes_max} bytes ({why}); the setting is max_body_bytes"
    )


def _coding_of(environ: Mapping[str, Any]) -> str | None:
    """How the body is encoded; None: it is not."""
    header: str = environ.get("HTTP_CONTENT_ENCODING", "")
    names = [name.strip().lower() for name in header.split(",")]
    codings = [name for name in names if name not in ("", "identity")]
    if len(codings) > 1 or not _WINDOW_BITS.keys() >= {*codings}:
        raise UnknownEncoding(
            f"the body cannot be read when its Content-Encoding is {header!r}: send it with "
            "gzip or deflate, one of them and once, or as it is and without the header"
        )
    mail: str = environ.get("HTTP_CONTENT_TRANSFER_ENCODING", "")
    if mail.strip().lower() not in _UNPACKED:
        raise UnknownEncoding(
            f"the body cannot be read when its Content-Transfer-Encoding is {mail!r}: that "
            "is for mail; send it as it is, or with Content-Encoding: gzip"
        )
    return codings[0] if codings else None


def _sent_bytes(environ: Mapping[str, Any], bytes_max: int) -> bytes:
    length = environ.get("CONTENT_LENGTH")
    chunks = environ.get("HTTP_TRANSFER_ENCODING")
    ends = environ.get("wsgi.input_terminated")
    if chunks is not None and (length or not ends or chunks.lower() != "chunked"):
        raise LengthRequired(
            f"the body cannot be read when its Transfer-Encoding is {chunks!r}: send it "
            "with its Content-Length, and without that header"
        )
    source = environ["wsgi.input"]
    if length:
        if not length.isdecimal():
            raise InvalidRequest(f"Content-Length is not a number (got {length!r})")
        size = int(length)
        if size > bytes_max:
            raise too_large(bytes_max)
        data: bytes = source.read(size)
        if len(data) < size:
            raise InvalidRequest("the body ended before its Content-Length")
        return data
    if not ends:
        return b""
    data = source.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise too_large(bytes_max)
    return data


def _decoded(data: bytes, coding: str, bytes_max: int) -> bytes:
    """The data unpacked, of which all must be good: gzip's members follow each other."""
    bits = _WINDOW_BITS[coding]
    found = bytearray()
    stream = zlib.decompressobj(bits)
    try:
        for start in range(0, len(data), _PIECE_BYTES):
            piece = data[start : start + _PIECE_BYTES]
            while piece:
                if stream.eof:
                    if coding == "deflate":
                        raise _lies(coding, "something follows its end")
                    stream = zlib.decompressobj(bits)
                found += stream.decompress(piece, bytes_max + 1 - len(found))
                if len(found) > bytes_max:
                    raise too_large(bytes_max, "it has more once it is decoded")
                piece = stream.unused_data
    except zlib.error as error:
        raise _lies(coding, str(error)) from error
    if not stream.eof:
        raise _lies(coding, "it ends too early")
    return bytes(found)


def _lies(coding: str, why: str) -> InvalidRequest:
    form = "zlib, RFC 1950" if coding == "deflate" else "gzip, RFC 1952"
    return InvalidRequest(
        f"the body is not what its Content-Encoding {coding!r} says ({form}): {why}; encode "
        "it so, or leave out the header"
    )
