"""The building blocks around a Lambda function: its log group, versions and mapping."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from troposphere import AWSObject, GetAtt, Ref, Sub, awslambda, iam, logs, sqs

from silversmith.pipeline.deployment import ROLES
from silversmith.template.permissions import encrypted
from silversmith.template.plan import Plan

#: The longest CodeKey, so that a version's description, which takes 256 characters, can tell it.
LONGEST_CODE_KEY = 180

#: The Python of the functions, in Lambda's words.
PYTHON = "python3.13"

#: The parameter with the URI of the image, in the place of CodeKey where the deployment has one. No other stack has a
#: parameter of this name. A version's description tells it, too, so it must be no longer than this.
IMAGE, LONGEST_IMAGE = "SilversmithImage", 220

#: Properties of a function that no published version keeps.
_NOT_OF_VERSIONS = {"Code", "PackageType", "ReservedConcurrentExecutions", "RecursiveLoop", "Tags"}


def log_group(title: str, plan: Plan, name: str) -> logs.LogGroup:
    """The log group of the function of that name: made beforehand, or Lambda would make one that keeps for ever."""
    return logs.LogGroup(
        title,
        LogGroupName=f"/aws/lambda/{name}",
        RetentionInDays=plan.options.log_retention_days,
        **encrypted(plan, "KmsKeyId"),
    )


def lineage_events(plan: Plan) -> dict[str, str]:
    """The variables that have a function send OpenLineage events; the second is the client's own."""
    url = plan.options.openlineage
    return {"SILVERSMITH_OPENLINEAGE": "on", "OPENLINEAGE_URL": url} if url else {}


def function(
    title: str,
    plan: Plan,
    name: str,
    *,
    handler: str,
    role: iam.Role,
    log_group: logs.LogGroup,
    environment: dict[str, Any],
    roles: Sequence[str] = ROLES,
    code: str = "CodeKey",
    transform: str = "",
    **properties: Any,
) -> awslambda.Function:
    """A function, with the properties that all of them have.

    Args:
        environment: its variables beside those that all have: the pipeline, the stack and the buckets.
        roles: the buckets that it is told of.
        code: the parameter with the key of its code.
        transform: the name of the transform that it runs; empty: it runs none.
        properties: its own.
    """
    vpc = plan.options.vpc_of(transform)
    if vpc is not None:
        properties["VpcConfig"] = awslambda.VPCConfig(
            SecurityGroupIds=list(vpc.security_groups), SubnetIds=list(vpc.subnets)
        )
    variables = {
        "SILVERSMITH_PIPELINE": plan.reference,
        "SILVERSMITH_STACK": plan.name,
        **{f"SILVERSMITH_{role.upper()}": plan.buckets[role] for role in roles},
        **environment,
    }
    architectures = [plan.options.architecture]
    if plan.options.image and code == "CodeKey":
        runs: dict[str, Any] = {
            "PackageType": "Image",
            "Architectures": architectures,
            "ImageConfig": awslambda.ImageConfig(Command=[handler]),
            "Code": awslambda.Code(ImageUri=Ref(IMAGE)),
        }
    else:
        runs = {
            "Runtime": PYTHON,
            "Architectures": architectures,
            "Handler": handler,
            "Code": awslambda.Code(S3Bucket=Ref("CodeBucket"), S3Key=Ref(code)),
        }
    return awslambda.Function(
        title,
        FunctionName=name,
        **runs,
        Environment=awslambda.Environment(Variables=variables),
        Role=GetAtt(role, "Arn"),
        LoggingConfig=awslambda.LoggingConfig(LogGroup=Ref(log_group)),
        **encrypted(plan, "KmsKeyArn"),
        **properties,
    )


def published(
    version_title: str, alias_title: str, function: awslambda.Function, *, provisioned: int | None
) -> list[AWSObject]:
    """A version and an alias of a function, last the one to invoke: snapshots and warm environments are of versions.

    CloudFormation publishes another version when the description of this one changes, and Lambda refuses to publish
    the same version again. So the description tells all that a version keeps, no less and no more: the code, whose key
    must change with it, and the configuration.
    https://docs.aws.amazon.com/lambda/latest/dg/configuration-versions.html
    """
    properties = function.to_dict()["Properties"]
    kept = {name: value for name, value in properties.items() if name not in _NOT_OF_VERSIONS}
    digest = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]
    code = IMAGE if properties.get("PackageType") == "Image" else "CodeKey"
    version = awslambda.Version(
        version_title, FunctionName=Ref(function), Description=Sub(f"${{{code}}} configuration {digest}")
    )
    warm = {}
    if provisioned is not None:
        warm["ProvisionedConcurrencyConfig"] = awslambda.ProvisionedConcurrencyConfiguration(
            ProvisionedConcurrentExecutions=provisioned
        )
    alias = awslambda.Alias(
        alias_title, Name="live", FunctionName=Ref(function), FunctionVersion=GetAtt(version, "Version"), **warm
    )
    return [version, alias]


class _ScalingConfig(awslambda.ScalingConfig):  # type: ignore[misc]
    """Some versions of troposphere know another resource's properties by this name."""

    props = {"MaximumConcurrency": (int, True)}  # noqa: RUF012 -- as its base declares it


def mapping(
    title: str, queue: sqs.Queue, invoked: AWSObject, *, batch_size: int, batch_window: int, concurrency: int
) -> awslambda.EventSourceMapping:
    """The mapping of a queue to a function or an alias of it."""
    return awslambda.EventSourceMapping(
        title,
        EventSourceArn=GetAtt(queue, "Arn"),
        FunctionName=Ref(invoked),
        BatchSize=batch_size,
        MaximumBatchingWindowInSeconds=batch_window,
        FunctionResponseTypes=["ReportBatchItemFailures"],
        ScalingConfig=_ScalingConfig(MaximumConcurrency=concurrency),
    )
