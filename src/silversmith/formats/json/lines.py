"""NDJSON: one JSON document on each line. Large files are read in blocks of whole lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import orjson
import polars as pl

from silversmith.errors import Place
from silversmith.formats import text
from silversmith.formats.archives.content import Content
from silversmith.formats.json.document import LARGEST, SPACE, too_large
from silversmith.formats.json.parse import exact, is_doubtful, unreadable
from silversmith.formats.json.rows import Block, block_of, frame_of, scan
from silversmith.formats.origins import of_ndjson
from silversmith.formats.table import Table, malformed_frame

#: Bytes of a large file that are parsed at once.
BLOCK = 4 * 1024 * 1024

_DIALECT = {**text.UTF8, "layout": "lines"}


def read(content: Content, wanted: Mapping[str, pl.DataType], *, block: int = BLOCK) -> Table:
    """The documents of an NDJSON file as rows. Blank lines are none. What is not in memory is read in blocks.

    Raises:
        DataError: ``EmptyFile``, ``UnreadableJson`` with the line … : the file cannot be read.
    """
    text.refuse_empty(content, Place(line=1, column=1))
    kind = "ndjson" + content.packing
    if content.data is None:
        found = scan(kind, lambda: _blocks(content, block), wanted, content.scratch)
        return replace(found, dialect=_DIALECT, origins=partial(of_ndjson, content))
    made = _parse(content.data.removeprefix(text.BOM), first=1, line=1)
    frame = frame_of(made, wanted)
    malformed = malformed_frame(made.malformed)
    return Table(frame.lazy(), kind, frame, malformed, dialect=_DIALECT, origins=partial(of_ndjson, content))


def _blocks(content: Content, size: int) -> Iterator[Block]:
    number, line, rest = 1, 1, b""
    with content.open() as file:
        if file.read(len(text.BOM)) != text.BOM:
            file.seek(0)
        while True:
            more = file.read(size)
            rest += more
            end = rest.rfind(b"\n") + 1 if more else len(rest)
            if end:
                made = _parse(rest[:end], first=number, line=line)
                yield made
                number += len(made.numbers) + len(made.malformed)
                line += rest.count(b"\n", 0, end)
                rest = rest[end:]
            elif len(rest) > LARGEST:
                raise too_large(f"line {line} has more bytes")
            if not more:
                return


def _parse(data: bytes, *, first: int, line: int) -> Block:
    lines = [one for one in data.split(b"\n") if one.strip(SPACE)]
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
    for number, one in enumerate(data.split(b"\n"), line):
        if one.strip(SPACE):
            try:
                values.append(orjson.loads(one))
            except orjson.JSONDecodeError as error:
                raise unreadable(one, error, line=number) from None
    return values
