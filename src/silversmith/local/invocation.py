"""One batch of messages on its way to a function: what the function is, and the very event that it gets.

https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from typing import Any, Protocol

import orjson

from silversmith.function.retries import transform_tries
from silversmith.local.stack import EventSourceMapping, Function, Queue
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
    """A function with the mapping that polls a queue for it."""

    function: Function
    mapping: EventSourceMapping
    queue: Queue

    @property
    def name(self) -> str:
        """The function's."""
        return self.function.name

    @cached_property
    def transform(self) -> str:
        """The name of the transform that the function runs."""
        return self.function.environment["SILVERSMITH_TRANSFORM"]

    @property
    def queue_arn(self) -> str:
        """The ARN of the queue that feeds it."""
        return self.queue.arn

    @cached_property
    def maximum_concurrency(self) -> float:
        """How many invocations there may be at once: the function's reserved concurrency bounds what its mapping has.

        https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
        """
        limits = (self.mapping.maximum_concurrency, self.function.reserved_concurrency)
        return min((limit for limit in limits if limit is not None), default=inf)

    @cached_property
    def tries(self) -> int:
        """How often the user's code may fail; 0: as often as it likes, for the queue has no dead-letter queue."""
        return transform_tries(self.queue.max_receive_count) if self.queue.dead_letter_arn else 0


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
        return self.started + self.settings.function.timeout

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
        "awsRegion": settings.queue_arn.split(":")[3],
    }


def record_size(body: bytes) -> int:
    """The bytes that a message takes in the payload of an invocation, by its body."""
    return RECORD + len(orjson.dumps(body.decode()))
