"""The published description: valid, complete, and true of real answers."""

import json
import re

import msgspec
import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

from app import create_app, routes
from backends.etcd import EtcdEngine
from config import Settings
from engine import Scheme
from replication import open_manager
from web.openapi import document as describe

OTHER = Scheme(
    protocol="consensus",
    placement="full",
    replication_factor=3,
    replicas=3,
    levels=("strict", "stale"),
    fail_modes=("kill", "cut", "freeze"),
    survival="elsewhere",
)


@pytest.fixture
def app():
    made = create_app(Settings(storage="memory"))
    yield made
    made.close()


@pytest.fixture
def document(app):
    return app.test_client().get("/openapi.json").get_json()


def test_description_is_valid_openapi(document):
    validate(document)


def test_no_route_is_missing_from_the_description(app, document):
    pages = {"/", "/dashboard/{name}", "/docs", "/docs/{name}", "/openapi.json"}
    served = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }

    described = operations(document)

    assert described == {each for each in served if each[0] not in pages}


CHANGES_OF_NODES = {("/nodes", "post"), ("/nodes/{node_id}", "delete")}


def operations(document):
    return {(path, m) for path, methods in document["paths"].items() for m in methods}


def test_routes_that_change_nodes_say_whether_the_engine_offers_them():
    made = describe(routes(OTHER), Settings(), OTHER)
    fixed = describe(routes(OTHER), Settings(), OTHER, can_change_nodes=False)

    validate(json.loads(msgspec.json.encode(fixed)))
    assert operations(made) == operations(fixed) >= CHANGES_OF_NODES
    for path, method in CHANGES_OF_NODES:
        assert made["paths"][path][method]["x-offered"] is True
        assert fixed["paths"][path][method]["x-offered"] is False
    assert object.__new__(EtcdEngine).can_change_nodes


def test_lost_data_are_described_wherever_a_pause_is(document):
    for path, method in operations(document) - {("/fail/{node_id}", "post")}:
        responses = document["paths"][path][method]["responses"]
        codes = responses.get("503", {}).get("description", "").split(" or ")
        if "unavailable" in codes:
            assert "data_lost" in codes, (method, path)
            about = responses["503"]["headers"]["Retry-After"]["description"]
            assert "only where waiting may help" in about
    assert "`data_lost`" in document["info"]["description"]


def test_modes_are_named_only_where_a_node_can_be_failed():
    elsewhere = msgspec.structs.replace(OTHER, fail_modes=())

    made = describe(routes(elsewhere), Settings(), elsewhere)

    validate(json.loads(msgspec.json.encode(made)))
    assert "enum" not in mode_in(made)


def test_tokens_are_not_described_as_settings(document):
    properties = document["components"]["schemas"]["Settings"]["properties"]

    assert "nodes" in properties
    assert not [name for name in properties if "token" in name or "password" in name]


def test_settings_are_described_as_they_are_shown(app, document):
    described = document["components"]["schemas"]["Settings"]["properties"]

    assert described.keys() == app.test_client().get("/config").get_json().keys()


def levels_in(document):
    """The levels that each operation which takes one has, by operation."""
    return {
        operation["operationId"]: parameter["schema"]["enum"]
        for methods in document["paths"].values()
        for operation in methods.values()
        for parameter in operation["parameters"]
        if parameter["name"] == "consistency"
    }


def mode_in(document):
    return document["components"]["schemas"]["FailBody"]["properties"]["mode"]


def test_levels_and_modes_are_those_of_the_engine():
    made = describe(routes(OTHER), Settings(), OTHER)

    found = json.loads(msgspec.json.encode(made))
    validate(found)
    levels = levels_in(found)
    assert len(levels) == 5  # write; read and delete, each in two ways
    assert all(each == ["strict", "stale"] for each in levels.values())
    assert mode_in(found)["enum"] == ["kill", "cut", "freeze"]
    assert mode_in(found)["default"] == "kill"


def test_levels_and_modes_that_are_described_are_the_ones_that_are_taken(app, document):
    client = app.test_client()
    (levels,) = {tuple(each) for each in levels_in(document).values()}
    mode = mode_in(document)
    client.post("/write", json={"key": "k", "value": 1})

    for level in levels:
        assert client.get(f"/read/k?consistency={level}").status_code == 200
    for each in mode["enum"]:
        assert client.post("/fail/0", json={"mode": each}).status_code == 200

    with open_manager() as manager:
        assert manager.scheme.levels == levels
        assert list(manager.scheme.fail_modes) == mode["enum"]
        assert mode["default"] == mode["enum"][0]


def test_token_is_asked_for_where_one_is_set():
    app = create_app(Settings(storage="memory", api_token="secret-token"))
    headers = {"Authorization": "Bearer secret-token"}

    found = app.test_client().get("/openapi.json", headers=headers).get_json()

    app.close()
    validate(found)
    assert found["security"] == [{"token": []}]


CALLS = [
    ("post", "/write", {"key": "k", "value": {"a": [1.5, None]}}),
    ("get", "/read/{key}", None),
    ("get", "/read", None),
    ("get", "/replicas/{key}", None),
    ("get", "/keys", None),
    ("post", "/fail/{node_id}", {"mode": "stop"}),
    ("get", "/nodes", None),
    ("post", "/recover/{node_id}", None),
    ("get", "/events", None),
    ("get", "/config", None),
    ("get", "/healthz", None),
    ("get", "/readyz", None),
    (
        "post",
        "/batch",
        {"operations": [{"op": "read", "key": "k"}, {"op": "read", "key": "absent"}]},
    ),
    ("delete", "/delete/{key}", None),
]


def test_answers_are_as_described(app, document):
    client = app.test_client()
    for method, path, body in CALLS:
        operation = document["paths"][path][method]
        address = path.replace("{key}", "k").replace("{node_id}", "0")
        query = {"key": "k"} if path == "/read" else {}

        answer = client.open(address, method=method, json=body, query_string=query)

        assert answer.status_code == 200, (path, answer.get_data())
        check(document, operation["responses"]["200"], answer)
        if body is not None:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            OAS31Validator({**document, **schema}).validate(body)


@pytest.mark.parametrize(
    ("method", "path", "address"),
    [
        ("get", "/read/{key}", "/read/absent"),
        ("get", "/read/{key}", "/read/x?consistency=two"),
        ("delete", "/delete/{key}", "/delete/absent"),
        ("post", "/fail/{node_id}", "/fail/9"),
        ("post", "/write", "/write"),
    ],
)
def test_failures_are_as_described(app, document, method, path, address):
    answer = app.test_client().open(address, method=method)

    described = document["paths"][path][method]["responses"][str(answer.status_code)]
    check(document, described, answer)


def check(document, described, answer):
    """The answer fits the schema that the document has for its type."""
    schema = described["content"][answer.content_type]["schema"]
    OAS31Validator({**document, **schema}).validate(answer.get_json())
