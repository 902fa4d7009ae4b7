"""A node's storage on a simulated disk: a change takes time until it is durable.

It keeps the contract of storage.base and no more than that: what was staged and not yet
durable when the machine crashes survives as some beginning of it, cut off between any two
records. As with the real one, a record shows only once it is durable, and what is in
memory is the truth for as long as the process lives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from models import Record, Refused, Staged, Unconfirmed, Version
from simulation.kernel import Kernel, bits
from storage.base import Storage, StorageEnded
from storage.content import Content

Waiter = Callable[[Any, Exception | None], None]
OK, FULL, FAILING, UNCONFIRMED = "ok", "full", "failing", "unconfirmed"


class Commit(Staged):
    """Changes on their way to the disk. `then` says whom to tell how it ended."""

    __slots__ = ("purges", "records", "state", "waiters")

    def __init__(
        self,
        records: Sequence[Record] = (),
        purges: Mapping[str, Version] | None = None,
        state: tuple[int, bytes] | None = None,
    ) -> None:
        self.records = tuple(records)
        self.purges = dict(purges or {})
        self.state = state
        self.waiters: list[Waiter] = []

    def then(self, waiter: Waiter) -> None:
        """Call `waiter(answer, error)` once it is durable, or failed."""
        self.waiters.append(waiter)

    def end(self, answer: Any, error: Exception | None = None) -> None:
        """Tell whoever waits."""
        for waiter in self.waiters:
            waiter(answer, error)


class SimulatedStorage(Storage):
    """One node's records. `disk` is the state of its disk: OK, FULL, FAILING, UNCONFIRMED.

    A full disk refuses every commit. A failing one fails the commits under way, and with
    them the storage, until it is reopened on a disk that was mended. UNCONFIRMED fails one
    commit, of which nobody can tell whether it happened, and the storage goes on.
    """

    def __init__(
        self, kernel: Kernel, node: int, seed: int, flush_us: tuple[int, int]
    ) -> None:
        self.disk = OK
        self.node = node
        self._kernel = kernel
        self._seed = seed
        self._flush_us = flush_us
        self._content = Content()
        self._state: tuple[int, bytes] | None = None
        self._queue: deque[Commit] = deque()
        self._due = 0
        self.place = 0  # 64 bits of the message that is handled just now
        self._starts = 0  # commits of an earlier start never end
        self._failed: list[Commit] = []  # on the disk or not: a restart will tell
        self._disks = 0
        self._hidden: tuple[str, Content, tuple[int, bytes] | None] | None = None
        self._take_new_disk()

    @property
    def content(self) -> Content:
        """What is durable, which is what is shown."""
        return self._content

    def get(self, key: str) -> Record | None:
        """The record of a key, tombstones included."""
        return self._content.get(key)

    def put_many(self, records: Sequence[Record]) -> Staged | Version | None:
        """Keep each record that is newer than what is held for its key."""
        return self._stage(Commit(records=records))

    def purge(self, versions: Mapping[str, Version]) -> Staged | None:
        """Forget each record whose version is exactly the one named."""
        return self._stage(Commit(purges=versions))

    def save_state(self, epoch: int, record: bytes) -> Staged | None:
        """Keep the cluster's state record unless one of a newer epoch is held."""
        return self._stage(Commit(state=(epoch, record)))

    def load_state(self) -> tuple[int, bytes] | None:
        """The (epoch, record) saved last, or None."""
        return self._state

    def wipe(self) -> None:
        """Lose everything and take a new identity."""
        self._forget_queue()
        self._take_new_disk()

    def reopen(self) -> None:
        """Use it again once its disk is mended; nothing durable was lost."""
        if self.disk == FAILING:
            raise StorageEnded(f"node {self.node}'s disk still fails")
        self._failed.clear()  # written anew from memory
        if self._hidden is not None:
            self.identity, self._content, self._state = self._hidden
            self._hidden = None
        self.problem = None

    def scrub(self, rows_max: int) -> str | None:
        """The simulated disk keeps what is on it."""
        return None

    def close(self) -> None:
        """Nothing to let go of."""

    # --- What the world does to it -----------------------------------------------------

    def crash(self) -> bool:
        """The machine stops: of what was not durable some beginning is kept.

        True if a commit was cut off in its middle.
        """
        torn = False
        self._queue.extendleft(reversed(self._failed))
        self._failed.clear()
        if self._queue:
            draw = bits(self._seed, self.node, self._kernel.now, 1)
            whole = draw % (len(self._queue) + 1)
            for number, commit in enumerate(self._queue):
                if number < whole:
                    self._apply(commit)
                elif number == whole and len(commit.records) > 1:
                    kept = (draw >> 32) % len(commit.records)
                    self._content.put_many(commit.records[:kept])
                    torn = kept > 0
        self._forget_queue()
        if self.disk == FAILING:
            self._hide()
        elif self._hidden is None:
            self.problem = None  # what is in memory was read from the disk again
        return torn

    def lose(self, kept: int) -> None:
        """The disk is damaged or gone; what is left is under a new identity.

        `kept`: how many of a hundred records, with `damage` set; none, and the state is
        gone too, where it is 0.
        """
        self._forget_queue()
        self._failed.clear()
        records = list(self.on_disk().records()) if kept else []
        self._take_new_disk()
        if not kept:
            self.disk = OK  # another one
        else:
            self.damage = f"node {self.node}'s disk was damaged"
            self._content.put_many(
                record
                for number, record in enumerate(records)
                if bits(self._seed, self.node, self._disks, number) % 100 < kept
            )

    def on_disk(self) -> Content:
        """What is durable, whether it can be read just now or not."""
        return self._hidden[1] if self._hidden is not None else self._content

    def state_on_disk(self) -> tuple[int, bytes] | None:
        """The state record that is durable, likewise."""
        return self._hidden[2] if self._hidden is not None else self._state

    # --- Inside ------------------------------------------------------------------------

    def _stage(self, commit: Commit) -> Commit:
        if self.problem is not None:
            raise StorageEnded(self.problem)
        low, high = self._flush_us
        now = self._kernel.now
        draw = bits(self._seed, self.node, self.place >> 1)
        self._due = max(self._due, now + low + draw % (high - low + 1))
        self._queue.append(commit)
        self._kernel.after(self._due - now, self._flush, self._starts)
        return commit

    def _flush(self, start: int) -> None:
        if start != self._starts or not self._queue:
            return
        commit = self._queue.popleft()
        if self.disk == FAILING:
            self._fail(commit)
        elif self.disk == FULL:
            commit.end(None, Refused(f"node {self.node}'s disk is full"))
        elif self.disk == UNCONFIRMED:
            self.disk = OK
            if bits(self._seed, self.node, self._kernel.now, 2) & 1:
                self._apply(commit)
            commit.end(None, Unconfirmed("a flush failed"))
        else:
            commit.end(self._apply(commit))

    def _apply(self, commit: Commit) -> Version | None:
        if commit.state is not None and (
            self._state is None or self._state[0] < commit.state[0]
        ):
            self._state = commit.state
        if commit.purges:
            self._content.purge(commit.purges)
        return self._content.put_many(commit.records) if commit.records else None

    def _fail(self, commit: Commit) -> None:
        self.problem = f"node {self.node}'s disk fails"
        failed = [commit, *self._queue]
        self._forget_queue()
        self._failed += failed
        for each in failed:
            each.end(None, StorageEnded(self.problem))

    def _forget_queue(self) -> None:
        self._queue.clear()
        self._starts += 1

    def _hide(self) -> None:
        """What is stored cannot be read until the disk is mended and it is reopened."""
        self.problem = f"node {self.node}'s disk cannot be read"
        if self._hidden is None:
            self._hidden = (self.identity, self._content, self._state)
            self.identity, self._content, self._state = "", Content(), None

    def _take_new_disk(self) -> None:
        self._hidden = None
        self._content = Content()
        self._state = None
        self._disks += 1
        self._failed.clear()
        self.problem = self.damage = None
        self.identity = f"disk-{self.node}-{self._disks}"
