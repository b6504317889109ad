"""The whole chain on this machine: what lands in bronze comes out in silver."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import polars as pl
import pytest

from silversmith.errors import LakeInUse
from silversmith.local.journal import Journal

if TYPE_CHECKING:
    from silversmith.local.engine import Progress
    from tests.engine.conftest import Bench

ORDERS = """
pipeline = Pipeline("shop")

@pipeline.transform("orders/*.csv", contract=Contract(
    schema={"id": pl.Int64, "total": pl.Float64}, rules={"total is positive": pl.col("total") > 0},
))
def orders(rows):
    return rows.with_columns(twice=pl.col("total") * 2)
"""


def hops(bench: Bench, key: str) -> list[tuple[str, str]]:
    journal = Journal(bench.lake.journal, readonly=True)
    try:
        return [(row[4], row[6]) for row in journal.rows("hops", key=key)]
    finally:
        journal.close()


def test_a_file_passes_every_hop_and_becomes_silver(bench: Bench) -> None:
    bench.define(ORDERS)
    text = "id,total\n1,2.5\n2,3\n"
    bench.drop("orders/may.csv", text)
    progress, failed = bench.run()
    assert failed == 0
    assert (progress.found, progress.done, progress.rows, progress.waiting) == (1, 1, 2, 0)
    assert bench.rows("orders", "orders/may.csv").rows() == [(1, 2.5, 5.0), (2, 3.0, 6.0)]
    lineage = bench.lineage("orders", "orders/may.csv")
    assert lineage.bronze_etag == hashlib.md5(text.encode()).hexdigest()
    assert (lineage.rows_read, lineage.rows_written, lineage.rows_rejected, lineage.attempt) == (2, 2, 0, 1)
    assert len(lineage.bronze_version) == 32
    assert hops(bench, "orders/may.csv") == [
        ("bucket", "created"),
        ("rule", "matched"),
        ("topic", "published"),
        ("queue", "queued"),
        ("function", "committed"),
    ]


def test_a_file_that_waits_at_the_start_is_done_once(bench: Bench) -> None:
    """Reconciliation finds none of it missing while it is on its way."""
    bench.define(ORDERS)
    for number in range(120):
        bench.drop(f"orders/{number}.csv", f"id,total\n{number},1\n")
    progress, failed = bench.run()
    assert (progress.done, progress.duplicates, failed) == (120, 0, 0)


def test_rejected_rows_go_to_quarantine_with_their_reasons(bench: Bench) -> None:
    bench.define(ORDERS)
    bench.drop("orders/a.csv", "id,total\n1,2.5\nx,1\n3,-1\n")
    progress, failed = bench.run()
    assert (progress.rejected, failed) == (2, 0)
    assert bench.rows("orders", "orders/a.csv").height == 1
    rejected = pl.read_parquet(bench.quarantine / "orders/orders/a.csv.rejected.parquet")
    assert rejected["row"].to_list() == [2, 3]
    assert "x" in rejected["reasons"][0][0]
    assert "total is positive" in rejected["reasons"][1][0]


def test_a_broken_file_is_quarantined_once_and_never_retried(bench: Bench) -> None:
    bench.define(ORDERS)
    bench.drop("orders/a.csv", "name,sum\nx,1\n")
    bench.drop("orders/b.csv", "id,total\n1,1\n")
    progress, failed = bench.run()
    assert (progress.quarantined, progress.done, progress.retries, failed) == (1, 1, 0, 1)
    document = (bench.quarantine / "orders/orders/a.csv.error.json").read_text()
    assert "MissingColumn" in document
    assert not (bench.silver / "orders/orders/a.csv.parquet").exists()
    _, failed_again = bench.run()
    assert failed_again == 0, "nothing new went wrong in the second run"


def test_a_corrected_file_clears_its_error(bench: Bench) -> None:
    bench.define(ORDERS)
    bench.drop("orders/a.csv", "name\nx\n")
    bench.run()
    bench.drop("orders/a.csv", "id,total\n1,1\n")
    _, failed = bench.run()
    assert failed == 0
    assert list(bench.quarantine.rglob("*.json")) == []
    assert bench.rows("orders", "orders/a.csv").height == 1


def test_the_last_good_silver_stays_when_a_new_version_is_broken(bench: Bench) -> None:
    bench.define(ORDERS)
    bench.drop("orders/a.csv", "id,total\n1,1\n")
    bench.run()
    bench.drop("orders/a.csv", "name\nx\n")
    _, failed = bench.run()
    assert failed == 1
    assert bench.rows("orders", "orders/a.csv").height == 1


def test_one_file_feeds_every_transform_that_matches(bench: Bench) -> None:
    bench.define(
        """
pipeline = Pipeline("shop")

@pipeline.transform("*.csv")
def every(rows):
    return rows

pipeline.sql("orders/*", "select count(*) as n from rows", name="counts")

@pipeline.transform("other/*.csv")
def other(rows):
    return rows
"""
    )
    bench.drop("orders/a.csv", "x\n1\n2\n")
    progress, _ = bench.run(workers=2)
    assert progress.done == 2
    assert bench.rows("every", "orders/a.csv")["x"].to_list() == [1, 2]
    assert bench.rows("counts", "orders/a.csv")["n"].to_list() == [2]
    assert sorted(path.name for path in bench.silver.iterdir()) == ["_schemas", "counts", "every"]


def test_a_file_that_no_transform_matches_stops_at_the_rule(bench: Bench) -> None:
    bench.define(ORDERS)
    bench.drop("elsewhere/a.csv", "id,total\n1,1\n")
    progress, failed = bench.run()
    assert (progress.found, progress.done, failed) == (1, 0, 0)
    assert hops(bench, "elsewhere/a.csv") == [("bucket", "created"), ("rule", "unmatched")]


def test_a_bug_in_the_transform_is_retried_and_ends_in_the_dlq(bench: Bench) -> None:
    bench.define(
        """
pipeline = Pipeline("shop")

@pipeline.transform("*.csv", max_receive_count=3)
def orders(rows):
    raise RuntimeError("no such thing")
"""
    )
    bench.drop("a.csv", "x\n1\n")
    progress, failed = bench.run()
    assert (progress.retries, progress.dead, failed) == (3, 1, 1)
    journal = Journal(bench.lake.journal, readonly=True)
    (detail,) = [row[5] for row in journal.rows("failed_outcomes", transform="", key="", most=9)]
    journal.close()
    assert "no such thing" in detail
    assert "pipeline.py" in detail
    assert "silversmith/function/convert.py" not in detail


def test_json_ndjson_and_parquet(bench: Bench) -> None:
    bench.define('pipeline = Pipeline("p")\n\n@pipeline.transform("*")\ndef rows(rows):\n    return rows\n')
    bench.drop("a.json", '[{"x": 1}, {"x": 2}]')
    bench.drop("b.json", '{"x": 3}')
    bench.drop("c.ndjson", '{"x": 4}\n{"x": 5}\n')
    pl.DataFrame({"x": [6]}).write_parquet(bench.bronze / "d.parquet")
    progress, failed = bench.run()
    assert (progress.done, failed) == (4, 0)
    rows = [bench.rows("rows", key)["x"].to_list() for key in ("a.json", "b.json", "c.ndjson", "d.parquet")]
    assert rows == [[1, 2], [3], [4, 5], [6]]


def test_a_second_run_has_nothing_to_do(bench: Bench) -> None:
    bench.define(ORDERS)
    bench.drop("orders/a.csv", "id,total\n1,1\n")
    bench.run()
    progress, _ = bench.run()
    assert (progress.found, progress.done, progress.duplicates) == (0, 0, 0)


def test_a_lost_journal_is_found_again_in_the_buckets(bench: Bench) -> None:
    bench.define(ORDERS)
    bench.drop("orders/a.csv", "id,total\n1,1\n")
    bench.run()
    before = bench.lineage("orders", "orders/a.csv")
    for path in bench.lake.state.glob("journal.db*"):
        path.unlink()
    progress, _ = bench.run()
    assert (progress.found, progress.duplicates) == (1, 1)
    assert bench.lineage("orders", "orders/a.csv") == before


def test_one_engine_per_lake(bench: Bench) -> None:
    bench.define(ORDERS)
    engine = bench.engine()
    try:
        with pytest.raises(LakeInUse, match="One engine per lake"):
            bench.engine()
    finally:
        engine.close()


def wait_for(true: Callable[[], bool], seconds: float = 60) -> None:
    """Until it is so: the engine's own doing, so it is watched for, with a deadline."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def drive(bench: Bench, script: Callable[[], None]) -> Progress:
    """Run an engine without an end, and a script beside it; stop when the script is done."""
    done = threading.Event()
    failures: list[BaseException] = []

    def play() -> None:
        try:
            script()
        except BaseException as error:  # noqa: BLE001 -- handed to the test's own thread
            failures.append(error)
        finally:
            done.set()

    engine = bench.engine()
    thread = threading.Thread(target=play)
    thread.start()
    try:
        progress = engine.run(until_idle=False, stopped=done.is_set, tick=lambda _: None)
    finally:
        thread.join()
        engine.close()
    if failures:
        raise failures[0]
    return progress


def test_files_that_land_while_it_runs(bench: Bench) -> None:
    bench.define(ORDERS)
    silver = bench.silver / "orders/orders"

    def land() -> None:
        for name in ("a.csv", "new/b.csv"):
            bench.drop(f"orders/{name}", "id,total\n1,1\n")
            wait_for((silver / f"{name}.parquet").exists)
        bench.drop("orders/a.csv", "id,total\n1,1\n2,2\n")
        wait_for(lambda: pl.read_parquet((silver / "a.csv.parquet").read_bytes()).height == 2)

    assert drive(bench, land).found >= 3


def test_a_corrected_transform_is_picked_up_while_it_runs(bench: Bench) -> None:
    broken = ORDERS.replace("return rows", 'raise RuntimeError("a bug")\n    return rows')
    bench.define(broken)

    def mend() -> None:
        bench.drop("orders/a.csv", "id,total\n1,1\n")
        wait_for(lambda: ("function", "failed") in hops(bench, "orders/a.csv"))
        bench.define(ORDERS)
        wait_for((bench.silver / "orders/orders/a.csv.parquet").exists)

    progress = drive(bench, mend)
    assert progress.retries >= 1
    assert bench.lineage("orders", "orders/a.csv").attempt > 1


def test_a_definition_that_cannot_be_loaded_is_passed_over(bench: Bench) -> None:
    bench.define(ORDERS)

    def spoil() -> None:
        bench.drop("orders/a.csv", "id,total\n1,1\n")
        wait_for((bench.silver / "orders/orders/a.csv.parquet").exists)
        bench.pipeline.write_text("this is no Python")
        bench.drop("orders/b.csv", "id,total\n1,1\n")
        wait_for((bench.silver / "orders/orders/b.csv.parquet").exists)

    assert drive(bench, spoil).done == 2


def test_another_silver_bucket_gets_the_files_of_this_very_run(bench: Bench) -> None:
    """The first round of reconciliation believes what was done since the definition is this one, and nothing before."""
    bench.define(ORDERS)
    there = bench.lake.bucket("elsewhere") / "orders/orders/a.csv.parquet"

    def move() -> None:
        bench.drop("orders/a.csv", "id,total\n1,1\n")
        wait_for((bench.silver / "orders/orders/a.csv.parquet").exists)
        bench.define(ORDERS.replace('Pipeline("shop")', 'Pipeline("shop", silver="elsewhere")'))
        wait_for(there.exists)

    drive(bench, move)
    assert there.exists()


def test_a_worker_that_dies_charges_only_the_message_it_was_at(bench: Bench) -> None:
    bench.define(
        """
pipeline = Pipeline("shop")

@pipeline.transform("*.csv", max_receive_count=2, batch_size=10)
def orders(rows):
    if rows.collect()["x"][0] == 3:
        os.kill(os.getpid(), signal.SIGSEGV)
    return rows
"""
    )
    for number in range(6):
        bench.drop(f"{number}.csv", f"x\n{number}\n")
    progress, failed = bench.run()
    # one that was being committed beside it may be in silver before its report is out: it is found to be done
    assert (progress.done + progress.duplicates, progress.dead, failed) == (5, 1, 1)
    assert all(bench.lineage("orders", f"{number}.csv").attempt == 1 for number in (0, 1, 2, 4, 5))
    assert any("SIGSEGV" in row[1] for row in _details(bench, "3.csv"))


def _details(bench: Bench, key: str) -> list[tuple[str, str]]:
    journal = Journal(bench.lake.journal, readonly=True)
    try:
        return [(row[6], row[7]) for row in journal.rows("hops", key=key)]
    finally:
        journal.close()


def test_timeout_and_memory_are_enforced(bench: Bench) -> None:
    bench.define(
        """
pipeline = Pipeline("shop")

@pipeline.transform("slow/*.csv", max_receive_count=1, timeout=1)
def slow(rows):
    while True:
        pass

@pipeline.transform("big/*.csv", max_receive_count=1, memory=256)
def big(rows):
    hoard = []
    while True:
        hoard.append(b"x" * 10_000_000)
"""
    )
    bench.drop("slow/a.csv", "x\n1\n")
    bench.drop("big/a.csv", "x\n1\n")
    progress, failed = bench.run(workers=2)
    assert (progress.dead, failed) == (2, 2)
    assert any("timed out after 1 s" in row[1] for row in _details(bench, "slow/a.csv"))
    assert any("its limit is 256 MB" in row[1] for row in _details(bench, "big/a.csv"))


def test_a_start_repairs_missed_events(bench: Bench) -> None:
    """New transforms, and silver that somebody removed: no event speaks of them, a round of reconciliation does."""
    bench.define(ORDERS)
    for name in ("a", "b"):
        bench.drop(f"orders/{name}.csv", "id,total\n1,1\n")
    bench.run()
    (bench.silver / "orders/orders/a.csv.parquet").unlink()
    bench.define(ORDERS + '\npipeline.sql("orders/*", "select count(*) as n from rows", name="counts")\n')
    progress, failed = bench.run()
    assert (progress.found, progress.done, failed) == (0, 3, 0)
    assert bench.rows("counts", "orders/b.csv")["n"].to_list() == [1]
    assert bench.rows("orders", "orders/a.csv").height == 1


def test_many_quick_files_do_not_wait_behind_a_large_one(bench: Bench) -> None:
    """Several batches go to a worker at once; one that holds a large file goes to the worker for those alone."""
    bench.define(
        """
from pathlib import Path
pipeline = Pipeline("mixed")

@pipeline.transform("*.csv", batch_size=1)
def rows(rows):
    first = rows.select("x").head(1).collect().item()
    if first == 1:  # the large file ends when all others are done
        silver = Path(__file__).parent / "lake/dl-silver-layer/rows"
        while len(list(silver.glob("*.parquet"))) < 80:
            time.sleep(0.01)
    return rows
"""
    )
    for number in range(80):
        bench.drop(f"{number:02}.csv", f"x\n{number + 2}\n")
    bench.drop("40-large.csv", "x\n" + "1\n" * 4_500_000)
    progress, failed = bench.run(workers=2)
    assert (progress.done, failed) == (81, 0)
