"""The dialect of a CSV file, as far as nobody said it: by the name, and by what makes regular records of the first."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import replace

from silversmith.formats.content import Content
from silversmith.formats.csv_options import AUTO, Csv
from silversmith.formats.csv_records import Dialect, spelled

SEPARATORS = (",", ";", "\t", "|")

#: How many lines are looked at.
_LINES = 50

_LONGEST_NAME = 64


def dialect_of(content: Content, sample: str, options: Csv) -> Dialect:
    """The dialect of a file; ``sample`` is the text that it begins with."""
    lines = _first_lines(sample, options)
    quote = '"' if options.quote == AUTO else options.quote
    escape = None if options.escape == AUTO else options.escape
    plain = Dialect(_separator(content.name.lower(), lines, options, quote, escape), quote, options.comment, escape)
    if AUTO not in {options.quote, options.escape}:
        return plain
    if _is_regular(lines, plain):
        return plain
    return next((other for other in _others(plain, lines, options) if _is_regular(lines, other)), plain)


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
    if name.endswith((".tsv", ".tab")):
        return "\t"
    if name.endswith(".psv"):
        return "|"
    inside = _inside(lines, options)
    if len(inside) < 2:
        return inside[0] if inside else _candidates(options)[0]
    return max(inside, key=lambda mark: _agreement(lines, Dialect(mark, quote, escape=escape)))


def _candidates(options: Csv) -> list[str]:
    return [mark for mark in SEPARATORS if not (mark == "," and options.decimal_comma)]


def _inside(lines: list[str], options: Csv) -> list[str]:
    first = next((line for line in lines if line.strip()), "")
    return [mark for mark in _candidates(options) if mark in first]


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
