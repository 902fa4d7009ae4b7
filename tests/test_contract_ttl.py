"""Times to live, as every engine keeps them: never less, and not much more."""

import time
import unittest

from tests.route_case import Contract

STEP_SECONDS = 0.05
STALL_SECONDS = 2  # that a shared machine may lose between two looks


class TestTimeToLive(Contract):
    def put(self, key, ttl, **options):
        body = {"key": key, "value": 1, "ttl": ttl}
        answer = self.client.post("/write", json=body, **options)
        self.assertEqual(answer.status_code, 200, answer.get_data())
        return answer.get_json()["version"]

    def ends_of(self, *keys, ttl_max):
        """When each of these keys was seen to be gone."""
        lasting = max(ttl_max, self.engine.ttl_seconds_min)
        deadline = self.now() + lasting + self.engine.ttl_late_seconds + STALL_SECONDS
        ends: dict[str, float] = {}
        while len(ends) < len(keys) and self.now() < deadline:
            self.pass_time(STEP_SECONDS)
            for key in keys:
                if key not in ends and self.read(key).status_code == 404:
                    ends[key] = self.now()
        self.assertEqual(ends.keys(), set(keys), "these are gone in time")
        return ends

    def wait(self):
        """Until what was given a second is gone."""
        self.put("last", 1)
        self.ends_of("last", ttl_max=1)

    def assert_ended(self, key):
        gone = self.assert_problem(self.read(key), 404, "key_not_found")
        told = {"version", "deleted"} & gone.keys()
        self.assertEqual(len(told), 2 if self.engine.tells_of_ended else 0)

    def test_key_lasts_for_its_time_and_is_gone_soon_after(self):
        began = {}
        for ttl in (0.5, 1, 1.5, 2, 3):
            began[ttl] = self.now()
            self.put(f"{ttl}", ttl)
        self.put("lasting", 60)
        self.write("for-ever")

        ends = self.ends_of(*map(str, began), ttl_max=3)

        for ttl, at in began.items():
            self.assertGreaterEqual(ends[f"{ttl}"] - at, ttl)
            self.assert_ended(f"{ttl}")
        for path, field in (("/keys", "keys"), ("/records", "records")):
            found = self.client.get(path).get_json()[field]
            self.assertEqual([each["key"] for each in found], ["for-ever", "lasting"])

    def test_key_that_ended_can_be_created_and_neither_updated_nor_deleted(self):
        version = self.put("k", 1)
        self.put("of-deleted", 1)
        self.delete("of-deleted")
        self.put("of-deleted", 1)
        self.wait()

        for condition in ("*", f'"{version}"'):
            missed = self.write("k", headers={"If-Match": condition})
            problem = self.assert_problem(missed, 412, "version_mismatch")
            self.assertIsNone(problem["version"])
        self.assert_problem(self.delete("k"), 404, "key_not_found")
        self.assert_ended("of-deleted")
        made = self.write("k", headers={"If-None-Match": "*"})
        self.assertEqual(made.status_code, 200)
        self.assertGreater(made.get_json()["version"], version)

    def test_only_what_replaces_the_value_changes_its_time(self):
        for key in ("kept", "longer", "conditional", "recreated", "refused"):
            self.put(key, 1)
        for key in ("sooner", "not-sooner"):
            self.write(key)
        refused = {"If-None-Match": "*"}

        self.write("kept", 2)
        self.put("longer", 60)
        version = self.read("conditional").get_json()["version"]
        self.write("conditional", 2, headers={"If-Match": f'"{version}"'})
        self.delete("recreated")
        self.write("recreated", 2)
        self.put("sooner", 1)
        for key, ttl in (("refused", 60), ("not-sooner", 1)):
            body = {"key": key, "value": 2, "ttl": ttl}
            answer = self.client.post("/write", json=body, headers=refused)
            self.assert_problem(answer, 412, "version_mismatch")
        self.wait()

        for key in ("kept", "longer", "conditional", "recreated", "not-sooner"):
            self.assertEqual(self.read(key).status_code, 200, key)
        for key in ("refused", "sooner"):
            self.assert_ended(key)
        self.assertEqual(self.read("not-sooner").get_json()["value"], "hello")

    def test_record_tells_when_its_key_ends(self):
        before_ms = int(time.time() * 1000)
        for ttl in (20, 30.25, 86_400, 100 * 365 * 86_400):
            self.put(f"{ttl}", ttl)
        self.batch({"op": "write", "key": "50", "value": 1, "ttl": 50})
        self.write("for-ever")
        after_ms = int(time.time() * 1000) + 1

        records = self.client.get("/records").get_json()["records"]

        told = {each["key"]: each.get("expires_at_ms") for each in records}
        self.assertIsNone(told.pop("for-ever"))
        self.assertEqual(len(told), 5)
        for key, ends_at in told.items():
            ttl_ms = float(key) * 1000
            self.assertGreaterEqual(ends_at, before_ms + ttl_ms - 1)
            self.assertLessEqual(ends_at, after_ms + ttl_ms + self.engine.ttl_step_ms)


if __name__ == "__main__":
    unittest.main()
