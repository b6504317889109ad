"""Functions and their log groups: what transforms and the reconciler have in common."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from troposphere import AWSObject, GetAtt, Ref, Sub, awslambda, iam, logs

from silversmith.pipeline import Transform
from silversmith.pipeline.deployment import STORAGE
from silversmith.template.encryption import of_function, of_log_group
from silversmith.template.names import logical
from silversmith.template.plan import Plan

#: The longest CodeKey, so that a version's description can tell it: that takes 256 characters.
LONGEST_CODE_KEY = 180

#: Properties of a function that no published version keeps.
_NOT_OF_VERSIONS = {"Code", "ReservedConcurrentExecutions", "RecursiveLoop", "Tags"}


def log_group(title: str, plan: Plan, name: str) -> logs.LogGroup:
    """The log group of the function of that name: made beforehand, or Lambda would make one that keeps for ever."""
    return logs.LogGroup(
        title,
        LogGroupName=f"/aws/lambda/{name}",
        RetentionInDays=plan.options.log_retention_days,
        **of_log_group(plan),
    )


def function(
    title: str,
    plan: Plan,
    name: str,
    *,
    handler: str,
    role: iam.Role,
    log_group: logs.LogGroup,
    environment: dict[str, Any],
    **more: Any,
) -> awslambda.Function:
    """A function of the bundle, with what all of them get.

    Args:
        environment: beside the pipeline and the buckets, which each is told.
        more: properties of its own.
    """
    vpc = plan.options.vpc
    if vpc is not None:
        more["VpcConfig"] = awslambda.VPCConfig(SecurityGroupIds=list(vpc.security_groups), SubnetIds=list(vpc.subnets))
    buckets = {f"SILVERSMITH_{bucket.upper()}": bucket_name for bucket, bucket_name in plan.buckets.items()}
    return awslambda.Function(
        title,
        FunctionName=name,
        Runtime="python3.13",
        Architectures=[plan.options.architecture],
        Handler=handler,
        Code=awslambda.Code(S3Bucket=Ref("CodeBucket"), S3Key=Ref("CodeKey")),
        Environment=awslambda.Environment(
            Variables={
                "SILVERSMITH_PIPELINE": plan.reference,
                "SILVERSMITH_STACK": plan.name,
                **buckets,
                **environment,
            }
        ),
        Role=GetAtt(role, "Arn"),
        LoggingConfig=awslambda.LoggingConfig(LogGroup=Ref(log_group)),
        **of_function(plan),
        **more,
    )


def capacity(transform: Transform, plan: Plan) -> dict[str, Any]:
    """Properties of a transform's function that the deployment's numbers decide."""
    found: dict[str, Any] = {}
    storage = plan.options.number("ephemeral_storage", transform.name) or STORAGE[0]
    if storage != STORAGE[0]:
        found["EphemeralStorage"] = awslambda.EphemeralStorage(Size=storage)
    reserved = plan.options.number("reserved_concurrency", transform.name)
    if reserved is not None:
        found["ReservedConcurrentExecutions"] = reserved
    if plan.options.snap_start:
        found["SnapStart"] = awslambda.SnapStart(ApplyOn="PublishedVersions")
    return found


def published(transform: Transform, plan: Plan, function: awslambda.Function) -> list[AWSObject]:
    """A version and an alias of the function, last the one to invoke: snapshots and warm environments are of versions.

    CloudFormation publishes another version when the description of this one changes, and Lambda refuses to publish
    one that is the same. So the description tells all that a version keeps, no less and no more: the code, whose key
    must change with it, and the configuration.
    https://docs.aws.amazon.com/lambda/latest/dg/configuration-versions.html
    """
    provisioned = plan.options.number("provisioned_concurrency", transform.name)
    if not plan.options.snap_start and provisioned is None:
        return []
    properties = function.to_dict()["Properties"]
    kept = {name: value for name, value in properties.items() if name not in _NOT_OF_VERSIONS}
    digest = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]
    version = awslambda.Version(
        logical(transform.name, "Version"),
        FunctionName=Ref(function),
        Description=Sub(f"${{CodeKey}} configuration {digest}"),
    )
    warm = (
        {
            "ProvisionedConcurrencyConfig": awslambda.ProvisionedConcurrencyConfiguration(
                ProvisionedConcurrentExecutions=provisioned
            )
        }
        if provisioned is not None
        else {}
    )
    alias = awslambda.Alias(
        logical(transform.name, "Alias"),
        Name="live",
        FunctionName=Ref(function),
        FunctionVersion=GetAtt(version, "Version"),
        **warm,
    )
    return [version, alias]
