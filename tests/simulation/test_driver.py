"""The simulated driver: locks, operations inside others, and barriers."""

from typing import Any

import pytest

from models import (
    Ask,
    Exclusive,
    Get,
    KeyNotFound,
    Operation,
    Unavailable,
)
from simulation.driver import JITTER_US
from tests.simulation.operations import asking, exclusive, failing, waiting
from tests.simulation.small import (
    Driven,
    noted,
    pass_time,
)

# --- Locks -----------------------------------------------------------------------------


def test_operations_on_one_key_do_not_overlap_or_overtake_each_other():
    driven = Driven()
    for number, name in enumerate("cab"):
        driven.start(asking(driven, name, 3), "k", number)
    pass_time(driven.kernel, 100_000)

    assert driven.words() == [
        f"{name} {what}" for name in "cab" for what in ("begins", "ends")
    ]


def test_operations_on_different_keys_do_not_wait_for_each_other():
    driven = Driven()
    driven.start(asking(driven, "a", 3), "a", 1)
    driven.start(asking(driven, "b", 1), "b", 2)
    driven.start(asking(driven, "none", 2), None, 3)
    pass_time(driven.kernel, 100_000)

    assert driven.words() == [
        "a begins", "b begins", "none begins", "b ends", "none ends", "a ends",
    ]  # fmt: skip


def test_a_key_whose_operation_failed_is_not_locked_for_ever():
    driven = Driven()
    errors: list[Any] = []
    driven.start(failing(KeyNotFound("planted")), "k").then(noted(errors))
    outcome = driven.end(asking(driven, "next"), "k", 2)

    assert outcome == "next"
    assert isinstance(errors[0], KeyNotFound)


@pytest.mark.parametrize("key", ["k", None])
def test_an_exclusive_operation_does_not_run_outside_its_lock(key):
    driven = Driven()
    driven.start(exclusive(driven, key, asking(driven, "first", 3)), None, 1)
    driven.start(exclusive(driven, key, asking(driven, "second")), None, 2)
    if key is not None:
        driven.start(asking(driven, "third"), key, 3)
    pass_time(driven.kernel, 100_000)

    inner = [word for word in driven.words() if not word.startswith("the outer")]
    names = [word.split()[0] for word in inner]
    assert names[::2] == names[1::2]  # each ends before the next begins
    assert len(names) == (6 if key is not None else 4)
    assert driven.words().count("the outer one goes on") == 2
    assert not driven.driver.tasks


def test_an_exclusive_operation_does_not_lose_its_outcome_or_its_error():
    driven = Driven()

    def outer() -> Operation[Any]:
        found = [(yield Exclusive("k", asking(driven, "inner")))]
        try:
            yield Exclusive("k", failing(Unavailable("planted")))
        except Unavailable as error:
            found.append(error.detail)
        found.append((yield Exclusive("k", asking(driven, "again"))))
        return found

    assert driven.end(outer()) == ["inner", "planted", "again"]


def test_an_error_of_a_nested_operation_that_nobody_handles_ends_the_whole_task():
    driven = Driven()
    with pytest.raises(Unavailable, match="planted"):
        driven.end(exclusive(driven, "k", failing(Unavailable("planted"))))

    assert not driven.driver.tasks
    assert driven.end(asking(driven, "next"), "k") == "next"


def test_what_is_no_store_error_does_not_stay_in_the_task_that_raised_it():
    driven = Driven()
    with pytest.raises(ZeroDivisionError):
        driven.end(failing(ZeroDivisionError()), "k")


def test_an_assertion_that_fails_in_an_operation_is_not_taken_for_its_outcome():
    driven = Driven()
    errors: list[Any] = []
    driven.start(failing(AssertionError("planted"))).then(noted(errors))
    with pytest.raises(AssertionError, match="planted"):
        pass_time(driven.kernel, 100_000)
    assert errors == []


@pytest.mark.parametrize(("outer", "inner"), [("k", None), ("k", "other"), ("k", "k")])
def test_locks_taken_in_the_wrong_order_do_not_go_unnoticed(outer, inner):
    driven = Driven()
    driven.start(exclusive(driven, inner, asking(driven, "inner")), outer)

    with pytest.raises(AssertionError, match="locks are taken in one order"):
        pass_time(driven.kernel, 100_000)


def test_a_key_within_a_reconfiguration_is_not_the_wrong_order():
    driven = Driven()
    inner = exclusive(driven, "k", asking(driven, "inner"))

    assert driven.end(exclusive(driven, None, inner)) == "inner"


def test_a_need_that_no_driver_has_is_not_passed_over():
    driven = Driven()

    def operation() -> Any:
        yield "a need"

    driven.start(operation())
    with pytest.raises(AssertionError, match="what no driver has: 'a need'"):
        pass_time(driven.kernel, 100_000)


# --- Barriers --------------------------------------------------------------------------


def test_a_barrier_waits_exactly_for_key_operations_that_began_before():
    driven = Driven()
    driven.start(asking(driven, "long", 5), "a", 1)
    driven.start(asking(driven, "short", 2), "b", 2)
    driven.start(asking(driven, "queued", 9), "a", 3)
    driven.start(asking(driven, "without a key", 30), None, 4)
    pass_time(driven.kernel, 50)
    driven.start(waiting(driven), None, 5)
    pass_time(driven.kernel, 50)
    driven.start(asking(driven, "later", 30), "c", 6)
    pass_time(driven.kernel, 100_000)

    words = driven.words()
    opens = words.index("the barrier opens")
    assert words.index("short ends") < words.index("long ends") < opens
    assert opens < words.index("queued ends")
    assert words.index("later begins") < opens < words.index("later ends")
    assert opens < words.index("without a key ends")
    assert driven.told[opens][0] == driven.told[words.index("long ends")][0]


def test_a_barrier_waits_for_what_runs_under_a_key_inside_another_operation():
    driven = Driven()
    driven.start(exclusive(driven, "k", asking(driven, "inner", 5)), None, 1)
    pass_time(driven.kernel, JITTER_US + 50)
    driven.start(waiting(driven), None, 2)
    pass_time(driven.kernel, 100_000)

    words = driven.words()
    assert words.index("inner ends") < words.index("the barrier opens")


def test_a_barrier_does_not_wait_for_one_whose_turn_has_come_but_who_has_not_begun():
    driven = Driven()

    def asking_first() -> Operation[None]:
        yield Ask((1,), Get("k"))
        yield from waiting(driven)

    driven.start(asking(driven, "first"), "k", 1)
    driven.start(asking(driven, "second", 5), "k", 2)
    driven.start(asking_first(), None, 3)
    pass_time(driven.kernel, 100_000)

    words = driven.words()
    assert words.index("first ends") < words.index("the barrier opens")
    assert words.index("the barrier opens") < words.index("second ends")


def test_a_barrier_over_nothing_and_two_barriers_at_once_do_not_wait_for_ever():
    driven = Driven()
    driven.start(waiting(driven), None, 1)
    pass_time(driven.kernel, 10_000)
    driven.start(asking(driven, "one", 3), "k", 2)
    pass_time(driven.kernel, 50)
    driven.start(waiting(driven), None, 3)
    driven.start(exclusive(driven, None, waiting(driven)), None, 4)
    pass_time(driven.kernel, 100_000)

    assert driven.words().count("the barrier opens") == 3
    assert not driven.driver.tasks
