"""The operations over a deployed pipeline: the same answers as over a lake, from S3 and SQS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from silversmith.aws.account import Account, open_account
from silversmith.errors import AwsFailed
from silversmith.events import unwrap
from silversmith.operations import WrongCall
from silversmith.operations.aws import MOST_TRACED, AwsTarget, open_stack
from silversmith.operations.failures import Query, failures
from silversmith.operations.reconcile import reconcile
from silversmith.operations.reports import status, trace
from silversmith.operations.send import FailureSelection, Range, plan, put, redrive, replay
from silversmith.operations.target import DeadKind
from silversmith.patterns import KeyPattern
from silversmith.pipeline.deployment import Deployment
from silversmith.stores import IN_MEMORY
from tests.deployed import BAD, GOOD, HARMFUL, Deployed, write

#: Moto leaves files open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

NOW = 1_800_000_000.0


@pytest.fixture
def account() -> Iterator[Account]:
    with mock_aws():
        yield open_account(boto3.session.Session("id", "secret", region_name="eu-central-1"))


@pytest.fixture
def shop(tmp_path: Path, account: Account) -> Deployed:
    return Deployed(write(tmp_path / "project"), account)


def test_without_a_stack_it_says_what_to_do(account: Account, tmp_path: Path) -> None:
    pipeline = write(tmp_path).pipeline
    missing = pytest.raises(WrongCall, match=r"no stack shop in eu-central-1.*silversmith deploy")
    with missing, open_stack(account, "shop", pipeline):
        pytest.fail("there is none")


def test_a_stack_of_something_else_is_refused(account: Account, tmp_path: Path) -> None:
    template = {"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}}
    account.client("cloudformation").create_stack(StackName="shop", TemplateBody=json.dumps(template))
    foreign = pytest.raises(WrongCall, match="no outputs of a pipeline")
    with foreign, open_stack(account, "shop", write(tmp_path).pipeline):
        pytest.fail("it is none")


def test_the_buckets_are_those_of_the_deployment(account: Account, tmp_path: Path) -> None:
    shop = Deployed(write(tmp_path), account, Deployment(prefix="test"))
    shop.land("orders/a.csv", tell=False)
    with shop.opened() as (pipeline, target):
        assert pipeline.bronze == "test-dl-bronze-layer"
        assert target.place == "stack test-shop in eu-central-1"
        assert [batch.found for batch in reconcile(pipeline, target)]
    (message,) = shop.receive("orders")
    assert unwrap(message["Body"])[0].bucket == "test-dl-bronze-layer"
    assert shop.pipeline.bronze == "dl-bronze-layer"


def test_status(shop: Deployed) -> None:
    shop.land("orders/a.csv")
    shop.land("orders/b.csv", BAD)
    shop.land("orders/c.csv", HARMFUL)
    shop.work("orders")
    shop.bury(shop.url("orders", "SubscriptionDLQ"), "orders/d.csv")
    shop.bury(shop.url("", "RuleDLQ"), "orders/e.csv")
    with shop.opened() as (pipeline, target):
        report = status(pipeline, target, now=NOW)
    orders, copies = report.transforms
    assert (report.running, report.ran, report.chain.dead, report.chain.created) == (True, False, 1, None)
    assert (orders.waiting, orders.dead, orders.quarantined, orders.done) == (0, 2, 1, None)
    assert (copies.waiting, copies.dead, copies.quarantined) == (3, 0, 0)


def test_a_transform_that_is_not_deployed_yet(shop: Deployed, tmp_path: Path) -> None:
    text = (tmp_path / "project/pipeline.py").read_text().replace("late_copies", "later")
    newer = write(tmp_path / "newer", text).pipeline
    missing = pytest.raises(WrongCall, match="no transform later: run `silversmith deploy`")
    with open_stack(shop.account, "shop", newer, wait=0) as (pipeline, target), missing:
        status(pipeline, target, now=NOW)


def test_put(shop: Deployed, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(GOOD)
    large = tmp_path / "large.bin"
    large.write_bytes(b"x" * (IN_MEMORY + 1))
    with shop.opened() as (pipeline, target):
        done = list(put(plan([tmp_path / "a.csv", large], prefix="orders"), pipeline, target.lake.bronze, scratch=None))
    assert [(each.key, each.size, list(each.transforms)) for each in done] == [
        ("orders/a.csv", len(GOOD), ["orders", "late_copies"]),
        ("orders/large.bin", IN_MEMORY + 1, []),
    ]
    assert large.exists(), "the file is the user's"
    stored = shop.s3.head_object(Bucket="dl-bronze-layer", Key="orders/large.bin")
    assert (stored["ContentLength"], stored["ETag"].strip('"')) == (IN_MEMORY + 1, done[1].etag)


def test_trace(shop: Deployed) -> None:
    shop.land("orders/a.csv")
    shop.work("orders")
    shop.bury(shop.url("late_copies", "QueueDLQ"), "orders/a.csv")
    with shop.opened() as (pipeline, target):
        hops = trace("orders/a.csv", pipeline, target)
        assert not trace("orders/z.csv", pipeline, target).known
    orders, copies = hops.transforms
    assert (orders.state, copies.state, hops.remembers) == ("current", "missing", False)
    assert orders.silver is not None
    assert orders.silver.lineage is not None
    assert orders.silver.lineage.rows_written == 2
    ((step,),) = [version.steps for version in hops.versions]
    assert (step.room, step.what, step.name) == ("queue", "dead", "shop_late_copies")


def test_a_trace_receives_no_deep_dead_letter_queue(shop: Deployed) -> None:
    """It would hide all its messages from whoever redrives them."""
    url = shop.url("late_copies", "QueueDLQ")
    for number in range(MOST_TRACED + 1):
        shop.bury(url, f"orders/{number}.csv")
    messages: list[str] = []
    with shop.opened(messages) as (pipeline, target):
        assert trace("orders/0.csv", pipeline, target).versions == []
        attributes = shop.sqs.get_queue_attributes(
            QueueUrl=url, AttributeNames=["ApproximateNumberOfMessagesNotVisible"]
        )["Attributes"]
    assert attributes == {"ApproximateNumberOfMessagesNotVisible": "0"}
    assert [message for message in messages if "too many for a trace" in message] == [
        "the queue shop_late_copies_DLQ holds about 201 messages, too many for a trace to look through"
    ]


def test_failures_are_reported_and_stay(shop: Deployed) -> None:
    shop.land("orders/b.csv", BAD)
    shop.work("orders")
    shop.bury(shop.url("orders", "QueueDLQ"), "orders/c.csv")
    shop.bury(shop.url("orders", "SubscriptionDLQ"), "orders/d.csv")
    rule = "arn:aws:events:eu-central-1:123456789012:rule/shop_Rule"
    shop.bury(shop.url("", "RuleDLQ"), "orders/e.csv", RULE_ARN=rule, ERROR_CODE="NO_PERMISSIONS")
    with shop.opened() as (pipeline, target):
        report = failures(pipeline, target, Query(), now=NOW)
        again = failures(pipeline, target, Query(transform="orders", pattern=KeyPattern.parse("orders/c*")), now=NOW)
    assert [document.code for document in report.quarantined] == ["MissingColumn"]
    assert {(dead.kind, dead.key, dead.transform, dead.source) for dead in report.dead} == {
        (DeadKind.QUEUE, "orders/c.csv", "orders", "shop_orders"),
        (DeadKind.SUBSCRIPTION, "orders/d.csv", "orders", "shop_Topic"),
        (DeadKind.RULE, "orders/e.csv", None, "shop_Rule"),
    }
    assert next(dead.reason for dead in report.dead if dead.kind is DeadKind.RULE).endswith("NO_PERMISSIONS")
    assert [dead.key for dead in again.dead] == ["orders/c.csv"]
    assert [shop.waiting("orders", kind) for kind in ("QueueDLQ", "SubscriptionDLQ")] == [1, 1]
    assert shop.waiting("", "RuleDLQ") == 1


def test_messages_without_event_or_transform_are_reported_too(shop: Deployed, tmp_path: Path) -> None:
    shop.sqs.send_message(QueueUrl=shop.url("late_copies", "QueueDLQ"), MessageBody="what?")
    fewer = write(
        tmp_path / "fewer", (tmp_path / "project/pipeline.py").read_text().partition('@pipeline.transform("*.csv')[0]
    )
    with open_stack(shop.account, "shop", fewer.pipeline, wait=0) as (pipeline, target):
        (dead,) = failures(pipeline, target, Query(), now=NOW).dead
        assert (dead.kind, dead.key, dead.source) == (DeadKind.UNKNOWN, "", "shop_late_copies_DLQ")
        assert target.redrive([dead]) == 0
    assert shop.waiting("late_copies", "QueueDLQ") == 1


@pytest.mark.parametrize("kind", ["QueueDLQ", "SubscriptionDLQ"])
def test_redrive_gives_a_message_back_to_its_queue(shop: Deployed, kind: str) -> None:
    for key in ("orders/c.csv", "orders/d.csv"):
        shop.bury(shop.url("orders", kind), key)
    with shop.opened() as (pipeline, target):
        (batch,) = redrive(pipeline, target, FailureSelection(pattern=KeyPattern.parse("orders/c*")))
    assert batch.sent == 1
    (message,) = shop.receive("orders")
    assert unwrap(message["Body"])[0].key == "orders/c.csv"
    (left,) = shop.receive("orders", kind)
    assert unwrap(left["Body"])[0].key == "orders/d.csv"


def test_redrive_gives_a_rules_message_to_every_matching_transform(shop: Deployed) -> None:
    shop.bury(shop.url("", "RuleDLQ"), "orders/e.csv")
    with shop.opened() as (pipeline, target):
        (batch,) = redrive(pipeline, target, FailureSelection())
        assert batch.sent == 1
        assert list(redrive(pipeline, target, FailureSelection())) == []
    assert [len(shop.receive(transform.name)) for transform in shop.pipeline.transforms] == [1, 1]
    assert shop.waiting("", "RuleDLQ") == 0


def test_redrive_of_a_file_in_quarantine(shop: Deployed) -> None:
    shop.land("orders/b.csv", BAD)
    shop.work("orders")
    shop.land("orders/b.csv", GOOD, tell=False)
    with shop.opened() as (pipeline, target):
        assert [batch.sent for batch in redrive(pipeline, target, FailureSelection(error="missingcolumn"))] == [1]
    assert shop.work("orders") == 1
    assert shop.silver("orders/orders/b.csv.parquet")
    with shop.opened() as (pipeline, target):
        assert failures(pipeline, target, Query(), now=NOW).quarantined_total == 0


def test_looking_only_sends_nothing(shop: Deployed) -> None:
    shop.bury(shop.url("orders", "QueueDLQ"), "orders/c.csv")
    with shop.opened() as (pipeline, target):
        (batch,) = redrive(pipeline, target, FailureSelection(), dry_run=True)
    assert (len(batch.failures), batch.sent) == (1, 0)
    assert (shop.waiting("orders"), shop.waiting("orders", "QueueDLQ")) == (0, 1)


@pytest.mark.full
def test_more_than_a_hundred_dead_messages_all_go_back(shop: Deployed) -> None:
    for number in range(104):
        shop.bury(shop.url("orders", "QueueDLQ"), f"orders/{number}.csv")
    with shop.opened() as (pipeline, target):
        assert sum(batch.sent for batch in redrive(pipeline, target, FailureSelection())) == 104
    assert (shop.waiting("orders"), shop.waiting("orders", "QueueDLQ")) == (104, 0)


def test_reconcile_sends_what_is_missing_and_not_what_is_dead(shop: Deployed) -> None:
    for key in ("orders/a.csv", "orders/b.csv", "orders/c.csv"):
        shop.land(key, tell=False)
    shop.bury(shop.url("orders", "QueueDLQ"), "orders/b.csv")
    shop.bury(shop.url("", "RuleDLQ"), "orders/c.csv")
    with shop.opened() as (pipeline, target):
        (batch,) = reconcile(pipeline, target, transform="orders")
    assert [finding.key for finding in batch.found] == ["orders/a.csv"]
    assert [finding.key for finding in batch.waiting] == ["orders/b.csv", "orders/c.csv"]
    assert shop.work("orders") == 1
    assert shop.silver("orders/orders/a.csv.parquet")


def test_replay_makes_silver_again(shop: Deployed) -> None:
    for number in range(12):
        shop.land(f"orders/{number}.csv")
    shop.work("orders")
    before = shop.s3.head_object(Bucket="dl-silver-layer", Key="orders/orders/3.csv.parquet")["Metadata"]
    with shop.opened() as (pipeline, target):
        expected = Range(KeyPattern.parse("orders/*"))
        (batch,) = replay(pipeline, target, expected, transform="orders", force=4_000_000_000)
    assert len(batch.keys) == 12
    assert shop.work("orders") == 12
    after = shop.s3.head_object(Bucket="dl-silver-layer", Key="orders/orders/3.csv.parquet")["Metadata"]
    assert {**after, "committed-at": ""} == {**before, "committed-at": ""}
    assert after["committed-at"] > before["committed-at"]


def test_the_first_error_is_reported(shop: Deployed) -> None:
    """Even if releasing the messages fails."""
    shop.bury(shop.url("orders", "QueueDLQ"), "orders/c.csv")
    with pytest.raises(KeyError, match="first"), shop.opened() as (pipeline, target):
        failures(pipeline, target, Query(), now=NOW)
        shop.sqs.delete_queue(QueueUrl=shop.url("orders", "QueueDLQ"))
        raise KeyError("first")


class Refusing:
    """A client that publishes nothing."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def publish_batch(self, **_: Any) -> None:
        raise ClientError({"Error": {"Code": "InternalError", "Message": "not now"}}, "PublishBatch")


def test_messages_that_the_topic_does_not_take_stay(shop: Deployed) -> None:
    shop.bury(shop.url("", "RuleDLQ"), "orders/e.csv")

    def client(service: str) -> Any:
        aws_client = shop.account.client(service)
        return Refusing(aws_client) if service == "sns" else aws_client

    account, refused = (
        replace(shop.account, client=client),
        pytest.raises(AwsFailed, match=r"the topic shop_Topic: PublishBatch failed: .*: not now"),
    )
    with open_stack(account, "shop", shop.pipeline, wait=0) as (pipeline, target), refused:
        list(redrive(pipeline, target, FailureSelection()))
    assert shop.waiting("", "RuleDLQ") == 1


def test_metrics_say_how_long_a_file_takes(shop: Deployed) -> None:
    function = "shop_orders"  # moto makes no functions of a template
    outputs = {**shop.outputs, "OrdersFunctionName": function}
    stage = "test-shop"  # another one than the pipeline's name: stages in one account must not share metrics
    target = AwsTarget(shop.pipeline, outputs, shop.account, name=stage)
    metrics = [
        ("AWS/Lambda", "Duration", {"FunctionName": function}, [1500.0, 500.0]),
        ("Silversmith", "FilesCommitted", {"Pipeline": stage, "Transform": "orders"}, [10.0, 10.0]),
        ("Silversmith", "Bytes", {"Pipeline": stage, "Transform": "orders"}, [40_000.0]),
    ]
    client = shop.account.client("cloudwatch")
    assert target.file_time("orders") is None
    assert target.file_time("not_deployed") is None
    for namespace, name, dimensions, values in metrics:
        named = [{"Name": dimension, "Value": value} for dimension, value in dimensions.items()]
        data = [{"MetricName": name, "Dimensions": named, "Value": value} for value in values]
        client.put_metric_data(Namespace=namespace, MetricData=data)
    time = target.file_time("orders")
    assert time is not None
    assert (time.seconds, time.size, time.billed) == (0.1, 2000.0, True)
    assert time.source == f"measured: the durations of {function} for 20 files in 14 days"
