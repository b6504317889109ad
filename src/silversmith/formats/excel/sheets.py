"""The cells of a worksheet as columns with types: a column has a type only if every cell of it has that type.

A column of numbers with one "n/a" or one #DIV/0! in it is text, all of it, so that nothing is lost and a contract can
name the cell. Most libraries make such cells null.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta

import polars as pl

from silversmith.errors import DataError, Place
from silversmith.formats.table import MOST_COLUMNS, checked_names, clean_name, row_numbers, shorten

#: How many cells a sheet may have: its columns are held in memory.
MOST_CELLS = 8_000_000

#: How much text a sheet may have, in characters.
MOST_TEXT = 128 * 1024 * 1024

#: Rows of a sheet that become a piece of each column at once.
_ROWS = 4096

#: So many cells become pieces of columns even if they are fewer rows.
_CELLS = 200_000

#: Integers up to this one are exact in the numbers of worksheets, which are all floating.
_EXACT = 2**53

#: Milliseconds of a day.
_DAY = 86_400_000

#: A cell: empty, text, a number, true or false, a moment, a time of day, or a length of time. Errors are their text:
#: ``#N/A``. A day is the moment at which it begins.
Cell = str | float | bool | datetime | time | timedelta | None

#: A row of a sheet: its number, from 1, and its cells by column, from 0. Empty rows and cells are left out.
Row = tuple[int, dict[int, Cell]]


@dataclass(frozen=True)
class SheetInfo:
    """A worksheet as the workbook lists it. ``visible``: its tab is shown."""

    name: str
    visible: bool


@dataclass(frozen=True)
class Sheet:
    """The header of a sheet and its rows as a frame, with their numbers; ``header`` is the number of its row.

    ``renamed``: names that stand in it with blanks and signs that nobody sees, as they stand there.
    """

    frame: pl.DataFrame
    header: int
    renamed: dict[str, str]


def unreadable(why: str) -> DataError:
    """The error for a file that is no whole workbook."""
    return DataError(
        "UnreadableExcel",
        f"the workbook cannot be read: {shorten(why, 200)}",
        hint="open it and save it again; if that does not help, save the sheet as CSV",
    )


def encrypted() -> DataError:
    """The error for a workbook that needs a password."""
    return DataError(
        "UnreadableExcel",
        "the workbook cannot be read: it is encrypted",
        hint="save it without a password; S3 encrypts every object that lies in it",
    )


class Columns:
    """The columns of a sheet, which grow by rows, held as Polars holds them. Each is named by its number, from 0."""

    def __init__(self, name: str) -> None:
        self._sheet = name
        self._waiting: list[dict[int, Cell]] = []
        self._waiting_cells = 0
        self._frames: list[pl.DataFrame] = []
        self._cells = self._characters = self._rows = 0
        self._numbers: set[int] = set()

    def add(self, cells: dict[int, Cell]) -> None:
        """One row.

        Raises:
            DataError: ``TooLarge``.
        """
        self._waiting.append(cells)
        self._waiting_cells += len(cells)
        if len(self._waiting) == _ROWS or self._waiting_cells > _CELLS:
            self._flush()

    def _flush(self) -> None:
        rows, self._waiting, self._waiting_cells = self._waiting, [], 0
        if not rows:
            return
        numbers = sorted(set[int]().union(*rows))
        self._numbers.update(numbers)
        self._rows += len(rows)
        self._cells += sum(map(len, rows))
        self._check()
        frame = pl.DataFrame({str(number): _series([row.get(number) for row in rows]) for number in numbers})
        self._characters += sum(int(words.str.len_chars().sum()) for words in frame if words.dtype == pl.String)
        self._check()
        self._frames.append(frame)

    def _check(self) -> None:
        many = self._cells > MOST_CELLS or len(self._numbers) * self._rows > 4 * MOST_CELLS
        if many or len(self._numbers) > MOST_COLUMNS or self._characters > MOST_TEXT:
            raise DataError(
                "TooLarge",
                f'the sheet "{shorten(self._sheet)}" has more than {MOST_CELLS:,} cells, {MOST_TEXT:,} characters or '
                f"{MOST_COLUMNS:,} columns: worksheets are read in memory",
                hint="save it as CSV, which has no limit",
            )

    def frame(self) -> pl.DataFrame:
        """All rows, each column of the one type that all of its cells have. Columns without cells are left out."""
        self._flush()
        schemas = [frame.schema for frame in self._frames]
        types = {
            name: _joined({schema[name] for schema in schemas if name in schema})
            for name in map(str, sorted(self._numbers))
        }
        frames = [frame.select([_cast(cells, types[cells.name]) for cells in frame]) for frame in self._frames]
        frame = pl.concat(frames, how="diagonal").select(list(types)) if frames else pl.DataFrame()
        return frame.select([_times(cells) if cells.dtype == pl.Duration("ms") else cells for cells in frame])


def _series(cells: list[Cell]) -> pl.Series:
    kinds = set(map(type, cells))
    kinds.discard(type(None))
    if not kinds:
        return pl.Series(cells, dtype=pl.Null)
    if len(kinds) > 1:
        return pl.Series([as_text(cell) for cell in cells], dtype=pl.String)
    (only,) = kinds
    if only is float:
        return _numbers(pl.Series(cells, dtype=pl.Float64))
    if only is datetime:
        moments = pl.Series(cells, dtype=pl.Datetime("ms"))
        return moments.cast(pl.Date) if (moments.drop_nulls().dt.time() == time(0)).all() else moments
    return pl.Series(cells, dtype=_DTYPES[only])


_DTYPES: dict[type, pl.DataType] = {
    str: pl.String(),
    bool: pl.Boolean(),
    time: pl.Time(),
    timedelta: pl.Duration("ms"),
}


def _times(lengths: pl.Series) -> pl.Series:
    """Lengths of time, if all of them are within a day, as times of day; else as numbers of days."""
    milliseconds = lengths.cast(pl.Int64)
    if milliseconds.is_between(0, _DAY - 1).all():
        return (milliseconds * 1_000_000).cast(pl.Time)
    return _numbers(milliseconds / _DAY)


def _numbers(numbers: pl.Series) -> pl.Series:
    """Whole numbers as such; they are all floating where they come from."""
    present = numbers.drop_nulls()
    whole = (present == present.floor()) & (present.abs() <= _EXACT)
    return numbers.cast(pl.Int64) if whole.all() else numbers


def _joined(dtypes: set[pl.DataType]) -> pl.DataType:
    dtypes = {dtype for dtype in dtypes if dtype != pl.Null}
    if not dtypes:
        return pl.String()
    if len(dtypes) == 1:
        return next(iter(dtypes))
    if dtypes == {pl.Int64(), pl.Float64()}:
        return pl.Float64()
    return pl.Datetime("ms") if dtypes == {pl.Date(), pl.Datetime("ms")} else pl.String()


def _cast(piece: pl.Series, dtype: pl.DataType) -> pl.Series:
    if dtype != pl.String() or piece.dtype in {pl.String(), pl.Null()}:
        return piece.cast(dtype)
    if piece.dtype in {pl.Float64(), pl.Datetime("ms"), pl.Time(), pl.Duration("ms")}:
        return pl.Series([as_text(cell) for cell in piece.to_list()], dtype=pl.String)
    return piece.cast(pl.String)


def as_text(cell: Cell) -> str | None:
    """A cell among others of other kinds: as it would be written in a CSV file."""
    if cell is None or isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) <= _EXACT else repr(cell)
    if isinstance(cell, datetime) and cell.time() == time(0):
        return cell.date().isoformat()
    if isinstance(cell, timedelta):
        return _length_as_text(cell)
    return cell.isoformat(sep=" ") if isinstance(cell, datetime) else cell.isoformat()


def _length_as_text(length: timedelta) -> str:
    """As ``[hh]:mm:ss`` shows it."""
    seconds = abs(length) // timedelta(seconds=1)
    rest = f"{abs(length) % timedelta(seconds=1) / timedelta(seconds=1):.3f}"[1:].rstrip("0").rstrip(".")
    sign = "-" if length < timedelta(0) else ""
    return f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{rest}"


def sheet(name: str, rows: Iterable[Row], *, header: bool, skip_rows: int, names: Sequence[str] | None) -> Sheet:
    """The rows of a sheet under their names. Empty rows do not count, and columns without name and cells do not either.

    Raises:
        DataError: ``EmptyFile``, ``DuplicateColumns``, ``WrongColumns``, ``TooLarge`` … .
    """
    filled = ((number, cells) for number, cells in rows if number > skip_rows and not is_blank(cells))
    first = next(filled, None)
    if first is None:
        raise DataError(
            "EmptyFile",
            f'the sheet "{shorten(name)}" has no cell with anything in it'
            + (" after the rows to skip" if skip_rows else ""),
            hint="choose another sheet: Excel(sheet=…)",
        )
    columns = Columns(name)
    heads = {place: as_text(cell) or "" for place, cell in first[1].items()} if header else {}
    if not header:
        columns.add(first[1])
    for _, cells in filled:
        columns.add(cells)
    frame = columns.frame()
    filled_columns = {int(column.name) for column in frame if column.null_count() < column.len()}
    clean = {number: clean_name(label) for number, label in heads.items()}
    used = sorted(filled_columns.union(number for number, label in clean.items() if label))
    if names is not None and len(names) != len(used):
        raise DataError(
            "WrongColumns",
            f"the sheet has {len(used)} columns, the reader names {len(names)}",
            hint="name as many columns as the sheet has: Excel(columns=[…])",
            place=Place(row=first[0]),
        )
    labels = list(names) if names is not None else [clean.get(number) or f"column_{number + 1}" for number in used]
    checked_names(labels)
    empty = pl.Series([None], dtype=pl.String).new_from_index(0, frame.height)
    by_number = {int(column.name): column for column in frame}
    data = [by_number.get(number, empty).alias(label) for number, label in zip(used, labels, strict=True)]
    written = (
        {} if names is not None else {label: heads.get(number) for number, label in zip(used, labels, strict=True)}
    )
    renamed = {label: head for label, head in written.items() if head and head != label}
    return Sheet(pl.DataFrame([*data, row_numbers(range(1, frame.height + 1))]), first[0], renamed)


def is_blank(cells: dict[int, Cell]) -> bool:
    """Whether a row has nothing in it but blanks."""
    return all(isinstance(cell, str) and not cell.strip() for cell in cells.values())
