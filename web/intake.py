"""What happens to a request before a thread works on it, and how its answer goes out.

granian receives requests on threads of its own, and says so through callbacks (its RSGI
interface). A request waits here, without a thread, until its body is whole; then one of a
few threads runs the application on it. So a slow client costs a little memory and never a
thread, and everything that waits is bounded: bodies in bytes and in seconds, requests in
number.
"""

from __future__ import annotations

import io
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Protocol

from werkzeug.exceptions import MethodNotAllowed

from config import Settings
from models import InvalidRequest, StoreError, Timeout, Uncertain
from web.encodings import too_large
from web.guard import SAFE_METHODS, SENT_HOST
from web.headers import check_expect
from web.parsing import Environ
from web.problems import (
    ExpectationFailed,
    HeaderTooLarge,
    HeaderUnreadable,
    LengthRequired,
    Overloaded,
    TooSlow,
)
from web.routes import ABANDONED, ARRIVED, LABELS, REQUEST_ID

Application = Callable[[Environ, Any], Iterable[bytes]]
Pairs = list[tuple[str, str]]
WATCH_SECONDS = 0.25  # between two looks for requests that are late
SMALL_BYTES = 64 << 10  # a body up to this size is always received
BODIES_AT_ONCE = 16  # of the largest size: for more there is no room set aside
READ_AWAY_BYTES_MAX = 16 << 20  # a larger body is refused unread, which is abrupt
# A busy service is not a dead one, and whoever watches it should see that it is busy.
ALWAYS = frozenset(("/healthz", "/readyz", "/metrics"))
_VARIABLES = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}
_UNREAD = (LengthRequired, TooSlow, ExpectationFailed)  # the body is still on its way
_SHARED = (REQUEST_ID, LABELS, ARRIVED)
log = logging.getLogger(__name__)


class Service(Protocol):
    """What is served: a WSGI application that can also be told what to refuse with."""

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Answer one request."""

    def refuse(self, error: Exception) -> Application:
        """An application that answers with an error whatever it is asked."""

    def watch(self, load: Callable[[], Mapping[str, int]]) -> None:
        """Show how many requests are in each state, as `load` tells."""


class Exchange:
    """One request and its one answer."""

    __slots__ = (
        "_unanswered",
        "arrived",
        "body",
        "cancel",
        "deadline",
        "environ",
        "hangs_up",
        "size",
        "watcher",
        "worked_on",
    )

    def __init__(self, watcher: Any, deadline: float) -> None:
        self.watcher = watcher
        self.deadline = deadline
        self.arrived = 0.0  # when it was whole, by time.monotonic
        self.body = b""
        self.size = 0  # bytes set aside for a large body
        self.worked_on = False
        self.hangs_up = False  # what is left of the request would be taken for the next
        self.environ: Environ | None = None  # once it is worked on
        self.cancel: Callable[[], Any] | None = None  # stops receiving
        self._unanswered = [None]

    def answer(self, application: Application, environ: Environ) -> None:
        """Run an application on the request and send what it says."""
        parts: list[Any] = []
        text = b"".join(application(environ, partial(_note, parts)))
        self.send(parts[0], parts[1], text)

    def send(self, status: int, headers: list[tuple[str, str]], text: bytes) -> None:
        """Send the answer, unless one was sent already."""
        try:
            self._unanswered.pop()  # one thread only gets to do that
        except IndexError:
            return
        if self.hangs_up:
            headers.append(("Connection", "close"))
        try:
            self.watcher.proto.response_bytes(status, headers, text)
        except Exception as error:  # nobody is there to take it any more
            log.debug("an answer could not be sent: %r", error)
        self.watcher.done()


class Intake:
    """Takes requests in, within the limits of the settings, and has them worked on.

    Start it before the first request, stop it after the last.
    """

    def __init__(
        self,
        service: Service,
        settings: Settings,
    ) -> None:
        self._application: Application = service
        self._refuse = service.refuse
        service.watch(self._load)
        self._settings = settings
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._stopping = False
        self._open: set[Exchange] = set()  # received or worked on now
        self._waiting: deque[Exchange] = deque()  # whole
        self._working = 0  # threads that work on one
        self._reserved = 0  # bytes, for large bodies in `_open`
        self._ended = threading.Event()
        self._watcher = threading.Thread(
            target=self._watch, name="kv-deadlines", daemon=True
        )

    def start(self) -> None:
        """Begin to work on what comes in."""
        self._watcher.start()

    def stop(self, seconds: float) -> bool:
        """Finish what was begun, then end; False if that takes longer than `seconds`."""
        until = time.monotonic() + seconds
        with self._lock:
            self._stopping = True
            while self._open and self._idle.wait(max(0.0, until - time.monotonic())):
                pass
            finished = not self._working
        self._ended.set()
        self._watcher.join()
        return finished

    def _load(self) -> dict[str, int]:
        with self._lock:
            waiting, working = len(self._waiting), self._working
            receiving = len(self._open) - waiting - working
        return {
            "receiving": max(0, receiving),
            "waiting": waiting,
            "working": working,
        }

    def begin(self, watcher: Any) -> None:
        """A request came in; its body may not have."""
        exchange = Exchange(watcher, time.monotonic() + self._settings.body_seconds)
        with self._lock:
            self._open.add(exchange)
        try:
            self._receive(exchange)
        except StoreError as error:
            self._end(exchange, error)
        except Exception as error:
            log.exception("a request failed while it was received")
            self._end(exchange, error)

    def _receive(self, exchange: Exchange) -> None:
        """Have the body received, if there is one; `_received` hears of its end."""
        headers = exchange.watcher.scope.headers
        length = headers.get("content-length")
        check_expect(headers.get("expect"))  # who sends it may wait with the body
        if headers.get("transfer-encoding") is not None:
            raise LengthRequired("a body is sent with its Content-Length")
        if length is None:
            self._whole_now(exchange)
            return
        if int(length) > max(READ_AWAY_BYTES_MAX, self._settings.max_body_bytes):
            raise too_large(self._settings.max_body_bytes)
        if not self._reserve(exchange, int(length)):
            raise Overloaded("too many large bodies are on their way")
        future = exchange.watcher.proto()
        exchange.cancel = future.cancel
        future.add_done_callback(partial(self._received, exchange))

    def _reserve(self, exchange: Exchange, size: int) -> bool:
        """Set room aside for a large body; False if there is none."""
        if size <= SMALL_BYTES:
            return True
        with self._lock:
            if self._reserved + size > BODIES_AT_ONCE * self._settings.max_body_bytes:
                return False
            exchange.size = size
            self._reserved += size
            return True

    def _received(self, exchange: Exchange, future: Any) -> None:
        """The body is whole, or will not be."""
        exchange.cancel = None  # it holds the future, which holds this callback
        try:
            exchange.body = future.result()
        except BaseException:  # the client went away, or was too slow
            self._end(exchange, InvalidRequest("the body did not arrive whole"))
            return
        if len(exchange.body) > self._settings.max_body_bytes:
            self._end(exchange, too_large(self._settings.max_body_bytes))
        else:
            self._whole_now(exchange)

    def _whole_now(self, exchange: Exchange) -> None:
        """Work on it in this thread, or leave it to those that work already."""
        settings = self._settings
        most = settings.max_concurrent_requests
        with self._lock:
            if exchange not in self._open:  # it was too slow, and told so
                return
            free = self._working < settings.threads
            full = self._working + len(self._waiting) >= most
            if not full or exchange.watcher.scope.path in ALWAYS:
                exchange.worked_on = True
                exchange.arrived = time.monotonic()
                exchange.deadline = exchange.arrived + settings.request_seconds
                if free:
                    self._working += 1
                else:
                    self._waiting.append(exchange)
        if not exchange.worked_on:
            self._end(exchange, Overloaded(f"{most} requests are being worked on"))
        elif free:
            self._work(exchange)

    def _work(self, exchange: Exchange | None) -> None:
        """Work on a request, then on those that wait."""
        while exchange is not None:
            try:
                self._run(exchange)
            except Exception as error:  # not the application's: it answers for its own
                log.exception("a request failed")
                self._answer_with(exchange, error)
            with self._lock:
                self._forget(exchange)
                if self._waiting:
                    exchange = self._waiting.popleft()
                else:
                    exchange = None
                    self._working -= 1

    def _run(self, exchange: Exchange) -> None:
        """Run the application, or say what is wrong with the header."""
        scope = exchange.watcher.scope
        pairs = scope.headers.items()
        application = self._application
        if (error := self._fault(scope, pairs)) is not None:
            application = self._refuse(error)
        environ = environ_of(scope, pairs, exchange.body)
        environ[ARRIVED] = exchange.arrived
        exchange.environ = environ
        exchange.answer(application, environ)

    def _fault(self, scope: Any, pairs: Pairs) -> Exception | None:
        """What is wrong with a header, if anything is."""
        if not scope.path.startswith("/") and scope.path != "*":
            return InvalidRequest("the target of a request is a path: it begins with /")
        if not scope.method.isupper():
            return MethodNotAllowed()
        size = len(scope.path) + len(scope.query_string)
        for name, value in pairs:
            size += len(name) + len(value) + 4
        most = self._settings.max_header_bytes
        if size > most:
            return HeaderTooLarge(f"a header has at most {most} bytes (it has {size})")
        names, value_of = scope.headers.keys(), scope.headers.get
        unread = [name for name in names if value_of(name) is None]
        if unread:
            return HeaderUnreadable(f"a header is not ASCII ({', '.join(unread)})")
        if sum(name == "host" for name, _ in pairs) > 1:
            return InvalidRequest("the Host header is there twice: send it once")
        return None

    def _end(self, exchange: Exchange, error: Exception) -> None:
        """Answer a request that is not worked on, here and now."""
        with self._lock:
            if exchange not in self._open or exchange.worked_on:
                return  # it was ended, or its body came, in the same moment
            self._forget(exchange)
        self._answer_with(exchange, error)

    def _answer_with(self, exchange: Exchange, error: Exception) -> None:
        scope = exchange.watcher.scope
        environ = environ_of(scope, scope.headers.items(), b"")
        if exchange.environ is not None:  # under the name that the work on it has
            environ |= {
                n: exchange.environ[n] for n in _SHARED if n in exchange.environ
            }
            exchange.environ[ABANDONED] = True
        exchange.hangs_up = isinstance(error, _UNREAD)
        exchange.answer(self._refuse(error), environ)

    def _forget(self, exchange: Exchange) -> None:
        self._open.remove(exchange)
        self._reserved -= exchange.size
        if self._stopping and not self._open:
            self._idle.notify_all()

    def _watch(self) -> None:
        """Answer for what is late: a body that does not come, a thread that hangs."""
        while not self._ended.wait(WATCH_SECONDS):
            now = time.monotonic()
            with self._lock:
                late = [exchange for exchange in self._open if exchange.deadline < now]
            for exchange in late:
                try:
                    self._answer_late(exchange)
                except Exception:
                    log.exception("a late request could not be answered")

    def _answer_late(self, exchange: Exchange) -> None:
        settings, method = self._settings, exchange.watcher.scope.method
        if not exchange.worked_on:
            seconds = f"{settings.body_seconds:g} seconds"
            self._end(exchange, TooSlow(f"the body did not arrive within {seconds}"))
            cancel, exchange.cancel = exchange.cancel, None
            if cancel is not None:
                cancel()
            return
        exchange.deadline = float("inf")  # once is enough; the thread goes on with it
        what = f"no answer after {settings.request_seconds:g} seconds"
        if method in SAFE_METHODS:
            error: StoreError = Timeout(f"{what}; asking again is safe")
        else:
            error = Uncertain(f"{what}; it goes on, and may be done in the end")
        self._answer_with(exchange, error)


def environ_of(scope: Any, pairs: Pairs, body: bytes) -> Environ:
    """The request as WSGI has it (PEP 3333)."""
    environ: Environ = {
        "REQUEST_METHOD": scope.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": scope.path.encode().decode("latin-1"),
        "QUERY_STRING": scope.query_string,
        "SERVER_PROTOCOL": f"HTTP/{scope.http_version}",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": scope.server.rpartition(":")[2],
        "REMOTE_ADDR": scope.client.rpartition(":")[0],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.scheme,
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, text in pairs:
        variable = _VARIABLES.get(name) or "HTTP_" + name.upper().replace("-", "_")
        if variable in environ:
            text = f"{environ[variable]},{text}"
        environ[variable] = text
    if scope.authority:  # the target is a whole URL
        environ[SENT_HOST] = environ.get("HTTP_HOST", scope.authority)
        environ["HTTP_HOST"] = scope.authority
    return environ


def _note(
    parts: list[Any], status: str, headers: list[tuple[str, str]], *_: Any
) -> None:
    parts[:] = int(status[:3]), headers
