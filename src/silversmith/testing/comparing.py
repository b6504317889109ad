"""Compare frames in tests: values as their columns hold them, and the differences named row by row."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal
from difflib import SequenceMatcher
from typing import Any

import polars as pl
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

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


#: So many differences are told, and then how many more there are.
SHOWN = 20

#: Rows of longer frames are compared one by one: to find out where one was put in between takes too long.
_ALIGNED = 2_000

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Terms:
    """What counts as the same. ``relative`` and ``absolute``: by how much floats may differ."""

    row_order: bool = True
    column_order: bool = True
    types: bool = True
    relative: float = 1e-5
    absolute: float = 1e-8


def assert_same(found: pl.DataFrame, expected: pl.DataFrame, terms: Terms | None = None, *, what: str = "") -> None:
    """Polars' own comparison, with a message that says which rows and cells differ.

    Raises:
        AssertionError: they are not the same.
    """
    __tracebackhide__ = True
    terms = terms or Terms()
    try:
        assert_frame_equal(
            found,
            expected,
            check_row_order=terms.row_order,
            check_column_order=terms.column_order,
            check_dtypes=terms.types,
            check_exact=False,
            rel_tol=terms.relative,
            abs_tol=terms.absolute,
        )
    except AssertionError as error:
        lines = differences(found, expected, terms) or [str(error)]
    else:
        return
    more = [f"… and {len(lines) - SHOWN:,} more"] if len(lines) > SHOWN else []
    raise AssertionError("\n".join([f"{what or 'the frame'} is not as expected:", *_indented(lines[:SHOWN] + more)]))


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def differences(found: pl.DataFrame, expected: pl.DataFrame, terms: Terms) -> list[str]:
    """One line for each: of columns where they differ, else of rows and cells. Rows count from 1."""
    return _columns(dict(found.schema), dict(expected.schema), terms) or list(_rows(found, expected, terms))


def _columns(found: Mapping[str, pl.DataType], expected: Mapping[str, pl.DataType], terms: Terms) -> list[str]:
    lines = [f'column "{name}" is missing' for name in expected if name not in found]
    lines += [f'column "{name}" is not expected' for name in found if name not in expected]
    if terms.types:
        both = [name for name in expected if name in found and found[name] != expected[name]]
        lines += [f'column "{name}" is {found[name]}, expected {expected[name]}' for name in both]
    if not lines and terms.column_order and list(found) != list(expected):
        lines.append(f"the columns are in the order {', '.join(found)}; expected {', '.join(expected)}")
    return lines


def _rows(found: pl.DataFrame, expected: pl.DataFrame, terms: Terms) -> Iterator[str]:
    names = expected.columns
    ours, theirs = found.select(names).rows(), expected.rows()
    if len(ours) != len(theirs):
        yield f"{len(ours):,} rows, expected {len(theirs):,}"
    if not terms.row_order:
        yield from _unordered(names, ours, theirs, terms)
        return
    for our, their in _paired(ours, theirs, terms):
        if our is None and their is not None:
            yield f"expected row {their + 1} is missing: {_shown(names, theirs[their])}"
        elif our is not None and their is None:
            yield f"row {our + 1} is not expected: {_shown(names, ours[our])}"
        elif our is not None and their is not None:
            yield from _cells(names, our, ours[our], theirs[their], terms)


def _paired(ours: list[Row], theirs: list[Row], terms: Terms) -> Iterator[tuple[int | None, int | None]]:
    """Which row stands for which; None: for none."""
    if len(ours) == len(theirs) or max(len(ours), len(theirs)) > _ALIGNED:
        together = min(len(ours), len(theirs))
        yield from ((at, at) for at in range(together))
        yield from ((at, None) for at in range(together, len(ours)))
        yield from ((None, at) for at in range(together, len(theirs)))
        return
    matcher = SequenceMatcher(None, [_key(row, terms) for row in ours], [_key(row, terms) for row in theirs], False)
    for _, begin, end, other, until in matcher.get_opcodes():
        together = min(end - begin, until - other)
        yield from ((begin + at, other + at) for at in range(together))
        yield from ((at, None) for at in range(begin + together, end))
        yield from ((None, at) for at in range(other + together, until))


def _unordered(names: list[str], ours: list[Row], theirs: list[Row], terms: Terms) -> Iterator[str]:
    our, their = ([(_key(row, terms), row) for row in rows] for rows in (ours, theirs))
    for line, rows, others in (("is not expected", our, their), ("is missing", their, our)):
        known = Counter(key for key, _ in others)
        for key, row in rows:
            known[key] -= 1
            if known[key] < 0:
                yield f"a row {line}: {_shown(names, row)}"


def _key(row: Row, terms: Terms) -> str:
    """The same for rows that are as good as the same, mostly: floats are rounded to what counts."""
    digits = max(1, round(-math.log10(terms.relative))) if terms.relative else 17
    return repr([float(f"{cell:.{digits}g}") if isinstance(cell, float) else cell for cell in row])


def _cells(names: list[str], at: int, ours: Row, theirs: Row, terms: Terms) -> Iterator[str]:
    for name, our, their in zip(names, ours, theirs, strict=True):
        if not _alike(our, their, terms):
            yield f'row {at + 1}, "{name}": {our!r}, expected {their!r}'


def _alike(our: Any, their: Any, terms: Terms) -> bool:
    if isinstance(our, float) and isinstance(their, float):
        if math.isnan(our) or math.isnan(their):
            return math.isnan(our) and math.isnan(their)
        if math.isinf(our) or math.isinf(their):
            return our == their  # to any tolerance, everything else is infinitely far away
        return our == their or abs(our - their) <= terms.absolute + terms.relative * abs(their)
    if isinstance(our, list) and isinstance(their, list):
        return len(our) == len(their) and all(_alike(*pair, terms) for pair in zip(our, their, strict=True))
    if isinstance(our, dict) and isinstance(their, dict):
        return our.keys() == their.keys() and all(_alike(our[name], their[name], terms) for name in our)
    return bool(our == their)


def _shown(names: Sequence[str], row: Row) -> str:
    return ", ".join(f"{name}={cell!r}" for name, cell in zip(names, row, strict=True))
