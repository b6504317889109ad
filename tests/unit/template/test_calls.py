"""The roles allow exactly the requests that the functions make to AWS.

Both functions run as the template configures them, against moto, which others wrote. Every request they make is
recorded and asked of the policy of the function's role.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber
from moto import mock_aws

from silversmith.events import ObjectEvent, object_created
from silversmith.function import handler
from silversmith.lineage import error_key
from silversmith.local.iam import Policy
from silversmith.local.stack import FunctionResource, StackResources, Template, read
from silversmith.pipeline import load
from silversmith.reconcile import handler as reconciler
from silversmith.stores import IN_MEMORY
from silversmith.stores.s3 import connect
from silversmith.template import compile as compile_template

ACCOUNT, REGION = "123456789012", "us-east-1"
BRONZE, SILVER, QUARANTINE = "dl-bronze-layer", "dl-silver-layer", "dl-quarantine-layer"
PIPELINE = """
import polars as pl
from silversmith import Contract, Pipeline

pipeline = Pipeline("shop")

contract = Contract({"id": pl.Int64}, rules={"small": pl.col("id") < 1_000_000})

@pipeline.transform("orders/*.csv", contract=contract, max_receive_count=3)
def orders(rows):
    if rows.select("id").collect()["id"].to_list() == [13]:
        raise RuntimeError("thirteen")
    return rows
"""

#: What the functions' code never asks for, and why it is granted all the same.
GRANTED_FOR = {
    ("ReceiveMessages", "sqs:ReceiveMessage"): "Lambda polls the queue with the rights of the role",
    ("ReceiveMessages", "sqs:GetQueueAttributes"): "likewise",
    ("WriteLogs", "logs:CreateLogStream"): "Lambda writes the logs, likewise",
    ("WriteLogs", "logs:PutLogEvents"): "likewise",
    ("BuryRounds", "sqs:SendMessage"): "Lambda gives up on an invocation, likewise",
    ("WriteSilver", "s3:AbortMultipartUpload"): "for an upload that fails half-way: tests/unit/stores",
    ("WriteQuarantine", "s3:AbortMultipartUpload"): "likewise",
}


@dataclass
class Recorded:
    """The requests of a session's clients: operation, parameters, status."""

    calls: list[tuple[str, dict[str, Any], int]] = field(default_factory=list)

    def listen(self, session: boto3.Session) -> None:
        session.events.register("provide-client-params", self._begin)
        session.events.register("after-call", self._end)

    @staticmethod
    def _begin(params: dict[str, Any], context: dict[str, Any], **_: object) -> None:
        context["asked"] = params

    def _end(self, http_response: Any, model: Any, context: dict[str, Any], **_: object) -> None:
        self.calls.append((model.name, context["asked"], http_response.status_code))


@dataclass
class Deployed:
    """The template's buckets and queues, and a session that is listened to."""

    template: dict[str, Any]
    stack: StackResources
    session: boto3.Session
    recorded: Recorded
    s3: Any
    sqs: Any

    def function(self, name: str) -> FunctionResource:
        return next(each for each in self.stack.functions if each.name == name)

    def needs(self) -> set[tuple[str, str]]:
        """The actions on resources that the recorded requests need.

        https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html
        https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsqs.html
        """
        return {need for call in self.recorded.calls for need in self._needs(*call)}

    def _needs(self, operation: str, params: dict[str, Any], status: int) -> Iterator[tuple[str, str]]:
        bucket = f"arn:aws:s3:::{params.get('Bucket')}"
        key = f"{bucket}/{params.get('Key')}"
        queue = next((each.arn for each in self.stack.queues if each.url == params.get("QueueUrl")), "no queue of ours")
        match operation:
            case "HeadObject" | "GetObject":
                yield ("s3:GetObjectVersion" if "VersionId" in params else "s3:GetObject"), key
            case "PutObject" | "DeleteObject":
                yield f"s3:{operation}", key
            case "ListObjectsV2":
                yield "s3:ListBucket", bucket
            case "Invoke":
                yield "lambda:InvokeFunction", self.function(params["FunctionName"]).arn
            case "SendMessageBatch" | "DeleteMessageBatch":
                yield f"sqs:{operation.removesuffix('Batch')}", queue
            case "ChangeMessageVisibility" | "GetQueueAttributes" | "SendMessage":
                yield f"sqs:{operation}", queue
            case _:
                yield _need_of_hop(operation, params)
        if "IfMatch" in params and operation != "GetObject":
            yield "s3:GetObject", key  # to compare an object's etag is to read it
        if status == 404 and "Bucket" in params:
            yield "s3:ListBucket", bucket  # without it the answer would be 403


def _need_of_hop(operation: str, params: dict[str, Any]) -> tuple[str, str]:
    """https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html"""
    here = f"{REGION}:{ACCOUNT}"
    match operation:
        case "GetBucketNotificationConfiguration":
            return "s3:GetBucketNotification", f"arn:aws:s3:::{params['Bucket']}"
        case "DescribeRule" | "ListTargetsByRule":
            return f"events:{operation}", f"arn:aws:events:{here}:rule/{params.get('Name', params.get('Rule'))}"
        case "ListSubscriptionsByTopic" | "GetSubscriptionAttributes":
            return f"sns:{operation}", str(params.get("TopicArn", params.get("SubscriptionArn")))
        case "GetEventSourceMapping":
            return f"lambda:{operation}", f"arn:aws:lambda:{here}:event-source-mapping:{params['UUID']}"
    raise AssertionError(f"which right does {operation} need?")


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[Deployed]:
    path = tmp_path / "shop.py"
    path.write_text(PIPELINE)
    template = compile_template(load(str(path)), str(path))
    with mock_aws():
        session, recorded = boto3.Session(region_name=REGION), Recorded()
        client = Deployed(
            template,
            read(template, account=ACCOUNT, region=REGION),
            session,
            recorded,
            session.client("s3"),
            session.client("sqs"),
        )
        for bucket in client.stack.buckets:
            client.s3.create_bucket(Bucket=bucket.name)
            if bucket.versioned:
                enabled = {"Status": "Enabled"}
                client.s3.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration=enabled)
        for queue in client.stack.queues:
            assert client.sqs.create_queue(QueueName=queue.name)["QueueUrl"] == queue.url
        recorded.listen(session)
        yield client


def assert_matches(function: FunctionResource, needs: set[tuple[str, str]], template: dict[str, Any]) -> None:
    """The role allows each of them, and by no statement an action that none of them is."""
    secure = {"aws:SecureTransport": "true", "aws:ResourceAccount": ACCOUNT}
    secure |= {"lambda:FunctionArn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:shop_orders"}
    refused = [need for need in sorted(needs) if not function.policy.allows(*need, context=secure)]
    assert refused == []
    resolved = Template(template, account=ACCOUNT, region=REGION)
    unused = set()
    for inline in template["Resources"][function.policy.name]["Properties"]["Policies"]:
        for statement in resolved.value(inline["PolicyDocument"])["Statement"]:
            for action in [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]:
                alone = Policy.parse("alone", {"Statement": [{**statement, "Action": action}]})
                if not any(alone.allows(*need, context=secure) for need in needs):
                    unused.add((statement["Sid"], action))
    assert unused <= set(GRANTED_FOR)


def batch(deployed: Deployed, url: str, keys: dict[str, int]) -> dict[str, Any]:
    """Lambda's batch about objects that landed, each received so many times."""
    for key in keys:
        event = ObjectEvent(BRONZE, key)
        deployed.sqs.send_message(QueueUrl=url, MessageBody=object_created(event, reason="PutObject").decode())
    received = deployed.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    return {
        "Records": [
            {
                "messageId": each["MessageId"],
                "receiptHandle": each["ReceiptHandle"],
                "body": each["Body"],
                "attributes": {"ApproximateReceiveCount": str(count)},
            }
            for each, count in zip(received, keys.values(), strict=True)
        ]
    }


class Time:
    """A Lambda context with so many milliseconds left."""

    def __init__(self, left: int) -> None:
        self._left = left

    def get_remaining_time_in_millis(self) -> int:
        return self._left


def test_a_transform_s_function_asks_for_what_its_role_allows(deployed: Deployed) -> None:
    function = deployed.function("shop_orders")
    url = function.environment["SILVERSMITH_QUEUE"]
    queue = deployed.session.client("sqs")
    work = handler.build(function.environment, s3=connect(deployed.session), sqs=lambda: queue)
    bodies = {
        "good": b"id\n1\n",
        "partly": b"id\n1\n2000000\n",
        "broken": b"name\nx\n",
        "unlucky": b"id\n13\n",
        "large": b"id\n" + b"0123456\n" * (IN_MEMORY // 8 + 1),
    }
    for name, body in bodies.items():
        deployed.s3.put_object(Bucket=BRONZE, Key=f"orders/{name}.csv", Body=body)
    first = {f"orders/{name}.csv": 2 if name == "unlucky" else 1 for name in (*bodies, "gone")}
    events = [batch(deployed, url, first)]
    deployed.recorded.calls.clear()
    assert len(work(events[0], Time(600_000))["batchItemFailures"]) == 1
    created = [*deployed.recorded.calls]

    for name in ("good", "broken"):
        deployed.s3.put_object(Bucket=BRONZE, Key=f"orders/{name}.csv", Body=b"id\n2\n")
    events.append(batch(deployed, url, {"orders/good.csv": 1, "orders/broken.csv": 1}))
    unlucky = dict(next(each for each in events[0]["Records"] if "unlucky" in each["body"]))
    events[1]["Records"].append(unlucky)
    deployed.recorded.calls[:] = created
    for _ in range(2):  # the first try is made, and there are three
        unlucky["attributes"] = {
            "ApproximateReceiveCount": str(int(unlucky["attributes"]["ApproximateReceiveCount"]) + 1)
        }
        answer = work(events[1], Time(600_000))
    assert answer == {"batchItemFailures": []}
    assert_matches(function, deployed.needs(), deployed.template)


@pytest.mark.full
def test_the_reconciler_asks_for_what_its_role_allows(deployed: Deployed) -> None:
    function = deployed.function("shop_Reconciler")
    functions = deployed.session.client("lambda")
    environment = {**function.environment, "AWS_LAMBDA_FUNCTION_NAME": function.name}
    work = reconciler.build(
        environment,
        s3=connect(deployed.session),
        sqs=deployed.session.client("sqs"),
        functions=functions,
        client=deployed.session.client,
    )
    events, sns = deployed.session.client("events"), deployed.session.client("sns")
    topic = sns.create_topic(Name="shop_Topic")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:{REGION}:{ACCOUNT}:shop_orders")
    events.put_rule(Name="shop_Rule", EventPattern="{}")
    for number in range(reconciler.BATCH + 1):
        deployed.s3.put_object(Bucket=BRONZE, Key=f"orders/{number:03}.csv", Body=b"id\n1\n")
    deployed.s3.put_object(Bucket=SILVER, Key="orders/orders/000.csv.parquet", Body=b"")
    deployed.s3.put_object(Bucket=QUARANTINE, Key=error_key("orders", "orders/001.csv"), Body=b"{}")
    target = deployed.template["Resources"]["Schedule"]["Properties"]["Target"]
    document = json.loads(Template(deployed.template, account=ACCOUNT, region=REGION).value(target["Input"]))
    document["hops"][0]["mappings"] = ["fa123456-14a1-4fd2-9fec-83de64ad683d"]  # here a Ref to it is its logical id
    deployed.recorded.calls.clear()
    with Stubber(functions) as stubber:
        asked = {"FunctionName": function.name, "InvocationType": "Event", "Payload": ANY}
        stubber.add_response("invoke", {"StatusCode": 202}, asked)
        assert work({**document, "settled_seconds": -60}, Time(0)) == {"done": False}
        stubber.assert_no_pending_responses()
    needs = deployed.needs()
    sent = deployed.sqs.get_queue_attributes(
        QueueUrl=document["queues"]["orders"], AttributeNames=["ApproximateNumberOfMessages"]
    )
    assert sent["Attributes"]["ApproximateNumberOfMessages"] == str(reconciler.BATCH)
    assert_matches(function, needs, deployed.template)
