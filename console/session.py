"""What a client command works with: the store it talks to, and how it answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from client import Client, StoreError
from console.exits import Exit
from console.failures import document_of, exit_status, line_of


class Session:
    """One call of one command."""

    def __init__(
        self, url: str, token: str | None, timeout: float, *, as_json: bool
    ) -> None:
        self.url = url
        self.as_json = as_json
        self.client = Client(url, token, timeout)
        self._changing = False  # something was asked for that a lost answer leaves open

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        **query: Any,
    ) -> bytes:
        """One request; its answer as it was sent. Raises StoreError."""
        self._changing = method != "GET"
        return self.client.call(method, path, body, headers, **query)

    def show(self, answer: bytes | Mapping[str, Any], text: str) -> None:
        """Print the answer: its JSON where that is wanted, else the text."""
        if not self.as_json:
            say(text)
        elif isinstance(answer, bytes):
            say(answer.decode().rstrip("\n"))
        else:
            say(to_json(answer))

    def fail(self, error: StoreError) -> Exit:
        """Say on standard error what is wrong; the status to exit with."""
        told = document_of if self.as_json else line_of
        line = told(error, self.url, changing=self._changing)
        click.echo(line if self.as_json else f"run.py: {line}", err=True)
        return exit_status(error, changing=self._changing)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *error: object) -> None:
        self.client.close()


def say(text: str) -> None:
    """Print a line, at once: who reads a pipe wants it now."""
    print(text, flush=True)


def to_json(document: Any) -> str:
    """A document as the server would write it."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


class Document(dict[str, Any]):
    """An object of an answer. What lacks a field of the contract is no store's answer."""

    def __missing__(self, name: str) -> Any:
        raise no_store()


def parsed(answer: bytes) -> Document:
    """The document of an answer. Raises StoreError if it is none."""
    try:
        found = json.loads(answer, object_hook=Document)
    except ValueError as error:
        raise no_store() from error
    if not isinstance(found, Document):
        raise no_store()
    return found


def no_store() -> StoreError:
    """The error for a success that says nothing a store would say."""
    return StoreError("no store's answer", code="unknown", definite=False, status=200)
