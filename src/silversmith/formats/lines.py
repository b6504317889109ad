"""Formats of which each line is a record: plain lines, and columns that have their places on the line.

Plain lines are for logs, lists, and whatever a transform takes apart itself. Columns of a fixed width are those of
mainframe exports and of NOAA's files.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import polars as pl

from silversmith.errors import DataError, DefinitionError, Place
from silversmith.formats import text
from silversmith.formats.archives.content import Content
from silversmith.formats.encoding import in_utf8
from silversmith.formats.origins import Origins, chosen
from silversmith.formats.table import ROW, Table, shorten
from silversmith.formats.text_rows import Reading, TextBlock, table_of

#: Bytes that are split into lines at once.
BLOCK = 4 * 1024 * 1024

#: The longest line, in bytes. A longer one nearly always is no text.
LONGEST_LINE = 16 * 1024 * 1024


@dataclass(frozen=True)
class LineBlock:
    """Whole lines without their ends, the first of which is number ``first`` of the file."""

    first: int
    lines: list[str]


def line_blocks(content: Content, *, skip: int = 0, size: int = BLOCK) -> Iterator[LineBlock]:
    """The lines, after the first ``skip`` of them. Lines end at LF, CR LF, or CR alone.

    Raises:
        DataError: ``NotUtf8``, ``NulByte``, ``TooLarge`` for a line that is too long.
    """
    line, offset, rest = 1, 0, b""
    with content.open() as file:
        if file.read(len(text.BOM)) != text.BOM:
            file.seek(0)
        while True:
            more = file.read(size)
            rest += more
            cut = _cut(rest) if more else len(rest)
            if cut:
                decoded = text.decode(rest[:cut], offset=offset, line=line)
                lines = _split(decoded)
                if cut > LONGEST_LINE and max(map(len, lines)) > LONGEST_LINE:
                    raise _too_long(rest, line)
                if skip < len(lines):
                    yield LineBlock(line + skip, lines[skip:])
                skip = max(0, skip - len(lines))
                line, offset, rest = line + len(lines), offset + cut, rest[cut:]
            if len(rest) > LONGEST_LINE:
                raise _too_long(rest, line)
            if not more:
                return


def _cut(data: bytes) -> int:
    """Where the last whole line ends. A CR at the very end may have its LF in the next block."""
    return max(data.rfind(b"\n"), data.rfind(b"\r", 0, max(0, len(data) - 1))) + 1


def _split(decoded: str) -> list[str]:
    """Not ``str.splitlines``, for which lines also end at form feeds and other signs within text."""
    if "\r" in decoded:
        decoded = decoded.replace("\r\n", "\n").replace("\r", "\n")
    lines = decoded.split("\n")
    return lines[:-1] if not lines[-1] else lines


def _too_long(rest: bytes, line: int) -> DataError:
    return DataError(
        "TooLarge",
        f"line {line} is longer than {LONGEST_LINE:,} bytes",
        hint="the file may not be text, or was written without line ends",
        place=Place(line=line, text=shorten(rest[:200].decode("utf-8", "replace"))),
    )


#: The one column.
LINE = "line"


@dataclass(frozen=True)
class Lines:
    """Read each line as a row, with one text column, ``line``: all of it but its end. Empty lines are rows, too.

    Args:
        encoding: any that Python knows; None: UTF-8, or what is found out with confidence.

    Raises:
        DefinitionError: there is no such encoding.
    """

    encoding: str | None = None

    def __post_init__(self) -> None:
        problem = text.encoding_problem(self.encoding)
        if problem:
            raise DefinitionError(f"Lines({problem}")


def read_lines(content: Content, options: Lines, declared: Collection[str], *, block: int = BLOCK) -> Table:
    """The lines of a text as rows.

    Raises:
        DataError: ``EmptyFile``, ``NotUtf8``, ``NulByte``, ``TooLarge``.
    """
    return in_utf8(content, options.encoding, partial(_read_lines, declared=declared, block=block))


def _read_lines(content: Content, *, declared: Collection[str], block: int) -> Table:
    text.refuse_empty(content)
    table = table_of(_rows_of_lines(content, block), content, Reading("lines" + content.packing, declared, typed=False))
    return replace(table, origins=partial(_origins, content, _any, 0))


def _any(_: str) -> bool:
    return True


def _rows_of_lines(content: Content, size: int) -> Iterator[TextBlock]:
    for block in line_blocks(content, size=size):
        yield TextBlock({LINE: block.lines}, range(block.first, block.first + len(block.lines)))


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
        problem = _problem(self) or text.encoding_problem(self.encoding)
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


def read_fixed_width(content: Content, options: FixedWidth, declared: Collection[str], *, block: int = BLOCK) -> Table:
    """The lines of a file as rows. Blank lines are none. Types are inferred as they are of CSV.

    Raises:
        DataError: ``EmptyFile``, ``NotUtf8``, ``NulByte``, ``TooLarge``, ``TooManyMalformed``.
    """
    return in_utf8(
        content, options.encoding, partial(_read_fixed_width, options=options, declared=declared, block=block)
    )


def _read_fixed_width(content: Content, *, options: FixedWidth, declared: Collection[str], block: int) -> Table:
    text.refuse_empty(content)
    table = table_of(
        _rows_of_places(content, options, block), content, Reading("fixed-width" + content.packing, declared)
    )
    if not table.records:
        raise DataError("EmptyFile", "the file has no lines after those to skip", hint="look at the reader: skip_lines")
    return replace(table, origins=partial(_origins, content, _is_record, options.skip_lines))


def _rows_of_places(content: Content, options: FixedWidth, size: int) -> Iterator[TextBlock]:
    records = 0
    for block in line_blocks(content, skip=options.skip_lines, size=size):
        kept = [(number, line) for number, line in enumerate(block.lines, block.first) if _is_record(line)]
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


def _origins(content: Content, is_record: Callable[[str], bool], skip: int, numbers: Collection[int]) -> Origins:
    """The places of records: each line is one, if ``is_record`` says so; the first ``skip`` are none."""
    lines = (
        (number, line)
        for block in line_blocks(content, skip=skip)
        for number, line in enumerate(block.lines, block.first)
        if is_record(line)
    )
    return chosen(lines, numbers)
