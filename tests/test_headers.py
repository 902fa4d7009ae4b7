"""Headers that ask for something: it is done, refused, or makes no difference."""

import unittest

from tests.route_case import RouteTest

ROUTES = (
    ("POST", "/write", '{"key":"k","value":2}'),
    ("GET", "/read/k", None),
    ("GET", "/read?key=k", None),
    ("DELETE", "/delete/k", None),
    ("DELETE", "/delete?key=k", None),
    ("POST", "/batch", '{"operations":[{"op":"delete","key":"k"}]}'),
    ("POST", "/fail/0", '{"mode":"stop"}'),
    ("POST", "/recover/0", None),
    ("POST", "/nodes", "{}"),
    ("DELETE", "/nodes/0", None),
    ("GET", "/nodes", None),
    ("GET", "/keys", None),
    ("GET", "/records", None),
    ("GET", "/shards", None),
    ("GET", "/metrics", None),
    ("GET", "/config", None),
    ("GET", "/healthz", None),
)
CHANGES = tuple(route for route in ROUTES if route[0] != "GET")


class TestHeaders(RouteTest):
    def setUp(self):
        super().setUp()
        self.write("k", 1)

    def ask(self, route, **headers):
        method, path, text = route
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        kind = None if text is None else "application/json"
        return self.client.open(
            path, method=method, data=text, content_type=kind, headers=named
        )

    def seen(self):
        paths = ("/records", "/nodes", "/events")
        return [self.client.get(path).get_data() for path in paths]

    def assert_refused(self, routes, header, value, status=400):
        """By each of these routes, and nothing was done."""
        before = self.seen()
        code = "expectation_failed" if status == 417 else "invalid_request"
        for route in routes:
            with self.subTest(header=header, value=value, route=route[:2]):
                answer = self.ask(route, **{header: value})
                self.assert_problem(answer, status, code, header)
        self.assertEqual(self.seen(), before)

    def test_method_that_a_header_names_is_not_left_out(self):
        for header in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
            for method in ("DELETE", "GET", ""):
                self.assert_refused(ROUTES, header, method)
        head = self.client.head("/read/k", headers={"X-HTTP-Method": "DELETE"})
        self.assertEqual(head.status_code, 400)

    def test_part_of_a_body_is_not_taken_for_the_whole(self):
        for text in ("bytes 0-9/100", "bytes 0-9/*", "x"):
            self.assert_refused(ROUTES, "Content-Range", text)

    def test_expectation_that_nobody_meets_is_refused(self):
        for text in ("miracles", "100-continue, x", "100-continue=1"):
            self.assert_refused(ROUTES, "Expect", text, 417)
        for text in ("100-continue", "100-Continue", "", "100-continue, 100-continue"):
            answer = self.ask(ROUTES[0], Expect=text)
            self.assertEqual(answer.status_code, 200)

    def test_condition_on_a_change_that_does_not_compare_it_is_refused(self):
        def but(*prefixes):
            return [route for route in CHANGES if not route[1].startswith(prefixes)]

        for text in ('"x"', "*", ""):
            self.assert_refused(but("/write", "/delete"), "If-Match", text)
            self.assert_refused(but("/write"), "If-None-Match", text)
        for date in ("Thu, 01 Jan 1970 00:00:00 GMT", "x"):
            self.assert_refused(CHANGES, "If-Unmodified-Since", date)

    def test_condition_that_no_read_compares_is_refused(self):
        reads = [route for route in ROUTES if route[0] == "GET"]

        self.assert_refused(reads, "If-Match", '"x"')

    def test_header_that_makes_no_difference_makes_none(self):
        usual = self.ask(("GET", "/read/k", None)).get_data()
        past = "Thu, 01 Jan 1970 00:00:00 GMT"
        for headers in (
            {"Range": "bytes=0-1"}, {"Range": "bytes=0-1", "If_Range": '"x"'},
            {"If_Modified_Since": "Thu, 01 Jan 2037 00:00:00 GMT"},
            {"If_Unmodified_Since": past}, {"Prefer": "return=minimal"},
            {"X_Original_URL": "/delete/k"}, {"X_Forwarded_Host": "evil.example"},
        ):  # fmt: skip
            with self.subTest(headers=headers):
                answer = self.ask(("GET", "/read/k", None), **headers)
                self.assertEqual((answer.status_code, answer.get_data()), (200, usual))
        for headers in (
            {"Prefer": "return=minimal"}, {"Range": "bytes=0-1"},
            {"If_Modified_Since": past}, {"Content_MD5": "x"}, {"Digest": "sha-256=x"},
            {"Content_Digest": "sha-256=:x:"}, {"Content_Language": "de"},
        ):  # fmt: skip
            with self.subTest(headers=headers):
                answer = self.ask(ROUTES[0], **headers)
                self.assertEqual(answer.status_code, 200, answer.get_data())

    def test_refusals_of_callers_are_described(self):
        paths = self.client.get("/openapi.json").get_json()["paths"]

        for path, methods in paths.items():
            for method, operation in methods.items():
                answers = operation["responses"]
                self.assertIn("expectation_failed", answers["417"]["description"])
                self.assertEqual("421" in answers, path not in ("/healthz", "/readyz"))
                self.assertEqual("403" in answers, method != "get")

    def test_browser_is_still_told_that_a_page_has_not_changed(self):
        page = self.client.get("/")
        seen = {"If-None-Match": page.headers["ETag"]}

        again = self.client.get("/", headers=seen)

        self.assertEqual(again.status_code, 304)
        page.close()
        again.close()


if __name__ == "__main__":
    unittest.main()
