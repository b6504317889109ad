"""From bronze to the topic: the rules that pick the transforms' files out of the bus, and the topic they publish to."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from troposphere import AWSObject, GetAtt, Ref, Sub, events, sns, sqs

from silversmith.patterns import MOST_WILDCARD_STATES, wildcard_states
from silversmith.patterns.keys import KeyPattern
from silversmith.template.alarms import dead_letter_alarm
from silversmith.template.encryption import of_topic
from silversmith.template.plan import Plan, arn
from silversmith.template.policies import queue_policy, topic_policy
from silversmith.template.queues import dead_letter_queue

#: The longest event pattern that EventBridge takes, in characters of JSON.
#: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html
LONGEST_EVENT_PATTERN = 2048

#: How long EventBridge tries to publish before it gives the event to the dead-letter queue: its own longest.
#: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-retry-policy.html
RETRY_SECONDS = 86_400
RETRY_ATTEMPTS = 185


def resources(plan: Plan, *, after: Iterable[str]) -> list[AWSObject]:
    """The topic, its policy, the rules and their dead-letter queue.

    The rules are made last, ``after`` all subscriptions: what is published before would reach nobody.
    """
    topic = sns.Topic("Topic", TopicName=plan.physical(kind="Topic"), **of_topic(plan))
    patterns = _patterns(plan)
    kinds = rule_titles(plan)
    dead = dead_letter_queue("RuleDLQ", plan.physical(kind="RuleDLQ"), plan)
    sources = [Sub(arn("events", f"rule/{plan.physical(kind=kind)}")) for kind in kinds]
    policies = [
        topic_policy(topic, "PublishEvents", "events.amazonaws.com"),
        queue_policy(dead, service="events.amazonaws.com", sources=sources if len(sources) > 1 else sources[0]),
    ]
    first = [*(policy.title for policy in policies), *sorted(after)]
    target = _target(topic, dead)
    rules = [
        _rule(kind, plan, pattern, target=target, after=first) for kind, pattern in zip(kinds, patterns, strict=True)
    ]
    meaning = "an event did not reach the topic: see `silversmith failures`, then `silversmith redrive`"
    return [topic, dead, *policies, *rules, dead_letter_alarm(dead, plan, meaning)]


def rule_titles(plan: Plan) -> list[str]:
    """The logical ids of the rules; they are the ends of their names, too."""
    return [f"Rule{number}" if number > 1 else "Rule" for number in range(1, len(_patterns(plan)) + 1)]


def _patterns(plan: Plan) -> list[dict[str, Any]]:
    return event_patterns(plan.buckets["bronze"], [transform.pattern for transform in plan.transforms])


def _target(topic: sns.Topic, dead: sqs.Queue) -> events.Target:
    """Without a RoleArn: for a topic EventBridge uses the topic's policy, and it tells SNS nothing that a Condition in
    that could hold on to.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html#eb-sns-permissions
    """
    return events.Target(
        Id="Topic",
        Arn=Ref(topic),
        DeadLetterConfig=events.DeadLetterConfig(Arn=GetAtt(dead, "Arn")),
        RetryPolicy=events.RetryPolicy(MaximumEventAgeInSeconds=RETRY_SECONDS, MaximumRetryAttempts=RETRY_ATTEMPTS),
    )


def _rule(kind: str, plan: Plan, pattern: dict[str, Any], *, target: events.Target, after: list[str]) -> events.Rule:
    """The policy of the dead-letter queue names the rule, and is there before it: so the rule's name is spelled out."""
    return events.Rule(
        kind,
        Name=plan.physical(kind=kind),
        Description="Files in bronze that a transform wants",
        EventPattern=pattern,
        State="ENABLED",
        Targets=[target],
        DependsOn=after,
    )


def event_patterns(bucket: str, patterns: Iterable[KeyPattern]) -> list[dict[str, Any]]:
    """The union of the transforms' key patterns, in as few event patterns as fit EventBridge's limits.

    A file that two rules match is published twice; the second makes no difference.
    """
    rules: list[list[Any]] = [[]]
    for pattern in patterns:
        for condition in key_conditions(bucket, pattern):
            if any(condition in rule for rule in rules):
                continue
            if not _fits(bucket, [*rules[-1], condition]):
                rules.append([])
            rules[-1].append(condition)
    return [_event_pattern(bucket, rule) for rule in rules]


def key_conditions(bucket: str, pattern: KeyPattern) -> list[Any]:
    """The conditions on the key for one transform: its pattern or, where EventBridge would not take that, a wider one.

    What is let through too much is dropped by the handler, which matches exactly.
    """
    conditions = pattern.event_pattern()
    if _fits(bucket, conditions):
        return conditions
    prefix, suffix = pattern.literal_prefix, pattern.literal_suffix
    while len(json.dumps(prefix)) > LONGEST_EVENT_PATTERN // 2:
        prefix = prefix[:-1]
    if prefix or not suffix:
        return [{"prefix": prefix}]
    while len(json.dumps(suffix)) > LONGEST_EVENT_PATTERN // 2:
        suffix = suffix[1:]
    return [{"suffix": suffix}]


def _fits(bucket: str, conditions: list[Any]) -> bool:
    pattern = _event_pattern(bucket, conditions)
    wildcards = [item["wildcard"] for item in conditions if isinstance(item, dict) and "wildcard" in item]
    return len(json.dumps(pattern)) <= LONGEST_EVENT_PATTERN and wildcard_states(wildcards) <= MOST_WILDCARD_STATES


def _event_pattern(bucket: str, conditions: list[Any]) -> dict[str, Any]:
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html"""
    return {
        "source": ["aws.s3"],
        "detail-type": ["Object Created"],
        "detail": {"bucket": {"name": [bucket]}, "object": {"key": conditions}},
    }
