"""The types of text columns, inferred without loss: a column is no text only if every cell comes back as it was.

So "00501" stays text, 12 becomes an integer, and one "n/a" far down a column of numbers leaves all of it text rather
than making a null of it. The rules are written twice: over lists of cells, for small files, where starting Polars costs
more than the work; and as Polars expressions, for large ones. Tests hold the two together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from functools import partial
from typing import Any

import polars as pl

from silversmith.formats.table import col

#: What a column can be besides text, in the order in which it is tried.
UTC = pl.Datetime("us", "UTC")
NAIVE = pl.Datetime("us")
TYPES: tuple[pl.DataType, ...] = (pl.Int64(), pl.Float64(), pl.Boolean(), pl.Date(), NAIVE, UTC)

FLOAT_PATTERN = r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-][0-9]+)?$"
DATE_PATTERN = r"^(?:000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})-[0-9]{2}-[0-9]{2}$"
_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,6})?)?"
NAIVE_PATTERN = DATE_PATTERN[:-1] + "[T ]" + _CLOCK + "$"
UTC_PATTERN = DATE_PATTERN[:-1] + "[T ]" + _CLOCK + r"(?:Z|\+00:00)$"

#: Words for true and false: a column keeps to one way of writing them, or stays text.
BOOLEANS = (("true", "false"), ("True", "False"), ("TRUE", "FALSE"))

#: Cells up to this long, without an exponent, have at most 15 digits, which a Float64 always gives back.
_SURE_DIGITS = 15
_SAMPLE = 1000
_AT_ONCE = 100

_FLOAT, _NAIVE, _UTC = (re.compile(pattern[1:-1]) for pattern in (FLOAT_PATTERN, NAIVE_PATTERN, UTC_PATTERN))
_LEAST, _MOST = -(2**63), 2**63 - 1


def column(name: str, cells: Sequence[str | None], *, decimal_comma: bool = False) -> pl.Series:
    """Cells as a column of the type that keeps all of them; None is null. Same rules as :func:`types`.

    It keeps to lists and direct casts: a Polars expression would cost more than all the rest for a small file.
    """
    present = [cell for cell in cells if cell is not None]
    first = present[0][:1] if present else ""
    if first and first in "-0123456789":
        if _are_integers(present):
            return pl.Series(name, cells, dtype=pl.String).cast(pl.Int64)
        if _are_floats(present, decimal_comma=decimal_comma):
            plain = [cell and cell.replace(",", ".") for cell in cells] if decimal_comma else cells
            return pl.Series(name, plain, dtype=pl.String).cast(pl.Float64)
        for kind, parse in _PARSERS:
            values = parse(present)
            if values is not None:
                return pl.Series(name, _spread(values, cells), dtype=kind)
    elif first and first in "tfTF" and any(set(present) <= set(words) for words in BOOLEANS):
        return pl.Series(name, [None if cell is None else cell[0] in "tT" for cell in cells], dtype=pl.Boolean)
    return pl.Series(name, cells, dtype=pl.String)


def _spread(values: list[Any], cells: Sequence[str | None]) -> list[Any]:
    """The values of the cells that are not null, in their places."""
    if len(values) == len(cells):
        return values
    following = iter(values)
    return [None if cell is None else next(following) for cell in cells]


def _are_integers(cells: list[str]) -> bool:
    try:
        numbers = list(map(int, cells))
    except ValueError:
        return False
    return list(map(str, numbers)) == cells and min(numbers) >= _LEAST and max(numbers) <= _MOST


def _are_floats(cells: list[str], *, decimal_comma: bool) -> bool:
    if decimal_comma:
        if any("." in cell for cell in cells):
            return False
        cells = [cell.replace(",", ".", 1) for cell in cells]
    if not all(map(_FLOAT.fullmatch, cells)):
        return False
    unsure = [cell for cell in cells if len(cell) > _SURE_DIGITS or "e" in cell or "E" in cell]
    return all(digits(cell) == digits(repr(float(cell))) for cell in unsure)


def digits(number: str) -> str:
    """The significant digits of a number: what a float must give back. ``-0.0120e5`` has ``12``."""
    return re.sub(r"[eE].*|[-.]", "", number).strip("0")


def _dates(cells: list[str]) -> list[date] | None:
    try:
        days = [date.fromisoformat(cell) for cell in cells]
    except ValueError:
        return None
    return days if list(map(date.isoformat, days)) == cells else None


def _times(cells: list[str], pattern: re.Pattern[str]) -> list[datetime] | None:
    if not all(map(pattern.fullmatch, cells)):
        return None
    try:
        return [datetime.fromisoformat(cell) for cell in cells]
    except ValueError:
        return None


_PARSERS: tuple[tuple[pl.DataType, Callable[[list[str]], list[Any] | None]], ...] = (
    (pl.Date(), _dates),
    (NAIVE, partial(_times, pattern=_NAIVE)),
    (UTC, partial(_times, pattern=_UTC)),
)


def types(rows: pl.LazyFrame, names: Sequence[str], *, decimal_comma: bool = False) -> dict[str, pl.DataType]:
    """The types of text columns that are anything but text, in one streaming pass over all rows.

    The first rows say which type to prove for each column; a column that is text there is not looked at again. Of a
    wide table a hundred columns are proved in one pass: Polars takes quadratic time to plan for many.
    """
    dtypes: dict[str, pl.DataType] = {}
    for start in range(0, len(names), _AT_ONCE):
        some = names[start : start + _AT_ONCE]
        dtypes |= _types_of_some(rows.select(list(map(col, some))), some, decimal_comma=decimal_comma)
    return dtypes


def _types_of_some(rows: pl.LazyFrame, names: Sequence[str], *, decimal_comma: bool) -> dict[str, pl.DataType]:
    sample = rows.head(_SAMPLE).collect(engine="streaming")
    candidates = {
        name: _candidates(cells, decimal_comma=decimal_comma)
        for name, cells in zip(names, sample.get_columns(), strict=True)
    }
    proofs = [
        _holds(col(name).drop_nulls(), kind, decimal_comma=decimal_comma).alias(f"{position}:{kind}")
        for position, name in enumerate(names)
        for kind in candidates[name]
    ]
    if not proofs:
        return {}
    present = [col(name).count().alias(f"{position}") for position, name in enumerate(names) if candidates[name]]
    proved = rows.select(proofs + present).collect(engine="streaming").row(0, named=True)
    dtypes = {}
    for position, name in enumerate(names):
        kinds = [kind for kind in candidates[name] if proved[f"{position}:{kind}"] and proved[f"{position}"]]
        if kinds:
            dtypes[name] = kinds[0]
    return dtypes


def _candidates(sample: pl.Series, *, decimal_comma: bool) -> list[pl.DataType]:
    cells = [cell for cell in sample.to_list() if cell is not None]
    if not cells:
        return list(TYPES)
    kind = column("", cells, decimal_comma=decimal_comma).dtype
    if kind == pl.Int64():
        return [pl.Int64(), pl.Float64()]
    return [] if kind == pl.String() else [kind]


def _holds(cells: pl.Expr, kind: pl.DataType, *, decimal_comma: bool) -> pl.Expr:
    """Whether all cells, which are not null, are of a type."""
    if kind == pl.Int64():
        return cells.cast(pl.Int64, strict=False).cast(pl.String).eq_missing(cells).all()
    if kind == pl.Float64():
        return _floats_hold(cells, decimal_comma=decimal_comma)
    if kind == pl.Boolean():
        return pl.any_horizontal(cells.is_in(words).all() for words in BOOLEANS)
    if kind == pl.Date():
        return (cells.str.contains(DATE_PATTERN) & parse_date(cells).is_not_null()).all()
    pattern, zone = (NAIVE_PATTERN, None) if kind == NAIVE else (UTC_PATTERN, "UTC")
    return (cells.str.contains(pattern) & parse_time(cells, "us", zone).is_not_null()).all()


def _floats_hold(cells: pl.Expr, *, decimal_comma: bool) -> pl.Expr:
    plain = cells.str.replace(",", ".", literal=True) if decimal_comma else cells
    shaped = plain.str.contains(FLOAT_PATTERN)
    if decimal_comma:
        shaped = shaped & ~cells.str.contains(".", literal=True)
    unsure = plain.filter((plain.str.len_bytes() > _SURE_DIGITS) | plain.str.contains("[eE]"))
    back = unsure.cast(pl.Float64, strict=False).cast(pl.String)
    return shaped.all() & _digits(unsure).eq_missing(_digits(back)).all()


def _digits(numbers: pl.Expr) -> pl.Expr:
    return numbers.str.replace_all(r"[eE].*|[-.]", "").str.strip_chars("0")


def parse_date(cells: pl.Expr) -> pl.Expr:
    """Text of :data:`DATE_PATTERN` as dates; null where there is no such day."""
    return cells.str.to_date("%Y-%m-%d", strict=False)


def parse_time(cells: pl.Expr, unit: str, zone: str | None) -> pl.Expr:
    """ISO 8601 text as times; null where it is none. With a ``zone``, text must end with an offset or ``Z``.

    Seconds may be left out; a space may stand for the T.
    """
    spaced = cells.str.replace("T", " ", literal=True)
    ending = "" if zone is None else "%#z"
    spaced = spaced.str.replace(r"^([0-9-]+ [0-9]{2}:[0-9]{2})($|[Z+-])", "${1}:00${2}")
    return spaced.str.to_datetime(
        f"%Y-%m-%d %H:%M:%S%.f{ending}",
        strict=False,
        time_unit=unit,  # type: ignore[arg-type]
        time_zone=zone,
    )


def casts(dtypes: Mapping[str, pl.DataType], *, decimal_comma: bool = False) -> list[pl.Expr]:
    """The expressions that cast text columns to the types that :func:`types` gives."""
    return [_cast(name, kind, decimal_comma=decimal_comma) for name, kind in dtypes.items()]


def _cast(name: str, kind: pl.DataType, *, decimal_comma: bool) -> pl.Expr:
    cells = col(name)
    if kind == pl.Boolean():
        return cells.is_in([words[0] for words in BOOLEANS])
    if kind == pl.Date():
        return parse_date(cells)
    if kind in (NAIVE, UTC):
        return parse_time(cells, "us", "UTC" if kind == UTC else None)
    plain = cells.str.replace(",", ".", literal=True) if decimal_comma else cells
    return plain.cast(kind)


def _grouped(thousands: str, *, decimal_comma: bool) -> str:
    """The pattern of a number with marks: groups of three digits after the first one, and decimals after all."""
    mark, point = re.escape(thousands), "," if decimal_comma else r"\."
    return rf"^-?[1-9][0-9]{{0,2}}(?:{mark}[0-9]{{3}})+(?:{point}[0-9]+)?$"


def ungroup(cells: Sequence[str | None], thousands: str, *, decimal_comma: bool) -> list[str | None]:
    """Cells of a column, the numbers among them without marks."""
    shape = re.compile(_grouped(thousands, decimal_comma=decimal_comma)[1:-1])
    return [cell.replace(thousands, "") if cell and shape.fullmatch(cell) else cell for cell in cells]


def ungrouped(cells: pl.Expr, thousands: str, *, decimal_comma: bool) -> pl.Expr:
    """The same for a text column."""
    grouped = cells.str.contains(_grouped(thousands, decimal_comma=decimal_comma))
    return pl.when(grouped).then(cells.str.replace_all(thousands, "", literal=True)).otherwise(cells)
