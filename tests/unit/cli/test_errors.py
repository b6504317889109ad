"""Errors on the terminal: the first meaningful line and its place first, each cause once, also while a run works."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Call

PIPELINE = """
import polars as pl
from silversmith import Contract, Pipeline

pipeline = Pipeline("shop")

@pipeline.transform("eager/*.csv", max_receive_count=3)
def eager(rows):
    return rows.with_columns(total={}["total"])

@pipeline.transform("lazy/*.csv", max_receive_count=3)
def lazy(rows):
    return rows.with_columns(total=pl.col("nothing") * 2)

@pipeline.transform("orders/*.csv", contract=Contract({"id": pl.Int64}))
def orders(rows):
    return rows
"""

EAGER = "TransformError: pipeline.py:9 in eager(): KeyError: 'total'"
LAZY = 'TransformError: pipeline.py:11 in lazy(): ColumnNotFoundError: unable to find column "nothing"'


def land(folder: Path, *keys: str) -> None:
    for key in keys:
        path = folder / "lake/dl-bronze-layer" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("id\n1\n")


def test_each_cause_is_shown_once_with_its_place(call: Call, tmp_path: Path) -> None:
    land(tmp_path, "eager/1.csv", "eager/2.csv", "eager/3.csv", "lazy/1.csv", "lazy/2.csv", "orders/1.csv")
    code, out, errors = call("run", "--until-idle", "--workers", "1")
    assert (code, errors) == (1, "")
    meanwhile, summary = out.split("1 file done")
    assert meanwhile.count(EAGER) == meanwhile.count(LAZY) == 1, "each cause is told when the first file fails"
    assert "(eager) failed; it will be tried again" in meanwhile
    assert summary.index(" and 2 other files  (eager)") < summary.index(" and 1 other file  (lazy)")
    assert summary.count(EAGER) == summary.count(LAZY) == 1
    assert "context stack" not in out

    out = call("failures")[1]
    assert out.count(EAGER) == out.count(LAZY) == 1
    assert "context stack" not in out
    assert 'return rows.with_columns(total={}["total"])' in out, "and the code that led to it"

    out = call("trace", "lazy/1.csv")[1]
    assert out.count(LAZY) == 1
    assert "shop_lazy, attempts 1 to 3:" in out
    steps = json.loads(call("trace", "lazy/1.csv", "--json")[1])["versions"][0]["steps"]
    assert sum("error" in step["detail"] for step in steps) == 3, "nothing is left out of JSON"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('{"id": pl.Int64}', '{"id": 3}'),
        ('{"id": pl.Int64}', '{"id": pl.Int64}, unique=["nope"]'),
        ('{"id": pl.Int64})', '{"id": pl.Int64}), reader=__import__("silversmith").Csv(separator="xx")'),
        ('"orders/*.csv"', '"orders/*.csv", memory=3'),
    ],
)
def test_a_definition_that_cannot_work_is_told_with_its_file_and_line(
    call: Call, tmp_path: Path, old: str, new: str
) -> None:
    file = tmp_path / "pipeline.py"
    file.write_text(file.read_text().replace(old, new))
    code, _, errors = call("status")
    assert code == 2
    assert errors.startswith("silversmith: pipeline.py:15: ")
