"""A real Prometheus that scrapes a real server, set up by the files of docs/monitoring."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.e2e.served import ROOT

DOCS = ROOT / "docs" / "monitoring"
START_SECONDS_MAX = 20.0
STOP_SECONDS_MAX = 10.0
MISSING = [name for name in ("prometheus", "promtool") if shutil.which(name) is None]
WHY_MISSING = f"{' and '.join(MISSING)} not installed; tests/install_tools.sh"


class Prometheus:
    """Scrapes `target` each second, with a token. Leaving it ends it, by its own id."""

    def __init__(self, folder: Path, target: str, token: str) -> None:
        self._folder = folder
        folder.mkdir()
        self._log = folder / "prometheus.log"
        set_up(folder, target, token)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def __enter__(self) -> Prometheus:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={self._folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self._folder / 'series'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self.wait_for(lambda: self._get("/-/ready"), START_SECONDS_MAX)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(STOP_SECONDS_MAX)

    def ask(self, path: str, **query: str) -> Any:
        """The `data` of an answer of its API."""
        text = self._get(f"/api/v1/{path}?{urllib.parse.urlencode(query)}")
        answer = json.loads(text)
        assert answer["status"] == "success", answer
        return answer["data"]

    def now(self, query: str) -> list[float]:
        """What a query says now, one number for each series."""
        found = self.ask("query", query=query)["result"]
        return [float(each["value"][1]) for each in found]

    def since(self, query: str, began: float) -> list[float]:
        """What a query said from then to now, all series together."""
        span = {"start": str(began), "end": str(time.time()), "step": "1"}
        found = self.ask("query_range", query=query, **span)["result"]
        return [float(value) for each in found for _, value in each["values"]]

    def wait_for(self, look: Callable[[], Any], seconds: float) -> None:
        """Until it finds something."""
        deadline = time.monotonic() + seconds
        while not self._found(look):
            said = self._log.read_text("utf-8")
            assert self._process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.05)

    @staticmethod
    def _found(look: Callable[[], Any]) -> Any:
        try:
            return look()
        except OSError:
            return None

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.port}{path}", timeout=10
        ) as answer:
            return str(answer.read().decode())


def set_up(folder: Path, target: str, token: str) -> None:
    """The example, its target and the place of its token replaced, and faster."""
    (folder / "token").write_text(token)
    text = (DOCS / "prometheus.yml").read_text("utf-8")
    for old, new in (
        ("store:5000", target),
        ("/run/secrets/kv_read_token", str(folder / "token")),
        ("interval: 15s", "interval: 1s"),
    ):
        assert old in text, f"{old} is not in the example"
        text = text.replace(old, new)
    (folder / "prometheus.yml").write_text(text)
    shutil.copy(DOCS / "alerts.yml", folder)


def queries_of(dashboard: dict[str, Any], **variables: str) -> dict[str, tuple]:
    """Every query of every panel, by panel and letter: the text, and whether instant."""
    found = {}
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            text = substitute(target["expr"], variables)
            name = f"{panel['title']} ({target['refId']})"
            found[name] = (text, target["instant"])
    return found


def substitute(text: str, variables: dict[str, str]) -> str:
    """A query as Grafana sends it."""
    for name, value in variables.items():
        text = re.sub(rf"\$({name}\b|{{{name}}})", value, text)
    return text
