"""Keys and records in pages, batches and restores, as every engine has them."""

import unittest
from itertools import chain

from tests.route_case import Contract

VALUE_BYTES = 700_000
PAGE_BYTES = 4 << 20  # of keys and values in one page of records, at most
LAST = "\U0010ffff"  # the last character: there is no prefix after it
VERSION = "01a203f300fc00000000"


class TestListing(Contract):
    def put(self, *keys):
        writes = ({"op": "write", "key": key, "value": key} for key in keys)
        self.assertEqual({each["status"] for each in self.batch(*writes)}, {200})

    def listed(self, **query):
        pages = self.pages("/keys", **query)
        return [each["key"] for page in pages for each in page["keys"]]

    def test_every_one_of_many_keys_is_listed_once_and_in_order(self):
        keys = [f"{number * 7919 % 1201:04}" for number in range(1201)]
        self.put(*keys)
        for gone in keys[::100]:
            self.delete(gone)
        held = sorted(set(keys) - set(keys[::100]))

        for query, size in (
            ({"limit": "1000"}, 1000),
            ({"limit": "117"}, 117),
            ({}, 100),
        ):
            with self.subTest(size=size):
                pages = self.pages("/keys", **query)
                found = [[each["key"] for each in page["keys"]] for page in pages]

                self.assertEqual(list(chain(*found)), held)
                self.assertEqual({len(each) for each in found[:-1]}, {size})
                for page in pages[:-1]:
                    self.assertEqual(page["next"], page["keys"][-1]["key"])
        records = self.pages("/records", limit="1000")
        self.assertEqual([r["key"] for page in records for r in page["records"]], held)

    def test_page_that_ends_with_the_last_key_has_no_next(self):
        self.put("a", "b", "c")
        for path, field in (("/keys", "keys"), ("/records", "records")):
            for limit, count, next_ in (("2", 2, "b"), ("3", 3, None), ("4", 3, None)):
                page = self.client.get(f"{path}?limit={limit}").get_json()
                self.assertEqual((len(page[field]), page["next"]), (count, next_))
            for after in ("c", "d", LAST):
                page = self.client.get(f"{path}?after={after}").get_json()
                self.assertEqual(page, {field: [], "next": None})

    def test_keys_are_in_the_order_of_their_code_points(self):
        keys = [
            "!", "A", "Z", "a", "ab", "a ", "a/", "b", "z", "~", "\u00a0", "é", "e\u0301",
            "\ud7ff", "\ue000", "\uffff", "\U00010000", "😀", LAST, LAST * 2, f"{LAST}a",
        ]  # fmt: skip
        self.put(*reversed(keys))

        self.assertEqual(self.listed(), sorted(keys))
        for limit in ("1", "2", "4"):
            self.assertEqual(self.listed(limit=limit), sorted(keys))
        for after in [*keys, "aa", "\ud7ff~", "\ufffe", "B"]:
            wanted = [key for key in sorted(keys) if key > after]
            self.assertEqual(self.listed(after=after), wanted)

    def test_prefix_is_of_whole_characters_and_chooses_no_neighbours(self):
        keys = [
            "a", "a\u007e", "aa", "b", "é", "éa", "ê", "ß", "\u07ff", "\u0800", "\uffff",
            "\U00010000", "\U0010fffe", LAST, f"{LAST}a", LAST * 2, f"{LAST}b", "k/", "d/",
            f"a{LAST}", f"a{LAST}b",
        ]  # fmt: skip
        self.put(*keys)

        for prefix in ["", "c", "a/", *keys, LAST * 3, "\U0010fffd", "Ã"]:
            wanted = sorted(key for key in keys if key.startswith(prefix))
            self.assertEqual(self.listed(prefix=prefix), wanted, prefix)
            self.assertEqual(self.listed(prefix=prefix, limit="1"), wanted, prefix)
            for after in ("a", "é", LAST, f"{LAST}a"):
                left = [key for key in wanted if key > after]
                self.assertEqual(self.listed(prefix=prefix, after=after), left)

    def test_listing_that_makes_no_sense_is_refused(self):
        for path in ("/keys", "/records"):
            for query in ("limit=0", "limit=1001", "limit=x", "limit=", "after=%ff",
                          "after=a&after=b", "before=a", "limit=1.0", "limit=-1"):  # fmt: skip
                answer = self.client.get(f"{path}?{query}")
                self.assert_problem(answer, 400, "invalid_request")
        self.assert_problem(
            self.client.get("/records?prefix=a"), 400, "invalid_request", "prefix"
        )

    def test_page_of_large_values_is_bounded_and_the_next_goes_on(self):
        keys = [f"{number:02}" for number in range(9)]
        for key in keys:
            self.assertEqual(self.write(key, "v" * VALUE_BYTES).status_code, 200)
        self.write("05", "v" * ((1 << 20) - 2))

        pages = self.pages("/records", limit="1000")

        found = [[each["key"] for each in page["records"]] for page in pages]
        self.assertEqual(list(chain(*found)), keys)
        for page in pages:
            size = sum(len(each["value"]) for each in page["records"])
            self.assertLess(size, PAGE_BYTES)
        self.assertGreaterEqual(len(found[0]), 4)
        for page in self.pages("/records", limit="2"):
            self.assertLessEqual(len(page["records"]), 2)


class TestBatch(Contract):
    def test_each_operation_has_the_status_of_its_own_route(self):
        self.write("old")
        results = self.batch(
            {"op": "write", "key": "a", "value": None, "ttl": 60},
            {"op": "write", "key": "a", "value": [1]},
            {"op": "read", "key": "a"},
            {"op": "read", "key": "never"},
            {"op": "delete", "key": "never"},
            {"op": "delete", "key": "old"},
            {"op": "delete", "key": "old"},
            {"op": "write", "key": "k" * 256, "value": 1},
            {"op": "write", "key": "a", "value": 1, "ttl": 0},
            {"op": "write", "key": "a", "valeu": 1},
            {"op": "read", "key": "a", "value": 1},
            {"op": "restore", "key": "a", "value": 1, "version": f"{1:020x}"},
            {"op": "restore", "key": "new", "value": 7, "version": VERSION},
            {"op": "read", "key": "new"},
            {"key": "a"},
            [],
        )

        self.assertEqual(
            [each["status"] for each in results],
            [200, 200, 200, 404, 404, 200, 404, 413, 400, 400, 400, 412, 200, 200, 400, 400],
        )  # fmt: skip
        held = results[1]["version"]
        self.assertEqual((results[2]["value"], results[2]["version"]), ([1], held))
        self.assertNotIn("deleted", results[3])
        self.assertEqual(results[6]["version"], results[5]["version"])
        self.assertEqual(results[11]["version"], held)
        self.assertEqual(results[13]["value"], 7)
        for each in results:
            if each["status"] == 200:
                self.assertLessEqual({"key", "version", "replicas"}, each.keys())
            else:
                self.assertIs(each["definite"], True)
                self.assertTrue(each["code"] and each["detail"] and each["title"])
        self.assertEqual(self.read("a").get_json()["version"], held)

    def test_body_that_is_no_batch_does_nothing(self):
        write = '{"op":"write","key":"a","value":1}'
        for text in (
            "{}", "[]", f"[{write}]", f'{{"operations":{write}}}', '{"operations":null}',
            f'{{"operations":[{write}],"atomic":true}}', f'{{"operations":[{write}]',
            f'{{"operations":[{write},{{"op":"write","key":"b","value":NaN}}]}}',
        ):  # fmt: skip
            with self.subTest(text=text):
                self.assert_problem(self.post("/batch", text), 400, "invalid_request")
        body = {"operations": [{"op": "write", "key": "a", "value": 1}] * 1001}
        many = self.client.post("/batch", json=body)
        self.assert_problem(many, 413, "too_large", "1000", "1001")
        self.assertEqual(self.client.post("/batch", json={"operations": []}).get_json(),
                         {"results": []})  # fmt: skip
        self.assert_problem(self.read("a"), 404, "key_not_found")


class TestRestore(Contract):
    def restore(self, *records):
        return self.batch(*({"op": "restore", **each} for each in records))

    def records(self):
        pages = self.pages("/records")
        return [each for page in pages for each in page["records"]]

    def assert_alike(self, restored, records):
        """All of the records of a backup is there again, as far as the engine can."""
        for one, other in zip(restored, records, strict=True):
            self.assertEqual((one["key"], one["value"]), (other["key"], other["value"]))
            if self.engine.keeps_versions:
                self.assertEqual(one["version"], other["version"])
            ends, end = (each.get("expires_at_ms", 0) for each in (one, other))
            self.assertIn(ends - end, range(2 * self.engine.ttl_step_ms))
            self.assertEqual(bool(ends), bool(end))

    def test_backup_comes_back_in_an_empty_store_and_again_changes_nothing(self):
        self.write("a", {"n": 1.50})
        self.client.post("/write", json={"key": "b", "value": 2, "ttl": 100_000})
        self.write("c", None)
        self.write("gone")
        self.delete("gone")
        records = self.records()
        self.assertEqual([set(each) - {"expires_at_ms"} for each in records],
                         [{"key", "version", "value"}] * 3)  # fmt: skip
        self.client = self.open_app().test_client()

        first = self.restore(*records)
        held = self.records()
        again = self.restore(*records)

        self.assertEqual([each["status"] for each in first], [200] * 3)
        self.assertEqual([each["status"] for each in again], [412] * 3)
        self.assert_alike(held, records)
        told = [each["version"] for each in held]
        self.assertEqual([each["version"] for each in first], told)
        self.assertEqual([each["version"] for each in again], told)
        self.assertEqual(self.records(), held)

    def test_restored_key_is_one_like_any_other(self):
        (made,) = self.restore({"key": "k", "version": VERSION, "value": 1})
        version = made["version"]

        found = self.read("k").get_json()
        self.assertEqual((found["value"], found["version"]), (1, version))
        if self.engine.keeps_versions:
            self.assertEqual(version, VERSION)
        again = self.write("k", 2, headers={"If-Match": f'"{version}"'})
        self.assertEqual(again.status_code, 200)
        self.assertGreater(again.get_json()["version"], version)

    def test_restore_writes_over_neither_a_value_nor_a_delete_that_is_newer(self):
        version = self.write("held", "old").get_json()["version"]
        newer = self.write("held", "new").get_json()["version"]
        self.write("deleted")
        gone = self.delete("deleted").get_json()["version"]
        same = {"key": "held", "version": newer, "value": "other"}

        results = self.restore(
            {"key": "held", "version": version, "value": "old"},
            same,
            {"key": "deleted", "version": version, "value": "old"},
        )

        self.assertEqual({each["status"] for each in results}, {412})
        self.assertEqual({each["code"] for each in results}, {"version_mismatch"})
        told = [each["version"] for each in results]
        self.assertEqual(told, [newer, newer, gone])
        self.assertEqual(self.read("held").get_json()["value"], "new")
        self.assertIs(self.read("deleted").get_json()["deleted"], True)

    def test_restored_key_ends_when_it_would_have(self):
        self.client.post("/write", json={"key": "sample", "value": 1, "ttl": 1})
        now_ms = self.records()[0]["expires_at_ms"]
        old = {"version": VERSION, "value": 1}

        past, *results = self.restore(
            {"key": "past", "expires_at_ms": now_ms - 90_000, **old},
            {"key": "soon", "expires_at_ms": now_ms + 1_000, **old},
            {"key": "later", "expires_at_ms": now_ms + 90_000, **old},
            {"key": "in centuries", "expires_at_ms": (1 << 47) - 1, **old},
            {"key": "never", **old},
        )
        if self.engine.writes_what_ended:
            self.assertEqual(past["status"], 200)
        else:
            self.assertEqual((past["status"], past["version"]), (412, None))
        self.assertEqual({each["status"] for each in results}, {200})
        deadline = self.now() + 8
        while self.read("soon").status_code != 404 and self.now() < deadline:
            self.pass_time(0.1)

        self.assertEqual(
            [each["key"] for each in self.records()], ["in centuries", "later", "never"]
        )
        self.assert_problem(self.read("past"), 404, "key_not_found")

    def test_restore_of_what_cannot_be_is_refused_and_nothing_written(self):
        good = {"key": "a", "version": VERSION, "value": 1}
        for name, wrong in (
            ("version", "x"), ("version", 7), ("version", "f" * 20), ("version", "0" * 20),
            ("version", VERSION.upper()), ("version", VERSION[1:]), ("version", None),
            ("expires_at_ms", -1), ("expires_at_ms", 1 << 60), ("expires_at_ms", 1.5),
            ("expires_at_ms", 1 << 47), ("key", ""), ("ttl", 1),
        ):  # fmt: skip
            with self.subTest(name=name, wrong=wrong):
                (result,) = self.restore({**good, name: wrong})
                refused = (result["status"], result["code"])
                self.assertEqual(refused, (400, "invalid_request"))
        self.assertEqual(self.records(), [])


if __name__ == "__main__":
    unittest.main()
