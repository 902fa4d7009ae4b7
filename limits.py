"""What keys, values and times to live may be, and how much; checked where they come in."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from json.encoder import encode_basestring
from typing import Any

import msgspec

from models import KEY_BYTES_MAX, InvalidRequest, StorageFull, TooLarge, Version

TTL_SECONDS_MAX = 100 * 365 * 86_400.0
# The year 6429: beyond it there would be no room left for versions to grow.
VERSION_MAX = Version((1 << 79) - 1)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_encode = json.JSONEncoder(
    allow_nan=False, ensure_ascii=False, separators=(",", ":")
).encode


def check_key(key: str, bytes_max: int = KEY_BYTES_MAX) -> None:
    """Raise InvalidRequest unless `key` is 1 to `bytes_max` bytes without controls."""
    if not isinstance(key, str):
        raise InvalidRequest(f"a key is a string (got {type(key).__name__})")
    if key.isascii() and key.isprintable() and 0 < len(key) <= bytes_max:
        return
    try:
        size = len(key.encode())
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            "a key is valid Unicode (it has a lone surrogate)"
        ) from error
    if size == 0:
        raise InvalidRequest("a key has at least one character (it is empty)")
    if size > bytes_max:
        raise TooLarge(f"a key has at most {bytes_max} bytes of UTF-8 (it has {size})")
    if (found := _CONTROL.search(key)) is not None:
        raise InvalidRequest(
            f"a key has no control characters (it has U+{ord(found.group()):04X} "
            f"at position {found.start()})"
        )


def json_text(value: Any, bytes_max: int) -> bytes:
    """`value` as JSON text; `msgspec.Raw` is JSON text already and kept as it is."""
    if isinstance(value, msgspec.Raw):
        text = bytes(value)
    else:
        try:  # a string is the most common value, and the encoder's own path is longer
            said = encode_basestring(value) if type(value) is str else _encode(value)
            text = said.encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidRequest(
                f"the value cannot be said in JSON: {error}"
            ) from error
    if len(text) > bytes_max:
        raise TooLarge(
            f"a value has at most {bytes_max} bytes as JSON (it has {len(text)}); "
            "the setting is max_value_bytes"
        )
    return text


def check_ttl(seconds: float) -> int:
    """A time to live in milliseconds, at least 1; InvalidRequest if it is not one."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise InvalidRequest(
            f"ttl is a number of seconds (got {type(seconds).__name__})"
        )
    if not 0 < seconds <= TTL_SECONDS_MAX:  # NaN fails this too
        raise InvalidRequest(
            f"ttl is above 0 and at most {TTL_SECONDS_MAX:.0f} seconds "
            f"(got {float(seconds) if abs(seconds) < 1e300 else 'far more'})"
        )
    return max(1, math.ceil(seconds * 1000))


def check_restored(
    version: Version, expires_at_ms: int, now_ms: int, ahead_ms: int
) -> None:
    """Raise InvalidRequest unless a backup may have had this version and this end.

    One far ahead of the store's time would take it along, and with it the end of every key that
    has one and the time for which deletes are remembered.
    """
    if not 0 < version <= VERSION_MAX or not 0 <= expires_at_ms <= VERSION_MAX.ms:
        raise InvalidRequest(
            "version and expires_at_ms are as GET /records gave them "
            f"(got {version:x}, {expires_at_ms})"
        )
    if version.ms > now_ms + ahead_ms:
        ahead_s = (version.ms - now_ms) // 1000
        raise InvalidRequest(
            f"the version {version.text} is {ahead_s} seconds ahead of the store's time: stop "
            "the store and start it with the machine's clock right, or, where it is, with a "
            "higher max_clock_jump_seconds"
        )


class Room:
    """How much more may be stored, of `bytes_max`; `measure` tells how much is.

    It is measured once for many writes: each measurement gives room for at most a
    hundredth of the whole, so writers side by side go over by no more than that.
    """

    def __init__(self, bytes_max: int, measure: Callable[[], int]) -> None:
        self._bytes_max = bytes_max
        self._measure = measure
        self._left = 0

    def take(self, size: int) -> None:
        """Raise StorageFull if there is no room for so many bytes."""
        self._left -= size
        if self._left >= 0:
            return
        free = self._bytes_max - self._measure() - size
        if free < 0:
            raise StorageFull(
                f"the store holds as much as it may (max_stored_bytes={self._bytes_max}): "
                "delete keys, or raise it; reads and deletes go on"
            )
        self._left = min(free, self._bytes_max // 100)
