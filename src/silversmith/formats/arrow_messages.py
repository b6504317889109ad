"""The messages of Arrow's IPC formats: that they lie within the file, and are of bounded size once unpacked.

Polars believes what messages say. So they are read here first, as much of FlatBuffers as that takes: without this
module dup.arrow and listview.arrow of tests/data/faults end in a panic, time24.arrow has nulls where it had values, and
a file of a few kilobytes may take gigabytes of memory.
https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from silversmith.errors import DataError, Place
from silversmith.formats.table import ROW, checked_names, shorten

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
SCHEMA, DICTIONARY, BATCH = 1, 2, 3


#: New bytes of a message, by their place in it.
Patches = Sequence[tuple[int, bytes]]


@dataclass(frozen=True, slots=True)
class IpcSchema:
    """The checked parts of a schema: the columns that hold times of day, and the place of each among the nodes of a
    batch; the columns of moments or lengths of time in seconds; and how many buffers each node has, its validity first,
    below zero where the batch says how many more there are."""

    times: dict[str, int] = field(default_factory=dict)
    seconds: list[str] = field(default_factory=list)
    buffers: list[int] = field(default_factory=list)
    patches: list[tuple[int, bytes]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class IpcMessage:
    """One message: where it begins, how long its metadata (with what stands before it) and its body are, its kind.

    ``schema`` is of a schema. ``nulls`` is of a batch: how many nulls each node has. ``patches`` make Polars read what
    is there: nulls where the batch says that there are none, and seconds, which it would multiply without a look.
    """

    offset: int
    metadata: int
    body: int
    kind: int
    rows: int
    schema: IpcSchema | None = None
    nulls: Sequence[int] = ()
    patches: Patches = ()


class Flat:
    """FlatBuffers, every offset checked. https://flatbuffers.dev/internals/"""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def _number(self, form: str, at: int) -> int:
        if at < 0:
            raise unreadable("an offset in its metadata is below zero")
        try:
            (number,) = struct.unpack_from(form, self._data, at)
        except struct.error:
            raise unreadable("an offset in its metadata is beyond its end") from None
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
        at = self.table(table, field)
        if at is None:
            return []
        count, size = self._number("<I", at), struct.calcsize(form)
        if at + 4 + count * size > len(self._data):
            raise unreadable("a list in its metadata is beyond its end")
        return list(struct.iter_unpack(form, self._data[at + 4 : at + 4 + count * size]))

    def text(self, table: int, field: int) -> str:
        """A text; empty where it is left out."""
        at = self.table(table, field)
        if at is None:
            return ""
        length = self._number("<I", at)
        if at + 4 + length > len(self._data):
            raise unreadable("a name in its metadata is beyond its end")
        return self._data[at + 4 : at + 4 + length].decode("utf-8", "replace")

    def tables(self, table: int, field: int) -> list[int]:
        """A vector of tables: where each is."""
        at = self.table(table, field)
        if at is not None and self._number("<I", at) > MOST_TYPES:
            raise unreadable("its schema has too many types")
        offsets = self.structs(table, field, "<I")
        return [] if at is None else [at + 4 + 4 * place + offset for place, (offset,) in enumerate(offsets)]


def of_stream(file: BinaryIO, size: int) -> Iterator[IpcMessage]:
    """The messages of a stream, to the mark of its end; it may do without.

    Raises:
        DataError: ``UnreadableArrow``, ``UnsupportedArrow``, ``TooLarge``.
    """
    offset, passed, schema = 0, 0, IpcSchema()
    while offset < size:
        passed += 1
        _check_number(passed)
        message = _at(file, offset, size, schema)
        if message is None:
            return
        schema = message.schema or schema
        yield message
        offset += message.metadata + message.body


def _check_number(number: int) -> None:
    if number > MOST_MESSAGES:
        raise DataError("TooLarge", f"it has more than {MOST_MESSAGES:,} batches", hint="write larger batches")


def _at(file: BinaryIO, offset: int, size: int, schema: IpcSchema) -> IpcMessage | None:
    """The message that begins there; None for the mark of the end."""
    if not 0 <= offset <= size:  # no file can be so long, and the system would say so in words of its own
        raise unreadable("a batch lies beyond its end")
    file.seek(offset)
    prefix = file.read(8)
    lead = 8 if prefix.startswith(_CONTINUED) else 4  # files of before 2019 have no continuation mark
    length = int.from_bytes(prefix[lead - 4 : lead], "little", signed=True)
    if len(prefix) < lead:
        raise unreadable("it ends in the middle")
    if length == 0:
        return None
    if not 0 < length <= LONGEST_METADATA:
        raise unreadable(f"a message's metadata has {length:,} bytes")
    file.seek(offset + lead)
    message = _message(Flat(file.read(length)), file, offset, lead + length, size, schema)
    return replace(message, patches=[(lead + place, patch) for place, patch in message.patches])


def _message(  # noqa: PLR0917
    flat: Flat, file: BinaryIO, offset: int, metadata: int, size: int, schema: IpcSchema
) -> IpcMessage:
    root = flat.root()
    kind, body = flat.number(root, 1, "<B"), flat.number(root, 3, "<q")
    header = flat.table(root, 2)
    if header is None or body < 0 or offset + metadata + body > size:
        raise unreadable("it ends in the middle")
    if kind == SCHEMA:
        schema = _schema(flat, header)
        return IpcMessage(offset, metadata, body, kind, 0, schema, patches=schema.patches)
    if kind not in {DICTIONARY, BATCH}:
        raise unreadable(f"it has a message of the unknown kind {kind}")
    batch = header if kind == BATCH else flat.table(header, 1)
    if batch is None:
        raise unreadable("a dictionary has no values")
    rows = flat.number(batch, 0, "<q")
    _check_size(_unpacked(flat, batch, file, offset + metadata, body), rows)
    if kind == DICTIONARY:
        return IpcMessage(offset, metadata, body, kind, rows)
    nulls = [count for _, count in flat.structs(batch, 1, "<qq")]
    return IpcMessage(offset, metadata, body, kind, rows, nulls=nulls, patches=_hidden_nulls(flat, batch, schema))


def _hidden_nulls(flat: Flat, batch: int, schema: IpcSchema) -> Patches:
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


def _schema(flat: Flat, schema: int) -> IpcSchema:
    """Read a schema.

    Raises:
        DataError: ``UnsupportedArrow``, ``DuplicateColumns``, ``ReservedColumn``, ``TooManyColumns``.
    """
    if flat.number(schema, 0, "<h"):
        raise DataError(
            "UnsupportedArrow",
            "its numbers are in big-endian byte order",
            hint="write it in little-endian byte order, as all current machines do",
        )
    fields = flat.tables(schema, 1)
    checked_names([flat.text(column, 0) for column in fields])
    parsed = IpcSchema()
    for column in fields:
        name = flat.text(column, 0)
        if flat.number(column, 2, "<B") == _TIME:
            parsed.times[name] = len(parsed.buffers)
        _add_nodes(flat, column, name, 1, parsed)
    return parsed


def _add_nodes(flat: Flat, field: int, column: str, depth: int, schema: IpcSchema) -> None:
    """The nodes that a field has in a batch, its own and those of the fields within it."""
    kind = flat.number(field, 2, "<B")
    if kind not in _BUFFERS:
        raise unsupported(column, f"is, or has in it, {_UNSUPPORTED.get(kind, f'type number {kind} of Arrow')}")
    if kind == _TIME and depth > 1:
        raise unsupported(column, "has times of day in a list or a struct: they cannot be proved to be kept")
    patches = _as_milliseconds(flat, field, kind)
    if patches and depth > 1:
        raise unsupported(column, "has moments in seconds in a list or a struct: they cannot be proved to be kept")
    if patches:
        schema.seconds.append(column)
        schema.patches.extend(patches)
    if kind == _DECIMAL and (place := flat.table(field, 3)) is not None and flat.number(place, 2, "<i") > 128:
        raise unsupported(column, "has decimals of 256 bits")
    if depth > MOST_DEPTH:
        raise unsupported(column, f"is nested more than {MOST_DEPTH} deep")
    is_dictionary = flat.place(field, 4) is not None
    schema.buffers.append(2 if is_dictionary else _BUFFERS[kind])
    if len(schema.buffers) > MOST_TYPES:
        raise unsupported(column, "has, or is one of, too many fields")
    within = IpcSchema() if is_dictionary else schema
    if kind == _STRUCT:
        checked_names([name for inner in flat.tables(field, 5) if (name := flat.text(inner, 0)) != ROW])
    for inner in flat.tables(field, 5):
        _add_nodes(flat, inner, column, depth + 1, within)


def _as_milliseconds(flat: Flat, field: int, kind: int) -> Patches:
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


def unsupported(column: str, what: str) -> DataError:
    """The error for a column of a type, or with values, that cannot be kept."""
    return DataError(
        "UnsupportedArrow",
        f'the column "{shorten(column)}" {what}, which is not read',
        hint="write it with plain types: numbers, text, timestamps, lists, structs",
        place=Place(column=column),
    )


def _unpacked(flat: Flat, batch: int, file: BinaryIO, start: int, body: int) -> int:
    """The bytes of a batch's buffers; where they are compressed, each begins with how many it unpacks to."""
    is_compressed = flat.place(batch, 3) is not None
    total = 0
    for begin, length in flat.structs(batch, 2, "<qq"):
        if begin < 0 or length < 0 or begin + length > body:
            raise unreadable("a buffer lies beyond its message")
        unpacked = length
        if is_compressed and length:
            file.seek(start + begin)
            unpacked = int.from_bytes(file.read(min(8, length)), "little", signed=True)
            unpacked = length if unpacked == -1 else unpacked
            if unpacked < 0:
                raise unreadable("a buffer's length is below zero")
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
        raise unreadable(f"a record batch says that it has {rows:,} rows in {size:,} bytes")


def of_file(file: BinaryIO, size: int) -> Iterator[IpcMessage]:
    """The schema, batches and dictionaries of a file in Arrow's file format, whose end says where they are.

    Raises:
        DataError: ``UnreadableArrow``, ``UnsupportedArrow``, ``TooLarge``.
    """
    file.seek(max(0, size - 10))
    tail = file.read(10)
    length = int.from_bytes(tail[:4], "little", signed=True)
    if tail[4:] != b"ARROW1" or not 0 < length <= min(LONGEST_METADATA, size - 10):
        raise unreadable("it does not end as Arrow does")
    file.seek(size - 10 - length)
    flat = Flat(file.read(length))
    root = flat.root()
    schema = flat.table(root, 1)
    if schema is None:
        raise unreadable("its end has no schema")
    parsed = _schema(flat, schema)
    yield IpcMessage(0, 0, 0, SCHEMA, 0, parsed)
    end = 0
    for offset, metadata, body in sorted(flat.structs(root, 2, "<qi4xq") + flat.structs(root, 3, "<qi4xq")):
        message = _at(file, offset, size, parsed) if offset >= end else None
        if message is None or (message.metadata, message.body) != (metadata, body):
            raise unreadable("its end does not say where its batches are")
        end = offset + metadata + body
        yield message


def first_of_file(file: BinaryIO, size: int) -> IpcMessage:
    """The schema with which a file begins, as a stream does.

    Raises:
        DataError: ``UnreadableArrow``, ``UnsupportedArrow``.
    """
    message = _at(file, 8, size, IpcSchema())
    if message is None or message.schema is None:
        raise unreadable("it does not begin with a schema")
    return message


def check_times(times: Mapping[str, int], batches: Sequence[IpcMessage], nulls: Mapping[str, int]) -> None:
    """Compare the nulls that batches say that their times of day have with those that were read: Polars makes null of a
    time that is not between 00:00 and 24:00.

    Raises:
        DataError: ``UnsupportedArrow``.
    """
    for name, node in times.items():
        expected = sum(batch.nulls[node] if node < len(batch.nulls) else 0 for batch in batches)
        if nulls[name] != expected:
            raise unsupported(name, "has times of day that are not between 00:00 and 24:00")


def unreadable(why: str) -> DataError:
    """The error for what is no whole Arrow."""
    return DataError(
        "UnreadableArrow",
        f"the file is not whole Arrow: {shorten(why, 200)}",
        hint="it may have been cut off or damaged while it was written or sent: write and put it again",
    )
