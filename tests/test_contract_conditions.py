"""Versions and the conditions on them, as every engine has them."""

import unittest
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from threading import Barrier

from tests.route_case import Contract


class TestVersions(Contract):
    def test_version_grows_with_everything_that_changes_the_key(self):
        versions = []
        for _ in range(3):
            for value in (1, 1, None):  # the same value again is a write too
                versions.append(self.write(value=value).get_json()["version"])
            versions.append(self.delete("greeting").get_json()["version"])
        body = {"key": "greeting", "value": 1, "ttl": 60}
        versions.append(self.client.post("/write", json=body).get_json()["version"])

        self.assertEqual(versions, sorted(set(versions)))
        for version in versions:
            self.assertRegex(version, r"\A[0-7][0-9a-f]{19}\Z")

    def test_every_answer_tells_the_one_version_that_the_key_has(self):
        for write in (lambda: self.write(), lambda: self.write(value=2)):
            version = write().get_json()["version"]
            self.settle()

            (listed,) = self.client.get("/keys").get_json()["keys"]
            (record,) = self.client.get("/records").get_json()["records"]
            (result,) = self.batch({"op": "read", "key": "greeting"})
            found = self.client.get("/replicas/greeting").get_json()["replicas"]
            told = [each["version"] for each in (listed, record, result, *found)]

            self.assertEqual(set(told), {version})
            self.assertEqual(self.read("greeting").get_json()["version"], version)

    def test_change_that_is_refused_changes_no_version(self):
        version = self.write().get_json()["version"]

        self.write(headers={"If-None-Match": "*"})
        self.write(headers={"If-Match": '"x"'})
        self.write(value="v" * (1 << 20))
        self.client.delete("/delete/greeting", headers={"If-Match": '"x"'})
        self.client.delete("/delete/another")

        self.assertEqual(self.read("greeting").get_json()["version"], version)

    def test_deleted_key_keeps_the_version_of_its_delete_until_it_is_written(self):
        self.write()
        version = self.delete("greeting").get_json()["version"]

        for answer in (
            self.read("greeting"),
            self.delete("greeting"),
            self.client.delete("/delete/greeting", headers={"If-Match": "*"}),
            self.client.head("/read/greeting"),
        ):
            self.assertEqual(answer.status_code, 404)
            if answer.get_data():
                gone = self.assert_problem(answer, 404, "key_not_found")
                self.assertEqual((gone["deleted"], gone["version"]), (True, version))
        for condition in ({"If-Match": f'"{version}"'}, {"If-Match": "*"}):
            missed = self.write(headers=condition)
            problem = self.assert_problem(missed, 412, "version_mismatch")
            self.assertIsNone(problem["version"])
        self.assertGreater(self.write().get_json()["version"], version)

    def test_key_that_never_was_has_no_version_to_tell(self):
        self.write("greetings")
        for answer in (self.read("greeting"), self.delete("greeting")):
            never = self.assert_problem(answer, 404, "key_not_found")
            self.assertFalse({"version", "deleted"} & never.keys())
        found = self.client.get("/replicas/greeting").get_json()["replicas"]
        self.assertEqual({(r["version"], r["deleted"]) for r in found}, {(None, False)})


class TestAllConditions(Contract):
    """What each condition does to a key in each state, as one table.

    A key is absent, deleted, or held after it had another version before.
    """

    STATES = ("absent", "deleted", "held")

    def setUp(self):
        super().setUp()
        old = self.write("held", 0).get_json()["version"]
        self.version = self.write("held", 1).get_json()["version"]
        self.write("deleted", 1)
        gone = self.delete("deleted").get_json()["version"]
        foreign = self.engine.foreign_version
        self.current = f'"{self.version}"'
        # The versions in no list are the one that the key has.
        self.others = [
            f'"{old}"', f'"{gone}"', f'"{foreign}"', '"none"', '""', '"7"', '"-1"',
            f'"{self.version}x"', f'"0x{self.version}"', f'"0{self.version}"',
            f'"{self.version[1:]}"', f'"{self.version[:-1]}"', f'"{"f" * 20}"',
        ]  # fmt: skip

    def attempt(self, key, method, **headers):
        """What comes of it, after which the key is as it was or not: both are checked."""
        before = self.read(key)
        names = {name.replace("_", "-"): text for name, text in headers.items()}
        if method == "write":
            answer = self.write(key, "new", headers=names)
        else:
            answer = self.client.delete(f"/delete/{key}", headers=names)
        after = self.read(key)
        if answer.status_code != 200:
            self.assertEqual(after.get_data(), before.get_data())
        elif method == "write":
            self.assertEqual(after.get_json()["value"], "new")
        else:
            self.assertEqual(after.status_code, 404)
        if answer.status_code == 412:
            told = self.assert_problem(answer, 412, "version_mismatch")["version"]
            self.assertEqual(told, self.version if key == "held" else None)
        return answer.status_code

    def test_version_that_the_key_does_not_have_matches_nothing(self):
        for other in (*self.others, ", ".join(self.others)):
            with self.subTest(match=other):
                done = [self.attempt(s, "write", If_Match=other) for s in self.STATES]
                self.assertEqual(done, [412, 412, 412])
                done = [self.attempt(s, "delete", If_Match=other) for s in self.STATES]
                self.assertEqual(done, [404, 404, 412])

    def test_version_is_found_wherever_in_the_list_it_stands(self):
        others = self.others
        for place in (0, 3, len(others)):
            for separator in (",", ", ", " ,\t"):
                with self.subTest(place=place, separator=separator):
                    current = f'"{self.version}"'
                    match = separator.join([*others[:place], current, *others[place:]])
                    done = self.attempt("held", "write", If_Match=match)
                    self.assertEqual(done, 200)
                    self.version = self.read("held").get_json()["version"]
        match = ", ".join([*others, f'"{self.version}"', f'"{self.version}"'])
        self.assertEqual(self.attempt("held", "delete", If_Match=match), 200)

    def test_any_version_is_one_that_a_value_has(self):
        done = [self.attempt(s, "write", If_Match="*") for s in self.STATES]
        self.assertEqual(done, [412, 412, 200])

    def test_delete_of_any_version_wants_a_value(self):
        done = [self.attempt(s, "delete", If_Match=" * ") for s in self.STATES]
        self.assertEqual(done, [404, 404, 200])

    def test_create_only_write_wants_no_value(self):
        done = [self.attempt(s, "write", If_None_Match=" * ") for s in self.STATES]
        self.assertEqual(done, [200, 200, 412])
        again = [self.write(s, headers={"If-None-Match": "*"}) for s in self.STATES]
        self.assertEqual([answer.status_code for answer in again], [412, 412, 412])

    def test_both_conditions_must_hold_so_nothing_satisfies_them(self):
        for match in ("*", self.current, '"x"', f'"x", {self.current}'):
            with self.subTest(match=match):
                done = [
                    self.attempt(s, "write", If_Match=match, If_None_Match="*")
                    for s in self.STATES
                ]
                self.assertEqual(done, [412, 412, 412])

    def test_delete_with_both_or_with_none_match_is_refused(self):
        for headers in (
            {"If_None_Match": "*"},
            {"If_None_Match": self.current},
            {"If_Match": self.current, "If_None_Match": "*"},
        ):
            done = [self.attempt(s, "delete", **headers) for s in self.STATES]
            self.assertEqual(done, [400, 400, 400])

    def test_condition_on_a_version_holds_at_level_one_too(self):
        answer = self.client.post(
            "/write?consistency=one",
            json={"key": "held", "value": 2},
            headers={"If-Match": '"x"'},
        )
        self.assert_problem(answer, 412, "version_mismatch")
        answer = self.client.delete(
            "/delete/held?consistency=one", headers={"If-Match": self.current}
        )
        self.assertEqual(answer.status_code, 200)

    def test_reader_is_sent_the_value_unless_it_has_that_version(self):
        for other in self.others:
            answer = self.client.get("/read/held", headers={"If-None-Match": other})
            self.assertEqual(answer.status_code, 200, other)
        for same in (self.current, ", ".join([*self.others, self.current]), "*"):
            for path in ("/read/held", "/read?key=held", "/read/held?consistency=one"):
                answer = self.client.get(path, headers={"If-None-Match": same})
                self.assertEqual((answer.status_code, answer.get_data()), (304, b""))
        for key in ("absent", "deleted"):
            answer = self.client.get(f"/read/{key}", headers={"If-None-Match": "*"})
            self.assert_problem(answer, 404, "key_not_found")


class TestClientsTogether(Contract):
    """Several clients of one store, through services of their own where there can be."""

    COUNT = 4
    TURNS = 8

    def at_once(self, act):
        clients = [self.beside() for _ in range(self.COUNT)]
        with ThreadPoolExecutor(self.COUNT) as pool:
            return list(pool.map(act, clients))

    def test_one_sees_at_once_what_another_did(self):
        first, second = self.beside(), self.beside()
        for value in range(self.TURNS):
            body = {"key": "k", "value": value}
            version = first.post("/write", json=body).get_json()["version"]
            found = second.get("/read/k").get_json()
            self.assertEqual((found["value"], found["version"]), (value, version))
            first, second = second, first
        gone = first.delete("/delete/k").get_json()["version"]
        told = self.assert_problem(second.get("/read/k"), 404, "key_not_found")
        self.assertEqual((told["deleted"], told["version"]), (True, gone))
        later = second.post("/write", json={"key": "k", "value": 1}).get_json()
        self.assertGreater(later["version"], gone)

    def test_only_one_of_them_creates_a_key_and_only_one_deletes_it(self):
        def create_and_delete(client):
            statuses = []
            for number in range(self.TURNS):
                body = {"key": f"k{number}", "value": 1}
                only_new = {"If-None-Match": "*"}
                made = client.post("/write", json=body, headers=only_new)
                statuses.append(("create", number, made.status_code))
            ready.wait()
            for number in range(self.TURNS):
                gone = client.delete(f"/delete/k{number}")
                statuses.append(("delete", number, gone.status_code))
            return statuses

        ready = Barrier(self.COUNT, timeout=30)
        found = Counter(chain(*self.at_once(create_and_delete)))

        lost = {"create": 412, "delete": 404}
        self.assertEqual(
            found,
            {
                (what, number, status): count
                for what in lost
                for number in range(self.TURNS)
                for status, count in ((200, 1), (lost[what], self.COUNT - 1))
            },
        )

    def test_no_change_is_lost_where_each_names_the_version_that_it_read(self):
        self.write("k", 0)

        def count_up(client):
            done = 0
            while done < self.TURNS:
                read = client.get("/read/k")
                answer = client.post(
                    "/write",
                    json={"key": "k", "value": read.get_json()["value"] + 1},
                    headers={"If-Match": f'"x", {read.headers["ETag"]}'},
                )
                self.assertIn(answer.status_code, (200, 412))
                done += answer.status_code == 200

        self.at_once(count_up)

        self.assertEqual(self.read("k").get_json()["value"], self.COUNT * self.TURNS)


if __name__ == "__main__":
    unittest.main()
