"""The footer and the page headers of a Parquet file, read here because Polars believes counts and ignores checksums.

Without this module v2nulls.parquet and int96.parquet of tests/data/faults, and any file with a changed byte in a page,
are read as other values than were written, and packed.parquet takes 200 times its size in memory. Metadata that cannot
be understood here is left to Polars to refuse.

https://parquet.apache.org/docs/file-format/data-pages/checksumming/
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
https://github.com/apache/parquet-format/blob/master/Encodings.md
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

from silversmith.errors import DataError, Place, count
from silversmith.formats.archives.content import Content
from silversmith.formats.table import shorten

_MAGIC, _MAGIC_ENCRYPTED = b"PAR1", b"PARE"
_PIECE = 1024 * 1024

#: A page header mostly has some dozens of bytes, and a few thousand with statistics of long texts.
_HEADERS = (256, 16 * 1024, 4 * 1024 * 1024)

#: A footer that is larger is of very many columns and row groups: to read it here would take longer than the data.
_LARGEST_FOOTER = 16 * 1024 * 1024

#: How deep structs of Parquet's metadata are nested, with room.
_DEEPEST = 16

#: Kinds of pages, and the physical type of Impala's old timestamps.
_DATA, _DATA_V2 = 0, 3
_INT96 = 3

#: Logical types by their number in the union: those that Polars knows, and what the others are called.
_KNOWN_TYPES = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15})
_OTHER_TYPES = {-21: "INTERVAL", 16: "VARIANT", 17: "GEOMETRY", 18: "GEOGRAPHY"}
_TIME, _TIME_CONVERTED = 7, (7, 8)
_INTERVAL_CONVERTED = 21  # there is no logical type of it


@dataclass(frozen=True)
class Leaf:
    """One column of values: its path from the root, and how often it may be missing or repeated on the way."""

    path: tuple[str, ...]
    physical: int
    logical: int | None
    is_time: bool
    definition: int
    repetition: int

    @property
    def label(self) -> str:
        """The path as people write it."""
        return shorten(".".join(self.path))

    @property
    def is_int96(self) -> bool:
        """Whether it holds timestamps of 96 bits, which reach beyond what nanoseconds in 64 bits hold."""
        return self.physical == _INT96

    @property
    def unknown_type(self) -> str:
        """The logical type, if Polars does not know it; else empty."""
        if self.logical is None or self.logical in _KNOWN_TYPES:
            return ""
        return _OTHER_TYPES.get(self.logical, f"number {self.logical} of Parquet's logical types")


class _Chunk(NamedTuple):
    """The pages of one column in one row group: where they begin and end, in bytes, and how many values they have."""

    leaf: Leaf
    start: int
    end: int
    values: int
    nulls: int | None


@dataclass(frozen=True)
class Footer:
    """The summary at the end of a file: rows, the bytes of all pages once they are unpacked, and the most bytes that
    the columns of one row group take in memory."""

    rows: int
    unpacked: int
    largest: int
    leaves: Sequence[Leaf]
    groups: Sequence[tuple[int, Sequence[_Chunk]]]

    def nulls(self, leaf: Leaf) -> int | None:
        """The number of nulls of a column by its statistics; None: they do not say."""
        if not leaf.definition:
            return 0
        counts = [chunk.nulls for _, chunks in self.groups for chunk in chunks if chunk.leaf is leaf]
        return sum(count for count in counts if count is not None) if None not in counts else None


def read_footer(content: Content) -> Footer | None:
    """The footer; None where it cannot be understood, or is very large."""
    with content.open() as file:
        file.seek(max(0, content.size - 8))
        tail = file.read(8)
        length = int.from_bytes(tail[:4], "little")
        if tail[4:] == _MAGIC_ENCRYPTED:
            raise _encrypted()
        if tail[4:] != _MAGIC or length > min(content.size - 12, _LARGEST_FOOTER):
            return None
        file.seek(content.size - 8 - length)
        try:
            return _footer(_Thrift(file.read(length)).struct())
        except (IndexError, KeyError, TypeError, AttributeError, ValueError, RecursionError):
            return None


def _encrypted() -> DataError:
    return DataError(
        "UnsupportedParquet",
        "the file is encrypted, or some of its columns are, by Parquet's own encryption",
        hint="write it without: S3 encrypts every object that lies in it",
    )


def _footer(metadata: dict[int, Any]) -> Footer:
    if 8 in metadata:
        raise _encrypted()
    elements: Iterator[dict[int, Any]] = iter(metadata[2])
    leaves: list[Leaf] = []
    for _ in range(_number(next(elements, {}).get(5, 0))):
        _add_leaves(elements, (), 0, 0, leaves)
    groups = []
    unpacked = largest = 0
    for group in metadata.get(4, []):
        columns = [column[3] for column in group[1]]
        unpacked += sum(_number(column[6]) for column in columns)
        largest = max(largest, sum(map(_decoded, columns)))
        groups.append((_number(group[3]), [_chunk(column, leaf) for column, leaf in zip(columns, leaves, strict=True)]))
    return Footer(_number(metadata[3]), unpacked, largest, leaves, groups)


#: Bytes of a value in memory, by its physical type; of texts, those that each has beside its letters.
_WIDTHS = {0: 1, 1: 4, 2: 8, 3: 8, 4: 4, 5: 8, 6: 16, 7: 16}


def _decoded(column: dict[int, Any]) -> int:
    """The bytes of a column chunk in memory: encoded, a million equal numbers take a few."""
    return max(_number(column[6]), _number(column[5]) * _WIDTHS.get(_number(column[1]), 16))


def _add_leaves(
    elements: Iterator[dict[int, Any]],
    path: tuple[str, ...],
    definition: int,
    repetition: int,
    leaves: list[Leaf],
    *,
    above: int | None = None,
) -> None:
    """The columns of the next element of the schema and of those within it. ``above`` is the logical type of a group
    that Polars does not know, such as VARIANT: its columns mean nothing alone."""
    element = next(elements, None)
    if element is None or len(path) > _DEEPEST * 8:
        raise ValueError("the schema has no end")
    path = (*path, element[4].decode("utf-8", "replace"))
    required, repeated = element.get(3, 0) == 0, element.get(3, 0) == 2
    definition, repetition = definition + (not required), repetition + repeated
    children = _number(element.get(5, 0))
    logical = next(iter(element[10]), 0) if 10 in element else None
    logical = logical if above is None else above
    if children:
        above = None if logical is None or logical in _KNOWN_TYPES else logical
        for _ in range(children):
            _add_leaves(elements, path, definition, repetition, leaves, above=above)
        return
    logical = -_INTERVAL_CONVERTED if element.get(6) == _INTERVAL_CONVERTED else logical
    is_time = logical == _TIME or (logical is None and element.get(6) in _TIME_CONVERTED)
    leaves.append(Leaf(path, _number(element[1]), logical, is_time, definition, repetition))


def _chunk(metadata: dict[int, Any], leaf: Leaf) -> _Chunk:
    """The offset of the dictionary is left out where there is none, or 0."""
    start = min(_number(offset) for offset in (metadata.get(11), metadata[9]) if offset)
    nulls = metadata.get(12, {}).get(3)
    return _Chunk(
        leaf, start, start + _number(metadata[7]), _number(metadata[5]), None if nulls is None else _number(nulls)
    )


def _number(value: object) -> int:
    if type(value) is not int:
        raise TypeError("it is no number")
    return value


def verify(content: Content, footer: Footer) -> None:
    """Compare every checksum that there is, and the counts of rows, values and nulls with one another.

    Raises:
        DataError: ``UnreadableParquet``: a page is not what was written, or counts disagree.
    """
    rows = sum(height for height, _ in footer.groups)
    if rows != footer.rows:
        raise _disagree(f"the file says that it has {count(footer.rows, 'row')}, and its row groups have {rows:,}")
    with content.open() as file:
        for height, chunks in footer.groups:
            for chunk in chunks:
                if not chunk.leaf.repetition and chunk.values != height:
                    values = count(chunk.values, "value")
                    what = f'the column "{chunk.leaf.label}" has {values} in a row group of {count(height, "row")}'
                    raise _disagree(what, chunk.leaf)
                if 0 < chunk.start < chunk.end <= content.size:
                    _verify_pages(file, chunk)


def _verify_pages(file: BinaryIO, chunk: _Chunk) -> None:
    at, number, values = chunk.start, 0, 0
    while at < chunk.end:
        header = _header(file, at)
        if header is None:
            return
        fields, length = header
        at, number, size, checksum = at + length, number + 1, fields.get(3), fields.get(4)
        if not isinstance(size, int) or not 0 <= size <= chunk.end - at:
            return
        kind = fields.get(1)
        if isinstance(checksum, int) and _checksum(file, at, size) != checksum & 0xFFFFFFFF:
            raise _disagree(
                f'page {number} of the column "{chunk.leaf.label}", at byte {at:,}, is not what was written: its '
                "checksum is another",
                chunk.leaf,
            )
        data = fields.get(8 if kind == _DATA_V2 else 5, {})
        if isinstance(data, dict) and isinstance(data.get(1), int):
            values += data[1]
            if kind == _DATA_V2:
                _verify_nulls(file, at, size, data, chunk.leaf)
        at += size
    if values != chunk.values:
        what = (
            f'the column "{chunk.leaf.label}" has {values:,} values in its pages, and {chunk.values:,} by its metadata'
        )
        raise _disagree(what, chunk.leaf)


def _verify_nulls(file: BinaryIO, at: int, size: int, header: dict[int, Any], leaf: Leaf) -> None:
    """Compare the nulls that the header of a page tells with those that its definition levels have."""
    try:
        values, nulls, length, before = (_number(header[field]) for field in (1, 2, 5, 6))
    except (KeyError, TypeError):
        return
    if values < 0 or length < 0 or before < 0 or before + length > size:
        raise _disagree(f'a page of the column "{leaf.label}" says that its levels are longer than it is', leaf)
    file.seek(at + before)
    present = _count_present(file.read(length), values, leaf.definition) if leaf.definition else values
    if present is not None and values - present != nulls:
        what = f'a page of the column "{leaf.label}" says that it has {nulls:,} nulls, and it has {values - present:,}'
        raise _disagree(what, leaf)


def _count_present(levels: bytes, values: int, most: int) -> int | None:
    """The number of levels that are the highest, which is that of a value; None if they are unreadable.

    Runs of one level, and groups of eight levels packed into bits, follow one another.
    """
    width = most.bit_length()
    thrift, present = _Thrift(levels), 0
    try:
        while values > 0:
            head = thrift.varint()
            count = min(values, (head >> 1) * 8 if head & 1 else head >> 1)
            if head & 1:
                present += _count_packed(thrift.bytes((head >> 1) * width), count, width, most)
            elif int.from_bytes(thrift.bytes((width + 7) // 8), "little") == most:
                present += count
            values -= count
            if not count:
                return None
    except (IndexError, ValueError):
        return None
    return present


def _count_packed(packed: bytes, count: int, width: int, most: int) -> int:
    """The number of the first ``count`` levels, each of ``width`` bits, that are the highest one."""
    if width == 1:
        return (int.from_bytes(packed, "little") & ((1 << count) - 1)).bit_count()
    groups = (int.from_bytes(packed[start : start + width], "little") for start in range(0, len(packed), width))
    levels = [group >> (width * place) & ((1 << width) - 1) for group in groups for place in range(8)]
    return levels[:count].count(most)


def _disagree(what: str, leaf: Leaf | None = None) -> DataError:
    return DataError(
        "UnreadableParquet",
        what,
        hint="the file was damaged after it was written, or its writer has a fault: write and put it again",
        place=Place(column=".".join(leaf.path) if leaf else None),
    )


def _header(file: BinaryIO, at: int) -> tuple[dict[int, Any], int] | None:
    """The header of a page, and how many bytes it has."""
    for most in _HEADERS:
        file.seek(at)
        thrift = _Thrift(file.read(most))
        try:
            return thrift.struct(), thrift.at
        except IndexError:
            continue
        except ValueError:
            return None
    return None


def _checksum(file: BinaryIO, at: int, size: int) -> int:
    file.seek(at)
    checksum = 0
    while size > 0:
        piece = file.read(min(size, _PIECE))
        if not piece:
            break
        checksum = zlib.crc32(piece, checksum)
        size -= len(piece)
    return checksum


class _Thrift:
    """Reads structs of Thrift's compact protocol: their fields by number.

    Raises:
        IndexError: the bytes end too early.
        ValueError: they are no such thing.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        if depth > _DEEPEST:
            raise ValueError("too deep")
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._integer()
            kind = head & 15
            fields[number] = kind == 1 if kind in {1, 2} else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in {4, 5, 6}:
            return self._integer()
        if kind == 8:
            return self.bytes(self.varint())
        if kind == 12:
            return self.struct(depth + 1)
        if kind in {9, 10}:
            return self._list(depth)
        if kind in {1, 2, 3}:
            return self._byte()
        if kind == 7:
            return self.bytes(8)
        raise ValueError(f"{kind} is no type that Parquet's metadata has")

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        length = head >> 4 if head >> 4 < 15 else self.varint()
        return [self._value(head & 15, depth) for _ in range(length)]

    def _byte(self) -> int:
        self.at += 1
        return self._data[self.at - 1]

    def bytes(self, length: int) -> bytes:
        self.at += length
        if self.at > len(self._data):
            raise IndexError
        return self._data[self.at - length : self.at]

    def varint(self) -> int:
        """Seven bits a byte, the lowest first; the high bit says that more follow."""
        number, shift = 0, 0
        while True:
            byte = self._byte()
            number |= (byte & 127) << shift
            if byte < 128:
                return number
            shift += 7
            if shift > 63:
                raise ValueError("a number has more than 64 bits")

    def _integer(self) -> int:
        """Zigzag: 0, -1, 1, -2 … are 0, 1, 2, 3 …"""
        number = self.varint()
        return (number >> 1) ^ -(number & 1)
