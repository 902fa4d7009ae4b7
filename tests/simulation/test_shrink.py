"""Making a plan small: what is left is what the violation needs, within a budget."""

from collections import Counter
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from checker.history import History
from simulation.network import DUPLICATE, LOSE_REPLY
from simulation.plan import Anomaly, Fault, Noise, Plan, Step
from simulation.shrink import Shrinker
from simulation.trial import Outcome, Violation

ANOMALIES = tuple(
    Anomaly(n, 1, n % 3, DUPLICATE if n % 2 else LOSE_REPLY) for n in range(20)
)
LARGE = Plan(
    1,
    5,
    3,
    tuple(Step(n, n % 4, "write", f"key-{n % 5}", 10) for n in range(1, 61)),
    tuple(Fault(n, n * 100, "crash", n % 3) for n in range(1, 16)),
    Noise(duplicate=0.5),
)
Judge = Callable[[Plan], str | None]


def outcome_of(plan: Plan, what: str | None) -> Outcome:
    anomalies = plan.anomalies if plan.anomalies is not None else ANOMALIES
    name, _, why = (what or "").partition(": ")
    violation = Violation(name, why) if what is not None else None
    nothing: Counter[str] = Counter()
    return Outcome(
        plan, "", 0, 0, 0, 0, nothing, nothing, History(), anomalies, violation
    )


class Runs:
    """A fake `run` that counts, and judges a plan by what is in it."""

    def __init__(self, judge: Judge) -> None:
        self.count = 0
        self._judge = judge

    def __call__(self, plan: Plan) -> Outcome:
        self.count += 1
        return outcome_of(plan, self._judge(plan))


def has(plan: Plan, steps: set[int], faults: set[int], anomalies: set[int]) -> bool:
    return (
        steps <= {step.number for step in plan.steps}
        and faults <= {fault.number for fault in plan.faults}
        and (
            plan.anomalies is None
            or anomalies <= {anomaly.task for anomaly in plan.anomalies}
        )
    )


def shrunk(
    judge: Judge, runs_max: int = 1_500, plan: Plan = LARGE
) -> tuple[Plan, Runs]:
    runs = Runs(judge)
    first = runs(plan)
    runs.count = 0
    shrinker = Shrinker(first, runs, runs_max)
    best = shrinker.shrink()
    assert shrinker.runs == runs.count <= runs_max
    assert best.violation is not None
    return best.plan, runs


@pytest.mark.parametrize(
    ("steps", "faults", "anomalies"),
    [
        ({17}, {4}, {9}),
        ({1, 60}, {1, 15}, {0, 19}),
        ({30, 31, 32}, set(), set()),
        (set(), {8}, {3, 4}),
        (set(), set(), set()),
    ],
)
def test_a_plan_does_not_keep_what_its_violation_does_not_need(
    steps, faults, anomalies
):
    plan, _ = shrunk(lambda p: "it" if has(p, steps, faults, anomalies) else None)

    assert {step.number for step in plan.steps} == steps
    assert {fault.number for fault in plan.faults} == faults
    assert {anomaly.task for anomaly in plan.anomalies or ()} == anomalies
    assert plan.noise == Noise()  # it is written down


def test_what_is_left_is_not_changed_or_put_in_another_order():
    plan, _ = shrunk(lambda p: "it" if has(p, {7, 21, 40}, {2, 9}, {5, 6}) else None)

    assert plan.steps == tuple(s for s in LARGE.steps if s.number in (7, 21, 40))
    assert plan.faults == tuple(f for f in LARGE.faults if f.number in (2, 9))
    assert plan.anomalies == ANOMALIES[5:7]
    assert (plan.seed, plan.times) == (LARGE.seed, LARGE.times)


@pytest.mark.parametrize("runs_max", [0, 1, 2, 10, 20])
def test_no_more_runs_are_made_than_are_allowed(runs_max):
    plan, runs = shrunk(lambda p: "it" if has(p, {17}, {4}, {9}) else None, runs_max)

    assert runs.count == runs_max
    assert has(plan, {17}, {4}, {9})  # it is still one that violates something


def test_a_smaller_plan_that_violates_something_else_is_not_taken():
    def judge(plan: Plan) -> str | None:
        if has(plan, {17}, {4}, set()):
            return "it"
        return "something else" if plan.steps else None

    plan, _ = shrunk(judge)

    assert [step.number for step in plan.steps] == [17]
    assert [fault.number for fault in plan.faults] == [4]


def test_a_smaller_plan_that_violates_the_same_property_in_another_way_is_not_taken():
    def judge(plan: Plan) -> str | None:
        if has(plan, {17}, {4}, set()):
            return f"liveness: a write waits for ever (waited {len(plan.steps)} s)"
        return "liveness: nobody serves"

    plan, _ = shrunk(judge)

    assert [step.number for step in plan.steps] == [17]
    assert [fault.number for fault in plan.faults] == [4]


def test_a_violation_that_the_written_anomalies_do_not_show_is_not_lost():
    plan, _ = shrunk(
        lambda p: "it" if p.anomalies is None and has(p, {17}, set(), set()) else None
    )

    assert (plan.noise, plan.anomalies) == (LARGE.noise, None)
    assert [step.number for step in plan.steps] == [17]


def test_a_plan_is_not_left_with_fewer_nodes_than_it_needs():
    faults = (Fault(1, 5, "crash", 3),)
    plan = replace(LARGE, faults=faults, min_in_sync=2)

    kept, _ = shrunk(lambda p: "it" if has(p, {17}, {1}, set()) else None, plan=plan)
    assert kept.nodes == 4  # node 3 crashes
    free, _ = shrunk(lambda p: "it" if has(p, {17}, set(), set()) else None, plan=plan)
    assert 2 <= free.nodes == max(free.nodes, free.min_in_sync)
    assert free.min_in_sync <= free.replication_factor <= free.nodes


def test_nodes_that_play_no_part_are_not_kept():
    plan, _ = shrunk(lambda p: "it" if has(p, {17}, set(), set()) else None)

    assert (plan.nodes, plan.replication_factor) == (1, 1)


def test_a_run_that_violates_nothing_is_not_shrunk():
    with pytest.raises(AssertionError, match="nothing to shrink"):
        Shrinker(outcome_of(LARGE, None), Runs(lambda plan: None))


def test_a_violation_that_never_shows_again_does_not_go_on_for_ever():
    runs = Runs(lambda plan: None)
    best = Shrinker(outcome_of(LARGE, "it"), runs).shrink()

    assert best.plan == LARGE
    assert runs.count < 1_500
