"""The cluster at a glance: `status`, and the view that `watch` shows too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.table import Table

from console.command import ClientCommand
from console.exits import Exit, meanings
from console.session import Session
from console.state import fetch, standings
from console.tables import table, text_of
from console.words import count_text, share_text, size_text

STATUS = """
$ python run.py status
3 nodes, 2 replicas of a key, primary-backup, ring: ready
node  status  keys  load  share  stale  waits for  problem
0     up         0   0 B  69.1%      0  -          -
1     up         0   0 B  65.2%      0  -          -
2     up         0   0 B  65.6%      0  -          -
"""
COLUMNS = (">keys", ">load", ">share", ">stale", "waits for", "problem")
RAFT_COLUMNS = ("role", ">term", ">revision")


@click.command(
    "status",
    cls=ClientCommand,
    example=STATUS,
    ends=meanings(no="something is not well: see the first line"),
)
@click.pass_obj
def status(session: Session) -> Exit:
    """Show the cluster, node by node.

    A node's share is the part of the key space that it holds a replica of; stale is how
    many keys it lacks, or has an older version of. A member of a Raft cluster has a role, a
    term and a revision too, and stale is how many changes it is behind.

    The first line ends with "ready" if every key can be read and written and all else is
    well, and the exit status is 0. What is not well follows, as in "ready, node 1 down" or
    "not ready, nodes 1 and 2 down", and the exit status is 1.
    """
    state = fetch(session)
    session.show(state, text_of(headline(state), node_table(state["nodes"])))
    return Exit.DONE if state["well"] else Exit.NO


def headline(state: Mapping[str, Any]) -> str:
    """The cluster and all that is not well on a line, and one for each unserved part."""
    count, factor = len(state["nodes"]), state["replication_factor"]
    nodes = "1 node" if count == 1 else f"{count} nodes"
    copies = "1 replica" if factor == 1 else f"{factor} replicas"
    if state["placement"] == "full":
        copies = "all with every key"
    else:
        copies += " of a key"
    found = ["ready" if state["ready"] else "not ready", *standings(state["nodes"])]
    how = f"{state['protocol']}, {state['placement']}"
    text = f"{nodes}, {copies}, {how}: {', '.join(found)}"
    return "\n".join([text, *(f"  {each}" for each in state["not_served"])])


def node_table(nodes: Sequence[Mapping[str, Any]]) -> Table:
    """A line for each node; with its part in Raft where some have one."""
    is_raft = any("raft" in node for node in nodes)
    columns = ("node", "status", *(RAFT_COLUMNS if is_raft else ()), *COLUMNS)
    return table(columns, [_row(node, is_raft=is_raft) for node in nodes])


def _row(node: Mapping[str, Any], *, is_raft: bool) -> tuple[str, ...]:
    return (
        str(node["node_id"]),
        node["status"],
        *(_part(node.get("raft")) if is_raft else ()),
        count_text(node["keys"]),
        size_text(node["bytes"]),
        share_text(node["share"]),
        count_text(node["stale_keys"]),
        ", ".join(map(str, node["waiting_for"])) or "-",
        node.get("problem") or "-",
    )


def _part(raft: Mapping[str, Any] | None) -> tuple[str, str, str]:
    """The part of a node in its Raft cluster, or dashes where it never told of it."""
    if raft is None:
        return "-", "-", "-"
    return raft["role"], str(raft["term"]), f"{raft['revision']:,}"
