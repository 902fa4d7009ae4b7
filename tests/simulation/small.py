"""What the tests of the simulator share: small plans, worlds, networks, and who asks."""

from collections.abc import Callable, Iterable
from typing import Any

from msgspec.structs import replace

from models import Message, Version
from simulation.driver import SimulatedDriver, Task, finished
from simulation.kernel import SECOND_US, Kernel
from simulation.network import Exchange, Machine, Network
from simulation.plan import Anomaly, Fault, Plan, Step, Times
from simulation.storage import SimulatedStorage
from simulation.world import World
from tests.storage_case import record

MESSAGE_US, FLUSH_US, PATIENCE_US = 100, 10, 5_000
EXACT = Times(  # every message and every flush takes exactly so long
    message=(MESSAGE_US, MESSAGE_US), flush=(FLUSH_US, FLUSH_US), patience=PATIENCE_US
)
__all__ = ["record"]


def plan_of(*actions: str, faults: Iterable[Fault] = (), **changes: Any) -> Plan:
    """One client that does one thing after the other to one key, 1 ms between them."""
    steps = tuple(
        Step(number, 0, action, "key-0", 1_000)
        for number, action in enumerate(actions, 1)
    )
    return replace(Plan(7, 3, 3, steps, times=EXACT), faults=tuple(faults), **changes)


def numbered(*faults: tuple[int, str, int] | tuple[int, str, int, int]):
    """Faults as (when, kind, node) or (when, kind, node, amount)."""
    return tuple(Fault(number, *fault) for number, fault in enumerate(faults, 1))


# --- A whole cluster -------------------------------------------------------------------


def booted(plan: Plan | None = None) -> World:
    """A cluster that serves."""
    world = World(plan or plan_of("read"))
    world.boot()
    serve(world)
    return world


def serve(world: World) -> None:
    """Let time pass until it serves."""
    world.kernel.run(world.kernel.now + 10 * SECOND_US, lambda: world.is_serving)
    assert world.is_serving, "it never serves"


def end_of(world: World, task: Any, seconds: float = 10) -> Any:
    """Let time pass until a task has ended; what came of it, or the error raised."""
    return outcome_of(world.kernel, task, seconds)


def outcome_of(kernel: Kernel, task: Any, seconds: float = 10) -> Any:
    ends: list[tuple[Any, Exception | None]] = []
    before = task.ended

    def ended(outcome: Any, error: Exception | None) -> None:
        ends.append((outcome, error))
        before(outcome, error)

    task.then(ended)
    kernel.run(kernel.now + int(seconds * SECOND_US), finished(task))
    assert ends, f"{task.name} does not end in {seconds} s"
    outcome, error = ends[0]
    if error is not None:
        raise error
    return outcome


def pass_time(kernel: Kernel, microseconds: int) -> None:
    kernel.run(kernel.now + microseconds)


def values_at(world: World, key: str = "key-0") -> list[bytes | None]:
    """What each node holds of a key."""
    held = [storage.get(key) for storage in world.storages]
    return [each.value if each is not None else None for each in held]


# --- A network with nothing above it ---------------------------------------------------


class Caller:
    """Who waits for answers: notes each with its time."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.is_over = False
        self.is_dead = False
        self.replies: list[tuple[int, int, int, Any]] = []  # when, node, kind, answer
        self.failures: list[tuple[int, Exception]] = []

    def reply(self, node: int, kind: int, answer: Any) -> None:
        self.replies.append((self.kernel.now, node, kind, answer))

    def failed(self, node: int, error: Exception) -> None:
        self.failures.append((node, error))

    @property
    def kinds(self) -> list[int]:
        return [kind for _, _, kind, _ in self.replies]


class Lines:
    """A network between nobody and some machines. Everything takes its exact time."""

    def __init__(
        self, *anomalies: Anomaly, nodes: int = 2, times: Times = EXACT
    ) -> None:
        self.kernel = Kernel()
        self.storages = [
            SimulatedStorage(self.kernel, node, 1, times.flush) for node in range(nodes)
        ]
        self.machines = {n: Machine(storage) for n, storage in enumerate(self.storages)}
        self.network = Network(self.kernel, self.machines, times, 1)
        if anomalies:
            self.network.set_anomalies(anomalies)
        self.seen: list[tuple[int, str, int]] = []  # when, what, to which node
        self.network.watch = lambda what, exchange: self.seen.append(
            (self.kernel.now, what, exchange.node)
        )
        self.caller = Caller(self.kernel)

    def send(self, message: Message, node: int = 0, task: int = 1, number: int = 1):
        """Send a message as the `number`-th one of a task."""
        self.network.send(Exchange(task, number, node, message, self.caller))

    def go_on(self, microseconds: int = SECOND_US) -> None:
        pass_time(self.kernel, microseconds)

    def whats(self) -> list[str]:
        return [what for _, what, _ in self.seen]

    def versions(self, key: str = "k") -> list[Version | None]:
        held = [storage.get(key) for storage in self.storages]
        return [each.version if each is not None else None for each in held]


class Driven(Lines):
    """A driver over such a network. `told` is what operations said, with the time."""

    def __init__(
        self, *anomalies: Anomaly, nodes: int = 2, times: Times = EXACT
    ) -> None:
        super().__init__(*anomalies, nodes=nodes, times=times)
        self.failures: list[tuple[int, Exception]] = []
        self.driver = SimulatedDriver(
            self.kernel,
            self.network,
            times.patience,
            lambda node, error: self.failures.append((node, error)),
        )
        self.told: list[tuple[int, str]] = []

    def say(self, what: str) -> None:
        self.told.append((self.kernel.now, what))

    def words(self) -> list[str]:
        return [what for _, what in self.told]

    def start(self, operation: Any, key: str | None = None, number: int = 1) -> Task:
        self.driver.next_number = number
        driver = self.driver
        task: Task = (
            driver.run(operation) if key is None else driver.run_key(key, operation)
        )
        return task

    def end(self, operation: Any, key: str | None = None, number: int = 1) -> Any:
        return outcome_of(self.kernel, self.start(operation, key, number))


def noted(into: list[Any]) -> Callable[[Any, Exception | None], None]:
    """For `Task.then`: how it ended."""
    return lambda outcome, error: into.append(error if error is not None else outcome)
