"""Clients that write, read and note it, and an operator who fails members of etcd."""

from __future__ import annotations

import random
import statistics
import threading
import time
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from checker.history import History, Operation
from client import Client, StoreError
from experiments.recording import Recording, RecordingClient, now_us
from tests.callers import Caller, judged, look
from tests.e2e.etcd_cluster import nodes_of, wait_for_leader
from tests.e2e.pressure import DOWN, REQUEST_SECONDS_MAX, UP, Operator, press

CLIENTS = 6
KEYS = [f"key-{number}" for number in range(6)]
LOAD = "c"  # how the names of those begin who make the load
LAST = "last"  # who reads every key at the end
WEAK_SHARE = 0.1
PAUSE_SECONDS = 0.004  # between two requests of a client: the machine is shared
MODES = STOP, PAUSE, WIPE = "stop", "pause", "wipe"
RECOVER_SECONDS_MAX = 60.0
OPERATOR_SECONDS_MAX = 60.0  # for one request of an operator
SHORTLY_US = 100_000  # an answer may have come so long before a change that ended them


class Mixed(Caller):
    """As a Caller, and now and then it reads what may be stale."""

    def __init__(self, store: RecordingClient, chance: random.Random) -> None:
        super().__init__(store, chance)
        self._weakly = random.Random(chance.random())

    def once(self, key: str) -> None:
        """A weak read, or what a Caller does."""
        if self._weakly.random() < WEAK_SHARE:
            with suppress(StoreError):
                self.store.read(key, consistency="one")
        else:
            super().once(key)


@contextmanager
def recorded(path: Path, note: str) -> Iterator[Recording]:
    """A history that is written to this file."""
    with path.open("w", encoding="utf-8", buffering=1) as file:
        yield Recording(file.write, note=note)


def verdict(path: Path) -> History:
    """The history in this file, of which every property holds."""
    with path.open(encoding="utf-8") as file:
        return judged(file)


@contextmanager
def load(
    recording: Recording, urls: Sequence[str], seed: object, prefix: str = LOAD
) -> Iterator[None]:
    """Let clients, spread over these services, go on until the block ends."""
    ended = threading.Event()
    with ExitStack() as opened:
        callers = []
        for number in range(CLIENTS):
            url = urls[number % len(urls)]
            store = opened.enter_context(Client(url, timeout=REQUEST_SECONDS_MAX))
            client = recording.client(store, f"{prefix}{number}")
            callers.append(Mixed(client, random.Random(f"{seed}-{number}")))
        join = press(callers, KEYS, ended, seed, PAUSE_SECONDS)
        try:
            yield
        finally:
            ended.set()
            join()


def look_at_all(recording: Recording, store: Client, name: str = LAST) -> None:
    """Read every key, and note what each member holds of it."""
    last = recording.client(store, name)
    look(last, KEYS)
    for key in KEYS:
        recording.replicas(last, store.replicas(key))


# --- The operator --------------------------------------------------------------------


class Change(NamedTuple):
    """What the operator did, in microseconds of the history's clock."""

    kind: str  # a mode, or "recover <mode>"
    of_leader: bool
    began: int
    ended: int

    @property
    def name(self) -> str:
        """What was done to whom."""
        return f"{self.kind} {'leader' if self.of_leader else 'follower'}"


class MemberOperator(Operator):
    """Fails one member after the other, the leader or another one.

    It is left to the caller that all others are up when it does.
    """

    def __init__(self, chance: random.Random, nodes: int = 3) -> None:
        super().__init__(chance, nodes)
        self.done: list[Change] = []
        self.refusals: list[str] = []  # of what had to be asked for again
        self._last: tuple[str, bool] = "", False  # what the one that is down had

    def fail(self, store: Client, mode: str, *, of_leader: bool) -> int:
        """Fail the leader, or somebody else; who it was."""
        leader = wait_for_leader(store)
        others = [node for node in nodes_of(store) if node != leader]
        node = leader if of_leader else self._chance.choice(others)
        began = now_us()
        self._note(node, mode, DOWN, lambda: store.fail(node, mode))
        self._last = mode, of_leader
        self.done.append(Change(mode, of_leader, began, now_us()))
        return node

    def recover(self, store: Client, node: int) -> None:
        """Bring a member back, if it is down."""
        if nodes_of(store)[node]["status"] == UP:
            return
        mode, of_leader = self._last
        began = now_us()
        super().recover(store, node)
        self.done.append(Change(f"recover {mode}", of_leader, began, now_us()))

    def bring_back(self, store: Client, node: int) -> None:
        """Recover a member, again if that is refused, until it is up."""
        deadline = time.monotonic() + RECOVER_SECONDS_MAX
        while nodes_of(store)[node]["status"] != UP:
            try:
                self.recover(store, node)
            except StoreError as error:
                self.refusals.append(f"{error.code}: {error}")
            assert time.monotonic() < deadline, (self.refusals, nodes_of(store))


# --- What was measured ---------------------------------------------------------------


def writes_and_reads(history: History) -> tuple[list[int], list[int]]:
    """When the load had a write, and a linearizable read acknowledged, in order."""
    told = [
        each
        for each in history.operations
        if each.outcome == "ok" and each.client.startswith(LOAD)
    ]
    writes = sorted(each.ended or 0 for each in told if each.action != "read")
    reads = [each for each in told if each.action == "read" and not each.level]
    return writes, sorted(each.ended or 0 for each in reads)


def longest_gap(answers: Sequence[int]) -> float:
    """The longest time between two of these moments, in seconds."""
    return max((later - before for before, later in pairwise(answers)), default=0) / 1e6


def gaps_of(
    changes: Sequence[Change], answers: Sequence[int]
) -> dict[str, list[float]]:
    """The longest time without an answer that began with each change, by what it was."""
    longest = [0] * len(changes)
    begins = [change.began - SHORTLY_US for change in changes]
    for before, later in pairwise(answers):
        at = bisect_right(begins, before) - 1
        if at >= 0:
            longest[at] = max(longest[at], later - before)
    found = defaultdict(list)
    for change, microseconds in zip(changes, longest, strict=True):
        found[change.name].append(microseconds / 1e6)
    return found


def counted(operations: Iterable[Operation]) -> str:
    """How many there were of each outcome, in words."""
    counts = Counter(each.outcome for each in operations)
    weak = sum(bool(each.level) for each in operations)
    return (
        f"{counts.total()} operations: {counts['ok']} acknowledged, {counts['failed']} "
        f"refused, {counts['unknown']} unknown; {weak} weak reads"
    )


def gaps_in_words(gaps: dict[str, list[float]]) -> str:
    """The median and the maximum of each."""
    return "; ".join(
        f"{name}: {statistics.median(seconds):.2f} s, at most {max(seconds):.2f} s "
        f"of {len(seconds)}"
        for name, seconds in sorted(gaps.items())
    )
