"""A pipeline deployed to moto, with Lambda's side of its queues: moto has no event source mappings without Docker."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from moto.cloudformation.parsing import resource_class_from_type

from silversmith.aws.account import Account
from silversmith.events import ObjectEvent, object_created
from silversmith.function.handler import build
from silversmith.operations.aws import AwsTarget, open_stack
from silversmith.pipeline import Located, Pipeline, locate
from silversmith.pipeline.deployment import Deployment
from silversmith.runtime.queue import SystemUnavailable
from silversmith.template import compile as compile_template
from silversmith.template.plan import logical

SHOP = """
import polars as pl
from silversmith import Contract, Deployment, Pipeline

pipeline = Pipeline("shop")
contract = Contract({"id": pl.Int64, "total": pl.Int64}, {"total is positive": pl.col("total") > 0})

@pipeline.transform("orders/*.csv", contract=contract, max_receive_count=2)
def orders(rows):
    if 666 in rows.collect()["id"]:
        raise RuntimeError("666 is no order")
    return rows

@pipeline.transform("*.csv", name="late_copies")
def copies(rows):
    return rows
"""

GOOD = b"id,total\n1,2\n2,3\n"
BAD = b"id\n1\n"
HARMFUL = b"id,total\n666,1\n"

#: More than any test waits; moto does not wait at all.
MILLISECONDS = 300_000


class Clock:
    """The time left of an invocation: always all of it."""

    def get_remaining_time_in_millis(self) -> int:
        return MILLISECONDS


def write(folder: Path, text: str = SHOP) -> Located:
    """The pipeline of this text, in a file of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pipeline.py").write_text(text)
    return locate(str(folder / "pipeline.py"))


class Deployed:
    """A stack on moto, made of what moto knows of the compiled template; the subscriptions by SNS's own API."""

    def __init__(self, located: Located, account: Account, deployment: Deployment | None = None) -> None:
        self.located = located
        self.account = account
        self.pipeline = located.pipeline
        chosen = deployment or Deployment()
        self.name = chosen.name(self.pipeline.name)
        self.template = compile_template(self.pipeline, located.reference, deployment=chosen)
        self.s3, self.sqs, self.sns = (account.client(name) for name in ("s3", "sqs", "sns"))
        self._create()
        self._subscribe()
        self.s3.put_bucket_versioning(  # moto's CloudFormation does not
            Bucket=self.buckets["bronze"], VersioningConfiguration={"Status": "Enabled"}
        )

    def _create(self) -> None:
        known, outputs = known_to_moto(self.template)
        cloudformation = self.account.client("cloudformation")
        cloudformation.create_stack(
            StackName=self.name,
            TemplateBody=json.dumps({**self.template, "Resources": known, "Outputs": outputs}),
            Capabilities=["CAPABILITY_IAM"],
            Parameters=[{"ParameterKey": name, "ParameterValue": "x"} for name in self.template["Parameters"]],
        )
        result = cloudformation.describe_stacks(StackName=self.name)["Stacks"][0]
        self.outputs = {each["OutputKey"]: each["OutputValue"] for each in result["Outputs"]}

    def _subscribe(self) -> None:
        for transform in self.pipeline.transforms:
            expected = self.template["Resources"][logical(transform.name, "Subscription")]["Properties"]
            self.sns.subscribe(
                TopicArn=self.outputs["TopicArn"],
                Protocol="sqs",
                Endpoint=self.arn(transform.name, "Queue"),
                Attributes={
                    "RawMessageDelivery": "true",
                    **(
                        {"FilterPolicyScope": "MessageBody", "FilterPolicy": json.dumps(expected["FilterPolicy"])}
                        if "FilterPolicy" in expected
                        else {}
                    ),
                },
            )
        if "SilverTopicArn" in self.outputs:
            self.sns.subscribe(
                TopicArn=self.outputs["SilverTopicArn"],
                Protocol="sqs",
                Endpoint=self.arn("", "QueueOfTables"),
                Attributes={"RawMessageDelivery": "true"},
            )

    def url(self, transform: str, kind: str = "Queue") -> str:
        actual: str = self.outputs[f"{logical(transform, kind)}Url" if transform else f"{kind}Url"]
        return actual

    def arn(self, transform: str, kind: str) -> str:
        name = self.url(transform, kind).rpartition("/")[2]
        return f"arn:aws:sqs:{self.account.region}:{self.account.id}:{name}"

    @cached_property
    def buckets(self) -> Mapping[str, str]:
        return {role: self.outputs[f"{role.capitalize()}BucketName"] for role in ("bronze", "silver", "quarantine")}

    def land(self, key: str, body: bytes = GOOD, *, tell: bool = True) -> None:
        """Put an object into bronze, and its event into the queue of each matching transform, as the chain would."""
        put = self.s3.put_object(Bucket=self.buckets["bronze"], Key=key, Body=body)
        event = self.event(key, put["ETag"].strip('"'), put.get("VersionId", ""))
        for transform in self.pipeline.matching(key) if tell else ():
            self.sqs.send_message(QueueUrl=self.url(transform.name), MessageBody=event)

    def event(self, key: str, etag: str = "", version: str = "") -> str:
        event = ObjectEvent(self.buckets["bronze"], key, etag=etag, version=version)
        return object_created(event, reason="PutObject").decode()

    def bury(self, queue: str, key: str, **said: str) -> None:
        """A message lies in a dead-letter queue. ``said``: what the attributes of it say."""
        attributes = {name: {"DataType": "String", "StringValue": value} for name, value in said.items()}
        self.sqs.send_message(QueueUrl=queue, MessageBody=self.event(key), MessageAttributes=attributes)

    def environment(self, transform: str) -> dict[str, str]:
        function = self.template["Resources"][logical(transform, "Function")]["Properties"]
        variables = function["Environment"]["Variables"]
        return {
            **{name: value for name, value in variables.items() if isinstance(value, str)},
            "SILVERSMITH_PIPELINE": str(self.located.root / "pipeline.py"),
            "SILVERSMITH_TRANSFORM": transform,
            "SILVERSMITH_QUEUE": self.url(transform),
            "SILVERSMITH_STACK": self.name,
            "SILVERSMITH_FINGERPRINT": json.loads(self.outputs[logical(transform, "Code")])["fingerprint"],
            "SILVERSMITH_DLQ": self.url(transform, "QueueDLQ"),
            **{f"SILVERSMITH_{role.upper()}": bucket for role, bucket in self.buckets.items()},
        }

    def work(self, transform: str, *, s3: Any = None, sqs: Any = None, without: Collection[str] = ()) -> int:
        """Work as Lambda until the queue is empty; returns how many messages. A failed one goes to the DLQ at once.

        ``without``: names of the function's environment that an older template did not set."""
        environment = {name: value for name, value in self.environment(transform).items() if name not in without}
        handler = build(environment, s3=s3 or self.s3, sqs=lambda: sqs or self.sqs)
        done = 0
        while records := self.receive(transform):
            try:
                answer = handler({"Records": [as_record(each) for each in records]}, Clock())
            except SystemUnavailable as error:
                answer = error.response
            failed = {each["itemIdentifier"] for each in answer["batchItemFailures"]}
            for each in records:
                if each["MessageId"] in failed:
                    self.sqs.send_message(QueueUrl=self.url(transform, "QueueDLQ"), MessageBody=each["Body"])
                self.sqs.delete_message(QueueUrl=self.url(transform), ReceiptHandle=each["ReceiptHandle"])
            done += len(records)
        return done

    def receive(self, transform: str, kind: str = "Queue") -> list[dict[str, Any]]:
        received = self.sqs.receive_message(
            QueueUrl=self.url(transform, kind), MaxNumberOfMessages=10, AttributeNames=["All"]
        )
        messages: list[dict[str, Any]] = received.get("Messages", [])
        return messages

    def waiting(self, transform: str, kind: str = "Queue") -> int:
        """How many messages can be received."""
        name = "ApproximateNumberOfMessages"
        attributes = self.sqs.get_queue_attributes(QueueUrl=self.url(transform, kind), AttributeNames=[name])
        return int(attributes["Attributes"][name])

    def silver(self, key: str) -> bytes:
        body: bytes = self.s3.get_object(Bucket=self.buckets["silver"], Key=key)["Body"].read()
        return body

    @contextmanager
    def opened(self, messages: list[str] | None = None) -> Iterator[tuple[Pipeline, AwsTarget]]:
        tell = messages.append if messages is not None else lambda _: None
        with open_stack(self.account, self.name, self.pipeline, tell=tell, wait=0) as result:
            yield result


def as_record(message: Mapping[str, Any]) -> dict[str, Any]:
    """https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html"""
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message.get("Attributes", {}),
    }


def operators_policy(stack: str, region: str, account: str) -> dict[str, Any]:
    """The policy in docs/operations.md, with the names put in; those of the buckets are a pipeline's defaults."""
    text = (Path(__file__).parents[1] / "docs/operations.md").read_text()
    (block,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    names = {"REGION": region, "ACCOUNT": account, "STACK": stack}
    buckets = {role: f"dl-{role.lower()}-layer" for role in ("BRONZE", "SILVER", "QUARANTINE", "GOLD")}
    for name, value in {**names, **buckets}.items():
        block = block.replace(name, value)
    document: dict[str, Any] = json.loads(block)
    return document


def known_to_moto(
    template: Mapping[str, Any], *, without: frozenset[str] = frozenset({"AWS::Lambda::Function"})
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The resources and outputs that moto can make, and that refer to nothing else. Whatever invokes a function would
    want Docker, so that mappings are none of them, nor what is of the types ``without``."""
    resources = template["Resources"]
    left_out = {
        name
        for name, each in resources.items()
        if each["Type"] in {*without, "AWS::Lambda::EventSourceMapping"} or not resource_class_from_type(each["Type"])
    }

    def clean(value: Mapping[str, Any]) -> bool:
        text = json.dumps({name: each for name, each in value.items() if name != "DependsOn"})
        return not any(f'"{name}"' in text for name in left_out)

    known = {name: dict(each) for name, each in resources.items() if name not in left_out and clean(each)}
    for each in known.values():
        each["DependsOn"] = [name for name in each.get("DependsOn", ()) if name in known]
    return known, {name: each for name, each in template["Outputs"].items() if clean(each)}
