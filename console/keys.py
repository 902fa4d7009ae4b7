"""Keys and their values: `put`, `get`, `del`, `keys`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any

import click
import msgspec

from console.command import ClientCommand, WholeNumber
from console.exits import Exit, meanings
from console.session import Session, no_store, parsed, say, to_json
from console.suggestions import suggest_keys
from console.words import nodes_text
from texts import NotUtf8, utf8_text

PAGE = 1_000  # keys; the most that the store gives at once
LEVEL = click.option(
    "--consistency", metavar="LEVEL", help="Level of this request, such as one."
)
IF_VERSION = click.option(
    "--if-version", metavar="V", help="Only if this is the current version."
)
KEY = click.argument("key", shell_complete=suggest_keys)
TEXT = click.option(
    "--text", is_flag=True, help="Take VALUE as text, even if it is JSON."
)
PUT = """
$ python run.py put greeting '{"text": "hello"}'
greeting: written on nodes 0 and 2, version 01a203f300fc00000000
$ python run.py put name Ada
name: written on nodes 0 and 1, version 01a203f300fc00000000
$ echo '[1, 2]' | python run.py put list -
list: written on nodes 0 and 2, version 01a203f300fc00000000
"""
GET = """
$ python run.py put name Ada
name: written on nodes 0 and 1, version 01a203f300fc00000000
$ python run.py get name
"Ada"
$ python run.py get name --raw
Ada
"""
DELETE = """
$ python run.py put name Ada
name: written on nodes 0 and 1, version 01a203f300fc00000000
$ python run.py del name
name: deleted on nodes 0 and 1, version 01a203f301fc00000000
"""
KEYS = """
$ python run.py put user:2 Ada
user:2: written on nodes 1 and 2, version 01a203f300fc00000000
$ python run.py put user:10 Bob
user:10: written on nodes 0 and 2, version 01a203f300fc00000000
$ python run.py keys user:
user:10
user:2
"""


class _Value(msgspec.Struct):
    """The part of an answer that holds the value, as it was written."""

    value: msgspec.Raw


@click.command(
    "put",
    cls=ClientCommand,
    example=PUT,
    ends=meanings(Exit.CONDITION, Exit.UNCERTAIN, Exit.LOST),
)
@KEY
@click.argument("value")
@click.option("--ttl", type=float, metavar="SECONDS", help="Gone after so long.")
@IF_VERSION
@click.option("--if-absent", is_flag=True, help="Only if the key has no value.")
@LEVEL
@TEXT
@click.pass_obj
def put(session: Session, /, key: str, value: str, text: bool, **given: object) -> None:
    """Create or update a key.

    VALUE is JSON if it can be read as JSON, and text if not: 1 is a number, "1" in
    quotes of JSON is text, so is Ada. With --text it is text in any case. VALUE - is
    standard input, without a byte order mark before it and one line end after it.
    """
    data = _read_input() if value == "-" else value
    body = {
        "key": json.dumps(key),
        "value": json.dumps(data) if text else _as_json(data),
    }
    if given["ttl"] is not None:
        body["ttl"] = json.dumps(given["ttl"])
    document = ",".join(f'"{name}":{each}' for name, each in body.items())
    answer = session.ask(
        "POST",
        "/write",
        f"{{{document}}}".encode(),
        _conditions(given["if_version"], given["if_absent"]),
        consistency=given["consistency"],
    )
    session.show(answer, _written(answer, "written"))


@click.command(
    "get",
    cls=ClientCommand,
    example=GET,
    ends=meanings(Exit.LOST, no="there is no such key"),
)
@KEY
@LEVEL
@click.option("--raw", is_flag=True, help="Print text as it is, without quotes.")
@click.pass_obj
def get(session: Session, key: str, consistency: str | None, raw: bool) -> None:
    """Print the value of a key, as JSON."""
    answer = session.ask("GET", "/read", key=key, consistency=consistency)
    try:
        value = bytes(msgspec.json.decode(answer, type=_Value).value).decode()
    except msgspec.DecodeError as error:
        raise no_store() from error
    if raw and value.startswith('"'):
        value = json.loads(value)
    session.show(answer, value)


@click.command(
    "del",
    cls=ClientCommand,
    example=DELETE,
    ends=meanings(Exit.CONDITION, Exit.UNCERTAIN, Exit.LOST, no="there is no such key"),
)
@KEY
@IF_VERSION
@LEVEL
@click.pass_obj
def delete(
    session: Session, key: str, if_version: str | None, consistency: str | None
) -> None:
    """Delete a key."""
    headers = _conditions(if_version, False)
    answer = session.ask(
        "DELETE", "/delete", None, headers, key=key, consistency=consistency
    )
    session.show(answer, _written(answer, "deleted"))


@click.command("keys", cls=ClientCommand, example=KEYS, ends=meanings(Exit.LOST))
@click.argument("prefix", default="", shell_complete=suggest_keys)
@click.option("--limit", type=WholeNumber(min=0), metavar="N", help="At most so many.")
@click.pass_obj
def keys(session: Session, prefix: str, limit: int | None) -> None:
    """List the keys that begin with PREFIX, or all, in order, one a line."""
    found = islice(_listed(session, prefix, limit), limit)
    if not session.as_json:
        for info in found:
            print(info["key"])
        sys.stdout.flush()
        return
    comma = ""
    sys.stdout.write('{"keys":[')
    for info in found:
        sys.stdout.write(comma + to_json(info))
        comma = ",\n"
    say("]}")


def _listed(
    session: Session, prefix: str, limit: int | None
) -> Iterator[dict[str, Any]]:
    """Keys with their versions, fetched in pages as they are wanted."""
    size = PAGE if limit is None else max(1, min(PAGE, limit))
    after: str | None = ""
    while after is not None:
        page = session.ask("GET", "/keys", prefix=prefix, after=after, limit=size)
        found = parsed(page)
        yield from found["keys"]
        after = found["next"]


def _read_input() -> str:
    if sys.stdin is None:
        raise click.UsageError("there is no standard input: give the value itself.")
    try:
        data = utf8_text(sys.stdin.buffer.read())
    except NotUtf8 as error:
        raise click.UsageError(f"cannot read standard input: {error}.") from error
    end = "\r\n" if data.endswith("\r\n") else "\n"
    return data.removesuffix(end)


def _as_json(data: str) -> str:
    """The value as JSON: what was given, to the last digit, or the text in quotes."""
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
    except RecursionError:
        return data  # too deep, as the store will say
    except (msgspec.DecodeError, UnicodeEncodeError):
        return json.dumps(data)
    return data


def _conditions(if_version: object, if_absent: object) -> dict[str, str]:
    headers = {} if if_version is None else {"If-Match": f'"{if_version}"'}
    return {**headers, "If-None-Match": "*"} if if_absent else headers


def _written(answer: bytes, done: str) -> str:
    found = parsed(answer)
    missed = found["missed"]
    late = f"; {nodes_text(missed)} missed it and will catch up" if missed else ""
    where = nodes_text(found["replicas"])
    return f"{found['key']}: {done} on {where}, version {found['version']}{late}"
