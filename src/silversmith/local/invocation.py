"""One batch of messages on its way to a function: what the function is, and the very event that it gets.

https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from silversmith.patterns import Matcher
from silversmith.stores import IN_MEMORY

#: What a record takes beside its body, in bytes: rather too much than too little.
RECORD = 512

#: The size of an object in an event, as EventBridge has it, if it has so many digits. A key has no bare quotes in JSON.
_SIZE = re.compile(rb'"size":\s*([0-9]{7,18})\b')


class Received(Protocol):
    """A message as a queue hands it out; times in Unix seconds."""

    @property
    def id(self) -> int: ...
    @property
    def message_id(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def body(self) -> bytes: ...
    @property
    def sent(self) -> float: ...
    @property
    def receives(self) -> int: ...
    @property
    def first_received(self) -> float: ...
    @property
    def receipt(self) -> str: ...


@dataclass(frozen=True)
class Settings:
    """What the template says of a function, its mapping and its queue. Times in seconds, ``memory`` in MB.

    Of ``filters``, if there are any, a message must pass one. ``tries`` is how often the user's code may fail; 0: as
    often as it likes, for the queue has no dead-letter queue.
    """

    name: str
    transform: str
    queue_arn: str
    region: str
    timeout: float
    memory: int
    batch_size: int = 10
    window: float = 0
    maximum_concurrency: int = 0
    filters: tuple[Matcher, ...] = ()
    report_batch_item_failures: bool = True
    tries: int = 0


@dataclass
class Invocation:
    """One batch in the hands of a worker. ``outcomes`` is what it reported so far, ``began`` what it was at when it
    died."""

    id: int
    settings: Settings
    messages: dict[str, Received]
    started: float
    began: str | None = None
    outcomes: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def deadline(self) -> float:
        """When Lambda would end it, in Unix seconds."""
        return self.started + self.settings.timeout

    @property
    def is_large(self) -> bool:
        """Whether an object that it is about has more bytes than are held in memory, as far as its event tells."""
        sizes = [_SIZE.search(message.body) for message in self.messages.values()]
        return any(int(found[1]) > IN_MEMORY for found in sizes if found)

    def event(self) -> dict[str, Any]:
        """The very event that Lambda passes to a handler.

        https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html
        """
        return {"Records": [record(message, self.settings) for message in self.messages.values()]}


def record(message: Received, settings: Settings) -> dict[str, Any]:
    """A message as it stands in the event."""
    return {
        "messageId": message.message_id,
        "receiptHandle": message.receipt,
        "body": message.body.decode(),
        "attributes": {
            "ApproximateReceiveCount": str(message.receives),
            "SentTimestamp": str(int(message.sent * 1000)),
            "SenderId": "SILVERSMITH",
            "ApproximateFirstReceiveTimestamp": str(int(message.first_received * 1000)),
        },
        "messageAttributes": {},
        "md5OfBody": hashlib.md5(message.body, usedforsecurity=False).hexdigest(),
        "eventSource": "aws:sqs",
        "eventSourceARN": settings.queue_arn,
        "awsRegion": settings.region,
    }


def record_size(body: bytes) -> int:
    """The bytes that a message takes in the payload of an invocation, by its body."""
    return RECORD + len(orjson.dumps(body.decode()))
