"""What a person should look at: a message in a dead-letter queue, or one that has been waiting too long."""

from __future__ import annotations

from troposphere import AWSObject, GetAtt, Ref, Sub, awslambda, cloudwatch, sns, sqs

from silversmith.telemetry.embedded import NAMESPACE
from silversmith.template.encryption import of_topic
from silversmith.template.plan import Plan, arn
from silversmith.template.policies import topic_policy

#: A queue is late when its oldest message is older than this, in seconds, and than two tries take.
LATE = 3600


def dead_letter_alarm(queue: sqs.Queue, plan: Plan, description: str) -> cloudwatch.Alarm:
    """Something lies in a dead-letter queue; ``description`` says what that means and what to do."""
    return _alarm(
        f"{queue.title}Alarm",
        queue,
        plan,
        metric="ApproximateNumberOfMessagesVisible",
        threshold=1,
        description=description,
    )


def age_alarm(title: str, queue: sqs.Queue, plan: Plan, visibility_timeout: int) -> cloudwatch.Alarm:
    """The oldest message of a queue is old: its function fails, is throttled, or has more to do than it can."""
    return _alarm(
        title,
        queue,
        plan,
        metric="ApproximateAgeOfOldestMessage",
        threshold=max(LATE, 2 * visibility_timeout),
        description="a file has been waiting too long to become silver: see `silversmith status`",
    )


def round_alarm(
    title: str, function: awslambda.Function, plan: Plan, *, metric: str, description: str
) -> cloudwatch.Alarm:
    """What the last round of reconciliation found. Rounds are hours apart: until the next one, what the last one said
    stays so.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
    """
    actions = plan.alarm_actions
    return cloudwatch.Alarm(
        title,
        AlarmDescription=description,
        Namespace=NAMESPACE,
        MetricName=metric,
        Dimensions=[cloudwatch.MetricDimension(Name="FunctionName", Value=Ref(function))],
        Statistic="Maximum",
        Period=300,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        TreatMissingData="ignore",
        **({"AlarmActions": actions} if actions else {}),
    )


def mail(plan: Plan) -> list[AWSObject]:
    """The topic that mails the alarms to somebody, if somebody wants them.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Notify_Users_Alarm_Changes.html
    """
    if not plan.options.alarm_email:
        return []
    topic = sns.Topic("AlarmTopic", TopicName=plan.physical(kind="Alarms"), **of_topic(plan))
    condition = {
        "ArnLike": {"aws:SourceArn": Sub(arn("cloudwatch", "alarm:*"))},
        "StringEquals": {"aws:SourceAccount": Ref("AWS::AccountId")},
    }
    email = sns.SubscriptionResource(
        "AlarmEmail", TopicArn=Ref(topic), Protocol="email", Endpoint=plan.options.alarm_email
    )
    return [topic, topic_policy(topic, "PublishAlarms", "cloudwatch.amazonaws.com", condition=condition), email]


def _alarm(
    title: str, queue: sqs.Queue, plan: Plan, *, metric: str, threshold: int, description: str
) -> cloudwatch.Alarm:
    """https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html"""
    actions = plan.alarm_actions
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
        **({"AlarmActions": actions} if actions else {}),
    )
