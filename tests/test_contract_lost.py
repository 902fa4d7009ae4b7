"""Lost data, as every engine tells of it: no pause, and so nothing to wait for.

Nodes are failed here, so a store of these tests has its nodes to itself.
"""

import unittest

from tests.route_case import Contract


class TestLostData(Contract):
    own_nodes = True

    def setUp(self):
        super().setUp()
        self.assertEqual(self.write().status_code, 200)
        self.settle()

    def take_down(self, node, mode):
        answer = self.client.post(f"/fail/{node}", json={"mode": mode})
        self.assertEqual(answer.status_code, 200, answer.get_data())

    def lose_everything(self):
        for node in range(3):
            self.take_down(node, "wipe")

    def accept_loss(self, node):
        return self.client.post(f"/recover/{node}", json={"accept_loss": True})

    def answers(self):
        """One answer of each kind that needs the data, under its name."""
        one = {"consistency": "one"}
        client, any_version = self.client, {"If-Match": "*"}
        write = {"key": "greeting", "value": 1}
        return {
            "read": client.get("/read/greeting"),
            "read by query": self.read("greeting"),
            "read if changed": client.get(
                "/read/greeting", headers={"If-None-Match": '"x"'}
            ),
            "write": self.write(),
            "write that expires": client.post("/write", json={**write, "ttl": 60}),
            "create": self.write(headers={"If-None-Match": "*"}),
            "update": self.write(headers=any_version),
            "delete": self.delete("greeting"),
            "delete if there": client.delete("/delete/greeting", headers=any_version),
            "delete of no key": self.delete("none"),
            "keys": client.get("/keys"),
            "keys with a prefix": client.get("/keys", query_string={"prefix": "x"}),
            "records": client.get("/records"),
            "ready": client.get("/readyz"),
            "read at level one": client.get("/read/greeting", query_string=one),
            "write at level one": client.post("/write", json=write, query_string=one),
        }

    def test_lost_data_have_a_code_of_their_own_and_no_time_to_try_again(self):
        self.lose_everything()

        for name, answer in self.answers().items():
            with self.subTest(name):
                self.assert_problem(answer, 503, "data_lost", "accept_loss")
                self.assertNotIn("Retry-After", answer.headers)

    def test_copies_that_are_only_down_are_unavailable_and_worth_waiting_for(self):
        for node in range(3):
            self.take_down(node, "stop")

        for name, answer in self.answers().items():
            with self.subTest(name):
                self.assert_problem(answer, 503, "unavailable")
                self.assertEqual(answer.headers["Retry-After"], "1")

    def test_data_that_a_down_node_still_has_are_not_lost_though_another_was_wiped(
        self,
    ):
        self.take_down(0, "wipe")
        self.take_down(1, "stop")
        self.take_down(2, "stop")

        for name, answer in self.answers().items():
            with self.subTest(name):
                self.assert_problem(answer, 503, "unavailable")
        self.assertFalse(any("lost_shards" in node for node in self.nodes()))
        self.assertFalse(self.lost_in_the_map())

    def test_page_that_spans_lost_keys_and_keys_of_down_nodes_is_lost(self):
        self.take_down(2, "stop")
        self.take_down(0, "wipe")
        self.take_down(1, "wipe")

        for path in ("/keys", "/records", "/readyz"):
            with self.subTest(path):
                answer = self.client.get(path)
                self.assert_problem(answer, 503, "data_lost")
                self.assertNotIn("Retry-After", answer.headers)

    def test_each_operation_of_a_batch_tells_that_its_data_are_lost(self):
        self.lose_everything()

        operations = [
            {"op": "read", "key": "greeting"},
            {"op": "write", "key": "greeting", "value": 1},
            {"op": "delete", "key": "greeting"},
            {"op": "restore", "key": "new", "value": 1, "version": f"{9:020x}"},
        ]
        results = self.batch(*operations)

        told = {(result["status"], result["code"]) for result in results}
        self.assertEqual(told, {(503, "data_lost")})
        self.assertTrue(all(result["definite"] for result in results))

    def test_head_of_a_lost_key_differs_from_a_pause_by_its_headers(self):
        self.lose_everything()

        answer = self.client.head("/read/greeting")

        self.assertEqual(answer.status_code, 503)
        self.assertNotIn("Retry-After", answer.headers)

    def test_loss_is_told_by_nodes_shards_metrics_and_events_without_reading_prose(
        self,
    ):
        self.lose_everything()

        self.assertTrue(all(node["lost_shards"] > 0 for node in self.nodes()))
        self.assertTrue(self.lost_in_the_map())
        query = {"name[]": "kv_shards_lost"}
        page = self.client.get("/metrics", query_string=query).get_data(as_text=True)
        self.assertRegex(page, r"(?m)^kv_shards_lost [1-9]")
        for _ in range(100):
            events = self.client.get("/events").get_json()["events"]
            if "data_lost" in [event["kind"] for event in events]:
                break
            self.pass_time(0.1)
        self.assertIn("data_lost", [event["kind"] for event in events])
        failed = [event for event in events if event["kind"] == "node_failed"]
        self.assertEqual({event["mode"] for event in failed}, {"wipe"})

    def test_place_of_a_lost_key_is_told_and_none_of_it_is_in_sync(self):
        self.lose_everything()

        answer = self.client.get("/replicas/greeting")

        self.assertEqual(answer.status_code, 200)
        replicas = answer.get_json()["replicas"]
        self.assertFalse(any(replica["in_sync"] for replica in replicas))

    def test_nothing_of_a_request_that_was_told_of_a_loss_is_done_later(self):
        self.lose_everything()
        self.assert_problem(self.write("other", 1), 503, "data_lost")

        for node in range(3):
            answer = self.accept_loss(node)
            self.assertEqual(answer.status_code, 200, answer.get_data())

        self.assert_problem(self.read("other"), 404, "key_not_found")
        self.assertEqual(self.write("other", 2).status_code, 200)
        self.assertEqual(self.client.get("/readyz").status_code, 200)
        self.assertFalse(any("lost_shards" in node for node in self.nodes()))

    def lost_in_the_map(self):
        shards = self.client.get("/shards").get_json()["shards"]
        return any(shard["lost"] for shard in shards)


if __name__ == "__main__":
    unittest.main()
