"""What all client commands share: options, help, the store, the handling of errors.

    @click.command("get", cls=ClientCommand, example=EXAMPLE, ends=meanings())
    @click.argument("key")
    @click.pass_obj
    def get(session: Session, key: str) -> Exit | None: ...

The example is shown in the help and run by the tests: lines with `$` and what they print.
`ends` are the exit statuses of the command, which its help tells.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import Any

import click

from client import InvalidRequest, StoreError, sendable
from console.exits import Exit
from console.session import Session

URL = "http://127.0.0.1:5000"
SHARED = ("url", "token", "timeout", "as_json", "help")  # options of every command
NUMBER = re.compile(r"-[0-9.][0-9.eE+-]*")


class ClientCommand(click.Command):
    """A command on a running store."""

    def __init__(
        self, *args: Any, example: str, ends: Mapping[Exit, str], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.example = example
        self.ends = ends
        self.params += _shared_options()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # A negative number is a value, not an option.
        ctx.ignore_unknown_options = any(map(NUMBER.fullmatch, args))
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run it on its store; the status to exit with."""
        given = {name: ctx.params.pop(name) for name in SHARED if name in ctx.params}
        with Session(**given) as session:
            ctx.obj = session
            try:
                return super().invoke(ctx)
            except StoreError as error:
                return session.fail(error)
            except BrokenPipeError:  # who read the output has enough of it
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return Exit.DONE

    def format_options(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """Its own options, then those of every command."""
        own: list[tuple[str, str]] = []
        shared: list[tuple[str, str]] = []
        for each in self.get_params(ctx):
            record = each.get_help_record(ctx)
            if record is not None and not isinstance(each, click.Argument):
                (shared if each.name in SHARED else own).append(record)
        if own:
            with formatter.section("Options"):
                formatter.write_dl(own)
        with formatter.section("Options of every client command"):
            formatter.write_dl(shared)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The example and the exit statuses."""
        with formatter.section("Example"):
            for line in self.example.strip().splitlines():
                formatter.write(f"  {line}".rstrip() + "\n")
        with formatter.section("Exit status"):
            formatter.write_dl([(str(int(s)), text) for s, text in self.ends.items()])


class WholeNumber(click.IntRange):
    """A whole number, called so where it is none."""

    name = "whole number"


def _shared_options() -> list[click.Parameter]:
    return [
        click.Option(
            ["--url"],
            envvar="KV_URL",
            default=URL,
            callback=_checked_url,
            help=f"The store.  [KV_URL, else {URL}]",
        ),
        click.Option(
            ["--token"],
            envvar=["KV_TOKEN", "KV_API_TOKEN", "KV_READ_TOKEN"],
            callback=_checked_token,
            help="Its token.  [KV_TOKEN, else KV_API_TOKEN, else KV_READ_TOKEN]",
        ),
        click.Option(
            ["--timeout"],
            metavar="SECONDS",
            type=click.FloatRange(min=0, min_open=True, max=86_400),
            default=30.0,
            help="How long to wait for an answer.  [30]",
        ),
        click.Option(
            ["--json", "as_json"],
            is_flag=True,
            help="Print the answer as JSON; failures too, on standard error.",
        ),
    ]


def _checked_url(ctx: click.Context, param: click.Parameter, url: str) -> str:
    if re.match("https?://[^/]", url) is None and not ctx.resilient_parsing:
        raise click.BadParameter(f"{url!r} is no URL such as {URL}")
    return url.rstrip("/")


def _checked_token(
    ctx: click.Context, param: click.Parameter, token: str | None
) -> str | None:
    try:
        return None if token is None else sendable(token)
    except InvalidRequest as error:
        raise click.BadParameter(error.detail) from None
