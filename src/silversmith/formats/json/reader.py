"""JSON files: an array of records, one record, or objects one after the other; and NDJSON, a document on each line.

Large files are read in blocks: of whole lines, or of elements and documents that are proved to be whole.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, BinaryIO

import orjson
import polars as pl

from silversmith.errors import DataError, DefinitionError, Place
from silversmith.formats import text
from silversmith.formats.archives.content import Content
from silversmith.formats.json.rows import (
    LEAST_BYTES,
    Block,
    Blocks,
    ColumnReader,
    Columns,
    block_of,
    elements_as_lines,
    table_of,
)
from silversmith.formats.json.select import ALL, Selection, carve, pointer_of, problem_of, resolve
from silversmith.formats.json.values import (
    LARGEST,
    SPACE,
    Kind,
    exact,
    is_doubtful,
    parse_strictly,
    too_deep,
    too_large,
    unreadable,
)
from silversmith.formats.table import Table, shorten

#: Bytes of a large array that are parsed at once.
BLOCK = 4 * 1024 * 1024

#: Bytes of it that are parsed first, to know what kinds of values the columns have.
_FIRST = 64 * 1024

#: So many lines of NDJSON are parsed first, for the same.
SAMPLE = 200

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
        columns: by column, where its value is in each record, as a JSON Pointer through objects: ``/customer/city``.
            Objects and lists become their JSON. None: each key of the records is a column.
        each: where in each record a list is whose elements are the records, each with the rest of the record around it.
        extra: the column for what ``columns`` do not name, as JSON; None: it is not read.
        null_values: texts that mean null, exactly so.

    Raises:
        DefinitionError: a value cannot be.
    """

    lines: bool | None = None
    pointer: str | None = None
    concatenated: bool = False
    columns: Mapping[str, str] | None = field(default=None, metadata={"added later": True})
    each: str | None = field(default=None, metadata={"added later": True})
    extra: str | None = field(default=None, metadata={"added later": True})
    null_values: Collection[str] = field(default=(), metadata={"added later": True})

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
        if problem := problem_of(self.columns, self.each, self.extra, self.null_values):
            raise DefinitionError(f"Json({problem}")
        object.__setattr__(self, "columns", None if self.columns is None else dict(self.columns))
        object.__setattr__(self, "null_values", tuple(sorted(self.null_values)))

    @property
    def selection(self) -> Selection:
        """The part of each record that is taken."""
        return Selection(tuple((self.columns or {}).items()), self.each, self.extra, tuple(self.null_values))


def read(content: Content, options: Json, schema: Mapping[str, pl.DataType], *, block: int = BLOCK) -> Table:
    """The records of a JSON document as rows: of an array its elements, else the document itself.

    An array that is not in memory is read ``block`` bytes at a time.

    Raises:
        DataError: ``EmptyFile``, ``UnreadableJson``, ``TooLarge`` … : the file cannot be read.
    """
    text.refuse_empty(content, Place(line=1, column=1))
    blocks, layout, hint = _blocks(content, options, block)
    table = table_of(options.selection.of(blocks), content, schema, layout)
    return replace(table, dialect={**table.dialect, "hint": hint}) if hint else table


def _blocks(content: Content, options: Json, size: int) -> tuple[Blocks, str, str]:
    """The blocks of a file, how it is laid out, and maybe a hint for its reader."""
    begins = b""
    if options.pointer is None and not options.concatenated:
        begins = content.head(BLOCK).removeprefix(text.BOM).lstrip(SPACE)[:1]
    if begins == b"[":
        return partial(_Elements, content, size), "array", ""
    objects = lambda _: _document_blocks(content, size, objects=not options.concatenated)  # noqa: E731
    if options.concatenated or (content.size > LARGEST and begins == b"{"):
        return objects, "concatenated", ""
    if content.size > LARGEST:
        return _carved_blocks(content, options.pointer, size), "array", ""
    data = content.read().removeprefix(text.BOM)
    try:
        value = parse_strictly(data)
    except DataError as error:
        if error.code != "UnreadableJson" or begins != b"{" or not _is_sequence(data):
            raise
        return objects, "concatenated", ""
    doubtful = is_doubtful(data, [value])
    if doubtful:
        value = exact(data)
    if options.pointer is not None:
        value = resolve(value, options.pointer)
    records = block_of(value if isinstance(value, list) else [value], 1, doubtful=doubtful)
    layout = "array" if isinstance(value, list) else "document"
    return lambda _: [records], layout, "" if options.selection else _hint(value)


def _carved_blocks(content: Content, pointer: str | None, size: int) -> Blocks:
    """The elements of the array at a pointer in a document that is too large to be parsed whole."""
    carved = carve(content, pointer) if pointer is not None else None
    if carved is None:
        raise too_large(f"the document has {content.size:,} bytes")
    parse_strictly(carved.rest.removeprefix(text.BOM))
    return partial(_Elements, carved.array, size, line=carved.line, column=carved.column)


def _hint(value: Any) -> str:
    """A pointer that would read more rows: to the only list of a document, if that is of objects."""
    lists = [(key, items) for key, items in value.items() if isinstance(items, list)] if isinstance(value, dict) else []
    if len(lists) != 1 or not lists[0][1] or not all(isinstance(item, dict) for item in lists[0][1]):
        return ""
    key, items = lists[0]
    return f"rows are at {pointer_of([key])}: reader=Json(pointer={pointer_of([key])!r}) reads {len(items):,}"


@dataclass
class _Position:
    """A place in a file: its line, from 1, and how many characters stand before it on that line."""

    line: int = 1
    column: int = 0

    def advance(self, passed: str) -> None:
        before, end, after = passed.rpartition("\n")
        if end:
            self.line += before.count("\n") + 1
            self.column = 0
        self.column += len(after)


class _Elements:
    """The elements of an array, which begins after ``column`` characters on a line of the file, in blocks.

    It is cut between elements by guess and proof: if what stands before a comma parses as whole elements, then the
    comma is between elements, since the grammar of JSON can be read in one way only."""

    def __init__(
        self, content: Content, size: int, kinds: Mapping[str, Kind], *, line: int = 1, column: int = 0
    ) -> None:
        self._content = content
        self._size = size
        self._reader = ColumnReader(kinds, least=min(size, LEAST_BYTES))
        self._number = 1
        self._position = _Position(line, column)

    def __iter__(self) -> Iterator[Block | Columns]:
        with self._content.open() as file:
            yield from self._blocks(file)

    def _blocks(self, file: BinaryIO) -> Iterator[Block | Columns]:
        buffer = self._start(file)
        lead = _lead(buffer)
        opening = b"["
        length = min(self._size, _FIRST)
        while more := file.read(length):
            length = self._size
            buffer += more
            cut, block = self._split(buffer, lead)
            if block is not None:
                yield block
                self._position.advance(buffer[: cut + 1].decode())
                buffer = buffer[cut + 1 :]
                opening = b"[0,"  # an element must follow a comma, so a 0 stands for those that were cut off
            elif len(buffer) > LARGEST:
                raise too_large("one element of the array has more bytes")
        if not self._reader.is_idle:
            whole = buffer.rstrip(SPACE)
            columns = self._columns(whole[:-1]) if whole.endswith(b"]") else None
            if columns is not None:
                yield columns
                return
        values = self._parse(opening, buffer)
        yield self._block(buffer, values[1:] if len(opening) > 1 else values)

    def _start(self, file: BinaryIO) -> bytes:
        """The first bytes after the bracket."""
        head = file.read(min(self._size, _FIRST)).removeprefix(text.BOM)
        while b"[" not in head:
            head += file.read(self._size)
        before, bracket, after = head.partition(b"[")
        self._position.advance((before + bracket).decode())
        return after

    def _split(self, buffer: bytes, lead: bytes) -> tuple[int, Block | Columns | None]:
        """The place of the last comma between two elements, and the elements before it."""
        for comma in _guesses(buffer, lead):
            columns = self._columns(buffer[:comma])
            if columns is not None:
                return comma, columns
            values = self._parse(b"[", buffer[:comma], b",0]")
            if values is not None:
                return comma, self._block(buffer[:comma] + b"]", values[:-1])
        return 0, None

    def _columns(self, piece: bytes) -> Columns | None:
        """Whole elements by Polars, if all are objects and its answer can be proved."""
        if self._reader.is_idle:
            return None
        lines = elements_as_lines(piece)
        numbers = range(self._number, self._number + lines.count(b"\n") + 1)
        columns = self._reader.read(lines, numbers)
        self._number = self._number if columns is None else numbers.stop
        return columns

    def _parse(self, opening: bytes, piece: bytes, closing: bytes = b"") -> Any:
        """A part of the array, made whole; None where it only was cut in the wrong place."""
        column = self._position.column - len(opening)
        return parse_strictly(opening + piece + closing, line=self._position.line, column=column, added=len(closing))

    def _block(self, piece: bytes, values: list[Any]) -> Block:
        doubtful = is_doubtful(piece, values)
        block = block_of(exact(b"[" + piece) if doubtful else values, self._number, doubtful=doubtful)
        self._number += len(values)
        return block


def _lead(buffer: bytes) -> bytes:
    """The beginning of the first element, up to the end of its first key: most others begin so, and nothing nested."""
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
    return decoded.startswith("{", _after_blank(decoded, end))


def _after_blank(decoded: str, at: int) -> int:
    blank = _BLANK.match(decoded, at)
    return blank.end() if blank else at


def _document_blocks(content: Content, size: int, *, objects: bool) -> Iterator[Block]:
    """The documents in blocks, ``size`` bytes at a time. The elements of an array are records of their own; with
    ``objects``, every document must be an object."""
    number = 1
    with content.open() as file:
        for documents in _documents(file, size):
            values = [_parsed(*document, objects=objects) for document in documents]
            doubtful = is_doubtful(b"\n".join(document for document, _, _ in documents), values)
            if doubtful:
                values = [exact(document) for document, _, _ in documents]
            records = [record for value in values for record in (value if isinstance(value, list) else [value])]
            yield block_of(records, number, doubtful=doubtful)
            number += len(records)


def _documents(file: BinaryIO, size: int) -> Iterator[list[tuple[bytes, int, int]]]:
    """Some documents at a time, each with the line and the column before it.

    Python's scanner finds where a document ends, as it needs no end of text there.
    """
    position = _Position()
    decoder = codecs.getincrementaldecoder("utf-8")()
    buffer = ""
    if file.read(len(text.BOM)) != text.BOM:
        file.seek(0)
    while True:
        more = file.read(size)
        try:
            buffer += decoder.decode(more, final=not more)
        except UnicodeDecodeError as error:
            position.advance(buffer)
            raise text.not_utf8(error.object, error, offset=None, line=position.line, column=position.column) from None
        documents, at = [], 0
        for start, end in _bounds(buffer, final=not more):
            position.advance(buffer[at:start])
            documents.append((buffer[start:end].encode(), position.line, position.column))
            position.advance(buffer[start:end])
            at = end
        buffer = buffer[at:]
        if documents:
            yield documents
        if not more:
            if buffer.strip(" \t\r\n"):
                parse_strictly(buffer.encode(), line=position.line, column=position.column)
            return
        if len(buffer) > LARGEST:
            raise too_large(f"a document that begins on line {position.line} has more characters")


def _bounds(buffer: str, *, final: bool) -> Iterator[tuple[int, int]]:
    """The bounds of each whole document, up to the first that is not whole, or never will be."""
    end = 0
    while True:
        start = _after_blank(buffer, end)
        try:
            _, end = _SCANNER.raw_decode(buffer, start)
        except RecursionError:
            raise too_deep() from None
        except ValueError:
            return
        if end == len(buffer) and not final:
            return  # a number may go on
        yield start, end


def _parsed(document: bytes, line: int, column: int, *, objects: bool) -> Any:
    try:
        value = orjson.loads(document)
    except orjson.JSONDecodeError as error:
        raise unreadable(document, error, line=line, column=column) from None
    if objects and not isinstance(value, dict):
        raise DataError(
            "UnreadableJson",
            f"not JSON: text after the end of the document, and no other object (line {line}, column {column + 1})",
            hint="JSON is RFC 8259: one document. If documents follow one another, say so: Json(concatenated=True)",
            place=Place(line=line, column=column + 1, text=shorten(document[:200].decode("utf-8", "replace"))),
        )
    return value


# NDJSON.


def read_lines(
    content: Content, schema: Mapping[str, pl.DataType], selection: Selection = ALL, *, block: int = BLOCK
) -> Table:
    """The documents of an NDJSON file as rows, ``block`` bytes at a time. Blank lines are no documents. Without rows,
    there are the columns of ``schema``.

    Raises:
        DataError: ``EmptyFile``, ``UnreadableJson`` with the line … : the file cannot be read.
    """
    text.refuse_empty(content, Place(line=1, column=1))
    table = table_of(selection.of(partial(_line_blocks, content, block)), content, schema, "lines", "ndjson")
    # of a line with several records no record is the line
    return replace(table, origins=partial(text.origins_of_ndjson, content)) if selection.each is None else table


def _line_blocks(content: Content, size: int, kinds: Mapping[str, Kind]) -> Iterator[Block | Columns]:
    number, line = 1, 1
    reader = ColumnReader(kinds, least=min(size, LEAST_BYTES))
    for data in _whole_lines(content, size):
        head = b"" if kinds else _head(data)
        for part in filter(None, (head, data[len(head) :])):
            lines = _lines(part)
            yield reader.read(part, range(number, number + len(lines))) or _parse_lines(
                part, lines, first=number, line=line
            )
            number += len(lines)
            line += part.count(b"\n")


def _head(data: bytes) -> bytes:
    end = 0
    for _ in range(SAMPLE):
        end = data.find(b"\n", end) + 1
        if not end:
            return data
    return data[:end]


def _lines(data: bytes) -> list[bytes]:
    """The lines that have something on them."""
    return [line for line in data.split(b"\n") if line.strip(SPACE)]


def _whole_lines(content: Content, size: int) -> Iterator[bytes]:
    """A last line without an end comes with those before it: a block by itself would cost a small file a third more."""
    line, rest = 1, b""
    with text.open_after_mark(content) as file:
        more = file.read(size)
        while more:
            rest += more
            more = file.read(size)
            end = rest.rfind(b"\n") + 1
            if not end and len(rest) > LARGEST:
                raise too_large(f"line {line} has more bytes")
            end = end if more else len(rest)
            if end:
                yield rest[:end]
                line += rest.count(b"\n", 0, end)
                rest = rest[end:]


def _parse_lines(data: bytes, lines: Sequence[bytes], *, first: int, line: int) -> Block:
    try:
        values = list(map(orjson.loads, lines))
    except orjson.JSONDecodeError:
        values = _parse_carefully(data, line)
    doubtful = is_doubtful(data, values)
    if doubtful:
        values = list(map(exact, lines))
    return block_of(values, first, doubtful=doubtful)


def _parse_carefully(data: bytes, line: int) -> list[Any]:
    """Line by line, to say which one is wrong."""
    values = []
    for number, text_line in enumerate(data.split(b"\n"), line):
        if text_line.strip(SPACE):
            try:
                values.append(orjson.loads(text_line))
            except orjson.JSONDecodeError as error:
                fault = unreadable(text_line, error, line=number)
                if not values and fault.code == "UnreadableJson" and error.pos >= len(error.doc):
                    fault = _goes_on(fault)
                raise fault from None
    return values


def _goes_on(fault: DataError) -> DataError:
    """The error for a first document that does not end with its line."""
    return DataError(
        fault.code,
        f"{fault.message}: the document does not end on its line, so this is JSON and not NDJSON, or was cut off",
        hint="if it is JSON, name it .json, or say so: Json(lines=False)",
        place=fault.place,
    )
