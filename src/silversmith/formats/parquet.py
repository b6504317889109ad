"""Parquet: rows as they are. A footer that lies ends in a DataError, never in a crash.

The footer and the headers of pages are read here, too, as Polars believes counts and ignores checksums. Without that
v2nulls.parquet and int96.parquet of tests/data/faults, and any file with a changed byte in a page, are read as other
values than were written, and packed.parquet takes 200 times its size in memory. Metadata that cannot be understood here
is left to Polars to refuse.

https://parquet.apache.org/docs/file-format/data-pages/checksumming/
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
https://github.com/apache/parquet-format/blob/master/Encodings.md
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

import polars as pl
import polars.selectors as cs
from polars.exceptions import DuplicateError, PanicException, PolarsError

from silversmith.errors import DataError, DefinitionError, Place, count
from silversmith.formats.archives.content import Content
from silversmith.formats.table import ROW, Table, checked_names, col, function_memory, shorten
from silversmith.formats.text import texts_problem

#: A file in memory is read at once if it has no more cells than this. A few bytes of Parquet may stand for millions.
MOST_CELLS = 4_000_000

#: Nor if its pages have more bytes than this, once they are unpacked.
MOST_BYTES = 32 * 1024 * 1024

#: Memory that the function takes beside a row group, in bytes: Polars alone has 85 MB.
BESIDE = 128 * 1024 * 1024

_MEGA = 1024 * 1024

#: The latest timestamp in nanoseconds, which Polars makes of all that are out of reach.
_LATEST = 2**63 - 1

_UNSUPPORTED = re.compile(r"not (?:yet )?(?:implemented|supported)|unsupported|precision must be", re.IGNORECASE)
_PANIC = re.compile(r"Result::unwrap|Option::unwrap|JoinError|panicked|assertion|out of range for slice|ErrString")

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
class Parquet:
    """Read as Parquet, whatever the name. Such files say nearly all else themselves.

    Args:
        null_values: texts that mean null, exactly so, in columns of text: ``-`` in logs.

    Raises:
        DefinitionError: they are no list of texts.
    """

    null_values: Collection[str] = field(default=(), metadata={"added later": True})

    def __post_init__(self) -> None:
        problem = texts_problem("null_values", self.null_values)
        if problem:
            raise DefinitionError(f"Parquet({problem}")
        object.__setattr__(self, "null_values", tuple(sorted(self.null_values)))


_PLAIN = Parquet()


def read(content: Content, options: Parquet = _PLAIN) -> Table:
    """The rows of a Parquet file.

    Raises:
        DataError: ``UnreadableParquet``, ``UnsupportedParquet``, ``EmptyFile`` … : the file cannot be read. Damage
            within its pages shows only when the rows are collected: see :func:`silversmith.formats.reading_errors`.
    """
    if content.size == 0:
        raise DataError("EmptyFile", "the file is empty", hint="put it again with data")
    footer = read_footer(content)
    if footer is not None:
        _check_types(footer)
        check_memory(footer, function_memory())
    with unreadable():
        source = content.data if content.data is not None else content.path
        assert source is not None
        rows = pl.scan_parquet(source, glob=False, hive_partitioning=False)
        names = rows.collect_schema().names()
        checked_names([name for name in names if name == ROW])
        if footer is not None:
            verify(content, footer)
            _check_values(rows, footer)
        rows = rows.with_row_index(ROW, offset=1).with_columns(pl.col(ROW).cast(pl.UInt64))
        if options.null_values:
            rows = rows.with_columns(cs.string().replace(list(options.null_values), None))
        height: int = rows.select(pl.len()).collect().item()
        is_small = footer is not None and footer.unpacked <= MOST_BYTES and height * len(names) <= MOST_CELLS
        frame = rows.collect() if content.data is not None and is_small else None
    return Table(
        frame.lazy() if frame is not None else rows,
        "parquet" + content.packing,
        frame,
        height=height,
        scratch=content.scratch,
        row_bytes=footer.unpacked // max(1, height) if footer is not None else 0,
    )


def check_memory(footer: Footer, limit: int | None) -> None:
    """Refuse a file with a row group, which is decoded whole, that does not fit into ``limit`` bytes of memory.

    Raises:
        DataError: ``TooLarge``.
    """
    if limit is not None and footer.largest + BESIDE > limit:
        raise DataError(
            "TooLarge",
            f"a row group of the file takes {footer.largest // _MEGA:,} MB; the function has {limit // _MEGA:,}",
            hint="give the transform more memory: memory=…, or write the file with smaller row groups",
        )


def _check_types(footer: Footer) -> None:
    for leaf in footer.leaves:
        if leaf.unknown_type:
            raise _unsupported(leaf, f"has the type {leaf.unknown_type}, which is not read", "write it as another type")
        if leaf.repetition and (leaf.is_time or leaf.is_int96):
            what = "times of day" if leaf.is_time else "timestamps of 96 bits (INT96)"
            hint = "write them as timestamps in microseconds, or as text"
            raise _unsupported(leaf, f"has {what} in a list: they cannot be proved to be kept", hint)


def _check_values(rows: pl.LazyFrame, footer: Footer) -> None:
    """Polars makes null of a time of day beyond 24 hours, and of an old timestamp beyond its type the latest one."""
    nanoseconds = pl.Datetime("ns")  # an Arrow schema in the file may have microseconds, which wrap later
    int96 = [leaf for leaf in footer.leaves if leaf.is_int96]
    times = [leaf for leaf in footer.leaves if leaf.is_time]
    counts = [
        (cells.is_not_null() & cells.cast(nanoseconds, strict=False).to_physical().fill_null(_LATEST).eq(_LATEST)).sum()
        for cells in map(_path, int96)
    ]
    counts += [_path(leaf).null_count() for leaf in times]
    if not counts:
        return
    named = [count.alias(str(place)) for place, count in enumerate(counts)]
    numbers = rows.select(named).collect(engine="streaming").row(0)
    for leaf, number in zip(int96, numbers, strict=False):
        if number:
            hint = "write timestamps in microseconds; in Spark: spark.sql.parquet.outputTimestampType=TIMESTAMP_MICROS"
            raise _unsupported(leaf, "has timestamps of 96 bits (INT96) before 1677 or after 2262", hint)
    for leaf, number in zip(times, numbers[len(int96) :], strict=True):
        if number and number != footer.nulls(leaf):
            hint = "write it as a duration, or as text; if there are none, write statistics with the file"
            raise _unsupported(leaf, "has, or may have, times of day that are not between 00:00 and 24:00", hint)


def _path(leaf: Leaf) -> pl.Expr:
    cells = col(leaf.path[0])
    for name in leaf.path[1:]:
        cells = cells.struct.field(name)
    return cells


def _unsupported(leaf: Leaf, what: str, hint: str) -> DataError:
    place = Place(column=".".join(leaf.path))
    return DataError("UnsupportedParquet", f'the column "{leaf.label}" {what}', hint=hint, place=place)


@contextmanager
def unreadable(kind: str = "Parquet") -> Iterator[None]:
    """Polars' errors about the bytes of a file, panics among them, as DataError ``UnreadableParquet`` or the like."""
    try:
        yield
    except DuplicateError as error:
        raise DataError("DuplicateColumns", reason_of(error), hint="give each column its own name") from None
    except (PolarsError, PanicException, OSError) as error:
        raise fault_of(error, kind) from None


def fault_of(error: BaseException, kind: str) -> DataError:
    """An error of Polars about the bytes of a file, as DataError ``UnreadableParquet`` or ``UnsupportedParquet``."""
    if _UNSUPPORTED.search(str(error)):
        return DataError(
            f"Unsupported{kind}",
            f"the file has something that cannot be read: {reason_of(error)}",
            hint="write it with plain types: numbers, text, timestamps, lists, structs",
        )
    return not_whole(kind, reason_of(error))


def not_whole(kind: str, why: str) -> DataError:
    """The error for a file that is damaged."""
    return DataError(
        f"Unreadable{kind}",
        f"the file is not whole {kind}: {shorten(why, 200)}",
        hint="it may have been cut off or damaged while it was written or sent: write and put it again",
    )


def reason_of(error: BaseException) -> str:
    """The first line of what an error says, for people: nothing of a panic, whose words are for Polars' authors."""
    reason = str(error).strip().partition("\n")[0]
    if isinstance(error, PanicException) or _PANIC.search(reason):
        return "a part of it cannot be decoded"
    return shorten(reason, 200)


# The footer, and the pages.


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
        return shorten(".".join(self.path))

    @property
    def is_int96(self) -> bool:
        """Whether it holds timestamps of 96 bits, which reach beyond what nanoseconds in 64 bits hold."""
        return self.physical == _INT96

    @property
    def unknown_type(self) -> str:
        """Of a type that Polars does not know; else empty."""
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
    """Compare every checksum that there is, and the counts of rows, values and nulls with one another."""
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
