"""Each kind of fault does what its words say, and is not counted where it cannot happen."""

from typing import Any

import pytest

from cluster.shard import DOWN, UP
from models import Put
from simulation.faults import FAMILIES, FAULTS, may_lose
from simulation.kernel import MS_US, SECOND_US
from simulation.network import MANAGER
from simulation.plan import Fault, Times
from simulation.storage import FAILING, FULL, OK, UNCONFIRMED
from simulation.swarm import ALL_FAMILIES, SHARE_OF_SEEDS, Mix, draw_plan
from simulation.trial import Trial
from simulation.world import World
from tests.simulation.small import (
    booted,
    end_of,
    numbered,
    pass_time,
    plan_of,
    serve,
    values_at,
)


def happen(world: World, kind: str, node: int = 1, amount: int = 0) -> bool:
    """Let a fault happen, and what it started come to its end; whether it could."""
    done = FAULTS[kind].happen(world, Fault(99, 0, kind, node, amount))
    pass_time(world.kernel, 30 * MS_US)
    return done


def status(world: World, node: int = 1) -> str:
    return world.manager.cluster.status[node]


def write(world: World, value: object):
    return end_of(world, world.manager.write("key-0", value))


def test_no_fault_lacks_a_family_words_or_somebody_who_draws_it():
    drawn = {fault.kind for seed in range(300) for fault in draw_plan(seed).faults}

    assert drawn == set(FAULTS)
    assert set(SHARE_OF_SEEDS) == set(ALL_FAMILIES) == {*FAMILIES, "noise"}
    for kind in FAULTS.values():
        assert kind.words.format(node=1, amount=2)


def test_a_family_does_not_draw_the_faults_of_another():
    for family in FAMILIES:
        allowed = {kind for kind, each in FAULTS.items() if each.family == family}
        allowed |= {"recover"} if family in ("wipe", "disk") else set()
        for seed in range(60):
            plan = draw_plan(seed, Mix(families=(family,)))
            assert {fault.kind for fault in plan.faults} <= allowed


# --- Operators -------------------------------------------------------------------------


def test_a_node_that_an_operator_failed_is_not_up_before_it_is_recovered():
    world = booted()
    assert not happen(world, "recover")  # it is up
    assert happen(world, "fail")
    down = status(world)
    assert not happen(world, "fail")  # it is down
    write(world, 1)
    assert happen(world, "recover")

    assert (down, status(world)) == (DOWN, UP)
    assert values_at(world) == [b"1"] * 3


def test_a_node_that_is_wiped_does_not_keep_anything():
    world = booted()
    write(world, 1)
    identity = world.storages[1].identity
    assert happen(world, "wipe")

    assert status(world) == DOWN
    assert values_at(world) == [b"1", None, b"1"]
    assert world.storages[1].identity != identity


def test_the_last_copy_of_anything_is_not_wiped_or_lost():
    world = booted()
    write(world, 1)
    world.crash(0)
    write(world, 2)
    world.crash(2)
    write(world, 3)  # by node 1 alone
    for node in (0, 2):
        world.restart(node)

    assert not may_lose(world, 1)
    assert not happen(world, "wipe")
    assert not happen(world, "lose disk")
    assert world.has_process
    assert may_lose(world, 0)


def test_a_copy_whose_peers_cannot_be_read_is_not_lost():
    world = booted()
    world.storages[0].disk = world.storages[2].disk = FAILING

    assert not may_lose(world, 1)


@pytest.mark.parametrize(
    "kind", ["fail", "wipe", "recover", "stop", "kill", "kill manager", "lose disk"]
)
def test_nothing_is_asked_of_a_process_that_is_dead(kind):
    world = booted()
    world.kill(machines_too=False)

    assert not happen(world, kind)


# --- Machines, links and disks ---------------------------------------------------------


def test_a_machine_does_not_crash_twice_or_come_back_without_a_crash():
    world = booted()
    assert not happen(world, "restart")
    assert happen(world, "crash")
    assert world.machines[1].crashed
    assert not happen(world, "crash")
    assert happen(world, "restart")
    assert not world.machines[1].crashed


def test_a_machine_that_cannot_come_back_from_its_disk_is_not_said_to_be_back():
    world = booted()
    happen(world, "crash")
    world.storages[1].disk = FAILING

    assert not happen(world, "restart")
    assert world.machines[1].crashed


def test_a_machine_does_not_pause_twice_or_go_on_without_a_pause():
    world = booted()
    assert not happen(world, "resume")
    assert happen(world, "pause")
    assert not happen(world, "pause")
    assert world.machines[1].paused
    assert happen(world, "resume")
    assert not world.machines[1].paused


@pytest.mark.parametrize(
    ("ways", "cuts"),
    [(1, {(MANAGER, 1)}), (2, {(1, MANAGER)}), (3, {(MANAGER, 1), (1, MANAGER)})],
)
def test_a_link_is_not_cut_other_ways_than_the_fault_says(ways, cuts):
    world = booted()
    assert not happen(world, "reconnect")
    assert happen(world, "isolate", amount=ways)
    assert world.network.cuts == cuts
    assert not happen(world, "isolate", amount=ways)
    assert not happen(world, "reconnect", node=2)
    assert happen(world, "reconnect")
    assert not world.network.cuts


@pytest.mark.parametrize(
    ("kind", "disk"),
    [("disk full", FULL), ("disk fails", FAILING), ("flush fails", UNCONFIRMED)],
)
def test_a_disk_does_not_go_wrong_in_two_ways_and_is_not_mended_when_it_is_well(
    kind, disk
):
    world = booted()
    assert not happen(world, "mend")
    assert happen(world, kind)
    assert [storage.disk for storage in world.storages] == [OK, disk, OK]
    for other in ("disk full", "disk fails", "flush fails"):
        assert not happen(world, other)
    assert world.storages[1].disk == disk
    assert happen(world, "mend")
    assert world.storages[1].disk == OK


# --- The process -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["kill", "kill manager", "lose disk", "stop"])
def test_a_process_that_ends_is_not_gone_for_good_and_keeps_what_it_acknowledged(kind):
    world = booted()
    write(world, 1)
    process = world.process
    assert FAULTS[kind].happen(world, Fault(99, 0, kind, 1))
    assert not world.is_serving
    pass_time(world.kernel, 10 * MS_US)
    assert not world.has_process  # it takes a while until it is started
    serve(world)

    assert world.process == process + 1
    assert end_of(world, world.manager.read("key-0")).value == 1


def test_machines_that_go_on_are_not_made_to_forget_what_is_under_way():
    world = booted()
    kept = []
    for kind in ("kill", "kill manager"):
        world.manager.write("key-0", kind)
        pass_time(world.kernel, 105)  # taken, and not yet durable
        FAULTS[kind].happen(world, Fault(99, 0, kind))
        kept.append([len(storage._queue) for storage in world.storages])
        serve(world)

    assert kept == [[0, 0, 0], [1, 1, 1]]


def test_a_disk_that_is_replaced_does_not_keep_anything_or_its_name():
    world = booted()
    write(world, 1)
    identity = world.storages[1].identity
    FAULTS["lose disk"].happen(world, Fault(99, 0, "lose disk", 1))

    assert values_at(world) == [b"1", None, b"1"]
    assert world.storages[1].identity != identity
    serve(world)
    assert values_at(world) == [b"1"] * 3
    assert status(world) == UP


def test_a_process_that_ends_in_good_order_takes_no_request_meanwhile():
    world = booted()
    task = world.manager.write("key-0", 1)
    pass_time(world.kernel, 50)
    FAULTS["stop"].happen(world, Fault(99, 0, "stop"))
    assert not world.is_serving
    assert world.manager.cluster.stopping  # what takes long gives up
    assert not FAULTS["stop"].happen(world, Fault(98, 0, "stop"))  # it stops already

    assert end_of(world, task).replicas == (0, 1, 2)  # what was under way was served
    assert world.has_process
    pass_time(world.kernel, SECOND_US)
    assert world.process == 2


def test_a_process_that_died_before_its_next_start_is_not_started_twice():
    world = booted()
    FAULTS["kill"].happen(world, Fault(1, 0, "kill"))
    world.boot()  # somebody else was quicker
    serve(world)
    pass_time(world.kernel, SECOND_US)

    assert world.process == 2


def test_a_state_record_that_is_to_be_late_is_the_next_one_and_no_other():
    world = booted()
    assert FAULTS["late record"].happen(world, Fault(1, 0, "late record", 2, 2 * MS_US))
    handled: list[tuple[int, int]] = []
    begins = world.kernel.now
    world.network.watch = lambda what, exchange: handled.append(
        (exchange.node, (world.kernel.now - begins) // MS_US)
    )

    for number, node in enumerate((1, 0)):
        world.run(world.manager.change.fail(node, "stop"), number)
        pass_time(world.kernel, 4 * MS_US)

    assert sorted(handled[:3]) == [(0, 0), (1, 0), (2, 2)]
    assert sorted(handled[3:]) == [(0, 4), (1, 4), (2, 4)]
    assert [(a.node, a.kind) for a in world.network.happened] == [(2, "delay_request")]


@pytest.mark.parametrize(
    ("first", "then", "counted"),
    [
        (["wipe"], "recover", "a wipe was overtaken by a recovery"),
        (["recover", "recover"], "fail", "a recovery was overtaken by a failure"),
    ],
)
def test_an_operator_who_is_overtaken_does_not_go_uncounted(first, then, counted):
    world = booted()
    if then == "fail":
        assert happen(world, "fail")
    begun = [FAULTS["late record"].happen(world, Fault(1, 0, "late record", 2, 4_000))]
    for number, kind in enumerate(first, 2):
        begun.append(FAULTS[kind].happen(world, Fault(number, 0, kind, 1)))
        pass_time(world.kernel, 500)
    begun.append(FAULTS[then].happen(world, Fault(9, 0, then, 1)))
    pass_time(world.kernel, SECOND_US)

    assert all(begun)
    assert world.exercised[counted] == 1


@pytest.mark.parametrize("amount", [-3_600_000, 5_000])
def test_a_clock_is_not_set_by_another_amount_than_the_fault_says(amount):
    world = booted()
    before = world.wall_ms
    FAULTS["clock"].happen(world, Fault(99, 0, "clock", -1, amount))

    assert world.wall_ms - before == amount


# --- In a run --------------------------------------------------------------------------


def test_a_fault_that_cannot_happen_is_not_counted_and_leaves_no_trace():
    impossible = numbered((100, "restart", 1), (2_000, "mend", 0), (2_500, "resume", 2))
    without = Trial(plan_of("write", "read")).run()
    with_them = Trial(plan_of("write", "read", faults=impossible)).run()

    assert not with_them.injected
    assert with_them.trace_hash == without.trace_hash


def test_faults_do_not_happen_in_another_order_or_at_another_time():
    seen: list[tuple[int, int]] = []

    class Watched(Trial):
        def _happen(self, fault: Fault, *more: Any, **options: Any) -> None:
            seen.append((fault.number, self.world.kernel.now - began))
            super()._happen(fault, *more, **options)

    faults = numbered((3_000, "pause", 1), (500, "crash", 0), (3_000, "resume", 1))
    trial = Watched(plan_of("write", "write", "write", "read", faults=faults))
    began = _starts_at(plan_of("write", "write", "write", "read"))
    outcome = trial.run()

    assert seen == [(2, 500), (1, 3_000), (3, 3_000)]
    assert outcome.injected == {"crash": 1, "pause": 1, "resume": 1}


def _starts_at(plan) -> int:
    """When a world begins to serve."""
    return booted(plan).kernel.now


def test_what_heals_everything_does_not_leave_any_fault_out():
    """Every family leaves some run in its worst state; the run must end well."""
    worst = [
        ("crash", 0), ("pause", 0), ("isolate", 3), ("disk full", 0), ("disk fails", 0),
        ("flush fails", 0), ("kill", 0), ("kill manager", 0), ("stop", 0), ("fail", 0),
        ("wipe", 0), ("clock", -3_600_000),
    ]  # fmt: skip
    for kind, amount in worst:
        faults = numbered((1_500, kind, 1, amount))
        outcome = Trial(plan_of("write", "write", "read", faults=faults)).run()

        assert outcome.injected == {kind: 1}
        assert outcome.violation is None, (kind, outcome.violation)


def test_a_fault_that_waits_for_puts_does_not_happen_before_them_or_long_after():
    spread = Times(message=(100, 500), flush=(1_000, 1_000), patience=5_000)
    for puts in (1, 2, 3):
        fault = Fault(1, 500, "kill", 0, 0, puts)
        trial = Trial(plan_of("write", "read", faults=[fault], times=spread))
        handled: list[int] = []
        at_death: list[int] = []
        died = trial.world.died
        trial.world.network.watch = lambda what, exchange, into=handled: (
            into.append(exchange.node) if type(exchange.payload) is Put else None
        )

        def note(died=died, at_death=at_death, handled=handled) -> None:
            at_death.append(len(handled))
            died()

        trial.world.died = note
        outcome = trial.run()

        first = next(each for each in outcome.history.operations if each.client == "c0")
        assert outcome.injected == {"kill": 1}
        assert (first.outcome, outcome.violation) == ("unknown", None)
        assert at_death == [puts]


def test_a_fault_that_waits_for_what_never_comes_does_not_happen():
    outcome = Trial(plan_of("read", faults=[Fault(1, 500, "kill", 0, 0, 50)])).run()

    assert (outcome.violation, outcome.injected) == (None, {})
