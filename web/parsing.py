"""What a request says: its query, key, conditions and body, checked.

Everything here reads the WSGI environment, where the path is Latin-1 that stands for
bytes (PEP 3333) and a header that is not ASCII is empty. What cannot be understood is
an InvalidRequest whose text says what would be.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_args
from urllib.parse import parse_qsl

import msgspec

from models import Condition, InvalidRequest
from web.encodings import body_bytes
from web.problems import NotJson

Environ = dict[str, Any]
T = TypeVar("T")

# A type has parameters of which some may be empty (RFC 9110, sections 8.3.1 and 5.6.6).
_JSON = re.compile(
    r'[ \t]*application/json[ \t]*(?:;[ \t]*(?:charset=(?:utf-?8|"utf-?8")[ \t]*)?)*',
    re.IGNORECASE,
)
_CHARSET = re.compile(r"[;,][ \t]*charset[ \t]*=", re.IGNORECASE)
_ETAGS = re.compile(r'\s*(W/)?"([\x21\x23-\x7e]*)"\s*(?:,|$)')
_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_DEEPER = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}
_LONE_SURROGATE = re.compile(
    r"\\ud[89ab][0-9a-f]{2}(?!\\ud[c-f][0-9a-f]{2})|"
    r"(?<!\\ud[89ab][0-9a-f]{2})\\ud[c-f][0-9a-f]{2}",
    re.IGNORECASE,
)

# --- The address ---------------------------------------------------------------------


def query_of(environ: Environ, known: Sequence[str]) -> Mapping[str, str]:
    """The query parameters; InvalidRequest for one that is unknown or repeated.

    Only one whose name ends with [] may be repeated: its values are joined by commas.
    """
    text = environ.get("QUERY_STRING")
    if not text:
        return {}
    try:
        pairs = parse_qsl(
            text.encode("latin-1").decode(),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=100,
        )
    except ValueError as error:
        raise InvalidRequest(f"the query cannot be read: {error}") from error
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            raise InvalidRequest(
                f"unknown query parameter {name!r} ({_known(name, known)})"
            )
        if name in found and name.endswith("[]"):
            value = f"{found[name]},{value}"
        elif name in found:
            raise InvalidRequest(f"the query parameter {name!r} is given twice")
        found[name] = value
    return found


def level_of(query: Mapping[str, str]) -> str | None:
    """The consistency level asked for; None: the store's own."""
    level = query.get("consistency")
    if level == "":
        raise InvalidRequest("consistency is empty: name a level, or leave it out")
    return level


def number_of(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    """A whole number from the query, 0 to `most`."""
    text = query.get(name)
    if text is None:
        return default
    if re.fullmatch("[0-9]{1,16}", text) is None or int(text) > most:
        raise InvalidRequest(
            f"{name} is a whole number from 0 to {most} (got {text!r})"
        )
    return int(text)


def path_key(key: str) -> str:
    """The key that the path ends with, unless its bytes may not have been UTF-8.

    What reads the path puts U+FFFD where they were not. A key may also truly hold one: it
    is named in the query, which comes as it was sent.
    """
    if "\ufffd" in key:
        raise InvalidRequest(
            "the key in the path is not UTF-8: percent-encode the bytes of its UTF-8 form "
            "(a key that holds U+FFFD itself is named in the query: ?key=)"
        )
    return key


def query_key(query: Mapping[str, str]) -> str:
    """The key that the query names."""
    try:
        return query["key"]
    except KeyError:
        raise InvalidRequest("which key? Put it in the path, or give ?key=") from None


# --- Conditions ----------------------------------------------------------------------


def write_condition(environ: Environ) -> Condition | None:
    """What If-Match and If-None-Match ask of a write or delete; None: nothing."""
    match = environ.get("HTTP_IF_MATCH")
    none_match = environ.get("HTTP_IF_NONE_MATCH")
    if match is None and none_match is None:
        return None
    if none_match is not None and none_match.strip() != "*":
        raise InvalidRequest(
            "on a write, If-None-Match can only be * (create, never overwrite); "
            'to overwrite one version, send If-Match: "<version>"'
        )
    versions, any_version = (None, False) if match is None else _match(match)
    return Condition(versions, if_absent=none_match is not None, if_present=any_version)


def is_unchanged(environ: Environ, version: str) -> bool:
    """True if the reader said, in If-None-Match, that it has this version already."""
    header = environ.get("HTTP_IF_NONE_MATCH")
    if header is None:
        return False
    if header.strip() == "*":
        return True
    return version in (version for _, version in _etags("If-None-Match", header))


def _match(header: str) -> tuple[tuple[str, ...] | None, bool]:
    """If-Match as (the versions it lists, whether any version will do)."""
    if header.strip() == "*":
        return None, True
    tags = _etags("If-Match", header)
    if any(weak for weak, _ in tags):
        raise InvalidRequest(
            'If-Match compares exactly, so W/ cannot hold: send "<version>" without it'
        )
    return tuple(version for _, version in tags), False


def _etags(name: str, header: str) -> list[tuple[str, str]]:
    """A list of entity tags (RFC 9110, section 8.8.3) as (weakness, version)."""
    tags: list[tuple[str, str]] = []
    position = 0
    while position < len(header) or not tags:
        found = _ETAGS.match(header, position)
        if found is None:
            raise InvalidRequest(
                f"{name} is not understood (got {header[:100]!r}): send the version in "
                f'double quotes, as in {name}: "0123456789abcdef0123", several with '
                "commas between, or * for any"
            )
        tags.append((found[1] or "", found[2]))
        position = found.end()
    return tags


# --- Bodies --------------------------------------------------------------------------


class Body(msgspec.Struct, frozen=True):
    """How a route takes its body: `decoder` names the shape, `example` is one for curl."""

    decoder: msgspec.json.Decoder[Any]
    example: str
    optional: bool = False
    levels: int = 0  # around each value, more than a write of one key has

    def read(self, environ: Environ, bytes_max: int, depth_max: int) -> Any:
        """The body in its shape; an empty one, where that is allowed, with defaults."""
        data = body_bytes(environ, bytes_max)
        if not data and self.optional:
            return self.decoder.decode(b"{}")
        if environ.get("CONTENT_TYPE") != "application/json":
            self._check_type(environ)
        _check_depth(data, depth_max + self.levels)
        return decode(data, self.decoder)

    def _check_type(self, environ: Environ) -> None:
        given = environ.get("CONTENT_TYPE") or ""
        if _JSON.fullmatch(given) is not None:
            return
        charset = _CHARSET.search(given)
        wanted = "application/json" if charset is None else "application/json, in UTF-8"
        host = environ.get("HTTP_HOST", "localhost")
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        scheme = environ.get("wsgi.url_scheme", "http")
        raise NotJson(
            f"the body must be sent as {wanted} (got {given or 'no type'!r}): "
            f"curl -X {method} {scheme}://{host}{path} "
            f"-H 'Content-Type: application/json' -d '{self.example}'"
        )


def body(shape: type, example: str, *, optional: bool = False, levels: int = 0) -> Body:
    """A body of this shape."""
    return Body(msgspec.json.Decoder(shape), example, optional, levels)


def decode(data: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """JSON text in the decoder's shape; InvalidRequest that says where it is wrong."""
    try:
        if not data.isascii():
            data.decode()  # the decoder does not look into text that it keeps as it is
        found = decoder.decode(data)
    except msgspec.ValidationError as error:
        raise InvalidRequest(_misfit(str(error), decoder.type)) from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"the body is not UTF-8: {error.reason} (byte {error.start})"
        ) from error
    except RecursionError as error:
        raise InvalidRequest("the body is nested too deeply") from error
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"the body is not JSON: {_broken(data, error)}") from error
    if b"\\u00" in data or _has_twice(data, decoder.type):
        _check_unique(data)
    return found


def _check_depth(data: bytes, depth_max: int) -> None:
    """InvalidRequest if arrays and objects are nested deeper than that."""
    if data.count(b"[") + data.count(b"{") <= depth_max:
        return
    depth = 0
    for match in _BRACKETS.finditer(data):
        depth += _DEEPER.get(match[0], 0)
        if depth > depth_max:
            raise InvalidRequest(
                f"the body is nested too deeply: at most {depth_max} arrays and objects in "
                "one another; the setting is max_depth"
            )


def _fields(shape: Any) -> tuple[str, ...]:
    """The names of a shape's fields; of a choice of shapes, those of all."""
    if isinstance(shape, type) and issubclass(shape, msgspec.Struct):
        config = shape.__struct_config__
        tag = (config.tag_field,) if config.tag_field is not None else ()
        return (*tag, *shape.__struct_encode_fields__)
    return tuple({name: None for one in get_args(shape) for name in _fields(one)})


def _known(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    names = ", ".join(known) or "none on this route"
    return f"did you mean {near[0]!r}? Known: {names}" if near else f"known: {names}"


def _has_twice(data: bytes, shape: Any) -> bool:
    """Whether a field of the shape may be there twice; its name may be in a value too."""
    return any(data.count(f'"{name}"'.encode()) > 1 for name in _fields(shape))


def _misfit(message: str, shape: Any) -> str:
    """What does not fit the shape, with the names that would."""
    found = re.search("unknown field `(.*)`", message)
    if found is None or not _fields(shape):
        return f"the body does not fit: {message}"
    known = _known(found[1], _fields(shape))
    return f"the body has an unknown field {found[1]!r} ({known})"


def _broken(data: bytes, error: msgspec.DecodeError) -> str:
    """Where JSON text breaks, as a line and a column where that can be found."""
    text = data.decode()
    try:
        json.loads(text, parse_constant=_refuse, parse_int=str, parse_float=str)
    except RecursionError:
        return str(error)
    except ValueError as found:
        return str(found)
    if (lone := _LONE_SURROGATE.search(text)) is not None:
        return (
            f"{lone.group()} is half of a surrogate pair, and no character "
            f"(char {lone.start()})"
        )
    return str(error)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON (null or a string could stand for it)")


def _check_unique(data: bytes) -> None:
    """InvalidRequest if the outermost object has a field twice.

    Costs a full parse, so it is asked only of a body that may have one.
    """
    outermost: list[tuple[str, Any]] = []

    def keep(pairs: list[tuple[str, Any]]) -> None:
        outermost[:] = pairs

    try:
        json.loads(data, object_pairs_hook=keep, parse_int=str, parse_float=str)
    except RecursionError as error:
        raise InvalidRequest("the body is nested too deeply") from error
    seen: set[str] = set()
    for name, _ in outermost:
        if name in seen:
            raise InvalidRequest(f"the body has the field {name!r} twice")
        seen.add(name)
