"""The roles of the functions: the least that each needs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from troposphere import GetAtt, Join, Ref, Sub, iam, logs, sqs

from silversmith.pipeline import Transform
from silversmith.schemas import schema_key
from silversmith.template.encryption import BUCKETS, QUEUES, key_use
from silversmith.template.plan import Plan, arn, logical
from silversmith.template.policies import Statement, allow, policy


def role(
    title: str,
    plan: Plan,
    service: str,
    statements: Sequence[Statement],
    *,
    managed: Sequence[iam.ManagedPolicy] = (),
    condition: dict[str, Any] | None = None,
) -> iam.Role:
    """A role that ``service`` takes on. Its name is CloudFormation's choice.

    Lambda is not documented to tell STS for which function it takes on a role, so its roles have no ``condition``: that
    nobody gives our role to a function of another account is what ``iam:PassRole`` is for, which does not cross
    accounts. https://docs.aws.amazon.com/lambda/latest/dg/permissions-source-function-arn.html
    """
    trust = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    boundary = plan.options.permissions_boundary
    return iam.Role(
        title,
        AssumeRolePolicyDocument=policy(trust | ({"Condition": condition} if condition else {})),
        Policies=[iam.Policy(PolicyName="Needs", PolicyDocument=policy(*statements))],
        **({"ManagedPolicyArns": [found.ref() for found in managed]} if managed else {}),
        **({"PermissionsBoundary": boundary} if boundary else {}),
    )


def transform_role(
    transform: Transform, plan: Plan, *, queue: sqs.Queue, dead: sqs.Queue, log_group: logs.LogGroup
) -> iam.Role:
    """What one transform needs. What it gives up on it sends to the dead-letter queue itself."""
    actions = ("ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility", "GetQueueAttributes")
    statements = [
        *_objects(transform, plan),
        known_missing(plan),
        allow("ReceiveMessages", [f"sqs:{action}" for action in actions], GetAtt(queue, "Arn")),
        allow("GiveUpMessages", "sqs:SendMessage", GetAtt(dead, "Arn")),
        *key_use(plan, BUCKETS, QUEUES),
        *running(plan, plan.physical(transform.name), log_group),
    ]
    return role(logical(transform.name, "Role"), plan, "lambda.amazonaws.com", statements)


def _objects(transform: Transform, plan: Plan) -> list[Statement]:
    """A conditional put, and a conditional delete, need s3:GetObject too.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
    """

    def on(sid: str, bucket: str, prefix: str, *actions: str) -> Statement:
        resource = Join("", [plan.bucket_arn(bucket), f"/{prefix}*"])
        return allow(sid, [f"s3:{action}" for action in actions], resource, condition=ours())

    own = f"{transform.name}/"
    lookups = lookup_arns([transform], plan)
    schema = Join("", [plan.bucket_arn("silver"), f"/{schema_key(transform.name)}"])
    return [
        on("ReadBronze", "bronze", escaped(transform.pattern.literal_prefix), "GetObject", "GetObjectVersion"),
        *(
            [allow("ReadLookups", ["s3:GetObject", "s3:GetObjectVersion"], lookups, condition=ours())]
            if lookups
            else []
        ),
        on("WriteSilver", "silver", own, "GetObject", "PutObject", "AbortMultipartUpload"),
        allow("RecordSchema", ["s3:GetObject", "s3:PutObject"], schema, condition=ours()),
        on("WriteQuarantine", "quarantine", own, "GetObject", "PutObject", "DeleteObject", "AbortMultipartUpload"),
    ]


def lookup_arns(transforms: Iterable[Transform], plan: Plan) -> list[Join]:
    """The lookups that transforms declare: whole keys, not prefixes."""
    keys = dict.fromkeys(key for transform in transforms for key in transform.lookups)
    return [Join("", [plan.bucket_arn("bronze"), f"/{escaped(key)}"]) for key in keys]


def known_missing(plan: Plan) -> Statement:
    """Without s3:ListBucket S3 answers 403 instead of 404 for a key that is not there. No prefix can narrow it: a GET
    has none.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html
    """
    buckets = [plan.bucket_arn(bucket) for bucket in plan.buckets]
    return allow("KnowWhatIsMissing", "s3:ListBucket", buckets, condition=ours())


def ours() -> dict[str, Any]:
    """Only while the buckets are this account's: an ARN of S3 names no account, and the name of a bucket that is
    deleted is anybody's to take.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html#condition-keys-resourceaccount
    """
    return {"StringEquals": {"aws:ResourceAccount": Ref("AWS::AccountId")}}


def running(plan: Plan, name: str, log_group: logs.LogGroup) -> list[Statement]:
    """What any function of this name needs to run at all."""
    write = allow("WriteLogs", ["logs:CreateLogStream", "logs:PutLogEvents"], GetAtt(log_group, "Arn"))
    return [write, *_network(plan, name)]


_INTERFACES = (
    *("CreateNetworkInterface", "DeleteNetworkInterface"),
    *("AssignPrivateIpAddresses", "UnassignPrivateIpAddresses"),
)
_LOOKS = ("DescribeNetworkInterfaces", "DescribeSubnets")


def _network(plan: Plan, name: str) -> list[Statement]:
    """In a VPC, Lambda makes network interfaces with the rights of the function's role. The function's own code must
    not: its requests, and only they, name the function. EC2 describes everything or nothing, so ``*``; a subnet may be
    another account's.

    https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html
    """
    vpc = plan.options.vpc
    if vpc is None:
        return []
    shared = [Sub(f"arn:${{AWS::Partition}}:ec2:${{AWS::Region}}:*:subnet/{subnet}") for subnet in vpc.subnets]
    changes = [f"ec2:{action}" for action in _INTERFACES]
    looks = [f"ec2:{action}" for action in _LOOKS]
    deny = allow(
        "NetworkNotByCode",
        [*changes, *looks],
        "*",
        condition={"ArnEquals": {"lambda:SourceFunctionArn": Sub(arn("lambda", f"function:{name}"))}},
    )
    return [
        allow("MakeNetworkInterfaces", changes, [Sub(arn("ec2", "*/*")), *shared]),
        allow("SeeNetwork", looks, "*"),
        {**deny, "Effect": "Deny"},
    ]


def escaped(prefix: str) -> str:
    """A literal text for a policy's Resource, where ``*``, ``?`` and ``$`` would mean something.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html
    """
    return re.sub(r"[*?$]", lambda found: f"${{{found.group()}}}", prefix)
