"""Permissions and encryption: the policies of buckets, topics and queues, the customer's key, roles.

Everything is encrypted by AWS's own keys or by one key of the customer. Each role may do the least that its function
needs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from troposphere import AWSHelperFn, AWSObject, GetAtt, Join, Ref, Sub, iam, kms, logs, s3, sns, sqs

from silversmith.pipeline.deployment import ROLES
from silversmith.pipeline.needs import Secret
from silversmith.template.plan import Plan, arn

Statement = dict[str, Any]

#: The longest policies of a role together, in characters, with room to spare.
#: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
LONGEST_IN_ROLE = 9_500

#: The name of the policy with the statements that a user declares for a transform.
DECLARED = "Declared"

#: The services by which a role uses a key.
BUCKETS, QUEUES = "s3", "sqs"


def policy(*statements: Statement) -> dict[str, Any]:
    """A policy document."""
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow(
    sid: str,
    action: str | list[str],
    resource: Any,
    *,
    principal: dict[str, Any] | None = None,
    condition: dict[str, Any] | None = None,
) -> Statement:
    """A statement with Effect Allow. Without a principal, as in a role's policy."""
    return {
        "Sid": sid,
        "Effect": "Allow",
        **({"Principal": principal} if principal else {}),
        "Action": action,
        "Resource": resource,
        **({"Condition": condition} if condition else {}),
    }


def one_or_list(values: Sequence[Any]) -> Any:
    """The only value by itself, several as a list."""
    return list(values) if len(values) > 1 else values[0]


def _tls_only(action: str, *resources: AWSHelperFn) -> Statement:
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/security-best-practices.html"""
    condition = {"Bool": {"aws:SecureTransport": "false"}}
    return {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": action,
        "Resource": one_or_list(resources),
        "Condition": condition,
    }


def bucket_policy(bucket: s3.Bucket, more: Sequence[Mapping[str, Any]] = ()) -> s3.BucketPolicy:
    """It allows nothing but by the user's statements ``more``: the roles of the functions have their own rights."""
    everything = [GetAtt(bucket, "Arn"), Join("", [GetAtt(bucket, "Arn"), "/*"])]
    statements = [{"Resource": everything, **statement} for statement in more]
    return s3.BucketPolicy(
        f"{bucket.title}Policy",
        Bucket=Ref(bucket),
        PolicyDocument=policy(_tls_only("s3:*", *everything), *statements),
    )


def topic_policy(
    topic: sns.Topic, sid: str, service: str, *, condition: dict[str, Any] | None = None
) -> sns.TopicPolicy:
    """``service`` may publish, under a condition."""
    publish = allow(sid, "sns:Publish", Ref(topic), principal={"Service": service}, condition=condition)
    return sns.TopicPolicy(
        f"{topic.title}Policy",
        Topics=[Ref(topic)],
        PolicyDocument=policy(publish, _tls_only("sns:Publish", Ref(topic))),
    )


def queue_policy(queue: sqs.Queue, *, service: str = "", sources: Any = None) -> sqs.QueuePolicy:
    """``service`` may send on behalf of the ARNs ``sources``; without them only roles with the right may.

    https://docs.aws.amazon.com/sns/latest/dg/subscribe-sqs-queue-to-sns-topic.html
    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
    """
    statements = [_tls_only("sqs:*", GetAtt(queue, "Arn"))]
    if sources:
        send = allow(
            "SendMessages",
            "sqs:SendMessage",
            GetAtt(queue, "Arn"),
            principal={"Service": service},
            condition={"ArnEquals": {"aws:SourceArn": sources}},
        )
        statements.insert(0, send)
    return sqs.QueuePolicy(f"{queue.title}Policy", Queues=[Ref(queue)], PolicyDocument=policy(*statements))


def customer_key(plan: Plan) -> list[AWSObject]:
    """The customer's key, if one is wanted. Deleting the stack leaves it: the buckets cannot be read without it.

    https://docs.aws.amazon.com/kms/latest/developerguide/key-policy-default.html
    """
    if plan.key is None:
        return []
    return [
        kms.Key(
            "Key",
            Description=f"Everything of the Silversmith pipeline {plan.name}",
            EnableKeyRotation=True,
            KeyPolicy=policy(*_key_statements(plan)),
            DeletionPolicy="Retain",
            UpdateReplacePolicy="Retain",
        ),
        kms.Alias("NameOfKey", AliasName=f"alias/{plan.name}", TargetKeyId=Ref("Key")),
    ]


def _key_statements(plan: Plan) -> list[Statement]:
    """Each service is bound to its own use of the key. In a key's own policy ``*`` stands for this key.

    EventBridge is bound to nothing: for its way to an encrypted topic AWS supports no condition on the rule or the
    account, and documents none on the topic. The same statement lets it into the encrypted dead-letter queues.
    https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html#compatibility-with-aws-services
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-key-management.html
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/encrypt-log-data-kms.html
    """

    def use(sid: str, service: str, **condition: Any) -> Statement:
        actions = ["kms:Decrypt", "kms:GenerateDataKey"]
        return allow(sid, actions, "*", principal={"Service": service}, condition=condition)

    stages = ("", "Silver") if plan.tables else ("",)
    topic = one_or_list([Sub(arn("sns", plan.physical(kind=f"{stage}Topic"))) for stage in stages])
    log_groups = Sub(arn("logs", f"log-group:/aws/lambda/{plan.name}_*"))
    log_actions = (
        *("Encrypt", "Decrypt", "ReEncryptFrom", "ReEncryptTo"),
        *("GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "DescribeKey"),
    )
    statements = [
        allow(
            "LetRolesAndPeopleBeGivenRights",
            "kms:*",
            "*",
            principal={"AWS": Sub("arn:${AWS::Partition}:iam::${AWS::AccountId}:root")},
        ),
        use("LetEventsIn", "events.amazonaws.com"),
        use("SendMessages", "sns.amazonaws.com", ArnEquals={"aws:SourceArn": topic}),
        allow(
            "KeepLogs",
            [f"kms:{action}" for action in log_actions],
            "*",
            principal={"Service": Sub("logs.${AWS::Region}.${AWS::URLSuffix}")},
            condition={"ArnLike": {"kms:EncryptionContext:aws:logs:arn": log_groups}},
        ),
    ]
    if plan.options.alarm_email:
        alarms = {
            "StringEquals": {"aws:SourceAccount": Ref("AWS::AccountId")},
            "ArnLike": {"aws:SourceArn": Sub(arn("cloudwatch", "alarm:*"))},
        }
        statements.append(use("PublishAlarms", "cloudwatch.amazonaws.com", **alarms))
    return statements


def encrypted(plan: Plan, name: str) -> dict[str, Any]:
    """The property ``name`` of a topic, log group or function with the customer's key; nothing where AWS's keys do.

    AWS's own key for SNS lets neither EventBridge nor CloudWatch in, for good, so a topic has no key then.
    https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars-encryption.html
    """
    return {} if plan.key is None else {name: plan.key}


def bucket_encryption(plan: Plan) -> s3.BucketEncryption:
    """With a bucket key S3 asks KMS once in a while, and not for every object."""
    if plan.key is None:
        bucket_key, algorithm = {}, {"SSEAlgorithm": "AES256"}
    else:
        bucket_key, algorithm = {"BucketKeyEnabled": True}, {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": plan.key}
    rule = s3.ServerSideEncryptionRule(
        **bucket_key, ServerSideEncryptionByDefault=s3.ServerSideEncryptionByDefault(**algorithm)
    )
    return s3.BucketEncryption(ServerSideEncryptionConfiguration=[rule])


def role(
    title: str,
    plan: Plan,
    service: str,
    statements: Sequence[Statement],
    *,
    managed: Sequence[iam.ManagedPolicy] = (),
    condition: dict[str, Any] | None = None,
    declared: Sequence[Statement] = (),
) -> iam.Role:
    """A role that ``service`` takes on, with ``statements`` that its function needs, and those that the user
    ``declared``. Its name is CloudFormation's choice.

    Lambda is not documented to tell STS for which function it takes on a role, so its roles have no ``condition``: that
    nobody gives our role to a function of another account is what ``iam:PassRole`` is for, which does not cross
    accounts. https://docs.aws.amazon.com/lambda/latest/dg/permissions-source-function-arn.html
    """
    trust = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    boundary = plan.options.permissions_boundary
    return iam.Role(
        title,
        AssumeRolePolicyDocument=policy(trust | ({"Condition": condition} if condition else {})),
        Policies=[
            iam.Policy(PolicyName="Needs", PolicyDocument=policy(*statements)),
            *([iam.Policy(PolicyName=DECLARED, PolicyDocument=policy(*declared))] if declared else []),
        ],
        **({"ManagedPolicyArns": [each.ref() for each in managed]} if managed else {}),
        **({"PermissionsBoundary": boundary} if boundary else {}),
    )


def key_use(plan: Plan, *services: str) -> list[Statement]:
    """The rights of a role to read and write what a customer's key encrypts: by way of these services only.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html
    """

    def use(sid: str, keys: Sequence[Any], services: Sequence[str]) -> Statement:
        via = [Sub(f"{service}.${{AWS::Region}}.amazonaws.com") for service in services]
        condition = {"StringEquals": {"kms:ViaService": one_or_list(via)}}
        return allow(sid, ["kms:Decrypt", "kms:GenerateDataKey"], one_or_list(keys), condition=condition)

    statements = [use("UseKey", [plan.key], services)] if plan.key is not None else []
    if plan.options.existing_keys and BUCKETS in services:
        statements.append(use("UseKeysOfBuckets", plan.options.existing_keys, [BUCKETS]))
    return statements


def secret_use(secrets: Iterable[Secret], stack: str) -> list[Statement]:
    """The rights of a role to read these secrets, and to decrypt those that a key of the user's encrypts.

    AWS's own keys let everybody of the account use them by way of their services.
    https://docs.aws.amazon.com/kms/latest/developerguide/services-parameter-store.html
    https://docs.aws.amazon.com/secretsmanager/latest/userguide/auth-and-access_examples.html
    """
    resources: dict[str, dict[str, Any]] = {}
    keys: list[Statement] = []
    for secret in secrets:
        # AWS adds a hyphen and six characters to the name of a secret.
        place, last = secret.place(stack), secret.resource(stack, "??????")
        resource: Any = place if place.startswith("arn:") else Sub(arn(secret.service, last))
        resources.setdefault(secret.action, {})[place] = resource
        if secret.key:
            condition = {
                "StringEquals": {"kms:ViaService": Sub(f"{secret.service}.${{AWS::Region}}.amazonaws.com")},
                "StringLike": {secret.context_key: resource},
            }
            keys.append(allow(f"UseKeyOfSecret{len(keys) + 1}", "kms:Decrypt", secret.key, condition=condition))
    reads = [
        allow(f"Read{'Parameters' if action.startswith('ssm:') else 'Secrets'}", action, one_or_list([*each.values()]))
        for action, each in resources.items()
    ]
    return [*reads, *keys]


def known_missing(plan: Plan, roles: Sequence[str] = ROLES) -> Statement:
    """Without s3:ListBucket S3 answers 403 instead of 404 for a key that is not there. No prefix can narrow it: a GET
    has none.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html
    """
    buckets = [plan.bucket_arn(role) for role in roles]
    return allow("KnowWhatIsMissing", "s3:ListBucket", buckets, condition=ours())


def ours() -> dict[str, Any]:
    """Only while the buckets are this account's: an ARN of S3 names no account, and the name of a bucket that is
    deleted is anybody's to take.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html#condition-keys-resourceaccount
    """
    return {"StringEquals": {"aws:ResourceAccount": Ref("AWS::AccountId")}}


def running(plan: Plan, name: str, log_group: logs.LogGroup, *, transform: str = "") -> list[Statement]:
    """The rights that any function of this name needs to run at all: to write logs, and in a VPC to have a network.

    In a VPC, Lambda makes network interfaces with the rights of the function's role. The function's own code must not:
    its requests, and only they, name the function. EC2 describes everything or nothing, so ``*``; a subnet may be
    another account's. https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html
    """
    write = allow("WriteLogs", ["logs:CreateLogStream", "logs:PutLogEvents"], GetAtt(log_group, "Arn"))
    vpc = plan.options.vpc_of(transform)
    if vpc is None:
        return [write]
    shared = [Sub(f"arn:${{AWS::Partition}}:ec2:${{AWS::Region}}:*:subnet/{subnet}") for subnet in vpc.subnets]
    changes = [f"ec2:{verb}NetworkInterface" for verb in ("Create", "Delete")]
    changes += [f"ec2:{verb}PrivateIpAddresses" for verb in ("Assign", "Unassign")]
    looks = ["ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets"]
    by_code = {"ArnEquals": {"lambda:SourceFunctionArn": Sub(arn("lambda", f"function:{name}"))}}
    return [
        write,
        allow("MakeNetworkInterfaces", changes, [Sub(arn("ec2", "*/*")), *shared]),
        allow("SeeNetwork", looks, "*"),
        {**allow("NetworkNotByCode", [*changes, *looks], "*", condition=by_code), "Effect": "Deny"},
    ]


def length(statements: Sequence[Statement]) -> int:
    """The number of their characters in a policy. IAM does not count white space."""
    return len(json.dumps(statements, default=lambda item: item.to_dict(), separators=(",", ":")))


def escaped(prefix: str) -> str:
    """A literal text for a policy's Resource, where ``*``, ``?`` and ``$`` would mean something.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html
    """
    return re.sub(r"[*?$]", lambda sign: f"${{{sign.group()}}}", prefix)
