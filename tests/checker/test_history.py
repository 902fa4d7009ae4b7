"""Files: what is written is read again, and a bad line is named with what is right."""

import io
import json
import threading
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checker.history import (
    ABSENT,
    PRESENT,
    BadHistory,
    History,
    Operation,
    Recorder,
    Replica,
    State,
    read_history,
    write_history,
)
from checker.values import DEPTH_MAX, canonical, parse
from tests.checker.spellings import json_texts

texts = json_texts.map(parse).map(canonical)
states = st.sampled_from([ABSENT, PRESENT]) | st.builds(
    State, st.sampled_from(["is", "is_not"]), texts
)
versions = st.none() | st.text(min_size=1)


@st.composite
def operations(draw, client):
    time = draw(st.integers(-10, 2**60))
    history = []
    for _ in range(draw(st.integers(0, 4))):
        action = draw(st.sampled_from(["read", "write", "delete"]))
        outcome = draw(st.sampled_from(["ok", "failed", "unknown"]))
        told = outcome != "unknown"
        time = began = time + draw(st.integers(0, 3))
        if told:
            time += draw(st.integers(0, 3))
        found = action == "read" and outcome == "ok"
        value = draw(texts) if action == "write" else None
        history.append(
            Operation(
                client,
                draw(st.text()),
                action,
                began,
                time if told else None,
                outcome,
                draw(st.none() | texts) if found else value,
                None if action == "read" else draw(st.none() | states),
                draw(st.none() | states) if outcome == "failed" else None,
                draw(versions) if told else None,
                draw(st.sampled_from(["", "weak"])),
            )
        )
    return history


@st.composite
def histories(draw):
    clients = draw(st.lists(st.text(), unique=True, max_size=3))
    every = [each for client in clients for each in draw(operations(client))]
    replica = st.builds(Replica, st.text(), st.text(), st.none() | texts, versions)
    replicas = draw(st.lists(replica, max_size=3))
    return History(every, replicas, draw(st.text()), draw(st.text()))


def by_client(history):
    clients = defaultdict(list)
    for each in history.operations:
        clients[each.client].append(each)
    return clients


@settings(max_examples=40)
@given(histories())
def test_written_history_is_read_again(history):
    stream = io.StringIO()
    write_history(stream, history)
    stream.seek(0)

    again = read_history(stream)

    assert by_client(again) == by_client(history)
    assert again.replicas == history.replicas
    assert (again.unit, again.note) == (history.unit, history.note)


def test_lines_without_a_header_or_with_blank_ones_are_read():
    history = read_history(
        [
            "\n",
            '{"type":"invoke","client":"a","time":1,"action":"write","key":"x",'
            '"value":{"b":1,"a":[null]},"if":{"not":"q"},"level":"weak"}',
            '{"type":"invoke","client":"b","time":2,"action":"read","key":"x"}',
            '{"type":"ok","client":"b","time":3,"value":null,"version":"7"}',
            '{"type":"info","client":"a","time":9}',
            '{"type":"invoke","client":"b","time":4,"action":"delete","key":"x","if":"present"}',
            '{"type":"fail","client":"b","time":5,"saw":"absent"}',
            b'{"type":"invoke","client":"b","time":6,"action":"read","key":"x"}',
            '{"type":"invoke","client":"b","time":7,"action":"read","key":"x"}',
        ]
    )

    first, second, third, fourth, fifth = history.operations
    assert first == Operation(
        "a",
        "x",
        "write",
        1,
        None,
        "unknown",
        '{"a":[null],"b":1}',
        State("is_not", '"q"'),
        level="weak",
    )
    assert (second.value, second.version, second.ended) == ("null", "7", 3)
    assert (third.condition, third.saw, third.outcome) == (PRESENT, ABSENT, "failed")
    assert [each.outcome for each in (fourth, fifth)] == ["unknown", "unknown"]


@pytest.mark.parametrize("name", ["value", "if", "saw"])
@pytest.mark.parametrize(
    ("one", "other", "are_equal"),
    [
        ("1", "1.0", True),
        ("1", "10e-1", True),
        ("-0.0", "0", True),
        ("[1.50]", "[15e-1]", True),
        ('{"a":1,"b":"A"}', '{"b":"\\u0041","a":1e0}', True),
        ("1700000000.123456789", "1700000000.123456790", False),
        ("9007199254740993", "9007199254740992.0", False),
        ("1e400", "1e401", False),
        ("1", "true", False),
        ("0", "false", False),
        ("1", '"1"', False),
        ("[1,2]", "[2,1]", False),
    ],
)
def test_values_are_one_where_their_json_is_and_nowhere_else(
    name, one, other, are_equal
):
    def told(text):
        if name == "value":
            lines = [ASK.replace(":1}", f":{text}}}")]
            return read_history(lines).operations[0].value
        state = f'"{name}":{{"not":{text}}}}}'
        if name == "if":
            return read_history([ASK[:-1] + "," + state]).operations[0].condition
        failed = '{"type":"fail","client":"a","time":6,' + state
        return read_history([ASK, failed]).operations[0].saw

    assert (told(one) == told(other)) == are_equal


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_line_ends_and_a_byte_order_mark_are_no_part_of_a_line(mark, end):
    text = end.join(["", ASK, '{"type":"ok","client":"a","time":6}'])

    as_bytes = read_history((mark + text.encode()).splitlines(keepends=True))
    as_text = read_history((mark.decode() + text).splitlines(keepends=True))

    assert as_bytes == as_text
    assert [each.outcome for each in as_bytes.operations] == ["ok"]


ASK = '{"type":"invoke","client":"a","time":5,"action":"write","key":"x","value":1}'
READ = '{"type":"invoke","client":"a","time":5,"action":"read","key":"x"}'


@pytest.mark.parametrize(
    ("lines", "line", "reason"),
    [
        (["x"], 1, "a line is one JSON object"),
        (["[]"], 1, "a line is one JSON object"),
        (["{}"], 1, "a line is one JSON object"),
        ([b"\xff"], 1, "a line is one JSON object"),
        ([ASK, '{"type":"okay"}'], 2, '"type" is one of history, invoke, ok'),
        (['{"type":7}'], 1, '"type" is one of'),
        ([ASK.replace("time", "tine")], 1, '"invoke" may have: client, time'),
        ([ASK.replace("5", "5.5")], 1, "Expected `int`"),
        ([ASK.replace(',"value":1', "")], 1, 'a write needs a "value"'),
        ([ASK.replace("write", "delete")], 1, 'a delete cannot have a "value"'),
        ([ASK.replace("write", "swap")], 1, "not one of read, write, delete"),
        ([ASK[:-1] + ',"if":"there"}'], 1, '"if" is "absent", "present"'),
        ([ASK[:-1] + ',"if":{"is":1}}'], 1, '{"not": ...}, not {"is":1}'),
        ([READ[:-1] + ',"if":"absent"}'], 1, 'a read cannot have an "if"'),
        ([ASK[:-1] + ',"level":"one"}'], 1, 'not "weak"'),
        ([ASK.replace(":1}", ":NaN}")], 1, "NaN is not JSON"),
        ([ASK.replace(":1}", ":01}")], 1, "not JSON: Expecting"),
        ([ASK, ASK.replace(":1}", ':1,"key":"y"}')], 2, "an object has 'key' twice"),
        ([ASK.replace(":1}", ':1,"k\\u0065y":"y"}')], 1, "an object has 'key' twice"),
        ([ASK.replace(":1}", ':[{"n":1,"n":1}]}')], 1, "an object has 'n' twice"),
        ([ASK[:-1] + ',"if":{"value":{"n":1,"n":1}}}'], 1, "has 'n' twice"),
        ([ASK.replace(":1}", f":{'[' * 600}{']' * 600}}}")], 1, f"most {DEPTH_MAX} "),
        ([ASK.replace(":1}", f":{'[' * 10**5}}}")], 1, "nested too deeply"),
        (["[" * 10**5], 1, "nested too deeply"),
        ([ASK.replace(":1}", ':"\\ud83d"}')], 1, "\\ud83d is half of a surrogate"),
        ([ASK.replace('"x"', '"\\ude00"')], 1, "\\ude00 is half of a surrogate"),
        ([ASK.replace("5", "1e400")], 1, "Expected `int`"),
        ([ASK.replace('"x"', "1.5")], 1, "Expected `str`"),
        ([ASK, '{"operation":"read","outcome":"ok"}'], 2, "has operation, outcome"),
        ([ASK.encode("utf-16")], 1, "it is UTF-16, not UTF-8"),
        ([ASK.encode("utf-16-le")], 1, "it is UTF-16LE, not UTF-8"),
        ([b'{"type":"\xe9"}'], 1, "it is not UTF-8 text"),
        (['{"type":"ok","client":"a","time":5}'], 1, "a has nothing open"),
        ([ASK, '{"type":"ok","client":"a","time":4}'], 2, "time 4 is before 5"),
        (
            [ASK, '{"type":"ok","client":"a","time":6,"value":1}'],
            2,
            'cannot have a "value"',
        ),
        ([ASK, '{"type":"history"}'], 2, "only ever the first line"),
        (['{"type":"history","format":2}'], 1, "format 2 is not known"),
    ],
)
def test_bad_line_is_named_with_what_is_right(lines, line, reason):
    with pytest.raises(BadHistory) as caught:
        read_history(lines)

    assert caught.value.line == line
    assert reason in str(caught.value)
    assert str(caught.value).startswith(f"line {line}: ")


def test_client_with_two_open_operations_is_not_written():
    stream = io.StringIO()
    both = [
        Operation("a", "x", "read", 1, 5, "ok"),
        Operation("a", "x", "read", 3, 4, "ok"),
    ]

    with pytest.raises(ValueError, match="two operations open at once"):
        write_history(stream, History(both))

    assert stream.getvalue() == ""


def test_recorder_notes_each_event_at_once():
    lines: list[str] = []
    clock = iter(range(100))
    recorder = Recorder(lines.append, lambda: next(clock), unit="ticks")

    first = recorder.invoke("a", "write", "x", "1", ABSENT)
    second = recorder.invoke("b", "read", "x", level="weak")
    recorder.ok(second, value="1", version="7")
    recorder.failed(first, saw=PRESENT, version="7")
    third = recorder.invoke("a", "delete", "x")
    recorder.unknown(third)
    recorder.invoke("b", "delete", "x")

    assert len(lines) == 8
    assert all(line.endswith("\n") for line in lines)
    history = read_history(lines)
    assert history.unit == "ticks"
    assert history.operations == [
        Operation("a", "x", "write", 0, 3, "failed", "1", ABSENT, PRESENT, version="7"),
        Operation("b", "x", "read", 1, 2, "ok", "1", version="7", level="weak"),
        Operation("a", "x", "delete", 4, None, "unknown"),
        Operation("b", "x", "delete", 6, None, "unknown"),
    ]


def test_recorder_with_a_lock_serves_threads():
    pieces: list[str] = []

    def write(line):
        for character in line:  # as bad as it gets
            pieces.append(character)

    recorder = Recorder(write, lambda: 1, lock=threading.Lock())

    def client(name):
        for _ in range(20):
            recorder.ok(recorder.invoke(name, "read", "x"))

    threads = [threading.Thread(target=client, args=(f"c{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    history = read_history("".join(pieces).splitlines())
    assert len(history.operations) == 80
    assert {each.outcome for each in history.operations} == {"ok"}
    assert all(json.loads(line) for line in "".join(pieces).splitlines())
