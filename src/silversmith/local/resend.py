"""Messages that are sent again: by operations, and by the engine's own rounds of reconciliation.

All of it is written to the journal: a running engine sees it within a fifth of a second, the next one at its start.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import orjson

from silversmith import faults
from silversmith.events import NotAnEvent, ObjectEvent, object_created, unwrap
from silversmith.lineage import bronze_key_of
from silversmith.local.journal import Journal
from silversmith.local.services import HopRow, ServiceMessage, hop_row, write
from silversmith.local.services.bucket import DOUBTFUL
from silversmith.local.services.queue import QueueService, redrive, take_dead
from silversmith.local.stack import QueueResource, StackResources
from silversmith.pipeline import Pipeline
from silversmith.reconcile.compare import Looked, look
from silversmith.stores import Head, Lake, batched
from silversmith.stores.local import LocalStore

#: How the trace calls a message that was sent again, by the reason.
DONE = {"reconcile": "reconciled", "redrive": "redriven", "replay": "replayed"}

#: The seconds between the end of one round and the beginning of the next.
EVERY = 3600.0

#: The keys that one step looks at: some ten milliseconds.
MOST = 50


@dataclass(frozen=True)
class Route:
    """The queue of one function, and the ARNs of all dead-letter queues on the way to it and behind it."""

    queue: QueueResource
    dead_letters: tuple[str, ...]


def route_of_tables(stack: StackResources) -> Route | None:
    """Where the messages of the tables can be; None: there are no tables."""
    return next(iter(routes(stack, "SILVERSMITH_TABLES").values()), None)


def routes(stack: StackResources, variable: str = "SILVERSMITH_TRANSFORM") -> dict[str, Route]:
    """Where the messages of functions can be, by transform, or by the value of another variable in the environment."""
    result: dict[str, Route] = {}
    functions = {function.arn: function for function in stack.functions}
    queues = {queue.arn: queue for queue in stack.queues}
    for mapping in stack.mappings:
        value = functions[mapping.function_arn].environment.get(variable)
        if value is None:
            continue
        queue = queues[mapping.queue_arn]
        subscriptions = [item for item in stack.subscriptions if item.queue_arn == queue.arn]
        sources = {queue.arn, *(item.topic_arn for item in subscriptions)}
        arns = [queue.dead_letter_arn, *(item.dead_letter_arn for item in subscriptions)]
        arns += [rule.dead_letter_arn for rule in stack.rules if not sources.isdisjoint(rule.targets)]
        result[value] = Route(queue, tuple(dict.fromkeys(arn for arn in arns if arn)))
    return result


def send(journal: Journal, queue: QueueResource, events: Sequence[ObjectEvent], *, reason: str, now: float) -> None:
    """Put events in a transform's queue, all of them or none. ``now`` in Unix seconds.

    An event of a version that the bucket has noticed gets that version's id, so that the trace stays in one piece.
    """
    messages = [
        ServiceMessage("", queue.arn, "", event.key, event.version, object_created(event, reason=reason), now)
        for event in (_with_version(journal, event) for event in events)
    ]
    _send(journal, queue, messages, reason=reason, now=now)


def _send(
    journal: Journal, queue: QueueResource, messages: Sequence[ServiceMessage], *, reason: str, now: float
) -> None:
    with journal.transaction():
        write(journal, hops=[_hop(item.key, item.version, reason, now, to=queue.name) for item in messages])
        QueueService(journal, queue).accept(messages, now)
        journal.count(f"operations.{DONE[reason]}", len(messages))
        faults.point("resend.before_commit")
    faults.point("resend.after_commit")


def _with_version(journal: Journal, event: ObjectEvent) -> ObjectEvent:
    row = journal.row("object", bucket=event.bucket, key=event.key)
    if row is None or event.version or event.etag not in {"", row[1]}:
        return event
    if event.deleted:  # it is about no bytes
        return replace(event, version=row[2])
    return replace(event, etag=row[1], version=row[2], sequencer=row[3], size=row[4])


def back_to_queue(journal: Journal, message_id: str, queue: QueueResource, *, now: float) -> bool:
    """Move a message from its dead-letter queue to a queue, as new. In the caller's transaction. False: it is not dead.

    As on SQS it gets a new id and its retention starts again; body, key and version stay.
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-configure-dead-letter-queue-redrive.html
    """
    moved = redrive(journal, message_id, queue, now=now)
    for key, version, row in moved:
        _record_redrive(journal, key, version, now, to=queue.name, message=row)
    return bool(moved)


def back_to_bus(journal: Journal, message_id: str, *, source: str, bus: str, now: float) -> bool:
    """Move a message from a rule's dead-letter queue to the bus, where the rules as they are now see it.

    In the caller's transaction. False: it is not dead. ``source`` is the bucket's ARN, ``bus`` the bus's.
    """
    taken = take_dead(journal, message_id)
    for key, version, body in taken:
        write(journal, messages=[ServiceMessage(source, bus, "", key, version, body, now, now)])
        _record_redrive(journal, key, version, now, to="bus")
    return bool(taken)


def _record_redrive(
    journal: Journal, key: str, version: str, now: float, *, to: str, message: int | None = None
) -> None:
    write(journal, hops=[_hop(key, version, "redrive", now, to=to, message=message)])
    journal.count(f"operations.{DONE['redrive']}")
    faults.point("redrive.before_commit")


def _hop(key: str, version: str, reason: str, now: float, *, to: str, message: int | None = None) -> HopRow:
    return hop_row(
        key, version, at=now, room="operations", name=reason, what=DONE[reason], detail={"to": to}, message=message
    )


def pending(journal: Journal, route: Route, etags: Mapping[str, str]) -> set[str]:
    """The keys that have a message in the transform's queue, on its way there, or in a dead-letter queue.

    Args:
        etags: by key, the etag of the bronze object as it is. A message of other bytes does not count: it may be dead,
            or a worker may have read those bytes at this moment.
    """
    messages = _messages(journal, route, list(etags))
    # SQLite's JSON cuts a text at a NUL, which a key may hold: keys may come back that were not asked for.
    return {key for _, key, body in messages if key in etags and etag_in(body) in {"", etags[key]}}


def _messages(journal: Journal, route: Route, keys: Sequence[str]) -> list[tuple[str, str, bytes]]:
    """The messages under these bronze keys in the queue of a route, on their way there, or dead: target, key, body."""
    names = orjson.dumps(keys).decode()
    queues = orjson.dumps([route.queue.arn, *route.dead_letters]).decode()
    in_outbox = journal.rows("in_outbox_for", keys=names)
    # A message on its way to another queue does not count.
    in_outbox = [row for row in in_outbox if row[0] == route.queue.arn or ":sqs:" not in row[0]]
    return journal.rows("queued_for", queues=queues, keys=names) + in_outbox


def etag_in(body: bytes) -> str:
    """The etag in a message's event; empty where there is none."""
    try:
        return next((event.etag for event in unwrap(body)), "")
    except NotAnEvent:
        return ""


class Rounds:
    """Finds silver that is missing or stale, step by step, and sends its bronze keys to their queues.

    Args:
        pipeline: whose transforms.
        lake: its buckets.
        bronze: the folder of the bronze bucket.
        journal: the engine's; steps are to be taken in its thread.
        routes: by transform, where its messages can be; see :func:`routes`.
        since: an outcome later than this, in Unix seconds, is believed by the first round.
        every: seconds between two rounds.
        most: the keys that one step looks at.
        changed: send also the files whose silver other code or other lookups made.

    Attributes:
        finished: how many rounds have ended.
        outdated: how many silver objects of other code the newest round has seen, and left as they are.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        lake: Lake,
        bronze: LocalStore,
        journal: Journal,
        routes: Mapping[str, Route],
        *,
        since: float = float("inf"),
        every: float = EVERY,
        most: int = MOST,
        changed: bool = False,
    ) -> None:
        self._pipeline = pipeline
        self._lake = lake
        self._bronze = bronze
        self._journal = journal
        self._routes = routes
        self._since = since
        self._every = every
        self._most = most
        self._changed = changed
        self._due = float("-inf")
        self._round: Iterator[int] | None = None
        self._now = 0.0
        self.finished = 0
        self.outdated = 0

    @property
    def busy(self) -> bool:
        """Whether a round has begun and not ended: then the next step should not wait for anything."""
        return self._round is not None

    def step(self, now: float) -> int:
        """Look at the next few keys, if a round is due or has begun. Returns how many were sent. ``now``: Unix time."""
        if self._round is None:
            if 0 < self._due - now <= self._every:  # else it is time, or the clock was set back
                return 0
            self._round = self._steps()
        self._now = now
        sent = next(self._round, None)
        if sent is None:
            self._round = None
            self._due = now + self._every
            self.finished += 1
        return sent or 0

    def _steps(self) -> Iterator[int]:
        """Every key of every transform; after some of them, how many were sent. A key whose message is dead is looked
        at like any other: the journal knows the message."""
        self.outdated = 0
        for transform in self._pipeline.transforms:
            etag = partial(self._etag, transform.name)
            looked = look(transform, self._lake, etag=etag, dead=True, changed=self._changed, note_outdated=True)
            for some in batched(looked, self._most):
                self.outdated += sum(item.outdated for item in some)
                yield self._send(transform.name, some)

    def _etag(self, transform: str, head: Head) -> str | None:
        """The etag of a bronze object. None, to leave it alone: its silver was made since the start, or its file has
        changed and was not noticed yet."""
        bucket = self._pipeline.bronze
        if not self.finished and self._journal.row(
            "done_since", bucket=bucket, key=head.key, transform=transform, since=self._since
        ):
            return None
        row = self._journal.row("object", bucket=bucket, key=head.key)
        glance = self._bronze.glance(head.key)
        if row is None or glance is None or row[0].removesuffix(DOUBTFUL) != glance.identity:
            return None
        return str(row[1])

    def _send(self, transform: str, looked: Sequence[Looked]) -> int:
        findings = [item.finding for item in looked if item.finding and item.finding.is_to_be_sent]
        if not findings:
            return 0
        route = self._routes[transform]
        waiting = pending(self._journal, route, {finding.key: finding.etag for finding in findings})
        events = [finding.event(self._pipeline.bronze) for finding in findings if finding.key not in waiting]
        if events:
            send(self._journal, route.queue, events, reason="reconcile", now=self._now)
        return len(events)


def send_silver(
    journal: Journal, route: Route, keys: Sequence[str], *, bronze: str, silver: str, reason: str, now: float
) -> int:
    """Put events of silver, by its keys, in the queue of the tables. Returns how many were sent.

    A key that a message is about already is left out, also where that message is dead: those are for a person.
    ``bronze`` and ``silver`` are the buckets' names, ``now`` is in Unix seconds.
    """
    waiting = _silver_waiting(journal, route, keys)
    messages = []
    for key in keys:
        if key not in waiting:
            row = journal.row("object", bucket=bronze, key=bronze_key_of(key))
            body = object_created(ObjectEvent(silver, key), reason=reason)
            version = row[2] if row else ""
            messages.append(ServiceMessage("", route.queue.arn, "", bronze_key_of(key), version, body, now))
    if messages:
        _send(journal, route.queue, messages, reason=reason, now=now)
    return len(messages)


def _silver_waiting(journal: Journal, route: Route, keys: Sequence[str]) -> set[str]:
    """The silver keys that messages are about, among those that are kept under the bronze keys of these."""
    waiting: set[str] = set()
    for _, _, body in _messages(journal, route, [bronze_key_of(key) for key in keys]):
        with suppress(NotAnEvent):
            waiting |= {event.key for event in unwrap(body)}
    return waiting


class TableRounds:
    """The rounds that compare tables with silver, and send the differences.

    Args:
        journal: the engine's.
        route: where messages for the tables can be.
        bronze: the name of the bronze bucket.
        silver: the name of the silver bucket.
        every: seconds between two rounds.
    """

    def __init__(self, journal: Journal, route: Route, *, bronze: str, silver: str, every: float = EVERY) -> None:
        self._journal = journal
        self._route = route
        self._bronze = bronze
        self._silver = silver
        self._every = every
        self._due = float("-inf")
        self._is_asked = False
        self.finished = 0
        #: Of the last round, by table or view why it failed.
        self.failed: Mapping[str, str] = {}

    def is_due(self, now: float) -> bool:
        """Whether a round is to begin. ``now``: Unix time."""
        return not self._is_asked and not 0 < self._due - now <= self._every  # a clock may be set back

    def again(self) -> None:
        """Have a round begin soon."""
        self._due = float("-inf")

    def begin(self) -> None:
        """A process was asked."""
        self._is_asked = True
        self._due = float("inf")

    def end(self, answer: Mapping[str, Any] | None, reason: str, now: float) -> None:
        """A process has answered, or has failed for this reason."""
        self._is_asked = False
        if self._due == float("inf"):  # else the next one is due already
            self._due = now + self._every
        self.finished += 1
        self.failed = {"the comparison": reason} if answer is None else answer["failed"]
        for some in batched(answer["differing"] if answer is not None else (), MOST):
            send_silver(
                self._journal, self._route, some, bronze=self._bronze, silver=self._silver, reason="reconcile", now=now
            )
