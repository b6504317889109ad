"""A pipeline that was renamed, or two over one lake: refused before anything is done, and taken over by one command."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from silversmith.errors import NotOurs
from silversmith.schemas import schema_key

if TYPE_CHECKING:
    from tests.engine.conftest import Bench

ORDERS = """
pipeline = Pipeline("shop")

@pipeline.transform("*.csv")
def orders(rows):
    return rows
"""
RENAMED = ORDERS.replace('"shop"', '"store"')


def command(bench: Bench, *arguments: str) -> subprocess.CompletedProcess[str]:
    lake = (f"--pipeline={bench.pipeline}", f"--lake={bench.lake.path}")
    return subprocess.run(
        [sys.executable, "-m", "silversmith.cli", *arguments, *lake],
        check=False,
        capture_output=True,
        text=True,
    )


def owner(bench: Bench) -> str:
    return str(json.loads((bench.silver / schema_key("orders")).read_text())["owner"])


def test_a_renamed_pipeline(bench: Bench) -> None:
    bench.define(ORDERS)
    bench.drop("a.csv", "a\n1\n")
    assert bench.run()[1] == 0
    assert (owner(bench), bench.lineage("orders", "a.csv").owner) == ("shop", "shop")

    bench.define(RENAMED)
    bench.drop("b.csv", "a\n2\n")
    with pytest.raises(NotOurs, match="belongs to the pipeline shop, and this is store"):
        bench.engine()
    refused = command(bench, "run", "--until-idle", "--workers=1")
    assert refused.returncode == 1
    assert "dl-silver-layer/_schemas/orders.json belongs to the pipeline shop" in refused.stderr
    assert "`silversmith take-over`" in refused.stderr
    assert not (bench.silver / "orders/b.csv.parquet").exists()
    assert "orders: it is shop's" in command(bench, "doctor").stdout
    assert "the silver of orders is shop's" in command(bench, "status").stdout
    assert "orders is shop's" not in command(bench, "trace", "a.csv").stdout
    assert "the silver of this transform is shop's" in command(bench, "trace", "a.csv").stdout
    assert command(bench, "reconcile", "--dry-run").returncode == 1

    asked = command(bench, "take-over")
    assert (asked.returncode, owner(bench)) == (2, "shop")
    assert "say yes with --yes" in asked.stderr
    taken = command(bench, "take-over", "--yes")
    assert (taken.returncode, taken.stdout, owner(bench)) == (0, "orders: shop → store\nstore has it now\n", "store")
    again = command(bench, "take-over", "--yes", "--json")
    assert json.loads(again.stdout) == {"owner": "store", "done": True, "taken": []}
    progress, failed = bench.run()
    assert (progress.done, failed) == (1, 0), "b.csv; a.csv is as it should be"
    assert (bench.lineage("orders", "a.csv").owner, bench.lineage("orders", "b.csv").owner) == ("shop", "store")
    bench.define(ORDERS)
    with pytest.raises(NotOurs, match="belongs to the pipeline store, and this is shop"):
        bench.engine()


def test_renamed_while_the_engine_runs(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """It goes on with the definition that it has, and says what to do."""
    bench.define(ORDERS)
    bench.drop("a.csv", "a\n1\n")
    engine = bench.engine()
    patience = time.monotonic() + 120

    def refused() -> bool:
        return "new definition is not taken: dl-silver-layer/_schemas/orders.json belongs" in caplog.text

    def step(_: object) -> None:
        if (bench.silver / "orders/a.csv.parquet").exists() and "store" not in bench.pipeline.read_text():
            bench.define(RENAMED)

    def stopped() -> bool:
        if refused() and not (bench.bronze / "b.csv").exists():
            bench.drop("b.csv", "a\n2\n")
        return (bench.silver / "orders/b.csv.parquet").exists() or time.monotonic() > patience

    try:
        engine.run(until_idle=False, stopped=stopped, tick=step)
    finally:
        engine.close()
    assert refused()
    assert bench.lineage("orders", "b.csv").owner == "shop"
