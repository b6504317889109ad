"""The policies are what the code needs: all that it calls is allowed, and nothing is allowed that is not called.

Every call that the handler, the reconciler and the operations make against moto is recorded, and put to the policies of
the compiled template. What others than our code call with a role's rights is listed, with where AWS says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from silversmith.aws.account import Account, open_account
from silversmith.errors import PreconditionFailed
from silversmith.local.stack import Template
from silversmith.operations.aws import open_stack
from silversmith.operations.failures import Query, failures, rejected
from silversmith.operations.reconcile import reconcile
from silversmith.operations.reports import status, trace
from silversmith.operations.send import FailureSelection, Range, plan, put, redrive, replay
from silversmith.patterns import KeyPattern
from silversmith.reconcile import handler as reconciler
from silversmith.stores import IN_MEMORY
from silversmith.stores.s3 import S3Store
from silversmith.stores.s3_transfer import LARGEST_PUT
from silversmith.template.plan import logical
from tests.deploy.recorded import ACCOUNT, Json, Recorder, Right, denied, unused
from tests.deployed import BAD, GOOD, HARMFUL, SHOP, Deployed, operators_policy, write

#: Moto leaves files open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

REGION = "eu-central-1"

#: No two patterns overlap: or what one is allowed, the other would be, too.
TEXT = SHOP.replace('"*.csv"', '"late/*.csv"')

#: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html#events-sqs-permissions
BY_THE_MAPPING = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")

#: https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs.html#monitoring-cloudwatchlogs-prereqs
BY_THE_RUNTIME = ("logs:CreateLogStream", "logs:PutLogEvents")


@pytest.fixture
def account() -> Iterator[Account]:
    with mock_aws():
        yield open_account(boto3.session.Session("id", "secret", region_name=REGION))


@pytest.fixture
def shop(tmp_path: Path, account: Account) -> Deployed:
    return Deployed(write(tmp_path / "project", TEXT), account)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder(ACCOUNT, REGION)


def role(shop: Deployed, title: str) -> Json:
    """Everything that a role of the template allows, as one document."""
    result = Template(shop.template, account=ACCOUNT, region=REGION)
    (inputs,) = [properties for name, properties in result.each("AWS::IAM::Role") if name == title]
    assert "ManagedPolicyArns" not in inputs, "two transforms fit into the role itself"
    (inline,) = inputs["Policies"]
    return dict(inline["PolicyDocument"])


def logs(function: str) -> set[Right]:
    stream = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/{function}:log-stream:2026/11/24/[$LATEST]1"
    return {Right(action, stream) for action in BY_THE_RUNTIME}


def large_csv() -> bytes:
    return b"id,total\n" + b"1,2\n" * (IN_MEMORY // 4 + 1)


def in_parts(shop: Deployed, recorder: Recorder, bucket: str, key: str, scratch: Path) -> None:
    """A file so large that it goes in parts, twice: the second time somebody was first, and the upload is given up."""
    client = recorder.watched(shop.account).client("s3")
    large = scratch / "large"
    with large.open("wb") as file:
        file.truncate(LARGEST_PUT + 1)
    store = S3Store(bucket, client=client, scratch=scratch)
    store.put(key, large, if_none_match=True)
    with pytest.raises(PreconditionFailed):
        store.put(key, large, if_none_match=True)


def test_the_handler(shop: Deployed, recorder: Recorder, tmp_path: Path) -> None:
    watched = recorder.watched(shop.account)

    def work() -> None:
        shop.work("orders", s3=watched.client("s3"), sqs=watched.client("sqs"))

    shop.land("orders/a.csv")
    shop.land("orders/b.csv", BAD)
    shop.land("orders/c.csv", HARMFUL)
    shop.land("orders/d.csv", b"id,total\n1,2\n2,-3\n")
    shop.land("orders/e.csv", large_csv())
    shop.land("orders/gone.csv")
    shop.s3.delete_object(Bucket="dl-bronze-layer", Key="orders/gone.csv")
    shop.sqs.send_message(QueueUrl=shop.url("orders"), MessageBody="no event: the function gives it up at once")
    work()
    shop.land("orders/a.csv", GOOD + b"3,4\n")
    shop.land("orders/b.csv")
    work()
    for bucket in ("dl-silver-layer", "dl-quarantine-layer"):
        in_parts(shop, recorder, bucket, "orders/orders/parts.csv.parquet", tmp_path)
    queue = shop.arn("orders", "Queue")
    needed = recorder.rights | {Right(action, queue) for action in BY_THE_MAPPING} | logs("shop_orders")
    document = role(shop, logical("orders", "Role"))
    assert denied(document, needed) == []
    assert unused(document, needed) == []
    elsewhere = {right.action for right in denied(document, needed, account="999999999999")}
    assert elsewhere == {right.action for right in needed if right.action.startswith("s3:")}, "the buckets are others'"
    others = role(shop, logical("late_copies", "Role"))
    assert {right.action for right in denied(others, recorder.rights)} >= {"s3:PutObject", "s3:DeleteObject"}


class Short:
    """A context whose time is up at once."""

    def get_remaining_time_in_millis(self) -> int:
        return 0


def test_the_reconciler(shop: Deployed, recorder: Recorder) -> None:
    """So many keys that the time runs out. Moto has no function to go on with, and says so; the call was made."""
    for number in range(reconciler.BATCH + 1):
        shop.s3.put_object(Bucket="dl-bronze-layer", Key=f"late/{number:03}.csv", Body=b"x")
    shop.land("orders/a.csv")
    shop.work("orders")
    shop.land("orders/a.csv", BAD, tell=False)
    for bucket, key in (("silver", "orders/orders/gone.csv.parquet"), ("silver", "late_copies/late/gone.csv.parquet")):
        shop.s3.put_object(Bucket=f"dl-{bucket}-layer", Key=key, Body=b"x")
    shop.s3.put_object(Bucket="dl-silver-layer", Key="late_copies/late/000.csv.parquet", Body=b"x")
    # A key so long that its silver's is cut short: whether there is silver is asked, and there is none.
    shop.s3.put_object(Bucket="dl-bronze-layer", Key="orders/" + "x" * 1010 + ".csv", Body=b"x")
    s3, sqs, functions = (recorder.watched(shop.account).client(name) for name in ("s3", "sqs", "lambda"))
    environment = {**shop.environment("orders"), "AWS_LAMBDA_FUNCTION_NAME": "shop_Reconciler"}
    run = reconciler.build(
        environment, s3=s3, sqs=sqs, functions=functions, client=recorder.watched(shop.account).client
    )  # fmt: skip
    names = [each.name for each in shop.pipeline.transforms]
    hops = {
        "bucket": "dl-bronze-layer",
        "topic": shop.outputs["TopicArn"],
        "rules": ["shop_Rule"],
        "subscriptions": [{"queue": shop.arn(name, "Queue"), "filter": None} for name in names],
        "mappings": ["fa123456-14a1-4fd2-9fec-83de64ad683d"],
    }
    queues = {name: shop.url(name) for name in names}
    event = {"queues": queues, "settled_seconds": -60, "changed": True, "hops": [hops]}
    with pytest.raises(ClientError, match="Function not found"):
        run(event, Short())
    missed = Right("sqs:SendMessage", f"arn:aws:sqs:{REGION}:{ACCOUNT}:shop_ReconcilerDLQ")
    document = role(shop, "RoleOfReconciler")
    # What Lambda gives up on it sends to the function's own dead-letter queue, with the function's rights:
    # https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html#invocation-dlq
    needed = recorder.rights | logs("shop_Reconciler") | {missed}
    assert denied(document, needed, function="shop_orders") == []
    assert unused(document, needed, function="shop_orders") == []
    assert [right.action for right in denied(document, needed)] == ["lambda:GetEventSourceMapping"], "of our functions"


def operate(shop: Deployed, watched: Account, tmp_path: Path) -> None:
    """Every command once."""
    (tmp_path / "new.csv").write_bytes(GOOD)
    everything: dict[str, Any] = {"now": 1_800_000_000.0}
    with open_stack(watched, shop.name, shop.pipeline, wait=0) as (pipeline, target):
        list(put(plan([tmp_path / "new.csv"], prefix="orders"), pipeline, target.lake.bronze, scratch=None))
        status(pipeline, target, **everything)
        trace("orders/a.csv", pipeline, target)
        trace("orders/none.csv", pipeline, target)
        target.day_counts(1_799_999_000.0, 1_800_000_000.0)
        target.log_end("orders", 10)
        failures(pipeline, target, Query(), **everything)
        rejected(pipeline, target, Query())
        list(reconcile(pipeline, target, changed=True))
        list(replay(pipeline, target, Range(KeyPattern.parse("orders/*")), changed=True))
    with open_stack(watched, shop.name, shop.pipeline, wait=0) as (pipeline, target):
        list(redrive(pipeline, target, FailureSelection(pattern=KeyPattern.parse("orders/*"))))


def test_the_operations(shop: Deployed, recorder: Recorder, tmp_path: Path) -> None:
    shop.land("orders/a.csv")
    shop.land("orders/b.csv", BAD)
    shop.land("orders/c.csv", HARMFUL)
    shop.work("orders")
    shop.bury(shop.url("orders", "SubscriptionDLQ"), "late/stays.csv")
    shop.bury(shop.url("", "RuleDLQ"), "orders/e.csv")
    shop.account.client("logs").create_log_stream(logGroupName="/aws/lambda/shop_orders", logStreamName="s")
    operate(shop, recorder.watched(shop.account), tmp_path)
    in_parts(shop, recorder, "dl-bronze-layer", "orders/large.csv", tmp_path)
    document = operators_policy(shop.name, REGION, ACCOUNT)
    assert denied(document, recorder.rights) == []
    # delta-rs asks for what is in gold, and not boto3: test_ministack.py has what these rights are for
    of_tables = [right for right in unused(document, recorder.rights) if "dl-gold-layer" in right or "Silver" in right]
    assert [
        right for right in unused(document, recorder.rights) if right not in of_tables and "Keep" not in right
    ] == []


def test_a_right_that_is_not_there_is_noticed() -> None:
    document = {
        "Statement": [
            {
                "Sid": "A",
                "Effect": "Allow",
                "Action": ["s3:GetObject", "s3:PutObject"],
                "Resource": ["arn:aws:s3:::b/*"],
            },
            {"Sid": "B", "Effect": "Allow", "Action": "sqs:SendMessage", "Resource": "*"},
        ]
    }
    read, write_ = Right("s3:GetObject", "arn:aws:s3:::b/k"), Right("s3:PutObject", "arn:aws:s3:::c/k")
    assert denied(document, [read, write_]) == [write_]
    assert unused(document, [read]) == ["A: s3:PutObject", "B: sqs:SendMessage", "B: *"]
