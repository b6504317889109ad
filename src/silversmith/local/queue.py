"""The queue room: messages that hide while they are worked on and come back unless they are deleted.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from silversmith import faults
from silversmith.local import stack
from silversmith.local.journal import Journal
from silversmith.local.post import Accepted, Note, Post, Refused, note, tokens, uuids, write

#: A row of ``send``: id, message_id, queue, key, version, body, sent, visible, expires.
_Row = tuple[int, str, int, str, str, bytes, float, float, float]

#: How many messages whose retention has ended one call deletes at the most.
EXPIRE = 500


class Message(NamedTuple):
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


class Queue:
    """One queue. Every call is one transaction unless it says otherwise.

    Args:
        journal: where the messages are, and whom the queue is made known to.
        settings: from the template.
        refusal: why a source may not send here, or None when the queue's policy allows it.
    """

    def __init__(
        self, journal: Journal, settings: stack.Queue, *, refusal: Callable[[str], str | None] = lambda _: None
    ) -> None:
        self._journal = journal
        self._settings = settings
        self._refusal = refusal
        self._id = known(journal, settings.arn)

    @property
    def settings(self) -> stack.Queue:
        """What the template says of this queue."""
        return self._settings

    def accept(self, posts: Sequence[Post], now: float) -> Accepted:
        """Take what a topic delivers. In the caller's transaction."""
        refused = [Refused(post, reason) for post in posts if (reason := self._refusal(post.source))]
        unwanted = {id(item.post) for item in refused}
        taken = [post for post in posts if id(post) not in unwanted]
        rows = self._rows(taken, now)
        self._journal.change_many("send", rows)
        deepen(self._journal, self._settings.arn, len(rows))
        name = self._settings.name
        notes: list[Note] = [(row[3], row[4], now, "queue", name, "queued", "{}", row[0]) for row in rows]
        write(self._journal, notes=notes)
        faults.point("queue.before_commit")
        return Accepted(refused)

    def take_dead(self, post: Post, now: float, *, source: str, reason: str) -> None:
        """As a dead-letter queue, take what ``source`` could not deliver. In the caller's transaction."""
        (row,) = self._rows([post], now)
        self._journal.change_many("send_dead", [(*row, source, reason, now)])
        deepen(self._journal, self._settings.arn, 1)
        self._note_death(post.key, post.version, now, reason, row=row[0])

    def _rows(self, posts: Sequence[Post], now: float) -> list[_Row]:
        """The posts as rows of ``send``, numbered after the newest message that there is."""
        first = (self._journal.rows("newest_message")[0][0] or 0) + 1
        queue, visible, expires = self._id, now + self._settings.delay, now + self._settings.retention
        return [
            (number, identifier, queue, post.key, post.version, post.body, now, visible, expires)
            for number, (identifier, post) in enumerate(zip(uuids(len(posts)), posts, strict=True), first)
        ]

    def receive(
        self, most: int, now: float, *, most_bytes: int = 1 << 62, cost: Callable[[bytes], int] = len
    ) -> list[Message]:
        """Up to ``most`` visible messages, oldest first, hidden for the visibility timeout.

        A message that was received ``max_receive_count`` times already goes to the dead-letter queue instead, and one
        whose retention has ended goes nowhere. The batch ends before the message whose ``cost``, by its body, would
        bring the sum over ``most_bytes``; the first is always in it.
        """
        with self._journal.transaction():
            expire(self._journal, self._settings.arn, now)
            messages: list[Message] = []
            size = 0
            (token,) = tokens(1, 12)
            for row in self._journal.rows("receivable", queue=self._id, now=now, most=most):
                number, body, sent, receives = row[0], row[4], row[5], row[6]
                if self._settings.dead_letter_arn and receives >= self._settings.max_receive_count:
                    reason = f"received {self._settings.max_receive_count} times without success (maxReceiveCount)"
                    self._bury(number, now, reason, expires=sent + self._settings.dead_letter_retention)
                    continue
                size += cost(body)
                if messages and size > most_bytes:
                    break
                messages.append(_received(row, now, token))
            until = now + self._settings.visibility_timeout
            hidden = [(until, found.receipt, now, found.id) for found in messages]
            self._journal.change_many("receive", hidden)
        return messages

    def _bury(self, row: int, now: float, reason: str, *, expires: float) -> None:
        assert self._settings.dead_letter_arn
        known(self._journal, self._settings.dead_letter_arn)
        ((key, version),) = self._journal.rows(
            "bury",
            id=row,
            now=now,
            dead_letter=self._settings.dead_letter_arn,
            expires=expires,
            source=self._settings.arn,
            reason=reason,
        )
        deepen(self._journal, self._settings.arn, -1)
        deepen(self._journal, self._settings.dead_letter_arn, 1)
        self._note_death(key, version, now, reason, row=row)
        faults.point("queue.buried")

    def _note_death(self, key: str, version: str, now: float, reason: str, *, row: int) -> None:
        name, detail = self._settings.name, {"reason": reason}
        death = note(key, version, at=now, room="queue", name=name, what="dead", detail=detail, message=row)
        write(self._journal, notes=[death])
        self._journal.count("dead", 1)

    def delete(self, receipts: Sequence[str]) -> int:
        """Delete messages by receipt handle; one whose handle is void (received again since) stays.

        In the caller's transaction. Returns how many went.
        """
        gone = self._journal.change_many("delete", [(_row(receipt), self._id, receipt) for receipt in receipts])
        deepen(self._journal, self._settings.arn, -gone)
        return gone

    def bury(self, receipt: str, now: float, *, reason: str) -> bool:
        """Move a received message to the dead-letter queue, as who works on it asks: there it is kept as long as one
        that is sent now. In the caller's transaction. False: the handle is void, or there is no such queue.
        """
        row = self._journal.row("received", id=_row(receipt), queue=self._id, receipt=receipt)
        if row is None or not self._settings.dead_letter_arn:
            return False
        self._bury(row[0], now, reason, expires=now + self._settings.dead_letter_retention)
        return True

    def change_visibility(self, receipt: str, until: float) -> bool:
        """Show a received message again at this time, in the caller's transaction. False: void handle."""
        return bool(
            self._journal.change("change_visibility", id=_row(receipt), queue=self._id, receipt=receipt, visible=until)
        )

    def died(self, receipt: str) -> int:
        """Count that a worker died of a received message, in the caller's transaction. How often; 0: void handle.

        SQS has no such count: there a death is a receive without an end.
        """
        found = self._journal.rows("died", id=_row(receipt), queue=self._id, receipt=receipt)
        return int(found[0][0]) if found else 0

    def hand_back(self, receipt: str, now: float) -> bool:
        """Show a received message again at once, as if it had not been received; in the caller's transaction.

        SQS has no such call. It is for what nobody has begun to work on (docs/decisions/0008). False: void handle.
        """
        return bool(self._journal.change("unreceive", id=_row(receipt), queue=self._id, receipt=receipt, now=now))

    def release_all(self, now: float) -> int:
        """Show every received message again: nobody can be working on them, for this engine has only just started."""
        return self._journal.change("release_all", queue=self._id, now=now)

    def next_visible(self) -> float | None:
        """When the next message may be received, in Unix seconds; None when there is none."""
        found = self._journal.row("next_visible", queue=self._id)
        return found[0] if found else None

    def waiting(self, now: float, most: int) -> tuple[int, int]:
        """How many messages may be received now, counted up to ``most``, and the bytes of their bodies."""
        number, size = self._journal.rows("waiting", queue=self._id, now=now, most=most)[0]
        return int(number), int(size)

    def hasten(self, now: float) -> int:
        """Show every hidden message now, for a run that shall end rather than wait. Nobody may be working on them."""
        return self._journal.change("hasten", queue=self._id, now=now)

    def depth(self, now: float) -> tuple[int, int, float | None]:
        """How many messages there are, how many of them are hidden, and when the oldest was sent.

        Costs the more, the more are hidden, but not the more there are.
        """
        total, hidden, oldest = self._journal.rows("depth", queue=self._settings.arn, now=now)[0]
        return total, hidden, oldest


def _received(row: tuple[Any, ...], now: float, token: str) -> Message:
    """A message as it is once it has been received now, from its row of ``receivable``."""
    number, message_id, key, version, body, sent, receives, first = row
    first = now if first is None else first
    return Message(number, message_id, key, version, body, sent, receives + 1, first, f"{number}-{token}")


def expire(journal: Journal, queue: str, now: float, most: int = EXPIRE) -> int:
    """Delete messages of a queue (an ARN) whose retention has ended, in flight or not, in the caller's transaction.

    Returns how many went; as many as ``most``: there may be more. Every receive does this for its own queue.
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-basic-architecture.html
    """
    expired = journal.rows("expire", queue=queue, now=now, most=most)
    if expired:
        deepen(journal, queue, -len(expired))
        name = queue.rpartition(":")[2]
        notes = [note(key, version, at=now, room="queue", name=name, what="expired") for key, version in expired]
        write(journal, notes=notes)
        journal.count("expired", len(expired))
    return len(expired)


def redrive(journal: Journal, message_id: str, queue: stack.Queue, *, now: float) -> list[tuple[str, str, int]]:
    """Move a dead message to a queue, as new, in the caller's transaction. Its key, version and row; none: not dead."""
    found = journal.row("dead_message", message_id=message_id)
    if found is None:
        return []
    known(journal, queue.arn)
    deepen(journal, found[0], -1)
    deepen(journal, queue.arn, 1)
    return journal.rows(
        "redrive",
        message_id=message_id,
        new_id=uuids(1)[0],
        queue=queue.arn,
        now=now,
        visible=now + queue.delay,
        expires=now + queue.retention,
    )


def take_dead(journal: Journal, message_id: str) -> list[tuple[str, str, bytes]]:
    """Take a dead message out of its queue, in the caller's transaction. Its key, version and body; none: not dead."""
    found = journal.row("dead_message", message_id=message_id)
    if found is None:
        return []
    deepen(journal, found[0], -1)
    return journal.rows("take_dead", message_id=message_id)


def known(journal: Journal, arn: str) -> int:
    """The number of a queue in the journal; from now on it has one."""
    found = journal.row("queue", arn=arn)
    if found is None:
        journal.change("put_queue", arn=arn)  # another process may have been first
        found = journal.rows("queue", arn=arn)[0]
    return int(found[0])


def deepen(journal: Journal, arn: str, by: int) -> None:
    """Note that a queue has so many messages more, in the transaction in which that is so."""
    if by:
        journal.change("deepen", queue=arn, by=by)


def recount(journal: Journal) -> None:
    """Count the messages of all queues anew: whatever was noted is forgotten."""
    journal.change("count_depths")


def _row(receipt: str) -> int:
    """The row a receipt handle is of; -1, which no row has, for what is no handle."""
    head, _, _ = receipt.partition("-")
    return int(head) if head.isascii() and head.isdigit() and len(head) < 19 else -1
