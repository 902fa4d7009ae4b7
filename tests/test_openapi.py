"""The published description: valid, complete, and true of real answers."""

import re

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

from app import create_app
from config import Settings


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

    described = {
        (path, m) for path, methods in document["paths"].items() for m in methods
    }

    assert described == {each for each in served if each[0] not in pages}


def test_tokens_are_not_described_as_settings(document):
    properties = document["components"]["schemas"]["Settings"]["properties"]

    assert "nodes" in properties
    assert not [name for name in properties if "token" in name]


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
