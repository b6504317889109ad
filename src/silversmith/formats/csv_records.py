"""CSV record by record, by Python's csv module: exact about every irregularity, and slow. For small or broken files."""

from __future__ import annotations

import csv
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
    """How fields and records are told apart. ``quote`` None: quotes mean nothing. ``comment``: lines to skip."""

    separator: str
    quote: str | None
    comment: str | None = None

    def options(self) -> dict[str, Any]:
        """As arguments of ``csv.reader``. Strict: what RFC 4180 does not allow is told, not guessed at."""
        quoting = csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE
        return {"delimiter": self.separator, "quotechar": self.quote, "quoting": quoting, "strict": True}


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
                    yield decoded


class Malformed:
    """The records that are no rows, gathered until there are too many: (number of the record, text, reason)."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._length = 0
        self.records: list[tuple[int, str, str]] = []

    def judge(self, row: int, record: Record) -> list[str] | None:
        """The fields of a record that is a row. Any other is noted; there may be only so many.

        Raises:
            DataError: ``TooManyMalformed``.
        """
        if record.fields is not None and len(record.fields) == self._width:
            return record.fields
        reason = record.problem or _wrong_width(len(record.fields or ()), self._width)
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


def _wrong_width(found: int, expected: int) -> str:
    """What a record says that has more or fewer fields than the header."""
    return f"has {found} field{'' if found == 1 else 's'}, the header has {expected}"
