"""What may be a key and a value, up to the limits, and comes back as it was written."""

import json
import unittest

from tests.route_case import Contract

MEBIBYTE = 1 << 20
LONG_KEYS = ("k" * 255, "é" * 127 + "k", "日" * 85, "😀" * 63 + "kkk", "/" * 255)


class TestLimits(Contract):
    def test_key_of_255_bytes_is_taken_by_every_route(self):
        for key in LONG_KEYS:
            with self.subTest(key=key[:3]):
                self.assertEqual(len(key.encode()), 255)
                version = self.write(key).get_json()["version"]
                self.settle()
                seen = self.client.get("/replicas", query_string={"key": key})

                self.assertEqual(self.read(key).get_json()["version"], version)
                self.assertEqual(seen.get_json()["replicas"][0]["version"], version)
                query = {"prefix": key}
                (listed,) = self.client.get("/keys", query_string=query).get_json()[
                    "keys"
                ]
                self.assertEqual(listed, {"key": key, "version": version})
                self.assertEqual(self.delete(key).get_json()["key"], key)

    def test_key_of_one_byte_more_is_refused_by_every_route(self):
        for key in (f"{key}x" for key in LONG_KEYS):
            with self.subTest(key=key[:3]):
                query = {"key": key}
                for answer in (
                    self.write(key),
                    self.read(key),
                    self.delete(key),
                    self.client.get("/replicas", query_string=query),
                ):
                    self.assert_problem(answer, 413, "too_large", "255", "256")
                results = self.batch(
                    {"op": "write", "key": key, "value": 1},
                    {"op": "read", "key": key},
                    {"op": "delete", "key": key},
                    {"op": "restore", "key": key, "value": 1, "version": f"{7:020x}"},
                )
                self.assertEqual({each["status"] for each in results}, {413})
        self.assertEqual(self.client.get("/keys").get_json()["keys"], [])

    def test_key_with_a_control_character_is_refused_by_every_route(self):
        for key in ("", "a\x00b", "\n", "a\x7f", "\x80", "\u009f"):
            with self.subTest(key=key):
                query = {"key": key}
                for answer in (
                    self.write(key),
                    self.read(key),
                    self.delete(key),
                    self.client.get("/replicas", query_string=query),
                ):
                    self.assert_problem(answer, 400, "invalid_request", "key")
        self.assertEqual(self.client.get("/keys").get_json()["keys"], [])

    def test_value_of_a_mebibyte_is_kept_to_the_byte_and_one_more_is_refused(self):
        whole = "é" * ((MEBIBYTE - 2) // 2)
        for name, value in (("text", whole), ("ascii", "v" * (MEBIBYTE - 2))):
            with self.subTest(name=name):
                body = json.dumps({"key": name, "value": value}, ensure_ascii=False)
                self.assertEqual(self.post("/write", body).status_code, 200)
                body = json.dumps({"key": name, "value": f"{value}x"})
                self.assert_problem(
                    self.write(name, f"{value}x"), 413, "too_large", "max_value_bytes"
                )
                self.assertEqual(self.read(name).get_json()["value"], value)
        ttl = {"key": "passing", "value": "v" * (MEBIBYTE - 2), "ttl": 60}
        self.assertEqual(self.client.post("/write", json=ttl).status_code, 200)
        matched = {"If-Match": self.read("ascii").headers["ETag"]}
        again = self.write("ascii", "w" * (MEBIBYTE - 2), headers=matched)
        self.assertEqual(again.status_code, 200)
        results = self.batch({"op": "write", "key": "b", "value": "v" * MEBIBYTE})
        self.assertEqual((results[0]["status"], results[0]["code"]), (413, "too_large"))

    def test_value_as_deep_as_allowed_and_the_smallest_are_kept(self):
        for text in ("[" * 127 + "]" * 127, "0", '""', "[]", "{}", "null", "false"):
            self.assertEqual(
                self.post("/write", f'{{"key":"k","value":{text}}}').status_code, 200
            )
            self.assertIn(f'"value":{text},', self.read("k").get_data(as_text=True))


class TestValues(Contract):
    def test_null_is_a_value_and_not_the_same_as_absent(self):
        made = self.write("k", None, headers={"If-None-Match": "*"})
        version = made.get_json()["version"]

        found = self.read("k").get_json()
        again = self.write("k", None, headers={"If-None-Match": "*"})

        self.assertIsNone(found["value"])
        self.assertEqual(found["version"], version)
        self.assert_problem(again, 412, "version_mismatch")
        self.assertEqual(len(self.client.get("/keys").get_json()["keys"]), 1)
        (record,) = self.client.get("/records").get_json()["records"]
        self.assertEqual(record, {"key": "k", "version": version, "value": None})
        self.assertEqual(self.delete("k").status_code, 200)
        self.assert_problem(self.read("k"), 404, "key_not_found")

    def test_value_is_the_same_text_however_it_is_written_and_read(self):
        texts = (
            "1.10", "-0", "1e400", "12345678901234567890123456789", '"\\u00e9\\/é😀"',
            '{ "b" : 1,"a":2, "b":\t3 }', "[1 ,2]",
        )  # fmt: skip
        for text in texts:
            with self.subTest(text=text):
                write = f'{{"op":"write","key":"k","value":{text}}}'
                restore = (
                    f'{{"op":"restore","key":"r{texts.index(text)}","value":{text},'
                    '"version":"01a203f300fc00000000"}'
                )
                read = '{"op":"read","key":"k"}'
                body = f'{{"operations":[{write},{restore},{read}]}}'

                answer = self.post("/batch", body).get_data(as_text=True)
                one = self.read("k").get_data(as_text=True)
                stale = self.client.get("/read/k?consistency=one").get_data(
                    as_text=True
                )
                records = self.client.get("/records").get_data(as_text=True)

                for found in (answer, one, stale, records):
                    self.assertIn(f'"value":{text}', found)
                self.assertEqual(records.count(f'"value":{text}'), 2)


class TestOddKeys(Contract):
    ODD = (
        "a/b", "a/", "/a", "/", "//", "a//b", ".", "..", "./a", "a/../b", "../../x", "%2F",
        "%", "?", "a?b=c", "#", "&=+;", " ", "a b", "+", "\\", '"', "'", "*", "k/", "d/",
        "nodes", "k", "\u00a0", "é", "e\u0301", "\ufffd", "\ufffe", "\uffff", "日本", "😀",
        "\U00010000", "\U0010ffff", "\u200b", "\u202e", "null", "next",
    )  # fmt: skip

    def test_odd_keys_are_neither_mixed_up_nor_lost(self):
        for number, key in enumerate(self.ODD):
            self.assertEqual(self.write(key, number).get_json()["key"], key)

        results = self.batch(*({"op": "read", "key": key} for key in self.ODD))
        listed = [
            each["key"]
            for page in self.pages("/keys", limit="7")
            for each in page["keys"]
        ]
        records = [
            (each["key"], each["value"])
            for page in self.pages("/records", limit="5")
            for each in page["records"]
        ]

        self.assertEqual(
            [(each["key"], each["value"]) for each in results],
            [(key, number) for number, key in enumerate(self.ODD)],
        )
        self.assertEqual(listed, sorted(self.ODD))
        self.assertEqual(records, [(key, self.ODD.index(key)) for key in listed])
        for key in self.ODD:
            found = self.read(key).get_json()
            self.assertEqual((found["key"], found["value"]), (key, self.ODD.index(key)))
            place = self.client.get("/replicas", query_string={"key": key}).get_json()
            self.assertEqual(place["key"], key)
            self.assertEqual(self.delete(key).get_json()["key"], key)
        self.assertEqual(self.client.get("/keys").get_json()["keys"], [])

    def test_key_is_absent_where_only_its_neighbours_are_there(self):
        for key in self.ODD:
            self.write(f"{key}x")
            self.write(f"x{key}")
        for key in set(self.ODD) - {f"{key}x" for key in self.ODD}:
            never = self.assert_problem(self.read(key), 404, "key_not_found")
            self.assertNotIn("deleted", never)
            self.assert_problem(self.delete(key), 404, "key_not_found")


if __name__ == "__main__":
    unittest.main()
