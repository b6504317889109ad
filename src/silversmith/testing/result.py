"""What became of the files of a test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import orjson
import polars as pl

from silversmith.lineage import Lineage, error_key, rejected_key, silver_key
from silversmith.pipeline import Pipeline
from silversmith.stores import Lake
from silversmith.testing.comparing import Terms, assert_same

_T = TypeVar("_T")


class Found(Mapping[tuple[str, str], _T], Generic[_T]):
    """What there is, by transform and bronze key. Who asks for what there is not is told what there is instead."""

    def __init__(self, what: str, values: Mapping[tuple[str, str], _T], result: Result) -> None:
        self._what = what
        self._values = values
        self._result = result

    def __getitem__(self, key: tuple[str, str]) -> _T:
        if key in self._values:
            return self._values[key]
        transform, bronze = key
        raise KeyError(_Text(f"there is no {self._what} of {bronze} by {transform}: {self._result.story(*key)}"))

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __repr__(self) -> str:
        return f"{self._what} of {list(self._values)}"


class _Text(str):
    """A text that a KeyError shows as it is, over several lines."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True)
class Contents:
    """What the buckets hold, and what ended without a trace in them, by transform and bronze key."""

    silver: dict[tuple[str, str], pl.DataFrame] = field(default_factory=dict)
    rejected: dict[tuple[str, str], pl.DataFrame] = field(default_factory=dict)
    errors: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    lineage: dict[tuple[str, str], Lineage] = field(default_factory=dict)
    failures: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)


class Result:
    """What a pipeline made of files. Each mapping goes by the transform's name and the bronze key.

    Attributes:
        silver: the rows of silver.
        rejected: the rows that broke the contract, with their number (``row``) and the ``reasons``.
        errors: the error documents of files that cannot become silver.
        lineage: where each silver object came from, and how many rows were read, written and rejected.
        failures: what is no fault of the data: the transform raised. ``code`` and ``message``, which has its traceback.
        unmatched: the keys that no transform's pattern matches, and that are no lookups.
    """

    def __init__(self, contents: Contents, unmatched: tuple[str, ...] = ()) -> None:
        self.silver = Found("silver", contents.silver, self)
        self.rejected = Found("rejected rows", contents.rejected, self)
        self.errors = Found("error document", contents.errors, self)
        self.lineage = Found("lineage", contents.lineage, self)
        self.failures = Found("failure", contents.failures, self)
        self.unmatched = unmatched

    def __repr__(self) -> str:
        counts = {name: len(getattr(self, name)) for name in ("silver", "rejected", "errors", "failures")}
        return f"Result({', '.join(f'{name}: {count}' for name, count in counts.items())})"

    def story(self, transform: str, key: str) -> str:
        """What became of a file, in words."""
        at = (transform, key)
        if at in self.failures:
            return f"the transform failed: {self.failures[at]['message']}"
        if at in self.errors:
            error = self.errors[at]["error"]
            return f"the file is in quarantine: {error['code']}: {error['message']}{_place(error['place'])}"
        if at in self.silver:
            lineage = self.lineage[at]
            return f"in silver; rows written: {lineage.rows_written:,}, rejected: {lineage.rows_rejected:,}"
        if key in self.unmatched:
            return "no transform's pattern matches this key"
        known = [f"{name} of {other}" for name, other in {*self.silver, *self.errors, *self.failures}]
        return f"nothing was made of it; there is: {', '.join(sorted(known)) or 'nothing'}"

    def assert_silver(
        self, transform: str, key: str, expected: pl.DataFrame, *, any_row_order: bool = False, types: bool = True
    ) -> None:
        """That silver has these rows. Floats may differ by a hundred-thousandth.

        Args:
            transform: its name.
            key: the bronze key.
            expected: the rows.
            any_row_order: in whatever order.
            types: the columns' types are the same, too.

        Raises:
            AssertionError: it has others; with the rows and cells that differ.
        """
        __tracebackhide__ = True
        if (transform, key) not in self.silver:
            raise AssertionError(f"there is no silver of {key} by {transform}: {self.story(transform, key)}")
        terms = Terms(row_order=not any_row_order, types=types)
        assert_same(self.silver[transform, key], expected, terms, what=f"silver of {key} by {transform}")

    def assert_rejected(self, transform: str, key: str, expected: Mapping[int, str]) -> None:
        """That these rows were rejected, by their number in the file from 1, and a part of the reasons against each.

        Raises:
            AssertionError: others were, or for other reasons.
        """
        __tracebackhide__ = True
        found = {}
        if (transform, key) in self.rejected:
            rows = self.rejected[transform, key].select("row", "reasons").rows()
            found = {int(row): "; ".join(reasons) for row, reasons in rows}
        lines = [
            f"row {row} was not rejected, expected: {reason}" for row, reason in expected.items() if row not in found
        ]
        for row, reasons in found.items():
            if row not in expected:
                lines.append(f"row {row} was rejected, not expected: {reasons}")
            elif expected[row] not in reasons:
                lines.append(f"row {row} was rejected for: {reasons}; expected: {expected[row]}")
        if lines:
            head = f"the rejected rows of {key} by {transform} are not as expected ({self.story(transform, key)}):"
            raise AssertionError("\n  ".join([head, *lines]))

    def assert_error(self, transform: str, key: str, code: str) -> None:
        """That the whole file is in quarantine, for the reason with this code, such as ``MissingColumn``.

        Raises:
            AssertionError: it is not, or for another.
        """
        __tracebackhide__ = True
        document = self.errors.get((transform, key))
        if document is None or document["error"]["code"] != code:
            raise AssertionError(f"{key} is not in quarantine by {transform} for {code}: {self.story(transform, key)}")

    def assert_clean(self) -> None:
        """That there is nothing but silver: no rejected rows, no file in quarantine, no failure, no unwanted file.

        Raises:
            AssertionError: there is.
        """
        __tracebackhide__ = True
        lines = [f"{key} by {name}: {self.story(name, key)}" for name, key in {**self.failures, **self.errors}]
        for (name, key), rows in self.rejected.items():
            first = rows.row(0, named=True)
            lines.append(f"{key} by {name}: {rows.height} rejected, row {first['row']}: {'; '.join(first['reasons'])}")
        lines += [f"{key}: no transform's pattern matches this key" for key in self.unmatched]
        if lines:
            raise AssertionError("\n  ".join(["not all became silver:", *lines]))


def _place(place: Mapping[str, Any]) -> str:
    return f" ({', '.join(f'{name} {value}' for name, value in place.items())})" if place else ""


def collect(
    pipeline: Pipeline, lake: Lake, keys: list[str], failures: Mapping[tuple[str, str], dict[str, Any]]
) -> Result:
    """The result that the buckets tell of, for these bronze keys."""
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
    rejected = lake.quarantine.read(rejected_key(transform, key))
    if rejected is not None:
        contents.rejected[at] = pl.read_parquet(rejected)
    error = lake.quarantine.read(error_key(transform, key))
    if error is not None:
        contents.errors[at] = orjson.loads(error)
