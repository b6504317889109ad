"""How a CSV file is written: the options a person gives, and the dialect that its name and its first records show."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from silversmith.errors import DefinitionError
from silversmith.formats.archives.content import Content
from silversmith.formats.table import ROW
from silversmith.formats.text import BOM, encoding_problem

#: The value of an option that the file itself decides.
AUTO = "auto"

#: What may stand between groups of three digits; the spaces are those that do not break a line.
GROUPS = (",", ".", "'", "\u2019", "_", " ", "\u00a0", "\u202f")


@dataclass(frozen=True)
class Csv:
    """How to read CSV files that are not as most are.

    Args:
        separator: between fields: one ASCII character. None: ``\\t`` where the name ends with ``.tsv`` or ``.tab``,
            ``|`` where it ends with ``.psv``, else found out among ``, ; tab |``.
        quote: around fields that have separators, quotes or line ends in them; None: quotes mean nothing. ``"auto"``:
            ``"``, or ``'`` where only that makes regular records of the first ones.
        escape: before a separator, a quote, a line end or itself, which then are text; before anything else it is text
            itself. None: nothing is. ``"auto"``: ``\\`` where only that makes regular records of the first ones.
        header: whether the first record holds the columns' names.
        columns: the columns' names, instead of the header's; without either they are ``column_1``, ``column_2`` …
        null_values: texts that mean null, exactly so, besides the empty one.
        encoding: any that Python knows: ``utf-8``, ``utf-16``, ``cp1252``, ``latin-1`` … None: UTF-8, or what is found
            out with confidence; what is not, is refused with the likeliest.
        skip_lines: so many lines before the header (or the first record) are not read.
        comment: lines that begin with this are not read.
        ragged: records may end before the last column, and the rest is null; and they may have empty fields beyond it.
            Without it such records are rejected. Records with more fields that say something always are.
        decimal_comma: ``1,5`` means one and a half.
        thousands: what stands between groups of three digits: ``1,234,567`` or ``1.234,5`` or ``1 234``.
        padded: blanks after a separator are no part of the field, so that it may be quoted: ``"a", "b"``. None: found
            out, where only that makes regular records of the first ones.

    Raises:
        DefinitionError: a value cannot be.
    """

    separator: str | None = None
    quote: str | None = AUTO
    escape: str | None = AUTO
    header: bool = True
    columns: Sequence[str] | None = None
    null_values: Collection[str] = ()
    encoding: str | None = None
    skip_lines: int = 0
    comment: str | None = None
    ragged: bool = False
    decimal_comma: bool = False
    thousands: str | None = None
    padded: bool | None = None

    def __post_init__(self) -> None:
        for name, value in (("columns", self.columns), ("null_values", self.null_values)):
            if isinstance(value, str) or (value is not None and not all(isinstance(item, str) for item in value)):
                raise DefinitionError(f"Csv({name}={value!r}): give a list of texts, as {name}=['a', 'b']")
        object.__setattr__(self, "columns", None if self.columns is None else tuple(self.columns))
        object.__setattr__(self, "null_values", tuple(sorted(self.null_values)))
        problem = _marks_problem(self) or _other_problem(self)
        if problem:
            raise DefinitionError(f"Csv({problem}")


def _marks_problem(options: Csv) -> str:
    """Which of the marks cannot be; empty if none."""
    marks = {"separator": options.separator, "quote": options.quote, "escape": options.escape}
    given = {name: mark for name, mark in marks.items() if mark is not None and (mark, name) not in _AUTOMATIC}
    for name, mark in given.items():
        if not (isinstance(mark, str) and len(mark) == 1 and mark.isascii() and mark not in "\r\n\0"):
            return f"{name}={mark!r}): must be one ASCII character, and no line end"
    if len(set(given.values())) < len(given):
        return f"{', '.join(f'{name}={mark!r}' for name, mark in given.items())}): must differ"
    if options.decimal_comma and options.separator == ",":
        return "decimal_comma=True, separator=','): the comma cannot be both; with decimal commas it mostly is ';'"
    if options.thousands is not None and options.thousands not in GROUPS:
        return f"thousands={options.thousands!r}): must be one of {' '.join(map(repr, GROUPS))}"
    if options.thousands == ("," if options.decimal_comma else "."):
        return f"thousands={options.thousands!r}): is what stands before the decimals; look at decimal_comma"
    return ""


_AUTOMATIC = {(AUTO, "quote"), (AUTO, "escape")}


def _other_problem(options: Csv) -> str:
    names, lines, comment = options.columns, options.skip_lines, options.comment
    if comment is not None and not (isinstance(comment, str) and comment.strip()):
        return f"comment={comment!r}): must be text, such as '#'"
    if options.padded not in {None, True, False}:
        return f"padded={options.padded!r}): must be True, False or None (find out)"
    if not isinstance(lines, int) or isinstance(lines, bool) or lines < 0:
        return f"skip_lines={lines!r}): must be a number of lines, 0 or more"
    if names is not None and (not names or "" in names or ROW in names or len(set(names)) < len(names)):
        return f"columns={names!r}): must be names, each once, none of them empty or {ROW!r}"
    return encoding_problem(options.encoding)


@dataclass(frozen=True)
class CsvDialect:
    """How fields and records are told apart.

    ``quote`` None: quotes mean nothing. ``comment``: lines that begin with it are skipped. ``padded``: blanks after a
    separator are no part of the field.
    """

    separator: str
    quote: str | None
    comment: str | None = None
    escape: str | None = None
    padded: bool = False

    def options(self) -> dict[str, Any]:
        """Arguments of ``csv.reader``. Strict: it raises where RFC 4180 is broken, and does not guess."""
        quoting = csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE
        return {
            "delimiter": self.separator,
            "quotechar": self.quote,
            "quoting": quoting,
            "escapechar": self.escape,
            "skipinitialspace": self.padded,
            "strict": True,
        }

    def describe(self) -> dict[str, object]:
        """The dialect for people to see."""
        description: dict[str, object] = {"separator": self.separator, "quote": self.quote}
        description |= {"escape": self.escape} if self.escape else {}
        return description | ({"padded": True} if self.padded else {})


def spelled(line: str, dialect: CsvDialect) -> str:
    """A line as Python's csv module takes it, which leaves out every escape: before what needs none, it is doubled."""
    escape = dialect.escape
    if not escape or escape not in line:
        return line
    special = {escape, dialect.separator, dialect.quote}
    shape = re.compile(re.escape(escape) + "(.)")
    return shape.sub(lambda match: match[0] if match[1] in special else 2 * escape + match[1], line)


SEPARATORS = (",", ";", "\t", "|")

#: The separator that a name promises. Where the first record does not have it, and another splits all records alike,
#: the other counts more than the name.
_NAMED = {".tsv": "\t", ".tab": "\t", ".psv": "|"}

_ANNOUNCED = re.compile(rb'"?sep=([!-/:-@\[-`{-~\t ])"?\r?\n')

#: How many records are looked at.
_RECORDS = 50

_LONGEST_NAME = 64


def dialect_of(name: str, sample: str, options: Csv, *, is_whole: bool) -> CsvDialect:
    """The dialect of a file; ``sample`` is the text that it begins with, or all of it."""
    first = _Sample(sample, options, is_whole=is_whole)
    quote = '"' if options.quote == AUTO else options.quote
    escape = None if options.escape == AUTO else options.escape
    separator = _separator(name.lower(), first, options, quote, escape)
    plain = CsvDialect(separator, quote, options.comment, escape, options.padded is True)
    padded = replace(plain, padded=True)
    if options.padded is None and first.looks_padded(plain) and first.is_regular(padded):
        return padded
    if AUTO not in {options.quote, options.escape} or first.is_regular(plain):
        return plain
    return next((other for other in _others(plain, first, options) if first.is_table(other)), plain)


def announced(content: Content, options: Csv) -> Csv:
    """The options, with the separator of a first line such as ``sep=;``, as Excel writes and reads it."""
    line = _ANNOUNCED.match(content.head(16).removeprefix(BOM))
    if line is None or options.skip_lines or options.separator not in {None, line[1].decode()}:
        return options
    return replace(options, separator=line[1].decode(), skip_lines=1)


class _Sample:
    """The first records of a file. ``is_whole``: there are no others."""

    def __init__(self, text: str, options: Csv, *, is_whole: bool) -> None:
        lines = list(io.StringIO(text, newline=""))[options.skip_lines :]
        if not is_whole and len(lines) > 2 and not lines[-1].endswith(("\r", "\n")):
            lines.pop()  # the sample ends in the middle of it
        if options.comment:
            lines = [line for line in lines if not line.startswith(options.comment)]
        self._lines = lines
        self._is_whole = is_whole
        self._widths: dict[CsvDialect, list[int]] = {}
        self.text = "".join(lines[:_RECORDS])

    def first(self, quote: str | None) -> str:
        """The text of the first record: its lines up to one that is outside of quotes."""
        lines = [line for line in self._lines if line.strip()][:_RECORDS]
        for end in range(1, len(lines) + 1):
            record = "".join(lines[:end])
            if not quote or record.count(quote) % 2 == 0:
                return record
        return lines[0] if lines else ""

    def widths(self, dialect: CsvDialect) -> list[int]:
        """How many fields each of the first records has; none where a record cannot be read."""
        if dialect not in self._widths:
            self._widths[dialect] = self._counted(dialect)
        return self._widths[dialect]

    def _counted(self, dialect: CsvDialect) -> list[int]:
        records = csv.reader((spelled(line, dialect) for line in self._lines), **dialect.options())
        widths: list[int] = []
        try:
            for record in islice(filter(None, records), _RECORDS):
                widths.append(len(record))  # noqa: PERF401 - those before an error count
        except csv.Error as error:
            # a record that begins in the sample and ends after it says nothing
            return widths if "end of data" in str(error) and not self._is_whole else []
        return widths

    def agreement(self, dialect: CsvDialect) -> tuple[float, int]:
        """Which share of the records has as many fields as the first, and how many that is; one field is none."""
        widths = self.widths(dialect)
        if not widths or widths[0] < 2:
            return 0.0, 0
        return widths.count(widths[0]) / len(widths), widths[0]

    def table_below(self, dialect: CsvDialect) -> tuple[float, int]:
        """The same of the records after the first, if most of them agree: then the first is a title."""
        width, records = ([*Counter(self.widths(dialect)[1:]).most_common(1), (0, 0)])[0]
        share = records / max(1, len(self.widths(dialect)) - 1)
        return (share, width) if width > 1 and records > 1 and share > 0.5 else (0.0, 0)

    def is_regular(self, dialect: CsvDialect) -> bool:
        return len(set(self.widths(dialect))) == 1

    def is_table(self, dialect: CsvDialect) -> bool:
        """Whether the records are regular and have columns: a separator that splits nothing splits all alike."""
        return self.is_regular(dialect) and self.widths(dialect)[0] > 1

    def looks_padded(self, dialect: CsvDialect) -> bool:
        """Whether the first record has a quote after a separator and blanks."""
        if not dialect.quote:
            return False
        return re.search(f"{re.escape(dialect.separator)} +{dialect.quote}", self.first(dialect.quote)) is not None


def _separator(name: str, sample: _Sample, options: Csv, quote: str | None, escape: str | None) -> str:
    """The separator: the one that the first record has, and that splits most of the next ones alike."""
    if options.separator is not None:
        return options.separator
    first = sample.first(quote)
    inside = _inside(first, options)
    dialects = {mark: CsvDialect(mark, quote, escape=escape) for mark in _candidates(options)}
    named = next((mark for ending, mark in _NAMED.items() if name.endswith(ending)), None)
    if named is not None:
        others = [mark for mark in inside if sample.is_table(dialects[mark])]
        return named if named in inside or not others else others[0]
    if not inside:
        return _below_title(sample, dialects)
    if len(inside) == 1:
        return inside[0]
    return max(inside, key=lambda mark: (*sample.agreement(dialects[mark]), f"{mark} " not in first))


def _below_title(sample: _Sample, dialects: Mapping[str, CsvDialect]) -> str:
    """The separator of the records after the first one, which has none: it may be a title, or name the one column.

    Marks that a blank follows are those of sentences.
    """
    marks = [mark for mark in dialects if f"{mark} " not in sample.text]
    best = max(marks, key=lambda mark: sample.table_below(dialects[mark]), default="")
    return best if best and sample.table_below(dialects[best])[1] else next(iter(dialects))


def _candidates(options: Csv) -> list[str]:
    return [mark for mark in SEPARATORS if not (mark == "," and options.decimal_comma)]


def _inside(first: str, options: Csv) -> list[str]:
    return [mark for mark in _candidates(options) if mark in first]


def _others(plain: CsvDialect, sample: _Sample, options: Csv) -> Iterator[CsvDialect]:
    """Other dialects that the lines have signs of, the likeliest first."""
    separators = dict.fromkeys(
        [plain.separator, *([] if options.separator else _inside(sample.first(plain.quote), options))]
    )
    quotes = ["'"] if options.quote == AUTO and "'" in sample.text else []
    escapes = ["\\"] if options.escape == AUTO and "\\" in sample.text else []
    for separator in separators:
        one = replace(plain, separator=separator)
        yield from (replace(one, escape=escape) for escape in escapes)
        yield from (replace(one, quote=quote) for quote in quotes if quote != plain.escape)
        yield from (replace(one, quote=quote, escape=escape) for quote in quotes for escape in escapes)


def looks_separated(text: str) -> bool:
    """Whether text is CSV, if its name says nothing: short names in the first record, each once, and as many fields
    in each of the next."""
    sample = _Sample(text, Csv(), is_whole=False)
    return any(_names_a_table(sample, CsvDialect(separator, '"')) for separator in SEPARATORS)


def _names_a_table(sample: _Sample, dialect: CsvDialect) -> bool:
    if len(sample.widths(dialect)) < 2 or not sample.is_table(dialect):
        return False
    names = next(csv.reader(io.StringIO(sample.first(dialect.quote), newline=""), **dialect.options()), [])
    return len(set(names)) == len(names) and all(_is_name(name) for name in names)


def _is_name(name: str) -> bool:
    return 0 < len(name.strip()) <= _LONGEST_NAME and not name.strip().lstrip("+-").replace(".", "", 1).isdigit()
