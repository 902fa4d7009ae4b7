"""The HTTP server: granian's, in this process.

Granian usually runs an application in worker processes of its own. Here the store lives
in memory, so a worker that dies or is replaced would take the data along, and two would
be two stores. So its thread mode is used, with a socket that was opened here: what
listens is known before anything is said about it, port 0 has become a real one, and a
port in use is an error rather than a share in another server's connections.
"""

from __future__ import annotations

import errno
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces
from granian.log import LogLevels
from granian.server.common import AbstractServer
from granian.server.mt import MTServer

BACKLOG = 1024
_REMEDIES = {
    errno.EADDRINUSE: "stop what uses it, or choose another --port (0 picks a free one)",
    errno.EACCES: "choose a --port above 1023",
}
Application = Callable[..., Any]


class CannotListen(Exception):
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


class Server(MTServer):
    """Serves an application until `stop` is called or a signal asks for it.

    `listener` becomes the server's. `threads` requests are worked on at a time.
    """

    def __init__(
        self, application: Application, listener: socket.socket, threads: int
    ) -> None:
        host, port = listener.getsockname()[:2]
        super().__init__(
            target="in this process",
            address=host,
            port=port,
            interface=Interfaces.WSGI,
            blocking_threads=threads,
            http=HTTPModes.http1,
            backlog=BACKLOG,
            log_level=LogLevels.warning,
            log_dictconfig={
                "loggers": {"_granian": {"propagate": True}},
                "handlers": {},
            },
        )
        self._application = application
        self._listener = listener
        self._stopped = threading.Event()
        self._grace_seconds = 0.0

    def run(self, on_ready: Callable[[], None], grace_seconds: float) -> bool:
        """Serve; False if requests were still running `grace_seconds` after the stop.

        Only in the main thread, whose signals it takes: SIGTERM, SIGINT and SIGHUP.
        """
        self.on_startup(on_ready)
        self._grace_seconds = grace_seconds
        AbstractServer.serve(
            self, target_loader=lambda: self._application, wrap_loader=False
        )
        return self._stopped.is_set()

    def stop(self) -> None:
        """Take no more connections, finish what runs, and let `run` return."""
        self.interrupt_signal = True
        self.main_loop_interrupt.set()

    def signal_handler_reload(self, *args: Any, **kwargs: Any) -> None:
        """The terminal went away: there is nothing to reload, so stop."""
        self.stop()

    # What follows takes the place of granian's own, of the release that is pinned.

    def _check_gil(self) -> None:
        """Threads are meant here, with the interpreter's lock or without it."""

    def _init_shared_socket(self) -> None:
        holder: Any = SocketHolder  # on Linux it takes the backlog too
        extra = (BACKLOG,) if sys.platform.startswith(("linux", "freebsd")) else ()
        descriptor = self._listener.detach()  # closed by the worker when it ends
        self._shd = holder(descriptor, False, *extra)

    def _stop_workers(self) -> None:
        workers: list[Any] = self.wrks
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join(self._grace_seconds)
        if not any(worker.inner.is_alive() for worker in workers):
            self._stopped.set()
