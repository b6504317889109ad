"""Rows whose cells are text, block by block, and the types that are inferred for them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from silversmith.errors import DataError, Place
from silversmith.formats import infer
from silversmith.formats.archives.content import Content
from silversmith.formats.spill import Spill
from silversmith.formats.table import (
    ROW,
    Table,
    checked_names,
    col,
    malformed_frame,
    row_numbers,
    shorten,
)

#: Bytes of a file that are made rows of at once.
BLOCK = 4 * 1024 * 1024

#: Bytes of rows that are kept in memory, if the file itself is not.
_IN_MEMORY = 1024 * 1024

#: How many cells a block may make. Text of a few megabytes has far fewer: the rest would be nulls.
MOST_CELLS = 20_000_000

_MOST_MALFORMED = 100_000
_LONGEST_MALFORMED = 10_000

#: Up to so many cells, lists are typed sooner than Polars has started.
_FEW_CELLS = 5_000


@dataclass(frozen=True)
class TextBlock:
    """Some records: their cells by column, None for null; the records' numbers in the file; and what is no row."""

    columns: Mapping[str, Sequence[str | None] | pl.Series]
    numbers: Sequence[int]
    malformed: Sequence[tuple[int, str, str]] = ()


@dataclass(frozen=True)
class Reading:
    """How blocks become a table. Columns that are ``declared`` stay text, or all of them where ``typed`` is False."""

    format: str
    declared: Collection[str]
    typed: bool = True
    dialect: Mapping[str, object] = field(default_factory=dict)


def table_of(blocks: Iterable[TextBlock], content: Content, reading: Reading) -> Table:
    """The rows of a file. A column that a block does not have is null there.

    Where the content is in memory, so are the rows; else many of them go through temporary files.

    Raises:
        DataError: ``TooManyMalformed``, ``TooManyColumns`` …, or what the blocks raise.
    """
    names: dict[str, None] = {}
    malformed: list[tuple[int, str, str]] = []
    spill = Spill(content.scratch, in_memory=_IN_MEMORY if content.data is None else math.inf)
    for block in blocks:
        _note(malformed, block)
        names |= dict.fromkeys(block.columns)
        checked_names(list(names))
        spill.add(_frame(block))
    if not spill.height:
        spill.add(pl.DataFrame(schema={**dict.fromkeys(names, pl.String()), ROW: pl.UInt64}))
    in_order = [*map(col, names), pl.col(ROW)]
    frame = spill.frame()
    frame = None if frame is None else frame.select(in_order)
    rows = spill.rows().select(in_order) if frame is None else frame.lazy()
    if reading.typed:
        rows, frame = _typed(rows, frame, [name for name in names if name not in reading.declared])
    return Table(
        rows,
        reading.format,
        frame,
        malformed=malformed_frame(malformed),
        height=spill.height,
        dialect=reading.dialect,
        scratch=content.scratch,
    )


def _note(malformed: list[tuple[int, str, str]], block: TextBlock) -> None:
    malformed.extend((number, shorten(text, _LONGEST_MALFORMED), reason) for number, text, reason in block.malformed)
    if len(malformed) > _MOST_MALFORMED:
        number, text, reason = malformed[-1]
        raise DataError(
            "TooManyMalformed",
            f"more than {_MOST_MALFORMED:,} records are malformed; the last: {reason}",
            hint="look at the reader's options, or mend what writes the file",
            place=Place(row=number, text=shorten(text)),
        )


def refuse_sparse(columns: int, records: int) -> None:
    """Raises DataError ``TooManyColumns`` where records have so many different columns that most cells are null."""
    if columns * records > MOST_CELLS:
        raise DataError(
            "TooManyColumns",
            f"{records:,} records have {columns:,} different columns: a table of them would be nearly empty",
            hint="where names are data, write them as values",
        )


def _frame(block: TextBlock) -> pl.DataFrame:
    columns = [pl.Series(name, cells, dtype=pl.String) for name, cells in block.columns.items()]
    return pl.DataFrame([*columns, row_numbers(block.numbers)])


def _typed(
    rows: pl.LazyFrame, frame: pl.DataFrame | None, names: Sequence[str]
) -> tuple[pl.LazyFrame, pl.DataFrame | None]:
    """The rows with the types of those columns inferred; as a frame too, if they are one."""
    if frame is not None and frame.height * len(names) <= _FEW_CELLS:
        frame = frame.with_columns([infer.column(name, frame[name].to_list()) for name in names])
        return frame.lazy(), frame
    rows = rows.with_columns(infer.casts(infer.types(rows, names) if names else {}))
    frame = None if frame is None else rows.collect(engine="in-memory")
    return rows if frame is None else frame.lazy(), frame
