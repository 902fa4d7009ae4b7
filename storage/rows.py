"""The rows of a file of records, and their checksums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xxhash import xxh3_64_intdigest

from models import Record, Version, record_digest
from storage.content import BUCKET_SHIFT

VERSION_BYTES = 10
DIGEST_BUCKET = -1  # of the row that has the digest of the whole: the first one
COLUMNS = "bucket, key, version, value, expires_at_ms, checksum"


def row_of(record: Record) -> tuple[Any, ...]:
    """The row of a record, its columns as in COLUMNS."""
    encoded = record.key.encode()
    value, expires_at_ms = record.value, record.expires_at_ms
    return (
        xxh3_64_intdigest(encoded) >> BUCKET_SHIFT,
        record.key,
        record.version.to_bytes(VERSION_BYTES),
        value,
        expires_at_ms,
        checksum_of(record_digest(encoded, record.version), value, expires_at_ms),
    )


def record_of(row: Sequence[Any]) -> tuple[Record, int]:
    """The record of a row and its digest; one of DAMAGE if the row is not sound."""
    bucket, key, version, value, expires_at_ms, checksum = row
    record = Record(key, Version.from_bytes(version), value, expires_at_ms)
    encoded = key.encode()
    digest = record_digest(encoded, record.version)
    sound = checksum == checksum_of(digest, value, expires_at_ms)
    if not sound or bucket != xxh3_64_intdigest(encoded) >> BUCKET_SHIFT:
        raise ValueError("a row fails its checksum")
    return record, digest


def checksum_of(digest: int, value: bytes | None, expires_at_ms: int) -> int:
    """Of a whole row, 63 bits; `digest` stands for its key and version."""
    seed = digest ^ (expires_at_ms << 1 | (value is None))
    return xxh3_64_intdigest(value or b"", seed) >> 1


def digest_row(digest: int, commit: int, identity: str) -> tuple[Any, ...]:
    """The row that each commit writes: its number, and the digest of the whole then.

    Its checksum is of the file's identity too, so that another's log is noticed.
    """
    checksum = xxh3_64_intdigest(f"{identity} {commit}".encode(), digest) >> 1
    return (DIGEST_BUCKET, "", digest.to_bytes(8), None, commit, checksum)


def older_digest_row(digest: int) -> tuple[Any, ...]:
    """The same of format 2, which numbered no commits."""
    checksum = xxh3_64_intdigest(b"digest", digest) >> 1
    return (DIGEST_BUCKET, "", digest.to_bytes(8), None, 0, checksum)


def meta_row(pair: Sequence[Any]) -> tuple[Any, ...]:
    """The row of a (name, value) that a file says of itself."""
    name, value = pair
    return (name, value, xxh3_64_intdigest(f"{name}\0{value!r}".encode()) >> 1)
