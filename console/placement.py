"""Where a key lives: `where`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from console.command import ClientCommand
from console.exits import meanings
from console.session import Session, parsed
from console.suggestions import suggest_keys
from console.tables import table, text_of

WHERE = """
$ python run.py put greeting hello
greeting: written on nodes 0 and 2, version 01a203f300fc00000000
$ python run.py where greeting
greeting: token 1fc809e0902f8741, partition 508 -> nodes 0, 2
ring: the first 2 different nodes at or after the partition's start
node  status  holds   in sync  version
0     up      newest  yes      01a203f300fc00000000
2     up      newest  yes      01a203f300fc00000000
"""


@click.command("where", cls=ClientCommand, example=WHERE, ends=meanings())
@click.argument("key", shell_complete=suggest_keys)
@click.pass_obj
def where(session: Session, key: str) -> None:
    """Show which nodes hold a key, why those, and what each of them has.

    A key need not exist to have a place. What a node that is down holds is unknown.
    """
    answer = session.ask("GET", "/replicas", key=key)
    if session.as_json:
        session.show(answer, "")
        return
    found, cluster = parsed(answer), parsed(session.ask("GET", "/nodes"))
    session.show(answer, text_of(*_why(found, cluster), _replicas(found["replicas"])))


def _why(found: Mapping[str, Any], cluster: Mapping[str, Any]) -> tuple[str, str]:
    replicas = found["replica_set"]
    place = f"token {found['token']}, partition {found['partition']}"
    nodes = ", ".join(map(str, replicas))
    first = (
        f"{found['key']}: {place} -> {'nodes' if len(replicas) > 1 else 'node'} {nodes}"
    )
    if cluster["placement"] == "full":
        return first, "full: every node holds every key"
    return first, (
        f"{cluster['placement']}: the first {len(replicas)} different nodes at or after "
        "the partition's start"
    )


def _replicas(replicas: Sequence[Mapping[str, Any]]) -> Any:
    newest = max((each["version"] or "" for each in replicas), default="")
    rows = [
        (
            str(each["node_id"]),
            each["status"],
            holds(each, newest),
            "yes" if each["in_sync"] else "no",
            each["version"] or "-",
        )
        for each in replicas
    ]
    return table(("node", "status", "holds", "in sync", "version"), rows)


def holds(replica: Mapping[str, Any], newest: str) -> str:
    """What a replica has of the key, in a word or two, beside the newest version seen."""
    if replica["status"] == "down":
        return "unknown"
    if replica["version"] is None:
        return "absent"
    age = "newest" if replica["version"] == newest else "older"
    return f"{age}, deleted" if replica["deleted"] else age
