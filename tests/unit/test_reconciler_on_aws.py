"""The scheduled function with the SDK, its environment and buckets of S3: against moto, which others wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from silversmith.events import ObjectEvent, unwrap
from silversmith.lineage import Lineage, error_key, silver_key
from silversmith.pipeline import load
from silversmith.reconcile import handler as reconciler
from silversmith.stores.s3 import S3Store

PIPELINE = """
from silversmith import Pipeline

pipeline = Pipeline("shop")

@pipeline.transform("orders/*.csv")
def orders(rows):
    return rows
"""


class Leisure:
    """A Lambda context with all the time there is."""

    def get_remaining_time_in_millis(self) -> int:
        return 600_000


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Three buckets and a queue, whose URL it is, and the environment that the template gives the function."""
    (tmp_path / "shop_pipeline.py").write_text(PIPELINE)
    environment = {
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_LAMBDA_FUNCTION_NAME": "shop_Reconciler",
        "SILVERSMITH_PIPELINE": str(tmp_path / "shop_pipeline.py"),
        "SILVERSMITH_BRONZE": "bronze",
        "SILVERSMITH_SILVER": "silver",
        "SILVERSMITH_QUARANTINE": "quarantine",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with mock_aws():
        for bucket in ("bronze", "silver", "quarantine"):
            boto3.client("s3").create_bucket(Bucket=bucket)
        yield str(boto3.client("sqs").create_queue(QueueName="shop_orders")["QueueUrl"])
    reconciler._from_environment.cache_clear()


def store(bucket: str, tmp_path: Path) -> S3Store:
    return S3Store(bucket, client=boto3.client("s3"), scratch=tmp_path)


def received(url: str) -> list[ObjectEvent]:
    client = boto3.client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10)
    return [unwrap(message["Body"])[0] for message in client.get("Messages", ())]


def lineage(key: str, etag: str, fingerprint: str) -> dict[str, str]:
    return Lineage(
        bronze_key=key,
        bronze_etag=etag,
        bronze_version="",
        bronze_size=1,
        sequencer="",
        transform="orders",
        fingerprint=fingerprint,
        rows_read=1,
        rows_written=1,
        rows_rejected=0,
        committed_at="2026-01-02T12:00:00.000+00:00",
        attempt=1,
    ).to_metadata()


def test_missing_and_stale_objects_are_sent_and_the_others_are_not(aws: str, tmp_path: Path) -> None:
    fingerprint = load(str(tmp_path / "shop_pipeline.py")).find("orders").fingerprint
    bronze, silver, quarantine = (store(name, tmp_path) for name in ("bronze", "silver", "quarantine"))
    etags = {name: bronze.put(f"orders/{name}.csv", name.encode()) for name in ("done", "stale", "missing", "bad")}
    bronze.put("elsewhere/x.csv", b"x")
    for name, etag in (("done", etags["done"]), ("stale", "old")):
        key = f"orders/{name}.csv"
        silver.put(silver_key("orders", key), b"", metadata=lineage(key, etag, fingerprint))
    document = {"bronze": {"etag": etags["bad"]}, "fingerprint": fingerprint}
    quarantine.put(error_key("orders", "orders/bad.csv"), json.dumps(document).encode())

    assert reconciler.handler({"queues": {"orders": aws}}, Leisure()) == {"done": True}
    assert received(aws) == [], "all of it landed a moment ago"
    assert reconciler.handler({"queues": {"orders": aws}, "settled_seconds": -60}, Leisure()) == {"done": True}
    assert {event.key: event.etag for event in received(aws)} == {
        "orders/stale.csv": etags["stale"],
        "orders/missing.csv": etags["missing"],
    }


def test_an_invocation_that_comes_twice_and_a_hop_that_is_broken(
    aws: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Moto does not say that EventBridge is on: as if another owner's configuration had switched it off."""
    store("bronze", tmp_path).put("orders/a.csv", b"x")
    topic = boto3.client("sns").create_topic(Name="shop_Topic")["TopicArn"]
    hops = {"bucket": "bronze", "topic": topic, "rules": [], "subscriptions": [], "mappings": []}
    event = {"queues": {"orders": aws}, "settled_seconds": -60, "round": "noon", "hops": [hops]}
    assert reconciler.handler(event, Leisure()) == {"done": True}
    assert reconciler.handler(event, Leisure()) == {"refused": "this round is done"}
    assert [each.key for each in received(aws)] == ["orders/a.csv"]
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    metrics = [line for line in lines if "_aws" in line]
    assert [
        {name: line[name] for name in ("Unfinished", "ChainBroken", "Missing") if name in line} for line in metrics
    ] == [
        {"Unfinished": 0},
        {"ChainBroken": 1},
        {"Missing": 0},
    ]
    assert {line["FunctionName"] for line in metrics} == {"shop_Reconciler"}
    assert any("EventBridge is switched off for the bucket bronze" in str(line.get("message")) for line in lines)
