"""The file that a backup is: what goes in comes out, and any damage is found and placed."""

import codecs
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from console.archive import ArchiveReader, ArchiveWriter, Damaged, Entry, Header, check

HEADER = Header(
    made_at="2026-01-05T03:00:00+00:00",
    nodes=3,
    replication_factor=2,
    placement="ring",
    protocol="primary-backup",
)
VERSION = "01a203f300fc00000000"


def archive(*entries):
    file = io.BytesIO()
    writer = ArchiveWriter(file, HEADER)
    for entry in entries:
        writer.add(entry)
    writer.finish()
    assert writer.size_bytes == len(file.getvalue())
    return file.getvalue()


def entries_of(data):
    return list(ArchiveReader(io.BytesIO(data)))


def damage(data):
    with pytest.raises(Damaged) as told:
        check(io.BytesIO(data))
    return told.value


def line_at(data, offset):
    """The number of the line that has this byte."""
    return data.count(b"\n", 0, offset) + 1


def offset_of(data, line):
    return len(b"".join(data.splitlines(keepends=True)[: line - 1]))


SMALL = archive(
    Entry("a", VERSION, Raw(b"1.50")),
    Entry("b", VERSION, Raw(b'{\n"x": [null]}'), 1_700_000_000_000),
    Entry("c/ä", VERSION, Raw(b'"text"')),
)
LINES = SMALL.splitlines(keepends=True)


def test_small_file_is_intact_and_told():
    found = check(io.BytesIO(SMALL))

    assert (found.records, found.expiring, found.size_bytes) == (3, 1, len(SMALL))
    assert (found.version_min, found.version_max) == (VERSION, VERSION)
    assert found.header == HEADER


def test_empty_store_makes_an_intact_file():
    found = check(io.BytesIO(archive()))

    assert (found.records, found.version_min, found.version_max) == (0, None, None)


@pytest.mark.parametrize("bit", range(8))
def test_no_flipped_bit_is_overlooked_or_misplaced(bit):
    for offset in range(len(SMALL)):
        changed = bytearray(SMALL)
        changed[offset] ^= 1 << bit
        found = damage(bytes(changed))
        line = line_at(SMALL, offset)
        assert (found.line, found.offset) == (line, offset_of(SMALL, line)), offset


def test_no_cut_is_overlooked_or_misplaced():
    for size in range(len(SMALL)):
        found = damage(SMALL[:size])
        line = line_at(SMALL, size)
        assert (found.line, found.offset) == (line, offset_of(SMALL, line)), size


@pytest.mark.parametrize("gone", range(len(LINES)))
def test_no_missing_line_is_overlooked(gone):
    assert damage(b"".join(LINES[:gone] + LINES[gone + 1 :])).line == gone + 1


@pytest.mark.parametrize("doubled", range(len(LINES)))
def test_no_doubled_line_is_overlooked(doubled):
    data = b"".join(LINES[: doubled + 1] + LINES[doubled:])

    assert damage(data).line == doubled + 2


@pytest.mark.parametrize("first", range(len(LINES) - 1))
def test_no_swapped_lines_are_overlooked(first):
    swapped = list(LINES)
    swapped[first], swapped[first + 1] = swapped[first + 1], swapped[first]

    assert damage(b"".join(swapped)).line == first + 1


def test_line_of_another_backup_is_not_taken_for_one_of_this():
    other = archive(
        Entry("a", VERSION, Raw(b"2")), Entry("b", VERSION, Raw(b"3"))
    ).splitlines(keepends=True)

    assert damage(b"".join([*LINES[:2], other[2], *LINES[3:]])).line == 3


@pytest.mark.parametrize("more", [b"\n", b" ", LINES[-1], SMALL])
def test_nothing_may_follow_the_last_line(more):
    found = damage(SMALL + more)

    assert (found.line, found.offset) == (len(LINES) + 1, len(SMALL))


@pytest.mark.parametrize("data", [b"", b"\n", b"{}\n", b"\x00" * 99, b'{"sum":"\n'])
def test_what_is_no_backup_is_refused_at_its_first_line(data):
    assert damage(data).line == 1


def test_file_that_an_editor_saved_with_a_mark_is_refused_for_that():
    found = damage(codecs.BOM_UTF8 + SMALL)

    assert "line 1" in str(found)
    assert "byte order mark: some program saved the file anew" in str(found)
    assert "byte order mark" not in str(damage(LINES[0] + codecs.BOM_UTF8 + LINES[1]))


def test_checksums_that_fit_do_not_save_a_file_whose_keys_go_back():
    a, b = Entry("a", VERSION, Raw(b"1")), Entry("b", VERSION, Raw(b"1"))

    assert damage(archive(b, a)).line == 3
    assert damage(archive(a, a)).line == 3


def test_file_of_a_later_format_is_refused_by_its_version():
    later = Header(
        version=2, made_at="", nodes=1, replication_factor=1, placement="", protocol=""
    )
    file = io.BytesIO()
    ArchiveWriter(file, later).finish()

    assert "version 2" in str(damage(file.getvalue()))


@pytest.mark.parametrize(
    "text",
    [
        '1.50', '-0', '1e400', '0.1000000000000000055511151231257827021181583404541015625',
        '123456789012345678901234567890', 'null', '""', '{}', '[ 1 ,\t2 ]', '{"a":1,"a":2}',
        '{\n  "x" : [\r\n 1.50 ]\n}', '"\\ud83d\\ude00 \\u0000 \\n"', '"\u2028\u0085\U0001f600"',
        "[" * 400 + "]" * 400,
    ],
)  # fmt: skip
def test_value_comes_back_to_the_last_digit_and_blank(text):
    (found,) = entries_of(archive(Entry("a", VERSION, Raw(text.encode()))))

    assert bytes(found.value).decode() == text


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)
texts = st.builds(
    lambda value, indent, ascii_only: json.dumps(
        value, indent=indent, ensure_ascii=ascii_only
    ),
    json_values,
    st.sampled_from([None, 1, "\r\n"]),
    st.booleans(),
)


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), texts
    ),
    st.integers(0, 1 << 46),
)
def test_hostile_keys_and_values_come_back_as_they_were(content, expires):
    entries = [
        Entry(key, VERSION, Raw(content[key].encode("utf-8", "replace")), expires)
        for key in sorted(content)
    ]
    data = archive(*entries)

    assert entries_of(data) == entries
    assert data.count(b"\n") == len(entries) + 2
    for line in data.splitlines():
        assert next(iter(json.loads(line))) == "sum"
