"""IAM's evaluation rules, one by one."""

from __future__ import annotations

import itertools
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith.errors import AccessDenied
from silversmith.local.iam import Policy, PolicyVerdict, UnsupportedPolicy, checker

TOPIC = "arn:aws:sns:us-east-1:000000000000:flights_Topic"
QUEUE = "arn:aws:sqs:us-east-1:000000000000:flights_orders"
ROLE = "arn:aws:iam::000000000000:role/OrdersRole"


def policy(*statements: dict[str, Any], name: str = "OrdersRole") -> Policy:
    return Policy.parse(name, {"Version": "2012-10-17", "Statement": list(statements)})


def statement(effect: str = "Allow", **elements: Any) -> dict[str, Any]:
    return {"Effect": effect, "Action": "s3:GetObject", "Resource": "arn:aws:s3:::bronze/*"} | elements


def test_nothing_is_allowed_that_no_statement_allows() -> None:
    assert policy().verdicts("s3:GetObject")("arn:aws:s3:::bronze/a") is PolicyVerdict.SILENT
    assert not policy().allows("s3:GetObject", "arn:aws:s3:::bronze/a")


def test_an_allow_allows_its_actions_on_its_resources_only() -> None:
    read = policy(statement(Action=["s3:GetObject", "s3:GetObjectVersion"]))
    assert read.allows("s3:GetObject", "arn:aws:s3:::bronze/a/b.csv")
    assert read.allows("s3:GetObjectVersion", "arn:aws:s3:::bronze/")
    assert not read.allows("s3:PutObject", "arn:aws:s3:::bronze/a")
    assert not read.allows("s3:GetObject", "arn:aws:s3:::silver/a")
    assert not read.allows("s3:GetObject", "arn:aws:s3:::bronze")


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_an_explicit_deny_wins_whatever_the_order(order: tuple[int, ...]) -> None:
    statements = [statement(), statement("Deny"), statement(Resource="*")]
    parsed = policy(*(statements[position] for position in order))
    assert parsed.verdicts("s3:GetObject")("arn:aws:s3:::bronze/a") is PolicyVerdict.DENIED
    assert parsed.verdicts("s3:GetObject")("arn:aws:s3:::silver/a") is PolicyVerdict.ALLOWED


@pytest.mark.parametrize(
    ("pattern", "action", "matches"),
    [
        ("s3:getobject", "s3:GetObject", True),
        ("S3:Get*", "s3:GetObjectVersion", True),
        ("s3:*", "s3:PutObject", True),
        ("*", "sqs:SendMessage", True),
        ("s3:Get?bject", "s3:GetObject", True),
        ("s3:Get", "s3:GetObject", False),
        ("s3:*", "sqs:SendMessage", False),
    ],
)
def test_actions_ignore_case_and_take_wildcards(pattern: str, action: str, matches: bool) -> None:
    assert policy(statement(Action=pattern, Resource="*")).allows(action, QUEUE) is matches


@pytest.mark.parametrize(
    ("pattern", "resource", "matches"),
    [
        ("arn:aws:s3:::bronze/flights/*", "arn:aws:s3:::bronze/flights/2024/a.csv", True),
        ("arn:aws:s3:::bronze/flights/*", "arn:aws:s3:::bronze/Flights/a.csv", False),
        ("arn:aws:s3:::bronze/flights/*", "arn:aws:s3:::bronze/flights", False),
        ("arn:aws:s3:::bronze/a?c", "arn:aws:s3:::bronze/abc", True),
        ("arn:aws:s3:::bronze/a?c", "arn:aws:s3:::bronze/ac", False),
        ("arn:aws:s3:::bronze/a${?}c", "arn:aws:s3:::bronze/a?c", True),
        ("arn:aws:s3:::bronze/a${?}c", "arn:aws:s3:::bronze/abc", False),
        ("arn:aws:s3:::bronze/${*}${$}{x}*", "arn:aws:s3:::bronze/*${x}1", True),
        ("arn:aws:s3:::bronze/${*}${$}{x}*", "arn:aws:s3:::bronze/1${x}1", False),
        ("arn:aws:s3:::bronze/*", "arn:aws:s3:::bronze/new\nline:colon", True),
        ("arn:aws:sqs:*:000000000000:q", "arn:aws:sqs:us-east-1:000000000000:q", True),
        ("arn:aws:sqs:*:q", "arn:aws:sqs:us-east-1:000000000000:q", False),
        ("arn:aws:*:q", "arn:aws:sqs:us-east-1:000000000000:q", False),
        ("*", "arn:aws:sqs:us-east-1:000000000000:q", True),
    ],
)
def test_resources_mind_case_and_no_wildcard_reaches_past_its_part(pattern: str, resource: str, matches: bool) -> None:
    assert policy(statement(Resource=pattern)).allows("s3:GetObject", resource) is matches


def test_not_action_and_not_resource_are_the_opposites() -> None:
    parsed = policy({"Effect": "Allow", "NotAction": "s3:Delete*", "NotResource": "arn:aws:s3:::silver/*"})
    assert parsed.allows("s3:GetObject", "arn:aws:s3:::bronze/a")
    assert not parsed.allows("s3:DeleteObject", "arn:aws:s3:::bronze/a")
    assert not parsed.allows("s3:GetObject", "arn:aws:s3:::silver/a")


@pytest.mark.parametrize(
    ("principal", "asks", "included"),
    [
        ("*", "events.amazonaws.com", True),
        ({"AWS": "*"}, ROLE, True),
        ({"Service": "events.amazonaws.com"}, "events.amazonaws.com", True),
        ({"Service": "events.amazonaws.com"}, "sns.amazonaws.com", False),
        ({"Service": ["sns.amazonaws.com", "events.amazonaws.com"]}, "events.amazonaws.com", True),
        ({"AWS": ROLE}, ROLE, True),
        ({"AWS": ROLE}, ROLE + "2", False),
        ({"AWS": "000000000000"}, ROLE, True),
        ({"AWS": "arn:aws:iam::000000000000:root"}, ROLE, True),
        ({"AWS": "arn:aws:iam::111111111111:root"}, ROLE, False),
        ({"AWS": "000000000000"}, "events.amazonaws.com", False),
    ],
)
def test_a_resource_policy_speaks_of_its_principals(principal: object, asks: str, included: bool) -> None:
    parsed = policy(statement(Principal=principal, Action="sns:Publish", Resource=TOPIC))
    assert parsed.allows("sns:Publish", TOPIC, principal=asks) is included
    assert parsed.allows("sns:Publish", TOPIC) is (principal in ("*", {"AWS": "*"}))


SOURCE = "aws:SourceArn"


@pytest.mark.parametrize(
    ("condition", "context", "met"),
    [
        ({"ArnEquals": {SOURCE: TOPIC}}, {SOURCE: TOPIC}, True),
        ({"ArnEquals": {SOURCE: TOPIC}}, {"AWS:sourcearn": TOPIC}, True),
        ({"ArnEquals": {SOURCE: TOPIC}}, {SOURCE: QUEUE}, False),
        ({"ArnEquals": {SOURCE: TOPIC}}, {}, False),
        ({"ArnLike": {SOURCE: "arn:aws:sns:*:000000000000:*"}}, {SOURCE: TOPIC}, True),
        ({"ArnNotEquals": {SOURCE: TOPIC}}, {SOURCE: TOPIC}, False),
        ({"ArnNotEquals": {SOURCE: TOPIC}}, {}, True),
        ({"ArnEqualsIfExists": {SOURCE: TOPIC}}, {}, True),
        ({"ArnEqualsIfExists": {SOURCE: TOPIC}}, {SOURCE: QUEUE}, False),
        ({"StringEquals": {"aws:SourceAccount": ["1", "2"]}}, {"aws:SourceAccount": "2"}, True),
        ({"StringEquals": {"aws:SourceAccount": ["1", "2"]}}, {"aws:SourceAccount": "3"}, False),
        ({"StringEquals": {"s3:prefix": "a*"}}, {"s3:prefix": "ab"}, False),
        ({"StringLike": {"s3:prefix": "a*"}}, {"s3:prefix": "ab/c"}, True),
        ({"StringNotLike": {"s3:prefix": ["a*", "b*"]}}, {"s3:prefix": "bx"}, False),
        ({"StringNotLike": {"s3:prefix": ["a*", "b*"]}}, {"s3:prefix": "cx"}, True),
        ({"Bool": {"aws:SecureTransport": "false"}}, {"aws:SecureTransport": "false"}, True),
        ({"Bool": {"aws:SecureTransport": False}}, {"aws:SecureTransport": "false"}, True),
        ({"Bool": {"aws:SecureTransport": "false"}}, {"aws:SecureTransport": "true"}, False),
        ({"Bool": {"aws:SecureTransport": "false"}}, {}, False),
        ({"Bool": {"a": "true"}, "StringEquals": {"b": "x"}}, {"a": "true", "b": "x"}, True),
        ({"Bool": {"a": "true"}, "StringEquals": {"b": "x"}}, {"a": "true", "b": "y"}, False),
    ],
)
def test_conditions(condition: dict[str, Any], context: dict[str, str], met: bool) -> None:
    parsed = policy(statement(Condition=condition))
    assert parsed.allows("s3:GetObject", "arn:aws:s3:::bronze/a", context=context) is met


@pytest.mark.parametrize(
    "wrong",
    [
        {"Condition": {"NumericLessThan": {"s3:max-keys": "10"}}},
        {"Condition": {"ForAllValues:StringEquals": {"aws:TagKeys": "x"}}},
        {"NotPrincipal": "*"},
        {"Principal": {"Federated": "cognito"}},
        {"Principal": "events.amazonaws.com"},
        {"Resource": "arn:aws:s3:::home/${aws:username}/*"},
        {"Effect": "allow"},
        {"NotAction": "s3:*"},
        {"Colour": "blue"},
    ],
)
def test_unknown_policy_elements_are_an_error_and_never_an_allow(wrong: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedPolicy) as raised:
        policy(statement(**wrong))
    assert "OrdersRole" in str(raised.value) or "aws:username" in str(raised.value)


def test_check_lets_a_request_pass_that_the_identity_or_the_resource_allows() -> None:
    resource, identity = policy(name="BronzeBucketPolicy"), policy(statement())
    checker([resource, identity], principal=ROLE)("s3:GetObject", "arn:aws:s3:::bronze/a")


def test_check_names_who_what_where_and_the_policy_to_change() -> None:
    with pytest.raises(AccessDenied) as raised:
        checker([policy(statement())], principal=ROLE)("s3:PutObject", "arn:aws:s3:::silver/a")
    for text in (ROLE, "s3:PutObject", "arn:aws:s3:::silver/a", "OrdersRole"):
        assert text in str(raised.value)


def test_check_names_the_policy_that_forbids_what_another_allows() -> None:
    deny = statement("Deny", Principal="*", Condition={"Bool": {"aws:SecureTransport": "false"}})
    policies = [policy(statement()), policy(deny, name="BronzeBucketPolicy")]
    plain, secure = {"aws:SecureTransport": "false"}, {"aws:SecureTransport": "true"}
    checker(policies, principal=ROLE, context=secure)("s3:GetObject", "arn:aws:s3:::bronze/a")
    with pytest.raises(AccessDenied, match="Deny statement of BronzeBucketPolicy"):
        checker(policies, principal=ROLE, context=plain)("s3:GetObject", "arn:aws:s3:::bronze/a")


def test_a_policy_survives_the_way_to_another_process() -> None:
    parsed = policy(statement(), statement("Deny", Resource="arn:aws:s3:::bronze/secret/*"))
    again = pickle.loads(pickle.dumps(parsed))
    assert again == parsed
    assert again.allows("s3:GetObject", "arn:aws:s3:::bronze/a")
    assert not again.allows("s3:GetObject", "arn:aws:s3:::bronze/secret/a")


def like(pattern: str, text: str) -> bool:
    """The obvious, slow definition of IAM's wildcards."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(like(pattern[1:], text[start:]) for start in range(len(text) + 1))
    return bool(text) and pattern[0] in ("?", text[0]) and like(pattern[1:], text[1:])


@given(st.text("ab*?.\n", max_size=6), st.text("ab.*?\n", max_size=6))
def test_wildcards_mean_what_the_slow_definition_says(pattern: str, text: str) -> None:
    parsed = policy(statement(Condition={"StringLike": {"s3:prefix": pattern}}))
    assert parsed.allows("s3:GetObject", "arn:aws:s3:::bronze/a", context={"s3:prefix": text}) is like(pattern, text)
