"""A cluster in virtual time: machines, a network between them, and the process over them.

The process is the real one: `ReplicationManager`, `Membership`, `Reconfiguration`, the
protocol and `ReplicaNode`, put together as `replication.open_manager` does it, with
simulated storage, clock and driver. What the machines keep outlives it.

    world = World(plan)
    world.boot()
    world.kernel.run(SECOND_US, lambda: world.is_serving)
    task = world.manager.write("key", 1)
    world.kernel.run(2 * SECOND_US, finished(task))
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from cluster.clock import HybridClock
from cluster.events import EventLog
from cluster.shard import DOWN, saved_state
from config import Settings
from models import NodeId, Operation, StoreError
from replication import (
    ReplicaNode,
    ReplicationManager,
    StorageUnreadable,
    restore_cluster,
)
from simulation.driver import RECONFIGURATION, SimulatedDriver, Task
from simulation.kernel import MS_US, SECOND_US, Kernel, bits
from simulation.network import MANAGER, Machine, Network
from simulation.plan import Plan
from simulation.storage import FAILING, OK, SimulatedStorage

WALL_MS = 1_700_000_000_000  # the wall clock at the start of every run
UPKEEP = 1 << 44  # numbers of the tasks of upkeep
STARTS = 1 << 45  # and of starts
RESTART_US = 50 * MS_US  # from a start that failed to the next
US_NS = 1_000


class World:
    """A cluster that a plan describes. `boot` it, then let `kernel` run.

    `process` counts the starts of the process; `is_serving` is false while it is down or
    still starting. `exercised` counts what happened, by name.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.keys = plan.keys
        self.kernel = Kernel()
        seed = bits(plan.seed, 1)
        self.seed = seed
        self.settings = Settings(
            nodes=plan.nodes,
            replication_factor=plan.replication_factor,
            min_in_sync=plan.min_in_sync,
            protocol=plan.protocol,
            storage="memory",
        )
        self.storages = [
            SimulatedStorage(self.kernel, node, seed, plan.times.flush)
            for node in range(plan.nodes)
        ]
        self.machines = {n: Machine(storage) for n, storage in enumerate(self.storages)}
        self.network = Network(self.kernel, self.machines, plan.times, seed)
        if plan.anomalies is not None:
            self.network.set_anomalies(plan.anomalies)
        else:
            self.network.set_noise(plan.noise)
        self.exercised: Counter[str] = Counter()
        self.clock_turns: list[
            int
        ] = []  # by which the wall clock was set, milliseconds
        self.process = 0
        self.is_serving = False
        self.is_upkept = True  # rounds of upkeep run
        self.manager: ReplicationManager
        self.driver: SimulatedDriver
        self.nodes: dict[NodeId, ReplicaNode] = {}
        self.died: Callable[[], None] = lambda: None  # told when the process does
        self._saved: tuple[int, dict[tuple[NodeId, ...], tuple[NodeId, ...]]] = (-1, {})
        self._upkeep: Task | None = None
        self._events_seen = 0

    @property
    def wall_ms(self) -> int:
        """The wall clock of the process, in milliseconds since 1970; it may go back."""
        return WALL_MS + self.kernel.now // MS_US + sum(self.clock_turns)

    @property
    def keeps_time(self) -> bool:
        """True if durations can be known: while a process runs, or the wall clock is right."""
        return self.process == 1 or not self.clock_turns

    # --- The process -------------------------------------------------------------------

    def boot(self) -> None:
        """Start the process on what the machines hold; it serves once it has started."""
        self.process += 1
        process = self.process
        for node, machine in self.machines.items():
            if machine.storage.disk == FAILING:
                self._crash_storage(machine)  # it cannot be read
            self._start_machine(machine)
            self.resume(node)
        self.nodes = {node: machine.node for node, machine in self.machines.items()}
        clock = HybridClock(lambda: self.wall_ms, lambda: self.kernel.now * US_NS)
        try:
            cluster = restore_cluster(self.settings, self.nodes, clock)
        except StorageUnreadable:
            self.exercised["start refused, too few disks can be read"] += 1
            self.kernel.after(RESTART_US, self._boot_again, process)
            return
        cluster.copy_batch = self.plan.copy_batch
        self._events_seen = 0
        self.manager = ReplicationManager(
            self.settings,
            self.nodes,
            cluster,
            EventLog(lambda: self.wall_ms),
            make_driver=self._make_driver,
            monotonic=lambda: self.kernel.now / SECOND_US,
        )
        task = self.run(self.manager.change.start(), STARTS | self.kernel.now)
        task.then(self._started)

    def kill(self, machines_too: bool) -> None:
        """The process dies between two messages.

        Messages on their way still arrive. With `machines_too` whatever was not durable
        is lost, otherwise the nodes' storage goes on as it was.
        """
        if self.has_process:
            self.note_events()
            for task in self.driver.tasks:
                if task.locks[-1] == RECONFIGURATION:
                    self.exercised[f"killed during a {task.name}"] += 1
            self.driver.kill()
        self.is_serving = False
        self._upkeep = None
        if machines_too:
            for machine in self.machines.values():
                machine.inbox.clear()
                self._crash_storage(machine)
        self.died()

    @property
    def has_process(self) -> bool:
        """False while nothing was booted, or what was booted is dead."""
        return hasattr(self, "driver") and not self.driver.is_dead

    def run(self, operation: Operation[Any], number: int) -> Task:
        """Start an operation of the manager's own, under no lock."""
        self.driver.next_number = number
        task: Task = self.driver.run(operation)
        return task

    def note_events(self) -> None:
        """Count the store's own events by kind."""
        for event in self.manager.events(self._events_seen):
            self._events_seen = event.number
            self.exercised[f"event {event.kind}"] += 1
        self.exercised.update(self.driver.nested)
        self.driver.nested.clear()

    def _make_driver(self, nodes: object, failed: Any) -> SimulatedDriver:
        patience = self.plan.times.patience
        self.driver = SimulatedDriver(self.kernel, self.network, patience, failed)
        return self.driver

    def _started(self, outcome: object, error: Exception | None) -> None:
        if isinstance(error, StoreError):
            self.exercised["start given up"] += 1
            self.driver.kill()
            self.kernel.after(RESTART_US, self._boot_again, self.process)
        elif error is not None:
            raise error
        else:
            self.is_serving = True
            self.kernel.after(self.plan.times.upkeep, self._upkeep_due, self.process)

    def _boot_again(self, process: int) -> None:
        if process == self.process:
            self.boot()

    def saved_in_sync(self, replicas: tuple[NodeId, ...]) -> tuple[NodeId, ...]:
        """The in-sync set of a shard in the newest state record on any disk."""
        newest = max(
            filter(None, (storage.state_on_disk() for storage in self.storages)),
            key=lambda state: state[0],
            default=None,
        )
        if newest is None:
            return replicas
        if newest[0] != self._saved[0]:
            state = saved_state(newest[1])
            shards = {shard.replicas: shard.in_sync for shard in state.shards}
            self._saved = (newest[0], shards)
        return self._saved[1].get(replicas, replicas)

    # --- Upkeep ------------------------------------------------------------------------

    def _upkeep_due(self, process: int) -> None:
        if process != self.process or not self.is_serving or not self.is_upkept:
            return
        if self._upkeep is None:
            self.maintain()
        self.kernel.after(self.plan.times.upkeep, self._upkeep_due, process)

    def maintain(self) -> Task:
        """Start one round of upkeep."""
        number = self.kernel.now // self.plan.times.upkeep
        before_ms = self.manager.cluster.now_ms() - self.plan.times.grace // MS_US
        operation = self.manager.change.maintain(before_ms)
        self._upkeep = self.run(operation, UPKEEP | number)
        self._upkeep.then(self._upkeep_ended)
        return self._upkeep

    def _upkeep_ended(self, outcome: object, error: Exception | None) -> None:
        self._upkeep = None
        if error is not None and not isinstance(error, StoreError):
            raise error

    # --- Machines ----------------------------------------------------------------------

    def crash(self, node: NodeId) -> None:
        """A node's machine stops, at once; the manager is not told."""
        machine = self.machines[node]
        if machine.crashed:
            return
        self.note_copies(node)
        machine.crashed = True
        self._crash_storage(machine)

    def restart(self, node: NodeId) -> None:
        """A crashed machine comes back with what was durable, if its disk can be read."""
        machine = self.machines[node]
        if not machine.crashed or machine.storage.disk == FAILING:
            return
        self._start_machine(machine)
        self.nodes[node] = machine.node
        if self.has_process and self.manager.cluster.status[node] == DOWN:
            machine.node.stop()

    def pause(self, node: NodeId) -> None:
        """A machine does nothing for a while; what arrives waits."""
        self.machines[node].paused = True

    def resume(self, node: NodeId) -> None:
        """A paused machine goes on with what arrived meanwhile."""
        machine = self.machines[node]
        machine.paused = False
        waiting, machine.inbox = machine.inbox, []
        for arrived in waiting:
            self.kernel.after(0, arrived)

    def mend(self, node: NodeId) -> None:
        """The node's disk is in order again."""
        self.storages[node].disk = OK

    def isolate(self, node: NodeId, ways: int) -> None:
        """Cut the link to a node: 1 what is sent to it, 2 its answers, 3 both."""
        if ways & 1:
            self.network.cuts.add((MANAGER, node))
        if ways & 2:
            self.network.cuts.add((node, MANAGER))

    def reconnect(self, node: NodeId) -> None:
        """Both ways of the link to a node carry messages again."""
        self.network.cuts -= {(MANAGER, node), (node, MANAGER)}

    def note_copies(self, node: NodeId) -> None:
        """A node stops: count the copies in which it takes part just now."""
        if not self.has_process:
            return
        for task in self.driver.tasks:
            asking = task.asking
            if asking is not None and node in asking.waiting:
                kind = type(asking.message).__name__
                if task.locks[0] is None:
                    self.exercised[f"a node stopped while asked for {kind}"] += 1

    def _start_machine(self, machine: Machine) -> None:
        machine.crashed = False
        if machine.storage.disk != FAILING:
            machine.storage.reopen()
        machine.node = ReplicaNode(machine.storage.node, machine.storage)

    def _crash_storage(self, machine: Machine) -> None:
        if machine.storage.crash():
            self.exercised["a commit was cut off in its middle"] += 1
