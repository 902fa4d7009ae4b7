"""The command line, the picture of the evidence, and what the documentation shows."""

import io
import json
import re
from pathlib import Path

import pytest

from checker.cli import main
from checker.history import History, Operation, read_history, write_history
from checker.linearizability import check_key
from checker.timeline import LINES_MAX, WIDTH, timeline
from tests.checker.registers import Mix, correct

DOCS = Path(__file__).resolve().parents[2] / "docs" / "histories.md"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)

STALE = [
    Operation("c1", "x", "write", 100, 105, "ok", "1"),
    Operation("c2", "x", "write", 106, 109, "ok", "2"),
    Operation("c3", "x", "read", 110, 112, "ok", "1"),
]


@pytest.fixture
def saved(tmp_path):
    def save(operations):
        path = tmp_path / "history.jsonl"
        with path.open("w", encoding="utf-8") as stream:
            write_history(stream, History(operations, note="a test"))
        return str(path)

    return save


def test_good_file_holds(saved, capsys):
    assert main([saved(correct(1, 50))]) == 0

    shown = capsys.readouterr().out
    assert "linearizable" in shown
    assert "violated" not in shown


def test_bad_file_is_violated_and_shows_why(saved, capsys):
    assert main([saved(STALE)]) == 1

    shown = capsys.readouterr().out
    assert "3 operations on 1 keys (a test)" in shown
    assert "c3 read 1 (110 to 112)" in shown
    assert "├" in shown
    assert "stale_reads violated on x" in shown


def test_budget_used_up_is_unknown(saved, capsys):
    assert main(["--budget", "1", saved(correct(3, 300, Mix(lost=0.1)))]) == 2
    assert "a larger budget may do" in capsys.readouterr().out


def test_json_says_the_same(saved, capsys):
    assert main(["--json", saved(STALE)]) == 1

    document = json.loads(capsys.readouterr().out)
    assert document["answer"] == "violated"
    assert document["verdicts"][0]["property"] == "linearizable"
    assert len(document["verdicts"][0]["evidence"]) == 3


def test_standard_input_is_read(saved, monkeypatch, capsys):
    text = Path(saved(STALE)).read_text("utf-8")
    monkeypatch.setattr("sys.stdin", io.StringIO(text))

    assert main(["-"]) == 1
    assert capsys.readouterr().out


def test_values_are_shown_as_they_are(saved, capsys):
    odd = '"[red]é\\n"'
    operations = [Operation("[b]", "[k]", "read", 1, 2, "ok", odd)]

    assert main([saved(operations)]) == 1
    assert odd in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot read"),
        (b'{"type":"history"}\n{"type":"ok","client":"a","time":1}\n', "line 2: a has"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_bad_file_is_refused_in_one_line(tmp_path, capsys, content, reason):
    path = tmp_path / "history.jsonl"
    if content is not None:
        path.write_bytes(content)

    assert main([str(path)]) == 2

    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert reason in error
    assert str(path) in error


@pytest.mark.parametrize("argv", [[], ["a", "b"], ["--budget", "0", "a"]])
def test_bad_call_is_refused(argv, capsys):
    assert main(argv) == 2
    assert "usage" in capsys.readouterr().err


# --- The picture ------------------------------------------------------------


def test_picture_shows_who_did_what_when():
    unknown = Operation("c4", "x", "write", 108, None, "unknown", "3")

    assert timeline([*STALE, unknown], "ms").splitlines() == [
        "client  what             from  to  ms after 100",
        "c1      wrote 1             0   5  ├──┤",
        "c2      wrote 2             6   9        ├─────┤",
        "c4      perhaps wrote 3     8   ?           ├───────────▸",
        "c3      read 1             10  12                 ├──┤",
    ]


def test_picture_stays_within_its_width_and_height():
    history = correct(2, 200, Mix(lost=0.1))
    long = Operation("client" * 9, "x", "write", 0, 10**15, "ok", '"' + "v" * 99 + '"')

    lines = timeline([long, *history]).splitlines()

    assert max(map(len, lines)) <= WIDTH
    assert len(lines) == LINES_MAX + 2
    assert lines[-1].startswith("... and ")
    assert timeline([]) == ""


# --- What the documentation shows -------------------------------------------


def test_example_in_the_documentation_is_a_history():
    (example,) = [text for kind, text in BLOCKS if kind == "json"]

    history = read_history(example.splitlines())

    assert len(history.operations) >= 5
    assert check_key(history.operations).answer == "holds"


JEPSEN_LOG = """\
INFO  jepsen.util - 0\t:invoke\t:read\tnil
INFO  jepsen.util - 0\t:ok\t:read\tnil
INFO  jepsen.util - 3\t:invoke\t:write\t4
INFO  jepsen.core - Worker 2 starting
INFO  jepsen.util - 1\t:invoke\t:cas\t[4 2]
INFO  jepsen.util - 3\t:ok\t:write\t4
INFO  jepsen.util - 1\t:ok\t:cas\t[4 2]
INFO  jepsen.util - 0\t:invoke\t:cas\t[4 1]
INFO  jepsen.util - 0\t:fail\t:cas\t[4 1]
INFO  jepsen.util - 3\t:invoke\t:write\t3
INFO  jepsen.util - 3\t:info\t:write\t:timed-out
INFO  jepsen.util - 1\t:invoke\t:read\tnil
INFO  jepsen.util - 1\t:ok\t:read\t{shown}
INFO  jepsen.util - 1\t:invoke\t:read\tnil
INFO  jepsen.util - 1\t:fail\t:read\t:timed-out
INFO  jepsen.util - 0\t:invoke\t:cas\t[{shown} 0]
INFO  jepsen.util - 0\t:ok\t:cas\t[{shown} 0]
"""


@pytest.mark.parametrize(
    ("shown", "answer"), [("2", "holds"), ("3", "holds"), ("4", "violated")]
)
def test_converter_in_the_documentation_reads_logs_of_jepsen(
    monkeypatch, capsys, shown, answer
):
    (converter,) = [text for kind, text in BLOCKS if kind == "python"]
    log = JEPSEN_LOG.replace("{shown}", shown)
    monkeypatch.setattr("sys.stdin", io.StringIO(log))
    exec(compile(converter, "converter", "exec"), {})

    history = read_history(capsys.readouterr().out.splitlines())

    assert [each.outcome for each in history.operations] == [
        *("ok", "ok", "ok", "failed", "unknown", "ok", "failed", "ok")
    ]
    assert check_key(history.operations).answer == answer
