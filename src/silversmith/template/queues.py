"""Queues, and those that only keep what went wrong."""

from __future__ import annotations

from troposphere import sqs

from silversmith.template.encryption import of_queue
from silversmith.template.plan import Plan

#: The longest that SQS keeps a message: 14 days.
LONGEST_RETENTION = 1_209_600


def dead_letter_queue(title: str, name: str, plan: Plan, *, retention: int = LONGEST_RETENTION) -> sqs.Queue:
    """A queue that only keeps, for ``retention`` seconds."""
    return sqs.Queue(title, QueueName=name, MessageRetentionPeriod=retention, **of_queue(plan))
