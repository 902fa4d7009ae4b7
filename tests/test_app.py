"""The routes of the store, as a client without a network sees them.

Plain unittest on Flask's test client, so that it runs under both runners. What is a
`Contract` runs over every engine.
"""

import unittest
from unittest.mock import patch

from models import Timeout, Uncertain
from tests.route_case import Contract, RouteTest

HELLO = {"key": "greeting", "value": "hello"}


class TestWrite(Contract):
    def test_written_value_is_acknowledged_with_its_replicas_and_version(self):
        answer = self.write()

        body = answer.get_json()
        self.assertEqual(answer.status_code, 200)
        self.assertEqual(set(body), {"key", "version", "replicas", "missed"})
        self.assertEqual((body["key"], body["missed"]), ("greeting", []))
        self.assertEqual(len(body["replicas"]), self.engine.acknowledged_by)
        self.assertEqual(answer.headers["ETag"], f'"{body["version"]}"')

    def test_versions_grow_with_every_write_and_delete_of_a_key(self):
        first = self.write().get_json()["version"]
        deleted = self.client.delete("/delete/greeting").get_json()["version"]
        again = self.write().get_json()["version"]

        self.assertLess(first, deleted)
        self.assertLess(deleted, again)

    def test_value_comes_back_as_the_text_that_was_sent(self):
        texts = [
            "null", "true", "0", "-0", "1.10", "1e400", "12345678901234567890123456789",
            "0.1000000000000000055511151231257827", '""', '"\\u00e9\\/"', '"é😀"',
            '[ 1 ,  2 ]', '{"b":1,"a":{"b":1},"b":2}', "[" * 127 + "]" * 127,
        ]  # fmt: skip
        for text in texts:
            with self.subTest(text=text):
                answer = self.post("/write", f'{{"key": "k", "value": {text} }}')
                self.assertEqual(answer.status_code, 200, answer.get_data())

                body = self.client.get("/read/k").get_data(as_text=True)

                self.assertIn(f'"value":{text},"version"', body)

    def test_value_expires_after_its_ttl_and_a_bad_ttl_is_refused(self):
        self.assertEqual(
            self.post("/write", '{"key":"k","value":1,"ttl":60}').status_code, 200
        )
        for ttl in ("0", "-1", '"5"', "true", "1e400", "[]"):
            with self.subTest(ttl=ttl):
                answer = self.post("/write", f'{{"key":"j","value":1,"ttl":{ttl}}}')
                self.assert_problem(answer, 400, "invalid_request", "ttl")
        self.assertEqual(self.client.get("/read/j").status_code, 404)

    def test_mistyped_field_is_refused_and_the_right_one_named(self):
        answer = self.client.post("/write", json={**HELLO, "tll": 5})

        self.assert_problem(answer, 400, "invalid_request", "'tll'", "'ttl'")
        self.assertEqual(self.client.get("/read/greeting").status_code, 404)

    def test_field_given_twice_is_refused_however_it_is_spelt(self):
        for text in (
            '{"key":"k","value":1,"value":2}',
            '{"key":"j","key":"k","value":1}',
            '{"key":"k","value":1,"val\\u0075e":2}',
        ):
            with self.subTest(text=text):
                self.assert_problem(
                    self.post("/write", text), 400, "invalid_request", "twice"
                )
        self.assertEqual(self.client.get("/keys").get_json()["keys"], [])

    def test_value_that_holds_the_names_of_fields_is_no_repetition(self):
        value = '{"key":{"value":1,"ttl":"\\u0001"},"value":["key","value"]}'

        answer = self.post("/write", f'{{"key":"k","value":{value}}}')

        self.assertEqual(answer.status_code, 200, answer.get_data())

    def test_broken_json_is_refused_with_where_it_broke(self):
        for text, *words in (
            ('{"key":"k","value":1', "line 1", "char 20"),
            ('{"key":"k",\n"value":1,}', "line 2"),
            ('{"key":"k","value":NaN}', "NaN is not JSON"),
            ('{"key":"k","value":-Infinity}', "-Infinity is not JSON"),
            ('{"key":"k","value":"\\ud800"}', "surrogate", "char 20"),
            ('{"key":"k","value":"\\udc00x"}', "surrogate"),
            ("", "not JSON"),
            ("[]", "object"),
            ('{"key":"k"}', "value"),
            ('{"key":5,"value":1}', "$.key"),
            (b'{"key":"k","value":"\xff"}', "UTF-8", "byte 20"),
            ('{"key":"k","value":' + "[" * 9_000 + "]" * 9_000 + "}", "nested"),
        ):
            with self.subTest(text=text[:40]):
                self.assert_problem(
                    self.post("/write", text), 400, "invalid_request", *words
                )
        self.assertEqual(self.client.get("/keys").get_json()["keys"], [])

    def test_body_sent_as_something_else_is_refused_with_the_call_that_works(self):
        for kind in (None, "text/plain", "application/x-www-form-urlencoded",
                     "application/json; charset=latin-1"):  # fmt: skip
            with self.subTest(kind=kind):
                answer = self.post("/write", '{"key":"k","value":1}', kind)
                self.assert_problem(
                    answer, 415, "not_json",
                    "curl -X POST http://localhost/write -H 'Content-Type: application/json'",
                )  # fmt: skip
        for kind in (
            "application/json; charset=utf-8",
            'Application/JSON; charset="UTF-8"',
        ):
            with self.subTest(kind=kind):
                answer = self.post("/write", '{"key":"k","value":1}', kind)
                self.assertEqual(answer.status_code, 200)

    def test_key_that_could_not_be_read_back_is_refused(self):
        for key, status in (("", 400), ("a\0b", 400), ("\x7f", 400), ("é" * 128, 413)):
            with self.subTest(key=key[:5]):
                code = "too_large" if status == 413 else "invalid_request"
                self.assert_problem(self.write(key), status, code)

    def test_body_that_was_cut_off_is_refused(self):
        answer = self.client.post(
            "/fail/0",
            content_type="application/json",
            environ_overrides={"CONTENT_LENGTH": "9"},
        )

        self.assert_problem(answer, 400, "invalid_request", "Content-Length")
        self.assertEqual(
            self.client.get("/nodes").get_json()["nodes"][0]["status"], "up"
        )


class TestRead(Contract):
    def test_value_is_read_with_its_version(self):
        version = self.write().get_json()["version"]

        answer = self.client.get("/read/greeting")

        body = answer.get_json()
        self.assertEqual(set(body), {"key", "value", "version", "replicas"})
        self.assertEqual((body["value"], body["version"]), ("hello", version))
        self.assertEqual(answer.headers["ETag"], f'"{version}"')

    def test_absent_and_deleted_keys_are_told_apart(self):
        self.write()
        version = self.client.delete("/delete/greeting").get_json()["version"]

        never = self.assert_problem(self.client.get("/read/x"), 404, "key_not_found")
        gone = self.assert_problem(
            self.client.get("/read/greeting"), 404, "key_not_found"
        )

        self.assertNotIn("deleted", never)
        self.assertEqual((gone["deleted"], gone["version"]), (True, version))

    def test_reader_who_has_the_version_gets_no_body(self):
        version = self.write().get_json()["version"]
        for header in (f'"{version}"', f'W/"{version}"', f'"x", "{version}"', "*"):
            with self.subTest(header=header):
                answer = self.client.get(
                    "/read/greeting", headers={"If-None-Match": header}
                )
                self.assertEqual((answer.status_code, answer.get_data()), (304, b""))
                self.assertEqual(answer.headers["ETag"], f'"{version}"')
        answer = self.client.get("/read/greeting", headers={"If-None-Match": '"x"'})
        self.assertEqual(answer.status_code, 200)

    def test_stale_level_says_that_it_may_be_stale(self):
        self.write()

        answer = self.client.get("/read/greeting?consistency=one")

        self.assertIs(answer.get_json()["may_be_stale"], True)

    def test_level_that_is_not_offered_is_refused_and_those_that_are_named(self):
        self.write()
        for call in (
            self.client.get("/read/greeting?consistency=two"),
            self.client.delete("/delete/greeting?consistency=two"),
            self.client.post("/write?consistency=two", json=HELLO),
        ):
            self.assert_problem(call, 400, "invalid_request", "linearizable, one")
        empty = self.client.get("/read/greeting?consistency=")
        self.assert_problem(empty, 400, "invalid_request", "consistency")
        self.assertEqual(self.client.get("/read/greeting").status_code, 200)

    def test_unknown_or_repeated_parameter_is_refused(self):
        for query, word in (("consistancy=one", "consistency"), ("x", "consistency"),
                            ("consistency=one&consistency=one", "twice"),
                            ("consistency=%ff", "cannot be read")):  # fmt: skip
            with self.subTest(query=query):
                answer = self.client.get(f"/read/greeting?{query}")
                self.assert_problem(answer, 400, "invalid_request", word)

    def test_head_of_a_read_has_the_headers_and_no_body(self):
        self.write()

        answer = self.client.head("/read/greeting")

        self.assertEqual((answer.status_code, answer.get_data()), (200, b""))
        self.assertIn("ETag", answer.headers)


class TestConditions(Contract):
    def test_write_over_the_version_it_names_succeeds_once(self):
        version = self.write().get_json()["version"]
        headers = {"If-Match": f'"none", "{version}"'}

        first = self.write(value="second", headers=headers)
        second = self.write(value="third", headers=headers)

        self.assertEqual(first.status_code, 200)
        problem = self.assert_problem(second, 412, "version_mismatch")
        self.assertEqual(problem["version"], first.get_json()["version"])
        self.assertEqual(
            self.client.get("/read/greeting").get_json()["value"], "second"
        )

    def test_create_only_write_does_not_overwrite(self):
        headers = {"If-None-Match": "*"}

        self.assertEqual(self.write(headers=headers).status_code, 200)
        self.assert_problem(self.write(headers=headers), 412, "version_mismatch")
        self.client.delete("/delete/greeting")
        self.assertEqual(self.write(headers=headers).status_code, 200)

    def test_update_only_write_does_not_create(self):
        answer = self.write(headers={"If-Match": "*"})

        problem = self.assert_problem(answer, 412, "version_mismatch")
        self.assertIsNone(problem["version"])
        self.assertEqual(self.client.get("/read/greeting").status_code, 404)

    def test_delete_of_another_version_keeps_the_value(self):
        version = self.write().get_json()["version"]

        missed = self.client.delete("/delete/greeting", headers={"If-Match": '"x"'})
        done = self.client.delete(
            "/delete/greeting", headers={"If-Match": f'"{version}"'}
        )

        self.assert_problem(missed, 412, "version_mismatch")
        self.assertEqual(done.status_code, 200)

    def test_condition_that_is_not_understood_stops_the_write(self):
        for name, text, word in (
            ("If-Match", "abc", "double quotes"),
            ("If-Match", "", "double quotes"),
            ("If-Match", '"a" "b"', "double quotes"),
            ("If-Match", 'W/"a"', "without it"),
            ("If-None-Match", '"a"', "If-Match"),
        ):
            with self.subTest(name=name, text=text):
                answer = self.write(headers={name: text})
                self.assert_problem(answer, 400, "invalid_request", word)
        self.assertEqual(self.client.get("/read/greeting").status_code, 404)

    def test_condition_that_a_route_has_no_use_for_is_not_ignored(self):
        version = self.write().get_json()["version"]
        for method, name in (("GET", "If-Match"), ("DELETE", "If-None-Match")):
            path = {"GET": "/read/greeting", "DELETE": "/delete/greeting"}[method]
            answer = self.client.open(
                path, method=method, headers={name: f'"{version}"'}
            )
            self.assert_problem(answer, 400, "invalid_request", name)
        self.assertEqual(self.client.get("/read/greeting").status_code, 200)


class TestKeys(Contract):
    ODD = (
        "a/b", "/", "//", "a//b", "/a/", ".", "..", "a/../b", "%2F", "%", "?", "a?b=c",
        "#", "&=+;", " ", "a b", "+", "é", "日本", "😀", "\\", '"', "key", "null",
    )  # fmt: skip

    def test_odd_keys_are_read_and_deleted_as_they_were_written(self):
        for number, key in enumerate(self.ODD):
            self.assertEqual(self.write(key, number).status_code, 200)
        for number, key in enumerate(self.ODD):
            with self.subTest(key=key):
                # The test client would take a path apart; the environment is the truth.
                path = f"/read/{key}".encode().decode("latin-1")
                by_path = self.client.get(
                    "/", environ_overrides={"PATH_INFO": path}
                ).get_json()
                by_query = self.client.get(
                    "/read", query_string={"key": key}
                ).get_json()
                self.assertEqual((by_path["key"], by_path["value"]), (key, number))
                self.assertEqual(by_query, by_path)
        for key in self.ODD:
            answer = self.client.delete("/delete", query_string={"key": key})
            self.assertEqual(answer.get_json()["key"], key)

    def test_path_that_is_not_utf8_is_refused_rather_than_mended(self):
        self.write("\ufffd")

        answer = self.client.get("/", environ_overrides={"PATH_INFO": "/read/\xff"})
        in_query = self.client.get("/read", query_string={"key": "\ufffd"})

        self.assert_problem(answer, 400, "invalid_request", "UTF-8", "?key=")
        self.assertEqual(in_query.get_json()["key"], "\ufffd")

    def test_route_without_a_key_says_where_to_put_it(self):
        for path in ("/read", "/replicas"):
            self.assert_problem(self.client.get(path), 400, "invalid_request", "?key=")
        self.assert_problem(self.client.get("/read/"), 400, "invalid_request", "empty")


class TestNodesOfAnyEngine(Contract):
    def test_unknown_node_or_mode_is_refused_and_the_known_named(self):
        for path in ("/fail/7", "/recover/7"):
            self.assert_problem(
                self.client.post(path), 404, "node_not_found", "0, 1, 2"
            )
        answer = self.client.post("/fail/0", json={"mode": "melt"})
        self.assert_problem(answer, 400, "invalid_request", self.engine.fail_modes)
        wrong = ('{"mood":"stop"}', '{"mode":1}', '{"mode":null}', '{"mode":""}')
        for text in (*wrong, "[]", "{"):
            self.assert_problem(self.post("/fail/0", text), 400, "invalid_request")
        statuses = {n["status"] for n in self.client.get("/nodes").get_json()["nodes"]}
        self.assertEqual(statuses, {"up"})


class TestNodes(RouteTest):
    def test_failed_node_is_shown_down_and_comes_back_with_what_it_missed(self):
        self.client.post("/fail/0")
        for number in range(20):
            self.write(f"key-{number}")

        nodes = self.client.get("/nodes").get_json()
        back = self.client.post("/recover/0").get_json()

        self.assertEqual([n["status"] for n in nodes["nodes"]], ["down", "up", "up"])
        self.assertEqual(
            set(nodes), {"nodes", "replication_factor", "protocol", "placement"}
        )
        self.assertEqual(back["status"], "up")
        self.assertGreater(back["recovery"]["copied"], 0)
        self.assertEqual(
            set(back["recovery"]), {"copied", "removed", "bytes", "seconds"}
        )

    def test_repeated_failure_or_recovery_changes_nothing(self):
        for path in ("/recover/1", "/fail/1", "/fail/1", "/recover/1", "/recover/1"):
            self.assertEqual(self.client.post(path).status_code, 200)

    def test_wiped_node_is_rebuilt_from_its_peers(self):
        for number in range(20):
            self.write(f"key-{number}")
        before = self.client.get("/nodes").get_json()["nodes"][0]["keys"]

        wiped = self.client.post("/fail/0", json={"mode": "wipe"}).get_json()
        back = self.client.post("/recover/0", json={"accept_loss": False}).get_json()

        self.assertEqual((wiped["status"], wiped["keys"]), ("down", 0))
        self.assertEqual((back["status"], back["keys"]), ("up", before))

    def test_key_without_a_live_replica_is_unavailable_and_nothing_happens(self):
        self.write()
        replicas = self.client.get("/replicas/greeting").get_json()["replica_set"]
        for node in replicas:
            self.client.post(f"/fail/{node}")

        for answer in (
            self.write(value="lost"),
            self.client.get("/read/greeting"),
            self.client.delete("/delete/greeting"),
            self.client.get("/readyz"),
        ):
            self.assert_problem(answer, 503, "unavailable")
            self.assertEqual(answer.headers["Retry-After"], "1")
        for node in replicas:
            self.client.post(f"/recover/{node}")
        self.assertEqual(self.client.get("/read/greeting").get_json()["value"], "hello")
        self.assertEqual(self.client.get("/readyz").status_code, 200)


class TestFailures(Contract):
    def test_write_of_unknown_outcome_is_not_called_a_failure(self):
        with patch.object(self.app.store, "write", side_effect=Uncertain("may show")):
            answer = self.write()

        self.assert_problem(answer, 504, "uncertain", definite=False)
        self.assertEqual(answer.headers["Retry-After"], "1")

    def test_read_that_ran_out_of_time_may_be_repeated(self):
        with patch.object(self.app.store, "read", side_effect=Timeout("too late")):
            answer = self.client.get("/read/greeting")

        self.assert_problem(answer, 504, "timeout")

    def test_unexpected_error_shows_nothing_and_is_logged_with_the_request(self):
        broken = patch.object(self.app.store, "write", side_effect=KeyError("secret"))
        with broken, self.assertLogs("app", "ERROR") as logged:
            answer = self.write(headers={"X-Request-Id": "mine-1"})

        self.assert_problem(answer, 500, "internal", definite=False)
        self.assertNotIn("secret", answer.get_data(as_text=True))
        self.assertIn("mine-1", logged.output[0])
        self.assertIn("KeyError", logged.output[0])

    def test_unknown_route_and_method_are_problems_too(self):
        self.assert_problem(self.client.get("/nope"), 404, "not_found", "/docs")
        self.assert_problem(self.client.post("/nodes/"), 404, "not_found")
        self.assert_problem(self.client.post("/fail/x"), 404, "not_found")
        answer = self.client.get("/write")
        self.assert_problem(answer, 405, "method_not_allowed", "POST")
        self.assertIn("POST", answer.headers["Allow"])

    def test_request_keeps_its_callers_id_if_that_is_a_sane_one(self):
        for given, kept in (("a.B_c-1", True), ("x" * 64, True), ("x" * 65, False),
                            ("a b", False), ("", False), ("é", False)):  # fmt: skip
            with self.subTest(given=given):
                answer = self.client.get("/nope", headers={"X-Request-Id": given})
                self.assertEqual(answer.headers["X-Request-Id"] == given, kept)
        names = {self.client.get("/nodes").headers["X-Request-Id"] for _ in range(50)}
        self.assertEqual(len(names), 50)

    def test_every_answer_may_be_neither_stored_nor_guessed_at(self):
        for answer in (
            self.client.get("/nodes"),
            self.client.get("/nope"),
            self.write(),
        ):
            self.assertEqual(answer.headers["X-Content-Type-Options"], "nosniff")
            self.assertEqual(answer.headers["Cache-Control"], "no-store")


if __name__ == "__main__":
    unittest.main()
