"""Formats with a record on each line: plain lines, and columns of a fixed width.

Plain lines are for logs, lists, and any format that a transform parses itself. Columns of a fixed width are those of
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
from silversmith.formats.encoding import with_encoding
from silversmith.formats.spill import BLOCK, TextBlock, text_table_of
from silversmith.formats.table import ROW, Table, shorten

#: The longest line, in bytes. A longer one nearly always is no text.
LONGEST_LINE = 16 * 1024 * 1024


def line_blocks(content: Content, *, skip: int = 0, size: int = BLOCK) -> Iterator[tuple[int, list[str]]]:
    """The lines without their ends, in blocks after the number of their first line; the first ``skip`` are left out.

    Lines end at LF, CR LF, or CR alone.

    Raises:
        DataError: ``NotUtf8``, ``NulByte``, ``TooLarge`` for a line that is too long.
    """
    line, offset, rest = 1, 0, b""
    with text.open_after_mark(content) as file:
        while True:
            more = file.read(size)
            rest += more
            cut = _whole_lines(rest) if more else len(rest)
            if cut:
                lines = _split(text.decode(rest[:cut], offset=offset, line=line))
                if cut > LONGEST_LINE and max(map(len, lines)) > LONGEST_LINE:
                    raise _too_long(rest, line)
                if skip < len(lines):
                    yield line + skip, lines[skip:]
                skip = max(0, skip - len(lines))
                line, offset, rest = line + len(lines), offset + cut, rest[cut:]
            if len(rest) > LONGEST_LINE:
                raise _too_long(rest, line)
            if not more:
                return


def _whole_lines(data: bytes) -> int:
    """The number of bytes that are whole lines. A CR at the very end may have its LF in the next block."""
    return max(data.rfind(b"\n"), data.rfind(b"\r", 0, max(0, len(data) - 1))) + 1


def _split(decoded: str) -> list[str]:
    """The lines of a text. For ``str.splitlines`` they would also end at form feeds and other characters."""
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


def _origins(content: Content, is_record: Callable[[str], bool], skip: int, numbers: Collection[int]) -> text.Origins:
    """The origins of records: each line after the first ``skip`` is a record, if ``is_record`` says so."""
    lines = (
        (number, line)
        for first, block in line_blocks(content, skip=skip)
        for number, line in enumerate(block, first)
        if is_record(line)
    )
    return text.origins_among(lines, numbers)


#: The one column of plain lines.
LINE = "line"


@dataclass(frozen=True)
class Lines:
    """Read each line as a row, with one text column, ``line``: all of it but its end. Empty lines are rows, too.

    Args:
        encoding: any that Python knows; None: UTF-8, or detected if that is sure.

    Raises:
        DefinitionError: there is no such encoding.
    """

    encoding: str | None = None

    def __post_init__(self) -> None:
        problem = text.options_problem(self)
        if problem:
            raise DefinitionError(f"Lines({problem}")


def read_lines(content: Content, options: Lines, *, block: int = BLOCK) -> Table:
    """The lines of a text as rows.

    Raises:
        DataError: ``EmptyFile``, ``NotUtf8``, ``NulByte``, ``TooLarge``.
    """

    def read_utf8(content: Content) -> Table:
        text.refuse_empty(content)
        blocks = (
            TextBlock({LINE: lines}, range(first, first + len(lines)))
            for first, lines in line_blocks(content, size=block)
        )
        table = text_table_of(blocks, content, "lines", None)
        return replace(table, origins=partial(_origins, content, lambda _: True, 0))

    return with_encoding(content, options.encoding, read_utf8)


@dataclass(frozen=True)
class FixedWidth:
    """How to read files whose columns have fixed positions on the line.

    Args:
        columns: for each column its name, and the first and the last character of it, counted from 1, as layouts are
            published: ``{"station": (1, 11), "year": (12, 15)}``. Characters between columns are not read. Blanks
            around a cell are no part of it; a blank cell is null.
        skip_lines: so many lines at the beginning are not read.
        short_lines: whether lines may end before the last column does: missing characters are blank. Without it such
            lines are rejected: they may have been cut off.
        null_values: texts that mean null, exactly so, besides blanks.
        encoding: any that Python knows; None: UTF-8, or detected if that is sure.

    Raises:
        DefinitionError: an option has a value that it cannot have.
    """

    columns: Mapping[str, tuple[int, int]]
    skip_lines: int = 0
    short_lines: bool = False
    null_values: Collection[str] = ()
    encoding: str | None = None

    def __post_init__(self) -> None:
        problem = text.options_problem(self) or _columns_problem(self.columns)
        if problem:
            raise DefinitionError(f"FixedWidth({problem}")
        object.__setattr__(self, "columns", {name: tuple(place) for name, place in self.columns.items()})
        object.__setattr__(self, "null_values", tuple(sorted(self.null_values)))


def _columns_problem(columns: Mapping[str, tuple[int, int]]) -> str:
    if not isinstance(columns, Mapping) or not columns:
        return f"columns={columns!r}): must say where each column is, as {{'station': (1, 11)}}"
    for name, place in columns.items():
        if not isinstance(name, str) or name in {"", ROW} or "\0" in name:
            return f"columns={{{name!r}: …}}): must be a name, not empty and not {ROW!r}"
        if not _is_place(place):
            return f"columns={{{name!r}: {place!r}}}): must be its first and last character, counted from 1, as (1, 11)"
    places = sorted((tuple(place), name) for name, place in columns.items())
    for (before, first), (after, second) in pairwise(places):
        if after[0] <= before[1]:
            return f"columns=…): {first!r} {before} and {second!r} {after} overlap"
    return ""


def _is_place(place: object) -> bool:
    if not isinstance(place, tuple | list) or len(place) != 2:
        return False
    first, last = place
    return isinstance(first, int) and isinstance(last, int) and 1 <= first <= last


def read_fixed_width(content: Content, options: FixedWidth, declared: Collection[str], *, block: int = BLOCK) -> Table:
    """The lines of a file as rows, but for blank ones. Types are inferred as those of CSV.

    Raises:
        DataError: ``EmptyFile``, ``NotUtf8``, ``NulByte``, ``TooLarge``, ``TooManyMalformed``.
    """

    def read_utf8(content: Content) -> Table:
        text.refuse_empty(content)
        table = text_table_of(_fixed_width_blocks(content, options, block), content, "fixed-width", declared)
        if not table.records:
            hint = "look at the reader: skip_lines"
            raise DataError("EmptyFile", "the file has no lines after those to skip", hint=hint)
        return replace(table, origins=partial(_origins, content, _is_record, options.skip_lines))

    return with_encoding(content, options.encoding, read_utf8)


def _is_record(line: str) -> bool:
    return bool(line) and not line.isspace()


def _fixed_width_blocks(content: Content, options: FixedWidth, size: int) -> Iterator[TextBlock]:
    record = 0
    width = max(last for _, last in options.columns.values())
    nulls = ["", *options.null_values]
    for first, block in line_blocks(content, skip=options.skip_lines, size=size):
        malformed, numbers, lines = [], [], []
        for number, line in enumerate(block, first):
            if not _is_record(line):
                continue
            record += 1
            problem = _line_problem(line, width, short=options.short_lines)
            if problem:
                malformed.append((record, line, f"line {number}: {problem}"))
            else:
                numbers.append(record)
                lines.append(line)
        whole = pl.Series(lines, dtype=pl.String)
        cells = {
            name: whole.str.slice(begin - 1, last - begin + 1).str.strip_chars(" ")
            for name, (begin, last) in options.columns.items()
        }
        columns = {name: texts.replace(nulls, [None] * len(nulls)) for name, texts in cells.items()}
        yield TextBlock(columns, numbers, malformed)


def _line_problem(line: str, width: int, *, short: bool) -> str:
    """Why a line is no row; empty if it is one."""
    if len(line) < width and not short:
        return (
            f"has {len(line)} characters, the columns take {width}; if lines may be short: FixedWidth(short_lines=True)"
        )
    if line[width:].strip(" "):
        return f"has text after character {width}, where the columns end"
    if "\t" in line:
        return "has a tab, which may stand for any number of characters"
    return ""
