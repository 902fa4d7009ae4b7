"""A server under load and failures for a while: it grows no larger, and stays right.

`SOAK_SECONDS=600 pytest -s tests/e2e/test_soak.py` goes on for ten minutes and prints a
table of samples.
"""

import os
import random
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from client import Client
from tests.e2e.pressure import REQUEST_SECONDS_MAX, UP, Operator, press
from tests.e2e.served import Served
from tests.histories import Caller, Histories, Sight, follow, went_back

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(
        not Path("/proc/self/fd").is_dir(), reason="needs /proc to look into a process"
    ),
]

SECONDS = float(os.environ.get("SOAK_SECONDS", "40"))
WINDOW_SECONDS = 2.0  # of load between two looks at the server and the histories
CLIENTS = 16
KEYS = [f"key-{number}" for number in range(24)]
SIGHTS_MAX = 1_000  # of each key that are kept for comparison
READY_SECONDS_MAX = 20.0
# What the later half of the samples may be above the first; warming up is left out.
MEMORY_FACTOR, MEMORY_BYTES = 1.10, 12 << 20
THREADS_MORE, FILES_MORE = 2, 8
PER_WINDOW = "{:>7} {:>9} {:>9} {:>9} {:>8} {:>6}   {}"


class Sample(NamedTuple):
    """What the server is at one moment."""

    memory_bytes: int
    threads: int
    files: int

    @classmethod
    def of(cls, process_id: int) -> "Sample":
        folder = Path(f"/proc/{process_id}")
        status = dict(
            line.split(":", 1) for line in (folder / "status").read_text().splitlines()
        )
        return cls(
            int(status["VmRSS"].split()[0]) << 10,
            int(status["Threads"]),
            len(list((folder / "fd").iterdir())),
        )


class Soak:
    """One server, its clients, and what they were told in the last window."""

    def __init__(self, server: Served, seed: int) -> None:
        self.server = server
        self.samples: list[Sample] = []
        self.answered = 0
        self.operator = Operator(random.Random(seed))
        self._values: dict[str, set[Any]] = {key: {None} for key in KEYS}
        self._sights: dict[str, list[Sight]] = {key: [] for key in KEYS}
        self._callers = [
            Caller(
                Client(server.url, timeout=REQUEST_SECONDS_MAX),
                f"client-{n}",
                random.Random(f"{seed}-{n}"),
                size=random.Random(n).choice((10, 100, 4_000)),
            )
            for n in range(CLIENTS)
        ]

    def run(self, seconds: float) -> None:
        """Load, failures, and a sample and a verdict after each window."""
        print("\n" + PER_WINDOW.format(
            "second", "answers", "answers/s", "MB", "threads", "files", "nodes"
        ))  # fmt: skip
        ended = threading.Event()
        breaker = threading.Thread(
            target=self.operator.go_on, args=(self.server.url, ended, 0.3)
        )
        breaker.start()
        began = time.monotonic()
        try:
            while time.monotonic() < began + seconds:
                self._window(time.monotonic() - began)
        finally:
            ended.set()
            breaker.join(READY_SECONDS_MAX)
        assert not breaker.is_alive(), "the operator is stuck"

    def _window(self, second: float) -> None:
        over = threading.Event()
        collect = press(self._callers, KEYS, over, second)
        over.wait(WINDOW_SECONDS)
        over.set()
        noted = collect()
        sample = Sample.of(self.server.process.pid)
        self.samples.append(sample)
        self.judge(noted)
        nodes = " ".join(node.status for node in self._callers[0].store.nodes())  # type: ignore[attr-defined]
        print(PER_WINDOW.format(
            f"{second:.0f}", self.answered, f"{noted.answered / WINDOW_SECONDS:.0f}",
            f"{sample.memory_bytes / 1e6:.1f}", sample.threads, sample.files, nodes,
        ), flush=True)  # fmt: skip

    def judge(self, noted: Histories) -> None:
        """No lost and no stale answer, from one window to the next."""
        self.answered += noted.answered
        for key, entries in noted.entries.items():
            self._values[key] = follow(entries, self._values[key])
            assert self._values[key], f"{key}: {sorted(entries)}"
            self._sights[key] = (self._sights[key] + noted.sights[key])[-SIGHTS_MAX:]
            assert went_back(self._sights[key]) is None, key

    def finish(self) -> None:
        """Bring everything back: every key is what it must be, the same everywhere."""
        store = self._callers[0].store
        assert isinstance(store, Client)
        for node in self.operator.known:
            store.recover(node)
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not store.is_ready() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert {node.status for node in store.nodes()} == {UP}
        for key in KEYS:
            self._callers[0].read(key)
            replicas = store.replicas(key)["replicas"]
            assert len({replica["version"] for replica in replicas}) == 1, replicas
        noted = self._callers[0].take_notes()
        assert noted.answered == len(KEYS)
        self.judge(noted)
        for caller in self._callers:
            caller.store.close()  # type: ignore[attr-defined]


def check_level(samples: list[Sample]) -> None:
    """The later half is no larger than the first, once it was warm."""
    warm = samples[len(samples) // 4 :]
    half = len(warm) // 2
    first, later = warm[:half], warm[half:]

    def most(name: str, some: list[Sample]) -> int:
        return max(int(getattr(sample, name)) for sample in some)

    bound = most("memory_bytes", first) * MEMORY_FACTOR + MEMORY_BYTES
    assert most("memory_bytes", later) <= bound, "memory grows"
    assert most("threads", later) <= most("threads", first) + THREADS_MORE
    assert most("files", later) <= most("files", first) + FILES_MORE


def test_server_under_load_and_failures_neither_grows_nor_goes_wrong(tmp_path):
    flags = ("--maintenance-seconds", 0.5, "--tombstone-grace-seconds", 2)
    with Served(tmp_path, *flags) as server:
        soak = Soak(server, seed=1)
        soak.run(SECONDS)
        soak.finish()
        log = server.log.read_text("utf-8")

    assert "Traceback" not in log
    assert soak.operator.changes > SECONDS / 4
    assert soak.answered > SECONDS * CLIENTS
    check_level(soak.samples)


@pytest.mark.parametrize("name", Sample._fields)
def test_server_that_grows_does_not_go_unnoticed(name):
    level = [Sample(100 << 20, 30, 60)] * 20
    grown = [
        s._replace(**{name: getattr(s, name) * (10 + n) // 10})
        for n, s in enumerate(level)
    ]

    check_level(level)
    with pytest.raises(AssertionError):
        check_level(grown)
