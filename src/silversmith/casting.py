"""From what was read to what the contract demands: lenient about blanks, exact about values.

A cast gives null where a cell has no such value. Between typed columns a value must survive the way there and back, so
3.0 is an integer and 3.5 is none. Only floats may round: that is what floats do. Pure: expressions, and the same by
direct casts for small frames.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import polars as pl
from polars.datatypes import DataTypeClass

from silversmith import days
from silversmith.formats.infer import DATE_PATTERN, parse_date, parse_time
from silversmith.formats.table import LONGEST_TEXT

_TRUE, _FALSE = ("true", "1"), ("false", "0")
_WORDS = {**dict.fromkeys(_TRUE, True), **dict.fromkeys(_FALSE, False)}
_FRACTIONS = {"ms": 3, "us": 6, "ns": 9}
_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{{1,{digits}}}0*)?)?"
_OFFSET = r"(?:Z|[+-][0-9]{2}:[0-9]{2})"

#: Integers up to this one, and down to its negative, are exact as Float64.
_EXACT = 2**53

#: Up to this many cells a list is faster than an expression.
_FEW = 2000


def cast(cells: pl.Expr, found: pl.DataType, wanted: pl.DataType, *, decimal_comma: bool = False) -> pl.Expr:
    """The cells in the wanted type; null where a cell has no such value."""
    if found == wanted:
        return cells
    if found == pl.String:
        return _from_text(cells, wanted, decimal_comma=decimal_comma)
    if not _is_castable(found, wanted):
        return pl.lit(None, dtype=wanted)
    if isinstance(found, pl.Datetime) and isinstance(wanted, pl.Datetime) and found.time_zone is None:
        moved = cells.dt.replace_time_zone(wanted.time_zone, ambiguous="null", non_existent="null")
        return _there_and_back(moved, pl.Datetime(found.time_unit, wanted.time_zone), wanted)
    return _there_and_back(cells, found, wanted)


def failed(before: pl.Expr, after: pl.Expr, found: pl.DataType) -> pl.Expr:
    """Whether a cell that says something came out of a cast as null. Blank text says nothing."""
    return (after.is_null() & present(before, found)).fill_null(value=False)


def present(cells: pl.Expr, found: pl.DataType) -> pl.Expr:
    """Whether a cell says something. Blank text and null do not; of null text it is null itself."""
    return cells.str.strip_chars() != "" if found == pl.String else cells.is_not_null()


def reason(name: str, before: pl.Expr, found: pl.DataType, wanted: pl.DataType) -> pl.Expr:
    """Text that names a cell that could not be cast: ``distance: "abc" is not Int64``."""
    return pl.concat_str(pl.lit(f"{name}: "), shown(before, found), pl.lit(f" is not {wanted}"))


def shown(cells: pl.Expr, found: pl.DataType) -> pl.Expr:
    """A cell as text for a person: words in quotes, cut short. Null stays null."""
    if isinstance(found, pl.Struct):
        text = cells.struct.json_encode()
    elif found.is_nested() or found in (pl.Binary, pl.Duration, pl.Object):
        return pl.lit(f"a value of type {found}")
    else:
        text = cells.cast(pl.String)
    more = pl.when(text.str.len_chars() > LONGEST_TEXT).then(pl.lit("…")).otherwise(pl.lit(""))
    cut = text.str.slice(0, LONGEST_TEXT) + more
    return pl.lit('"') + cut + pl.lit('"') if found == pl.String else cut


def _is_castable(found: pl.DataType, wanted: pl.DataType) -> bool:
    """Whether the two types can mean the same: numbers and times, say, cannot."""
    if found == pl.Null:
        return True
    if isinstance(found, pl.Datetime) and isinstance(wanted, pl.Datetime):
        return found.time_zone is None or wanted.time_zone is not None
    if wanted == pl.String:
        return not found.is_nested() and found not in (pl.Binary, pl.Duration, pl.Object)
    families = (
        (pl.Date, pl.Datetime),
        (pl.Duration,),
        (pl.String, pl.Categorical, pl.Enum),
        (pl.List, pl.Array),
        (pl.Struct,),
    )
    if found.is_numeric():
        return wanted.is_numeric() or (wanted == pl.Boolean and found.is_integer())
    bases = found.base_type(), wanted.base_type()
    return any(all(base in family for base in bases) for family in families) and _is_alike(found, wanted)


def _is_alike(found: pl.DataType, wanted: pl.DataType) -> bool:
    """Whether nested types are nested alike: where a struct meets a number, Polars does not fail but panics."""
    if pl.Null in (found, wanted):
        return True
    if isinstance(found, pl.List | pl.Array) and isinstance(wanted, pl.List | pl.Array):
        return _is_alike(_instance(found.inner), _instance(wanted.inner))
    if isinstance(found, pl.Struct) and isinstance(wanted, pl.Struct):
        there = {field.name: _instance(field.dtype) for field in found.fields}
        return all(_is_alike(there.get(field.name, pl.Null()), _instance(field.dtype)) for field in wanted.fields)
    return not found.is_nested() and not wanted.is_nested()


def _instance(kind: pl.DataType | DataTypeClass) -> pl.DataType:
    return kind if isinstance(kind, pl.DataType) else kind()


def _there_and_back(cells: pl.Expr, found: pl.DataType, wanted: pl.DataType) -> pl.Expr:
    there = cells.cast(wanted, strict=False)
    if wanted == pl.String:
        return there
    if found.is_float() and wanted.is_float():
        return pl.when(there.is_infinite() <= cells.is_infinite()).then(there)
    return pl.when(there.cast(found, strict=False).eq_missing(cells)).then(there)


def _from_text(cells: pl.Expr, wanted: pl.DataType, *, decimal_comma: bool) -> pl.Expr:
    text = cells.str.strip_chars()
    if wanted.is_numeric():
        if decimal_comma:
            text = pl.when(~text.str.contains(".", literal=True)).then(text.str.replace(",", ".", literal=True))
        return _number(text, wanted)
    if isinstance(wanted, pl.Datetime):
        return _moment(text, wanted)
    if isinstance(wanted, pl.Enum | pl.Categorical | pl.Binary):
        return cells.cast(wanted, strict=False)
    word = text.str.to_lowercase()
    forms = {
        pl.Boolean: pl.when(word.is_in(_TRUE) | word.is_in(_FALSE)).then(word.is_in(_TRUE)),
        pl.Date: parse_date(pl.when(text.str.contains(DATE_PATTERN)).then(text)),
        pl.Time: _time(text),
    }
    return forms.get(wanted.base_type(), pl.lit(None, dtype=wanted))


def _number(text: pl.Expr, wanted: pl.DataType) -> pl.Expr:
    if wanted.is_integer():
        # a tool that knows no null among integers writes 12.0
        return pl.coalesce(text.cast(wanted, strict=False), text.str.strip_suffix(".0").cast(wanted, strict=False))
    if isinstance(wanted, pl.Decimal):
        fits = text.str.contains(rf"^[+-]?(?:[0-9]+(?:\.[0-9]{{0,{wanted.scale}}}0*)?|\.[0-9]{{1,{wanted.scale}}}0*)$")
        return pl.when(fits).then(text).cast(wanted, strict=False)
    number = text.cast(wanted, strict=False)
    return pl.when(~number.is_infinite() | text.str.contains("(?i)inf")).then(number)


def _moment(text: pl.Expr, wanted: pl.Datetime) -> pl.Expr:
    """ISO 8601. Text without an offset is the time in the type's zone; text with one is no value of a type without."""
    clock = _CLOCK.format(digits=_FRACTIONS[wanted.time_unit])
    naive = DATE_PATTERN[:-1] + f"(?:[T ]{clock})?"
    full = pl.when(text.str.contains(DATE_PATTERN)).then(text + "T00:00:00").otherwise(text)
    local = parse_time(pl.when(text.str.contains(naive + "$")).then(full), wanted.time_unit, None)
    if wanted.time_zone is None:
        return local
    offset = pl.when(text.str.contains(DATE_PATTERN[:-1] + f"[T ]{clock}{_OFFSET}$")).then(text)
    return pl.coalesce(
        local.dt.replace_time_zone(wanted.time_zone, ambiguous="null", non_existent="null"),
        parse_time(offset, wanted.time_unit, "UTC").dt.convert_time_zone(wanted.time_zone),
    )


def _time(text: pl.Expr) -> pl.Expr:
    shaped = pl.when(text.str.contains("^" + _CLOCK.format(digits=9) + "$")).then(text)
    full = pl.when(shaped.str.len_bytes() == 5).then(shaped + ":00").otherwise(shaped)
    return full.str.to_time("%H:%M:%S%.f", strict=False)


def quickly(cells: pl.Series, wanted: pl.DataType) -> pl.Series | None:
    """The cells in the wanted type, if that can be had without an expression and no cell is lost; else None."""
    if cells.dtype == wanted:
        return cells
    made = None
    if cells.dtype == pl.String:
        made = _text_quickly(cells, wanted)
    elif cells.dtype.is_integer() and (wanted.is_integer() or (wanted == pl.Float64 and _are_exact(cells))):
        made = cells.cast(wanted, strict=False)
    return made if made is not None and made.null_count() == cells.null_count() else None


def _are_exact(cells: pl.Series) -> bool:
    """Whether integers are exact as Float64."""
    low, high = cells.min(), cells.max()
    return low is None or (int(str(low)) >= -_EXACT and int(str(high)) <= _EXACT)


def _text_quickly(cells: pl.Series, wanted: pl.DataType) -> pl.Series | None:
    if wanted.is_integer():
        return cells.cast(wanted, strict=False)
    if wanted.is_float():
        made = cells.cast(wanted, strict=False)
        return made if made.max() != float("inf") and made.min() != float("-inf") else None
    if wanted == pl.Date and len(cells) > _FEW:
        return days.days(cells)
    if len(cells) <= _FEW and wanted in (pl.Boolean(), pl.Date(), pl.Datetime("us")):
        values = _values(cells.to_list(), wanted)
        return None if values is None else pl.Series(cells.name, values, dtype=wanted)
    return None


def _values(cells: list[str | None], wanted: pl.DataType) -> list[Any] | None:
    try:
        if wanted == pl.Boolean:
            return [None if cell is None else _WORDS[cell] for cell in cells]
        if wanted == pl.Date:
            return [None if cell is None else _day(cell) for cell in cells]
        return [None if cell is None else _second(cell) for cell in cells]
    except (KeyError, ValueError):
        return None


def _day(cell: str) -> date:
    """Python reads forms of ISO 8601 that are not for us; so the day must read as it was written."""
    day = date.fromisoformat(cell)
    if day.isoformat() != cell:
        raise ValueError(cell)
    return day


def _second(cell: str) -> datetime:
    moment = datetime.fromisoformat(cell)
    if moment.isoformat() != cell or moment.tzinfo is not None:
        raise ValueError(cell)
    return moment
