"""The way of events, checked hop by hop against moto: whatever somebody does to a hop is found, and nothing else."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from unittest.mock import Mock

import boto3
import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError
from botocore.parsers import ResponseParserError
from moto import mock_aws

from silversmith.reconcile.handler import quick_client
from silversmith.reconcile.hops import Hops, Problem, Subscription, check

REGION, ACCOUNT = "eu-central-1", "123456789012"
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:shop_orders"
FILTER = {"detail": {"object": {"key": [{"prefix": "orders/"}]}}}
ON: dict[str, Any] = {"EventBridgeConfiguration": {}}


class Aws:
    """Clients of moto, and hops that are as they should be. Moto does not give back that EventBridge is on, and makes
    mappings only with Docker: so these two answers are the test's."""

    def __init__(self) -> None:
        self.session = boto3.Session("id", "secret", region_name=REGION)
        self.notifications: dict[str, Any] = {**ON}
        self.mapping: dict[str, Any] = {"State": "Enabled"}
        s3, events, sns, sqs = (self.session.client(name) for name in ("s3", "events", "sns", "sqs"))
        s3.create_bucket(Bucket="bronze", CreateBucketConfiguration={"LocationConstraint": REGION})
        self.topic = sns.create_topic(Name="shop_Topic")["TopicArn"]
        events.put_rule(Name="shop_Rule", EventPattern=json.dumps({"source": ["aws.s3"]}), State="ENABLED")
        events.put_targets(Rule="shop_Rule", Targets=[{"Id": "Topic", "Arn": self.topic}])
        sqs.create_queue(QueueName="shop_orders")
        attributes = {"FilterPolicy": json.dumps(FILTER), "FilterPolicyScope": "MessageBody"}
        self.subscription = sns.subscribe(
            TopicArn=self.topic, Protocol="sqs", Endpoint=QUEUE, Attributes=attributes, ReturnSubscriptionArn=True
        )["SubscriptionArn"]
        self.hops = Hops("bronze", self.topic, ("shop_Rule",), (Subscription(QUEUE, FILTER),), ("a-mapping",))

    def client(self, service: str) -> Any:
        if service == "lambda":
            return self
        aws_client = self.session.client(service)
        if service == "s3":
            aws_client.meta.events.register(
                "after-call.s3.GetBucketNotificationConfiguration",
                lambda parsed, **_: parsed.update(self.notifications),
            )
        return aws_client

    def get_event_source_mapping(self, **asked: str) -> dict[str, Any]:
        if not self.mapping:
            raise ClientError({"Error": {"Code": "ResourceNotFoundException"}}, "GetEventSourceMapping")
        function = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:shop_orders"
        return {"UUID": asked["UUID"], "FunctionArn": function, **self.mapping}

    def check(self) -> list[Problem]:
        return check([self.hops], self.client)


@pytest.fixture
def aws() -> Iterator[Aws]:
    with mock_aws():
        yield Aws()


def test_hops_that_are_well(aws: Aws) -> None:
    assert aws.check() == []
    assert str(aws.hops) == "1 rule, 1 subscription, 1 event source mapping"


def replace_notifications(aws: Aws) -> None:
    """Another owner puts a configuration of its own."""
    aws.notifications = {"QueueConfigurations": [{"QueueArn": QUEUE, "Events": ["s3:ObjectCreated:*"]}]}


def delete_bucket(aws: Aws) -> None:
    aws.client("s3").delete_bucket(Bucket="bronze")


def disable_rule(aws: Aws) -> None:
    aws.client("events").disable_rule(Name="shop_Rule")


def remove_target(aws: Aws) -> None:
    aws.client("events").remove_targets(Rule="shop_Rule", Ids=["Topic"])


def delete_rule(aws: Aws) -> None:
    remove_target(aws)
    aws.client("events").delete_rule(Name="shop_Rule")


def unsubscribe(aws: Aws) -> None:
    aws.client("sns").unsubscribe(SubscriptionArn=aws.subscription)


def change_filter(aws: Aws) -> None:
    policy = json.dumps({"detail": {"object": {"key": [{"prefix": "other/"}]}}})
    aws.client("sns").set_subscription_attributes(
        SubscriptionArn=aws.subscription, AttributeName="FilterPolicy", AttributeValue=policy
    )


def change_scope(aws: Aws) -> None:
    aws.client("sns").set_subscription_attributes(
        SubscriptionArn=aws.subscription, AttributeName="FilterPolicyScope", AttributeValue="MessageAttributes"
    )


def delete_topic(aws: Aws) -> None:
    aws.client("sns").delete_topic(TopicArn=aws.topic)


def disable_mapping(aws: Aws) -> None:
    aws.mapping = {"State": "Disabled"}


def delete_mapping(aws: Aws) -> None:
    aws.mapping = {}


@pytest.mark.parametrize(
    ("meddle", "message"),
    [
        (replace_notifications, "EventBridge is switched off for the bucket bronze"),
        (delete_bucket, "there is no bucket bronze"),
        (disable_rule, "the rule shop_Rule is disabled"),
        (remove_target, "the rule shop_Rule does not send to the topic shop_Topic"),
        (delete_rule, "there is no rule shop_Rule"),
        (unsubscribe, "the queue shop_orders is not subscribed to the topic"),
        (change_filter, "the subscription of the queue shop_orders has another filter than was deployed"),
        (change_scope, "the filter of the queue shop_orders is not about the message's body"),
        (disable_mapping, "the event source mapping of shop_orders is Disabled"),
        (delete_mapping, "there is no event source mapping a-mapping"),
    ],
)
def test_changes_of_a_hop_are_noticed(aws: Aws, meddle: Callable[[Aws], None], message: str) -> None:
    meddle(aws)
    (problem,) = aws.check()
    assert problem.message.startswith(message)
    assert problem.is_known
    assert problem.do


def test_every_topic_is_checked_and_a_service_is_reported_once(aws: Aws) -> None:
    """The same hops twice, as if another stage had them; the second topic is gone."""
    gone = replace(aws.hops, topic_arn=f"{aws.topic}2", rules=())
    assert [problem.message for problem in check([aws.hops, gone], aws.client)] == [f"there is no topic {aws.topic}2"]
    refused = ClientError({"Error": {"Code": "AccessDeniedException"}}, "GetEventSourceMapping")
    functions = Mock(get_event_source_mapping=Mock(side_effect=refused))
    problems = check([aws.hops, aws.hops], lambda service: functions if service == "lambda" else aws.client(service))
    assert [problem.message.partition(":")[0] for problem in problems] == ["lambda could not be asked"]


def test_without_a_topic_nobody_is_subscribed(aws: Aws) -> None:
    delete_topic(aws)
    assert len(aws.check()) == 1


def test_a_subscription_that_nobody_confirmed_is_none(aws: Aws) -> None:
    pending = {"Subscriptions": [{"Endpoint": QUEUE, "SubscriptionArn": "PendingConfirmation"}]}
    sns = aws.client("sns")
    sns.meta.events.register("after-call.sns.ListSubscriptionsByTopic", lambda parsed, **_: parsed.update(pending))
    (problem,) = check([aws.hops], lambda service: sns if service == "sns" else aws.client(service))
    assert problem.message == "the queue shop_orders has a subscription that nobody confirmed"


def test_services_that_do_not_answer_or_refuse_may_be_well(aws: Aws) -> None:
    """In a VPC there may be no way to EventBridge; a boundary may deny what the role allows."""

    class Silent:
        def describe_rule(self, **_: str) -> None:
            raise ConnectTimeoutError(endpoint_url="https://events")

    class Refusing:
        def get_event_source_mapping(self, **_: str) -> None:
            raise ClientError({"Error": {"Code": "AccessDeniedException"}}, "GetEventSourceMapping")

    others: dict[str, Any] = {"events": Silent(), "lambda": Refusing()}
    problems = check([aws.hops], lambda service: others.get(service) or aws.client(service))
    assert [problem.message.partition(":")[0] for problem in problems] == [
        "events could not be asked",
        "lambda could not be asked",
    ]
    assert not any(problem.is_known for problem in problems)


def test_an_answer_that_cannot_be_understood_ends_no_round(aws: Aws) -> None:
    class Garbled:
        def get_event_source_mapping(self, **_: str) -> None:
            raise ResponseParserError("cut off")

    (problem,) = check([aws.hops], lambda service: Garbled() if service == "lambda" else aws.client(service))
    assert (problem.message, problem.is_known) == ("lambda could not be asked: cut off", False)


class _Torn(BaseHTTPRequestHandler):
    """The beginning of an answer: it has a length, and then nothing comes."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "200")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_an_answer_without_its_body_is_no_word_that_eventbridge_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    with HTTPServer(("127.0.0.1", 0), _Torn) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_port}")
        for name, value in (("ACCESS_KEY_ID", "id"), ("SECRET_ACCESS_KEY", "secret"), ("DEFAULT_REGION", REGION)):
            monkeypatch.setenv(f"AWS_{name}", value)
        hops = Hops("bronze", "a-topic", (), (), ())
        problems = check([hops], lambda service: quick_client(service) if service == "s3" else _Well())
        server.shutdown()
    assert [problem.is_known for problem in problems] == [False]


class _Well:
    """A topic to which nobody is subscribed."""

    def get_paginator(self, _: str) -> _Well:
        return self

    def paginate(self, **_: str) -> list[dict[str, Any]]:
        return []
