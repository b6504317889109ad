"""Arrow's IPC formats: the file format, which is Feather of version 2, too, and the stream format."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import polars as pl

from silversmith.errors import DataError
from silversmith.formats import pieces
from silversmith.formats.archives.content import Content
from silversmith.formats.arrow_messages import BATCH, SCHEMA, Message, of_file, of_stream, unreadable
from silversmith.formats.parquet import MOST_CELLS
from silversmith.formats.parquet import unreadable as reading
from silversmith.formats.table import ROW, Table, checked_names

MAGIC = b"ARROW1"

#: Bytes of a stream's messages that are decoded at once.
BLOCK = 8 * 1024 * 1024


@dataclass(frozen=True)
class Arrow:
    """Read as Arrow, whatever the name: streams of before 2019 do not show what they are."""


def read(content: Content, *, block: int = BLOCK) -> Table:
    """The rows of an Arrow file or stream.

    Raises:
        DataError: ``EmptyFile``, ``UnreadableArrow``, ``UnsupportedArrow``, ``DuplicateColumns``, ``TooLarge``.
    """
    if content.size == 0:
        raise DataError("EmptyFile", "the file is empty", hint="put it again with data")
    with content.open() as file:
        if content.head(len(MAGIC)) == MAGIC:
            return _read_file(content, sum(one.rows for one in of_file(file, content.size) if one.kind == BATCH))
        found = list(of_stream(file, content.size))
        if not found or found[0].kind != SCHEMA:
            raise unreadable("it does not begin with a schema")
        return pieces.table_of(_frames(file, found, block), "arrow-stream" + content.packing, content.scratch)


def _read_file(content: Content, height: int) -> Table:
    source = content.data if content.data is not None else content.path
    assert source is not None
    with reading("Arrow"):
        rows = pl.scan_ipc(source, glob=False, hive_partitioning=False)
        names = rows.collect_schema().names()
        checked_names([name for name in names if name == ROW])
        rows = rows.with_row_index(ROW, offset=1).with_columns(pl.col(ROW).cast(pl.UInt64))
        is_small = content.data is not None and height * len(names) <= MOST_CELLS
        frame = rows.collect() if is_small else None
    if frame is not None and frame.height != height:
        raise unreadable(f"{height:,} rows are told, and {frame.height:,} are there")
    return Table(
        frame.lazy() if frame is not None else rows,
        "arrow" + content.packing,
        frame,
        height=height,
        scratch=content.scratch,
    )


def _frames(file: BinaryIO, found: Sequence[Message], size: int) -> Iterator[pl.DataFrame]:
    """Batches, some at a time, as frames: each time after the schema and the dictionaries before them."""
    lead = [_bytes(file, found[0])]
    held: list[bytes] = []
    dictionaries: list[bytes] = []
    waiting, rows, yielded = 0, 0, False
    for message in found[1:]:
        data = _bytes(file, message)
        held.append(data)
        if message.kind != BATCH:
            dictionaries.append(data)
        waiting += len(data)
        rows += message.rows if message.kind == BATCH else 0
        if waiting >= size:
            yield _decoded([*lead, *held], rows)
            lead += dictionaries
            held, dictionaries, waiting, rows, yielded = [], [], 0, 0, True
    if held or not yielded:
        yield _decoded([*lead, *held], rows)


def _bytes(file: BinaryIO, message: Message) -> bytes:
    file.seek(message.offset)
    return file.read(message.metadata + message.body)


def _decoded(parts: list[bytes], rows: int) -> pl.DataFrame:
    with reading("Arrow"):
        frame = pl.read_ipc_stream(io.BytesIO(b"".join(parts)))
    checked_names(frame.columns)
    if frame.height != rows:
        raise unreadable(f"{rows:,} rows are told, and {frame.height:,} are there")
    return frame
