"""docs/deploy.md and docs/cli.md are right about deploying: commands, alarms, rights, and the sums."""

from __future__ import annotations

import fnmatch
import io
import json
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import polars as pl
import pytest
from botocore import xform_name
from moto import mock_aws

from silversmith import Deployment, Pipeline
from silversmith.aws.account import Account
from silversmith.aws.bundle import Bundle
from silversmith.aws.deploy import Deployed, Release, deploy, diff, with_layers
from silversmith.aws.destroy import destroy, erase, take_inventory
from silversmith.aws.packages import Runtime
from silversmith.cli.application import application
from silversmith.cli.deploy import bundle_document as of_bundle
from silversmith.cli.deploy import deploy_document as of_deployment
from silversmith.cli.deploy import destroy_document as of_destroyed
from silversmith.events import ObjectEvent
from silversmith.function.outcome import Verdict
from silversmith.function.process import run
from silversmith.function.task import Task
from silversmith.pipeline.lookups import Lookups
from silversmith.stores import Lake
from silversmith.stores.s3 import S3Store, connect
from silversmith.template import compile as compile_template

#: Moto leaves files open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/deploy.md").read_text("utf-8")
CLI = (ROOT / "docs/cli.md").read_text("utf-8")

SESSION = boto3.session.Session("some", "thing", region_name="us-east-1")


def commands(program: str) -> list[str]:
    """Every call of a program in the page: on lines of their own, and within sentences."""
    lines = re.findall(rf"^ +({program} .*)$", PAGE, re.MULTILINE)
    return sorted({*lines, *re.findall(rf"`({program} [a-z][^`]*)`", PAGE)})


@pytest.mark.parametrize("command", commands("silversmith"))
def test_every_command_of_ours_is_one(command: str) -> None:
    application().parse_args(shlex.split(command)[1:], exit_on_error=False, print_error=False)


#: What AWS's command line calls otherwise than its API does.
RENAMED = {("subscribe", "endpoint"): "notification-endpoint"}


@pytest.mark.parametrize("command", commands("aws"))
def test_every_command_of_aws_is_one(command: str) -> None:
    _, service, operation, *arguments = shlex.split(command)
    model = SESSION.client(service).meta.service_model
    (actual,) = [name for name in model.operation_names if xform_name(name, "-") == operation]
    shape = model.operation_model(actual).input_shape
    members = {xform_name(name, "-") for name in shape.members} if shape else set()
    options = {argument[2:] for argument in arguments if argument.startswith("--")}
    assert options <= {RENAMED.get((operation, member), member) for member in members}


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#h][^)#]*)(?:#[^)]*)?\)", PAGE))
def test_every_link_leads_somewhere(link: str) -> None:
    assert (ROOT / "docs" / link).exists()


def everything() -> Iterator[dict[str, Any]]:
    """Templates with all kinds of resources."""
    pipeline = Pipeline("flights")
    pipeline.sql("late/*.csv", "SELECT * FROM rows", name="late")
    pipeline.table("late", of="late")
    named = Deployment(
        bronze="example-bronze", silver="example-silver", quarantine="example-quarantine", gold="example-gold"
    )
    for options in (
        replace(named, customer_key=True, alarm_email="ops@example.com", provisioned_concurrency=2),
        replace(named, snap_start=True, reserved_concurrency=2),
    ):
        yield with_layers(compile_template(pipeline, deployment=options), "flights")


RESOURCES = [each for template in everything() for each in template["Resources"].items()]


@pytest.mark.parametrize("name", sorted({name for name, each in RESOURCES if each["Type"] == "AWS::CloudWatch::Alarm"}))
def test_every_alarm_has_its_row(name: str) -> None:
    rows = re.findall(r"^\| ((?:`…?\w+Alarm`(?:, )?)+) \|", PAGE, re.MULTILINE)
    names = [matches for row in rows for matches in re.findall(r"`(…?)(\w+)`", row)]
    assert any(name.endswith(ending) if begins else name == ending for begins, ending in names)


#: What CloudFormation calls to make, change and delete a resource; of whose rights the page speaks.
#: https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
RIGHTS = {
    "AWS::CloudWatch::Alarm": "cloudwatch:PutMetricAlarm cloudwatch:DeleteAlarms cloudwatch:TagResource",
    "AWS::Events::Rule": "events:PutRule events:PutTargets events:RemoveTargets events:DeleteRule events:DescribeRule",
    "AWS::Glue::Database": "glue:CreateDatabase glue:GetDatabase glue:UpdateDatabase glue:DeleteDatabase",
    "AWS::Glue::Table": "glue:CreateTable glue:GetTable glue:UpdateTable glue:DeleteTable",
    "AWS::IAM::Role": "iam:CreateRole iam:DeleteRole iam:GetRole iam:PutRolePolicy iam:DeleteRolePolicy iam:PassRole",
    "AWS::KMS::Alias": "kms:CreateAlias kms:DeleteAlias kms:ListAliases",
    "AWS::KMS::Key": "kms:CreateKey kms:PutKeyPolicy kms:EnableKeyRotation kms:TagResource kms:DescribeKey",
    "AWS::Lambda::Alias": "lambda:CreateAlias lambda:DeleteAlias lambda:PutProvisionedConcurrencyConfig",
    "AWS::Lambda::EventSourceMapping": "lambda:CreateEventSourceMapping lambda:UpdateEventSourceMapping "
    "lambda:DeleteEventSourceMapping lambda:GetEventSourceMapping",
    "AWS::Lambda::Function": "lambda:CreateFunction lambda:UpdateFunctionCode lambda:UpdateFunctionConfiguration "
    "lambda:DeleteFunction lambda:GetFunction lambda:TagResource lambda:PutFunctionConcurrency "
    "lambda:PutFunctionRecursionConfig",
    "AWS::Lambda::LayerVersion": "lambda:PublishLayerVersion lambda:DeleteLayerVersion lambda:GetLayerVersion",
    "AWS::Lambda::Version": "lambda:PublishVersion lambda:ListVersionsByFunction",
    "AWS::Logs::LogGroup": "logs:CreateLogGroup logs:PutRetentionPolicy logs:DeleteLogGroup logs:DescribeLogGroups",
    "AWS::S3::Bucket": "s3:CreateBucket s3:DeleteBucket s3:PutBucketVersioning s3:PutEncryptionConfiguration "
    "s3:PutBucketPublicAccessBlock s3:PutBucketOwnershipControls s3:PutLifecycleConfiguration "
    "s3:PutBucketNotification s3:PutBucketTagging s3:GetBucketVersioning",
    "AWS::S3::BucketPolicy": "s3:PutBucketPolicy s3:GetBucketPolicy s3:DeleteBucketPolicy",
    "AWS::SNS::Subscription": "sns:Subscribe sns:Unsubscribe sns:SetSubscriptionAttributes",
    "AWS::SNS::Topic": "sns:CreateTopic sns:DeleteTopic sns:SetTopicAttributes sns:GetTopicAttributes sns:TagResource",
    "AWS::SNS::TopicPolicy": "sns:SetTopicAttributes",
    "AWS::SQS::Queue": "sqs:CreateQueue sqs:DeleteQueue sqs:SetQueueAttributes sqs:GetQueueAttributes sqs:TagQueue",
    "AWS::SQS::QueuePolicy": "sqs:SetQueueAttributes",
    "AWS::Scheduler::Schedule": "scheduler:CreateSchedule scheduler:UpdateSchedule scheduler:DeleteSchedule",
    "AWS::Scheduler::ScheduleGroup": "scheduler:CreateScheduleGroup scheduler:DeleteScheduleGroup",
}

#: How a resource's ARN goes on after region and account, from its properties.
NAMED = {
    "AWS::Events::Rule": "events:eu-central-1:123456789012:rule/{Name}",
    "AWS::Lambda::Function": "lambda:eu-central-1:123456789012:function:{FunctionName}",
    "AWS::Lambda::LayerVersion": "lambda:eu-central-1:123456789012:layer:{LayerName}",
    "AWS::Logs::LogGroup": "logs:eu-central-1:123456789012:log-group:{LogGroupName}:*",
    "AWS::S3::Bucket": "s3:::{BucketName}",
    "AWS::SNS::Topic": "sns:eu-central-1:123456789012:{TopicName}",
    "AWS::SQS::Queue": "sqs:eu-central-1:123456789012:{QueueName}",
    "AWS::Scheduler::Schedule": "scheduler:eu-central-1:123456789012:schedule/flights_Schedules/{Name}",
    "AWS::Scheduler::ScheduleGroup": "scheduler:eu-central-1:123456789012:schedule-group/{Name}",
}


def policy() -> list[dict[str, Any]]:
    (text,) = re.findall(r"^```json\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    document: list[dict[str, Any]] = json.loads(text)["Statement"]
    return document


def allowed(action: str, arn: str | None = None) -> bool:
    """Whether a statement allows it, on that resource if it is named."""
    return any(
        any(fnmatch.fnmatchcase(action.lower(), each.lower()) for each in listed(statement["Action"]))
        and (arn is None or any(fnmatch.fnmatchcase(arn, each) for each in listed(statement["Resource"])))
        for statement in policy()
    )


def test_the_deployer_may_read_the_owner_of_silver() -> None:
    """Without that right a deploy only says that it cannot see it, and never refuses another pipeline's silver."""
    for key in ("silver/_schemas/orders.json", "silver/orders/1.csv.parquet", "quarantine/orders/1.csv.error.json"):
        assert allowed("s3:GetObject", f"arn:aws:s3:::example-{key}")
    assert not allowed("s3:GetObject", "arn:aws:s3:::example-bronze/orders/1.csv")


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def test_the_policy_is_one_that_iam_takes() -> None:
    """https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html"""
    (text,) = re.findall(r"^```json\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert len(re.sub(r"\s", "", text)) <= 6144
    sids = [statement["Sid"] for statement in policy()]
    assert len(set(sids)) == len(sids)


@pytest.mark.parametrize("kind", sorted({each["Type"] for _, each in RESOURCES}))
def test_the_deployer_may_make_every_kind_of_resource(kind: str) -> None:
    of_kind = [each["Properties"] for _, each in RESOURCES if each["Type"] == kind]
    arns = [f"arn:aws:{NAMED[kind].format(**properties)}" for properties in of_kind] if kind in NAMED else [None]
    for action in RIGHTS[kind].split():
        for arn in ["*"] if action == "logs:DescribeLogGroups" else arns:
            assert allowed(action, arn), f"{action} on {arn}"


#: What a call needs that is not called like it.
CALLS = {
    "s3:HeadBucket": "s3:ListBucket",
    "s3:HeadObject": "s3:GetObject",
    "s3:PutPublicAccessBlock": "s3:PutBucketPublicAccessBlock",
    "s3:PutBucketLifecycleConfiguration": "s3:PutLifecycleConfiguration",
    "s3:ListObjectVersions": "s3:ListBucketVersions",
    "s3:DeleteObjects": "s3:DeleteObjectVersion",
}


def test_the_deployer_may_make_every_call_of_ours(account: Account, small_release: Release) -> None:
    called: set[str] = set()

    def client(service: str) -> Any:
        aws_client = account.client(service)
        aws_client.meta.events.register(
            "before-call", lambda model, **_: called.add(f"{model.service_model.signing_name}:{model.name}")
        )
        return aws_client

    watched = Account(account.id, account.region, client)
    deploy(small_release, watched, confirm=lambda _: True, pause=lambda _: None)
    account.client("s3").put_object(Bucket="dl-silver-layer", Key="a", Body=b"1")
    diff(small_release, watched, pause=lambda _: None)
    inventory = take_inventory("sales", watched)
    assert inventory is not None
    destroy("sales", watched, pause=lambda _: None)
    assert len(erase(inventory, watched, asked=True, confirm=lambda _: True)) == 3
    assert len(called) > 15
    assert {call for call in called if not allowed(CALLS.get(call, call))} == set()


def prices() -> dict[str, float]:
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", PAGE, re.MULTILINE)
    return {name: float(price) for name, price in rows}


def test_the_sums_are_right() -> None:
    """Prices are in USD for a million, a GB or a month, as the table says."""
    (code,) = [
        matches for matches in re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE) if "sum" in matches
    ]
    names: dict[str, Any] = {**prices()}
    exec(code, names)
    examples = re.findall(r"^\| `(\w+\(.*?\))` \| ([\d.]+) \|", PAGE, re.MULTILINE)
    assert len(examples) >= 5
    assert {call: f"{eval(call, names)['sum']:.2f}" for call, _ in examples} == dict(examples)


def test_a_small_file_takes_as_many_requests_as_the_sums_say(tmp_path: Path) -> None:
    pipeline = Pipeline("sales")
    pipeline.sql("sales/*.csv", "SELECT * FROM rows", name="sales")
    body = io.BytesIO()
    pl.DataFrame({"a": [1, 2]}).write_csv(body)
    with mock_aws():
        client = connect(SESSION)
        for bucket in ("bronze", "silver", "quarantine"):
            client.create_bucket(Bucket=bucket)
        client.put_object(Bucket="bronze", Key="sales/1.csv", Body=body.getvalue())
        lake = Lake(*(S3Store(name, client=client, scratch=tmp_path) for name in ("bronze", "silver", "quarantine")))
        called: Counter[str] = Counter()
        client.meta.events.register("before-call", lambda model, **_: called.update([model.name]))
        transform = pipeline.find("sales")
        lookups = Lookups(lake.bronze, transform.lookups, tmp_path, name=transform.name)
        event = ObjectEvent("bronze", "sales/1.csv", size=10)
        done = run(Task(event, transform, lake, tmp_path, lookups, was_received=False))
    assert done.verdict is Verdict.COMMITTED
    assert called == {"GetObject": 1, "HeadObject": 1, "PutObject": 1}


def test_every_field_of_a_document_is_named(account: Account, small_release: Release, tmp_path: Path) -> None:
    done: Deployed = deploy(small_release, account, confirm=lambda _: True, pause=lambda _: None)
    inventory = take_inventory("sales", account)
    assert inventory is not None
    (tmp_path / "zip").write_bytes(b"")
    assert small_release.bundle is not None
    bundle = Bundle({}, small_release.bundle.packages, Runtime(), "")
    documents = {
        "bundle": of_bundle(bundle, [tmp_path / "zip"]),
        "deploy": of_deployment(done, account),
        "destroy": of_destroyed(inventory, account, (), destroyed=True),
    }
    for command, document in documents.items():
        section = re.search(rf"\*\*{command}\*\*.*? —(.*?)\n\n", CLI, re.DOTALL)
        assert section
        assert fields(document) - set(re.findall(r"`(\w+)`", section[1])) == set()


def fields(value: Any) -> set[str]:
    """All names of fields, also of those within lists; not the outputs' names, which are the template's."""
    if isinstance(value, list):
        return {name for each in value for name in fields(each)}
    if isinstance(value, dict):
        return {*value} | {inner for name, each in value.items() if name != "outputs" for inner in fields(each)}
    return set()
