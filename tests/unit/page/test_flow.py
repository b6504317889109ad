"""The numbers of the picture."""

from __future__ import annotations

from dataclasses import replace

from silversmith.operations.reports import ChainStatus, Status, TablesQueue, TransformStatus
from silversmith.operations.tables import TableReport
from silversmith.page.overview import dead_letters, flow

ORDERS = TransformStatus(
    "orders", "*", 1200, 2, 90.0, 5, 1, 3000, 0, 0, 70_000, 4, 6,
    dead_letters={"shop_orders_DLQ": 3, "shop_orders_SubscriptionDLQ": 2},
)  # fmt: skip
HERE = Status("shop", "lake", True, True, {}, ChainStatus(5000, 4000, 3, 2000, 0, 7, 1), [ORDERS])

ON_AWS = replace(
    HERE,
    ran=False,
    chain=ChainStatus(None, None, None, None, None, None, 0),
    transforms=[replace(ORDERS, oldest_seconds=None, done=None, rows=None, rejected=None, retried=None)],
)


RATES = {"bucket.created": 10.0, "transform.orders.committed": 1.5}


def test_the_counters_of_the_flow() -> None:
    shown = flow(HERE, RATES)
    expected = {
        "engine": "the engine runs", "bucket.created": "5,000", "bucket.rate": "10/s", "rule.dead": "1",
        "topic.way": "7", "orders.waiting": "1,200", "orders.oldest": "90 s", "orders.dead": "3",
        "orders.undelivered": "2", "orders.rate": "1.5/s", "orders.rows": "70,000", "orders.quarantined": "1",
    }  # fmt: skip
    assert {name: shown.values[name] for name in expected} == expected
    assert shown.marks["rule.bad"]
    assert shown.marks["bucket.busy"]
    assert not shown.marks["rule.busy"]
    assert not shown.marks["topic.bad"]


def test_unknown_numbers_are_a_dash() -> None:
    values = flow(ON_AWS, {}).values
    dashes = {name for name, value in values.items() if value == "-"}
    assert dashes == {
        "bucket.created", "bucket.rate", "rule.unmatched", "rule.rate", "topic.published", "topic.rate", "topic.way",
        "topic.dropped", "orders.oldest", "orders.done", "orders.rate", "orders.rows", "orders.retried",
        "orders.rejected",
    }  # fmt: skip
    assert values["engine"] == "deployed"


def test_the_way_goes_on_to_gold() -> None:
    queue = TablesQueue(7, 1, 3.0, 5, {"shop_TablesDLQ": 3, "shop_TablesSubscriptionDLQ": 2})
    tables = [TableReport(name, "table", ["orders"], "there", None, rows=40, version=3) for name in ("a", "b")]
    shown = flow(replace(HERE, tables=tables, tables_queue=queue), RATES)
    values = {name: value for name, value in shown.values.items() if name.startswith("@gold")}
    assert values == {
        "@gold.waiting": "7", "@gold.flight": "1", "@gold.oldest": "3.0 s", "@gold.undelivered": "2", "@gold.dead": "3",
        "@gold.rows": "80", "@gold.versions": "6",
    }  # fmt: skip
    assert shown.marks["@gold.dead"]
    assert not any(name.startswith("@gold") for name in flow(HERE, RATES).values), "without tables there is none"


def test_dead_letters_are_counted_by_queue() -> None:
    assert dead_letters(ORDERS) == (2, 3)
    assert dead_letters(replace(ORDERS, dead=0, dead_letters={})) == (0, 0)
