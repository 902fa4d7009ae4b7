"""The contract of every engine, over a real etcd of three members.

Every `Contract` of the modules below runs here as it is. One cluster serves them all, but
for those that fail nodes, and each test has a service of its own in front of it, with its
own prefix: an empty store.
unittest runs none of this, nor does pytest where etcd is not installed.
"""

import itertools
import json
import re
import shutil
import tempfile
import time
import unittest
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from app import StoreApp, create_app
from config import Settings
from tests import (
    test_app,
    test_around,
    test_contract_conditions,
    test_contract_keys,
    test_contract_listings,
    test_contract_lost,
    test_contract_shapes,
    test_contract_ttl,
)
from tests.route_case import ETCD, Contract, Differences, RouteTest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("etcd") is None,
        reason="etcd is not installed: apt-get install etcd-server",
    ),
]
MODULES: tuple[ModuleType, ...] = (
    test_app,
    test_around,
    test_contract_conditions,
    test_contract_keys,
    test_contract_listings,
    test_contract_lost,
    test_contract_shapes,
    test_contract_ttl,
)


class Cluster:
    """Three members for all tests of this module, and what each of them is given."""

    urls: ClassVar[tuple[str, ...]] = ()
    numbers: ClassVar = itertools.count()

    @classmethod
    def settings_of_a_service(cls, **changes: object) -> Settings:
        """Of a service of that etcd, with an empty store."""
        prefix = f"t{next(cls.numbers)}/"
        where = {"etcd_endpoints": cls.urls, "etcd_prefix": prefix}
        return Settings.model_validate({"engine": "etcd", **where, **changes})


@pytest.fixture(scope="module", autouse=True)
def members():
    with tempfile.TemporaryDirectory() as folder:
        chosen = Settings(engine="etcd", local_members=3, data_dir=Path(folder))
        app = create_app(chosen)
        try:
            nodes = app.test_client().get("/nodes").get_json()["nodes"]
            Cluster.urls = tuple(url for node in nodes for url in node["raft"]["urls"])
            yield app
        finally:
            app.close()


class OnEtcd(RouteTest):
    """What a test of the contract needs, with its store in etcd."""

    engine: ClassVar[Differences] = ETCD

    def open_app(self, **changes: object) -> StoreApp:
        made = create_app(self._settings(**changes))
        self.addCleanup(made.close)
        return made

    def _settings(self, **changes: object) -> Settings:
        if not self.own_nodes:
            return Cluster.settings_of_a_service(**changes)
        folder = self.enterContext(tempfile.TemporaryDirectory())
        own = {"engine": "etcd", "local_members": 3, "data_dir": folder}
        return Settings.model_validate({**own, **changes})

    def beside(self) -> FlaskClient:
        made = create_app(self.app.store.settings)
        self.addCleanup(made.close)
        return made.test_client()

    def settle(self) -> None:
        """A member that is not needed for a majority gets it a little later."""
        deadline = time.monotonic() + 10
        while any(node["stale_keys"] for node in self.nodes()):
            self.assertLess(time.monotonic(), deadline, self.nodes())

    def now(self) -> float:
        return time.monotonic()

    def pass_time(self, seconds: float) -> None:
        time.sleep(seconds)


def over_etcd(modules: tuple[ModuleType, ...]) -> dict[str, type]:
    """The classes of these modules that are a contract, each over etcd."""
    return {
        f"{name}OverEtcd": type(f"{name}OverEtcd", (OnEtcd, each), {})
        for module in modules
        for name, each in vars(module).items()
        if isinstance(each, type) and issubclass(each, Contract) and each != Contract
    }


globals().update(over_etcd(MODULES))


def load_tests(*_: object) -> unittest.TestSuite:
    """What unittest finds here: nothing, for it is to start no processes."""
    return unittest.TestSuite()


def test_no_contract_is_left_out():
    here = Path(__file__)
    have = {
        path.stem
        for path in here.parent.rglob("test_*.py")
        if path != here and "(Contract)" in path.read_text("utf-8")
    }

    assert have == {module.__name__.rpartition(".")[2] for module in MODULES}


# --- Both engines, the same requests -------------------------------------------------

KEYS = ("a", "a/", "é")
VERSION = re.compile("[0-9a-f]{20}")
RESTORE = re.compile('cannot restore[^"]*')  # each has its own reasons


@dataclass(frozen=True)
class Step:
    """One request. What it says of versions are places in the list of those seen."""

    what: str
    key: str = "a"
    number: int = 0  # the value, or a limit
    ttl: int | None = None
    match: tuple[int, ...] | str | None = None
    none_match: str | None = None


class Side:
    """One engine, which is sent each step, and every version that it told, in order."""

    def __init__(self, app: StoreApp) -> None:
        self.client = app.test_client()
        self.versions: list[str] = []
        self.newest: dict[str, str] = {}

    def send(self, step: Step) -> tuple[object, ...]:
        """What came of it, with places of versions in the order in which they came."""
        answer = self.client.open(headers=self._headers(step), **self._request(step))
        self._check_growth(step, answer)
        common = _common(self._placed(answer.get_data(as_text=True)))
        etag = self._placed(answer.headers.get("ETag", ""))
        return answer.status_code, answer.content_type, etag, common

    def _request(self, step: Step) -> dict[str, Any]:
        by_key = {"key": step.key}
        if step.what == "write":
            write = {**by_key, "value": step.number, "ttl": step.ttl}
            return {"path": "/write", "method": "POST", "json": write}
        if step.what == "batch":
            batch = {"operations": self._operations(step)}
            return {"path": "/batch", "method": "POST", "json": batch}
        if step.what == "keys":
            query = {"limit": step.number % 3 + 1, "after": step.key[:-1]}
            return {"path": "/keys", "query_string": query}
        if step.what == "records":
            return {"path": "/records"}
        if step.what == "delete":
            return {"path": "/delete", "method": "DELETE", "query_string": by_key}
        # Reads only: what is written at level one may get another version once more.
        level = {"consistency": "one"} if step.number % 2 else {}
        return {"path": "/read", "query_string": {**by_key, **level}}

    def _headers(self, step: Step) -> dict[str, str]:
        headers = {}
        if isinstance(step.match, str):
            headers["If-Match"] = step.match
        elif step.match is not None:
            known = ["none", *self.versions]
            tags = (f'"{known[place % len(known)]}"' for place in step.match)
            headers["If-Match"] = ", ".join(tags)
        if step.none_match is not None:
            headers["If-None-Match"] = step.none_match
        return headers

    def _operations(self, step: Step) -> list[dict[str, object]]:
        by_key = {"key": step.key}
        return [
            {"op": "write", "value": step.number, **by_key},
            {"op": "delete", "key": KEYS[step.number % len(KEYS)]},
            {"op": "read", **by_key},
            {"op": "restore", "value": 0, "version": f"{1:020x}", "key": "a"}
            if step.key == "a" and step.number % len(KEYS)
            else {"op": "read", "key": ""},
        ]

    def _check_growth(self, step: Step, answer: TestResponse) -> None:
        if answer.status_code == 200 and step.what in ("write", "delete"):
            version = answer.get_json()["version"]
            assert version > self.newest.get(step.key, ""), (step, answer.get_data())
            self.newest[step.key] = version

    def _placed(self, text: str) -> str:
        def place(found: re.Match[str]) -> str:
            if found[0] not in self.versions:
                self.versions.append(found[0])
            return f"version {self.versions.index(found[0])}"

        return VERSION.sub(place, RESTORE.sub("cannot restore", text))


def _common(body: str) -> object:
    """What an answer says that does not depend on the engine."""
    own = {"replicas": None, "missed": None, "expires_at_ms": "some time"}

    def without(found: dict[str, object]) -> dict[str, object]:
        return {name: own.get(name, value) for name, value in found.items()}

    return json.loads(body, object_hook=without) if body else None


places = st.lists(st.integers(0, 40), min_size=1, max_size=3).map(tuple)
step = st.one_of(
    st.builds(
        Step,
        st.sampled_from(["write", "write", "delete"]),
        st.sampled_from(KEYS),
        st.integers(0, 9),
        st.sampled_from([None, None, 1000]),
        st.none() | places | st.sampled_from(["*", 'W/"a"', "a"]),
        st.sampled_from([None, None, None, "*"]),
    ),
    st.builds(
        Step,
        st.sampled_from(["read", "keys", "records", "batch"]),
        st.sampled_from(KEYS),
        st.integers(0, 9),
    ),
)


@settings(max_examples=30)
@given(st.lists(step, min_size=20, max_size=30))
def test_requests_have_the_same_answers_whatever_the_engine(steps):
    one = create_app(Settings(storage="memory"))
    other = create_app(Cluster.settings_of_a_service())
    try:
        sides = Side(one), Side(other)
        for each in steps:
            answers = [side.send(each) for side in sides]
            assert answers[0] == answers[1], each
    finally:
        one.close()
        other.close()
