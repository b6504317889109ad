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
    LONGEST_MALFORMED,
    ROW,
    Table,
    check_malformed,
    checked_names,
    col,
    malformed_frame,
    row_numbers,
    shorten,
)

#: Bytes of a file that become rows at once.
BLOCK = 4 * 1024 * 1024

#: Bytes of rows that are kept in memory, if the file itself is not.
_IN_MEMORY = 1024 * 1024

#: The most cells of a block. Text of a few megabytes has far fewer: the rest would be nulls.
MOST_CELLS = 20_000_000

_HINT = "look at the reader's options, or mend what writes the file"


@dataclass(frozen=True)
class TextBlock:
    """Some records: their cells by column, None for null; the records' numbers in the file; and malformed records."""

    columns: Mapping[str, Sequence[str | None] | pl.Series]
    numbers: Sequence[int]
    malformed: Sequence[tuple[int, str, str]] = ()


@dataclass(frozen=True)
class Reading:
    """How blocks become a table. Columns that are ``declared`` stay text, or all of them if ``typed`` is False."""

    format: str
    declared: Collection[str]
    typed: bool = True
    dialect: Mapping[str, object] = field(default_factory=dict)


def table_of(blocks: Iterable[TextBlock], content: Content, reading: Reading) -> Table:
    """The rows of a file. A column that a block lacks is null there.

    If the content is in memory, so are the rows; else they spill to temporary files.

    Raises:
        DataError: ``TooManyMalformed``, ``TooManyColumns`` …, or a block cannot be read.
    """
    names: dict[str, None] = {}
    malformed: list[tuple[int, str, str]] = []
    spill = Spill(content.scratch, in_memory=_IN_MEMORY if content.data is None else math.inf)
    for block in blocks:
        malformed.extend((number, shorten(text, LONGEST_MALFORMED), reason) for number, text, reason in block.malformed)
        if malformed:
            number, text, reason = malformed[-1]
            check_malformed(malformed, reason, _HINT, Place(row=number, text=shorten(text)))
        names |= dict.fromkeys(block.columns)
        checked_names(list(names))
        columns = [pl.Series(name, cells, dtype=pl.String) for name, cells in block.columns.items()]
        spill.add(pl.DataFrame([*columns, row_numbers(block.numbers)]))
    if not spill.height:
        spill.add(pl.DataFrame(schema={**dict.fromkeys(names, pl.String()), ROW: pl.UInt64}))
    in_order = [*map(col, names), pl.col(ROW)]
    frame = spill.frame()
    frame = None if frame is None else frame.select(in_order)
    rows = spill.rows().select(in_order) if frame is None else frame.lazy()
    if reading.typed:
        rows, frame = infer.typed(rows, frame, [name for name in names if name not in reading.declared])
    return Table(
        rows,
        reading.format,
        frame,
        malformed=malformed_frame(malformed),
        height=spill.height,
        dialect=reading.dialect,
        scratch=content.scratch,
    )


def refuse_sparse(columns: int, records: int) -> None:
    """Refuse records with so many different columns that most cells would be null.

    Raises:
        DataError: ``TooManyColumns``.
    """
    if columns * records > MOST_CELLS:
        raise DataError(
            "TooManyColumns",
            f"{records:,} records have {columns:,} different columns: a table of them would be nearly empty",
            hint="where names are data, write them as values",
        )
