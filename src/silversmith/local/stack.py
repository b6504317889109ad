"""The compiled template, read for the local engine: what each room of the engine must be like."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from silversmith.local.iam import Policy
from silversmith.local.intrinsics import Template, UnsupportedTemplate
from silversmith.patterns import Dialect, Matcher, compile_pattern


@dataclass(frozen=True)
class Bucket:
    """A bucket. ``eventbridge``: it tells the bus of its objects; ``policy`` is its own, beside those of roles."""

    name: str
    arn: str
    eventbridge: bool
    versioned: bool
    policy: Policy


@dataclass(frozen=True)
class Target:
    """Where a rule sends events, and how long it tries."""

    arn: str
    dead_letter_arn: str | None
    maximum_attempts: int
    maximum_age_seconds: int


@dataclass(frozen=True)
class Rule:
    """A rule on the default bus."""

    name: str
    arn: str
    matcher: Matcher
    targets: tuple[Target, ...]


@dataclass(frozen=True)
class Topic:
    """A topic; its policy says who may publish."""

    name: str
    arn: str
    policy: Policy


@dataclass(frozen=True)
class Subscription:
    """A queue's subscription to a topic. ``filter`` None: it gets everything; ``raw``: without SNS's envelope."""

    arn: str
    topic_arn: str
    queue_arn: str
    raw: bool
    filter: Matcher | None
    scope: str
    dead_letter_arn: str | None


@dataclass(frozen=True)
class Queue:
    """A queue. Times in seconds; its policy says who may send."""

    name: str
    arn: str
    url: str
    visibility_timeout: int
    retention: int
    delay: int
    dead_letter_arn: str | None
    max_receive_count: int | None
    policy: Policy


@dataclass(frozen=True)
class Function:
    """A function. ``memory`` in MB, ``timeout`` in seconds; ``policy`` is what its role ``role_arn`` may do."""

    name: str
    arn: str
    handler: str
    memory: int
    timeout: int
    environment: Mapping[str, str]
    policy: Policy
    reserved_concurrency: int | None
    role_arn: str


@dataclass(frozen=True)
class EventSourceMapping:
    """What polls a queue for a function. ``window`` in seconds; of ``filters``, if any, a message must pass one."""

    queue_arn: str
    function_arn: str
    batch_size: int
    window: int
    maximum_concurrency: int | None
    report_batch_item_failures: bool
    filters: tuple[Matcher, ...]


@dataclass(frozen=True)
class Stack:
    """All of it, in the order of the template."""

    account: str
    region: str
    buckets: tuple[Bucket, ...]
    rules: tuple[Rule, ...]
    topics: tuple[Topic, ...]
    subscriptions: tuple[Subscription, ...]
    queues: tuple[Queue, ...]
    functions: tuple[Function, ...]
    mappings: tuple[EventSourceMapping, ...]
    outputs: Mapping[str, str]


Properties = dict[str, Any]


def read(template: Mapping[str, Any], *, account: str = "000000000000", region: str = "us-east-1") -> Stack:
    """Read a template as if it were deployed in an account and region.

    Raises:
        UnsupportedTemplate: it holds what the local engine does not know.
        UnsupportedPolicy: so does one of its policies.
        InvalidPattern: AWS would refuse one of its patterns.
    """
    found = Template(template, account=account, region=region)
    queues = tuple(_queues(found))
    functions = tuple(_functions(found))
    arns = {function.name: function.arn for function in functions}
    return Stack(
        account=account,
        region=region,
        buckets=tuple(_buckets(found)),
        rules=tuple(_rule(found, *each) for each in found.each("AWS::Events::Rule")),
        topics=tuple(_topics(found)),
        subscriptions=tuple(_subscriptions(found)),
        queues=queues,
        functions=functions,
        mappings=tuple(_mapping(given, arns) for _, given in found.each("AWS::Lambda::EventSourceMapping")),
        outputs=found.outputs(),
    )


def _policies(found: Template, kind: str, names: Callable[[Properties], list[str]]) -> dict[str, Policy]:
    """The policies of resources, by what the policy calls its resource."""
    policies: dict[str, Policy] = {}
    for logical, given in found.each(kind):
        for name in names(given):
            if name in policies:
                raise UnsupportedTemplate(f"{logical} and {policies[name].name} are both the policy of {name}")
            policies[name] = Policy.parse(logical, given["PolicyDocument"])
    return policies


def _buckets(found: Template) -> list[Bucket]:
    policies = _policies(found, "AWS::S3::BucketPolicy", lambda given: [given["Bucket"]])
    return [
        Bucket(
            name=found.name(logical),
            arn=found.arn(logical),
            eventbridge=given.get("NotificationConfiguration", {})
            .get("EventBridgeConfiguration", {})
            .get("EventBridgeEnabled", False),
            versioned=given.get("VersioningConfiguration", {}).get("Status") == "Enabled",
            policy=policies.get(found.name(logical)) or Policy.parse(logical),
        )
        for logical, given in found.each("AWS::S3::Bucket")
    ]


def _rule(found: Template, logical: str, given: Properties) -> Rule:
    if given.get("State", "ENABLED") != "ENABLED":
        raise UnsupportedTemplate(f"{logical}: the local engine knows no rule that is {given['State']}")
    return Rule(
        name=found.name(logical),
        arn=found.arn(logical),
        matcher=compile_pattern(given["EventPattern"], dialect=Dialect.EVENTBRIDGE),
        targets=tuple(_target(target) for target in given.get("Targets", [])),
    )


def _target(given: Properties) -> Target:
    """Times as EventBridge has them by default.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-retry-policy.html
    """
    retry = given.get("RetryPolicy", {})
    return Target(
        arn=given["Arn"],
        dead_letter_arn=given.get("DeadLetterConfig", {}).get("Arn"),
        maximum_attempts=retry.get("MaximumRetryAttempts", 185),
        maximum_age_seconds=retry.get("MaximumEventAgeInSeconds", 86_400),
    )


def _topics(found: Template) -> list[Topic]:
    policies = _policies(found, "AWS::SNS::TopicPolicy", lambda given: given["Topics"])
    return [
        Topic(found.name(logical), found.arn(logical), policies.get(found.arn(logical)) or Policy.parse(logical))
        for logical, _ in found.each("AWS::SNS::Topic")
    ]


def _subscriptions(found: Template) -> list[Subscription]:
    """A mail is for alarms, and nothing raises those on one machine."""
    given = found.each("AWS::SNS::Subscription")
    return [_subscription(logical, each) for logical, each in given if each["Protocol"] != "email"]


def _subscription(logical: str, given: Properties) -> Subscription:
    if given["Protocol"] != "sqs":
        raise UnsupportedTemplate(f"{logical}: the local engine knows no subscription by {given['Protocol']}")
    scope = given.get("FilterPolicyScope", "MessageAttributes")
    filter_policy = given.get("FilterPolicy")
    return Subscription(
        arn=f"{given['TopicArn']}:{logical}",
        topic_arn=given["TopicArn"],
        queue_arn=given["Endpoint"],
        raw=given.get("RawMessageDelivery", False),
        filter=compile_pattern(filter_policy, dialect=Dialect(scope)) if filter_policy else None,
        scope=scope,
        dead_letter_arn=given.get("RedrivePolicy", {}).get("deadLetterTargetArn"),
    )


def _queues(found: Template) -> list[Queue]:
    """Times as SQS has them by default.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_CreateQueue.html
    """
    policies = _policies(found, "AWS::SQS::QueuePolicy", lambda given: given["Queues"])
    return [
        Queue(
            name=found.name(logical),
            arn=found.arn(logical),
            url=found.url(logical),
            visibility_timeout=given.get("VisibilityTimeout", 30),
            retention=given.get("MessageRetentionPeriod", 345_600),
            delay=given.get("DelaySeconds", 0),
            dead_letter_arn=given.get("RedrivePolicy", {}).get("deadLetterTargetArn"),
            max_receive_count=given.get("RedrivePolicy", {}).get("maxReceiveCount"),
            policy=policies.get(found.url(logical)) or Policy.parse(logical),
        )
        for logical, given in found.each("AWS::SQS::Queue")
    ]


def _roles(found: Template) -> dict[str, Policy]:
    """What each role may do, by its ARN: by the policies in it and by those that are attached to it."""
    managed = {found.arn(logical): given["PolicyDocument"] for logical, given in found.each("AWS::IAM::ManagedPolicy")}
    return {
        found.arn(logical): Policy.parse(
            logical,
            *(policy["PolicyDocument"] for policy in given.get("Policies", [])),
            *(managed[arn] for arn in given.get("ManagedPolicyArns", [])),
        )
        for logical, given in found.each("AWS::IAM::Role")
    }


def _functions(found: Template) -> list[Function]:
    """Memory and timeout as Lambda has them by default.

    https://docs.aws.amazon.com/lambda/latest/api/API_CreateFunction.html
    """
    roles = _roles(found)
    return [
        Function(
            name=found.name(logical),
            arn=found.arn(logical),
            handler=given["Handler"],
            memory=given.get("MemorySize", 128),
            timeout=given.get("Timeout", 3),
            environment={name: str(value) for name, value in given.get("Environment", {}).get("Variables", {}).items()},
            policy=roles[given["Role"]],
            reserved_concurrency=given.get("ReservedConcurrentExecutions"),
            role_arn=given["Role"],
        )
        for logical, given in found.each("AWS::Lambda::Function")
    ]


def _mapping(given: Properties, functions: Mapping[str, str]) -> EventSourceMapping:
    """A function is named by its name or its ARN. https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-parameters.html"""
    patterns = [item["Pattern"] for item in given.get("FilterCriteria", {}).get("Filters", [])]
    return EventSourceMapping(
        queue_arn=given["EventSourceArn"],
        function_arn=functions.get(given["FunctionName"], given["FunctionName"]),
        batch_size=given.get("BatchSize", 10),
        window=given.get("MaximumBatchingWindowInSeconds", 0),
        maximum_concurrency=given.get("ScalingConfig", {}).get("MaximumConcurrency"),
        report_batch_item_failures="ReportBatchItemFailures" in given.get("FunctionResponseTypes", []),
        filters=tuple(compile_pattern(pattern, dialect=Dialect.LAMBDA) for pattern in patterns),
    )
