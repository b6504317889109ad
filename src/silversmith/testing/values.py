"""Values of Polars' types for hypothesis, as the files of every format can hold them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal
from typing import Any

import polars as pl
from hypothesis import strategies as st

Values = st.SearchStrategy[Any]

#: Letters, digits, signs and blanks of many scripts; what needs quotes in a CSV file is among them.
CHARACTERS = st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs"))

#: Days that every format writes and every unit of time holds.
_FIRST, _LAST = date(1700, 1, 1), date(2200, 12, 31)

#: In microseconds.
_UNITS = {"ms": 1000, "us": 1, "ns": 1}


@dataclass(frozen=True)
class Bounds:
    """The lowest and the highest value; None: no such end."""

    low: Any = None
    high: Any = None


def of_type(kind: pl.DataType, bounds: Bounds | None = None) -> Values:
    """Values of a type, none of them null.

    Raises:
        ValueError: there are none for this type.
    """
    bounds = bounds or Bounds()
    if kind.is_integer():
        return st.integers(*_within(bounds, *_ends(kind)))
    if isinstance(kind, pl.Array):
        return st.lists(of_type(_made(kind.inner)), min_size=kind.size, max_size=kind.size)
    if isinstance(kind, pl.List):
        return st.lists(of_type(_made(kind.inner)), max_size=4)
    if isinstance(kind, pl.Struct):
        return st.fixed_dictionaries({one.name: of_type(_made(one.dtype)) for one in kind.fields})
    make = _MAKE.get(kind.base_type())
    if make is None:
        raise ValueError(f"there is no strategy for {kind}; give one for the column: columns={{name: strategy}}")
    return make(kind, bounds)


def texts() -> st.SearchStrategy[str]:
    """Texts that are not blank and have no blanks around them, which a cast might take away."""
    return st.text(CHARACTERS, max_size=12).map(str.strip).filter(bool)


def _made(kind: Any) -> pl.DataType:
    found: pl.DataType = kind() if isinstance(kind, type) else kind
    return found


def _ends(kind: Any) -> tuple[int, int]:
    """The least and the greatest number of a type of integers."""
    low, high = pl.select(kind.min().alias("low"), kind.max().alias("high")).row(0)
    return low, high


def _within(bounds: Bounds, lowest: Any, highest: Any) -> tuple[Any, Any]:
    return (
        lowest if bounds.low is None else max(lowest, bounds.low),
        highest if bounds.high is None else min(highest, bounds.high),
    )


def _floats(kind: Any, bounds: Bounds) -> Values:
    width = 32 if kind == pl.Float32 else 64
    low, high = bounds.low, bounds.high
    if width == 32:  # the ends must be such numbers themselves
        return st.floats(width=32, allow_nan=False, allow_infinity=False).filter(
            lambda found: (low is None or found >= low) and (high is None or found <= high)
        )
    return st.floats(low, high, allow_nan=False, allow_infinity=False)


def _decimals(kind: Any, bounds: Bounds) -> Values:
    most = Decimal(10 ** (kind.precision or 38) - 1).scaleb(-kind.scale, Context(prec=60))
    low, high = _within(bounds, -most, most)
    unit = Decimal(1).scaleb(-kind.scale)
    numbers = st.integers(int(low / unit), int(high / unit))
    return numbers.map(lambda number: Decimal(number).scaleb(-kind.scale, Context(prec=60)))


def _dates(_: Any, bounds: Bounds) -> Values:
    return st.dates(*_within(bounds, _FIRST, _LAST))


def _datetimes(kind: Any, bounds: Bounds) -> Values:
    zone = UTC if kind.time_zone else None
    low, high = _within(bounds, _midnight(_FIRST, zone), _midnight(_LAST, zone))
    unit = timedelta(microseconds=_UNITS[kind.time_unit])
    return st.integers(0, (high - low) // unit).map(lambda number: low + number * unit)


def _midnight(day: date, zone: Any) -> datetime:
    return datetime.combine(day, time(), zone)


def _durations(kind: Any, bounds: Bounds) -> Values:
    low, high = _within(bounds, timedelta(days=-30_000), timedelta(days=30_000))
    unit = timedelta(microseconds=_UNITS[kind.time_unit])
    return st.integers(0, (high - low) // unit).map(lambda number: low + number * unit)


_MAKE: dict[Any, Callable[[Any, Bounds], Values]] = {
    pl.Boolean: lambda _kind, _bounds: st.booleans(),
    pl.String: lambda _kind, _bounds: texts(),
    pl.Categorical: lambda _kind, _bounds: texts(),
    pl.Enum: lambda kind, _bounds: st.sampled_from(kind.categories.to_list()),
    pl.Binary: lambda _kind, _bounds: st.binary(max_size=12),
    pl.Float32: _floats,
    pl.Float64: _floats,
    pl.Decimal: _decimals,
    pl.Date: _dates,
    pl.Time: lambda _kind, bounds: st.times(*_within(bounds, time.min, time.max)),
    pl.Datetime: _datetimes,
    pl.Duration: _durations,
}
