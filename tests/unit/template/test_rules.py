"""The rules match what the transforms match, in as few event patterns as EventBridge takes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from silversmith.patterns import (
    MOST_WILDCARD_STATES,
    Dialect,
    InvalidPattern,
    KeyPattern,
    compile_pattern,
    wildcard_states,
)
from silversmith.template.messaging import LONGEST_EVENT_PATTERN, event_patterns, filter_policy


def rules_of(*patterns: str) -> list[dict[str, Any]]:
    return event_patterns("dl-bronze-layer", [KeyPattern.parse(pattern) for pattern in patterns])


def event(key: str) -> dict[str, Any]:
    return {
        "source": "aws.s3",
        "detail-type": "Object Created",
        "detail": {"bucket": {"name": "dl-bronze-layer"}, "object": {"key": key}},
    }


def conditions(pattern: dict[str, Any]) -> list[Any]:
    actual: list[Any] = pattern["detail"]["object"]["key"]
    return actual


def fits(pattern: dict[str, Any]) -> bool:
    wildcards = [each["wildcard"] for each in conditions(pattern) if "wildcard" in each]
    return len(json.dumps(pattern)) <= LONGEST_EVENT_PATTERN and wildcard_states(wildcards) <= MOST_WILDCARD_STATES


def test_one_rule_is_the_union_and_the_same_pattern_is_there_once() -> None:
    (rules,) = rules_of("a/*.csv", "b/one.csv", "a/*.csv")
    assert conditions(rules) == [{"wildcard": "a/*.csv"}, "b/one.csv"]


def test_more_wildcards_than_eventbridge_takes_become_several_rules() -> None:
    rules = rules_of(*(f"folder{number}/*.csv" for number in range(25)))
    assert len(rules) == 3
    assert all(fits(pattern) for pattern in rules)
    assert sum(len(conditions(pattern)) for pattern in rules) == 25


def test_longer_than_eventbridge_takes_becomes_several_rules() -> None:
    rules = rules_of(*(f"{letter * 900}/one.csv" for letter in "abcde"))
    assert len(rules) == 3
    assert all(fits(pattern) for pattern in rules)


@pytest.mark.parametrize(
    ("text", "wider"),
    [
        ("data/*a*b*c*d*e*f*g*h*i*", {"prefix": "data/"}),
        ("*a*b*c*d*e*f*g*h*i*.csv", {"suffix": ".csv"}),
        ("*a*b*c*d*e*f*g*h*i*", {"prefix": ""}),
        ("ü" * 500 + "*.csv", {"prefix": "ü" * 170}),
        ("*" + "ü" * 500, {"suffix": "ü" * 170}),
    ],
)
def test_a_pattern_that_eventbridge_would_refuse_is_replaced_by_a_wider_one(text: str, wider: dict[str, str]) -> None:
    (rules,) = rules_of(text)
    assert conditions(rules) == [wider]
    assert fits(rules)
    assert compile_pattern(rules).matches(event(text.replace("*", "")))


keys = st.text("ab/.*é", min_size=1, max_size=12)
texts = st.text("ab/.*\\é", min_size=1, max_size=10)


@given(st.lists(texts, min_size=1, max_size=14), keys)
def test_keys_of_a_transform_pass_a_rule_and_its_subscription(candidates: list[str], key: str) -> None:
    patterns = []
    for text in candidates:
        try:
            patterns.append(KeyPattern.parse(text))
        except InvalidPattern:
            continue
    assume(patterns)
    rules = event_patterns("dl-bronze-layer", patterns)
    assert all(fits(rule) for rule in rules)
    matched = any(compile_pattern(rule).matches(event(key)) for rule in rules)
    assert matched or not any(pattern.matches(key) for pattern in patterns)
    for pattern in patterns:
        policy = filter_policy(pattern)
        through = policy is None or compile_pattern(policy, dialect=Dialect.SNS_MESSAGE_BODY).matches(event(key))
        assert through or not pattern.matches(key)


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("flights/*.csv", [{"prefix": "flights/"}]),
        ("*.csv", [{"suffix": ".csv"}]),
        ("one.csv", [{"prefix": "one.csv"}]),
        ("*", None),
    ],
)
def test_a_subscription_is_narrowed_by_what_sns_can_compare(text: str, allowed: list[Any] | None) -> None:
    policy = filter_policy(KeyPattern.parse(text))
    assert (policy and policy["detail"]["object"]["key"]) == allowed


@given(st.lists(texts, min_size=1, max_size=5), keys)
def test_a_transform_of_several_patterns_has_the_rule_and_the_filter_of_each(candidates: list[str], key: str) -> None:
    try:
        several = KeyPattern.any_of(candidates)
    except InvalidPattern:
        assume(False)
    rules = event_patterns("dl-bronze-layer", [several])
    assert rules == event_patterns("dl-bronze-layer", several.alternatives)
    matched = any(compile_pattern(rule).matches(event(key)) for rule in rules)
    assert matched or not several.matches(key)
    policy = filter_policy(several)
    through = policy is None or compile_pattern(policy, dialect=Dialect.SNS_MESSAGE_BODY).matches(event(key))
    assert through or not several.matches(key)
