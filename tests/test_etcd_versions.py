"""Revisions as versions, and prefixes as ranges: what etcd compares is what was meant."""

from hypothesis import example, given
from hypothesis import strategies as st

from backends.keys import NO_REVISION, _revision_of, _successor
from models import Version

REVISIONS = st.integers(1, (1 << 63) - 1)
TEXT = st.text(max_size=8)


@given(REVISIONS)
def test_version_stands_for_the_revision_that_it_was_made_of(revision):
    assert _revision_of(Version(revision).text) == revision


@given(REVISIONS, REVISIONS)
def test_versions_sort_as_their_revisions_do(one, other):
    assert (Version(one).text < Version(other).text) == (one < other)


@given(
    st.one_of(
        st.text(max_size=40),
        st.text("0123456789abcdefABCDEF_+- x٣\n", max_size=24),
        st.from_regex(r"[0-9a-f]{20}", fullmatch=True),
        st.integers(-(1 << 80), 1 << 80).map("{:020x}".format),
        st.integers(-(1 << 70), 1 << 70).map("{:x}".format),
    )
)
@example(f"{0:020x}")
@example(f"{1 << 63:020x}")
@example(f"{7:020X}")
@example(f"{10:020X}")
@example(f"+{7:019x}")
@example(f"0x{7:018x}")
@example(f"{7:018x}\n")
@example("0000000000000000_007")
@example("٠" * 19 + "٧")
@example("f" * 100_000)
def test_text_that_is_no_version_of_ours_stands_for_no_revision_that_a_key_has(text):
    revision = _revision_of(text)

    if revision == NO_REVISION:
        return
    assert 0 < revision < 1 << 63
    assert Version(revision).text == text


def test_revision_of_no_key_is_none_that_etcd_gives():
    assert NO_REVISION < 0  # 0 is that of an absent key: an absent key would match


@given(TEXT, TEXT)
@example("kv/k/", "\U0010ffff")
@example("\U0010ffff", "\U0010ffff\U0010ffff")
@example("a\x7f", "a\x80")
def test_range_of_a_prefix_has_all_keys_that_begin_with_it_and_no_other(prefix, key):
    start = b"kv/k/" + prefix.encode()
    end = _successor(start)

    for each in (key, prefix + key):
        found = b"kv/k/" + each.encode()
        assert (start <= found < end) == each.startswith(prefix)


@given(TEXT)
def test_ranges_of_values_and_of_tombstones_do_not_meet(key):
    assert not _successor(b"kv/k/") <= b"kv/k/" + key.encode()
    assert _successor(b"kv/d/") <= b"kv/k/"
