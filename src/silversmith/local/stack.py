"""The compiled template, read for the local engine: what each room of the engine must be like."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from silversmith.local.iam import Policy
from silversmith.local.intrinsics import Template, UnsupportedTemplate, require_known
from silversmith.patterns import Dialect, Matcher, compile_pattern


@dataclass(frozen=True)
class Bucket:
    """A bucket. ``eventbridge``: it sends events to the bus; ``versioned``: they tell the object's version; ``policy``
    is its own, beside those of roles."""

    name: str
    arn: str
    eventbridge: bool
    versioned: bool
    policy: Policy


@dataclass(frozen=True)
class Target:
    """Where a rule sends events."""

    arn: str
    dead_letter_arn: str | None = None


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
    dead_letter_arn: str | None = None

    @property
    def name(self) -> str:
        """The last part of its ARN."""
        return self.arn.rpartition(":")[2]


@dataclass(frozen=True)
class Queue:
    """A queue. Times in seconds, as SQS has them by default; its policy says who may send. ``dead_letter_retention`` is
    how long its dead-letter queue keeps a message, and ``max_receive_count`` 0 where it has none.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_CreateQueue.html
    """

    name: str
    arn: str
    visibility_timeout: float = 30
    retention: float = 345_600
    delay: float = 0
    dead_letter_arn: str | None = None
    dead_letter_retention: float = 345_600
    max_receive_count: int = 0
    url: str = ""
    policy: Policy = field(default_factory=lambda: Policy.parse(""))


@dataclass(frozen=True)
class Function:
    """A function. ``memory`` in MB, ``timeout`` in seconds; ``policy`` is what its role ``role_arn`` may do."""

    name: str
    arn: str
    memory: int
    timeout: float
    environment: Mapping[str, str]
    policy: Policy
    reserved_concurrency: int | None
    role_arn: str


@dataclass(frozen=True)
class EventSourceMapping:
    """What polls a queue for a function. ``window`` in seconds; of ``filters``, if any, a message must pass one."""

    queue_arn: str
    function_arn: str
    batch_size: int = 10
    window: float = 0
    maximum_concurrency: int | None = None
    filters: tuple[Matcher, ...] = ()


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
        mappings=tuple(_mapping(*each, arns) for each in found.each("AWS::Lambda::EventSourceMapping")),
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


def _part(where: str, given: Properties, name: str, known: str) -> Properties:
    """A property that is an object of its own; ``known`` are the keys that it may have.

    Raises:
        UnsupportedTemplate: it has another.
    """
    part: Properties = given.get(name, {})
    require_known(f"{where}.{name}", "property", part, known.split())
    return part


def _buckets(found: Template) -> list[Bucket]:
    policies = _policies(found, "AWS::S3::BucketPolicy", lambda given: [given["Bucket"]])
    return [
        Bucket(
            name=found.name(logical),
            arn=found.arn(logical),
            eventbridge=_sends_events(logical, given),
            versioned=_is_versioned(logical, given),
            policy=policies.get(found.name(logical)) or Policy.parse(logical),
        )
        for logical, given in found.each("AWS::S3::Bucket")
    ]


def _sends_events(logical: str, given: Properties) -> bool:
    """https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-s3-bucket-eventbridgeconfiguration.html"""
    notified = _part(logical, given, "NotificationConfiguration", "EventBridgeConfiguration")
    eventbridge = _part(logical, notified, "EventBridgeConfiguration", "EventBridgeEnabled")
    return bool(eventbridge.get("EventBridgeEnabled", "EventBridgeConfiguration" in notified))


def _is_versioned(logical: str, given: Properties) -> bool:
    versioning = _part(logical, given, "VersioningConfiguration", "Status")
    if versioning and versioning.get("Status") != "Enabled":
        raise UnsupportedTemplate(f"{logical}: the local engine knows no versioning that is {versioning.get('Status')}")
    return bool(versioning)


def _rule(found: Template, logical: str, given: Properties) -> Rule:
    if given.get("State", "ENABLED") != "ENABLED":
        raise UnsupportedTemplate(f"{logical}: the local engine knows no rule that is {given['State']}")
    targets = tuple(_target(logical, target) for target in given.get("Targets", []))
    if len({target.dead_letter_arn for target in targets}) > 1:
        raise UnsupportedTemplate(f"{logical}: the local engine knows one dead-letter queue for all targets of a rule")
    return Rule(
        name=found.name(logical),
        arn=found.arn(logical),
        matcher=compile_pattern(given["EventPattern"], dialect=Dialect.EVENTBRIDGE),
        targets=targets,
    )


def _target(logical: str, given: Properties) -> Target:
    """Its retries mean nothing here: a target takes an event at once, or refuses it for good, which EventBridge does
    not try again either.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-retry-policy.html
    """
    require_known(f"{logical}.Targets", "property", given, ("Id", "Arn", "DeadLetterConfig", "RetryPolicy"))
    _part(logical, given, "RetryPolicy", "MaximumRetryAttempts MaximumEventAgeInSeconds")
    return Target(arn=given["Arn"], dead_letter_arn=_part(logical, given, "DeadLetterConfig", "Arn").get("Arn"))


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
        dead_letter_arn=_part(logical, given, "RedrivePolicy", "deadLetterTargetArn").get("deadLetterTargetArn"),
    )


def _queues(found: Template) -> list[Queue]:
    """Times as SQS has them by default.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_CreateQueue.html
    """
    policies = _policies(found, "AWS::SQS::QueuePolicy", lambda given: given["Queues"])
    retention = {
        found.arn(logical): given.get("MessageRetentionPeriod", 345_600)
        for logical, given in found.each("AWS::SQS::Queue")
    }
    queues = []
    for logical, given in found.each("AWS::SQS::Queue"):
        redrive = _part(logical, given, "RedrivePolicy", "deadLetterTargetArn maxReceiveCount")
        if redrive and (redrive.get("deadLetterTargetArn") not in retention or not redrive.get("maxReceiveCount")):
            raise UnsupportedTemplate(
                f"{logical}: a RedrivePolicy needs a maxReceiveCount and a dead-letter queue of the same template"
            )
        queues.append(
            Queue(
                name=found.name(logical),
                arn=found.arn(logical),
                url=found.url(logical),
                visibility_timeout=given.get("VisibilityTimeout", 30),
                retention=retention[found.arn(logical)],
                delay=given.get("DelaySeconds", 0),
                dead_letter_arn=redrive.get("deadLetterTargetArn"),
                dead_letter_retention=retention.get(redrive.get("deadLetterTargetArn", ""), 345_600),
                max_receive_count=redrive.get("maxReceiveCount", 0),
                policy=policies.get(found.url(logical)) or Policy.parse(logical),
            )
        )
    return queues


def _roles(found: Template) -> dict[str, Policy]:
    """What each role may do, by its ARN: by the policies in it and by those that are attached to it."""
    managed = {found.arn(logical): given["PolicyDocument"] for logical, given in found.each("AWS::IAM::ManagedPolicy")}
    roles = {}
    for logical, given in found.each("AWS::IAM::Role"):
        for policy in given.get("Policies", []):
            require_known(f"{logical}.Policies", "property", policy, ("PolicyName", "PolicyDocument"))
        attached = given.get("ManagedPolicyArns", [])
        if unknown := [arn for arn in attached if arn not in managed]:
            raise UnsupportedTemplate(f"{logical}: the template does not have the policy {unknown[0]}")
        documents = [policy["PolicyDocument"] for policy in given.get("Policies", [])]
        roles[found.arn(logical)] = Policy.parse(logical, *documents, *(managed[arn] for arn in attached))
    return roles


def _functions(found: Template) -> list[Function]:
    """Memory and timeout as Lambda has them by default.

    https://docs.aws.amazon.com/lambda/latest/api/API_CreateFunction.html
    """
    roles = _roles(found)
    for logical, given in found.each("AWS::Lambda::Function"):
        if given["Role"] not in roles:
            raise UnsupportedTemplate(f"{logical}: the template does not have the role {given['Role']}")
    return [
        Function(
            name=found.name(logical),
            arn=found.arn(logical),
            memory=given.get("MemorySize", 128),
            timeout=given.get("Timeout", 3),
            environment={
                name: str(value)
                for name, value in _part(logical, given, "Environment", "Variables").get("Variables", {}).items()
            },
            policy=roles[given["Role"]],
            reserved_concurrency=given.get("ReservedConcurrentExecutions"),
            role_arn=given["Role"],
        )
        for logical, given in found.each("AWS::Lambda::Function")
    ]


def _mapping(logical: str, given: Properties, functions: Mapping[str, str]) -> EventSourceMapping:
    """A function is named by its name or its ARN. https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-parameters.html

    Without ``ReportBatchItemFailures`` Lambda would not read what the handler answers, and delete what has failed.
    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
    """
    if given.get("FunctionResponseTypes") != ["ReportBatchItemFailures"]:
        raise UnsupportedTemplate(
            f"{logical}: without ReportBatchItemFailures in FunctionResponseTypes, what failed would be deleted"
        )
    filters = _part(logical, given, "FilterCriteria", "Filters").get("Filters", [])
    for item in filters:
        require_known(f"{logical}.FilterCriteria", "property", item, ("Pattern",))
    patterns = [item["Pattern"] for item in filters]
    return EventSourceMapping(
        queue_arn=given["EventSourceArn"],
        function_arn=functions.get(given["FunctionName"], given["FunctionName"]),
        batch_size=given.get("BatchSize", 10),
        window=given.get("MaximumBatchingWindowInSeconds", 0),
        maximum_concurrency=_part(logical, given, "ScalingConfig", "MaximumConcurrency").get("MaximumConcurrency"),
        filters=tuple(compile_pattern(pattern, dialect=Dialect.LAMBDA) for pattern in patterns),
    )
