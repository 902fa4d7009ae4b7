"""One run of a plan: anything may go wrong, then all is mended, then the judgement.

First the *safety* phase: clients and faults, as the plan has them. Then *liveness*: a core
of the nodes is healed and the others are failed for good; within a budget of virtual time
everything under way must end, and the core serve every key and agree. At last everything
is healed, every key is read, and the history goes to the checker. The two phases are
TigerBeetle's (docs/internals/vopr): faults that heal by themselves hide what never would.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from checker.consistency import written_only
from checker.history import History, Operation, Replica
from checker.linearizability import check_key
from checker.verdict import HOLDS, UNKNOWN, Verdict, by_key
from checker.versions import convergence, versions
from cluster.shard import DOWN
from models import NodeId, StoreError
from protocols import PROTOCOLS
from simulation.driver import Task, finished
from simulation.faults import FAULTS
from simulation.invariants import (
    check_acknowledged,
    check_converged,
    check_expired,
    check_nodes_up,
    check_one_value_a_version,
    check_purge,
    check_refused_left_nothing,
    check_sources_agree,
    check_times_to_live,
    earliest_end,
)
from simulation.kernel import SECOND_US, OutOfEvents, bits
from simulation.network import ANOMALIES
from simulation.plan import REACHED, Anomaly, Fault, Noise, Plan, Step
from simulation.storage import OK
from simulation.workload import ACTIONS, READ, WRITE, Client
from simulation.world import World

LIVENESS_US = 60 * SECOND_US  # for a core to serve, and for all to converge
UNKNOWN_WRITE = "a write's outcome was unknown"
UNKNOWN_READ = "a write of unknown outcome was read"
NOT_HELD = "a condition did not hold"
REFUSED = "a request was refused, and nothing was done"
QUIET_US = 5 * SECOND_US  # for what is under way to end once nothing goes wrong
LONGEST_TTL_US = 60 * SECOND_US  # whatever had one has expired by then
CORE = 1 << 47  # numbers of the tasks of the liveness phase
LOOKS = 1 << 30  # and of the last looks: they are values too


class Violation(Struct, frozen=True):
    """What was violated: a property, in words, and the checker's verdict if it is its."""

    what: str
    why: str
    verdict: Verdict | None = None


class Outcome(Struct):
    """What came of a run."""

    plan: Plan
    trace_hash: str
    operations: int  # of clients
    answered: int  # of those, acknowledged
    events: int
    virtual_us: int
    injected: Counter[str]
    exercised: Counter[str]
    history: History
    anomalies: tuple[Anomaly, ...]
    violation: Violation | None = None
    undecided: int = 0  # keys on which the checker gave up


class Stuck(Exception):
    """Something did not end, or nobody serves, within its budget of virtual time."""


class Trial:
    """A plan being run. `world` may be looked at, and given a bug, before `run`."""

    def __init__(self, plan: Plan, make_world: Callable[[Plan], World] = World) -> None:
        self.plan = plan
        self.world = make_world(plan)
        self.world.died = self._process_died
        self.world.network.purged = partial(check_purge, self.world)
        self.injected: Counter[str] = Counter()
        self.clients: list[Client] = []
        self._reached = 0  # by the last Put that a fault waited for
        self._is_safe = False  # nothing goes wrong any more
        for number in sorted({step.client for step in plan.steps}):
            steps = [step for step in plan.steps if step.client == number]
            self.clients.append(self._client(f"c{number}", steps))

    def run(self) -> Outcome:
        """Run it to its end and judge it."""
        violation = None
        try:
            self._go_wrong()
            self._heal_a_core()
            self._heal_all()
        except Stuck as stuck:
            violation = Violation("liveness", str(stuck))
        except OutOfEvents as error:
            violation = Violation("liveness", str(error))
        except AssertionError as error:
            violation = Violation("invariant", str(error) or "an assertion failed")
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            words = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
            violation = Violation("crash", words)
        return self._outcome(violation)

    # --- Phases ------------------------------------------------------------------------

    def _go_wrong(self) -> None:
        world, kernel = self.world, self.world.kernel
        world.boot()
        self._until(lambda: world.is_serving, "the process never serves")
        for fault in self.plan.faults:
            kernel.after(fault.at_us, self._happen, fault)
        for client in self.clients:
            client.go_on()
        last = max((fault.at_us for fault in self.plan.faults), default=0)
        thinking = max(
            sum(step.think_us for step in self.plan.steps if step.client == number)
            for number in {step.client for step in self.plan.steps} or {0}
        )
        busy = {client.name for client in self.clients}

        def done(client: Client) -> None:
            busy.discard(client.name)
            if not busy:
                kernel.stop()

        for client in self.clients:
            client.done = partial(done, client)
        kernel.run(kernel.now + max(last, thinking) + QUIET_US)

    def _happen(self, fault: Fault, is_due: bool = False) -> None:
        world = self.world
        if self._is_safe:
            return
        if fault.after_puts and not is_due:
            world.network.trap(fault.after_puts, partial(self._spring, fault))
            return
        if fault.node == REACHED:
            fault = replace(fault, node=self._reached)
        if self._strike(fault):
            world.kernel.note(-2, fault.number)
            self.injected[fault.kind] += 1

    def _spring(self, fault: Fault, node: NodeId) -> None:
        self._reached = node
        self._happen(fault, True)

    def _strike(self, fault: Fault) -> bool:
        return FAULTS[fault.kind].happen(self.world, fault)

    def _process_died(self) -> None:
        for client in self.clients:
            client.give_up()

    def _clients_are_done(self) -> bool:
        return all(client.is_done for client in self.clients)

    def _heal_a_core(self) -> None:
        world = self.world
        self._mend_everything()
        self._until(lambda: world.is_serving, "the process never serves again")
        self._quieten()
        check_sources_agree(world)
        core = self._choose_core()
        for node in world.machines:
            if node not in core and world.manager.cluster.status[node] != DOWN:
                self._do(world.manager.change.fail(node, "stop"), CORE | node)
        for node in sorted(core):
            if world.manager.cluster.status[node] == DOWN:
                self._do(world.manager.change.recover(node), CORE | 256 | node)
        world.kernel.run(world.kernel.now + LONGEST_TTL_US)
        self._upkeep()
        check_expired(world)
        self._look(READ, "core")
        self._look(WRITE, "core")
        self._upkeep()
        check_converged(world, core)
        if len(core) < len(world.machines):
            world.exercised["a core went on without the rest"] += 1

    def _heal_all(self) -> None:
        world = self.world
        for node in world.machines:
            if world.manager.cluster.status[node] == DOWN:
                self._do(world.manager.change.recover(node), CORE | 512 | node)
        self._upkeep()
        self._upkeep()
        self._look(READ, "last")
        check_converged(world, world.machines)
        check_nodes_up(world)
        check_one_value_a_version(world)
        check_refused_left_nothing(world, self.clients)
        check_times_to_live(world, self.clients)

    def _mend_everything(self) -> None:
        world = self.world
        self._is_safe = True
        world.network.set_noise(Noise())
        world.network.late_records.clear()
        world.is_upkept = False
        for node in world.machines:
            world.mend(node)
            world.reconnect(node)
            world.resume(node)
            world.restart(node)
        if not world.has_process:
            world.kernel.after(world.plan.times.restart, self._boot_if_dead)

    def _boot_if_dead(self) -> None:
        if not self.world.has_process:
            self.world.boot()

    def _quieten(self) -> None:
        """Let everything that is under way come to its end."""
        world = self.world
        self._until(self._is_quiet, "something is under way for ever")
        assert all(storage.disk == OK for storage in world.storages)

    def _is_quiet(self) -> bool:
        return self._clients_are_done() and not self.world.driver.tasks

    def _choose_core(self) -> set[int]:
        """As few nodes as may be, in an order that the seed draws, that hold everything.

        Of each shard enough in-sync replicas must be in it: with fewer the store must
        not serve.
        """
        world = self.world
        cluster = world.manager.cluster
        core = set(world.machines)
        for node in sorted(core, key=lambda n: bits(world.seed, 7, n)):
            rest = core - {node}
            if rest and all(
                len(rest.intersection(shard.in_sync)) >= self.plan.min_in_sync
                for shard in cluster.shards.values()
            ):
                core = rest
        return core

    # --- Steps of the later phases -----------------------------------------------------

    def _do(self, operation: object, number: int) -> None:
        task = self.world.run(operation, number)  # type: ignore[arg-type]
        self._end(task, f"{task.name} never ends")

    def _upkeep(self) -> None:
        self._end(self.world.maintain(), "a round of upkeep never ends")

    def _end(self, task: Task, otherwise: str) -> None:
        errors: list[Exception | None] = []
        before = task.ended

        def note(outcome: object, error: Exception | None) -> None:
            errors.append(error)
            before(outcome, error)

        task.then(note)
        self._until(finished(task), otherwise)
        if isinstance(errors[0], StoreError):
            raise Stuck(f"refused although nothing is wrong: {errors[0]}")
        if errors[0] is not None:
            raise errors[0]

    def _until(self, is_done: Callable[[], bool], otherwise: str) -> None:
        kernel = self.world.kernel
        ends = kernel.now + LIVENESS_US
        while not is_done() and kernel.now < ends:
            kernel.run(ends, is_done)
        if not is_done():
            raise Stuck(f"{otherwise} (waited {LIVENESS_US // SECOND_US} s)")

    def _look(self, action: str, name: str) -> None:
        """Ask for every key; each must be served."""
        steps = [
            Step(LOOKS | len(self.clients) << 8 | number, -1, action, key, 1)
            for number, key in enumerate(self.world.keys)
        ]
        client = self._client(name, steps)
        self.clients.append(client)
        client.go_on()
        self._until(lambda: client.is_done, f"the {action} of a key never ends")
        for operation in client.operations:
            if operation.outcome != "ok":
                raise Stuck(
                    f"a {action} of {operation.key} is {operation.outcome} "
                    "although a core is whole"
                )

    def _client(self, name: str, steps: list[Step]) -> Client:
        client = Client(self.world, name, steps)
        client.acknowledged = partial(check_acknowledged, self.world)
        return client

    # --- Judgement ---------------------------------------------------------------------

    def _outcome(self, violation: Violation | None) -> Outcome:
        world = self.world
        for client in self.clients:
            client.give_up()
        if hasattr(world, "driver"):
            world.note_events()
        history = self._history()
        undecided = 0
        if violation is None:
            violation, undecided = judged(history)
        world.exercised.update(world.network.exercised)
        note_answers(world.exercised, history.operations)
        operations = history.operations
        return Outcome(
            self.plan,
            world.kernel.trace_hash,
            len(operations),
            sum(each.outcome == "ok" for each in operations),
            world.kernel.events,
            world.kernel.now,
            self.injected + Counter(a.kind for a in world.network.happened),
            world.exercised,
            history,
            tuple(world.network.happened),
            violation,
            undecided,
        )

    def _history(self) -> History:
        world = self.world
        operations: list[Operation] = []
        for client in self.clients:
            operations += client.operations
            operations += (e.ending(earliest_end(world, e)) for e in client.lasting)
        replicas = []
        for storage in world.storages:
            for key in self.world.keys:
                record = storage.get(key)
                if record is not None:
                    value = record.value.decode() if record.value is not None else None
                    replicas.append(
                        Replica(str(storage.node), key, value, record.version.text)
                    )
        note = f"simulated, seed {self.plan.seed}"
        return History(operations, replicas, "us", note)


def note_answers(exercised: Counter[str], operations: Iterable[Operation]) -> None:
    """Count what clients were told."""
    unknown: set[tuple[str, str]] = set()
    for operation in operations:
        if operation.outcome == "unknown":
            exercised[UNKNOWN_WRITE] += operation.action == WRITE
            if operation.value is not None:
                unknown.add((operation.key, operation.value))
        elif operation.outcome == "failed":
            if operation.saw is None:
                exercised[REFUSED] += 1
            elif operation.action != READ:  # a look at a page of keys is no condition
                exercised[NOT_HELD] += 1
    for operation in operations:
        if operation.action == READ and operation.value is not None:
            exercised[UNKNOWN_READ] += (operation.key, operation.value) in unknown


def judged(history: History) -> tuple[Violation | None, int]:
    """The first violation in a history, and how many keys were too much work."""
    undecided = 0
    for operations in by_key(history.operations).values():
        verdict = check_key(operations)
        if verdict.answer == UNKNOWN:
            undecided += 1
        elif verdict.answer != HOLDS:
            return Violation(verdict.property, verdict.why, verdict), undecided
    for check in (versions, written_only, convergence):
        for verdict in check(history):
            if verdict.answer not in (HOLDS, UNKNOWN):
                return Violation(verdict.property, verdict.why, verdict), undecided
    return None, undecided


def wrong_with(plan: Plan) -> str | None:
    """Why a plan cannot be run, in words; None: it can."""
    times, anomalies = plan.times, plan.anomalies or ()
    whom = {kind for kind, each in FAULTS.items() if "{node}" in each.words}
    checks = {
        "min_in_sync <= replication_factor <= nodes": (
            plan.min_in_sync <= plan.replication_factor <= plan.nodes
        ),
        f"a protocol of {', '.join(PROTOCOLS)}": plan.protocol in PROTOCOLS,
        f"actions of {', '.join(ACTIONS)}": all(
            s.action in ACTIONS for s in plan.steps
        ),
        f"faults of {', '.join(FAULTS)}": all(f.kind in FAULTS for f in plan.faults),
        f"anomalies of {', '.join(ANOMALIES)}": all(
            a.kind in ANOMALIES and 0 <= a.node < plan.nodes for a in anomalies
        ),
        "faults of nodes that there are": all(
            f.node == REACHED or 0 <= f.node < plan.nodes
            for f in plan.faults
            if f.kind in whom
        ),
        "times from the lower to the higher": all(
            0 <= low <= high for low, high in (times.message, times.flush)
        ),
    }
    return next((needed for needed, holds in checks.items() if not holds), None)


def run(plan: Plan) -> Outcome:
    """Run a plan and judge it."""
    return Trial(plan).run()
