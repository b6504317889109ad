"""The Parquet writer, and the lineage that every file it writes carries.

The lineage of a streaming write says how many rows were written, which is known only afterwards. So its entry in the
footer is written with room to spare, and :func:`fill_lineage` puts the final text over it: same length, same file.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import polars as pl
from polars.exceptions import PanicException, PolarsError

from silversmith.lineage import PARQUET_ENTRY

#: Blanks after the lineage of a streaming write: room for what is known only afterwards. JSON allows them.
ROOM = 160

#: Rows that a streaming write encodes together, half of what Polars would take: the last ones, for which all else has
#: to wait, are sooner done, and files come out a little smaller.
_ROWS = 131_072

#: And so many bytes of rows at most, where it is known how wide they are: the encoder holds them in memory.
_BYTES = 32 * 1024 * 1024

#: Frames of up to so many bytes in memory are written with Snappy: Zstandard makes such files smaller by some hundred
#: bytes only, and takes a tenth longer to write and three times as long to read.
_SNAPPY = 16 * 1024

#: Zstandard's level. The default, 3, takes a tenth longer for the whole file and makes it 3 % smaller.
_LEVEL = 2


def write_parquet(frame: pl.DataFrame | pl.LazyFrame, path: Path, lineage_json: str) -> None:
    """Write rows as compressed Parquet, with the lineage in its key-value metadata.

    A LazyFrame is streamed: memory does not grow with it. Its lineage can be replaced with :func:`fill_lineage`.

    Raises:
        polars.exceptions.PolarsError: the rows cannot be had, or have a type that Parquet has not.
    """
    if isinstance(frame, pl.LazyFrame):
        parquet_sink(frame, path, lineage_json).collect(engine="streaming")
    else:
        path.write_bytes(parquet_bytes(frame, lineage_json))


def parquet_bytes(frame: pl.DataFrame, lineage_json: str) -> bytes:
    """A small frame as a Parquet file in memory, with its lineage."""
    return all_parquet_bytes([(frame, lineage_json)])[0]


def all_parquet_bytes(frames: Sequence[tuple[pl.DataFrame, str]]) -> list[bytes]:
    """Several small frames as Parquet files in memory, each with the very bytes that it would get alone.

    One plan with many sinks, because what Polars does once for each plan takes longer than to encode a few rows.

    Raises:
        polars.exceptions.PolarsError: one of them has a type that Parquet has not; nobody knows which.
    """
    buffers = [io.BytesIO() for _ in frames]
    sinks = [
        _sink(frame.lazy(), buffer, text, snappy=frame.estimated_size() <= _SNAPPY)
        for buffer, (frame, text) in zip(buffers, frames, strict=True)
    ]
    pl.collect_all(sinks, engine="streaming", optimizations=pl.QueryOptFlags.none())
    return [buffer.getvalue() for buffer in buffers]


def parquet_sink(frame: pl.LazyFrame, path: Path, lineage_json: str, row_bytes: int = 0) -> pl.LazyFrame:
    """A plan that writes a frame when it is collected, so that ``pl.collect_all`` writes several in one pass.

    ``row_bytes`` is how many a row of the source takes; 0: unknown.
    """
    rows = max(1024, min(_ROWS, _BYTES // max(1, row_bytes)))
    return _sink(frame, path.absolute(), lineage_json + " " * ROOM, rows=rows)


def _sink(
    frame: pl.LazyFrame, target: Path | io.BytesIO, lineage_json: str, *, rows: int | None = None, snappy: bool = False
) -> pl.LazyFrame:
    """``rows``: how many are encoded together; None: as many as Polars likes."""
    return frame.sink_parquet(
        target,
        compression="snappy" if snappy else "zstd",
        compression_level=None if snappy else _LEVEL,
        row_group_size=rows,
        metadata={PARQUET_ENTRY: lineage_json},
        lazy=True,
    )


def fill_lineage(path: Path, lineage_json: str) -> None:
    """Replace the lineage of a file that was written from a LazyFrame; nothing else of the file changes.

    Raises:
        ValueError: there is none, or no room for the new one.
        polars.exceptions.PolarsError: it is no Parquet file.
    """
    old, new = pl.read_parquet_metadata(path).get(PARQUET_ENTRY, "").encode(), lineage_json.encode()
    with path.open("r+b") as file:
        file.seek(-8, io.SEEK_END)
        start = file.seek(-8 - int.from_bytes(file.read(4), "little"), io.SEEK_END)
        # metadata stand after the statistics of the columns, which may hold any text
        at = file.read().rfind(old)
        if not old or at < 0 or len(new) > len(old):
            raise ValueError(f"{path} has no room for a lineage of {len(new)} bytes, only for {len(old)}")
        file.seek(start + at)
        file.write(new.ljust(len(old)))


def read_lineage(source: Path | bytes) -> dict[str, str] | None:
    """The lineage in a Parquet file's metadata; None where there is none, or the bytes are no Parquet.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if isinstance(source, Path) and not source.exists():
        raise FileNotFoundError(source)
    try:
        metadata = pl.read_parquet_metadata(source if isinstance(source, Path) else io.BytesIO(source))
        entry = json.loads(metadata.get(PARQUET_ENTRY, "null"))
    except (PolarsError, PanicException, ValueError, OSError):
        return None
    if not isinstance(entry, dict):
        return None
    return {str(name): str(value) for name, value in entry.items()}


def count_rows(path: Path) -> int:
    """The number of rows of a Parquet file, from its footer."""
    count: int = pl.scan_parquet(path.absolute(), glob=False, hive_partitioning=False).select(pl.len()).collect().item()
    return count
