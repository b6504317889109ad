"""The golden templates as stacks on moto: another reader of CloudFormation than ours, which must find nothing amiss."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.cloudformation.parsing import resource_class_from_type

from tests.deployed import known_to_moto

GOLDEN = Path(__file__).parents[1] / "unit/template/golden"

#: Moto leaves files open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

#: Of these moto knows nothing: docs/stand-ins.md.
UNKNOWN = {
    "AWS::CloudWatch::Alarm",
    "AWS::Glue::Database",
    "AWS::Glue::Table",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::Subscription",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::QueuePolicy",
    "AWS::Scheduler::Schedule",
    "AWS::Scheduler::ScheduleGroup",
}


@pytest.fixture
def client() -> Iterator[Any]:
    with mock_aws():
        session = boto3.session.Session("id", "secret", region_name="eu-central-1")
        s3 = session.client("s3")
        s3.create_bucket(Bucket="code", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        s3.put_object(Bucket="code", Key="code.zip", Body=b"PK\x05\x06" + bytes(18))
        yield session.client


@pytest.mark.parametrize("name", sorted(path.stem for path in GOLDEN.glob("*.json")))
def test_a_golden_template_becomes_a_stack(client: Any, name: str) -> None:
    template = json.loads((GOLDEN / f"{name}.json").read_text())
    known, outputs = known_to_moto(template, without=frozenset())
    for resource in known.values():
        if resource["Type"] == "AWS::KMS::Key":  # moto takes the tags of a key for another kind of tags
            resource["Properties"] = {key: value for key, value in resource["Properties"].items() if key != "Tags"}
    cloudformation = client("cloudformation")
    body = json.dumps({**template, "Resources": known, "Outputs": outputs})
    parameters = [
        {"ParameterKey": key, "ParameterValue": "code" if key == "CodeBucket" else "code.zip"}
        for key in template["Parameters"]
    ]
    cloudformation.validate_template(TemplateBody=json.dumps(template))
    cloudformation.create_stack(
        StackName=name, TemplateBody=body, Parameters=parameters, Capabilities=["CAPABILITY_NAMED_IAM"]
    )
    (stack,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    created = cloudformation.list_stack_resources(StackName=name)["StackResourceSummaries"]
    assert {each["LogicalResourceId"] for each in created} == set(known)
    assert {each["OutputKey"] for each in stack["Outputs"]} == set(outputs)
    assert {each["ResourceType"] for each in created} >= {"AWS::SQS::Queue", "AWS::SNS::Topic", "AWS::Lambda::Function"}
    for each in created:
        if each["ResourceType"] == "AWS::Lambda::Function":
            there = client("lambda").get_function(FunctionName=each["PhysicalResourceId"])["Configuration"]
            asked = known[each["LogicalResourceId"]]["Properties"]
            assert there.get("Handler") == asked.get("Handler"), "that of an image has none"
            assert "Handler" in asked or asked["PackageType"] == "Image"
    cloudformation.delete_stack(StackName=name)
    with pytest.raises(ClientError, match="does not exist"):
        cloudformation.describe_stacks(StackName=name)


def test_kinds_that_moto_does_not_know_are_in_the_documentation() -> None:
    templates = [json.loads(path.read_text()) for path in GOLDEN.glob("*.json")]
    types = {each["Type"] for template in templates for each in template["Resources"].values()}
    assert {kind for kind in types if not resource_class_from_type(kind)} <= UNKNOWN | {"AWS::Lambda::Alias"}
    text = (Path(__file__).parents[2] / "docs/stand-ins.md").read_text()
    assert {kind for kind in UNKNOWN if f"`{kind}`" not in text} == set()
