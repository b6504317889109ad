"""Rows whose cells are text, block by block: in memory at once, or through temporary files; then their types."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from silversmith.errors import DataError, Place
from silversmith.formats import infer
from silversmith.formats.archives.content import Content
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
    """How blocks become a table. Columns that are ``wanted`` stay text, or all of them where ``typed`` is False."""

    format: str
    wanted: Collection[str]
    typed: bool = True
    dialect: Mapping[str, object] = field(default_factory=dict)


def table_of(blocks: Iterable[TextBlock], content: Content, reading: Reading) -> Table:
    """The rows of a file. A column that a block does not have is null there.

    Where the content is in memory, so are the rows; else they go through temporary files.

    Raises:
        DataError: ``TooManyMalformed``, ``TooManyColumns`` …, or what the blocks raise.
    """
    names: dict[str, None] = {}
    parts: list[tuple[pl.DataFrame | Path, int]] = []
    malformed: list[tuple[int, str, str]] = []
    for block in blocks:
        _note(malformed, block)
        names |= dict.fromkeys(block.columns)
        checked_names(list(names))
        frame = _frame(block)
        if frame.height:
            parts.append((frame if content.data is not None else _written(frame, content), frame.height))
    rows = [_whole(part, list(names)) for part, _ in parts]
    found = pl.concat(rows, how="vertical") if rows else pl.LazyFrame(schema=_schema(names))
    whole = found.collect(engine="in-memory") if content.data is not None else None
    if reading.typed:
        found, whole = _typed(found, whole, [name for name in names if name not in reading.wanted])
    return Table(
        whole.lazy() if whole is not None else found,
        reading.format,
        whole,
        malformed=malformed_frame(malformed),
        height=sum(height for _, height in parts),
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
    made = [pl.Series(name, cells, dtype=pl.String) for name, cells in block.columns.items()]
    return pl.DataFrame([*made, row_numbers(block.numbers)])


def _written(frame: pl.DataFrame, content: Content) -> Path:
    path = content.scratch.file(".arrow")
    frame.write_ipc(path, compression="lz4")
    return path


def _whole(part: pl.DataFrame | Path, names: Sequence[str]) -> pl.LazyFrame:
    rows = pl.scan_ipc(part, glob=False, hive_partitioning=False) if isinstance(part, Path) else part.lazy()
    held = set(rows.collect_schema().names())
    nothing = pl.lit(None, dtype=pl.String)
    return rows.select([*(col(name) if name in held else nothing.alias(name) for name in names), pl.col(ROW)])


def _schema(names: Iterable[str]) -> dict[str, pl.DataType]:
    return {**dict.fromkeys(names, pl.String()), ROW: pl.UInt64()}


def _typed(
    rows: pl.LazyFrame, frame: pl.DataFrame | None, names: Sequence[str]
) -> tuple[pl.LazyFrame, pl.DataFrame | None]:
    if frame is not None and frame.height * len(names) <= _FEW_CELLS:
        frame = frame.with_columns([infer.column(name, frame[name].to_list()) for name in names])
        return frame.lazy(), frame
    source = rows if frame is None else frame.lazy()
    found = infer.types(source, names) if names else {}
    source = source.with_columns(infer.casts(found))
    return source, None if frame is None else source.collect(engine="in-memory")
