"""The mark beside a file of records: the last of its commits that was acknowledged.

A log that is missing, older than its file or another's reads like one whose last commits
were never made, so no log can tell by itself that something is gone. The mark can: it is
written after each commit and not flushed. A killed process loses nothing that the system
has, so its mark is exact. A power cut may leave an older mark, never one of a commit that
was not flushed before it; where commits are not flushed at all, a mark counts only until
the system is started anew.
"""

from __future__ import annotations

import os
import struct
import uuid
from functools import cache
from pathlib import Path

from msgspec import Struct
from xxhash import xxh3_64_intdigest

from storage.folder import flush

_FORM = struct.Struct(">8sQQQ16s")
_CHECKSUM = struct.Struct(">Q")
_MAGIC = b"kv-mark1"
_ENDING = "-mark"
_BYTES = _FORM.size + _CHECKSUM.size  # less than a sector: it is never torn
_ALWAYS = bytes(16)  # in place of the name of a boot: it counts after any
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Noted(Struct, frozen=True):
    """The contents of a mark.

    Zeros where commits were not flushed and the system was started anew since.
    """

    commit: int  # the number of the last commit that was acknowledged
    epoch: int  # of the state record then; 0: there was none


class Mark:
    """The mark of one file, open for as long as the file is in use. One thread at a time.

    Opening makes the file, durably, if there is none of this identity. `durable`: each
    commit is flushed before it is noted. Raises OSError.
    """

    def __init__(self, path: Path, identity: str, now: Noted, *, durable: bool) -> None:
        is_new = read(path, identity) is None
        self._owner = _number_of(identity)
        self._boot = _ALWAYS if durable else _boot()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self.note(now.commit, now.epoch)
            if is_new:
                os.fsync(self._descriptor)
                flush(path.parent)
        except BaseException:
            self.close()
            raise

    def note(self, commit: int, epoch: int) -> None:
        """Note a commit that is made, before anybody is told of it."""
        body = _FORM.pack(_MAGIC, self._owner, commit, epoch, self._boot)
        os.pwrite(self._descriptor, body + _checksum(body), 0)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)


def beside(file: Path) -> Path:
    """The path of a file's mark."""
    return file.with_name(f"{file.name}{_ENDING}")


def newest_epoch(folder: Path) -> int:
    """The newest epoch in any mark of a folder, whatever has become of their files."""
    marks = map(read, folder.glob(f"records-*{_ENDING}"))
    return max((noted.epoch for noted in marks if noted is not None), default=0)


def read(path: Path, identity: str | None = None) -> Noted | None:
    """The mark at a path; None if there is none that is sound and of this identity."""
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    body, checksum = content[: _FORM.size], content[_FORM.size : _BYTES]
    if len(body) < _FORM.size or checksum != _checksum(body):
        return None
    magic, owner, commit, epoch, boot = _FORM.unpack(body)
    if magic != _MAGIC or (identity is not None and owner != _number_of(identity)):
        return None
    return Noted(commit, epoch) if boot in (_ALWAYS, _boot()) else Noted(0, 0)


def _number_of(identity: str) -> int:
    return xxh3_64_intdigest(identity.encode())


def _checksum(body: bytes) -> bytes:
    return _CHECKSUM.pack(xxh3_64_intdigest(body))


@cache
def _boot() -> bytes:
    """The system's name of the time since it was started; one that never comes back if none."""
    try:
        return uuid.UUID(_BOOT.read_text().strip()).bytes
    except (OSError, ValueError):
        return uuid.uuid4().bytes
