"""What the image would run, run here without one: its files, its user, its commands.

There is no container: the base image, the package index and the network between services
are not part of this.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from sysconfig import get_paths

import pytest

from tests.container import ROOT, health_check, is_ignored, only, stages, variables
from tests.e2e.served import environment

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
PACKAGES, IMAGE = stages()
START_SECONDS_MAX = 30.0
NOT_IN_THE_IMAGE = ("matplotlib", "numpy", "PIL", "contourpy", "kiwisolver", "dateutil")


class Container:
    """The image's file system below a folder, and its commands with paths moved there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.app, self.data = root / "app", root / "data"
        ignored = shutil.ignore_patterns("__pycache__")
        for path in ROOT.iterdir():
            if is_ignored(Path(path.name)):
                continue
            if path.is_dir():
                shutil.copytree(path, self.app / path.name, ignore=ignored)
            else:
                self.app.mkdir(exist_ok=True)
                shutil.copy(path, self.app)
        missing = (
            root / "missing"
        )  # packages that this Python has and the image has not
        missing.mkdir()
        for name in NOT_IN_THE_IMAGE:
            (missing / f"{name}.py").write_text("raise ImportError('not in the image')")
        given = {k: self.moved(v) for k, v in variables(IMAGE).items()}
        self.variables = {
            **environment(),
            **given,
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join((str(missing), get_paths()["platlib"])),
            "KV_PORT": "0",
        }
        self.python, self.user = self._become()

    def moved(self, text: str) -> str:
        """Text of the Dockerfile with the image's folders replaced by ours."""
        text = re.sub(r"(?<![\w/])/(app|data)\b", rf"{self.root}/\1", text)
        return text.replace("/venv/bin/python", sys.executable)

    def run(self, text: str) -> None:
        """A RUN of the image. Only root can give a folder away."""
        if os.getuid() != 0:
            text = re.sub(r" -[og] \d+", "", text)
        subprocess.run(["sh", "-ec", self.moved(text)], check=True, timeout=60)

    def words(self, words: list[str]) -> list[str]:
        """An exec form, by our Python."""
        return [self.python if word == "python" else self.moved(word) for word in words]

    def _become(self) -> tuple[str, dict[str, int]]:
        """A Python, and the image's user if we may become one who can use that Python."""
        if os.getuid() != 0:
            return sys.executable, {}
        user, group = map(int, only(IMAGE, "USER").text.split(":"))
        for parent in (self.root, *self.root.parents):
            if str(parent).startswith("/tmp/"):
                parent.chmod(parent.stat().st_mode | stat.S_IXGRP | stat.S_IXOTH)
        # Ours may be in a home that nobody else may enter; the system's is not.
        for python in (sys.executable, "/usr/bin/python3"):
            if self._works(python, user, group):
                return python, {"user": user, "group": group}
        return sys.executable, {}

    def _works(self, python: str, user: int, group: int) -> bool:
        probe = f"import apsw, granian, msgspec, os; os.listdir({str(self.app)!r})"
        try:
            done = subprocess.run(
                [python, "-c", probe],
                env=self.variables,
                cwd="/",
                user=user,
                group=group,
                capture_output=True,
                check=False,
            )
        except OSError:
            return False
        return done.returncode == 0


@pytest.fixture
def container(tmp_path):
    made = Container(tmp_path)
    for step in IMAGE:
        if step.word == "RUN":
            made.run(step.text)
    return made


def serve(container: Container, *flags: str) -> subprocess.Popen[bytes]:
    command = [*only(IMAGE, "ENTRYPOINT").words, *only(IMAGE, "CMD").words, *flags]
    process: subprocess.Popen[bytes] = subprocess.Popen(
        container.words(command),
        cwd=container.data,
        env=container.variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **container.user,  # type: ignore[call-overload]
    )
    return process


def test_packages_that_are_left_are_the_ones_of_this_python(tmp_path):
    for step in PACKAGES:
        if step.word == "COPY":
            *sources, _ = step.text.split()
            for source in sources:
                shutil.copy(ROOT / source, tmp_path)
    edits = [s.text for s in PACKAGES if s.word == "RUN" and s.text.startswith("sed")]
    for text in edits:
        subprocess.run(["sh", "-ec", text], cwd=tmp_path, check=True)

    left = re.findall(
        r"^([\w-]+)==(\S+)", (tmp_path / "requirements.txt").read_text(), re.M
    )

    assert len(edits) == 1
    assert "matplotlib" not in dict(left)
    assert len(left) > 8
    for name, wanted in left:
        assert version(name) == wanted


def test_it_starts_as_its_user_is_found_healthy_keeps_data_and_stops_in_time(container):
    container.variables["KV_API_TOKEN"] = "of-the-operators"
    process = serve(container)
    try:
        assert process.stdout is not None
        port = None
        deadline = time.monotonic() + START_SECONDS_MAX
        while port is None:
            line = process.stdout.readline().decode()
            assert line or process.poll() is None, "it ended"
            assert time.monotonic() < deadline
            port = re.search(r"on http://127\.0\.0\.1:(\d+)", line)
        asked = {**container.variables, "KV_PORT": port[1]}

        healthy = subprocess.run(
            container.words(health_check(IMAGE)),
            env=asked,
            cwd="/",
            timeout=5,
            capture_output=True,
            check=False,
        )

        assert healthy.returncode == 0, healthy.stderr
        owner = container.user.get("user", os.getuid())
        assert Path(f"/proc/{process.pid}").stat().st_uid == owner
        file = container.data / "nodes" / "node-0" / "records-1.db"
        assert file.stat().st_uid == owner
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert time.monotonic() - began < 5
        unhealthy = subprocess.run(
            container.words(health_check(IMAGE)),
            env=asked,
            cwd="/",
            timeout=5,
            capture_output=True,
            check=False,
        )
        assert unhealthy.returncode != 0
    finally:
        process.kill()
        process.communicate()


def test_without_a_token_it_does_not_start_and_says_why(container):
    process = serve(container)
    try:
        said, _ = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()

    assert process.returncode == 2
    assert b"api_token" in said
    assert said.count(b"\n") == 1
