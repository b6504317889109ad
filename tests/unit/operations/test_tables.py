"""Files on their way from silver into tables: counted, dead, sent again."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

import polars as pl
import pytest

from silversmith import Pipeline
from silversmith.events import ObjectEvent, object_created, unwrap
from silversmith.local.services import ServiceMessage
from silversmith.operations.failures import Query, failures
from silversmith.operations.reconcile import reconcile_tables
from silversmith.operations.reports import status
from silversmith.operations.send import FailureSelection, redrive
from silversmith.operations.target import DeadKind
from tests.unit.tables.kit import lineage

if TYPE_CHECKING:
    from tests.unit.conftest import Bench

KEY, SILVER_KEY = "orders/a.csv", "orders/orders/a.csv.parquet"


@pytest.fixture
def bench(make: Callable[[Pipeline], Bench]) -> Bench:
    pipeline = Pipeline("shop")

    @pipeline.transform("orders/*.csv")
    def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows

    pipeline.table("orders", of=orders)
    return make(pipeline)


def bury(bench: Bench, *, source: str, sender: str, queue: str) -> None:
    """An event of silver is given up on by ``source``."""
    body = object_created(ObjectEvent(bench.pipeline.silver, SILVER_KEY), reason="reconcile")
    dead = bench.services.queues[bench.arn(queue)]
    with bench.journal.transaction():
        dead.accept_dead(
            ServiceMessage("", sender, "", KEY, "", body, bench.now), bench.now, source=source, reason="a test said so"
        )


def test_keys_that_a_table_lacks_are_sent_to_its_queue(bench: Bench) -> None:
    from silversmith.formats.writer import parquet_bytes

    frame = pl.DataFrame({"x": [1]})
    bench.lake.silver.put(SILVER_KEY, parquet_bytes(frame, lineage(KEY, "orders", 1).to_json()))
    with bench.opened() as target:
        for dry_run, sent, depth in ((True, 0, 0), (False, 1, 1), (False, 0, 1)):  # the third finds the message
            (batch,) = reconcile_tables(bench.pipeline, target, dry_run=dry_run)
            assert (batch.table, batch.keys, batch.sent) == ("orders", [SILVER_KEY], sent)
            assert bench.depth("shop_Tables") == depth
        assert ("operations", "reconcile", "reconciled") in {
            (hop.room, hop.name, hop.what) for hop in target.hops(KEY, 9)
        }
        assert target.hops(SILVER_KEY, 9) == [], "one trace: that of the bronze key"
        queue = status(bench.pipeline, target, now=bench.now).tables_queue
        assert queue is not None
        assert (queue.waiting, queue.dead) == (1, 0)


@pytest.mark.parametrize("kind", [DeadKind.QUEUE, DeadKind.SUBSCRIPTION, DeadKind.RULE])
def test_dead_messages_of_tables_are_reported_and_tried_again(bench: Bench, kind: DeadKind) -> None:
    tables = bench.arn("shop_Tables")
    rule = next(rule for rule in bench.stack.rules if "Silver" in rule.name).arn
    subscription = next(item for item in bench.stack.subscriptions if item.queue_arn == tables)
    source, sender, queue = {
        DeadKind.QUEUE: (tables, tables, "shop_TablesDLQ"),
        DeadKind.SUBSCRIPTION: (subscription.arn, subscription.topic_arn, "shop_TablesSubscriptionDLQ"),
        DeadKind.RULE: (rule, rule, "shop_SilverRuleDLQ"),
    }[kind]
    bury(bench, source=source, sender=sender, queue=queue)
    with bench.opened() as target:
        (message,) = failures(bench.pipeline, target, Query(), now=bench.now).dead
        assert (message.kind, message.tables, message.transform, message.key) == (kind, True, "orders", KEY)
        (batch,) = redrive(bench.pipeline, target, FailureSelection())
        assert batch.sent == 1
        assert list(target.dead()) == []
    bench.services.delivery.deliver(bench.now)
    assert bench.depth("shop_Tables") == 1
    (body,) = bodies(bench)
    assert [event.key for event in unwrap(body)] == [SILVER_KEY]


def bodies(bench: Bench) -> list[bytes]:
    with closing(sqlite3.connect(bench.folder.journal)) as connection:
        return [body for (body,) in connection.execute("SELECT body FROM messages")]
