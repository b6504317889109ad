"""NDJSON: one JSON document on each line. Large files are read in blocks of whole lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import orjson
import polars as pl

from silversmith.errors import DataError, Place
from silversmith.formats import text
from silversmith.formats.archives.content import Content
from silversmith.formats.json.columns import LEAST_BYTES, ColumnReader, Columns
from silversmith.formats.json.kinds import Kind
from silversmith.formats.json.parse import LARGEST, SPACE, exact, is_doubtful, too_large, unreadable
from silversmith.formats.json.rows import Block, block_of, table_of
from silversmith.formats.json.select import ALL, Selection
from silversmith.formats.table import Table
from silversmith.formats.text import origins_of_ndjson

#: Bytes of a large file that are parsed at once.
BLOCK = 4 * 1024 * 1024

#: So many lines are parsed first, to know what kinds of values the columns have.
SAMPLE = 200


def read(
    content: Content, schema: Mapping[str, pl.DataType], selection: Selection = ALL, *, block: int = BLOCK
) -> Table:
    """The documents of an NDJSON file as rows, ``block`` bytes at a time. Blank lines are no documents. Without rows,
    there are the columns of ``schema``.

    Raises:
        DataError: ``EmptyFile``, ``UnreadableJson`` with the line … : the file cannot be read.
    """
    text.refuse_empty(content, Place(line=1, column=1))
    table = table_of(selection.of(partial(_blocks, content, block)), content, schema, "lines", "ndjson")
    # of a line with several records no record is the line
    return replace(table, origins=partial(origins_of_ndjson, content)) if selection.each is None else table


def _blocks(content: Content, size: int, kinds: Mapping[str, Kind]) -> Iterator[Block | Columns]:
    number, line = 1, 1
    reader = ColumnReader(kinds, least=min(size, LEAST_BYTES))
    for data in _whole_lines(content, size):
        head = b"" if kinds else _head(data)
        for part in filter(None, (head, data[len(head) :])):
            lines = _documents(part)
            yield reader.read(part, range(number, number + len(lines))) or _parse(part, lines, first=number, line=line)
            number += len(lines)
            line += part.count(b"\n")


def _head(data: bytes) -> bytes:
    """The first lines."""
    end = 0
    for _ in range(SAMPLE):
        end = data.find(b"\n", end) + 1
        if not end:
            return data
    return data[:end]


def _documents(data: bytes) -> list[bytes]:
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


def _parse(data: bytes, lines: Sequence[bytes], *, first: int, line: int) -> Block:
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
