"""The simulated network: each anomaly alone, cut links, and machines that do not answer."""

from typing import Any

import pytest

from models import Fetch, Get, Purge, Put, SaveState, Versions
from simulation.network import (
    ANOMALIES,
    ANSWERED,
    DELAY_REPLY,
    DELAY_REQUEST,
    DUPLICATE,
    FENCED,
    LATE,
    LOSE_REPLY,
    LOSE_REQUEST,
    MANAGER,
    REFUSED,
    SILENT,
    copied,
)
from simulation.plan import Anomaly, Noise, Times
from simulation.storage import FAILING, FULL, UNCONFIRMED
from tests.simulation.small import FLUSH_US, MESSAGE_US, Lines
from tests.storage_case import record

ONE = record("k", 1)
PUT = Put((ONE,), 1)
THERE, BACK = MESSAGE_US, 2 * MESSAGE_US + FLUSH_US  # of a message that is a change


def lines(kind: str, amount_us: int = 0, **options: Any) -> Lines:
    """Lines on which this happens to the first message of the first task to node 0."""
    return Lines(Anomaly(1, 1, 0, kind, amount_us), **options)


# --- What becomes of one message -------------------------------------------------------


def test_a_message_to_which_nothing_happens_is_not_lost_late_or_answered_early():
    one = Lines()
    one.send(PUT)
    one.send(Get("k"), node=1)
    one.go_on()

    assert one.seen == [(THERE, "handled", 0), (THERE, "handled", 1)]
    assert one.caller.replies == [
        (2 * MESSAGE_US, 1, ANSWERED, None),
        (BACK, 0, ANSWERED, None),
    ]
    assert one.storages[0].get("k") == ONE


def test_a_lost_message_does_nothing_and_is_not_answered():
    one = lines(LOSE_REQUEST)
    one.send(PUT)
    one.go_on()

    assert one.seen == [(0, "lost", 0)]
    assert (one.caller.replies, one.versions()) == ([], [None, None])


def test_a_message_whose_answer_is_lost_is_not_undone():
    one = lines(LOSE_REPLY)
    one.send(PUT)
    one.go_on()

    assert one.whats() == ["handled", "lost answer"]
    assert (one.caller.replies, one.storages[0].get("k")) == ([], ONE)


def test_a_message_that_is_late_does_not_arrive_before_its_time():
    one = lines(DELAY_REQUEST, 70_000)
    one.send(PUT)
    one.go_on()

    assert one.seen == [(THERE + 70_000, "handled", 0)]
    assert one.caller.replies == [(BACK + 70_000, 0, ANSWERED, None)]


def test_an_answer_that_is_late_does_not_hold_up_what_it_answers():
    one = lines(DELAY_REPLY, 70_000)
    one.send(PUT)
    one.go_on()

    assert one.seen == [(THERE, "handled", 0)]
    assert one.caller.replies == [(BACK + 70_000, 0, ANSWERED, None)]


def test_a_message_that_comes_twice_does_not_come_again_before_it_was_taken():
    one = lines(DUPLICATE, 700)
    one.send(PUT)
    one.go_on()

    assert one.seen == [(THERE, "handled", 0), (THERE + FLUSH_US + 700, "handled", 0)]
    assert one.caller.kinds == [ANSWERED]  # and the second time nobody is told


def test_a_question_does_not_come_twice():
    one = lines(DUPLICATE)
    one.send(Get("k"))
    one.go_on()

    assert one.whats() == ["handled"]


@pytest.mark.parametrize(
    "why", ["it is down", "an old epoch", "a full disk", "crashed"]
)
def test_a_message_that_was_refused_is_not_delivered_again(why):
    one = lines(DUPLICATE, 700)
    machine = one.machines[0]
    if why == "it is down":
        machine.node.stop()
    elif why == "an old epoch":
        one.send(SaveState(2, 2, b'{"fence": 2}'), task=2)
        one.go_on()
    elif why == "a full disk":
        one.storages[0].disk = FULL
    machine.crashed = why == "crashed"
    one.send(PUT)
    one.go_on(500)
    machine.crashed = False
    one.storages[0].disk = "ok"
    machine.node.start()
    one.go_on()

    assert one.storages[0].get("k") is None
    assert one.network.exercised[FENCED] == (why == "an old epoch")
    if why != "crashed":
        assert one.caller.kinds[-1] == REFUSED


@pytest.mark.parametrize("why", ["it is down", "a full disk"])
def test_a_message_that_was_taken_is_not_called_refused_when_it_comes_again(why):
    one = lines(DUPLICATE, 700)
    one.send(PUT)
    one.go_on(THERE + FLUSH_US)
    one.network.cuts.add((0, MANAGER))  # ... so that the sender still waits
    one.go_on(MESSAGE_US)
    one.network.cuts.clear()
    if why == "it is down":
        one.machines[0].node.stop()
    else:
        one.storages[0].disk = FULL
    one.go_on()

    assert one.storages[0].get("k") == ONE
    assert REFUSED not in one.caller.kinds


def test_a_storage_that_fails_is_not_taken_for_an_answer_and_its_failure_is_told():
    one = Lines()
    one.storages[0].disk = FAILING
    one.send(PUT)
    one.go_on()
    one.send(PUT)  # at once, and not when it is flushed
    one.go_on()

    assert one.caller.kinds == [SILENT, SILENT]
    assert [node for node, _ in one.caller.failures] == [0, 0]


def test_a_flush_of_which_nobody_knows_is_not_called_a_failure():
    one = Lines()
    one.storages[0].disk = UNCONFIRMED
    one.send(PUT)
    one.go_on()

    assert (one.caller.kinds, one.caller.failures) == ([SILENT], [])


def test_a_message_whose_sender_gave_up_is_not_counted_as_any_other():
    one = Lines()
    one.send(PUT)
    one.caller.is_over = True
    one.go_on()

    assert one.network.exercised[LATE] == 1
    assert one.storages[0].get("k") == ONE


def test_a_purge_is_not_handled_unseen():
    one = Lines()
    seen: list[Purge] = []
    one.network.purged = seen.append
    one.send(Purge({"k": ONE.version}, 1))
    one.send(PUT)
    one.go_on()

    assert seen == [Purge({"k": ONE.version}, 1)]


# --- Links -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cut", "whats", "answers"),
    [
        ({(MANAGER, 0)}, ["lost", "handled"], 1),
        ({(0, MANAGER)}, ["handled", "handled", "lost answer"], 1),
        ({(MANAGER, 0), (0, MANAGER)}, ["lost", "handled"], 1),
        (set(), ["handled", "handled"], 2),
    ],
)
def test_a_cut_link_carries_nothing_that_way_and_no_other_is_cut(cut, whats, answers):
    one = Lines()
    one.network.cuts = set(cut)
    one.send(PUT)
    one.send(PUT, node=1)
    one.go_on()
    one.network.cuts.clear()
    before = (one.whats(), len(one.caller.replies))
    one.send(Get("k"))
    one.go_on()

    assert before == (whats, answers)
    assert one.caller.kinds[-1] == ANSWERED  # whole again
    assert (one.storages[0].get("k") is None) == ((MANAGER, 0) in cut)


def test_what_left_before_a_link_was_cut_is_not_lost_but_its_answer_is():
    one = Lines()
    one.send(PUT)
    one.go_on(THERE // 2)
    one.network.cuts = {(MANAGER, 0), (0, MANAGER)}
    one.go_on()

    assert one.whats() == ["handled", "lost answer"]


# --- Machines --------------------------------------------------------------------------


def test_a_crashed_machine_does_nothing_and_is_not_always_silent_nor_always_refuses():
    one = Lines()
    one.machines[0].crashed = True
    for task in range(200):
        one.send(PUT, task=task)
    one.go_on()

    assert one.whats() == ["lost"] * 200
    assert set(one.caller.kinds) == {REFUSED}
    assert 60 < len(one.caller.replies) < 140
    assert one.storages[0].get("k") is None


def test_a_paused_machine_answers_later_and_not_out_of_order():
    one = Lines()
    machine = one.machines[0]
    machine.paused = True
    one.send(Put((record("k", 2),), 1), task=1)
    one.go_on(50)
    one.send(PUT, task=2)
    one.go_on(10_000)
    before = (list(one.seen), list(one.caller.replies), len(machine.inbox))
    machine.paused = False
    for arrived in machine.inbox:
        arrived()
    one.go_on()

    assert before == ([], [], 2)
    assert [answer for *_, answer in one.caller.replies] == [
        None,
        record("k", 2).version,
    ]


# --- Which message something happens to ------------------------------------------------


def test_written_anomalies_are_exactly_those_that_happen():
    written = (
        Anomaly(2, 1, 0, LOSE_REQUEST),
        Anomaly(2, 2, 1, LOSE_REPLY),
        Anomaly(3, 1, 1, DELAY_REPLY, 9),
        Anomaly(9, 9, 0, LOSE_REQUEST),  # a message that nobody sends
    )
    one = Lines(*written)
    for task in (1, 2, 3):
        for number in (1, 2):
            for node in (0, 1):
                one.send(Get("k"), node, task, number)
    one.go_on()

    assert set(one.network.happened) == set(written[:3])
    assert sorted(one.whats()) == ["handled"] * 11 + ["lost", "lost answer"]
    assert len(one.caller.replies) == 10


@pytest.mark.parametrize("kind", ANOMALIES)
def test_noise_does_not_happen_at_another_rate_or_of_another_kind(kind):
    one = Lines(nodes=1)
    one.network.set_noise(Noise(**{kind: 0.2}))
    for task in range(1_000):
        one.send(PUT, task=task)

    assert {each.kind for each in one.network.happened} == {kind}
    assert 140 < len(one.network.happened) < 260
    amounts = {each.amount_us for each in one.network.happened}
    assert (amounts == {0}) == (kind in (LOSE_REQUEST, LOSE_REPLY))


def test_rates_that_come_to_more_than_all_messages_are_not_an_error():
    one = Lines()
    one.network.set_noise(Noise(0.7, 0.7, 0.7, 0.7, 0.7))
    for task in range(100):
        one.send(PUT, task=task)
    one.network.set_noise(Noise())
    one.send(PUT, task=101)

    kinds = {each.kind for each in one.network.happened}
    assert (len(one.network.happened), kinds) == (100, {LOSE_REQUEST, LOSE_REPLY})


def fates(tasks: range) -> dict[tuple[int, int], Anomaly]:
    one = Lines()
    one.network.set_noise(Noise(0.1, 0.1, 0.1, 0.1, 0.1))
    for task in tasks:
        one.send(PUT, 0, task)
        one.send(PUT, 1, task)
    one.go_on()
    return {(each.task, each.node): each for each in one.network.happened}


def test_a_message_does_not_have_another_fate_because_others_are_not_sent():
    every = fates(range(200))
    some = fates(range(150, 50, -3))

    assert len(some) > 10
    kept = {
        place: each for place, each in every.items() if place[0] in range(150, 50, -3)
    }
    assert some == kept


def test_times_do_not_leave_their_range():
    one = Lines(times=Times(message=(100, 400), flush=(0, 0)))
    for task in range(300):
        one.send(Get("k"), task=task)
    one.go_on()

    arrived = [when for when, _, _ in one.seen]
    assert (min(arrived) < 110, max(arrived) > 390) == (True, True)
    assert all(100 <= when <= 400 for when in arrived)
    assert all(200 <= when <= 800 for when, *_ in one.caller.replies)


# --- Two machines share nothing --------------------------------------------------------


class Hoarder:
    """A node that keeps what it is sent, and answers with what it holds itself."""

    def __init__(self, held: Any) -> None:
        self.held = held
        self.messages: list[Any] = []

    def handle(self, message: Any) -> Any:
        self.messages.append(message)
        return self.held


@pytest.mark.parametrize(
    "held", [{"k": 1}, [1, 2], {1, 2}, {"k": [1, {"deep": {2}}]}], ids=str
)
def test_an_answer_that_is_changed_does_not_change_at_who_gave_it(held):
    one = Lines()
    node: Any = Hoarder(copied(held))
    one.machines[0].node = node
    one.send(Versions((1,)))
    one.go_on()
    [(*_, answer)] = one.caller.replies
    assert answer == held

    node.held.clear()
    assert answer == held
    node.held = answer
    one.send(Fetch(("k",)))
    one.go_on()
    inner = one.caller.replies[-1][-1]
    (inner["k"] if isinstance(inner, dict) and inner != {"k": 1} else inner).clear()
    assert answer == held


def test_a_purge_that_its_receiver_changes_does_not_change_at_its_sender():
    one = lines(DUPLICATE)
    node: Any = Hoarder(None)
    one.machines[0].node = node
    purge = Purge({"k": ONE.version}, 1)
    one.send(purge)
    one.go_on(THERE)
    node.messages[0].versions.clear()
    one.go_on()

    assert purge.versions == {"k": ONE.version}
    assert node.messages[1:] == [purge]  # as it was, also the second time


def test_a_purge_that_its_sender_changes_does_not_change_on_its_way():
    one = Lines()
    node: Any = Hoarder(None)
    one.machines[0].node = node
    versions = {"k": ONE.version}
    one.send(Purge(versions, 1))
    versions.clear()
    one.go_on()

    assert node.messages == [Purge({"k": ONE.version}, 1)]
