"""A server under load and failures for a while: it grows no larger, and stays right.

`SOAK_SECONDS=600 pytest -s tests/e2e/test_soak.py` goes on for ten minutes and prints a
table of samples.
"""

import os
import random
import threading
import time
import zlib
from pathlib import Path
from typing import NamedTuple

import pytest

from client import Client
from experiments.recording import Recording
from tests.callers import Caller, judged, look
from tests.e2e.pressure import REQUEST_SECONDS_MAX, Operator, press
from tests.e2e.served import Served

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(
        not Path("/proc/self/fd").is_dir(), reason="needs /proc to look into a process"
    ),
]

SECONDS = float(os.environ.get("SOAK_SECONDS", "40"))
WINDOW_SECONDS = 2.0  # of load between two looks at the server
CLIENTS = 16
KEYS = [f"key-{number}" for number in range(24)]
JOIN_SECONDS_MAX = 20.0
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
    """One server and its clients."""

    def __init__(self, server: Served, recording: Recording, seed: int) -> None:
        self.server = server
        self.samples: list[Sample] = []
        self.operator = Operator(random.Random(seed))
        self._recording = recording
        self._stores = [
            Client(server.url, timeout=REQUEST_SECONDS_MAX) for _ in range(CLIENTS)
        ]
        self._callers = [
            Caller(
                recording.client(store, f"client-{n}"),
                random.Random(f"{seed}-{n}"),
                size=random.Random(n).choice((10, 100, 4_000)),
            )
            for n, store in enumerate(self._stores)
        ]

    @property
    def answered(self) -> int:
        """How many requests of the clients were answered, and not with a failure."""
        return sum(caller.answered for caller in self._callers)

    def run(self, seconds: float) -> None:
        """Load, failures, and a sample after each window."""
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
            breaker.join(JOIN_SECONDS_MAX)
        assert not breaker.is_alive(), "the operator is stuck"

    def _window(self, second: float) -> None:
        over, before = threading.Event(), self.answered
        join = press(self._callers, KEYS, over, second)
        over.wait(WINDOW_SECONDS)
        over.set()
        join()
        rate = (self.answered - before) / WINDOW_SECONDS
        sample = Sample.of(self.server.process.pid)
        self.samples.append(sample)
        nodes = " ".join(node.status for node in self._stores[0].nodes())
        print(PER_WINDOW.format(
            f"{second:.0f}", self.answered, f"{rate:.0f}",
            f"{sample.memory_bytes / 1e6:.1f}", sample.threads, sample.files, nodes,
        ), flush=True)  # fmt: skip

    def finish(self) -> None:
        """Bring everything back: what every key is, and every replica of it."""
        store = self._stores[0]
        self.operator.recover_all(store)
        last = self._recording.client(store, "last")
        look(last, KEYS)
        for key in KEYS:
            told = store.replicas(key)
            assert len({each["version"] for each in told["replicas"]}) == 1, told
            self._recording.replicas(last, told)
        for each in self._stores:
            each.close()


def digest(value: str) -> str:
    """What the history has of a long value: who wrote it, and a sum of all of it."""
    return f"{value[:24]} {len(value)} {zlib.crc32(value.encode()):08x}"


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
    path = tmp_path / "history.jsonl"
    with (
        Served(tmp_path, *flags) as server,
        path.open("w", encoding="utf-8", buffering=1) as file,
    ):
        soak = Soak(server, Recording(file.write, note="soak", show=digest), seed=1)
        soak.run(SECONDS)
        soak.finish()
        log = server.log.read_text("utf-8")

    with path.open(encoding="utf-8") as file:
        judged(file)
    assert "Traceback" not in log
    assert soak.operator.changes.total() > SECONDS / 4
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
