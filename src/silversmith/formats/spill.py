"""The spill to disk: frames one after the other, in memory while they are few, in temporary files from then on.

Two kinds of tables are made so: of frames that have their types, and of blocks of text, whose types are inferred.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from silversmith.errors import DataError, Place
from silversmith.formats import infer
from silversmith.formats.archives.content import Content, Scratch
from silversmith.formats.table import (
    LONGEST_MALFORMED,
    ROW,
    Table,
    check_malformed,
    checked_names,
    col,
    joined,
    malformed_frame,
    row_numbers,
    shorten,
)

#: Frames together are kept in memory up to so many bytes; and rows of text, if the file itself is not in memory.
IN_MEMORY = 32 * 1024 * 1024
_TEXT_IN_MEMORY = 1024 * 1024

#: Bytes of a text file that become rows at once.
BLOCK = 4 * 1024 * 1024

#: The most cells of a block. Text of a few megabytes has far fewer: the rest would be nulls.
MOST_CELLS = 20_000_000

_HINT = "look at the reader's options, or correct the program that writes the file"


class Spill:
    """Frames in the order in which they are added, with ``height`` rows together.

    A column that a frame lacks is null there. Types must not differ between frames.
    """

    def __init__(self, scratch: Scratch, *, in_memory: float = IN_MEMORY, ending: str = ".arrow") -> None:
        self._scratch, self._in_memory, self._ending = scratch, in_memory, ending
        self._frames: list[pl.DataFrame] = []
        self._paths: list[Path] = []
        self._size = 0
        self.height = 0

    def add(self, frame: pl.DataFrame) -> None:
        """Keep a frame. The first one without rows is kept for its columns, later ones are not."""
        if not frame.height and (self._frames or self._paths):
            return
        self.height += frame.height
        self._size += int(frame.estimated_size())
        self._frames.append(frame)
        if self._size > self._in_memory:
            path = self._scratch.file(self._ending)
            self._joined().write_ipc(path, compression="lz4")
            self._paths.append(path)
            self._frames, self._size = [], 0

    def frame(self) -> pl.DataFrame | None:
        """All rows, if they are in memory; None if some are in files, or no frame was added."""
        return None if self._paths or not self._frames else self._joined()

    def rows(self) -> pl.LazyFrame:
        """All rows, wherever they are; at least one frame was added."""
        spilled = [pl.scan_ipc(path, glob=False, hive_partitioning=False) for path in self._paths]
        return pl.concat([*spilled, *(frame.lazy() for frame in self._frames)], how="diagonal")

    def _joined(self) -> pl.DataFrame:
        return self._frames[0] if len(self._frames) == 1 else pl.concat(self._frames, how="diagonal")


def table_of(
    frames: Iterable[pl.DataFrame], kind: str, scratch: Scratch, *, typed: bool = False, in_memory: float = IN_MEMORY
) -> Table:
    """At least one frame, all of the same schema, as a table with :data:`ROW`, whatever their size together.

    ``typed``: their types are not inferred.
    """
    spill = Spill(scratch, in_memory=in_memory)
    for frame in frames:
        numbered = frame.with_row_index(ROW, offset=spill.height + 1)
        spill.add(numbered.with_columns(pl.col(ROW).cast(pl.UInt64)))
    whole = spill.frame()
    rows = spill.rows() if whole is None else whole.lazy()
    return Table(rows, kind, whole, height=spill.height, typed=typed, scratch=scratch)


@dataclass(frozen=True)
class TextBlock:
    """Some records: their cells by column, None for null; the records' numbers in the file; and malformed records."""

    columns: Mapping[str, Sequence[str | None] | pl.Series]
    numbers: Sequence[int]
    malformed: Sequence[tuple[int, str, str]] = ()


def text_table_of(blocks: Iterable[TextBlock], content: Content, kind: str, declared: Collection[str] | None) -> Table:
    """The rows of a file. A column that a block lacks is null there.

    If the content is in memory, so are the rows; else they spill to temporary files. Columns that are ``declared`` stay
    text, the types of others are inferred; None: all stay text.

    Raises:
        DataError: ``TooManyMalformed``, ``TooManyColumns`` …, or a block cannot be read.
    """
    names: dict[str, None] = {}
    malformed: list[tuple[int, str, str]] = []
    spill = Spill(content.scratch, in_memory=_TEXT_IN_MEMORY if content.data is None else math.inf)
    for block in blocks:
        malformed.extend((number, shorten(text, LONGEST_MALFORMED), reason) for number, text, reason in block.malformed)
        if malformed:
            number, text, reason = malformed[-1]
            check_malformed(malformed, reason, _HINT, Place(row=number, text=shorten(text)))
        names |= dict.fromkeys(block.columns)
        checked_names(list(names))
        columns = [pl.Series(name, cells, dtype=pl.String) for name, cells in block.columns.items()]
        spill.add(joined([*columns, row_numbers(block.numbers)]))
    if not spill.height:
        spill.add(pl.DataFrame(schema={**dict.fromkeys(names, pl.String()), ROW: pl.UInt64}))
    in_order = [*map(col, names), pl.col(ROW)]
    frame = spill.frame()
    frame = None if frame is None else frame.select(in_order)
    rows = spill.rows().select(in_order) if frame is None else frame.lazy()
    if declared is not None:
        rows, frame = infer.typed(rows, frame, [name for name in names if name not in declared])
    malformed_rows = malformed_frame(malformed)
    return Table(rows, kind + content.packing, frame, malformed_rows, height=spill.height, scratch=content.scratch)


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
