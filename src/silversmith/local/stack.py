"""The compiled template, read for the local engine: references resolved, each resource as a dataclass.

Only what Silversmith's own templates hold is understood. Anything else is an error that names it: a property that the
engine ignored in silence would behave otherwise when deployed.
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/intrinsic-function-reference.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from silversmith.local.iam import Policy, UnsupportedPolicy
from silversmith.local.kinds import IGNORED, KINDS, UnsupportedTemplate, without_ignored, words
from silversmith.patterns import Dialect, Matcher, compile_pattern

_SECTIONS = words("AWSTemplateFormatVersion Description Parameters Resources Outputs")
_ATTRIBUTES = words("Type Properties DependsOn DeletionPolicy UpdateReplacePolicy Metadata")

#: Properties that mean nothing on one machine, whatever has them.
_ALWAYS_IGNORED = words("Tags")


class Template:
    """A template whose references are resolved as they are read.

    Args:
        template: the template as JSON values.
        account: the twelve digits of the account.
        region: such as ``us-east-1``.

    Raises:
        UnsupportedTemplate: it has a section, a resource type or a property that is not known.
    """

    def __init__(self, template: Mapping[str, Any], *, account: str, region: str) -> None:
        require_known("the template", "section", template, _SECTIONS)
        self._resources = without_ignored(template.get("Resources", {}))
        self._parameters: Mapping[str, Mapping[str, Any]] = template.get("Parameters", {})
        self._outputs: Mapping[str, Mapping[str, Any]] = template.get("Outputs", {})
        self._location = {"account": account, "region": region}
        self._pseudo = {
            "AWS::AccountId": account,
            "AWS::Region": region,
            "AWS::Partition": "aws",
            "AWS::URLSuffix": "amazonaws.com",
        }
        for logical, resource in self._resources.items():
            require_known(logical, "attribute", resource, _ATTRIBUTES)
            kind = KINDS.get(resource["Type"])
            if kind is None:
                raise UnsupportedTemplate(
                    f"{logical}: the local engine knows no resource type {resource['Type']}. If it means nothing on "
                    f'one machine, say so: "Metadata": {{"{IGNORED}": true}}'
                )
            known = kind.read | kind.ignored | _ALWAYS_IGNORED
            if unknown := sorted(set(resource.get("Properties", {})) - known):
                raise UnsupportedTemplate(
                    f"{logical}: the local engine knows no property of {resource['Type']} {', '.join(unknown)}. If it "
                    f'means nothing on one machine, say so: "Metadata": {{"{IGNORED}": {json.dumps(unknown)}}}'
                )

    def each(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Logical id and properties of every resource of a type: references resolved, ignored properties left out."""
        for logical, resource in self._resources.items():
            if resource["Type"] == kind:
                properties = resource.get("Properties", {})
                read = KINDS[kind].read
                yield logical, {name: self.value(value) for name, value in properties.items() if name in read}

    def outputs(self) -> dict[str, str]:
        """The outputs by name."""
        return {name: str(self.value(output["Value"])) for name, output in self._outputs.items()}

    def value(self, value: Any) -> Any:
        """A value with its references resolved."""
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            (function, argument), *_ = value.items()
            if function == "Ref":
                return self._ref(argument)
            if function.startswith("Fn::"):
                return self._call(function, argument)
        return {name: self.value(item) for name, item in value.items()}

    def _call(self, function: str, argument: Any) -> Any:
        if function == "Fn::GetAtt" and isinstance(argument, list) and len(argument) == 2:
            return self._attribute(*argument)
        if function == "Fn::Join" and isinstance(argument, list) and len(argument) == 2:
            return str(argument[0]).join(str(self.value(item)) for item in argument[1])
        if function == "Fn::Sub" and isinstance(argument, str):
            return re.sub(r"\$\{(!?)([^}]*)\}", self._substitute, argument)
        raise UnsupportedTemplate(f"the local engine does not know {function} with {argument!r}")

    def _substitute(self, reference: re.Match[str]) -> str:
        literal, name = reference.groups()
        if literal:
            return f"${{{name}}}"
        logical, _, attribute = name.partition(".")
        return str(self._attribute(logical, attribute) if attribute else self._ref(name))

    def _ref(self, name: str) -> str:
        if name in self._pseudo:
            return self._pseudo[name]
        if name in self._parameters:
            return str(self._parameters[name].get("Default", name))
        return self._attribute(name, KINDS[self._resource(name)["Type"]].ref)

    def _attribute(self, logical: str, attribute: str) -> str:
        """https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/intrinsic-function-reference-getatt.html"""
        kind = KINDS[self._resource(logical)["Type"]]
        name = str(self.value(self._resource(logical).get("Properties", {}).get(kind.name, logical)))
        if attribute in {"name", kind.name}:
            return name
        if attribute in {"arn", "Arn"} and kind.arn:
            return kind.arn.format(name=name, **self._location)
        if attribute in {"url", "QueueUrl"} and kind.ref == "url":
            return "https://sqs.{region}.amazonaws.com/{account}/".format(**self._location) + name
        raise UnsupportedTemplate(f"the local engine does not know the attribute {attribute} of {logical}")

    def _resource(self, logical: str) -> Mapping[str, Any]:
        if logical not in self._resources:
            raise UnsupportedTemplate(f"the template refers to {logical}, which it does not have")
        return self._resources[logical]

    def name(self, logical: str) -> str:
        """The physical name of a resource; its logical id where the template gives none."""
        return self._attribute(logical, "name")

    def arn(self, logical: str) -> str:
        """The ARN of a resource."""
        return self._attribute(logical, "arn")

    def url(self, logical: str) -> str:
        """The URL of a queue."""
        return self._attribute(logical, "url")


def require_known(where: str, what: str, names: Iterable[str], known: Collection[str]) -> None:
    """Raise UnsupportedTemplate where something has keys that the engine does not know; ``what`` the keys are."""
    unknown = sorted(set(names).difference(known))
    if unknown:
        raise UnsupportedTemplate(f"{where}: the local engine knows no {what} {', '.join(unknown)}")


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
class Rule:
    """A rule on the default bus; its targets, by their ARNs, share a dead-letter queue."""

    name: str
    arn: str
    matcher: Matcher
    targets: tuple[str, ...]
    dead_letter_arn: str | None = None


@dataclass(frozen=True)
class Topic:
    """A topic; its policy says who may publish."""

    name: str
    arn: str
    policy: Policy


@dataclass(frozen=True)
class SubscriptionResource:
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
class QueueResource:
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
class FunctionResource:
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
    """The poller of a queue for a function. ``window`` in seconds; of ``filters``, if any, a message must pass one."""

    queue_arn: str
    function_arn: str
    batch_size: int = 10
    window: float = 0
    maximum_concurrency: int | None = None
    filters: tuple[Matcher, ...] = ()


@dataclass(frozen=True)
class StackResources:
    """All of it, in the order of the template."""

    account: str
    region: str
    buckets: tuple[Bucket, ...]
    rules: tuple[Rule, ...]
    topics: tuple[Topic, ...]
    subscriptions: tuple[SubscriptionResource, ...]
    queues: tuple[QueueResource, ...]
    functions: tuple[FunctionResource, ...]
    mappings: tuple[EventSourceMapping, ...]
    outputs: Mapping[str, str]

    @property
    def bus_arn(self) -> str:
        """The ARN of the default bus, to which all buckets send their events."""
        return f"arn:aws:events:{self.region}:{self.account}:event-bus/default"


Properties = dict[str, Any]


def read(document: Mapping[str, Any], *, account: str = "000000000000", region: str = "us-east-1") -> StackResources:
    """Read a template as if it were deployed in an account and region.

    Raises:
        UnsupportedTemplate: it holds what the local engine does not know.
        UnsupportedPolicy: so does one of its policies.
        InvalidPattern: AWS would refuse one of its patterns.
    """
    template = Template(document, account=account, region=region)
    queues = tuple(_queues(template))
    functions = tuple(_functions(template))
    arns = {function.name: function.arn for function in functions}
    return StackResources(
        account=account,
        region=region,
        buckets=tuple(_buckets(template)),
        rules=tuple(_rule(template, *each) for each in template.each("AWS::Events::Rule")),
        topics=tuple(_topics(template)),
        subscriptions=tuple(_subscriptions(template)),
        queues=queues,
        functions=functions,
        mappings=tuple(_mapping(*each, arns) for each in template.each("AWS::Lambda::EventSourceMapping")),
        outputs=template.outputs(),
    )


def _policies(template: Template, kind: str, names: Callable[[Properties], list[str]]) -> dict[str, Policy]:
    """The policies of resources, by what the policy calls its resource."""
    policies: dict[str, Policy] = {}
    for logical, properties in template.each(kind):
        for name in names(properties):
            if name in policies:
                raise UnsupportedTemplate(f"{logical} and {policies[name].name} are both the policy of {name}")
            policies[name] = Policy.parse(logical, properties["PolicyDocument"])
    return policies


def _part(where: str, properties: Properties, name: str, known: str) -> Properties:
    """A property that is an object of its own; ``known`` are the keys that it may have.

    Raises:
        UnsupportedTemplate: it has another.
    """
    part: Properties = properties.get(name, {})
    require_known(f"{where}.{name}", "property", part, known.split())
    return part


def _buckets(template: Template) -> list[Bucket]:
    policies = _policies(template, "AWS::S3::BucketPolicy", lambda properties: [properties["Bucket"]])
    return [
        Bucket(
            name=template.name(logical),
            arn=template.arn(logical),
            eventbridge=_sends_events(logical, properties),
            versioned=_is_versioned(logical, properties),
            policy=policies.get(template.name(logical)) or Policy.parse(logical),
        )
        for logical, properties in template.each("AWS::S3::Bucket")
    ]


def _sends_events(logical: str, properties: Properties) -> bool:
    """https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-s3-bucket-eventbridgeconfiguration.html"""
    notified = _part(logical, properties, "NotificationConfiguration", "EventBridgeConfiguration")
    eventbridge = _part(logical, notified, "EventBridgeConfiguration", "EventBridgeEnabled")
    return bool(eventbridge.get("EventBridgeEnabled", "EventBridgeConfiguration" in notified))


def _is_versioned(logical: str, properties: Properties) -> bool:
    versioning = _part(logical, properties, "VersioningConfiguration", "Status")
    if versioning and versioning.get("Status") != "Enabled":
        raise UnsupportedTemplate(f"{logical}: the local engine knows no versioning that is {versioning.get('Status')}")
    return bool(versioning)


def _rule(template: Template, logical: str, properties: Properties) -> Rule:
    if properties.get("State", "ENABLED") != "ENABLED":
        raise UnsupportedTemplate(f"{logical}: the local engine knows no rule that is {properties['State']}")
    # Its retries mean nothing here: a target takes an event at once, or refuses it for good, which EventBridge does not
    # try again either. https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-retry-policy.html
    targets = properties.get("Targets", [])
    dead_letters = set()
    for target in targets:
        require_known(f"{logical}.Targets", "property", target, ("Id", "Arn", "DeadLetterConfig", "RetryPolicy"))
        _part(logical, target, "RetryPolicy", "MaximumRetryAttempts MaximumEventAgeInSeconds")
        dead_letters.add(_part(logical, target, "DeadLetterConfig", "Arn").get("Arn"))
    if len(dead_letters) > 1:
        raise UnsupportedTemplate(f"{logical}: the local engine knows one dead-letter queue for all targets of a rule")
    return Rule(
        name=template.name(logical),
        arn=template.arn(logical),
        matcher=compile_pattern(properties["EventPattern"], dialect=Dialect.EVENTBRIDGE),
        targets=tuple(target["Arn"] for target in targets),
        dead_letter_arn=next(iter(dead_letters), None),
    )


def _topics(template: Template) -> list[Topic]:
    policies = _policies(template, "AWS::SNS::TopicPolicy", lambda properties: properties["Topics"])
    return [
        Topic(
            template.name(logical), template.arn(logical), policies.get(template.arn(logical)) or Policy.parse(logical)
        )
        for logical, _ in template.each("AWS::SNS::Topic")
    ]


def _subscriptions(template: Template) -> list[SubscriptionResource]:
    """A mail is for alarms, and nothing raises those on one machine."""
    properties = template.each("AWS::SNS::Subscription")
    return [_subscription(logical, each) for logical, each in properties if each["Protocol"] != "email"]


def _subscription(logical: str, properties: Properties) -> SubscriptionResource:
    if properties["Protocol"] != "sqs":
        raise UnsupportedTemplate(f"{logical}: the local engine knows no subscription by {properties['Protocol']}")
    scope = properties.get("FilterPolicyScope", "MessageAttributes")
    filter_policy = properties.get("FilterPolicy")
    return SubscriptionResource(
        arn=f"{properties['TopicArn']}:{logical}",
        topic_arn=properties["TopicArn"],
        queue_arn=properties["Endpoint"],
        raw=properties.get("RawMessageDelivery", False),
        filter=compile_pattern(filter_policy, dialect=Dialect(scope)) if filter_policy else None,
        dead_letter_arn=_part(logical, properties, "RedrivePolicy", "deadLetterTargetArn").get("deadLetterTargetArn"),
    )


def _queues(template: Template) -> list[QueueResource]:
    """Times as SQS has them by default.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_CreateQueue.html
    """
    policies = _policies(template, "AWS::SQS::QueuePolicy", lambda properties: properties["Queues"])
    retention = {
        template.arn(logical): properties.get("MessageRetentionPeriod", 345_600)
        for logical, properties in template.each("AWS::SQS::Queue")
    }
    queues = []
    for logical, properties in template.each("AWS::SQS::Queue"):
        redrive = _part(logical, properties, "RedrivePolicy", "deadLetterTargetArn maxReceiveCount")
        if redrive and (redrive.get("deadLetterTargetArn") not in retention or not redrive.get("maxReceiveCount")):
            raise UnsupportedTemplate(
                f"{logical}: a RedrivePolicy needs a maxReceiveCount and a dead-letter queue of the same template"
            )
        queues.append(
            QueueResource(
                name=template.name(logical),
                arn=template.arn(logical),
                url=template.url(logical),
                visibility_timeout=properties.get("VisibilityTimeout", 30),
                retention=retention[template.arn(logical)],
                delay=properties.get("DelaySeconds", 0),
                dead_letter_arn=redrive.get("deadLetterTargetArn"),
                dead_letter_retention=retention.get(redrive.get("deadLetterTargetArn", ""), 345_600),
                max_receive_count=redrive.get("maxReceiveCount", 0),
                policy=policies.get(template.url(logical)) or Policy.parse(logical),
            )
        )
    return queues


def _roles(template: Template) -> dict[str, Policy]:
    """The rights of each role, by its ARN: by the policies in it and by those that are attached to it."""
    managed = {
        template.arn(logical): properties["PolicyDocument"]
        for logical, properties in template.each("AWS::IAM::ManagedPolicy")
    }
    roles = {}
    for logical, properties in template.each("AWS::IAM::Role"):
        for policy in properties.get("Policies", []):
            require_known(f"{logical}.Policies", "property", policy, ("PolicyName", "PolicyDocument"))
        attached = properties.get("ManagedPolicyArns", [])
        if unknown := [arn for arn in attached if arn not in managed]:
            raise UnsupportedTemplate(f"{logical}: the template does not have the policy {unknown[0]}")
        documents = [
            _understood(policy) if policy.get("PolicyName") == DECLARED else policy["PolicyDocument"]
            for policy in properties.get("Policies", [])
        ]
        roles[template.arn(logical)] = Policy.parse(logical, *documents, *(managed[arn] for arn in attached))
    return roles


#: The name of the policy with the statements that a user declares for a transform, as the template has it.
DECLARED = "Declared"


def _understood(policy: Properties) -> Properties:
    """The document of a user's own policy without statements that are not understood here. They are about calls that
    the user's code makes itself, which the engine does not see."""
    statements = []
    for statement in policy["PolicyDocument"]["Statement"]:
        with suppress(UnsupportedPolicy):
            Policy.parse(DECLARED, {"Statement": [statement]})
            statements.append(statement)
    return {**policy["PolicyDocument"], "Statement": statements}


def _functions(template: Template) -> list[FunctionResource]:
    """Memory and timeout as Lambda has them by default.

    https://docs.aws.amazon.com/lambda/latest/api/API_CreateFunction.html
    """
    roles = _roles(template)
    for logical, properties in template.each("AWS::Lambda::Function"):
        if properties["Role"] not in roles:
            raise UnsupportedTemplate(f"{logical}: the template does not have the role {properties['Role']}")
    return [
        FunctionResource(
            name=template.name(logical),
            arn=template.arn(logical),
            memory=properties.get("MemorySize", 128),
            timeout=properties.get("Timeout", 3),
            environment={
                name: str(value)
                for name, value in _part(logical, properties, "Environment", "Variables").get("Variables", {}).items()
            },
            policy=roles[properties["Role"]],
            reserved_concurrency=properties.get("ReservedConcurrentExecutions"),
            role_arn=properties["Role"],
        )
        for logical, properties in template.each("AWS::Lambda::Function")
    ]


def _mapping(logical: str, properties: Properties, functions: Mapping[str, str]) -> EventSourceMapping:
    """A function is named by its name or its ARN. https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-parameters.html

    Without ``ReportBatchItemFailures`` Lambda would not read what the handler answers, and delete what has failed.
    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
    """
    if properties.get("FunctionResponseTypes") != ["ReportBatchItemFailures"]:
        raise UnsupportedTemplate(
            f"{logical}: without ReportBatchItemFailures in FunctionResponseTypes, what failed would be deleted"
        )
    filters = _part(logical, properties, "FilterCriteria", "Filters").get("Filters", [])
    for item in filters:
        require_known(f"{logical}.FilterCriteria", "property", item, ("Pattern",))
    patterns = [item["Pattern"] for item in filters]
    return EventSourceMapping(
        queue_arn=properties["EventSourceArn"],
        function_arn=functions.get(properties["FunctionName"], properties["FunctionName"]),
        batch_size=properties.get("BatchSize", 10),
        window=properties.get("MaximumBatchingWindowInSeconds", 0),
        maximum_concurrency=_part(logical, properties, "ScalingConfig", "MaximumConcurrency").get("MaximumConcurrency"),
        filters=tuple(compile_pattern(pattern, dialect=Dialect.LAMBDA) for pattern in patterns),
    )
