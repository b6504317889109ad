"""A queue read by receiving: all of it if possible, nothing lost, and AWS's refusals reported with advice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from moto import mock_aws

from silversmith.errors import AccessDenied, AwsFailed
from silversmith.operations.aws_services import TRIES, AwsQueue, publish
from silversmith.runtime.queue import NotSent
from silversmith.stores.aws_errors import translate_aws_errors


@pytest.fixture
def client() -> Iterator[Any]:
    with mock_aws():
        yield boto3.session.Session("id", "secret", region_name="eu-central-1").client("sqs")


def filled(client: Any, number: int) -> str:
    url: str = client.create_queue(QueueName="dead")["QueueUrl"]
    for each in range(number):
        client.send_message(QueueUrl=url, MessageBody=str(each))
    return url


def test_all_messages_are_held_and_let_go_of(client: Any) -> None:
    url = filled(client, 23)
    queue = AwsQueue(url, client, wait=0)
    assert {message.body for message in queue.messages()} == set(map(str, range(23)))
    assert (queue.depth().waiting, queue.depth().in_flight, queue.depth().name) == (0, 23, "dead")
    assert len(list(queue.messages())) == 23, "what is held is told again"
    queue.release()
    assert (queue.depth().waiting, queue.depth().in_flight) == (23, 0)
    assert queue.received("what") is None


def test_deleted_messages_are_gone(client: Any) -> None:
    url = filled(client, 12)
    queue = AwsQueue(url, client, wait=0)
    messages = list(queue.messages())
    queue.delete(messages[:11])
    assert [queue.received(message.id) for message in messages] == [None] * 11 + [messages[11]]
    queue.release()
    assert [message.body for message in AwsQueue(url, client, wait=0).messages()] == [messages[11].body]


def test_a_part_of_a_very_deep_queue_is_reported(client: Any) -> None:
    said: list[str] = []
    queue = AwsQueue(filled(client, 25), client, tell=said.append, most=20, wait=0)
    assert len(list(queue.messages())) == 20
    assert said == ["the queue dead holds about 5 messages more that nobody looked at"]


def test_deleting_makes_room_for_the_rest(client: Any) -> None:
    queue = AwsQueue(filled(client, 25), client, most=10, wait=0)
    seen = 0
    for message in queue.messages():
        queue.delete([message])
        seen += 1
    assert seen == 25


class Forgetful:
    """A queue that shows what it has shown before, as SQS does when the time is up; then it has nothing more."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.released: list[str] = []

    def get_queue_attributes(self, **_: Any) -> dict[str, Any]:
        return {"Attributes": {"ApproximateNumberOfMessages": "1", "ApproximateNumberOfMessagesNotVisible": "0"}}

    def receive_message(self, **_: Any) -> dict[str, Any]:
        ids = self.answers.pop(0) if self.answers else ""
        number = len(self.answers)
        return {"Messages": [{"MessageId": each, "Body": each, "ReceiptHandle": f"{each}{number}"} for each in ids]}

    def change_message_visibility_batch(self, *, Entries: list[dict[str, Any]], **_: Any) -> None:  # noqa: N803 -- AWS's
        self.released += [entry["ReceiptHandle"] for entry in Entries]


def test_messages_visible_again_too_soon_hide_nothing() -> None:
    client = Forgetful("ab", "ab", "bc")
    queue = AwsQueue("https://sqs/q", client)
    assert [message.id for message in queue.messages()] == ["a", "b", "c"]
    queue.release()
    assert client.released == ["a1", "b0", "c0"], "each by the newest receipt"


def test_a_message_has_its_time(client: Any) -> None:
    (message,) = AwsQueue(filled(client, 1), client, wait=0).messages()
    assert message.sent > 1_500_000_000


@pytest.mark.parametrize("code", ["AccessDenied", "AuthorizationError", "AWS.SimpleQueueService.AccessDenied"])
def test_a_missing_right_is_reported(code: str) -> None:
    with (
        pytest.raises(AccessDenied, match=r"denied ReceiveMessage on the queue q: .*docs/operations.md.*: no$"),
        translate_aws_errors("the queue q"),
    ):
        raise ClientError({"Error": {"Code": code, "Message": "no"}}, "ReceiveMessage")


def test_a_queue_that_is_gone(client: Any) -> None:
    url = filled(client, 0)
    client.delete_queue(QueueUrl=url)
    with pytest.raises(AwsFailed, match="the queue dead: GetQueueAttributes"):
        AwsQueue(url, client).depth()


def test_no_network() -> None:
    with pytest.raises(AwsFailed, match="the queue q: Could not connect"), translate_aws_errors("the queue q"):
        raise EndpointConnectionError(endpoint_url="https://sqs")


@pytest.mark.parametrize("number", [1, 9, 11, 80, pytest.param(230, marks=pytest.mark.full)])
def test_a_deep_queue_is_read_side_by_side_and_whole(client: Any, number: int) -> None:
    queue = AwsQueue(filled(client, number), client, wait=0)
    assert sorted(int(message.body) for message in queue.messages()) == list(range(number))
    queue.release()
    assert queue.depth().waiting == number


class Topic:
    """A topic that refuses some of a batch, so many times."""

    def __init__(self, *refused: set[str]) -> None:
        self.refused = list(refused)
        self.taken: list[str] = []
        self.asked = 0

    def publish_batch(
        self,
        *,
        TopicArn: str,  # noqa: N803 -- AWS's
        PublishBatchRequestEntries: list[dict[str, str]],  # noqa: N803
    ) -> dict[str, Any]:
        assert TopicArn == "arn:topic"
        self.asked += 1
        refused = self.refused.pop(0) if self.refused else set()
        self.taken += [each["Message"] for each in PublishBatchRequestEntries if each["Message"] not in refused]
        failed = [each["Id"] for each in PublishBatchRequestEntries if each["Message"] in refused]
        return {"Failed": [{"Id": each, "Code": "InternalError", "Message": "not now"} for each in failed]}


def test_what_a_topic_refuses_is_published_once_more() -> None:
    client = Topic({"b", "c"}, {"c"})
    publish(client, "arn:topic", ["a", "b", "c"])
    assert (client.taken, client.asked) == (["a", "b", "c"], 3)


def test_what_a_topic_does_not_take_at_all_is_an_error() -> None:
    client = Topic(*[{"b"}] * TRIES)
    with pytest.raises(NotSent, match="arn:topic did not take 1 message: InternalError: not now"):
        publish(client, "arn:topic", ["a", "b"])
    assert client.taken == ["a"]
