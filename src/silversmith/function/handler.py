"""The Lambda entry point: a batch of SQS messages in, ``batchItemFailures`` out. The same code runs on a laptop.

https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

from polars.exceptions import PanicException

from silversmith.errors import PreconditionFailed, SourceChanged, SystemFault
from silversmith.events import NotAnEvent, ObjectEvent, unwrap
from silversmith.function.batch import Batch, Context, Lanes, calm, receives
from silversmith.function.convert import Converted
from silversmith.function.outcome import Outcome, Report, Verdict, describe
from silversmith.function.process import commit_all, complete, prepare_simple
from silversmith.function.retries import Message, Tries, TriesSpent, is_system_fault, wait_for_system, wait_for_user
from silversmith.function.task import Ready, Run, Work, call
from silversmith.function.telemetry import Tally, request, set_up
from silversmith.pipeline import Pipeline, Transform, load
from silversmith.pipeline.lookups import Lookups
from silversmith.schemas import Owner, Schemas
from silversmith.stores import Lake

#: The most messages that SQS deletes at once.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_DeleteMessageBatch.html
DELETED_AT_ONCE = 10

#: The attributes that a message has in the dead-letter queue if the function gave up on it: the code of its last error,
#: and the id that it had in the transform's queue.
ERROR_CODE, MESSAGE_ID = "ERROR_CODE", "MESSAGE_ID"

#: The most attributes that a message may have.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html
MOST_ATTRIBUTES = 10

#: How many messages wait for buckets side by side: on a disk they are synced together, and S3 answers them at once.
LANES = 4

_log = logging.getLogger(__name__)


_Found = TypeVar("_Found")


class SystemUnavailable(SystemFault):
    """The system failed everything that an invocation began. Raised, so that Lambda's poller slows down and the metric
    ``Errors`` shows it. When each message comes back was said to the queue before.

    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html

    ``response`` is what would have been returned: the local engine goes by it.
    """

    def __init__(self, message: str, response: dict[str, Any]) -> None:
        super().__init__(message)
        self.response = response


class _NoTime(BaseException):
    """What is not begun would not be done before the deadline."""


class Handler:
    """Handles the messages of one transform's queue.

    Args:
        transform: what makes silver of bronze.
        bucket: the bronze bucket's name; events of another bucket are dropped.
        lake: the three buckets.
        scratch: a folder for temporary files.
        began: told the id of each message before it is worked on.
        ended: told what became of it.
        release: makes a failed message visible again after so many seconds, by its receipt handle.
        bury: sends a message, by its record, to the dead-letter queue, with its last error.
        acknowledge: deletes messages from the queue before the invocation ends, by their receipt handles.
        now: the time of day, in UTC.
        lanes: how many messages wait for buckets side by side. Conversions are one after the other all the same.
        owner: for whom silver is made; None: nobody minds whose it is.
        together: how many small objects are committed at once, which a folder as a bucket does for the price of about
            one; a message is reported when its own is. It may be set between batches.
    """

    def __init__(
        self,
        transform: Transform,
        *,
        bucket: str,
        lake: Lake,
        scratch: Path,
        began: Callable[[str], None] = lambda _: None,
        ended: Callable[[Report], None] = lambda _: None,
        release: Callable[[str, float], None] = lambda _receipt, _seconds: None,
        bury: Callable[[Mapping[str, Any], Mapping[str, Any]], None] = lambda _record, _error: None,
        acknowledge: Callable[[list[str]], None] = lambda _receipts: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        lanes: int = 1,
        together: int = 1,
        owner: Owner | None = None,
    ) -> None:
        self._transform = transform
        self._bucket = bucket
        self._lake = lake
        self._scratch = scratch
        self._began = began
        self._ended = ended
        self._release = release
        self._bury = bury
        self._acknowledge = acknowledge
        self._now = now
        self._schemas = Schemas(lake.silver, transform.name, owner)
        self._lanes: Lanes[Report | None] | None = Lanes(lanes) if lanes > 1 else None
        self.together = together
        self._lookups = Lookups.of(transform, lake.bronze, scratch)
        self._log: dict[str, str | None] = {}

    def __call__(self, event: Mapping[str, Any], context: Context) -> dict[str, Any]:
        """Process the records; report those to be tried again. Never raises for what one record holds.

        What the user's code failed as often as it may goes to the dead-letter queue, and is done. What the system
        failed comes back for a day (docs/decisions/0107-two-budgets.md).

        A message that was received before may be the one that killed the function, and nobody knows which it was. So
        those come last, each alone, and what is finished is deleted from the queue before each of them. But where
        batches are too much for the time, they would be handed back again and again, until the queue gave up on them
        untried: so after a while the order turns, and those come first that were tried most often.

        Raises:
            SystemUnavailable: the system failed all that was begun.
        """
        self._log = _log_of(context)
        self._schemas.look_again()
        self._lookups.look_again()
        batch = Batch(event.get("Records", []), context)
        try:
            while batch.waiting and batch.has_time():
                self._next(batch)
            self._commit(batch)
            while self._lanes is not None and self._lanes.under_way:
                self._settle(batch, self._lanes.finished())
        except BaseException:
            if self._lanes is not None:
                self._lanes.abandon()
            raise
        for record in batch.untouched():
            # A timeout would throw away what the batch has done: so what cannot be done in time goes back.
            _try(self._release, record["receiptHandle"], 0.0)
            batch.failed.append(record["messageId"])
        response = {"batchItemFailures": [{"itemIdentifier": message} for message in batch.failed]}
        if first := batch.system_fault():
            error = first.error or {}
            raise SystemUnavailable(
                f"the system failed all {len(batch.failures)} messages of this invocation, the first by "
                f"{error.get('code')}: {error.get('message')}",
                response,
            )
        return response

    def _next(self, batch: Batch) -> None:
        """Begin with one more message, once there is room for it beside those that are under way."""
        record = batch.take()
        lanes, event = self._lanes, calm(record)
        is_alone = event is None or event.key in batch.keys.values() or len(batch.records) == 1
        while lanes is not None and lanes.under_way >= (1 if is_alone else lanes.most):
            self._settle(batch, lanes.finished())
        if is_alone or batch.is_full(self.together):
            self._commit(batch)
        if not batch.has_time():
            batch.waiting.appendleft(record)
        elif event is not None and not is_alone and self.together > 1 and self._wanted(event):
            self._prepare(batch, record, event)
        elif lanes is None or event is None or is_alone:
            if batch.finished and receives(record) > 1:
                _try(self._acknowledge, batch.finished)
                batch.finished = []
            self._began(record["messageId"])
            with batch.timed():
                report = self._handle(record, batch.waited())
            self._settle(batch, report)
        else:
            batch.keys[record["messageId"]] = event.key
            lanes.start(partial(self._beside, batch, record, lanes))

    def _prepare(self, batch: Batch, record: Mapping[str, Any], event: ObjectEvent) -> None:
        """All of a message but its commit, which waits for others'."""
        message = record["messageId"]
        waited = batch.waited()
        self._began(message)
        with batch.timed():
            work = self._work(event, record)
            found = _attempt(prepare_simple, work)
        if isinstance(found, Ready):
            batch.keys[message] = event.key
            batch.add(message, found, waited)
        else:
            self._settle(batch, self._report(record, work, waited, found))

    def _commit(self, batch: Batch) -> None:
        """What is ready becomes true; what others were faster with is begun anew."""
        ready = batch.take_ready()
        if not ready:
            return
        outcomes = commit_all(self._lake.silver, [one for one, _ in ready.values()])
        for (message, (one, waited)), found in zip(ready.items(), outcomes, strict=True):
            again = isinstance(found, PreconditionFailed | SourceChanged)
            ended = _attempt(complete, one.work) if again else found
            self._settle(batch, self._report(batch.records[message], one.work, waited, ended))

    def _settle(self, batch: Batch, report: Report | None) -> None:
        """Note what became of a message; None: there was no time for it."""
        if report is None:
            return
        record = batch.records[report.message_id]
        batch.keys.pop(report.message_id, None)
        batch.touched.add(report.message_id)
        if report.dead and report.error is not None:
            try:
                self._bury(record, report.error)
            except Exception as error:  # noqa: BLE001 -- the message stays where it is
                report = self._failed(record, report.key, report.waited, error, system=True)
        if report.error is None or report.dead:
            batch.finished.append(record["receiptHandle"])
        else:
            batch.failed.append(report.message_id)
            batch.failures.append(report)
            _try(self._release, record["receiptHandle"], report.retry_in or 0.0)
        self._ended(report)

    def _beside(self, batch: Batch, record: Mapping[str, Any], lanes: Lanes[Report | None]) -> Report | None:
        """In a lane: all of it but the conversion."""
        waited = batch.waited()

        def run(step: Callable[[], Converted]) -> Converted:
            def here() -> Converted:
                if not batch.has_time():
                    raise _NoTime
                self._began(record["messageId"])
                with batch.timed():
                    return step()

            return lanes.here(here)

        try:
            return self._handle(record, waited, run)
        except _NoTime:
            return None

    def _handle(self, record: Mapping[str, Any], waited: float, run: Run = call) -> Report:
        outcomes: list[Outcome] = []
        work = None
        try:
            for event in filter(self._wanted, unwrap(record["body"])):
                work = self._work(event, record, run)
                outcomes.append(complete(work))
        except (Exception, PanicException) as error:  # noqa: BLE001 -- it is this message's failure and no other's
            return self._report(record, work, waited, error)
        return Report(record["messageId"], tuple(outcomes), waited=waited)

    def _work(self, event: ObjectEvent, record: Mapping[str, Any], run: Run = call) -> Work:
        times = receives(record)
        was_dead = ERROR_CODE in record.get("messageAttributes", {})
        message = Message(record["messageId"], times, seek=event.resent or was_dead, log=self._log)
        return Work(
            event,
            self._transform,
            self._lake,
            times,
            self._now,
            self._scratch,
            self._schemas,
            self._lookups,
            run=run,
            tries=Tries(message),
        )

    def _report(
        self, record: Mapping[str, Any], work: Work | None, waited: float, found: Outcome | BaseException
    ) -> Report:
        """What a message about one object came to. ``work`` None: it is about none."""
        if isinstance(found, Outcome):
            return Report(record["messageId"], (found,), waited=waited)
        key = work.key if work is not None else ""
        if is_system_fault(found):
            if work is not None and work.tries is not None:
                _try(work.tries.set_back, work)
            return self._failed(record, key, waited, found, system=True)
        if work is None or work.tries is None:
            # There is no file to count by; and no retry makes an event of what is none.
            return self._failed(record, key, waited, found, dead=isinstance(found, NotAnEvent))
        if isinstance(found, TriesSpent):
            return Report(record["messageId"], (), error=found.error, key=key, waited=waited, dead=True)
        try:
            tries = work.tries.fail(work, describe(found))
        except Exception as error:  # noqa: BLE001 -- what cannot be counted does not count
            return self._failed(record, key, waited, error, system=True)
        return self._failed(record, key, waited, found, tries=tries, dead=tries >= self._transform.max_receive_count)

    def _failed(
        self,
        record: Mapping[str, Any],
        key: str,
        waited: float,
        error: BaseException,
        *,
        tries: int = 0,
        system: bool = False,
        dead: bool = False,
    ) -> Report:
        """``tries``: how often the user's code has failed; 0: nobody counts, and each receive is taken for a try."""
        message, times = record["messageId"], receives(record)
        retry_in = 0.0 if dead else wait_for_system(times, message) if system else wait_for_user(tries or times)
        return Report(
            message,
            (),
            error=describe(error),
            key=key,
            retry_in=retry_in,
            waited=waited,
            system=system,
            dead=dead,
        )

    def _wanted(self, event: ObjectEvent) -> bool:
        """The topic's filter is by prefix and suffix; here the pattern is matched exactly."""
        return event.bucket == self._bucket and self._transform.pattern.matches(event.key)


def _attempt(act: Callable[[Work], _Found], work: Work) -> _Found | BaseException:
    """What an act came to, or what it failed with: that is this message's failure and no other's."""
    try:
        return act(work)
    except (Exception, PanicException) as error:  # noqa: BLE001 -- see above
        return error


def _log_of(context: Context) -> dict[str, str | None]:
    """Where the log of an invocation is. https://docs.aws.amazon.com/lambda/latest/dg/python-context.html"""
    names = {"group": "log_group_name", "stream": "log_stream_name", "request": "aws_request_id"}
    return {name: getattr(context, attribute, None) for name, attribute in names.items()}


def _try(courtesy: Callable[..., None], *arguments: object) -> None:
    """What only spares a message some time, or a try, must not fail the batch."""
    try:
        courtesy(*arguments)
    except Exception:  # noqa: BLE001 -- told in the log, and no more than that
        _log.warning("a message may come back later than it could, or has a try less", exc_info=True)


#: At which level a verdict is logged, if not INFO.
_LEVELS = {"failed": logging.ERROR, Verdict.QUARANTINED.value: logging.WARNING}


class Function:
    """A handler as Lambda runs it: what becomes of each message is logged, and what the invocation did is counted.

    Args:
        pipeline: the name, for the metrics.
        transform: likewise.
        build: makes the handler, from what is to be told of each report.
        metrics: whether metrics are written.
        now: the time of day, in UTC.
    """

    def __init__(
        self,
        pipeline: str,
        transform: str,
        build: Callable[[Callable[[Report], None]], Handler],
        *,
        metrics: bool = True,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._tally = Tally(pipeline, transform, now=now) if metrics else None
        self._handler = build(self._ended)
        self._transform = transform

    def __call__(self, event: Mapping[str, Any], context: Context) -> dict[str, Any]:
        """As :class:`Handler`."""
        with request(context):
            try:
                return self._handler(event, context)
            finally:
                if self._tally is not None:
                    self._tally.flush()

    def _ended(self, report: Report) -> None:
        found = {"transform": self._transform, "message_id": report.message_id, **report.to_dict()}
        _log.log(_LEVELS.get(found["verdict"], logging.INFO), "%s", found["verdict"], extra=found)
        if self._tally is not None:
            self._tally.add(report.outcomes, failed=report.error is not None)


def handler(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """What Lambda calls. Configured by the environment that the template sets: ``SILVERSMITH_PIPELINE``,
    ``SILVERSMITH_TRANSFORM``, ``SILVERSMITH_BRONZE``, ``SILVERSMITH_SILVER``, ``SILVERSMITH_QUARANTINE``,
    ``SILVERSMITH_QUEUE`` and ``SILVERSMITH_DLQ`` (their URLs), ``SILVERSMITH_STACK`` (whose silver it is),
    ``SILVERSMITH_FINGERPRINT`` (of the code that was deployed). ``SILVERSMITH_LOG_LEVEL`` and ``SILVERSMITH_METRICS``
    (``off``) are yours to set: docs/observability.md"""
    return _from_environment()(event, context)


@cache
def _from_environment() -> Function:
    """Built once per execution environment, so that warm invocations pay nothing for it."""
    from silversmith.stores.s3 import aws_client

    set_up()
    pipeline = load(os.environ["SILVERSMITH_PIPELINE"])
    seconds = pipeline.find(os.environ["SILVERSMITH_TRANSFORM"]).timeout
    sqs = cache(partial(aws_client, "sqs", time_limit=seconds))
    return build(os.environ, s3=aws_client("s3", time_limit=seconds), sqs=sqs, pipeline=pipeline)


def build(
    environment: Mapping[str, str], *, s3: Any, sqs: Callable[[], Any], pipeline: Pipeline | None = None
) -> Function:
    """The function that an environment describes. ``s3`` is a boto3 client, ``sqs`` gives one. That takes a tenth of a
    second to make, and most invocations do not need it: SQS itself deletes what succeeds. ``pipeline`` is the one that
    the environment names; None: it is imported.

    Raises:
        DefinitionError: ``SILVERSMITH_PIPELINE`` is none, or has no such transform.
    """
    from silversmith.stores.s3 import S3Store

    scratch = Path(tempfile.gettempdir())
    queue, dead_letters = environment["SILVERSMITH_QUEUE"], environment["SILVERSMITH_DLQ"]

    def bucket(name: str) -> S3Store:
        return S3Store(environment[f"SILVERSMITH_{name}"], client=s3, scratch=scratch)

    def release(receipt: str, seconds: float) -> None:
        sqs().change_message_visibility(QueueUrl=queue, ReceiptHandle=receipt, VisibilityTimeout=int(seconds))

    def bury(record: Mapping[str, Any], error: Mapping[str, Any]) -> None:
        attributes = attributes_of_dead(record, error)
        sqs().send_message(QueueUrl=dead_letters, MessageBody=record["body"], MessageAttributes=attributes)

    def acknowledge(receipts: Sequence[str]) -> None:
        for start in range(0, len(receipts), DELETED_AT_ONCE):
            some = receipts[start : start + DELETED_AT_ONCE]
            entries = [{"Id": str(number), "ReceiptHandle": receipt} for number, receipt in enumerate(some)]
            # What it leaves, the end of the invocation takes.
            sqs().delete_message_batch(QueueUrl=queue, Entries=entries)

    pipeline = pipeline or load(environment["SILVERSMITH_PIPELINE"])
    transform = pipeline.find(environment["SILVERSMITH_TRANSFORM"])
    _compare(transform, environment.get("SILVERSMITH_FINGERPRINT", ""))

    def handler(ended: Callable[[Report], None]) -> Handler:
        return Handler(
            transform,
            bucket=environment["SILVERSMITH_BRONZE"],
            lake=Lake(bucket("BRONZE"), bucket("SILVER"), bucket("QUARANTINE")),
            scratch=scratch,
            ended=ended,
            release=release,
            bury=bury,
            acknowledge=acknowledge,
            lanes=LANES,
            owner=Owner.of(environment),
        )

    metrics = environment.get("SILVERSMITH_METRICS", "on").lower() != "off"
    return Function(pipeline.name, transform.name, handler, metrics=metrics)


def _compare(transform: Transform, deployed: str) -> None:
    """Silver says what this code is. The commands compare it with what the template says, so that must be the same."""
    if deployed not in {"", transform.fingerprint}:
        _log.warning(
            "the code of the transform %s has the fingerprint %s, and the template says %s: `silversmith reconcile "
            "--changed` takes what this code makes for outdated. Deploy both together: `silversmith deploy`",
            transform.name, transform.fingerprint, deployed,
        )  # fmt: skip


def attributes_of_dead(record: Mapping[str, Any], error: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The attributes of a message in the dead-letter queue, as SQS takes them: those that it had, and what it died of.

    https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_MessageAttributeValue.html
    """
    own = {ERROR_CODE: str(error.get("code") or "Unknown"), MESSAGE_ID: str(record["messageId"])}
    found = {name: {"DataType": "String", "StringValue": value} for name, value in own.items()}
    for name, value in record.get("messageAttributes", {}).items():
        if name in found or len(found) == MOST_ATTRIBUTES or not value.get("stringValue"):
            continue
        found[name] = {"DataType": value.get("dataType", "String"), "StringValue": value["stringValue"]}
    return found
