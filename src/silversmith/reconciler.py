"""The Lambda entry point of the scheduled reconciliation: looks, and sends what events missed to the queues.

The schedule's input says which queue is whose: ``{"queues": {"orders": "https://sqs…"}}``. With ``"changed": true`` in
it, what other code made is found, too; ``"settled_seconds"`` is how long an object is left to its own event.

When the time runs out, the function invokes itself with the same input and the place where it stopped. It remembers
nothing between two rounds: an invocation that is lost costs one round, no more. docs/reconcile.md
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import count, dropwhile
from pathlib import Path
from typing import Any, Protocol

from silversmith.ahead import batched
from silversmith.errors import NotOurs, SilversmithError
from silversmith.events import ObjectEvent, object_created
from silversmith.lineage import Decision
from silversmith.pipeline import Pipeline, Transform, load
from silversmith.reconciliation import Finding, Looked, look
from silversmith.schemas import Owner
from silversmith.stores import Lake
from silversmith.telemetry.lines import request, set_up

#: What landed less than so many seconds ago is left to its own event, unless the schedule's input says otherwise.
SETTLED_SECONDS = 900

#: A transform with more messages waiting than this when its turn comes is left for the next round: what it misses is
#: probably among them, and each round would add another message of it.
BUSY = 1_000

#: So many milliseconds before its end the function hands on what is left.
RESERVE = 30_000

#: How many objects are headed at once, and how many keys looked at before what was found is sent.
WORKERS = 16
BATCH = 500

#: The most that SQS takes at once. https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html
MESSAGES = 10


_log = logging.getLogger(__name__)


class Context(Protocol):
    """What Lambda tells a handler of its invocation.

    https://docs.aws.amazon.com/lambda/latest/dg/python-context.html
    """

    def get_remaining_time_in_millis(self) -> int: ...


class Queue(Protocol):
    """A transform's queue."""

    def waiting(self) -> int:
        """About how many messages are to be received or being worked on."""

    def send(self, bodies: Sequence[str]) -> None:
        """Send up to :data:`MESSAGES` messages, all of them.

        Raises:
            NotSent: the queue did not take one.
        """


class NotSent(SilversmithError):
    """A queue did not take a message. The round ends; Lambda tries it again from where it began."""


class NoProgress(SilversmithError):
    """An invocation ended where it began; another one would, too, and for ever."""


@dataclass(frozen=True)
class Place:
    """Where a round stopped: at a transform, after a key."""

    transform: str
    after: str

    @staticmethod
    def of(event: Mapping[str, Any]) -> Place | None:
        """The place that an earlier invocation put into its event; None in the schedule's own."""
        found = event.get("place")
        return Place(str(found["transform"]), str(found["after"])) if isinstance(found, dict) else None


class Reconciler:
    """Does a round, or as much of it as there is time for.

    Args:
        pipeline: whose transforms.
        bucket: the bronze bucket's name.
        lake: the buckets.
        queue: opens a queue by its URL.
        owner: whose silver it should be; None: nobody minds.
        again: invokes this function once more, asynchronously, with an event.
        now: the time of day, in UTC.
        log: told what was done, as JSON values.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        bucket: str,
        lake: Lake,
        queue: Callable[[str], Queue],
        again: Callable[[dict[str, Any]], None],
        owner: Owner | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        log: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> None:
        self._pipeline = pipeline
        self._bucket = bucket
        self._lake = lake
        self._queue = queue
        self._again = again
        self._owner = owner
        self._now = now
        self._log = log

    def __call__(self, event: Mapping[str, Any], context: Context) -> dict[str, Any]:
        """Go on where the event says. Returns ``{"done": …}``, False if another invocation does the rest.

        Raises:
            NotSent: see there.
            NoProgress: not one key could be looked at in the time of an invocation.
        """
        begun = Place.of(event)
        todo: Sequence[Transform] = self._pipeline.transforms
        if begun is not None:
            todo = list(dropwhile(lambda transform: transform.name != begun.transform, todo))
        for transform in todo:
            after = begun.after if begun is not None and begun.transform == transform.name else ""
            stopped = self._transform(transform, after, event, context)
            if stopped is None:
                continue
            if stopped == begun:
                raise NoProgress(
                    f"the transform {transform.name} is still at {stopped.after!r}: give the function more time"
                )
            self._again({**event, "place": {"transform": stopped.transform, "after": stopped.after}})
            return {"done": False}
        return {"done": True}

    def _transform(self, transform: Transform, after: str, event: Mapping[str, Any], context: Context) -> Place | None:
        """None: all of it is done. Otherwise where the time ran out."""
        url = event["queues"].get(transform.name)
        if url is None:
            return None  # it was declared after the stack was deployed
        queue = self._queue(url)
        told = {"transform": transform.name, "after": after}
        if not after and (waiting := queue.waiting()) > BUSY:  # later they may be what this very round has sent
            self._log({**told, "skipped": True, "waiting": waiting})
            return None
        checked, found, orphaned, foreign = 0, 0, 0, 0
        try:
            looked = look(
                transform,
                self._lake,
                changed=event.get("changed") is True,
                after=after,
                settled=self._now() - timedelta(seconds=event.get("settled_seconds", SETTLED_SECONDS)),
                workers=WORKERS,
                owner=self._owner,
            )
        except NotOurs as error:  # nothing that is sent would be done
            self._log({**told, "skipped": True, "error": str(error)})
            return None
        for some in batched(looked, BATCH):
            findings = [item.finding for item in some if item.finding is not None]
            wrong = [finding for finding in findings if finding.is_to_be_sent]
            self._send(queue, wrong)
            checked, found = checked + len(some), found + len(wrong)
            orphaned += sum(finding.kind is Decision.ORPHANED for finding in findings)
            foreign += sum(finding.kind is Decision.FOREIGN for finding in findings)
            after = _last_place(some) or after
            if len(some) == BATCH and context.get_remaining_time_in_millis() < RESERVE:
                self._log({**told, **_totals(checked, found, orphaned, foreign), "stopped": after})
                return Place(transform.name, after)
        self._log({**told, **_totals(checked, found, orphaned, foreign)})
        return None

    def _send(self, queue: Queue, findings: Sequence[Finding]) -> None:
        for some in batched(findings, MESSAGES):
            queue.send([_body(finding.event(self._bucket)) for finding in some])


def _totals(checked: int, sent: int, orphaned: int, foreign: int) -> dict[str, int]:
    return {"checked": checked, "sent": sent, "orphaned": orphaned, **({"foreign": foreign} if foreign else {})}


def _body(event: ObjectEvent) -> str:
    return object_created(event, reason="reconcile").decode()


def _last_place(looked: Sequence[Looked]) -> str:
    return next((item.after for item in reversed(looked) if item.after), "")


def handler(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """What Lambda calls. Configured by the environment that the template sets: ``SILVERSMITH_PIPELINE``,
    ``SILVERSMITH_BRONZE``, ``SILVERSMITH_SILVER``, ``SILVERSMITH_QUARANTINE``."""
    with request(context):
        return _from_environment()(event, context)


class SqsQueue:
    """A :class:`Queue` on SQS. ``client`` is a boto3 SQS client, ``tries`` how often a message is sent at the most."""

    def __init__(self, url: str, client: Any, *, tries: int = 3) -> None:
        self._url = url
        self._client = client
        self._tries = tries

    def waiting(self) -> int:
        """https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html"""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self._client.get_queue_attributes(QueueUrl=self._url, AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)

    def send(self, bodies: Sequence[str]) -> None:
        """SQS may take some of a batch and refuse others, which are then sent once more."""
        left = [{"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies)]
        for attempt in count(1):
            response = self._client.send_message_batch(QueueUrl=self._url, Entries=left)
            refused = {item["Id"]: item for item in response.get("Failed", ())}
            if not refused:
                return
            left = [entry for entry in left if entry["Id"] in refused]
            if attempt == self._tries:
                reasons = ", ".join(sorted({f"{item['Code']}: {item.get('Message', '')}" for item in refused.values()}))
                raise NotSent(f"{self._url} did not take {len(left)} messages: {reasons}")


@cache
def _from_environment() -> Reconciler:
    """Built once per execution environment."""
    from silversmith.stores.s3 import aws_client

    set_up()
    # Its timeout is Lambda's longest: one request with all its retries takes less.
    return build(os.environ, s3=aws_client("s3"), sqs=aws_client("sqs"), functions=aws_client("lambda"))


def build(environment: Mapping[str, str], *, s3: Any, sqs: Any, functions: Any) -> Reconciler:
    """The reconciler that an environment describes. ``s3``, ``sqs`` and ``functions``, of Lambda, are boto3 clients.

    Raises:
        DefinitionError: ``SILVERSMITH_PIPELINE`` is none.
    """
    from silversmith.stores.s3 import S3Store

    def bucket(name: str) -> S3Store:
        return S3Store(environment[f"SILVERSMITH_{name}"], client=s3, scratch=Path(tempfile.gettempdir()))

    def again(event: dict[str, Any]) -> None:
        functions.invoke(
            FunctionName=environment["AWS_LAMBDA_FUNCTION_NAME"], InvocationType="Event", Payload=json.dumps(event)
        )

    def log(told: dict[str, Any]) -> None:
        level = logging.ERROR if "error" in told else logging.INFO
        _log.log(level, "skipped" if told.get("skipped") else "reconciled", extra=told)

    return Reconciler(
        load(environment["SILVERSMITH_PIPELINE"]),
        bucket=environment["SILVERSMITH_BRONZE"],
        lake=Lake(bucket("BRONZE"), bucket("SILVER"), bucket("QUARANTINE")),
        queue=lambda url: SqsQueue(url, sqs),
        again=again,
        owner=Owner.of(environment),
        log=log,
    )
