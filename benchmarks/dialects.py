"""What a load says to a store or to a peer of it, and what a right answer has in it.

The same keys and values for all. A dialect is one class and one line in `DIALECTS`.
Standard library only.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from base64 import b64encode
from dataclasses import dataclass
from typing import Any

from processes.server import HOST

VALUE = "v" * 100
FRONT_PREFIX = "kv/"  # of the keys in etcd of a store that has a front


@dataclass(frozen=True)
class Exchange:
    """A request, ready to be sent, and what is in the body of every right answer."""

    key: str
    request: bytes
    holds: tuple[bytes, ...]

    def is_right(self, head: bytes, body: bytes) -> bool:
        """True for a 2xx that holds what it should, such as the value that was read."""
        return head[9:10] == b"2" and all(part in body for part in self.holds)


class Dialect(ABC):
    """The requests that one kind of server understands."""

    @abstractmethod
    def write(self, key: str) -> Exchange:
        """Write `VALUE` under a key."""

    @abstractmethod
    def read(self, key: str) -> Exchange:
        """Read the key; a right answer has `VALUE`."""

    @abstractmethod
    def is_of(self, key: str, answer: Any) -> bool:
        """True if parsed JSON is an answer for this key, with everything in place.

        Raises LookupError, TypeError or ValueError where something is amiss.
        """

    def parses(self, key: str, body: bytes) -> bool:
        """True if a body is JSON that is an answer for this key."""
        try:
            return self.is_of(key, json.loads(body))
        except (LookupError, TypeError, ValueError):
            return False


class Store(Dialect):
    """The routes of this store, and of the bare application beside it."""

    def write(self, key: str) -> Exchange:
        request = post("/write", {"key": key, "value": VALUE})
        return Exchange(key, request, (key.encode(),))

    def read(self, key: str) -> Exchange:
        request = f"GET /read/{key} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
        return Exchange(key, request, (key.encode(), VALUE.encode()))

    def is_of(self, key: str, answer: Any) -> bool:
        return bool(answer["key"] == key)


class Etcd(Dialect):
    """The JSON gateway of etcd (https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway).

    A range is linearizable unless it says otherwise. The answer to a put names no key.
    Keys are put under a prefix, and `value` is what is put for `VALUE`.
    """

    def __init__(self, prefix: str = "", value: str = VALUE) -> None:
        self._prefix = prefix
        self._value = in_base64(value)

    def write(self, key: str) -> Exchange:
        body = {"key": self._name(key), "value": self._value}
        return Exchange(key, post("/v3/kv/put", body), (b'"revision":"',))

    def read(self, key: str) -> Exchange:
        name = self._name(key)
        request = post("/v3/kv/range", {"key": name})
        return Exchange(key, request, (name.encode(), self._value.encode()))

    def is_of(self, key: str, answer: Any) -> bool:
        revision = int(answer["header"]["revision"])
        found = answer.get("kvs", [])  # by a range
        return revision > 0 and all(each["key"] == self._name(key) for each in found)

    def _name(self, key: str) -> str:
        return in_base64(self._prefix + key)


def post(path: str, content: dict[str, str]) -> bytes:
    """A POST of JSON."""
    body = json.dumps(content, separators=(",", ":"))
    return (
        f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def in_base64(text: str) -> str:
    """Text as JSON of protocol buffers has bytes."""
    return b64encode(text.encode()).decode()


def key_of(number: int) -> str:
    """A key of 20 bytes."""
    return f"benchmark-{number:010d}"


DIALECTS: dict[str, Dialect] = {
    "store": Store(),
    "etcd": Etcd(),
    # What a front sends to etcd for what a client sends to it.
    "front": Etcd(f"{FRONT_PREFIX}k/", json.dumps(VALUE)),
}
