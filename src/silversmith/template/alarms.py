"""What a person should look at: a message in a dead-letter queue, or one that has been waiting too long."""

from __future__ import annotations

from troposphere import GetAtt, cloudwatch, sqs

#: A queue is late when its oldest message is older than this, in seconds, and than two tries take.
LATE = 3600


def dead_letter_alarm(queue: sqs.Queue, what: str) -> cloudwatch.Alarm:
    """Something lies in a dead-letter queue; ``what`` says of which messages."""
    return _alarm(
        f"{queue.title}Alarm",
        queue,
        metric="ApproximateNumberOfMessagesVisible",
        threshold=1,
        description=f"{what}: see `silversmith failures`, then `silversmith redrive`",
    )


def age_alarm(title: str, queue: sqs.Queue, visibility_timeout: int) -> cloudwatch.Alarm:
    """The oldest message of a queue is old: its function fails, is throttled, or has more to do than it can."""
    return _alarm(
        title,
        queue,
        metric="ApproximateAgeOfOldestMessage",
        threshold=max(LATE, 2 * visibility_timeout),
        description="a file has been waiting too long to become silver: see `silversmith status`",
    )


def _alarm(title: str, queue: sqs.Queue, *, metric: str, threshold: int, description: str) -> cloudwatch.Alarm:
    """https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html"""
    return cloudwatch.Alarm(
        title,
        AlarmDescription=description,
        Namespace="AWS/SQS",
        MetricName=metric,
        Dimensions=[cloudwatch.MetricDimension(Name="QueueName", Value=GetAtt(queue, "QueueName"))],
        Statistic="Maximum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=threshold,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        TreatMissingData="notBreaching",
    )
