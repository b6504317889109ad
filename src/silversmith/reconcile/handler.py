"""The Lambda entry point of the scheduled reconciliation: looks, and sends what events missed to the queues.

The schedule's input says which queue is whose: ``{"queues": {"orders": "https://sqs…"}}``, and likewise ``"dead"``, the
dead-letter queues. With ``"changed": true`` in it, what other code made is found, too; ``"settled_seconds"`` is how
long an object is left to its own event; ``"round"`` names the round, so that one which is invoked twice is done once;
``"follow": true`` has it follow a round that is going on. ``"hops"`` are checked when the round begins. Where the
lineage is a table, ``"tables"`` is their queue, ``"buckets"`` the names of silver and quarantine, and ``"prove": true``
proves the table against silver's listing, which a round does by itself when that was a week ago.

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
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from itertools import dropwhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from silversmith.errors import NotOurs, SilversmithError
from silversmith.events import ObjectEvent, object_created
from silversmith.function.retries import parse
from silversmith.lineage import SILVER_ENDING, Decision, error_key
from silversmith.pipeline import Pipeline, Transform, load
from silversmith.reconcile.compare import Finding, Looked, comparison_of, look
from silversmith.reconcile.difference import ComparedRange, KeyRange, LineageComparison, Proof, ranges_of
from silversmith.reconcile.lease import Keeper, Lease, NotNext, lease_key
from silversmith.reconcile.rows import LineageRows, LineageSource, LineageUnreadable, existing
from silversmith.runtime.queue import BUSY, SENT_AT_ONCE, InvocationContext, Queue, SqsQueue
from silversmith.runtime.telemetry import document, printed, request, set_up
from silversmith.schemas import Owner
from silversmith.stores import Lake, batched

if TYPE_CHECKING:
    from silversmith.reconcile.hops import Client, Problem

#: What landed less than so many seconds ago is left to its own event, unless the schedule's input says otherwise.
SETTLED_SECONDS = 3_600

#: Only what is older than this counts as missing, whatever the schedule's input says.
MISSING_AFTER = timedelta(hours=1)

#: So many milliseconds before its end the function hands on what is left.
RESERVE = 30_000

#: How many objects are headed at once, and how many keys looked at before what was found is sent.
WORKERS = 16
BATCH = 500

#: Into so many ranges of keys a transform with a lineage is split, and so many of them are compared at once.
RANGES, LISTERS = 128, 32

#: One silver object of so many is headed in each round to prove the lineage; after so long a round lists silver, too.
PROVEN_SHARE, PROVEN_AFTER = 10_000, timedelta(days=7)

#: What a queue's metric says of its oldest message may be so much behind.
METRIC_DELAY = timedelta(minutes=15)

#: What the scheduler's keywords begin with: what still has one was not put in by the scheduler, and names no round.
#: https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-context-attributes.html
KEYWORD = "<aws.scheduler."


_log = logging.getLogger(__name__)


class NoProgress(SilversmithError):
    """An invocation ended where it began; another one would, too, and for ever."""


@dataclass(frozen=True)
class Cursor:
    """The place of a round: at a transform, after a key. ``waiting`` is how many messages its queue had at its turn,
    ``missed`` how many of its files so far look as if their events were lost, ``settled`` for how many seconds objects
    are left to their events. With a lineage, ``ranges`` are the keys that are left; ``prove``: silver is listed, too.
    """

    transform: str
    after: str = ""
    waiting: int = 0
    missed: int = 0
    settled: float | None = None
    ranges: Sequence[Sequence[str]] | None = None
    prove: bool = False

    @property
    def place(self) -> tuple[object, ...]:
        """The part that changes with progress."""
        return self.transform, self.after, [tuple(keys) for keys in self.ranges or ()]


@dataclass(frozen=True)
class RoundProgress:
    """The progress of a round, as the lease keeps it.

    Attributes:
        begun: when it began.
        place: where it is; None: before its first transform, or through.
        missing: the number of files of finished transforms whose events were lost.
        marks: what the next rounds must know of these transforms: see :class:`Window`.
    """

    begun: datetime
    place: Cursor | None = None
    missing: int = 0
    marks: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @staticmethod
    def of(values: Mapping[str, Any], now: datetime) -> RoundProgress:
        """From the lease's JSON values; empty ones: of a round that begins now."""
        if not values:
            return RoundProgress(now)
        place = Cursor(**values["place"]) if values["place"] else None
        return RoundProgress(datetime.fromisoformat(values["begun"]), place, values["missing"], values["marks"] or {})

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "begun": self.begun.isoformat()}


@dataclass(frozen=True)
class Window:
    """The time in which an object must have landed for the round to count it as missing: since the end of the last
    round's window, so that each is counted once. In the first round, and after the pattern changed, nothing counts: an
    object that landed before the transform wanted it has no event."""

    since: datetime | None
    until: datetime

    @staticmethod
    def of(transform: Transform, memory: Mapping[str, Any], until: datetime) -> Window:
        """``memory`` is what the rounds before have left."""
        mark = memory.get(transform.name)
        if not isinstance(mark, dict) or mark.get("pattern") != transform.pattern.text:
            return Window(None, until)
        return Window(datetime.fromisoformat(mark["until"]), until)

    def has(self, modified: datetime | None) -> bool:
        """Whether an object of this time counts."""
        return self.since is not None and modified is not None and self.since <= modified < self.until

    def mark(self, transform: Transform) -> dict[str, str]:
        """The mark for the next round."""
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
        rows: reads the lineage; None: there is none, and every silver object is headed.
        oldest: how many seconds ago the oldest message of a queue, by its URL, was sent; None: nobody knows.
        listers: how many ranges of keys are compared at once.
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
        check: Callable[[Sequence[Mapping[str, Any]]], Sequence[Problem]] = lambda _: (),
        measure: Callable[[Mapping[str, int]], None] = lambda _: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        log: Callable[[dict[str, Any]], None] = lambda _: None,
        batch: int = BATCH,
        rows: Callable[[], LineageSource | None] = lambda: None,
        oldest: Callable[[str], float | None] = lambda _: None,
        listers: int = LISTERS,
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
        self._rows = rows
        self._oldest = oldest
        self._listers = listers

    def __call__(self, event: Mapping[str, Any], context: InvocationContext) -> dict[str, Any]:
        """Do the step that the event names. Returns ``{"done": …}``, False if another invocation does the rest, or
        ``{"refused": why}`` where it is not this one's turn.

        Raises:
            NotSent: see there.
            NoProgress: not one key could be looked at in the time of an invocation.
        """
        round_id, number = _round(event, context), event.get("step", 0)
        number = number if isinstance(number, int) else 0
        keeper = Keeper(self._lake.quarantine, self._lease, owner=uuid.uuid4().hex, now=self._now)
        try:
            lease = keeper.begin(round_id, number, _wish(event, round_id))
        except NotNext as refused:
            self._log({"refused": str(refused), "round": round_id, "step": number})
            return {"refused": str(refused)}
        step = _Step(keeper, lease, event, context)
        try:
            return self._do(step)
        except Exception:
            with suppress(Exception):  # the first error must be told
                keeper.fail(step.lease, number)
            raise

    def _do(self, step: _Step) -> dict[str, Any]:
        before = RoundProgress.of(step.lease.progress, self._now())
        if not step.lease.progress:
            self._check_hops(step.event)
        after = self._transforms(before, step)
        if after.place is None:
            return self._finish(step, after)
        if before.place is not None and before.place.place == after.place.place:
            raise NoProgress(
                f"the transform {after.place.transform} is still at {after.place.after!r}: give the function more time"
            )
        step.lease = step.keeper.hand_on(step.lease, after.to_dict())
        self._again({**step.event, "round": step.lease.round, "step": step.lease.step})
        return {"done": False}

    def _finish(self, step: _Step, progress: RoundProgress) -> dict[str, Any]:
        """The number of missing files is measured before the round is done: a crash between has it measured twice,
        never not at all."""
        self._measure({"Missing": progress.missing})
        names = {transform.name for transform in self._pipeline.transforms}
        marks = {**step.lease.memory, **progress.marks}
        step.lease = step.keeper.finish(step.lease, {name: mark for name, mark in marks.items() if name in names})
        if step.lease.wish:
            self._again({**step.event, **step.lease.wish, "step": 0})
        return {"done": True}

    def _check_hops(self, event: Mapping[str, Any]) -> None:
        hops = event.get("hops")
        if not isinstance(hops, list):
            return
        problems = self._check(hops)
        for problem in problems:
            self._log({"hop": problem.to_dict()})
        self._measure({"ChainBroken": sum(problem.is_known for problem in problems)})

    def _transforms(self, progress: RoundProgress, step: _Step) -> RoundProgress:
        """The cursor of the round when the time is up; without a place: through."""
        transforms: Sequence[Transform] = self._pipeline.transforms
        place = progress.place
        if place is not None:
            transforms = list(dropwhile(lambda transform: transform.name != place.transform, transforms))
        for transform in transforms:
            cursor = progress.place or Cursor(transform.name)
            progress = self._transform(transform, cursor, replace(progress, place=None), step)
            if progress.place is not None:
                break
        return progress

    def _transform(self, transform: Transform, cursor: Cursor, progress: RoundProgress, step: _Step) -> RoundProgress:
        """Compare one transform from a cursor on. With a place: there the time ran out."""
        url = step.event["queues"].get(transform.name)
        if url is None:
            return progress  # it was declared after the stack was deployed
        queue = self._queue(url)
        line = {"transform": transform.name, "after": cursor.after}
        if cursor.settled is None:  # later they may be the messages that this very round has sent
            waiting = queue.waiting()
            settled = self._settled(url, waiting, step.event)
            if settled is None:
                self._log({**line, "skipped": True, "waiting": waiting})
                return progress
            is_due = self._is_proof_due(transform, progress, step)
            cursor = replace(cursor, waiting=waiting, settled=settled, prove=is_due)
        window_end = progress.begun - max(timedelta(seconds=cursor.settled or 0), MISSING_AFTER)
        window = Window.of(transform, step.lease.memory, window_end)
        try:
            left, parts = self._compared(transform, cursor, progress, step)
        except NotOurs as error:  # nothing that is sent would be done
            self._log({**line, "skipped": True, "error": str(error)})
            return progress
        counts = Counter(checked=0, sent=0, orphaned=0)
        with closing(parts):
            for part in parts:
                findings = [look.finding for look in part.looked if look.finding is not None]
                wrong = [finding for finding in findings if finding.is_to_be_sent]
                for messages in batched(wrong, SENT_AT_ONCE):
                    queue.send([_body(finding.event(self._bucket)) for finding in messages])
                self._tell_tables(part.behind, step.event)
                counts.update(checked=part.checked, sent=len(wrong), behind=len(part.behind), proven=part.proven)
                counts.update(finding.kind.value for finding in findings if not finding.is_to_be_sent)
                missed = sum(self._is_missed(finding, window) for finding in wrong)
                cursor = replace(cursor, missed=cursor.missed + missed)
                if left is None:
                    cursor = replace(cursor, after=part.left.after or cursor.after) if part.left is not None else cursor
                else:
                    left[part.number] = part.left
                is_over = part.left is None and not any(left or ())
                if not is_over and step.context.get_remaining_time_in_millis() < RESERVE:
                    ranges = [keys for keys in left if keys is not None] if left is not None else None
                    self._log({**line, **counts, "stopped": cursor.after or f"{len(ranges or ())} ranges left"})
                    return replace(progress, place=replace(cursor, ranges=ranges))
        missing = self._missing(cursor, step.event)
        self._log(
            {**line, **{name: count for name, count in counts.items() if count or name in _ALWAYS}, "missing": missing}
        )
        proven = progress.begun.isoformat() if cursor.prove else _mark(transform, step.lease.memory).get("proven", "")
        mark = window.mark(transform) | ({"proven": proven} if proven else {})
        return replace(progress, missing=progress.missing + missing, marks={**progress.marks, transform.name: mark})

    def _settled(self, url: str, waiting: int, event: Mapping[str, Any]) -> float | None:
        """For how many seconds objects are left to their own events. Where many messages wait, files that are younger
        than the oldest of them are left to these; if nobody knows its age, the transform is left out: None."""
        settled = float(event.get("settled_seconds", SETTLED_SECONDS))
        if waiting <= BUSY:
            return settled
        oldest = self._oldest(url)
        return None if oldest is None else max(settled, oldest + METRIC_DELAY.total_seconds())

    def _is_proof_due(self, transform: Transform, progress: RoundProgress, step: _Step) -> bool:
        proven = _mark(transform, step.lease.memory).get("proven")
        if step.event.get("prove") is True or not isinstance(proven, str):
            return True
        return progress.begun - datetime.fromisoformat(proven) >= PROVEN_AFTER

    def _compared(
        self, transform: Transform, cursor: Cursor, progress: RoundProgress, step: _Step
    ) -> tuple[list[KeyRange | None] | None, Generator[ComparedRange]]:
        """The ranges that are left, None without a lineage, and the comparison of what is left."""
        options: dict[str, Any] = {
            "changed": step.event.get("changed") is True,
            "settled": progress.begun - timedelta(seconds=cursor.settled or 0),
            "owner": self._owner,
        }
        rows = self._rows()
        if rows is None:
            looked = look(transform, self._lake, after=cursor.after, workers=WORKERS, **options)
            return None, _in_parts(looked, self._batch)
        comparison = comparison_of(transform, self._lake, **options)
        proof = Proof(cursor.prove, PROVEN_SHARE, progress.begun.toordinal())
        ranges = [KeyRange(*keys) for keys in cursor.ranges or ()] or ranges_of(rows, transform.name, RANGES)
        difference = LineageComparison(comparison, rows, proof)
        return [*ranges], difference.parts(ranges, workers=self._listers)

    def _tell_tables(self, keys: Sequence[str], event: Mapping[str, Any]) -> None:
        """Have the lineage look again at objects of silver and quarantine, by their keys."""
        url = event.get("tables")
        if url is None or not keys:
            return
        buckets = event.get("buckets", {})
        names = (buckets.get("silver" if key.endswith(SILVER_ENDING) else "quarantine", "") for key in keys)
        bodies = [_body(ObjectEvent(name, key)) for name, key in zip(names, keys, strict=True)]
        queue = self._queue(url)
        for some in batched(bodies, SENT_AT_ONCE):
            queue.send(some)

    def _is_missed(self, finding: Finding, window: Window) -> bool:
        """An error document of these bytes by other code, or with other lookups, says that their event came."""
        if finding.kind is Decision.OUTDATED or not window.has(finding.modified):
            return False
        document = parse(self._lake.quarantine.read(error_key(finding.transform, finding.key)) or b"")
        return document is None or document["bronze"]["etag"] != finding.etag

    def _missing(self, cursor: Cursor, event: Mapping[str, Any]) -> int:
        """How many events of a transform were lost, at least: each message that waited, or lies in its dead-letter
        queue, may be of one of the files that were found."""
        missed = cursor.missed - cursor.waiting
        url = event.get("dead", {}).get(cursor.transform)
        if missed > 0 and url is not None:
            missed -= self._queue(url).waiting()
        return max(0, missed)


@dataclass
class _Step:
    """An invocation that has the lease, and the lease as it is now."""

    keeper: Keeper
    lease: Lease
    event: Mapping[str, Any]
    context: InvocationContext


def _round(event: Mapping[str, Any], context: InvocationContext) -> str:
    """The id of the round: as the event says, or one of its own. Lambda gives a retried invocation the id that it
    had."""
    named = event.get("round")
    if isinstance(named, str) and named and KEYWORD not in named:
        return named
    return str(getattr(context, "aws_request_id", "")) or uuid.uuid4().hex


def _wish(event: Mapping[str, Any], round_id: str) -> dict[str, Any]:
    """The wish in the lease of a running round: this one shall follow it. Empty if it need not."""
    if event.get("follow") is not True:
        return {}
    settled = {name: event[name] for name in ("settled_seconds",) if name in event}
    more = {name: True for name in ("changed", "prove") if event.get(name) is True}
    return {"round": round_id, "follow": True, **settled, **more}


#: The counts that are logged though they are 0.
_ALWAYS = frozenset({"checked", "sent", "orphaned"})


def _mark(transform: Transform, memory: Mapping[str, Any]) -> Mapping[str, Any]:
    """The last round's mark about a transform."""
    mark = memory.get(transform.name)
    return mark if isinstance(mark, dict) else {}


def _in_parts(looked: Iterator[Looked], batch: int) -> Generator[ComparedRange]:
    """A comparison that heads every object, as parts of one range."""
    for keys in batched(looked, batch):
        after = next((key.after for key in reversed(keys) if key.after), "")
        yield ComparedRange(0, KeyRange(after) if len(keys) == batch else None, len(keys), keys)


def _body(event: ObjectEvent) -> str:
    return object_created(event, reason="reconcile").decode()


def handler(event: Mapping[str, Any], context: InvocationContext) -> dict[str, Any]:
    """Lambda's entry point. Configured by the environment that the template sets: ``SILVERSMITH_PIPELINE``,
    ``SILVERSMITH_BRONZE``, ``SILVERSMITH_SILVER``, ``SILVERSMITH_QUARANTINE``."""
    with request(context):
        return _from_environment()(event, context)


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

    lineage: dict[str, Any] = {}
    if environment.get("SILVERSMITH_GOLD"):
        lineage["rows"] = partial(_lineage, environment, s3)
        lineage["oldest"] = lambda url: _oldest(url, (client or quick_client)("cloudwatch"), datetime.now(UTC))

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
        **lineage,
        check=lambda hops: check([Hops.of(each) for each in hops], client or quick_client),
        measure=measure,
        log=_log_line,
    )


def _lineage(environment: Mapping[str, str], s3: Any) -> LineageSource | None:
    """The lineage of now. One that cannot be read is as good as none."""
    from silversmith.stores.s3 import S3Store

    gold = environment["SILVERSMITH_GOLD"]
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    options = {"aws_endpoint_url": endpoint, "aws_allow_http": "true"} if endpoint else None
    try:
        store = S3Store(gold, client=s3, scratch=Path(tempfile.gettempdir()))
        return existing(LineageRows(store, f"s3://{gold}", options))
    except LineageUnreadable:
        _log.exception("the lineage cannot be read: every silver object is asked")
        return None


def _oldest(url: str, cloudwatch: Any, now: datetime) -> float | None:
    """The age of a queue's oldest message, in seconds, the longest of the last minutes.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
    """
    try:
        answer = cloudwatch.get_metric_statistics(
            Namespace="AWS/SQS",
            MetricName="ApproximateAgeOfOldestMessage",
            Dimensions=[{"Name": "QueueName", "Value": url.rpartition("/")[2]}],
            StartTime=now - METRIC_DELAY,
            EndTime=now,
            Period=60,
            Statistics=["Maximum"],
        )
    except Exception:  # noqa: BLE001 -- in a VPC it may be out of reach: then nobody knows
        return None
    return max((float(point["Maximum"]) for point in answer["Datapoints"]), default=None)


#: As many seconds a check of a hop may take as a function of that timeout would give one request: two short attempts.
_QUICK = 35.0


def quick_client(service: str) -> Any:
    """A client to check hops with, which does not wait long: in a VPC a service may be out of reach."""
    from silversmith.stores.s3 import aws_client

    return aws_client(service, time_limit=_QUICK)


def _log_line(line: dict[str, Any]) -> None:
    if "hop" in line:
        _log.log(logging.ERROR if line["hop"]["known"] else logging.WARNING, "%s", line["hop"]["found"], extra=line)
        return
    message = next((name for name in ("refused", "skipped") if line.get(name)), "reconciled")
    _log.log(logging.ERROR if "error" in line else logging.INFO, message, extra=line)
