"""Logs as tables: lines that a regular expression takes apart, or that have fields between blanks, quotes and brackets.

Fields become a regular expression, too, so there is one reader. Its engine takes linear time whatever the line:
https://docs.rs/regex/latest/regex/#untrusted-input
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any

import polars as pl
from polars.exceptions import PolarsError

from silversmith.errors import DataError, DefinitionError, Place
from silversmith.formats import text
from silversmith.formats.archives.content import Content
from silversmith.formats.encoding import with_encoding
from silversmith.formats.lines import line_blocks
from silversmith.formats.spill import BLOCK, TextBlock, text_table_of
from silversmith.formats.table import ROW, Table, checked_names, clean_name, shorten

#: The most fields that one line may have: their expression takes memory.
MOST_FIELDS = 300

#: So many expressions are kept: files may name fields as they like.
_KEPT = 128

#: So many lines of a file have the reason told in full, if they are no longer than this.
_MOST_EXPLAINED, _LONGEST_EXPLAINED = 1000, 2000

_ISO = "%Y-%m-%dT%H:%M:%S%.6f"


@dataclass(frozen=True, kw_only=True)
class _LineOptions:
    """The options that both readers of log lines have."""

    null_values: Collection[str] = ()
    times: Mapping[str, str] = field(default_factory=dict)
    skip_lines: int = 0
    comment: str | None = None
    encoding: str | None = None
    infer: bool = True

    def __post_init__(self) -> None:
        problem = text.options_problem(self) or _times_problem(self.times)
        if problem:
            raise DefinitionError(f"{type(self).__name__}({problem}")
        object.__setattr__(self, "null_values", tuple(sorted(self.null_values)))
        object.__setattr__(self, "times", dict(self.times))


@dataclass(frozen=True)
class Regex(_LineOptions):
    """How to read lines that a regular expression takes apart: each of its named groups is a column.

    Args:
        pattern: what a whole line is like, such as ``(?<level>[A-Z]+) (?<message>.*)``. Groups without a name are no
            columns. Lines that do not match are rejected, one by one; blank lines are no records.
            https://docs.rs/regex/latest/regex/#syntax
        null_values: texts that mean null, exactly so, besides the empty one.
        times: by column, how its times are written, ``%d/%b/%Y:%H:%M:%S %z``, where they are not ISO 8601.
            https://docs.rs/chrono/latest/chrono/format/strftime/
        skip_lines: so many lines at the beginning are not read.
        comment: lines that begin with this are not read.
        encoding: any that Python knows; None: UTF-8, or detected if that is sure.
        infer: whether the types of columns that the contract does not name are inferred; else they are text.

    Raises:
        DefinitionError: the pattern is none, names no group, or an option has a value that it cannot have.
    """

    pattern: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.pattern, str):
            raise DefinitionError(f"Regex({self.pattern!r}): give a regular expression, such as '(?<word>\\\\w+)'")
        names = _compiled(self.pattern).names.values()
        if not names or ROW in names:
            raise DefinitionError(f"Regex({self.pattern!r}): name its groups, '(?<word>\\\\w+)': they are the columns")
        _check_times(self, names)


@dataclass(frozen=True)
class Fields(_LineOptions):
    """How to read lines of fields between blanks, of which some stand in quotes or brackets, as most logs have them.

    Args:
        columns: the name of each field, in order. In place of a name there may be a regular expression with named
            groups, which takes the field apart: ``(?<ip>\\S+):(?<port>[0-9]+)``. None: a line of the file says it.
        header: what the line that names the fields begins with, as ``#Fields:``; there may be several. Empty: it is
            the first line. Only without ``columns``.
        separator: what stands between two fields: a blank, or a tab.
        least: how many fields a line must have; the others may be missing at its end, and are null. None: all.
        extra: the column for whatever follows the last field, as it stands there; None: such lines are rejected.
        quoted: whether fields may stand in quotes or brackets; else these are text as all is.
        escape: what stands before a quote, or before itself, within quotes; both are taken for text then. None: nothing
            does, and quotes end at the next quote.
        null_values, times, skip_lines, comment, encoding, infer: as :class:`Regex` has them; ``-`` means null.

    Raises:
        DefinitionError: an option has a value that it cannot have.
    """

    columns: Sequence[str] | None = None
    header: str = ""
    separator: str = " "
    least: int | None = None
    extra: str | None = None
    quoted: bool = True
    escape: str | None = "\\"
    null_values: Collection[str] = field(default=("-",), kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        problem = text.texts_problem("columns", self.columns) or self._problem()
        if problem:
            raise DefinitionError(f"Fields({problem}")
        if self.columns is not None:
            object.__setattr__(self, "columns", tuple(self.columns))
            _check_times(self, _compiled_fields(self, tuple(self.columns)).names.values())

    def _problem(self) -> str:
        """The end of an error about an option; empty if they are fine."""
        count = None if self.columns is None else len(self.columns)
        problems = {
            f"columns={self.columns!r}): must be 1 to {MOST_FIELDS} names": count is not None
            and not 0 < count <= MOST_FIELDS,
            f"header={self.header!r}): must be the text that the line with the names begins with, and there are no "
            "columns then": not isinstance(self.header, str) or bool(self.columns and self.header),
            f"separator={self.separator!r}): must be ' ' or '\\t'; for others there is Csv": self.separator
            not in {" ", "\t"},
            f"least={self.least!r}): must be how many of the fields are always there": self.least is not None
            and not (isinstance(self.least, int) and 0 < self.least <= (count or MOST_FIELDS)),
            f"extra={self.extra!r}): must be the name of a column": self.extra is not None
            and (not isinstance(self.extra, str) or self.extra in {"", ROW}),
            f"escape={self.escape!r}): must be one character, such as '\\\\', or None": self.escape is not None
            and not (isinstance(self.escape, str) and re.fullmatch(r'[^\s"]', self.escape)),
        }
        return next((problem for problem, is_one in problems.items() if is_one), "")


def _times_problem(times: Any) -> str:
    if isinstance(times, Mapping) and all(isinstance(each, str) for pair in times.items() for each in pair):
        return ""
    return f"times={times!r}): must say by column how times are written, as {{'time': '%d/%b/%Y:%H:%M:%S %z'}}"


def _check_times(options: _LineOptions, names: Collection[str]) -> None:
    unknown = [name for name in options.times if name not in names]
    if unknown:
        known = ", ".join(names)
        raise DefinitionError(
            f"{type(options).__name__}(times=…): there is no column {unknown[0]!r}; there are: {known}"
        )


# Expressions.


@dataclass(frozen=True)
class _Expression:
    """``names`` are the columns by the expression's groups; those of ``quoted`` hold quotes and brackets still."""

    text: str
    names: Mapping[str, str]
    quoted: frozenset[str] = frozenset()


#: A group that takes part in every match, and so tells a line that matches from one that does not.
_MATCHES = "__line"

_GROUP = re.compile(r"\(\?P?<([A-Za-z_][A-Za-z0-9_.\[\]]*)>")


@lru_cache(maxsize=_KEPT)
def _compiled(pattern: str) -> _Expression:
    """The expression for whole lines.

    Raises:
        DefinitionError: it is none.
    """
    whole = f"^(?<{_MATCHES}>)(?:{pattern})$"
    try:
        groups = pl.Series([""]).str.extract_groups(whole).struct.fields
    except PolarsError as error:
        why = str(error).strip().splitlines()[-1]
        raise DefinitionError(
            f"{shorten(pattern)!r} is no regular expression as Polars knows them (https://docs.rs/regex): {why}"
        ) from None
    return _Expression(whole, {name: name for name in groups if name != _MATCHES and not name.isdecimal()})


def _compiled_fields(options: Fields, columns: Sequence[str]) -> _Expression:
    """The expression for fields. Columns may have any name, groups may not: they have numbers."""
    any_field = _field(options.separator, options.escape) if options.quoted else f"[^{options.separator}]*"
    return _fields_expression(tuple(columns), any_field, options.separator, options.least, options.extra)


@lru_cache(maxsize=_KEPT)
def _fields_expression(
    columns: tuple[str, ...], any_field: str, separator: str, least: int | None, extra: str | None
) -> _Expression:
    parts: list[str] = []
    names: dict[str, str] = {}
    quoted: set[str] = set()
    for number, column in enumerate(columns):
        groups = _GROUP.findall(column)
        parts.append(f"(?:{column})" if groups else f"(?<f{number}>{any_field})")
        names |= {name: name for name in groups} or {f"f{number}": column}
        quoted |= set() if groups else {f"f{number}"}
    if extra is not None:
        names["extra"] = extra
    labels = list(names.values())
    if len(set(labels)) < len(labels) or not {"", ROW}.isdisjoint(labels):
        raise DefinitionError(f"Fields(columns={columns!r}): must be names, each once, none of them empty or {ROW!r}")
    always = len(columns) if least is None else least
    sure = separator.join(parts[:always])
    maybe = "".join(f"(?:{separator}{part}" for part in parts[always:])
    tail = "" if extra is None else f"(?:{separator}(?<extra>.*))?"
    expression = _compiled(sure + maybe + tail + ")?" * len(parts[always:]))
    return _Expression(expression.text, names, frozenset(quoted))


def _field(separator: str, escape: str | None) -> str:
    """One field: in quotes (or several quoted texts with commas between), in brackets, or up to the separator."""
    quotes = rf'"{_within(escape)}"'
    rest = f"[^{separator}]*"
    return rf'{quotes}(?:,{quotes})*|\[[^\]]*\]|\[[^\]{separator}]*\]{rest}|[^"\[{separator}]{rest}|'


def _within(escape: str | None) -> str:
    """The pattern of the text between quotes."""
    mark = re.escape(escape or "")
    return rf'(?:[^"{mark}]|{mark}.)*' if escape else '[^"]*'


# Blocks of lines.


def read(content: Content, options: Regex | Fields, declared: Collection[str], *, block: int = BLOCK) -> Table:
    """The lines of a log as rows. Types are inferred as those of CSV.

    Raises:
        DataError: ``EmptyFile``, ``NotUtf8``, ``NulByte``, ``TooLarge``, ``TooManyMalformed``; ``MissingHeader``.
    """
    kind = type(options).__name__.lower()

    def read_utf8(content: Content) -> Table:
        text.refuse_empty(content)
        table = text_table_of(_Reader(content, options).blocks(block), content, kind, declared)
        return replace(table, origins=partial(_origins, content, options))

    return with_encoding(content, options.encoding, read_utf8)


def _origins(content: Content, options: Regex | Fields, numbers: Collection[int]) -> text.Origins:
    reader = _Reader(content, options)
    records = ((number, line) for _, lines in reader.records(BLOCK) for number, line in lines)
    return text.origins_among(records, numbers)


_Lines = list[tuple[int, str]]


class _Reader:
    """Reads one file. A line with the names of the fields changes the expression for those after it."""

    def __init__(self, content: Content, options: Regex | Fields) -> None:
        self._content = content
        self._options = options
        self._explained = 0
        self._is_named = isinstance(options, Regex) or options.columns is not None
        self._expression = (
            _compiled(options.pattern)
            if isinstance(options, Regex)
            else _compiled_fields(options, options.columns or ())
        )

    def records(self, size: int) -> Iterator[tuple[_Expression, _Lines]]:
        """The lines that are records, with their numbers in the file, and the expression for them."""
        comment = self._options.comment
        header = self._options.header if isinstance(self._options, Fields) else ""
        for first, block in line_blocks(self._content, skip=self._options.skip_lines, size=size):
            lines: _Lines = []
            for number, line in enumerate(block, first):
                names_fields = bool(header) and line.startswith(header)
                is_comment = comment is not None and line.startswith(comment)
                if not names_fields and (not line or line.isspace() or is_comment):
                    continue
                if self._is_named and not names_fields:
                    lines.append((number, line))
                    continue
                if header and not names_fields:
                    raise DataError(
                        "MissingHeader",
                        f'line {number} is a record, and no line before it, "{header} …", names the fields',
                        hint="put the file whole, or name the fields: Fields(columns=[…])",
                        place=Place(line=number, text=shorten(line)),
                    )
                if lines:
                    yield self._expression, lines
                self._name_fields(number, line)
                lines = []
            if lines:
                yield self._expression, lines

    def _name_fields(self, number: int, line: str) -> None:
        assert isinstance(self._options, Fields)
        words = line.removeprefix(self._options.header).split()
        names = checked_names([clean_name(word) or word for word in words], line=number)
        if not 0 < len(names) <= MOST_FIELDS or any(map(_GROUP.search, names)) or self._options.extra in names:
            raise DataError(
                "UnreadableHeader",
                f"line {number} names {len(names):,} fields; it should name 1 to {MOST_FIELDS}, and none is a pattern",
                hint="look at the reader's header: Fields(header=…)",
                place=Place(line=number, text=shorten(line)),
            )
        self._is_named = True
        self._expression = _compiled_fields(self._options, names)

    def blocks(self, size: int) -> Iterator[TextBlock]:
        """The cells of the lines, and the lines that do not match."""
        record = 1
        for expression, lines in self.records(size):
            texts = pl.Series([line for _, line in lines], dtype=pl.String)
            groups = texts.str.extract_groups(expression.text).struct.unnest()
            bad = groups[_MATCHES].is_null()
            malformed = []
            if bad.any():
                malformed = [
                    (record + place, lines[place][1], self._reason(*lines[place])) for place in bad.arg_true().to_list()
                ]
                groups = groups.filter(~bad)
            numbers: Sequence[int] = range(record, record + len(lines))
            if malformed:
                numbers = [record + place for place in (~bad).arg_true().to_list()]
            record += len(lines)
            yield TextBlock(self._cells(groups, expression), numbers, malformed)
        if record == 1:
            names = self._expression.names.values() if self._is_named else ()
            if not names:
                raise DataError("EmptyFile", "the file has no lines after those to skip", hint="look at the reader")
            yield TextBlock({name: [] for name in names}, [])

    def _cells(self, groups: pl.DataFrame, expression: _Expression) -> dict[str, pl.Series]:
        options = self._options
        nulls = ["", *options.null_values]
        columns = {}
        for group, name in expression.names.items():
            cells = groups[group]
            if isinstance(options, Fields) and options.quoted and group in expression.quoted:
                cells = _bare(cells, options.escape)
            cells = cells.replace(nulls, [None] * len(nulls))
            columns[name] = _iso(cells, options.times[name]) if name in options.times else cells
        return columns

    def _reason(self, number: int, line: str) -> str:
        """Why a line does not match. Counting takes quadratic time, so that few lines have their fields counted."""
        options = self._options
        if isinstance(options, Regex):
            return f"line {number}: does not match the pattern"
        self._explained += 1
        if self._explained > _MOST_EXPLAINED or len(line) > _LONGEST_EXPLAINED:
            return f"line {number}: does not have the fields that are expected"
        expected = len(self._expression.quoted) if options.columns is None else len(options.columns)
        fields = len(_split(options.separator, options.escape, quoted=options.quoted).findall(line))
        least = expected if options.least is None else options.least
        if fields < least:
            return f"line {number}: has {fields} fields, {least} are expected"
        if fields > expected and options.extra is None:
            return f"line {number}: has {fields} fields, {expected} are expected; to keep the others: extra='extra'"
        return f"line {number}: a quote or bracket in it is not closed, or a field does not match its pattern"


@lru_cache(maxsize=_KEPT)
def _split(separator: str, escape: str | None, *, quoted: bool) -> re.Pattern[str]:
    """For counting fields: each, with the separator before it."""
    marked = rf'"{_within(escape)}"|\[[^\]]*\]|' if quoted else ""
    return re.compile(rf"(?:^|{separator})(?:{marked}[^{separator}]*)[^{separator}]*")


def _bare(cells: pl.Series, escape: str | None) -> pl.Series:
    """The cells without their quotes or brackets, and without escapes within quotes. Lists of quoted texts stay."""
    if not cells.str.contains(r'^["\[]').any():
        return cells
    is_quoted = cells.str.starts_with('"')
    bare = cells.str.replace(rf'^(?:"({_within(escape)})"|\[([^\]]*)\])$', "${1}${2}")
    if escape and (is_quoted & cells.str.contains(escape, literal=True)).any():
        mark = re.escape(escape)
        plain = bare.str.replace_all(rf'{mark}(["{mark}])', "${1}")
        return plain.zip_with(is_quoted & (bare != cells), bare)
    return bare


def _iso(cells: pl.Series, pattern: str) -> pl.Series:
    """Times in ISO 8601, in UTC where they have an offset. What is none stays as it is, for the contract to name."""
    has_offset = "%z" in pattern
    times = cells.str.to_datetime(pattern, time_unit="us", time_zone="UTC" if has_offset else None, strict=False)
    return times.dt.strftime(_ISO + ("Z" if has_offset else "")).zip_with(times.is_not_null(), cells)
