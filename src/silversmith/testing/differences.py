"""In which rows and cells two frames differ, in words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import polars as pl
from polars.testing import assert_frame_equal

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
