"""A reader of a page, who runs each of its examples after the other in one folder.

A command that serves stays, as in a second terminal, until the next one that serves, or
the end: then it gets what Ctrl-C sends. Whatever else must end well.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.e2e.served import ROOT, environment, free_port

PORTS = "5000", "5001"  # as the pages have them
READY = "Stop with Ctrl-C."
SECONDS_MAX = 600
LEFT_OUT = {
    ".git", ".venv", "data", "results", "__pycache__", ".mypy_cache", ".ruff_cache",
    ".pytest_cache", ".hypothesis",
}  # fmt: skip
_EXAMPLE = re.compile(
    r"```(?P<language>\w+)\n(?P<block>.*?)```|`(?P<inline>(?:[A-Z_]+=\w+ )?make [^`]+)`",
    re.DOTALL,
)


class Example(NamedTuple):
    """Lines to run, in `language`: sh, console or python."""

    language: str
    text: str


def examples_of(page: str) -> Iterator[Example]:
    """Every example of a page, in order, those within a sentence too."""
    for found in _EXAMPLE.finditer(page):
        if found["inline"]:
            yield Example("sh", found["inline"])
        elif found["language"] in ("sh", "console", "python"):
            yield Example(found["language"], found["block"])


class Reader:
    """Runs examples in a copy of the project, on a port that is free."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "project"
        shutil.copytree(ROOT, self.folder, ignore=lambda _, names: LEFT_OUT & {*names})
        self._set_up()
        self._ports = dict(zip(PORTS, (free_port(), free_port()), strict=True))
        port = self._ports[PORTS[0]]
        self.url = f"http://127.0.0.1:{port}"
        self._variables = {
            **{n: v for n, v in environment().items() if not n.startswith("MAKE")},
            "KV_PORT": str(port),
            "KV_URL": self.url,
            "PATH": f"{self.folder}/.venv/bin:{os.environ['PATH']}",
        }
        self._log = folder / "server.log"
        self._server: subprocess.Popen[bytes] | None = None

    def run(self, script: str) -> str:
        """What bash says of a few lines, which must go well."""
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-e", "-c", self.here(script)],
            cwd=self.folder,
            env=self._variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS_MAX,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}"
        return done.stdout

    def python(self, script: str) -> str:
        """The same of Python's."""
        return self.run(f"python -c {shlex.quote(script)}")

    def serve(self, line: str) -> str:
        """Run what serves, once what serves has been stopped; what it says at the start."""
        self.stop()
        with self._log.open("wb") as log:
            self._server = subprocess.Popen(
                ["bash", "--noprofile", "--norc", "-c", self.here(line)],
                cwd=self.folder,
                env=self._variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C goes to all that a terminal runs
            )
        deadline = time.monotonic() + 60
        while READY not in (said := self._log.read_text("utf-8")):
            assert self._server.poll() is None, f"{line}\n{said}"
            assert time.monotonic() < deadline, f"{line}\n{said}"
            time.sleep(0.05)
        return said

    def stop(self) -> None:
        """Press Ctrl-C where something serves; it must end by itself."""
        server, self._server = self._server, None
        if server is not None and server.poll() is None:
            os.killpg(server.pid, signal.SIGINT)
            try:
                server.wait(20)
            finally:
                if server.poll() is None:
                    os.killpg(server.pid, signal.SIGKILL)

    def here(self, text: str) -> str:
        """An example with the ports that are free here."""
        for shown, free in self._ports.items():
            text = re.sub(rf"(127\.0\.0\.1:|--port ){shown}\b", rf"\g<1>{free}", text)
        return text

    def _set_up(self) -> None:
        """Give the copy a .venv that is ready, without making it: `make` would take long."""
        venv = self.folder / ".venv"
        venv.mkdir()
        for path in Path(sys.prefix).iterdir():
            (venv / path.name).symlink_to(path)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
