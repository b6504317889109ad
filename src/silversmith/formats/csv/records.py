"""The records of CSV: read one by one, exact about every irregularity and slow, or proven regular by the block."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from silversmith.errors import DataError, Place, count
from silversmith.formats import text
from silversmith.formats.archives.content import Content
from silversmith.formats.csv.dialect import MOST_TITLES, Csv, CsvDialect, double_escapes
from silversmith.formats.table import LONGEST_MALFORMED, check_malformed, checked_names, clean_name, shorten

#: The longest line, and the longest field, that is read record by record, in bytes or characters. A longer one nearly
#: always is the rest of the file after a quote that was never closed.
LONGEST_FIELD = 16 * 1024 * 1024

#: How much text of malformed records is kept, in characters.
_MOST_MALFORMED_TEXT = 64 * 1024 * 1024

_BLOCK = 256 * 1024

IDLE_QUOTES = "text follows a closing quote; if quotes mean nothing in this file: Csv(quote=None)"
_OTHER_MARKS = "the separator or the quote may be another one: Csv(separator=…, quote=…)"

# The csv module's own limit is 131,072 characters, for the whole process. To raise it harms nobody.
csv.field_size_limit(max(csv.field_size_limit(), LONGEST_FIELD))


@dataclass(frozen=True)
class Record:
    """One record: its first line, its text as it stands in the file, and its fields or the problem with it."""

    line: int
    text: str
    fields: list[str] | None
    problem: str = ""


class Records:
    """The records of a file from its position on. Blank lines and comments are no records.

    After each record, ``position`` (in bytes) and ``line`` are where the next one begins.
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
                record_text = "".join(self._lines_taken).rstrip("\r\n")
                yield Record(self._first_line, record_text, fields, problem)

    @property
    def _first_line(self) -> int:
        return self.line - len(self._lines_taken)

    def _problem(self, error: str) -> str:
        if "field limit" in error or "end of data" in error:
            raise DataError(
                "UnreadableCsv",
                "a quote is opened and never closed"
                if "end of data" in error
                else f"a field is longer than {LONGEST_FIELD:,} characters",
                hint='close the quote (a quote within a quoted field is written twice: ""); if quotes mean nothing '
                "in this file, say so: Csv(quote=None)",
                place=Place(line=self._first_line, text=shorten(self._lines_taken[0].rstrip("\r\n"))),
            )
        return IDLE_QUOTES if "expected after" in error else error

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
                    yield double_escapes(decoded, self._dialect)


@dataclass(frozen=True)
class Header:
    """The names of the columns. The records after the header begin at byte ``body``, on line ``line``.

    ``renamed``: names that stand in the file with blanks and signs that nobody sees, as they stand there.
    """

    dialect: CsvDialect
    names: list[str]
    body: int
    line: int
    renamed: Mapping[str, str]

    @property
    def width(self) -> int:
        """The number of fields of a record."""
        return len(self.names) + self.dialect.trailing

    def describe(self) -> dict[str, object]:
        """The dialect for people to see."""
        return self.dialect.describe() | ({"renamed": dict(self.renamed)} if self.renamed else {})


def header_of(content: Content, dialect: CsvDialect, options: Csv) -> Header:
    """Read the first record, record by record.

    Raises:
        DataError: ``EmptyFile``, ``UnreadableCsv``, ``WrongColumns``, ``DuplicateColumns`` …
    """
    with text.open_after_mark(content) as file:
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
        raise DataError(
            "UnreadableCsv",
            f"the first record cannot be read: {first.problem}",
            hint="correct it, or say how the file is written: Csv(quote=…, separator=…)",
            place=Place(line=first.line, text=shorten(first.text)),
        )
    if options.header:
        body, line = records.position, records.line
    return named(first.fields, dialect, options, body, line, at=first.line)


def named(first: Sequence[str], dialect: CsvDialect, options: Csv, body: int, line: int, *, at: int) -> Header:
    """The header of a file with this first record, on line ``at``. The third column is ``column_3`` without a name.

    Raises:
        DataError: ``WrongColumns``, ``DuplicateColumns`` …
    """
    width = len(first) - (0 if options.header else dialect.trailing)
    if options.columns is not None and len(options.columns) != width:
        raise DataError(
            "WrongColumns",
            f"the first record has {len(first)} fields, the reader names {len(options.columns)} columns",
            hint="name as many columns as the file has: Csv(columns=[…])",
            place=Place(line=at, text=shorten(" | ".join(first))),
        )
    labels = first if options.header and options.columns is None else [""] * width
    names = options.columns or [clean_name(label) for label in labels]
    names = checked_names([name or f"column_{position}" for position, name in enumerate(names, 1)], line=at)
    renamed = {name: label for name, label in zip(names, labels, strict=True) if label and name != label}
    return Header(dialect, names, body, line, renamed)


class Malformed:
    """The malformed records of a file, until there are too many: (number of the record, text, reason)."""

    def __init__(self, header: Header, *, ragged: bool) -> None:
        self._width = len(header.names)
        self._trailing = header.dialect.trailing
        self._ragged = ragged
        self._length = 0
        self._first_line = 0
        self._widths: Counter[int] = Counter()
        self.records: list[tuple[int, str, str]] = []

    def fields_of(self, number: int, record: Record) -> list[str] | None:
        """The fields of a good record; a malformed one is kept.

        Raises:
            DataError: ``TooManyMalformed``.
        """
        fields = record.fields
        if fields is not None and not any(fields[self._width :]):
            if self._ragged:
                fields = fields[: self._width] + [""] * (self._width - len(fields))
            elif len(fields) == self._width + self._trailing:
                fields = fields[: self._width]
        if fields is not None and len(fields) == self._width:
            return fields
        width = len(fields or ())
        self._widths[0 if record.problem else width] += 1
        self._first_line = self._first_line or record.line
        reason = record.problem or f"has {count(width, 'field')}, the header has {self._width}"
        self.records.append((number, shorten(record.text, LONGEST_MALFORMED), f"line {record.line}: {reason}"))
        self._length += min(len(record.text), LONGEST_MALFORMED)
        place = Place(line=record.line, row=number, text=shorten(record.text))
        check_malformed(self.records, reason, _OTHER_MARKS, place, too_long=self._length > _MOST_MALFORMED_TEXT)
        return None

    def refuse_header(self, rows: int) -> None:
        """Refuse a file whose malformed records agree with each other and not with the header, or which hardly has
        readable ones: to reject them one by one would lose the file in silence.

        Raises:
            DataError: ``WrongHeader``, ``UnreadableCsv``.
        """
        (width, number), *_ = [*self._widths.most_common(1), (0, 0)]
        if number < 2:
            return
        first_number, first_text, reason = self.records[0]
        are_titles = self._width == 1 < width and number == len(self.records) and rows < min(first_number, MOST_TITLES)
        if number <= (rows // 2 if are_titles else 2 * rows):
            return
        place = Place(line=self._first_line, row=first_number, text=shorten(first_text))
        if not width:
            raise DataError(
                "UnreadableCsv",
                f"{count(number, 'record')} cannot be read, and {rows:,} can; the first: {reason}",
                hint=_OTHER_MARKS,
                place=place,
            )
        raise DataError(
            "WrongHeader",
            f"{number:,} records have {count(width, 'field')}, and {rows:,} have as many as the first one, "
            f"{self._width}",
            hint="if other lines stand before the header, skip them: Csv(skip_lines=…); "
            "if records are cut short, or end with separators: Csv(ragged=True)",
            place=place,
        )


def rows_of(
    records: Records, malformed: Malformed, number: int = 0, until: int | None = None
) -> tuple[list[list[str]], list[int], int]:
    """The good records up to byte ``until`` at least, their numbers, and the number of the last record.

    ``number`` is that of the record before them.

    Raises:
        DataError: ``TooManyMalformed``, or a record cannot be read.
    """
    rows: list[list[str]] = []
    numbers: list[int] = []
    for record in records:
        number += 1
        fields = malformed.fields_of(number, record)
        if fields is not None:
            rows.append(fields)
            numbers.append(number)
        if until is not None and records.position >= until:
            break
    return rows, numbers, number


def text_columns(names: Sequence[str], rows: list[list[str]], options: Csv) -> Mapping[str, Sequence[str | None]]:
    """The cells of some rows by column, None for null."""
    nulls = {"", *options.null_values}
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    return {
        name: cells if nulls.isdisjoint(cells) else [None if cell in nulls else cell for cell in cells]
        for name, cells in zip(names, columns, strict=True)
    }


def origins_of(content: Content, header: Header, numbers: Collection[int], *, size: int = _BLOCK) -> text.Origins:
    """The lines and texts of records, by their numbers. Regular blocks without any of them are only counted."""
    origins: dict[int, tuple[int, str]] = {}
    shape, body, line, passed = Shape(header.dialect, header.width), header.body, header.line, 0
    remaining = sorted(numbers, reverse=True)
    with content.open() as file:
        while remaining:
            file.seek(body)
            block = file.read(size)
            if not block:
                break
            cut = shape.cut(block, last=len(block) < size)
            records = shape.regular(block[:cut]) if cut else None
            if records is not None and passed + records < remaining[-1]:
                passed, body, line = passed + records, body + cut, line + text.line_ends(block[:cut])
                continue
            file.seek(body)
            reader = Records(file, header.dialect, line=line)
            for record in reader:
                passed += 1
                if remaining and passed == remaining[-1]:
                    origins[remaining.pop()] = (record.line, shorten(record.text, text.LONGEST_ORIGIN))
                if reader.position >= body + (cut or len(block)):
                    break
            body, line = reader.position, reader.line
    return origins


class Shape:
    """The shape of regular records: ``width`` fields each."""

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
        """The number of bytes in whole records of the block, if all of it is regular; 0 if not even one record is."""
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
        """The number of records of the block; None if not all of them are regular."""
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
        """The block with a lone quote in the place of each quoted field; None if a quote is misplaced."""
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
