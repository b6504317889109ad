"""Policies of buckets, topics and queues: who may come in from outside. What roles may do is in ``roles.py``."""

from __future__ import annotations

from typing import Any

from troposphere import AWSHelperFn, GetAtt, Join, Ref, s3, sns, sqs

VERSION = "2012-10-17"

Statement = dict[str, Any]


def policy(*statements: Statement) -> dict[str, Any]:
    """A policy document."""
    return {"Version": VERSION, "Statement": list(statements)}


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


def bucket_policy(bucket: s3.Bucket) -> s3.BucketPolicy:
    """Nothing is allowed by it: within one account the roles of the functions do that."""
    return s3.BucketPolicy(
        f"{bucket.title}Policy",
        Bucket=Ref(bucket),
        PolicyDocument=policy(_tls_only("s3:*", GetAtt(bucket, "Arn"), Join("", [GetAtt(bucket, "Arn"), "/*"]))),
    )


def topic_policy(
    topic: sns.Topic, sid: str, service: str, *, condition: dict[str, Any] | None = None
) -> sns.TopicPolicy:
    """``service`` may publish, under a condition."""
    return sns.TopicPolicy(
        f"{topic.title}Policy",
        Topics=[Ref(topic)],
        PolicyDocument=policy(
            allow(sid, "sns:Publish", Ref(topic), principal={"Service": service}, condition=condition),
            _tls_only("sns:Publish", Ref(topic)),
        ),
    )


def queue_policy(queue: sqs.Queue, *, service: str = "", sources: Any = None) -> sqs.QueuePolicy:
    """``service`` may send on behalf of the ARNs ``sources``; without them nobody but who has the right by a role.

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
