"""The records of CSV: read one by one, exact about every irregularity and slow, or proved regular by the block."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from silversmith.errors import DataError, Place
from silversmith.formats import text
from silversmith.formats.archives.content import Content
from silversmith.formats.csv.dialect import Csv, CsvDialect, spelled
from silversmith.formats.table import checked_names, shorten

#: The longest line, and the longest field, that is read record by record, in bytes or characters. A longer one nearly
#: always is the rest of the file after a quote that was never closed.
LONGEST_FIELD = 16 * 1024 * 1024

#: How many malformed records one file may have, and how much text of theirs is kept, in characters.
MOST_MALFORMED = 100_000
MOST_MALFORMED_TEXT = 64 * 1024 * 1024
LONGEST_MALFORMED = 10_000

# The csv module's own limit is 131,072 characters, for the whole process. To raise it harms nobody.
csv.field_size_limit(max(csv.field_size_limit(), LONGEST_FIELD))


@dataclass(frozen=True)
class Record:
    """One record: where it begins, its text as it stands in the file, and its fields or why it has none."""

    line: int
    text: str
    fields: list[str] | None
    problem: str = ""


class Records:
    """The records of a file from where it stands. Blank lines and comments are no records.

    After each record, ``position`` (in bytes) and ``line`` say where the next one begins.
    """

    def __init__(self, file: BinaryIO, dialect: CsvDialect, *, line: int = 1) -> None:
        self._file = file
        self._dialect = dialect
        self._comment = dialect.comment.encode() if dialect.comment else None
        self._reader = csv.reader(self._lines(), **dialect.options())
        self._lines_taken: list[str] = []
        self.position = file.tell()
        self.line = line

    def __iter__(self) -> Iterator[Record]:
        while True:
            self._lines_taken.clear()
            try:
                fields: list[str] | None = next(self._reader)
                problem = ""
            except StopIteration:
                return
            except csv.Error as error:
                fields, problem = None, self._problem(str(error))
            if fields != []:
                yield Record(
                    self.line - len(self._lines_taken), "".join(self._lines_taken).rstrip("\r\n"), fields, problem
                )

    def _problem(self, error: str) -> str:
        if "field limit" in error or "end of data" in error:
            raise DataError(
                "UnreadableCsv",
                "a quote is opened and never closed"
                if "end of data" in error
                else f"a field is longer than {LONGEST_FIELD:,} characters",
                hint='close the quote (a quote within a quoted field is written twice: ""); if quotes mean nothing '
                "in this file, say so: Csv(quote=None)",
                place=Place(line=self.line - len(self._lines_taken), text=shorten(self._lines_taken[0].rstrip("\r\n"))),
            )
        return "text follows a closing quote" if "expected after" in error else error

    def _lines(self) -> Iterator[str]:
        """Physical lines, split as records end: at LF, CR LF, or CR alone. The csv module asks for one at a time."""
        while line := self._file.readline(LONGEST_FIELD + 1):
            if len(line) > LONGEST_FIELD:
                raise DataError(
                    "UnreadableCsv",
                    f"a line is longer than {LONGEST_FIELD:,} bytes",
                    hint="the file may not be CSV, or was written without line ends",
                    place=Place(line=self.line, text=shorten(line[:200].decode("utf-8", "replace"))),
                )
            for piece in line.splitlines(keepends=True):
                decoded = text.decode(piece, offset=self.position, line=self.line)
                self.position += len(piece)
                self.line += 1
                if self._comment is None or self._lines_taken or not piece.startswith(self._comment):
                    self._lines_taken.append(decoded)
                    yield spelled(decoded, self._dialect)


@dataclass(frozen=True)
class Header:
    """The names of the columns, and where the records after the header begin: at byte ``body``, on line ``line``."""

    dialect: CsvDialect
    names: list[str]
    body: int
    line: int


def header_of(content: Content, dialect: CsvDialect, options: Csv) -> Header:
    """Read the first record, record by record."""
    with content.open() as file:
        start = len(text.BOM) if file.read(3) == text.BOM else 0
        file.seek(start)
        for _ in range(options.skip_lines):
            file.readline()
        body, line = file.tell(), 1 + options.skip_lines
        records = Records(file, dialect, line=line)
        first = next(iter(records), None)
    if first is None:
        raise DataError(
            "EmptyFile",
            "the file has no record in it, only blank lines, comments or lines to skip",
            hint="look at the reader's skip_lines and comment" if options.skip_lines or options.comment else "",
        )
    if first.fields is None:
        raise _bad_header(first)
    names = names_of(first.fields, options, line=first.line)
    return (
        Header(dialect, names, records.position, records.line) if options.header else Header(dialect, names, body, line)
    )


def _bad_header(first: Record) -> DataError:
    return DataError(
        "UnreadableCsv",
        f"the first record cannot be read: {first.problem}",
        hint="mend it, or say how the file is written: Csv(quote=…, separator=…)",
        place=Place(line=first.line, text=shorten(first.text)),
    )


def names_of(first: Sequence[str], options: Csv, *, line: int) -> list[str]:
    """The names of the columns; one without a name is called ``column_3``, after its position."""
    if options.columns is not None and len(options.columns) != len(first):
        raise DataError(
            "WrongColumns",
            f"the first record has {len(first)} fields, the reader names {len(options.columns)} columns",
            hint="name as many columns as the file has: Csv(columns=[…])",
            place=Place(line=line, text=shorten(" | ".join(first))),
        )
    given = options.columns if options.columns is not None else first if options.header else [""] * len(first)
    return checked_names([name or f"column_{position}" for position, name in enumerate(given, 1)], line=line)


class Malformed:
    """The records that are no rows, gathered until there are too many: (number of the record, text, reason)."""

    def __init__(self, width: int, *, ragged: bool = False) -> None:
        self.width = width
        self._ragged = ragged
        self._length = 0
        self._first = 0
        self._widths: Counter[int] = Counter()
        self.records: list[tuple[int, str, str]] = []

    def judge(self, row: int, record: Record) -> list[str] | None:
        """The fields of a record that is a row. Any other is noted; there may be only so many.

        Raises:
            DataError: ``TooManyMalformed``.
        """
        fields = record.fields
        if fields is not None and self._ragged and len(fields) != self.width:
            fields = self._evened(fields)
        if fields is not None and len(fields) == self.width:
            return fields
        self._widths[0 if record.problem else len(fields or ())] += 1
        self._first = self._first or record.line
        reason = record.problem or _wrong_width(len(fields or ()), self.width)
        self.records.append((row, shorten(record.text, LONGEST_MALFORMED), f"line {record.line}: {reason}"))
        self._length += min(len(record.text), LONGEST_MALFORMED)
        if len(self.records) > MOST_MALFORMED or self._length > MOST_MALFORMED_TEXT:
            raise DataError(
                "TooManyMalformed",
                f"more than {len(self.records) - 1:,} records are malformed; the last: {reason}",
                hint="the separator or the quote may be another one: Csv(separator=…, quote=…)",
                place=Place(line=record.line, row=row, text=shorten(record.text)),
            )
        return None

    def _evened(self, fields: list[str]) -> list[str]:
        """The record with null for what is missing at its end, and without what is there and empty."""
        if any(fields[self.width :]):
            return fields
        return fields[: self.width] + [""] * (self.width - len(fields))

    def refuse_header(self, rows: int) -> None:
        """Raise DataError ``WrongHeader`` where the records agree, with each other and not with the first one: then
        that is no header of theirs, and to reject them one by one would be to lose the file in silence. And so it is
        where hardly any can be read.

        Raises:
            DataError: ``WrongHeader``, ``UnreadableCsv``.
        """
        (width, number), *_ = [*self._widths.most_common(1), (0, 0)]
        if number < 2 or number <= 2 * rows:
            return
        row, text, reason = self.records[0]
        if not width:
            raise DataError(
                "UnreadableCsv",
                f"{number:,} records cannot be read, and {rows:,} can; the first: {reason}",
                hint="the separator or the quote may be another one: Csv(separator=…, quote=…)",
                place=Place(line=self._first, row=row, text=shorten(text)),
            )
        raise DataError(
            "WrongHeader",
            f"{number:,} records have {_fields(width)}, and {rows:,} have as many as the first one, {self.width}",
            hint="if other lines stand before the header, skip them: Csv(skip_lines=…); "
            "if records are cut short, or end with separators: Csv(ragged=True)",
            place=Place(line=self._first, row=row, text=shorten(text)),
        )


def _wrong_width(width: int, expected: int) -> str:
    """Why a record is no row that has more or fewer fields than the header."""
    return f"has {_fields(width)}, the header has {expected}"


def _fields(number: int) -> str:
    return "1 field" if number == 1 else f"{number} fields"


def rows_of(
    records: Records, malformed: Malformed, number: int = 0, until: int | None = None
) -> tuple[list[list[str]], list[int], int]:
    """The rows among the records up to byte ``until`` at least, their numbers, and the number of the last record.

    ``number`` is that of the record before them.

    Raises:
        DataError: ``TooManyMalformed``, or what the records raise.
    """
    rows: list[list[str]] = []
    numbers: list[int] = []
    for record in records:
        number += 1
        fields = malformed.judge(number, record)
        if fields is not None:
            rows.append(fields)
            numbers.append(number)
        if until is not None and records.position >= until:
            break
    return rows, numbers, number


class Shape:
    """What regular records look like: ``width`` fields each."""

    def __init__(self, dialect: CsvDialect, width: int) -> None:
        self._separator = dialect.separator.encode()
        self._quote = dialect.quote.encode() if dialect.quote else None
        self._comment = dialect.comment.encode() if dialect.comment else None
        self._escape = dialect.escape.encode() if dialect.escape else None
        self._padded = dialect.padded
        self._width = width
        self._skeleton = self._separator * (width - 1) + b"\n"
        self._flesh = bytes(set(range(256)) - set(self._separator + b"\n"))

    def cut(self, block: bytes, *, last: bool) -> int:
        """How much of the block is whole records, if all of it is regular; 0 if not even one is."""
        if last:
            return len(block)
        end = block.rfind(b"\n") + 1
        if self._quote is None:
            return end
        odd = block.count(self._quote, 0, end) % 2
        while odd and end:  # this line end is within quotes: go back to one that is not
            start = block.rfind(b"\n", 0, end - 1) + 1
            odd ^= block.count(self._quote, start, end) % 2
            end = start
        return end

    def regular(self, block: bytes) -> int | None:
        """How many records the block has; None if not all of them are regular."""
        if self._padded or (self._escape and (self._quote is None or self._escape in block)):
            return None
        outside = self._outside(block) if self._quote is not None and self._quote in block else block
        if outside is None or outside.count(b"\r") != outside.count(b"\r\n"):
            return None
        if not outside.endswith(b"\n"):
            outside += b"\n"
        if self._comment and (outside.startswith(self._comment) or b"\n" + self._comment in outside):
            return None
        if self._width == 1 and (outside.startswith((b"\n", b"\r\n")) or b"\n\n" in outside or b"\n\r\n" in outside):
            return None  # a blank line, which would look like a record with one empty field
        records = outside.count(b"\n")
        skeleton = outside.translate(None, self._flesh)
        return records if skeleton == self._skeleton * records else None

    def _outside(self, block: bytes) -> bytes | None:
        """The block with a lone quote in the place of each quoted field; None if a quote is where it must not be."""
        assert self._quote is not None
        pieces = block.split(self._quote)
        if len(pieces) % 2 == 0:
            return None
        # every other piece is outside of quotes; an empty one between two others is a quote that is written twice
        first, *middle, last = pieces[0::2]
        outside = self._quote.join([first, *filter(None, middle), last])
        quote, quotes = self._quote, outside.count(self._quote)
        opened = outside.count(self._separator + quote) + outside.count(b"\n" + quote) + outside.startswith(quote)
        closed = (
            outside.count(quote + self._separator)
            + outside.count(quote + b"\n")
            + outside.count(quote + b"\r\n")
            + outside.endswith(quote)
        )
        return outside if opened == closed == quotes else None
