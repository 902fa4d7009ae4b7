"""What a storage makes of the log that a killed process left, if it was hit or torn."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from models import Record
from tests.storage_case import (
    FIRST,
    LOG,
    MARK,
    PLAIN,
    SECOND,
    by_key,
    copy_files,
    file_of,
    files_of,
    finish,
    flip,
    held,
    names,
    open_durable,
    put,
    record,
)

HEADER = 32
FRAME = 24 + 4_096
ALL = [record(f"k{n}", n + 1, b'"value %d"' % n) for n in range(12)]
STATE = (3, b"state")


@pytest.fixture(scope="module", params=[PLAIN, None], ids=["plain", "laid out"])
def left(request, tmp_path_factory) -> tuple[Path, str]:
    """What a killed process left, with ALL and STATE in its log, and its identity."""
    folder = tmp_path_factory.mktemp("storage")
    storage = open_durable(folder / "live", request.param)
    finish(storage.save_state(*STATE))
    for one in ALL[:-1]:
        put(storage, one)
    copy_files(folder / "live", folder / "before the last")
    put(storage, ALL[-1])
    copy_files(folder / "live", folder / "killed")
    storage.close()
    return folder / "killed", storage.identity


def frames_of(log: Path) -> list[int]:
    """Where each frame of the log begins that is in use: those with its salts."""
    content = log.read_bytes()
    starts = range(HEADER, len(content), FRAME)
    return [at for at in starts if content[at + 8 : at + 16] == content[16:24]]


def test_log_in_which_a_commit_is_damaged_is_not_silently_shortened(left, tmp_path):
    folder, identity = left
    frames = frames_of(folder / LOG)
    assert len(frames) > len(ALL)
    for number, frame in enumerate(frames[:-1]):
        hit = copy_files(folder, tmp_path / f"{number}")
        place = (9, 17, 24 + 4_000)[number % 3]  # of the salts, the checksum, the page
        flip(hit / LOG, frame + place)

        storage = open_durable(hit)

        assert (storage.problem, storage.identity == identity) == (None, False)
        assert storage.damage is not None
        assert LOG in storage.damage
        assert storage.load_state() in (STATE, None)
        assert held(storage).items() <= by_key(*ALL).items()
        assert {f"damaged-{FIRST}", f"damaged-{LOG}"} <= set(names(hit))
        put(storage, record("later", 99))
        storage.close()


def test_damaged_log_does_not_cost_what_comes_before_the_damage(left, tmp_path):
    folder, _ = left
    hit = copy_files(folder, tmp_path / "hit")
    flip(hit / LOG, frames_of(hit / LOG)[-6] + 24 + 4_000)

    storage = open_durable(hit)

    assert held(storage) == by_key(*ALL[:-6])
    assert names(hit)[3:] == files_of(SECOND)
    storage.close()


def test_log_whose_header_is_damaged_does_not_pass_for_an_empty_one(left, tmp_path):
    folder, identity = left
    hit = copy_files(folder, tmp_path / "hit")
    flip(hit / LOG, 20)

    storage = open_durable(hit)

    assert storage.damage is not None
    assert storage.identity != identity
    storage.close()


def torn_at_the_end(folder: Path, target: Path) -> Iterator[Path]:
    """Copies in which the last commit of the log is torn, each at another place."""
    last = frames_of(folder / LOG)[-1]
    for number, length in enumerate((last, last + 10, last + 24, last + 2_000)):
        torn = copy_files(folder, target / f"torn-{number}")
        content = (torn / LOG).read_bytes()
        (torn / LOG).write_bytes(content[:length].ljust(len(content), b"\0"))
        yield torn


def test_torn_end_of_a_log_costs_the_last_commit_only_and_is_not_called_damage(
    left, tmp_path
):
    folder, identity = left
    for torn in torn_at_the_end(folder, tmp_path):
        shutil.copy(folder.with_name("before the last") / MARK, torn)

        storage = open_durable(torn)

        assert (storage.problem, storage.damage) == (None, None)
        assert (storage.identity, storage.load_state()) == (identity, STATE)
        assert held(storage) == by_key(*ALL[:-1])
        storage.close()


def test_commit_that_was_acknowledged_is_not_taken_for_a_torn_end(left, tmp_path):
    folder, identity = left
    for torn in torn_at_the_end(folder, tmp_path):
        storage = open_durable(torn)

        assert (storage.problem, storage.identity == identity) == (None, False)
        assert storage.damage is not None
        assert LOG in storage.damage
        assert held(storage) == by_key(*ALL[:-1])
        storage.close()


def test_log_that_was_begun_anew_over_older_commits_is_not_called_damaged(tmp_path):
    storage = open_durable(tmp_path / "live")
    database = file_of(storage)._database
    expected: dict[str, Record] = {}
    for number in range(1, 40):
        one = record(f"k{number % 5}", number, b"1" * (number % 7) * 2_000)
        put(storage, one)
        expected[one.key] = one
        if number % 9 == 0:
            database.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        again = open_durable(copy_files(tmp_path / "live", tmp_path / f"k{number}"))
        assert (again.damage, again.identity) == (None, storage.identity)
        assert held(again) == expected
        again.close()
    storage.close()
