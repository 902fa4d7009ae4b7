"""Logs on standard error, as text or as JSON, with the id of the request they belong to.

No value is ever in them, and of a request no key either: its route, not its path.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from contextlib import nullcontext, suppress
from contextvars import ContextVar
from typing import Any, TextIO

from pythonjsonlogger.json import JsonFormatter

from config import Settings

# The id of the request that this thread works on; what it logs carries it.
REQUEST_NAME: ContextVar[str] = ContextVar("request_id")
_TEXT = "%(asctime)s %(levelname)s %(name)s:%(request)s %(message)s"
KEPT_SECONDS = 0.1  # a line of a request is written after that at the latest
KEPT_MAX = 1_000  # lines, or when there are so many
_ESCAPES = {
    ord(c): repr(c)[1:-1]
    for c in map(chr, (*range(32), *range(127, 160), 0x2028, 0x2029))
}
_requests = logging.getLogger("requests.answered")


def configure(settings: Settings) -> None:
    """Set the process's logging up as the settings say."""
    handler = _Handler()
    handler.setFormatter(_Json() if settings.log_format == "json" else _Text(_TEXT))
    handler.addFilter(_named)
    # What no line shows need not be found out (logging's own advice on speed).
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    level = settings.log_level.upper()
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("_granian").setLevel(logging.WARNING)
    if settings.log_requests == "all":
        threading.Thread(
            target=handler.keep_writing, name="kv-logs", daemon=True
        ).start()


def log_request(
    method: str, labels: tuple[str, str], status: str, seconds: float
) -> None:
    """One line for a request that was answered, a warning if that was with 5xx."""
    route, consistency = labels
    level = logging.WARNING if status >= "500" else logging.INFO
    ms = round(seconds * 1000, 3)
    extra = {
        "method": method,
        "route": route,
        "consistency": consistency,
        "status": int(status),
        "ms": ms,
    }
    _requests.log(
        level, "%s %s %s %s ms", method, route or "-", status, ms, extra=extra
    )


def _named(record: logging.LogRecord) -> bool:
    name = REQUEST_NAME.get("")
    record.request_id = name
    record.request = f" [{name}]" if name else ""
    return True


class _Handler(logging.StreamHandler[TextIO]):
    """Writes each line at once, but those of requests that went well many at a time.

    Each write lets another thread have the interpreter, and to get it back can take
    milliseconds on a busy server: with one for each request it does half of what it can.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kept: deque[str] = deque()
        self._over = threading.Event()

    def handle(self, record: logging.LogRecord) -> bool:
        """Without a lock if it is to be kept: a deque takes it as it is."""
        if record.name != _requests.name or record.levelno > logging.INFO:
            self.flush()
            return bool(super().handle(record))
        _named(record)
        try:
            self._kept.append(self.format(record) + self.terminator)
        except Exception:
            self.handleError(record)
        if len(self._kept) >= KEPT_MAX:
            self.flush()
        return True

    def flush(self) -> None:
        """Write what was kept. If that fails it is gone: there is nobody to tell."""
        with self.lock or nullcontext(), suppress(OSError, ValueError):
            count = len(self._kept)  # more may come meanwhile
            self.stream.write("".join(self._kept.popleft() for _ in range(count)))
            super().flush()

    def keep_writing(self) -> None:
        """Write what was kept every now and then, until it is closed."""
        while not self._over.wait(KEPT_SECONDS):
            if self._kept:
                self.flush()

    def close(self) -> None:
        self._over.set()
        self.flush()
        super().close()


class _Text(logging.Formatter):
    """One line a message: what would break it into more, or move a cursor, is escaped.

    Only a traceback is more; its lines are indented, so none can pass for a message.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return super().formatMessage(record).translate(_ESCAPES)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        lines = super().formatException(ei).split("\n")
        return "\n".join(f"  {line.translate(_ESCAPES)}" for line in lines)


class _Json(JsonFormatter):
    """One JSON object a line: timestamp, level, logger, message and what came with it."""

    def __init__(self) -> None:
        super().__init__(
            ["message", "levelname", "name"],
            rename_fields={"levelname": "level", "name": "logger"},
            timestamp=True,
        )

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        log_data.pop("request", None)
        if not log_data.get("request_id"):
            log_data.pop("request_id", None)
        return super().process_log_record(log_data)
