"""A queue that does what SQS promises, and no more than that: duplicates, any order, late redelivery.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/standard-queues.html
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any

#: The share of receives after which a message is visible still.
TWICE = 0.02


@dataclass
class Message:
    """A message; ``visible`` is the time from which it can be received."""

    id: str
    body: str
    visible: float
    receives: int = 0
    receipt: str = ""

    def record(self) -> dict[str, Any]:
        """As Lambda hands it to a function."""
        return {
            "messageId": self.id,
            "receiptHandle": self.receipt,
            "body": self.body,
            "attributes": {"ApproximateReceiveCount": str(self.receives)},
            "messageAttributes": {},
        }


class Queue:
    """A standard queue.

    Args:
        random: decides on order and duplicates.
        visibility: seconds for which a message that was received is hidden.
        most_receives: ``maxReceiveCount``.
    """

    def __init__(self, random: Random, *, visibility: float, most_receives: int) -> None:
        self.messages: dict[str, Message] = {}
        #: Bodies in the dead-letter queue, and why they are there.
        self.dead: list[tuple[str, str]] = []
        self.receives = 0
        self._random = random
        self._visibility = visibility
        self._most = most_receives
        self._numbers = count(1)

    def send(self, body: str, at: float) -> None:
        message = f"m{next(self._numbers)}"
        self.messages[message] = Message(message, body, at)

    def receive(self, now: float, most: int) -> list[Message]:
        """Some of what is visible, in any order. What was received too often is moved to the dead-letter queue."""
        visible = [message for message in self.messages.values() if message.visible <= now]
        for message in [each for each in visible if each.receives >= self._most]:
            visible.remove(message)
            self._move(message, "maxReceiveCount")
        received = self._random.sample(visible, min(most, len(visible)))
        for message in received:
            message.receives += 1
            message.receipt = f"{message.id}/{next(self._numbers)}"
            message.visible = now if self._random.random() < TWICE else now + self._visibility
        self.receives += len(received)
        return received

    def delete(self, receipts: Iterable[str]) -> None:
        """An older receipt does it, too."""
        for receipt in receipts:
            self.messages.pop(receipt.partition("/")[0], None)

    def change_visibility(self, receipt: str, until: float) -> None:
        message = self.messages.get(receipt.partition("/")[0])
        if message is not None and message.receipt == receipt:
            message.visible = until

    def bury(self, body: str, reason: str) -> None:
        """A message that the function itself sends to the dead-letter queue."""
        self.dead.append((body, reason))

    def next_visible(self) -> float | None:
        return min((message.visible for message in self.messages.values()), default=None)

    def _move(self, message: Message, reason: str) -> None:
        del self.messages[message.id]
        self.dead.append((message.body, reason))
