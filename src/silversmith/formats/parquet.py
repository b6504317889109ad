"""Parquet: rows as they are. A footer that lies ends in a DataError, never in a crash."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import polars as pl
import polars.selectors as cs
from polars.exceptions import DuplicateError, PanicException, PolarsError

from silversmith.errors import DataError, DefinitionError, Place
from silversmith.formats.archives.content import Content
from silversmith.formats.parquet_metadata import Footer, Leaf, read_footer, verify
from silversmith.formats.table import ROW, Table, checked_names, col, function_memory, shorten
from silversmith.formats.text import texts_problem

#: A file in memory is read at once if it has no more cells than this. A few bytes of Parquet may stand for millions.
MOST_CELLS = 4_000_000


#: Nor if its pages have more bytes than this, once they are unpacked.
MOST_BYTES = 32 * 1024 * 1024

#: Memory that the function takes beside a row group, in bytes: Polars alone has 85 MB.
BESIDE = 128 * 1024 * 1024

_MEGA = 1024 * 1024

#: The latest timestamp in nanoseconds, which Polars makes of all that are out of reach.
_LATEST = 2**63 - 1

_UNSUPPORTED = re.compile(r"not (?:yet )?(?:implemented|supported)|unsupported|precision must be", re.IGNORECASE)
_PANIC = re.compile(r"Result::unwrap|Option::unwrap|JoinError|panicked|assertion|out of range for slice|ErrString")


@dataclass(frozen=True)
class Parquet:
    """Read as Parquet, whatever the name. Such files say nearly all else themselves.

    Args:
        null_values: texts that mean null, exactly so, in columns of text: ``-`` in logs.

    Raises:
        DefinitionError: they are no list of texts.
    """

    null_values: Collection[str] = field(default=(), metadata={"added later": True})

    def __post_init__(self) -> None:
        problem = texts_problem("null_values", self.null_values)
        if problem:
            raise DefinitionError(f"Parquet({problem}")
        object.__setattr__(self, "null_values", tuple(sorted(self.null_values)))


_PLAIN = Parquet()


def read(content: Content, options: Parquet = _PLAIN) -> Table:
    """The rows of a Parquet file.

    Raises:
        DataError: ``UnreadableParquet``, ``UnsupportedParquet``, ``EmptyFile`` … : the file cannot be read. Damage
            within its pages shows only when the rows are collected: see :func:`silversmith.formats.reading_errors`.
    """
    if content.size == 0:
        raise DataError("EmptyFile", "the file is empty", hint="put it again with data")
    footer = read_footer(content)
    if footer is not None:
        _check_types(footer)
        check_memory(footer, function_memory())
    with unreadable():
        source = content.data if content.data is not None else content.path
        assert source is not None
        rows = pl.scan_parquet(source, glob=False, hive_partitioning=False)
        names = rows.collect_schema().names()
        checked_names([name for name in names if name == ROW])
        if footer is not None:
            verify(content, footer)
            _check_values(rows, footer)
        rows = rows.with_row_index(ROW, offset=1).with_columns(pl.col(ROW).cast(pl.UInt64))
        if options.null_values:
            rows = rows.with_columns(cs.string().replace(list(options.null_values), None))
        height: int = rows.select(pl.len()).collect().item()
        is_small = footer is not None and footer.unpacked <= MOST_BYTES and height * len(names) <= MOST_CELLS
        frame = rows.collect() if content.data is not None and is_small else None
    return Table(
        frame.lazy() if frame is not None else rows,
        "parquet" + content.packing,
        frame,
        height=height,
        scratch=content.scratch,
        row_bytes=footer.unpacked // max(1, height) if footer is not None else 0,
    )


def check_memory(footer: Footer, limit: int | None) -> None:
    """Refuse a file with a row group, which is decoded whole, that does not fit into ``limit`` bytes of memory.

    Raises:
        DataError: ``TooLarge``.
    """
    if limit is not None and footer.largest + BESIDE > limit:
        raise DataError(
            "TooLarge",
            f"a row group of the file takes {footer.largest // _MEGA:,} MB; the function has {limit // _MEGA:,}",
            hint="give the transform more memory: memory=…, or write the file with smaller row groups",
        )


def _check_types(footer: Footer) -> None:
    for leaf in footer.leaves:
        if leaf.unknown_type:
            raise _unsupported(leaf, f"has the type {leaf.unknown_type}, which is not read", "write it as another type")
        if leaf.repetition and (leaf.is_time or leaf.is_int96):
            what = "times of day" if leaf.is_time else "timestamps of 96 bits (INT96)"
            hint = "write them as timestamps in microseconds, or as text"
            raise _unsupported(leaf, f"has {what} in a list: they cannot be proved to be kept", hint)


def _check_values(rows: pl.LazyFrame, footer: Footer) -> None:
    """Polars makes null of a time of day beyond 24 hours, and of an old timestamp beyond its type the latest one."""
    nanoseconds = pl.Datetime("ns")  # an Arrow schema in the file may have microseconds, which wrap later
    int96 = [leaf for leaf in footer.leaves if leaf.is_int96]
    times = [leaf for leaf in footer.leaves if leaf.is_time]
    counts = [
        (cells.is_not_null() & cells.cast(nanoseconds, strict=False).to_physical().fill_null(_LATEST).eq(_LATEST)).sum()
        for cells in map(_path, int96)
    ]
    counts += [_path(leaf).null_count() for leaf in times]
    if not counts:
        return
    named = [count.alias(str(place)) for place, count in enumerate(counts)]
    numbers = rows.select(named).collect(engine="streaming").row(0)
    for leaf, number in zip(int96, numbers, strict=False):
        if number:
            hint = "write timestamps in microseconds; in Spark: spark.sql.parquet.outputTimestampType=TIMESTAMP_MICROS"
            raise _unsupported(leaf, "has timestamps of 96 bits (INT96) before 1677 or after 2262", hint)
    for leaf, number in zip(times, numbers[len(int96) :], strict=True):
        if number and number != footer.nulls(leaf):
            hint = "write it as a duration, or as text; if there are none, write statistics with the file"
            raise _unsupported(leaf, "has, or may have, times of day that are not between 00:00 and 24:00", hint)


def _path(leaf: Leaf) -> pl.Expr:
    cells = col(leaf.path[0])
    for name in leaf.path[1:]:
        cells = cells.struct.field(name)
    return cells


def _unsupported(leaf: Leaf, what: str, hint: str) -> DataError:
    place = Place(column=".".join(leaf.path))
    return DataError("UnsupportedParquet", f'the column "{leaf.label}" {what}', hint=hint, place=place)


@contextmanager
def unreadable(kind: str = "Parquet") -> Iterator[None]:
    """Polars' errors about the bytes of a file, panics among them, as DataError ``UnreadableParquet`` or the like."""
    try:
        yield
    except DuplicateError as error:
        raise DataError("DuplicateColumns", reason_of(error), hint="give each column its own name") from None
    except (PolarsError, PanicException, OSError) as error:
        raise fault_of(error, kind) from None


def fault_of(error: BaseException, kind: str) -> DataError:
    """An error of Polars about the bytes of a file, as DataError ``UnreadableParquet`` or ``UnsupportedParquet``."""
    if _UNSUPPORTED.search(str(error)):
        return DataError(
            f"Unsupported{kind}",
            f"the file has something that cannot be read: {reason_of(error)}",
            hint="write it with plain types: numbers, text, timestamps, lists, structs",
        )
    return DataError(
        f"Unreadable{kind}",
        f"the file is not whole {kind}: {reason_of(error)}",
        hint="it may have been cut off or damaged while it was written or sent: write and put it again",
    )


def reason_of(error: BaseException) -> str:
    """The first line of what an error says, for people: nothing of a panic, whose words are for Polars' authors."""
    reason = str(error).strip().partition("\n")[0]
    if isinstance(error, PanicException) or _PANIC.search(reason):
        return "a part of it cannot be decoded"
    return shorten(reason, 200)
