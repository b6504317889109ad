"""The alarms: dead messages and old ones, functions that fail or are throttled, bad data, broken rounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from troposphere import AWSObject, GetAtt, Ref, Sub, awslambda, cloudwatch, sns, sqs

from silversmith.pipeline.deployment import AlarmCondition, alarm_conditions
from silversmith.runtime.telemetry import NAMESPACE
from silversmith.template.permissions import encrypted, topic_policy
from silversmith.template.plan import Plan, arn

#: A queue is late when its oldest message is older than this, in seconds, and than two tries take.
LATE = 3600

#: A function is in trouble when something went wrong in so many of the last periods of five minutes. A message that the
#: system failed comes back every half hour at last: within less than two hours an outage would come and go.
TROUBLED, OF = 3, 24


def dead_letter_alarm(queue: sqs.Queue, plan: Plan, description: str) -> cloudwatch.Alarm:
    """A message lies in a dead-letter queue; ``description`` says what that means and what to do."""
    return _queue_alarm(
        f"{queue.title}Alarm", queue, plan, description, metric="ApproximateNumberOfMessagesVisible", threshold=1
    )


def age_alarm(
    title: str,
    queue: sqs.Queue,
    plan: Plan,
    visibility_timeout: int,
    waits: str = "a file has been waiting too long to become silver",
) -> cloudwatch.Alarm:
    """The oldest message of a queue is old: its function fails, is throttled, or has more to do than it can. ``waits``
    says what that means."""
    description = f"{waits}: see `silversmith status`, and whether the mapping of the function is enabled"
    threshold = max(LATE, 2 * visibility_timeout)
    return _queue_alarm(title, queue, plan, description, metric="ApproximateAgeOfOldestMessage", threshold=threshold)


def _queue_alarm(
    title: str, queue: sqs.Queue, plan: Plan, description: str, *, metric: str, threshold: int
) -> cloudwatch.Alarm:
    """https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html"""
    source = {"Namespace": "AWS/SQS", "MetricName": metric}
    dimensions = {"QueueName": GetAtt(queue, "QueueName")}
    return _threshold_alarm(title, plan, description, source, dimensions, threshold=threshold)


def round_alarm(
    title: str, function: awslambda.Function, plan: Plan, *, metric: str, description: str
) -> cloudwatch.Alarm:
    """A result of the last round of reconciliation. Rounds are hours apart: its result stays until the next one.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
    """
    source = {"Namespace": NAMESPACE, "MetricName": metric}
    dimensions = {"FunctionName": Ref(function)}
    return _threshold_alarm(title, plan, description, source, dimensions, threshold=1, period=300, missing="ignore")


def _threshold_alarm(
    title: str,
    plan: Plan,
    description: str,
    source: Mapping[str, str],
    dimensions: Mapping[str, Any],
    *,
    threshold: int,
    period: int = 60,
    missing: str = "notBreaching",
    statistic: str = "Maximum",
) -> cloudwatch.Alarm:
    return cloudwatch.Alarm(
        title,
        AlarmDescription=description,
        **source,
        Dimensions=_dimensions(dimensions),
        Statistic=statistic,
        Period=period,
        EvaluationPeriods=1,
        Threshold=threshold,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        TreatMissingData=missing,
        **_actions(plan),
    )


def function_alarm(title: str, function: awslambda.Function, plan: Plan) -> cloudwatch.Alarm:
    """The function fails, or Lambda refuses to run it. The age of the oldest message does not tell that: SQS leaves out
    messages that were received more than three times.

    https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
    """
    dimension = {"FunctionName": Ref(function)}
    return _math_alarm(
        title,
        plan,
        "FILL(errors, 0) + FILL(throttles, 0)",
        _sum("errors", "AWS/Lambda", "Errors", dimension, seconds=300),
        _sum("throttles", "AWS/Lambda", "Throttles", dimension, seconds=300),
        threshold=0,
        description="a function fails as a whole or Lambda refuses to run it: see its log, and `silversmith doctor "
        "--target aws`. Files wait meanwhile, and are tried for a day",
        EvaluationPeriods=OF,
        DatapointsToAlarm=TROUBLED,
    )


#: By kind, the metrics of what is bad and of what is good, and what an alarm says of them. docs/observability.md
_BAD = {
    "quarantine": ("FilesQuarantined", "FilesCommitted", "files went to quarantine: see `silversmith failures`"),
    "rejected": ("RowsRejected", "RowsWritten", "rows were rejected: see `silversmith failures --rejected`"),
}


def data_alarms(transform: str, title: str, plan: Plan) -> list[cloudwatch.Alarm]:
    """The alarms that the deployment asks for: bad files and rows, and silence."""
    share = plan.options.alarm_bad_share
    shares = [AlarmCondition(kind, share) for kind in _BAD] if share else []
    dimensions = {"Pipeline": plan.name, "Transform": transform}
    alarms = []
    for kind, limit in (*shares, *alarm_conditions(plan.options.alarm_on)):
        name = f"{title}{kind.title()}Alarm"
        if kind == "silent":
            alarms.append(_silence_alarm(name, plan, dimensions, transform, int(limit)))
        elif limit:
            alarms.append(_share_alarm(name, plan, dimensions, kind, limit))
        else:
            alarms.append(_any_alarm(name, plan, dimensions, kind))
    return alarms


def _share_alarm(title: str, plan: Plan, dimensions: Mapping[str, str], kind: str, share: float) -> cloudwatch.Alarm:
    """Within an hour, more than this share was bad."""
    bad, good, text = _BAD[kind]
    return _math_alarm(
        title,
        plan,
        "FILL(bad, 0) / (FILL(bad, 0) + FILL(good, 0))",
        _sum("bad", NAMESPACE, bad, dimensions, seconds=3600),
        _sum("good", NAMESPACE, good, dimensions, seconds=3600),
        threshold=share,
        description=f"more than {share:.2%} of the {text}",
        EvaluationPeriods=1,
    )


def _any_alarm(title: str, plan: Plan, dimensions: Mapping[str, str], kind: str) -> cloudwatch.Alarm:
    bad, _, text = _BAD[kind]
    source = {"Namespace": NAMESPACE, "MetricName": bad}
    return _threshold_alarm(title, plan, text, source, dimensions, threshold=1, period=300, statistic="Sum")


def _silence_alarm(
    title: str, plan: Plan, dimensions: Mapping[str, str], transform: str, hours: int
) -> cloudwatch.Alarm:
    """No file became silver for so many hours: then there is no data of the metric, or it is 0.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
    """
    return cloudwatch.Alarm(
        title,
        AlarmDescription=f"no new silver of {transform} for {hours} hours: see `silversmith status`, and bronze",
        Namespace=NAMESPACE,
        MetricName="FilesCommitted",
        Dimensions=_dimensions(dimensions),
        Statistic="Sum",
        Period=3600,
        EvaluationPeriods=hours,
        Threshold=1,
        ComparisonOperator="LessThanThreshold",
        TreatMissingData="breaching",
        **_actions(plan),
    )


def _math_alarm(
    title: str,
    plan: Plan,
    expression: str,
    *metrics: cloudwatch.MetricDataQuery,
    threshold: float,
    description: str,
    **properties: int,
) -> cloudwatch.Alarm:
    """https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html"""
    return cloudwatch.Alarm(
        title,
        AlarmDescription=description,
        Metrics=[cloudwatch.MetricDataQuery(Id="told", Expression=expression, ReturnData=True), *metrics],
        Threshold=threshold,
        ComparisonOperator="GreaterThanThreshold",
        TreatMissingData="notBreaching",
        **properties,
        **_actions(plan),
    )


def _sum(
    name: str, namespace: str, metric: str, dimensions: Mapping[str, Any], *, seconds: int
) -> cloudwatch.MetricDataQuery:
    source = cloudwatch.Metric(Namespace=namespace, MetricName=metric, Dimensions=_dimensions(dimensions))
    return cloudwatch.MetricDataQuery(
        Id=name, ReturnData=False, MetricStat=cloudwatch.MetricStat(Metric=source, Period=seconds, Stat="Sum")
    )


def _dimensions(dimensions: Mapping[str, Any]) -> list[cloudwatch.MetricDimension]:
    return [cloudwatch.MetricDimension(Name=name, Value=value) for name, value in dimensions.items()]


def _actions(plan: Plan) -> dict[str, Any]:
    return {"AlarmActions": plan.alarm_actions} if plan.alarm_actions else {}


def mail(plan: Plan) -> list[AWSObject]:
    """The topic that mails the alarms to the deployment's address, if it has one.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Notify_Users_Alarm_Changes.html
    """
    if not plan.options.alarm_email:
        return []
    topic = sns.Topic("AlarmTopic", TopicName=plan.physical(kind="Alarms"), **encrypted(plan, "KmsMasterKeyId"))
    condition = {
        "ArnLike": {"aws:SourceArn": Sub(arn("cloudwatch", "alarm:*"))},
        "StringEquals": {"aws:SourceAccount": Ref("AWS::AccountId")},
    }
    email = sns.SubscriptionResource(
        "AlarmEmail", TopicArn=Ref(topic), Protocol="email", Endpoint=plan.options.alarm_email
    )
    return [topic, topic_policy(topic, "PublishAlarms", "cloudwatch.amazonaws.com", condition=condition), email]
