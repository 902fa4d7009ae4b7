"""What a route is, and what its handler works with.

A `Route` is one line of the table: the application registers it, /openapi.json
describes it. A handler takes a `Call` and the parts of the path and returns an `Answer`.
"""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from werkzeug.routing import BaseConverter

from engine import Engine
from models import StoreError
from web.parsing import Body, Environ, path_key, query_key
from web.shapes import Key

# In the WSGI environment:
REQUEST_ID = "kv.request_id"
LABELS = "kv.labels"  # (route, consistency level), for metrics and logs
ARRIVED = "kv.arrived"  # when the request was whole, by time.monotonic
ABANDONED = "kv.abandoned"  # its client was told that it took too long
TEXT = str
_STATUS_LINES = {
    status.value: f"{status.value} {status.phrase}" for status in HTTPStatus
}
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_encode = msgspec.json.Encoder().encode


class Parameter(msgspec.Struct, frozen=True):
    """A query parameter or a header."""

    name: str
    description: str
    shape: Any = str
    required: bool = False


class Route(msgspec.Struct, frozen=True):
    """One method on one path: what it does, takes and answers."""

    method: str
    path: str  # as Flask writes it
    handler: Callable[..., Any]
    summary: str = ""  # none: a page, which the description leaves out
    answer: Any = None  # the shape of the 200; TEXT: it is not JSON
    body: Body | None = None
    query: tuple[Parameter, ...] = ()
    headers: tuple[Parameter, ...] = ()
    failures: tuple[type[StoreError], ...] = ()  # besides InvalidRequest
    has_version: bool = False  # the answer carries an ETag
    group: str = "The store"  # the heading that it stands under

    @property
    def template(self) -> str:
        """Its path as OpenAPI writes it."""
        return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", self.path)

    @property
    def name(self) -> str:
        """A word for the route that no other has."""
        return re.sub(r"\W+", "_", f"{self.method} {self.path}".lower()).strip("_")


ETAGS = Annotated[
    str,
    Meta(
        extra_json_schema={
            "anyOf": [
                {"const": "*"},
                {"pattern": r'^"[!#-~]*"( *, *"[!#-~]*")*$'},
            ]
        }
    ),
]
IF_CHANGED = Parameter(
    "If-None-Match",
    '304 if this is still the version: `"<version>"`',
    ETAGS,
)
KEY = Parameter(
    "key", "the key, for those that clients and proxies tidy away", Key, required=True
)


def by_key(route: Route) -> tuple[Route, Route]:
    """A route with the key in the path, and the same with the key in the query."""
    in_path = msgspec.structs.replace(route, path=f"{route.path}/<key:key>")
    in_query = msgspec.structs.replace(
        route, query=(KEY, *route.query), summary=f"{route.summary}, named in the query"
    )
    return in_path, in_query


class Call(msgspec.Struct, frozen=True, gc=False):
    """What a handler works with."""

    store: Engine
    environ: Environ
    query: Mapping[str, str]
    route: Route
    described: bytes  # the document of /openapi.json
    render: Callable[[str, Sequence[str]], tuple[bytes, str]]  # the text of /metrics

    def key(self, in_path: str | None) -> str:
        """The key, from wherever the route has it."""
        if in_path is None:
            return query_key(self.query)
        return path_key(in_path)

    def body(self) -> Any:
        """The body, in the route's shape."""
        settings = self.store.settings
        assert self.route.body is not None, f"no body at {self.route.path}"
        return self.route.body.read(
            self.environ, settings.max_body_bytes, settings.max_depth
        )


class Answer:
    """A response in one piece: a WSGI application that knows its status and headers.

    Flask's own response checks, copies and wraps what is already right and whole here;
    for answers this small that is a tenth of the whole request.
    """

    __slots__ = ("body", "headers", "status_code")

    def __init__(
        self, body: bytes, status: int, headers: list[tuple[str, str]]
    ) -> None:
        self.body = body
        self.status_code = status
        self.headers = headers

    def __call__(self, environ: Environ, start_response: Any) -> list[bytes]:
        """Send it."""
        start_response(_STATUS_LINES[self.status_code], self.headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [self.body]


def answer(outcome: Any, *, version: str | None = None) -> Answer:
    """An outcome as a 200, with an ETag where it has a version to compare with."""
    made = json_answer(_encode(outcome))
    if version is not None:
        made.headers.append(("ETag", f'"{version}"'))
    return made


def not_modified(version: str) -> Answer:
    """A 304: the reader has this version already."""
    return Answer(b"", 304, [("ETag", f'"{version}"')])


def json_answer(
    text: bytes, status: int = 200, kind: str = "application/json"
) -> Answer:
    """JSON text as an answer, on a line of its own in a terminal."""
    text += b"\n"
    length = ("Content-Length", str(len(text)))
    return Answer(text, status, [("Content-Type", kind), length])


def text_answer(text: bytes, kind: str) -> Answer:
    """Text of a kind that is not JSON."""
    return Answer(
        text, 200, [("Content-Type", kind), ("Content-Length", str(len(text)))]
    )


class KeyConverter(BaseConverter):
    """The rest of the path, whatever is in it."""

    regex = r"[\s\S]*"
    part_isolating = False


class RequestNames:
    """The name of each request: its caller's, if that is a sane one, or a new one."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(4)
        self._numbers = itertools.count(1)

    def __call__(self, environ: Environ) -> str:
        """Its name, which is also put under REQUEST_ID."""
        known: str | None = environ.get(REQUEST_ID)
        if known is not None:
            return known  # it is answered in place of who works on it
        name: str | None = environ.get("HTTP_X_REQUEST_ID")
        if name is None or _SANE_ID.fullmatch(name) is None:
            name = f"{self._prefix}-{next(self._numbers):x}"
        environ[REQUEST_ID] = name
        return name
