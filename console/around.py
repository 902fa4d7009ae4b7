"""What happened, and what is set: `events`, `config`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import click

from console.command import ClientCommand, WholeNumber
from console.exits import meanings
from console.session import Session, parsed, say, to_json

FOLLOW_SECONDS = 0.5  # between two looks
EVENTS = """
$ python run.py fail 0
node 0: down; its storage stays
$ python run.py events
1  2026-11-23 00:20:00.719Z  node_failed  node 0 failed (stop)
"""
CONFIG = """
$ python run.py config
host                     127.0.0.1
port                     5000
...
"""


@click.command("events", cls=ClientCommand, example=EVENTS, ends=meanings())
@click.option(
    "--since",
    type=WholeNumber(min=0),
    default=0,
    metavar="N",
    help="Only those with a number above N.",
)
@click.option("--follow", is_flag=True, help="Go on with what happens, until Ctrl-C.")
@click.pass_obj
def events(session: Session, since: int, follow: bool) -> None:
    """Show what happened to the cluster, oldest first.

    With --follow and --json it is one document for each event, on a line of its own.
    """
    answer = session.ask("GET", "/events", since=since)
    if session.as_json and not follow:
        session.show(answer, "")
        return
    try:
        while True:
            for event in parsed(answer)["events"]:
                say(to_json(event) if session.as_json else event_text(event))
                since = event["number"]
            if not follow:
                return
            time.sleep(FOLLOW_SECONDS)
            answer = session.ask("GET", "/events", since=since)
    except KeyboardInterrupt:
        if not follow:
            raise


@click.command("config", cls=ClientCommand, example=CONFIG, ends=meanings())
@click.pass_obj
def config(session: Session) -> None:
    """Show the settings in force; tokens are never shown."""
    answer = session.ask("GET", "/config")
    settings = parsed(answer)
    width = max(map(len, settings), default=0)
    lines = [f"{name:<{width}}  {_setting(value)}" for name, value in settings.items()]
    session.show(answer, "\n".join(lines))


def event_text(event: Mapping[str, Any]) -> str:
    """An event on one line."""
    at = event["at"].replace("T", " ")
    return f"{event['number']}  {at}  {event['kind']}  {event['detail']}"


def _setting(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return "-" if value is None else str(value)
