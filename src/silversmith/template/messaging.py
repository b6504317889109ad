"""The building blocks between a bucket and a function: rules, topics, subscriptions and queues.

A chain is made of them: a rule picks events out of the bus and publishes them to a topic, to which the queue of each
function is subscribed. Every hop has its dead-letter queue.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from troposphere import AWSObject, GetAtt, Ref, Sub, events, sns, sqs

from silversmith.keypatterns import KeyPattern
from silversmith.lineage import ERROR_ENDING, FAILED_ENDING
from silversmith.patterns import MOST_WILDCARD_STATES, wildcard_states
from silversmith.template.alarms import dead_letter_alarm
from silversmith.template.permissions import encrypted, one_or_list, queue_policy, topic_policy
from silversmith.template.plan import Plan, arn

#: The longest event pattern that EventBridge takes, in characters of JSON.
#: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html
LONGEST_EVENT_PATTERN = 2048

#: How long EventBridge tries to publish before it gives the event to the dead-letter queue: its own longest.
#: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-retry-policy.html
RETRY_SECONDS = 86_400
RETRY_ATTEMPTS = 185

#: What S3 says of an object. https://docs.aws.amazon.com/AmazonS3/latest/userguide/EventBridge.html
CREATED, DELETED, RESTORED = "Object Created", "Object Deleted", "Object Restore Completed"

#: The longest that SQS keeps a message: 14 days.
LONGEST_RETENTION = 1_209_600

#: How long a function's queue keeps a message: a week. A message that SQS then moves to the dead-letter queue keeps the
#: time at which it was first sent, so that queue must keep messages longer, or they would be gone soon after.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/setting-up-dead-letter-queue-retention.html
SOURCE_RETENTION = 604_800


def dead_letter_queue(
    title: str, name: str, plan: Plan, *, retention: int = LONGEST_RETENTION, source: str = ""
) -> sqs.Queue:
    """A queue that only keeps, for ``retention`` seconds. Only the queue named ``source`` may have it as its
    dead-letter queue, or none may: by name, for a reference would go round in a circle.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html
    """
    allowed = (
        {"redrivePermission": "byQueue", "sourceQueueArns": [Sub(arn("sqs", source))]}
        if source
        else {"redrivePermission": "denyAll"}
    )
    return sqs.Queue(
        title,
        QueueName=name,
        MessageRetentionPeriod=retention,
        RedriveAllowPolicy=allowed,
        **_queue_encryption(plan),
    )


def queue(title: str, name: str, plan: Plan, *, dead: sqs.Queue, visibility_timeout: int, receives: int) -> sqs.Queue:
    """The queue of a function: after so many ``receives`` a message goes to the queue ``dead``."""
    return sqs.Queue(
        title,
        QueueName=name,
        VisibilityTimeout=visibility_timeout,
        MessageRetentionPeriod=SOURCE_RETENTION,
        RedrivePolicy=sqs.RedrivePolicy(deadLetterTargetArn=GetAtt(dead, "Arn"), maxReceiveCount=receives),
        **_queue_encryption(plan),
    )


def _queue_encryption(plan: Plan) -> dict[str, Any]:
    return encrypted(plan, "KmsMasterKeyId") or {"SqsManagedSseEnabled": True}


def subscription(
    title: str,
    topic: str,
    queue: sqs.Queue,
    undelivered: sqs.Queue,
    *,
    filter_policy: dict[str, Any] | None,
    after: Sequence[sqs.QueuePolicy],
) -> sns.SubscriptionResource:
    """The subscription of a queue to the topic with the logical id ``topic``; ``undelivered`` is its dead-letter queue.

    It is made ``after`` the queues' policies: SNS does not try again what a queue refuses.
    """
    narrow = {"FilterPolicyScope": "MessageBody", "FilterPolicy": filter_policy} if filter_policy else {}
    return sns.SubscriptionResource(
        title,
        TopicArn=Ref(topic),
        Protocol="sqs",
        Endpoint=GetAtt(queue, "Arn"),
        RawMessageDelivery=True,
        **narrow,
        RedrivePolicy={"deadLetterTargetArn": GetAtt(undelivered, "Arn")},
        DependsOn=[policy.title for policy in after],
    )


def filter_policy(pattern: KeyPattern) -> dict[str, Any] | None:
    """A subscription's filter policy for the keys of a pattern, on the message's body; None: it gets everything.

    It is the narrowest filter that SNS can do, which is not as narrow as the pattern: no wildcards, and of several
    conditions any will do. The handler matches exactly.
    https://docs.aws.amazon.com/sns/latest/dg/string-value-matching.html
    """
    conditions: list[dict[str, str]] = []
    for each in pattern.alternatives:
        if not (each.literal_prefix or each.literal_suffix):
            return None
        condition = {"prefix": each.literal_prefix} if each.literal_prefix else {"suffix": each.literal_suffix}
        if condition not in conditions:
            conditions.append(condition)
    return {"detail": {"object": {"key": conditions}}}


def routing(
    plan: Plan,
    patterns: Sequence[dict[str, Any]],
    *,
    topic_title: str = "Topic",
    rule_title: str = "Rule",
    description: str,
    undelivered: str,
    after: Iterable[str],
) -> list[AWSObject]:
    """A topic, the rules that publish to it what matches one of the event patterns, and their dead-letter queue.

    The rules are made last, ``after`` all subscriptions: what is published before would reach nobody. ``description``
    is the rules', ``undelivered`` that of the alarm on the dead-letter queue.

    A rule's target has no RoleArn: for a topic EventBridge uses the topic's policy, and it tells SNS nothing that a
    Condition in that could hold on to.
    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html#eb-sns-permissions
    """
    topic = sns.Topic(topic_title, TopicName=plan.physical(kind=topic_title), **encrypted(plan, "KmsMasterKeyId"))
    dead = dead_letter_queue(f"{rule_title}DLQ", plan.physical(kind=f"{rule_title}DLQ"), plan)
    titles = rule_titles(patterns, rule_title)
    sources = [Sub(arn("events", f"rule/{plan.physical(kind=title)}")) for title in titles]
    policies = [
        topic_policy(topic, "PublishEvents", "events.amazonaws.com"),
        queue_policy(dead, service="events.amazonaws.com", sources=one_or_list(sources)),
    ]
    target = events.Target(
        Id=topic_title,
        Arn=Ref(topic),
        DeadLetterConfig=events.DeadLetterConfig(Arn=GetAtt(dead, "Arn")),
        RetryPolicy=events.RetryPolicy(MaximumEventAgeInSeconds=RETRY_SECONDS, MaximumRetryAttempts=RETRY_ATTEMPTS),
    )
    rules = [
        events.Rule(
            title,
            Name=plan.physical(kind=title),  # spelled out: the policy of the dead-letter queue names it beforehand
            Description=description,
            EventPattern=pattern,
            State="ENABLED",
            Targets=[target],
            DependsOn=[*(policy.title for policy in policies), *sorted(after)],
        )
        for title, pattern in zip(titles, patterns, strict=True)
    ]
    return [topic, dead, *policies, *rules, dead_letter_alarm(dead, plan, undelivered)]


def rule_titles(patterns: Sequence[dict[str, Any]], title: str = "Rule") -> list[str]:
    """The logical ids of the rules for some event patterns; they are the ends of their names, too."""
    return [title if number == 1 else f"{title}{number}" for number in range(1, len(patterns) + 1)]


def bronze_patterns(plan: Plan) -> list[dict[str, Any]]:
    """The event patterns for the files that the transforms want, for archived ones that can be read again, and where
    silver goes with them for their end."""
    removes = any(transform.removes for transform in plan.transforms)
    kinds = (CREATED, RESTORED, DELETED) if removes else (CREATED, RESTORED)
    return event_patterns(plan.buckets["bronze"], [transform.pattern for transform in plan.transforms], kinds)


def silver_patterns(plan: Plan) -> list[dict[str, Any]]:
    """The event patterns for the silver that tables are made of, and for the documents in quarantine that the lineage
    speaks of: a table follows deletions, too."""
    conditions = ({"prefix": f"{transform}/"} for transform in plan.tables.transforms)
    documents = [
        {"wildcard": f"{transform}/*{ending}"}
        for transform in plan.tables.lineage
        for ending in (ERROR_ENDING, FAILED_ENDING)
    ]
    quarantine = _grouped(plan.buckets["quarantine"], documents, (CREATED, DELETED)) if documents else []
    return [*_grouped(plan.buckets["silver"], conditions, (CREATED, DELETED)), *quarantine]


def event_patterns(
    bucket: str, patterns: Iterable[KeyPattern], kinds: Sequence[str] = (CREATED,)
) -> list[dict[str, Any]]:
    """The union of key patterns of a bucket, in as few event patterns as fit EventBridge's limits.

    A file that two rules match is published twice; the second makes no difference.
    """
    single = (each for pattern in patterns for each in pattern.alternatives)
    conditions = (condition for pattern in single for condition in _key_conditions(bucket, pattern, kinds))
    return _grouped(bucket, conditions, kinds)


def _grouped(bucket: str, conditions: Iterable[Any], kinds: Sequence[str]) -> list[dict[str, Any]]:
    """The union of some conditions on the key, in as few event patterns as fit EventBridge's limits."""
    rules: list[list[Any]] = [[]]
    for condition in conditions:
        if any(condition in rule for rule in rules):
            continue
        if not _fits(bucket, [*rules[-1], condition], kinds):
            rules.append([])
        rules[-1].append(condition)
    return [_event_pattern(bucket, rule, kinds) for rule in rules]


def _key_conditions(bucket: str, pattern: KeyPattern, kinds: Sequence[str]) -> list[Any]:
    """The conditions on the key: the pattern or, where EventBridge would not take that, a wider one.

    The handler, which matches exactly, drops what is let through too much.
    """
    conditions = pattern.event_pattern()
    if _fits(bucket, conditions, kinds):
        return conditions
    prefix, suffix = pattern.literal_prefix, pattern.literal_suffix
    while len(json.dumps(prefix)) > LONGEST_EVENT_PATTERN // 2:
        prefix = prefix[:-1]
    if prefix or not suffix:
        return [{"prefix": prefix}]
    while len(json.dumps(suffix)) > LONGEST_EVENT_PATTERN // 2:
        suffix = suffix[1:]
    return [{"suffix": suffix}]


def _fits(bucket: str, conditions: list[Any], kinds: Sequence[str]) -> bool:
    pattern = _event_pattern(bucket, conditions, kinds)
    wildcards = [item["wildcard"] for item in conditions if isinstance(item, dict) and "wildcard" in item]
    return len(json.dumps(pattern)) <= LONGEST_EVENT_PATTERN and wildcard_states(wildcards) <= MOST_WILDCARD_STATES


def _event_pattern(bucket: str, conditions: list[Any], kinds: Sequence[str]) -> dict[str, Any]:
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html"""
    return {
        "source": ["aws.s3"],
        "detail-type": [*kinds],
        "detail": {"bucket": {"name": [bucket]}, "object": {"key": conditions}},
    }
