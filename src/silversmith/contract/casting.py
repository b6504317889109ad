"""Casts from the columns of a file to those of a contract: lenient about blanks, exact about values.

A cast returns null if a cell has no such value. Between typed columns a value must survive the way there and back, so
3.0 is an integer and 3.5 is not. Only floats may round, as floats do. :func:`cast` is an expression; :func:`quickly`
casts a column in memory directly, and leaves to :func:`cast` all that it cannot.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl
from polars.datatypes import DataTypeClass

from silversmith.errors import DefinitionError
from silversmith.formats import infer
from silversmith.formats.csv.dialect import GROUPS
from silversmith.formats.infer import CLOCK, DATE, DATE_PATTERN, parse_date, parse_time
from silversmith.formats.table import EXACT, LONGEST_TEXT

_TRUE, _FALSE = ("true", "1"), ("false", "0")
_WORDS = {**dict.fromkeys(_TRUE, True), **dict.fromkeys(_FALSE, False)}
_FRACTIONS = {"ms": 3, "us": 6, "ns": 9}
_CLOCK = CLOCK.replace("%s}", "%s}0*")
_OFFSET = r"(?:Z|[+-][0-9]{2}:?[0-9]{2})"

#: The bytes of a day as text, and the first day that there is, as Polars counts days.
_WIDTH = len("0000-00-00")
_FIRST = (date(1, 1, 1) - date(1970, 1, 1)).days

#: Up to this many cells a list is faster than an expression.
_FEW = 2000


def cast(
    cells: pl.Expr,
    source: pl.DataType,
    target: pl.DataType,
    *,
    decimal_comma: bool = False,
    notation: Notation | None = None,
) -> pl.Expr:
    """The cells in the target type; null if a cell has no such value. ``notation``: how days, times or numbers are
    written."""
    if source == target:
        return cells
    if notation is not None and (source == pl.String or source.is_integer()):
        return notation.parse(cells.cast(pl.String).str.strip_chars(), target)
    if source == pl.String:
        return _from_text(cells, target, decimal_comma=decimal_comma)
    if not _is_castable(source, target):
        return pl.lit(None, dtype=target)
    if isinstance(source, pl.Datetime) and isinstance(target, pl.Datetime) and source.time_zone is None:
        moved = cells.dt.replace_time_zone(target.time_zone, ambiguous="null", non_existent="null")
        return _there_and_back(moved, pl.Datetime(source.time_unit, target.time_zone), target)
    return _there_and_back(cells, source, target)


def failed(before: pl.Expr, after: pl.Expr, source: pl.DataType) -> pl.Expr:
    """Whether a cell that is not blank was cast to null."""
    return (after.is_null() & present(before, source)).fill_null(value=False)


def present(cells: pl.Expr, source: pl.DataType) -> pl.Expr:
    """Whether a cell is neither null nor blank text; the answer for null text is null."""
    return cells.str.strip_chars() != "" if source == pl.String else cells.is_not_null()


def reason(
    name: str, before: pl.Expr, source: pl.DataType, target: pl.DataType, notation: Notation | None = None
) -> pl.Expr:
    """The reason to reject a cell that cannot be cast: ``distance: "abc" is not Int64``."""
    written = f" written {notation}" if notation is not None else ""
    return pl.concat_str(pl.lit(f"{name}: "), shown(before, source), pl.lit(f" is not {target}{written}"))


def shown(cells: pl.Expr, source: pl.DataType) -> pl.Expr:
    """A cell as text for a person: words in quotes, cut short. Null stays null."""
    if isinstance(source, pl.Struct):
        text = cells.struct.json_encode()
    elif source.is_nested() or source in (pl.Binary, pl.Duration, pl.Object):
        return pl.lit(f"a value of type {source}")
    else:
        text = cells.cast(pl.String)
    more = pl.when(text.str.len_chars() > LONGEST_TEXT).then(pl.lit("…")).otherwise(pl.lit(""))
    cut = text.str.slice(0, LONGEST_TEXT) + more
    return pl.lit('"') + cut + pl.lit('"') if source == pl.String else cut


def _is_castable(source: pl.DataType, target: pl.DataType) -> bool:
    """Whether the two types can mean the same: numbers and times, say, cannot."""
    if source == pl.Null:
        return True
    if isinstance(source, pl.Datetime) and isinstance(target, pl.Datetime):
        return source.time_zone is None or target.time_zone is not None
    if target == pl.String:
        return not source.is_nested() and source not in (pl.Binary, pl.Duration, pl.Object)
    families = (
        (pl.Date, pl.Datetime),
        (pl.Duration,),
        (pl.String, pl.Categorical, pl.Enum),
        (pl.List, pl.Array),
        (pl.Struct,),
    )
    if source.is_numeric():
        return target.is_numeric() or (target == pl.Boolean and source.is_integer())
    bases = source.base_type(), target.base_type()
    return any(all(base in family for base in bases) for family in families) and _is_alike(source, target)


def _is_alike(source: pl.DataType, target: pl.DataType) -> bool:
    """Whether nested types are nested alike: if a struct meets a number, Polars panics."""
    if pl.Null in (source, target):
        return True
    if isinstance(source, pl.List | pl.Array) and isinstance(target, pl.List | pl.Array):
        return _is_alike(instance_of(source.inner), instance_of(target.inner))
    if isinstance(source, pl.Struct) and isinstance(target, pl.Struct):
        sources = {field.name: instance_of(field.dtype) for field in source.fields}
        return all(_is_alike(sources.get(field.name, pl.Null()), instance_of(field.dtype)) for field in target.fields)
    return not source.is_nested() and not target.is_nested()


def instance_of(dtype: pl.DataType | DataTypeClass) -> pl.DataType:
    """A type within another one, which may be named by its class."""
    return dtype if isinstance(dtype, pl.DataType) else dtype()


def _there_and_back(cells: pl.Expr, source: pl.DataType, target: pl.DataType) -> pl.Expr:
    there = cells.cast(target, strict=False)
    if target == pl.String:
        return there
    if source.is_float() and target.is_float():
        return pl.when(there.is_infinite() <= cells.is_infinite()).then(there)
    return pl.when(there.cast(source, strict=False).eq_missing(cells)).then(there)


def _from_text(cells: pl.Expr, target: pl.DataType, *, decimal_comma: bool) -> pl.Expr:
    text = cells.str.strip_chars()
    if target.is_numeric():
        return _number(infer.with_point(text) if decimal_comma else text, target)
    if isinstance(target, pl.Datetime):
        return _moment(text, target)
    if isinstance(target, pl.Enum | pl.Categorical | pl.Binary):
        return cells.cast(target, strict=False)
    word = text.str.to_lowercase()
    forms = {
        pl.Boolean: pl.when(word.is_in(_TRUE) | word.is_in(_FALSE)).then(word.is_in(_TRUE)),
        pl.Date: parse_date(pl.when(text.str.contains(DATE_PATTERN)).then(text)),
        pl.Time: _time(text),
    }
    return forms.get(target.base_type(), pl.lit(None, dtype=target))


def _number(text: pl.Expr, target: pl.DataType) -> pl.Expr:
    if target.is_integer():
        # a tool that knows no null among integers writes 12.0
        return pl.coalesce(text.cast(target, strict=False), text.str.strip_suffix(".0").cast(target, strict=False))
    if isinstance(target, pl.Decimal):
        fits = text.str.contains(rf"^[+-]?(?:[0-9]+(?:\.[0-9]{{0,{target.scale}}}0*)?|\.[0-9]{{1,{target.scale}}}0*)$")
        return pl.when(fits).then(text).cast(target, strict=False)
    number = text.cast(target, strict=False)
    return pl.when(~number.is_infinite() | text.str.contains("(?i)inf")).then(number)


def _moment(text: pl.Expr, target: pl.Datetime) -> pl.Expr:
    """ISO 8601. Text without an offset is the time in the type's zone; text with one is no value of a type without."""
    clock = _CLOCK % _FRACTIONS[target.time_unit]
    full = pl.when(text.str.contains(DATE_PATTERN)).then(text + "T00:00:00").otherwise(text)
    local = parse_time(pl.when(text.str.contains(f"^{DATE}(?:[T ]{clock})?$")).then(full), target.time_unit, None)
    if target.time_zone is None:
        return local
    offset = pl.when(text.str.contains(f"^{DATE}[T ]{clock}{_OFFSET}$")).then(text)
    return pl.coalesce(
        local.dt.replace_time_zone(target.time_zone, ambiguous="null", non_existent="null"),
        parse_time(offset, target.time_unit, "UTC").dt.convert_time_zone(target.time_zone),
    )


def _time(text: pl.Expr) -> pl.Expr:
    shaped = pl.when(text.str.contains(f"^{_CLOCK % 9}$")).then(text)
    full = pl.when(shaped.str.len_bytes() == 5).then(shaped + ":00").otherwise(shaped)
    return full.str.to_time("%H:%M:%S%.f", strict=False)


def quickly(cells: pl.Series, target: pl.DataType) -> pl.Series | None:
    """The cells in the target type without an expression; None if that cannot be, or a cell would be lost."""
    if cells.dtype == target:
        return cells
    result = None
    if cells.dtype == pl.String:
        result = _text_quickly(cells, target)
    elif cells.dtype.is_integer() and (target.is_integer() or (target == pl.Float64 and _are_exact(cells))):
        result = cells.cast(target, strict=False)
    return result if result is not None and result.null_count() == cells.null_count() else None


def _are_exact(cells: pl.Series) -> bool:
    """Whether integers are exact as Float64."""
    low, high = cells.min(), cells.max()
    return low is None or (int(str(low)) >= -EXACT and int(str(high)) <= EXACT)


def _text_quickly(cells: pl.Series, target: pl.DataType) -> pl.Series | None:
    if target.is_integer():
        return cells.cast(target, strict=False)
    if target.is_float():
        result = cells.cast(target, strict=False)
        return result if result.max() != float("inf") and result.min() != float("-inf") else None
    if target == pl.Date:
        return days(cells) if len(cells) > _FEW else infer.dates(cells)
    if len(cells) <= _FEW and target == pl.Boolean:
        return pl.Series(cells.name, [_WORDS.get(cell) for cell in cells.to_list()], dtype=target)
    if len(cells) <= _FEW and target == pl.Datetime("us"):
        return infer.times(cells)
    return None


def days(cells: pl.Series) -> pl.Series | None:
    """Text as days; None if a cell is no day. Null stays null.

    Polars' parser takes blanks and signs for parts of numbers: so all bytes must be digits, dashes or what is between
    these in ASCII, and the first day the first of all years.
    """
    table = cells.cast(pl.Binary).bin.reinterpret(dtype=pl.Array(pl.UInt8, _WIDTH))  # null for another length
    if table.null_count() > cells.null_count() or not table.reshape((-1,)).is_between(ord("-"), ord("9")).all():
        return None
    result = cells.str.to_date("%Y-%m-%d", strict=False, cache=False)
    is_whole = result.null_count() == cells.null_count() and (result.to_physical() >= _FIRST).all()
    return result if is_whole else None


# The notation of the days and times of a column: formats such as ``%d.%m.%Y``, read exactly. Polars' own parser takes
# more than a format says: ``31.01.26`` as a day of the year 26, ``130`` as 13:00. So a regular expression, made of the
# same format, shows that each part has as many digits as it should have.

#: The directives, as Python's strptime has them: what each is, and the text that it takes. ``%b`` knows English only.
#: https://docs.rs/chrono/latest/chrono/format/strftime/index.html
_NUMBERS = {"d": "day", "m": "month", "H": "hour", "I": "hour of 12", "M": "minute", "S": "second"}
_OTHERS = {
    "Y": ("year", "[0-9]{4}"),
    "y": ("year", "[0-9]{2}"),
    "j": ("day of the year", "[0-9]{3}"),
    "b": ("month", "[A-Za-z]{3}"),
    "B": ("month", "[A-Za-z]+"),
    "a": ("weekday", "[A-Za-z]{3}"),
    "A": ("weekday", "[A-Za-z]+"),
    "p": ("half", "[AaPp][Mm]"),
    "z": ("offset", "(?:Z|[+-][0-9]{2}:?[0-9]{2})"),
    "f": ("fraction", ""),
}
_SHORT = {"F": "%Y-%m-%d", "T": "%H:%M:%S", "R": "%H:%M"}
_KNOWN = " ".join(f"%{sign}" for sign in (*_NUMBERS, *_OTHERS, *_SHORT))
_CLOCK_PARTS = {"hour", "hour of 12", "minute", "second", "half", "fraction", "offset"}


@dataclass(frozen=True)
class TimeFormat:
    """One format: ``pattern`` is the shape of its texts, ``directives`` are Polars', ``parts`` what it tells."""

    text: str
    pattern: str
    directives: str
    parts: frozenset[str]


@dataclass(frozen=True)
class NumberFormat:
    """How numbers are written: the ``mark`` between groups of three digits, which may be left out, and the ``point``
    before decimals."""

    text: str
    mark: str
    point: str

    def parse(self, text: pl.Expr, target: pl.DataType) -> pl.Expr:
        """Text as numbers; null where it is written otherwise."""
        has_comma = self.point == ","
        plain = infer.without_marks(text, self.mark, decimal_comma=has_comma) if self.mark else text
        return _number(infer.with_point(plain) if has_comma else plain, target)


@dataclass(frozen=True)
class Notation:
    """The formats of one column, of which the first that fits a cell is taken."""

    formats: tuple[TimeFormat | NumberFormat, ...]

    def __str__(self) -> str:
        return " or ".join(each.text for each in self.formats)

    def parse(self, text: pl.Expr, target: pl.DataType) -> pl.Expr:
        """Text as days, times or numbers; null where no format fits, or there is no such day."""
        return pl.coalesce(_parsed(text, each, target) for each in self.formats)

    def written(self, values: pl.Expr) -> pl.Expr:
        """Days, times or numbers as text in the first format."""
        first = self.formats[0]
        if isinstance(first, NumberFormat):
            return values.cast(pl.String).str.replace(".", first.point, literal=True)
        return values.dt.to_string(first.text)


def _parsed(text: pl.Expr, written: TimeFormat | NumberFormat, target: pl.DataType) -> pl.Expr:
    if isinstance(written, NumberFormat):
        return written.parse(text, target)
    shaped = pl.when(text.str.contains(written.pattern)).then(text)
    directives = written.directives
    if target == pl.Time:
        return shaped.str.to_time(directives, strict=False, cache=False)
    if target == pl.Date and not written.parts & _CLOCK_PARTS:
        return shaped.str.to_date(directives, strict=False, cache=False)
    unit, zone = (target.time_unit, target.time_zone) if isinstance(target, pl.Datetime) else ("us", None)
    if "offset" in written.parts:
        moment = shaped.str.to_datetime(directives, strict=False, cache=False, time_unit=unit, time_zone="UTC")
        return moment.dt.convert_time_zone(zone or "UTC")
    local = shaped.str.to_datetime(directives, strict=False, cache=False, time_unit=unit)
    if target == pl.Date:
        return pl.when(local == local.dt.truncate("1d")).then(local.dt.date())
    return local if zone is None else local.dt.replace_time_zone(zone, ambiguous="null", non_existent="null")


def notations(columns: Mapping[str, Any], dtypes: Mapping[str, pl.DataType]) -> dict[str, Notation]:
    """By column, how it is written.

    Raises:
        DefinitionError: a format cannot be read, or says too little or too much for the column's type.
    """
    return {name: _notation(name, written, dtypes[name]) for name, written in columns.items()}


def _notation(name: str, written: Any, dtype: pl.DataType) -> Notation:
    if dtype.base_type() not in (pl.Date, pl.Datetime, pl.Time) and not dtype.is_numeric():
        raise DefinitionError(
            f"formats: {name!r} is {dtype}; only numbers, pl.Date, pl.Datetime and pl.Time have formats"
        )
    texts = [written] if isinstance(written, str) else written
    if not isinstance(texts, Sequence) or not texts or not all(isinstance(text, str) for text in texts):
        raise DefinitionError(f"formats: {name!r} has {written!r}; give a format such as '%d.%m.%Y', or a list of them")
    if dtype.is_numeric():
        return Notation(tuple(_number_format(name, text) for text in texts))
    unit = dtype.time_unit if isinstance(dtype, pl.Datetime) else "ns"
    formats = tuple(_format(name, text, _FRACTIONS[unit]) for text in texts)
    for each in formats:
        if problem := _problem(each.parts, dtype):
            raise DefinitionError(f"formats: {name!r} is {dtype}, and {each.text!r} {problem}")
    return Notation(formats)


def _number_format(name: str, text: str) -> NumberFormat:
    match = re.fullmatch(r"1(\D?)234([.,])56", text)
    if match is None or match[1] == match[2] or match[1] not in GROUPS:
        raise DefinitionError(
            f"formats: {name!r} is a number, and has {text!r}; write 1234.56 as the file would: '1.234,56', '1234,56', "
            "'1 234,56' or '1,234.56'"
        )
    return NumberFormat(text, match[1], match[2])


def _format(name: str, text: str, digits: int) -> TimeFormat:
    expanded = re.sub("%([FTR])", lambda short: _SHORT[short[1]], text)
    pieces = re.findall(r"%.?|[^%]+", expanded, re.DOTALL)
    pattern, directives, parts = "", "", []
    for place, piece in enumerate(pieces):
        sign = piece[1:]
        if piece[0] != "%" or sign == "%":
            pattern += re.escape("%" if sign == "%" else piece)
            directives += piece
        elif sign in _NUMBERS:
            beside = pieces[max(0, place - 1) : place] + pieces[place + 1 : place + 2]
            pattern += "[0-9]{2}" if any(map(_is_digits, beside)) else "[0-9]{1,2}"
            directives += piece
            parts.append(_NUMBERS[sign])
        elif sign in _OTHERS:
            part, shape = _OTHERS[sign]
            if sign == "f" and not directives.endswith("."):
                raise DefinitionError(f"formats: {name!r} has {text!r}; a fraction follows a point: %S.%f")
            pattern += f"[0-9]{{1,{digits}}}0*" if sign == "f" else shape
            directives = f"{directives[:-1]}%.f" if sign == "f" else directives + ("%#z" if sign == "z" else piece)
            parts.append(part)
        else:
            raise DefinitionError(f"formats: {name!r} has {text!r} with {piece!r}; there are {_KNOWN} and %%")
    twice = next((part for part in parts if parts.count(part) > 1), None)
    if twice is not None:
        raise DefinitionError(f"formats: {name!r} has {text!r}, which names the {twice} twice")
    return TimeFormat(text, f"^{pattern}$", directives, frozenset(parts))


def _is_digits(piece: str) -> bool:
    return piece[0] == "%" and (piece[1:] in _NUMBERS or piece[1:] in {"Y", "y", "j"})


def _problem(parts: frozenset[str], dtype: pl.DataType) -> str:
    """Why a format cannot be one of the type; empty if it can."""
    missing = [part for part in ("year", "month", "day") if part not in parts]
    if dtype != pl.Time and missing and not {"year", "day of the year"} <= parts:
        return f"tells no {' and no '.join(missing)}"
    clock = parts & _CLOCK_PARTS
    is_hour = "hour" in parts or {"hour of 12", "half"} <= parts
    if (clock or dtype == pl.Time) and not (is_hour and "minute" in parts):
        return "tells no hour and minute: %H:%M, or %I:%M %p"
    if dtype == pl.Time and parts - _CLOCK_PARTS:
        return "tells a day, which no time of the day has; make the column pl.Datetime"
    if "offset" in parts and not (isinstance(dtype, pl.Datetime) and dtype.time_zone):
        return "has an offset (%z), which only a type with a zone can hold: pl.Datetime('us', 'UTC')"
    return ""
