"""The API description (OpenAPI 3.1), made from the table of routes and its shapes.

Schemas come from the classes that check and encode, never from hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, get_args

import msgspec

from config import Settings
from engine import Scheme
from models import InvalidRequest, StoreError
from web.guard import HEALTH, OPEN_PATHS, SAFE_METHODS
from web.problems import (
    STATUS,
    ExpectationFailed,
    Forbidden,
    HeaderTooLarge,
    LengthRequired,
    Overloaded,
    TooSlow,
    Unauthorized,
    UnknownEncoding,
    WrongHost,
)
from web.routes import TEXT, Parameter, Route
from web.shapes import KEY_SCHEMA, BatchOperation, Problem

_REF = "#/components/schemas/{name}"
_PATH_PARTS = {
    "key": {
        "name": "key",
        "description": "the key, percent-encoded",
        "schema": {"type": "string", **KEY_SCHEMA},
    },
    "node_id": {
        "name": "node_id",
        "description": "a node",
        "schema": {"type": "integer", "minimum": 0},
    },
}
_HEADERS = {  # of a failure
    "WWW-Authenticate": {"schema": {"type": "string"}},
    "Retry-After": {
        "description": "seconds; only where waiting may help",
        "schema": {"type": "integer"},
    },
    "Accept-Encoding": {
        "description": "with `unknown_encoding`: those that a body may have",
        "schema": {"type": "string"},
    },
}
_ABOUT = """\
A replicated key-value store that stays available while nodes fail.

A failure is `application/problem+json` with a `code` to test for and `definite`: false
where it may have happened all the same. 503 `unavailable` means that nothing was done,
504 `uncertain` that a write may show later; both carry `Retry-After`. 503 `data_lost`
has none: nothing was done, and waiting does not help, as every copy that was complete is
lost. `POST /recover/{node_id}` with `accept_loss` gives up what is gone.

A body may be sent with `Content-Encoding: gzip` or `deflate`; its limit is that of what it
inflates to."""


def document(
    routes: Sequence[Route],
    settings: Settings,
    scheme: Scheme,
    *,
    can_change_nodes: bool = True,
) -> dict[str, Any]:
    """The whole description, of a store with these settings and this scheme.

    What is described may be offered to a person: so `x-offered` is false of the two routes
    that add and remove a node where the engine refuses them.
    """
    shown = [route for route in routes if route.summary]
    bodies = [route.body.decoder.type for route in shown if route.body is not None]
    answers = [r.answer for r in shown if r.answer not in (None, TEXT, Settings)]
    shapes = [Problem, *get_args(BatchOperation), *bodies, *answers]
    _, components = msgspec.json.schema_components(shapes, ref_template=_REF)
    components["Settings"] = settings.shown_schema()
    mode: dict[str, Any] = {"type": "string"}
    if modes := list(scheme.fail_modes):  # none where no node can be failed from here
        mode |= {"enum": modes, "default": modes[0]}
    components["FailBody"]["properties"]["mode"] = mode
    secured = settings.api_token is not None
    paths: dict[str, dict[str, Any]] = {}
    for route in shown:
        path = route.template
        described = _operation(route, wants_token=secured and path not in OPEN_PATHS)
        if _changes_nodes(route):
            described["x-offered"] = can_change_nodes
        paths.setdefault(path, {})[route.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {"title": "Key-value store", "version": "1", "description": _ABOUT},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}] if secured else [],
    }


def _changes_nodes(route: Route) -> bool:
    """True for the routes that an engine with a fixed number of nodes refuses."""
    return route.path.startswith("/nodes") and route.method != "GET"


def _operation(route: Route, *, wants_token: bool) -> dict[str, Any]:
    parts = re.findall(r"<(?:\w+:)?(\w+)>", route.path)
    parameters = [
        {"in": "path", "required": True, **_PATH_PARTS[part]} for part in parts
    ]
    parameters += [_parameter("query", each) for each in route.query]
    parameters += [_parameter("header", each) for each in route.headers]
    found: dict[str, Any] = {
        "operationId": route.name,
        "tags": [route.group],
        "summary": route.summary,
        "description": (route.handler.__doc__ or "").strip(),
        "parameters": parameters,
        "responses": _responses(route, wants_token=wants_token),
    }
    if not wants_token:
        found["security"] = []
    if route.body is not None:
        schema = _reference(route.body.decoder.type)
        example = msgspec.json.decode(route.body.example)
        content = {"application/json": {"schema": schema, "example": example}}
        found["requestBody"] = {"content": content, "required": not route.body.optional}
    return found


def _responses(route: Route, *, wants_token: bool) -> dict[str, Any]:
    done: dict[str, Any] = {"description": "done"}
    if route.answer is TEXT:
        done["content"] = {"text/plain": {"schema": {"type": "string"}}}
    elif route.answer is not None:
        schema = _reference(route.answer)
        done["content"] = {"application/json": {"schema": schema}}
    if route.has_version:
        version = {"description": "the version, quoted", "schema": {"type": "string"}}
        done["headers"] = {"ETag": version}
    responses = {"200": done}
    if route.has_version and route.method == "GET":
        responses["304"] = {"description": "this is still the version"}
    codes: dict[int, list[str]] = {}
    headers: dict[int, dict[str, Any]] = {}
    for error in (*_always(route, wants_token=wants_token), *route.failures):
        status, named = STATUS[error]
        codes.setdefault(status, []).append(error.code)
        for name, _ in named:
            headers.setdefault(status, {})[name] = _HEADERS[name]
    for status, words in sorted(codes.items()):
        responses[str(status)] = {
            "description": " or ".join(words),
            "content": {"application/problem+json": {"schema": _reference(Problem)}},
            "headers": headers.get(status, {}),
        }
    return responses


def _always(route: Route, *, wants_token: bool) -> Iterator[type[StoreError]]:
    """What any request of this kind may be answered, whatever the route does."""
    yield from (InvalidRequest, ExpectationFailed, HeaderTooLarge, Overloaded)
    if wants_token:
        yield Unauthorized
    if route.path not in HEALTH:
        yield WrongHost
    if route.method not in SAFE_METHODS:
        yield Forbidden
    if route.body is not None:
        yield from (TooSlow, LengthRequired, UnknownEncoding)


def _parameter(place: str, parameter: Parameter) -> dict[str, Any]:
    return {
        "in": place,
        "name": parameter.name,
        "description": parameter.description,
        "required": parameter.required,
        "schema": msgspec.json.schema(parameter.shape),
    }


def _reference(shape: Any) -> dict[str, Any]:
    name: str = shape.__name__
    return {"$ref": _REF.format(name=name)}
