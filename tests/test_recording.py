"""What live clients note of their requests: too much promised is a liar, too little is blind."""

import itertools
import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

import pytest

import client
from checker.history import ABSENT, PRESENT, Operation, State, read_history
from checker.judgement import judge
from experiments.recording import Recording, RecordingClient
from replication import open_manager
from tests.callers import Caller, Direct, judged, look


class Answer(NamedTuple):
    version: str = "01"
    value: Any = None


class Scripted:
    """A store that answers what it was told to."""

    def __init__(self, *answers: Answer | BaseException) -> None:
        self._answers = iter(answers)

    def write(self, key, value, *, if_version, if_absent, consistency):
        return self._next()

    def read(self, key, *, consistency):
        return self._next()

    def delete(self, key, *, if_version, consistency):
        return self._next()

    def _next(self):
        answer = next(self._answers)
        if isinstance(answer, BaseException):
            raise answer
        return answer


class Notes:
    """A recording in memory, of one client and one store."""

    def __init__(self, *answers: Answer | BaseException, **options: Any) -> None:
        self.lines: list[str] = []
        now = itertools.count(1).__next__
        self.recording = Recording(self.lines.append, now=now, **options)
        self.store = self.recording.client(Scripted(*answers), "c")

    @property
    def operations(self) -> list[Operation]:
        return read_history(self.lines).operations


def refusal(kind: type[client.StoreError], **fields: Any) -> client.StoreError:
    return kind("refused", code="refused", definite=True, fields=fields)


LOST = client.NoConnection("reset", code="no_connection", definite=False)
REFUSED = client.NoConnection("refused", code="no_connection", definite=True)
ASK: dict[str, Callable[[RecordingClient], object]] = {
    "write": lambda store: store.write("k", 2),
    "create": lambda store: store.write("k", 2, if_absent=True),
    "swap": lambda store: store.write("k", 2, if_version="05"),
    "delete": lambda store: store.delete("k"),
}


@pytest.mark.parametrize("error", [LOST, KeyError("version"), KeyboardInterrupt()])
def test_request_whose_end_nobody_knows_is_not_noted_as_failed(error):
    notes = Notes(error, Answer("02"))

    with pytest.raises(type(error)):
        notes.store.write("k", 1)
    notes.store.write("k", 2)

    first, second = notes.operations
    assert (first.outcome, first.ended) == ("unknown", None)
    assert second.outcome == "ok"
    assert first.client != second.client  # it may be under way still


@pytest.mark.parametrize(
    ("ask", "error", "saw", "version"),
    [
        ("write", REFUSED, None, None),
        ("write", refusal(client.Unavailable), None, None),
        ("delete", refusal(client.KeyNotFound, version="07"), ABSENT, "07"),
        ("create", refusal(client.VersionMismatch, version="07"), PRESENT, "07"),
        ("swap", refusal(client.VersionMismatch, version="07"), PRESENT, "07"),
        ("swap", refusal(client.VersionMismatch, version=None), ABSENT, None),
    ],
)
def test_refusal_is_noted_with_no_less_and_no_more_than_it_told(
    ask, error, saw, version
):
    notes = Notes(Answer("05", 1), error)
    notes.store.read("k")

    with pytest.raises(type(error)):
        ASK[ask](notes.store)

    refused = notes.operations[1]
    assert refused.outcome == "failed"
    assert (refused.saw, refused.version, refused.client) == (saw, version, "c")


def test_read_of_no_value_is_not_noted_as_a_failure():
    notes = Notes(refusal(client.KeyNotFound, version="07"))

    with pytest.raises(client.KeyNotFound):
        notes.store.read("k")

    [read] = notes.operations
    assert (read.outcome, read.value, read.version) == ("ok", None, "07")


def test_condition_on_a_version_is_not_taken_for_one_on_another_value():
    notes = Notes(*[Answer("01", "a"), Answer("02"), Answer("03"), Answer("04")])
    notes.store.read("k")

    notes.store.write("k", "b", if_version="01")
    notes.store.write("k", "c", if_version="01")  # not what it saw last
    notes.store.delete("k", if_version="03")

    assert [each.condition for each in notes.operations] == [
        None,
        State("is", '"a"'),
        None,
        State("is", '"c"'),
    ]


def test_plain_delete_is_not_said_to_succeed_where_there_is_nothing():
    notes = Notes(Answer("01"))

    notes.store.delete("k")

    assert notes.operations[0].condition == PRESENT


def test_weak_level_is_not_noted_as_the_default():
    notes = Notes(Answer("01", 1), Answer("02"), Answer("02", 1))

    notes.store.read("k", consistency="one")
    notes.store.write("k", 1, consistency="one")
    notes.store.read("k", consistency="linearizable")

    assert [each.level for each in notes.operations] == ["weak", "weak", ""]


def test_long_value_is_not_noted_where_something_stands_for_it():
    notes = Notes(Answer("01"), Answer("01", "x" * 1_000), show=len)

    notes.store.write("k", "x" * 1_000)
    notes.store.read("k")

    assert [each.value for each in notes.operations] == ["1000", "1000"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (True, "true"),
        (Decimal("1700000000.123456789"), "1700000000.123456789"),
        ({"b": Decimal("1E+400"), "a": (1, 2.50)}, '{"a":[1,2.5],"b":1e400}'),
    ],
)
def test_value_is_noted_to_its_last_digit_and_no_other_value_is(value, text):
    notes = Notes(Answer("01"), Answer("01", value))

    notes.store.write("k", value)
    notes.store.read("k")

    assert [each.value for each in notes.operations] == [text, text]


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], "\ud800", object()])
def test_value_that_json_cannot_say_is_not_noted_as_another_one(value):
    notes = Notes(Answer("01", value))

    with pytest.raises((TypeError, ValueError)):
        notes.store.write("k", value)
    with pytest.raises((TypeError, ValueError)):
        notes.store.read("k")

    [read] = notes.operations
    assert (read.action, read.outcome) == ("read", "unknown")


@pytest.mark.parametrize(
    ("held", "answer"),
    [
        (["05", "05"], "holds"),
        (["05", "04"], "violated"),
        (["05", None], "violated"),
        (["04", "04"], "violated"),
    ],
)
def test_replica_of_another_version_does_not_pass_for_an_equal_one(held, answer):
    notes = Notes(Answer("05"), Answer("05", "a"))
    notes.store.write("k", "a")
    notes.store.read("k")

    replicas = [{"node_id": n, "version": version} for n, version in enumerate(held)]
    notes.recording.replicas(notes.store, {"key": "k", "replicas": replicas})

    verdicts = {each.property: each for each in judge(read_history(notes.lines))}
    assert verdicts["convergence"].answer == answer
    assert verdicts["linearizable"].answer == "holds"


def test_replicas_of_a_newer_version_are_not_noted_as_empty():
    notes = Notes(Answer("05"))
    notes.store.write("k", "a")

    replicas = [{"node_id": n, "version": "06"} for n in range(2)]
    with pytest.raises(ValueError, match="read it again"):
        notes.recording.replicas(notes.store, {"key": "k", "replicas": replicas})


@pytest.mark.parametrize("loses_one", [False, True])
def test_callers_notice_a_store_that_forgets_one_write(loses_one):
    notes = Notes()
    keys = ["a", "b"]
    with open_manager(nodes=3, replication_factor=3) as store:
        caller = Caller(
            notes.recording.client(Direct(store), "caller"), random.Random(1)
        )
        for turn in range(200):
            caller.once(keys[turn % 2])
        direct = Direct(store)
        notes.recording.client(direct, "writer").write("a", "acknowledged")
        if loses_one:
            for node in store._nodes.values():
                [held] = node.storage.content.scan("a", "", 1)
                node.storage.purge({"a": held.version})
        look(notes.recording.client(direct, "last"), keys)

    assert caller.answered == 200
    if loses_one:
        with pytest.raises(AssertionError, match="lost_writes"):
            judged(notes.lines)
    else:
        assert len(judged(notes.lines).operations) == 203
