"""The options of a deployment: what AWS would refuse is refused here, with what to do instead."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith import DefinitionError, Deployment, ObjectLock, Pipeline, Vpc
from silversmith.pipeline.deployment import ROLES, named
from silversmith.pipeline.limits import bucket_name, pipeline_name

SUBNET, GROUP = "subnet-0123456789abcdef0", "sg-01234567"
BOUNDARY = "arn:aws:iam::123456789012:policy/boundary"
STATEMENT = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject"}
KEY = "arn:aws:kms:eu-central-1:123456789012:key/01234567"
LAYER = "arn:aws:lambda:eu-central-1:123456789012:layer:tools:3"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"prefix": "Test"}, r"prefix='Test' must be lower-case"),
        ({"prefix": "test-"}, "no '-' last"),
        ({"prefix": "t" * 21}, "at most 20"),
        ({"silver": "My_Bucket"}, r"silver='My_Bucket' must be lower-case"),
        ({"existing_buckets": ("silvr",)}, "must name roles"),
        ({"existing_buckets": "bronze"}, "must name roles"),
        ({"existing_keys": ("alias/mine",)}, "existing_keys: 'alias/mine' is no ARN"),
        ({"existing_keys": KEY}, "must be a tuple"),
        ({"tags": {"aws:x": "1"}}, "begins with what others use"),
        ({"tags": {"silversmith:pipeline": "1"}}, "begins with what others use"),
        ({"tags": {"": "1"}}, "must be of letters"),
        ({"tags": {"a": "1" * 257}}, "must be of letters"),
        ({"tags": {str(number): "" for number in range(49)}}, "49 tags are too many"),
        ({"log_retention_days": 31}, "31 is not one that CloudWatch Logs takes"),
        ({"alarm_email": "ops"}, "'ops' is no address"),
        ({"alarm_topic": "arn:aws:sqs:eu-central-1:123456789012:q"}, "alarm_topic: .* is no ARN"),
        ({"permissions_boundary": "boundary"}, "permissions_boundary: 'boundary' is no ARN"),
        ({"service_role": BOUNDARY}, "service_role: '.*policy/boundary' is no ARN of that kind: .*:role/"),
        ({"architecture": "arm"}, '"arm64" or "x86_64"'),
        ({"reconcile_hours": -1}, "0 .never. to 8,760"),
        ({"reconcile_hours": True}, "0 .never. to 8,760"),
        ({"ephemeral_storage": 511}, "ephemeral_storage=511 is out of range: 512 to 10,240 MB"),
        ({"ephemeral_storage": {"a": 10_241}}, "ephemeral_storage=10241 is out of range"),
        ({"reserved_concurrency": 1}, "reserved_concurrency=1 is out of range"),
        ({"include": "lookup/*.csv"}, r"must be a tuple: include=\('lookup/\*\.csv',\)"),
        ({"requirements": "fastexcel"}, r"must be a tuple: requirements=\('fastexcel',\)"),
        ({"vpc": "vpc-1"}, "must be a Vpc"),
        ({"vpc": {"a": None}}, "must be a Vpc"),
        ({"layers": LAYER}, "must be a tuple of at most 4"),
        ({"layers": {"a": (LAYER,) * 5}}, "must be a tuple of at most 4"),
        ({"layers": ("layer:3",)}, "no ARN of a layer"),
        ({"provisioned_concurrency": {"a": 0}}, "provisioned_concurrency=0 is out of range"),
        ({"old_versions_days": -1}, "old_versions_days=-1 must be 0"),
        ({"old_versions_days": True}, "old_versions_days=True must be 0"),
        ({"bucket_policies": {"silvr": []}}, "bucket_policies speaks of 'silvr'; there are bronze"),
        ({"bucket_policies": {"silver": STATEMENT}}, "must be a list of statements"),
        ({"bucket_policies": {"silver": ["Allow"]}}, "'Allow' is no part of a statement"),
        ({"bucket_policies": {"silver": [STATEMENT | {"Efect": 1}]}}, "Efect is no part of a statement"),
        ({"bucket_policies": {"silver": [STATEMENT | {"Effect": "allow"}]}}, "Effect='allow' must be"),
        ({"bucket_policies": {"silver": [{"Effect": "Deny", "Action": "*"}]}}, "needs Principal or NotPrincipal"),
        ({"bucket_policies": {"silver": [STATEMENT]}, "existing_buckets": ("silver",)}, "is there already"),
        ({"access_logs": "My_Logs"}, "access_logs: 'My_Logs' must be lower-case"),
        ({"replicate_to": {"bronze": "arn:aws:s3:::copy"}}, "replicate_to: 'arn:aws:s3:::copy' must be"),
        ({"replicate_to": {"bronze": "copy"}, "customer_key": True}, "exclude each other"),
        ({"replicate_to": {"bronze": "copy"}, "existing_buckets": ("bronze",)}, "is there already"),
        ({"snap_start": True, "provisioned_concurrency": 1}, "exclude each other"),
        ({"snap_start": True, "ephemeral_storage": {"a": 1024}}, "exclude each other"),
        ({"image": True, "snap_start": True}, "image and snap_start exclude each other: Lambda has no"),
        ({"image": True, "layers": (LAYER,)}, "image and layers exclude each other: Lambda has no"),
    ],
)
def test_values_that_aws_would_refuse_are_refused_here(options: dict[str, Any], says: str) -> None:
    with pytest.raises(DefinitionError, match=f"the deployment is not valid: .*{says}"):
        Deployment(**options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"subnets": (), "security_groups": (GROUP,)}, "subnets=.. must be one id or more"),
        ({"subnets": SUBNET, "security_groups": (GROUP,)}, "must be one id or more"),
        ({"subnets": (SUBNET,), "security_groups": (SUBNET,)}, "they look like sg-"),
        ({"subnets": ("subnet-0123",), "security_groups": (GROUP,)}, "'subnet-0123' is no such id"),
    ],
)
def test_a_vpc_needs_subnets_and_security_groups(options: dict[str, Any], says: str) -> None:
    with pytest.raises(DefinitionError, match=says):
        Vpc(**options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"days": 0}, "days=0 must be 1 to 36,500"),
        ({"days": 7, "mode": "GOVERNANCE"}, "mode='GOVERNANCE' must be"),
        ({"days": 7, "buckets": "bronze"}, "must name roles"),
        ({"days": 7, "buckets": ("brass",)}, "must name roles"),
        ({"days": 7, "buckets": ()}, "must name roles"),
    ],
)
def test_a_lock_is_of_days_a_mode_and_buckets(options: dict[str, Any], says: str) -> None:
    with pytest.raises(DefinitionError, match=f"object_lock: .*{says}"):
        ObjectLock(**options)


def test_a_deployment_does_not_change() -> None:
    with pytest.raises(AttributeError):
        Deployment().prefix = "test"  # type: ignore[misc]


def test_the_prefix_is_before_what_is_made_and_not_before_what_has_a_name_already() -> None:
    deployment = Deployment(prefix="test", silver="elsewhere", existing_buckets=("quarantine",))
    assert deployment.name("flights") == "test-flights"
    pipeline = Pipeline("flights")
    assert [deployment.bucket(role, getattr(pipeline, role)) for role in ROLES] == [
        "test-dl-bronze-layer",
        "elsewhere",
        "dl-quarantine-layer",
    ]


def test_a_prefix_that_makes_the_name_too_long_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r"'flights-.*' cannot be deployed as 'production-flights-.*at most 40"):
        Deployment(prefix="production").name("flights-" + "x" * 30)


prefixes = st.from_regex(r"[a-z][a-z0-9-]{0,19}", fullmatch=True).filter(lambda text: not text.endswith("-"))


@given(prefixes, prefixes, st.from_regex(r"[a-z][a-z0-9-]{0,18}", fullmatch=True))
def test_stages_share_no_name(one: str, other: str, pipeline: str) -> None:
    stages = [Deployment(prefix=prefix) for prefix in (one, other)]
    names = [stage.name(pipeline) for stage in stages]
    assert (names[0] == names[1]) is (one == other)
    for stage, name in zip(stages, names, strict=True):
        assert not pipeline_name(name)
        assert not bucket_name(stage.bucket("bronze", "dl-bronze-layer"))


def test_a_number_is_for_all_transforms_or_for_some() -> None:
    deployment = Deployment(ephemeral_storage={"large": 4096}, reserved_concurrency=7)
    assert [deployment.number("ephemeral_storage", name) for name in ("large", "small")] == [4096, None]
    assert deployment.number("reserved_concurrency", "small") == 7
    assert deployment.number("provisioned_concurrency", "small") is None


def test_a_deployment_is_found_by_its_name_in_the_module() -> None:
    test, production = Deployment(prefix="test"), Deployment()
    module = {"pipeline": Pipeline("flights"), "test": test, "production": production}
    assert named(module, "test") is test
    assert named({"deployment": production, "test": test}) is production
    assert named({"pipeline": 1}) == Deployment()
    with pytest.raises(DefinitionError, match="say which deployment, with --deployment: test, production"):
        named(module)
    with pytest.raises(DefinitionError, match=r"no deployment 'prod' .* there are: test, production"):
        named(module, "prod")


def test_every_option_is_documented_with_its_default() -> None:
    page = Path(__file__).parents[2].joinpath("docs/template.md").read_text("utf-8")
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| ([^|]+) \|", page.partition("## Options")[2], re.MULTILINE)
    documented = {name: default for names, default in rows for name in re.findall(r"\w+", names)}
    for option in fields(Deployment):
        default = getattr(Deployment(), option.name)
        said = documented[option.name].strip("`").replace('"', "")
        assert said == str(default) or (not default and said.startswith(("none", "the pipeline's")))
