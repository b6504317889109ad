"""Whether the ways from buckets to functions are there: each hop is asked of AWS and compared with what was deployed.

An event that one of these hops swallows leaves no message and no error anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from silversmith.stores.aws_errors import error_code

#: The error codes of the services for something that does not exist.
_GONE = frozenset({"ResourceNotFoundException", "NotFound", "NotFoundException", "NoSuchBucket", "404"})

#: The states of an event source mapping that works.
_ENABLED = frozenset({"Enabled", "Enabling", "Updating", "Creating"})

#: Makes a boto3 client of a service.
Client = Callable[[str], Any]

Problems = Iterator["Problem"]


@dataclass(frozen=True)
class Subscription:
    """A queue that the topic sends to. ``filter`` is its filter policy on the message's body; None: it has none."""

    queue_arn: str
    filter: Mapping[str, Any] | None

    @property
    def queue(self) -> str:
        """The queue's name."""
        return self.queue_arn.rpartition(":")[2]


@dataclass(frozen=True)
class Hops:
    """The hops of one topic: the bucket by its name, the topic by its ARN, rules by names, mappings by their ids."""

    bucket: str
    topic_arn: str
    rules: tuple[str, ...]
    subscriptions: tuple[Subscription, ...]
    mappings: tuple[str, ...]

    @staticmethod
    def of(values: Mapping[str, Any]) -> Hops:
        """From JSON values: ``bucket``, ``topic``, ``rules``, ``subscriptions`` with ``queue`` and ``filter``,
        ``mappings``."""
        subscriptions = (Subscription(each["queue"], each["filter"]) for each in values["subscriptions"])
        return Hops(
            values["bucket"], values["topic"], tuple(values["rules"]), tuple(subscriptions), tuple(values["mappings"])
        )

    def __str__(self) -> str:
        counts = {"rule": self.rules, "subscription": self.subscriptions, "event source mapping": self.mappings}
        return ", ".join(f"{len(of)} {name}{'s' if len(of) != 1 else ''}" for name, of in counts.items())


@dataclass(frozen=True)
class Problem:
    """A hop that is not as it was deployed: ``message`` says which and how, ``do`` what to do about it.

    ``is_known`` False: AWS did not tell, so the hop may be well.
    """

    message: str
    do: str
    is_known: bool = True

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"found": self.message, "do": self.do, "known": self.is_known}


def check(stages: Sequence[Hops], client: Client) -> list[Problem]:
    """The problems with the hops of any of the topics; empty: none.

    Needs ``s3:GetBucketNotification``, ``events:DescribeRule``, ``events:ListTargetsByRule``,
    ``sns:ListSubscriptionsByTopic``, ``sns:GetSubscriptionAttributes`` and ``lambda:GetEventSourceMapping``. A service
    that does not answer, or refuses, is asked once and told of as one problem that is not known.
    """
    services: dict[str, Callable[[Hops, Any], Problems]] = {
        "s3": _bucket,
        "events": _rules,
        "sns": _subscriptions,
        "lambda": _mappings,
    }
    problems: list[Problem] = []
    for service, look in services.items():
        try:
            for hops in stages:
                problems += look(hops, client(service))
        except (ClientError, BotoCoreError, ResponseParserError) as error:
            do = "allow it, or have the service within reach: docs/operations.md#rights, docs/template.md#options"
            problems.append(Problem(f"{service} could not be asked: {error}", do, is_known=False))
    return problems


def eventbridge_is_on(s3: Any, bucket: str, **owner: str) -> bool:
    """Whether a bucket tells EventBridge of its objects. ``s3`` is a boto3 client.

    The configuration is one for all that the bucket notifies: who puts another in its place switches EventBridge off.
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketNotificationConfiguration.html
    """
    return "EventBridgeConfiguration" in s3.get_bucket_notification_configuration(Bucket=bucket, **owner)


def _bucket(hops: Hops, s3: Any) -> Problems:
    try:
        is_on = eventbridge_is_on(s3, hops.bucket)
    except ClientError as error:
        if error_code(error) not in _GONE:
            raise
        yield Problem(f"there is no bucket {hops.bucket}", "make it again, or name another in the deployment")
        return
    if not is_on:
        yield Problem(
            f"EventBridge is switched off for the bucket {hops.bucket}: its notification configuration was replaced, "
            "and it reports nothing that lands there",
            "silversmith deploy switches it on again, and compares bronze and silver afterwards. Have whoever replaced "
            "it keep EventBridgeConfiguration in what they put",
        )


def _rules(hops: Hops, events: Any) -> Problems:
    for name in hops.rules:
        try:
            rule = events.describe_rule(Name=name)
            targets = _targets(events, name)
        except ClientError as error:
            if error_code(error) not in _GONE:
                raise
            yield Problem(f"there is no rule {name}", f"{_RECREATE} rule")
            continue
        if rule.get("State") == "DISABLED":
            yield Problem(f"the rule {name} is disabled", f"aws events enable-rule --name {name}")
        if hops.topic_arn not in targets:
            topic = hops.topic_arn
            target = f"aws events put-targets --rule {name} --targets Id=Topic,Arn={topic}"
            yield Problem(f"the rule {name} does not send to the topic {topic.rpartition(':')[2]}", target)


def _targets(events: Any, rule: str) -> set[str]:
    pages = events.get_paginator("list_targets_by_rule").paginate(Rule=rule)
    return {target["Arn"] for page in pages for target in page.get("Targets", ())}


def _subscriptions(hops: Hops, sns: Any) -> Problems:
    try:
        pages = list(sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=hops.topic_arn))
    except ClientError as error:
        if error_code(error) not in _GONE:
            raise
        yield Problem(f"there is no topic {hops.topic_arn}", f"{_RECREATE} topic")
        return
    arns = {each["Endpoint"]: each["SubscriptionArn"] for page in pages for each in page.get("Subscriptions", ())}
    for deployed in hops.subscriptions:
        yield from _subscription(deployed, arns.get(deployed.queue_arn), sns)


def _subscription(deployed: Subscription, arn: str | None, sns: Any) -> Problems:
    """A subscription that nobody confirmed has no ARN.

    https://docs.aws.amazon.com/sns/latest/api/API_ListSubscriptionsByTopic.html
    """
    if arn is None or not arn.startswith("arn:"):
        problem = "is not subscribed to the topic" if arn is None else "has a subscription that nobody confirmed"
        yield Problem(f"the queue {deployed.queue} {problem}", f"{_RECREATE} subscription")
        return
    attributes = sns.get_subscription_attributes(SubscriptionArn=arn)["Attributes"]
    policy = json.loads(attributes["FilterPolicy"]) if attributes.get("FilterPolicy") else None
    if policy != deployed.filter:
        yield Problem(
            f"the subscription of the queue {deployed.queue} has another filter than was deployed: "
            f"{json.dumps(policy)}",
            f"put it back with aws sns set-subscription-attributes: {json.dumps(deployed.filter)}",
        )
    elif deployed.filter is not None and attributes.get("FilterPolicyScope") != "MessageBody":
        yield Problem(
            f"the filter of the queue {deployed.queue} is not about the message's body",
            f"aws sns set-subscription-attributes --subscription-arn {arn} --attribute-name FilterPolicyScope "
            "--attribute-value MessageBody",
        )


def _mappings(hops: Hops, functions: Any) -> Problems:
    for uuid in hops.mappings:
        try:
            mapping = functions.get_event_source_mapping(UUID=uuid)
        except ClientError as error:
            if error_code(error) not in _GONE:
                raise
            yield Problem(f"there is no event source mapping {uuid}", f"{_RECREATE} mapping")
            continue
        if mapping.get("State") not in _ENABLED:
            function = str(mapping.get("FunctionArn", uuid)).partition(":function:")[2] or uuid
            yield Problem(
                f"the event source mapping of {function} is {mapping.get('State')}: its queue is not worked off",
                f"aws lambda update-event-source-mapping --uuid {uuid} --enabled",
            )


#: CloudFormation does not look whether what it made is still there.
_RECREATE = (
    "silversmith deploy does not make again what was deleted by hand: silversmith destroy, which keeps the data, then "
    "silversmith deploy makes the"
)
