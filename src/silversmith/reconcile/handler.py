"""The Lambda entry point of the scheduled reconciliation: looks, and sends what events missed to the queues.

The schedule's input says which queue is whose: ``{"queues": {"orders": "https://sqs…"}}``, and likewise ``"dead"``, the
dead-letter queues. With ``"changed": true`` in it, what other code made is found, too; ``"settled_seconds"`` is how
long an object is left to its own event; ``"round"`` names the round, so that one which is invoked twice is done once;
``"follow": true`` has it follow a round that is going on. ``"hops"`` are checked when the round begins.

When the time runs out, the function invokes itself with the same input, for the next step of the round. Where the round
is, and whose turn, is in its lease (``lease.py``): an invocation that is lost costs one round, no more, and one that
comes twice does nothing. docs/reconcile.md
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import count, dropwhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from silversmith.errors import NotOurs, SilversmithError
from silversmith.events import ObjectEvent, object_created
from silversmith.function.telemetry import document, printed, request, set_up
from silversmith.lineage import Decision, error_key
from silversmith.pipeline import Pipeline, Transform, load
from silversmith.reconcile.compare import Finding, Looked, look, speaks_of
from silversmith.reconcile.lease import Keeper, Lease, NotNext, lease_key
from silversmith.schemas import Owner
from silversmith.stores import Lake, batched

if TYPE_CHECKING:
    from silversmith.reconcile.hops import Client, Problem

#: What landed less than so many seconds ago is left to its own event, unless the schedule's input says otherwise.
SETTLED_SECONDS = 3_600

#: Only what is older than this counts as missing, whatever the schedule's input says.
MISSING_AFTER = timedelta(hours=1)

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

#: What the scheduler's keywords begin with: what still has one was not put in by the scheduler, and names no round.
#: https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-context-attributes.html
KEYWORD = "<aws.scheduler."


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
    """A queue did not take a message. The step ends; Lambda tries it again from where it began."""


class NoProgress(SilversmithError):
    """An invocation ended where it began; another one would, too, and for ever."""


@dataclass(frozen=True)
class Place:
    """Where a round is: at a transform, after a key. ``waiting`` is how many messages its queue had when its turn came,
    ``missed`` how many of its files so far look as if their events were lost."""

    transform: str
    after: str = ""
    waiting: int = 0
    missed: int = 0


@dataclass(frozen=True)
class Progress:
    """How far a round is, as the lease keeps it.

    ``begun`` is when it began; ``missing`` counts the files of finished transforms whose events were lost; ``marks``
    are what the next rounds are to know of these transforms: see :class:`Window`.
    """

    begun: datetime
    place: Place | None = None
    missing: int = 0
    marks: Mapping[str, Mapping[str, str]] | None = None

    @staticmethod
    def of(values: Mapping[str, Any], now: datetime) -> Progress:
        """From the lease's JSON values; that of a round which begins now, where they are empty."""
        if not values:
            return Progress(now)
        place = Place(**values["place"]) if values["place"] else None
        return Progress(datetime.fromisoformat(values["begun"]), place, values["missing"], values["marks"])

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "begun": self.begun.isoformat()}


@dataclass(frozen=True)
class Window:
    """When an object must have landed for the round to count it as missing: since the end of the last round's window,
    so that each is counted once. Before there is such a round, and after the pattern changed, nothing counts: what
    landed before a transform wanted it has no event."""

    since: datetime | None
    until: datetime

    @staticmethod
    def of(transform: Transform, memory: Mapping[str, Any], until: datetime) -> Window:
        """``memory`` is what the rounds before left."""
        mark = memory.get(transform.name)
        if not isinstance(mark, dict) or mark.get("pattern") != transform.pattern.text:
            return Window(None, until)
        return Window(datetime.fromisoformat(mark["until"]), until)

    def has(self, modified: datetime | None) -> bool:
        """Whether an object of this time counts."""
        return self.since is not None and modified is not None and self.since <= modified < self.until

    def mark(self, transform: Transform) -> dict[str, str]:
        """What to leave to the next round."""
        return {"pattern": transform.pattern.text, "until": self.until.isoformat()}


class Reconciler:
    """Does a round, or as much of it as there is time for.

    Args:
        pipeline: whose transforms.
        bucket: the bronze bucket's name.
        lake: the buckets.
        lease: the key of the lease, in quarantine.
        queue: opens a queue by its URL.
        owner: whose silver it should be; None: nobody minds.
        again: invokes this function once more, asynchronously, with an event.
        check: what is wrong with the hops that an event names.
        measure: told the values of metrics by their names.
        now: the time of day, in UTC.
        log: told what was done, as JSON values.
        batch: how many keys are looked at before what was found is sent.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        bucket: str,
        lake: Lake,
        lease: str,
        queue: Callable[[str], Queue],
        again: Callable[[dict[str, Any]], None],
        owner: Owner | None = None,
        check: Callable[[Mapping[str, Any]], Sequence[Problem]] = lambda _: (),
        measure: Callable[[Mapping[str, int]], None] = lambda _: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        log: Callable[[dict[str, Any]], None] = lambda _: None,
        batch: int = BATCH,
    ) -> None:
        self._pipeline = pipeline
        self._bucket = bucket
        self._lake = lake
        self._lease = lease
        self._queue = queue
        self._again = again
        self._owner = owner
        self._check = check
        self._measure = measure
        self._now = now
        self._log = log
        self._batch = batch

    def __call__(self, event: Mapping[str, Any], context: Context) -> dict[str, Any]:
        """Do the step that the event names. Returns ``{"done": …}``, False if another invocation does the rest, or
        ``{"refused": why}`` where it is not this one's turn.

        Raises:
            NotSent: see there.
            NoProgress: not one key could be looked at in the time of an invocation.
        """
        round_id, step = _round(event, context), _step(event)
        keeper = Keeper(self._lake.quarantine, self._lease, owner=uuid.uuid4().hex, now=self._now)
        try:
            held = keeper.begin(round_id, step, _wish(event, round_id))
        except NotNext as refused:
            self._log({"refused": str(refused), "round": round_id, "step": step})
            return {"refused": str(refused)}
        turn = _Turn(keeper, held, event, context)
        try:
            return self._work(turn)
        except Exception:
            with suppress(Exception):  # what went wrong first is what must be told
                keeper.fail(turn.lease, step)
            raise

    def _work(self, turn: _Turn) -> dict[str, Any]:
        begun = Progress.of(turn.lease.progress, self._now())
        if not turn.lease.progress:
            self._look_at_hops(turn.event)
        progress = self._transforms(begun, turn)
        if progress.place is None:
            return self._finish(turn, progress)
        if begun.place is not None and _spot(progress.place) == _spot(begun.place):
            place = progress.place
            raise NoProgress(
                f"the transform {place.transform} is still at {place.after!r}: give the function more time"
            )
        turn.lease = turn.keeper.hand_on(turn.lease, progress.to_dict())
        self._again({**turn.event, "round": turn.lease.round, "step": turn.lease.step})
        return {"done": False}

    def _finish(self, turn: _Turn, progress: Progress) -> dict[str, Any]:
        """What was found out is told before the round is done: a crash between has it told twice, never never."""
        self._measure({"Missing": progress.missing})
        names = {transform.name for transform in self._pipeline.transforms}
        memory = {**turn.lease.memory, **(progress.marks or {})}
        kept = {name: mark for name, mark in memory.items() if name in names}
        turn.lease = turn.keeper.finish(turn.lease, kept)
        if turn.lease.wish:
            self._again({**turn.event, **turn.lease.wish, "step": 0})
        return {"done": True}

    def _look_at_hops(self, event: Mapping[str, Any]) -> None:
        hops = event.get("hops")
        if not isinstance(hops, dict):
            return
        problems = self._check(hops)
        for problem in problems:
            self._log({"hop": problem.to_dict()})
        self._measure({"ChainBroken": sum(problem.is_known for problem in problems)})

    def _transforms(self, progress: Progress, turn: _Turn) -> Progress:
        """How far the round is when the time is up; without a place: through."""
        todo: Sequence[Transform] = self._pipeline.transforms
        if progress.place is not None:
            name = progress.place.transform
            todo = list(dropwhile(lambda transform: transform.name != name, todo))
        for transform in todo:
            place = progress.place if progress.place is not None else Place(transform.name)
            progress = self._transform(transform, place, replace(progress, place=None), turn)
            if progress.place is not None:
                break
        return progress

    def _transform(self, transform: Transform, place: Place, progress: Progress, turn: _Turn) -> Progress:
        """With a place: there the time ran out."""
        url = turn.event["queues"].get(transform.name)
        if url is None:
            return progress  # it was declared after the stack was deployed
        queue = self._queue(url)
        told = {"transform": transform.name, "after": place.after}
        if not place.after:  # later they may be what this very round has sent
            place = replace(place, waiting=queue.waiting())
            if place.waiting > BUSY:
                self._log({**told, "skipped": True, "waiting": place.waiting})
                return progress
        settled = timedelta(seconds=turn.event.get("settled_seconds", SETTLED_SECONDS))
        window = Window.of(transform, turn.lease.memory, progress.begun - max(settled, MISSING_AFTER))
        checked, sent, orphaned, foreign = 0, 0, 0, 0
        try:
            looked = look(
                transform,
                self._lake,
                changed=turn.event.get("changed") is True,
                after=place.after,
                settled=progress.begun - settled,
                workers=WORKERS,
                owner=self._owner,
            )
        except NotOurs as error:  # nothing that is sent would be done
            self._log({**told, "skipped": True, "error": str(error)})
            return progress
        for some in batched(looked, self._batch):
            findings = [item.finding for item in some if item.finding is not None]
            wrong = [finding for finding in findings if finding.is_to_be_sent]
            self._send(queue, wrong)
            checked, sent = checked + len(some), sent + len(wrong)
            orphaned += sum(finding.kind is Decision.ORPHANED for finding in findings)
            foreign += sum(finding.kind is Decision.FOREIGN for finding in findings)
            missed = sum(self._is_missed(finding, window) for finding in wrong)
            place = replace(place, after=_last_place(some) or place.after, missed=place.missed + missed)
            if len(some) == self._batch and turn.context.get_remaining_time_in_millis() < RESERVE:
                self._log({**told, **_totals(checked, sent, orphaned, foreign), "stopped": place.after})
                return replace(progress, place=place)
        missing = self._missing(place, turn.event)
        self._log({**told, **_totals(checked, sent, orphaned, foreign), "missing": missing})
        marks = {**(progress.marks or {}), transform.name: window.mark(transform)}
        return replace(progress, missing=progress.missing + missing, marks=marks)

    def _is_missed(self, finding: Finding, window: Window) -> bool:
        """An error document of these bytes by other code, or with other lookups, says that their event came."""
        if finding.kind is Decision.OUTDATED or not window.has(finding.modified):
            return False
        said = self._lake.quarantine.read(error_key(finding.transform, finding.key))
        return said is None or speaks_of(said)[0] != finding.etag

    def _missing(self, place: Place, event: Mapping[str, Any]) -> int:
        """How many events of a transform were lost, at least: each message that waited, or lies in its dead-letter
        queue, may be of one of the files that were found."""
        missed = place.missed - place.waiting
        url = event.get("dead", {}).get(place.transform)
        if missed > 0 and url is not None:
            missed -= self._queue(url).waiting()
        return max(0, missed)

    def _send(self, queue: Queue, findings: Sequence[Finding]) -> None:
        for some in batched(findings, MESSAGES):
            queue.send([_body(finding.event(self._bucket)) for finding in some])


def _totals(checked: int, sent: int, orphaned: int, foreign: int) -> dict[str, int]:
    return {"checked": checked, "sent": sent, "orphaned": orphaned, **({"foreign": foreign} if foreign else {})}


@dataclass
class _Turn:
    """An invocation that has the lease, and the lease as it is now."""

    keeper: Keeper
    lease: Lease
    event: Mapping[str, Any]
    context: Context


def _round(event: Mapping[str, Any], context: Context) -> str:
    """Which round it is: as the event says, or one of its own. Lambda gives a retried invocation the id that it had."""
    named = event.get("round")
    if isinstance(named, str) and named and KEYWORD not in named:
        return named
    return str(getattr(context, "aws_request_id", "")) or uuid.uuid4().hex


def _step(event: Mapping[str, Any]) -> int:
    step = event.get("step", 0)
    return step if isinstance(step, int) else 0


def _wish(event: Mapping[str, Any], round_id: str) -> dict[str, Any]:
    """What is put into the lease of a round that is going on, where this one is to follow it."""
    if event.get("follow") is not True:
        return {}
    settled = {name: event[name] for name in ("settled_seconds",) if name in event}
    return {"round": round_id, "follow": True, **settled}


def _spot(place: Place) -> tuple[str, str]:
    return place.transform, place.after


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


def build(
    environment: Mapping[str, str], *, s3: Any, sqs: Any, functions: Any, client: Client | None = None
) -> Reconciler:
    """The reconciler that an environment describes.

    Args:
        environment: as :func:`handler` has it.
        s3: a boto3 client, as are the next two.
        sqs: likewise.
        functions: of Lambda.
        client: makes the clients that hops are checked with, by default with short timeouts: in a VPC a service may be
            out of reach.

    Raises:
        DefinitionError: ``SILVERSMITH_PIPELINE`` is none.
    """
    from silversmith.reconcile.hops import Hops, check
    from silversmith.stores.s3 import S3Store

    function, bronze = environment["AWS_LAMBDA_FUNCTION_NAME"], environment["SILVERSMITH_BRONZE"]
    metrics = environment.get("SILVERSMITH_METRICS", "on").lower() != "off"

    def bucket(name: str) -> S3Store:
        return S3Store(environment[f"SILVERSMITH_{name}"], client=s3, scratch=Path(tempfile.gettempdir()))

    def again(event: dict[str, Any]) -> None:
        functions.invoke(FunctionName=function, InvocationType="Event", Payload=json.dumps(event))

    def measure(values: Mapping[str, int]) -> None:
        if metrics:
            printed(json.dumps(document(values, {"FunctionName": function}, at=datetime.now(UTC))))

    return Reconciler(
        load(environment["SILVERSMITH_PIPELINE"]),
        bucket=bronze,
        lake=Lake(bucket("BRONZE"), bucket("SILVER"), bucket("QUARANTINE")),
        lease=lease_key(function),
        queue=lambda url: SqsQueue(url, sqs),
        again=again,
        owner=Owner.of(environment),
        check=lambda hops: check(Hops.of(hops, bronze), client or quick_client),
        measure=measure,
        log=_tell,
    )


#: As many seconds a check of a hop may take as a function of that timeout would give one request: two short attempts.
_QUICK = 35.0


def quick_client(service: str) -> Any:
    """A client to check hops with, which does not wait long: in a VPC a service may be out of reach."""
    from silversmith.stores.s3 import aws_client

    return aws_client(service, time_limit=_QUICK)


def _tell(told: dict[str, Any]) -> None:
    """A line of the log."""
    if "hop" in told:
        _log.log(logging.ERROR if told["hop"]["known"] else logging.WARNING, "%s", told["hop"]["found"], extra=told)
        return
    message = next((name for name in ("refused", "skipped") if told.get(name)), "reconciled")
    _log.log(logging.ERROR if "error" in told else logging.INFO, message, extra=told)
