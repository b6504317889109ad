"""docs/tables.md: its pipeline, and its queries over the tables that come of it."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from silversmith.pipeline import load
from silversmith.tables.delta import MOST_SMALL, RETENTION_DAYS, TARGET_BYTES, TARGET_ROWS
from silversmith.tables.types import _RECORDED
from silversmith.tables.views import MOST_GROUPS
from tests.markdown import ROOT, blocks
from tests.unit.tables.kit import GoldBench
from tests.unit.tables.test_handler import TableFunction, event

PAGE = (ROOT / "docs/tables.md").read_text("utf-8")


def test_the_page_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    declared, *queries = [block for block in blocks(PAGE) if block.language == "python"]
    Path("pipeline.py").write_text(declared.text)
    bench = GoldBench(tmp_path)
    rows = {
        "day": [dt.date(2026, 1, 1), dt.date(2026, 1, 1), dt.date(2026, 1, 2)],
        "customer": [1, 2, 1],
        "total": [Decimal("1.50"), Decimal("2.25"), Decimal("3.00")],
        "at": [dt.datetime(2026, 1, day) for day in (1, 1, 2)],  # noqa: DTZ001 -- without a zone, as in the contract
    }
    key = bench.put("orders/1.csv", pl.DataFrame(rows, schema_overrides={"total": pl.Decimal(12, 2)}))
    assert TableFunction(bench, load("pipeline.py").tables)(event(key)) == []
    assert bench.table("customers").sort("customer")["total"].to_list() == [Decimal("3.00"), Decimal("2.25")]
    Path("lake").mkdir()
    Path("lake/dl-gold-layer").symlink_to(tmp_path / "gold")
    for query in queries:
        exec(compile(query.text, "docs/tables.md", "exec"), {})
    shown = capsys.readouterr().out
    assert shown.count("3.75") == 2
    assert "orders/1.csv" in shown


def test_the_numbers_of_the_page_are_those_of_the_code() -> None:
    words = " ".join(PAGE.split())
    for said in (
        f"{MOST_SMALL} small data files",
        f"up to {TARGET_BYTES >> 20} MiB or about {TARGET_ROWS:,} rows",
        f"can read it for {RETENTION_DAYS} days",
        f"more than {MOST_GROUPS:,} touched groups",
    ):
        assert said in words


def test_the_page_names_every_type() -> None:
    unsaid = [name for name in _RECORDED if f"`{name}`" not in PAGE and name != "Null"]
    assert unsaid == []
