"""The function service: an event source mapping that receives batches, and what becomes of their messages afterwards.

https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html
https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from typing import Any, Protocol

import orjson

from silversmith import faults
from silversmith.function.retries import DIED
from silversmith.lineage import error_key, failed_key
from silversmith.local import tallies
from silversmith.local.journal import Journal
from silversmith.local.services import Change, HopRow, ReceivedMessage, hop_row, write
from silversmith.local.stack import EventSourceMapping, FunctionResource, QueueResource
from silversmith.runtime.queue import transform_tries, wait_for_user
from silversmith.stores import IN_MEMORY

#: The bytes that a record takes beside its body, rounded up.
RECORD = 512

#: Lambda's limit for the payload of one invocation, in bytes, less the room that the first message of a batch may need.
#: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
LARGEST_PAYLOAD = 6 * 1024 * 1024 - 512 * 1024

#: The verdicts that are kept as the last outcome of a key. A duplicate is one: it says that an earlier failure is over.
KEPT = frozenset(
    {"committed", "duplicate", "quarantined", "gone", "removed", "marker", "before since", "archived", "failed"}
)

#: The verdicts after which silver may have changed, and whether its object is gone then.
CHANGED = {"committed": False, "duplicate": False, "gone": True, "removed": True}

#: The handler cannot count a message's first death; and one more may be the receive that only says that it is dead.
UNCOUNTED_DEATHS = 2

#: How often one poll fills up a batch of which the filters dropped some, so that it does not keep the engine for long.
REFILLS = 10

#: Where batches take less than this many seconds, one dispatch holds as many of them as take so long together.
QUICK = 0.1

#: The most batches of one dispatch.
MOST_BATCHES = 10

#: The function of tables rests for so many times as long as its last batch took, and for so many seconds at most: the
#: messages that come meanwhile share a commit, and a stream of files leaves the CPUs to the transforms.
REST, LONGEST_REST = 3.0, 1.0

#: The size of an object in an event of EventBridge, from seven digits on. A key has no bare quotes in JSON.
_SIZE = re.compile(rb'"size":\s*([0-9]{7,18})\b')


@dataclass(frozen=True)
class Settings:
    """A function with the mapping that polls a queue for it."""

    function: FunctionResource
    mapping: EventSourceMapping
    queue: QueueResource

    @property
    def name(self) -> str:
        """The function's."""
        return self.function.name

    @cached_property
    def transform(self) -> str:
        """The name under which outcomes are kept: that of the transform, or of the function where it runs none."""
        return self.function.environment.get("SILVERSMITH_TRANSFORM", self.function.name)

    @cached_property
    def is_of_tables(self) -> bool:
        """Whether it makes tables of silver, and no silver."""
        return "SILVERSMITH_TABLES" in self.function.environment

    @cached_property
    def maximum_concurrency(self) -> float:
        """The most invocations at once: the function's reserved concurrency bounds its mapping.

        https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
        """
        limits = (self.mapping.maximum_concurrency, self.function.reserved_concurrency)
        return min((limit for limit in limits if limit is not None), default=inf)

    @cached_property
    def tries(self) -> int:
        """The failures that the user's code may have; 0: without limit, for the queue has no dead-letter queue."""
        return transform_tries(self.queue.max_receive_count) if self.queue.dead_letter_arn else 0


@dataclass(eq=False)
class Invocation:
    """One batch that a worker has. ``outcomes`` are those reported so far, by message id; ``begun`` are the messages
    that it works on together, where it says so; ``started`` in Unix time."""

    settings: Settings
    messages: dict[str, ReceivedMessage]
    started: float
    outcomes: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    begun: frozenset[str] = frozenset()

    @property
    def deadline(self) -> float:
        """The time at which Lambda would end it, in Unix seconds."""
        return self.started + self.settings.function.timeout

    @property
    def is_large(self) -> bool:
        """Whether one of its objects has more bytes than are held in memory, by the size in its event."""
        sizes = [_SIZE.search(message.body) for message in self.messages.values()]
        return any(int(size[1]) > IN_MEMORY for size in sizes if size)

    def event(self) -> dict[str, Any]:
        """The very event that Lambda passes to a handler."""
        return {"Records": [record(message, self.settings) for message in self.messages.values()]}

    def failed(self) -> set[str]:
        """The finished messages that shall come back. One that the handler gave up on does not."""
        finished = self.outcomes.keys() & self.messages.keys()
        return {message for message in finished if _shall_come_back(self.outcomes[message])}


def _shall_come_back(outcome: Mapping[str, Any]) -> bool:
    return bool(outcome.get("failed")) and not outcome.get("dead")


def record(message: ReceivedMessage, settings: Settings) -> dict[str, Any]:
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
        "eventSourceARN": settings.queue.arn,
        "awsRegion": settings.queue.arn.split(":")[3],
    }


def record_size(body: bytes) -> int:
    """The bytes that a message takes in the payload of an invocation, by its body."""
    return RECORD + len(orjson.dumps(body.decode()))


class PolledQueue(Protocol):
    """The queue that a mapping polls, as :class:`silversmith.local.services.queue.QueueService` is one."""

    def receive(
        self, most: int, now: float, *, most_bytes: int, cost: Callable[[bytes], int]
    ) -> Sequence[ReceivedMessage]: ...
    def delete(self, receipts: Sequence[str]) -> int: ...
    def change_visibility(self, receipt: str, until: float) -> bool: ...
    def move_to_dlq(self, receipt: str, now: float, *, reason: str) -> bool: ...
    def count_death(self, receipt: str) -> int: ...
    def return_unused(self, receipt: str, now: float) -> bool: ...
    def next_visible(self) -> float | None: ...
    def visible(self, now: float, most: int) -> tuple[int, int]: ...


class FunctionService:
    """One function with the queue that feeds it.

    Args:
        journal: where outcomes and the trace are written.
        settings: from the template.
        queue: the one that its mapping polls.
        announce: told what the function has put in silver or removed, in the transaction in which the messages are
            finished. What it did before a crash is announced when the message comes back, and is found done.
    """

    def __init__(
        self,
        journal: Journal,
        settings: Settings,
        queue: PolledQueue,
        *,
        announce: Callable[[Sequence[Change], float], None] | None = None,
    ) -> None:
        self._journal = journal
        self.settings = settings
        self._queue = queue
        self._announce = announce
        self.running: set[Invocation] = set()
        self._seconds_per_batch = inf
        self._rests_until = 0.0

    def measure(self, batches: int, started: float, now: float) -> None:
        """Note when the latest batches began, and that they have ended now, in Unix seconds."""
        self._seconds_per_batch = (now - started) / batches
        if self.settings.is_of_tables:
            self._rests_until = now + min(REST * (now - started), LONGEST_REST)

    def hasten(self) -> None:
        """Rest no longer."""
        self._rests_until = 0.0

    def next_due(self, now: float) -> float | None:
        """The time of the next possible batch, in Unix seconds; None: not before something else happens.

        A batching window ends when it is over, when the batch has its size, or when its payload has.
        https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventsourcemapping.html#invocation-eventsourcemapping-batching
        """
        if len(self.running) >= self.settings.maximum_concurrency:
            return None
        oldest = self._queue.next_visible()
        if oldest is None or oldest > now or not self.settings.mapping.window:
            return None if oldest is None else max(oldest, self._rests_until)
        number, size = self._queue.visible(now, self.settings.mapping.batch_size)
        is_full = number >= self.settings.mapping.batch_size or size + number * RECORD >= LARGEST_PAYLOAD
        return oldest if is_full else oldest + self.settings.mapping.window

    @property
    def batches_per_dispatch(self) -> int:
        """How many batches a worker gets together; 0: and none to follow either, behind which others would wait.

        Tables get one: each is a commit, and the messages that come meanwhile share the next.
        """
        if self.settings.is_of_tables:
            return 0
        return int(min(MOST_BATCHES, QUICK / self._seconds_per_batch)) if self._seconds_per_batch > 0 else MOST_BATCHES

    def poll(self, now: float, *, most: int = 1, hurry: bool = False) -> list[Invocation]:
        """Receive up to ``most`` batches that may be invoked now; all but the last are full.

        ``hurry``: do not wait for the end of the batching window.
        """
        due = self.next_due(now)
        if due is None or (due > now and not hurry) or now < self._rests_until:
            return []
        most = int(min(most, self.settings.maximum_concurrency - len(self.running)))
        size = self.settings.mapping.batch_size
        messages = self._receive(now, size * most)
        invocations = [
            Invocation(
                self.settings, {message.message_id: message for message in messages[start : start + size]}, started=now
            )
            for start in range(0, len(messages), size)
        ]
        self.running |= set(invocations)
        if invocations:
            faults.point("function.received")
        return invocations

    def _receive(self, now: float, most: int) -> list[ReceivedMessage]:
        """So many messages that pass the filters. The others are deleted, and their places filled.

        https://docs.aws.amazon.com/lambda/latest/dg/with-sqs-filtering.html
        """
        messages: list[ReceivedMessage] = []
        size = 0
        for _ in range(REFILLS):
            received = self._queue.receive(
                most - len(messages), now, most_bytes=LARGEST_PAYLOAD - size, cost=record_size
            )
            passed = [message for message in received if self._passes(message)]
            messages += passed
            if len(passed) == len(received):
                break
            passed_ids = {message.id for message in passed}
            self._drop([message for message in received if message.id not in passed_ids], now)
            size += sum(record_size(message.body) for message in passed)
            if len(messages) == most or size >= LARGEST_PAYLOAD:
                break
        return messages

    def _passes(self, message: ReceivedMessage) -> bool:
        filters = self.settings.mapping.filters
        if not filters:
            return True
        event = record(message, self.settings)
        with suppress(orjson.JSONDecodeError):
            event["body"] = orjson.loads(message.body)
        return any(pattern.matches(event) for pattern in filters)

    def _drop(self, messages: Sequence[ReceivedMessage], now: float) -> None:
        with self._journal.transaction():
            self._queue.delete([message.receipt for message in messages])
            write(self._journal, hops=[self._hop(message, "filtered", {}, now) for message in messages])

    def complete(self, responses: Sequence[tuple[Invocation, object]], now: float) -> None:
        """Handlers returned these responses: all of it in one transaction.

        A finished message is deleted, one that the handler gave up on goes to the dead-letter queue, and one that the
        response names in ``batchItemFailures`` comes back. A message that is named but was not worked on, because the
        time was nearly over, is visible again at once, and its receive is not counted, as when a worker dies.
        """
        failed_of: dict[Invocation, set[str]] = {}
        finished: list[tuple[Invocation, str]] = []
        with self._journal.transaction():
            for invocation, response in responses:
                reported = failures(response, invocation.messages)
                untouched = reported - invocation.outcomes.keys() if invocation.outcomes else set()
                finished += [(invocation, message) for message in invocation.messages if message not in reported]
                for message in reported:
                    receipt = invocation.messages[message].receipt
                    retry_in = invocation.outcomes.get(message, {}).get("retry_in")
                    if message in untouched:
                        self._queue.return_unused(receipt, now)
                    elif retry_in is not None:  # else after the visibility timeout, as on AWS
                        self._queue.change_visibility(receipt, now + float(retry_in))
                failed_of[invocation] = reported - untouched
            self._record(failed_of, None, now)  # first, for the trace is in the order of writing
            self._finish(finished, now)
            faults.point("function.before_commit")
        self._end(failed_of)

    def crash(self, invocation: Invocation, reason: str, now: float, *, began: str | None = None) -> None:
        """The worker died, or was ended for its time or memory. ``began``: the last message that it began to convert.

        Finished messages are acknowledged; the one that it began has failed; the others are visible again at once, and
        that receive is not counted against them.
        """
        unfinished = invocation.messages.keys() - invocation.outcomes.keys()
        # Where it is not known which message the worker was at, all unfinished ones have failed, or it would go on for
        # ever: the pipeline itself does not start, or a file kills the worker before it is converted.
        failed = invocation.failed() | (unfinished & (invocation.begun or {began}) or unfinished)
        self._settle(invocation, now, failed=failed, reason=reason)

    def abandon(self, invocation: Invocation, now: float) -> None:
        """No worker goes on with it: finished messages are acknowledged, the others return to the queue, uncounted."""
        self._settle(invocation, now, failed=invocation.failed(), reason=None)

    def _settle(self, invocation: Invocation, now: float, *, failed: set[str], reason: str | None) -> None:
        with self._journal.transaction():
            self._record({invocation: failed}, reason, now)
            for message, received in invocation.messages.items():
                if message in failed:
                    self._retry(invocation, message, now)
                elif message not in invocation.outcomes:
                    self._queue.return_unused(received.receipt, now)
            finished = [message for message in invocation.messages if message in invocation.outcomes.keys() - failed]
            self._finish([(invocation, message) for message in finished], now)
            faults.point("function.before_commit")
        self._end([invocation])

    def _finish(self, messages: Sequence[tuple[Invocation, str]], now: float) -> None:
        """Delete finished messages. One that the handler gave up on goes to the dead-letter queue; on AWS the handler
        sends it there itself."""
        deleted = []
        for invocation, message in messages:
            receipt, outcome = invocation.messages[message].receipt, invocation.outcomes.get(message, {})
            reason = f"the function gave up on it: {(outcome.get('error') or {}).get('code', '')}"
            if not outcome.get("dead") or not self._queue.move_to_dlq(receipt, now, reason=reason):
                deleted.append(receipt)
        self._queue.delete(deleted)

    def _retry(self, invocation: Invocation, message: str, now: float) -> None:
        """A failed message comes back when its handler said; after a death, as late as if the user's code had failed.

        The handler writes each try down before it converts, and gives up at the receive after the last, so that one
        comes at once. Where the worker dies of that one too, it dies before anything is written down, and no handler
        will ever give up: then the engine does.
        """
        receipt, tries = invocation.messages[message].receipt, self.settings.tries
        retry_in = invocation.outcomes.get(message, {}).get("retry_in")
        if retry_in is None:
            deaths = self._queue.count_death(receipt)
            reason = f"{deaths} workers died of it"
            if tries and deaths >= tries + UNCOUNTED_DEATHS and self._queue.move_to_dlq(receipt, now, reason=reason):
                return
            retry_in = 0.0 if tries and deaths > tries else wait_for_user(max(1, deaths))
        self._queue.change_visibility(receipt, now + float(retry_in))

    def _end(self, invocations: Iterable[Invocation]) -> None:
        self.running -= set(invocations)
        faults.point("function.after_commit")

    def _record(self, failed_of: Mapping[Invocation, set[str]], reason: str | None, now: float) -> None:
        """Write the trace, the last outcome of each key, and the totals."""
        hops, outcomes, totals, numbers = [], [], Counter[str](), Counter[str]()
        changes: list[Change] = []
        for invocation, failed in failed_of.items():
            for message, verdict, detail in _verdicts(invocation, failed, reason):
                self._name_the_death(message, detail)
                hops.append(self._hop(message, verdict, detail, now))
                if self._announce is not None:
                    changes += self._changes(message, verdict, detail)
                if verdict in KEPT and not self.settings.is_of_tables:
                    outcomes.append(
                        {
                            "transform": self.settings.transform,
                            "key": message.key,
                            "version": message.version,
                            "verdict": verdict,
                            "at": now,
                            "detail": orjson.dumps(detail).decode(),
                        }
                    )
                numbers.update(tallies.ended(verdict, detail, self._milliseconds(message, verdict, now)))
                totals[verdict] += 1
                totals["rows"] += int(detail.get("rows_written") or 0)
                totals["rejected"] += int(detail.get("rows_rejected") or 0)
                totals["partial"] += verdict == "committed" and bool(detail.get("rows_rejected"))
        write(self._journal, hops=hops)
        self._journal.change_many("put_outcome", outcomes)
        for name, value in totals.items():
            if value:
                self._journal.count(f"function.{name}", value)
                kind = "function" if self.settings.is_of_tables else "transform"
                self._journal.count(f"{kind}.{self.settings.transform}.{name}", value)
        tallies.add(self._journal, self.settings.transform, numbers, now)
        if self._announce is not None:
            self._announce(changes, now)

    def _milliseconds(self, message: ReceivedMessage, verdict: str, now: float) -> float | None:
        if verdict != "committed":
            return None
        return tallies.milliseconds_since(self._journal, message.key, message.version, self.settings.queue.name, now)

    def _changes(self, message: ReceivedMessage, verdict: str, detail: Mapping[str, Any]) -> Iterator[Change]:
        """The changes of a message in silver and its additions to quarantine. Removals from quarantine are left out:
        with silver's own event the table function looks there, too."""
        if verdict in CHANGED:
            yield Change(str(detail["silver"]), message.key, message.version, CHANGED[verdict])
        elif verdict == "quarantined" or detail.get("dead"):
            derive = error_key if verdict == "quarantined" else failed_key
            key = derive(self.settings.transform, message.key)
            yield Change(key, message.key, message.version, in_quarantine=True)

    def _name_the_death(self, message: ReceivedMessage, detail: dict[str, Any]) -> None:
        """The handler that gives up knows only that the last worker died; the engine has written down of what."""
        if not detail.get("dead") or (detail.get("error") or {}).get("code") != DIED["code"]:
            return
        last = self._journal.row("outcome", transform=self.settings.transform, key=message.key)
        if last is not None and last[:2] == ("failed", message.version):
            detail["error"] = orjson.loads(last[3]).get("error", detail["error"])

    def _hop(self, message: ReceivedMessage, what: str, detail: Mapping[str, Any], now: float) -> HopRow:
        name = self.settings.name
        return hop_row(message.key, message.version, at=now, room="function", name=name, what=what, detail=detail)


def _verdicts(
    invocation: Invocation, failed: set[str], reason: str | None
) -> Iterator[tuple[ReceivedMessage, str, dict[str, Any]]]:
    """Each message that was begun, its verdict, and the details. ``reason``: why messages without an outcome failed."""
    for message, received in invocation.messages.items():
        outcome = invocation.outcomes.get(message)
        if outcome is None and message not in failed:
            continue  # not begun
        detail = dict(outcome or {})
        if message in failed and reason and "error" not in detail:
            detail["error"] = {"code": "FunctionError", "message": reason}
        detail["attempt"] = received.receives
        detail["queued"] = round(max(0.0, invocation.started - received.sent), 6)
        yield received, "failed" if message in failed else str(detail.get("verdict", "done")), detail


def failures(response: object, messages: Mapping[str, object]) -> set[str]:
    """The ids of the messages that a handler's response reports as failed, by Lambda's rules.

    Nothing or an empty list is success; anything malformed, or an id that was not in the batch, fails the whole batch.

    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html#services-sqs-batchfailurereporting
    """
    if response is None:
        return set()
    if not isinstance(response, dict):
        return set(messages)
    items = response.get("batchItemFailures")
    if items is None:
        return set()
    if not isinstance(items, list):
        return set(messages)
    ids = [item.get("itemIdentifier") if isinstance(item, dict) else None for item in items]
    if any(not isinstance(identifier, str) or identifier not in messages for identifier in ids):
        return set(messages)
    return {identifier for identifier in ids if isinstance(identifier, str)}
