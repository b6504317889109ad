"""Events are lost on purpose, and silver is complete all the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import polars as pl
import pytest

from silversmith import Contract, DefinitionError, Pipeline
from silversmith.lineage import Decision, silver_key
from silversmith.operations import WrongCall
from silversmith.operations.local import open_lake
from silversmith.operations.reconcile import reconcile
from silversmith.operations.reports import trace
from silversmith.reconcile.compare import Finding

if TYPE_CHECKING:
    from tests.unit.conftest import Bench

    Make = Callable[[Pipeline], Bench]


def shop(on_delete: str = "keep") -> Pipeline:
    pipeline = Pipeline("shop", on_delete=on_delete)

    @pipeline.transform("orders/*.csv", contract=Contract(schema={"x": pl.Int64}))
    def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows

    @pipeline.transform("*.csv", name="every")
    def every(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows

    return pipeline


def shop_with_other_code() -> Pipeline:
    pipeline = Pipeline("shop")

    @pipeline.transform("orders/*.csv", contract=Contract(schema={"x": pl.Int64}))
    def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.with_columns(y=1)

    @pipeline.transform("*.csv", name="every")
    def every(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows

    return pipeline


KEYS = [f"orders/{number}.csv" for number in range(20)]


def run(bench: Bench, *, writable: bool = True, **options: object) -> dict[str, list[Finding]]:
    """All findings by what was done with them."""
    actual: dict[str, list[Finding]] = {"found": [], "waiting": [], "orphaned": []}
    with bench.opened(writable=writable) as target:
        for batch in reconcile(bench.pipeline, target, **options):  # type: ignore[arg-type]
            for what in actual:
                actual[what] += getattr(batch, what)
    return actual


def kinds(findings: list[Finding]) -> set[tuple[str, str, Decision]]:
    return {(finding.transform, finding.key, finding.kind) for finding in findings}


def test_every_second_event_is_lost_and_silver_is_complete_all_the_same(make: Make) -> None:
    bench = make(shop())
    bench.land(*KEYS)
    assert bench.lose("id % 2 = 0") == 10
    bench.work()
    there = [key for key in KEYS if bench.silver("orders", key) is not None]
    assert len(there) == 10

    lost = sorted(set(KEYS) - set(there))
    seen = run(bench, writable=False, dry_run=True)
    assert sorted(finding.key for finding in seen["found"] if finding.transform == "orders") == lost
    assert bench.depths() == {}, "a dry run sends nothing"

    sent = run(bench)
    assert sent == seen
    assert bench.depths() == {"shop_orders": 10, "shop_every": 10}
    assert {report.outcomes[0].verdict for report in bench.work()} == {"committed"}
    assert all(bench.silver(name, key) is not None for name in ("orders", "every") for key in KEYS)
    assert run(bench) == {"found": [], "waiting": [], "orphaned": []}


def test_small_batches_find_the_same(make: Make) -> None:
    bench = make(shop())
    bench.land(*KEYS)
    bench.lose()
    with bench.opened() as target:
        batches = list(reconcile(bench.pipeline, target, transform="orders", batch=7))
    assert [(batch.transform, batch.checked, len(batch.found)) for batch in batches] == [
        ("orders", 7, 7),
        ("orders", 7, 7),
        ("orders", 6, 6),
    ]
    assert bench.depths() == {"shop_orders": 20}


def test_a_file_that_is_sent_again_keeps_its_version_in_the_trace(make: Make) -> None:
    bench = make(shop())
    bench.land("orders/a.csv")
    bench.lose()
    run(bench, transform="orders")
    bench.work()
    hops = bench.hops("orders/a.csv")
    assert [(room, what) for _, room, what in hops] == [
        ("bucket", "created"),
        ("operations", "reconciled"),
        ("queue", "queued"),
        ("function", "committed"),
    ]
    assert len({version for version, _, _ in hops}) == 1
    assert bench.lineage("orders", "orders/a.csv").bronze_version == hops[0][0]


def test_a_newer_version_whose_event_was_lost_is_found(make: Make) -> None:
    bench = make(shop())
    bench.land("orders/a.csv", "orders/b.csv")
    bench.work()
    bench.land("orders/a.csv", text="x\n1\n2\n")
    bench.lose()
    result = run(bench)
    assert kinds(result["found"]) == {
        ("orders", "orders/a.csv", Decision.STALE),
        ("every", "orders/a.csv", Decision.STALE),
    }
    bench.work()
    frame = bench.silver("orders", "orders/a.csv")
    assert frame is not None
    assert frame.height == 2


def test_bytes_that_changed_behind_the_engines_back_are_found(make: Make) -> None:
    """Even where the journal takes the file for what it was."""
    bench = make(shop())
    bench.land("orders/a.csv")
    bench.work()
    (bench.folder.bucket("dl-bronze-layer") / "orders/a.csv").write_text("x\n2\n")
    assert kinds(run(bench, transform="orders")["found"]) == {("orders", "orders/a.csv", Decision.STALE)}


def test_silver_of_other_code_is_listed_only_on_request(make: Make) -> None:
    bench = make(shop())
    bench.land("orders/a.csv")
    bench.work()
    bench.use(shop_with_other_code())
    assert run(bench)["found"] == []
    assert kinds(run(bench, changed=True)["found"]) == {("orders", "orders/a.csv", Decision.OUTDATED)}
    bench.work()
    frame = bench.silver("orders", "orders/a.csv")
    assert frame is not None
    assert frame.columns == ["x", "y"]
    assert run(bench, changed=True)["found"] == []


def test_quarantined_files_are_accounted_for_until_the_code_changes(make: Make) -> None:
    bench = make(shop())
    bench.land("orders/a.csv", text="y\nno such column\n")
    bench.work()
    assert bench.silver("orders", "orders/a.csv") is None
    assert run(bench)["found"] == []
    bench.use(shop_with_other_code())
    assert kinds(run(bench)["found"]) == {("orders", "orders/a.csv", Decision.MISSING)}


def test_keys_with_a_message_on_its_way_are_not_sent_again(make: Make) -> None:
    bench = make(shop())
    bench.land("orders/a.csv")
    assert len(run(bench)["waiting"]) == 2, "on the way to the bus"
    bench.services.delivery.deliver(bench.now)
    result = run(bench)
    assert (len(result["found"]), len(result["waiting"])) == (0, 2)
    assert bench.depths() == {"shop_orders": 1, "shop_every": 1}


def test_a_message_of_older_bytes_is_no_reason_not_to_send(make: Make) -> None:
    """The worker of that message may have read the older bytes already."""
    bench = make(shop())
    bench.land("orders/a.csv")
    bench.services.delivery.deliver(bench.now)
    bench.land("orders/a.csv", text="x\n2\n")
    bench.lose()
    result = run(bench)
    assert (len(result["found"]), len(result["waiting"])) == (2, 0)


def put(bench: Bench, key: str) -> None:
    """As landing, for keys that are no paths."""
    bench.lake.bronze.put(key, b"x\n1\n")
    bench.notice(key)
    bench.services.delivery.deliver(bench.now)


@pytest.mark.parametrize("key", ["orders/\"'\\.csv", "orders/é😀\n.csv", "orders/../x.csv", "orders//.csv"])
def test_a_message_is_recognised_by_any_key(make: Make, key: str) -> None:
    bench = make(shop())
    put(bench, key)
    result = run(bench, transform="orders")
    assert ([finding.key for finding in result["waiting"]], result["found"]) == ([key], [])
    bench.work()
    assert run(bench) == {"found": [], "waiting": [], "orphaned": []}


def test_a_key_with_a_nul_is_sent_twice_at_worst(make: Make) -> None:
    """SQLite cuts it short when it looks for messages, to a key that happens to have one."""
    bench = make(shop())
    put(bench, "orders/a.csv")
    bench.work()
    put(bench, "orders/a.csv")
    put(bench, "orders/a.csv\0.csv")
    assert [finding.key for finding in run(bench, transform="orders")["found"]] == ["orders/a.csv\0.csv"]
    bench.work()
    assert bench.lineage("orders", "orders/a.csv\0.csv").bronze_key == "orders/a.csv\0.csv"


def bury(bench: Bench, key: str) -> None:
    """Received so often without success that it lies in the dead-letter queue of the transform's queue."""
    bench.land(key)
    bench.services.delivery.deliver(bench.now)
    queue = bench.services.queues[bench.arn("shop_orders")]
    while not bench.depth("shop_orders_DLQ"):
        queue.receive(10, bench.now)
        with bench.journal.transaction():
            queue.hasten(bench.now)


def test_dead_messages_are_left_to_redrive_unless_bronze_has_newer_bytes(make: Make) -> None:
    bench = make(shop())
    bury(bench, "orders/a.csv")
    result = run(bench, transform="orders")
    assert (len(result["found"]), len(result["waiting"])) == (0, 1)
    bench.land("orders/a.csv", text="x\n7\n")
    bench.lose()
    result = run(bench, transform="orders")
    assert (len(result["found"]), len(result["waiting"])) == (1, 0)


def test_silver_without_bronze_is_reported_and_left(make: Make) -> None:
    bench = make(shop())
    bench.land("orders/a.csv")
    bench.work()
    bench.lake.bronze.delete("orders/a.csv")
    result = run(bench)
    assert kinds(result["orphaned"]) == {
        ("orders", "orders/a.csv", Decision.ORPHANED),
        ("every", "orders/a.csv", Decision.ORPHANED),
    }
    assert result["orphaned"][0].silver == silver_key("orders", "orders/a.csv")
    assert (result["found"], bench.depths()) == ([], {})
    assert bench.silver("orders", "orders/a.csv") is not None


def test_a_deletion_goes_through_the_whole_chain(make: Make) -> None:
    bench = make(shop("remove"))
    bench.land("orders/a.csv", "b.csv")
    bench.work()
    bench.lake.bronze.delete("orders/a.csv")
    bench.services.bucket.forget(["orders/a.csv"])
    bench.work()
    assert [bench.silver(name, "orders/a.csv") for name in ("orders", "every")] == [None, None]
    assert bench.silver("every", "b.csv") is not None
    ((version, *_), *_) = hops = bench.hops("orders/a.csv")
    assert [hop for hop in hops if hop[2] in {"deleted", "matched", "removed"}] == [
        (version, "rule", "matched"),
        (version, "bucket", "deleted"),
        (version, "rule", "matched"),
        (version, "function", "removed"),
        (version, "function", "removed"),
    ]
    with bench.opened() as target:
        story = trace("orders/a.csv", bench.pipeline, target)
    assert {part.state for part in story.transforms} == {"gone"}
    bench.land("orders/a.csv")
    bench.work()
    assert bench.silver("orders", "orders/a.csv") is not None


def test_a_deletion_reaches_no_function_of_a_pipeline_that_keeps(make: Make) -> None:
    bench = make(shop())
    bench.land("orders/a.csv")
    bench.work()
    bench.lake.bronze.delete("orders/a.csv")
    bench.services.bucket.forget(["orders/a.csv"])
    assert bench.work() == []
    assert [hop[1:] for hop in bench.hops("orders/a.csv")][-2:] == [("bucket", "deleted"), ("rule", "unmatched")]
    assert bench.silver("orders", "orders/a.csv") is not None


def test_a_deletion_whose_event_was_lost_is_found(make: Make) -> None:
    bench = make(shop("remove"))
    bench.land("orders/a.csv", "orders/b.csv")
    bench.work()
    bench.lake.bronze.delete("orders/a.csv")
    result = run(bench)
    assert kinds(result["found"]) == {
        ("orders", "orders/a.csv", Decision.DELETED),
        ("every", "orders/a.csv", Decision.DELETED),
    }
    assert len(run(bench)["waiting"]) == 2, "a message of it is in the queue"
    bench.work()
    assert [bench.silver(name, "orders/a.csv") for name in ("orders", "every")] == [None, None]
    assert run(bench) == {"found": [], "waiting": [], "orphaned": []}
    assert bench.silver("orders", "orders/b.csv") is not None


def test_reconcile_can_only_look_if_no_engine_ever_ran(make: Make) -> None:
    bench = make(shop())
    bench.land("orders/a.csv")
    bench.journal.close()
    for path in bench.folder.state.glob("journal.db*"):
        path.unlink()
    with open_lake(bench.folder, bench.pipeline, writable=True) as target:
        (looked, *_) = reconcile(bench.pipeline, target, dry_run=True)
        assert [finding.kind for finding in looked.found] == [Decision.MISSING]
        with pytest.raises(WrongCall, match="silversmith run"):
            list(reconcile(bench.pipeline, target))
    assert not bench.folder.journal.exists()


def test_a_transform_that_is_not_there(make: Make) -> None:
    bench = make(shop())
    with bench.opened() as target, pytest.raises(DefinitionError, match="it has: orders, every"):
        list(reconcile(bench.pipeline, target, transform="order"))
