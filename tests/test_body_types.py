"""The type that a body is sent as: JSON in UTF-8, in each way to write that down."""

import unittest

from tests.route_case import RouteTest


class TestTypes(RouteTest):
    """The type of a body, with its parameters."""

    TAKEN = (
        "application/json", "application/json;charset=utf8", "APPLICATION/JSON; CHARSET=UTF8",
        "application/json; charset=utf-8", 'application/json; charset="utf-8"',
        'application/json; charset="UTF8"', "application/json;", "application/json ;",
        "application/json; charset=utf-8;", "application/json ; ; charset=Utf-8",
        "application/json\t;\tcharset=utf8 ",
    )  # fmt: skip
    CHARSETS = (
        "latin-1", "iso-8859-1", "utf-16", "utf-7", "us-ascii", "utf_8", "'utf-8'", "utf8x",
        "utf-8x", "x-utf8", '"utf-8', 'utf-8"', "", '""', "utf-8, latin-1", "utf 8",
    )  # fmt: skip

    def test_json_in_utf8_is_taken_however_that_is_written(self):
        for number, kind in enumerate(self.TAKEN):
            with self.subTest(kind=kind):
                answer = self.post("/write", f'{{"key":"k","value":{number}}}', kind)
                self.assertEqual(answer.status_code, 200, answer.get_data())

    def test_other_charset_is_refused_by_its_name(self):
        for charset in self.CHARSETS:
            kind = f"application/json; charset={charset}"
            with self.subTest(kind=kind):
                answer = self.post("/write", '{"key":"k","value":1}', kind)
                self.assert_problem(answer, 415, "not_json", "UTF-8", charset)
        both = "application/json; charset=utf-8; charset=latin-1"
        answer = self.post("/fail/0", "{}", both)
        self.assert_problem(answer, 415, "not_json", "UTF-8", "latin-1")
        self.assertEqual(self.client.get("/keys").get_json()["keys"], [])
        self.assertEqual({node["status"] for node in self.nodes()}, {"up"})

    def test_other_type_or_parameter_is_refused_as_before(self):
        for kind in (
            "text/json", "application/problem+json", "application/vnd.api+json",
            "application/json-seq", "application/jsonx", "xapplication/json",
            "application/json; version=1", "application/json, application/json",
            "application/json charset=utf-8", "text/plain; charset=utf-8",
        ):  # fmt: skip
            with self.subTest(kind=kind):
                answer = self.post("/write", '{"key":"k","value":1}', kind)
                self.assert_problem(answer, 415, "not_json", kind, "application/json")


if __name__ == "__main__":
    unittest.main()
