"""Who may do what: the policies of buckets, topic and queues, and the role of each function."""

from __future__ import annotations

import re
from typing import Any

from troposphere import AWSHelperFn, GetAtt, Join, Ref, Sub, iam, logs, s3, sns, sqs

from silversmith.pipeline import Transform
from silversmith.template.names import logical

VERSION = "2012-10-17"

Statement = dict[str, Any]


def _tls_only(action: str, *resources: AWSHelperFn) -> Statement:
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/security-best-practices.html"""
    return {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": action,
        "Resource": list(resources) if len(resources) > 1 else resources[0],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }


def _policy(*statements: Statement) -> dict[str, Any]:
    return {"Version": VERSION, "Statement": list(statements)}


def bucket_policy(bucket: s3.Bucket) -> s3.BucketPolicy:
    """Nothing is allowed by it: within one account the roles of the functions do that."""
    return s3.BucketPolicy(
        f"{bucket.title}Policy",
        Bucket=Ref(bucket),
        PolicyDocument=_policy(_tls_only("s3:*", GetAtt(bucket, "Arn"), Join("", [GetAtt(bucket, "Arn"), "/*"]))),
    )


def topic_policy(topic: sns.Topic) -> sns.TopicPolicy:
    """EventBridge may publish. It tells SNS nothing about the rule, so that any Condition on it would refuse all.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html#eb-sns-permissions
    """
    allow = {
        "Sid": "PublishEvents",
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sns:Publish",
        "Resource": Ref(topic),
    }
    return sns.TopicPolicy(
        f"{topic.title}Policy", Topics=[Ref(topic)], PolicyDocument=_policy(allow, _tls_only("sns:Publish", Ref(topic)))
    )


def queue_policy(queue: sqs.Queue, *, service: str = "", sources: list[AWSHelperFn] | None = None) -> sqs.QueuePolicy:
    """``service`` may send on behalf of the ARNs ``sources``; without them nobody but who has the right by a role.

    https://docs.aws.amazon.com/sns/latest/dg/subscribe-sqs-queue-to-sns-topic.html
    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
    """
    statements = [_tls_only("sqs:*", GetAtt(queue, "Arn"))]
    if sources:
        allow = {
            "Sid": "SendMessages",
            "Effect": "Allow",
            "Principal": {"Service": service},
            "Action": "sqs:SendMessage",
            "Resource": GetAtt(queue, "Arn"),
            "Condition": {"ArnEquals": {"aws:SourceArn": sources if len(sources) > 1 else sources[0]}},
        }
        statements.insert(0, allow)
    return sqs.QueuePolicy(f"{queue.title}Policy", Queues=[Ref(queue)], PolicyDocument=_policy(*statements))


def rule_arn(name: str) -> Sub:
    """The ARN of a rule on the default bus, spelled out: so that policies can be there before the rule is."""
    return Sub(f"arn:${{AWS::Partition}}:events:${{AWS::Region}}:${{AWS::AccountId}}:rule/{name}")


def function_role(
    transform: Transform, *, buckets: dict[str, s3.Bucket], queue: sqs.Queue, log_group: logs.LogGroup
) -> iam.Role:
    """The least that one transform needs."""
    return iam.Role(
        logical(transform.name, "Role"),
        AssumeRolePolicyDocument=_policy(
            {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ),
        Policies=[
            iam.Policy(
                PolicyName="Transform",
                PolicyDocument=_policy(
                    *_objects(transform, buckets),
                    _known_missing(buckets),
                    {
                        "Sid": "ReceiveMessages",
                        "Effect": "Allow",
                        "Action": [
                            "sqs:ReceiveMessage",
                            "sqs:DeleteMessage",
                            "sqs:ChangeMessageVisibility",
                            "sqs:GetQueueAttributes",
                        ],
                        "Resource": GetAtt(queue, "Arn"),
                    },
                    {
                        "Sid": "WriteLogs",
                        "Effect": "Allow",
                        "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
                        "Resource": GetAtt(log_group, "Arn"),
                    },
                ),
            )
        ],
    )


def _objects(transform: Transform, buckets: dict[str, s3.Bucket]) -> list[Statement]:
    """A conditional put, and a conditional delete, need s3:GetObject too.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
    """

    def on(sid: str, bucket: str, prefix: str, *actions: str) -> Statement:
        resource = Join("", [GetAtt(buckets[bucket], "Arn"), f"/{prefix}*"])
        return {"Sid": sid, "Effect": "Allow", "Action": [f"s3:{action}" for action in actions], "Resource": resource}

    own = f"{transform.name}/"
    return [
        on("ReadBronze", "bronze", _escaped(transform.pattern.literal_prefix), "GetObject", "GetObjectVersion"),
        on("WriteSilver", "silver", own, "GetObject", "PutObject", "AbortMultipartUpload"),
        on("WriteQuarantine", "quarantine", own, "GetObject", "PutObject", "DeleteObject", "AbortMultipartUpload"),
    ]


def _known_missing(buckets: dict[str, s3.Bucket]) -> Statement:
    """Without s3:ListBucket S3 answers 403 instead of 404 for a key that is not there. No prefix can narrow it: a GET
    has none.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html
    """
    return {
        "Sid": "KnowWhatIsMissing",
        "Effect": "Allow",
        "Action": "s3:ListBucket",
        "Resource": [GetAtt(bucket, "Arn") for bucket in buckets.values()],
    }


def _escaped(prefix: str) -> str:
    """A literal text for a policy's Resource, where ``*``, ``?`` and ``$`` would mean something.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html
    """
    return re.sub(r"[*?$]", lambda found: f"${{{found.group()}}}", prefix)
