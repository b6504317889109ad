"""A function's queue: its messages, when one that failed comes back, and SQS itself.

docs/decisions/0107-two-budgets.md
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import count
from typing import Any, Protocol

from silversmith.errors import SilversmithError, SystemFault
from silversmith.events import NotAnEvent, ObjectEvent, unwrap
from silversmith.stores import IN_MEMORY, batched

#: The most messages that SQS deletes at once.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_DeleteMessageBatch.html
DELETED_AT_ONCE = 10

#: The attributes that a message has in the dead-letter queue if the function gave up on it: the code of its last error,
#: and the id that it had in the transform's queue.
ERROR_CODE, MESSAGE_ID = "ERROR_CODE", "MESSAGE_ID"

#: The most attributes that a message may have.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html
MOST_ATTRIBUTES = 10

#: The most that SQS takes at once. https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html
SENT_AT_ONCE = 10

#: A queue lets a message be received so often more than the transform allows failures: with the waits below that takes
#: a day. So no outage of hours ends in the dead-letter queue.
SYSTEM_RECEIVES = 50

#: Seconds to wait after the first fault of the system, and at the most.
SYSTEM_WAITS = (10.0, 1800.0)

#: Seconds to wait after the first failure of the user's code, and at the most.
USER_WAITS = (1.0, 900.0)

#: Up to this share of a wait is added to it, for each message another: else all that failed in an outage would come
#: back in the same second.
JITTER = 0.2

#: A round sends nothing to a queue in which more messages wait than this: what is missing is probably among them, and
#: each round would add another message of it.
BUSY = 1_000

_log = logging.getLogger(__name__)


class InvocationContext(Protocol):
    """Lambda's context of an invocation.

    https://docs.aws.amazon.com/lambda/latest/dg/python-context.html
    """

    def get_remaining_time_in_millis(self) -> int: ...


class Message:
    """An SQS message, as Lambda passes it on in a record. Its body is parsed once."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        self.record = record
        self.id: str = record["messageId"]
        self.receipt: str = record["receiptHandle"]
        self.receives = int(record.get("attributes", {}).get("ApproximateReceiveCount", 1))

    @cached_property
    def _parsed(self) -> list[ObjectEvent] | NotAnEvent:
        try:
            return unwrap(self.record["body"])
        except NotAnEvent as error:
            return error

    @property
    def events(self) -> list[ObjectEvent]:
        """The objects that may have changed.

        Raises:
            NotAnEvent: the body is no event.
        """
        if isinstance(self._parsed, NotAnEvent):
            raise self._parsed
        return self._parsed

    @property
    def concurrent_event(self) -> ObjectEvent | None:
        """The event, if its message may be processed concurrently with others.

        None for a message that was received before, for a file that would need much room on the disk, and where it is
        not the event of a single object.
        """
        if self.receives > 1 or isinstance(self._parsed, NotAnEvent) or len(self._parsed) != 1:
            return None
        (event,) = self._parsed
        return event if event.size is not None and event.size <= IN_MEMORY else None

    @property
    def suspicion(self) -> tuple[int, int]:
        """The least suspicious message comes first. Messages that died together change places each time, or the first
        would always be the first, and if it is the one that kills, none of the others would ever be tried."""
        return self.receives, zlib.crc32(f"{self.receives} {self.id}".encode()) if self.receives > 1 else 0


def backoff(failures: int, waits: tuple[float, float]) -> float:
    """Seconds until the next try after so many failures: four times as long each time, between the two ``waits``."""
    first, longest = waits
    return float(min(longest, first * 4 ** (min(failures, 8) - 1)))


def wait_for_system(receives: int, message_id: str) -> float:
    """Seconds until the next try of a message that the system failed at its n-th receive."""
    spread = zlib.crc32(f"{receives} {message_id}".encode()) / 2**32
    return round(backoff(receives, SYSTEM_WAITS) * (1 + JITTER * spread), 3)


def wait_for_user(tries: int) -> float:
    """Seconds until the next try of a file that the user's code failed for the n-th time.

    A worker that died waits as long: the local engine knows of it, AWS only by the visibility timeout.
    """
    return backoff(tries, USER_WAITS)


def queue_receives(max_receive_count: int) -> int:
    """A queue's ``maxReceiveCount``, by how often the transform may fail."""
    return max_receive_count + SYSTEM_RECEIVES


def transform_tries(queue_receives: int) -> int:
    """The inverse: how often the transform may fail, by its queue's ``maxReceiveCount``."""
    return max(1, queue_receives - SYSTEM_RECEIVES)


def is_system_fault(error: BaseException) -> bool:
    """Whether another try may succeed though nobody mends anything: S3, KMS, SQS, a disk, access rights, contention, a
    lookup that is not there yet. Everything else is charged to the user's code: what it raised, a bug of Silversmith's,
    memory that ran out, for each would be there at the next try, too.

    ``OSError`` is of the system because one that the user's code raises arrives as TransformError.
    """
    if isinstance(error, SystemFault | OSError):
        return True
    # By name, so that a worker of the local engine need not import botocore.
    return any(kind.__module__.partition(".")[0] == "botocore" for kind in type(error).__mro__)


class SystemUnavailable(SystemFault):
    """The system failed everything that an invocation began. Raised, so that Lambda's poller slows down and the metric
    ``Errors`` shows it. The queue was told before when each message is to come back.

    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html

    ``response`` is what would have been returned: the local engine goes by it.
    """

    def __init__(self, message: str, response: dict[str, Any]) -> None:
        super().__init__(message)
        self.response = response


def attempt(courtesy: Callable[..., None], *arguments: object) -> None:
    """A call that only spares a message some time, or a try, must not fail the batch."""
    try:
        courtesy(*arguments)
    except Exception:  # noqa: BLE001 -- told in the log, and no more than that
        _log.warning("a message may come back later than it could, or has a try less", exc_info=True)


class Queue(Protocol):
    """The queue of a transform or of the tables, for those who send to it."""

    def waiting(self) -> int:
        """About how many messages are to be received or being worked on."""

    def send(self, bodies: Sequence[str]) -> None:
        """Send up to :data:`SENT_AT_ONCE` messages, all of them.

        Raises:
            NotSent: the queue did not take one.
        """


def age(event: ObjectEvent, now: datetime) -> float | None:
    """Seconds since the time of the event, which may be anything; None where it has no time."""
    try:
        time = datetime.fromisoformat(event.time)
    except ValueError:
        return None
    return max(0.0, round((now - time).total_seconds(), 3)) if time.tzinfo else None


class NotSent(SilversmithError):
    """A queue did not take a message. The step ends; Lambda tries it again from where it began."""


class SqsQueue:
    """A :class:`Queue` on SQS. ``client`` is a boto3 SQS client, ``tries`` how often a message is sent at the most."""

    def __init__(self, url: str, client: Any, *, tries: int = 3) -> None:
        self._url = url
        self._client = client
        self._tries = tries

    def waiting(self) -> int:
        """https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html"""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        attributes = self._client.get_queue_attributes(QueueUrl=self._url, AttributeNames=names)["Attributes"]
        return sum(int(attributes[name]) for name in names)

    def send(self, bodies: Sequence[str]) -> None:
        """SQS may take some of a batch and refuse others, which are then sent once more."""
        left = [{"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies)]
        for attempt in count(1):
            response = self._client.send_message_batch(QueueUrl=self._url, Entries=left)
            refused = {item["Id"]: item for item in response.get("Failed", ())}
            if not refused:
                return
            left = [entry for entry in left if entry["Id"] in refused]
            if attempt == self._tries:
                reasons = ", ".join(sorted({f"{item['Code']}: {item.get('Message', '')}" for item in refused.values()}))
                raise NotSent(f"{self._url} did not take {len(left)} messages: {reasons}")


@dataclass(frozen=True)
class FunctionQueue:
    """A transform's queue and its dead-letter queue, by their URLs. ``client`` gives a boto3 SQS client."""

    url: str
    dlq_url: str
    client: Callable[[], Any]

    def release(self, receipt: str, seconds: float) -> None:
        self.client().change_message_visibility(
            QueueUrl=self.url, ReceiptHandle=receipt, VisibilityTimeout=int(seconds)
        )

    def move_to_dlq(self, record: Mapping[str, Any], error: Mapping[str, Any]) -> None:
        attributes = attributes_of_dead(record, error)
        self.client().send_message(QueueUrl=self.dlq_url, MessageBody=record["body"], MessageAttributes=attributes)

    def acknowledge(self, receipts: Sequence[str]) -> None:
        for some in batched(receipts, DELETED_AT_ONCE):
            entries = [{"Id": str(number), "ReceiptHandle": receipt} for number, receipt in enumerate(some)]
            # What it leaves, the end of the invocation takes.
            self.client().delete_message_batch(QueueUrl=self.url, Entries=entries)


def attributes_of_dead(record: Mapping[str, Any], error: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The attributes of a message in the dead-letter queue, as SQS takes them: those that it had, and what it died of.

    https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_MessageAttributeValue.html
    """
    own = {ERROR_CODE: str(error.get("code") or "Unknown"), MESSAGE_ID: str(record["messageId"])}
    attributes = {name: {"DataType": "String", "StringValue": value} for name, value in own.items()}
    for name, value in record.get("messageAttributes", {}).items():
        if name in attributes or len(attributes) == MOST_ATTRIBUTES or not value.get("stringValue"):
            continue
        attributes[name] = {"DataType": value.get("dataType", "String"), "StringValue": value["stringValue"]}
    return attributes
