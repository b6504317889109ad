"""OpenLineage events: what they say, through the client's own transports, and that a dead server costs no file."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws
from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import RunEvent
from openlineage.client.serde import Serde

from silversmith.aws.account import open_account
from silversmith.errors import DefinitionError
from silversmith.pipeline.deployment import Deployment
from silversmith.runtime.openlineage import Columns, LineageEvents, Place, Places, of_environment
from tests.deployed import Deployed, write

PLACES = Places.on_s3("bronze", "silver", "gold")
COLUMNS = {"id": "Int64", "total": "Float64"}
COMMITTED: dict[str, Any] = {
    "verdict": "committed", "transform": "orders", "key": "orders/a.csv", "version": "v1", "size": 17, "error": None,
    "rows_read": 3, "rows_written": 2, "stages": {"batch": 60.0, "read": 0.5, "parse": 1.0},
}  # fmt: skip
QUARANTINED = {
    **COMMITTED,
    "verdict": "quarantined",
    "error": {"code": "MissingColumn", "message": "there is no column 'total'"},
}
IN_TABLES = {
    "verdict": "in tables",
    "transform": "orders",
    "key": "orders/a.csv",
    "tables": {"sales": 4, "_lineage": 9},
}


def events(*lines: Mapping[str, Any], at: float = 1000.0, columns: Columns = lambda _: COLUMNS) -> list[dict[str, Any]]:
    """The events of some lines as JSON values."""
    sent: list[RunEvent] = []
    gathered = LineageEvents("shop", PLACES, columns, emit=sent.append)
    for line in lines:
        gathered.add(line, at)
    gathered.flush()
    assert gathered.dropped == 0
    return [Serde.to_dict(event) for event in sent]


def test_a_file_is_a_run_from_its_object_to_the_silver_of_its_transform() -> None:
    start, complete = events(COMMITTED)
    assert [each["eventType"] for each in (start, complete)] == ["START", "COMPLETE"]
    assert (start["eventTime"], complete["eventTime"]) == (
        "1970-01-01T00:16:38.500000+00:00",
        "1970-01-01T00:16:40+00:00",
    )
    assert start["run"]["runId"] == complete["run"]["runId"]
    assert (complete["job"]["namespace"], complete["job"]["name"]) == ("silversmith", "shop.orders")
    (source,), (made,) = complete["inputs"], complete["outputs"]
    assert (source["namespace"], source["name"]) == ("s3://bronze", "orders/a.csv")
    assert source["facets"]["version"]["datasetVersion"] == "v1"
    assert (source["inputFacets"]["inputStatistics"]["rowCount"], source["inputFacets"]["inputStatistics"]["size"]) == (
        3,
        17,
    )
    assert (made["namespace"], made["name"]) == ("s3://silver", "orders")
    assert {each["name"]: each["type"] for each in made["facets"]["schema"]["fields"]} == COLUMNS
    assert made["outputFacets"]["outputStatistics"]["rowCount"] == 2


@pytest.mark.parametrize("verdict", ["quarantined", "failed"])
def test_what_does_not_become_silver_is_a_failure_with_its_error(verdict: str) -> None:
    start, fail = events({**QUARANTINED, "verdict": verdict})
    assert (start["eventType"], fail["eventType"], fail.get("outputs")) == ("START", "FAIL", [])
    assert fail["run"]["facets"]["errorMessage"]["message"] == "MissingColumn: there is no column 'total'"
    assert fail["inputs"][0]["name"] == "orders/a.csv"


def test_a_try_is_a_run_of_its_own_and_nothing_to_do_is_none() -> None:
    runs = {each["run"]["runId"] for at in (1.0, 2.0) for each in events({**QUARANTINED, "verdict": "failed"}, at=at)}
    assert len(runs) == 2
    assert events(COMMITTED) == events(COMMITTED)
    for verdict in ("duplicate", "gone", "marker", "archived", "removed", "dropped"):
        assert events({**COMMITTED, "verdict": verdict}) == []
    assert events({"verdict": "failed", "key": "", "error": {"code": "NotAnEvent"}}) == []


def test_tables_are_made_of_silver_once_for_a_batch() -> None:
    later = {**IN_TABLES, "key": "orders/b.csv", "tables": {"sales": 5}}
    lineage, _, sales, complete = sorted(events(IN_TABLES, later), key=lambda event: event["job"]["name"])
    assert lineage["job"]["name"] == "shop._lineage"
    assert sales["job"]["name"] == "shop.sales"
    ((source,), (made,)) = complete["inputs"], complete["outputs"]
    assert (source["namespace"], source["name"]) == ("s3://silver", "orders")
    assert (made["namespace"], made["name"], made["facets"]["version"]["datasetVersion"]) == ("s3://gold", "sales", "5")


@given(st.text(), st.text(), st.text())
def test_any_key_column_or_message_is_an_event(key: str, column: str, message: str) -> None:
    line = {**QUARANTINED, "key": f"{key}\udcff", "error": {"code": "X", "message": f"{message}\ud800"}}
    for event in events(line, COMMITTED, columns=lambda _: {f"{column}\udc80": "Int64"}):
        json.dumps(event).encode()
        assert str(event).encode()


def test_a_folder_is_none_of_s3() -> None:
    assert Place("file", "/lake/bronze/").name("orders/a.csv") == "/lake/bronze/orders/a.csv"


def test_a_server_that_fails_is_left_alone_for_a_while(caplog: pytest.LogCaptureFixture) -> None:
    now, tries = [0.0], []

    def fail(event: RunEvent) -> None:
        tries.append(event)
        raise ConnectionError("http://secret@host refused")

    gathered = LineageEvents("shop", PLACES, emit=fail, clock=lambda: now[0])
    with caplog.at_level(logging.WARNING):
        for at in (0.0, 10.0, 59.0):
            now[0] = at
            gathered.add(COMMITTED, 1.0)
            gathered.flush()
    assert (len(tries), gathered.dropped) == (1, 3)
    assert [record.message for record in caplog.records] == [
        "for 60 seconds no OpenLineage events are sent: ConnectionError; 1 runs were not sent so far"
    ]
    now[0] = 60.0
    gathered.add(COMMITTED, 1.0)
    gathered.flush()
    assert len(tries) == 2


def test_a_server_that_hangs_costs_the_time_that_there_is() -> None:
    gone_on, called = threading.Event(), []

    def hang(event: RunEvent) -> None:
        called.append(event)
        gone_on.wait(60)

    gathered = LineageEvents("shop", PLACES, emit=hang, clock=lambda: 0.0)
    for budget in (0.01, -5.0):
        gathered.add(COMMITTED, 1.0)
        gathered.flush(budget)
    assert (len(called), gathered.dropped) == (1, 1)
    gone_on.set()


def test_it_is_off_unless_it_is_switched_on() -> None:
    assert of_environment({}, "shop", PLACES) is None
    assert of_environment({"SILVERSMITH_OPENLINEAGE": "on"}, "shop", PLACES) is not None
    with pytest.raises(DefinitionError, match="without a secret"):
        Deployment(openlineage="https://user:word@lineage.example.com")
    assert Deployment(openlineage="https://lineage.example.com/api", requirements=("x",)).packages == (
        "x",
        "openlineage-python",
    )


def file_transport(folder: Path) -> Path:
    """A configuration of the client that writes into a file of this folder."""
    path = folder / "openlineage.yml"
    path.write_text(f"transport:\n  type: file\n  append: true\n  log_file_path: {folder / 'events.jsonl'}\n")
    return path


def written(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Deployed]:
    with mock_aws():
        account = open_account(boto3.session.Session("id", "secret", region_name="eu-central-1"))
        yield Deployed(write(tmp_path), account, Deployment(openlineage="https://lineage.example.com"))


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def configure(transport: str) -> None:
        path = file_transport(tmp_path)
        if transport != "file":
            path.write_text(transport)
        monkeypatch.setenv("OPENLINEAGE_CONFIG", str(path))
        monkeypatch.delenv("OPENLINEAGE_URL", raising=False)

    return configure


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_deployed_function_sends_events(shop: Deployed, configured: Callable[[str], None], tmp_path: Path) -> None:
    configured("file")
    assert shop.environment("orders")["OPENLINEAGE_URL"] == "https://lineage.example.com"
    shop.land("orders/a.csv")
    assert shop.work("orders") == 1
    start, complete = written(tmp_path)
    assert (start["eventType"], complete["eventType"]) == ("START", "COMPLETE")
    assert complete["inputs"][0]["namespace"] == f"s3://{shop.buckets['bronze']}"
    assert [each["name"] for each in complete["outputs"][0]["facets"]["schema"]["fields"]] == ["id", "total"]


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "transport",
    ["transport: {type: http, url: http://127.0.0.1:9, retry: {total: 0}}", "transport: {type: nonsense}"],
)
def test_a_server_that_is_down_fails_no_file(
    shop: Deployed, configured: Callable[[str], None], transport: str, caplog: pytest.LogCaptureFixture
) -> None:
    configured(transport)
    shop.land("orders/a.csv")
    assert shop.work("orders") == 1
    assert shop.silver("orders/orders/a.csv.parquet")
    assert "no OpenLineage events are sent" in caplog.text


PIPELINE = """
from silversmith import Pipeline

pipeline = Pipeline("shop")

@pipeline.transform("orders/*.csv")
def orders(rows):
    return rows

pipeline.table("sales", of="orders")
"""


@pytest.mark.full
def test_a_run_sends_events_of_files_and_tables(tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    for name, text in {"a.csv": "id\n1\n", "b.json": "{"}.items():
        path = tmp_path / "lake/dl-bronze-layer/orders" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    ended = subprocess.run(
        [sys.executable, "-m", "silversmith.cli", "run", "--until-idle", "--workers", "1", "--openlineage"],
        cwd=tmp_path, env={**os.environ, "OPENLINEAGE_CONFIG": str(file_transport(tmp_path))},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    jobs = {(each["job"]["name"], each["eventType"]): each for each in written(tmp_path)}
    assert set(jobs) == {(f"shop.{name}", kind) for name in ("orders", "sales") for kind in ("START", "COMPLETE")}
    orders, sales = jobs["shop.orders", "COMPLETE"], jobs["shop.sales", "COMPLETE"]
    bronze = f"{tmp_path.resolve()}/lake/dl-bronze-layer/orders/a.csv"
    assert (orders["inputs"][0]["namespace"], orders["inputs"][0]["name"]) == ("file", bronze)
    assert orders["outputs"][0]["name"] == sales["inputs"][0]["name"]
    assert sales["outputs"][0]["name"] == f"{tmp_path.resolve()}/lake/dl-gold-layer/sales"


def test_the_client_takes_our_events(tmp_path: Path) -> None:
    client = OpenLineageClient(
        config={"transport": {"type": "file", "append": True, "log_file_path": str(tmp_path / "events.jsonl")}}
    )
    gathered = LineageEvents("shop", PLACES, emit=client.emit)
    gathered.add(COMMITTED, 1.0)
    gathered.flush()
    assert [each["eventType"] for each in written(tmp_path)] == ["START", "COMPLETE"]
