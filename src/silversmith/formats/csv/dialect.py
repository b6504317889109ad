"""How a CSV file is written: the options that the user states, and the dialect that its name and first records show."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import dropwhile, islice, zip_longest
from typing import Any, NamedTuple

from silversmith.errors import DataError, DefinitionError, Place
from silversmith.formats.archives.content import Content
from silversmith.formats.table import clean_name, shorten
from silversmith.formats.text import BOM, columns_problem, options_problem

#: The value of an option that the file itself decides.
AUTO = "auto"

#: What may stand between groups of three digits; the spaces are those that do not break a line.
GROUPS = (",", ".", "'", "\u2019", "_", " ", "\u00a0", "\u202f", "")


@dataclass(frozen=True)
class Csv:
    """How to read CSV files that are not as most are.

    Args:
        separator: between fields: one ASCII character. None: ``\\t`` where the name ends with ``.tsv`` or ``.tab``,
            ``|`` where it ends with ``.psv``, else detected among ``, ; tab |``.
        quote: around fields that have separators, quotes or line ends in them; None: quotes mean nothing. ``"auto"``:
            ``"``, or ``'`` where only that makes regular records of the first ones.
        escape: before a separator, a quote, a line end or itself, which then are text; before anything else it is text
            itself. None: there is none. ``"auto"``: ``\\`` where only that makes regular records of the first ones.
        header: whether the first record holds the columns' names.
        columns: the columns' names, instead of the header's; without either they are ``column_1``, ``column_2`` …
        null_values: texts that mean null, exactly so, besides the empty one.
        encoding: any that Python knows: ``utf-8``, ``utf-16``, ``cp1252``, ``latin-1`` … None: UTF-8, or detected if
            that is sure; any other file is refused, and the error names the likeliest encoding.
        skip_lines: so many lines before the header (or the first record) are not read.
        comment: lines that begin with this are not read.
        ragged: records may end before the last column, and the rest is null; and they may have empty fields beyond it.
            Without it such records are rejected. Records with more fields that are not empty always are.
        decimal_comma: ``1,5`` means one and a half. False: where the file leaves no doubt, docs/formats/csv.md, and
            ``thousands`` is not stated.
        thousands: the mark between groups of three digits: ``1,234,567`` or ``1.234,5`` or ``1 234``. Empty: there is
            none, so that ``1.234`` is no doubt a little more than one, and no comma stands before decimals.
        padded: blanks after a separator are no part of the field, so that it may be quoted: ``"a", "b"``. None: they
            are part of it, unless only without them the first records are regular.
        infer: whether the types of columns that the contract does not name are inferred; else they are text.

    Raises:
        DefinitionError: an option has a value that it cannot have.
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
    infer: bool = field(default=True, metadata={"added later": True})

    def __post_init__(self) -> None:
        problem = columns_problem(self.columns) or options_problem(self)
        if not problem:
            object.__setattr__(self, "columns", None if self.columns is None else tuple(self.columns))
            object.__setattr__(self, "null_values", tuple(sorted(self.null_values)))
            problem = _marks_problem(self)
        if problem:
            raise DefinitionError(f"Csv({problem}")


def _marks_problem(options: Csv) -> str:
    """The end of an error about a mark; empty if they are fine."""
    marks = {"separator": options.separator}
    marks |= {} if options.quote == AUTO else {"quote": options.quote}
    marks |= {} if options.escape == AUTO else {"escape": options.escape}
    stated = {name: mark for name, mark in marks.items() if mark is not None}
    for name, mark in stated.items():
        if not (isinstance(mark, str) and len(mark) == 1 and mark.isascii() and mark not in "\r\n\0"):
            return f"{name}={mark!r}): must be one ASCII character, and no line end"
    if len(set(stated.values())) < len(stated):
        return f"{', '.join(f'{name}={mark!r}' for name, mark in stated.items())}): must differ"
    if options.decimal_comma and options.separator == ",":
        return "decimal_comma=True, separator=','): the comma cannot be both; with decimal commas it mostly is ';'"
    if options.thousands is not None and options.thousands not in GROUPS:
        return f"thousands={options.thousands!r}): must be one of {' '.join(map(repr, GROUPS))}"
    if options.thousands == ("," if options.decimal_comma else "."):
        return f"thousands={options.thousands!r}): is what stands before the decimals; look at decimal_comma"
    is_known = options.padded in {None, True, False}
    return "" if is_known else f"padded={options.padded!r}): must be True, False or None (find out)"


class CsvDialect(NamedTuple):
    """The marks of a file. ``quote`` None: quotes mean nothing. The others are as in :class:`Csv`.

    ``trailing``: so many separators end every record, and not the header. ``ambiguous``: what the numbers of a column
    may be as well, and the options that settle it. ``decimal_comma``: the numbers show that they have one.
    """

    separator: str
    quote: str | None
    comment: str | None = None
    escape: str | None = None
    padded: bool = False
    trailing: int = 0
    ambiguous: str = ""
    decimal_comma: bool = False

    def options(self) -> dict[str, Any]:
        """Arguments of ``csv.reader``. Strict: it raises where RFC 4180 is broken, and does not guess."""
        return {
            "delimiter": self.separator,
            "quotechar": self.quote,
            "quoting": csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
            "escapechar": self.escape,
            "skipinitialspace": self.padded,
            "strict": True,
        }

    def describe(self) -> dict[str, object]:
        """The dialect for people to see."""
        description: dict[str, object] = {"separator": self.separator, "quote": self.quote}
        names = ("escape", "padded", "trailing", "decimal_comma", "ambiguous")
        more = {name: getattr(self, name) for name in names}
        return description | {name: value for name, value in more.items() if value}


def double_escapes(line: str, dialect: CsvDialect) -> str:
    """The line for Python's csv module, which drops every escape: one before an ordinary character is doubled."""
    escape = dialect.escape
    if not escape or escape not in line:
        return line
    special = {escape, dialect.separator, dialect.quote}
    pair = re.compile(re.escape(escape) + "(.)")
    return pair.sub(lambda match: match[0] if match[1] in special else 2 * escape + match[1], line)


SEPARATORS = (",", ";", "\t", "|")

#: The separator that a name promises. If the first record does not have it, and another splits all records alike, the
#: other counts more than the name.
_NAMED = {".tsv": "\t", ".tab": "\t", ".psv": "|"}

_SEP_LINE = re.compile(rb'"?sep=([!-/:-@\[-`{-~\t ])"?\r?\n')

#: So many records show the dialect.
_RECORDS = 50

#: A quote that is not closed for more lines, each of them a good record without it, means nothing.
_LONGEST_RECORD = 10

#: So many lines may be titles above the header.
MOST_TITLES = 16

_LONGEST_NAME = 64

#: A number whose point may stand before decimals, or between groups of three digits.
_GROUPED = re.compile(r"-?[1-9][0-9]{0,2}\.[0-9]{3}")


#: Numbers with a decimal comma and those with a point, with groups of three digits or without.
_DECIMAL = {
    ",": re.compile(r"[+-]?(?:[0-9]{1,3}(?:\.[0-9]{3})+(?P<sure>,[0-9]+)?|[0-9]+(?:,[0-9]+)?)"),
    ".": re.compile(r"[+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+(?P<sure>\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?)"),
}

_MAY_HAVE_COMMA = re.compile("[0-9],[0-9]")


def with_sep_line(content: Content, options: Csv) -> Csv:
    """The options, with the separator of a first line such as ``sep=;``, as Excel writes and reads it."""
    line = _SEP_LINE.match(content.head(16).removeprefix(BOM))
    if line is None or options.skip_lines or options.separator not in {None, line[1].decode()}:
        return options
    return replace(options, separator=line[1].decode(), skip_lines=1)


def dialect_of(name: str, beginning: str, options: Csv, *, is_whole: bool) -> CsvDialect:
    """The dialect of a file, from its name and its beginning, which may be all of it."""
    sample = _Sample(beginning, options, is_whole=is_whole)
    dialect = _marks_of(name, sample, options)
    title = sample.padded_title(dialect) if options.header else None
    if title:
        raise DataError(
            "WrongHeader",
            "the first record has one name for several columns, and a record below names them all: it is a title",
            hint="skip the lines above the header: Csv(skip_lines=…); if it is the header: Csv(header=False, "
            "skip_lines=1)",
            place=Place(text=shorten(title)),
        )
    trailing = sample.trailing(dialect)
    dialect = dialect._replace(trailing=trailing) if trailing else dialect
    if options.decimal_comma or options.thousands is not None:
        return dialect
    if sample.has_decimal_commas(dialect):
        return dialect._replace(decimal_comma=True)
    ambiguous = sample.ambiguous(dialect)
    return dialect._replace(ambiguous=ambiguous) if ambiguous else dialect


def settled(options: Csv, dialect: CsvDialect) -> Csv:
    """The options, completed by the numbers of the file: with a decimal comma, points stand between groups."""
    return replace(options, decimal_comma=True, thousands=".") if dialect.decimal_comma else options


def _marks_of(name: str, sample: _Sample, options: Csv) -> CsvDialect:
    quote = '"' if options.quote == AUTO else options.quote
    escape = None if options.escape == AUTO else options.escape
    separator = _separator(name.lower(), sample, options, quote, escape)
    plain = CsvDialect(separator, quote, options.comment, escape, options.padded is True)
    if options.padded is None and sample.looks_padded(plain) and sample.is_regular(plain._replace(padded=True)):
        return plain._replace(padded=True)
    if AUTO in {options.quote, options.escape} and not sample.is_regular(plain):
        for dialect in _alternatives(plain, sample, options):
            if sample.is_table(dialect):
                return dialect
    is_unquoted = options.quote == AUTO and sample.has_idle_quotes(plain)
    return plain._replace(quote=None) if is_unquoted else plain


class _Reading(NamedTuple):
    """The records of a sample. ``unfinished``: the lines of a last record whose quote is not closed in it."""

    records: list[list[str]]
    has_text_after_quote: bool = False
    unfinished: int = 0


class _Sample:
    """The first records of a file, or all of them."""

    def __init__(self, text: str, options: Csv, *, is_whole: bool) -> None:
        lines = list(io.StringIO(text, newline=""))[options.skip_lines :]
        if not is_whole and len(lines) > 2 and not lines[-1].endswith(("\r", "\n")):
            lines.pop()  # the sample ends in the middle of it
        if options.comment:
            lines = [line for line in lines if not line.startswith(options.comment)]
        self._lines = lines
        self._is_whole = is_whole
        self._options = options
        self._records: dict[CsvDialect, list[list[str]]] = {}
        self._text = "".join(lines)
        self.text = "".join(lines[:_RECORDS])

    def first(self, quote: str | None) -> str:
        """The text of the first record: its lines up to the first line end outside of quotes."""
        lines = list(islice(filter(str.strip, self._lines), _RECORDS))
        for end in range(1, len(lines) + 1):
            record = "".join(lines[:end])
            if not quote or record.count(quote) % 2 == 0:
                return record
        return lines[0] if lines else ""

    def records(self, dialect: CsvDialect) -> list[list[str]]:
        """The first records; empty if one of them is unreadable."""
        if dialect not in self._records:
            self._records[dialect] = self._read(dialect, _RECORDS).records
        return self._records[dialect]

    def _read(self, dialect: CsvDialect, most: int | None = None) -> _Reading:
        """The records of the sample, or the first ones; none if one of them is unreadable."""
        lines = [double_escapes(line, dialect) for line in self._lines] if dialect.escape else self._lines
        reader = csv.reader(lines, **dialect.options())
        records: list[list[str]] = []
        line = 0
        try:
            for record in islice(filter(None, reader), most):
                records.append(record)
                line = reader.line_num
        except csv.Error as error:
            if "end of data" not in str(error):
                return _Reading([], has_text_after_quote="expected after" in str(error))
            # a record that begins in the sample and ends after it says nothing
            return _Reading([] if self._is_whole else records, unfinished=len(self._lines) - line)
        return _Reading(records)

    def widths(self, dialect: CsvDialect) -> list[int]:
        """The number of fields of each of the first records; empty if a record is unreadable."""
        return list(map(len, self.records(dialect)))

    def trailing(self, dialect: CsvDialect) -> int:
        """The number of empty fields after the last column of each record; 0 unless all have as many."""
        records, options = self.records(dialect), self._options
        width = len(options.columns or (records[0] if records else ()))
        rows = records[1:] if options.header else records
        number = len(rows[0]) - width if rows else 0
        return number if number > 0 and all(len(row) == width + number and not any(row[width:]) for row in rows) else 0

    def padded_title(self, dialect: CsvDialect) -> str | None:
        """The first record, if it is a title that a spreadsheet filled up with separators: ``Report,,``.

        The names below it are text, over a column of numbers; or over text, where it is the first of three columns.
        """
        title, *below = self.records(dialect) or [[]]
        filled = [place for place, cell in enumerate(title) if cell.strip()]
        below = list(dropwhile(lambda row: sum(map(bool, row)) < 2, below))
        if len(title) < 2 or len(filled) != 1 or len(below) < 2:
            return None
        named = [place for place, name in enumerate(below[0]) if name]
        names, rows = [below[0][place] for place in named], [row for row in below[1:] if len(row) == len(below[0])]
        is_outside = any(cell and place not in named for row in rows for place, cell in enumerate(row))
        are_names = len(set(names)) == len(names) and all(_is_name(name) and not name[0].isdigit() for name in names)
        if is_outside or not are_names:
            return None
        columns = ([row[place] for row in rows] for place in named)
        has_numbers = any(all(not _is_name(cell) for cell in column) and any(column) for column in columns)
        return title[filled[0]] if has_numbers or (len(names) > 2 and filled == [0]) else None

    def ambiguous(self, dialect: CsvDialect) -> str:
        """The columns whose numbers have one point before three digits, with the options that settle what it means.

        In a file with commas between fields, a decimal comma would be rare, and the point is one.
        """
        if dialect.separator == "," or not self._grouped(self.records(dialect)):
            return ""
        columns = self._grouped(self._read(dialect).records)
        doubts = ", ".join(f"{name}: {cell} may be {cell.replace('.', '')}" for name, cell in columns.items())
        return f'{doubts}; if so: Csv(decimal_comma=True, thousands="."), if not: Csv(thousands="")' if columns else ""

    def has_decimal_commas(self, dialect: CsvDialect) -> bool:
        """Whether a column has numbers that only a decimal comma explains (``1,5``), and none that only a point does.

        ``1,234`` explains itself both ways. In a file with commas between fields, a decimal comma would be rare.
        """
        if dialect.separator == "," or not _MAY_HAVE_COMMA.search(self._text):
            return False
        records, options = self._read(dialect).records, self._options
        rows = records[1:] if options.header else records
        columns = zip_longest(*rows, fillvalue="")
        signs = {_decimal_sign([cell for cell in map(str.strip, cells) if cell]) for cells in columns}
        return "," in signs and "." not in signs

    def _grouped(self, records: list[list[str]]) -> dict[str, str]:
        """The first cell of each column whose cells all look like ``1.234``, by the column's name."""
        options = self._options
        names = options.columns or (records[0] if options.header and records else [])
        places = list(range(max(map(len, records), default=0)))
        cells: dict[int, str] = {}
        nulls = {"", *options.null_values}
        for row in records[1:] if options.header else records:
            places = [n for n in places if n >= len(row) or row[n] in nulls or _GROUPED.fullmatch(row[n])]
            if not places:
                return {}
            cells = {n: row[n] for n in places if n < len(row) and row[n] not in nulls} | cells
        named = {n: clean_name(names[n]) if n < len(names) else "" for n in places}
        return {named[n] or f"column_{n + 1}": cells[n] for n in places if n in cells}

    def has_idle_quotes(self, dialect: CsvDialect) -> bool:
        """Whether quotes mean nothing, as in ``"Weird Al" Yankovic``: text follows a closing one, or one is not closed
        for many lines, and without meaning they leave a table in which no name and no column is quoted throughout.

        A quote that is not closed on the last lines proves nothing: the file may have been cut off.
        """
        if '"' not in self._text:
            return False
        text, mark = f"\n{self._text}\n", dialect.separator
        opened = sum(map(text.count, (f'{mark}"', '\n"')))
        closed = sum(map(text.count, (f'"{mark}', '"\n', '"\r')))
        if opened == closed and opened + closed == text.count('"'):
            return False
        quoted, records = self._read(dialect), self._read(dialect._replace(quote=None)).records
        if len(set(map(len, records))) != 1:
            return False
        if len(records[0]) == 1:
            is_idle = quoted.has_text_after_quote and not any(mark in self._text for mark in SEPARATORS)
        else:
            is_idle = quoted.has_text_after_quote or quoted.unfinished > _LONGEST_RECORD
        if not is_idle:
            return False
        names, rows = (records[0], records[1:]) if self._options.header else ([], records)
        columns = (list(filter(None, column)) for column in zip(*rows, strict=True))
        shares = (sum(map(_is_quoted, cells)) / len(cells) for cells in columns if cells)
        return not any(map(_is_quoted, names)) and max(shares, default=0) < 0.5

    def agreement(self, dialect: CsvDialect) -> tuple[float, int]:
        """The share of the records that have as many fields as the first, and that number; (0, 0) below two fields."""
        widths = self.widths(dialect)
        if not widths or widths[0] < 2:
            return 0.0, 0
        share = 1.0 if self.trailing(dialect) else widths.count(widths[0]) / len(widths)
        return share, widths[0]

    def agreement_below(self, dialect: CsvDialect) -> tuple[float, int]:
        """:attr:`agreement` of the records after the first, if most of them agree: then the first is a title."""
        width, records = ([*Counter(self.widths(dialect)[1:]).most_common(1), (0, 0)])[0]
        share = records / max(1, len(self.widths(dialect)) - 1)
        return (share, width) if width > 1 and records > 1 and share > 0.5 else (0.0, 0)

    def is_regular(self, dialect: CsvDialect) -> bool:
        return len(set(self.widths(dialect))) == 1 or self.trailing(dialect) > 0

    def titles(self, dialect: CsvDialect) -> int:
        """The number of lines above a table: they have no separator, and all records below have as many fields."""
        widths = self.widths(dialect)
        begin = next((place for place in range(1, len(widths)) if len(set(widths[place:])) == 1), len(widths))
        is_table = begin + 1 < len(widths) and max(widths[:begin]) == 1 < widths[begin]
        return begin if is_table and begin <= MOST_TITLES else 0

    def is_table(self, dialect: CsvDialect) -> bool:
        """Whether the records are regular and have several fields: an absent separator makes regular records, too."""
        return self.is_regular(dialect) and self.widths(dialect)[0] > 1

    def looks_padded(self, dialect: CsvDialect) -> bool:
        """Whether the first record has a quote after a separator and blanks."""
        if not dialect.quote:
            return False
        return re.search(f"{re.escape(dialect.separator)} +{dialect.quote}", self.first(dialect.quote)) is not None


def _separator(name: str, sample: _Sample, options: Csv, quote: str | None, escape: str | None) -> str:
    """The separator that the first record has, and that splits most of the next ones alike."""
    if options.separator is not None:
        return options.separator
    first = sample.first(quote)
    inside = _separators_in(first, options)
    dialects = {mark: CsvDialect(mark, quote, escape=escape) for mark in _candidates(options)}
    named = next((mark for ending, mark in _NAMED.items() if name.endswith(ending)), None)
    if named is not None:
        others = [mark for mark in inside if sample.is_table(dialects[mark])]
        return named if named in inside or not others else others[0]
    if not inside:
        return _separator_below_title(sample, dialects)
    best = inside[0]
    if len(inside) > 1:
        best = max(inside, key=lambda mark: (*sample.agreement(dialects[mark]), f"{mark} " not in first))
    widths = sample.widths(dialects[best])
    if 1 not in widths[1:]:
        return best
    # A title may have a separator that the names below it have not, since it is another one that separates them.
    titles = {mark: sample.titles(dialects[mark]) for mark in dialects if mark not in inside}
    return next((mark for mark, lines in titles.items() if lines and widths[lines : lines + 1] == [1]), best)


def _separator_below_title(sample: _Sample, dialects: Mapping[str, CsvDialect]) -> str:
    """The separator of the records after the first one, which has none: it may be a title, or name the one column.

    Marks before a blank are those of sentences.
    """
    marks = [mark for mark in dialects if f"{mark} " not in sample.text]
    best = max(marks, key=lambda mark: sample.agreement_below(dialects[mark]), default="")
    if best and sample.agreement_below(dialects[best])[1]:
        return best
    titles = {mark: lines for mark in marks if (lines := sample.titles(dialects[mark]))}
    return min(titles, key=titles.__getitem__, default=next(iter(dialects)))


def _candidates(options: Csv) -> list[str]:
    return [mark for mark in SEPARATORS if not (mark == "," and options.decimal_comma)]


def _separators_in(first: str, options: Csv) -> list[str]:
    return [mark for mark in _candidates(options) if mark in first]


def _alternatives(plain: CsvDialect, sample: _Sample, options: Csv) -> Iterator[CsvDialect]:
    """Other dialects that the lines have signs of, the likeliest first."""
    separators = [plain.separator, *([] if options.separator else _separators_in(sample.first(plain.quote), options))]
    quotes = ["'"] if options.quote == AUTO and "'" in sample.text else []
    escapes = ["\\"] if options.escape == AUTO and "\\" in sample.text else []
    for separator in dict.fromkeys(separators):
        dialect = plain._replace(separator=separator)
        yield from (dialect._replace(escape=escape) for escape in escapes)
        yield from (dialect._replace(quote=quote) for quote in quotes if quote != plain.escape)
        yield from (dialect._replace(quote=quote, escape=escape) for quote in quotes for escape in escapes)


def looks_separated(text: str) -> bool:
    """Whether text is CSV, if its name does not say so: short, unique names in the first record, and as many fields in
    each of the next."""
    sample = _Sample(text, Csv(), is_whole=False)
    return any(_has_names(sample, CsvDialect(separator, '"')) for separator in SEPARATORS)


def _has_names(sample: _Sample, dialect: CsvDialect) -> bool:
    if len(sample.widths(dialect)) < 2 or not sample.is_table(dialect):
        return False
    names = next(csv.reader(io.StringIO(sample.first(dialect.quote), newline=""), **dialect.options()), [])
    return len(set(names)) == len(names) and all(map(_is_name, names))


def _decimal_sign(cells: Sequence[str]) -> str:
    """The sign before the decimals of a column of numbers; empty if nothing shows it. Words are passed over."""
    numbers = [cell for cell in cells if any(map(str.isdigit, cell))]
    if 2 * len(numbers) < len(cells):
        return ""
    for sign, pattern in _DECIMAL.items():
        matches = [pattern.fullmatch(number) for number in numbers]
        if all(matches) and any(match and _is_sure(match, sign) for match in matches):
            return sign
    return ""


def _is_sure(match: re.Match[str], sign: str) -> bool:
    """Whether the sign stands before other than three digits, or after groups of three."""
    _, has_sign, decimals = match[0].partition(sign)
    return bool(match["sure"]) or (bool(has_sign) and len(decimals) != 3)


def _is_quoted(cell: str) -> bool:
    return len(cell) > 1 and cell[0] == cell[-1] == '"'


def _is_name(name: str) -> bool:
    return 0 < len(name.strip()) <= _LONGEST_NAME and not name.strip().lstrip("+-").replace(".", "", 1).isdigit()
