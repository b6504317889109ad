"""The report of `make corpora` about files that agree with the other reader, differ from it, are refused or crash."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xlsxwriter  # type: ignore[import-untyped]

from tests.data import corpora


def test_files_that_agree_and_files_that_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1, None], "b": ["x", "y"]}), tmp_path / "good.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "good.parquet").read_bytes()[:-9])
    with xlsxwriter.Workbook(tmp_path / "good.xlsx") as workbook:
        workbook.add_worksheet("S").write_column(0, 0, ["a", 1, 2.5])
        workbook.add_worksheet("Empty")
    (tmp_path / "good.csv").write_text("a,b\n1,x\n2,y\n")
    assert [path.name for path in corpora.data_files(tmp_path)] == [
        "cut.parquet", "good.csv", "good.parquet", "good.xlsx",
    ]  # fmt: skip
    outcomes = {path.name: corpora.outcome(path) for path in corpora.data_files(tmp_path)}
    assert outcomes["good.parquet"] == outcomes["good.csv"] == [("agreed", "")]
    assert outcomes["good.xlsx"] == [("agreed", ""), ("agreed", "")]
    assert [kind for kind, _ in outcomes["cut.parquet"]] == ["refused by both"]


def test_differences_are_reported(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    ours = pl.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    assert corpora.compared(ours, [[1, "x"], [2.0, "y"]], is_sheet=False) == ""
    assert corpora.compared(ours, [[1, "x"], [2, "z"]], is_sheet=False) == "row 2, column 2: 'y', not 'z'"
    assert corpora.compared(ours, [[1, "x"]], is_sheet=False) == "2 rows, not 1"
    assert corpora.compared(ours, ours.with_columns(a=pl.lit(1)), is_sheet=False).startswith("row 2, column 1")
    assert corpora.judged(lambda: ours, lambda: [[1, "x"]])[0] == "different"
    assert corpora.judged(lambda: 1 // 0, list)[0] == "crashed"  # type: ignore[arg-type, return-value]
    outcomes = [(tmp_path / "x.csv", [("different", "row 1")]), (tmp_path / "y.csv", [("agreed", "")])]
    assert not corpora.report(tmp_path, outcomes)
    assert "different: x.csv: row 1" in capsys.readouterr().out


def test_a_process_that_ends_is_an_answer(tmp_path: Path) -> None:
    worker = corpora.Worker()
    try:
        path = tmp_path / "x.csv"
        path.write_text("a\n1\n")
        assert worker.outcome(path) == [["agreed", ""]]
        worker.process.kill()
        worker.process.wait()
        assert worker.outcome(path)[0][0] == "crashed"
        assert worker.outcome(path) == [["agreed", ""]]
    finally:
        worker.close()
