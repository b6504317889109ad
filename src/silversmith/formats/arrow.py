"""Arrow's IPC formats: the file format, which is Feather of version 2, too, and the stream format.

Polars believes what messages say. So they are read here first, as much of FlatBuffers as that takes: without that
dup.arrow and listview.arrow of tests/data/faults end in a panic, time24.arrow has nulls where it had values, and a file
of a few kilobytes may take gigabytes of memory.
https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import BinaryIO

import polars as pl

from silversmith.errors import DataError, Place, count
from silversmith.formats import spill
from silversmith.formats.archives.content import Content
from silversmith.formats.parquet import MOST_CELLS, not_whole
from silversmith.formats.parquet import unreadable as reading
from silversmith.formats.table import ROW, Table, checked_names, col, shorten

MAGIC = b"ARROW1"

#: The most seconds that are a number of 64 bits in milliseconds, which is what Polars has.
_MOST_SECONDS = (2**63 - 1) // 1000

#: Bytes of a stream's messages that are decoded at once.
BLOCK = 8 * 1024 * 1024

#: The longest metadata of a message, and the longest body once unpacked, in bytes.
LONGEST_METADATA = 16 * 1024 * 1024
LONGEST_BODY = 256 * 1024 * 1024

MOST_MESSAGES = 500_000

#: Rows that a batch may have whatever its size: columns of nothing but nulls take no bytes.
FREE_ROWS = 1_000_000

#: How deep types may be nested, and how many there may be.
MOST_DEPTH = 64
MOST_TYPES = 100_000

#: Types that Polars does not have, by their number in Arrow's schema.
_UNSUPPORTED = {
    11: "an interval of months, days and nanoseconds",
    14: "a union",
    22: "run-end encoded",
    25: "a list view",
    26: "a large list view",
}
_DECIMAL, _DATE, _TIME, _TIMESTAMP, _STRUCT, _DURATION = 7, 8, 9, 10, 13, 18

#: How many buffers a node of each type has.
_BUFFERS = {1: 0, 13: 1, 16: 1, 23: -2, 24: -2, **dict.fromkeys((4, 5, 19, 20), 3)}
_BUFFERS |= dict.fromkeys((2, 3, 6, 7, 8, 9, 10, 12, 15, 17, 18, 21), 2)

_CONTINUED = b"\xff\xff\xff\xff"
_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3

#: New bytes of a message, by their place in it.
_Patches = Sequence[tuple[int, bytes]]


@dataclass(frozen=True)
class Arrow:
    """Read as Arrow, whatever the name: streams of before 2019 do not show what they are."""


@dataclass(frozen=True, slots=True)
class _Schema:
    """The checked parts of a schema: the columns that hold times of day, and the place of each among the nodes of a
    batch; the columns of moments or lengths of time in seconds; and how many buffers each node has, its validity first,
    below zero where the batch says how many more there are."""

    times: dict[str, int] = field(default_factory=dict)
    seconds: list[str] = field(default_factory=list)
    buffers: list[int] = field(default_factory=list)
    patches: list[tuple[int, bytes]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Message:
    """One message: where it begins, how long its metadata (with what stands before it) and its body are, its kind.

    ``schema`` is of a schema. ``nulls`` is of a batch: how many nulls each node has. ``patches`` make Polars read what
    is there: nulls where the batch says that there are none, and seconds, which it would multiply without a look.
    """

    offset: int
    metadata: int
    body: int
    kind: int
    rows: int
    schema: _Schema | None = None
    nulls: Sequence[int] = ()
    patches: _Patches = ()

    def bytes(self, file: BinaryIO) -> bytes:
        """With its patches."""
        file.seek(self.offset)
        data = file.read(self.metadata + self.body)
        for at, patch in self.patches:
            data = data[:at] + patch + data[at + len(patch) :]
        return data


def read(content: Content, *, block: int = BLOCK) -> Table:
    """The rows of an Arrow file or stream.

    Raises:
        DataError: ``EmptyFile``, ``UnreadableArrow``, ``UnsupportedArrow``, ``DuplicateColumns``, ``TooLarge``.
    """
    if content.size == 0:
        raise DataError("EmptyFile", "the file is empty", hint="put it again with data")
    with content.open() as file:
        if content.head(len(MAGIC)) == MAGIC:
            kind, messages = "arrow", list(_of_file(file, content.size))
            schema = _schema_of(messages)
            if not schema.patches and not any(message.patches for message in messages):
                return _read_file(content, messages, schema)
            first = _at(file, 8, content.size, _Schema())
            messages[:1] = [] if first is None else [first]
        else:
            kind, messages = "arrow-stream", list(_of_stream(file, content.size))
        return spill.table_of(
            _frames(file, messages, _schema_of(messages), block), kind + content.packing, content.scratch
        )


def _schema_of(messages: Sequence[_Message]) -> _Schema:
    schema = messages[0].schema if messages else None
    if schema is None:
        raise _unreadable("it does not begin with a schema")
    return schema


def _read_file(content: Content, messages: Sequence[_Message], schema: _Schema) -> Table:
    batches = [message for message in messages if message.kind == _BATCH]
    height = sum(batch.rows for batch in batches)
    source = content.data if content.data is not None else content.path
    assert source is not None
    with reading("Arrow"):
        rows = pl.scan_ipc(source, glob=False, hive_partitioning=False)
        names = rows.collect_schema().names()
        checked_names([name for name in names if name == ROW])
        rows = rows.with_row_index(ROW, offset=1).with_columns(pl.col(ROW).cast(pl.UInt64))
        if schema.times:
            nulls = rows.select(col(name).null_count() for name in schema.times).collect(engine="streaming")
            _check_times(schema, batches, nulls.row(0, named=True))
        is_small = content.data is not None and height * len(names) <= MOST_CELLS
        frame = rows.collect() if is_small else None
    _check_height(frame, height)
    return Table(
        frame.lazy() if frame is not None else rows,
        "arrow" + content.packing,
        frame,
        height=height,
        scratch=content.scratch,
    )


def _check_height(frame: pl.DataFrame | None, rows: int) -> None:
    if frame is not None and frame.height != rows:
        raise _unreadable(f"its batches say that they have {count(rows, 'row')}, and {frame.height:,} are there")


def _check_times(schema: _Schema, batches: Sequence[_Message], nulls: Mapping[str, int]) -> None:
    """Compare the nulls that batches say that their times of day have with those that were read: Polars makes null of a
    time that is not between 00:00 and 24:00."""
    for name, node in schema.times.items():
        expected = sum(batch.nulls[node] if node < len(batch.nulls) else 0 for batch in batches)
        if nulls[name] != expected:
            raise _unsupported(name, "has times of day that are not between 00:00 and 24:00")


def _frames(file: BinaryIO, messages: Sequence[_Message], schema: _Schema, size: int) -> Iterator[pl.DataFrame]:
    """Batches, some at a time, as frames: each time after the schema and the dictionaries before them."""
    first, *others = messages
    lead = [first.bytes(file)]
    types: Mapping[str, pl.DataType] = {}
    if schema.seconds:
        types = _polars([replace(first, patches=()).bytes(file)]).schema
    pending: list[bytes] = []
    batches: list[_Message] = []
    dictionaries: list[bytes] = []
    waiting, yielded = 0, False
    for message in others:
        data = message.bytes(file)
        pending.append(data)
        if message.kind == _BATCH:
            batches.append(message)
        else:
            dictionaries.append(data)
        waiting += len(data)
        if waiting >= size:
            yield _decoded([*lead, *pending], batches, schema, types)
            lead += dictionaries
            pending, dictionaries, batches, waiting, yielded = [], [], [], 0, True
    if pending or not yielded:
        yield _decoded([*lead, *pending], batches, schema, types)


def _polars(parts: list[bytes]) -> pl.DataFrame:
    with reading("Arrow"):
        return pl.read_ipc_stream(io.BytesIO(b"".join(parts)))


def _decoded(
    parts: list[bytes], batches: Sequence[_Message], schema: _Schema, types: Mapping[str, pl.DataType]
) -> pl.DataFrame:
    frame = _polars(parts)
    checked_names(frame.columns)
    _check_height(frame, sum(batch.rows for batch in batches))
    _check_times(schema, batches, {name: frame[name].null_count() for name in schema.times})
    return frame.with_columns(_of_seconds(frame[name], types[name]) for name in schema.seconds)


def _of_seconds(column: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Seconds, which were read as if they were milliseconds."""
    seconds = column.to_physical()
    if not seconds.is_between(-_MOST_SECONDS, _MOST_SECONDS).all():
        raise _unsupported(column.name, "has seconds of which no 64 bits of milliseconds can be made")
    return (seconds * 1000).cast(dtype)


# The messages: that they lie within the file, and are of bounded size once unpacked.


class _Flat:
    """FlatBuffers, every offset checked. https://flatbuffers.dev/internals/"""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def _number(self, form: str, at: int) -> int:
        if at < 0:
            raise _unreadable("an offset in its metadata is below zero")
        try:
            (number,) = struct.unpack_from(form, self._data, at)
        except struct.error:
            raise _unreadable("an offset in its metadata is beyond its end") from None
        return int(number)

    def root(self) -> int:
        return self._number("<I", 0)

    def place(self, table: int, field: int) -> int | None:
        """The position of a field of a table; None if it is left out."""
        vtable = table - self._number("<i", table)
        if 4 + 2 * field >= self._number("<H", vtable):
            return None
        offset = self._number("<H", vtable + 4 + 2 * field)
        return table + offset if offset else None

    def number(self, table: int, field: int, form: str) -> int:
        at = self.place(table, field)
        return 0 if at is None else self._number(form, at)

    def table(self, table: int, field: int) -> int | None:
        at = self.place(table, field)
        return None if at is None else at + self._number("<I", at)

    def structs(self, table: int, field: int, form: str) -> list[tuple[int, ...]]:
        """A vector of structs, each as its numbers."""
        return list(struct.iter_unpack(form, self._vector(table, field, struct.calcsize(form), "list")))

    def text(self, table: int, field: int) -> str:
        """A text; empty where it is left out."""
        return self._vector(table, field, 1, "name").decode("utf-8", "replace")

    def _vector(self, table: int, field: int, size: int, noun: str) -> bytes:
        at = self.table(table, field)
        if at is None:
            return b""
        end = at + 4 + self._number("<I", at) * size
        if end > len(self._data):
            raise _unreadable(f"a {noun} in its metadata is beyond its end")
        return self._data[at + 4 : end]

    def tables(self, table: int, field: int) -> list[int]:
        """A vector of tables: where each is."""
        at = self.table(table, field)
        if at is not None and self._number("<I", at) > MOST_TYPES:
            raise _unreadable("its schema has too many types")
        offsets = self.structs(table, field, "<I")
        return [] if at is None else [at + 4 + 4 * place + offset for place, (offset,) in enumerate(offsets)]


def _of_stream(file: BinaryIO, size: int) -> Iterator[_Message]:
    """The messages of a stream, to the mark of its end; it may do without."""
    offset, passed, schema = 0, 0, _Schema()
    while offset < size:
        passed += 1
        if passed > MOST_MESSAGES:
            raise DataError("TooLarge", f"it has more than {MOST_MESSAGES:,} batches", hint="write larger batches")
        message = _at(file, offset, size, schema)
        if message is None:
            return
        schema = message.schema or schema
        yield message
        offset += message.metadata + message.body


def _of_file(file: BinaryIO, size: int) -> Iterator[_Message]:
    """The schema, batches and dictionaries of a file in Arrow's file format, whose end says where they are."""
    file.seek(max(0, size - 10))
    tail = file.read(10)
    length = int.from_bytes(tail[:4], "little", signed=True)
    if tail[4:] != MAGIC or not 0 < length <= min(LONGEST_METADATA, size - 10):
        raise _unreadable("it does not end as Arrow does")
    file.seek(size - 10 - length)
    flat = _Flat(file.read(length))
    root = flat.root()
    schema = flat.table(root, 1)
    if schema is None:
        raise _unreadable("its end has no schema")
    parsed = _schema(flat, schema)
    yield _Message(0, 0, 0, _SCHEMA, 0, parsed)
    end = 0
    for offset, metadata, body in sorted(flat.structs(root, 2, "<qi4xq") + flat.structs(root, 3, "<qi4xq")):
        message = _at(file, offset, size, parsed) if offset >= end else None
        if message is None or (message.metadata, message.body) != (metadata, body):
            raise _unreadable("its end does not say where its batches are")
        end = offset + metadata + body
        yield message


def _at(file: BinaryIO, offset: int, size: int, schema: _Schema) -> _Message | None:
    """The message that begins there; None for the mark of the end."""
    if not 0 <= offset <= size:  # no file can be so long, and the system would say so in words of its own
        raise _unreadable("a batch lies beyond its end")
    file.seek(offset)
    prefix = file.read(8)
    lead = 8 if prefix.startswith(_CONTINUED) else 4  # files of before 2019 have no continuation mark
    length = int.from_bytes(prefix[lead - 4 : lead], "little", signed=True)
    if len(prefix) < lead:
        raise _unreadable("it ends in the middle")
    if length == 0:
        return None
    if not 0 < length <= LONGEST_METADATA:
        raise _unreadable(f"a message's metadata has {length:,} bytes")
    file.seek(offset + lead)
    message = _message(_Flat(file.read(length)), file, offset, lead + length, size, schema)
    return replace(message, patches=[(lead + place, patch) for place, patch in message.patches])


def _message(  # noqa: PLR0917
    flat: _Flat, file: BinaryIO, offset: int, metadata: int, size: int, schema: _Schema
) -> _Message:
    root = flat.root()
    kind, body = flat.number(root, 1, "<B"), flat.number(root, 3, "<q")
    header = flat.table(root, 2)
    if header is None or body < 0 or offset + metadata + body > size:
        raise _unreadable("it ends in the middle")
    if kind == _SCHEMA:
        schema = _schema(flat, header)
        return _Message(offset, metadata, body, kind, 0, schema, patches=schema.patches)
    if kind not in {_DICTIONARY, _BATCH}:
        raise _unreadable(f"it has a message of the unknown kind {kind}")
    batch = header if kind == _BATCH else flat.table(header, 1)
    if batch is None:
        raise _unreadable("a dictionary has no values")
    rows = flat.number(batch, 0, "<q")
    _check_size(_unpacked(flat, batch, file, offset + metadata, body), rows)
    if kind == _DICTIONARY:
        return _Message(offset, metadata, body, kind, rows)
    nulls = [nulls for _, nulls in flat.structs(batch, 1, "<qq")]
    return _Message(offset, metadata, body, kind, rows, nulls=nulls, patches=_hidden_nulls(flat, batch, schema))


def _hidden_nulls(flat: _Flat, batch: int, schema: _Schema) -> _Patches:
    """A count of 1 for each node that has a bitmap and says that it has no nulls: else Polars does not look at it."""
    nodes, buffers = flat.structs(batch, 1, "<qq"), flat.structs(batch, 2, "<qq")
    more = iter(flat.structs(batch, 4, "<q"))
    empty = 8 if flat.place(batch, 3) is not None else 0  # compressed, nothing has its length before it
    start = flat.table(batch, 1)
    places, first = [], 0
    for place, ((rows, nulls), number) in enumerate(zip(nodes, schema.buffers, strict=False)):
        if rows and not nulls and number and 0 <= first < len(buffers) and buffers[first][1] > empty:
            places.append((start or 0) + 4 + 16 * place + 8)
        first += number if number >= 0 else 2 + next(more, (0,))[0]
    return [(place, struct.pack("<q", 1)) for place in places]


def _schema(flat: _Flat, schema: int) -> _Schema:
    if flat.number(schema, 0, "<h"):
        raise DataError(
            "UnsupportedArrow",
            "its numbers are in big-endian byte order",
            hint="write it in little-endian byte order, as all current machines do",
        )
    fields = flat.tables(schema, 1)
    parsed = _Schema()
    for name, column in zip(checked_names([flat.text(column, 0) for column in fields]), fields, strict=True):
        if flat.number(column, 2, "<B") == _TIME:
            parsed.times[name] = len(parsed.buffers)
        _add_nodes(flat, column, name, 1, parsed)
    return parsed


def _add_nodes(flat: _Flat, field: int, column: str, depth: int, schema: _Schema) -> None:
    """The nodes that a field has in a batch, its own and those of the fields within it."""
    kind = flat.number(field, 2, "<B")
    if kind not in _BUFFERS:
        raise _unsupported(column, f"is, or has in it, {_UNSUPPORTED.get(kind, f'type number {kind} of Arrow')}")
    if kind == _TIME and depth > 1:
        raise _unsupported(column, "has times of day in a list or a struct: they cannot be proved to be kept")
    patches = _as_milliseconds(flat, field, kind)
    if patches and depth > 1:
        raise _unsupported(column, "has moments in seconds in a list or a struct: they cannot be proved to be kept")
    if patches:
        schema.seconds.append(column)
        schema.patches.extend(patches)
    if kind == _DECIMAL and (place := flat.table(field, 3)) is not None and flat.number(place, 2, "<i") > 128:
        raise _unsupported(column, "has decimals of 256 bits")
    if depth > MOST_DEPTH:
        raise _unsupported(column, f"is nested more than {MOST_DEPTH} deep")
    is_dictionary = flat.place(field, 4) is not None
    schema.buffers.append(2 if is_dictionary else _BUFFERS[kind])
    if len(schema.buffers) > MOST_TYPES:
        raise _unsupported(column, "has, or is one of, too many fields")
    within = _Schema() if is_dictionary else schema
    if kind == _STRUCT:
        checked_names([name for inner in flat.tables(field, 5) if (name := flat.text(inner, 0)) != ROW])
    for inner in flat.tables(field, 5):
        _add_nodes(flat, inner, column, depth + 1, within)


def _as_milliseconds(flat: _Flat, field: int, kind: int) -> _Patches:
    """Patches from seconds to milliseconds: a moment becomes a date of 64 bits, which has that unit."""
    unit = flat.table(field, 3)
    if kind not in {_TIMESTAMP, _DURATION} or unit is None or flat.place(field, 4) is not None:
        return []
    at, place = flat.place(unit, 0), flat.place(field, 2)
    is_seconds = flat.number(unit, 0, "<h") == 0 if at is not None else kind == _TIMESTAMP
    if not is_seconds or place is None:
        return []
    patches = [(at, struct.pack("<h", 1))] if at is not None else []
    return [*patches, (place, bytes([_DATE]))] if kind == _TIMESTAMP else patches


def _unpacked(flat: _Flat, batch: int, file: BinaryIO, start: int, body: int) -> int:
    """The bytes of a batch's buffers; where they are compressed, each begins with how many it unpacks to."""
    is_compressed = flat.place(batch, 3) is not None
    total = 0
    for begin, length in flat.structs(batch, 2, "<qq"):
        if begin < 0 or length < 0 or begin + length > body:
            raise _unreadable("a buffer lies beyond its message")
        unpacked = length
        if is_compressed and length:
            file.seek(start + begin)
            unpacked = int.from_bytes(file.read(min(8, length)), "little", signed=True)
            unpacked = length if unpacked == -1 else unpacked
            if unpacked < 0:
                raise _unreadable("a buffer's length is below zero")
        total += unpacked
    return total


def _check_size(size: int, rows: int) -> None:
    if size > LONGEST_BODY:
        raise DataError(
            "TooLarge",
            f"a record batch has {size:,} bytes; at most {LONGEST_BODY:,} are read at once",
            hint="write it in smaller batches",
        )
    if not 0 <= rows <= FREE_ROWS + 8 * size:
        raise _unreadable(f"a record batch says that it has {rows:,} rows in {size:,} bytes")


def _unsupported(column: str, what: str) -> DataError:
    """The error for a column of a type, or with values, that cannot be kept."""
    return DataError(
        "UnsupportedArrow",
        f'the column "{shorten(column)}" {what}, which is not read',
        hint="write it with plain types: numbers, text, timestamps, lists, structs",
        place=Place(column=column),
    )


def _unreadable(why: str) -> DataError:
    return not_whole("Arrow", why)
