"""The routes around the store, the limits, and the application as a whole."""

import json
import unittest
from typing import ClassVar
from unittest.mock import patch

from app import create_app
from config import Settings
from replication import open_manager
from tests.route_case import Contract, RouteTest


class TestSmallValues(Contract):
    changes: ClassVar = {
        "max_value_bytes": 100,
        "max_batch": 3,
        "max_body_bytes": 9_000,
        "max_depth": 4,
        "max_key_bytes": 10,
    }

    def test_value_at_the_limit_is_taken_and_one_byte_more_is_not(self):
        self.assertEqual(self.write(value="v" * 98).status_code, 200)
        self.assert_problem(self.write(value="v" * 99), 413, "too_large", "100")

    def test_key_at_its_limit_is_taken_and_one_byte_more_is_not(self):
        self.assertEqual(self.write("k" * 10).status_code, 200)
        self.assert_problem(self.write("k" * 11), 413, "too_large", "10 bytes")

    def test_value_as_deep_as_allowed_is_taken_and_one_deeper_is_not(self):
        self.assertEqual(self.write(value=[[["]]]]]"]]]).status_code, 200)
        self.assert_problem(
            self.write(value=[[[[]]]]), 400, "invalid_request", "max_depth"
        )

    def test_value_as_deep_as_a_write_takes_is_taken_by_a_batch_too(self):
        write = {"op": "write", "key": "k", "value": [[["]]]]]"]]]}
        deeper = {**write, "value": [[[[]]]]}

        taken = self.client.post("/batch", json={"operations": [write]})
        refused = self.client.post("/batch", json={"operations": [deeper]})

        self.assertEqual(taken.get_json()["results"][0]["status"], 200)
        self.assert_problem(refused, 400, "invalid_request", "max_depth")

    def test_body_beyond_any_value_is_refused_unread(self):
        self.assert_problem(self.post("/write", " " * 10_000), 413, "too_large")

    def test_batch_with_one_operation_too_many_does_nothing(self):
        operation = {"op": "write", "key": "k", "value": 1}

        answer = self.client.post("/batch", json={"operations": [operation] * 4})

        self.assert_problem(answer, 413, "too_large", "3")
        self.assertEqual(self.client.get("/read/k").status_code, 404)


class TestAround(Contract):
    def test_keys_are_listed_in_pages_without_gap_or_repetition(self):
        keys = [f"key-{number:02}" for number in range(25)]
        for key in [*keys, "other"]:
            self.write(key)
        found, after = [], ""
        while after is not None:
            query = {"prefix": "key-", "after": after, "limit": "10"}
            page = self.client.get("/keys", query_string=query).get_json()
            self.assertLessEqual(len(page["keys"]), 10)
            found += [item["key"] for item in page["keys"]]
            after = page["next"]

        self.assertEqual(found, keys)
        for limit in ("0", "1001", "x", "-1", "1.5", ""):
            answer = self.client.get("/keys", query_string={"limit": limit})
            self.assert_problem(answer, 400, "invalid_request", "limit")

    def test_batch_gives_each_operation_its_own_result(self):
        self.write("old")
        operations = [
            {"op": "write", "key": "a", "value": [1.5]}, {"op": "read", "key": "a"},
            {"op": "delete", "key": "old"}, {"op": "read", "key": "old"},
            {"op": "write", "key": "", "value": 1}, {"op": "drop", "key": "a"},
            {"op": "read", "key": "a", "x": 1}, 7, {"op": "read", "key": "a"},
        ]  # fmt: skip

        answer = self.client.post("/batch", json={"operations": operations})

        results = answer.get_json()["results"]
        self.assertEqual(
            [r["status"] for r in results],
            [200, 200, 200, 404, 400, 400, 400, 400, 200],
        )
        self.assertEqual(results[1]["value"], [1.5])
        self.assertEqual(
            (results[3]["code"], results[3]["deleted"]), ("key_not_found", True)
        )
        self.assertEqual(results[8]["version"], results[0]["version"])

    def test_broken_operation_of_a_batch_hides_no_other_result(self):
        operations = [
            {"op": "write", "key": "a", "value": 1},
            {"op": "read", "key": "a"},
        ]
        broken = patch.object(self.app.store, "read", side_effect=KeyError("secret"))
        with broken, self.assertLogs("web.batch", "ERROR"):
            answer = self.client.post("/batch", json={"operations": operations})

        results = answer.get_json()["results"]
        self.assertEqual([r["status"] for r in results], [200, 500])
        self.assertIs(results[1]["definite"], False)

    def test_replicas_tell_where_a_key_lives_and_what_each_holds(self):
        version = self.write().get_json()["version"]
        self.settle()

        found = self.client.get("/replicas/greeting").get_json()

        self.assertEqual(
            [r["node_id"] for r in found["replicas"]], found["replica_set"]
        )
        self.assertEqual({r["version"] for r in found["replicas"]}, {version})

    def test_docs_need_no_other_host_and_lead_to_no_other_file(self):
        page = self.client.get("/docs")
        self.assertEqual(page.status_code, 200)
        self.assertNotIn("//", page.get_data(as_text=True).replace("<!doctype", ""))
        self.assertIn("default-src 'none'", page.headers["Content-Security-Policy"])
        for name in ("docs.js", "docs.css", "swagger-ui.css", "swagger-ui-bundle.js"):
            answer = self.client.get(f"/docs/{name}")
            self.assertEqual(answer.status_code, 200, name)
            answer.close()
        page.close()
        for name in ("app.py", "..%2fapp.py", "%2e%2e%2fapp.py", "index.html"):
            self.assert_problem(self.client.get(f"/docs/{name}"), 404, "not_found")

    def test_restore_of_what_is_no_version_is_refused(self):
        good = {
            "op": "restore",
            "key": "a",
            "version": "01a203f300fc00000000",
            "value": 1,
        }
        for name, wrong in (
            ("version", "x"), ("version", 7), ("version", "f" * 20), ("version", "0" * 20),
            ("version", f"{good['version']}\n"),
            ("expires_at_ms", -1), ("expires_at_ms", 1 << 60), ("key", ""), ("ttl", 1),
        ):  # fmt: skip
            batch = {"operations": [{**good, name: wrong}]}
            (result,) = self.client.post("/batch", json=batch).get_json()["results"]
            self.assertEqual(
                (result["status"], result["code"]), (400, "invalid_request")
            )
            self.assertIn(name, result["detail"])

    def test_dashboard_leads_to_no_other_file(self):
        names = "../app.py %2e%2e/app.py ..%2fapp.py docs.html x/../../app.py main.js/ "
        names += "vendor/../docs.html vendor vendor/uplot/README.md"
        for name in ("", *names.split()):
            answer = self.client.get(f"/dashboard/{name}")
            self.assert_problem(answer, 404, "not_found")

    def test_process_says_that_it_lives(self):
        self.assertEqual(self.client.get("/healthz").get_json(), {"status": "ok"})


class TestShards(RouteTest):
    """Shards of a ring, and nodes that are failed at will."""

    def test_shards_cover_the_key_space_and_say_who_is_in_sync(self):
        key = "greeting"
        self.client.post("/write", json={"key": key, "value": 1})
        found = self.client.get(f"/replicas/{key}").get_json()
        self.client.post(f"/fail/{found['replica_set'][0]}")
        self.client.post("/write", json={"key": key, "value": 2})

        answer = self.client.get("/shards")
        shown = answer.get_json()
        place, first = shown["partitions"][found["partition"]]
        shard = shown["shards"][place]

        self.assertEqual(len(shown["partitions"]), shown["partition_count"])
        self.assertAlmostEqual(sum(s["share"] for s in shown["shards"]), 1)
        self.assertEqual(first, found["replica_set"][0])
        self.assertEqual(shard["replicas"], sorted(found["replica_set"]))
        self.assertEqual(shard["in_sync"], [found["replica_set"][1]])
        self.assertEqual(shard["live"], shard["in_sync"])
        self.assertTrue(shard["readable"] and shard["writable"] and not shard["lost"])

    def test_shards_are_sent_again_only_after_they_changed(self):
        seen = {"If-None-Match": self.client.get("/shards").headers["ETag"]}
        self.assertEqual(self.client.get("/shards", headers=seen).status_code, 304)

        self.client.post("/fail/0")

        changed = self.client.get("/shards", headers=seen)
        self.assertEqual(changed.status_code, 200)
        self.assertNotEqual(changed.headers["ETag"], seen["If-None-Match"])

    def test_shard_without_a_replica_that_is_up_is_not_readable(self):
        for node in range(3):
            self.client.post(f"/fail/{node}")

        shown = self.client.get("/shards").get_json()["shards"]

        self.assertFalse(any(s["readable"] or s["writable"] for s in shown))
        self.assertFalse(any(s["lost"] for s in shown))

    def test_events_after_a_number_are_those_not_yet_seen(self):
        self.client.post("/fail/0")
        seen = self.client.get("/events").get_json()["events"]
        self.client.post("/recover/0")

        new = self.client.get(f"/events?since={seen[-1]['number']}").get_json()[
            "events"
        ]

        self.assertEqual(seen[0]["kind"], "node_failed")
        self.assertEqual(new[0]["number"], seen[-1]["number"] + 1)
        answer = self.client.get("/events?since=x")
        self.assert_problem(answer, 400, "invalid_request", "since")


class TestFullStore(RouteTest):
    changes: ClassVar = {"max_value_bytes": 100, "max_stored_bytes": 1_200}

    def test_full_store_takes_no_more_but_can_be_read_and_emptied(self):
        for number in range(6):  # two replicas of each
            self.assertEqual(self.write(str(number), "v" * 90).status_code, 200)

        refused = self.write("6", "v" * 90)
        self.assert_problem(refused, 507, "storage_full", "max_stored_bytes")
        self.assertTrue(refused.get_json()["definite"])
        self.assertEqual(self.client.get("/read/5").status_code, 200)
        self.assertEqual(self.client.get("/read/6").status_code, 404)
        self.assertEqual(self.client.delete("/delete/5").status_code, 200)
        self.assertEqual(self.write("6", "v" * 90).status_code, 200)


class TestChangingNodes(RouteTest):
    """What the engine does not do is said to be so, and nothing comes of it."""

    def seen(self):
        paths = ("/nodes", "/shards", "/events", "/read/greeting")
        return [self.client.get(path).get_data() for path in paths]

    def test_node_is_neither_added_nor_removed_and_nothing_is_changed(self):
        self.write()
        before = self.seen()

        for answer in (
            self.client.post("/nodes"),
            self.client.post("/nodes", json={}),
            self.client.post("/nodes", json={"url": "http://127.0.0.1:2380"}),
            self.client.delete("/nodes/0"),
            self.client.delete("/nodes/9"),
        ):
            self.assert_problem(answer, 409, "not_offered", "--nodes", "restore")

        self.assertEqual(self.seen(), before)


class TestApplication(unittest.TestCase):
    def test_applications_do_not_share_a_store(self):
        first = create_app(Settings(storage="memory"))
        second = create_app(Settings(storage="memory"))
        self.addCleanup(first.close)
        self.addCleanup(second.close)

        first.test_client().post("/write", json={"key": "greeting", "value": 1})

        self.assertEqual(second.test_client().get("/read/greeting").status_code, 404)

    def test_manager_that_was_handed_in_is_left_open(self):
        with open_manager() as manager:
            app = create_app(manager.settings, manager)

            app.close()

            self.assertEqual(manager.write("k", 1).key, "k")

    def test_tokens_are_not_among_the_settings_that_are_shown(self):
        settings = Settings(
            storage="memory", api_token="secret-token", read_token="weaker-token"
        )
        app = create_app(settings)
        self.addCleanup(app.close)
        headers = {"Authorization": "Bearer secret-token"}

        text = app.test_client().get("/config", headers=headers).get_data(as_text=True)

        self.assertEqual(json.loads(text)["nodes"], 3)
        self.assertNotIn("token", text)

    def test_password_of_etcd_is_shown_nowhere(self):
        settings = Settings(
            engine="etcd",
            etcd_endpoints=("http://10.0.0.1:2379",),
            etcd_user="us",
            etcd_password="hunter2",
        )
        with open_manager() as manager, patch.object(manager, "settings", settings):
            client = create_app(settings, manager).test_client()

            pages = ("/config", "/openapi.json", "/metrics", "/nodes", "/readyz")
            texts = [client.get(page).get_data(as_text=True) for page in pages]

        shown = json.loads(texts[0])
        self.assertEqual(shown["etcd_user"], "us")
        self.assertFalse({"etcd_password", "nodes", "storage"} & shown.keys())
        for text in texts:
            self.assertNotIn("hunter2", text)
            self.assertNotIn("etcd_password", text)


if __name__ == "__main__":
    unittest.main()
