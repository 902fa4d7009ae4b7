"""The peer of the routes: Flask on the same server, and nothing behind it.

It parses what a client sends and answers JSON of the same fields and length as the
store, with the same JSON library; whatever the store is slower by is its own doing.
`python -m benchmarks.bare_app --port N` serves it.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import msgspec
from flask import Flask, Response, request

from benchmarks.dialects import VALUE
from config import Settings
from processes.server import HOST
from processes.signals import Stop
from web.server import Server, leave, listen

VERSION = "0123456789abcdef0000"
GRACE_SECONDS = 3.0  # for requests that run when a stop is asked


class BareApp(Flask):
    """What the server asks of what it serves."""

    def refuse(self, error: Exception) -> Response:
        """Whatever goes wrong is no success, and the load counts it."""
        return Response(str(error), 503)

    def watch(self, load: object) -> None:
        """Nothing is shown of what is under way."""


def create_app() -> BareApp:
    """The two routes of the load, without a store."""
    app = BareApp(__name__)

    @app.post("/write")
    def write() -> Response:
        body = msgspec.json.decode(request.get_data())
        return _answer(key=body["key"], version=VERSION, replicas=[0, 1], missed=[])

    @app.get("/read/<path:key>")
    def read(key: str) -> Response:
        return _answer(key=key, value=VALUE, version=VERSION, replicas=[0])

    return app


def _answer(**fields: Any) -> Response:
    return Response(msgspec.json.encode(fields), mimetype="application/json")


def main(arguments: list[str]) -> int:
    """Serve on 127.0.0.1 with as many threads as the store has by default."""
    parser = argparse.ArgumentParser(prog="bare_app")
    parser.add_argument("--port", type=int, default=0)
    chosen = parser.parse_args(arguments)
    listener = listen(HOST, chosen.port)
    address = f"http://{HOST}:{listener.getsockname()[1]}"
    server = Server(create_app(), listener, Settings())
    with Stop() as stop:
        server.run(stop, lambda: print(address, flush=True), GRACE_SECONDS)
    return leave()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
