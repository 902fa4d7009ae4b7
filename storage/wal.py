"""Telling a damaged write-ahead log from one whose end was torn by a crash.

SQLite reads its log up to the first frame that fails its checksum, and takes the rest for
a commit that a crash cut short. If whole commits follow that frame, it was no such end:
commits are flushed one after the other, so what comes before a commit that is there was
there too. Then something that had been acknowledged is damaged, and dropping it in
silence would lose it. The form of the log: sqlite.org/fileformat2.html, section 4.
"""

from __future__ import annotations

import struct
from pathlib import Path

HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
NO_COMMIT = bytes(4)  # the size of the database, in all but the last frame of a commit
_BIG_ENDIAN = 0x377F0683  # the magic number of a log with such checksums
_LOW_32 = 0xFFFFFFFF


def is_damaged(path: Path, sound_frames: int) -> bool:
    """True if a whole commit follows the first bad frame of a log.

    `sound_frames` is how many frames SQLite found good. A frame after a bad one can be
    checked all the same, because each carries the running checksum up to itself.
    """
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES)
        order = _order_of(header)
        if order is None:  # the header is flushed before the first frame is written
            return any(file.read())
        page_bytes = int.from_bytes(header[8:12])
        frame_bytes = FRAME_HEADER_BYTES + page_bytes
        before = header[24:32]
        if sound_frames:
            file.seek(HEADER_BYTES + (sound_frames - 1) * frame_bytes)
            before = file.read(frame_bytes)[16:24]
        rest = file.read()
    frames = [
        rest[at : at + frame_bytes]
        for at in range(0, len(rest) - frame_bytes + 1, frame_bytes)
    ]
    return _commits_follow(_pair(before), frames, header[16:24], order)


def _order_of(header: bytes) -> str | None:
    """The byte order of a log's checksums; None if its header is not a sound one."""
    if len(header) < HEADER_BYTES:
        return None
    magic = int.from_bytes(header[:4])
    if magic | 1 != _BIG_ENDIAN:
        return None
    order = ">" if magic == _BIG_ENDIAN else "<"
    sound = _checksum((0, 0), header[:24], order) == _pair(header[24:])
    return order if sound else None


def _commits_follow(
    carried: tuple[int, int], frames: list[bytes], salts: bytes, order: str
) -> bool:
    """Whether a commit, whole and good, goes on from where another one ended.

    Only then was that other one flushed: what a failed write left behind a commit goes
    on from what was overwritten since. A frame goes on from the one before if its
    checksum does, from the one that it carries or, should that be what is damaged,
    from the one that it should carry.
    """
    right = carried
    ended = in_next = False
    for frame in frames:
        content = frame[:8] + frame[FRAME_HEADER_BYTES:]
        own, goes_on = _pair(frame[16:24]), False
        if frame[8:16] == salts:
            found = _checksum(carried, content, order)
            goes_on = own == found or own == _checksum(right, content, order)
            right = own if goes_on else found
        else:
            right = own
        carried = own
        in_next = goes_on and (ended or in_next)
        ended = frame[4:8] != NO_COMMIT
        if in_next and ended:
            return True
    return False


def _pair(data: bytes) -> tuple[int, int]:
    one, two = struct.unpack(">2I", data)
    return one, two


def _checksum(seed: tuple[int, int], data: bytes, order: str) -> tuple[int, int]:
    one, two = seed
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = (one + first + two) & _LOW_32
        two = (two + second + one) & _LOW_32
    return one, two
