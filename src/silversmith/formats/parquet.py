"""Parquet: rows as they are. Whatever a footer lies about comes out as a DataError, never as a crash."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import polars as pl
from polars.exceptions import DuplicateError, PanicException, PolarsError

from silversmith.errors import DataError
from silversmith.formats import parquet_pages
from silversmith.formats.archives.content import Content
from silversmith.formats.table import ROW, Table, checked_names, shorten

#: A file in memory is read at once if it has no more cells than this. A few bytes of Parquet may stand for millions.
MOST_CELLS = 4_000_000


@dataclass(frozen=True)
class Parquet:
    """Read as Parquet, whatever the name. Such files say all else themselves."""


def read(content: Content) -> Table:
    """The rows of a Parquet file.

    Raises:
        DataError: ``UnreadableParquet``, ``EmptyFile`` … : the file cannot be read. Damage within its pages shows only
            when the rows are collected: see :func:`silversmith.formats.reading_errors`.
    """
    if content.size == 0:
        raise DataError("EmptyFile", "the file is empty", hint="put it again with data")
    with unreadable():
        source = content.data if content.data is not None else content.path
        assert source is not None
        rows = pl.scan_parquet(source, glob=False, hive_partitioning=False)
        names = rows.collect_schema().names()
        checked_names([name for name in names if name == ROW])
        rows = rows.with_row_index(ROW, offset=1).with_columns(pl.col(ROW).cast(pl.UInt64))
        height: int = rows.select(pl.len()).collect().item()
        parquet_pages.verify(content)
        frame = rows.collect() if content.data is not None and height * len(names) <= MOST_CELLS else None
    return Table(
        frame.lazy() if frame is not None else rows,
        "parquet" + content.packing,
        frame,
        height=height,
        scratch=content.scratch,
    )


@contextmanager
def unreadable(kind: str = "Parquet") -> Iterator[None]:
    """Polars' errors about the bytes of a file, panics among them, as DataError ``UnreadableParquet`` or the like."""
    try:
        yield
    except DuplicateError as error:
        raise DataError("DuplicateColumns", _first_line(error), hint="give each column its own name") from None
    except (PolarsError, PanicException, OSError) as error:
        raise DataError(
            f"Unreadable{kind}",
            f"the file is not whole {kind}: {_first_line(error)}",
            hint="it may have been cut off or damaged while it was written or sent: write and put it again",
        ) from None


def _first_line(error: BaseException) -> str:
    return shorten(str(error).strip().partition("\n")[0], 200)
