"""CSV record by record, by Python's csv module: exact about every irregularity, and slow. For small or broken files."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from silversmith.errors import DataError, Place
from silversmith.formats import text
from silversmith.formats.table import shorten

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
class Dialect:
    """How fields and records are told apart. ``quote`` None: quotes mean nothing. ``comment``: lines to skip.
    ``padded``: blanks after a separator are no part of the field."""

    separator: str
    quote: str | None
    comment: str | None = None
    escape: str | None = None
    padded: bool = False

    @property
    def written_quote(self) -> str | None:
        """The quote of a regular copy: what was escaped in the file has to be quoted there."""
        return '"' if self.quote is None and self.escape else self.quote

    def options(self) -> dict[str, Any]:
        """As arguments of ``csv.reader``. Strict: what RFC 4180 does not allow is told, not guessed at."""
        quoting = csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE
        return {
            "delimiter": self.separator,
            "quotechar": self.quote,
            "quoting": quoting,
            "escapechar": self.escape,
            "skipinitialspace": self.padded,
            "strict": True,
        }

    def told(self) -> dict[str, object]:
        """For people to see."""
        found: dict[str, object] = {"separator": self.separator, "quote": self.quote}
        found |= {"escape": self.escape} if self.escape else {}
        return found | ({"padded": True} if self.padded else {})


def spelled(line: str, dialect: Dialect) -> str:
    """A line as Python's csv module takes it, which leaves out every escape: before what needs none, it is doubled."""
    escape = dialect.escape
    if not escape or escape not in line:
        return line
    special = {escape, dialect.separator, dialect.quote}
    shape = re.compile(re.escape(escape) + "(.)")
    return shape.sub(lambda found: found[0] if found[1] in special else 2 * escape + found[1], line)


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

    def __init__(self, file: BinaryIO, dialect: Dialect, *, line: int = 1) -> None:
        self._file = file
        self._dialect = dialect
        self._comment = dialect.comment.encode() if dialect.comment else None
        self._reader = csv.reader(self._lines(), **dialect.options())
        self._taken: list[str] = []
        self.position = file.tell()
        self.line = line

    def __iter__(self) -> Iterator[Record]:
        while True:
            self._taken.clear()
            try:
                fields: list[str] | None = next(self._reader)
                problem = ""
            except StopIteration:
                return
            except csv.Error as error:
                fields, problem = None, self._problem(str(error))
            if fields != []:
                yield Record(self.line - len(self._taken), "".join(self._taken).rstrip("\r\n"), fields, problem)

    def _problem(self, error: str) -> str:
        if "field limit" in error or "end of data" in error:
            raise DataError(
                "UnreadableCsv",
                "a quote is opened and never closed"
                if "end of data" in error
                else f"a field is longer than {LONGEST_FIELD:,} characters",
                hint='close the quote (a quote within a quoted field is written twice: ""); if quotes mean nothing '
                "in this file, say so: Csv(quote=None)",
                place=Place(line=self.line - len(self._taken), text=shorten(self._taken[0].rstrip("\r\n"))),
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
                if self._comment is None or self._taken or not piece.startswith(self._comment):
                    self._taken.append(decoded)
                    yield spelled(decoded, self._dialect)


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


def _wrong_width(found: int, expected: int) -> str:
    """What a record says that has more or fewer fields than the header."""
    return f"has {_fields(found)}, the header has {expected}"


def _fields(number: int) -> str:
    return "1 field" if number == 1 else f"{number} fields"
