"""Silver's columns of its origin: the same at each replay, in every way that a file is read."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

import silversmith
from silversmith import Contract, DefinitionError, Pipeline
from silversmith.errors import TransformError
from tests.unit.contract.test_dropping import converted, frame

ALL = ("_file", "_row", "_loaded_at")
NUMBERS = Contract({"n": pl.Int64}, drop={"totals": pl.col("n") == "all"})
LANDED = datetime(2026, 1, 1, tzinfo=UTC)
BOTH = pytest.mark.parametrize("on_disk", [False, True])


@BOTH
@pytest.mark.parametrize("rows", [3, 3000])
def test_each_row_says_where_it_came_from(tmp_path: Path, rows: int, on_disk: bool) -> None:
    data = "n\nall\nx\n" + "".join(f"{number}\n" for number in range(rows))
    result = converted(
        tmp_path, data.encode(), on_disk=on_disk, contract=NUMBERS, metadata_columns=["_loaded_at", "_row", "_file"]
    )
    silver = frame(result.silver)
    assert dict(silver.schema) == {
        "n": pl.Int64, "_row": pl.UInt64, "_file": pl.String, "_loaded_at": pl.Datetime("us", "UTC"),
    }  # fmt: skip
    assert silver["n"].to_list() == list(range(rows))
    assert silver["_row"].to_list() == list(range(3, rows + 3))
    assert silver["_file"].unique().to_list() == ["a.csv"]
    assert silver["_loaded_at"].unique().to_list() == [LANDED]


@BOTH
def test_rows_keep_their_numbers_through_a_transform_that_rejects(tmp_path: Path, on_disk: bool) -> None:
    def odd(rows: pl.LazyFrame) -> pl.LazyFrame:
        kept = rows.filter(pl.col("n") != 3).pipe(silversmith.reject(pl.col("n") % 2 == 0, "even"))
        return kept.select("_row", m=pl.col("n") * 10)

    result = converted(
        tmp_path, b"n\n1\n2\n3\n4\n5\n", odd, on_disk=on_disk, contract=NUMBERS, metadata_columns=["_row"]
    )
    assert frame(result.silver).rows() == [(1, 10), (5, 50)]
    assert frame(result.rejected).sort("row")["row"].to_list() == [2, 4]


@BOTH
def test_what_the_function_must_not_do(tmp_path: Path, on_disk: bool) -> None:
    def loses(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.select("n")

    def has(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.with_columns(_file=pl.lit("mine"))

    with pytest.raises(TransformError, match="loses the column '_row'"):
        converted(tmp_path, b"n\n1\n", loses, on_disk=on_disk, contract=NUMBERS, metadata_columns=["_row"])
    with pytest.raises(TransformError, match="has a column '_file' already"):
        converted(tmp_path, b"n\n1\n", has, on_disk=on_disk, contract=NUMBERS, metadata_columns=["_file"])


def test_the_pipelines_are_the_default_and_only_what_is_used_is_in_the_fingerprint() -> None:
    def same(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows

    plain, rich = Pipeline("p"), Pipeline("p", metadata_columns=ALL)
    plain.transform("a/*", name="none")(same)
    plain.transform("a/*", name="empty", metadata_columns=())(same)
    rich.transform("a/*", name="all")(same)
    rich.transform("a/*", name="none", metadata_columns=())(same)
    assert rich.find("all").metadata_columns == tuple(sorted(ALL))
    assert rich.find("none").metadata_columns == ()
    prints = {item.fingerprint for item in (*plain.transforms, rich.find("none"))}
    assert len(prints) == 1
    assert rich.find("all").fingerprint not in prints


def test_what_cannot_be() -> None:
    for names in ("_file", ["_when"], 5):
        with pytest.raises(DefinitionError, match=r"metadata_columns=.* must be some of '_file'"):
            Pipeline("p").transform("a/*", name="t", metadata_columns=names)(lambda rows: rows)  # type: ignore[arg-type]
        with pytest.raises(DefinitionError, match="must be some of"):
            Pipeline("p", metadata_columns=names)  # type: ignore[arg-type]
    pipeline = Pipeline("p")
    pipeline.transform("a/*", name="t", metadata_columns=["_file"])(lambda rows: rows)
    with pytest.raises(DefinitionError, match="a table has _file anyway"):
        pipeline.table("t", of="t")


def test_a_query_may_name_the_row() -> None:
    pipeline = Pipeline("p")
    contract = Contract({"n": pl.Int64}, on_extra_column="drop")
    pipeline.sql("a/*", "SELECT n, _row FROM rows", contract=contract, metadata_columns=["_row"])
    assert pipeline.find("a").metadata_columns == ("_row",)
