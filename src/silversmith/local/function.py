"""The function room: an event source mapping that receives batches, and what becomes of the messages afterwards.

https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from silversmith import faults
from silversmith.local.journal import Journal
from silversmith.local.post import note, write

#: Lambda's limit for the payload of one invocation, less what the envelope of the records takes.
LARGEST_PAYLOAD = 6 * 1024 * 1024 - 512 * 1024


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


class Polled(Protocol):
    """The queue that a mapping polls."""

    def receive(self, most: int, now: float, *, most_bytes: int) -> Sequence[Received]: ...
    def delete(self, receipts: Sequence[str]) -> int: ...
    def change_visibility(self, receipt: str, until: float) -> bool: ...
    def next_visible(self) -> float | None: ...
    def waiting(self, now: float, most: int) -> int: ...


@dataclass(frozen=True)
class Settings:
    """What the template says of a function and its mapping. Times in seconds, ``memory`` in MB."""

    name: str
    transform: str
    queue_arn: str
    region: str
    timeout: float
    memory: int
    batch_size: int = 10
    window: float = 0
    maximum_concurrency: int = 0


@dataclass
class Invocation:
    """One batch in the hands of a worker. ``began`` is the message it is at, ``outcomes`` what it reported so far."""

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

    def event(self) -> dict[str, Any]:
        """The very event that Lambda passes to a handler.

        https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html
        """
        return {"Records": [self._record(message) for message in self.messages.values()]}

    def _record(self, message: Received) -> dict[str, Any]:
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
            "eventSourceARN": self.settings.queue_arn,
            "awsRegion": self.settings.region,
        }


class Function:
    """One function with the queue that feeds it.

    Args:
        journal: where outcomes and the trace go.
        settings: from the template.
        queue: what its mapping polls.
    """

    def __init__(self, journal: Journal, settings: Settings, queue: Polled) -> None:
        self._journal = journal
        self.settings = settings
        self._queue = queue
        self.running: dict[int, Invocation] = {}

    def next_due(self, now: float) -> float | None:
        """When there may be a batch to invoke, in Unix seconds; None: not before something else happens."""
        limit = self.settings.maximum_concurrency
        if limit and len(self.running) >= limit:
            return None
        oldest = self._queue.next_visible()
        if oldest is None or oldest > now or not self.settings.window:
            return oldest
        full = self._queue.waiting(now, self.settings.batch_size) >= self.settings.batch_size
        return oldest if full else oldest + self.settings.window

    def poll(self, invocation_id: int, now: float, *, hurry: bool = False) -> Invocation | None:
        """Receive one batch, if there is one to invoke now. ``hurry``: do not wait for the batching window to end."""
        due = self.next_due(now)
        if due is None or (due > now and not hurry):
            return None
        messages = self._queue.receive(self.settings.batch_size, now, most_bytes=LARGEST_PAYLOAD)
        if not messages:
            return None
        invocation = Invocation(
            invocation_id, self.settings, {message.message_id: message for message in messages}, started=now
        )
        self.running[invocation_id] = invocation
        faults.point("function.received")
        return invocation

    def succeed(self, invocation: Invocation, response: object, now: float) -> None:
        """The handler returned: delete what it did, and leave to the queue what it names in ``batchItemFailures``."""
        failed = failures(response, invocation.messages)
        done = [message for message in invocation.messages if message not in failed]
        with self._journal.transaction():
            self._queue.delete([invocation.messages[message].receipt for message in done])
            for message in failed:
                self._show_again(invocation, message, now)
            self._record(invocation, now, failed=failed, reason=None)
            faults.point("function.before_commit")
        self._end(invocation)

    def crash(self, invocation: Invocation, reason: str, now: float) -> None:
        """The worker died, or was ended for its time or memory.

        What it had finished is acknowledged; what it was at has failed; what it had not begun is shown again at once,
        and that receive is not counted against it.
        """
        finished = [message for message in invocation.outcomes if message in invocation.messages]
        done = [message for message in finished if not invocation.outcomes[message].get("failed")]
        failed = set(finished) - set(done)
        if invocation.began is not None and invocation.began not in finished:
            failed.add(invocation.began)
        if not invocation.outcomes and invocation.began is None:
            failed = set(invocation.messages)  # it never got as far as a message: the pipeline itself does not start
        with self._journal.transaction():
            self._queue.delete([invocation.messages[message].receipt for message in done])
            for message, received in invocation.messages.items():
                if message in failed:
                    self._queue.change_visibility(received.receipt, now + retry_delay(received.receives))
                elif message not in finished:
                    self._journal.change("unreceive", id=received.id, receipt=received.receipt, now=now)
            self._record(invocation, now, failed=failed, reason=reason)
            faults.point("function.before_commit")
        self._end(invocation)

    def _end(self, invocation: Invocation) -> None:
        self.running.pop(invocation.id, None)
        faults.point("function.after_commit")

    def _show_again(self, invocation: Invocation, message: str, now: float) -> None:
        delay = invocation.outcomes.get(message, {}).get("retry_in")
        if delay is not None:
            self._queue.change_visibility(invocation.messages[message].receipt, now + float(delay))

    def _record(self, invocation: Invocation, now: float, *, failed: set[str], reason: str | None) -> None:
        """The trace, the last outcome of each key, and the totals."""
        notes, outcomes, totals = [], [], dict[str, int]()
        for message, received in invocation.messages.items():
            found = invocation.outcomes.get(message)
            if found is None and message not in failed:
                continue  # not begun
            detail = dict(found or {})
            if message in failed and reason and "error" not in detail:
                detail["error"] = {"code": "FunctionError", "message": reason}
            verdict = "failed" if message in failed else str(detail.get("verdict", "done"))
            detail["attempt"] = received.receives
            notes.append(
                note(received.key, received.version, at=now, room="function", name=self.settings.name,
                     what=verdict, detail=detail)
            )  # fmt: skip
            if verdict in {"committed", "quarantined", "gone", "failed"}:
                outcomes.append(self._outcome(received, verdict, detail, now))
            totals[verdict] = totals.get(verdict, 0) + 1
            totals["rows"] = totals.get("rows", 0) + int(detail.get("rows_written") or 0)
            totals["rejected"] = totals.get("rejected", 0) + int(detail.get("rows_rejected") or 0)
        write(self._journal, notes=notes)
        self._journal.change_many("put_outcome", outcomes)
        for name, value in totals.items():
            if value:
                self._journal.count(f"function.{name}", value)
                self._journal.count(f"transform.{self.settings.transform}.{name}", value)

    def _outcome(self, received: Received, verdict: str, detail: Mapping[str, Any], now: float) -> dict[str, Any]:
        return {
            "transform": self.settings.transform,
            "key": received.key,
            "version": received.version,
            "verdict": verdict,
            "at": now,
            "detail": orjson.dumps(detail).decode(),
        }


def failures(response: object, messages: Mapping[str, object]) -> set[str]:
    """The ids of the messages that a handler's response reports as failed, by Lambda's rules.

    Nothing or an empty list is success; anything malformed, or an id that was not in the batch, fails the whole batch.

    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html#services-sqs-batchfailurereporting
    """
    if response is None:
        return set()
    if not isinstance(response, dict):
        return set(messages)
    found = response.get("batchItemFailures")
    if found is None:
        return set()
    if not isinstance(found, list):
        return set(messages)
    ids = [item.get("itemIdentifier") if isinstance(item, dict) else None for item in found]
    if any(not isinstance(identifier, str) or identifier not in messages for identifier in ids):
        return set(messages)
    return {identifier for identifier in ids if isinstance(identifier, str)}


def retry_delay(receives: int) -> float:
    """Seconds until the next try of what failed for the n-th time: 1, 4, 16, 64 … up to 15 minutes."""
    return float(min(900, 4 ** (min(receives, 8) - 1)))
