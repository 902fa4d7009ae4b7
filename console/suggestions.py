"""What completion takes from a running store, if it is quick: keys, nodes, modes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

import click
from click.shell_completion import CompletionItem

from client import Client, StoreError
from console.session import parsed

WAIT_SECONDS = 0.5  # longer, and a person thinks that the shell hangs
KEYS_MAX = 100


def suggest_keys(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Keys that begin so."""

    def fetch(store: Client) -> list[str]:
        page = parsed(store.call("GET", "/keys", prefix=incomplete, limit=KEYS_MAX))
        return [info["key"] for info in page["keys"]]

    return _ask(ctx, fetch)


def suggest_nodes(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Ids of nodes that begin so."""

    def fetch(store: Client) -> list[str]:
        ids = (str(node.node_id) for node in store.nodes())
        return [each for each in ids if each.startswith(incomplete)]

    return _ask(ctx, fetch)


def suggest_modes(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Ways in which the store lets a node fail."""

    def fetch(store: Client) -> list[str]:
        schemas = parsed(store.call("GET", "/openapi.json"))["components"]["schemas"]
        modes: list[str] = schemas["FailBody"]["properties"]["mode"].get("enum", [])
        return [mode for mode in modes if mode.startswith(incomplete)]

    return _ask(ctx, fetch)


def _ask(
    ctx: click.Context, fetch: Callable[[Client], list[str]]
) -> list[CompletionItem]:
    """What it finds in time; nothing where there is no answer, or one that is no use."""
    found: list[str] = []

    def ask() -> None:
        url, token = str(ctx.params["url"]), ctx.params["token"]
        with (
            suppress(StoreError, ValueError),
            Client(url, token, WAIT_SECONDS) as store,
        ):
            found.extend(fetch(store))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(WAIT_SECONDS)
    return [CompletionItem(each) for each in found]
