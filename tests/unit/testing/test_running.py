"""A pipeline over the files of a test, and what the result says of each."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from silversmith import Contract, Pipeline
from silversmith.testing import Content, Result, encode, run

PIPELINE = Pipeline("shop")
ROWS = pl.DataFrame({"id": [1, 2], "total": [2.5, 3.0]})
MIXED = "id,total\n1,2.5\nx,1\n3,-1\n"


@PIPELINE.transform(
    "orders/*",
    contract=Contract({"id": pl.Int64, "total": pl.Float64}, {"total is positive": pl.col("total") > 0}),
    batch_size=2,
)
def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows


@PIPELINE.transform("*.csv")
def fails(rows: pl.LazyFrame) -> pl.LazyFrame:
    if rows.collect().height > 2:
        raise KeyError("no such thing")
    return rows.select(pl.len())


def test_each_transform_makes_its_own_silver() -> None:
    result = run(PIPELINE, {"orders/1.csv": ROWS})
    result.assert_clean()
    result.assert_silver("orders", "orders/1.csv", ROWS)
    result.assert_silver("fails", "orders/1.csv", pl.DataFrame({"len": [2]}, schema={"len": pl.UInt32}))
    lineage = result.lineage["orders", "orders/1.csv"]
    assert (lineage.rows_read, lineage.rows_written, lineage.rows_rejected, lineage.attempt) == (2, 2, 0, 1)
    assert repr(result.silver).startswith("silver of [('orders', 'orders/1.csv')")
    assert len(result.silver) == 2
    assert set(result.silver) == {("orders", "orders/1.csv"), ("fails", "orders/1.csv")}


def test_rejected_rows_errors_and_failures() -> None:
    result = run(PIPELINE, {"orders/a.csv": MIXED, "orders/b.csv": "name\nx\n", "elsewhere.txt": "?"})
    result.assert_silver("orders", "orders/a.csv", ROWS.head(1))
    result.assert_rejected("orders", "orders/a.csv", {2: '"x" is not Int64', 3: "total is positive"})
    result.assert_error("orders", "orders/b.csv", "MissingColumn")
    assert result.errors["orders", "orders/b.csv"]["bronze"]["key"] == "orders/b.csv"
    assert result.failures["fails", "orders/a.csv"]["code"] == "TransformError"
    assert "KeyError: 'no such thing'" in result.failures["fails", "orders/a.csv"]["message"]
    assert result.unmatched == ("elsewhere.txt",)
    assert repr(result) == "Result(silver: 2, rejected: 1, errors: 1, failures: 1)"
    with pytest.raises(AssertionError) as caught:
        result.assert_clean()
    for text in ("orders/b.csv by orders", "2 rejected, row 2", "KeyError", "elsewhere.txt: no transform's pattern"):
        assert text in str(caught.value)


def test_landings_follow_each_other() -> None:
    """The last good silver stays when a broken file follows, and a corrected file leaves quarantine."""
    key = "orders/1.csv"
    spoilt = run(PIPELINE, {key: ROWS}, {key: "?"})
    spoilt.assert_silver("orders", key, ROWS)
    spoilt.assert_error("orders", key, "MissingColumn")
    mended = run(PIPELINE, {key: MIXED}, {key: ROWS})
    mended.assert_clean()


def test_more_files_than_a_batch_takes() -> None:
    result = run(PIPELINE, {f"orders/{number}.json": [{"id": number, "total": 1.0}] for number in range(5)})
    assert [result.silver["orders", f"orders/{number}.json"]["id"].item() for number in range(5)] == [*range(5)]


def test_the_time_is_what_the_test_says() -> None:
    noon = datetime(2026, 1, 2, 12, tzinfo=UTC)
    result = run(PIPELINE, {"orders/1.csv": ROWS}, now=lambda: noon)
    assert result.lineage["orders", "orders/1.csv"].committed_at == "2026-01-02T12:00:00.000+00:00"


@pytest.mark.parametrize(
    ("key", "content"),
    [
        ("orders/1.csv", b"id,total\n1,2.5\n2,3\n"),
        ("orders/1.csv", "id,total\n1,2.5\n2,3\n"),
        ("orders/1.csv", ROWS),
        ("orders/1.ndjson", ROWS),
        ("orders/1.json", ROWS),
        ("orders/1.parquet", ROWS),
        ("orders/1.json", ROWS.to_dicts()),
        ("orders/1.jsonl", ROWS.to_dicts()),
    ],
)
def test_kinds_of_test_files(key: str, content: Content, tmp_path: Path) -> None:
    run(PIPELINE, {key: content}).assert_silver("orders", key, ROWS)
    path = tmp_path / "file"
    path.write_bytes(encode(key, content))
    run(PIPELINE, {key: path}).assert_silver("orders", key, ROWS)


def test_invalid_test_files_are_refused() -> None:
    with pytest.raises(ValueError, match="'xml' is no format"):
        encode("a.xml", ROWS)
    nothing: list[object] = [3.5]
    with pytest.raises(TypeError, match=r"a\.csv: a float is no content"):
        encode("a.csv", nothing[0])  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def result() -> Result:
    return run(PIPELINE, {"orders/a.csv": MIXED, "orders/b.csv": "name\nx\n", "elsewhere.txt": "?"})


@pytest.mark.parametrize(
    ("transform", "key", "why"),
    [
        ("orders", "orders/b.csv", 'in quarantine: MissingColumn: the column "id" is missing'),
        ("fails", "orders/a.csv", "the transform failed"),
        ("orders", "elsewhere.txt", "no transform's pattern matches this key"),
        ("order", "orders/a.csv", "there is: fails of orders/a.csv, fails of orders/b.csv, orders of orders/a.csv"),
    ],
)
def test_why_there_is_no_silver(result: Result, transform: str, key: str, why: str) -> None:
    with pytest.raises(KeyError) as missing:
        result.silver[transform, key]
    assert why in str(missing.value)
    with pytest.raises(AssertionError) as failed:
        result.assert_silver(transform, key, ROWS)
    assert why in str(failed.value)


def test_other_rejected_rows_are_shown(result: Result) -> None:
    with pytest.raises(AssertionError) as caught:
        result.assert_rejected("orders", "orders/a.csv", {1: "anything", 2: "total is positive"})
    assert str(caught.value).splitlines()[1:] == [
        "  row 1 was not rejected, expected: anything",
        '  row 2 was rejected for: id: "x" is not Int64; expected: total is positive',
        "  row 3 was rejected, not expected: total is positive: the rule is broken by total -1.0",
    ]
    with pytest.raises(AssertionError, match="for TooManyRows: in silver; rows written: 1, rejected: 2"):
        result.assert_error("orders", "orders/a.csv", "TooManyRows")
