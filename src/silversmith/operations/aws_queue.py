"""A queue on SQS whose messages can be read: they are received, which hides them, and made visible again.

docs/decisions/0026-a-queue-is-read-by-receiving.md
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from silversmith.operations.target import Depth
from silversmith.operations.text import count
from silversmith.runtime.queue import NotSent, SqsQueue
from silversmith.stores import batched, map_in_threads
from silversmith.stores.aws_errors import translate_aws_errors

#: The most messages that SQS and SNS take or give at once.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
AT_ONCE = 10

#: So many receives at once, where a queue is deep.
READERS = 8

#: How often a message is published at the most.
TRIES = 3

#: Seconds for which a received message is hidden from others, unless it is made visible before.
HIDDEN = 300

#: At most so many messages of a queue are received at a time; the rest is not read.
MOST_RECEIVED = 5_000

#: Seconds to wait for a message where there should be some: then SQS asks all of its servers, not only some.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-short-and-long-polling.html
LONG_POLL = 1


@dataclass(frozen=True)
class AwsMessage:
    """A received message. ``sent`` in Unix seconds; ``attributes`` are the sender's, by name."""

    id: str
    body: str
    receipt: str
    sent: float
    attributes: Mapping[str, str]


class AwsQueue(SqsQueue):
    """A queue whose messages can be read: they are received, and made visible again by :meth:`release`.

    Args:
        url: its URL.
        client: a boto3 SQS client.
        tell: gets a note where not all messages could be read.
        most: at most so many messages are received at a time.
        wait: seconds, see :data:`LONG_POLL`.
    """

    def __init__(
        self,
        url: str,
        client: Any,
        *,
        tell: Callable[[str], None] = lambda _: None,
        most: int = MOST_RECEIVED,
        wait: int = LONG_POLL,
    ) -> None:
        super().__init__(url, client)
        self.name = url.rpartition("/")[2]
        self._tell = tell
        self._most = most
        self._wait = wait
        self._received: dict[str, AwsMessage] = {}

    def depth(self) -> Depth:
        """Its approximate depth. SQS does not say when the oldest message was sent.

        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html
        """
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        with translate_aws_errors(f"the queue {self.name}"):
            attributes = self._client.get_queue_attributes(QueueUrl=self._url, AttributeNames=names)["Attributes"]
        waiting, in_flight = (int(attributes[name]) for name in names)
        return Depth(self.name, waiting, in_flight, oldest=None)

    def messages(self) -> Iterator[AwsMessage]:
        """Its messages, up to ``most``; a note says how many were left out. Another reader's messages are invisible."""
        yield from list(self._received.values())
        readers = 1
        while len(self._received) < self._most:
            received = self._receive() if readers == 1 else self._receive_at_once(readers)
            if not received:
                return
            for message in received:
                # A message that was visible again too soon comes again, with another receipt.
                is_new = message.id not in self._received
                self._received[message.id] = message
                if is_new:
                    yield message
            # a full answer promises more
            room = (self._most - len(self._received)) // AT_ONCE
            readers = max(1, min(READERS, room)) if len(received) == readers * AT_ONCE else 1
        if left := self.depth().waiting:
            self._tell(f"the queue {self.name} holds about {count(left, 'message')} more that nobody looked at")

    def received(self, message_id: str) -> AwsMessage | None:
        """A received message; None where it was not received."""
        return self._received.get(message_id)

    def delete(self, messages: Collection[AwsMessage]) -> None:
        """Delete received messages. One that SQS does not delete becomes visible again."""
        for batch in batched(messages, AT_ONCE):
            entries = [{"Id": str(number), "ReceiptHandle": message.receipt} for number, message in enumerate(batch)]
            with translate_aws_errors(f"the queue {self.name}"):
                self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)
            for message in batch:
                self._received.pop(message.id, None)

    def release(self) -> None:
        """Make every received message visible again. After :data:`HIDDEN` seconds it becomes so by itself."""
        for batch in batched(list(self._received.values()), AT_ONCE):
            entries = [
                {"Id": str(number), "ReceiptHandle": message.receipt, "VisibilityTimeout": 0}
                for number, message in enumerate(batch)
            ]
            with translate_aws_errors(f"the queue {self.name}"):
                self._client.change_message_visibility_batch(QueueUrl=self._url, Entries=entries)
        self._received.clear()

    def _receive_at_once(self, readers: int) -> list[AwsMessage]:
        answers = map_in_threads(lambda _: self._receive(), range(readers), readers)
        return [message for answer in answers for message in answer]

    def _receive(self) -> list[AwsMessage]:
        wait = self._wait if self._received or self.depth().waiting else 0
        with translate_aws_errors(f"the queue {self.name}"):
            answer = self._client.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=AT_ONCE,
                VisibilityTimeout=HIDDEN,
                WaitTimeSeconds=wait,
                MessageSystemAttributeNames=["SentTimestamp"],
                MessageAttributeNames=["All"],
            )
        return [_message(each) for each in answer.get("Messages", ())]


def _message(values: Mapping[str, Any]) -> AwsMessage:
    attributes = {name: value.get("StringValue", "") for name, value in values.get("MessageAttributes", {}).items()}
    sent = int(values.get("Attributes", {}).get("SentTimestamp", 0)) / 1000
    return AwsMessage(values["MessageId"], values["Body"], values["ReceiptHandle"], sent, attributes)


@dataclass(frozen=True)
class AwsTopic:
    """A topic on SNS, by its ARN. ``client`` is a boto3 SNS client."""

    arn: str
    client: Any

    def publish(self, bodies: Sequence[str]) -> None:
        """Publish up to :data:`AT_ONCE` messages, all of them. SNS may take some and refuse others, which are then
        published once more.

        https://docs.aws.amazon.com/sns/latest/api/API_PublishBatch.html

        Raises:
            NotSent: the topic did not take one.
        """
        left = [{"Id": str(number), "Message": body} for number, body in enumerate(bodies)]
        for attempt in range(1, TRIES + 1):
            answer = self.client.publish_batch(TopicArn=self.arn, PublishBatchRequestEntries=left)
            refused = {item["Id"]: item for item in answer.get("Failed", ())}
            left = [entry for entry in left if entry["Id"] in refused]
            if not left:
                return
            if attempt == TRIES:
                reasons = ", ".join(sorted({f"{item['Code']}: {item.get('Message', '')}" for item in refused.values()}))
                raise NotSent(f"{self.arn} did not take {count(len(left), 'message')}: {reasons}")
