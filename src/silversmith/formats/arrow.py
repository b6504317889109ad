"""Arrow's IPC formats: the file format, which is Feather of version 2, too, and the stream format."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

import polars as pl

from silversmith.errors import DataError, count
from silversmith.formats import spill
from silversmith.formats.archives.content import Content
from silversmith.formats.arrow_messages import (
    BATCH,
    IpcMessage,
    IpcSchema,
    check_times,
    first_of_file,
    of_file,
    of_stream,
    unreadable,
    unsupported,
)
from silversmith.formats.parquet import MOST_CELLS
from silversmith.formats.parquet import unreadable as reading
from silversmith.formats.table import ROW, Table, checked_names, col

MAGIC = b"ARROW1"

#: The most seconds that are a number of 64 bits in milliseconds, which is what Polars has.
_MOST_SECONDS = (2**63 - 1) // 1000

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
            kind, messages = "arrow", list(of_file(file, content.size))
            if not any(message.patches for message in messages) and not _schema_of(messages).patches:
                return _read_file(content, messages)
            messages[0] = first_of_file(file, content.size)
        else:
            kind, messages = "arrow-stream", list(of_stream(file, content.size))
        _schema_of(messages)
        return spill.table_of(_frames(file, messages, block), kind + content.packing, content.scratch)


def _schema_of(messages: Sequence[IpcMessage]) -> IpcSchema:
    schema = messages[0].schema if messages else None
    if schema is None:
        raise unreadable("it does not begin with a schema")
    return schema


def _read_file(content: Content, messages: Sequence[IpcMessage]) -> Table:
    batches = [message for message in messages if message.kind == BATCH]
    height = sum(batch.rows for batch in batches)
    times = _schema_of(messages).times
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
        raise unreadable(f"its batches say that they have {count(height, 'row')}, and {frame.height:,} are there")
    return Table(
        frame.lazy() if frame is not None else rows,
        "arrow" + content.packing,
        frame,
        height=height,
        scratch=content.scratch,
    )


def _frames(file: BinaryIO, messages: Sequence[IpcMessage], size: int) -> Iterator[pl.DataFrame]:
    """Batches, some at a time, as frames: each time after the schema and the dictionaries before them."""
    lead = [_bytes(file, messages[0])]
    schema = _schema_of(messages)
    types = _types(file, messages[0]) if schema.seconds else {}
    pending: list[bytes] = []
    batches: list[IpcMessage] = []
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
            yield _decoded([*lead, *pending], batches, schema, types)
            lead += dictionaries
            pending, dictionaries, batches, waiting, yielded = [], [], [], 0, True
    if pending or not yielded:
        yield _decoded([*lead, *pending], batches, schema, types)


def _bytes(file: BinaryIO, message: IpcMessage) -> bytes:
    file.seek(message.offset)
    data = file.read(message.metadata + message.body)
    for at, patch in message.patches:
        data = data[:at] + patch + data[at + len(patch) :]
    return data


def _types(file: BinaryIO, schema: IpcMessage) -> Mapping[str, pl.DataType]:
    """The types of the columns by a schema as it is."""
    with reading("Arrow"):
        return pl.read_ipc_stream(io.BytesIO(_bytes(file, replace(schema, patches=())))).schema


def _decoded(
    parts: list[bytes], batches: Sequence[IpcMessage], schema: IpcSchema, types: Mapping[str, pl.DataType]
) -> pl.DataFrame:
    with reading("Arrow"):
        frame = pl.read_ipc_stream(io.BytesIO(b"".join(parts)))
    checked_names(frame.columns)
    rows = sum(batch.rows for batch in batches)
    if frame.height != rows:
        raise unreadable(f"its batches say that they have {count(rows, 'row')}, and {frame.height:,} are there")
    check_times(schema.times, batches, {name: frame[name].null_count() for name in schema.times})
    return frame.with_columns(_of_seconds(frame[name], types[name]) for name in schema.seconds)


def _of_seconds(column: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Seconds, which were read as if they were milliseconds."""
    seconds = column.to_physical()
    if not seconds.is_between(-_MOST_SECONDS, _MOST_SECONDS).all():
        raise unsupported(column.name, "has seconds of which no 64 bits of milliseconds can be made")
    return (seconds * 1000).cast(dtype)
