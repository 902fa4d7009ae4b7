"""The examples of the README, each after the other, as they stand, in one folder."""

from __future__ import annotations

import re
import shutil

import pytest

from console.catalogue import COMMANDS
from tests.e2e.reader import Example, Reader, examples_of
from tests.e2e.served import ROOT
from tests.e2e.test_readme import README, curl_lines, steady

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
SERVES = re.compile(r"make run\b|python run\.py( serve)?( --(?!help)|$)")
# These tests are among those that it runs.
ITSELF = re.compile(r"(INSTALL_TOOLS=no )?make test$")
# Status 1 is an answer: a node was just failed; a machine is too slow for the bar.
MAY_SAY_NO = re.compile(r"kv status$|python run\.py bench ")
# Machines that are not there: a service starts all the same, and waits for them.
ELSEWHERE = re.compile(r"http://10\.0\.0\.\d:2379")


def lines_of(example: Example) -> list[str]:
    """The lines of a shell's example, without their comments."""
    lines = (re.sub(r"\s+# .*", "", line) for line in example.text.splitlines())
    return [line for line in lines if line]


def run_shell(reader: Reader, example: Example) -> int:
    """Run the lines of an example, those between two that serve in one shell."""
    together: list[str] = []
    for line in lines_of(example):
        if ITSELF.fullmatch(line):
            continue
        if not SERVES.match(line):
            together.append(f"{line} || [ $? = 1 ]" if MAY_SAY_NO.match(line) else line)
            continue
        reader.run("\n".join(together))
        together = []
        reader.serve(ELSEWHERE.sub("http://127.0.0.1:9", line))
    reader.run("\n".join(together))
    return len(lines_of(example))


def run_curl(reader: Reader) -> int:
    """Run the six lines, and see that each answer is the one that is shown."""
    for line, shown in curl_lines():
        assert steady(reader.run(line.replace("curl ", "curl -sS "))) == steady(shown)
    return len(curl_lines())


@pytest.mark.skipif(shutil.which("etcd") is None, reason="etcd is not installed")
def test_no_example_of_the_readme_fails_after_those_before_it(tmp_path):
    count = 0

    with Reader(tmp_path) as reader:
        for example in examples_of(README):
            if example.language == "console":
                count += run_curl(reader)
            elif example.language == "python":
                reader.python(example.text)
                count += 1
            else:
                count += run_shell(reader, example)

    assert count > 35
    assert {path.name for path in reader.folder.glob("data*")} == {"data", "data5"}
    assert (reader.folder / "monday.kv").exists()


def test_backup_goes_into_another_store_and_another_shape_as_the_page_has_it(tmp_path):
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    section = page.partition("## Backup and restore")[2].partition("\n## ")[0]
    into_another, into_another_shape = [
        lines_of(each) for each in examples_of(section) if each.language == "sh"
    ]

    with Reader(tmp_path) as reader:
        for lines in (into_another, into_another_shape):
            reader.serve("python run.py")
            reader.run("python run.py put greeting hello")
            for line in lines:
                if line.startswith("mv data "):
                    reader.stop()  # as the comment beside it says
                (reader.serve if SERVES.match(line) else reader.run)(line)

        assert "5 nodes, 3 replicas" in reader.run("python run.py status")
        assert "hello" in reader.run("python run.py get greeting")
        assert (reader.folder / "data-before" / "node-2").is_dir()


def test_examples_are_found_in_sentences_too_and_in_their_order():
    page = "Say `make run`:\n```sh\nmake tools  # lists\n```\nand `x`\n```python\npass\n```"

    found = list(examples_of(page))

    assert found == [
        Example("sh", "make run"),
        Example("sh", "make tools  # lists\n"),
        Example("python", "pass\n"),
    ]
    assert lines_of(found[1]) == ["make tools"]


@pytest.mark.parametrize(
    ("line", "serves"),
    [
        ("make run", True),
        ('make run ARGS="--nodes 5"', True),
        ("python run.py", True),
        ("python run.py --nodes 5", True),
        ("python run.py serve --nodes 5", True),
        ("python run.py --help", False),
        ("python run.py serve --help", False),
        ("python run.py status", False),
        ("make tools", False),
    ],
)
def test_what_serves_is_told_from_what_ends_by_itself(line, serves):
    assert bool(SERVES.match(line)) is serves


@pytest.fixture(scope="module")
def at_home(tmp_path_factory):
    """A reader of the helps."""
    with Reader(tmp_path_factory.mktemp("helps")) as made:
        yield made


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_of_each_command_and_the_calls_in_it_that_serve_work(command, at_home):
    text = at_home.run(f"python run.py {command} --help")

    calls = re.findall(r"^python run\.py .*$", text, re.MULTILINE)
    said = [at_home.serve(line) for line in calls]
    at_home.stop()
    assert text.lower().startswith("usage: ")
    assert all("Key-value store on" in each for each in said)
    assert len(said) == (command == "")
