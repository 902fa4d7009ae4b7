"""The text of a 404: it names the route that was probably meant, and goes nowhere."""

import re
import unittest

from app import routes
from tests.route_case import RouteTest
from web.signposts import Signposts

PART = re.compile(r"<(?:\w+:)?\w+>")


class TestSignposts(RouteTest):
    def setUp(self):
        super().setUp()
        self.table = routes(self.app.store.scheme)

    def ask(self, method, path):
        """A request whose path is sent as it is."""
        raw = path.encode().decode("latin-1")
        return self.client.open(
            "/", method=method, environ_overrides={"PATH_INFO": raw}
        )

    def assert_named(self, method, path, near):
        with self.subTest(method=method, path=path):
            answer = self.ask(method, path)
            self.assert_problem(
                answer, 404, "not_found", f"no such route: {path}; did you mean {near}?"
            )

    def test_slash_too_many_names_the_route_without_it(self):
        for route in self.table:
            if PART.search(route.path):
                continue  # what follows the slash may be a key, or a page
            near = f"{route.method} {route.path}"
            self.assert_named(route.method, f"/{route.path}", near)
            self.assert_named(route.method, f"//{route.path}", near)
            if route.path not in ("/", "/read", "/delete", "/replicas"):  # an empty key
                self.assert_named(route.method, f"{route.path}/", near)
                self.assert_named(route.method, f"{route.path}//", near)

    def test_other_capitals_name_the_route_and_leave_the_rest_as_it_is(self):
        for route in self.table:
            made = PART.sub(lambda part: "7" if "int" in part[0] else "Ab", route.path)
            word, _, rest = made[1:].partition("/")
            if not word:
                continue
            for wrong in (word.upper(), word.capitalize()):
                path = "/".join(["", wrong, *([rest] if rest else [])])
                self.assert_named(route.method, path, f"{route.method} {made}")
        self.assert_named("DELETE", "/Delete/A//b/", "DELETE /delete/A//b/")

    def test_part_that_is_missing_or_of_another_kind_is_named(self):
        for path in (
            "/fail",
            "/fail/",
            "/fail/x",
            "/fail/-1",
            "/fail/1.0",
            "/fail/1/2",
        ):
            self.assert_named("POST", path, "POST /fail/{node_id}")
        self.assert_named("POST", "/fail/1/", "POST /fail/1")
        self.assert_named("POST", "/recover", "POST /recover/{node_id}")
        self.assert_named("DELETE", "/nodes/", "DELETE /nodes/{node_id}")
        self.assert_named("DELETE", "/nodes/1/", "DELETE /nodes/1")
        self.assert_named("GET", "/keys/a", "GET /keys")

    def test_method_that_was_meant_is_named_and_only_where_there_is_none_another(self):
        self.assert_named("GET", "/nodes/", "GET /nodes")
        self.assert_named("POST", "/nodes/", "POST /nodes")
        self.assert_named("GET", "/write/", "POST /write")
        self.assert_named("PUT", "//delete/a", "DELETE /delete/a")
        self.assertEqual(self.ask("HEAD", "/nodes/").status_code, 404)

    def test_slip_of_the_pen_names_the_word(self):
        for path, near in {
            "/node": "GET /nodes", "/reed/a": "GET /read/a", "/health": "GET /healthz",
            "/ready": "GET /readyz", "/metric": "GET /metrics", "/nodes ": "GET /nodes",
            "/nodes;x=1": "GET /nodes",
        }.items():  # fmt: skip
            self.assert_named("GET", path, near)

    def test_path_that_is_near_nothing_is_told_where_all_are(self):
        for path in ("/nowhere", "/etc/passwd", "/console", "/.git/HEAD", "*", "/é/x"):
            answer = self.ask("GET", path)
            problem = self.assert_problem(answer, 404, "not_found", "/docs", path)
            self.assertNotIn("did you mean", problem["detail"])

    def test_long_path_is_cut_in_the_text(self):
        found = Signposts(self.table).no_route("GET", "/READ/" + "a" * 9_000)

        self.assertLess(len(str(found.description)), 300)

    def test_path_with_a_slash_too_many_does_nothing(self):
        self.write("a")
        for method, path in (("POST", "//fail/0"), ("DELETE", "//delete/a"),
                             ("POST", "/Fail/0"), ("DELETE", "/delete//a")):  # fmt: skip
            self.assertEqual(self.ask(method, path).status_code, 404, path)
        self.assertEqual({node["status"] for node in self.nodes()}, {"up"})
        self.assertEqual(self.read("a").status_code, 200)

    def test_slashes_of_a_key_are_the_keys_own(self):
        for number, key in enumerate(("a/", "/a", "a//b", "/", "a")):
            self.write(key, number)
        for number, key in enumerate(("a/", "/a", "a//b", "/", "a")):
            found = self.ask("GET", f"/read/{key}").get_json()
            self.assertEqual((found["key"], found["value"]), (key, number))

    def test_other_method_is_still_405_with_those_that_it_has(self):
        for method, path, allowed in (
            ("GET", "/write", {"POST", "OPTIONS"}),
            ("PUT", "/nodes", {"GET", "HEAD", "POST", "OPTIONS"}),
            ("GET", "/fail/1", {"POST", "OPTIONS"}),
        ):
            answer = self.ask(method, path)
            self.assert_problem(answer, 405, "method_not_allowed")
            self.assertEqual(set(answer.headers["Allow"].split(", ")), allowed)

    def test_options_of_the_whole_server_names_every_method(self):
        answer = self.ask("OPTIONS", "*")

        self.assertEqual((answer.status_code, answer.get_data()), (204, b""))
        allowed = {route.method for route in self.table} | {"HEAD", "OPTIONS"}
        self.assertEqual(set(answer.headers["Allow"].split(", ")), allowed)
        self.assert_problem(self.ask("GET", "*"), 404, "not_found")


if __name__ == "__main__":
    unittest.main()
