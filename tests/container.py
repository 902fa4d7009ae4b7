"""What Dockerfile and .dockerignore say, read as far as ours use them."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent


class Step(NamedTuple):
    """One instruction, such as RUN, and what stands after it."""

    word: str
    text: str

    @property
    def words(self) -> list[str]:
        """Of an exec form its words, otherwise nothing."""
        return json.loads(self.text) if self.text.startswith("[") else []


def stages() -> list[list[Step]]:
    """The steps of each stage; the first of each is its FROM."""
    text = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and line[0] != "#"]
    found: list[list[Step]] = []
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found.append([])
        found[-1].append(Step(word, rest.strip()))
    return found


def only(stage: list[Step], word: str) -> Step:
    """The one instruction of that name."""
    (found,) = [step for step in stage if step.word == word]
    return found


def variables(stage: list[Step]) -> dict[str, str]:
    """What ENV sets."""
    pairs = (word for step in stage if step.word == "ENV" for word in step.text.split())
    return dict(pair.split("=", 1) for pair in pairs)


def health_check(stage: list[Step]) -> list[str]:
    """The words of the command that asks whether it lives."""
    found = re.fullmatch(r"(--\S+ )*CMD (\[.*\])", only(stage, "HEALTHCHECK").text)
    assert found is not None
    words: list[str] = json.loads(found[2])
    return words


def is_ignored(path: Path) -> bool:
    """Whether .dockerignore keeps a path of the project out of the image."""
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    parents = [Path(*path.parts[:n]) for n in range(1, len(path.parts) + 1)]
    return any(_matches(p, each) for p in patterns for each in parents)


def _matches(pattern: str, path: Path) -> bool:
    if pattern.startswith("**/"):
        return fnmatchcase(path.name, pattern.removeprefix("**/"))
    return len(path.parts) == 1 and fnmatchcase(path.name, pattern)
