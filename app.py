"""The REST service: routes -> engine -> JSON.

`create_app(settings)` builds one complete application; a test makes as many as it
likes. The routes are a table: they are registered from it, and /openapi.json is made
from it. An error raised anywhere becomes an answer in one place, `_on_error`. Nothing
here knows how a key is replicated.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import msgspec
from flask import Flask, Response, request
from msgspec import UNSET, Meta
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.wsgi import get_path_info

from backends.etcd import open_etcd
from config import Settings
from engine import Engine, Scheme
from models import (
    DataLost,
    KeyNotFound,
    NodeInfo,
    NodeNotFound,
    NotOffered,
    ReadOutcome,
    StorageFull,
    StoreError,
    Timeout,
    TooLarge,
    Unavailable,
    Uncertain,
    VersionMismatch,
    WriteOutcome,
)
from replication import open_manager
from web.around import around_routes
from web.encodings import body_bytes, has_body
from web.guard import Guard
from web.headers import Refused
from web.logs import REQUEST_NAME, log_request
from web.metrics import Metrics
from web.openapi import document
from web.parsing import (
    Environ,
    body,
    is_unchanged,
    level_of,
    query_of,
    write_condition,
)
from web.problems import NotJson, failure
from web.routes import (
    ABANDONED,
    ARRIVED,
    ETAGS,
    IF_CHANGED,
    LABELS,
    REQUEST_ID,
    Answer,
    Call,
    KeyConverter,
    Parameter,
    RequestNames,
    Route,
    answer,
    by_key,
    json_answer,
    not_modified,
)
from web.shapes import FailBody, NodeList, RecoverBody, WriteBody
from web.signposts import Signposts

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

ENGINES: dict[str, Callable[[Settings], Engine]] = {
    "embedded": open_manager,
    "etcd": open_etcd,
}
_NOWHERE = ("", "")  # the route and level of a request that was refused before either
_LOGGED_FROM = {"none": "~", "failed": "500", "all": ""}  # the least status to log
PROBLEM_JSON = "application/problem+json"
Headers = list[tuple[str, str]]
_encode = msgspec.json.Encoder().encode
log = logging.getLogger(__name__)


class StoreApp(Flask):
    """A Flask application and the store that it serves."""

    def __init__(self, store: Engine, *, owns_store: bool) -> None:
        super().__init__(__name__, static_folder=None)
        self.store = store
        self.metrics = Metrics(store)
        self.watch = self.metrics.watch
        self._owns_store = owns_store
        self._name_request = RequestNames()
        self._logged_from = _LOGGED_FROM[store.settings.log_requests]

    def close(self) -> None:
        """Close the store, if this application opened it."""
        if self._owns_store:
            self.store.close()

    def __call__(
        self, environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Answer one request."""
        return self._answer(self.wsgi_app, environ, start_response)

    def refuse(self, error: Exception) -> Callable[..., Iterable[bytes]]:
        """An application that answers with an error whatever it is asked."""
        return partial(self._answer, _as_answer(error))

    def _answer(
        self, application: Any, environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Answer with the headers that every answer has; count it, and log it if asked."""
        name = self._name_request(environ)
        began = environ.get(ARRIVED) or time.monotonic()
        said = ""

        def start(status: str, headers: Headers, error: Any = None) -> Any:
            nonlocal said
            said = status[:3]
            if not any(header == "Cache-Control" for header, _ in headers):
                headers.append(("Cache-Control", "no-store"))
            headers.append(("X-Content-Type-Options", "nosniff"))
            headers.append(("X-Request-Id", name))
            return start_response(status, headers, error)

        named = REQUEST_NAME.set(name)
        try:
            answered: Iterable[bytes] = application(environ, start)
            if ABANDONED in environ:
                return answered  # nobody gets it, and what they got was counted
            seconds = time.monotonic() - began
            method, labels = environ["REQUEST_METHOD"], environ.get(LABELS, _NOWHERE)
            self.metrics.count(method, labels, said, seconds)
            if said >= self._logged_from:
                log_request(method, labels, said, seconds)
        finally:
            REQUEST_NAME.reset(named)
        return answered

    def make_response(self, rv: Any) -> Response:
        """Leave an `Answer` as it is: it can be sent, and that is all Flask does here."""
        return (
            cast(Response, rv) if isinstance(rv, Answer) else super().make_response(rv)
        )

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Nothing here is async, so nothing need be asked about it at each request."""
        return func


def create_app(settings: Settings, engine: Engine | None = None) -> StoreApp:
    """One complete application. Close it: that closes what it opened.

    It serves `engine`, which stays its owner's to close; without one it opens the one
    that `settings` name, and raises what that does.
    """
    store = engine or ENGINES[settings.engine](settings)
    try:
        return _application(settings, store, owns_store=engine is None)
    except BaseException:
        if engine is None:
            store.close()
        raise


def _application(settings: Settings, store: Engine, *, owns_store: bool) -> StoreApp:
    app = StoreApp(store, owns_store=owns_store)
    app.url_map.merge_slashes = False  # a//b is a key
    app.url_map.converters["key"] = KeyConverter
    table = routes(store.scheme)
    app.before_request(_gate(Guard(settings), table))
    app.register_error_handler(Exception, _on_error)
    app.register_error_handler(NotFound, _on_no_route(Signposts(table)))
    about = document(
        table, settings, store.scheme, can_change_nodes=store.can_change_nodes
    )
    described = msgspec.json.encode(about)
    for route in table:
        app.add_url_rule(
            route.path,
            route.name,
            _view(route, app, described),
            methods=[route.method],
        )
    return app


def _gate(guard: Guard, table: Sequence[Route]) -> Callable[[], Answer | None]:
    """What every request passes before a route is chosen."""
    allowed = ", ".join(sorted({"HEAD", "OPTIONS", *(route.method for route in table)}))

    def pass_gate() -> Answer | None:
        environ = request.environ
        guard.check(environ)
        path = environ.get("PATH_INFO", "")
        if path == "*" and environ["REQUEST_METHOD"] == "OPTIONS":  # RFC 9110, 9.3.7
            return Answer(b"", 204, [("Allow", allowed)])
        if path.startswith("//"):  # Flask would leave out all slashes but one
            raise NotFound
        return None

    return pass_gate


def _view(route: Route, app: StoreApp, described: bytes) -> Callable[..., Any]:
    store, render = app.store, app.metrics.render
    known = tuple(parameter.name for parameter in route.query)
    handler = route.handler
    has_level = any(parameter.name == _LEVEL for parameter in route.query)
    levels = (*store.scheme.levels, store.settings.consistency) if has_level else ("",)
    labels = {level: (route.template, level) for level in levels}
    usual, odd = labels[levels[-1]], (route.template, "unknown")
    refused = Refused(
        route.method, route.template, [each.name for each in route.headers]
    )
    reads_body, bytes_max = route.body is not None, store.settings.max_body_bytes

    def view(**path: Any) -> Any:
        environ = request.environ
        environ[LABELS] = usual
        query = query_of(environ, known)
        if (level := query.get("consistency")) is not None:
            environ[LABELS] = labels.get(level, odd)
        refused.check(environ)
        if not reads_body and has_body(environ):
            body_bytes(environ, bytes_max)  # it says nothing here, and must be sound
        call = Call(store, environ, query, route, described, render)
        return handler(call, **path)

    return view


# --- The table -----------------------------------------------------------------------

_LEVEL = "consistency"
_IF_MATCH = Parameter(
    "If-Match",
    'only if this is the version: `"<version>"`, or `*` for any',
    ETAGS,
)
_IF_NEW = Parameter(
    "If-None-Match", "`*`: only if the key does not exist", Literal["*"]
)
_BODY_FAILURES = (TooLarge, NotJson)
_NODE_FAILURES = (NodeNotFound, NotOffered, Unavailable, Uncertain, *_BODY_FAILURES)
_WRITE_FAILURES = (VersionMismatch, Unavailable, DataLost, Uncertain)
_READ_FAILURES = (KeyNotFound, TooLarge, Unavailable, DataLost, Timeout)


def routes(scheme: Scheme) -> tuple[Route, ...]:
    """Every route. Its handler gets the call and the parts of the path."""
    level = Parameter(
        _LEVEL,
        "the level of this request; absent: the store's own",
        Annotated[str, Meta(extra_json_schema={"enum": list(scheme.levels)})],
    )
    write = Route(
        "POST", "/write", _write, "Create or update a key", WriteOutcome,
        body=body(WriteBody, '{"key":"greeting","value":"hello"}'),
        query=(level,),
        headers=(_IF_MATCH, _IF_NEW),
        failures=(*_WRITE_FAILURES, *_BODY_FAILURES, StorageFull),
        has_version=True,
    )  # fmt: skip
    read = Route(
        "GET", "/read", _read, "Read a key", ReadOutcome,
        query=(level,),
        headers=(IF_CHANGED,),
        failures=_READ_FAILURES,
        has_version=True,
    )  # fmt: skip
    delete = Route(
        "DELETE", "/delete", _delete, "Delete a key", WriteOutcome,
        query=(level,),
        headers=(_IF_MATCH,),
        failures=(KeyNotFound, TooLarge, *_WRITE_FAILURES),
    )  # fmt: skip
    fail = Route(
        "POST", "/fail/<int:node_id>", _fail, "Take a node down", NodeInfo,
        body=body(FailBody, '{"mode":"stop"}', optional=True),
        failures=_NODE_FAILURES,
    )  # fmt: skip
    recover = Route(
        "POST", "/recover/<int:node_id>", _recover, "Bring a node back, resynced", NodeInfo,
        body=body(RecoverBody, '{"accept_loss":false}', optional=True),
        failures=(*_NODE_FAILURES, DataLost),
    )  # fmt: skip
    nodes = Route("GET", "/nodes", _nodes, "Every node's state", NodeList)
    store = (write, *by_key(read), *by_key(delete), fail, recover, nodes)
    return (*store, *around_routes())


# --- The store -----------------------------------------------------------------------


def _write(call: Call) -> Answer:
    """The value is kept as the JSON text that was sent."""
    sent = call.body()
    outcome = call.store.write(
        sent.key,
        sent.value,
        ttl=sent.ttl,
        condition=write_condition(call.environ),
        consistency=level_of(call.query),
    )
    return answer(outcome, version=outcome.version)


def _read(call: Call, key: str | None = None) -> Answer:
    """The value comes back as it was written, digit for digit."""
    level = level_of(call.query)
    outcome = call.store.read(call.key(key), consistency=level)
    if is_unchanged(call.environ, outcome.version):
        return not_modified(outcome.version)
    return answer(outcome, version=outcome.version)


def _delete(call: Call, key: str | None = None) -> Answer:
    """A deleted key stays deleted, also on nodes that were down meanwhile."""
    condition = write_condition(call.environ)
    level = level_of(call.query)
    return answer(
        call.store.delete(call.key(key), condition=condition, consistency=level)
    )


def _fail(call: Call, node_id: int) -> Answer:
    """Failing a node that is down changes nothing."""
    mode = call.body().mode
    return answer(call.store.fail(node_id, None if mode is UNSET else mode))


def _recover(call: Call, node_id: int) -> Answer:
    """Answers when the node has caught up, or waits for a peer that is down."""
    return answer(call.store.recover(node_id, accept_loss=call.body().accept_loss))


def _nodes(call: Call) -> Answer:
    """A node is `up`, `down` or `recovering`; only an `up` one serves all its keys."""
    found, scheme = call.store.nodes(), call.store.scheme
    return answer(
        NodeList(found, scheme.replication_factor, scheme.protocol, scheme.placement)
    )


# --- Answers -------------------------------------------------------------------------


def _on_error(error: Exception) -> Answer:
    """Every error, wherever it was raised, as problem+json."""
    if not isinstance(error, StoreError | HTTPException):
        route, _ = request.environ.get(LABELS, _NOWHERE)  # not the path: it has the key
        name = request.environ[REQUEST_ID]
        log.error("request %s (%s) failed", name, route, exc_info=error)
    return _as_answer(error)


def _on_no_route(signposts: Signposts) -> Callable[[NotFound], Answer]:
    """Answers where there is no route, or a route of pages has no such page."""

    def on_not_found(error: NotFound) -> Answer:
        if error.description == NotFound.description:
            error = signposts.no_route(request.method, get_path_info(request.environ))
        return _on_error(error)

    return on_not_found


def _as_answer(error: Exception) -> Answer:
    found = failure(error)
    made = json_answer(_encode(found.document), found.status, PROBLEM_JSON)
    made.headers.extend(found.headers)
    return made
