"""The loop of editing: run, change the code, run again, look."""

from __future__ import annotations

import json
from pathlib import Path

from tests.unit.cli.conftest import Call

PIPELINE = """
import polars as pl
from silversmith import Contract, Pipeline

pipeline = Pipeline("shop")

@pipeline.transform("orders/*.csv", contract=Contract({"id": pl.Int64}, {"small": pl.col("id") < 100}))
def orders(rows):
    return rows
"""


def run(call: Call, *options: str) -> str:
    code, out, errors = call("run", "--until-idle", "--workers", "1", *options)
    assert (code, errors) == (0, "")
    return out


def table(text: str, first: str) -> dict[str, str]:
    """The one row of the table in a text that begins with this column."""
    lines = text.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith(first))
    return dict(zip(lines[at].split(), lines[at + 1].split(), strict=True))


def test_changed_code_is_noticed_and_makes_its_silver_again_when_it_is_asked_to(call: Call, tmp_path: Path) -> None:
    bronze = tmp_path / "lake/dl-bronze-layer/orders"
    bronze.mkdir(parents=True)
    for name, text in {"a": "id\n1\n", "b": "id\n2\n200\n", "c": "id\n3\n"}.items():
        (bronze / f"{name}.csv").write_text(text)
    assert "3 files done (3 rows), 1 of them partial (1 row rejected), in" in run(call)
    (bronze / "c.csv").unlink()
    file = tmp_path / "pipeline.py"
    file.write_text(file.read_text().replace("return rows", "return rows.with_columns(double=pl.col('id') * 2)"))

    assert "2 silver files were made by older code: silversmith run --changed" in run(call)
    shown = call("status")[1]
    columns = ("files", "rows", "rejected", "partial", "outdated", "orphaned")
    row = table(shown, "transform  files")
    assert [row[name] for name in columns] == ["3", "3", "1", "1", "2", "1"]
    commands = ("failures --rejected", "run --changed", "reconcile --dry-run")
    assert all(f"silversmith {command}" in shown for command in commands)
    assert max(map(len, shown.splitlines())) <= 80

    out = run(call, "--changed")
    assert "2 files done" in out
    assert "older code" not in out
    assert json.loads(run(call, "--json"))["outdated"] == 0
    (transform,) = json.loads(call("status", "--json")[1])["transforms"]
    counted = transform["silver"]
    assert counted == {"files": 3, "rows": 3, "rejected": 1, "partial": 1, "outdated": 0, "orphaned": 1}


def test_a_file_of_which_rows_were_rejected_is_called_partial(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "lake/dl-bronze-layer/orders/a.csv"
    path.parent.mkdir(parents=True)
    path.write_text("id\n1\n200\n300\n")
    run(call)
    assert "partial: silver lacks 2 rejected rows" in call("trace", "orders/a.csv")[1]
    (part,) = json.loads(call("trace", "orders/a.csv", "--json")[1])["transforms"]
    assert (part["state"], part["partial"]) == ("current", True)
