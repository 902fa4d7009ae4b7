"""A cluster in virtual time: what outlives its process and its machines, and what does not."""

from typing import Any

import pytest

from cluster.shard import DOWN, UP
from models import Get, KeyNotFound, Refused, Uncertain
from simulation.driver import finished
from simulation.kernel import MS_US, SECOND_US
from simulation.plan import Noise, Times
from simulation.storage import FAILING
from simulation.trial import Trial
from simulation.world import WALL_MS, World
from tests.simulation.small import (
    EXACT,
    booted,
    end_of,
    pass_time,
    plan_of,
    serve,
    values_at,
)


def write(world: World, value: object = 1, **options):
    return end_of(world, world.manager.write("key-0", value, **options))


def read(world: World):
    return end_of(world, world.manager.read("key-0")).value


def test_a_world_that_was_not_booted_or_has_just_been_does_not_serve():
    world = World(plan_of("read"))
    before = (world.has_process, world.is_serving)
    world.boot()

    assert before == (False, False)
    assert (world.has_process, world.is_serving) == (True, False)
    serve(world)
    assert world.kernel.now > 0  # a start takes messages, and they take time


def test_a_write_is_not_acknowledged_in_no_time_and_is_on_every_replica():
    world = booted()
    before = world.kernel.now
    outcome = write(world, "v")

    assert world.kernel.now - before >= 210
    assert outcome.replicas == (0, 1, 2)
    assert values_at(world) == [b'"v"'] * 3


# --- The process -----------------------------------------------------------------------


@pytest.mark.parametrize("machines_too", [True, False])
def test_a_process_that_is_killed_does_not_take_acknowledged_writes_along(machines_too):
    world = booted()
    for value in range(5):
        outcome = write(world, value)
        world.kill(machines_too)
        assert (world.has_process, world.is_serving) == (False, False)
        world.boot()
        serve(world)
        assert read(world) == value
        assert end_of(world, world.manager.read("key-0")).version >= outcome.version
    assert world.process == 6


def test_what_was_not_durable_does_not_outlive_the_machines_it_was_on():
    kept = set()
    for seed in range(20):
        world = booted(plan_of("read", seed=seed))
        task: Any = world.manager.write("key-0", 1)
        while not any(storage._queue for storage in world.storages):
            pass_time(world.kernel, 1)
        pass_time(world.kernel, seed % 5)
        world.kill(machines_too=True)
        for storage in world.storages:
            assert not storage._queue
        kept.add(any(value is not None for value in values_at(world)))
        pass_time(world.kernel, SECOND_US)
        assert not finished(task)()
    assert kept == {True, False}


def test_machines_that_go_on_without_the_process_do_not_lose_all_they_were_sent():
    kept = 0
    for seed in range(10):
        world = booted(plan_of("read", seed=seed))
        world.manager.write("key-0", 1)
        pass_time(world.kernel, 60)  # the messages have left
        world.kill(machines_too=False)
        pass_time(world.kernel, SECOND_US)
        kept += values_at(world).count(b"1")
        world.boot()
        serve(world)
        assert len(set(values_at(world))) == 1  # and then they agree
    assert 10 < kept <= 30


def test_what_machines_have_taken_is_not_lost_with_the_process():
    world = booted()
    world.manager.write("key-0", 1)
    pass_time(world.kernel, 105)  # taken, and not yet durable
    world.kill(machines_too=False)
    pass_time(world.kernel, SECOND_US)

    assert values_at(world) == [b"1"] * 3
    world.boot()
    serve(world)
    assert read(world) == 1


def test_a_kill_is_not_kept_from_who_wants_to_be_told():
    world = booted()
    told = []
    world.died = lambda: told.append(world.has_process)
    world.kill(machines_too=True)

    assert told == [False]


def test_a_start_with_too_few_readable_disks_is_refused_and_tried_again():
    world = booted()
    write(world, 7)
    world.kill(machines_too=True)
    for node in (0, 1):
        world.storages[node].disk = FAILING
    world.boot()
    pass_time(world.kernel, SECOND_US)
    refused = (
        world.is_serving,
        world.exercised["start refused, too few disks can be read"],
    )
    for node in (0, 1):
        world.mend(node)
    serve(world)

    assert refused[0] is False
    assert refused[1] > 5
    assert read(world) == 7


def test_a_start_that_nobody_answers_is_given_up_and_tried_again():
    world = World(plan_of("read", noise=Noise(lose_request=1.0)))
    world.boot()
    pass_time(world.kernel, SECOND_US)
    given_up = world.exercised["start given up"]
    world.network.set_noise(Noise())
    serve(world)

    assert given_up > 3


# --- Machines --------------------------------------------------------------------------


def test_a_machine_that_crashed_comes_back_with_what_was_durable_and_no_more():
    world = booted()
    write(world, 1)
    machine = world.machines[1]
    world.crash(1)
    world.crash(1)  # it cannot crash twice
    outcome = write(world, 2)  # the others took it, and 1 leaves the set
    during = values_at(world)
    world.restart(1)

    assert (machine.crashed, during) == (False, [b"2", b"1", b"2"])
    assert outcome.missed == (1,)
    end_of(world, world.maintain())
    assert values_at(world) == [b"2"] * 3
    assert world.manager.cluster.status[1] == UP


def test_a_crash_is_not_told_to_the_manager():
    world = booted()
    world.crash(1)
    pass_time(world.kernel, 10)

    assert world.manager.cluster.status[1] == UP


def test_a_machine_that_was_failed_does_not_answer_because_it_was_restarted():
    world = booted()
    end_of(world, _failed(world, 1))
    world.crash(1)
    world.restart(1)
    write(world, 3)

    assert world.manager.cluster.status[1] == DOWN
    assert values_at(world) == [b"3", None, b"3"]
    with pytest.raises(Refused):
        world.machines[1].node.handle(Get("key-0"))


def _failed(world: World, node: int):
    return world.run(world.manager.change.fail(node, "stop"), 1 << 20)


def test_a_machine_with_a_failing_disk_does_not_come_back_before_it_is_mended():
    world = booted()
    world.storages[1].disk = FAILING
    world.crash(1)
    world.restart(1)
    before = world.machines[1].crashed
    world.mend(1)
    world.restart(1)

    assert (before, world.machines[1].crashed) == (True, False)
    assert world.storages[1].problem is None


def test_a_paused_machine_does_nothing_until_it_goes_on_with_what_arrived():
    world = booted()
    world.pause(2)
    task = world.manager.write("key-0", 5)
    pass_time(world.kernel, 1_000)
    during = values_at(world)
    world.resume(2)
    pass_time(world.kernel, 1)
    end_of(world, task)

    assert during == [b"5", b"5", None]
    assert values_at(world) == [b"5"] * 3


def test_what_arrived_at_a_paused_machine_does_not_survive_its_death():
    for seed in range(10):
        world = booted(plan_of("read", seed=seed))
        world.pause(2)
        world.manager.write("key-0", 5)
        pass_time(world.kernel, 1_000)
        world.kill(machines_too=True)
        world.resume(2)
        pass_time(world.kernel, SECOND_US)

        assert values_at(world)[2] is None


def test_a_storage_that_fails_does_not_leave_its_node_up():
    world = booted()
    world.storages[0].disk = FAILING
    outcome = write(world, 1)

    assert outcome.replicas == (1, 2)
    assert world.manager.cluster.status[0] == DOWN


def test_a_link_that_is_cut_both_ways_does_not_stop_the_others():
    world = booted(plan_of("read", min_in_sync=1))
    world.isolate(0, 3)
    outcome = write(world, 1)
    world.reconnect(0)
    end_of(world, world.maintain())

    assert outcome.replicas == (1, 2)
    assert values_at(world) == [b"1"] * 3
    assert not world.network.cuts


def test_a_store_none_of_whose_answers_come_does_not_call_a_write_refused():
    world = booted()
    for node in range(3):
        world.isolate(node, 2)
    with pytest.raises(Uncertain):
        write(world, 1)
    assert values_at(world) == [b"1"] * 3


# --- Time ------------------------------------------------------------------------------


def test_the_wall_clock_does_not_stand_still_and_versions_do_not_go_back_with_it():
    world = booted()
    assert world.wall_ms - WALL_MS == world.kernel.now // MS_US
    first = write(world, 1)
    pass_time(world.kernel, 2 * SECOND_US)
    second = write(world, 2)
    world.clock_turns.append(-3_600_000)
    third = write(world, 3)
    world.kill(machines_too=True)
    world.boot()
    serve(world)
    fourth = write(world, 4)

    assert world.wall_ms < WALL_MS
    versions = [each.version for each in (first, second, third, fourth)]
    assert versions == sorted(set(versions))
    milliseconds = (int(second.version, 16) >> 32) - (int(first.version, 16) >> 32)
    assert 2_000 <= milliseconds < 2_100


def test_nothing_has_to_ask_for_upkeep_to_bury_what_expired_and_forget_it():
    times = Times(
        message=(100, 100), flush=(10, 10), upkeep=200 * MS_US, grace=1_000 * MS_US
    )
    world = booted(plan_of("read", times=times))
    write(world, 1, ttl=0.1)
    pass_time(world.kernel, 500 * MS_US)
    buried = [storage.get("key-0") for storage in world.storages]
    pass_time(world.kernel, 3 * SECOND_US)

    assert [each is not None and each.value is None for each in buried] == [True] * 3
    assert [storage.get("key-0") for storage in world.storages] == [None] * 3
    with pytest.raises(KeyNotFound):
        read(world)
    world.note_events()
    assert world.exercised["event purged"] == world.exercised["event expired"] == 1


def test_upkeep_of_a_process_that_died_does_not_go_on():
    world = booted()
    world.kill(machines_too=True)
    before = world.kernel.events
    pass_time(world.kernel, 10 * SECOND_US)

    assert world.kernel.events - before <= 2


def test_upkeep_that_was_switched_off_does_not_run():
    world = booted()
    world.is_upkept = False
    pass_time(world.kernel, EXACT.upkeep + SECOND_US)
    before = world.kernel.events
    pass_time(world.kernel, 10 * SECOND_US)

    assert world.kernel.events == before


def test_two_rounds_of_upkeep_do_not_run_at_once():
    times = Times(
        message=(100, 100), flush=(10, 10), patience=1 * SECOND_US, upkeep=100 * MS_US
    )
    world = booted(plan_of("read", times=times))
    for node in range(3):
        world.pause(node)
    rounds: set[int] = set()
    for _ in range(80):
        pass_time(world.kernel, 100 * MS_US)
        running = [task for task in world.driver.tasks if task.name == "maintain"]
        assert len(running) <= 1
        rounds.update(task.number for task in running)

    assert 2 <= len(rounds) <= 8


# --- What it knows of what is saved ----------------------------------------------------


def test_the_saved_in_sync_set_is_not_taken_from_an_older_record_or_a_hidden_one():
    world = booted()
    [shard] = {id(s): s for s in world.manager.cluster.shards.values()}.values()
    before = world.saved_in_sync(shard.replicas)
    world.crash(2)
    write(world, 1)
    world.storages[0].disk = FAILING
    world.storages[0].crash()  # cannot be read, but is there

    assert before == (0, 1, 2)
    assert world.saved_in_sync(shard.replicas) == (0, 1)


def test_what_a_trial_plants_in_its_world_is_not_left_out():
    class Forgetful(World):
        def boot(self) -> None:
            super().boot()
            self.exercised["planted"] += 1

    outcome = Trial(plan_of("write", "read"), Forgetful).run()

    assert outcome.exercised["planted"] == 1
    assert outcome.violation is None
