"""The dialect of a CSV file, as far as nobody said it: by the name, and by what makes regular records of the first."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import replace

from silversmith.formats.archives.content import Content
from silversmith.formats.csv_options import AUTO, Csv
from silversmith.formats.csv_records import Dialect, spelled
from silversmith.formats.text import BOM

SEPARATORS = (",", ";", "\t", "|")

#: What a name says by its ending. Where the first record has no such mark in it, and another splits all alike, that
#: counts more than the name.
_NAMED = {".tsv": "\t", ".tab": "\t", ".psv": "|"}

_ANNOUNCED = re.compile(rb'"?sep=([!-/:-@\[-`{-~\t ])"?\r?\n')

#: How many lines are looked at.
_LINES = 50

_LONGEST_NAME = 64


def dialect_of(content: Content, sample: str, options: Csv) -> Dialect:
    """The dialect of a file; ``sample`` is the text that it begins with."""
    lines = _first_lines(sample, options)
    quote = '"' if options.quote == AUTO else options.quote
    escape = None if options.escape == AUTO else options.escape
    separator = _separator(content.name.lower(), lines, options, quote, escape)
    plain = Dialect(separator, quote, options.comment, escape, options.padded is True)
    padded = replace(plain, padded=True)
    if options.padded is None and _looks_padded(lines, plain) and _is_regular(lines, padded):
        return padded
    if AUTO not in {options.quote, options.escape} or _is_regular(lines, plain):
        return plain
    return next((other for other in _others(plain, lines, options) if _is_table_of(lines, other)), plain)


def announced(content: Content, options: Csv) -> Csv:
    """The options, with the separator that a first line such as ``sep=;`` says, as Excel writes and takes it."""
    found = _ANNOUNCED.match(content.head(16).removeprefix(BOM))
    if found is None or options.skip_lines or options.separator not in {None, found[1].decode()}:
        return options
    return replace(options, separator=found[1].decode(), skip_lines=1)


def _first_lines(sample: str, options: Csv) -> list[str]:
    lines = list(io.StringIO(sample, newline=""))[options.skip_lines :]
    if len(lines) > _LINES and not lines[-1].endswith(("\r", "\n")):
        lines.pop()  # the sample ends in the middle of it
    if options.comment:
        lines = [line for line in lines if not line.startswith(options.comment)]
    return lines


def _separator(name: str, lines: list[str], options: Csv, quote: str | None, escape: str | None) -> str:
    """The separator: the one that the first record has, and that splits most of the next ones alike."""
    if options.separator is not None:
        return options.separator
    inside = _inside(lines, options)
    named = next((mark for ending, mark in _NAMED.items() if name.endswith(ending)), None)
    if named is not None:
        others = [mark for mark in inside if _is_table_of(lines, Dialect(mark, quote, escape=escape))]
        return named if named in inside or not others else others[0]
    if len(inside) < 2:
        return inside[0] if inside else _candidates(options)[0]
    first = _first(lines)
    return max(
        inside,
        key=lambda mark: (*_agreement(lines, Dialect(mark, quote, escape=escape)), f"{mark} " not in first),
    )


def _candidates(options: Csv) -> list[str]:
    return [mark for mark in SEPARATORS if not (mark == "," and options.decimal_comma)]


def _inside(lines: list[str], options: Csv) -> list[str]:
    first = _first(lines)
    return [mark for mark in _candidates(options) if mark in first]


def _first(lines: list[str]) -> str:
    return next((line for line in lines if line.strip()), "")


def _widths(lines: list[str], dialect: Dialect) -> list[int]:
    """How many fields each of the first records has; none where a record cannot be read."""
    pieces = (spelled(line, dialect) for line in lines[:_LINES])
    try:
        return [len(row) for row in csv.reader(pieces, **dialect.options()) if row]
    except csv.Error:
        return []


def _agreement(lines: list[str], dialect: Dialect) -> tuple[float, int]:
    """Which share of the records has as many fields as the first, and how many that is; one field is no agreement."""
    widths = _widths(lines, dialect)
    if not widths or widths[0] < 2:
        return 0.0, 0
    return widths.count(widths[0]) / len(widths), widths[0]


def _is_regular(lines: list[str], dialect: Dialect) -> bool:
    return len(set(_widths(lines, dialect))) == 1


def _is_table_of(lines: list[str], dialect: Dialect) -> bool:
    """Whether it is regular, and has columns: what splits nothing splits everything alike."""
    return _is_regular(lines, dialect) and _widths(lines, dialect)[0] > 1


def _looks_padded(lines: list[str], dialect: Dialect) -> bool:
    """Whether the first record has a quote after a separator and blanks."""
    return (
        bool(dialect.quote) and re.search(f"{re.escape(dialect.separator)} +{dialect.quote}", _first(lines)) is not None
    )


def _others(plain: Dialect, lines: list[str], options: Csv) -> Iterator[Dialect]:
    """Other dialects that the lines have signs of, the likeliest first."""
    separators = dict.fromkeys([plain.separator, *([] if options.separator else _inside(lines, options))])
    text = "".join(lines[:_LINES])
    quotes = ["'"] if options.quote == AUTO and "'" in text else []
    escapes = ["\\"] if options.escape == AUTO and "\\" in text else []
    for separator in separators:
        one = replace(plain, separator=separator)
        yield from (replace(one, escape=escape) for escape in escapes)
        yield from (replace(one, quote=quote) for quote in quotes if quote != plain.escape)
        yield from (replace(one, quote=quote, escape=escape) for quote in quotes for escape in escapes)


def looks_separated(text: str) -> bool:
    """Whether text whose name says nothing is CSV: short names in the first record, each once, and as many fields in
    each of the next."""
    lines = list(io.StringIO(text, newline=""))
    if len(lines) > 2 and not lines[-1].endswith(("\r", "\n")):
        lines.pop()  # it may have been cut
    lines = [line for line in lines if line.strip()][:_LINES]
    return any(_is_table(lines, Dialect(separator, '"')) for separator in SEPARATORS)


def _is_table(lines: list[str], dialect: Dialect) -> bool:
    widths = _widths(lines, dialect)
    if len(widths) < 2 or len(set(widths)) > 1 or widths[0] < 2:
        return False
    names = next(csv.reader(lines, **dialect.options()), [])
    return len(set(names)) == len(names) and all(_is_name(name) for name in names)


def _is_name(name: str) -> bool:
    return 0 < len(name.strip()) <= _LONGEST_NAME and not name.strip().lstrip("+-").replace(".", "", 1).isdigit()
