"""Nodes, down and up again: `fail`, `recover`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from console.command import ClientCommand, WholeNumber
from console.exits import Exit
from console.session import Session, parsed
from console.suggestions import suggest_nodes
from console.words import nodes_text, size_text

NODE = click.argument("node", type=WholeNumber(min=0), shell_complete=suggest_nodes)
MODES = ("stop", "wipe")
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


@click.command("fail", cls=ClientCommand, example=FAIL)
@NODE
@click.option(
    "--mode",
    metavar="|".join(MODES),
    default=MODES[0],
    shell_complete=lambda ctx, param, incomplete: [
        mode for mode in MODES if mode.startswith(incomplete)
    ],
    help="Its storage stays (stop), or is lost (wipe).  [stop]",
)
@click.pass_obj
def fail(session: Session, node: int, mode: str) -> None:
    """Take a node down."""
    answer = session.ask("POST", f"/fail/{node}", {"mode": mode})
    storage = {"stop": "its storage stays", "wipe": "its storage is lost"}.get(
        mode, mode
    )
    session.show(answer, f"node {node}: {parsed(answer)['status']}; {storage}")


@click.command("recover", cls=ClientCommand, example=RECOVER)
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
    up yet, as a node that it needs is down.
    """
    answer = session.ask("POST", f"/recover/{node}", {"accept_loss": accept_loss})
    found = parsed(answer)
    session.show(answer, f"node {node}: {_recovered(found)}")
    return Exit.DONE if found["status"] == "up" else Exit.NO


def _recovered(node: Mapping[str, Any]) -> str:
    text, waits = str(node["status"]), node["waiting_for"]
    if waits:
        text += f", waits for {nodes_text(waits)}, which alone has what it lacks"
    took = node.get("recovery")
    if took is None:
        return text
    keys = "1 key" if took["copied"] == 1 else f"{took['copied']:,} keys"
    return (
        f"{text}; copied {keys} ({size_text(took['bytes'])}), "
        f"removed {took['removed']:,}, in {took['seconds']:.3f} s"
    )
