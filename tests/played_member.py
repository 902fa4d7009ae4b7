"""A member of etcd that is played: real sockets, and answers as a test wants them."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple

SECONDS_MAX = 10.0  # for anything at all; a test that works needs none of them


class Got(NamedTuple):
    """One request that arrived whole."""

    connection: int  # 0: over the first that was made
    path: str
    headers: dict[str, str]  # their names in lower case
    body: dict[str, Any]


class Last(bytes):
    """What is said before the connection is closed, and may be no answer at all."""


SILENCE = Last(b"(nothing is said, and the connection stays open)")
HANG_UP = Last()


def says(answer: object = None, status: int = 200) -> bytes:
    """An answer of the gateway; None is what it says of a change that was done."""
    if answer is None:
        answer = {"header": {"revision": "7", "member_id": "1"}}
    text = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return b"HTTP/1.1 %d Said\r\nContent-Length: %d\r\n\r\n%s" % (
        status,
        len(text),
        text,
    )


def refuses(message: str, status: int = 503) -> bytes:
    """How the gateway of 3.4 tells an error."""
    return says({"error": message, "message": message, "code": 14}, status)


class Played:
    """Answers each request with what `play` makes of it, and counts what it got."""

    def __init__(self, play: Callable[[Got], bytes]) -> None:
        self.got: list[Got] = []
        self._play = play
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def stop_listening(self) -> None:
        """As a process that is about to die: whoever connects now is refused."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        if threading.current_thread() is not self._threads[0]:
            self._threads[0].join(SECONDS_MAX)
        self._listener.close()

    def __enter__(self) -> Played:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self.stop_listening()
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(SECONDS_MAX)
            assert not thread.is_alive(), "a played member does not come to its end"

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.settimeout(SECONDS_MAX)
                number = len(self._connections)
                self._connections.append(connection)
                thread = threading.Thread(target=self._serve, args=(connection, number))
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with connection, connection.makefile("rb") as stream, suppress(OSError):
            while (got := _next(stream, number)) is not None:
                self.got.append(got)
                answer = self._play(got)
                if answer is SILENCE:
                    self._over.wait(SECONDS_MAX)
                    return
                connection.sendall(answer)
                if isinstance(answer, Last):
                    return


def _next(stream: BinaryIO, number: int) -> Got | None:
    """The next request, None if there is none or it is cut off."""
    first = stream.readline().split()
    headers = {}
    while (line := stream.readline().strip()) != b"":
        name, _, text = line.decode().partition(":")
        headers[name.lower()] = text.strip()
    size = int(headers.get("content-length", "0"))
    body = stream.read(size)
    if len(first) != 3 or len(body) < size:
        return None
    assert re.fullmatch(rb"POST /v3/\S+ HTTP/1.1", b" ".join(first)), first
    return Got(number, first[1].decode(), headers, json.loads(body))
