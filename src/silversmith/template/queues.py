"""Queues, and those that only keep what went wrong."""

from __future__ import annotations

from troposphere import Sub, sqs

from silversmith.template.encryption import of_queue
from silversmith.template.plan import Plan, arn

#: The longest that SQS keeps a message: 14 days.
LONGEST_RETENTION = 1_209_600

#: How long a transform's queue keeps a message: a week. What SQS then moves to the dead-letter queue keeps the time at
#: which it was first sent, so that queue must keep messages longer, or they would be gone soon after.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/setting-up-dead-letter-queue-retention.html
SOURCE_RETENTION = 604_800


def dead_letter_queue(
    title: str, name: str, plan: Plan, *, retention: int = LONGEST_RETENTION, source: str = ""
) -> sqs.Queue:
    """A queue that only keeps, for ``retention`` seconds. Only the queue named ``source`` may have it as its
    dead-letter queue, or none may: by name, for a reference would go round in a circle.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html
    """
    allowed = (
        {"redrivePermission": "byQueue", "sourceQueueArns": [Sub(arn("sqs", source))]}
        if source
        else {"redrivePermission": "denyAll"}
    )
    return sqs.Queue(
        title,
        QueueName=name,
        MessageRetentionPeriod=retention,
        RedriveAllowPolicy=allowed,
        **of_queue(plan),
    )
