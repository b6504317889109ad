"""The function room: an event source mapping that receives batches, and what becomes of the messages afterwards.

https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, repeat
from typing import Any, NamedTuple, Protocol

import orjson

from silversmith import faults
from silversmith.function.retries import DIED, wait_for_user
from silversmith.local.invocation import RECORD, Invocation, Received, Settings, record, record_size
from silversmith.local.journal import Journal
from silversmith.local.post import Note, note, write

#: Lambda's limit for the payload of one invocation, in bytes, less what the first message of a batch may be too large.
#: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
LARGEST_PAYLOAD = 6 * 1024 * 1024 - 512 * 1024

#: The verdicts that are kept as the last outcome of a key. A duplicate is one: it says that an earlier failure is over.
KEPT = frozenset({"committed", "duplicate", "quarantined", "gone", "failed"})

#: The handler cannot count a message's first death; and one more may be the receive that only says that it is dead.
UNCOUNTED_DEATHS = 2

#: How often one poll fills up a batch of which the filters dropped some, so that it does not keep the engine for long.
REFILLS = 10

#: Where batches take less than this many seconds, a worker is given as many at once as take so long, and as many ahead.
QUICK = 0.1

#: But no more than so many at once.
MOST_AT_ONCE = 10


class Polled(Protocol):
    """The queue that a mapping polls."""

    def receive(
        self, most: int, now: float, *, most_bytes: int, cost: Callable[[bytes], int]
    ) -> Sequence[Received]: ...
    def delete(self, receipts: Sequence[str]) -> int: ...
    def change_visibility(self, receipt: str, until: float) -> bool: ...
    def bury(self, receipt: str, now: float, *, reason: str) -> bool: ...
    def died(self, receipt: str) -> int: ...
    def hand_back(self, receipt: str, now: float) -> bool: ...
    def next_visible(self) -> float | None: ...
    def waiting(self, now: float, most: int) -> tuple[int, int]: ...


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
        #: How many seconds each of the latest batches took; until one has ended, too many.
        self.pace = float("inf")

    def next_due(self, now: float) -> float | None:
        """When there may be a batch to invoke, in Unix seconds; None: not before something else happens.

        A batching window ends when it is over, when the batch has its size, or when its payload has.
        https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventsourcemapping.html#invocation-eventsourcemapping-batching
        """
        if len(self.running) >= self.settings.maximum_concurrency:
            return None
        oldest = self._queue.next_visible()
        if oldest is None or oldest > now or not self.settings.mapping.window:
            return oldest
        number, size = self._queue.waiting(now, self.settings.mapping.batch_size)
        full = number >= self.settings.mapping.batch_size or size + number * RECORD >= LARGEST_PAYLOAD
        return oldest if full else oldest + self.settings.mapping.window

    @property
    def at_once(self) -> int:
        """How many batches a worker may have at the same time; 0: it shall not have one ahead either, behind which
        others would wait too long."""
        return int(min(MOST_AT_ONCE, QUICK / self.pace)) if self.pace > 0 else MOST_AT_ONCE

    def poll(self, invocation_id: int, now: float, *, hurry: bool = False) -> Invocation | None:
        """Receive one batch, if there is one to invoke now. ``hurry``: do not wait for the batching window to end."""
        return next(iter(self.poll_some(repeat(invocation_id), now, most=1, hurry=hurry)), None)

    def poll_some(self, ids: Iterator[int], now: float, *, most: int, hurry: bool = False) -> list[Invocation]:
        """As :meth:`poll`, up to so many batches at once; ``ids`` are for them. All but the last are full."""
        due = self.next_due(now)
        if due is None or (due > now and not hurry):
            return []
        most = int(min(most, self.settings.maximum_concurrency - len(self.running)))
        size = self.settings.mapping.batch_size
        messages = self._gather(now, size * most)
        invocations = [
            Invocation(
                next(ids),
                self.settings,
                {message.message_id: message for message in messages[start : start + size]},
                started=now,
            )
            for start in range(0, len(messages), size)
        ]
        self.running |= {invocation.id: invocation for invocation in invocations}
        if invocations:
            faults.point("function.received")
        return invocations

    def _gather(self, now: float, most: int) -> list[Received]:
        """So many messages that pass the filters. Those that do not are deleted, and others take their place.

        https://docs.aws.amazon.com/lambda/latest/dg/with-sqs-filtering.html
        """
        wanted: list[Received] = []
        size = 0
        for _ in range(REFILLS):
            received = self._queue.receive(most - len(wanted), now, most_bytes=LARGEST_PAYLOAD - size, cost=record_size)
            unwanted = [message for message in received if not self._passes(message)]
            if not unwanted:
                return [*wanted, *received]
            self._drop(unwanted, now)
            dropped = {message.id for message in unwanted}
            passed = [message for message in received if message.id not in dropped]
            wanted += passed
            size += sum(record_size(message.body) for message in passed)
            if len(wanted) == most or size >= LARGEST_PAYLOAD:
                break
        return wanted

    def _passes(self, message: Received) -> bool:
        filters = self.settings.mapping.filters
        if not filters:
            return True
        event = record(message, self.settings)
        with suppress(orjson.JSONDecodeError):
            event["body"] = orjson.loads(message.body)
        return any(pattern.matches(event) for pattern in filters)

    def _drop(self, unwanted: Sequence[Received], now: float) -> None:
        with self._journal.transaction():
            self._queue.delete([message.receipt for message in unwanted])
            write(self._journal, notes=[self._note(message, "filtered", {}, now) for message in unwanted])

    def succeed(self, invocation: Invocation, response: object, now: float) -> None:
        """The handler returned: delete what it did, move what it gave up on to the dead-letter queue, and leave to the
        queue what it names in ``batchItemFailures``.

        What it names but has not worked on, because its time was nearly over, is shown again at once; that receive is
        not counted, as when a worker dies.
        """
        self.succeed_all([(invocation, response)], now)

    def succeed_all(self, ended: Sequence[tuple[Invocation, object]], now: float) -> None:
        """:meth:`succeed`, of several invocations with the response of each, in one transaction."""
        done: list[tuple[Invocation, str]] = []
        told: list[_Told] = []
        again: list[tuple[Invocation, str, bool]] = []
        for invocation, response in ended:
            failed = failures(response, invocation.messages)
            untouched = {message for message in failed if invocation.outcomes and message not in invocation.outcomes}
            done += [(invocation, message) for message in invocation.messages if message not in failed]
            again += [(invocation, message, message in untouched) for message in failed]
            told.append(_Told(invocation, failed - untouched, None))
        with self._journal.transaction():
            self._finish(done, now)
            for invocation, message, is_untouched in again:
                self._show_again(invocation, message, now, untouched=is_untouched)
            self._record(told, now)
            faults.point("function.before_commit")
        for invocation, _ in ended:
            self._end(invocation)

    def crash(self, invocation: Invocation, reason: str, now: float) -> None:
        """The worker died, or was ended for its time or memory.

        What it had finished is acknowledged; what it was at, the last that it began to convert, has failed; what it had
        not finished else is shown again at once, and that receive is not counted against it.
        """
        finished = invocation.outcomes.keys() & invocation.messages.keys()
        failed = {message for message in finished if _has_failed(invocation, message)}
        at = {message for message in invocation.messages if message == invocation.began} - finished
        # Where it was at none, nobody knows which message it was. Then all that were not finished have failed, or it
        # would go on for ever: the pipeline itself does not start, or a file is never converted that kills before.
        failed |= at or invocation.messages.keys() - finished
        self._settle(invocation, now, failed=failed, reason=reason)

    def abandon(self, invocation: Invocation, now: float) -> None:
        """Nobody goes on with it, as the engine ends or the worker has died before: what was finished is acknowledged,
        all else is shown again, and not counted."""
        finished = invocation.outcomes.keys() & invocation.messages.keys()
        failed = {message for message in finished if _has_failed(invocation, message)}
        self._settle(invocation, now, failed=failed, reason=None)

    def _settle(self, invocation: Invocation, now: float, *, failed: set[str], reason: str | None) -> None:
        with self._journal.transaction():
            for message, received in invocation.messages.items():
                if message in failed:
                    self._come_back(invocation, message, now)
                elif message not in invocation.outcomes:
                    self._queue.hand_back(received.receipt, now)
            finished = invocation.outcomes.keys() & invocation.messages.keys() - failed
            self._finish([(invocation, message) for message in finished], now)
            self._record([_Told(invocation, failed, reason)], now)
            faults.point("function.before_commit")
        self._end(invocation)

    def _finish(self, done: Sequence[tuple[Invocation, str]], now: float) -> None:
        """Delete messages that were worked on. A message that the handler gave up on goes to the dead-letter queue; on
        AWS the handler sends it there itself."""
        deleted = []
        for invocation, message in done:
            receipt, outcome = invocation.messages[message].receipt, invocation.outcomes.get(message, {})
            reason = f"the function gave up on it: {(outcome.get('error') or {}).get('code', '')}"
            if not outcome.get("dead") or not self._queue.bury(receipt, now, reason=reason):
                deleted.append(receipt)
        self._queue.delete(deleted)

    def _come_back(self, invocation: Invocation, message: str, now: float) -> None:
        """A failed message comes back when its handler said; one that the worker died of, as late as if the user's code
        had failed.

        The handler writes each try down before it converts, and gives up at the receive after the last: so that comes
        at once. Where the worker dies of that one too, it dies before anything is written down, and no handler will
        ever give up: then the engine does.
        """
        receipt, tries = invocation.messages[message].receipt, self.settings.tries
        retry_in = invocation.outcomes.get(message, {}).get("retry_in")
        if retry_in is None:
            deaths = self._queue.died(receipt)
            reason = f"{deaths} workers died of it"
            if tries and deaths >= tries + UNCOUNTED_DEATHS and self._queue.bury(receipt, now, reason=reason):
                return
            retry_in = 0.0 if tries and deaths > tries else wait_for_user(max(1, deaths))
        self._queue.change_visibility(receipt, now + float(retry_in))

    def _end(self, invocation: Invocation) -> None:
        self.running.pop(invocation.id, None)
        faults.point("function.after_commit")

    def _show_again(self, invocation: Invocation, message: str, now: float, *, untouched: bool) -> None:
        """A failure that does not say when it wants to come back does so after the visibility timeout, as on AWS."""
        receipt = invocation.messages[message].receipt
        delay = invocation.outcomes.get(message, {}).get("retry_in")
        if untouched:
            self._queue.hand_back(receipt, now)
        elif delay is not None:
            self._queue.change_visibility(receipt, now + float(delay))

    def _record(self, told: Sequence[_Told], now: float) -> None:
        """The trace, the last outcome of each key, and the totals."""
        notes, outcomes, totals = [], [], Counter[str]()
        for received, verdict, detail in chain.from_iterable(map(_verdicts, told)):
            self._name_the_death(received, detail)
            notes.append(self._note(received, verdict, detail, now))
            if verdict in KEPT:
                outcomes.append(self._outcome(received, verdict, detail, now))
            totals[verdict] += 1
            totals["rows"] += int(detail.get("rows_written") or 0)
            totals["rejected"] += int(detail.get("rows_rejected") or 0)
        write(self._journal, notes=notes)
        self._journal.change_many("put_outcome", outcomes)
        for name, value in totals.items():
            if value:
                self._journal.count(f"function.{name}", value)
                self._journal.count(f"transform.{self.settings.transform}.{name}", value)

    def _name_the_death(self, received: Received, detail: dict[str, Any]) -> None:
        """That the last try was a death the handler finds at the next receive. Of what, the engine has written down."""
        if not detail.get("dead") or (detail.get("error") or {}).get("code") != DIED["code"]:
            return
        last = self._journal.row("outcome", transform=self.settings.transform, key=received.key)
        if last is not None and last[:2] == ("failed", received.version):
            detail["error"] = orjson.loads(last[3]).get("error", detail["error"])

    def _note(self, received: Received, what: str, detail: Mapping[str, Any], now: float) -> Note:
        name = self.settings.name
        return note(received.key, received.version, at=now, room="function", name=name, what=what, detail=detail)

    def _outcome(self, received: Received, verdict: str, detail: Mapping[str, Any], now: float) -> dict[str, Any]:
        return {
            "transform": self.settings.transform,
            "key": received.key,
            "version": received.version,
            "verdict": verdict,
            "at": now,
            "detail": orjson.dumps(detail).decode(),
        }


def _has_failed(invocation: Invocation, message: str) -> bool:
    """Whether a message that was finished shall come back. What the handler gave up on does not."""
    outcome = invocation.outcomes[message]
    return bool(outcome.get("failed")) and not outcome.get("dead")


class _Told(NamedTuple):
    """What is known of an invocation that has ended: which messages have failed, and why if it is the same for all."""

    invocation: Invocation
    failed: set[str]
    reason: str | None


def _verdicts(told: _Told) -> Iterator[tuple[Received, str, dict[str, Any]]]:
    """Of each message that was begun, what became of it, in a word and in detail."""
    invocation, failed, reason = told
    for message, received in invocation.messages.items():
        found = invocation.outcomes.get(message)
        if found is None and message not in failed:
            continue  # not begun
        detail = dict(found or {})
        if message in failed and reason and "error" not in detail:
            detail["error"] = {"code": "FunctionError", "message": reason}
        detail["attempt"] = received.receives
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
    found = response.get("batchItemFailures")
    if found is None:
        return set()
    if not isinstance(found, list):
        return set(messages)
    ids = [item.get("itemIdentifier") if isinstance(item, dict) else None for item in found]
    if any(not isinstance(identifier, str) or identifier not in messages for identifier in ids):
        return set(messages)
    return {identifier for identifier in ids if isinstance(identifier, str)}
