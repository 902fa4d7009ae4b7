"""Logs on standard error, as text or as JSON, with the id of the request they belong to.

No value is ever in them, and of a request no key either: its route, not its path.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from config import Settings

# The id of the request that this thread works on; what it logs carries it.
REQUEST_NAME: ContextVar[str] = ContextVar("request_id")
_TEXT = "%(asctime)s %(levelname)s %(name)s:%(request)s %(message)s"
_requests = logging.getLogger("requests.answered")


def configure(settings: Settings) -> None:
    """Set the process's logging up as the settings say."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Json() if settings.log_format == "json" else _Text(_TEXT))
    handler.addFilter(_named)
    level = settings.log_level.upper()
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("_granian").setLevel(logging.WARNING)


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


class _Text(logging.Formatter):
    """One line a message; what would break it into more is escaped."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return super().formatMessage(record).replace("\r", "\\r").replace("\n", "\\n")


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
