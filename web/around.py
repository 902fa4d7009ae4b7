"""The routes around the store: where keys lie, listings, batches, state, health, docs."""

from __future__ import annotations

from typing import Annotated

import msgspec
from flask import Response
from msgspec import UNSET, Meta

from cluster.clock import off_by
from cluster.listing import KeyPage, Location, RecordPage
from cluster.reports import ShardMap
from config import Settings
from models import (
    DataLost,
    InvalidRequest,
    NodeInfo,
    NodeNotFound,
    NotOffered,
    TooFewNodes,
    TooLarge,
    Unavailable,
    Uncertain,
)
from web.batch import run_batch
from web.pages import docs_file, page_file
from web.parsing import body, is_unchanged, number_of
from web.problems import NotJson
from web.routes import (
    IF_CHANGED,
    TEXT,
    Answer,
    Call,
    Parameter,
    Route,
    answer,
    by_key,
    json_answer,
    not_modified,
    text_answer,
)
from web.shapes import AddBody, BatchAnswer, BatchBody, EventList, Health

KEYS_MAX = 1_000  # in one page
_PAGE = (
    Parameter("prefix", "only keys that begin so"),
    Parameter("after", "only keys after this one: `next` of the page before"),
    Parameter(
        "limit",
        f"keys in a page, 1 to {KEYS_MAX}; absent: 100",
        Annotated[int, Meta(ge=1, le=KEYS_MAX)],
    ),
)
_CHANGE_FAILURES = (NotOffered, Unavailable, DataLost, Uncertain)
_NAMES = Parameter("name[]", "only these metrics; may be repeated")
_SINCE = Parameter(
    "since",
    "only events with a number above this one; absent: 0",
    Annotated[int, Meta(ge=0, le=10**15)],
)


def around_routes() -> tuple[Route, ...]:
    """These routes, in the order of the description."""
    batch = '{"operations":[{"op":"read","key":"greeting"}]}'
    table = (
        *by_key(
            Route(
                "GET", "/replicas", _replicas, "Where a key lives, and why", Location,
                failures=(TooLarge,),
            )
        ),
        Route(
            "GET", "/shards", _shards, "Who holds which part of the key space", ShardMap,
            headers=(IF_CHANGED,), has_version=True,
        ),
        Route(
            "GET", "/keys", _keys, "Keys in order, in pages", KeyPage,
            query=_PAGE, failures=(Unavailable, DataLost),
        ),
        Route(
            "GET", "/records", _records, "Keys in order with their values, for backups",
            RecordPage, query=_PAGE[1:], failures=(Unavailable, DataLost),
        ),
        Route(
            "POST", "/batch", _batch, "Many operations, each with its own result", BatchAnswer,
            body=body(BatchBody, batch, levels=2), failures=(TooLarge, NotJson),
        ),
        Route(
            "POST", "/nodes", _add_node, "Add a node", NodeInfo,
            body=body(AddBody, "{}", optional=True),
            failures=(*_CHANGE_FAILURES, TooLarge, NotJson),
        ),
        Route(
            "DELETE", "/nodes/<int:node_id>", _remove_node, "Take a node out for good",
            NodeInfo, failures=(NodeNotFound, TooFewNodes, *_CHANGE_FAILURES),
        ),
        Route("GET", "/config", _config, "The settings in force", Settings),
        Route(
            "GET", "/events", _events, "What happened to the cluster", EventList,
            query=(_SINCE,),
        ),
        Route(
            "GET", "/metrics", _metrics, "What Prometheus scrapes", TEXT, query=(_NAMES,)
        ),
        Route("GET", "/healthz", _healthz, "Whether the process lives", Health),
        Route(
            "GET", "/readyz", _readyz, "Whether every key can be served", Health,
            failures=(Unavailable, DataLost),
        ),
        Route("GET", "/openapi.json", _openapi),
        Route("GET", "/docs", _docs),
        Route("GET", "/docs/<name>", _docs),
        Route("GET", "/", _page),
        Route("GET", "/dashboard/<path:name>", _page),
    )  # fmt: skip
    return tuple(msgspec.structs.replace(route, group="Around it") for route in table)


def _replicas(call: Call, key: str | None = None) -> Answer:
    """Its token, its replica set in order, and the version that each replica holds."""
    return answer(call.store.locate(call.key(key)))


def _shards(call: Call) -> Answer:
    """A shard is the keys that share a set of replicas, and so an in-sync set."""
    version = call.store.revision  # asked first: what it names may be newer
    if is_unchanged(call.environ, version):
        return not_modified(version)
    return answer(call.store.shards(), version=version)


def _keys(call: Call) -> Answer:
    """Keys written or deleted while pages are fetched may or may not be listed."""
    query = call.query
    limit = _limit_of(call)
    return answer(
        call.store.keys(query.get("prefix", ""), query.get("after", ""), limit)
    )


def _records(call: Call) -> Answer:
    """A page holds at most some 4 MiB of values, or one record, whatever the limit."""
    return answer(call.store.records(call.query.get("after", ""), _limit_of(call)))


def _limit_of(call: Call) -> int:
    limit = number_of(call.query, "limit", 100, KEYS_MAX)
    if not limit:
        raise InvalidRequest("limit is at least 1")
    return limit


def _batch(call: Call) -> Answer:
    """Done one after the other, with no atomicity: each has its own `status`."""
    operations = call.body().operations
    count_max = call.store.settings.max_batch
    return answer(run_batch(call.store, operations, count_max=count_max))


def _add_node(call: Call) -> Answer:
    """It is `up` once it holds what it should; `recovering` says that it does not yet."""
    return answer(call.store.add_node(call.body().url))


def _remove_node(call: Call, node_id: int) -> Answer:
    """Answers with its last state. Every key stays readable."""
    return answer(call.store.remove_node(node_id))


def _config(call: Call) -> Answer:
    """Tokens are never shown."""
    return answer(call.store.settings.public())


def _events(call: Call) -> Answer:
    """The newest 10,000 of a process are kept; numbers grow, over restarts too if data do.

    After a number that no event has yet, all are given.
    """
    since = number_of(call.query, "since", 0, 10**15)
    return answer(EventList(call.store.events(since)))


def _metrics(call: Call) -> Answer:
    """In Prometheus' text format, or OpenMetrics where `Accept` asks for it."""
    names = [name for name in call.query.get("name[]", "").split(",") if name]
    return text_answer(*call.render(call.environ.get("HTTP_ACCEPT", ""), names))


def _healthz(call: Call) -> Answer:
    """For a supervisor: restart the process when this does not answer."""
    return answer(Health("ok"))


def _readyz(call: Call) -> Answer:
    """For a load balancer: 503 while some key cannot be both read and written."""
    trouble = call.store.why_not_ready()
    if trouble is not None:
        raise trouble
    off = off_by(call.store.measures().clock_ahead_seconds)
    return answer(Health("ready", off if off is not None else UNSET))


def _openapi(call: Call) -> Answer:
    return json_answer(call.described)


def _docs(call: Call, name: str = "docs.html") -> Response:
    return docs_file(name)


def _page(call: Call, name: str = "index.html") -> Response:
    return page_file(name)
