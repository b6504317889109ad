"""Encryption at rest: by AWS's own keys, or by one key of the customer's for everything."""

from __future__ import annotations

from typing import Any

from troposphere import AWSObject, Ref, Sub, kms, s3

from silversmith.template.plan import Plan, arn
from silversmith.template.policies import Statement, allow, policy

#: The services that use a key with the rights of who calls them.
BUCKETS, QUEUES = "s3", "sqs"

#: What CloudWatch Logs does with a key, each by its whole name.
_FOR_LOGS = (
    *("Encrypt", "Decrypt", "ReEncryptFrom", "ReEncryptTo"),
    *("GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "DescribeKey"),
)


def key(plan: Plan) -> list[AWSObject]:
    """The customer's key, if one is wanted. Deleting the stack leaves it: what the buckets hold cannot be read without.

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
    """Each service is bound to what it uses the key for. In a key's own policy ``*`` stands for this key.

    To an encrypted topic EventBridge tells neither its rule nor its account, but there is the topic itself:
    https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-key-management.html
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/encrypt-log-data-kms.html
    """
    topic = Sub(arn("sns", plan.physical(kind="Topic")))
    rules = Sub(arn("events", f"rule/{plan.physical(kind='Rule')}*"))
    logs = Sub(arn("logs", f"log-group:/aws/lambda/{plan.name}_*"))
    found = [
        allow(
            "LetRolesAndPeopleBeGivenRights",
            "kms:*",
            "*",
            principal={"AWS": Sub("arn:${AWS::Partition}:iam::${AWS::AccountId}:root")},
        ),
        _use("PublishEvents", "events.amazonaws.com", StringEquals={"kms:EncryptionContext:aws:sns:topicArn": topic}),
        _use("BuryEvents", "events.amazonaws.com", ArnLike={"aws:SourceArn": rules}),
        _use("SendMessages", "sns.amazonaws.com", ArnEquals={"aws:SourceArn": topic}),
        allow(
            "KeepLogs",
            [f"kms:{action}" for action in _FOR_LOGS],
            "*",
            principal={"Service": Sub("logs.${AWS::Region}.${AWS::URLSuffix}")},
            condition={"ArnLike": {"kms:EncryptionContext:aws:logs:arn": logs}},
        ),
    ]
    if plan.options.alarm_email:
        found.append(
            _use(
                "PublishAlarms",
                "cloudwatch.amazonaws.com",
                StringEquals={"aws:SourceAccount": Ref("AWS::AccountId")},
                ArnLike={"aws:SourceArn": Sub(arn("cloudwatch", "alarm:*"))},
            )
        )
    return found


def _use(sid: str, service: str, **condition: Any) -> Statement:
    actions = ["kms:Decrypt", "kms:GenerateDataKey"]
    return allow(sid, actions, "*", principal={"Service": service}, condition=condition)


def key_use(plan: Plan, *services: str) -> list[Statement]:
    """What a role needs to read and write what is encrypted by a customer's key: by way of these services only.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html
    """

    def use(sid: str, keys: list[Any], services: tuple[str, ...]) -> Statement:
        via = [Sub(f"{service}.${{AWS::Region}}.amazonaws.com") for service in services]
        return allow(
            sid,
            ["kms:Decrypt", "kms:GenerateDataKey"],
            keys if len(keys) > 1 else keys[0],
            condition={"StringEquals": {"kms:ViaService": via if len(via) > 1 else via[0]}},
        )

    found = [use("UseKey", [plan.key], services)] if plan.key is not None else []
    if plan.options.existing_keys and BUCKETS in services:
        found.append(use("UseKeysOfBuckets", list(plan.options.existing_keys), (BUCKETS,)))
    return found


def of_bucket(plan: Plan) -> s3.BucketEncryption:
    """With a bucket key S3 asks KMS once in a while, and not for every object."""
    if plan.key is None:
        rule = s3.ServerSideEncryptionRule(
            ServerSideEncryptionByDefault=s3.ServerSideEncryptionByDefault(SSEAlgorithm="AES256")
        )
    else:
        rule = s3.ServerSideEncryptionRule(
            BucketKeyEnabled=True,
            ServerSideEncryptionByDefault=s3.ServerSideEncryptionByDefault(
                SSEAlgorithm="aws:kms", KMSMasterKeyID=plan.key
            ),
        )
    return s3.BucketEncryption(ServerSideEncryptionConfiguration=[rule])


def of_queue(plan: Plan) -> dict[str, Any]:
    """Properties of a queue."""
    return {"SqsManagedSseEnabled": True} if plan.key is None else {"KmsMasterKeyId": plan.key}


def of_topic(plan: Plan) -> dict[str, Any]:
    """Properties of a topic. AWS's own key for SNS lets neither EventBridge nor CloudWatch in, for good."""
    return {} if plan.key is None else {"KmsMasterKeyId": plan.key}


def of_log_group(plan: Plan) -> dict[str, Any]:
    """Properties of a log group, which AWS encrypts in any case."""
    return {} if plan.key is None else {"KmsKeyId": plan.key}


def of_function(plan: Plan) -> dict[str, Any]:
    """Properties of a function: its environment, and its snapshot if it has one. Lambda makes itself a grant for it.

    https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars-encryption.html
    """
    return {} if plan.key is None else {"KmsKeyArn": plan.key}
