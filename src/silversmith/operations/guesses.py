"""Facts that a sample shows beyond those that readers detect: lines above the header, rows deep in a document, and the
notation of days and times in text columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import polars as pl

from silversmith.contract import casting
from silversmith.contract.casting import Notation, notations
from silversmith.errors import DataError
from silversmith.formats import ROW, Csv, Json, Reader, Table
from silversmith.formats.csv.dialect import MOST_TITLES
from silversmith.formats.table import col

_DAY, _TIME, _UTC = pl.Date(), pl.Datetime("us"), pl.Datetime("us", "UTC")

#: Formats of days that are tried; with a time of the day, too. Of those in one tuple, a sample may fit several.
_DAYS = (
    ("%d.%m.%Y",),
    ("%d.%m.%y",),
    ("%d/%m/%Y", "%m/%d/%Y"),
    ("%d/%m/%y", "%m/%d/%y"),
    ("%d-%m-%Y", "%m-%d-%Y"),
    ("%Y/%m/%d",),
    ("%d %b %Y",),
    ("%d-%b-%Y",),
    ("%b %d, %Y",),
)
_CLOCKS = ("%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%I:%M %p", "%I:%M:%S %p")

#: What text may be, by the format, or by a word for ISO 8601; in the order of preference.
WRITTEN: dict[str, tuple[pl.DataType, Notation | None]] = {
    "ISO day": (_DAY, None),
    "ISO time": (_TIME, None),
    "ISO time with offset": (_UTC, None),
}
for _days in _DAYS:
    WRITTEN |= {day: (_DAY, notations({"": day}, {"": _DAY})[""]) for day in _days}
    for _clock in _CLOCKS:
        WRITTEN |= {f"{day} {_clock}": (_TIME, notations({"": f"{day} {_clock}"}, {"": _TIME})[""]) for day in _days}
WRITTEN["%d/%b/%Y:%H:%M:%S %z"] = (_UTC, notations({"": "%d/%b/%Y:%H:%M:%S %z"}, {"": _UTC})[""])

_DIGIT = re.compile("[0-9]")


def read(opened: Callable[[Reader | None], Table]) -> tuple[Reader | None, Table]:
    """A file as a table, and the reader that it needs; None: it needs no other than the one that is detected.

    Raises:
        DataError: it cannot be read.
    """
    try:
        table = opened(None)
    except DataError as error:
        if error.code != "WrongHeader":
            raise
        return _below_titles(opened, error)
    pointer = _deep(table)
    return (None, table) if not pointer else (Json(pointer=pointer), opened(Json(pointer=pointer)))


def _below_titles(opened: Callable[[Reader | None], Table], error: DataError) -> tuple[Reader, Table]:
    for lines in range(1, MOST_TITLES + 1):
        reader = Csv(skip_lines=lines)
        try:
            return reader, opened(reader)
        except DataError:
            continue
    raise error


def _deep(table: Table) -> str:
    """The JSON Pointer of the longest list of objects in a document that is one object; empty: there is none."""
    if table.format.partition("+")[0] != "json" or table.records != 1:
        return ""
    row = table.rows.drop(ROW).collect().row(0, named=True)
    lists = {pointer: len(items) for pointer, items in _lists(row)}
    return max(lists, key=lists.__getitem__, default="")


def _lists(value: Mapping[str, Any], pointer: str = "") -> Iterable[tuple[str, Sequence[Any]]]:
    """The lists of objects, but for those within others."""
    for name, item in value.items():
        below = f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
        if isinstance(item, dict):
            yield from _lists(item, below)
        elif isinstance(item, list) and item and all(isinstance(each, dict) for each in item):
            yield below, item


def written(table: Table, sample: pl.DataFrame) -> dict[str, tuple[str, ...]]:
    """By text column, what all its cells may be, of :data:`WRITTEN`."""
    texts = [name for name, dtype in sample.schema.items() if dtype == pl.String and _has_digits(sample[name])]
    may_be = {name: _fitting(sample.lazy(), name, list(WRITTEN)) for name in texts}
    return {name: tuple(_fitting(table.rows, name, labels)) for name, labels in may_be.items() if labels}


def _has_digits(cells: pl.Series) -> bool:
    first = next((cell for cell in cells if cell and cell.strip()), "")
    return bool(_DIGIT.search(first))


def _fitting(rows: pl.LazyFrame, name: str, labels: Sequence[str]) -> list[str]:
    answers = []
    for label in labels:
        dtype, notation = WRITTEN[label]
        value = casting.cast(col(name), pl.String(), dtype, notation=notation)
        answers.append((~casting.failed(col(name), value, pl.String()).any() & value.is_not_null().any()).alias(label))
    row = rows.select(answers).collect(engine="streaming").row(0, named=True)
    return [label for label, is_fitting in row.items() if is_fitting]


def choice(labels: Sequence[str]) -> str:
    """Which of several one column is; empty: nobody can know, or it is none."""
    ambiguous = {day for days in _DAYS if len(days) > 1 for day in days}
    rivals = [label for label in labels if label.partition(" ")[0] in ambiguous]
    return next(iter(labels), "") if len(rivals) < 2 else ""


def csv_options(dialect: Mapping[str, object], reader: Reader | None) -> dict[str, object]:
    """The options of ``Csv`` that differ from its defaults, as they were found for one file."""
    options: dict[str, object] = {}
    if dialect.get("separator") != ",":
        options["separator"] = dialect.get("separator")
    if dialect.get("quote") != '"':
        options["quote"] = dialect.get("quote")
    if dialect.get("encoding", "utf-8") != "utf-8":
        options["encoding"] = dialect["encoding"]
    if isinstance(reader, Csv) and reader.skip_lines:
        options["skip_lines"] = reader.skip_lines
    if dialect.get("decimal_comma"):
        options |= {"decimal_comma": True, "thousands": "."}
    return options


#: Endings of compressed files: the one before says what is in them.
_PACKED = {".gz", ".zst", ".bz2", ".xz"}


def ending(path: str) -> str:
    """The ending of a file's name, such as ``.csv.gz``."""
    suffixes = PurePosixPath(path).suffixes
    return "".join(suffixes[-2:] if suffixes and suffixes[-1].lower() in _PACKED else suffixes[-1:])


def name_of(path: str) -> str:
    """A name for the transform of such files: the words of the file's name, without dates and numbers."""
    words = re.findall("[a-z]+", PurePosixPath(path).name.partition(".")[0].lower())
    return "_".join(words)[:30].strip("_") or "rows"
