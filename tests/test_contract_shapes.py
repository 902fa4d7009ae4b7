"""The shapes of what any engine answers, as /openapi.json has them, and who may see what."""

import json
import unittest
from typing import ClassVar

from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

from config import SECRET, Settings
from tests.monitoring.scrape import OPENMETRICS, families, open_families, samples
from tests.route_case import EMBEDDED, ETCD, Contract

NODE = {
    "node_id", "status", "keys", "bytes", "stale_keys", "waiting_for", "zone",
}  # fmt: skip
REPLICA = {"node_id", "status", "in_sync", "version", "deleted"}
SHARD = {
    "replicas", "in_sync", "live", "readable", "writable", "lost", "share",
}  # fmt: skip
TRIES = 10
TOKEN = {"Authorization": "Bearer of-the-operators"}


class TestShapes(Contract):
    def test_nodes_are_three_that_are_up_and_say_what_they_hold(self):
        self.write("a")
        self.write("b")
        self.write("b")
        self.delete("a")
        self.settle()

        shown = self.client.get("/nodes").get_json()

        self.assertEqual(shown["protocol"], self.engine.protocol)
        self.assertEqual(shown["placement"], self.engine.placement)
        self.assertEqual(shown["replication_factor"], self.engine.replica_set)
        nodes = shown["nodes"]
        self.assertEqual([node["node_id"] for node in nodes], [0, 1, 2])
        for node in nodes:
            self.assertLessEqual(NODE, node.keys())
            self.assertLessEqual(node.keys(), NODE | {"raft"})
            self.assertEqual((node["status"], node["waiting_for"]), ("up", []))
        self.assertEqual(sum(node["keys"] for node in nodes), self.engine.replica_set)

    def test_replicas_say_what_every_node_of_the_set_holds(self):
        self.write("ended", 1)
        versions = {
            "held": self.write("held").get_json()["version"],
            "never": None,
            "ended": self.delete("ended").get_json()["version"],
        }
        self.settle()
        for key, version in versions.items():
            with self.subTest(key=key):
                found = self.client.get(f"/replicas/{key}").get_json()

                self.assertEqual(found["key"], key)
                self.assertRegex(found["token"], r"\A[0-9a-f]{16}\Z")
                self.assertEqual(
                    len(set(found["replica_set"])), self.engine.replica_set
                )
                told = [each["node_id"] for each in found["replicas"]]
                self.assertEqual(told, found["replica_set"])
                for each in found["replicas"]:
                    self.assertEqual(each.keys(), REPLICA)
                    self.assertEqual(each["status"], "up")
                    self.assertEqual(each["version"], version)
                    self.assertEqual(each["deleted"], key == "ended")
                    self.assertIs(type(each["in_sync"]), bool)

    def test_answer_names_nodes_that_hold_the_key_and_none_that_missed_it(self):
        written = self.write().get_json()
        read = self.client.get("/read/greeting").get_json()
        stale = self.client.get("/read/greeting?consistency=one").get_json()
        holders = set(self.client.get("/replicas/greeting").get_json()["replica_set"])
        deleted = self.delete("greeting").get_json()

        for answer in (written, deleted):
            self.assertEqual(answer.keys(), {"key", "version", "replicas", "missed"})
            self.assertEqual(len(answer["replicas"]), self.engine.acknowledged_by)
            self.assertEqual(answer["missed"], [])
        for answer in (written, read, stale, deleted):
            self.assertTrue(answer["replicas"])
            self.assertLessEqual(set(answer["replicas"]), holders)
        self.assertNotIn("may_be_stale", read)
        self.assertIs(stale["may_be_stale"], True)

    def test_shards_cover_the_whole_and_all_can_be_served(self):
        answer = self.client.get("/shards")
        shown = answer.get_json()

        self.assertEqual(len(shown["partitions"]), shown["partition_count"])
        self.assertAlmostEqual(sum(each["share"] for each in shown["shards"]), 1)
        for shard in shown["shards"]:
            self.assertEqual(shard.keys(), SHARD)
            self.assertEqual(len(shard["replicas"]), self.engine.replica_set)
            self.assertEqual(shard["live"], shard["replicas"])
            self.assertLessEqual(set(shard["in_sync"]), set(shard["replicas"]))
            self.assertTrue(shard["readable"] and shard["writable"])
            self.assertFalse(shard["lost"])
        for place, first in shown["partitions"]:
            self.assertIn(first, shown["shards"][place]["replicas"])
        self.write()
        found = self.client.get("/replicas/greeting").get_json()
        place, first = shown["partitions"][found["partition"]]
        holders = sorted(found["replica_set"])
        self.assertEqual(sorted(shown["shards"][place]["replicas"]), holders)

    def test_store_is_ready_and_says_so_without_a_body_too(self):
        for path, word in (("/readyz", "ready"), ("/healthz", "ok")):
            self.assertEqual(self.client.get(path).get_json(), {"status": word})
            head = self.client.head(path)
            self.assertEqual((head.status_code, head.get_data()), (200, b""))

    def test_events_are_numbered_and_a_number_beyond_them_gives_all(self):
        events = self.client.get("/events").get_json()["events"]

        numbers = [each["number"] for each in events]
        self.assertEqual(numbers, sorted(set(numbers)))
        for each in events:
            self.assertLessEqual({"number", "at", "kind", "detail"}, each.keys())
        for since in ("x", "-1", "", "1e3"):
            answer = self.client.get(f"/events?since={since}")
            self.assert_problem(answer, 400, "invalid_request", "since")

    def test_level_is_one_of_those_offered_on_every_route_that_takes_one(self):
        self.write()
        for level in ("linearizable", "one"):
            query = f"consistency={level}"
            written = self.client.post(f"/write?{query}", json={"key": "k", "value": 1})
            self.assertEqual(written.status_code, 200)
            read = self.client.get(f"/read?key=greeting&{query}").get_json()
            self.assertEqual(read.get("may_be_stale", False), level == "one")
            deleted = self.client.delete(f"/delete/k?{query}")
            self.assertEqual(deleted.status_code, 200)
        write = {"key": "greeting", "value": 2}
        for level in ("quorum", "all", "ONE", "one,", "%00"):
            query = f"consistency={level}"
            for answer in (
                self.client.get(f"/read/greeting?{query}"),
                self.client.delete(f"/delete/greeting?{query}"),
                self.client.post(f"/write?{query}", json=write),
            ):
                self.assert_problem(answer, 400, "invalid_request", "linearizable, one")
        for path in ("/keys", "/records", "/nodes", "/replicas/greeting"):
            answer = self.client.get(f"{path}?consistency=one")
            self.assert_problem(answer, 400, "invalid_request", "consistency")
        self.assertEqual(self.read("greeting").get_json()["value"], "hello")

    def test_metrics_are_read_by_the_official_parsers_and_say_what_nodes_say(self):
        self.write()
        self.read("greeting")
        self.read("absent")
        self.settle()

        plain = self.client.get("/metrics").get_data(as_text=True)
        strict = self.client.get("/metrics", headers={"Accept": OPENMETRICS})

        self.assertGreater(len(families(plain)), 20)
        self.assertGreater(len(open_families(strict.get_data(as_text=True))), 20)
        found = samples(plain)
        self.assertEqual(found["kv_ready", ()], 1)
        for node in self.client.get("/nodes").get_json()["nodes"]:
            labels = (("node", str(node["node_id"])),)
            self.assertEqual(found["kv_node_up", labels], 1)
            self.assertEqual(found["kv_node_keys", labels], node["keys"])
            self.assertGreaterEqual(found["kv_node_stale_keys", labels], 0)
        self.assertEqual(sum(n for (name, _), n in found.items() if name == "kv_shards"),
                         len(self.client.get("/shards").get_json()["shards"]))  # fmt: skip
        chosen = self.client.get("/metrics?name[]=kv_ready").get_data(as_text=True)
        self.assertEqual([each.name for each in families(chosen)], ["kv_ready"])

    def test_node_to_add_that_makes_no_sense_is_refused_as_such(self):
        self.write()
        before = {node["node_id"] for node in self.nodes()}

        for text in ('{"uri":"http://a:1"}', '{"url":1}', "[]", "{"):
            self.assert_problem(self.post("/nodes", text), 400, "invalid_request")
        self.assert_problem(self.post("/nodes", "{}", "text/plain"), 415, "not_json")
        answer = self.client.delete("/nodes/zero")
        self.assert_problem(answer, 404, "not_found")

        self.assertEqual({node["node_id"] for node in self.nodes()}, before)
        self.assertEqual({node["status"] for node in self.nodes()}, {"up"})


class TestSecrets(Contract):
    changes: ClassVar = {
        "api_token": "of-the-operators",
        "read_token": "of-the-readers",
    }

    def test_settings_in_force_are_shown_and_secrets_never(self):
        pages = ("/config", "/openapi.json", "/metrics", "/nodes", "/events")
        texts = [
            self.client.get(page, headers=TOKEN).get_data(as_text=True)
            for page in pages
        ]

        shown = json.loads(texts[0])
        self.assertLessEqual(self.engine.config, shown.keys())
        (other,) = {EMBEDDED, ETCD} - {self.engine}
        self.assertFalse(other.config & shown.keys())
        self.assertLess(shown.keys(), Settings.model_fields.keys())
        self.assertEqual(shown["max_value_bytes"], 1 << 20)
        for text in texts:
            for secret in (*self.changes.values(), *SECRET):
                self.assertNotIn(str(secret), text)

    def test_token_is_wanted_by_every_route_that_tells_or_changes_anything(self):
        weak = {"Authorization": "Bearer of-the-readers"}
        reading = ("/read/k", "/keys", "/records", "/nodes", "/shards", "/config",
                   "/events", "/metrics", "/replicas/k", "/openapi.json")  # fmt: skip
        for path in reading:
            self.assert_problem(self.client.get(path), 401, "unauthorized")
            answer = self.client.get(path, headers=weak)
            self.assertIn(answer.status_code, (200, 404))
        body = {"key": "k", "value": 1}
        for method, path in (("POST", "/write"), ("DELETE", "/delete/k"),
                             ("POST", "/batch"), ("POST", "/fail/0"),
                             ("POST", "/recover/0"), ("DELETE", "/nodes/0"),
                             ("POST", "/nodes")):  # fmt: skip
            for headers, status in (({}, 401), (weak, 403)):
                answer = self.client.open(
                    path, method=method, json=body, headers=headers
                )
                self.assertEqual(answer.status_code, status, path)
        self.assertEqual(self.client.get("/readyz").status_code, 200)
        self.assertEqual(self.client.get("/read/k", headers=TOKEN).status_code, 404)


class TestDescription(Contract):
    CALLS = (
        ("post", "/write", "/write", {"key": "k", "value": [1.5], "ttl": 60}),
        ("post", "/write", "/write", {"key": "k", "value": {"a": None}}),
        ("post", "/write", "/write", {"key": "k" * 256, "value": 1}),
        ("post", "/write", "/write", {"key": "k"}),
        ("get", "/read/{key}", "/read/k", None),
        ("get", "/read", "/read?key=k", None),
        ("get", "/read/{key}", "/read/k?consistency=one", None),
        ("get", "/read/{key}", "/read/k?consistency=two", None),
        ("get", "/read/{key}", "/read/absent", None),
        ("get", "/replicas/{key}", "/replicas/k", None),
        ("get", "/replicas", "/replicas?key=absent", None),
        ("get", "/keys", "/keys?limit=1", None),
        ("get", "/keys", "/keys?limit=0", None),
        ("get", "/records", "/records", None),
        ("get", "/shards", "/shards", None),
        ("get", "/nodes", "/nodes", None),
        ("get", "/events", "/events", None),
        ("get", "/config", "/config", None),
        ("get", "/healthz", "/healthz", None),
        ("get", "/readyz", "/readyz", None),
        ("post", "/batch", "/batch", {"operations": [{"op": "read", "key": "k"}]}),
        ("post", "/fail/{node_id}", "/fail/9", None),
        ("post", "/fail/{node_id}", "/fail/0", {"mode": "melt"}),
        ("post", "/recover/{node_id}", "/recover/9", None),
        ("post", "/recover/{node_id}", "/recover/0", None),
        ("delete", "/delete/{key}", "/delete/k", None),
        ("get", "/read/{key}", "/read/k", None),
        ("delete", "/delete", "/delete?key=k", None),
    )  # fmt: skip

    def test_description_is_valid_and_names_the_levels_that_are_offered(self):
        document = self.client.get("/openapi.json").get_json()

        validate(document)
        (level,) = document["paths"]["/read/{key}"]["get"]["parameters"][1:2]
        self.assertEqual(level["schema"]["enum"], ["linearizable", "one"])
        shown = document["components"]["schemas"]["Settings"]["properties"]
        self.assertEqual(shown.keys(), self.client.get("/config").get_json().keys())

    def test_every_answer_is_as_the_description_has_it(self):
        document = self.client.get("/openapi.json").get_json()
        for method, path, address, body in self.CALLS:
            with self.subTest(method=method, address=address[:30]):
                answer = self.client.open(address, method=method, json=body)

                described = document["paths"][path][method]["responses"]
                content = described[str(answer.status_code)]["content"]
                schema = content[answer.content_type]["schema"]
                OAS31Validator({**document, **schema}).validate(answer.get_json())

    def test_answer_that_has_not_changed_is_described_and_has_no_body(self):
        document = self.client.get("/openapi.json").get_json()
        self.write()
        for path, address in (
            ("/read/{key}", "/read/greeting"),
            ("/shards", "/shards"),
        ):
            for _ in range(TRIES):  # who is in sync may change in between
                seen = {"If-None-Match": self.client.get(address).headers["ETag"]}
                answer = self.client.get(address, headers=seen)
                if answer.status_code == 304:
                    break
            self.assertEqual((answer.status_code, answer.get_data()), (304, b""))
            self.assertIn("304", document["paths"][path]["get"]["responses"])

    def test_head_has_the_headers_of_a_get_and_no_body(self):
        self.write()
        for address in ("/read/greeting", "/read?key=greeting", "/read/absent", "/keys",
                        "/records", "/nodes", "/config", "/replicas/greeting"):  # fmt: skip
            got, head = self.client.get(address), self.client.head(address)
            self.assertEqual(
                (head.status_code, head.get_data()), (got.status_code, b"")
            )
            self.assertEqual(head.content_type, got.content_type)
            self.assertEqual(head.headers.get("ETag"), got.headers.get("ETag"))


if __name__ == "__main__":
    unittest.main()
