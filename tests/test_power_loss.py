"""Power lost at any moment: what was acknowledged is there, and nothing that never was.

A file system that drops, tears and reorders whatever was not flushed lies below
(tests/power_loss.py), because a killed process loses nothing that the system has. The
same losses must be found where a flush was forgotten on purpose.
"""

import random
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import apsw
import pytest

from db import Storage, StorageEnded, open_storage
from models import Record, Version
from storage.folder import Folder
from tests.power_loss import FILES, FOLDERS, Disk, explained, made, noticed
from tests.volatile import lay_out

NODE = "data/node-0"
KEYS = [f"key-{number}" for number in range(6)]
LOSSES = 3  # in a row, of each seed
NOTICED_WITHIN = 20  # seeds: by then every planted fault must have shown
LOG_BYTES = 40_000
slow = pytest.mark.slow


@pytest.fixture(autouse=True)
def _short_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs of SQLite that are long from the start, but not so long that tests take long."""
    monkeypatch.setattr("storage.file.LOG_BYTES", LOG_BYTES)


class Held:
    """What a storage holds: its records, its state record and its identity."""

    def __init__(
        self, records: dict[str, Record], state: Any, identity: str | None
    ) -> None:
        self.records = records
        self.state = state
        self.identity = identity  # None: a new one

    def is_in(self, storage: Storage) -> bool:
        return (
            storage.problem is None
            and {r.key: r for r in storage.content.scan("", "", 1_000)} == self.records
            and storage.load_state() == self.state
            and self.identity in (None, storage.identity)
        )


class Writer:
    """Changes a storage at random, one commit after the other, and knows what it holds.

    `sure` is what was acknowledged last, `maybe` includes the change under way.
    """

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.sure = self.maybe = Held({}, None, None)
        self._number = 0

    def open(self, disk: Disk, *, durable: bool = True) -> Storage:
        """Open it again; it holds what was acknowledged, or that and the last change."""
        storage = open_storage(disk.root / NODE, durable=durable)
        found = [held for held in (self.sure, self.maybe) if held.is_in(storage)]
        if not found:
            storage.close()
        assert found, (
            f"an acknowledged change is lost, or there is another ({storage.damage})"
        )
        identity = found[0].identity if disk.lost else storage.identity
        self.settle(Held(found[0].records, found[0].state, identity))
        return storage

    def go_on(self, storage: Storage, disk: Disk) -> None:
        """Change it until the power is lost."""
        while not disk.lost:
            draw = self.chance.random()
            if draw < 0.85:
                self.commit(storage)
            elif draw < 0.92:
                self._checkpoint(storage)
            elif draw < 0.95:
                rewrite(storage)
            elif draw < 0.98:
                self._fail_to_flush(storage, disk)
            else:
                self.maybe = Held({}, None, None)
                storage.wipe()
                if not disk.lost:
                    self.maybe = Held({}, None, storage.identity)
            if not disk.lost:
                self.settle(self.maybe)

    def settle(self, held: Held) -> None:
        self.sure = self.maybe = held

    def commit(self, storage: Storage) -> None:
        """Stage a few changes, which share a commit, and wait for them."""
        before = self.sure.records
        puts: dict[str, Record] = {}
        purges: dict[str, Version] = {}
        state = self.sure.state
        staged: list[Any] = []
        for _ in range(self.chance.randint(1, 3)):
            draw = self.chance.random()
            if draw < 0.7:
                record = self._record()
                staged.append(storage.put_many([record]))
                held = puts.get(record.key) or before.get(record.key)
                if held is None or held.version < record.version:
                    puts[record.key] = record
            elif draw < 0.85:
                some = {k: r.version for k, r in before.items() if draw < 0.75}
                staged.append(storage.purge(some))
                purges |= some
            else:
                state = (self._next(), self.chance.randbytes(40))
                staged.append(storage.save_state(*state))
        kept = {k: r for k, r in before.items() if k not in purges}
        self.maybe = Held({**kept, **puts}, state, self.sure.identity)
        for one in staged:
            one.result()

    def _fail_to_flush(self, storage: Storage, disk: Disk) -> None:
        """A commit that ends the storage, which then goes on as it was before."""
        disk.failing = disk.root / NODE
        with suppress(StorageEnded):
            self.commit(storage)
        disk.failing = None
        if storage.problem is not None:
            storage.reopen()
            if not disk.lost:
                self.maybe = self.sure

    def _checkpoint(self, storage: Storage) -> None:
        database = storage._file._database  # type: ignore[attr-defined]
        modes = (
            apsw.SQLITE_CHECKPOINT_PASSIVE,
            apsw.SQLITE_CHECKPOINT_FULL,
            apsw.SQLITE_CHECKPOINT_RESTART,
        )
        database.wal_checkpoint(mode=self.chance.choice(modes))

    def _record(self) -> Record:
        """One of a version of its own, now and then an old one; the value says which."""
        number = self._next()
        ms = number if self.chance.random() < 0.9 else self.chance.randint(1, number)
        version = Version((ms << Version.MS_SHIFT) + number)
        value = b"%d " % number * self.chance.choice((1, 20, 900, 3_000))
        is_value = self.chance.random() < 0.8
        return Record(self.chance.choice(KEYS), version, value if is_value else None)

    def _next(self) -> int:
        self._number += 1
        return self._number


def rewrite(storage: Storage) -> None:
    """Make it write all that it holds into a new file."""
    storage.problem = "as after a failed flush"
    storage.reopen()


def lose_one(seed: int, folder: Path, *, durable: bool = True, lies: Any = ()) -> None:
    """Losses of power to one storage, also while it is opened after the last."""
    chance = random.Random(seed)
    writer = Writer(chance)
    root = made(folder / "0")
    for number in range(LOSSES):
        with Disk(root, f"{seed}-{number}", lies=lies) as disk:
            disk.lose_power(after_calls=chance.randint(1, 120))
            storage = writer.open(disk, durable=durable)
            writer.go_on(storage, disk)
            storage.close()
        root = disk.lay_out(folder / str(number + 1))
    with Disk(root, seed) as disk:
        writer.open(disk).close()


@pytest.mark.parametrize(
    "seeds", [range(80), pytest.param(range(1_000, 1_800), marks=slow)]
)
def test_power_loss_takes_back_no_acknowledged_change_and_invents_none(seeds, tmp_path):
    for seed in seeds:
        with explained(seed):
            lose_one(seed, made(tmp_path / str(seed)))


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"durable": False}, id="no commit is flushed"),
        pytest.param({"lies": [FILES]}, id="the disk lies about flushes of files"),
        pytest.param({"lies": [FOLDERS]}, id="no folder is flushed"),
    ],
)
def test_flush_that_one_storage_forgets_does_not_go_unnoticed(fault, tmp_path):
    assert noticed(partial(lose_one, **fault), tmp_path, NOTICED_WITHIN)


def start_again(writer: Writer, storage: Storage, disk: Disk) -> None:
    storage.close()
    writer.open(disk).close()


ACTS: dict[str, Callable[[Writer, Storage, Disk], object]] = {
    "a commit": lambda writer, storage, _: writer.commit(storage),
    "a new file": lambda _, storage, __: rewrite(storage),
    "a wipe": lambda _, storage, __: storage.wipe(),
    "a start": start_again,
}


def lose_during(name: str, folder: Path, draws: int) -> int:
    """Lose the power at each call of an act, as often as said; how many images differ."""
    writer = Writer(random.Random(name))
    with Disk(made(folder / "0"), name) as disk:
        storage = writer.open(disk)
        for _ in range(4):
            writer.commit(storage)
            writer.settle(writer.maybe)
        disk.draw_images(draws)
        before = writer.sure
        ACTS[name](writer, storage, disk)
        disk.draw_images(0)
        storage.close()
    after = Held({}, None, None) if name == "a wipe" else writer.maybe
    images = list({tuple(image.items()): image for image in disk.drawn}.values())
    for number, image in enumerate(reversed(images)):
        with Disk(lay_out(image, folder / f"left-{number}"), 0) as disk:
            writer.sure, writer.maybe = before, after
            writer.open(disk).close()
    return len(images)


@pytest.mark.parametrize("draws", [4, pytest.param(80, marks=slow)])
@pytest.mark.parametrize("name", ACTS)
def test_no_moment_of_changing_files_is_one_to_lose_power_at(name, draws, tmp_path):
    assert lose_during(name, tmp_path, draws) > 5


def test_file_that_is_renamed_and_not_made_durable_there_does_not_go_unnoticed(
    tmp_path,
):
    def publish(folder: Folder, generation: int) -> None:
        folder.unfinished(generation).rename(folder.file(generation))

    with (
        mock.patch.object(Folder, "publish", publish),
        mock.patch("storage.mark.flush"),  # which makes all names there durable, too
        pytest.raises(AssertionError),
    ):
        lose_during("a new file", tmp_path, draws=100)
