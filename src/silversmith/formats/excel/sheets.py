"""The cells of a worksheet as columns with types: a column has a type only if every cell of it has that one.

Libraries make nulls of the cells that are not like most. Here a column of numbers with one "n/a" or one #DIV/0! in it
is text, all of it, so that nothing is lost and a contract can name the cell.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

import polars as pl

from silversmith.errors import DataError, Place
from silversmith.formats.table import MOST_COLUMNS, checked_names, row_numbers, shorten

#: How many cells a sheet may have: its columns are held in memory.
MOST_CELLS = 8_000_000

#: How much text a sheet may have, in characters.
MOST_TEXT = 128 * 1024 * 1024

#: Rows of a sheet that become a piece of each column at once.
_ROWS = 4096

#: Integers up to this one are exact in the numbers of worksheets, which are all floating.
_EXACT = 2**53

#: A cell: nothing, text, a number, true or false, a moment, a day or a time of day. Errors are their text: #N/A.
Cell = str | float | bool | datetime | date | time | None

#: A row of a sheet: its number, from 1, and its cells by column, from 0. Empty rows may be left out.
Row = tuple[int, dict[int, Cell]]

_BUILTIN_MOMENTS = frozenset([*range(14, 23), *range(27, 37), 45, 47, *range(50, 59)])
_QUOTED = re.compile(r'"[^"]*"|\\.|_.|\*.|\[(?!h+\]|m+\]|s+\])[^\]]*\]', flags=re.IGNORECASE)
_ELAPSED = re.compile(r"\[(?:h+|m+|s+)\]", flags=re.IGNORECASE)


@dataclass(frozen=True)
class Sheet:
    """The header of a sheet and its rows as a frame, with their numbers; ``header`` is the number of its row."""

    frame: pl.DataFrame
    header: int


def is_moment(format_code: str) -> bool:
    """Whether a number format of one's own shows a day or a time. Elapsed time, ``[h]:mm``, is a number of days."""
    if _ELAPSED.search(format_code):
        return False
    bare = _QUOTED.sub("", format_code.partition(";")[0])
    return "general" not in bare.lower() and bool(re.search(r"[ymdhs]", bare, flags=re.IGNORECASE))


def is_builtin_moment(number: int) -> bool:
    """The same for the formats that have numbers instead of codes; 46 is elapsed time.

    https://learn.microsoft.com/en-us/dotnet/api/documentformat.openxml.spreadsheet.numberingformat
    """
    return number in _BUILTIN_MOMENTS


def moment(serial: float, *, since_1904: bool) -> Cell:
    """A number of days as a moment, to the millisecond; below one it is a time of day. What is no day stays a number:
    what is below zero, after the year 9999, or 60, for the 29th of February 1900, which never was."""
    days, rest = divmod(round(serial * 86_400_000), 86_400_000)
    if days < 0 or (days == 60 and not since_1904):
        return serial
    if days == 0 and not since_1904:
        return time_of_day(timedelta(milliseconds=rest))
    first = date(1904, 1, 1) if since_1904 else date(1899, 12, 31 if days < 60 else 30)
    try:
        return datetime.combine(first, time(0)) + timedelta(days=days, milliseconds=rest)
    except OverflowError:
        return serial


def time_of_day(since_midnight: timedelta) -> time:
    """What a clock shows so long after midnight, on the same day."""
    return (datetime.combine(date(2000, 1, 1), time(0)) + since_midnight).time()


class Columns:
    """Columns that grow by rows, held as Polars holds them."""

    def __init__(self, name: str) -> None:
        self._sheet = name
        self._waiting: list[dict[int, Cell]] = []
        self._pieces: list[dict[int, pl.Series]] = []
        self._heights: list[int] = []
        self._cells = self._text = self._rows = 0
        self._places: set[int] = set()
        self.width = 0

    def add(self, cells: dict[int, Cell]) -> None:
        """One row.

        Raises:
            DataError: ``TooLarge``, ``TooManyColumns``.
        """
        self.width = max(self.width, max(cells, default=-1) + 1)
        self._places.update(cells)
        self._rows += 1
        self._cells += len(cells)
        self._text += sum(len(cell) for cell in cells.values() if type(cell) is str)
        many = self._cells > MOST_CELLS or len(self._places) * self._rows > 4 * MOST_CELLS
        if many or len(self._places) > MOST_COLUMNS or self._text > MOST_TEXT:
            raise DataError(
                "TooLarge",
                f'the sheet "{shorten(self._sheet)}" has more than {MOST_CELLS:,} cells, {MOST_TEXT:,} characters or '
                f"{MOST_COLUMNS:,} columns: worksheets are read in memory",
                hint="save it as CSV, which has no limit",
            )
        self._waiting.append(cells)
        if len(self._waiting) == _ROWS:
            self._flush()

    def _flush(self) -> None:
        rows, self._waiting = self._waiting, []
        if not rows:
            return
        places = sorted({place for row in rows for place in row})
        self._pieces.append({place: _series([row.get(place) for row in rows]) for place in places})
        self._heights.append(len(rows))

    def series(self) -> list[pl.Series]:
        """The columns, each of the one type that all of its cells have."""
        self._flush()
        return [self._column(place) for place in range(self.width)]

    def _column(self, place: int) -> pl.Series:
        pieces = [piece.get(place) for piece in self._pieces]
        kinds = {piece.dtype for piece in pieces if piece is not None and piece.dtype != pl.Null}
        kind = _joined(kinds)
        made = [
            pl.Series([None], dtype=kind).new_from_index(0, height) if piece is None else _as(piece, kind)
            for piece, height in zip(pieces, self._heights, strict=True)
        ]
        return pl.concat(made) if made else pl.Series([], dtype=kind)


def _series(cells: list[Cell]) -> pl.Series:
    kinds = {type(cell) for cell in cells}
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
    return pl.Series(cells, dtype={str: pl.String, bool: pl.Boolean, date: pl.Date, time: pl.Time}[only])


def _numbers(numbers: pl.Series) -> pl.Series:
    """Whole numbers as such; they are all floating where they come from."""
    present = numbers.drop_nulls()
    whole = (present == present.floor()) & (present.abs() <= _EXACT)
    return numbers.cast(pl.Int64) if whole.all() else numbers


def _joined(kinds: set[pl.DataType]) -> pl.DataType:
    if not kinds:
        return pl.String()
    if len(kinds) == 1:
        return next(iter(kinds))
    if kinds == {pl.Int64(), pl.Float64()}:
        return pl.Float64()
    return pl.Datetime("ms") if kinds == {pl.Date(), pl.Datetime("ms")} else pl.String()


def _as(piece: pl.Series, kind: pl.DataType) -> pl.Series:
    if kind != pl.String() or piece.dtype in {pl.String(), pl.Null()}:
        return piece.cast(kind)
    if piece.dtype in {pl.Float64(), pl.Datetime("ms"), pl.Time()}:
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
    return cell.isoformat(sep=" ") if isinstance(cell, datetime) else cell.isoformat()


def sheet(name: str, rows: Iterable[Row], *, header: bool, skip_rows: int, names: Sequence[str] | None) -> Sheet:
    """The rows of a sheet under their names. Empty rows are none, and columns without name and cells are none.

    Raises:
        DataError: ``EmptyFile``, ``DuplicateColumns``, ``WrongColumns``, ``TooLarge`` … .
    """
    found = _present(rows, skip_rows)
    first = next(found, None)
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
    for _, cells in found:
        columns.add(cells)
    width = max(columns.width, max(heads, default=-1) + 1)
    columns.width = width
    series = columns.series()
    used = [place for place in range(width) if heads.get(place) or series[place].null_count() < series[place].len()]
    if names is not None and len(names) != len(used):
        raise DataError(
            "WrongColumns",
            f"the sheet has {len(used)} columns, the reader names {len(names)}",
            hint="name as many columns as the sheet has: Excel(columns=[…])",
            place=Place(row=first[0]),
        )
    called = list(names) if names is not None else [heads.get(place) or f"column_{place + 1}" for place in used]
    checked_names(called)
    made = [series[place].alias(label) for place, label in zip(used, called, strict=True)]
    height = made[0].len() if made else 0
    return Sheet(pl.DataFrame([*made, row_numbers(range(1, height + 1))]), first[0])


def is_blank(cells: dict[int, Cell]) -> bool:
    """Whether a row has nothing in it but blanks."""
    return all(cell is None or (isinstance(cell, str) and not cell.strip()) for cell in cells.values())


def _present(rows: Iterable[Row], skip_rows: int) -> Iterator[Row]:
    """Rows with anything in them, after those to skip. An empty text is as good as nothing."""
    for number, cells in rows:
        if number > skip_rows and not is_blank(cells):
            yield number, {place: cell for place, cell in cells.items() if cell != ""}
