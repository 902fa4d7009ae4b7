"""What a replica holds in memory, against a plain dict that is counted anew each time."""

import sys
import threading
from functools import reduce
from operator import xor

from hypothesis import given
from hypothesis import strategies as st

from models import Record, Version, key_token, record_digest
from storage.content import (
    BUCKET_SHIFT,
    BUCKETS_PER_PARTITION,
    PARTITION_COUNT,
    PARTITION_SHIFT,
    Content,
    differing_keys,
)

ONE_BUCKET = ["k379", "k653", "k2673"]
OTHER_BUCKET = ["k842", "k1267", "k1424"]
ONE_PARTITION = ["k273", "k331", "k645", "k809", "k1050", "k1448"]
UNICODE = ["é", "é1", "e\u0301", "\uffff", "🗝", "🗝a", "\U0010ffff", "k", "K", "kk"]
KEYS = ONE_BUCKET + OTHER_BUCKET + ONE_PARTITION + UNICODE
ALL = range(PARTITION_COUNT)


def everything(content: Content) -> list[Record]:
    return content.scan("", "", 1 << 30)


def record(key: str, number: int) -> Record:
    """Every version has one value for ever: some are tombstones, some expire."""
    value = None if number % 4 == 0 else f'"{number}é"'.encode() * (number % 3 + 1)
    expires_at_ms = 10_000 + number if number % 4 == 1 else 0
    return Record(key, Version(number << Version.MS_SHIFT), value, expires_at_ms)


records = st.builds(record, st.sampled_from(KEYS), st.integers(1, 12))
batches = st.lists(records, max_size=8)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), batches),
        st.tuples(st.just("purge"), batches),
    ),
    max_size=12,
)


class Naive:
    """The second version: a dict, and everything else worked out from it when asked."""

    def __init__(self) -> None:
        self.held: dict[str, Record] = {}

    def put(self, batch: list[Record]) -> Version | None:
        kept_out = []
        for new in batch:
            old = self.held.get(new.key)
            if old is None or old.version < new.version:
                self.held[new.key] = new
            elif old.version > new.version:
                kept_out.append(old.version)
        return max(kept_out, default=None)

    def purge(self, batch: list[Record]) -> None:
        for key, version in {r.key: r.version for r in batch}.items():
            if key in self.held and self.held[key].version == version:
                del self.held[key]

    def digest(self, shift: int = 64, place: int = 0) -> int:
        """Of the whole, or of one place among those that `shift` cuts the tokens into."""
        return reduce(
            xor,
            (
                record_digest(key.encode(), r.version)
                for key, r in self.held.items()
                if key_token(key) >> shift == place
            ),
            0,
        )

    def values(self) -> list[Record]:
        return [r for r in self.held.values() if r.value is not None]


def apply(
    all_steps: list[tuple[str, list[Record]]],
    content: Content | None = None,
    naive: Naive | None = None,
) -> tuple[Content, Naive]:
    content, naive = content or Content(), naive or Naive()
    for step, batch in all_steps:
        if step == "put":
            assert content.put_many(batch) == naive.put(batch)
        else:
            content.purge({r.key: r.version for r in batch})
            naive.purge(batch)
    return content, naive


def check_against(content: Content, naive: Naive) -> None:
    """Everything that a content can be asked, except scans."""
    values = naive.values()
    assert {r.key: r for r in everything(content)} == naive.held
    assert {key: content.get(key) for key in KEYS} == {
        key: naive.held.get(key) for key in KEYS
    }
    assert content.key_count == len(values)
    assert content.size_bytes == sum(
        len(r.key.encode()) + len(r.value or b"") for r in values
    )
    assert content.tombstones == {
        key: r.version for key, r in naive.held.items() if r.value is None
    }
    assert content.expiring == {
        r.key: r.expires_at_ms for r in values if r.expires_at_ms
    }
    assert content.digest() == naive.digest()
    for key in KEYS:
        check_places(content, naive, key_token(key))


def check_places(content: Content, naive: Naive, token: int) -> None:
    """The partition and the bucket around a token."""
    partition, bucket = token >> PARTITION_SHIFT, token >> BUCKET_SHIFT
    found = content.bucket_digests(partition)
    assert content.partition_digest(partition) == naive.digest(
        PARTITION_SHIFT, partition
    )
    assert reduce(xor, found.values(), 0) == content.partition_digest(partition)
    assert found.get(bucket, 0) == naive.digest(BUCKET_SHIFT, bucket)
    assert {r.key: r for r in content.bucket(bucket)} == {
        key: r
        for key, r in naive.held.items()
        if key_token(key) >> BUCKET_SHIFT == bucket
    }
    assert all(
        content.bucket(index) and index // BUCKETS_PER_PARTITION == partition
        for index in found
    )


@given(steps)
def test_no_order_of_puts_and_purges_loses_count_of_anything(all_steps):
    content, naive = apply(all_steps)

    check_against(content, naive)


@given(batches, st.randoms())
def test_order_and_repetition_of_puts_do_not_show_in_the_digests(batch, random):
    one, other = Content(), Content()
    shuffled = batch * 2
    random.shuffle(shuffled)

    one.put_many(batch)
    for single in shuffled:
        other.put_many([single])

    assert everything(one) == everything(other)
    assert [one.partition_digest(p) for p in ALL] == [
        other.partition_digest(p) for p in ALL
    ]
    assert differing_keys(one, other, ALL) == set()


@given(steps, steps, steps)
def test_digests_never_call_two_contents_equal_that_differ(common, mine, theirs):
    one, ours = apply(mine, *apply(common))
    other, others = apply(theirs, *apply(common))

    different = {
        key
        for key in KEYS
        if (ours.held.get(key) and ours.held[key].version)
        != (others.held.get(key) and others.held[key].version)
    }

    assert (one.digest() == other.digest()) == (not different)
    assert differing_keys(one, other, ALL) == different
    assert differing_keys(other, one, ALL) == different


@given(steps, steps, st.sets(st.sampled_from(KEYS)))
def test_comparing_some_partitions_does_not_name_keys_of_others(mine, theirs, chosen):
    (one, ours), (other, others) = apply(mine), apply(theirs)
    partitions = {key_token(key) >> PARTITION_SHIFT for key in chosen}

    found = differing_keys(one, other, sorted(partitions))

    one_set = {(key, r.version) for key, r in ours.held.items()}
    other_set = {(key, r.version) for key, r in others.held.items()}
    assert found == {
        key
        for key, _ in one_set ^ other_set
        if key_token(key) >> PARTITION_SHIFT in partitions
    }


TEXTS = st.sampled_from(["", "k", "k3", "k379", "k9", "é", "e", "🗝", "\uffff", "zz"])


@given(
    st.lists(st.tuples(steps, TEXTS, TEXTS | st.sampled_from(KEYS), st.integers(0, 9)))
)
def test_scan_never_skips_repeats_or_misplaces_a_key(rounds):
    content, naive = Content(), Naive()
    for some_steps, prefix, after, limit in rounds:
        apply(some_steps, content, naive)

        page = content.scan(prefix, after, limit)

        keys = sorted(k for k in naive.held if k.startswith(prefix) and k > after)
        assert [r.key for r in page] == keys[:limit]
        assert all(r == naive.held[r.key] for r in page)


@given(st.sets(st.sampled_from(KEYS)), st.integers(1, 4))
def test_pages_put_together_are_not_missing_a_key(keys, limit):
    content = Content()
    content.put_many(record(key, 1) for key in keys)
    seen: list[str] = []

    while page := content.scan("", seen[-1] if seen else "", limit):
        seen += [r.key for r in page]

    assert seen == sorted(keys, key=str.encode)  # by bytes is by code points


@given(steps, batches, batches)
def test_change_of_the_digest_is_not_another_one_than_was_foretold(
    before, puts, purges
):
    content, naive = apply(before)
    was = content.digest()

    newer = content.newer(puts)
    exact = content.matching({r.key: r.version for r in purges})
    for key in newer.keys() & exact.keys():
        del exact[key]
    foretold = content.digest_change(newer, exact)
    assert content.digest() == was  # asking changes nothing
    content.put_many(newer.values())
    content.purge(exact)

    assert content.digest() == was ^ foretold
    naive.put(puts)
    for key in exact:
        del naive.held[key]
    assert content.digest() == naive.digest()


@given(steps, batches)
def test_newer_names_neither_what_is_held_nor_an_older_record_of_the_same_batch(
    before, batch
):
    content, naive = apply(before)
    held = dict(naive.held)

    found = content.newer(batch)

    naive.put(batch)
    assert found == {k: r for k, r in naive.held.items() if r != held.get(k)}


def test_a_version_held_already_is_not_told_as_one_that_kept_a_record_out():
    content = Content()
    content.put_many([record("k", 5), record("kk", 7)])

    assert content.put_many([record("k", 5)]) is None
    assert content.put_many([record("k", 6)]) is None
    assert content.put_many([record("new", 1)]) is None
    assert content.put_many([record("k", 3), record("kk", 3)]) == 7 << 32
    assert content.get("k") == record("k", 6)


def test_digest_of_a_record_does_not_change_from_one_release_to_the_next():
    assert record_digest(b"a", Version(1)) == 0xD2F6D0996F37A720
    assert (
        record_digest("ключ".encode(), Version(1_000 << 32 | 7)) == 0x14685EE60B4C8866
    )
    assert record_digest(b"a", Version(1 << 79)) == 0xBF779D2CFF4C3AB5


def test_keys_meant_to_share_a_place_do():
    for bucket in (ONE_BUCKET, OTHER_BUCKET):
        assert len({key_token(key) >> BUCKET_SHIFT for key in bucket}) == 1
    assert len({key_token(key) >> PARTITION_SHIFT for key in ONE_PARTITION}) == 1
    assert len({key_token(key) >> BUCKET_SHIFT for key in ONE_PARTITION}) > 1


def test_threads_that_write_purge_and_scan_do_not_upset_the_counts():
    content = Content()
    start = threading.Barrier(6)
    wrong: list[object] = []

    def write(number: int) -> None:
        start.wait(timeout=30)
        for turn in range(300):
            one = record(f"k{turn % 40}", turn % 12 + 1 + number)
            content.put_many([one])
            if turn % 3 == number:
                content.purge({one.key: one.version})

    def scan() -> None:
        start.wait(timeout=30)
        for _ in range(100):
            keys = [r.key for r in content.scan("k", "", 100)]
            wrong.extend(keys if keys != sorted(set(keys)) else ())

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
        threads += [threading.Thread(target=scan) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
    finally:
        sys.setswitchinterval(interval)

    naive = Naive()
    naive.put(everything(content))
    assert not wrong
    check_against(content, naive)
    assert [r.key for r in content.scan("", "", 100)] == sorted(naive.held)
