"""Members of etcd that are functions, and whose time takes none: no socket, no clock."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from backends import endpoints as endpoints_module
from backends.endpoints import Endpoints, Login
from backends.gateway import NoAnswer, Request, Security
from backends.messages import PUT, RANGE, Put, Range, RangeAnswer, Written

A, B, C = "http://a:1", "http://b:2", "http://c:3"
SECONDS = 5.0
DONE = b'{"header":{"revision":"7"}}'
# What a member gets: a path, a token, the seconds it has. What it says, or what is raised.
Play = Callable[[str, str, float], bytes | Exception]


class Cluster:
    """The members by URL, and all that they got; their clock is `now`."""

    def __init__(self) -> None:
        self.play: dict[str, Play] = dict.fromkeys((A, B, C), always(DONE))
        self.got: list[tuple[str, str, bool, str]] = []
        self.closed: list[str] = []
        self.now = 1_000.0
        self.pauses = 0

    @property
    def asked(self) -> list[str]:
        """Whom, in turn."""
        return [url for url, *_ in self.got]

    @property
    def paths(self) -> list[tuple[str, str]]:
        """Whom, and for what."""
        return [(url, path) for url, path, *_ in self.got]

    def all_play(self, play: Play) -> None:
        """Each does the same."""
        self.play = dict.fromkeys((A, B, C), play)

    def open(
        self,
        urls: tuple[str, ...] = (A, B, C),
        login: Login | None = None,
        seconds: float = SECONDS,
    ) -> Endpoints:
        """What sends requests to them."""
        found = Endpoints(urls, Security(), seconds, login, lambda: self.now)
        found.closed = Pause(self)
        return found


class PlayedGateway:
    """Stands in for a `Gateway`."""

    def __init__(self, cluster: Cluster, url: str) -> None:
        self.url = url
        self._cluster = cluster

    def post(self, request: Request, seconds: float, token: str = "") -> bytes:
        assert seconds > 0, "no time is left, and it is asked all the same"
        cluster = self._cluster
        cluster.got.append((self.url, request.path, request.needs_leader, token))
        answer = cluster.play[self.url](request.path, token, seconds)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self._cluster.closed.append(self.url)


class Pause(threading.Event):
    """Whether all is closed; to wait for it takes only the time that is played."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self._cluster = cluster

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self._cluster.now += timeout
        self._cluster.pauses += 1
        assert self._cluster.pauses < 1_000, "it would never have come to an end"
        return self.is_set()


def played(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """The members that every `Endpoints` talks to from now on."""
    cluster = Cluster()
    monkeypatch.setattr(
        endpoints_module, "Gateway", lambda url, _: PlayedGateway(cluster, url)
    )
    return cluster


def always(answer: bytes | Exception) -> Play:
    """A member that says one thing."""
    return lambda *_: answer


def silent(cluster: Cluster) -> Play:
    """A member that takes a request, and time runs out."""

    def play(_path: str, _token: str, seconds: float) -> Exception:
        cluster.now += seconds
        return NoAnswer("timed out")

    return play


def change(members: Endpoints) -> Any:
    """A write."""
    return members.change(PUT, Put(b"k", b"v"), Written)


def read(members: Endpoints) -> Any:
    """A linearizable read."""
    return members.read(RANGE, Range(b"k"), RangeAnswer)
