"""No program of ours decides by the words of a message: it has codes and fields for that.

A message is for people, and may be reworded. So neither `detail`, `problem` nor the text
of an error is compared, searched or matched. It is a check of the source, and finds what
is written plainly; what goes through a variable first, it does not.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_architecture import (
    ROOT,
    Module,
    Plant,
    everything,
    expect_none,
    files,
    plant,
)

__all__ = ["everything", "plant"]  # fixtures

PROSE = {"detail", "problem", "trouble"}  # fields that hold sentences
SEARCHES = set(
    "count endswith find fullmatch index match partition removeprefix rfind rpartition "
    "search split startswith".split()
)
IN_SCRIPTS = re.compile(
    rf"\b(?:{'|'.join(PROSE)}|message)\s*(?:\?\.|\.)\s*"
    r"(?:endsWith|includes|indexOf|match|search|split|startsWith)\("
    rf"|\.test\([^)]*\b(?:{'|'.join(PROSE)}|message)\b"
    rf"|(?<!layout)\.(?:{'|'.join(PROSE)})\s*[!=]==?\s*[\"'`]"
)


def decisions_by_prose(modules: list[Module]) -> list[str]:
    """Where a sentence is compared or searched; tests may, as they see what it says."""
    return [
        f"{module.path}:{line} decides by the words of a message"
        for module in modules
        if not module.path.name.startswith("test_")
        for line in sorted(_lines(module.tree))
    ]


def _lines(tree: ast.AST) -> Iterator[int]:
    caught = {
        node.name for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            operands = (node.left, *node.comparators)
            is_looked_into = not isinstance(node.ops[0], ast.Is | ast.IsNot)
            if is_looked_into and any(_is_prose(each, caught) for each in operands):
                yield node.lineno
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            operands = (node.func.value, *node.args)
            if node.func.attr in SEARCHES and any(
                _is_prose(each, caught) for each in operands
            ):
                yield node.lineno


def _is_prose(node: ast.expr, caught: set[str | None]) -> bool:
    """`x.detail`, `x["detail"]`, `x.get("detail")`, or `str(error)` of one that was caught."""
    if isinstance(node, ast.Attribute):
        return node.attr in PROSE
    if isinstance(node, ast.Subscript):
        return isinstance(node.slice, ast.Constant) and node.slice.value in PROSE
    if not isinstance(node, ast.Call):
        return False
    first = node.args[0] if node.args else None
    if isinstance(node.func, ast.Attribute) and node.func.attr == "get":
        return isinstance(first, ast.Constant) and first.value in PROSE
    is_str = isinstance(node.func, ast.Name) and node.func.id in ("str", "repr")
    return is_str and isinstance(first, ast.Name) and first.id in caught


def decisions_in_scripts(root: Path) -> list[str]:
    """The same in the page's scripts, by a pattern."""
    return [
        f"{path}:{number} decides by the words of a message"
        for path in files(root, (".js",))
        if "vendor" not in path.parts
        for number, line in enumerate((root / path).read_text("utf-8").splitlines(), 1)
        if IN_SCRIPTS.search(line)
    ]


def test_no_program_decides_by_the_words_of_a_message(everything):
    expect_none(decisions_by_prose(everything))


def test_no_script_of_the_page_decides_by_the_words_of_a_message():
    expect_none(decisions_in_scripts(ROOT))


@pytest.mark.parametrize(
    "text",
    [
        'if "accept_loss" in error.detail: pass',
        'if error.detail == "no": pass',
        'if answer["detail"].startswith("no"): pass',
        'if "x" not in document.get("detail", ""): pass',
        'if re.search("x", node["problem"]): pass',
        'try: pass\nexcept E as error:\n    if "old epoch" in str(error): pass',
        'try: pass\nexcept E as error:\n    if error.detail.find("x"): pass',
        "if node.problem in known: pass",
    ],
)
def test_decision_by_the_words_of_a_message_is_found(plant: Plant, text):
    modules = plant({"console/new.py": text, "tests/test_new.py": text})

    assert len(decisions_by_prose(modules)) == 1


@pytest.mark.parametrize(
    "text",
    [
        'if error.code == "data_lost": pass',
        "if error.detail: pass",
        "if node.problem is not None: pass",
        'line = f"{error.detail}: {error}"',
        'if "detail" in document: pass',
        'if "problem" not in node: pass',
    ],
)
def test_text_that_is_only_passed_on_is_left_alone(plant: Plant, text):
    assert decisions_by_prose(plant({"console/new.py": text})) == []


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ('if (answer.data?.detail?.includes("accept_loss")) go();', 1),
        ('if (event.detail.endsWith("(wipe)")) go();', 1),
        ("if (/lost/.test(answer.data.detail)) go();", 1),
        ('if (node.problem === "gone") go();', 1),
        ('if (answer.data?.code === "data_lost") go();', 0),
        ("if (answer.data?.detail) show(answer.data.detail);", 0),
        ("const ids = replicas.includes(id);", 0),
    ],
)
def test_decision_of_a_script_by_words_is_found(plant: Plant, tmp_path, text, count):
    plant({"dashboard/new.js": text})

    assert len(decisions_in_scripts(tmp_path)) == count
