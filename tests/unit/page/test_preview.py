"""The first rows of an object."""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl
import pytest

from silversmith import Pipeline
from silversmith.contract import REASONS, ROW_NUMBER
from silversmith.local.lake import LakeFolder
from silversmith.operations.preview import CELL, COLUMNS, ROWS, cell, preview
from silversmith.stores import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    folder, pipeline = LakeFolder(tmp_path / "lake"), Pipeline("shop")
    folder.create(pipeline.bronze, pipeline.silver, pipeline.quarantine)
    return folder.stores(pipeline).silver


def put(store: Store, rows: pl.DataFrame) -> None:
    body = io.BytesIO()
    rows.write_parquet(body)
    store.put("a.parquet", body.getvalue())


def test_the_first_rows_and_columns(store: Store) -> None:
    put(store, pl.DataFrame({f"c{number}": range(ROWS + 3) for number in range(COLUMNS + 2)}))
    shown = preview(store, "a.parquet")
    assert shown is not None
    assert (len(shown.rows), shown.rows_in_all) == (ROWS, ROWS + 3)
    assert (len(shown.columns), shown.columns_in_all) == (COLUMNS, COLUMNS + 2)
    assert (shown.kinds[0], shown.rows[2][0], shown.problem) == ("Int64", "2", "")


def test_why_comes_first(store: Store) -> None:
    put(store, pl.DataFrame({"x": [None], ROW_NUMBER: [4], REASONS: [["a", "b"]]}))
    shown = preview(store, "a.parquet")
    assert shown is not None
    assert (list(shown.columns), list(shown.rows[0])) == ([ROW_NUMBER, REASONS, "x"], ["4", "a; b", None])


def test_missing_or_unreadable_previews(store: Store) -> None:
    assert preview(store, "none.parquet") is None
    store.put("a.parquet", b"PAR1 and no more")
    shown = preview(store, "a.parquet")
    assert shown is not None
    assert shown.problem.startswith("it cannot be read as Parquet")


def test_a_cell_is_cut_short() -> None:
    assert cell("x" * CELL) == "x" * CELL
    assert cell("x" * (CELL + 1)) == "x" * (CELL - 1) + "…"
    assert (cell(None), cell(0), cell([1, 2])) == (None, "0", "[1, 2]")
