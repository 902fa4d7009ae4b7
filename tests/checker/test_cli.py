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


def history_of(*values):
    """Each written in turn, then the first of them read: stale if they differ."""
    lines = []
    for time, value in enumerate(values):
        lines += [
            f'{{"type":"invoke","client":"a","time":{time * 2},"action":"write",'
            f'"key":"k","value":{value}}}',
            f'{{"type":"ok","client":"a","time":{time * 2 + 1}}}',
        ]
    return [
        *lines,
        '{"type":"invoke","client":"a","time":99,"action":"read","key":"k"}',
        f'{{"type":"ok","client":"a","time":100,"value":{values[0]}}}',
    ]


@pytest.mark.parametrize(
    "values",
    [
        ("1700000000.123456789", "1700000000.123456790"),
        ("9007199254740992", "9007199254740993"),
        ("[0.1]", "[0.1000000000000000055511151231257827]"),
        ('{"n":1e400}', '{"n":1e401}'),
        ("1e-400", "0"),
        ("1" * 5_000, "1" * 4_999 + "2"),
        ("true", "1"),
    ],
)
def test_stale_read_of_a_value_that_differs_late_does_not_pass(
    values, tmp_path, capsys
):
    path = tmp_path / "history.jsonl"
    path.write_text("\n".join(history_of(*values)))

    assert main([str(path)]) == 1
    assert "stale_reads violated on k" in capsys.readouterr().out


@pytest.mark.parametrize("value", ["1e400", "-1e999999999999", "7" * 20_000, "1.50"])
def test_sound_history_of_an_odd_number_is_not_refused(value, tmp_path, capsys):
    path = tmp_path / "history.jsonl"
    path.write_text("\n".join(history_of('"before"', value)[2:4] + history_of(value)))

    assert main([str(path)]) == 0
    assert "violated" not in capsys.readouterr().out


ENCODED = {
    "plain": lambda text: text.encode(),
    "a mark": lambda text: text.encode("utf-8-sig"),
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "CR": lambda text: text.replace("\n", "\r").encode(),
    "no last end": lambda text: text.rstrip("\n").encode(),
    "empty lines": lambda text: b"\xef\xbb\xbf\n \r\n" + text.encode() + b"\n\n",
}
UNREADABLE = {
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-16LE": lambda text: text.encode("utf-16-le"),
    "UTF-16BE": lambda text: text.encode("utf-16-be"),
    "UTF-32": lambda text: text.encode("utf-32"),
}


@pytest.fixture(params=["a file", "standard input"])
def judged(request, tmp_path, monkeypatch):
    """Judge these bytes; the exit status."""

    def judge(data):
        if request.param == "standard input":
            monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
            return main(["-"])
        path = tmp_path / "history.jsonl"
        path.write_bytes(data)
        return main([str(path)])

    return judge


@pytest.mark.parametrize("how", ENCODED)
def test_history_is_read_however_its_text_was_saved(how, judged, capsys):
    text = "\n".join(history_of('"a line\u2028and\x85more"', '"2"')) + "\n"

    assert judged(ENCODED[how](text)) == 1

    assert "3 operations on 1 keys" in capsys.readouterr().out


@pytest.mark.parametrize("encoding", UNREADABLE)
def test_history_in_another_encoding_is_refused_by_its_name(encoding, judged, capsys):
    assert judged(UNREADABLE[encoding]("\n".join(history_of("1")))) == 2

    error = capsys.readouterr().err
    assert f"line 1: it is {encoding}, not UTF-8" in error
    assert f"iconv -f {encoding} -t UTF-8" in error


def test_line_that_is_not_utf8_is_named(judged, capsys):
    lines = [line.encode() for line in history_of('"é"')]
    lines[2] = lines[2].replace(b'"k"', b'"\xe9"')

    assert judged(b"\r\n".join(lines)) == 2
    assert "line 3: it is not UTF-8 text" in capsys.readouterr().err


def test_empty_file_with_a_byte_order_mark_is_one_without_operations(judged, capsys):
    assert judged(b"\xef\xbb\xbf") == 2
    assert "there is no operation" in capsys.readouterr().err


def test_closed_standard_input_is_refused_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", None)

    assert main(["-"]) == 2
    assert capsys.readouterr().err == "cannot read -: there is no standard input\n"


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
