"""A running store into one file, and back: `backup`, `restore`."""

from __future__ import annotations

import json
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import click
import msgspec
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from access import READ, cannot
from client import StoreError
from console.archive import Damaged, Summary, check
from console.command import ClientCommand
from console.exits import Exit, meanings
from console.failures import exit_status, line_of, problem
from console.restoring import Tally, compare, send
from console.saving import Asker, Stopped, Tell, save
from console.session import Session
from console.words import one_line, size_text
from processes.signals import stoppable

INTERRUPTED = 130  # the status, as of everything that Ctrl-C ends
Document = dict[str, Any]
FILE = click.argument(
    "file", type=click.Path(dir_okay=False, readable=False, path_type=Path)
)
PATIENCE = click.option(
    "--patience",
    type=click.FloatRange(0, 86_400),
    metavar="SECONDS",
    default=30.0,
    help="How long to ask again for what is unavailable.  [30]",
)
BACKUP = """
$ python run.py put greeting hello
greeting: written on nodes 0 and 2, version 01a203f300fc00000000
$ python run.py backup monday.kv
monday.kv: 1 key (358 B), written and read back, in 0.1 s
"""
RESTORE = """
$ python run.py put greeting hello
greeting: written on nodes 0 and 2, version 01a203f300fc00000000
$ python run.py backup tuesday.kv
tuesday.kv: 1 key (358 B), written and read back, in 0.1 s
$ python run.py restore tuesday.kv --resume
tuesday.kv: 0 keys restored, 1 there before, compared, in 0.1 s
"""


@click.command(
    "backup",
    cls=ClientCommand,
    example=BACKUP,
    ends=meanings(Exit.LOST, no="there is no backup, as it could not be written whole"),
)
@FILE
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@PATIENCE
@click.pass_obj
def backup(session: Session, file: Path, force: bool, patience: float) -> int:
    """Write every key of a running store, with its version, to FILE.

    While it serves: each key is as it was at some moment while the backup ran, so it is
    no snapshot across keys. What was acknowledged before it began is in it, or
    something newer. FILE is JSON lines with checksums; it is read back before it gets
    its name, and if any part of the store cannot be read, there is none.
    """
    if str(file) == "-":
        raise click.UsageError("A backup goes to a file, as it is read back.")
    asker = Asker(session.client, patience)

    def work(tell: Tell) -> Document:
        return _document(file, save(asker, file, force=force, tell=tell))

    def text(found: Document) -> str:
        return f"{_amount(found)}, written and read back, in {found['seconds']:.1f} s"

    return _run(session, work, text, lambda: "no backup was made")


@click.command(
    "restore",
    cls=ClientCommand,
    example=RESTORE,
    ends=meanings(Exit.LOST, no="not all of FILE is in the store, or FILE is damaged"),
)
@FILE
@click.option(
    "--check", "only_check", is_flag=True, help="Only look if FILE is intact."
)
@click.option("--resume", is_flag=True, help="Go on with one that was broken off.")
@click.option(
    "--verify/--no-verify", default=True, help="Compare in the end, or not.  [--verify]"
)
@PATIENCE
@click.pass_obj
def restore(session: Session, /, file: Path, patience: float, **flags: bool) -> int:
    """Write every key of FILE to an empty store, under the version that it had.

    The store may have other nodes, another factor or placement. FILE is checked first:
    if it is damaged, nothing is sent. In the end the store is read back and compared.
    Where it has a newer version of a key, or a later delete, that stays. Exit status 0
    means that all of FILE is in the store, 1 that something is not, or FILE is damaged.
    """
    asker = Asker(session.client, patience)
    done = Tally()

    def work(tell: Tell) -> Document:
        try:
            with _opened(file) as source:
                summary = check(source, lambda *so_far: tell("Checking", *so_far))
                if flags["only_check"]:
                    return _document(file, summary)
                _fill(asker, source, done, tell, flags)
        except Damaged as error:
            raise Stopped(f"{file}: {error}", Exit.NO, "damaged") from error
        tally = msgspec.to_builtins(done)
        return {**_document(file, summary), **tally, "compared": flags["verify"]}

    text = _contents if flags["only_check"] else _outcome
    return _run(session, work, text, lambda: _so_far(done, flags))


def _run(
    session: Session,
    work: Callable[[Tell], Document],
    text: Callable[[Document], str],
    left: Callable[[], str],
) -> int:
    """Do the work and show what came of it; where it stops, why and what is `left`."""
    began = time.monotonic()
    try:
        with stoppable(), _progress(session) as tell:
            found = work(tell)
    except Stopped as error:
        return _fail(session, f"{error}; {left()}", error.code, error.status)
    except StoreError as error:
        line = line_of(error, session.url, changing=False)
        status = exit_status(error, changing=False)
        return _fail(session, f"{line}; {left()}", error.code, status)
    except KeyboardInterrupt:
        _fail(session, f"stopped; {left()}", "stopped", Exit.NO)
        return INTERRUPTED
    found["seconds"] = round(time.monotonic() - began, 3)
    session.show(found, f"{found['file']}: {text(found)}")
    return Exit.NO if found.get("kept") or found.get("wrong") else Exit.DONE


def _fill(
    asker: Asker, source: IO[bytes], done: Tally, tell: Tell, flags: Mapping[str, bool]
) -> None:
    """Restore what is in the file, and see that it is there.

    The store may be started anew meanwhile, but not after what was seen to be there.
    """
    process = asker.process()
    if not flags["resume"]:
        asker.check_empty()
    send(asker, source, done, tell)
    if flags["verify"]:
        process = asker.process()
        compare(asker, source, done, tell)
    asker.check_process(process)


@contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    """The file to restore, which is read more than once."""
    try:
        source = file.open("rb")
    except OSError as error:
        text = cannot(READ, file, error)
        raise Stopped(text, Exit.WRONG, "cannot_read") from error
    with source:
        if not stat.S_ISREG(os.fstat(source.fileno()).st_mode):
            text = f"cannot read {file} more than once: it is no regular file"
            raise Stopped(text, Exit.WRONG, "cannot_read")
        yield source


@contextmanager
def _progress(session: Session) -> Iterator[Tell]:
    """A line on the terminal that tells how far it is; nothing where there is none."""
    quiet = session.as_json or not sys.stderr.isatty()
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(
        *columns, console=Console(stderr=True), transient=True, disable=quiet
    ) as shown:
        task = shown.add_task("")

        def tell(what: str, records: int, size: int) -> None:
            so_far = f"{what}: {_keys(records)}, {size_text(size)}"
            shown.update(task, description=so_far)

        yield tell


def _fail(session: Session, text: str, code: str, status: Exit) -> Exit:
    """Say on standard error what is wrong."""
    line = one_line(text)
    told = json.dumps(problem(line, code)) if session.as_json else f"run.py: {line}"
    click.echo(told, err=True)
    return status


def _document(file: Path, summary: Summary) -> Document:
    """What --json shows of a file."""
    return {"file": str(file), **msgspec.to_builtins(summary)}


def _keys(count: int) -> str:
    return f"{count:,} key{'s' if count != 1 else ''}"


def _amount(found: Document) -> str:
    return f"{_keys(found['records'])} ({size_text(found['size_bytes'])})"


def _contents(found: Document) -> str:
    made = found["header"]
    lowest, highest = found["version_min"], found["version_max"]
    versions = f", versions {lowest} to {highest}" if lowest is not None else ""
    return (
        f"intact, {_amount(found)}{versions}; made at {made['made_at']} of "
        f"{made['nodes']} nodes, factor {made['replication_factor']}"
    )


def _so_far(done: Tally, flags: Mapping[str, bool]) -> str:
    """What a restore that stopped leaves behind."""
    if flags["only_check"]:
        return "this is no backup to rely on"
    if not done.count:
        return "nothing was restored"
    return f"{_keys(done.count)} are restored: go on with --resume"


def _outcome(found: Document) -> str:
    """What came of a restore, kind by kind."""
    kinds = {
        "present": "there before",
        "expired": "expired meanwhile",
        "added": "in the store only",
        "kept": f"left, as the store has a newer version or a later delete "
        f"({', '.join(found['kept_keys'])})",
        "wrong": f"NOT as in the file ({', '.join(found['wrong_keys'])})",
    }
    parts = [f"{found[kind]:,} {text}" for kind, text in kinds.items() if found[kind]]
    how = "compared" if found["compared"] else "not compared"
    first = f"{_keys(found['restored'])} restored"
    return ", ".join([first, *parts, how, f"in {found['seconds']:.1f} s"])
