"""What a client notes for each kind of answer, and when it stops waiting for one."""

from typing import Any

import pytest

from checker.history import ABSENT, PRESENT, Operation, State
from cluster.listing import KeyInfo, KeyPage
from models import (
    Timeout,
    Unavailable,
    Uncertain,
    VersionMismatch,
)
from simulation.kernel import MS_US, SECOND_US
from simulation.plan import Step, Times
from simulation.workload import ACTIONS, WEAK, Client
from simulation.world import World
from tests.simulation.small import booted, pass_time, plan_of

KEY = "key-0"


def ask(world: World, *steps: tuple[str, int] | str) -> Client:
    """A client that has gone through these actions, each (name, ttl_ms) or a name."""
    client = client_of(world, *steps)
    client.go_on()
    pass_time(world.kernel, 5 * SECOND_US)
    assert client.is_done
    return client


def client_of(world: World, *steps: tuple[str, int] | str) -> Client:
    pairs = [(step, 0) if isinstance(step, str) else step for step in steps]
    return Client(
        world,
        "c0",
        [Step(n, 0, name, KEY, 1_000, ttl) for n, (name, ttl) in enumerate(pairs, 1)],
    )


def facts(operation: Operation) -> tuple[Any, ...]:
    return (
        operation.action,
        operation.outcome,
        operation.value,
        operation.condition,
        operation.saw,
    )


@pytest.fixture
def world() -> World:
    return booted(plan_of("read"))


def test_what_a_client_was_told_is_not_noted_as_something_else(world):
    steps = (
        "read", "update", "create", "create", "read", "swap", "delete-seen", "delete", "write",
    )  # fmt: skip
    client = ask(world, *steps)

    assert [facts(each) for each in client.operations] == [
        ("read", "ok", None, None, None),
        ("write", "failed", "2", PRESENT, ABSENT),
        ("write", "ok", "3", ABSENT, None),
        ("write", "failed", "4", ABSENT, PRESENT),
        ("read", "ok", "3", None, None),
        ("write", "ok", "6", State("is", "3"), None),
        ("delete", "ok", None, State("is", "6"), None),
        ("delete", "failed", None, PRESENT, ABSENT),
        ("write", "ok", "9", None, None),
    ]
    versions = [each.version or "" for each in client.operations]
    assert (versions[0], versions[1], versions[4]) == ("", "", versions[3])
    assert versions[7] == versions[6]  # of the tombstone
    assert versions[2] < versions[5] < versions[6] < versions[8]


def test_a_condition_is_not_on_another_value_than_the_one_last_seen(world):
    other = Client(world, "c1", [Step(9, 1, "write", KEY, 3_500)])
    other.go_on()
    client = ask(world, "write", "read", "read", "swap", "swap", "read", "swap")

    swaps = [each for each in client.operations if each.condition is not None]
    assert {each.condition for each in swaps} <= {State("is", "1"), State("is", "9")}
    failed = [facts(each)[1::3] for each in swaps]
    assert failed == [("failed", PRESENT), ("failed", PRESENT), ("ok", None)]


def test_a_key_that_was_seen_absent_is_not_swapped_for_what_was_there_before(world):
    other = Client(world, "c1", [Step(9, 1, "delete", KEY, 1_500)])
    other.go_on()
    client = ask(world, "write", "read", "swap", "read", "swap")

    assert [facts(each)[:4] for each in client.operations[1:]] == [
        ("read", "ok", None, None),
        ("write", "ok", "3", None),
        ("read", "ok", "3", None),
        ("write", "ok", "5", State("is", "3")),
    ]


def test_an_operation_s_times_are_not_those_of_another(world):
    began = world.kernel.now
    client = ask(world, "write", "read")

    first, second = client.operations
    assert (first.began, first.ended) == (began + 1_000, began + 1_210)
    assert (second.began, second.ended) == (began + 2_210, began + 2_410)


def test_a_weak_answer_is_not_noted_as_a_strong_one(world):
    client = ask(world, "write-one", "read-one", "write", "read")

    assert [each.level for each in client.operations] == [WEAK, WEAK, "", ""]
    assert [each.action for each in client.operations] == ["write", "read"] * 2


def test_a_page_of_keys_is_not_taken_for_more_than_a_look_at_each(world):
    client = ask(world, "list", "write", "list")

    assert [facts(each)[1:] for each in client.operations] == [
        ("failed", None, None, ABSENT),
        ("ok", "2", None, None),
        ("failed", None, None, PRESENT),
    ]
    assert client.operations[0].client != client.operations[1].client
    assert client.operations[2].version == client.operations[1].version


def test_a_value_that_may_expire_is_not_noted_as_if_it_stayed(world):
    client = ask(world, ("write", 50))

    [write] = client.operations
    [value] = client.lasting
    expiry = value.ending(value.began)
    assert facts(write) == ("write", "ok", "1", None, None)
    assert facts(expiry) == ("delete", "unknown", None, State("is", "1"), None)
    assert expiry.began == write.began
    assert expiry.client != write.client
    assert (value.ttl, value.ended) == (50 * MS_US, write.ended)


@pytest.mark.parametrize("action", ["read", "delete"])
def test_what_was_not_written_with_a_ttl_is_not_noted_as_expiring(action, world):
    client = ask(world, "write", (action, 50))

    assert len(client.operations) == 2
    assert client.lasting == []


# --- Errors ----------------------------------------------------------------------------


class Answering:
    """A manager whose operations all end in one way."""

    def __init__(self, world: World, answer: Any) -> None:
        self.world = world
        self.answer = answer
        world.is_upkept = False
        world.manager = self  # type: ignore[assignment]

    def _run(self, *_: object, **__: object) -> Any:
        return self.world.driver.run(self._operation())

    def _operation(self) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer
        yield

    read = write = delete = keys = _run


def told(world: World, action: str, answer: Any) -> list[tuple[Any, ...]]:
    Answering(world, answer)
    return [facts(each) for each in ask(world, action).operations]


@pytest.mark.parametrize(
    ("error", "noted"),
    [
        (Unavailable("planted"), ("failed", None)),
        (Timeout("planted"), ("failed", None)),
        (VersionMismatch("planted", version=None), ("failed", ABSENT)),
        (VersionMismatch("planted", version="f" * 20), ("failed", PRESENT)),
        (Uncertain("planted"), ("unknown", None)),
    ],
    ids=repr,
)
def test_an_error_is_not_noted_as_another_one(error, noted, world):
    [(action, outcome, value, _, saw)] = told(world, "write", error)

    assert (action, value) == ("write", "1")
    assert (outcome, saw) == noted


def test_an_operation_of_unknown_outcome_does_not_end(world):
    Answering(world, Uncertain("planted"))

    [operation] = ask(world, "write").operations
    assert (operation.ended, operation.version) == (None, None)


def test_a_list_that_was_refused_is_not_noted_as_a_look(world):
    assert told(world, "list", Unavailable("planted")) == []


def test_a_key_that_is_not_the_plan_s_is_not_noted(world):
    page = KeyPage((KeyInfo("elsewhere", "0" * 20),), None)

    assert [each[-1] for each in told(world, "list", page)] == [ABSENT]


def test_what_is_no_store_error_is_not_noted_as_an_answer(world):
    with pytest.raises(ZeroDivisionError):
        told(world, "read", ZeroDivisionError())


def test_what_is_no_store_error_does_not_go_unnoticed_by_who_gave_up(world):
    Answering(world, ZeroDivisionError())
    client = client_of(world, "read")
    client.go_on()
    pass_time(world.kernel, 999)
    world.kernel.after(1, client.give_up)  # just before the answer

    with pytest.raises(ZeroDivisionError):
        pass_time(world.kernel, SECOND_US)


# --- Waiting ---------------------------------------------------------------------------


def test_a_client_does_not_wait_for_ever_and_a_late_answer_is_not_noted_again():
    times = Times(
        message=(100, 100), flush=(10, 10), patience=500 * MS_US, client=100 * MS_US
    )
    world = booted(plan_of("read", times=times))
    for node in range(3):
        world.isolate(node, 3)
    client = client_of(world, "write", "read")
    client.go_on()
    began = world.kernel.now
    pass_time(world.kernel, 150 * MS_US)
    for node in range(3):
        world.reconnect(node)
    pass_time(world.kernel, 10 * SECOND_US)

    write, read = client.operations
    assert facts(write)[:3] == ("write", "unknown", "1")
    assert (write.ended, read.began) == (None, began + 1_000 + times.client + 1_000)
    assert read.outcome == "unknown"  # it waits behind the write
    assert client.is_done


def test_patience_is_not_the_last_request_s():
    times = Times(message=(100, 100), flush=(10, 10), client=10 * MS_US)
    world = booted(plan_of("read", times=times))
    client = client_of(world, *["read"] * 7, "write")
    client.go_on()
    pass_time(world.kernel, 9_000)  # seven reads, 1.2 ms each
    for node in range(3):
        world.pause(node)
    began = world.kernel.now
    pass_time(world.kernel, SECOND_US)

    *reads, write = client.operations
    assert [each.outcome for each in reads] == ["ok"] * 7
    assert write.outcome == "unknown"
    assert began < write.began < began + 2_000
    assert client.is_done


def test_a_client_is_not_answered_while_nobody_serves_and_asks_again():
    world = booted(plan_of("read"))
    client = client_of(world, "write")
    world.is_serving = False
    client.go_on()
    pass_time(world.kernel, 50 * MS_US)
    before = (client.request, list(client.operations), client.is_done)
    world.is_serving = True
    pass_time(world.kernel, 50 * MS_US)

    assert before == (None, [], False)
    assert [each.outcome for each in client.operations] == ["ok"]
    assert client.operations[0].began > 50 * MS_US


def test_a_client_whose_request_has_died_goes_on_and_does_not_forget_it():
    world = booted(plan_of("read"))
    client = client_of(world, "write", "read")
    world.died = client.give_up
    client.go_on()
    pass_time(world.kernel, 1_050)
    world.kill(machines_too=True)
    world.boot()
    pass_time(world.kernel, SECOND_US)
    client.give_up()  # nothing is under way: it changes nothing

    assert [each.outcome for each in client.operations] == ["unknown", "ok"]


def test_whoever_watches_is_not_told_of_an_answer_before_its_question(world):
    client = client_of(world, "write", "read", "delete")
    seen: list[str] = []
    client.watch = lambda who, request, what: seen.append(what)
    acknowledged: list[str] = []
    client.acknowledged = lambda action, outcome: acknowledged.append(action)
    client.go_on()
    pass_time(world.kernel, SECOND_US)

    assert seen == [
        "asks to write key-0 = 1", "is told ok (write key-0)",
        "asks to read key-0", "is told ok (key-0 is 1)",
        "asks to delete key-0", "is told ok (delete key-0)",
    ]  # fmt: skip
    assert acknowledged == ["write", "delete"]


def test_no_action_is_left_undone(world):
    for action in ACTIONS:
        client = ask(world, "write", action)
        assert client.is_done
        assert len(client.operations) == 2
