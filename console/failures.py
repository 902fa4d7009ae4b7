"""A failure as a client command tells it: an exit status, and one line or one document."""

from __future__ import annotations

import json
from typing import Any

from client import (
    Conflict,
    DataLost,
    InvalidRequest,
    KeyNotFound,
    NoConnection,
    NodeNotFound,
    NotAllowed,
    StoreError,
    Unavailable,
    VersionMismatch,
)
from console.exits import Exit
from console.words import one_line

STATUS: dict[type[StoreError], Exit] = {
    KeyNotFound: Exit.NO,
    InvalidRequest: Exit.WRONG,
    NodeNotFound: Exit.WRONG,
    Conflict: Exit.WRONG,
    VersionMismatch: Exit.CONDITION,
    NotAllowed: Exit.NOT_ALLOWED,
    DataLost: Exit.LOST,
}
TOO_SLOW = 408  # the request did not arrive, so nothing was done


def exit_status(error: StoreError, *, changing: bool) -> Exit:
    """The status for an error; `changing` says that the request was to change something."""
    known = STATUS.get(type(error))
    if known is not None:
        return known
    if changing and not error.definite:
        return Exit.UNCERTAIN
    if 0 < error.status < 500 and error.status != TOO_SLOW:
        return Exit.WRONG  # not this store's answer, or not its route
    return Exit.UNAVAILABLE


def line_of(error: StoreError, url: str, *, changing: bool) -> str:
    """What is wrong and what would work, on one line."""
    if isinstance(error, NoConnection):
        text = _no_connection(error, url, changing=changing)
    elif error.code == "unknown":
        text = f"{url} does not answer like a store ({error.status}): check --url"
    else:
        text = f"{error.detail}{_advice(error)}"
    return one_line(text)


def document_of(error: StoreError, url: str, *, changing: bool) -> str:
    """The problem document of the server; where there is none, one that is like it."""
    line = line_of(error, url, changing=changing)
    made = problem(line, error.code, definite=error.definite or not changing)
    return json.dumps({**made, **error.fields}, ensure_ascii=False)


def problem(detail: str, code: str, *, definite: bool = True) -> dict[str, Any]:
    """What went wrong before any server could say so, in the form of RFC 9457."""
    return {
        "type": "about:blank",
        "title": code.replace("_", " ").capitalize(),
        "detail": detail,
        "code": code,
        "definite": definite,
    }


def _no_connection(error: NoConnection, url: str, *, changing: bool) -> str:
    if error.definite:
        return f"cannot reach {url}: start it with `python run.py`, or give --url"
    after = "it may have happened, so look first" if changing else "try again"
    return f"{url} gave no answer in time, or broke off: {after}"


def _advice(error: StoreError) -> str:
    """What the server cannot know: how this command line would do it."""
    if error.code == "unauthorized":
        return " (give --token, or set KV_TOKEN)"
    if error.code == "forbidden":
        return " (give another with --token or KV_TOKEN)"
    if error.code == "uncertain":
        return ": it may have happened, so look first"
    if isinstance(error, DataLost):
        return " (here: recover NODE --accept-loss)"
    if isinstance(error, Unavailable):
        return ": nothing was done, try again"
    return ""
