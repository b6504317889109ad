"""Tables and views made by the assembled engine: from a file in bronze to a row in gold."""

from __future__ import annotations

from typing import Any

from deltalake import DeltaTable, QueryBuilder

from silversmith.lineage import silver_key
from tests.engine.conftest import Bench

DEFINITION = """
pipeline = Pipeline("shop")

@pipeline.transform("orders/*.csv")
def orders(rows):
    return rows

pipeline.table("orders", of=orders)
pipeline.view("daily", "select day, sum(total) as total, count(*) as n from orders group by day", by=["day"])
"""

ORDERS = "select day, total from orders order by day, total"
DAILY = "select day, total, n from daily order by day"


def rows(bench: Bench, name: str, sql: str) -> list[tuple[Any, ...]]:
    table = DeltaTable(str(bench.lake.bucket("dl-gold-layer") / name))
    batches = QueryBuilder().register(name, table).execute(sql).read_all().to_batches()
    return [row for batch in batches for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)]


def test_files_become_rows_of_tables_and_views_and_follow_what_becomes_of_them(bench: Bench) -> None:
    bench.define(DEFINITION)
    bench.drop("orders/a.csv", "day,total\nmon,1\nmon,2\n")
    bench.drop("orders/b.csv", "day,total\ntue,5\n")
    progress, failed = bench.run()
    assert (progress.done, progress.waiting, failed) == (2, 0, 0)
    assert rows(bench, "orders", ORDERS) == [("mon", 1), ("mon", 2), ("tue", 5)]
    assert rows(bench, "daily", DAILY) == [("mon", 3, 2), ("tue", 5, 1)]
    assert {name: state.rows for name, state in progress.tables.items()} == {"daily": 2, "orders": 3}

    bench.drop("orders/a.csv", "day,total\nwed,7\n")
    progress, failed = bench.run()
    assert (progress.done, failed) == (1, 0)
    assert rows(bench, "daily", DAILY) == [("tue", 5, 1), ("wed", 7, 1)]

    (bench.silver / silver_key("orders", "orders/b.csv")).unlink()
    (bench.bronze / "orders/b.csv").unlink()
    progress, failed = bench.run()
    assert (progress.done, failed) == (0, 0)
    assert rows(bench, "orders", ORDERS) == [("wed", 7)]
    assert rows(bench, "daily", DAILY) == [("wed", 7, 1)]

    version = DeltaTable(str(bench.lake.bucket("dl-gold-layer") / "orders")).version()
    progress, _ = bench.run()
    assert progress.tables == {}, "nothing has changed"
    assert DeltaTable(str(bench.lake.bucket("dl-gold-layer") / "orders")).version() == version
