"""Power that goes at any moment: what was flushed is there, and a torn end is no damage."""

import random
from pathlib import Path

import pytest

from models import Record
from tests.storage_case import (
    Platter,
    file_of,
    held,
    open_durable,
    open_folder,
    put,
    record,
)


class PowerCuts:
    """A storage on a disk whose power may go before any write, flush or removal."""

    def __init__(self, seed: int, folder: Path, platter: Platter) -> None:
        self.draw = random.Random(seed)
        self.folder = folder
        self.platter = platter
        self.cuts = 0
        self.storage = open_durable(folder / "live", platter.name)
        file_of(self.storage)._database.wal_autocheckpoint(20)  # and a log begun anew
        self.before: dict[str, Record] = {}
        self.after: dict[str, Record] = {}
        platter.watch = self.maybe_cut

    def maybe_cut(self) -> None:
        if self.draw.random() < 0.1:
            self.cut()

    def cut(self) -> None:
        self.cuts += 1
        left = self.platter.cut(self.folder / f"cut-{self.cuts}", self.draw)
        again = open_durable(left)
        assert (again.problem, again.damage) == (None, None)
        assert again.identity == self.storage.identity
        assert held(again) in (self.before, self.after)
        again.close()

    def write(self, number: int) -> None:
        size = self.draw.choice([1, 100, 3_000, 12_000])
        keys = {f"k{self.draw.randrange(9)}" for _ in range(self.draw.randint(1, 3))}
        batch = {key: record(key, number, b"1" * size) for key in keys}
        self.after = {**self.before, **batch}
        put(self.storage, *batch.values())
        self.before = self.after
        self.cut()


def run_power_cuts(seed: int, folder: Path) -> None:
    platter = Platter()
    try:
        cuts = PowerCuts(seed, folder, platter)
        for number in range(1, 31):
            cuts.write(number)
        cuts.storage.close()
        cuts.cut()
        assert cuts.cuts > 40
    finally:
        platter.unregister()


@pytest.mark.parametrize("seed", range(2))
def test_power_cut_loses_nothing_acknowledged_and_is_not_called_damage(seed, tmp_path):
    run_power_cuts(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 120))
def test_no_power_cut_of_many_loses_anything_acknowledged(seed, tmp_path):
    run_power_cuts(seed, tmp_path)


def test_power_cut_is_not_survived_where_nothing_is_flushed(tmp_path):
    """That the disk of these tests forgets what was not flushed, or they show nothing."""
    platter = Platter()
    try:
        storage = open_folder(tmp_path / "live", durable=False, vfs=platter.name)
        put(storage, record("k", 1))
        left = platter.cut(tmp_path / "cut", random.Random(1))
        storage.close()
    finally:
        platter.unregister()

    again = open_folder(left)
    assert held(again) == {}
    again.close()
