"""A simulated cluster in which nothing happens by chance.

The test decides what becomes of each message. What the store is asked runs to its end
before it returns, unless it is begun with `spawn`: then `tick` lets one thing happen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cluster.membership import Membership
from cluster.shard import UP
from models import Message, NodeId, NodeInfo, Operation, Record, Recovery
from replication import ReplicaNode, ReplicationManager
from simulation.driver import SimulatedDriver, Task
from simulation.kernel import MS_US, SECOND_US
from simulation.network import LOSE_REPLY, LOSE_REQUEST, Exchange, Network
from simulation.plan import Anomaly, Plan, Times
from simulation.storage import SimulatedStorage
from simulation.world import World

LOST, UNHEARD = LOSE_REQUEST, LOSE_REPLY  # never arrives; arrives, its answer does not
Fate = Callable[[int, Message], str | None]
ERROR = OSError("planted")
ARRIVES_US = 1_000  # after it was sent, and is durable at once
TIMES = Times(message=(ARRIVES_US, ARRIVES_US), flush=(0, 0))
WITHIN_US = 3_600 * SECOND_US  # everything ends, in virtual time


class Fates(Network):
    """Notes what is sent, and does with it what the test says."""

    def __init__(self, world: World) -> None:
        super().__init__(world.kernel, world.machines, world.plan.times, world.seed)
        self.sent: list[tuple[int, Message]] = []
        self.fate: Fate = lambda node, message: None

    def send(self, exchange: Exchange) -> None:
        self.sent.append((exchange.node, exchange.payload))
        fate = self.fate(exchange.node, exchange.payload)
        if fate is not None:
            place = (exchange.number, exchange.message, exchange.node)
            exchange.anomaly = Anomaly(*place, fate)
        super().send(exchange)


class WaitingDriver(SimulatedDriver):
    """Returns from `run` and `run_key` once it is done, and with what came of it."""

    def __init__(self, world: World, failed: Any) -> None:
        self._world = world
        super().__init__(world.kernel, world.network, world.plan.times.patience, failed)

    def run(self, operation: Operation[Any]) -> Any:
        return self.wait(self.begin(operation))

    def run_key(self, key: str, operation: Operation[Any]) -> Any:
        return self.wait(self.begin(operation, key))

    def begin(self, operation: Operation[Any], key: str | None = None) -> Task:
        task: Task = (
            super().run(operation) if key is None else super().run_key(key, operation)
        )
        return task

    def wait(self, task: Task) -> Any:
        ends: list[tuple[Any, Exception | None]] = []
        task.then(lambda outcome, error: ends.append((outcome, error)))
        kernel = self._world.kernel
        kernel.run(kernel.now + WITHIN_US, lambda: bool(ends))
        assert ends, "an operation can go no further"
        outcome, error = ends[0]
        if error is not None:
            raise error
        return outcome


class Stage(World):
    """A world whose process waits for what it is asked."""

    driver: WaitingDriver

    def run(self, operation: Operation[Any], number: int) -> Task:
        self.driver.next_number = number
        return self.driver.begin(operation)

    def _make_driver(self, nodes: object, failed: Any) -> SimulatedDriver:
        self.driver = WaitingDriver(self, failed)
        return self.driver


class Scene:
    """A cluster that was started, and the strings by which the test moves it."""

    def __init__(self, nodes: int = 3, factor: int = 3) -> None:
        self.world = Stage(Plan(7, nodes, factor, steps=(), times=TIMES))
        self.world.is_upkept = False
        self.world.network = self.network = Fates(self.world)
        self.boot()

    @property
    def store(self) -> ReplicationManager:
        return self.world.manager

    @property
    def view(self) -> Membership:
        return self.world.manager.cluster

    @property
    def nodes(self) -> dict[NodeId, ReplicaNode]:
        return self.world.nodes

    @property
    def storages(self) -> list[SimulatedStorage]:
        return self.world.storages

    @property
    def sent(self) -> list[tuple[int, Message]]:
        return self.network.sent

    @property
    def fate(self) -> Fate:
        return self.network.fate

    @fate.setter
    def fate(self, fate: Fate) -> None:
        self.network.fate = fate

    # --- Time ------------------------------------------------------------------------

    def boot(self) -> None:
        """Start a process on what the nodes hold."""
        self.world.is_serving = False
        self.world.boot()
        kernel = self.world.kernel
        kernel.run(kernel.now + WITHIN_US, lambda: self.world.is_serving)
        assert self.world.is_serving

    def kill(self) -> None:
        """The process dies between two messages, and is started again."""
        self.world.kill(machines_too=False)
        self.boot()

    def spawn(
        self,
        operation: Operation[Any],
        key: str | None = None,
        done: Callable[[Any], object] = lambda outcome: None,
    ) -> None:
        """Begin something; `done` is told the outcome, or the error."""
        task = self.world.driver.begin(operation, key)

        def end(outcome: Any, error: Exception | None) -> None:
            done(outcome if error is None else error)

        task.then(end)

    def run(self, operation: Operation[Any]) -> Any:
        """Run an operation to its end."""
        return self.world.driver.run(operation)

    @property
    def ready(self) -> bool:
        """True while something is under way."""
        return bool(self.world.driver.tasks)

    def tick(self) -> None:
        """Let one thing happen."""
        self.world.kernel.run(self.world.kernel.now + WITHIN_US, lambda: True)

    def arrive(self) -> None:
        """Let what was just begun send its messages, and these arrive; no answer does."""
        self.world.kernel.run(self.world.kernel.now + ARRIVES_US)

    def drain(self) -> None:
        while self.ready:
            self.tick()

    def move_clock(self, ms: int) -> None:
        """The wall clock jumps."""
        self.world.clock_turns.append(ms)

    def pass_time(self, ms: int) -> None:
        """So much time passes, by every clock; what is due in it happens."""
        self.world.kernel.run(self.world.kernel.now + ms * MS_US)

    # --- What is done ----------------------------------------------------------------

    def write(self, *keys: str, value: Any = "v", **options: Any) -> None:
        for key in keys:
            self.store.write(key, value, **options)

    def crash(self, node: int) -> None:
        """The node's storage fails; what was asked of it is refused."""
        self.store.change.storage_failed(node, ERROR)

    def recover(self, node: int, **options: Any) -> Recovery:
        """Recover a node that comes up, and what that took."""
        info = self.store.recover(node, **options)
        assert info.status == UP
        assert isinstance(info.recovery, Recovery)
        return info.recovery

    def maintain(self, before_ms: int = 1 << 47) -> None:
        """A round of upkeep that finds every tombstone old enough."""
        self.run(self.store.change.maintain(before_ms))

    # --- What is seen ----------------------------------------------------------------

    def messages(self, *kinds: type) -> list[tuple[int, Any]]:
        return [(n, m) for n, m in self.sent if isinstance(m, kinds)]

    def status(self, node: int) -> str:
        return self.view.status[node]

    def info(self, node: int) -> NodeInfo:
        return self.store.node(node)

    def held(self, key: str) -> list[Record | None]:
        """What each node has of a key."""
        return [storage.get(key) for storage in self.storages]

    def values(self, key: str) -> set[bytes | None]:
        return {record.value if record else None for record in self.held(key)}

    def check_equal(self, keys: int | None = None) -> None:
        """Every node is up and holds the same, where each holds everything."""
        contents = [storage.content for storage in self.storages]
        assert set(self.view.status.values()) == {UP}
        assert len({content.digest() for content in contents}) == 1
        if keys is not None:
            assert {content.key_count for content in contents} == {keys}


def names(count: int, prefix: str = "k") -> list[str]:
    return [f"{prefix}{number:04}" for number in range(count)]


def at(number: int, kind: type, node: int, work: Callable[[], Any]) -> Fate:
    """Do something when the `number`-th message of a kind is sent to a node."""
    left = iter(range(number - 1, -1, -1))

    def fate(target: int, message: Message) -> str | None:
        if target == node and isinstance(message, kind) and next(left, -1) == 0:
            work()
        return None

    return fate
