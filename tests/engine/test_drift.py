"""Files whose columns change, through the whole engine: widened, or refused with both schemas. A command tells it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl

from silversmith.lineage import error_key
from silversmith.silver import scan

if TYPE_CHECKING:
    from tests.engine.conftest import Bench

ORDERS = """
pipeline = Pipeline("shop")

@pipeline.transform("*.csv")
def orders(rows):
    return rows
"""


def schema(bench: Bench, *arguments: str) -> subprocess.CompletedProcess[str]:
    return command(bench, "schema", "orders", *arguments)


def command(bench: Bench, *arguments: str) -> subprocess.CompletedProcess[str]:
    lake = (f"--pipeline={bench.pipeline}", f"--lake={bench.lake.path}")
    return subprocess.run(
        [sys.executable, "-m", "silversmith.cli", *arguments, *lake],
        check=False,
        capture_output=True,
        text=True,
    )


def by_duckdb(bench: Bench, options: str) -> list[tuple[Any, ...]]:
    glob = f"{bench.silver}/orders/**/*.parquet"
    frame = duckdb.sql(f"SELECT a, b, c FROM read_parquet('{glob}'{options}) ORDER BY a")
    assert frame is not None
    return frame.fetchall()


def test_columns_that_change(bench: Bench) -> None:
    bench.define(ORDERS)
    assert schema(bench).returncode == 1
    assert "no file of it has become silver yet" in schema(bench).stderr
    bench.drop("1.csv", "a,b\n1,x\n")
    bench.run()
    bench.drop("2.csv", "a,b,c\n2.5,y,7\n")
    bench.run()
    bench.drop("3.csv", "a,c\nword,8\n")
    assert bench.run()[1] == 1
    error = json.loads((bench.quarantine / error_key("orders", "3.csv")).read_text())["error"]
    assert error["code"] == "SchemaChanged"
    assert '~ a: Float64 → String, such as "word"' in error["message"]

    text = command(bench, "failures").stdout.splitlines()
    assert any(line.strip() == '~ a: Float64 → String, such as "word"' for line in text), "a difference has lines"

    document = json.loads(schema(bench, "--json").stdout)
    (now,) = document["schemas"]
    assert (now["version"], now["current"]) == (2, True)
    assert now["columns"] == {"a": "Float64", "b": "String", "c": "Int64"}
    assert [(step["version"], step["key"], step["changes"]) for step in document["history"]] == [
        (1, "1.csv", ["+ a: Int64", "+ b: String"]),
        (2, "2.csv", ["~ a: Int64 → Float64", "+ c: Int64"]),
    ]
    shown = schema(bench)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "~ a: Int64 → Float64" in shown.stdout

    rows = [(1.0, "x", None), (2.5, "y", 7)]
    assert scan(bench.silver / "orders").sort("a").collect().rows() == rows
    assert by_duckdb(bench, ", union_by_name=true") == rows

    lake = [str(bench.pipeline), f"--lake={bench.lake.path}"]
    subprocess.run([sys.executable, "-m", "silversmith.cli", "reconcile", "--changed", *lake], check=True)
    bench.run()
    assert by_duckdb(bench, "") == rows
    assert pl.scan_parquet(bench.silver / "orders/**/*.parquet").sort("a").collect().rows() == rows
