"""The cells of a worksheet as columns with types: a column has a type only if every cell of it has that type.

A column of numbers with one "n/a" or one #DIV/0! in it is text, all of it, so that nothing is lost and a contract can
name the cell. Most libraries make such cells null.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from enum import IntEnum
from zipfile import ZipInfo

import polars as pl

from silversmith.errors import DataError, Place
from silversmith.formats.archives.content import unpacked_limit
from silversmith.formats.table import EXACT, MOST_COLUMNS, checked_names, clean_name, joined, row_numbers, shorten

#: How many cells a sheet may have: its columns are held in memory.
MOST_CELLS = 8_000_000

#: How much text a sheet may have, in characters.
MOST_TEXT = 128 * 1024 * 1024

#: Cells that become a piece of each column at once: so many, and so many for each column.
_CELLS, _CELLS_OF_COLUMN = 100_000, 64

#: Milliseconds of a day.
DAY = 86_400_000


class CellKind(IntEnum):
    """The kind of a cell. Cells hold numbers: 0 or 1 for a flag, milliseconds since 1970 for a moment, since midnight
    for a clock, or of a length of time. Errors are their text: ``#N/A``. A day is the moment at which it begins."""

    NUMBER = 0
    FLAG = 1
    MOMENT = 2
    CLOCK = 3
    LENGTH = 4
    TEXT = 5


#: The columns of a frame of cells: row, from 1, and column, from 0, kind, and number or text. Empty cells are left out.
CELLS = {"row": pl.UInt32, "column": pl.UInt16, "kind": pl.UInt8, "number": pl.Float64, "text": pl.String}


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


def too_large(message: str) -> DataError:
    """The error for a workbook over a limit."""
    return DataError("TooLarge", message, hint="save the sheet as CSV, which has no limit")


def check_size(member: ZipInfo) -> None:
    """No more than the directory says is ever unpacked of a part.

    Raises:
        DataError: ``TooLarge``.
    """
    limit = unpacked_limit(member.compress_size)
    if member.file_size > limit:
        raise too_large(
            f'the part "{shorten(member.filename)}" of the document has {member.file_size:,} bytes; {limit:,} are read'
        )


def refuse_doctype(*_: object) -> None:
    """A handler of expat: entities, which a DOCTYPE declares, could make gigabytes of a few bytes."""
    raise unreadable("it has a DOCTYPE, which no such document has")


class SheetColumns:
    """The columns of a sheet, which grow by rows, held as Polars holds them. Each is named by its number, from 0."""

    def __init__(self, name: str) -> None:
        self._sheet = name
        self._frames: list[pl.DataFrame] = []
        self._cells = self._characters = self._rows = 0
        self._numbers: set[int] = set()

    def add(self, cells: pl.DataFrame) -> None:
        """Cells of some rows, after all that were added before.

        Raises:
            DataError: ``TooLarge``.
        """
        if not cells.height:
            return
        rows, numbers = cells["row"].unique().sort(), cells["column"].unique().sort()
        self._numbers.update(numbers.to_list())
        self._rows += rows.len()
        self._cells += cells.height
        self._characters += int(cells["text"].str.len_chars().sum())
        self._check()
        places = numbers.search_sorted(cells["column"]) * rows.len() + rows.search_sorted(cells["row"])
        nothing = pl.Series([None], dtype=pl.UInt32).new_from_index(0, rows.len() * numbers.len())
        order = nothing.scatter(places, pl.int_range(cells.height, dtype=pl.UInt32, eager=True))
        kinds, values, texts = (cells[name].gather(order) for name in ("kind", "number", "text"))
        columns = []
        for place, number in enumerate(numbers.to_list()):
            part = slice(place * rows.len(), (place + 1) * rows.len())
            columns.append(_series(kinds[part], values[part], texts[part]).alias(str(number)))
        self._frames.append(pl.DataFrame(columns))

    def _check(self) -> None:
        many = self._cells > MOST_CELLS or len(self._numbers) * self._rows > 4 * MOST_CELLS
        if many or len(self._numbers) > MOST_COLUMNS or self._characters > MOST_TEXT:
            raise too_large(
                f'the sheet "{shorten(self._sheet)}" has more than {MOST_CELLS:,} cells, {MOST_TEXT:,} characters or '
                f"{MOST_COLUMNS:,} columns: worksheets are read in memory"
            )

    def frame(self) -> pl.DataFrame:
        """All rows, each column of the one type that all of its cells have. Columns without cells are left out."""
        schemas = [frame.schema for frame in self._frames]
        types = {
            name: _joined({schema[name] for schema in schemas if name in schema})
            for name in map(str, sorted(self._numbers))
        }
        for place, frame in enumerate(self._frames):
            self._frames[place] = frame.select([_cast(cells, types[cells.name]) for cells in frame])
        frame = pl.concat(self._frames, how="diagonal").select(list(types)) if self._frames else pl.DataFrame()
        return frame.select([_times(cells) if cells.dtype == pl.Duration("us") else cells for cells in frame])


def _series(kinds: pl.Series, numbers: pl.Series, texts: pl.Series) -> pl.Series:
    """The cells of one column, null where there is none."""
    if kinds.min() != kinds.max():
        return _texts(kinds, numbers, texts)
    kind = kinds.max()
    if kind == CellKind.TEXT:
        return texts
    if kind == CellKind.NUMBER:
        return _whole(numbers)
    if kind == CellKind.FLAG:
        return numbers.cast(pl.Boolean)
    if kind == CellKind.MOMENT:
        moments = numbers.cast(pl.Int64).cast(pl.Datetime("ms"))
        return moments.cast(pl.Date) if (numbers % DAY == 0).all() else moments
    microseconds = (numbers * 1000).round().cast(pl.Int64)
    return (microseconds * 1000).cast(pl.Time) if kind == CellKind.CLOCK else microseconds.cast(pl.Duration("us"))


def _times(lengths: pl.Series) -> pl.Series:
    """Lengths of time, if all of them are within a day, as times of day; else as numbers of days."""
    microseconds = lengths.cast(pl.Int64)
    if microseconds.is_between(0, DAY * 1000 - 1).all():
        return (microseconds * 1000).cast(pl.Time)
    return _whole(microseconds / (DAY * 1000))


def _whole(numbers: pl.Series) -> pl.Series:
    """Whole numbers as such; they are all floating where they come from."""
    present = numbers.drop_nulls()
    is_whole = (present == present.floor()) & (present.abs() <= EXACT)
    return numbers.cast(pl.Int64) if is_whole.all() else numbers


def _joined(dtypes: set[pl.DataType]) -> pl.DataType:
    if len(dtypes) == 1:
        return next(iter(dtypes))
    if dtypes == {pl.Int64(), pl.Float64()}:
        return pl.Float64()
    return pl.Datetime("ms") if dtypes == {pl.Date(), pl.Datetime("ms")} else pl.String()


def _cast(piece: pl.Series, dtype: pl.DataType) -> pl.Series:
    if dtype != pl.String() or piece.dtype == pl.String():
        return piece.cast(dtype)
    if piece.dtype in {pl.Float64(), pl.Datetime("ms"), pl.Time(), pl.Duration("us")}:
        return pl.Series(piece.name, [as_text(cell) for cell in piece.to_list()], dtype=pl.String)
    return piece.cast(pl.String)


def _texts(kinds: pl.Series, numbers: pl.Series, texts: pl.Series) -> pl.Series:
    """Cells of several kinds as texts."""
    for kind in set(kinds.drop_nulls()) - {CellKind.TEXT}:
        places = (kinds == kind).arg_true()
        cells = _series(kinds.gather(places), numbers.gather(places), texts.gather(places))
        texts = texts.scatter(places, _cast(cells, pl.String()))
    return texts


def as_text(cell: str | float | datetime | time | timedelta | None) -> str | None:
    """A cell among others of other kinds: as it would be written in a CSV file."""
    if cell is None or isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) <= EXACT else repr(cell)
    if isinstance(cell, datetime) and cell.time() == time(0):
        return cell.date().isoformat()
    if isinstance(cell, timedelta):
        return _length_as_text(cell)
    return cell.isoformat(sep=" ") if isinstance(cell, datetime) else cell.isoformat()


def _length_as_text(length: timedelta) -> str:
    """As ``[hh]:mm:ss`` shows it."""
    seconds = abs(length) // timedelta(seconds=1)
    rest = f"{abs(length) % timedelta(seconds=1) / timedelta(seconds=1):.6f}"[1:].rstrip("0").rstrip(".")
    sign = "-" if length < timedelta(0) else ""
    return f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{rest}"


def sheet(
    name: str, pieces: Iterable[pl.DataFrame], *, header: bool, skip_rows: int, names: Sequence[str] | None
) -> Sheet:
    """The rows of a sheet under their names. Empty rows do not count, and columns without name and cells do not either.

    Args:
        name: of the sheet.
        pieces: its cells, in frames of :data:`CELLS`: in any order, but each frame has the rows after those before it.
        header: whether the first row is names.
        skip_rows: so many rows from the top do not count.
        names: of the columns, instead.

    Raises:
        DataError: ``EmptyFile``, ``DuplicateColumns``, ``WrongColumns``, ``TooLarge`` … .
    """
    columns = SheetColumns(name)
    heads: dict[int, str] = {}
    first = 0
    for piece in _whole_rows(pieces):
        cells = _without_blank_rows(piece.filter(piece["row"] > skip_rows) if skip_rows else piece)
        if not first and cells.height:
            first = int(cells["row"].min())  # type: ignore[arg-type]
            if header:
                header_row = cells.filter(cells["row"] == first)
                texts = _texts(header_row["kind"], header_row["number"], header_row["text"])
                heads = dict(zip(header_row["column"], texts, strict=True))
                cells = cells.filter(cells["row"] != first)
        columns.add(cells)
    if not first:
        raise DataError(
            "EmptyFile",
            f'the sheet "{shorten(name)}" has no cell with anything in it'
            + (" after the rows to skip" if skip_rows else ""),
            hint="choose another sheet: Excel(sheet=…)",
        )
    frame = columns.frame()
    by_number = {int(column.name): column for column in frame}
    clean = {number: clean_name(head) for number, head in heads.items()}
    used = sorted(by_number.keys() | {number for number, label in clean.items() if label})
    if names is not None and len(names) != len(used):
        raise DataError(
            "WrongColumns",
            f"the sheet has {len(used)} columns, the reader names {len(names)}",
            hint="name as many columns as the sheet has: Excel(columns=[…])",
            place=Place(row=first),
        )
    labels = list(names) if names is not None else [clean.get(number) or f"column_{number + 1}" for number in used]
    checked_names(labels)
    empty = pl.Series([None], dtype=pl.String).new_from_index(0, frame.height)
    data = [by_number.get(number, empty).alias(label) for number, label in zip(used, labels, strict=True)]
    written = (
        {} if names is not None else {label: heads.get(number) for number, label in zip(used, labels, strict=True)}
    )
    renamed = {label: head for label, head in written.items() if head and head != label}
    return Sheet(joined([*data, row_numbers(range(1, frame.height + 1))]), first, renamed)


def _whole_rows(pieces: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Gather the cells in larger frames of whole rows."""
    waiting: list[pl.DataFrame] = []
    number, passed, widest = 0, 0, 0
    for piece in pieces:
        if not piece.height:
            continue
        waiting.append(piece)
        number += piece.height
        widest = max(widest, int(piece["column"].max()))  # type: ignore[arg-type]
        if number < max(_CELLS, _CELLS_OF_COLUMN * widest):
            continue
        cells = pl.concat(waiting)
        last = cells["row"].max()
        whole, waiting = cells.filter(cells["row"] != last), [cells.filter(cells["row"] == last)]
        number = waiting[0].height
        if whole.height:
            passed = _in_order(whole, passed)
            yield whole
    if waiting:
        cells = pl.concat(waiting)
        _in_order(cells, passed)
        yield cells


def _in_order(cells: pl.DataFrame, passed: int) -> int:
    """The number of the last row; ``passed`` is that of the last one before."""
    if int(cells["row"].min()) <= passed:  # type: ignore[arg-type]
        raise unreadable(f"after row {passed:,} comes a row with a smaller number")
    return int(cells["row"].max())  # type: ignore[arg-type]


def _without_blank_rows(cells: pl.DataFrame) -> pl.DataFrame:
    """Rows that have nothing in them but blanks are no rows."""
    is_blank = (cells["text"].str.strip_chars() == "").fill_null(False)
    if not is_blank.any():
        return cells
    return cells.filter(cells["row"].is_in(cells.filter(~is_blank)["row"].unique().implode()))


def is_empty(pieces: Iterable[pl.DataFrame]) -> bool:
    """Whether a sheet has nothing in it but blanks."""
    return not any(_without_blank_rows(piece).height for piece in pieces)
