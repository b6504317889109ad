"""From bronze to the topic: the rules that pick the transforms' files out of the bus, and the topic they publish to."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from troposphere import AWSObject, GetAtt, Ref, events, sns, sqs

from silversmith.patterns import MOST_WILDCARD_STATES, wildcard_states
from silversmith.patterns.keys import KeyPattern
from silversmith.pipeline import Pipeline
from silversmith.template.alarms import dead_letter_alarm
from silversmith.template.names import physical
from silversmith.template.permissions import queue_policy, rule_arn, topic_policy
from silversmith.template.transform import dead_letter_queue

#: The longest event pattern that EventBridge takes, in characters of JSON.
#: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html
LONGEST_EVENT_PATTERN = 2048

#: How long EventBridge tries to publish before it gives the event to the dead-letter queue: its own longest.
#: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-retry-policy.html
RETRY_SECONDS = 86_400
RETRY_ATTEMPTS = 185


def topic(pipeline: Pipeline) -> sns.Topic:
    """One for the whole pipeline. Any other system may subscribe to it."""
    return sns.Topic("Topic", TopicName=physical(pipeline.name, kind="Topic"))


def resources(pipeline: Pipeline, destination: sns.Topic, *, after: Iterable[str]) -> list[AWSObject]:
    """The topic, its policy, the rules and their dead-letter queue.

    The rules are made last, ``after`` all subscriptions: what is published before would reach nobody.
    """
    patterns = event_patterns(pipeline)
    kinds = [f"Rule{number}" if number > 1 else "Rule" for number in range(1, len(patterns) + 1)]
    dead = dead_letter_queue("RuleDLQ", physical(pipeline.name, kind="RuleDLQ"))
    sources = [rule_arn(physical(pipeline.name, kind=kind)) for kind in kinds]
    policies = [topic_policy(destination), queue_policy(dead, service="events.amazonaws.com", sources=sources)]
    first = [*(policy.title for policy in policies), *sorted(after)]
    target = _target(destination, dead)
    rules = [
        _rule(kind, pipeline, pattern, target=target, after=first)
        for kind, pattern in zip(kinds, patterns, strict=True)
    ]
    return [destination, dead, *policies, *rules, dead_letter_alarm(dead, "an event did not reach the topic")]


def _target(destination: sns.Topic, dead: sqs.Queue) -> events.Target:
    """Without a RoleArn: for a topic EventBridge uses the topic's policy."""
    return events.Target(
        Id="Topic",
        Arn=Ref(destination),
        DeadLetterConfig=events.DeadLetterConfig(Arn=GetAtt(dead, "Arn")),
        RetryPolicy=events.RetryPolicy(MaximumEventAgeInSeconds=RETRY_SECONDS, MaximumRetryAttempts=RETRY_ATTEMPTS),
    )


def _rule(
    kind: str, pipeline: Pipeline, pattern: dict[str, Any], *, target: events.Target, after: list[str]
) -> events.Rule:
    return events.Rule(
        kind,
        Name=physical(pipeline.name, kind=kind),
        Description="Files in bronze that a transform wants",
        EventPattern=pattern,
        State="ENABLED",
        Targets=[target],
        DependsOn=after,
    )


def event_patterns(pipeline: Pipeline) -> list[dict[str, Any]]:
    """The union of the transforms' patterns, in as few event patterns as fit EventBridge's limits.

    A file that two rules match is published twice; the second makes no difference.
    """
    rules: list[list[Any]] = [[]]
    for transform in pipeline.transforms:
        for condition in key_conditions(pipeline.bronze, transform.pattern):
            if any(condition in rule for rule in rules):
                continue
            if not _fits(pipeline.bronze, [*rules[-1], condition]):
                rules.append([])
            rules[-1].append(condition)
    return [_event_pattern(pipeline.bronze, rule) for rule in rules]


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
