"""Arrow's IPC formats: the file format, which is Feather of version 2, too, and the stream format."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import polars as pl

from silversmith.errors import DataError
from silversmith.formats import spill
from silversmith.formats.archives.content import Content
from silversmith.formats.arrow_messages import BATCH, SCHEMA, Message, check_times, of_file, of_stream, unreadable
from silversmith.formats.parquet import MOST_CELLS
from silversmith.formats.parquet import unreadable as reading
from silversmith.formats.table import ROW, Table, checked_names, col

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
            return _read_file(content, list(of_file(file, content.size)))
        messages = list(of_stream(file, content.size))
        if not messages or messages[0].kind != SCHEMA:
            raise unreadable("it does not begin with a schema")
        return spill.table_of(_frames(file, messages, block), "arrow-stream" + content.packing, content.scratch)


def _read_file(content: Content, messages: Sequence[Message]) -> Table:
    batches = [message for message in messages if message.kind == BATCH]
    height = sum(batch.rows for batch in batches)
    times = messages[0].times
    source = content.data if content.data is not None else content.path
    assert source is not None
    with reading("Arrow"):
        rows = pl.scan_ipc(source, glob=False, hive_partitioning=False)
        names = rows.collect_schema().names()
        checked_names([name for name in names if name == ROW])
        rows = rows.with_row_index(ROW, offset=1).with_columns(pl.col(ROW).cast(pl.UInt64))
        if times:
            nulls = rows.select(col(name).null_count() for name in times).collect(engine="streaming")
            check_times(times, batches, nulls.row(0, named=True))
        is_small = content.data is not None and height * len(names) <= MOST_CELLS
        frame = rows.collect() if is_small else None
    if frame is not None and frame.height != height:
        raise unreadable(f"its batches say that they have {height:,} rows, and {frame.height:,} are there")
    return Table(
        frame.lazy() if frame is not None else rows,
        "arrow" + content.packing,
        frame,
        height=height,
        scratch=content.scratch,
    )


def _frames(file: BinaryIO, messages: Sequence[Message], size: int) -> Iterator[pl.DataFrame]:
    """Batches, some at a time, as frames: each time after the schema and the dictionaries before them."""
    lead = [_bytes(file, messages[0])]
    times = messages[0].times
    pending: list[bytes] = []
    batches: list[Message] = []
    dictionaries: list[bytes] = []
    waiting, yielded = 0, False
    for message in messages[1:]:
        data = _bytes(file, message)
        pending.append(data)
        if message.kind == BATCH:
            batches.append(message)
        else:
            dictionaries.append(data)
        waiting += len(data)
        if waiting >= size:
            yield _decoded([*lead, *pending], batches, times)
            lead += dictionaries
            pending, dictionaries, batches, waiting, yielded = [], [], [], 0, True
    if pending or not yielded:
        yield _decoded([*lead, *pending], batches, times)


def _bytes(file: BinaryIO, message: Message) -> bytes:
    file.seek(message.offset)
    return file.read(message.metadata + message.body)


def _decoded(parts: list[bytes], batches: Sequence[Message], times: Mapping[str, int]) -> pl.DataFrame:
    with reading("Arrow"):
        frame = pl.read_ipc_stream(io.BytesIO(b"".join(parts)))
    checked_names(frame.columns)
    rows = sum(batch.rows for batch in batches)
    if frame.height != rows:
        raise unreadable(f"its batches say that they have {rows:,} rows, and {frame.height:,} are there")
    check_times(times, batches, {name: frame[name].null_count() for name in times})
    return frame
