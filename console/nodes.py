"""Nodes, down and up again, and more or fewer: `fail`, `recover`, `add-node`, `remove-node`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from console.command import ClientCommand, WholeNumber
from console.exits import Exit, meanings
from console.session import Session, parsed
from console.suggestions import suggest_modes, suggest_nodes
from console.words import lost_text, nodes_text, size_text

NODE = click.argument("node", type=WholeNumber(min=0), shell_complete=suggest_nodes)
# What a failure does to a node, in the modes that are known here; a store may have others.
STORAGE = {
    "stop": "its storage stays",
    "wipe": "its storage is lost",
    "pause": "its process stands still",
}
FAIL = """
$ python run.py fail 0
node 0: down; its storage stays
$ python run.py fail 1 --mode wipe
node 1: down; its storage is lost
"""
RECOVER = """
$ python run.py fail 0
node 0: down; its storage stays
$ python run.py put greeting hello
greeting: written on node 2, version 01a203f300fc00000000; node 0 missed it and will catch up
$ python run.py recover 0
node 0: up; copied 1 key (17 B), removed 0, in 0.002 s
"""
ADD = """
$ python run.py add-node
node 3: up, a follower at http://127.0.0.1:31871
"""
REMOVE = """
$ python run.py remove-node 2
node 2: removed
"""


@click.command("fail", cls=ClientCommand, example=FAIL, ends=meanings(Exit.UNCERTAIN))
@NODE
@click.option(
    "--mode",
    metavar="MODE",
    shell_complete=suggest_modes,
    help="Its storage stays (stop) or is lost (wipe); or another mode that the store "
    "offers, such as pause.  [stop]",
)
@click.pass_obj
def fail(session: Session, node: int, mode: str | None) -> None:
    """Take a node down."""
    body = {} if mode is None else {"mode": mode}
    answer = session.ask("POST", f"/fail/{node}", body)
    how = STORAGE.get(mode or "stop", mode)
    session.show(answer, f"node {node}: {parsed(answer)['status']}; {how}")


@click.command(
    "recover",
    cls=ClientCommand,
    example=RECOVER,
    ends=meanings(Exit.UNCERTAIN, Exit.LOST, no="it could not catch up yet"),
)
@NODE
@click.option(
    "--accept-loss",
    is_flag=True,
    help="Where no in-sync copy survived, let what this node has be the truth.",
)
@click.pass_obj
def recover(session: Session, node: int, accept_loss: bool) -> Exit:
    """Bring a node back, and wait until it has what it missed.

    It copies that from its peers and nothing else. Exit status 1 if it could not catch
    up yet, as a node that it needs is down, and 7 if it cannot at all, as data are lost.
    """
    answer = session.ask("POST", f"/recover/{node}", {"accept_loss": accept_loss})
    found = parsed(answer)
    session.show(answer, f"node {node}: {_recovered(found)}")
    if found["status"] == "up":
        return Exit.DONE
    return Exit.LOST if found.get("lost_shards") else Exit.NO


@click.command(
    "add-node", cls=ClientCommand, example=ADD, ends=meanings(Exit.UNCERTAIN, Exit.LOST)
)
@click.option(
    "--peer-url",
    metavar="URL",
    help="Where its peers will reach it, if the store does not start it itself.",
)
@click.pass_obj
def add_node(session: Session, peer_url: str | None) -> None:
    """Add a node, and wait until it holds what it should.

    Not every engine can: the one that is built in is given more with `serve --nodes`.
    A node that the store does not start is told how to be started.
    """
    answer = session.ask("POST", "/nodes", {"url": peer_url})
    node = parsed(answer)
    session.show(answer, f"node {node['node_id']}: {_added(node)}")


@click.command(
    "remove-node",
    cls=ClientCommand,
    example=REMOVE,
    ends=meanings(Exit.UNCERTAIN, Exit.LOST),
)
@NODE
@click.pass_obj
def remove_node(session: Session, node: int) -> None:
    """Take a node out for good; every key stays.

    It is refused where too few nodes would stay.
    """
    answer = session.ask("DELETE", f"/nodes/{node}")
    session.show(answer, f"node {parsed(answer)['node_id']}: removed")


def _added(node: Mapping[str, Any]) -> str:
    text, raft = str(node["status"]), node.get("raft")
    if raft is not None:
        text += f", a {raft['role']} at {' and '.join(raft['urls']) or 'no URL yet'}"
    return f"{text}; {node['problem']}" if node.get("problem") else text


def _recovered(node: Mapping[str, Any]) -> str:
    text, waits = str(node["status"]), node["waiting_for"]
    if waits and "raft" in node:
        text += f", waits until a majority is up ({nodes_text(waits)} down)"
    elif waits:
        text += f", waits for {nodes_text(waits)}, which alone has what it lacks"
    if node.get("lost_shards"):
        text += f"; {lost_text(node['lost_shards'])}"
    took = node.get("recovery")
    if took is None or (took["removed"] is None and node["status"] != "up"):
        return text  # what was not measured on the way is not known yet
    return f"{text}; {_took(took)}"


def _took(recovery: Mapping[str, Any]) -> str:
    """What bringing a node back took, as far as the engine measures it."""
    seconds = f"in {recovery['seconds']:.3f} s"
    copied, size, removed = (recovery[name] for name in ("copied", "bytes", "removed"))
    if size is None or removed is None:
        changes = "1 change" if copied == 1 else f"{copied:,} changes"
        return f"caught up with {changes}, {seconds}"
    keys = "1 key" if copied == 1 else f"{copied:,} keys"
    return f"copied {keys} ({size_text(size)}), removed {removed:,}, {seconds}"
