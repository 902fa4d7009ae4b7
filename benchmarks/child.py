"""What is measured inside a fresh interpreter: `python -m benchmarks.child KIND OPTIONS`.

Each kind prepares its store, says `ready`, and measures once for every line it reads,
until there are no more. All it says is one line of JSON each time. A fresh process gives
each figure its own heap; keeping it alive lets two of them take turns.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.registers import history_of
from checker.history import History
from checker.linearizability import check
from replication import ReplicationManager, open_manager
from simulation.search import run_seeds
from simulation.swarm import Mix

VALUE_BYTES = 100
NODES = 3
REPLICATION_FACTOR = 2
FILLING_THREADS = 32  # with a file behind it, writers share their commits


class Kind(ABC):
    """Something that can be measured again and again."""

    @abstractmethod
    def prepare(self) -> dict[str, Any]:
        """Build what is measured; what it returns is told with `ready`."""

    @abstractmethod
    def measure(self) -> dict[str, Any]:
        """One round."""

    def close(self) -> None:  # noqa: B027 - most kinds have nothing to let go of
        """Let go of what was prepared."""


class Operations(Kind):
    """Processor time, in µs, of a write of a new key, of an overwrite and of a read."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._round = 0
        self._store = open_store()

    def prepare(self) -> dict[str, Any]:
        self.measure()  # the first round warms up
        return {}

    def measure(self) -> dict[str, Any]:
        store, count = self._store, self._count
        first = self._round * count
        self._round += 1
        keys = [key_of(number) for number in range(first, first + count)]
        value = value_of(self._round)
        return {
            "fresh_us": microseconds_each(lambda key: store.write(key, value), keys),
            "overwrite_us": microseconds_each(
                lambda key: store.write(key, value), keys
            ),
            "read_us": microseconds_each(store.read, keys),
        }

    def close(self) -> None:
        self._store.close()


class Recovery(Kind):
    """Seconds to recover a node that missed some keys, of a store of so many."""

    def __init__(self, keys: int, missed: int, directory: str | None = None) -> None:
        self._keys = keys
        self._missed_count = missed
        self._missed: list[str] = []
        self._round = 0
        self._store = open_store(directory)

    def prepare(self) -> dict[str, Any]:
        seconds = fill(self._store, self._keys)
        # Spread over the whole store, as writes during an outage are.
        step = max(1, self._keys // (2 * self._missed_count))
        candidates = map(key_of, range(0, self._keys, step))
        held = [key for key in candidates if 0 in self._store.locate(key).replica_set]
        self._missed = held[: self._missed_count]
        if len(self._missed) < self._missed_count:
            raise ValueError(
                f"too few keys to miss {self._missed_count} (keys={self._keys})"
            )
        return {"filled_in_seconds": seconds}

    def measure(self) -> dict[str, Any]:
        self._round += 1
        value = value_of(self._round)
        self._store.fail(0)
        for key in self._missed:
            self._store.write(key, value)
        began = time.perf_counter()
        node = self._store.recover(0)
        seconds = time.perf_counter() - began
        right = node.status == "up" and node.recovery
        copied = node.recovery.copied if right and node.recovery else 0
        return {"seconds": seconds, "copied": copied}

    def close(self) -> None:
        self._store.close()


class Memory(Kind):
    """Resident bytes a key, everything that its two replicas need included."""

    def __init__(self, keys: int) -> None:
        self._keys = keys
        self._store = open_store()

    def prepare(self) -> dict[str, Any]:
        for number in range(1_000):  # the first keys bring caches and pools with them
            self._store.write(f"warming-up-{number:09d}", value_of(number))
        return {}

    def measure(self) -> dict[str, Any]:
        gc.collect()
        before = resident_bytes()
        fill(self._store, self._keys)
        gc.collect()
        return {"bytes_per_key": (resident_bytes() - before) / self._keys}

    def close(self) -> None:
        self._store.close()


class Fill(Kind):
    """Not measured: files of a store of so many keys, for a server to start on."""

    def __init__(self, keys: int, directory: str) -> None:
        self._keys = keys
        self._directory = directory

    def prepare(self) -> dict[str, Any]:
        with open_store(self._directory, durability="os") as store:
            return {"filled_in_seconds": fill(store, self._keys)}

    def measure(self) -> dict[str, Any]:
        return {}


class Simulation(Kind):
    """Processor seconds for some seeds, judgement included, other ones each time."""

    def __init__(self, seeds: int, scale: float) -> None:
        self._seeds = seeds
        self._mix = Mix(scale=scale)
        self._next = 0

    def prepare(self) -> dict[str, Any]:
        run_seeds(range(2), Mix())
        return {}

    def measure(self) -> dict[str, Any]:
        first = self._next
        self._next += self._seeds
        began = time.process_time()
        tally = run_seeds(range(first, self._next), self._mix)
        return {
            "seconds": time.process_time() - began,
            "seeds": tally.seeds,
            "operations": tally.operations,
            "virtual": tally.virtual_us / 1e6,
            "violated": len(tally.failures),
        }


class Checker(Kind):
    """Processor seconds to judge a history of correct registers, simple and not."""

    def __init__(self, keys: int, operations: int, clients: int) -> None:
        self._shape = (keys, operations, clients)
        self._seed = 0

    def prepare(self) -> dict[str, Any]:
        return {}

    def measure(self) -> dict[str, Any]:
        self._seed += 1
        found = {}
        for mix in ("reads and writes", "deletes and conditions too"):
            simple = mix == "reads and writes"
            history = History(history_of(self._seed, *self._shape, simple=simple))
            began = time.process_time()
            verdicts = check(history)
            seconds = time.process_time() - began
            found[mix] = {"seconds": seconds, "answer": verdicts[0].answer}
        return found


KINDS: dict[str, Callable[..., Kind]] = {
    "operations": Operations,
    "recovery": Recovery,
    "memory": Memory,
    "fill": Fill,
    "simulation": Simulation,
    "checker": Checker,
}


def open_store(directory: str | None = None, **more: Any) -> ReplicationManager:
    """A store of the usual shape: in memory, or with files in `directory`."""
    changes: dict[str, Any] = {"nodes": NODES, "replication_factor": REPLICATION_FACTOR}
    if directory is None:
        return open_manager(storage="memory", **changes, **more)
    return open_manager(storage="sqlite", data_dir=directory, **changes, **more)


def fill(store: ReplicationManager, keys: int) -> float:
    """Write so many new keys of 20 bytes with values of 100; the seconds it took."""
    began = time.perf_counter()
    threads = 1 if store.settings.storage == "memory" else FILLING_THREADS

    def write_every(start: int) -> None:
        for number in range(start, keys, threads):
            store.write(key_of(number), value_of(number))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(write_every, range(threads)))
    return time.perf_counter() - began


def key_of(number: int) -> str:
    """A key of 20 bytes."""
    return f"benchmark-{number:010d}"


def value_of(number: int) -> str:
    """A value that is 100 bytes of JSON text, its own for each number."""
    return f"{number:0{VALUE_BYTES - 2}d}"


def microseconds_each(act: Callable[[str], Any], keys: Iterable[str]) -> float:
    """The mean processor time of one call: nothing here waits, others may be at work."""
    keys = list(keys)
    began = time.process_time()
    for key in keys:
        act(key)
    return (time.process_time() - began) / len(keys) * 1e6


def resident_bytes() -> int:
    """The memory that this process has in use, as the system counts it (Linux)."""
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status does not say VmRSS")


def main(arguments: list[str]) -> int:
    """Prepare one kind and measure it as often as standard input asks."""
    name, options = arguments
    kind = KINDS[name](**json.loads(options))
    try:
        say(kind.prepare())
        for _ in sys.stdin:
            say(kind.measure())
    finally:
        kind.close()
    return 0


def say(answer: dict[str, Any]) -> None:
    """One line for the process that started this one."""
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
