"""The scheduled reconciliation where the lineage is a table: over real folders and a real table."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from silversmith import Pipeline
from silversmith.lineage import silver_key
from silversmith.reconcile.handler import PROVEN_AFTER, Reconciler, _oldest
from silversmith.reconcile.inventory import Inventories
from silversmith.reconcile.lease import Lease, lease_key
from silversmith.reconcile.rows import LineageSource
from silversmith.runtime.queue import BUSY
from tests.unit.test_difference import Bench
from tests.unit.test_reconciler import Sent, Timer


def shop() -> Pipeline:
    pipeline = Pipeline("shop", lineage=True)
    pipeline.sql("in/*", "SELECT * FROM rows", name="orders")
    return pipeline


class Cut:
    """Rows that come apart at these keys."""

    def __init__(self, rows: LineageSource, cuts: list[str]) -> None:
        self._rows, self._cuts = rows, cuts

    def between(self, transform: str, after: str, until: str, most: int) -> pl.DataFrame:
        return self._rows.between(transform, after, until, most)

    def split(self, transform: str, parts: int) -> list[str]:
        del transform, parts
        return self._cuts

    def sizes(self, state: str = "silver") -> dict[str, int]:
        return self._rows.sizes(state)


@dataclass
class Function:
    """The function over a bench."""

    bench: Bench
    now: datetime = field(default_factory=lambda: datetime.now(UTC) + timedelta(hours=2))
    queues: dict[str, Sent] = field(default_factory=lambda: {"orders": Sent(), "tables": Sent()})
    again: list[dict[str, Any]] = field(default_factory=list)
    log: list[dict[str, Any]] = field(default_factory=list)
    ages: dict[str, float] = field(default_factory=dict)
    cuts: list[str] = field(default_factory=list)
    inventories: Inventories | None = None

    def invoke(self, *, looks: int = 1_000_000, **event: Any) -> dict[str, Any]:
        self.log.clear()
        reconciler = Reconciler(
            shop(),
            bucket="dl-bronze-layer",
            lake=self.bench.lake,
            lease=lease_key("shop_Reconciler"),
            queue=self.queues.__getitem__,
            again=self.again.append,
            now=lambda: self.now,
            log=self.log.append,
            rows=lambda: Cut(self.bench.rows(), self.cuts),
            oldest=self.ages.get,
            inventories=self.inventories,
            listers=1,
        )
        names = {"silver": "dl-silver-layer", "quarantine": "dl-quarantine-layer"}
        request = {"queues": {"orders": "orders"}, "tables": "tables", "buckets": names, "round": "first", **event}
        return reconciler(request, Timer(looks))


@pytest.fixture
def function(tmp_path: Path) -> Function:
    return Function(Bench(tmp_path, shop().transforms[0]))


def make(bench: Bench, *keys: str) -> None:
    for key in keys:
        bench.land(key)
        bench.silvered(key)


def test_differing_keys_are_sent_and_no_other_is_headed(function: Function) -> None:
    bench = function.bench
    make(bench, *(f"in/{number}.csv" for number in range(9)))
    bench.follow()
    bench.land("in/3.csv", b"other")
    bench.land("in/new.csv")
    heads = bench.stores["silver"].heads
    assert function.invoke() == {"done": True}
    assert function.queues["orders"].keys == ["in/3.csv", "in/new.csv"]
    assert bench.stores["silver"].heads - heads == 2
    assert function.log == [
        {"transform": "orders", "after": "", "checked": 10, "sent": 2, "orphaned": 0, "proven": 9, "missing": 0}
    ]


def test_keys_that_the_lineage_lacks_are_sent_to_the_tables(function: Function) -> None:
    make(function.bench, "in/a.csv")
    function.invoke()
    assert function.queues["orders"].keys == []
    assert silver_key("orders", "in/a.csv") in function.queues["tables"].keys
    in_silver = ["dl-silver-layer" in body for body in function.queues["tables"].bodies]
    assert sorted(in_silver) == [False, True], "the error document is in another bucket"


def test_a_round_goes_on_range_by_range_in_further_invocations(function: Function) -> None:
    bench = function.bench
    for number in range(12):
        bench.land(f"in/{number:02}.csv")
    function.cuts = ["in/02.csv", "in/05.csv", "in/08.csv"]
    assert function.invoke(looks=0) == {"done": False}
    steps = 1
    while function.again:
        lease = Lease.from_json(bench.lake.quarantine.read(lease_key("shop_Reconciler")) or b"")
        assert lease is not None
        function.invoke(looks=0, **function.again.pop())
        steps += 1
    assert steps == 4
    assert function.queues["orders"].keys == [f"in/{number:02}.csv" for number in range(12)]


def test_silver_is_listed_once_a_week_to_prove_the_lineage(function: Function) -> None:
    make(function.bench, "in/a.csv")
    function.bench.follow()
    began = function.now
    proven = []
    for days, name in ((0, "a"), (1, "b"), (6, "c"), (PROVEN_AFTER.days, "d"), (PROVEN_AFTER.days + 1, "e")):
        function.now = began + timedelta(days=days)
        function.invoke(round=name)
        proven.append(function.log[-1].get("proven", 0))
    assert proven == [1, 0, 0, 1, 0]
    function.invoke(round="f", prove=True)
    assert function.log[-1]["proven"] == 1


def test_of_a_busy_transform_only_what_is_younger_than_its_messages_is_left_out(function: Function) -> None:
    function.bench.land("in/a.csv")
    function.queues["orders"].backlog = BUSY + 1
    function.invoke(round="nobody knows the age")
    assert function.log[-1]["skipped"] is True
    function.ages["orders"] = 4 * 3600.0
    function.invoke(round="it may be this file's message")
    assert function.queues["orders"].keys == []
    function.now += timedelta(hours=5)
    function.invoke(round="the file is older")
    assert function.queues["orders"].keys == ["in/a.csv"]


class CloudWatch:
    """Metrics that say this, or nothing."""

    def __init__(self, *values: float, error: Exception | None = None) -> None:
        self._values, self._error = values, error

    def get_metric_statistics(self, **request: Any) -> dict[str, Any]:
        assert request["Dimensions"] == [{"Name": "QueueName", "Value": "shop_orders"}]
        if self._error is not None:
            raise self._error
        return {"Datapoints": [{"Maximum": value} for value in self._values]}


def test_the_age_of_the_oldest_message_is_the_longest_of_the_last_minutes() -> None:
    url, now = "https://sqs.eu-west-1.amazonaws.com/1/shop_orders", datetime.now(UTC)
    assert _oldest(url, CloudWatch(30, 70, 50), now) == 70
    assert _oldest(url, CloudWatch(), now) is None
    assert _oldest(url, CloudWatch(error=OSError("out of reach")), now) is None
