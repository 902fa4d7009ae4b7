"""The run of a plan: what is a violation of what, and what is judged in the end."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from checker.history import PRESENT, History, Operation, read_history, write_history
from cluster.membership import Membership
from models import Ask, Get, Put, Unavailable
from protocols.primary_backup import PrimaryBackup
from simulation import trial
from simulation.kernel import MS_US, Kernel
from simulation.plan import Anomaly, Plan
from simulation.report import save_history
from simulation.trial import Outcome, Trial, judged, note_answers, run
from simulation.world import World
from tests.simulation.small import EXACT, numbered, plan_of

PLAN = plan_of("write", "read", "swap", "read")


def planted(make: Callable[[World], None], plan: Plan = PLAN) -> Outcome:
    """The outcome in a world to which something is done as soon as it is made."""

    def make_world(plan: Plan) -> World:
        world = World(plan)
        make(world)
        return world

    return Trial(plan, make_world).run()


def what(outcome: Outcome) -> str:
    assert outcome.violation is not None
    return outcome.violation.what


def why(outcome: Outcome) -> str:
    assert outcome.violation is not None
    return outcome.violation.why


def test_a_store_in_order_is_not_said_to_violate_anything():
    outcome = run(PLAN)

    assert (outcome.violation, outcome.undecided) == (None, 0)
    assert outcome.operations == len(outcome.history.operations)
    assert outcome.answered == outcome.operations  # nothing was refused
    assert outcome.operations >= len(PLAN.steps) + 3  # and every key was looked at
    assert not outcome.injected
    assert not outcome.anomalies
    assert {replica.node for replica in outcome.history.replicas} == {"0", "1", "2"}
    assert len({replica.value for replica in outcome.history.replicas}) == 1


def test_a_plan_in_which_nobody_asks_for_anything_is_not_an_error():
    outcome = run(replace(PLAN, steps=()))

    assert (outcome.violation, outcome.operations) == (None, 0)


def test_clients_do_not_wait_for_each_other():
    steps = tuple(
        replace(step, client=number % 2) for number, step in enumerate(PLAN.steps)
    )
    outcome = run(replace(PLAN, steps=steps))

    names = {operation.client for operation in outcome.history.operations}
    assert {"c0", "c1", "core", "last"} <= names


# --- Each kind of violation ------------------------------------------------------------


def test_an_operation_that_never_ends_is_a_matter_of_liveness(monkeypatch):
    def write(self: Any, view: Any, intent: Any) -> Any:
        while True:
            yield Ask((), Get(intent.key), within_ms=50)

    monkeypatch.setattr(PrimaryBackup, "write", write)
    monkeypatch.setattr(trial, "LIVENESS_US", 200 * MS_US)
    monkeypatch.setattr("simulation.world.Kernel", lambda: Kernel(events_max=20_000))
    outcome = run(PLAN)

    assert what(outcome) == "liveness"
    assert "more than 20,000 events" in why(outcome)


def test_an_operation_that_waits_for_ever_is_a_matter_of_liveness(monkeypatch):
    class Stuck(World):
        def boot(self) -> None:
            super().boot()
            asked = self.driver._ask
            self.driver._ask = lambda task, ask: (  # type: ignore[method-assign]
                None if task.number == 1 else asked(task, ask)
            )

    monkeypatch.setattr(trial, "LIVENESS_US", 200 * MS_US)
    outcome = Trial(PLAN, Stuck).run()

    assert (what(outcome), why(outcome)[:30]) == (
        "liveness",
        "something is under way for eve",
    )
    unknown = [each for each in outcome.history.operations if each.outcome == "unknown"]
    assert unknown


def test_a_store_that_never_serves_is_a_matter_of_liveness(monkeypatch):
    def start(self: Any) -> Any:
        raise Unavailable("planted")
        yield

    monkeypatch.setattr("cluster.reconfiguration.Reconfiguration.start", start)
    monkeypatch.setattr(trial, "LIVENESS_US", 200 * MS_US)
    outcome = run(PLAN)

    assert what(outcome) == "liveness"
    assert "the process never serves" in why(outcome)


def test_a_request_refused_although_nothing_is_wrong_is_a_matter_of_liveness(
    monkeypatch,
):
    def read(self: Any, view: Any, key: str, level: str) -> Any:
        raise Unavailable("planted")
        yield

    monkeypatch.setattr(PrimaryBackup, "read", read)
    outcome = run(PLAN)

    assert what(outcome) == "liveness"
    assert "a read of key-0 is failed although a core is whole" in why(outcome)


def test_a_write_that_is_not_at_every_in_sync_replica_is_an_invariant(monkeypatch):
    def conclude(self: Any, shard: Any, key: str, confirmed: Any, enough: int) -> bool:
        return bool(confirmed)

    monkeypatch.setattr(Membership, "conclude", conclude)
    lost = Anomaly(1, 1, 2, "lose_request")
    outcome = run(replace(PLAN, anomalies=(lost,)))

    assert what(outcome) == "invariant"
    assert "not durable at in-sync node 2" in why(outcome)


def test_an_assertion_of_the_store_itself_is_an_invariant():
    def plant(world: World) -> None:
        def assertion() -> None:
            raise AssertionError

        world.kernel.after(2 * MS_US, assertion)

    outcome = planted(plant)
    assert (what(outcome), why(outcome)) == ("invariant", "an assertion failed")


def test_an_exception_that_is_no_answer_is_a_crash_and_says_where():
    def plant(world: World) -> None:
        world.kernel.after(2 * MS_US, {}.pop, "planted")
        world.kernel.after(MS_US, lambda: None)

    outcome = planted(plant)
    assert what(outcome) == "crash"
    assert why(outcome).startswith("KeyError: 'planted' (kernel.py:")


def test_an_operation_that_raises_what_is_no_answer_is_a_crash(monkeypatch):
    def read(self: Any, view: Any, key: str, level: str) -> Any:
        yield Ask((0,), Get(key))
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(PrimaryBackup, "read", read)
    outcome = run(PLAN)

    assert what(outcome) == "crash"
    assert why(outcome).startswith("ZeroDivisionError: planted (test_trial.py:")


def test_a_read_of_what_nobody_wrote_is_not_linearizable():
    def plant(world: World) -> None:
        for storage in world.storages:
            storage.get = lambda key, get=storage.get: (  # type: ignore[method-assign, misc]
                replace(found, value=b'"never"') if (found := get(key)) else None
            )

    outcome = planted(plant)
    assert what(outcome) == "linearizable"
    violation = outcome.violation
    assert violation is not None
    assert violation.verdict is not None
    assert violation.verdict.key == "key-0"


def test_replicas_that_differ_in_the_end_are_not_passed_over(monkeypatch):
    def copy_nothing(cluster, shard, source, target, settle, progress):
        return
        yield

    monkeypatch.setattr("cluster.repair._copy", copy_nothing)
    faults = numbered((500, "crash", 1), (8_000, "restart", 1))
    outcome = run(plan_of("write", "write", "write", faults=faults))

    assert what(outcome) == "invariant"
    assert "differ in key-0" in why(outcome) or "not durable" in why(outcome)


def test_no_violation_is_found_in_what_comes_after_the_first_one():
    """A run that is cut short is not judged: its clients had not ended."""

    def plant(world: World) -> None:
        world.kernel.after(1_500, {}.pop, "planted")

    outcome = planted(plant)
    assert what(outcome) == "crash"
    assert outcome.virtual_us == 1_500
    assert outcome.trace_hash


# --- The parts of a run ----------------------------------------------------------------


def test_faults_do_not_happen_once_all_is_to_heal():
    late = numbered((100_000, "kill", 0), (200_000, "isolate", 1, 3))
    outcome = run(plan_of("write", faults=late))

    assert outcome.violation is None
    assert not outcome.injected
    assert outcome.trace_hash == run(plan_of("write")).trace_hash


def test_noise_does_not_go_on_once_all_is_to_heal():
    outcome = run(plan_of("write", "read", noise=replace(PLAN.noise, lose_request=0.3)))

    assert outcome.violation is None
    looks = [
        each for each in outcome.history.operations if each.client in ("core", "last")
    ]
    assert {each.outcome for each in looks} == {"ok"}
    assert outcome.injected["lose_request"] == len(outcome.anomalies) > 0


def test_a_core_is_not_larger_than_it_has_to_be_or_too_small_to_serve():
    for seed in range(10):
        for least in (1, 2):
            one = Trial(plan_of("write", seed=seed, min_in_sync=least))
            outcome = one.run()
            assert outcome.violation is None
            assert outcome.exercised["a core went on without the rest"] == 1
            failed = outcome.exercised["event node_failed"]
            assert failed == 3 - least


def test_clients_of_a_process_that_died_are_not_told_an_outcome():
    outcome = run(plan_of("write", "read", faults=numbered((1_050, "kill", 0))))

    first, *rest = [each for each in outcome.history.operations if each.client == "c0"]
    assert (first.outcome, [each.outcome for each in rest]) == ("unknown", ["ok"])
    assert outcome.exercised["a write's outcome was unknown"] == 1


def test_a_process_that_is_down_when_all_is_to_heal_is_started_again():
    times = replace(EXACT, client=2 * MS_US)
    faults = numbered((1_050, "kill", 0))
    outcome = run(plan_of("write", faults=faults, times=times))

    assert outcome.violation is None
    assert outcome.operations >= 4


# --- The judgement ---------------------------------------------------------------------


def done(client: str, action: str, began: int, ended: int, **more: Any) -> Operation:
    return Operation(client, "k", action, began, ended, "ok", **more)


def test_a_stale_read_is_not_judged_as_holding():
    history = History(
        [
            done("a", "write", 0, 1, value="1"),
            done("a", "write", 2, 3, value="2"),
            done("b", "read", 4, 5, value="1"),
        ]
    )
    violation, undecided = judged(history)

    assert violation is not None
    assert (violation.what, undecided) == ("linearizable", 0)
    assert judged(History(history.operations[:2])) == (None, 0)


def test_a_version_that_goes_back_is_not_judged_as_holding():
    old, new = "0" * 20, "f" * 20
    history = History(
        [
            done("a", "write", 0, 1, value="1", version=new),
            done("a", "write", 2, 3, value="2", version=old),
        ]
    )
    violation, _ = judged(history)

    assert violation is not None
    assert violation.what == "versions"


def test_answers_are_not_counted_as_others():
    exercised: Counter[str] = Counter()
    unknown = Operation("a", "k", "write", 0, None, "unknown", "1")
    failed = Operation("a", "k", "write", 0, 1, "failed", "2")
    not_held = replace(failed, saw=PRESENT)
    note_answers(
        exercised, [unknown, failed, not_held, done("b", "read", 2, 3, value="1")]
    )

    assert exercised == {
        trial.UNKNOWN_WRITE: 1,
        trial.UNKNOWN_READ: 1,
        trial.NOT_HELD: 1,
        trial.REFUSED: 1,
    }


# --- The history as a file -------------------------------------------------------------


def test_a_history_that_is_kept_is_not_another_one_when_it_is_read(tmp_path):
    outcome = run(plan_of("write", "read", "swap", "delete", "read"))
    save_history(outcome, tmp_path / "history.jsonl")
    with (tmp_path / "history.jsonl").open() as lines:
        history = read_history(lines)

    by_time = lambda each: (each.began, each.client)  # noqa: E731
    assert sorted(history.operations, key=by_time) == sorted(
        outcome.history.operations, key=by_time
    )
    assert history.replicas == outcome.history.replicas
    assert history.note == "simulated, seed 7"


def test_a_page_of_several_keys_does_not_make_a_history_that_cannot_be_kept(tmp_path):
    plan = plan_of("write", "write", "list", "read")
    steps = (replace(plan.steps[0], key="key-1"), *plan.steps[1:])
    outcome = run(replace(plan, steps=steps))
    with (tmp_path / "history.jsonl").open("w") as stream:
        write_history(stream, outcome.history)


def test_messages_of_one_write_are_not_known_by_another_s_name():
    """What the tests above rely on: the first message of a write is its put."""
    seen: list[tuple[int, int]] = []

    def plant(world: World) -> None:
        world.network.watch = lambda what, exchange: (
            seen.append((exchange.number, exchange.message))
            if type(exchange.payload) is Put
            else None
        )

    planted(plant, plan_of("write"))
    assert seen[:3] == [(1, 1)] * 3
