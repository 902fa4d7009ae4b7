"""What can go wrong in a run, as a table: one function for each kind of fault.

To add a fault: write a function here that does it to a world, list it in FAULTS, and let
`swarm.py` draw it (docs/simulation.md tells it step by step). A fault that cannot happen
just now, because the process is down say, returns False and is not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cluster.shard import DOWN, UP
from models import NodeId, Operation, StoreError
from simulation.plan import Fault
from simulation.storage import FAILING, FULL, OK, UNCONFIRMED
from simulation.world import World

OVERTAKEN = {  # what an operator is told -> what is counted
    "recovered meanwhile": "a wipe was overtaken by a recovery",
    "went down after that was asked for": "a recovery was overtaken by a failure",
}
OPERATORS = 1 << 46  # numbers of the tasks that a fault starts


@dataclass(frozen=True)
class Kind:
    """One kind of fault: the class it is switched off with, and what it does."""

    family: str
    words: str
    happen: Callable[[World, Fault], bool]


def _fail(world: World, fault: Fault) -> bool:
    return _fail_node(world, fault, "stop")


def _wipe(world: World, fault: Fault) -> bool:
    if not world.is_serving or not may_lose(world, fault.node):
        return False
    return _fail_node(world, fault, "wipe")


def _fail_node(world: World, fault: Fault, mode: str) -> bool:
    status = world.manager.cluster.status[fault.node] if world.is_serving else DOWN
    if not world.is_serving or (status == DOWN and mode == "stop"):
        return False
    world.note_copies(fault.node)
    _operate(world, fault, world.manager.change.fail(fault.node, mode))
    return True


def _recover(world: World, fault: Fault) -> bool:
    if not world.is_serving or world.manager.cluster.status[fault.node] == UP:
        return False
    task = _operate(world, fault, world.manager.change.recover(fault.node))
    ended = task.ended

    def look(outcome: Any, error: Exception | None) -> None:
        if world.manager.cluster.status[fault.node] != UP:
            world.exercised["a recovery ended before the node was up"] += 1
        ended(outcome, error)

    task.then(look)
    return True


def _operate(world: World, fault: Fault, operation: Operation[Any]) -> Any:
    task = world.run(operation, OPERATORS | fault.number)

    def ended(outcome: Any, error: Exception | None) -> None:
        if error is not None and not isinstance(error, StoreError):
            raise error
        for told, what in OVERTAKEN.items():
            world.exercised[what] += told in str(error)

    task.then(ended)
    return task


def _crash(world: World, fault: Fault) -> bool:
    if world.machines[fault.node].crashed:
        return False
    world.crash(fault.node)
    return True


def _restart(world: World, fault: Fault) -> bool:
    if not world.machines[fault.node].crashed:
        return False
    world.restart(fault.node)
    return not world.machines[fault.node].crashed


def _pause(world: World, fault: Fault) -> bool:
    if world.machines[fault.node].paused:
        return False
    world.pause(fault.node)
    return True


def _resume(world: World, fault: Fault) -> bool:
    if not world.machines[fault.node].paused:
        return False
    world.resume(fault.node)
    return True


def _isolate(world: World, fault: Fault) -> bool:
    before = len(world.network.cuts)
    world.isolate(fault.node, fault.amount)
    return len(world.network.cuts) > before


def _reconnect(world: World, fault: Fault) -> bool:
    before = len(world.network.cuts)
    world.reconnect(fault.node)
    return len(world.network.cuts) < before


def _fill_disk(world: World, fault: Fault) -> bool:
    return _spoil(world, fault, FULL)


def _break_disk(world: World, fault: Fault) -> bool:
    return _spoil(world, fault, FAILING)


def _fail_flush(world: World, fault: Fault) -> bool:
    return _spoil(world, fault, UNCONFIRMED)


def _spoil(world: World, fault: Fault, disk: str) -> bool:
    storage = world.storages[fault.node]
    if storage.disk != OK:
        return False
    storage.disk = disk
    return True


def _mend_disk(world: World, fault: Fault) -> bool:
    if world.storages[fault.node].disk == OK:
        return False
    world.mend(fault.node)
    return True


def _kill(world: World, fault: Fault) -> bool:
    return _end_process(world, machines_too=True)


def _kill_manager(world: World, fault: Fault) -> bool:
    return _end_process(world, machines_too=False)


def _lose_disk(world: World, fault: Fault) -> bool:
    """The process dies, and one node's disk is another, or damaged, when it starts."""
    if not world.has_process or not may_lose(world, fault.node):
        return False
    _end_process(world, machines_too=True)
    world.storages[fault.node].lose(fault.amount)
    return True


def _end_process(world: World, *, machines_too: bool) -> bool:
    if not world.has_process:
        return False
    world.kill(machines_too)
    world.kernel.after(world.plan.times.restart, _boot, world, world.process)
    return True


def _boot(world: World, process: int) -> None:
    if world.process == process and not world.has_process:
        world.boot()


def _stop_process(world: World, fault: Fault) -> bool:
    """The process ends in good order, and is started again."""
    if not world.is_serving:
        return False
    world.is_serving = False
    world.manager.cluster.stopping = True
    task = world.run(world.manager.change.stop(), OPERATORS | fault.number)

    def ended(outcome: Any, error: Exception | None) -> None:
        if error is not None and not isinstance(error, StoreError):
            raise error
        _end_process(world, machines_too=True)

    task.then(ended)
    return True


def _delay_record(world: World, fault: Fault) -> bool:
    if not world.has_process:
        return False
    world.network.late_records[fault.node] = fault.amount
    return True


def _turn_clock(world: World, fault: Fault) -> bool:
    world.clock_turns.append(fault.amount)
    return True


def may_lose(world: World, node: NodeId) -> bool:
    """True if what is promised still is when the node's storage is lost.

    Each of its shards must have another in-sync replica that keeps its own, and that
    must be saved. More than one copy may go, one after the other.
    """
    if not world.has_process:
        return False
    cluster = world.manager.cluster
    if cluster.unsaved() is not None or any(
        task.name == "fail" and not task.has_begun for task in world.driver.tasks
    ):
        return False
    kept = {
        n for n, storage in enumerate(world.storages)
        if n != node and storage.problem is None and storage.disk != FAILING
    }  # fmt: skip
    voters = {n for n, status in cluster.status.items() if status != DOWN and n in kept}
    return bool(voters) and all(
        kept.intersection(shard.members)
        for shard in cluster.shards_of(node)
    )  # fmt: skip


FAULTS: dict[str, Kind] = {
    "fail": Kind("operator", "an operator fails node {node}", _fail),
    "wipe": Kind("wipe", "an operator fails node {node} and wipes it", _wipe),
    "recover": Kind("operator", "an operator recovers node {node}", _recover),
    "crash": Kind("crash", "node {node}'s machine crashes", _crash),
    "restart": Kind("crash", "node {node}'s machine is back", _restart),
    "pause": Kind("pause", "node {node}'s machine pauses", _pause),
    "resume": Kind("pause", "node {node}'s machine goes on", _resume),
    "isolate": Kind("cut", "the link to node {node} is cut (ways {amount})", _isolate),
    "reconnect": Kind("cut", "the link to node {node} is whole", _reconnect),
    "disk full": Kind("disk", "node {node}'s disk is full", _fill_disk),
    "disk fails": Kind("disk", "node {node}'s disk fails", _break_disk),
    "flush fails": Kind("disk", "a flush of node {node} fails", _fail_flush),
    "mend": Kind("disk", "node {node}'s disk is mended", _mend_disk),
    "kill": Kind("kill", "the process is killed, with every machine", _kill),
    "kill manager": Kind("kill", "the process is killed, machines go on", _kill_manager),
    "lose disk": Kind("lose", "all is killed, node {node}'s disk replaced", _lose_disk),
    "stop": Kind("stop", "the process ends in good order", _stop_process),
    "late record": Kind(
        "contest", "the next state record to node {node} is {amount} us late", _delay_record
    ),
    "clock": Kind("clock", "the wall clock is set by {amount} ms", _turn_clock),
}  # fmt: skip
FAMILIES = tuple(dict.fromkeys(kind.family for kind in FAULTS.values()))
NOISE = "noise"  # the family of what the network does to single messages
