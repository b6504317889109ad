"""JSON documents: an array of records, one record, or objects one after the other. Large arrays are read in blocks that
are proved to be whole."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, BinaryIO

import orjson
import polars as pl

from silversmith.errors import DataError, DefinitionError, Place
from silversmith.formats import text
from silversmith.formats.archives.content import Content
from silversmith.formats.json.columns import ColumnReader, Columns, elements_as_lines
from silversmith.formats.json.kinds import Kind, too_deep
from silversmith.formats.json.lines import sampled_columns
from silversmith.formats.json.parse import LARGEST, SPACE, exact, is_doubtful, parse_strictly, too_large, unreadable
from silversmith.formats.json.rows import Block, block_of, table_of
from silversmith.formats.table import Table, shorten

#: Bytes of a large array that are parsed at once.
BLOCK = 4 * 1024 * 1024


#: Bytes of it that are parsed first, to know what kinds of values the columns have.
_FIRST = 64 * 1024


_BLANK = re.compile(r"[ \t\r\n]*")
_SCANNER = json.JSONDecoder()


@dataclass(frozen=True)
class Json:
    """How to read JSON files where it cannot be seen from them.

    Args:
        lines: whether each line is a document of its own (NDJSON). None: by the name, ``.ndjson`` or ``.jsonl``, or
            by the bytes.
        pointer: where in the document the records are, as a JSON Pointer (RFC 6901): ``/response/items``. Not for
            NDJSON.
        concatenated: whether documents of any kind follow one another, with or without blanks between them. Objects
            that do are found out; arrays are not, since two in one file mostly mean that it is damaged.

    Raises:
        DefinitionError: a value cannot be.
    """

    lines: bool | None = None
    pointer: str | None = None
    concatenated: bool = False

    def __post_init__(self) -> None:
        if self.lines is not None and not isinstance(self.lines, bool):
            raise DefinitionError(f"Json(lines={self.lines!r}): must be True, False or None (find out)")
        if self.pointer is not None and not (isinstance(self.pointer, str) and self.pointer.startswith("/")):
            raise DefinitionError(f"Json(pointer={self.pointer!r}): must begin with '/', as '/response/items' does")
        if self.pointer is not None and self.lines:
            raise DefinitionError("Json(lines=True, pointer=…): a pointer leads into one document, and NDJSON has many")
        if not isinstance(self.concatenated, bool):
            raise DefinitionError(f"Json(concatenated={self.concatenated!r}): must be True or False")
        if self.concatenated and (self.lines or self.pointer):
            raise DefinitionError("Json(concatenated=True): goes with neither lines nor pointer")


def read(content: Content, options: Json, schema: Mapping[str, pl.DataType], *, block: int = BLOCK) -> Table:
    """The records of a JSON document as rows: of an array its elements, else the document itself.

    An array that is not in memory is read ``block`` bytes at a time.

    Raises:
        DataError: ``EmptyFile``, ``UnreadableJson``, ``TooLarge`` … : the file cannot be read.
    """
    text.refuse_empty(content, Place(line=1, column=1))
    if options.concatenated:
        return _sequence(content, schema, block, objects=False)
    begins = _begins_with(content) if content.data is None and options.pointer is None else b""
    if begins == b"[":
        with content.open() as file:
            return table_of(partial(_array_blocks, file, block), content, schema, "array")
    if content.size > LARGEST:
        if begins == b"{":
            return _sequence(content, schema, block, objects=True)
        raise too_large(f"the document has {content.size:,} bytes")
    return _whole(content, options, schema, block)


def _whole(content: Content, options: Json, schema: Mapping[str, pl.DataType], block: int) -> Table:
    data = content.read().removeprefix(text.BOM)
    columns = _small_array(data) if options.pointer is None else None
    if columns is not None:
        return table_of(lambda _: [columns], content, schema, "array")
    try:
        value = parse_strictly(data)
    except DataError as error:
        if error.code != "UnreadableJson" or options.pointer is not None or not _is_sequence(data):
            raise
        return _sequence(content, schema, block, objects=True)
    doubtful = is_doubtful(data, [value])
    if doubtful:
        value = exact(data)
    if options.pointer is not None:
        value = resolve(value, options.pointer)
    records = block_of(value if isinstance(value, list) else [value], 1, doubtful=doubtful)
    return table_of(lambda _: [records], content, schema, "array" if isinstance(value, list) else "document")


def _small_array(data: bytes) -> Columns | None:
    """The elements of an array as columns, if it has many and nothing but objects."""
    inner = data.strip(SPACE)
    if not (inner.startswith(b"[") and inner.endswith(b"]")):
        return None
    return sampled_columns(elements_as_lines(inner[1:-1]))


def _sequence(content: Content, schema: Mapping[str, pl.DataType], block: int, *, objects: bool) -> Table:
    """Documents one after the other."""
    return table_of(lambda _: _document_blocks(content, block, objects=objects), content, schema, "concatenated")


def resolve(value: Any, pointer: str) -> Any:
    """What a JSON Pointer leads to. Raises DataError ``MissingPointer``. https://www.rfc-editor.org/rfc/rfc6901"""
    for step in pointer.split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdecimal() and key.isascii() and int(key[:9]) < len(value):
            value = value[int(key)]
        else:
            keys = ", ".join(map(shorten, islice(value, 8))) if isinstance(value, dict) else type(value).__name__
            raise DataError(
                "MissingPointer",
                f'the document has nothing at "{pointer}": there is no "{shorten(key)}"; found: {keys or "nothing"}',
                hint="look at the reader's pointer: Json(pointer=…)",
                place=Place(column=key),
            )
    return value


def _begins_with(content: Content) -> bytes:
    """The first sign of the document."""
    return content.head(BLOCK).removeprefix(text.BOM).lstrip(SPACE)[:1]


def _array_blocks(file: BinaryIO, size: int, kinds: Mapping[str, Kind]) -> Iterator[Block | Columns]:
    """The elements of a large array, in blocks."""
    file.seek(0)
    return iter(_Elements(file, size, kinds))


class _Elements:
    """Cuts an array between elements by guess and proof: if what stands before a comma parses as whole elements, then
    the comma is between elements, since the grammar of JSON can be read in one way only."""

    def __init__(self, file: BinaryIO, size: int, kinds: Mapping[str, Kind]) -> None:
        self._file = file
        self._size = size
        self._reader = ColumnReader(kinds)
        self._number = 1
        self._line = 1
        self._column = 0

    def __iter__(self) -> Iterator[Block | Columns]:
        buffer = self._start()
        lead = _lead(buffer)
        opening = b"["
        length = min(self._size, _FIRST)
        while True:
            more = self._file.read(length)
            length = self._size
            buffer += more
            if not more:
                break
            cut, block = self._split(buffer, lead)
            if block is not None:
                yield block
                self._pass(buffer[: cut + 1])
                buffer = buffer[cut + 1 :]
                opening = b"[0,"  # an element must follow a comma, so a 0 stands for those that were cut off
            elif len(buffer) > LARGEST:
                raise too_large("one element of the array has more bytes")
        columns = self._columns(buffer.rstrip(SPACE)[:-1]) if buffer.rstrip(SPACE).endswith(b"]") else None
        if columns is not None:
            yield columns
            return
        values = self._parse(opening, buffer)
        yield self._block(buffer, values[1:] if len(opening) > 1 else values)

    def _start(self) -> bytes:
        """The first bytes after the bracket."""
        head = self._file.read(min(self._size, _FIRST)).removeprefix(text.BOM)
        while b"[" not in head:
            head += self._file.read(self._size)
        before, bracket, after = head.partition(b"[")
        self._pass(before + bracket)
        return after

    def _pass(self, text: bytes) -> None:
        """Keep count of lines and, for the last of them, of characters."""
        before, end, after = text.rpartition(b"\n")
        if end:
            self._line += before.count(b"\n") + 1
            self._column = 0
        self._column += len(after.decode())

    def _split(self, buffer: bytes, lead: bytes) -> tuple[int, Block | Columns | None]:
        """Where the last comma between two elements is, and the elements before it."""
        for comma in _guesses(buffer, lead):
            columns = self._columns(buffer[:comma])
            if columns is not None:
                return comma, columns
            values = self._parse(b"[", buffer[:comma], b",0]")
            if values is not None:
                return comma, self._block(buffer[:comma] + b"]", values[:-1])
        return 0, None

    def _columns(self, piece: bytes) -> Columns | None:
        """Whole elements by the faster way, if all are objects and this can be proved."""
        if self._reader.is_idle:
            return None
        lines = elements_as_lines(piece)
        numbers = range(self._number, self._number + lines.count(b"\n") + 1)
        columns = self._reader.read(lines, numbers)
        self._number = self._number if columns is None else numbers.stop
        return columns

    def _parse(self, opening: bytes, piece: bytes, closing: bytes = b"") -> Any:
        """A part of the array, made whole; None where it only was cut in the wrong place."""
        return parse_strictly(
            opening + piece + closing,
            line=self._line,
            column=self._column - len(opening),
            added=len(closing),
        )

    def _block(self, piece: bytes, values: list[Any]) -> Block:
        doubtful = is_doubtful(piece, values)
        block = block_of(exact(b"[" + piece) if doubtful else values, self._number, doubtful=doubtful)
        self._number += len(values)
        return block


def _lead(buffer: bytes) -> bytes:
    """What the first element begins with, up to the end of its first key: most others begin so, and nothing nested."""
    head = buffer[:4096].lstrip(SPACE)
    quote = head.find(b'"', 1)
    end = head.find(b'"', quote + 1)
    return head[: end + 1] if head.startswith(b"{") and 0 < quote < end else b""


def _guesses(buffer: bytes, lead: bytes) -> Iterator[int]:
    """Commas that may stand between elements, the likeliest first."""
    end = len(buffer)
    for _ in range(3 if lead else 0):
        end = buffer.rfind(lead, 0, end)
        before = buffer[max(0, end - 256) : max(0, end)].rstrip(SPACE)
        if before.endswith(b","):
            yield max(0, end - 256) + len(before) - 1
    end = len(buffer)
    for _ in range(32):
        end = buffer.rfind(b",", 0, end)
        if end < 0:
            return
        yield end


# Documents one after the other in one file, as programs leave them that append: ``{…}{…}`` or ``{…}\n{…}``. No standard
# has it, so nothing is taken for it that could be a damaged document: unless the reader says so, only objects are.


def _is_sequence(data: bytes) -> bool:
    """Whether the text begins with an object that is followed by another one."""
    try:
        decoded = data.decode()
        _, end = _SCANNER.raw_decode(decoded, _after_blank(decoded, 0))
    except (ValueError, RecursionError):
        return False
    at = _after_blank(decoded, end)
    return decoded.lstrip(" \t\r\n").startswith("{") and decoded.startswith("{", at)


def _after_blank(decoded: str, at: int) -> int:
    blank = _BLANK.match(decoded, at)
    return blank.end() if blank else at


def _document_blocks(content: Content, size: int, *, objects: bool) -> Iterator[Block]:
    """The documents in blocks, ``size`` bytes at a time. Arrays are so many records as they have elements; with
    ``objects``, no document may be anything else than an object.

    Raises:
        DataError: ``UnreadableJson`` with the place, ``NotUtf8``, ``TooDeep``, ``TooLarge``.
    """
    number = 1
    with content.open() as file:
        for values, doubtful in _Documents(file, size, objects=objects):
            block = block_of(values, number, doubtful=doubtful)
            number += len(values)
            yield block


class _Documents:
    """Finds where documents end with Python's scanner, which needs no end of text there; orjson says what they are."""

    def __init__(self, file: BinaryIO, size: int, *, objects: bool) -> None:
        self._file = file
        self._size = size
        self._objects = objects
        self._buffer = ""
        self._line = 1
        self._column = 0

    def __iter__(self) -> Iterator[tuple[list[Any], bool]]:
        decoder = codecs.getincrementaldecoder("utf-8")()
        if self._file.read(len(text.BOM)) != text.BOM:
            self._file.seek(0)
        while True:
            more = self._file.read(self._size)
            try:
                self._buffer += decoder.decode(more, final=not more)
            except UnicodeDecodeError as error:
                self._pass(self._buffer)
                raise text.not_utf8(error.object, error, offset=None, line=self._line, column=self._column) from None
            documents = list(self._whole(final=not more))
            if documents:
                yield self._parsed(documents)
            if not more:
                if self._buffer.strip(" \t\r\n"):
                    parse_strictly(self._buffer.encode(), line=self._line, column=self._column)
                return
            if len(self._buffer) > LARGEST:
                raise DataError(
                    "TooLarge",
                    f"a document that begins on line {self._line} has more than {LARGEST:,} characters",
                    hint="put it as NDJSON (one record on each line), which has no limit",
                    place=Place(line=self._line),
                )

    def _whole(self, *, final: bool) -> Iterator[tuple[bytes, int, int]]:
        """The documents that the buffer has whole, each with the line and the column before it; they leave it."""
        buffer, at = self._buffer, 0
        while True:
            start = _after_blank(buffer, at)
            try:
                _, end = _SCANNER.raw_decode(buffer, start)
            except RecursionError:
                raise too_deep() from None
            except ValueError:
                break  # it is not whole yet, or never will be
            if end == len(buffer) and not final:
                break  # a number may go on
            self._pass(buffer[at:start])
            yield buffer[start:end].encode(), self._line, self._column
            self._pass(buffer[start:end])
            at = end
        self._buffer = buffer[at:]

    def _pass(self, passed: str) -> None:
        ends = passed.count("\n")
        self._line += ends
        self._column = len(passed) - passed.rfind("\n") - 1 if ends else self._column + len(passed)

    def _parsed(self, documents: list[tuple[bytes, int, int]]) -> tuple[list[Any], bool]:
        values = []
        for document, line, column in documents:
            try:
                values.append(orjson.loads(document))
            except orjson.JSONDecodeError as error:
                raise unreadable(document, error, line=line, column=column) from None
            if self._objects and not isinstance(values[-1], dict):
                raise _no_object(document, line, column + 1)
        doubtful = is_doubtful(b"\n".join(document for document, _, _ in documents), values)
        if doubtful:
            values = [exact(document) for document, _, _ in documents]
        return [one for value in values for one in (value if isinstance(value, list) else [value])], doubtful


def _no_object(document: bytes, line: int, column: int) -> DataError:
    return DataError(
        "UnreadableJson",
        f"not JSON: text after the end of the document, and no other object (line {line}, column {column})",
        hint="JSON is RFC 8259: one document. If documents follow one another, say so: Json(concatenated=True)",
        place=Place(line=line, column=column, text=shorten(document[:200].decode("utf-8", "replace"))),
    )
