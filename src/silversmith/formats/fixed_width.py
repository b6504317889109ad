"""Fixed width: every column has its place on the line, as on punched cards, in mainframe exports, and at NOAA."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import polars as pl

from silversmith.errors import DataError, DefinitionError
from silversmith.formats import text, text_lines
from silversmith.formats.archives.content import Content
from silversmith.formats.encoding import in_utf8
from silversmith.formats.origins import of_lines
from silversmith.formats.table import ROW, Table
from silversmith.formats.text_rows import Reading, TextBlock, table_of


@dataclass(frozen=True)
class FixedWidth:
    """How to read files whose columns have fixed places.

    Args:
        columns: for each column its name, and the first and the last character of it, counted from 1, as layouts are
            published: ``{"station": (1, 11), "year": (12, 15)}``. Characters between columns are not read. Blanks
            around a cell are no part of it; a blank cell is null.
        skip_lines: so many lines at the beginning are not read.
        short_lines: whether lines may end before the last column does, what is missing being blank. Without it such
            lines are rejected: they may have been cut off.
        null_values: texts that mean null, exactly so, besides blanks.
        encoding: any that Python knows; None: UTF-8, or what is found out with confidence.

    Raises:
        DefinitionError: a value cannot be.
    """

    columns: Mapping[str, tuple[int, int]]
    skip_lines: int = 0
    short_lines: bool = False
    null_values: Collection[str] = ()
    encoding: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.null_values, str) or not all(isinstance(item, str) for item in self.null_values):
            raise DefinitionError(f"FixedWidth(null_values={self.null_values!r}): give a list of texts, as ['-9999']")
        problem = _problem(self) or text_lines.encoding_problem(self.encoding)
        if problem:
            raise DefinitionError(f"FixedWidth({problem}")
        object.__setattr__(self, "columns", {name: tuple(place) for name, place in self.columns.items()})
        object.__setattr__(self, "null_values", tuple(sorted(self.null_values)))


def _problem(options: FixedWidth) -> str:
    if not isinstance(options.skip_lines, int) or isinstance(options.skip_lines, bool) or options.skip_lines < 0:
        return f"skip_lines={options.skip_lines!r}): must be a number of lines, 0 or more"
    if not isinstance(options.columns, Mapping) or not options.columns:
        return f"columns={options.columns!r}): must say where each column is, as {{'station': (1, 11)}}"
    for name, place in options.columns.items():
        if not isinstance(name, str) or name in {"", ROW} or "\0" in name:
            return f"columns={{{name!r}: …}}): must be a name, not empty and not {ROW!r}"
        if not _is_place(place):
            return f"columns={{{name!r}: {place!r}}}): must be its first and last character, counted from 1, as (1, 11)"
    places = sorted((tuple(place), name) for name, place in options.columns.items())
    for (one, name), (other, second) in pairwise(places):
        if other[0] <= one[1]:
            return f"columns=…): {name!r} {one} and {second!r} {other} overlap"
    return ""


def _is_place(place: object) -> bool:
    if not isinstance(place, tuple | list) or len(place) != 2:
        return False
    first, last = place
    return isinstance(first, int) and isinstance(last, int) and 1 <= first <= last


def read(content: Content, options: FixedWidth, wanted: Collection[str], *, block: int = text_lines.BLOCK) -> Table:
    """The lines of a file as rows. Blank lines are none. Types are inferred as they are of CSV.

    Raises:
        DataError: ``EmptyFile``, ``NotUtf8``, ``NulByte``, ``TooLarge``, ``TooManyMalformed``.
    """
    return in_utf8(content, options.encoding, partial(_read, options=options, wanted=wanted, block=block))


def _read(content: Content, *, options: FixedWidth, wanted: Collection[str], block: int) -> Table:
    text.refuse_empty(content)
    table = table_of(_blocks(content, options, block), content, Reading("fixed-width" + content.packing, wanted))
    if not table.records:
        raise DataError("EmptyFile", "the file has no lines after those to skip", hint="look at the reader: skip_lines")
    return replace(table, origins=partial(of_lines, content, _is_record, options.skip_lines))


def _blocks(content: Content, options: FixedWidth, size: int) -> Iterator[TextBlock]:
    records = 0
    for found in text_lines.blocks(content, skip=options.skip_lines, size=size):
        kept = [(number, line) for number, line in enumerate(found.lines, found.first) if _is_record(line)]
        yield _cells(kept, records + 1, options)
        records += len(kept)


def _is_record(line: str) -> bool:
    return bool(line) and not line.isspace()


def _cells(numbered: list[tuple[int, str]], first: int, options: FixedWidth) -> TextBlock:
    """The cells of some lines, each with its number in the file; the first of them is record number ``first``."""
    end = max(last for _, last in options.columns.values())
    malformed = []
    numbers, lines = [], []
    for record, (number, line) in enumerate(numbered, first):
        reason = _wrong(line, end, short=options.short_lines)
        if reason:
            malformed.append((record, line, f"line {number}: {reason}"))
        else:
            numbers.append(record)
            lines.append(line)
    whole = pl.Series(lines, dtype=pl.String)
    nulls = ["", *options.null_values]
    columns = {}
    for name, (begin, last) in options.columns.items():
        cells = whole.str.slice(begin - 1, last - begin + 1).str.strip_chars(" ")
        columns[name] = cells.replace(nulls, [None] * len(nulls))
    return TextBlock(columns, numbers, malformed)


def _wrong(line: str, end: int, *, short: bool) -> str:
    """Why a line is no row; empty if it is one."""
    if len(line) < end and not short:
        return (
            f"has {len(line)} characters, the columns take {end}; if lines may be short: FixedWidth(short_lines=True)"
        )
    if line[end:].strip(" "):
        return f"has text after character {end}, where the columns end"
    if "\t" in line:
        return "has a tab, which may stand for any number of characters"
    return ""
