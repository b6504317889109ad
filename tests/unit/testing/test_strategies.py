"""Files made from a contract: they keep it, or at least one of their rows does not."""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silversmith import Contract, Pipeline
from silversmith.testing import Result, encode, run
from silversmith.testing.strategies import files, frames

FORMATS = ("csv", "ndjson", "json", "parquet")

FLAT: dict[str, Any] = {
    "id": pl.Int64, "small": pl.UInt8, "ratio": pl.Float64, "single": pl.Float32, "name": pl.String, "fine": pl.Boolean,
    "day": pl.Date, "at": pl.Time, "seen": pl.Datetime("us"), "sent": pl.Datetime("ms", "UTC"),
    "price": pl.Decimal(10, 2), "kind": pl.Enum(["a", "b c"]),
}  # fmt: skip

STRICT = Contract(
    schema={"id": pl.Int64, "origin": pl.String, "code": pl.String, "day": pl.Date, "delay": pl.Int32},
    rules={"delay is even": pl.col("delay") % 2 == 0},
    required=["id", "origin"],
    unique=["id"],
    allowed={"origin": ["EWR", "JFK"]},
    ranges={"id": (1, 9999), "day": (date(2013, 1, 1), None), "delay": (None, 600)},
    patterns={"code": "[A-Z]{2}[0-9]{1,3}"},
    max_rejected=1.0,
)


def passed(contract: Contract, form: str, content: bytes) -> Result:
    pipeline = Pipeline("p")
    pipeline.transform("*", name="rows", contract=contract)(lambda rows: rows)
    return run(pipeline, {f"f.{form}": content})


@pytest.mark.parametrize("form", FORMATS)
def test_every_type_comes_through_every_format_unchanged(form: str) -> None:
    contract = Contract(schema=FLAT)

    @given(frames(contract, rows=(1, 5)))
    @settings(max_examples=12)
    def check(frame: pl.DataFrame) -> None:
        result = passed(contract, form, encode(f"f.{form}", frame))
        result.assert_clean()
        result.assert_silver("rows", f"f.{form}", frame)

    check()


@pytest.mark.parametrize("form", FORMATS)
def test_good_files_become_silver(form: str) -> None:
    @given(files(STRICT, form))
    @settings(max_examples=8)
    def check(content: bytes) -> None:
        passed(STRICT, form, content).assert_clean()

    check()


@pytest.mark.parametrize("form", [pytest.param(form, marks=[pytest.mark.full] * (form != "csv")) for form in FORMATS])
def test_rows_of_broken_files_are_rejected(form: str) -> None:
    reasons: set[str] = set()

    @given(files(STRICT, form, broken=True))
    @settings(max_examples=60, database=None)
    def check(content: bytes) -> None:
        result = passed(STRICT, form, content)
        rejected = result.rejected["rows", f"f.{form}"]
        assert result.lineage["rows", f"f.{form}"].rows_rejected == rejected.height == 1
        reasons.update(reason for row in rejected["reasons"] for reason in row)

    check()
    messages = "\n".join(reasons)
    assert len({reason.split(" ")[0] for reason in reasons}) >= 4, messages


@pytest.mark.parametrize("form", FORMATS)
def test_days_and_times_are_written_as_the_contract_says(form: str) -> None:
    contract = Contract(
        {"day": pl.Date, "seen": pl.Datetime("us")},
        required=["day"],
        formats={"day": "%d.%m.%Y", "seen": ["%m/%d/%Y %I:%M %p", "%F"]},
        max_rejected=1.0,
    )

    @given(files(contract, form), files(contract, form, broken=True))
    @settings(max_examples=10)
    def check(good: bytes, broken: bytes) -> None:
        passed(contract, form, good).assert_clean()
        assert passed(contract, form, broken).rejected["rows", f"f.{form}"].height == 1

    check()


def test_nested_values_come_through_json_and_parquet() -> None:
    contract = Contract(
        {"tags": pl.List(pl.Int32), "by": pl.Struct({"name": pl.String, "age": pl.UInt8})}, required=["by", "tags"]
    )

    @given(files(contract, "parquet", rows=(1, 3)), files(contract, "ndjson", rows=(1, 3)))
    @settings(max_examples=10)
    def check(parquet: bytes, ndjson: bytes) -> None:
        passed(contract, "parquet", parquet).assert_clean()
        passed(contract, "ndjson", ndjson).assert_clean()

    check()


def test_columns_by_strategies_of_ones_own() -> None:
    contract = Contract({"id": pl.Int64}, {"a multiple of 1,000": pl.col("id") % 1000 == 0}, required=["id"])
    thousands = st.integers(0, 9).map(lambda number: number * 1000)

    @given(frames(contract, rows=(3, 3), columns={"id": thousands}))
    @settings(max_examples=10)
    def check(frame: pl.DataFrame) -> None:
        assert frame.height == 3

    check()


def test_the_number_of_rows_is_the_contracts() -> None:
    @given(frames(Contract({"id": pl.Int64}, rows=(2, 4))))
    @settings(max_examples=20)
    def check(frame: pl.DataFrame) -> None:
        assert 2 <= frame.height <= 4

    check()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: frames(Contract()), "the contract has no schema"),
        (lambda: files(Contract({"x": pl.List(pl.Int64)}), "csv"), 'column "x": a csv file holds no List'),
        (lambda: files(Contract({"x": pl.String}), "csv", broken=True), "no row of such a file could break"),
    ],
)
def test_schemas_without_a_strategy_are_refused(make: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        make()
