"""Everything that can fail is tried again: files in quarantine, and messages in every kind of dead-letter queue."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith import Contract, DefinitionError, Pipeline
from silversmith.local.services import ServiceMessage
from silversmith.operations.local import JournalUnreadable
from silversmith.operations.send import Failure, FailureSelection, RedriveBatch, redrive
from silversmith.patterns import KeyPattern
from silversmith.stores import Lake
from silversmith.stores.local import LocalStore
from silversmith.tables.lineage import follow

if TYPE_CHECKING:
    from tests.unit.conftest import Bench

    Make = Callable[[Pipeline], Bench]


def shop(bug: str = "") -> Pipeline:
    """A pipeline of which one transform is broken, and its contract strict, as long as there is a bug."""
    pipeline = Pipeline("shop")
    column = "missing" if bug else "x"

    @pipeline.transform("orders/*.csv", contract=Contract(schema={column: pl.Int64}))
    def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows

    @pipeline.transform("buggy/*.csv", max_receive_count=3)
    def buggy(rows: pl.LazyFrame) -> pl.LazyFrame:
        if bug:
            raise RuntimeError(bug)
        return rows

    return pipeline


def run(bench: Bench, chosen: FailureSelection | None = None, **options: object) -> tuple[list[Failure], int]:
    with bench.opened() as target:
        batches: list[RedriveBatch] = list(redrive(bench.pipeline, target, chosen or FailureSelection(), **options))  # type: ignore[arg-type]
    return [failed for batch in batches for failed in batch.failures], sum(batch.sent for batch in batches)


def bury(bench: Bench, key: str, *, sender: str, source: str, queue: str) -> None:
    """A file lands, and its event is given up on by ``source`` before any queue has it."""
    bench.land(key)
    (messages,) = [ServiceMessage(*row) for row in bench.journal.rows("due", now=bench.now, most=99) if row[3] == key]
    bench.lose(f"id = {messages.id}")
    dead = bench.services.queues[bench.arn(queue)]
    with bench.journal.transaction():
        dead.accept_dead(messages._replace(source=sender), bench.now, source=source, reason="a test said so")
    assert bench.depth(queue)


def bury_by_subscription(bench: Bench, key: str) -> None:
    source = next(actual for actual in bench.stack.subscriptions if "orders" in actual.queue_arn)
    bury(bench, key, sender=source.topic_arn, source=source.arn, queue="shop_orders_SubscriptionDLQ")


def bury_by_rule(bench: Bench, key: str) -> None:
    rule = bench.stack.rules[0].arn
    bury(bench, key, sender=rule, source=rule, queue="shop_RuleDLQ")


def test_a_file_in_quarantine_is_tried_again_when_the_code_is_corrected(make: Make) -> None:
    bench = make(shop("a bug"))
    bench.land("orders/a.csv")
    bench.work()
    document = bench.lake.quarantine.read("orders/orders/a.csv.error.json")
    assert document is not None
    bench.use(shop())
    (failed,), sent = run(bench)
    assert (failed.where, failed.transform, failed.key, failed.code) == (
        "quarantine",
        "orders",
        "orders/a.csv",
        "MissingColumn",
    )
    assert (sent, bench.depths()) == (1, {"shop_orders": 1})
    bench.work()
    assert bench.silver("orders", "orders/a.csv") is not None
    assert bench.lake.quarantine.read("orders/orders/a.csv.error.json") is None
    hops = bench.hops("orders/a.csv")
    assert ("operations", "redriven") in [(room, what) for _, room, what in hops]
    assert len({version for version, _, _ in hops}) == 1


def test_dead_messages_of_a_queue_go_back_as_new(make: Make) -> None:
    bench = make(shop("a bug"))
    bench.land("buggy/a.csv")
    bench.work()
    assert bench.depths() == {"shop_buggy_DLQ": 1}
    bench.now += 3600
    (failed,), sent = run(bench)
    assert (failed.where, failed.transform, failed.code, failed.lost) == ("queue", "buggy", "TransformError", False)
    assert (sent, bench.depths()) == (1, {"shop_buggy": 1})
    (message,) = bench.services.queues[bench.arn("shop_buggy")].receive(10, bench.now)
    assert (message.receives, message.sent, message.first_received) == (1, bench.now, bench.now)


def test_files_that_still_fail_are_dead_again_after_as_many_tries(make: Make) -> None:
    bench = make(shop("a bug"))
    bench.land("buggy/a.csv")
    first = bench.work()
    run(bench)
    assert len(bench.work()) == len(first) == 3
    assert bench.depths() == {"shop_buggy_DLQ": 1}


def test_dead_messages_of_a_subscription_go_to_the_transforms_queue(make: Make) -> None:
    bench = make(shop())
    bury_by_subscription(bench, "orders/a.csv")
    (failed,), sent = run(bench)
    assert (failed.where, failed.transform, sent) == ("subscription", "orders", 1)
    assert bench.depths() == {"shop_orders": 1}
    bench.work()
    assert bench.silver("orders", "orders/a.csv") is not None


def test_dead_events_of_a_rule_go_to_the_bus_and_every_hop_is_in_one_trace(make: Make) -> None:
    bench = make(shop())
    bury_by_rule(bench, "orders/a.csv")
    (failed,), sent = run(bench)
    assert (failed.where, failed.transform, sent, bench.depths()) == ("rule", None, 1, {})
    bench.work()
    assert bench.silver("orders", "orders/a.csv") is not None
    hops = bench.hops("orders/a.csv")
    assert len({version for version, _, _ in hops}) == 1
    assert [(room, what) for _, room, what in hops] == [
        ("bucket", "created"),
        ("queue", "dead"),
        ("operations", "redriven"),
        ("rule", "matched"),
        ("topic", "published"),
        ("queue", "queued"),
        ("function", "committed"),
    ]


def test_a_message_is_moved_once_however_often_it_is_asked_for(make: Make) -> None:
    bench = make(shop())
    bury_by_subscription(bench, "orders/a.csv")
    bury_by_rule(bench, "orders/b.csv")
    with bench.opened() as target:
        dead = list(target.dead())
        assert [target.redrive(dead), target.redrive(dead), target.redrive([*dead, *dead])] == [2, 0, 0]
    bench.work()
    assert sorted(bench.depths()) == []


def test_all_messages_of_a_batch_are_moved_or_none(make: Make) -> None:
    bench = make(shop())
    bury_by_subscription(bench, "orders/a.csv")
    bury_by_rule(bench, "orders/b.csv")
    with bench.opened() as target:
        dead = list(target.dead())
        with pytest.raises(AttributeError):
            target.redrive([*dead, None])  # type: ignore[list-item]
    assert bench.depths() == {"shop_orders_SubscriptionDLQ": 1, "shop_RuleDLQ": 1}


def test_a_lake_that_is_opened_to_look_takes_no_message(make: Make) -> None:
    bench = make(shop())
    bury_by_rule(bench, "orders/b.csv")
    with pytest.raises(JournalUnreadable, match="readonly"), bench.opened(writable=False) as target:
        list(redrive(bench.pipeline, target, FailureSelection()))
    assert bench.depths() == {"shop_RuleDLQ": 1}


def test_a_dry_run_only_tells(make: Make) -> None:
    bench = make(shop("a bug"))
    bench.land("orders/a.csv", "buggy/a.csv")
    bench.work()
    bury_by_rule(bench, "orders/b.csv")
    before = bench.depths()
    with bench.opened(writable=False) as target:
        (batch,) = redrive(bench.pipeline, target, FailureSelection(), dry_run=True)
    assert ([failed.where for failed in batch.failures], batch.sent) == (["quarantine", "rule", "queue"], 0)
    assert bench.depths() == before


def where(bench: Bench, **options: object) -> list[tuple[str, str]]:
    """The failures that would be tried again."""
    most = options.pop("most", None)
    with bench.opened(writable=False) as target:
        chosen = FailureSelection(**options)  # type: ignore[arg-type]
        batches = list(redrive(bench.pipeline, target, chosen, most=most, dry_run=True))  # type: ignore[arg-type]
    return [(failed.where, failed.key) for batch in batches for failed in batch.failures]


def test_filters(make: Make) -> None:
    bench = make(shop("a bug"))
    bench.land("orders/a.csv", "buggy/a.csv")
    bench.work()
    bench.now += 100
    bury_by_rule(bench, "orders/b.csv")
    bury_by_subscription(bench, "orders/c.csv")
    quarantined, buggy = ("quarantine", "orders/a.csv"), ("queue", "buggy/a.csv")
    rule, subscription = ("rule", "orders/b.csv"), ("subscription", "orders/c.csv")

    assert sorted(where(bench)) == sorted([quarantined, buggy, rule, subscription])
    assert sorted(where(bench, transform="orders")) == sorted([quarantined, rule, subscription])
    assert where(bench, transform="buggy") == [buggy]
    assert where(bench, pattern=KeyPattern.parse("*/b*")) == [rule]
    assert sorted(where(bench, pattern=KeyPattern.parse("*/a.csv"))) == sorted([quarantined, buggy])
    assert where(bench, error="missingcolumn") == [quarantined]
    assert where(bench, error="TransformError") == [buggy]
    assert where(bench, error="Missing") == []
    assert sorted(where(bench, since=bench.now)) == sorted([rule, subscription])
    assert sorted(where(bench, until=bench.now)) == sorted([quarantined, buggy])
    assert where(bench, since=bench.now + 1) == []
    assert len(where(bench, most=3)) == 3
    with pytest.raises(DefinitionError, match="it has: orders, buggy"):
        where(bench, transform="other")


def test_dead_messages_of_removed_transforms_are_reported_as_lost(make: Make) -> None:
    bench = make(shop("a bug"))
    bench.land("orders/a.csv", "buggy/a.csv")
    bench.work()
    smaller = Pipeline("shop")
    smaller.transform("*.csv", name="every")(lambda rows: rows)
    bench.use(smaller)
    failed, sent = run(bench)
    assert ([item.where for item in failed], [item.lost for item in failed], sent) == (
        ["quarantine", "unknown"],
        [True, True],
        0,
    )


def test_a_hundred_and_more_are_sent_in_batches(make: Make) -> None:
    bench = make(shop("a bug"))
    bench.land(*(f"orders/{number:03}.csv" for number in range(130)))
    bench.work()
    with bench.opened() as target:
        assert [batch.sent for batch in redrive(bench.pipeline, target, FailureSelection())] == [100, 30]
    assert bench.depths() == {"shop_orders": 130}


times = st.none() | st.floats(0, 10)


@given(times, times, times)
def test_a_failure_fits_a_range_of_time_half_open(at: float | None, since: float | None, until: float | None) -> None:
    fits = FailureSelection(since=since, until=until).fits("k", "", at)
    if since is None and until is None:
        assert fits
    elif at is None:
        assert not fits
    else:
        assert fits == ((since is None or at >= since) and (until is None or at < until))


class Unread(LocalStore):
    """A bucket that counts what is read."""

    reads = 0

    def read(self, key: str) -> bytes | None:
        self.reads += 1
        return super().read(key)


def test_documents_that_the_lineage_speaks_of_are_not_read(make: Make) -> None:
    """A row counts only if it is of the very document."""
    pipeline = shop("a bug")
    pipeline.lineage = True
    bench = make(pipeline)
    long = f"orders/{'/'.join(['x' * 200] * 5)}.csv"
    bench.land("orders/a.csv", "orders/b.csv", "orders/c.csv", long)
    bench.work()
    quarantine = bench.lake.quarantine
    keys = [head.key for head in quarantine.list()]
    with bench.opened() as target:
        follow(["orders"], keys, silver=bench.lake.silver, quarantine=quarantine, gold=target.gold)
        before, sent = run(bench)
        newer = json.loads(quarantine.read("orders/orders/b.csv.error.json") or b"")
        newer["error"]["code"] = "Newer"
        quarantine.put("orders/orders/b.csv.error.json", json.dumps(newer).encode())
        quarantine.delete("orders/orders/c.csv.error.json")
        counting = Unread(
            bench.folder.bucket("dl-quarantine-layer"),
            scratch=bench.folder.scratch,
            locks=bench.folder.scratch,
            foreign_writers=False,
        )
        target.lake = Lake(target.lake.bronze, target.lake.silver, counting)
        (batch,) = redrive(bench.pipeline, target, FailureSelection(), dry_run=True)
    assert [failure.code for failure in before] == ["MissingColumn"] * 4
    assert sent == 4
    codes = {failure.key: failure.code for failure in batch.failures}
    assert codes == {"orders/a.csv": "MissingColumn", "orders/b.csv": "Newer", long: "MissingColumn"}
    assert counting.reads == 2, "the newer one, and the one whose name does not tell its key"
    unchanged = {each.key: each for each in before}
    (failure,) = [each for each in batch.failures if each.key == "orders/a.csv"]
    assert failure == unchanged["orders/a.csv"]


def test_the_code_is_asked_for_where_it_is_shown_or_selected(make: Make) -> None:
    bench = make(shop("a bug"))
    bench.land("buggy/a.csv", "buggy/b.csv")
    bench.work()
    with bench.opened() as target:
        dead = list(target.dead())
    assert all(message.error for message in dead), "a journal knows it anyway"
    assert len(run(bench, FailureSelection(error="transformerror"), dry_run=True, named=0)[0]) == 2
    assert run(bench, FailureSelection(error="Other"), dry_run=True)[0] == []
