"""Times to live are judged by virtual time, and not by what the store holds for the time."""

import pytest
from msgspec.structs import replace

from simulation.kernel import MS_US
from simulation.plan import Fault, Step
from simulation.trial import run
from tests.planted_bugs import BUGS
from tests.simulation.small import plan_of

STILL = "time stands still where the wall clock is set back"
FOLLOWS = "time goes as far ahead as the wall clock is set forward"
NO_REST = "time does not pass while the process is down"
HOUR_MS = 3_600_000
TTL_MS = 500


def lasting(think_ms, *faults, **changes):
    """A key is written with a time to live, and read after a while."""
    steps = (
        Step(1, 0, "write", "key-0", 1_000, TTL_MS),
        Step(2, 0, "read", "key-0", think_ms * MS_US),
    )
    numbered = tuple(Fault(n, *fault) for n, fault in enumerate(faults, 1))
    return replace(plan_of(faults=numbered, **changes), steps=steps)


BACK = lasting(TTL_MS + 10, (100 * MS_US, "clock", -1, -HOUR_MS))
FORWARD = lasting(TTL_MS - 10, (100 * MS_US, "clock", -1, HOUR_MS))
RESTARTED = lasting(TTL_MS + 10, (100 * MS_US, "stop", -1))


@pytest.mark.parametrize(
    ("bug", "plan", "words"),
    [
        (STILL, BACK, "still holds a value that has expired"),
        (FOLLOWS, FORWARD, "no order explains key-0: c0 wrote 1"),
        (NO_REST, RESTARTED, "after its time"),
    ],
)
def test_value_that_ends_late_or_early_is_not_passed_over(bug, plan, words):
    with BUGS[bug].plant():
        violation = run(plan).violation

    assert violation is not None
    assert words in violation.why


@pytest.mark.parametrize("plan", [BACK, FORWARD, RESTARTED])
def test_value_that_ends_in_its_time_is_no_violation(plan):
    outcome = run(plan)

    assert outcome.violation is None
    assert outcome.injected.total() == 1


@pytest.mark.parametrize("amount", [HOUR_MS, -HOUR_MS])
def test_start_with_a_clock_that_was_set_may_end_values_early_or_late(amount):
    plan = lasting(
        TTL_MS + 10, (100 * MS_US, "clock", -1, amount), (110 * MS_US, "stop", -1)
    )

    outcome = run(plan)

    assert outcome.violation is None
    assert outcome.injected.total() == 2
