"""What a person should look at: dead messages and old ones, functions that fail or are throttled, bad data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from troposphere import AWSObject, GetAtt, Ref, Sub, awslambda, cloudwatch, sns, sqs

from silversmith.function.telemetry import NAMESPACE
from silversmith.template.encryption import of_topic
from silversmith.template.plan import Plan, arn
from silversmith.template.policies import topic_policy

#: A queue is late when its oldest message is older than this, in seconds, and than two tries take.
LATE = 3600

#: A function is in trouble when in so many periods of five minutes, within two hours, something went wrong. What the
#: system failed comes back every half hour at last, so that a shorter look would see an outage come and go.
TROUBLED, OF = 3, 24


def dead_letter_alarm(queue: sqs.Queue, plan: Plan, description: str) -> cloudwatch.Alarm:
    """Something lies in a dead-letter queue; ``description`` says what that means and what to do."""
    return _alarm(
        f"{queue.title}Alarm",
        queue,
        plan,
        "ApproximateNumberOfMessagesVisible",
        threshold=1,
        description=description,
    )


def age_alarm(title: str, queue: sqs.Queue, plan: Plan, visibility_timeout: int) -> cloudwatch.Alarm:
    """The oldest message of a queue is old: its function fails, is throttled, or has more to do than it can."""
    return _alarm(
        title,
        queue,
        plan,
        "ApproximateAgeOfOldestMessage",
        threshold=max(LATE, 2 * visibility_timeout),
        description="a file has been waiting too long to become silver: see `silversmith status`, and whether the "
        "mapping of the function is enabled",
    )


def function_alarm(title: str, function: awslambda.Function, plan: Plan) -> cloudwatch.Alarm:
    """The function fails, or Lambda refuses to run it. The age of the oldest message does not tell that: SQS leaves out
    what was received more than three times.

    https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
    """
    of_function = {"FunctionName": Ref(function)}
    return _math_alarm(
        title,
        plan,
        "FILL(errors, 0) + FILL(throttles, 0)",
        _sum("errors", "AWS/Lambda", "Errors", of_function, seconds=300),
        _sum("throttles", "AWS/Lambda", "Throttles", of_function, seconds=300),
        threshold=0,
        description="a function fails as a whole or Lambda refuses to run it: see its log, and `silversmith doctor "
        "--target aws`. Files wait meanwhile, and are tried for a day",
        EvaluationPeriods=OF,
        DatapointsToAlarm=TROUBLED,
    )


def round_alarm(
    title: str, function: awslambda.Function, plan: Plan, *, metric: str, description: str
) -> cloudwatch.Alarm:
    """What the last round of reconciliation found. Rounds are hours apart: until the next one, what the last one said
    stays so.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
    """
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
        **_actions(plan),
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


def bad_data_alarms(transform: str, title: str, plan: Plan) -> list[cloudwatch.Alarm]:
    """Of what came within an hour, more than the share that the deployment allows was bad; none where it names none.

    The metrics are those that the functions write: docs/observability.md.
    """
    share = plan.options.alarm_bad_share
    if not share:
        return []
    kinds = {
        "Quarantine": ("FilesQuarantined", "FilesCommitted", "files went to quarantine: see `silversmith failures`"),
        "Rejected": ("RowsRejected", "RowsWritten", "rows were rejected: see `silversmith failures --rejected`"),
    }
    of_transform = {"Pipeline": plan.pipeline, "Transform": transform}
    return [
        _math_alarm(
            f"{title}{kind}Alarm",
            plan,
            "FILL(bad, 0) / (FILL(bad, 0) + FILL(good, 0))",
            _sum("bad", NAMESPACE, bad, of_transform, seconds=3600),
            _sum("good", NAMESPACE, good, of_transform, seconds=3600),
            threshold=share,
            description=f"more than {share:.2%} of the {text}",
            EvaluationPeriods=1,
        )
        for kind, (bad, good, text) in kinds.items()
    ]


def _math_alarm(
    title: str,
    plan: Plan,
    expression: str,
    *metrics: cloudwatch.MetricDataQuery,
    threshold: float,
    description: str,
    **more: int,
) -> cloudwatch.Alarm:
    """https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html"""
    return cloudwatch.Alarm(
        title,
        AlarmDescription=description,
        Metrics=[cloudwatch.MetricDataQuery(Id="told", Expression=expression, ReturnData=True), *metrics],
        Threshold=threshold,
        ComparisonOperator="GreaterThanThreshold",
        TreatMissingData="notBreaching",
        **more,
        **_actions(plan),
    )


def _sum(
    name: str, namespace: str, metric: str, dimensions: Mapping[str, Any], *, seconds: int
) -> cloudwatch.MetricDataQuery:
    given = [cloudwatch.MetricDimension(Name=key, Value=value) for key, value in dimensions.items()]
    found = cloudwatch.Metric(Namespace=namespace, MetricName=metric, Dimensions=given)
    return cloudwatch.MetricDataQuery(
        Id=name, ReturnData=False, MetricStat=cloudwatch.MetricStat(Metric=found, Period=seconds, Stat="Sum")
    )


def _alarm(
    title: str, queue: sqs.Queue, plan: Plan, metric: str, *, threshold: int, description: str
) -> cloudwatch.Alarm:
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
        **_actions(plan),
    )


def _actions(plan: Plan) -> dict[str, Any]:
    return {"AlarmActions": plan.alarm_actions} if plan.alarm_actions else {}
