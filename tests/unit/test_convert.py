"""Large objects: by whichever way they are read, silver, the rejected rows and the lineage are the same."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from silversmith import Contract, Pipeline
from silversmith.errors import DataError, TransformError
from silversmith.formats.writer import read_lineage
from silversmith.function.convert import Converted, convert, encode_silver
from silversmith.lineage import Lineage
from silversmith.stores import Head, Source

SCHEMA = {"id": pl.Int64, "day": pl.Date, "name": pl.String}
RULES = {"ids are small": pl.col("id") < 2990}

#: A rule that is never broken and has to see all rows: with it a file is read the careful way.
ALL_ROWS = {"the sum is no secret": (pl.col("id").sum() > 0) | pl.lit(value=True)}

LINEAGE = Lineage(
    bronze_key="data.csv",
    bronze_etag="e",
    bronze_version="",
    bronze_size=0,
    sequencer="",
    transform="rows",
    fingerprint="f",
    rows_read=0,
    rows_written=0,
    rows_rejected=0,
    committed_at="2026-01-01T00:00:00.000+00:00",
    attempt=1,
)


def converted(
    path: Path, contract: Contract, transform: Callable[[pl.LazyFrame], pl.LazyFrame] = lambda rows: rows
) -> Converted:
    pipeline = Pipeline("large")
    declared = pipeline.transform("*.csv", name="rows", contract=contract)
    declared(transform)
    head = Head("data.csv", "e", path.stat().st_size, datetime.now(UTC))
    return convert(Source(head, None, path), pipeline.transforms[0], LINEAGE, path.parent)


def large(folder: Path) -> Path:
    path = folder / "data.csv"
    lines = [f'{n},2024-02-{n % 29 + 1:02},"name, {n}"' for n in range(3000)]
    lines[17] = "17,2023-02-29,nobody"
    lines[1800] = "1800,2024-02-03"
    path.write_text("\n".join(["id,day,name", *lines, ""]))
    return path


def test_both_ways_make_the_same(tmp_path: Path) -> None:
    path = large(tmp_path)
    fast = converted(path, Contract(SCHEMA, RULES))
    slow = converted(path, Contract(SCHEMA, {**RULES, **ALL_ROWS}))
    assert fast.lineage == slow.lineage
    assert (fast.lineage.rows_read, fast.lineage.rows_written, fast.lineage.rows_rejected) == (3000, 2988, 12)
    assert (fast.lineage.format, fast.dialect) == ("csv", slow.dialect)
    assert isinstance(fast.silver, Path)
    assert isinstance(slow.silver, Path)
    assert_frame_equal(pl.read_parquet(fast.silver), pl.read_parquet(slow.silver))
    assert fast.rejected is not None
    assert slow.rejected is not None
    rejected, expected = pl.read_parquet(fast.rejected), pl.read_parquet(slow.rejected)
    assert_frame_equal(rejected, expected.sort("row"))
    assert rejected["line"].to_list()[:2] == [19, 1802]
    assert rejected["text"].to_list()[:2] == ["17,2023-02-29,nobody", "1800,2024-02-03"]
    for created in (fast.silver, fast.rejected):
        assert (read_lineage(created) or {})["bronze-key"] == "data.csv"


def test_a_transform_that_fails_is_reported_as_ever(tmp_path: Path) -> None:
    with pytest.raises(TransformError, match="nothing_here"):
        converted(large(tmp_path), Contract(SCHEMA), lambda rows: rows.select("nothing_here"))


def test_a_plan_that_fails_when_it_is_run_names_the_function_that_made_it(tmp_path: Path) -> None:
    """By then no frame of the traceback is the user's."""

    def mistaken(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.with_columns(pl.col("nothing_here") + 1)

    path = tmp_path / "data.csv"
    path.write_text("id,day,name\n1,2024-02-03,a\n")
    with pytest.raises(TransformError, match=r'(?s)test_convert.py", line \d+, in mistaken.*ColumnNotFoundError'):
        converted(path, Contract(SCHEMA), mistaken)


def test_faults_far_down_are_reported_as_ever(tmp_path: Path) -> None:
    path = large(tmp_path)
    with path.open("ab") as file:
        file.write(b"1,2024-02-03,\xe9\xff\n")
    with pytest.raises(DataError) as caught:
        converted(path, Contract(SCHEMA))
    assert caught.value.code == "NotUtf8"
    assert caught.value.place.line == 3002


def test_too_many_rejected_rows_refuse_the_file(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        converted(large(tmp_path), Contract(SCHEMA, RULES, max_rejected=5))
    assert caught.value.code == "TooManyRejected"


@pytest.mark.parametrize("rows", [3, 5000], ids=["small", "large"])
@pytest.mark.parametrize("schema", [{"id": pl.Int64}, {}], ids=["declared", "inferred"])
def test_a_file_without_a_good_row_is_refused_however_it_is_read(
    tmp_path: Path, rows: int, schema: dict[str, Any]
) -> None:
    """In memory, in one pass by blocks, and streaming."""
    path = tmp_path / "file.csv"
    path.write_text("id,total\n" + "".join(f"{number},{'x' * 100}\n" for number in range(rows)))
    contract = Contract(schema, {"negative": pl.col("id") < 0})
    with pytest.raises(DataError) as caught:
        converted(path, contract)
    assert caught.value.code == "AllRowsRejected"
    assert f"negative: the rule is broken by id 0 ({rows:,} rows)" in caught.value.message
    assert converted(path, Contract(schema, {"negative": pl.col("id") < 0}, max_rejected=1.0)).lineage.rows_written == 0


def test_written_together_one_that_parquet_cannot_hold_fails_alone() -> None:
    pipeline = Pipeline("p")
    pipeline.transform("*.csv", name="rows")(lambda rows: rows)
    good = pl.DataFrame({"x": [1, 2]})
    bad = pl.DataFrame({"x": pl.Series([object()], dtype=pl.Object)})
    rows = [(pipeline.transforms[0], frame, LINEAGE) for frame in (good, bad, good)]
    first, failed, last = encode_silver(rows)
    assert isinstance(failed, TransformError)
    assert "the transform 'rows'" in str(failed)
    assert isinstance(first, bytes)
    assert first == last
    assert pl.read_parquet(first).equals(good)
    assert encode_silver([]) == []
