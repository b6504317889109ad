"""Queues on SQS as the operations see them: how deep they are, and what lies in a dead-letter queue.

A queue cannot be listed. Its messages are received, which hides them from others for a while, and at the end they are
made visible again. docs/decisions/0026-a-queue-is-read-by-receiving.md
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from silversmith.errors import AccessDenied, SilversmithError
from silversmith.operations.target import Depth
from silversmith.stores import batched

#: The most messages that SQS and SNS take or give at once.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
AT_ONCE = 10

#: Seconds for which a message that was looked at is hidden from others, should nobody make it visible again.
HIDDEN = 300

#: So many messages of a queue are held at a time: what lies behind them is not seen.
MOST_HELD = 5_000

#: Seconds to wait for a message where there should be some: then SQS asks all of its servers, not only a few.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-short-and-long-polling.html
LONG_POLL = 1


class QueueFailed(SilversmithError):
    """SQS or SNS did not do what was asked, for all the SDK's own retries. Try again later."""


@dataclass(frozen=True)
class Message:
    """A message that is held. ``sent`` in Unix seconds; ``said`` is what the sender's attributes say, by name."""

    id: str
    body: str
    receipt: str
    sent: float
    said: Mapping[str, str]


class Queue:
    """A queue.

    Args:
        url: its URL.
        client: a boto3 SQS client.
        tell: told, for a person, where not all of it could be seen.
        most: how many messages are held at a time.
        wait: seconds, see :data:`LONG_POLL`.
    """

    def __init__(
        self,
        url: str,
        client: Any,
        *,
        tell: Callable[[str], None] = lambda _: None,
        most: int = MOST_HELD,
        wait: int = LONG_POLL,
    ) -> None:
        self.url = url
        self.name = url.rpartition("/")[2]
        self._client = client
        self._tell = tell
        self._most = most
        self._wait = wait
        self._held: dict[str, Message] = {}

    def depth(self) -> Depth:
        """About how deep it is. SQS does not tell when the oldest message was sent.

        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html
        """
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        with told(f"the queue {self.name}"):
            found = self._client.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        waiting, in_flight = (int(found[name]) for name in names)
        return Depth(self.name, waiting, in_flight, oldest=None)

    def messages(self) -> Iterator[Message]:
        """Its messages, each of them held from then on. Of more than can be held, some are left out, and that is told.

        What somebody else holds at this moment is not seen.
        """
        yield from list(self._held.values())
        while len(self._held) < self._most:
            received = self._receive()
            if not received:
                return
            for message in received:
                # Who held it for too long has it again, with another receipt.
                fresh = message.id not in self._held
                self._held[message.id] = message
                if fresh:
                    yield message
        if left := self.depth().waiting:
            self._tell(f"the queue {self.name} holds about {left:,} messages more, which were not looked at")

    def held(self, message_id: str) -> Message | None:
        """A message that is held; None where it is not."""
        return self._held.get(message_id)

    def delete(self, messages: Collection[Message]) -> None:
        """Delete messages that are held. One that SQS does not delete is visible again after a while."""
        for some in batched(messages, AT_ONCE):
            entries = [{"Id": str(number), "ReceiptHandle": found.receipt} for number, found in enumerate(some)]
            with told(f"the queue {self.name}"):
                self._client.delete_message_batch(QueueUrl=self.url, Entries=entries)
            for found in some:
                self._held.pop(found.id, None)

    def release(self) -> None:
        """Make everything that is held visible again. What cannot be is so by itself after :data:`HIDDEN` seconds."""
        for some in batched(list(self._held.values()), AT_ONCE):
            entries = [
                {"Id": str(number), "ReceiptHandle": found.receipt, "VisibilityTimeout": 0}
                for number, found in enumerate(some)
            ]
            with told(f"the queue {self.name}"):
                self._client.change_message_visibility_batch(QueueUrl=self.url, Entries=entries)
        self._held.clear()

    def _receive(self) -> list[Message]:
        wait = self._wait if self._held or self.depth().waiting else 0
        with told(f"the queue {self.name}"):
            found = self._client.receive_message(
                QueueUrl=self.url,
                MaxNumberOfMessages=AT_ONCE,
                VisibilityTimeout=HIDDEN,
                WaitTimeSeconds=wait,
                MessageSystemAttributeNames=["SentTimestamp"],
                MessageAttributeNames=["All"],
            )
        return [_message(each) for each in found.get("Messages", ())]


def _message(found: Mapping[str, Any]) -> Message:
    said = {name: value.get("StringValue", "") for name, value in found.get("MessageAttributes", {}).items()}
    sent = int(found.get("Attributes", {}).get("SentTimestamp", 0)) / 1000
    return Message(found["MessageId"], found["Body"], found["ReceiptHandle"], sent, said)


@contextmanager
def told(place: str) -> Iterator[None]:
    """Raise what the SDK raises as our own errors. ``place`` is which queue or topic, for the text.

    Raises:
        AccessDenied: the caller has not the right; which one is in docs/operations.md.
        QueueFailed: anything else.
    """
    try:
        yield
    except ClientError as error:
        details = error.response.get("Error", {})
        text = f"{place}: {error.operation_name}: {details.get('Message') or details.get('Code') or error}"
        if str(details.get("Code", "")).rpartition(".")[2] in {"AccessDenied", "AccessDeniedException"}:
            raise AccessDenied(f"{text}. The rights of who operates a pipeline are in docs/operations.md.") from error
        raise QueueFailed(text) from error
    except BotoCoreError as error:
        raise QueueFailed(f"{place}: {error}") from error
