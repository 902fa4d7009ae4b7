"""Errors as HTTP: which status and headers each has, and its problem document.

One table for the store's errors, another few classes for what only HTTP can get wrong,
and one function that makes the document of RFC 9457 from any exception.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from msgspec import Struct
from werkzeug.exceptions import HTTPException

from models import (
    DataLost,
    InvalidRequest,
    KeyNotFound,
    NodeNotFound,
    NotOffered,
    StorageFull,
    StoreError,
    Timeout,
    TooFewNodes,
    TooLarge,
    Unavailable,
    Uncertain,
    VersionMismatch,
)


class NotJson(InvalidRequest):
    """The body is not sent as application/json; the detail shows a call that works."""

    code = "not_json"


class UnknownEncoding(InvalidRequest):
    """The body is packed in a way that is not undone here, so nobody knows what it says."""

    code = "unknown_encoding"


class ExpectationFailed(InvalidRequest):
    """The client waits for something that is not done here."""

    code = "expectation_failed"


class Unauthorized(StoreError):
    """No token, or a wrong one."""

    code = "unauthorized"


class Forbidden(StoreError):
    """The token may not do this, or the request comes from another site's page."""

    code = "forbidden"


class WrongHost(StoreError):
    """The Host header is none that this server answers to."""

    code = "wrong_host"


class HeaderUnreadable(InvalidRequest):
    """A header holds something else than ASCII, so what it asks for is unknown."""


class HeaderTooLarge(InvalidRequest):
    """The request line and the headers are beyond their limit."""

    code = "header_too_large"


class LengthRequired(InvalidRequest):
    """The body comes in chunks, so nobody knows how much will follow."""

    code = "length_required"


class TooSlow(StoreError):
    """The body did not arrive, so nothing was done."""

    code = "request_timeout"


class Overloaded(StoreError):
    """Too much is going on at once; nothing of this request was done."""

    code = "overloaded"


_LATER = (("Retry-After", "1"),)
STATUS: dict[type[StoreError], tuple[int, tuple[tuple[str, str], ...]]] = {
    InvalidRequest: (400, ()),
    Unauthorized: (401, (("WWW-Authenticate", 'Bearer realm="key-value store"'),)),
    Forbidden: (403, ()),
    KeyNotFound: (404, ()),
    NodeNotFound: (404, ()),
    LengthRequired: (411, ()),
    TooSlow: (408, ()),
    NotOffered: (409, ()),
    TooFewNodes: (409, ()),
    VersionMismatch: (412, ()),
    TooLarge: (413, ()),
    NotJson: (415, ()),
    UnknownEncoding: (
        415,
        (("Accept-Encoding", "gzip, deflate"),),
    ),  # RFC 9110, 15.5.16
    ExpectationFailed: (417, ()),
    WrongHost: (421, ()),
    HeaderTooLarge: (431, ()),
    StoreError: (500, ()),  # a new child of it that has no line here
    Overloaded: (503, _LATER),
    DataLost: (503, ()),  # no Retry-After: waiting does not help
    Unavailable: (503, _LATER),
    Timeout: (504, _LATER),
    Uncertain: (504, _LATER),
    StorageFull: (507, ()),
}
_CODES = {400: "invalid_request", 413: "too_large", 500: "internal"}


class Failure(Struct, frozen=True, gc=False):
    """A failure as HTTP sends it; `document` is the problem+json body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    document: dict[str, Any]


def failure(error: Exception) -> Failure:
    """Any exception as an answer. Of an unexpected one nothing is shown."""
    if isinstance(error, StoreError):
        kind = next(kind for kind in type(error).__mro__ if kind in STATUS)
        status, headers = STATUS[kind]
        document = _document(status, error.code, error.detail, definite=error.definite)
        return Failure(status, headers, {**document, **error.extra})
    if isinstance(error, HTTPException):
        status = error.code or 500
        code = _CODES.get(status, error.name.lower().replace(" ", "_"))
        detail = error.description or error.name
        allowed = sorted(getattr(error, "valid_methods", None) or ())
        if allowed:
            detail = f"this route takes {', '.join(allowed)}"
        headers = (("Allow", ", ".join(allowed)),) if allowed else ()
        document = _document(status, code, detail, definite=status < 500)
        return Failure(status, headers, document)
    detail = "an unexpected error; the log has it under this answer's X-Request-Id"
    return Failure(500, (), _document(500, "internal", detail, definite=False))


def _document(status: int, code: str, detail: str, *, definite: bool) -> dict[str, Any]:
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "definite": definite,
    }
