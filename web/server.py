"""The HTTP server: granian's, in this process.

Granian usually runs an application in worker processes of its own. Here the store lives
in memory, so a worker that dies or is replaced would take the data along, and two would
be two stores. So its worker is driven directly, in one thread of this process, with a
socket that was opened here: what listens is known before anything is said about it, port
0 has become a real one, and a port in use is an error rather than a share in another
server's connections.

What is used of granian is its RSGI worker and how that tells of a request: names that
begin with `_` in its package, so its version is pinned (docs/decisions/0005).
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from granian._granian import CallbackScheduler, RSGIWorker, SocketHolder, WorkerSignal
from granian.http import HTTP1Settings

from config import CannotOpen, Settings
from processes.signals import Stop
from web.intake import Intake, Service

BACKLOG = 1024
_REMEDIES = {
    errno.EADDRINUSE: "stop what uses it, or choose another --port (0 picks a free one)",
    errno.EACCES: "choose a --port above 1023",
}
SPARE_THREADS = 4  # that take requests in while all others work
IDLE_THREAD_SECONDS = 30
SEND_SECONDS = 0.5  # for the last answers to be sent
HEADER_BYTES_MAX = 64 << 10  # beyond this granian itself answers, with a bare 431


class CannotListen(CannotOpen):
    """The address cannot be listened on; the text says why and what to do."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 picks a free one."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise CannotListen(f"cannot listen on host={host}: {error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        remedy = _REMEDIES.get(error.errno or 0, "choose another --host")
        raise CannotListen(
            f"cannot listen on port {port} of {host}: {error.strerror}; {remedy}"
        ) from error
    return listener


def leave() -> NoReturn:
    """End the process that served, with status 0, once it has nothing left to do.

    A thread of granian's may still ask for the interpreter, as may one of a request that
    went on for too long. Where the interpreter had ended before, that would be a crash.
    """
    logging.shutdown()
    with suppress(OSError):
        sys.stdout.flush()
    os._exit(0)


class Server:
    """Serves an application until a stop is asked for. `listener` becomes the server's."""

    def __init__(
        self, application: Service, listener: socket.socket, settings: Settings
    ) -> None:
        self._intake = Intake(application, settings)
        self._listener = listener
        self._settings = settings

    def run(
        self, stop: Stop, on_ready: Callable[[], None], grace_seconds: float
    ) -> bool:
        """Serve; False if requests were still running `grace_seconds` after the stop.

        Where that was asked for already, nothing is served and nothing said.
        """
        if stop.asked:
            self._listener.close()
            return True
        ended = WorkerSignal()
        ended.add_cb(lambda: None)  # it wants one to call
        self._intake.start()
        worker = self._worker()
        scheduler = _Scheduler(_Inline(), self._intake.begin)
        serving = threading.Thread(
            target=worker.serve_str, args=(scheduler, _Inline(), ended), name="kv-serve"
        )
        serving.daemon = True
        serving.start()
        on_ready()
        stop.wait()
        ended.set()
        finished = self._intake.stop(grace_seconds)
        serving.join(SEND_SECONDS)
        return finished and not serving.is_alive()

    def _worker(self) -> Any:
        settings = self._settings
        http = HTTP1Settings(
            header_read_timeout=int(settings.idle_seconds * 1000),
            max_buffer_size=HEADER_BYTES_MAX,
        )
        worker: Any = RSGIWorker
        descriptor = self._listener.detach()  # closed by the worker when it ends
        extra = (BACKLOG,) if sys.platform.startswith(("linux", "freebsd")) else ()
        holder: Any = SocketHolder
        no_tls: tuple[Any, ...] = (False, None, None, None, "1.3", None, [], False)
        return worker(
            1,
            (None, holder(descriptor, False, *extra)),
            None,
            1,  # thread that reads and writes
            1,
            settings.threads + SPARE_THREADS,
            IDLE_THREAD_SECONDS,
            settings.max_connections,
            "1",
            http,
            None,
            False,
            None,
            *no_tls,
            (None, None),
        )


class _Scheduler(CallbackScheduler):
    """Hands each request to a function, instead of to an event loop's tasks."""

    __slots__ = ()

    def __new__(cls, loop: Any, begin: Callable[[Any], None]) -> Any:
        """What granian asks of one: a loop, and functions that enter and leave a task."""
        new: Any = super().__new__
        return new(cls, loop, _no_task, None, _no_task, _no_task)

    def __init__(self, loop: Any, begin: Callable[[Any], None]) -> None:
        self._schedule_fn = begin


async def _no_task(*_: Any) -> None:
    """There are no tasks."""


class _Inline:
    """Stands in for an event loop: runs a callback at once, in the calling thread."""

    def call_soon_threadsafe(
        self, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> None:
        """Run a callback."""
        callback(*args)

    call_soon = call_soon_threadsafe
