"""From what was read to what the contract demands: lenient about blanks, exact about values. Pure expressions."""

from __future__ import annotations

import polars as pl

#: The forms of date and time that text may have; ISO 8601 with ``T`` or a blank, with or without fractions and offset.
_ZONED = "%Y-%m-%dT%H:%M:%S%.f%:z"
_NAIVE = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M")

_SHOWN = 100


def cast(name: str, found: pl.DataType, wanted: pl.DataType, *, decimal_comma: bool = False) -> pl.Expr:
    """The column in the wanted type; null where a cell has no such value. The column keeps its name."""
    column = pl.col(name)
    if found == wanted:
        return column
    if found == pl.String:
        return _from_text(column, wanted, decimal_comma=decimal_comma).alias(name)
    if found == pl.Boolean and wanted.is_numeric():
        return pl.lit(None, dtype=wanted).alias(name)  # true is no number
    return column.cast(wanted, strict=False)


def _from_text(column: pl.Expr, wanted: pl.DataType, *, decimal_comma: bool) -> pl.Expr:  # noqa: PLR0911 -- a table
    text = column.str.strip_chars()
    if wanted.is_integer():
        return text.cast(wanted, strict=False)
    if wanted.is_numeric():  # floats and decimals
        return (text.str.replace(",", ".", literal=True) if decimal_comma else text).cast(wanted, strict=False)
    if wanted == pl.Boolean:
        word = text.str.to_lowercase()
        return pl.when(word.is_in(["true", "1"])).then(True).when(word.is_in(["false", "0"])).then(False)
    if wanted == pl.Date:
        return text.str.to_date("%Y-%m-%d", strict=False)
    if isinstance(wanted, pl.Datetime):
        return _to_datetime(text, wanted)
    if wanted == pl.Time:
        return text.str.to_time("%H:%M:%S%.f", strict=False)
    return column.cast(wanted, strict=False)


def _to_datetime(text: pl.Expr, wanted: pl.Datetime) -> pl.Expr:
    """With a zone in the type, text without an offset is in UTC; without one, text with an offset is no such value."""
    iso = text.str.replace(" ", "T", literal=True)
    naive = [iso.str.to_datetime(form, time_unit=wanted.time_unit, strict=False) for form in _NAIVE]
    day = text.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime(wanted.time_unit))
    if wanted.time_zone is None:
        return pl.coalesce(*naive, day)
    zoned = iso.str.replace("[Zz]$", "+00:00").str.to_datetime(
        _ZONED, time_unit=wanted.time_unit, time_zone="UTC", strict=False
    )
    universal = pl.coalesce(zoned, *[form.dt.replace_time_zone("UTC") for form in (*naive, day)])
    return universal.dt.convert_time_zone(wanted.time_zone)


def reason_for(name: str, raw: str, found: pl.DataType, wanted: pl.DataType) -> pl.Expr:
    """Text that names the cell where the cast of the column ``raw`` gave no value, or another one; else null."""
    before, after = pl.col(raw), pl.col(name)
    failed = before.is_not_null() & after.is_null()
    if found != wanted and found.is_numeric() and wanted.is_numeric():
        failed = failed | (before.is_not_null() & after.cast(found, strict=False).ne_missing(before))
    if found.is_nested():
        shown = pl.lit(f"a {found.base_type().__name__}")
    else:
        shown = pl.concat_str(pl.lit('"'), before.cast(pl.String, strict=False).str.slice(0, _SHOWN), pl.lit('"'))
    return pl.when(failed).then(pl.concat_str(pl.lit(f"{name}: "), shown, pl.lit(f" is not {wanted}")))
