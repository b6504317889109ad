"""What one transform needs: subscription, queues, the function with its log group and versions, alarms."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from troposphere import AWSObject, GetAtt, Output, Ref, Sub, awslambda, iam, logs, sns, sqs

from silversmith.function.retries import queue_receives
from silversmith.patterns.keys import KeyPattern
from silversmith.pipeline import Transform
from silversmith.pipeline.deployment import STORAGE, Deployment
from silversmith.template.alarms import age_alarm, bad_data_alarms, dead_letter_alarm, function_alarm
from silversmith.template.encryption import of_function, of_log_group, of_queue
from silversmith.template.plan import Plan, logical
from silversmith.template.policies import queue_policy
from silversmith.template.queues import SOURCE_RETENTION, dead_letter_queue
from silversmith.template.roles import transform_role

#: The longest CodeKey, so that a version's description can tell it: that takes 256 characters.
LONGEST_CODE_KEY = 180

#: Properties of a function that no published version keeps.
_NOT_OF_VERSIONS = {"Code", "ReservedConcurrentExecutions", "RecursiveLoop", "Tags"}


def log_group(title: str, plan: Plan, name: str) -> logs.LogGroup:
    """The log group of the function of that name: made beforehand, or Lambda would make one that keeps for ever."""
    return logs.LogGroup(
        title,
        LogGroupName=f"/aws/lambda/{name}",
        RetentionInDays=plan.options.log_retention_days,
        **of_log_group(plan),
    )


def function(
    title: str,
    plan: Plan,
    name: str,
    *,
    handler: str,
    role: iam.Role,
    log_group: logs.LogGroup,
    environment: dict[str, Any],
    **more: Any,
) -> awslambda.Function:
    """A function of the bundle, with what all of them get.

    Args:
        environment: beside the pipeline and the buckets, which each is told.
        more: properties of its own.
    """
    vpc = plan.options.vpc
    if vpc is not None:
        more["VpcConfig"] = awslambda.VPCConfig(SecurityGroupIds=list(vpc.security_groups), SubnetIds=list(vpc.subnets))
    buckets = {f"SILVERSMITH_{bucket.upper()}": bucket_name for bucket, bucket_name in plan.buckets.items()}
    return awslambda.Function(
        title,
        FunctionName=name,
        Runtime="python3.13",
        Architectures=[plan.options.architecture],
        Handler=handler,
        Code=awslambda.Code(S3Bucket=Ref("CodeBucket"), S3Key=Ref("CodeKey")),
        Environment=awslambda.Environment(
            Variables={
                "SILVERSMITH_PIPELINE": plan.reference,
                "SILVERSMITH_STACK": plan.name,
                **buckets,
                **environment,
            }
        ),
        Role=GetAtt(role, "Arn"),
        LoggingConfig=awslambda.LoggingConfig(LogGroup=Ref(log_group)),
        **of_function(plan),
        **more,
    )


def capacity(transform: Transform, plan: Plan) -> dict[str, Any]:
    """Properties of a transform's function that the deployment's numbers decide."""
    found: dict[str, Any] = {}
    storage = plan.options.number("ephemeral_storage", transform.name) or STORAGE[0]
    if storage != STORAGE[0]:
        found["EphemeralStorage"] = awslambda.EphemeralStorage(Size=storage)
    reserved = plan.options.number("reserved_concurrency", transform.name)
    if reserved is not None:
        found["ReservedConcurrentExecutions"] = reserved
    if plan.options.snap_start:
        found["SnapStart"] = awslambda.SnapStart(ApplyOn="PublishedVersions")
    return found


def published(transform: Transform, plan: Plan, function: awslambda.Function) -> list[AWSObject]:
    """A version and an alias of the function, last the one to invoke: snapshots and warm environments are of versions.

    CloudFormation publishes another version when the description of this one changes, and Lambda refuses to publish
    one that is the same. So the description tells all that a version keeps, no less and no more: the code, whose key
    must change with it, and the configuration.
    https://docs.aws.amazon.com/lambda/latest/dg/configuration-versions.html
    """
    provisioned = plan.options.number("provisioned_concurrency", transform.name)
    if not plan.options.snap_start and provisioned is None:
        return []
    properties = function.to_dict()["Properties"]
    kept = {name: value for name, value in properties.items() if name not in _NOT_OF_VERSIONS}
    digest = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]
    version = awslambda.Version(
        logical(transform.name, "Version"),
        FunctionName=Ref(function),
        Description=Sub(f"${{CodeKey}} configuration {digest}"),
    )
    warm = (
        {
            "ProvisionedConcurrencyConfig": awslambda.ProvisionedConcurrencyConfiguration(
                ProvisionedConcurrentExecutions=provisioned
            )
        }
        if provisioned is not None
        else {}
    )
    alias = awslambda.Alias(
        logical(transform.name, "Alias"),
        Name="live",
        FunctionName=Ref(function),
        FunctionVersion=GetAtt(version, "Version"),
        **warm,
    )
    return [version, alias]


#: What the output that tells what is deployed ends in.
CODE = "Code"

HANDLER = "silversmith.function.handler.handler"

#: A tenth of what an account has by default, so many invocations of a transform at once if nothing else is said.
#: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
DEFAULT_CONCURRENCY = 100


def visibility_timeout(transform: Transform) -> int:
    """Six times the function's timeout, as AWS advises, and the time that a batch may wait to fill.

    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
    """
    return 6 * transform.timeout + transform.batch_window


def concurrency(transform: Transform, options: Deployment) -> int:
    """How many invocations a transform has at once at the most. Never more than are reserved for it: what Lambda
    refuses counts as received. For the same reason there is a limit by default: one transform with much to do must not
    take all that the account has.

    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-parameters.html
    """
    reserved = options.number("reserved_concurrency", transform.name)
    return min(transform.maximum_concurrency or reserved or DEFAULT_CONCURRENCY, 1_000)


def resources(transform: Transform, plan: Plan) -> list[AWSObject]:
    """All resources of one transform, in the order in which they build on each other."""
    name = transform.name
    dead = dead_letter_queue(logical(name, "QueueDLQ"), plan.physical(name, "DLQ"), plan, source=plan.physical(name))
    queue = _queue(transform, plan, dead)
    undelivered = dead_letter_queue(logical(name, "SubscriptionDLQ"), plan.physical(name, "SubscriptionDLQ"), plan)
    logs_of = log_group(logical(name, "LogGroup"), plan, plan.physical(name))
    role = transform_role(transform, plan, queue=queue, dead=dead, log_group=logs_of)
    function = _function(transform, plan, role=role, log_group=logs_of, queue=queue, dead=dead)
    versions = published(transform, plan, function)
    delivery = [
        queue_policy(found, service="sns.amazonaws.com", sources=Ref("Topic")) for found in (queue, undelivered)
    ]
    again = "see `silversmith failures`, then `silversmith redrive`"
    return [
        dead,
        queue_policy(dead),
        queue,
        undelivered,
        *delivery,
        _subscription(transform, queue, undelivered, after=delivery),
        logs_of,
        role,
        function,
        *versions,
        _mapping(transform, plan, queue, versions[-1] if versions else function),
        dead_letter_alarm(dead, plan, f"the transform {name} gave up on a file: {again}"),
        dead_letter_alarm(undelivered, plan, f"an event did not reach the queue of the transform {name}: {again}"),
        age_alarm(logical(name, "QueueAgeAlarm"), queue, plan, visibility_timeout(transform)),
        function_alarm(logical(name, "FunctionAlarm"), function, plan),
        *bad_data_alarms(name, logical(name, ""), plan),
    ]


def _queue(transform: Transform, plan: Plan, dead: sqs.Queue) -> sqs.Queue:
    return sqs.Queue(
        logical(transform.name, "Queue"),
        QueueName=plan.physical(transform.name),
        VisibilityTimeout=visibility_timeout(transform),
        MessageRetentionPeriod=SOURCE_RETENTION,
        RedrivePolicy=sqs.RedrivePolicy(
            deadLetterTargetArn=GetAtt(dead, "Arn"), maxReceiveCount=queue_receives(transform.max_receive_count)
        ),
        **of_queue(plan),
    )


def key_filter(pattern: KeyPattern) -> list[Any]:
    """The narrowest filter of a key that SNS can do, which is not as narrow as the pattern: no wildcards, and of
    several conditions any will do. The handler matches exactly.

    https://docs.aws.amazon.com/sns/latest/dg/string-value-matching.html
    """
    if pattern.literal_prefix:
        return [{"prefix": pattern.literal_prefix}]
    return [{"suffix": pattern.literal_suffix}] if pattern.literal_suffix else []


def filter_policy(pattern: KeyPattern) -> dict[str, Any] | None:
    """The subscription's filter policy, on the message's body; None: it gets everything."""
    keys = key_filter(pattern)
    return {"detail": {"object": {"key": keys}}} if keys else None


def _subscription(
    transform: Transform, queue: sqs.Queue, undelivered: sqs.Queue, *, after: list[sqs.QueuePolicy]
) -> sns.SubscriptionResource:
    """Made after the queues' policies: SNS does not try again what a queue refuses."""
    narrow = filter_policy(transform.pattern)
    return sns.SubscriptionResource(
        logical(transform.name, "Subscription"),
        TopicArn=Ref("Topic"),
        Protocol="sqs",
        Endpoint=GetAtt(queue, "Arn"),
        RawMessageDelivery=True,
        **({"FilterPolicyScope": "MessageBody", "FilterPolicy": narrow} if narrow else {}),
        RedrivePolicy={"deadLetterTargetArn": GetAtt(undelivered, "Arn")},
        DependsOn=[policy.title for policy in after],
    )


def _function(
    transform: Transform, plan: Plan, *, role: iam.Role, log_group: logs.LogGroup, queue: sqs.Queue, dead: sqs.Queue
) -> awslambda.Function:
    return function(
        logical(transform.name, "Function"),
        plan,
        plan.physical(transform.name),
        handler=HANDLER,
        role=role,
        log_group=log_group,
        environment={
            "SILVERSMITH_TRANSFORM": transform.name,
            "SILVERSMITH_QUEUE": Ref(queue),
            "SILVERSMITH_DLQ": Ref(dead),
            "SILVERSMITH_FINGERPRINT": transform.fingerprint,
        },
        Description=f"Makes {plan.buckets['silver']}/{transform.name}/ of what lands in {plan.buckets['bronze']}",
        MemorySize=transform.memory,
        Timeout=transform.timeout,
        **capacity(transform, plan),
    )


class _ScalingConfig(awslambda.ScalingConfig):  # type: ignore[misc]
    """Some versions of troposphere know another resource's properties by this name."""

    props = {"MaximumConcurrency": (int, True)}  # noqa: RUF012 -- as its base declares it


def _mapping(transform: Transform, plan: Plan, queue: sqs.Queue, invoked: AWSObject) -> awslambda.EventSourceMapping:
    """``invoked`` is the function or an alias of it."""
    return awslambda.EventSourceMapping(
        logical(transform.name, "Mapping"),
        EventSourceArn=GetAtt(queue, "Arn"),
        FunctionName=Ref(invoked),
        BatchSize=transform.batch_size,
        MaximumBatchingWindowInSeconds=transform.batch_window,
        FunctionResponseTypes=["ReportBatchItemFailures"],
        ScalingConfig=_ScalingConfig(MaximumConcurrency=concurrency(transform, plan.options)),
    )


def outputs(transform: Transform) -> list[Output]:
    """Where its messages are, and what works on them."""
    what = {
        "Queue": f"Files for the transform {transform.name}",
        "QueueDLQ": f"Files that the transform {transform.name} gave up on",
        "SubscriptionDLQ": f"Events that did not reach the queue of the transform {transform.name}",
    }
    urls = [
        Output(f"{logical(transform.name, kind)}Url", Description=text, Value=Ref(logical(transform.name, kind)))
        for kind, text in what.items()
    ]
    function = logical(transform.name, "Function")
    name = Output(f"{function}Name", Description=f"Runs the transform {transform.name}", Value=Ref(function))
    code = Output(
        logical(transform.name, CODE),
        Description=f"What is deployed of the transform {transform.name}",
        Value=declared(transform),
    )
    return [*urls, name, code]


def declared(transform: Transform) -> str:
    """What commands over AWS must know of the transform that is deployed, whatever is checked out; as JSON."""
    values = {
        "fingerprint": transform.fingerprint,
        "pattern": transform.pattern.text,
        "lookups": list(transform.lookups),
    }
    return json.dumps(values)
