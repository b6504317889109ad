"""The queue service: received messages are hidden for a while, and are visible again unless they are deleted.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4

from silversmith import faults
from silversmith.local.journal import Journal
from silversmith.local.services import (
    Accepted,
    HopRow,
    MessageRefused,
    ReceivedMessage,
    ServiceMessage,
    hop_row,
    write,
)
from silversmith.local.stack import QueueResource

#: A row of ``send``: id, message_id, queue, key, version, body, sent, visible, expires.
_Row = tuple[int, str, int, str, str, bytes, float, float, float]

#: The most messages that one call deletes because their retention has ended.
EXPIRE = 500


class QueueService:
    """One queue. Each call is one transaction unless it says otherwise.

    Args:
        journal: where the messages are.
        settings: from the template.
        refusal: why a source may not send here, or None when the queue's policy allows it.
    """

    def __init__(
        self, journal: Journal, settings: QueueResource, *, refusal: Callable[[str], str | None] = lambda _: None
    ) -> None:
        self._journal = journal
        self.settings = settings
        self._refusal = refusal
        self._id = queue_id(journal, settings.arn)

    def accept(self, messages: Sequence[ServiceMessage], now: float) -> Accepted:
        """Take the messages that a topic delivers. In the caller's transaction."""
        refused, accepted = [], []
        for message in messages:
            reason = self._refusal(message.source)
            if reason:
                refused.append(MessageRefused(message, reason))
            else:
                accepted.append(message)
        rows = self._rows(accepted, now)
        self._journal.change_many("send", rows)
        add_to_depth(self._journal, self.settings.arn, len(rows))
        name = self.settings.name
        hops: list[HopRow] = [(row[3], row[4], now, "queue", name, "queued", "{}", row[0]) for row in rows]
        write(self._journal, hops=hops)
        faults.point("queue.before_commit")
        return Accepted(refused)

    def accept_dead(self, message: ServiceMessage, now: float, *, source: str, reason: str) -> None:
        """As a dead-letter queue, take a message that ``source`` could not deliver. In the caller's transaction."""
        (row,) = self._rows([message], now)
        self._journal.change_many("send_dead", [(*row, source, reason, now)])
        add_to_depth(self._journal, self.settings.arn, 1)
        self._write_death(message.key, message.version, now, reason, row=row[0])

    def _rows(self, messages: Sequence[ServiceMessage], now: float) -> list[_Row]:
        """The messages as rows of ``send``, numbered after the newest one in the journal."""
        first = (self._journal.rows("newest_message")[0][0] or 0) + 1
        visible, expires = now + self.settings.delay, now + self.settings.retention
        return [
            (number, str(uuid4()), self._id, message.key, message.version, message.body, now, visible, expires)
            for number, message in enumerate(messages, first)
        ]

    def receive(
        self, most: int, now: float, *, most_bytes: int = 1 << 62, cost: Callable[[bytes], int] = len
    ) -> list[ReceivedMessage]:
        """Up to ``most`` visible messages, oldest first, hidden for the visibility timeout.

        A message that was received ``max_receive_count`` times already is moved to the dead-letter queue, and one whose
        retention has ended is deleted. The batch ends before the message whose ``cost``, by its body, would bring the
        sum over ``most_bytes``; the first message is always in it.
        """
        with self._journal.transaction():
            expire(self._journal, self.settings.arn, now)
            messages: list[ReceivedMessage] = []
            size = 0
            token = secrets.token_hex(12)
            for row in self._journal.rows("receivable", queue=self._id, now=now, most=most):
                number, body, sent, receives = row[0], row[4], row[5], row[6]
                if self.settings.dead_letter_arn and receives >= self.settings.max_receive_count:
                    reason = f"received {self.settings.max_receive_count} times without success (maxReceiveCount)"
                    self._move_to_dlq(number, now, reason, expires=sent + self.settings.dead_letter_retention)
                    continue
                size += cost(body)
                if messages and size > most_bytes:
                    break
                messages.append(_received(row, now, token))
            visible = now + self.settings.visibility_timeout
            self._journal.change_many("receive", [(visible, message.receipt, now, message.id) for message in messages])
        return messages

    def _move_to_dlq(self, row: int, now: float, reason: str, *, expires: float) -> None:
        assert self.settings.dead_letter_arn
        queue_id(self._journal, self.settings.dead_letter_arn)
        ((key, version),) = self._journal.rows(
            "move_to_dlq",
            id=row,
            now=now,
            dead_letter=self.settings.dead_letter_arn,
            expires=expires,
            source=self.settings.arn,
            reason=reason,
        )
        add_to_depth(self._journal, self.settings.arn, -1)
        add_to_depth(self._journal, self.settings.dead_letter_arn, 1)
        self._write_death(key, version, now, reason, row=row)
        faults.point("queue.buried")

    def _write_death(self, key: str, version: str, now: float, reason: str, *, row: int) -> None:
        name, detail = self.settings.name, {"reason": reason}
        hop = hop_row(key, version, at=now, room="queue", name=name, what="dead", detail=detail, message=row)
        write(self._journal, hops=[hop])
        self._journal.count("dead", 1)

    def delete(self, receipts: Sequence[str]) -> int:
        """Delete messages by receipt handle, in the caller's transaction, and return how many were deleted.

        A message that was received again since has another handle, and stays.
        """
        deleted = self._journal.change_many("delete", [(_row(receipt), self._id, receipt) for receipt in receipts])
        add_to_depth(self._journal, self.settings.arn, -deleted)
        return deleted

    def move_to_dlq(self, receipt: str, now: float, *, reason: str) -> bool:
        """Move a received message to the dead-letter queue, in the caller's transaction, as if it were sent there now.

        False: the handle is void, or there is no such queue.
        """
        row = self._journal.row("received", id=_row(receipt), queue=self._id, receipt=receipt)
        if row is None or not self.settings.dead_letter_arn:
            return False
        self._move_to_dlq(row[0], now, reason, expires=now + self.settings.dead_letter_retention)
        return True

    def change_visibility(self, receipt: str, until: float) -> bool:
        """Make a received message visible at this time, in the caller's transaction. False: void handle."""
        return bool(
            self._journal.change("change_visibility", id=_row(receipt), queue=self._id, receipt=receipt, visible=until)
        )

    def count_death(self, receipt: str) -> int:
        """Count that a worker died of a received message, in the caller's transaction. The count; 0: void handle.

        SQS has no such count: there a death is a receive without an end.
        """
        rows = self._journal.rows("died", id=_row(receipt), queue=self._id, receipt=receipt)
        return int(rows[0][0]) if rows else 0

    def return_unused(self, receipt: str, now: float) -> bool:
        """Make a received message visible at once, as if it had not been received; in the caller's transaction.

        SQS has no such call. It is for messages that no worker has begun (docs/decisions/0008). False: void handle.
        """
        return bool(self._journal.change("unreceive", id=_row(receipt), queue=self._id, receipt=receipt, now=now))

    def release_all(self, now: float) -> int:
        """Make every received message visible: nobody works on them, because this engine has just started."""
        return self._journal.change("release_all", queue=self._id, now=now)

    def next_visible(self) -> float | None:
        """The time at which the next message may be received, in Unix seconds; None when there is none."""
        row = self._journal.row("next_visible", queue=self._id)
        return row[0] if row else None

    def visible(self, now: float, most: int) -> tuple[int, int]:
        """How many messages may be received now, counted up to ``most``, and the bytes of their bodies."""
        number, size = self._journal.rows("visible", queue=self._id, now=now, most=most)[0]
        return int(number), int(size)

    def hasten(self, now: float) -> int:
        """Make every hidden message visible, for a run that shall end rather than wait. Nobody may work on them."""
        return self._journal.change("hasten", queue=self._id, now=now)

    def depth(self, now: float) -> tuple[int, int, float | None]:
        """How many messages there are, how many of them are hidden, and when the oldest was sent.

        The cost grows with the hidden messages, not with all of them.
        """
        total, hidden, oldest = self._journal.rows("depth", queue=self.settings.arn, now=now)[0]
        return total, hidden, oldest


def _received(row: tuple[Any, ...], now: float, token: str) -> ReceivedMessage:
    """A message that is received now, from its row of ``receivable``."""
    number, message_id, key, version, body, sent, receives, first = row
    first = now if first is None else first
    return ReceivedMessage(number, message_id, key, version, body, sent, receives + 1, first, f"{number}-{token}")


def expire(journal: Journal, queue: str, now: float, most: int = EXPIRE) -> int:
    """Delete messages of a queue (an ARN) whose retention has ended, hidden or not, in the caller's transaction.

    Returns how many were deleted; as many as ``most``: there may be more. Every receive does this for its own queue.
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-basic-architecture.html
    """
    expired = journal.rows("expire", queue=queue, now=now, most=most)
    if expired:
        add_to_depth(journal, queue, -len(expired))
        name = queue.rpartition(":")[2]
        hops = [hop_row(key, version, at=now, room="queue", name=name, what="expired") for key, version in expired]
        write(journal, hops=hops)
        journal.count("expired", len(expired))
    return len(expired)


def redrive(journal: Journal, message_id: str, queue: QueueResource, *, now: float) -> list[tuple[str, str, int]]:
    """Move a dead message to a queue, as new, in the caller's transaction.

    Returns its key, version and row; nothing where no such message is dead.
    """
    dead = journal.row("dead_message", message_id=message_id)
    if dead is None:
        return []
    queue_id(journal, queue.arn)
    add_to_depth(journal, dead[0], -1)
    add_to_depth(journal, queue.arn, 1)
    return journal.rows(
        "redrive",
        message_id=message_id,
        new_id=str(uuid4()),
        queue=queue.arn,
        now=now,
        visible=now + queue.delay,
        expires=now + queue.retention,
    )


def take_dead(journal: Journal, message_id: str) -> list[tuple[str, str, bytes]]:
    """Take a dead message out of its queue, in the caller's transaction.

    Returns its key, version and body; nothing where no such message is dead.
    """
    dead = journal.row("dead_message", message_id=message_id)
    if dead is None:
        return []
    add_to_depth(journal, dead[0], -1)
    return journal.rows("take_dead", message_id=message_id)


def forget(journal: Journal, rows: Sequence[int]) -> None:
    """Delete messages of any queue by their rows, in the caller's transaction."""
    journal.change_many("forget_message", [(row,) for row in rows])
    recount(journal)


def queue_id(journal: Journal, arn: str) -> int:
    """The number of a queue in the journal, which is made where it has none."""
    row = journal.row("queue", arn=arn)
    if row is None:
        journal.change("put_queue", arn=arn)  # another process may have been first
        row = journal.rows("queue", arn=arn)[0]
    return int(row[0])


def add_to_depth(journal: Journal, arn: str, number: int) -> None:
    """Count messages that enter a queue, or leave it, in the same transaction."""
    if number:
        journal.change("add_to_depth", queue=arn, by=number)


def recount(journal: Journal) -> None:
    """Count the messages of all queues anew."""
    journal.change("count_depths")


def _row(receipt: str) -> int:
    """The row that a receipt handle belongs to; -1, which no row has, where it is no handle."""
    head, _, _ = receipt.partition("-")
    return int(head) if head.isascii() and head.isdigit() and len(head) < 19 else -1
