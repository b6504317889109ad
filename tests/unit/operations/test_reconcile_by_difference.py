"""``reconcile`` where the lineage is a table: on a lake with its engine's tables, and the plan of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from silversmith.lineage import Decision
from silversmith.operations import WrongCall
from silversmith.operations.aws import AwsTarget
from silversmith.operations.doctor import tables_check
from silversmith.operations.local import LocalTarget, open_lake
from silversmith.operations.reconcile import plan, reconcile
from silversmith.operations.reports import trace
from silversmith.operations.send import Place
from silversmith.pipeline import Pipeline, load
from tests.engine.conftest import Bench
from tests.engine.test_resending import command

DEFINITION = """
pipeline = Pipeline("shop", lineage=True)

@pipeline.transform("orders/*.csv")
def orders(rows):
    return rows
"""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    bench.define(DEFINITION)
    for number in range(3):
        bench.drop(f"orders/{number}.csv", "id\n1\n")
    bench.run()
    return bench


@contextmanager
def opened(bench: Bench) -> Iterator[tuple[Pipeline, LocalTarget]]:
    pipeline = load(str(bench.pipeline))
    with open_lake(bench.lake, pipeline, writable=True) as target:
        yield pipeline, target


@pytest.mark.full
def test_a_trace_shows_the_row_of_the_lineage(bench: Bench) -> None:
    bench.drop("orders/bad.csv", "id,id\n1,2\n")
    bench.run()
    with opened(bench) as (pipeline, target):
        (part,) = trace("orders/1.csv", pipeline, target).transforms
        (row,) = part.lineage
        silver = part.silver
        assert silver is not None
        assert silver.lineage is not None
        assert (row.about, row.state, row.etag, row.rows_written) == ("silver", "current", silver.etag, 1)
        assert datetime.fromisoformat(row.committed_at or "") == datetime.fromisoformat(silver.lineage.committed_at)
        (part,) = trace("orders/bad.csv", pipeline, target).transforms
        (row,) = part.lineage
        assert part.error is not None
        assert (row.about, row.state, row.error) == ("quarantined", "current", part.error.code)
        target.lake.silver.delete(silver.key)
        (part,) = trace("orders/1.csv", pipeline, target).transforms
        assert [row.state for row in part.lineage] == ["old"]
    document = command(bench, "trace", "orders/0.csv")
    assert [row["about"] for row in document["transforms"][0]["lineage"]] == ["silver"]


def test_a_lake_is_compared_with_its_lineage(bench: Bench) -> None:
    bench.drop("orders/1.csv", "id\n2\n")
    bench.drop("orders/3.csv", "id\n2\n")
    with opened(bench) as (pipeline, target):
        assert target.rows() is not None
        (whole,) = reconcile(pipeline, target, dry_run=True)
        assert [(each.key, each.kind) for each in whole.found] == [
            ("orders/1.csv", Decision.STALE),
            ("orders/3.csv", Decision.MISSING),
        ]
        assert (whole.checked, whole.behind) == (4, 0)
        (rest,) = reconcile(pipeline, target, after=Place("orders", "orders/1.csv"), dry_run=True)
        assert [each.key for each in rest.found] == ["orders/3.csv"]
        (sent,) = reconcile(pipeline, target)
        (again,) = reconcile(pipeline, target)
        assert (len(sent.found), len(again.found), len(again.waiting)) == (2, 0, 2)


def test_the_plan_says_what_it_takes_before_it_begins(bench: Bench) -> None:
    with opened(bench) as (pipeline, target):
        (plain,) = plan(pipeline, target)
        assert (plain.files, plain.lists, plain.heads) == (3, 1, 0)
        assert plain.dollars == pytest.approx(5e-6)
        (proven,) = plan(pipeline, target, prove=True)
        assert proven.lists == 2


def test_without_a_lineage_nobody_knows_how_many_files_there_are(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.define(DEFINITION.replace(", lineage=True", ""))
    bench.drop("orders/1.csv", "id\n1\n")
    bench.run()
    with opened(bench) as (pipeline, target):
        assert target.rows() is None
        assert [each.files for each in plan(pipeline, target)] == [None]


class Clients:
    """Clients of a schedule and of Lambda that remember."""

    def __init__(self, schedule: dict[str, Any]) -> None:
        self.schedule = schedule
        self.invoked: list[tuple[str, dict[str, Any]]] = []

    def get_schedule(self, **names: str) -> dict[str, Any]:
        assert names == {"Name": "shop_Reconciler", "GroupName": "shop_Schedules"}
        return {"Target": {"Input": json.dumps(self.schedule)}}

    def invoke(self, **request: Any) -> None:
        assert request["InvocationType"] == "Event"
        self.invoked.append((request["FunctionName"], json.loads(request["Payload"])))


class Session:
    """An account whose clients are these."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def client(self, service: str) -> Any:
        assert service in {"scheduler", "lambda"}
        return self._clients


def deployed(clients: Clients, **outputs: str) -> AwsTarget:
    pipeline: Any = None
    account: Any = Session(clients)
    return AwsTarget(pipeline, outputs, account, name="shop")


def test_a_round_is_begun_there_with_the_input_of_the_schedule() -> None:
    clients = Clients({"queues": {"orders": "url"}, "round": "<aws.scheduler.schedule-arn>", "changed": False})
    target = deployed(clients, ReconcilerName="shop_Reconciler")
    assert target.begin_round(changed=True, prove=False) == "shop_Reconciler"
    event = {"queues": {"orders": "url"}, "changed": True, "prove": False, "follow": True}
    assert clients.invoked == [("shop_Reconciler", event)]


def test_a_stack_without_a_reconciler_begins_no_round() -> None:
    with pytest.raises(WrongCall, match="without --there"):
        deployed(Clients({})).begin_round(changed=False, prove=False)


def test_the_log_says_how_many_files_are_in_quarantine(bench: Bench) -> None:
    """Nobody lists quarantine for that."""
    bench.define(DEFINITION.replace('"orders/*.csv")', '"orders/*.csv", contract=Contract(schema={"id": pl.Int64}))'))
    bench.drop("orders/bad.csv", "other\n1\n")
    bench.run()
    with opened(bench) as (_, target):
        rows = target.rows()
        assert rows is not None
        assert (rows.sizes(), rows.sizes("quarantined")) == ({"orders": 3}, {"orders": 1})


def test_the_lineage_alone_is_no_table_for_the_doctor(bench: Bench) -> None:
    with opened(bench) as (pipeline, target):
        assert tables_check(pipeline, target) == []
