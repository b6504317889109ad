"""The results of a test's files, and frames compared row by row."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any, TypeVar

import orjson
import polars as pl
from polars.testing import assert_frame_equal

from silversmith.errors import count
from silversmith.lineage import Lineage, error_key, rejected_key, silver_key
from silversmith.pipeline import Pipeline
from silversmith.stores import Lake

#: So many differences are named; the rest is counted.
MOST_SHOWN = 20

#: In longer frames rows are compared by position: to find an inserted row takes too long.
_LONGEST_ALIGNED = 2_000

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Terms:
    """The terms of equality. ``relative`` and ``absolute``: how much floats may differ."""

    row_order: bool = True
    column_order: bool = True
    types: bool = True
    relative: float = 1e-5
    absolute: float = 1e-8


def assert_same(actual: pl.DataFrame, expected: pl.DataFrame, terms: Terms | None = None, *, what: str = "") -> None:
    """Polars' own comparison, with a message that names the rows and cells that differ.

    Raises:
        AssertionError: the frames differ.
    """
    __tracebackhide__ = True
    terms = terms or Terms()
    try:
        assert_frame_equal(
            actual,
            expected,
            check_row_order=terms.row_order,
            check_column_order=terms.column_order,
            check_dtypes=terms.types,
            check_exact=False,
            rel_tol=terms.relative,
            abs_tol=terms.absolute,
        )
    except AssertionError as error:
        lines = differences(actual, expected, terms) or [str(error)]
    else:
        return
    more = [f"… and {len(lines) - MOST_SHOWN:,} more"] if len(lines) > MOST_SHOWN else []
    raise AssertionError("\n  ".join([f"{what or 'the frame'} is not as expected:", *lines[:MOST_SHOWN], *more]))


def differences(actual: pl.DataFrame, expected: pl.DataFrame, terms: Terms) -> list[str]:
    """One line for each difference: of columns if they differ, else of rows and cells. Rows count from 1."""
    return _column_differences(actual.schema, expected.schema, terms) or list(_row_differences(actual, expected, terms))


def _column_differences(actual: pl.Schema, expected: pl.Schema, terms: Terms) -> list[str]:
    lines = [f'column "{name}" is missing' for name in expected if name not in actual]
    lines += [f'column "{name}" is not expected' for name in actual if name not in expected]
    if terms.types:
        changed = [name for name in expected if name in actual and actual[name] != expected[name]]
        lines += [f'column "{name}" is {actual[name]}, expected {expected[name]}' for name in changed]
    if not lines and terms.column_order and list(actual) != list(expected):
        lines.append(f"the columns are in the order {', '.join(actual)}; expected {', '.join(expected)}")
    return lines


def _row_differences(actual: pl.DataFrame, expected: pl.DataFrame, terms: Terms) -> Iterator[str]:
    names = expected.columns
    rows, expected_rows = actual.select(names).rows(), expected.rows()
    if len(rows) != len(expected_rows):
        yield f"{count(len(rows), 'row')}, expected {len(expected_rows):,}"
    if not terms.row_order:
        yield from _surplus("a row is not expected", names, rows, expected_rows, terms)
        yield from _surplus("a row is missing", names, expected_rows, rows, terms)
        return
    for block, expected_block in _aligned(rows, expected_rows, terms):
        for at, expected_at in zip(block, expected_block, strict=False):
            for name, cell, expected_cell in zip(names, rows[at], expected_rows[expected_at], strict=True):
                if not _equal(cell, expected_cell, terms):
                    yield f'row {at + 1}, "{name}": {cell!r}, expected {expected_cell!r}'
        for at in block[len(expected_block) :]:
            yield f"row {at + 1} is not expected: {_row_text(names, rows[at])}"
        for at in expected_block[len(block) :]:
            yield f"expected row {at + 1} is missing: {_row_text(names, expected_rows[at])}"


def _surplus(text: str, names: list[str], rows: list[Row], others: list[Row], terms: Terms) -> Iterator[str]:
    """The rows that are not among the others, or there more often."""
    left = Counter(_row_key(row, terms) for row in others)
    for row in rows:
        key = _row_key(row, terms)
        left[key] -= 1
        if left[key] < 0:
            yield f"{text}: {_row_text(names, row)}"


def _aligned(rows: list[Row], expected: list[Row], terms: Terms) -> Iterator[tuple[range, range]]:
    """The positions of rows that belong together, in blocks; in the longer one of two some have no counterpart."""
    if len(rows) == len(expected) or max(len(rows), len(expected)) > _LONGEST_ALIGNED:
        yield range(len(rows)), range(len(expected))
        return
    keys, expected_keys = ([_row_key(row, terms) for row in frame] for frame in (rows, expected))
    for _, start, end, first, last in SequenceMatcher(None, keys, expected_keys, autojunk=False).get_opcodes():
        yield range(start, end), range(first, last)


def _row_key(row: Row, terms: Terms) -> str:
    """The same text for rows that are equal, mostly: floats are rounded to the digits that count."""
    digits = max(1, round(-math.log10(terms.relative))) if terms.relative else 17
    return repr([float(f"{cell:.{digits}g}") if isinstance(cell, float) else cell for cell in row])


def _equal(cell: Any, expected: Any, terms: Terms) -> bool:
    if isinstance(cell, float) and isinstance(expected, float):
        if math.isnan(cell) or math.isnan(expected):
            return math.isnan(cell) and math.isnan(expected)
        if not math.isfinite(expected):
            return cell == expected
        return cell == expected or abs(cell - expected) <= terms.absolute + terms.relative * abs(expected)
    if isinstance(cell, list) and isinstance(expected, list):
        return len(cell) == len(expected) and all(_equal(*pair, terms) for pair in zip(cell, expected, strict=True))
    if isinstance(cell, dict) and isinstance(expected, dict):
        return cell.keys() == expected.keys() and all(_equal(cell[name], expected[name], terms) for name in cell)
    return bool(cell == expected)


def _row_text(names: Sequence[str], row: Row) -> str:
    return ", ".join(f"{name}={cell!r}" for name, cell in zip(names, row, strict=True))


_Value = TypeVar("_Value")


class ByFile(dict[tuple[str, str], _Value]):
    """Values by transform and bronze key. The KeyError of a missing one says what became of the file instead."""

    def __init__(self, what: str, values: Mapping[tuple[str, str], _Value], result: Result) -> None:
        super().__init__(values)
        self._what = what
        self._result = result

    def __missing__(self, key: tuple[str, str]) -> _Value:
        transform, bronze = key
        raise KeyError(_Text(f"there is no {self._what} of {bronze} by {transform}: {self._result.story(*key)}"))

    def __repr__(self) -> str:
        return f"{self._what} of {list(self)}"


class _Text(str):
    """A text that a KeyError shows as it is, over several lines."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True)
class Contents:
    """The contents of the buckets, and the failures that left no trace there, by transform and bronze key."""

    silver: dict[tuple[str, str], pl.DataFrame] = field(default_factory=dict)
    rejected: dict[tuple[str, str], pl.DataFrame] = field(default_factory=dict)
    errors: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    lineage: dict[tuple[str, str], Lineage] = field(default_factory=dict)
    failures: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)


class Result:
    """The results of files in a pipeline. The keys of each mapping are a transform's name and a bronze key.

    Attributes:
        silver: the rows of silver.
        rejected: the rows that broke the contract, with their number (``row``) and the ``reasons``.
        errors: the error documents of files that cannot become silver.
        lineage: where each silver object came from, and how many rows were read, written and rejected.
        failures: the transform raised, which is no fault of the data. ``code`` and ``message`` with the traceback.
        unmatched: the keys that no transform's pattern matches, and that are no lookups.
    """

    def __init__(self, contents: Contents, unmatched: tuple[str, ...] = ()) -> None:
        self.silver = ByFile("silver", contents.silver, self)
        self.rejected = ByFile("rejected rows", contents.rejected, self)
        self.errors = ByFile("error document", contents.errors, self)
        self.lineage = ByFile("lineage", contents.lineage, self)
        self.failures = ByFile("failure", contents.failures, self)
        self.unmatched = unmatched

    def __repr__(self) -> str:
        counts = {name: len(getattr(self, name)) for name in ("silver", "rejected", "errors", "failures")}
        return f"Result({', '.join(f'{name}: {number}' for name, number in counts.items())})"

    def story(self, transform: str, key: str) -> str:
        """The fate of a file, in words."""
        at = (transform, key)
        if at in self.failures:
            return f"the transform failed: {self.failures[at]['message']}"
        if at in self.errors:
            error = self.errors[at]["error"]
            place = ", ".join(f"{name} {value}" for name, value in error["place"].items())
            return f"the file is in quarantine: {error['code']}: {error['message']}{f' ({place})' if place else ''}"
        if at in self.silver:
            lineage = self.lineage[at]
            return f"in silver; rows written: {lineage.rows_written:,}, rejected: {lineage.rows_rejected:,}"
        if key in self.unmatched:
            return "no transform's pattern matches this key"
        known = [f"{name} of {silver_key}" for name, silver_key in {*self.silver, *self.errors, *self.failures}]
        return f"nothing was made of it; there is: {', '.join(sorted(known)) or 'nothing'}"

    def assert_silver(
        self, transform: str, key: str, expected: pl.DataFrame, *, any_row_order: bool = False, types: bool = True
    ) -> None:
        """Assert that silver has these rows. Floats may differ by a hundred-thousandth.

        Args:
            transform: its name.
            key: the bronze key.
            expected: the rows.
            any_row_order: in any order.
            types: the columns' types must be the same, too.

        Raises:
            AssertionError: it has other rows; the message names the rows and cells that differ.
        """
        __tracebackhide__ = True
        if (transform, key) not in self.silver:
            raise AssertionError(f"there is no silver of {key} by {transform}: {self.story(transform, key)}")
        terms = Terms(row_order=not any_row_order, types=types)
        assert_same(self.silver[transform, key], expected, terms, what=f"silver of {key} by {transform}")

    def assert_rejected(self, transform: str, key: str, expected: Mapping[int, str]) -> None:
        """Assert that exactly these rows were rejected: their number in the file from 1, and a part of the reasons.

        Raises:
            AssertionError: other rows were rejected, or for other reasons.
        """
        __tracebackhide__ = True
        rejected = {}
        if (transform, key) in self.rejected:
            rows = self.rejected[transform, key].select("row", "reasons").rows()
            rejected = {int(row): "; ".join(reasons) for row, reasons in rows}
        lines = [
            f"row {row} was not rejected, expected: {reason}" for row, reason in expected.items() if row not in rejected
        ]
        for row, reasons in rejected.items():
            if row not in expected:
                lines.append(f"row {row} was rejected, not expected: {reasons}")
            elif expected[row] not in reasons:
                lines.append(f"row {row} was rejected for: {reasons}; expected: {expected[row]}")
        if lines:
            head = f"the rejected rows of {key} by {transform} are not as expected ({self.story(transform, key)}):"
            raise AssertionError("\n  ".join([head, *lines]))

    def assert_error(self, transform: str, key: str, code: str) -> None:
        """Assert that the whole file is in quarantine with this code, such as ``MissingColumn``.

        Raises:
            AssertionError: it is not, or with another code.
        """
        __tracebackhide__ = True
        document = self.errors.get((transform, key))
        if document is None or document["error"]["code"] != code:
            raise AssertionError(f"{key} is not in quarantine by {transform} for {code}: {self.story(transform, key)}")

    def assert_clean(self) -> None:
        """Assert that there is only silver: no rejected row, no file in quarantine, no failure, no unmatched file.

        Raises:
            AssertionError: there is more.
        """
        __tracebackhide__ = True
        lines = [f"{key} by {name}: {self.story(name, key)}" for name, key in {**self.failures, **self.errors}]
        for (name, key), rows in self.rejected.items():
            first = rows.row(0, named=True)
            lines.append(f"{key} by {name}: {rows.height} rejected, row {first['row']}: {'; '.join(first['reasons'])}")
        lines += [f"{key}: no transform's pattern matches this key" for key in self.unmatched]
        if lines:
            raise AssertionError("\n  ".join(["not all became silver:", *lines]))


def collect(
    pipeline: Pipeline, lake: Lake, keys: list[str], failures: Mapping[tuple[str, str], dict[str, Any]]
) -> Result:
    """Read the result for these bronze keys from the buckets."""
    contents = Contents(failures=dict(failures))
    for key in keys:
        for transform in pipeline.matching(key):
            _read(lake, transform.name, key, contents)
    lookups = {key for transform in pipeline.transforms for key in transform.lookups}
    return Result(contents, tuple(key for key in keys if not pipeline.matching(key) and key not in lookups))


def _read(lake: Lake, transform: str, key: str, contents: Contents) -> None:
    at = (transform, key)
    silver = lake.silver.read(silver_key(transform, key))
    head = lake.silver.head(silver_key(transform, key))
    lineage = Lineage.from_metadata(head.metadata) if head else None
    if silver is not None and lineage is not None:
        contents.silver[at] = pl.read_parquet(silver)
        contents.lineage[at] = lineage
    if (rejected := lake.quarantine.read(rejected_key(transform, key))) is not None:
        contents.rejected[at] = pl.read_parquet(rejected)
    if (error := lake.quarantine.read(error_key(transform, key))) is not None:
        contents.errors[at] = orjson.loads(error)
