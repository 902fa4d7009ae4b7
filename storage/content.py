"""What one replica holds, in memory: records, digests and an ordered index.

The digests are an order-free hash of (key, version) per partition and per bucket of the
token space, kept up on every change: two replicas that agree compare equal at once,
and two that differ find the difference without listing the rest. Source of the idea:
Dynamo (SOSP 2007), section 4.7, with two flat levels in place of a Merkle tree.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping

from sortedcontainers import SortedList
from xxhash import xxh3_64_intdigest

from models import Record, Version, key_token, record_digest

BUCKET_SHIFT = 48  # 65,536 buckets: 16 keys each in a store of a million
PARTITION_SHIFT = 52  # 4,096 partitions of 16 whole buckets, as in cluster.placement
BUCKET_COUNT = 1 << (64 - BUCKET_SHIFT)
PARTITION_COUNT = 1 << (64 - PARTITION_SHIFT)
BUCKETS_PER_PARTITION = 1 << (PARTITION_SHIFT - BUCKET_SHIFT)


class _Bucket(dict[str, Record]):
    """The records of one bucket, by key, and their digest.

    One object rather than two: in a large store each costs a wait for memory.
    """

    __slots__ = ("digest",)
    digest: int


class Content:
    """The records of one node in memory, with digests and an ordered index.

    Safe for many threads. `get` takes no lock: a reader sees the old or the new record.
    """

    def __init__(self) -> None:
        self.key_count = 0  # values, tombstones left out
        self.size_bytes = 0  # of keys and values, tombstones left out
        self.version_max = Version(0)  # of all that was ever put or filled in
        self.tombstones: dict[str, Version] = {}
        self.expiring: dict[str, int] = {}  # key -> expires_at_ms
        self._buckets: list[_Bucket | None] = [None] * BUCKET_COUNT
        self._partition_digests = [0] * PARTITION_COUNT
        self._sorted: SortedList[str] = SortedList()
        self._unsorted: list[str] = []  # keys that came since the index was last used
        self._lock = threading.Lock()

    def get(self, key: str) -> Record | None:
        """The record of a key, tombstones included."""
        bucket = self._buckets[key_token(key) >> BUCKET_SHIFT]
        return bucket.get(key) if bucket is not None else None

    def put_many(self, records: Iterable[Record]) -> Version | None:
        """Keep each record that is newer than what is held for its key.

        Returns the highest version held that kept one of them out, None if none did.
        """
        newest: Version | None = None
        with self._lock:
            for record in records:
                key = record.key
                encoded = key.encode()
                index = xxh3_64_intdigest(encoded) >> BUCKET_SHIFT
                bucket = self._buckets[index]
                if bucket is None:
                    bucket = self._buckets[index] = _Bucket()
                    bucket.digest = 0
                change = record_digest(encoded, record.version)
                held = bucket.get(key)
                if held is None:
                    self._unsorted.append(key)
                elif held.version < record.version:
                    change ^= record_digest(encoded, held.version)
                else:
                    if held.version > record.version:
                        newest = max(held.version, newest or held.version)
                    continue
                bucket[key] = record
                if record.version > self.version_max:
                    self.version_max = record.version
                bucket.digest ^= change
                self._partition_digests[index // BUCKETS_PER_PARTITION] ^= change
                self._recount(held, record)
        return newest

    def fill(self, rows: Iterable[tuple[int, Record, int]]) -> None:
        """Take the whole of a file: records, each key once, with bucket and digest.

        For a content in which nothing is held yet; fast where rows come in the order
        of buckets.
        """
        buckets, partition_digests = self._buckets, self._partition_digests
        with self._lock:
            for index, record, digest in rows:
                bucket = buckets[index]
                if bucket is None:
                    bucket = buckets[index] = _Bucket()
                    bucket.digest = 0
                bucket[record.key] = record
                bucket.digest ^= digest
                partition_digests[index // BUCKETS_PER_PARTITION] ^= digest
                self._unsorted.append(record.key)
                if record.version > self.version_max:
                    self.version_max = record.version
                if record.value is None or record.expires_at_ms:
                    self._count(record)
                else:
                    self.key_count += 1
                    self.size_bytes += record.size_bytes

    def purge(self, versions: Mapping[str, Version]) -> None:
        """Forget each record whose version is exactly the one named."""
        with self._lock:
            for key in self.matching(versions):
                self._remove(key)

    def newer(self, records: Iterable[Record]) -> dict[str, Record]:
        """Of these records, the newest per key that is newer than what is held."""
        found: dict[str, Record] = {}
        for record in records:
            held = found.get(record.key) or self.get(record.key)
            if held is None or held.version < record.version:
                found[record.key] = record
        return found

    def matching(self, versions: Mapping[str, Version]) -> dict[str, Version]:
        """Those of `versions` that are exactly what is held."""
        return {
            key: version
            for key, version in versions.items()
            if (held := self.get(key)) is not None and held.version == version
        }

    def digest(self) -> int:
        """The digest of the whole."""
        whole = 0
        for digest in self._partition_digests:
            whole ^= digest
        return whole

    def digest_change(
        self, puts: Mapping[str, Record], purges: Mapping[str, Version]
    ) -> int:
        """What the digest of the whole changes by once `puts` are kept and `purges` not.

        They are what `newer` and `matching` returned, and have no key in common.
        """
        change = 0
        for key, record in puts.items():
            held = self.get(key)
            change ^= record_digest(key.encode(), record.version)
            if held is not None:
                change ^= record_digest(key.encode(), held.version)
        for key, version in purges.items():
            change ^= record_digest(key.encode(), version)
        return change

    def partition_digest(self, partition: int) -> int:
        """The digest of a partition; 0 if it is empty."""
        return self._partition_digests[partition]

    def partition_digests(self, partitions: Iterable[int]) -> tuple[int, ...]:
        """The digests of some partitions, in the order asked."""
        digests = self._partition_digests
        return tuple([digests[partition] for partition in partitions])

    def bucket_digests(self, partition: int) -> dict[int, int]:
        """The digests of a partition's buckets, empty ones left out."""
        first = partition * BUCKETS_PER_PARTITION
        return {
            index: bucket.digest
            for index in range(first, first + BUCKETS_PER_PARTITION)
            if (bucket := self._buckets[index])
        }

    def bucket_digest(self, index: int) -> int:
        """The digest of a bucket; 0 if it is empty."""
        bucket = self._buckets[index]
        return bucket.digest if bucket is not None else 0

    def bucket(self, index: int) -> list[Record]:
        """The records of a bucket, tombstones included."""
        bucket = self._buckets[index]
        return list(bucket.values()) if bucket is not None else []

    def records(self) -> Iterator[Record]:
        """Every record, tombstones included, in the order of buckets."""
        for index in range(BUCKET_COUNT):
            yield from self.bucket(index)

    def scan(self, prefix: str, after: str, limit: int) -> list[Record]:
        """Up to `limit` records in key order with a prefix, after the key `after`."""
        with self._lock:
            self._sort()
            inclusive = prefix > after
            keys = self._sorted.irange(max(prefix, after), inclusive=(inclusive, True))
            found: list[Record] = []
            for key in keys:
                if len(found) == limit or not key.startswith(prefix):
                    break
                record = self.get(key)
                if record is not None:
                    found.append(record)
            return found

    def _remove(self, key: str) -> None:
        index = key_token(key) >> BUCKET_SHIFT
        bucket = self._buckets[index]
        assert bucket is not None, (
            f"a key that is not held is not removed (key={key!r})"
        )
        held = bucket.pop(key)
        change = record_digest(key.encode(), held.version)
        bucket.digest ^= change
        self._partition_digests[index // BUCKETS_PER_PARTITION] ^= change
        if not bucket:
            self._buckets[index] = None
        self._uncount(held)
        self._sort()
        self._sorted.discard(key)

    def _recount(self, held: Record | None, record: Record) -> None:
        """Keep the counts when `record` takes the place of `held`."""
        if (
            held is None
            or held.value is None
            or record.value is None
            or held.expires_at_ms
            or record.expires_at_ms
        ):
            if held is not None:
                self._uncount(held)
            self._count(record)
        else:  # a value over a value, by far the most common
            self.size_bytes += len(record.value) - len(held.value)

    def _count(self, record: Record) -> None:
        if record.value is None:
            self.tombstones[record.key] = record.version
            return
        self.key_count += 1
        self.size_bytes += record.size_bytes
        if record.expires_at_ms:
            self.expiring[record.key] = record.expires_at_ms

    def _uncount(self, record: Record) -> None:
        if record.value is None:
            del self.tombstones[record.key]
            return
        self.key_count -= 1
        self.size_bytes -= record.size_bytes
        if record.expires_at_ms:
            del self.expiring[record.key]

    def _sort(self) -> None:
        """Bring the index up to date. Writes only note their keys, which is cheaper."""
        added, self._unsorted = self._unsorted, []
        self._sorted.update(added)


def bucket_of(key: str) -> int:
    """The bucket of a key, 0 to BUCKET_COUNT - 1."""
    return key_token(key) >> BUCKET_SHIFT


def differing_keys(one: Content, other: Content, partitions: Iterable[int]) -> set[str]:
    """The keys of some partitions that two contents hold in different versions."""
    found: set[str] = set()
    for partition in partitions:
        if one.partition_digest(partition) == other.partition_digest(partition):
            continue
        digests, others = one.bucket_digests(partition), other.bucket_digests(partition)
        for index in digests.keys() | others.keys():
            if digests.get(index) != others.get(index):
                ours = {(record.key, record.version) for record in one.bucket(index)}
                theirs = {
                    (record.key, record.version) for record in other.bucket(index)
                }
                found.update(key for key, _ in ours ^ theirs)
    return found
