"""The shape of the source, checked on the source itself.

Imports go down only and never in a circle, the pure parts stay pure, importing a
module starts nothing, and nothing outgrows its limit. Each rule is a function from
modules to complaints; the first half of the tests asks it about this project, the
second half plants a violation that it must find.
"""

import ast
import graphlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A part is a module in the root or a whole folder. It may import its own folder and
# the parts on lower levels, never a neighbour on its own level.
LEVELS = {
    **dict.fromkeys(["access", "models", "config", "links", "texts"], 0),
    **dict.fromkeys(["storage", "limits", "flags"], 0.5),
    **dict.fromkeys(["protocols", "cluster", "checker", "db", "processes"], 1),
    "engine": 1.5,
    **dict.fromkeys(["replication", "backends", "provenance"], 2),
    **dict.fromkeys(["simulation", "client", "web"], 3),
    **dict.fromkeys(["experiments", "app", "dashboard", "console", "descriptors"], 4),
    **dict.fromkeys(["serving", "benchmarks"], 4.5),
    "command_line": 5,
    "run": 5.5,
}
ALLOWED_AT_THE_BOTTOM = {*sys.stdlib_module_names} | {
    "msgspec",
    "pydantic",
    "xxhash",
}

PURE = {"protocols", "checker"}
BANNED_IN_PURE = set(
    "asyncio concurrent datetime logging multiprocessing os random secrets socket "
    "subprocess threading time uuid".split()
)

# What a call at import time must not be named: it starts, opens or spawns.
STARTERS = set(
    "Connection Flask Pool Popen Process ProcessPoolExecutor Thread ThreadPoolExecutor "
    "Timer check_call check_output connect create_app create_connection mkdir open "
    "read_bytes read_text run sleep socket start system write_bytes write_text".split()
)

LIMITS = {
    "lines in the file": 450,
    "lines in the function": 60,
    "methods in the class": 25,
    "parameters": 6,
    "characters in the line": 100,
}
# Parts that many threads run in. Where two of them make the first decoders of a shape at
# once, those of msgspec 0.22.0 may be half made, and decoding with them ends the process.
THREADED = set(
    "app backends cluster db engine limits models protocols replication storage web".split()
)
MADE_WITH_THE_ROUTES = ("web/parsing.py", "body")

# (where, what): its size today, above the limit. It may shrink, and then this list
# shrinks with it; "app.py::create_app" is where a function is.
EXCEPTIONS: dict[tuple[str, str], int] = {}

UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")
TEXT_SUFFIXES = (".py", ".md", ".toml", ".html", ".css", ".js")

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Module(NamedTuple):
    """One Python file: its path from the root, its text and its syntax tree."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def name(self) -> str:
        parts = self.path.with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def part(self) -> str:
        return self.name.partition(".")[0]


class Import(NamedTuple):
    """One imported name in full, such as `protocols.base.Operation`."""

    line: int
    target: str

    @property
    def part(self) -> str:
        return self.target.partition(".")[0]


class Measure(NamedTuple):
    """The size of one thing: `what` is a key of LIMITS, `line` is where to look."""

    where: str
    what: str
    size: int
    line: int


# --- The rules -------------------------------------------------------------


def wrong_way_imports(modules: list[Module]) -> list[str]:
    """Imports that do not go down, wherever in the file they stand."""
    ours = {module.part for module in modules} | {*LEVELS, "tests"}
    return [
        f"{module.path}:{found.line} imports {found.target}"
        for module in modules
        for found in all_imports(module)
        if not may_import(module.part, found.part, ours)
    ]


def may_import(source: str, target: str, ours: set[str]) -> bool:
    level = LEVELS.get(source, sys.maxsize)
    if target not in ours:
        return level > 0 or target in ALLOWED_AT_THE_BOTTOM
    return target == source or LEVELS.get(target, sys.maxsize) < level


def parts_without_level(modules: list[Module]) -> list[str]:
    parts = {module.part for module in modules}
    return [f"{part} has no level in LEVELS" for part in sorted(parts - {*LEVELS})]


def import_cycles(modules: list[Module]) -> list[str]:
    """One circle of imports that run at import time, if there is any."""
    names = {module.name for module in modules}
    graph = {
        module.name: {
            home
            for node in run_at_import(module.tree)
            for found in imports_of(module, node)
            if (home := longest_known_prefix(found.target, names))
        }
        for module in modules
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return [" imports ".join(reversed(error.args[1]))]
    return []


def impure_imports(modules: list[Module]) -> list[str]:
    return [
        f"{module.path}:{found.line} imports {found.target}"
        for module in modules
        if module.part in PURE
        for found in all_imports(module)
        if found.part in BANNED_IN_PURE
    ]


def starts_at_import(modules: list[Module]) -> list[str]:
    return [
        f"{module.path}:{node.lineno} calls {name} when it is imported"
        for module in modules
        for node in run_at_import(module.tree)
        if isinstance(node, ast.Call)
        and (name := ast.unparse(node.func).rpartition(".")[2]) in STARTERS
    ]


def late_decoders(modules: list[Module]) -> list[str]:
    """Decoders that are made in a function, by name or by decoding in a `type`."""
    return [
        f"{module.path}:{call.lineno} makes a decoder in {function.name}"
        for module in modules
        if module.part in THREADED
        for function in ast.walk(module.tree)
        if isinstance(function, Function)
        and (module.path.as_posix(), function.name) != MADE_WITH_THE_ROUTES
        for call in ast.walk(function)
        if isinstance(call, ast.Call)
        and (name := ast.unparse(call.func).rpartition(".")[2])
        in ("Decoder", "decode", "convert")
        and (name == "Decoder" or any(word.arg == "type" for word in call.keywords))
    ]


def oversized(
    modules: list[Module], exceptions: dict[tuple[str, str], int]
) -> list[str]:
    """What is over its limit, and exceptions larger than they have to be."""
    complaints = []
    largest = dict.fromkeys(exceptions, 0)
    for where, what, size, line in (m for module in modules for m in measures(module)):
        limit = exceptions.get((where, what), LIMITS[what])
        if size > limit:
            complaints.append(f"{where} (line {line}): {size} {what}, limit {limit}")
        if (where, what) in largest:
            largest[where, what] = max(size, largest[where, what])
    for (where, what), size in largest.items():
        if size <= LIMITS[what]:
            complaints.append(f"{where}: remove its exception for {what}")
        elif size < exceptions[where, what]:
            complaints.append(f"{where}: lower its exception for {what} to {size}")
    return complaints


def missing_docstrings(modules: list[Module]) -> list[str]:
    """Modules that say nothing of themselves; a wholly empty one need not."""
    return [
        f"{module.path} has no docstring"
        for module in modules
        if module.tree.body and not ast.get_docstring(module.tree)
    ]


def vague_names(modules: list[Module]) -> list[str]:
    vague = {"utils.py", "helpers.py"}
    return [str(module.path) for module in modules if module.path.name in vague]


def shadowing_tests(root: Path) -> list[str]:
    """Test modules that unittest, with tests/ first on its path, takes for ours."""
    tests = root / "tests"
    return [
        str(path.relative_to(root))
        for part in LEVELS
        for path in (tests / f"{part}.py", tests / part / "__init__.py")
        if path.exists()
    ]


def unfinished_text(root: Path) -> list[str]:
    return [
        f"{path}:{number} {line.strip()}"
        for path in files(root, TEXT_SUFFIXES)
        if path.parts[0] != "tests"
        for number, line in enumerate((root / path).read_text("utf-8").splitlines(), 1)
        if UNFINISHED.search(line)
    ]


# --- Reading the source ----------------------------------------------------


def files(root: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """Paths below root, from root; not what is hidden, installed or produced."""
    for folder, folders, names in os.walk(root):
        here = Path(folder).relative_to(root)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and name != "__pycache__"
            and not (root / here / name / "pyvenv.cfg").exists()
            and str(here / name) not in {"data", "results"}
        )
        yield from (here / name for name in sorted(names) if name.endswith(suffixes))


def load(root: Path) -> list[Module]:
    texts = ((path, (root / path).read_text("utf-8")) for path in files(root, (".py",)))
    return [Module(path, text, ast.parse(text, str(path))) for path, text in texts]


def source_of(modules: list[Module]) -> list[Module]:
    return [module for module in modules if module.path.parts[0] != "tests"]


def all_imports(module: Module) -> Iterator[Import]:
    for node in ast.walk(module.tree):
        yield from imports_of(module, node)


def imports_of(module: Module, node: ast.AST) -> list[Import]:
    if isinstance(node, ast.Import):
        return [Import(node.lineno, alias.name) for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        origin = ".".join(filter(None, [package_of(module, node.level), node.module]))
        return [Import(node.lineno, f"{origin}.{alias.name}") for alias in node.names]
    return []


def package_of(module: Module, level: int) -> str:
    """What the dots of a relative import stand for; without dots, nothing."""
    folders = module.path.parts[:-1]
    return ".".join(folders[: len(folders) - level + 1]) if level else ""


def longest_known_prefix(target: str, names: set[str]) -> str:
    while target and target not in names:
        target = target.rpartition(".")[0]
    return target


def run_at_import(tree: ast.Module) -> Iterator[ast.AST]:
    """What is evaluated on import: no bodies of functions, no guarded blocks."""
    pending: list[ast.AST] = [*tree.body]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and is_guard(node.test):
            pending.extend(node.orelse)
            continue
        yield node
        if isinstance(node, Function):
            pending.extend([*node.decorator_list, node.args])
        elif isinstance(node, ast.Lambda):
            pending.append(node.args)
        else:
            pending.extend(ast.iter_child_nodes(node))


def is_guard(test: ast.expr) -> bool:
    return ast.unparse(test) in {
        "TYPE_CHECKING",
        "typing.TYPE_CHECKING",
        "__name__ == '__main__'",
    }


def measures(module: Module) -> Iterator[Measure]:
    path = str(module.path)
    lines = module.text.splitlines()
    yield Measure(path, "lines in the file", len(lines), 1)
    for number, line in enumerate(lines, 1):
        yield Measure(path, "characters in the line", len(line), number)
    for name, node in definitions(module.tree):
        where, here = f"{path}::{name}", node.lineno
        if isinstance(node, ast.ClassDef):
            methods = [n for n in node.body if isinstance(n, Function)]
            yield Measure(where, "methods in the class", len(methods), here)
        else:
            yield Measure(where, "lines in the function", length_of(node), here)
            yield Measure(where, "parameters", len(parameters_of(node)), here)


def definitions(
    node: ast.AST, outer: str = ""
) -> Iterator[tuple[str, Function | ast.ClassDef]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.ClassDef):
            yield outer + child.name, child
            yield from definitions(child, f"{outer}{child.name}.")
        else:
            yield from definitions(child, outer)


def length_of(function: Function) -> int:
    first = function.body[0]
    documented = ast.get_docstring(function) is not None
    return span_of(function) - (span_of(first) if documented else 0)


def span_of(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def parameters_of(function: Function) -> list[str]:
    args = function.args
    every = [*args.posonlyargs, *args.args, args.vararg, *args.kwonlyargs, args.kwarg]
    return [each.arg for each in every if each and each.arg not in {"self", "cls"}]


# --- This project ----------------------------------------------------------


@pytest.fixture(scope="module")
def everything() -> list[Module]:
    modules = load(ROOT)
    assert Path(__file__).relative_to(ROOT) in {module.path for module in modules}
    return modules


@pytest.fixture(scope="module")
def source(everything: list[Module]) -> list[Module]:
    return source_of(everything)


def expect_none(complaints: list[str]) -> None:
    assert not complaints, "\n".join(["", *complaints])


def test_no_import_goes_up_or_sideways(source):
    expect_none(wrong_way_imports(source))


def test_no_part_lacks_a_level(source):
    expect_none(parts_without_level(source))


def test_no_modules_import_each_other_in_a_circle(source):
    expect_none(import_cycles(source))


def test_no_pure_part_reaches_for_a_clock_chance_threads_or_the_network(source):
    expect_none(impure_imports(source))


def test_no_import_starts_or_opens_anything(source):
    expect_none(starts_at_import(source))


def test_no_decoder_can_be_made_by_two_threads_at_once(source):
    expect_none(late_decoders(source))


def test_nothing_outgrows_its_limit_and_no_exception_outlives_its_need(source):
    expect_none(oversized(source, EXCEPTIONS))


def test_no_module_lacks_a_docstring(everything):
    expect_none(missing_docstrings(everything))


def test_no_module_has_a_name_that_fits_anything(source):
    expect_none(vague_names(source))


def test_no_test_module_hides_a_source_module_from_unittest():
    expect_none(shadowing_tests(ROOT))


def test_nothing_published_is_marked_unfinished():
    expect_none(unfinished_text(ROOT))


# --- Planted violations, which the rules above must find -------------------

Plant = Callable[[dict[str, str]], list[Module]]


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """Write files, given as path: text, and read them as a project."""

    def write(texts: dict[str, str]) -> list[Module]:
        for path, text in texts.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text, "utf-8")
        return load(tmp_path)

    return write


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("db.py", "import replication"),
        ("models.py", "import config"),
        ("models.py", "import flask"),
        ("client.py", "from simulation.kernel import Kernel"),
        ("cluster/repair.py", "from protocols import base"),
        ("cluster/repair.py", "from db import Storage"),
        ("protocols/deep/quorum.py", "from ...app import create_app"),
        ("replication.py", "def lazily():\n    import app"),
        ("app.py", "from tests import builders"),
        ("app.py", "import run"),
    ],
)
def test_import_that_goes_up_or_sideways_is_found(plant, path, text):
    (complaint,) = wrong_way_imports(plant({path: text}))

    assert complaint.startswith(f"{path}:")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("models.py", "import msgspec\nimport enum"),
        ("config.py", "from pydantic import ConfigDict"),
        ("protocols/quorum.py", "from . import base\nfrom models import Record"),
        ("protocols/deep/quorum.py", "from ..base import Ask"),
        ("replication.py", "import cluster.clock, db, protocols, config, xxhash"),
        ("run.py", "import app, experiments, client, models"),
    ],
)
def test_import_that_goes_down_is_left_alone(plant, path, text):
    assert wrong_way_imports(plant({path: text})) == []


def test_new_part_must_be_given_a_level(plant):
    assert parts_without_level(plant({"app.py": "", "extras/new.py": ""})) == [
        "extras has no level in LEVELS"
    ]


def test_circle_of_imports_is_found(plant):
    modules = plant(
        {
            "cluster/__init__.py": "",
            "cluster/faults.py": "from cluster import network",
            "cluster/network.py": "try:\n    from .repair import copy\nfinally: pass",
            "cluster/repair.py": "import cluster.faults",
        }
    )

    (circle,) = import_cycles(modules)

    assert set(circle.split(" imports ")) == {
        "cluster.faults",
        "cluster.network",
        "cluster.repair",
    }
    assert "cluster.network imports cluster.faults" not in circle


def test_circle_that_closes_only_later_or_for_types_is_left_alone(plant):
    types_only = "if TYPE_CHECKING:\n    from cluster import faults\n"
    modules = plant(
        {
            "cluster/faults.py": "from cluster import network, repair",
            "cluster/network.py": f"from typing import TYPE_CHECKING\n{types_only}",
            "cluster/repair.py": "def copy():\n    from cluster import faults",
        }
    )

    assert import_cycles(modules) == []


@pytest.mark.parametrize("banned", sorted(BANNED_IN_PURE))
@pytest.mark.parametrize("part", sorted(PURE))
def test_impure_import_in_a_pure_part_is_found(plant, part, banned):
    text = f"import {banned}\ndef lazily():\n    from {banned}.inner import thing"
    modules = plant({f"{part}/new.py": text, "cluster/new.py": text})

    assert impure_imports(modules) == [
        f"{part}/new.py:1 imports {banned}",
        f"{part}/new.py:3 imports {banned}.inner.thing",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "threading.Thread(target=print).start()",
        "lock, worker = None, Thread(target=print)",
        "class Store:\n    file = open('x')",
        "def serve(connection=sqlite3.connect('x')): ...",
        "if not TYPE_CHECKING:\n    child = subprocess.Popen(['x'])",
        "pools = [multiprocessing.Process() for _ in range(2)]",
        "@listen(socket.socket())\ndef serve(): ...",
        "app = create_app(settings)",
    ],
)
def test_start_at_import_is_found(plant, text):
    assert starts_at_import(plant({"app.py": text}))


@pytest.mark.parametrize(
    "text",
    [
        "def serve():\n    Thread(target=print).start()",
        "class Store:\n    def open(self):\n        self.file = open('x')",
        "make = lambda: open('x')",
        "if __name__ == '__main__':\n    open('x')",
        "WORD = re.compile('open')",
    ],
)
def test_start_in_a_function_is_left_alone(plant, text):
    assert starts_at_import(plant({"app.py": text})) == []


@pytest.mark.parametrize(
    "text",
    [
        "def read(text):\n    return json.decode(text, type=Shape)",
        "class Node:\n    def read(self, text):\n        return Decoder(Shape).decode(text)",
        "def read(found):\n    return msgspec.convert(found, type=Shape)",
    ],
)
def test_decoder_that_is_made_late_is_found(plant, text):
    (found,) = late_decoders(plant({"cluster/new.py": text, "console/new.py": text}))

    assert found.startswith("cluster/new.py:")


@pytest.mark.parametrize(
    "text",
    [
        "_shape = Decoder(Shape)\ndef read(text):\n    return _shape.decode(text)",
        "def read(text):\n    return text.decode()",
    ],
)
def test_decoder_that_is_made_at_import_is_left_alone(plant, text):
    assert late_decoders(plant({"cluster/new.py": text})) == []


def arguments(count: int) -> str:
    return ", ".join(f"a{number}" for number in range(count))


AT_THE_LIMIT = {
    "lines in the file": "pass\n" * 450,
    "lines in the function": 'def f():\n    """One.\n\n    Two."""\n' + "    1\n" * 59,
    "methods in the class": "class C:\n" + "    def f(self): ...\n" * 25,
    "parameters": f"class C:\n    def f(self, *, {arguments(5)}, key=lambda x: x): ...",
    "characters in the line": f"x = {'1' * 96}",
}
ABOVE_THE_LIMIT = {
    "lines in the file": "pass\n" * 451,
    "lines in the function": "class C:\n    async def f():\n" + "        1\n" * 60,
    "methods in the class": "class C:\n" + "    def f(self): ...\n" * 26,
    "parameters": f"def f({arguments(5)}, *rest, **named): ...",
    "characters in the line": f"x = {'1' * 97}",
}


@pytest.mark.parametrize("what", LIMITS)
def test_growth_beyond_the_limit_is_found(plant, what):
    assert oversized(plant({"app.py": AT_THE_LIMIT[what]}), {}) == []

    (complaint,) = oversized(plant({"app.py": ABOVE_THE_LIMIT[what]}), {})
    assert f"{LIMITS[what] + 1} {what}" in complaint


def test_exception_may_neither_grow_nor_outlive_its_need(plant):
    modules = plant({"app.py": "pass\n" * 460})
    key = ("app.py", "lines in the file")

    assert oversized(modules, {key: 460}) == []
    assert "limit 459" in oversized(modules, {key: 459})[0]
    assert "lower" in oversized(modules, {key: 461})[0]
    assert "remove" in oversized(plant({"app.py": "pass\n"}), {key: 460})[0]
    assert "remove" in oversized(modules, {key: 460, ("gone.py", key[1]): 460})[0]


def test_module_without_docstring_is_found(plant):
    modules = plant({"a.py": "x = 1", "b.py": '"""Says it."""', "c/__init__.py": ""})

    assert missing_docstrings(modules) == ["a.py has no docstring"]


def test_name_that_fits_anything_is_found_outside_tests_only(plant):
    modules = plant({"cluster/utils.py": "", "tests/helpers.py": "", "db.py": ""})

    assert vague_names(source_of(modules)) == ["cluster/utils.py"]


def test_test_module_that_hides_a_source_module_is_found(plant, tmp_path):
    plant(
        {"tests/models.py": "", "tests/db/__init__.py": "", "tests/app/test_a.py": ""}
    )

    assert shadowing_tests(tmp_path) == ["tests/models.py", "tests/db/__init__.py"]


@pytest.mark.parametrize("word", ["TODO", "FIXME", "XXX", "NotImplementedError"])
def test_unfinished_mark_is_found_in_source_and_docs(plant, tmp_path, word):
    plant(
        {
            "app.py": f"# {word}: later",
            "docs/operations.md": f"\n{word}",
            "tests/test_app.py": word,
            ".venv/lib.py": word,
            "elsewhere/pyvenv.cfg": "",
            "elsewhere/lib.py": word,
            "data/notes.md": word,
        }
    )

    assert [line.split()[0] for line in unfinished_text(tmp_path)] == [
        "app.py:1",
        "docs/operations.md:2",
    ]
