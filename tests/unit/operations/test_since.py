"""``since`` in every command, over a stack on moto and over a lake."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from silversmith.aws.account import Account, open_account
from silversmith.cli.application import call
from silversmith.function.handler import build
from silversmith.keypatterns import KeyPattern
from silversmith.lineage import Decision
from silversmith.operations.pace import Certainty, count_changed, count_replay
from silversmith.operations.reconcile import reconcile
from silversmith.operations.reports import status, trace
from silversmith.operations.send import Range, replay
from tests.deployed import Deployed, write

#: Moto leaves files open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

SHOP = """
from silversmith import Pipeline

pipeline = Pipeline("shop")

@pipeline.transform("orders/*.csv", since={since!r})
def orders(rows):
    return rows
"""

LATER, EARLIER = "2199-01-01", "2000-01-01"


@pytest.fixture
def account() -> Iterator[Account]:
    with mock_aws():
        yield open_account(boto3.session.Session("some", "thing", region_name="eu-central-1"))


@pytest.mark.parametrize(("since", "made"), [(LATER, 0), (EARLIER, 1), (None, 1)])
def test_a_deployed_function_leaves_files_alone_that_landed_before(
    account: Account, tmp_path: Path, since: str | None, made: int
) -> None:
    deployed = Deployed(write(tmp_path, SHOP.format(since=since)), account)
    deployed.land("orders/1.csv")
    assert deployed.work("orders") == 1
    silver = deployed.s3.list_objects_v2(Bucket=deployed.buckets["silver"], Prefix="orders/")
    assert silver["KeyCount"] == made


def test_commands_say_so_and_the_key_of_a_file_has_it_made(account: Account, tmp_path: Path) -> None:
    deployed = Deployed(write(tmp_path, SHOP.format(since=LATER)), account)
    deployed.land("orders/1.csv", tell=False)
    with deployed.opened() as (pipeline, target):
        assert pipeline.find("orders").since == "2199-01-01T00:00:00+00:00"
        (batch,) = reconcile(pipeline, target)
        assert (batch.found, [each.kind for each in batch.before_since]) == ([], [Decision.BEFORE_SINCE])
        (part,) = trace("orders/1.csv", pipeline, target).transforms
        assert part.state == "before since"
        assert status(pipeline, target, now=0, silver=True).transforms[0].since == pipeline.find("orders").since
        assert count_replay(pipeline, target, Range(KeyPattern.parse("orders/*"))) == ({"orders": (0, 0)}, "")
        assert count_replay(pipeline, target, Range(KeyPattern.parse("orders/1.csv")))[0]["orders"][0] == 1
        assert count_changed(pipeline, target)[1] is Certainty.AT_MOST
        (replayed,) = replay(pipeline, target, Range(KeyPattern.parse("orders/*")))
        assert (replayed.keys, replayed.before_since) == ([], 1)
        assert deployed.work("orders") == 0
        (replayed,) = replay(pipeline, target, Range(KeyPattern.parse("orders/1.csv")))
        assert (replayed.keys, replayed.before_since) == (["orders/1.csv"], 0)
    assert deployed.work("orders") == 1
    assert deployed.silver("orders/orders/1.csv.parquet")
    with deployed.opened() as (pipeline, target):
        (batch,) = reconcile(pipeline, target)
        assert (batch.found, batch.before_since) == ([], [])


@pytest.mark.full
def test_a_run_takes_files_from_its_first_time_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The time of the first run stays the same for later ones."""
    monkeypatch.chdir(tmp_path)
    Path("pipeline.py").write_text(SHOP.format(since="deploy"))
    bronze, silver = Path("lake/dl-bronze-layer/orders"), Path("lake/dl-silver-layer/orders/orders")
    bronze.mkdir(parents=True)
    hour = datetime.now(UTC) - timedelta(hours=1)

    def landed(name: str, at: datetime) -> None:
        (bronze / name).write_text("id\n1\n")
        os.utime(bronze / name, (at.timestamp(), at.timestamp()))

    landed("old.csv", hour)
    assert call(["run", "--until-idle"]) == 0
    assert not silver.exists()
    moments = json.loads(Path("lake/.silversmith/first-runs.json").read_text())
    landed("new.csv", hour + timedelta(hours=2))
    assert call(["run", "--until-idle"]) == 0
    assert [path.name for path in silver.iterdir()] == ["new.csv.parquet"]
    assert json.loads(Path("lake/.silversmith/first-runs.json").read_text()) == moments
    capsys.readouterr()
    assert call(["trace", "orders/old.csv", "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert document["transforms"][0]["state"] == "before since"
    assert call(["status"]) == 0
    assert f"orders: 1 file from before {moments['orders']} left alone, as its since says" in capsys.readouterr().out
    assert call(["reconcile", "--dry-run"]) == 0
    assert "bronze landed before the transform's since" in capsys.readouterr().out
    assert call(["replay", "orders/old.csv"]) == 0
    assert call(["run", "--until-idle"]) == 0
    assert sorted(path.name for path in silver.iterdir()) == ["new.csv.parquet", "old.csv.parquet"]


def test_the_function_has_the_time_that_was_deployed(account: Account, tmp_path: Path) -> None:
    deployed = Deployed(write(tmp_path, SHOP.format(since=LATER)), account)
    environment = {**deployed.environment("orders"), "SILVERSMITH_SINCE": "2000-01-01T00:00:00+00:00"}
    function: Any = build(environment, s3=deployed.s3, sqs=lambda: deployed.sqs)
    assert function._handler.transform.since == "2000-01-01T00:00:00+00:00"
