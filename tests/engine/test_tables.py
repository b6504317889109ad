"""Tables and views made by the assembled engine: from a file in bronze to a row in gold."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

from deltalake import DeltaTable, QueryBuilder

from silversmith.lineage import silver_key
from tests.engine.conftest import Bench
from tests.engine.test_resending import command

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


def test_a_worker_of_transforms_needs_no_parser_of_queries(bench: Bench) -> None:
    """It takes a third of a second to import."""
    bench.define(
        DEFINITION.replace("return rows", "import sys; return rows.with_columns(parser='sqlglot' in sys.modules)")
    )
    bench.drop("orders/a.csv", "day,total\nmon,1\n")
    _, failed = bench.run()
    assert failed == 0
    assert rows(bench, "orders", "select day, parser from orders") == [("mon", False)]
    assert rows(bench, "daily", DAILY) == [("mon", 1, 1)]


FAILING = """
pipeline = Pipeline("shop")

@pipeline.transform("orders/*.csv")
def orders(rows):
    return rows

pipeline.table("orders", of=orders)
pipeline.view("daily", "select day, sum(1 / (total - 1)) as total from orders group by day", by=["day"])
"""


def dead(bench: Bench) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(bench.lake.journal)) as journal:
        return journal.execute("SELECT key, dead_reason FROM messages WHERE dead_at IS NOT NULL").fetchall()


def test_the_refresh_of_an_impossible_view_ends_in_the_dead_letter_queue(bench: Bench) -> None:
    bench.define(FAILING)
    bench.drop("orders/a.csv", "day,total\nmon,1\n")
    progress, failed = bench.run()
    assert failed, "a division by zero"
    assert progress.dead == 1
    ((key, reason),) = dead(bench)
    assert key == "orders/a.csv", "the trace keeps it under the key that people know"
    assert reason == "the function gave up on it: ViewFailed"
    assert rows(bench, "orders", ORDERS) == [("mon", 1)], "the table is right without the view"

    bench.define(DEFINITION)
    assert bench.run()[1] == 0, "the next round makes the view, once it can be made"
    assert rows(bench, "daily", DAILY) == [("mon", 1, 1)]

    assert command(bench, "redrive")["sent"] == 1
    progress, failed = bench.run()
    assert (progress.dead, failed, dead(bench)) == (0, 0, [])
    assert rows(bench, "orders", ORDERS) == [("mon", 1)], "the message that was dead finds all done"


def test_a_table_that_is_declared_later_is_filled_from_silver(bench: Bench) -> None:
    bench.define(DEFINITION.partition("pipeline.table")[0])
    for number in range(1_000):
        bench.drop(f"orders/{number}.csv", f"day,total\nday {number % 3},{number}\n")
    assert bench.run(workers=2)[0].tables == {}
    assert not bench.lake.bucket("dl-gold-layer").exists(), "gold is there only for tables"
    assert not (bench.lake.logs / "tables.log").exists(), "and so is its process"
    bench.define(DEFINITION)
    progress, failed = bench.run(workers=2)
    assert (progress.done, failed) == (0, 0)
    assert progress.tables["orders"].rows == 1_000
    assert len(rows(bench, "orders", ORDERS)) == 1_000
    assert [n for _, _, n in rows(bench, "daily", DAILY)] == [334, 333, 333]


LINEAGE = """
pipeline = Pipeline("shop", lineage=True)

@pipeline.transform("orders/*.csv", contract=Contract(schema={"day": pl.String, "total": pl.Int64}))
def orders(rows):
    return rows
"""

STATES = "select _file, state, error, rows_written from _lineage order by _file, state"


def test_the_lineage_follows_silver_and_quarantine_without_any_table(bench: Bench) -> None:
    bench.define(LINEAGE)
    bench.drop("orders/a.csv", "day,total\nmon,1\nmon,2\n")
    bench.drop("orders/b.csv", "other\n1\n")
    bench.run()
    bad = ("orders/b.csv", "quarantined", "MissingColumn", None)
    assert rows(bench, "_lineage", STATES) == [("orders/a.csv", "silver", None, 2), bad]

    bench.drop("orders/b.csv", "day,total\nmon,1\n")
    bench.run()
    good = ("orders/b.csv", "silver", None, 1)
    assert rows(bench, "_lineage", STATES) == [("orders/a.csv", "silver", None, 2), good]

    (bench.bronze / "orders/a.csv").unlink()
    (bench.silver / silver_key("orders", "orders/a.csv")).unlink()
    bench.run()
    assert rows(bench, "_lineage", STATES) == [good]
