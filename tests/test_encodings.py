"""Bodies that are packed: what they say is what they say unpacked, or they are refused."""

import gzip
import io
import json
import tracemalloc
import unittest
import zlib
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import InvalidRequest, TooLarge
from tests.route_case import RouteTest
from web.encodings import body_bytes
from web.problems import LengthRequired, UnknownEncoding

MIB = 1 << 20


def environ_of(data, **variables):
    """A request with this body, whose headers are `variables`."""
    return {
        "CONTENT_LENGTH": str(len(data)),
        "wsgi.input": io.BytesIO(data),
        **variables,
    }


def unpacked(data, coding, bytes_max=MIB):
    return body_bytes(environ_of(data, HTTP_CONTENT_ENCODING=coding), bytes_max)


def packed(data):
    return gzip.compress(data, mtime=0)


def raw_deflate(data):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@given(st.lists(st.binary(max_size=9_000), min_size=1, max_size=4))
def test_what_was_packed_comes_out_as_it_was_in_any_number_of_members(parts):
    whole = b"".join(parts)

    assert unpacked(b"".join(map(packed, parts)), "gzip") == whole
    assert unpacked(zlib.compress(whole), "deflate") == whole


@pytest.mark.parametrize("name", ["gzip", "x-gzip", "GZip", " gzip ", "identity, gzip",
                                  "gzip,", ", gzip , identity"])  # fmt: skip
def test_name_of_a_coding_may_be_written_in_its_every_way(name):
    assert unpacked(packed(b"text"), name) == b"text"


@pytest.mark.parametrize("name", ["", "identity", "Identity, identity", " , "])
def test_body_that_is_packed_in_nothing_is_taken_as_it_is(name):
    assert unpacked(b"text", name) == b"text"


@pytest.mark.parametrize(
    "name",
    ["br", "zstd", "compress", "gzip, gzip", "deflate, gzip", "gzip, br", "gzip;q=1",
     '"gzip"', "gzip deflate", "utf-8", "aws-chunked", "*", "none", "x-deflate"],
)  # fmt: skip
def test_coding_that_is_not_undone_is_named_with_those_that_are(name):
    with pytest.raises(UnknownEncoding, match="gzip or deflate") as caught:
        unpacked(packed(packed(b"text")), name)

    assert repr(name) in caught.value.detail


GOOD = packed(b"text" * 100)
LIES = {
    "plain": b"text", "empty": b"", "cut": GOOD[:-1], "header-only": GOOD[:10],
    "half-a-header": GOOD[:5], "no-trailer": GOOD[:-8], "damaged": b"\x1f\x8b" + b"\xff" * 30,
    "sum-wrong": GOOD[:-8] + b"\0\0\0\0" + GOOD[-4:], "size-wrong": GOOD[:-1] + b"\1",
    "garbage-after": GOOD + b"x", "zeros-after": GOOD + bytes(8),
    "second-member-cut": GOOD + GOOD[:-1], "second-member-plain": GOOD + b"text",
    "zlib": zlib.compress(b"text"), "raw": raw_deflate(b"text"),
}  # fmt: skip


@pytest.mark.parametrize("data", LIES.values(), ids=LIES)
def test_body_that_is_not_what_its_coding_says_is_refused(data):
    with pytest.raises(InvalidRequest, match="Content-Encoding 'gzip'"):
        unpacked(data, "gzip")


ZLIB = zlib.compress(b"text" * 100)
OTHER_LIES = {
    "plain": b"text", "empty": b"", "cut": ZLIB[:-1], "sum-wrong": ZLIB[:-4] + bytes(4),
    "garbage-after": ZLIB + b"x", "twice": ZLIB + ZLIB, "gzip": GOOD,
    "raw": raw_deflate(b"text" * 100),
}  # fmt: skip


@pytest.mark.parametrize("data", OTHER_LIES.values(), ids=OTHER_LIES)
def test_deflate_is_zlibs_format_and_nothing_else(data):
    with pytest.raises(InvalidRequest, match="RFC 1950"):
        unpacked(data, "deflate")


@pytest.mark.parametrize("pack", [packed, zlib.compress], ids=["gzip", "deflate"])
def test_body_may_inflate_to_its_limit_and_to_no_byte_more(pack):
    coding = "gzip" if pack is packed else "deflate"

    assert len(unpacked(pack(bytes(10_000)), coding, 10_000)) == 10_000
    with pytest.raises(TooLarge, match="once it is decoded"):
        unpacked(pack(bytes(10_001)), coding, 10_000)


def test_limit_holds_for_all_members_together():
    assert len(unpacked(packed(bytes(5_000)) * 2, "gzip", 10_000)) == 10_000
    with pytest.raises(TooLarge):
        unpacked(packed(bytes(5_000)) * 2 + packed(b"x"), "gzip", 10_000)


def test_bomb_costs_no_more_memory_than_a_body_at_the_limit():
    bomb = packed(bytes(64 * MIB))
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            unpacked(bomb, "gzip", MIB)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 4 * MIB


@pytest.mark.parametrize("name", ["base64", "quoted-printable", "x-uuencode"])
def test_body_in_the_encoding_of_mail_is_not_taken_for_the_text_itself(name):
    with pytest.raises(UnknownEncoding, match=name):
        body_bytes(environ_of(b"a=3D", HTTP_CONTENT_TRANSFER_ENCODING=name), MIB)

    plain = environ_of(b"a=3D", HTTP_CONTENT_TRANSFER_ENCODING="8bit")
    assert body_bytes(plain, MIB) == b"a=3D"


@pytest.mark.parametrize(
    ("header", "changes"),
    [
        ("chunked", {}),  # nobody undid it
        ("gzip, chunked", {"wsgi.input_terminated": True}),
        ("gzip", {"wsgi.input_terminated": True}),
        ("identity", {"wsgi.input_terminated": True}),
        ("", {"wsgi.input_terminated": True}),
        ("chunked", {"wsgi.input_terminated": True, "CONTENT_LENGTH": "4"}),
    ],
)
def test_body_in_a_transfer_coding_that_nobody_undid_is_not_left_out(header, changes):
    environ = {"wsgi.input": io.BytesIO(b"text"), "HTTP_TRANSFER_ENCODING": header}

    with pytest.raises(LengthRequired, match="Content-Length"):
        body_bytes(environ | changes, MIB)


def test_chunks_that_the_server_undid_are_the_body_and_may_be_packed():
    environ = {"HTTP_TRANSFER_ENCODING": "Chunked", "wsgi.input_terminated": True}

    plain = body_bytes({**environ, "wsgi.input": io.BytesIO(b"text")}, MIB)
    environ |= {"HTTP_CONTENT_ENCODING": "gzip", "wsgi.input": io.BytesIO(GOOD)}

    assert plain == b"text"
    assert body_bytes(environ, MIB) == b"text" * 100


class TestEncodedBodies(RouteTest):
    """The same through the routes."""

    changes: ClassVar = {"max_body_bytes": 20_000, "max_value_bytes": 2_000}
    BODIES: ClassVar = {
        "/write": {"key": "k", "value": "v" * 200},
        "/batch": {"operations": [{"op": "write", "key": "k", "value": 1}]},
        "/fail/0": {"mode": "wipe"},
        "/recover/0": {"accept_loss": False},
        "/nodes": {},
    }

    def send(self, path, data, coding, method="POST"):
        return self.client.open(
            path,
            method=method,
            data=data,
            content_type="application/json",
            headers={"Content-Encoding": coding},
        )

    def seen(self):
        return [self.client.get(p).get_data() for p in ("/keys", "/nodes", "/events")]

    def test_every_route_takes_its_body_packed(self):
        for path, document in self.BODIES.items():
            text = json.dumps(document).encode()
            plain = self.post(path, text)
            for coding, data in (
                ("gzip", packed(text)),
                ("deflate", zlib.compress(text)),
            ):
                with self.subTest(path=path, coding=coding):
                    answer = self.send(path, data, coding)
                    self.assertEqual(answer.status_code, plain.status_code)
        self.assertEqual(self.client.get("/read/k").get_json()["value"], 1)

    def test_coding_that_is_not_known_is_415_with_those_that_are_and_nothing_is_done(
        self,
    ):
        self.write("gone")
        before = self.seen()
        requests = [("POST", p, json.dumps(d)) for p, d in self.BODIES.items()]
        requests += [("POST", "/fail/0", ""), ("DELETE", "/delete/gone", "{}"),
                     ("DELETE", "/delete?key=gone", "{}"), ("DELETE", "/nodes/0", "{}"),
                     ("GET", "/read/gone", "{}")]  # fmt: skip
        for method, path, text in requests:
            for coding in ("br", "gzip, gzip", "utf-8"):
                with self.subTest(method=method, path=path, coding=coding):
                    answer = self.send(path, text, coding, method)
                    self.assert_problem(
                        answer,
                        415,
                        "unknown_encoding",
                        "Content-Encoding",
                        repr(coding),
                    )
                    self.assertEqual(answer.headers["Accept-Encoding"], "gzip, deflate")
        self.assertEqual(self.seen(), before)

    def test_lie_is_400_wherever_it_stands_and_nothing_is_done(self):
        self.write("gone")
        before = self.seen()
        requests = [("POST", p, json.dumps(d)) for p, d in self.BODIES.items()]
        requests += [("POST", "/fail/0", ""), ("DELETE", "/delete/gone", "{}"),
                     ("DELETE", "/nodes/0", "{}"), ("GET", "/read/gone", "{}")]  # fmt: skip
        for method, path, text in requests:
            with self.subTest(method=method, path=path):
                answer = self.send(path, text, "gzip", method)
                self.assert_problem(answer, 400, "invalid_request", "Content-Encoding")
        self.assertEqual(self.seen(), before)

    def test_body_that_inflates_beyond_the_limit_is_413_and_nothing_is_done(self):
        for path in (*self.BODIES, "/delete/k"):
            method = "DELETE" if path == "/delete/k" else "POST"
            answer = self.send(path, packed(b" " * 20_001), "gzip", method)
            self.assert_problem(answer, 413, "too_large", "20000", "decoded")
        self.assertEqual({node["status"] for node in self.nodes()}, {"up"})

    def test_limits_of_values_and_depth_are_those_of_what_was_unpacked(self):
        for value, status in (("v" * 3_000, 413), ([[]], 200), (deep(200), 400)):
            text = json.dumps({"key": "k", "value": value}).encode()
            answer = self.send("/write", packed(text), "gzip")
            self.assertEqual(answer.status_code, status)

    def test_packed_body_of_another_type_is_refused_as_such(self):
        answer = self.client.post(
            "/write",
            data=packed(b'{"key":"k","value":1}'),
            content_type="application/gzip",
            headers={"Content-Encoding": "gzip"},
        )
        problem = self.assert_problem(answer, 415, "not_json", "application/json")
        self.assertNotIn("Accept-Encoding", answer.headers)
        self.assertIn("application/gzip", problem["detail"])

    def test_mode_in_a_body_of_chunks_that_nobody_undid_is_not_dropped(self):
        answer = self.client.post(
            "/fail/0",
            input_stream=io.BytesIO(b'{"mode":"wipe"}'),
            content_type="application/json",
            headers={"Transfer-Encoding": "chunked"},
        )
        self.assert_problem(answer, 411, "length_required", "Content-Length")
        self.assertEqual({node["status"] for node in self.nodes()}, {"up"})

    def test_coding_of_no_body_at_all_says_nothing(self):
        self.write("k")
        headers = {"Content-Encoding": "br"}
        self.assertEqual(self.client.get("/read/k", headers=headers).status_code, 200)
        gone = self.client.delete("/delete/k", headers=headers)
        self.assertEqual(gone.status_code, 200)

    def test_refusals_of_bodies_are_described(self):
        paths = self.client.get("/openapi.json").get_json()["paths"]
        for path in (
            "/write",
            "/batch",
            "/fail/{node_id}",
            "/recover/{node_id}",
            "/nodes",
        ):
            described = paths[path]["post"]["responses"]["415"]
            self.assertIn("unknown_encoding", described["description"])
            self.assertIn("Accept-Encoding", described["headers"])


def deep(levels):
    return json.loads("[" * levels + "]" * levels)


if __name__ == "__main__":
    unittest.main()
