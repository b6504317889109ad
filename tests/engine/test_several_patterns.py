"""One transform of several patterns through the whole engine, and after events were missed."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.engine.conftest import Bench

SALES = """
pipeline = Pipeline("shop")

@pipeline.transform("tills/*.csv", "kiosks/*.csv", "kiosks/*.CSV")
def sales(rows):
    return rows
"""


def test_each_pattern_is_taken_once_and_by_reconciliation(bench: Bench) -> None:
    bench.define(SALES)
    keys = ["tills/a.csv", "kiosks/b.csv", "kiosks/C.CSV"]
    for key in [*keys, "kiosks/d.Csv", "other/e.csv"]:
        bench.drop(key, "a\n1\n")
    assert bench.run()[1] == 0
    silver = bench.silver / "sales"
    objects = sorted(str(path.relative_to(silver)) for path in silver.rglob("*.parquet"))
    assert objects == sorted(f"{key}.parquet" for key in keys)
    bench.define(SALES.replace('"tills/*.csv", ', '"other/*.csv", "tills/*.csv", '))
    for key in keys:
        (silver / f"{key}.parquet").unlink()
    command = [sys.executable, "-m", "silversmith.cli", "reconcile"]
    subprocess.run([*command, f"--pipeline={bench.pipeline}", f"--lake={bench.lake.path}"], check=True)
    assert bench.run()[1] == 0
    assert (silver / "other/e.csv.parquet").exists()
    assert all((silver / f"{key}.parquet").exists() for key in keys)
