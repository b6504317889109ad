"""The engine's own rounds of reconciliation, and messages that are sent once more.

All of it is written to the journal: a running engine sees it within a fifth of a second, the next one at its start.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import orjson

from silversmith import faults
from silversmith.events import NotAnEvent, ObjectEvent, object_created, unwrap
from silversmith.local import stack as stacks
from silversmith.local.bucket import DOUBTFUL
from silversmith.local.journal import Journal
from silversmith.local.post import Note, Post, note, write
from silversmith.local.queue import Queue, redrive, take_dead
from silversmith.local.stack import Stack
from silversmith.pipeline import Pipeline
from silversmith.reconcile.compare import Looked, look
from silversmith.stores import Head, Lake, batched
from silversmith.stores.local import LocalStore

#: What the trace says of a message, by what it was sent for.
DONE = {"reconcile": "reconciled", "redrive": "redriven", "replay": "replayed"}


@dataclass(frozen=True)
class Places:
    """Where the messages of one transform can be: its queue, and the ARNs of all dead-letter queues on the way."""

    queue: stacks.Queue
    dead_letters: tuple[str, ...]


def places(stack: Stack) -> dict[str, Places]:
    """By transform, where its messages can be."""
    functions = {function.arn: function for function in stack.functions}
    queues = {queue.arn: queue for queue in stack.queues}
    of_rules = [target.dead_letter_arn for rule in stack.rules for target in rule.targets]
    found = {}
    for mapping in stack.mappings:
        queue = queues[mapping.queue_arn]
        after = [item.dead_letter_arn for item in stack.subscriptions if item.queue_arn == queue.arn]
        dead = dict.fromkeys(arn for arn in (queue.dead_letter_arn, *after, *of_rules) if arn)
        transform = functions[mapping.function_arn].environment["SILVERSMITH_TRANSFORM"]
        found[transform] = Places(queue, tuple(dead))
    return found


def bus_arn(stack: Stack) -> str:
    """The ARN of the bus that the bucket's events go to."""
    return f"arn:aws:events:{stack.region}:{stack.account}:event-bus/default"


def send(journal: Journal, queue: stacks.Queue, events: Sequence[ObjectEvent], *, reason: str, now: float) -> None:
    """Put events in a transform's queue, all of them or none. ``now`` in Unix seconds.

    An event of a version that the bucket room has noticed gets that version's id, so that the trace stays in one piece.
    """
    known = [_with_version(journal, event) for event in events]
    posts = [
        Post(0, "", queue.arn, "", event.key, event.version, object_created(event, reason=reason), now)
        for event in known
    ]
    with journal.transaction():
        write(journal, notes=[_note(post.key, post.version, reason, now, to=queue.name) for post in posts])
        Queue(journal, queue).accept(posts, now)
        journal.count(f"operations.{DONE[reason]}", len(posts))
        faults.point("resend.before_commit")
    faults.point("resend.after_commit")


def _with_version(journal: Journal, event: ObjectEvent) -> ObjectEvent:
    found = journal.row("object", bucket=event.bucket, key=event.key)
    if found is None or event.version or event.etag not in {"", found[1]}:
        return event
    return replace(event, etag=found[1], version=found[2], sequencer=found[3], size=found[4])


def back_to_queue(journal: Journal, message_id: str, queue: stacks.Queue, *, now: float) -> bool:
    """Move a message from its dead-letter queue to a queue, as new. In the caller's transaction. False: it is not dead.

    As on SQS it gets a new id and its retention starts again; body, key and version stay.
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-configure-dead-letter-queue-redrive.html
    """
    moved = redrive(journal, message_id, queue, now=now)
    for key, version, row in moved:
        _tell(journal, key, version, now, to=queue.name, message=row)
    return bool(moved)


def back_to_bus(journal: Journal, message_id: str, *, source: str, bus: str, now: float) -> bool:
    """Move a message from a rule's dead-letter queue to the bus, where the rules as they are now see it.

    In the caller's transaction. False: it is not dead. ``source`` is the bucket's ARN, ``bus`` the bus's.
    """
    taken = take_dead(journal, message_id)
    for key, version, body in taken:
        write(journal, posts=[(source, bus, "", key, version, body, now, now)])
        _tell(journal, key, version, now, to="bus")
    return bool(taken)


def _tell(journal: Journal, key: str, version: str, now: float, *, to: str, message: int | None = None) -> None:
    write(journal, notes=[_note(key, version, "redrive", now, to=to, message=message)])
    journal.count(f"operations.{DONE['redrive']}")
    faults.point("redrive.before_commit")


def _note(key: str, version: str, reason: str, now: float, *, to: str, message: int | None = None) -> Note:
    detail = {"to": to}
    return note(key, version, at=now, room="operations", name=reason, what=DONE[reason], detail=detail, message=message)


def waiting(journal: Journal, places: Places, etags: Mapping[str, str]) -> set[str]:
    """Of these keys, those of which a message is still to be worked on, or lies in a dead-letter queue.

    Args:
        etags: by key, the etag of the bronze object as it is. A message of other bytes does not count: it may be dead,
            or worked on at this moment by somebody who read those.
    """
    found: set[str] = set()
    keys = orjson.dumps(list(etags)).decode()
    queues = orjson.dumps([places.queue.arn, *places.dead_letters]).decode()
    words = journal.rows("word_of", queues=queues, keys=keys)
    on_the_way = journal.rows("word_on_the_way", keys=keys)
    # What is on the way to another transform's queue is no word of this one's.
    words += [row for row in on_the_way if row[0] == places.queue.arn or ":sqs:" not in row[0]]
    for _, key, body in words:
        if key in etags and etag_in(body) in {"", etags[key]}:  # SQLite's JSON cuts a text at a NUL
            found.add(key)
    return found


def etag_in(body: bytes) -> str:
    """The etag that a message speaks of; empty where it speaks of none."""
    try:
        return next((event.etag for event in unwrap(body)), "")
    except NotAnEvent:
        return ""


#: The pause between the end of one round and the beginning of the next, in seconds.
EVERY = 3600.0

#: How many keys one step looks at: some ten milliseconds.
MOST = 50


class Rounds:
    """Looks for what is missing or stale, step by step, and sends it to its queue.

    Args:
        pipeline: whose transforms.
        lake: its buckets.
        bronze: the folder of the bronze bucket.
        journal: the engine's; steps are to be taken in its thread.
        places: by transform, where its messages can be; see :func:`silversmith.local.rounds.places`.
        since: what the journal says was done later than this, in Unix seconds, the first round believes.
        every: seconds between two rounds.
        most: how many keys one step looks at.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        lake: Lake,
        bronze: LocalStore,
        journal: Journal,
        places: Mapping[str, Places],
        *,
        since: float = float("inf"),
        every: float = EVERY,
        most: int = MOST,
    ) -> None:
        self._pipeline = pipeline
        self._lake = lake
        self._bronze = bronze
        self._journal = journal
        self._places = places
        self._since = since
        self._every = every
        self._most = most
        self._due = float("-inf")
        self._round: Iterator[int] | None = None
        self._now = 0.0
        self.finished = 0
        self.sent = 0

    @property
    def busy(self) -> bool:
        """Whether a round has begun and not ended: then the next step should not wait for anything."""
        return self._round is not None

    def step(self, now: float) -> int:
        """Look at the next few keys, if a round is due or under way. Returns how many were sent. ``now``: Unix seconds.

        ``finished`` counts the rounds that ended, ``sent`` what the last one sent until now.
        """
        if self._round is None:
            if 0 < self._due - now <= self._every:  # else it is time, or the clock was set back
                return 0
            self._round, self.sent = self._steps(), 0
        self._now = now
        sent = next(self._round, None)
        if sent is None:
            self._round = None
            self._due = now + self._every
            self.finished += 1
        self.sent += sent or 0
        return sent or 0

    def again(self) -> None:
        """Begin the next round with the next step."""
        self._due = float("-inf")

    def _steps(self) -> Iterator[int]:
        """Every key of every transform; after some of them, how many were sent. Of what lies in a dead-letter queue the
        journal knows, so that nothing else is left alone."""
        for transform in self._pipeline.transforms:
            looked = look(transform, self._lake, etag=partial(self._etag, transform.name), dead=True)
            for some in batched(looked, self._most):
                yield self._send(transform.name, some)

    def _etag(self, transform: str, head: Head) -> str | None:
        bucket = self._pipeline.bronze
        if not self.finished and self._journal.row(
            "done_since", bucket=bucket, key=head.key, transform=transform, since=self._since
        ):
            return None
        found = self._journal.row("object", bucket=bucket, key=head.key)
        glance = self._bronze.glance(head.key)
        if found is None or glance is None or found[0].removesuffix(DOUBTFUL) != glance.identity:
            return None
        return str(found[1])

    def _send(self, transform: str, looked: Sequence[Looked]) -> int:
        findings = [item.finding for item in looked if item.finding and item.finding.is_to_be_sent]
        if not findings:
            return 0
        places = self._places[transform]
        on_the_way = waiting(self._journal, places, {finding.key: finding.etag for finding in findings})
        events = [finding.event(self._pipeline.bronze) for finding in findings if finding.key not in on_the_way]
        if events:
            send(self._journal, places.queue, events, reason="reconcile", now=self._now)
        return len(events)
