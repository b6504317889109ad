"""What one transform needs: subscription, queue, function, and what catches what goes wrong between them."""

from __future__ import annotations

from typing import Any

from troposphere import AWSObject, GetAtt, Output, Ref, awslambda, logs, s3, sns, sqs

from silversmith.patterns.keys import KeyPattern
from silversmith.pipeline import Pipeline, Transform
from silversmith.template.alarms import age_alarm, dead_letter_alarm
from silversmith.template.names import logical, physical
from silversmith.template.permissions import function_role, queue_policy

#: The longest that SQS keeps a message: 14 days.
LONGEST_RETENTION = 1_209_600

#: How long logs are kept, in days.
LOG_RETENTION_DAYS = 30

HANDLER = "silversmith.handler.handler"


def visibility_timeout(transform: Transform) -> int:
    """Six times the function's timeout, as AWS advises, and the time that a batch may wait to fill.

    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
    """
    return 6 * transform.timeout + transform.batch_window


def dead_letter_queue(title: str, name: str) -> sqs.Queue:
    """A queue that only keeps, for as long as SQS does."""
    return sqs.Queue(title, QueueName=name, MessageRetentionPeriod=LONGEST_RETENTION, SqsManagedSseEnabled=True)


def resources(
    transform: Transform, pipeline: Pipeline, *, topic: sns.Topic, buckets: dict[str, s3.Bucket], reference: str
) -> list[AWSObject]:
    """All resources of one transform, in the order in which they build on each other."""
    dead = dead_letter_queue(logical(transform.name, "QueueDLQ"), physical(pipeline.name, transform.name, "DLQ"))
    queue = _queue(transform, pipeline, dead)
    undelivered = dead_letter_queue(
        logical(transform.name, "SubscriptionDLQ"), physical(pipeline.name, transform.name, "SubscriptionDLQ")
    )
    log_group = logs.LogGroup(
        logical(transform.name, "LogGroup"),
        LogGroupName=f"/aws/lambda/{physical(pipeline.name, transform.name)}",
        RetentionInDays=LOG_RETENTION_DAYS,
    )
    role = function_role(transform, buckets=buckets, queue=queue, log_group=log_group)
    function = _function(transform, pipeline, role=role, log_group=log_group, queue=queue, reference=reference)
    delivery = [
        queue_policy(found, service="sns.amazonaws.com", sources=[Ref(topic)]) for found in (queue, undelivered)
    ]
    return [
        dead,
        queue_policy(dead),
        queue,
        undelivered,
        *delivery,
        _subscription(transform, topic, queue, undelivered, after=delivery),
        log_group,
        role,
        function,
        _mapping(transform, queue, function),
        dead_letter_alarm(dead, f"the transform {transform.name} gave up on a file"),
        dead_letter_alarm(undelivered, f"an event did not reach the queue of the transform {transform.name}"),
        age_alarm(logical(transform.name, "QueueAgeAlarm"), queue, visibility_timeout(transform)),
    ]


def _queue(transform: Transform, pipeline: Pipeline, dead: sqs.Queue) -> sqs.Queue:
    return sqs.Queue(
        logical(transform.name, "Queue"),
        QueueName=physical(pipeline.name, transform.name),
        VisibilityTimeout=visibility_timeout(transform),
        MessageRetentionPeriod=LONGEST_RETENTION,
        RedrivePolicy=sqs.RedrivePolicy(
            deadLetterTargetArn=GetAtt(dead, "Arn"), maxReceiveCount=transform.max_receive_count
        ),
        SqsManagedSseEnabled=True,
    )


def key_filter(pattern: KeyPattern) -> list[Any]:
    """The narrowest filter of a key that SNS can do, which is not as narrow as the pattern: no wildcards, and of
    several conditions any will do. The handler matches exactly.

    https://docs.aws.amazon.com/sns/latest/dg/string-value-matching.html
    """
    if pattern.literal_prefix:
        return [{"prefix": pattern.literal_prefix}]
    return [{"suffix": pattern.literal_suffix}] if pattern.literal_suffix else []


def _subscription(
    transform: Transform, topic: sns.Topic, queue: sqs.Queue, undelivered: sqs.Queue, *, after: list[sqs.QueuePolicy]
) -> sns.SubscriptionResource:
    """Made after the queues' policies: SNS does not try again what a queue refuses."""
    keys = key_filter(transform.pattern)
    narrowed = {"FilterPolicyScope": "MessageBody", "FilterPolicy": {"detail": {"object": {"key": keys}}}}
    return sns.SubscriptionResource(
        logical(transform.name, "Subscription"),
        TopicArn=Ref(topic),
        Protocol="sqs",
        Endpoint=GetAtt(queue, "Arn"),
        RawMessageDelivery=True,
        **(narrowed if keys else {}),
        RedrivePolicy={"deadLetterTargetArn": GetAtt(undelivered, "Arn")},
        DependsOn=[policy.title for policy in after],
    )


def _function(
    transform: Transform,
    pipeline: Pipeline,
    *,
    role: AWSObject,
    log_group: logs.LogGroup,
    queue: sqs.Queue,
    reference: str,
) -> awslambda.Function:
    return awslambda.Function(
        logical(transform.name, "Function"),
        FunctionName=physical(pipeline.name, transform.name),
        Description=f"Makes {pipeline.silver}/{transform.name}/ of what lands in {pipeline.bronze}",
        Runtime="python3.13",
        Architectures=["arm64"],
        Handler=HANDLER,
        Code=awslambda.Code(S3Bucket=Ref("CodeBucket"), S3Key=Ref("CodeKey")),
        MemorySize=transform.memory,
        Timeout=transform.timeout,
        Environment=awslambda.Environment(
            Variables={
                "SILVERSMITH_PIPELINE": reference,
                "SILVERSMITH_TRANSFORM": transform.name,
                "SILVERSMITH_BRONZE": pipeline.bronze,
                "SILVERSMITH_SILVER": pipeline.silver,
                "SILVERSMITH_QUARANTINE": pipeline.quarantine,
                "SILVERSMITH_QUEUE": Ref(queue),
            }
        ),
        Role=GetAtt(role, "Arn"),
        LoggingConfig=awslambda.LoggingConfig(LogGroup=Ref(log_group)),
    )


class _ScalingConfig(awslambda.ScalingConfig):  # type: ignore[misc]
    """Some versions of troposphere know another resource's properties by this name."""

    props = {"MaximumConcurrency": (int, True)}  # noqa: RUF012 -- as its base declares it


def _mapping(transform: Transform, queue: sqs.Queue, function: awslambda.Function) -> awslambda.EventSourceMapping:
    """https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-parameters.html"""
    limit = transform.maximum_concurrency
    scaling = {"ScalingConfig": _ScalingConfig(MaximumConcurrency=limit)} if limit else {}
    return awslambda.EventSourceMapping(
        logical(transform.name, "Mapping"),
        EventSourceArn=GetAtt(queue, "Arn"),
        FunctionName=Ref(function),
        BatchSize=transform.batch_size,
        MaximumBatchingWindowInSeconds=transform.batch_window,
        FunctionResponseTypes=["ReportBatchItemFailures"],
        **scaling,
    )


def outputs(transform: Transform) -> list[Output]:
    """Where its messages are."""
    what = {
        "Queue": f"Files for the transform {transform.name}",
        "QueueDLQ": f"Files that the transform {transform.name} gave up on",
        "SubscriptionDLQ": f"Events that did not reach the queue of the transform {transform.name}",
    }
    return [
        Output(f"{logical(transform.name, kind)}Url", Description=text, Value=Ref(logical(transform.name, kind)))
        for kind, text in what.items()
    ]
