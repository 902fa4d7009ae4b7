"""The file that a backup is: a JSON document a line, each line with a checksum.

    {"sum":"<32 digits>","format":"kv-backup","version":1,"made_at":"...","nodes":3,...}
    {"sum":"<32 digits>","key":"a","version":"01a203f300fc00000000","value":1.50}
    {"sum":"<32 digits>","records":1}

`sum` is XXH3-128, in hexadecimal, of the 32 digits of the line before (zeros before the
first) and then of every byte of its own line after its own digits, the line end too. So
a line that is changed, cut, missing, doubled or out of place does not match, nor does
any that follows it; the first such is named. The last line says how many records there
are, so that a file which ends early is known. This finds accidents, not forgery.

Records are in the order of their keys. A value is the JSON text that the store has, to
the last digit and blank. One with a line end between its parts is kept as `text`, a
JSON string of that text, for the line to stay one.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator
from typing import IO, TypeVar

import msgspec
import xxhash
from msgspec import Raw, Struct

T = TypeVar("T")
FORMAT = "kv-backup"
VERSION = 1
LINE_BYTES_MAX = 1 << 28  # more than the largest value that a store can be set to take
TELL_EVERY = 1_000  # records
_BEFORE, _AFTER = b'{"sum":"', b'",'
_ZEROS = b"0" * 32
_DIGITS = slice(len(_BEFORE), len(_BEFORE) + len(_ZEROS))
_REST = slice(_DIGITS.stop, None)
_LINE_END = re.compile(rb"[\r\n]")


class Header(Struct, frozen=True, kw_only=True, tag_field="format", tag=FORMAT):
    """The first line: when the backup was begun, and of what store."""

    version: int = VERSION
    made_at: str  # ISO 8601, in UTC
    nodes: int
    replication_factor: int
    placement: str
    protocol: str


class Entry(Struct, frozen=True, omit_defaults=True):
    """One key with all that is kept of it, as GET /records gives it."""

    key: str
    version: str
    value: Raw
    expires_at_ms: int = 0  # since 1970, in the time of versions; 0: never

    @property
    def size_bytes(self) -> int:
        """Bytes that it takes in a request, or somewhat less."""
        return len(self.key) + len(bytes(self.value))


class Footer(Struct, frozen=True):
    """The last line."""

    records: int


class Summary(Struct, frozen=True):
    """What an intact archive holds."""

    header: Header
    records: int
    size_bytes: int
    version_min: str | None  # None: no records
    version_max: str | None
    expiring: int  # records that have a time to live


class Damaged(Exception):
    """The file is no archive, or not what was written."""

    def __init__(self, line: int, offset: int, what: str) -> None:
        super().__init__(f"line {line}, which begins at byte {offset}, {what}")
        self.line = line
        self.offset = offset
        self.what = what


class _TextEntry(Struct, frozen=True, omit_defaults=True):
    """An entry whose value has a line end in it."""

    key: str
    version: str
    text: str
    expires_at_ms: int = 0


class _Found(Struct, frozen=True, forbid_unknown_fields=True):
    """Either kind of entry, as a line has it."""

    sum: str
    key: str
    version: str
    value: Raw = Raw(b"")  # empty: there is none
    text: str | None = None
    expires_at_ms: int = 0


_encode = msgspec.json.Encoder().encode
_header = msgspec.json.Decoder(Header).decode
_footer = msgspec.json.Decoder(Footer).decode
_found = msgspec.json.Decoder(_Found).decode


class ArchiveWriter:
    """Writes an archive to a file that is open for bytes."""

    def __init__(self, file: IO[bytes], header: Header) -> None:
        self.records = 0
        self.size_bytes = 0
        self._file = file
        self._sum = _ZEROS
        self._write(_encode(header))

    def add(self, entry: Entry) -> None:
        """Write a record; its key is above that of the one before."""
        document = _encode(entry)
        if _LINE_END.search(document) is not None:
            text = bytes(entry.value).decode()
            spread = _TextEntry(entry.key, entry.version, text, entry.expires_at_ms)
            document = _encode(spread)
        self._write(document)
        self.records += 1

    def finish(self) -> None:
        """Write the last line. The file is still to be flushed and closed."""
        self._write(_encode(Footer(self.records)))

    def _write(self, document: bytes) -> None:
        rest = _AFTER + document[1:] + b"\n"
        self._sum = _sum(self._sum, rest)
        self._file.write(_BEFORE + self._sum + rest)
        self.size_bytes += len(_BEFORE) + len(self._sum) + len(rest)


class ArchiveReader:
    """Reads an archive from its beginning and checks each line before it is shown.

    Making one reads the header; iterating yields the entries. That no Damaged was raised
    means something only once all of them were seen: the last line is checked last.
    """

    def __init__(self, file: IO[bytes]) -> None:
        file.seek(0)
        self.size_bytes = 0  # read so far
        self._file = file
        self._line = 0
        self._began = 0  # where the current line begins
        self._sum = _ZEROS
        self.header = self._decoded(_header, self._next())
        if self.header.version != VERSION:
            raise self._damaged(
                f"is of version {self.header.version} of the format, and only version "
                f"{VERSION} is known here"
            )

    def __iter__(self) -> Iterator[Entry]:
        """The entries, in the order of their keys; once."""
        count, last = 0, ""
        while True:
            line = self._next()
            if line.startswith(b'"records":', _REST.start + len(_AFTER)):
                break
            entry = self._entry(line)
            if entry.key <= last:
                raise self._damaged("has a key that is not above the one before it")
            count, last = count + 1, entry.key
            yield entry
        if self._decoded(_footer, line).records != count:
            raise self._damaged(f"does not count the {count} records before it")
        if self._file.read(1):
            self._line, self._began = self._line + 1, self.size_bytes
            raise self._damaged("comes after the last line of the backup")

    def _next(self) -> bytes:
        """The next line, checked."""
        line = self._file.readline(LINE_BYTES_MAX)
        self._line += 1
        self._began = self.size_bytes
        self.size_bytes += len(line)
        if not line:
            raise self._damaged("is missing: the file is cut short")
        if not line.startswith(_BEFORE):
            raise self._damaged("does not begin with a checksum" + self._why(line))
        if not line.endswith(b"\n"):
            raise self._damaged(
                "has no end: the file is cut short, or the line changed"
            )
        rest = line[_REST]
        expected = _sum(self._sum, rest)
        if line[_DIGITS] != expected or not rest.startswith(_AFTER):
            raise self._damaged(
                "does not match its checksum: it was changed, or it is not the line that "
                "was written here"
            )
        self._sum = expected
        return line

    def _why(self, line: bytes) -> str:
        """What the beginning of the file tells of why it is none."""
        if self._line > 1:
            return ""
        if line.startswith(codecs.BOM_UTF8):
            return (
                " but with a byte order mark: some program saved the file anew; restore "
                "from the one that the backup wrote"
            )
        return f", so this is no {FORMAT} file or its beginning is damaged"

    def _entry(self, line: bytes) -> Entry:
        found = self._decoded(_found, line)
        if (found.text is None) is (found.value == Raw(b"")):
            raise self._damaged("has not exactly one of value and text")
        value = found.value if found.text is None else Raw(found.text.encode())
        return Entry(found.key, found.version, value, found.expires_at_ms)

    def _decoded(self, decode: Callable[[bytes], T], line: bytes) -> T:
        try:
            return decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self._damaged(f"is none of a {FORMAT} file: {error}") from error

    def _damaged(self, what: str) -> Damaged:
        return Damaged(self._line, self._began, what)


def check(
    file: IO[bytes], tell: Callable[[int, int], None] = lambda records, size: None
) -> Summary:
    """Read all of an archive; Damaged if any of it is not as it was written.

    `tell` is called now and then with the records and bytes that were read so far.
    """
    reader = ArchiveReader(file)
    count = expiring = 0
    lowest, highest = "~", ""  # versions sort as their texts do
    for entry in reader:
        count += 1
        expiring += entry.expires_at_ms > 0
        lowest, highest = min(lowest, entry.version), max(highest, entry.version)
        if count % TELL_EVERY == 0:
            tell(count, reader.size_bytes)
    return Summary(
        reader.header,
        count,
        reader.size_bytes,
        lowest if count else None,
        highest if count else None,
        expiring,
    )


def _sum(before: bytes, rest: bytes) -> bytes:
    state = xxhash.xxh3_128(before)
    state.update(rest)
    return state.hexdigest().encode()
