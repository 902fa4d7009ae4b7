"""What every test of the routes needs: an application of its own, and the promises.

`Contract` is the part of them that holds on every engine. Its classes run in memory as
they are, and over etcd in test_contract_etcd.py. Where engines may differ is said once,
in `Differences`: a test asks `self.engine`, never which engine it is.
"""

import time
import unittest
from dataclasses import dataclass
from typing import ClassVar
from unittest.mock import patch

from app import create_app
from cluster.clock import steady_ns
from cluster.events import wall_ms
from config import Settings

MS_NS = 1_000_000


@dataclass(frozen=True)
class Differences:
    """In what engines may differ, all of it; docs/scaling.md tells the users."""

    acknowledged_by: int  # nodes that the answer to a write names
    replica_set: int  # nodes that hold a key: of three, by default
    protocol: str
    placement: str
    fail_modes: str  # as an error names them
    ttl_seconds_min: int  # a shorter time to live is taken for this
    ttl_late_seconds: int  # that a key may stay beyond its time
    ttl_step_ms: int  # to which the end of a key is rounded up
    tells_of_ended: bool  # a key that ended has a version and is called deleted
    writes_what_ended: bool  # a restored key that has ended, for its version
    keeps_versions: bool  # a restored key has the version that it had
    foreign_version: str  # one that the other engine gives
    config: frozenset[str]  # settings that it shows and others do not


EMBEDDED = Differences(
    acknowledged_by=2,
    replica_set=2,
    protocol="primary-backup",
    placement="ring",
    fail_modes="stop, wipe",
    ttl_seconds_min=0,
    ttl_late_seconds=0,
    ttl_step_ms=1,
    tells_of_ended=True,
    writes_what_ended=True,
    keeps_versions=True,
    foreign_version=f"{7:020x}",
    config=frozenset(("nodes", "storage", "durability", "min_in_sync", "scrub_rows")),
)
ETCD = Differences(
    acknowledged_by=1,
    replica_set=3,
    protocol="raft",
    placement="full",
    fail_modes="stop, wipe, pause",
    ttl_seconds_min=2,
    ttl_late_seconds=4,
    ttl_step_ms=1000,
    tells_of_ended=False,
    writes_what_ended=False,
    keeps_versions=False,
    foreign_version="01a203f300fc00000000",
    config=frozenset(("etcd_endpoints", "etcd_prefix", "etcd_seconds")),
)


class RouteTest(unittest.TestCase):
    """An application of its own, in memory, and what every test needs of it."""

    changes: ClassVar[dict[str, object]] = {}
    engine: ClassVar[Differences] = EMBEDDED
    own_nodes: ClassVar[bool] = False  # nodes are failed, so no other test may use them

    def setUp(self):
        self.app = self.open_app(**self.changes)
        self.client = self.app.test_client()

    def open_app(self, **changes):
        """Another application with an empty store of its own."""
        self.ahead_ms = 0
        with (
            patch("replication.wall_ms", lambda: wall_ms() + self.ahead_ms),
            patch("replication.steady_ns", lambda: steady_ns() + self.ahead_ms * MS_NS),
        ):
            made = create_app(Settings(**{"storage": "memory", **changes}))
        self.addCleanup(made.close)
        return made

    def beside(self):
        """Another client of the store, with a service of its own where there can be two."""
        return self.app.test_client()

    def settle(self):
        """Until every replica has what was acknowledged: here it has it by then."""

    def now(self):
        """The time by which keys end, in seconds."""
        return time.monotonic() + self.ahead_ms / 1000

    def pass_time(self, seconds):
        """Let so much of it pass."""
        self.ahead_ms += int(seconds * 1000)

    def write(self, key="greeting", value="hello", **options):
        return self.client.post("/write", json={"key": key, "value": value}, **options)

    def post(self, path, text, kind="application/json"):
        return self.client.post(path, data=text, content_type=kind)

    def read(self, key):
        """Read any key, also one that the test client would take for a path."""
        return self.client.get("/read", query_string={"key": key})

    def delete(self, key):
        return self.client.delete("/delete", query_string={"key": key})

    def nodes(self):
        return self.client.get("/nodes").get_json()["nodes"]

    def batch(self, *operations):
        """The results of these operations, of any number."""
        results = []
        for first in range(0, len(operations), 1_000):
            body = {"operations": operations[first : first + 1_000]}
            answer = self.client.post("/batch", json=body)
            self.assertEqual(answer.status_code, 200, answer.get_data())
            results += answer.get_json()["results"]
        return results

    def pages(self, path, **query):
        """Every page of a listing, until there is no next one."""
        found, after = [], query.pop("after", "")
        while after is not None:
            query["after"] = after
            answer = self.client.get(path, query_string=query)
            self.assertEqual(answer.status_code, 200, answer.get_data())
            found.append(answer.get_json())
            after = found[-1]["next"]
        return found

    def assert_problem(self, answer, status, code, *words, definite=True):
        """The whole of what every failure promises; returns the document."""
        self.assertEqual(answer.status_code, status, answer.get_data())
        self.assertEqual(answer.content_type, "application/problem+json")
        document = answer.get_json()
        self.assertEqual(document["status"], status)
        self.assertEqual((document["code"], document["definite"]), (code, definite))
        for word in (*words, ""):
            self.assertIn(word, document["detail"])
        self.assertTrue(document["title"])
        self.assertEqual(document["type"], "about:blank")
        self.assertTrue(answer.headers["X-Request-Id"])
        return document


class Contract(RouteTest):
    """What holds on every engine."""
