"""Rejected rows are read from quarantine, a few of them, whatever lies there."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import polars as pl
import pytest

from silversmith.operations.failures import read_rejected

if TYPE_CHECKING:
    from tests.unit.conftest import Bench

KEY = "orders/orders/a.csv.rejected.parquet"


def parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def test_no_rejected_rows(bench: Bench) -> None:
    assert read_rejected(bench.lake.quarantine, KEY) is None


def test_only_the_first_rows_are_shown_but_all_are_counted(bench: Bench) -> None:
    rows = "".join(f"{number},-1\n" for number in range(1, 21))
    bench.land("orders/a.csv", text=f"id,total\n{rows}21,1\n")
    bench.work()
    result = read_rejected(bench.lake.quarantine, KEY, most=3)
    assert result is not None
    assert (result.transform, result.key, result.rows, result.rows_read) == ("orders", "orders/a.csv", 20, 21)
    assert [row.row for row in result.first] == [1, 2, 3]
    assert all("total is positive" in row.reasons[0] for row in result.first)
    assert result.at.startswith("2026-01-02T12:00:00")


def test_rows_without_lineage_are_counted_by_themselves(bench: Bench) -> None:
    frame = pl.DataFrame({"row": [4, None], "reasons": [["a", "b"], None]}, schema_overrides={"row": pl.UInt32})
    bench.lake.quarantine.put(KEY, parquet(frame))
    result = read_rejected(bench.lake.quarantine, KEY)
    assert result is not None
    assert (result.transform, result.key, result.rows) == ("orders", "orders/a.csv", 2)
    assert [(row.row, row.reasons) for row in result.first] == [(4, ["a", "b"]), (None, [])]


@pytest.mark.parametrize(
    "body", [b"", b"no parquet", b"PAR1" + b"\0" * 100 + b"PAR1", parquet(pl.DataFrame({"x": [1]}))]
)
def test_damaged_files_have_no_rows_to_show(bench: Bench, body: bytes) -> None:
    bench.lake.quarantine.put(KEY, body)
    result = read_rejected(bench.lake.quarantine, KEY)
    assert result is not None
    assert (result.key, list(result.first)) == ("orders/a.csv", [])
