"""What every test of the routes needs: an application of its own, and the promises."""

import unittest
from typing import ClassVar

from app import create_app
from config import Settings


class RouteTest(unittest.TestCase):
    """An application of its own, in memory, and what every test needs of it."""

    changes: ClassVar[dict[str, object]] = {}

    def setUp(self):
        self.app = create_app(Settings(**{"storage": "memory", **self.changes}))
        self.addCleanup(self.app.close)
        self.client = self.app.test_client()

    def write(self, key="greeting", value="hello", **options):
        return self.client.post("/write", json={"key": key, "value": value}, **options)

    def post(self, path, text, kind="application/json"):
        return self.client.post(path, data=text, content_type=kind)

    def assert_problem(self, answer, status, code, *words, definite=True):
        """The whole of what every failure promises; returns the document."""
        self.assertEqual(answer.status_code, status, answer.get_data())
        self.assertEqual(answer.content_type, "application/problem+json")
        document = answer.get_json()
        self.assertEqual(document["status"], status)
        self.assertEqual((document["code"], document["definite"]), (code, definite))
        for word in (*words, ""):
            self.assertIn(word, document["detail"])
        self.assertTrue(document["title"])
        self.assertEqual(document["type"], "about:blank")
        self.assertTrue(answer.headers["X-Request-Id"])
        return document
