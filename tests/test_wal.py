"""The check of a write-ahead log, against logs that were written, failed, torn and hit.

The logs are made here by a second, naive writer with tiny pages, which is checked against
SQLite's own. A log may end in anything that a crash leaves, and is no damage then; but a
commit that another one follows was acknowledged, and must not be dropped in silence.
"""

import random
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import wal
from tests.storage_case import (
    copy_files,
)

PAGE = 16
FRAME = 24 + PAGE
HEADER = 32
MARK = range(4, 8)  # the bytes of a frame that say that it ends a commit


# --- A naive second version --------------------------------------------------------------


def checksum(data: bytes, order: str, seed: bytes = bytes(8)) -> bytes:
    one, two = struct.unpack(">II", seed)
    for at in range(0, len(data), 8):
        first, second = struct.unpack(f"{order}II", data[at : at + 8])
        one = (one + first + two) % (1 << 32)
        two = (two + second + one) % (1 << 32)
    return struct.pack(">II", one, two)


class Log:
    """A log as it lies on the disk, and where each acknowledged commit begins in it."""

    def __init__(self, order: str = "<", seed: int = 1) -> None:
        self.order = order
        self.draw = random.Random(seed)
        self.frames: list[bytes] = []
        self.begin()

    def begin(self) -> None:
        """Start from the front again, over what is there: all of it was taken in."""
        self.salts = self.draw.randbytes(8)
        magic = 0x377F0682 | (self.order == ">")
        text = struct.pack(">IIII", magic, 3_007_000, PAGE, 0) + self.salts
        self.header = text + checksum(text, self.order)
        self.commits: list[int] = []
        self.end = 0

    def commit(self, count: int) -> None:
        self.commits.append(self.end)
        self.write(count)
        self.end += count

    def write(self, count: int, written: int | None = None) -> None:
        """What a commit of so many frames writes, or the beginning of it."""
        seed = self.header[24:] if not self.end else self.frames[self.end - 1][16:24]
        made = []
        for number in range(count):
            size = 2 + self.end if number == count - 1 else 0
            text = struct.pack(">II", self.draw.randint(1, 9), size)
            page = self.draw.randbytes(PAGE)
            seed = checksum(text + page, self.order, seed)
            made.append(text + self.salts + seed + page)
        made = made[:written]
        self.frames[self.end : self.end + len(made)] = made

    def tear(self, count: int) -> None:
        """What a commit of so many frames may leave when the power goes.

        Headers are whole here: where one lies across two sectors, and a failed write left
        more behind it, what a power cut leaves can look like damage, and costs a rebuild.
        """
        before = self.frames.copy()
        self.write(count)
        for at in range(self.end, len(self.frames)):
            old = before[at] if at < len(before) else bytes(FRAME)
            cut = self.draw.choice([0, 24, 32, FRAME, FRAME])
            self.frames[at] = self.frames[at][:cut] + old[cut:]

    @property
    def content(self) -> bytes:
        return self.header + b"".join(self.frames)

    def commit_of(self, frame: int) -> int:
        """Which commit a frame is of, from the last one: 0, 1, ..."""
        return sum(begin > frame for begin in self.commits)


def sound_frames(content: bytes, frame_bytes: int = FRAME) -> int:
    """How many frames SQLite takes: up to the last commit before the first bad one."""
    header = content[:HEADER]
    order = {b"7\x7f\x06\x82": "<", b"7\x7f\x06\x83": ">"}.get(header[:4])
    if (
        order is None
        or len(header) < HEADER
        or checksum(header[:24], order) != header[24:]
    ):
        return 0
    seed, sound = header[24:], 0
    starts = range(HEADER, len(content) - frame_bytes + 1, frame_bytes)
    for count, at in enumerate(starts, 1):
        frame = content[at : at + frame_bytes]
        seed = checksum(frame[:8] + frame[24:], order, seed)
        if frame[8:16] != header[16:24] or frame[16:24] != seed:
            break
        if frame[4:8] != bytes(4):
            sound = count
    return sound


def is_damaged(content: bytes, path: Path, frame_bytes: int = FRAME) -> bool:
    path.write_bytes(content)
    return wal.is_damaged(path, sound_frames(content, frame_bytes))


def commits_follow(content: bytes) -> bool:
    """`is_damaged` without a file: for many examples."""
    sound = sound_frames(content)
    at = HEADER + sound * FRAME
    seed = content[24:HEADER] if not sound else content[at - FRAME :][16:24]
    rest = [content[n : n + FRAME] for n in range(at, len(content) - FRAME + 1, FRAME)]
    order = ">" if content[3:4] == b"\x83" else "<"
    return wal._commits_follow(wal._pair(seed), rest, content[16:24], order)


def changed(content: bytes, place: int, mask: int) -> bytes:
    return content[:place] + bytes([content[place] ^ mask]) + content[place + 1 :]


def log_of(*counts: int, order: str = "<", before: tuple[int, ...] = ()) -> Log:
    """A log of commits of so many frames, written over older ones if there are any."""
    log = Log(order)
    for count in before:
        log.commit(count)
    if before:
        log.begin()
    for count in counts:
        log.commit(count)
    return log


LOGS = {
    "one frame each": log_of(1, 1, 1, 1),
    "many frames each": log_of(2, 3, 1, 2),
    "the other byte order": log_of(2, 1, 2, order=">"),
    "over an older log": log_of(2, 1, 2, before=(3, 3, 2)),
    "over an older log as long": log_of(2, 1, 3, before=(2, 1, 3)),
    "zeros behind it": log_of(1, 2, 1),
}
LOGS["zeros behind it"].frames += [bytes(FRAME)] * 4
each_log = pytest.mark.parametrize(
    "log", [pytest.param(v, id=k) for k, v in LOGS.items()]
)


# --- What is damage, and what is a torn end ----------------------------------------------


def flips(content: bytes) -> Iterator[tuple[int, int]]:
    for place in range(len(content)):
        for mask in {0x01, 0x80, 0xFF, content[place] or 0x10}:
            yield place, mask


@each_log
def test_no_byte_of_a_commit_that_others_follow_can_be_damaged_unseen(log, tmp_path):
    content = log.content
    assert sound_frames(content) == log.end
    assert not is_damaged(content, tmp_path / "log")
    for place, mask in flips(content[: HEADER + log.end * FRAME]):
        hit = changed(content, place, mask)
        frame, byte = divmod(place - HEADER, FRAME)
        follow = log.commit_of(frame)
        ends = frame + 1 in (*log.commits, log.end)
        if place < HEADER:
            expected = True  # SQLite takes nothing at all of such a log
        elif ends and hit[HEADER + frame * FRAME :][4:8] == bytes(4):
            expected = follow > 1  # it looks like one commit with the next
        else:  # of a last commit, a mark in its middle tells it from a torn one
            expected = follow > 0 or (byte in MARK and not ends)

        assert is_damaged(hit, tmp_path / "log") == expected, (place, mask)
        if place >= HEADER:
            assert sound_frames(hit) == log.commits[-1 - follow]


@each_log
def test_log_that_was_cut_at_any_length_is_not_called_damaged(log, tmp_path):
    for length in range(len(log.content) + 1):
        cut = log.content[:length]
        assert not is_damaged(cut, tmp_path / "log"), length
        if length >= HEADER:  # it is flushed before the first frame is written
            garbage = random.Random(length).randbytes(3 * FRAME)
            assert not commits_follow(cut + bytes(3 * FRAME)), length
            assert not commits_follow(cut + garbage), length


def test_file_that_is_no_log_yet_is_not_called_damaged(tmp_path):
    for content in (b"", bytes(10), bytes(HEADER), bytes(HEADER + 5 * FRAME)):
        assert not is_damaged(content, tmp_path / "log")


steps = st.one_of(
    st.tuples(st.just("commit"), st.integers(1, 4), st.none()),
    st.tuples(st.just("fail"), st.integers(1, 6), st.integers(0, 6)),
    st.tuples(st.just("begin"), st.none(), st.none()),
)


def played(history: list, seed: int) -> Log:
    log = Log(seed=seed)
    for step, count, written in history:
        if step == "commit":
            log.commit(count)
        elif (
            step == "fail"
        ):  # a full disk, or a write that failed: the next goes over it
            log.write(count, written)
        else:
            log.begin()
    return log


@given(st.lists(steps, max_size=12), st.integers(0, 99), st.integers(0, 5))
def test_nothing_that_a_crash_or_a_failed_write_leaves_is_called_damage(
    history, seed, torn
):
    log = played(history, seed)
    if torn:
        log.tear(torn)

    found = commits_follow(log.content)

    assert sound_frames(log.content) >= log.end  # nothing acknowledged is dropped
    assert not found


@given(
    st.lists(steps, max_size=8),
    st.lists(st.integers(1, 4), min_size=2, max_size=4),
    st.integers(0, 99),
    st.integers(0, 5),
    st.data(),
)
def test_no_history_hides_damage_to_a_commit_that_another_one_follows(
    history, counts, seed, torn, data
):
    log = played(history, seed)
    for count in counts:
        log.commit(count)
    if torn:
        log.tear(torn)
    frame = data.draw(st.integers(0, log.commits[-1] - 1))
    byte = data.draw(st.integers(0, FRAME - 1).filter(lambda one: one not in MARK))
    place = HEADER + frame * FRAME + byte

    hit = changed(log.content, place, data.draw(st.integers(1, 255)))

    assert sound_frames(hit) <= frame
    assert commits_follow(hit)


# --- SQLite's own logs -------------------------------------------------------------------


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    """A small database of several commits, all of them still in its log."""
    folder = tmp_path_factory.mktemp("sqlite")
    (folder / "live").mkdir()
    database = apsw.Connection(str(folder / "live" / "db"))
    database.pragma("page_size", 512)
    database.pragma("locking_mode", "exclusive")
    database.pragma("journal_mode", "wal")
    database.execute("create table t (k integer primary key, v blob)")
    for number in range(4):
        database.execute(
            "insert into t values (?, zeroblob(?))", (number, 300 * number)
        )
    left: Path = copy_files(folder / "live", folder / "killed")
    database.close()
    return left


def taken_by_sqlite(folder: Path, content: bytes) -> int:
    """How many frames SQLite finds sound in a log."""
    log = folder / "db-wal"
    log.write_bytes(content)
    database = apsw.Connection(str(folder / "db"))
    try:
        database.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        database.pragma("locking_mode", "exclusive")
        database.execute("begin immediate; rollback")
        return max(0, database.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)[0])
    finally:
        database.close()


def check_against_sqlite(killed: Path, folder: Path, step: int) -> None:
    content = (killed / "db-wal").read_bytes()
    frame_bytes = 512 + 24
    frames = (len(content) - HEADER) // frame_bytes
    commits = [
        number + 1
        for number in range(frames)
        if content[HEADER + number * frame_bytes :][4:8] != bytes(4)
    ]
    assert frames > len(commits) > 4
    last = HEADER + commits[-2] * frame_bytes
    for place in range(0, len(content), step):
        shutil.rmtree(folder, ignore_errors=True)
        copy_files(killed, folder)
        hit = changed(content, place, 0x11)
        taken = taken_by_sqlite(folder, hit)
        assert taken == sound_frames(hit, frame_bytes)
        assert taken < frames
        frame, byte = divmod(place - HEADER, frame_bytes)
        marked = byte in MARK and frame < frames - 1  # a commit seems to end there
        expected = place < last or marked
        assert wal.is_damaged(folder / "db-wal", taken) == expected, place


def test_naive_version_and_sqlite_take_the_same_of_a_log_that_was_hit(killed, tmp_path):
    check_against_sqlite(killed, tmp_path / "hit", 53)


@pytest.mark.slow
def test_no_byte_of_a_log_of_sqlite_can_be_damaged_unseen(killed, tmp_path):
    check_against_sqlite(killed, tmp_path / "hit", 1)
