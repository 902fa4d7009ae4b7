"""The cluster at a glance: `status`, and the view that `watch` shows too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.table import Table

from console.command import ClientCommand
from console.exits import Exit
from console.session import Session
from console.state import fetch
from console.tables import table, text_of
from console.words import share_text, size_text

STATUS = """
$ python run.py status
3 nodes, 2 replicas of a key, primary-backup, ring: ready
node  status  keys  load  share  stale  waits for  problem
0     up         0   0 B  69.1%      0  -          -
1     up         0   0 B  65.2%      0  -          -
2     up         0   0 B  65.6%      0  -          -
"""
COLUMNS = (
    "node",
    "status",
    ">keys",
    ">load",
    ">share",
    ">stale",
    "waits for",
    "problem",
)


@click.command("status", cls=ClientCommand, example=STATUS)
@click.pass_obj
def status(session: Session) -> Exit:
    """Show the cluster, node by node.

    A node's share is the part of the key space that it holds a replica of; stale is how
    many keys it lacks, or has an older version of. Exit status 1 unless all is well: every
    node up, none stale, every key readable and writable.
    """
    state = fetch(session)
    session.show(state, text_of(headline(state), node_table(state["nodes"])))
    return Exit.DONE if state["well"] else Exit.NO


def headline(state: Mapping[str, Any]) -> str:
    """The cluster on one line, and a line for each thing that cannot be served."""
    count, factor = len(state["nodes"]), state["replication_factor"]
    nodes = "1 node" if count == 1 else f"{count} nodes"
    copies = "1 replica" if factor == 1 else f"{factor} replicas"
    if state["placement"] == "full":
        copies = "all with every key"
    else:
        copies += " of a key"
    ready = "ready" if state["ready"] else "not ready"
    text = f"{nodes}, {copies}, {state['protocol']}, {state['placement']}: {ready}"
    return "\n".join([text, *(f"  {each}" for each in state["not_served"])])


def node_table(nodes: Sequence[Mapping[str, Any]]) -> Table:
    """A line for each node."""
    return table(COLUMNS, [_row(node) for node in nodes])


def _row(node: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        str(node["node_id"]),
        node["status"],
        f"{node['keys']:,}",
        size_text(node["bytes"]),
        share_text(node["share"]),
        f"{node['stale_keys']:,}",
        ", ".join(map(str, node["waiting_for"])) or "-",
        node.get("problem") or "-",
    )
