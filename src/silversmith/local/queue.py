"""The queue room: messages that hide while they are worked on and come back unless they are deleted.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from silversmith import faults
from silversmith.local.journal import Journal
from silversmith.local.post import Post, Refused, note, write

#: How many messages whose retention has ended one call deletes at the most.
EXPIRE = 500


@dataclass(frozen=True, slots=True)
class Message:
    """A received message. ``sent`` and ``first_received`` in Unix seconds; ``receives`` counts this one too."""

    id: int
    message_id: str
    key: str
    version: str
    body: bytes
    sent: float
    receives: int
    first_received: float
    receipt: str


@dataclass(frozen=True)
class Settings:
    """What the template says of a queue. Times in seconds; ``dead_letter`` is an ARN."""

    name: str
    arn: str
    visibility_timeout: float = 30
    retention: float = 345_600
    delay: float = 0
    dead_letter: str | None = None
    dead_letter_retention: float = 1_209_600
    max_receives: int = 0


class Queue:
    """One queue. Every call is one transaction unless it says otherwise.

    Args:
        journal: where the messages are.
        settings: from the template.
        refusal: why a source may not send here, or None when the queue's policy allows it.
    """

    def __init__(
        self, journal: Journal, settings: Settings, *, refusal: Callable[[str], str | None] = lambda _: None
    ) -> None:
        self._journal = journal
        self._settings = settings
        self._refusal = refusal

    @property
    def settings(self) -> Settings:
        """What the template says of this queue."""
        return self._settings

    def accept(self, posts: Sequence[Post], now: float) -> list[Refused]:
        """Take what a topic delivers. In the caller's transaction. Returns what is refused."""
        refused = [Refused(post, reason) for post in posts if (reason := self._refusal(post.source))]
        unwanted = {id(item.post) for item in refused}
        taken = [post for post in posts if id(post) not in unwanted]
        self._journal.change_many("send", [self._row(post, now) for post in taken])
        write(
            self._journal,
            notes=[
                note(post.key, post.version, at=now, room="queue", name=self._settings.name, what="queued")
                for post in taken
            ],
        )
        faults.point("queue.before_commit")
        return refused

    def take_dead(self, post: Post, now: float, *, source: str, reason: str) -> None:
        """As a dead-letter queue, take what ``source`` could not deliver. In the caller's transaction."""
        dead = {"dead_source": source, "dead_reason": reason, "dead_at": now}
        self._journal.change("send", **{**self._row(post, now), **dead})
        self._note_death(post.key, post.version, now, reason)

    def _row(self, post: Post, now: float) -> dict[str, object]:
        return {
            "message_id": str(uuid.uuid4()),
            "queue": self._settings.arn,
            "key": post.key,
            "version": post.version,
            "body": post.body,
            "sent": now,
            "visible": now + self._settings.delay,
            "expires": now + self._settings.retention,
            "dead_source": None,
            "dead_reason": None,
            "dead_at": None,
        }

    def receive(
        self, most: int, now: float, *, most_bytes: int = 1 << 62, cost: Callable[[bytes], int] = len
    ) -> list[Message]:
        """Up to ``most`` visible messages, oldest first, hidden for the visibility timeout.

        A message that was received ``max_receives`` times already goes to the dead-letter queue instead, and one whose
        retention has ended goes nowhere. The batch ends before the message whose ``cost``, by its body, would bring
        the sum over ``most_bytes``; the first is always in it.
        """
        with self._journal.transaction():
            expire(self._journal, self._settings.arn, now)
            messages: list[Message] = []
            size = 0
            for row in self._journal.rows("receivable", queue=self._settings.arn, now=now, most=most):
                number, body, receives = row[0], row[4], row[6]
                if self._settings.dead_letter and receives >= self._settings.max_receives:
                    self._bury(number, now)
                    continue
                size += cost(body)
                if messages and size > most_bytes:
                    break
                messages.append(_received(row, now))
            until = now + self._settings.visibility_timeout
            hidden = [{"id": found.id, "receipt": found.receipt, "now": now, "until": until} for found in messages]
            self._journal.change_many("receive", hidden)
        return messages

    def _bury(self, row: int, now: float) -> None:
        reason = f"received {self._settings.max_receives} times without success (maxReceiveCount)"
        key, version, _ = self._journal.rows(
            "bury",
            id=row,
            now=now,
            dead_letter=self._settings.dead_letter,
            retention=self._settings.dead_letter_retention,
            source=self._settings.arn,
            reason=reason,
        )[0]
        self._note_death(key, version, now, reason)
        faults.point("queue.buried")

    def _note_death(self, key: str, version: str, now: float, reason: str) -> None:
        detail = {"reason": reason}
        row = note(key, version, at=now, room="queue", name=self._settings.name, what="dead", detail=detail)
        write(self._journal, notes=[row])
        self._journal.count("dead", 1)

    def delete(self, receipts: Sequence[str]) -> int:
        """Delete messages by receipt handle; one whose handle is void (received again since) stays.

        In the caller's transaction. Returns how many went.
        """
        arn = self._settings.arn
        return self._journal.change_many(
            "delete", [{"id": _row(receipt), "queue": arn, "receipt": receipt} for receipt in receipts]
        )

    def change_visibility(self, receipt: str, until: float) -> bool:
        """Show a received message again at this time, in the caller's transaction. False: void handle."""
        arn = self._settings.arn
        return bool(
            self._journal.change("change_visibility", id=_row(receipt), queue=arn, receipt=receipt, visible=until)
        )

    def hand_back(self, receipt: str, now: float) -> bool:
        """Show a received message again at once, as if it had not been received; in the caller's transaction.

        SQS has no such call. It is for what nobody has begun to work on (docs/decisions/0008). False: void handle.
        """
        return bool(
            self._journal.change("unreceive", id=_row(receipt), queue=self._settings.arn, receipt=receipt, now=now)
        )

    def release_all(self, now: float) -> int:
        """Show every received message again: nobody can be working on them, for this engine has only just started."""
        return self._journal.change("release_all", queue=self._settings.arn, now=now)

    def next_visible(self) -> float | None:
        """When the next message may be received, in Unix seconds; None when there is none."""
        found = self._journal.row("next_visible", queue=self._settings.arn)
        return found[0] if found else None

    def waiting(self, now: float, most: int) -> tuple[int, int]:
        """How many messages may be received now, counted up to ``most``, and the bytes of their bodies."""
        number, size = self._journal.rows("waiting", queue=self._settings.arn, now=now, most=most)[0]
        return int(number), int(size)

    def hasten(self, now: float) -> int:
        """Show every hidden message now, for a run that shall end rather than wait. Nobody may be working on them."""
        return self._journal.change("hasten", queue=self._settings.arn, now=now)

    def depth(self, now: float) -> tuple[int, int, float | None]:
        """How many messages there are, how many of them are hidden, and when the oldest was sent.

        Costs the more, the more are hidden, but not the more there are.
        """
        total, hidden, oldest = self._journal.rows("depth", queue=self._settings.arn, now=now)[0]
        return total, hidden, oldest


def _received(row: tuple[Any, ...], now: float) -> Message:
    """A message as it is once it has been received now, from its row of ``receivable``."""
    number, message_id, key, version, body, sent, receives, first = row
    receipt = f"{number}-{secrets.token_hex(12)}"
    first = now if first is None else first
    return Message(number, message_id, key, version, body, sent, receives + 1, first, receipt)


def expire(journal: Journal, queue: str, now: float, most: int = EXPIRE) -> int:
    """Delete messages of a queue (an ARN) whose retention has ended, in flight or not, in the caller's transaction.

    Returns how many went; as many as ``most``: there may be more. Every receive does this for its own queue.
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-basic-architecture.html
    """
    expired = journal.rows("expire", queue=queue, now=now, most=most)
    if expired:
        name = queue.rpartition(":")[2]
        notes = [note(key, version, at=now, room="queue", name=name, what="expired") for key, version in expired]
        write(journal, notes=notes)
        journal.count("expired", len(expired))
    return len(expired)


def _row(receipt: str) -> int:
    """The row a receipt handle is of; -1, which no row has, for what is no handle."""
    head, _, _ = receipt.partition("-")
    return int(head) if head.isascii() and head.isdigit() and len(head) < 19 else -1
