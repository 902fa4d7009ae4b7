"""A cluster in which nothing happens by chance: the test decides what becomes of messages."""

from collections.abc import Callable
from typing import Any

from cluster.shard import UP
from models import Answers, Message, NodeInfo, Record, Recovery, Refused
from tests.interleaving import Cluster

LOST, UNHEARD = "lost", "unheard"  # never arrives; arrives, and its answer does not
Fate = Callable[[int, Message], str | None]
ERROR = OSError("planted")


class Scene(Cluster):
    """A cluster in which nothing happens by chance."""

    def __init__(self, nodes: int = 3, factor: int = 3) -> None:
        self.sent: list[tuple[int, Message]] = []
        self.fate: Fate = lambda node, message: None
        super().__init__(7, nodes, factor)
        self.store = self.manager

    def boot(self) -> None:
        super().boot()
        self.store = self.manager

    def ask(self, task: Any, need: Any) -> None:
        answers = Answers({})
        for node in need.targets:
            self.sent.append((node, need.message))
            fate = self.fate(node, need.message)
            try:
                answer = self.nodes[node].handle(need.message) if fate != LOST else None
            except Refused:
                answers.refused += (node,)
                continue
            if fate is None:
                answers.answered[node] = answer
            else:
                answers.silent += (node,)
        self.ready.append(lambda: self.step(task, answers))

    def write(self, *keys: str, value: Any = "v", **options: Any) -> None:
        for key in keys:
            self.store.write(key, value, **options)

    def crash(self, node: int) -> None:
        """The node's storage fails; what was asked of it is refused."""
        self.manager.change.storage_failed(node, ERROR)

    def maintain(self, before_ms: int = 1 << 47) -> None:
        """A round of upkeep that finds every tombstone old enough."""
        self.run(self.manager.change.maintain(before_ms))

    def messages(self, *kinds: type) -> list[tuple[int, Any]]:
        return [(n, m) for n, m in self.sent if isinstance(m, kinds)]

    def status(self, node: int) -> str:
        return self.view.status[node]

    def info(self, node: int) -> NodeInfo:
        return self.store.node(node)

    def recover(self, node: int, **options: Any) -> Recovery:
        """Recover a node that comes up, and what that took."""
        info = self.store.recover(node, **options)
        assert info.status == UP
        assert isinstance(info.recovery, Recovery)
        return info.recovery

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
