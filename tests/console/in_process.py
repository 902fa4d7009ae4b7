"""The client commands on an application in this process: no socket, no other process."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import requests

from app import create_app
from config import Settings
from console import cli


class Result(NamedTuple):
    """What a command left behind."""

    status: int
    out: str
    err: str


class Carrier(requests.adapters.BaseAdapter):
    """Carries requests to a WSGI application, or fails as it is told."""

    def __init__(self, app: Any) -> None:
        super().__init__()
        self._client = app.test_client()
        self.asked: list[str] = []  # targets, in order
        self.outcome: Any = (
            None  # an exception, or (status, body), instead of the answer
        )

    def send(self, request: Any, *_: Any, **__: Any) -> requests.Response:
        parts = urlsplit(request.url)
        self.asked.append(f"{request.method} {parts.path}?{parts.query}")
        if isinstance(self.outcome, Exception):
            raise self.outcome
        if self.outcome is not None:
            return _response(*self.outcome)
        answer = self._client.open(
            parts.path,
            method=request.method,
            query_string=parts.query,
            headers=dict(request.headers),
            data=request.body,
        )
        return _response(answer.status_code, answer.get_data(), answer.headers)

    def close(self) -> None:
        pass


def _response(status: int, data: bytes, headers: Any = ()) -> requests.Response:
    made = requests.Response()
    made.status_code = status
    made.headers.update(dict(headers))
    made.raw = io.BytesIO(data)
    return made


class Store:
    """A store, and commands called on it."""

    def __init__(self, monkeypatch: Any, capsys: Any, **settings: Any) -> None:
        self.app = create_app(Settings(storage="memory", **settings))
        self.carrier = Carrier(self.app)
        self._capsys = capsys
        monkeypatch.setattr(
            requests.Session, "get_adapter", lambda *_, **__: self.carrier
        )

    def run(self, *argv: str) -> Result:
        """Call a command."""
        status = cli.main(argv)
        said = self._capsys.readouterr()
        return Result(status, said.out, said.err)

    def lines(self, *argv: str) -> Sequence[str]:
        """What a command that must succeed prints."""
        result = self.run(*argv)
        assert (result.status, result.err) == (0, ""), result
        return result.out.splitlines()

    def close(self) -> None:
        """Close the store."""
        self.app.close()
