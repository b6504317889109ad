"""The Lambda entry point: a batch of SQS messages in, ``batchItemFailures`` out. The same code runs on a laptop.

https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
"""

from __future__ import annotations

import logging
import os
import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
from polars.exceptions import PanicException

from silversmith.errors import describe
from silversmith.events import NotAnEvent, ObjectEvent
from silversmith.function.batch import Batch, IoPool, Running
from silversmith.function.convert import convert
from silversmith.function.outcome import Outcome, Report, Verdict
from silversmith.function.process import Commit, Conversion, advance, commit_all, process, run
from silversmith.function.retries import TriesSpent, count_failure, take_back_try
from silversmith.function.task import NewKeys, Task, empty_lineage
from silversmith.pipeline import Pipeline, Transform, load, needs
from silversmith.pipeline.lookups import Lookups
from silversmith.runtime.openlineage import SPARE, LineageEvents, Places, of_environment
from silversmith.runtime.queue import (
    ERROR_CODE,
    FunctionQueue,
    InvocationContext,
    Message,
    SystemUnavailable,
    attempt,
    is_system_fault,
    wait_for_system,
    wait_for_user,
)
from silversmith.runtime.telemetry import Tally, request, set_up
from silversmith.schemas import Owner, Schemas
from silversmith.stores import Head, Lake, Source, Store

#: How many messages wait for S3 at once. https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html
IO_THREADS = 16

_log = logging.getLogger(__name__)

#: What a task that was resumed waits for, came to, or failed with.
_Progress = tuple[Running, Conversion | Commit | Outcome | BaseException]


@dataclass(eq=False)
class Handler:
    """Handles the messages of one transform's queue.

    Several small files are under way at once: threads wait for S3 on their behalf, or their silver objects are put
    together where the bucket is a folder. One is converted at a time, in the caller's thread.

    Attributes:
        transform: what makes silver of bronze.
        bucket: the bronze bucket's name; events of another bucket are dropped.
        lake: the three buckets.
        scratch: a folder for temporary files.
        began: told the id of each message before it is worked on.
        ended: told what became of it.
        release: makes a failed message visible again after so many seconds, by its receipt handle.
        move_to_dlq: sends a message, by its record, to the dead-letter queue, with its last error.
        acknowledge: deletes messages from the queue before the invocation ends, by their receipt handles.
        now: the time of day, in UTC.
        io_threads: how many threads wait for buckets; 0: none, which is best where a bucket is a folder.
        group_size: how many small objects are put together, which a folder does for the price of about one. It may be
            set between batches.
        owner: for whom silver is made; None: nobody minds whose it is.
        counts_receives: whether the queue counts every receive of a message, as SQS does. The local engine does not
            count that of a message whose worker died of another.
        environment: variables that the process has while a batch is worked on. On Lambda it has them anyway.
        fetch: reads a secret that the transform declares.
    """

    transform: Transform
    _: KW_ONLY
    bucket: str
    lake: Lake
    scratch: Path
    began: Callable[[str], None] = lambda _: None
    ended: Callable[[Report], None] = lambda _: None
    release: Callable[[str, float], None] = lambda _receipt, _seconds: None
    move_to_dlq: Callable[[Mapping[str, Any], Mapping[str, Any]], None] = lambda _record, _error: None
    acknowledge: Callable[[list[str]], None] = lambda _receipts: None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    io_threads: int = 0
    group_size: int = 1
    owner: Owner | None = None
    counts_receives: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    fetch: needs.Fetch = needs.no_secrets

    def __post_init__(self) -> None:
        self._schemas = Schemas(self.lake.silver, self.transform.name, self.owner)
        self._pool: IoPool[list[_Progress]] = IoPool(self.io_threads)
        secrets = needs.Secrets(self.transform.secrets, self.fetch, name=self.transform.name)
        self._lookups = Lookups(
            self.lake.bronze, self.transform.lookups, self.scratch, name=self.transform.name, secret=secrets
        )
        self._new_keys = NewKeys()
        self._log: dict[str, str | None] = {}

    def __call__(self, event: Mapping[str, Any], context: InvocationContext) -> dict[str, Any]:
        """Process the records; report those to be tried again. Never raises for what one record holds.

        A file that the user's code failed as often as it may goes to the dead-letter queue, and is done. A file that
        the system failed comes back for a day (docs/decisions/0107-two-budgets.md).

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
            with needs.variables_set(self.environment):
                while batch.waiting and batch.has_time():
                    self._begin_next(batch)
                self._finish_running(batch)
        except BaseException:
            self._pool.abandon()
            raise
        for message in batch.untouched():
            # A timeout would throw away what the batch has done: so what cannot be done in time goes back.
            attempt(self.release, message.receipt, 0.0)
            batch.failed.append(message.id)
        response = {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in batch.failed]}
        if first := batch.system_fault():
            error = first.error or {}
            raise SystemUnavailable(
                f"the system failed all {len(batch.failures)} messages of this invocation, the first by "
                f"{error.get('code')}: {error.get('message')}",
                response,
            )
        return response

    def _begin_next(self, batch: Batch) -> None:
        """Begin with one more message, and wait until there is room for another one beside it."""
        message = batch.take()
        event = message.concurrent_event
        is_alone = event is None or event.key in batch.under_way or len(batch.messages) == 1
        if is_alone:
            self._finish_running(batch)
        if not batch.has_time():
            batch.waiting.appendleft(message)
        elif event is None or is_alone:
            self._process_alone(batch, message)
        elif not self._is_wanted(event):
            self._settle(batch, Report(message.id, (), waited=batch.waited()))
        else:
            task = self._task(event, message)
            running = Running(message, task, process(task), batch.waited())
            size = event.size or 0
            if not self._pool.has_threads:
                self._begin(running)
            while self._pool.pending and not batch.has_room(size):
                self._collect(batch)
            batch.under_way[event.key] = size
            self._pool.submit(partial(_resume, [(running, None)]))
            while self._pool.pending >= self._pool.size:
                self._collect(batch)

    def _process_alone(self, batch: Batch, message: Message) -> None:
        """All of a message, with no other one under way."""
        if batch.finished and message.receives > 1:
            attempt(self.acknowledge, batch.finished)
            batch.finished = []
        self.began(message.id)
        waited = batch.waited()
        outcomes: list[Outcome] = []
        task = None
        with batch.timed():
            try:
                for event in filter(self._is_wanted, message.events):
                    task = self._task(event, message)
                    outcomes.append(run(task))
                report = Report(message.id, tuple(outcomes), waited=waited)
            except (Exception, PanicException) as error:  # noqa: BLE001 -- this message's failure and no other's
                report = self._failure(message, task, waited, error)
        self._settle(batch, report)

    def _finish_running(self, batch: Batch) -> None:
        """Wait until no message is under way."""
        while self._pool.pending or batch.has_commits(1):
            if self._pool.pending:
                self._collect(batch)
            else:
                self._commit(batch)

    def _collect(self, batch: Batch) -> None:
        """Take what the next job in the pool came to, and have its tasks go on."""
        for running, progress in self._pool.next_done():
            after = self._converted(batch, running) if isinstance(progress, Conversion) else progress
            if isinstance(after, Commit):
                batch.add_commit(running, after)
                if batch.has_commits(self.group_size):
                    self._commit(batch)
            elif isinstance(after, Outcome):
                self._settle(batch, Report(running.message.id, (after,), waited=running.waited))
            elif after is not None:
                self._settle(batch, self._failure(running.message, running.task, running.waited, after))

    def _converted(self, batch: Batch, running: Running) -> Commit | Outcome | BaseException | None:
        """The task after its conversion; None: there was no time for it, and its message goes back untouched."""
        if not running.has_begun and not batch.has_time():
            running.processing.close()
            batch.under_way.pop(running.task.key, None)
            return None
        self._begin(running)
        with batch.timed():
            progress = advance(running.processing, None)
            while isinstance(progress, Conversion):  # its bytes changed: it has looked again
                progress = advance(running.processing, None)
        return progress

    def _begin(self, running: Running) -> None:
        if not running.has_begun:
            running.has_begun = True
            self.began(running.message.id)

    def _commit(self, batch: Batch) -> None:
        """Put the silver objects that wait for it, and have their tasks go on."""
        self._pool.submit(partial(_commit_and_resume, self.lake.silver, batch.take_commits()))

    def _settle(self, batch: Batch, report: Report) -> None:
        """Note what became of a message, and tell the queue."""
        message = batch.messages[report.message_id]
        batch.settled.add(message.id)
        for key in (report.key, *(outcome.key for outcome in report.outcomes)):
            batch.under_way.pop(key, None)
        if report.dead and report.error is not None:
            try:
                self.move_to_dlq(message.record, report.error)
            except Exception as error:  # noqa: BLE001 -- the message stays where it is
                report = _failed(message, report.key, report.waited, error, system=True)
        if report.error is None or report.dead:
            batch.finished.append(message.receipt)
        else:
            batch.failed.append(message.id)
            batch.failures.append(report)
            attempt(self.release, message.receipt, report.retry_in or 0.0)
        self.ended(report)

    def _task(self, event: ObjectEvent, message: Message) -> Task:
        return Task(
            event,
            self.transform,
            self.lake,
            self.scratch,
            self._lookups,
            self._schemas,
            receives=message.receives,
            was_received=message.receives > 1 or not self.counts_receives,
            message_id=message.id,
            was_dead=ERROR_CODE in message.record.get("messageAttributes", {}),
            log=self._log,
            now=self.now,
            new_keys=self._new_keys,
        )

    def _failure(self, message: Message, task: Task | None, waited: float, error: BaseException) -> Report:
        """The report of a message that failed with an error. ``task`` None: it is about no object."""
        if isinstance(error, NotAnEvent):  # no retry makes an event of it
            return _failed(message, "", waited, error, dead=True)
        if task is None:
            return _failed(message, "", waited, error, system=is_system_fault(error))
        if isinstance(error, TriesSpent):
            return Report(message.id, (), error=error.error, key=task.key, waited=waited, dead=True)
        if is_system_fault(error):
            attempt(take_back_try, task)
            return _failed(message, task.key, waited, error, system=True)
        try:
            tries = count_failure(task, describe(error))
        except Exception as uncounted:  # noqa: BLE001 -- a failure that cannot be counted does not count
            return _failed(message, task.key, waited, uncounted, system=True)
        return _failed(message, task.key, waited, error, tries=tries, dead=tries >= self.transform.max_receive_count)

    def _is_wanted(self, event: ObjectEvent) -> bool:
        """The topic's filter is by prefix and suffix; here the pattern is matched exactly."""
        return event.bucket == self.bucket and self.transform.pattern.matches(event.key)


def _resume(answers: Sequence[tuple[Running, str | Exception | None]]) -> list[_Progress]:
    return [(running, advance(running.processing, answer)) for running, answer in answers]


def _commit_and_resume(silver: Store, commits: Sequence[tuple[Running, Commit]]) -> list[_Progress]:
    etags = commit_all(silver, [commit for _, commit in commits])
    return _resume([(running, etag) for (running, _), etag in zip(commits, etags, strict=True)])


def _failed(
    message: Message,
    key: str,
    waited: float,
    error: BaseException,
    *,
    tries: int = 0,
    system: bool = False,
    dead: bool = False,
) -> Report:
    """``tries``: how often the user's code has failed; 0: nobody counts, and each receive is taken for a try."""
    wait = wait_for_system(message.receives, message.id) if system else wait_for_user(tries or message.receives)
    return Report(
        message.id,
        (),
        error=describe(error),
        key=key,
        retry_in=0.0 if dead else wait,
        waited=waited,
        system=system,
        dead=dead,
    )


def _log_of(context: InvocationContext) -> dict[str, str | None]:
    """The place of an invocation's log. https://docs.aws.amazon.com/lambda/latest/dg/python-context.html"""
    names = {"group": "log_group_name", "stream": "log_stream_name", "request": "aws_request_id"}
    return {name: getattr(context, attribute, None) for name, attribute in names.items()}


#: At which level a verdict is logged, if not INFO.
_LEVELS = {"failed": logging.ERROR, Verdict.QUARANTINED.value: logging.WARNING}


class Function:
    """A handler as Lambda runs it: the fate of each message is logged, and what the invocation did is counted.

    Args:
        pipeline: the deployed name, for the metrics.
        transform: what makes silver of bronze.
        metrics: whether metrics are written.
        events: takes what became of files, for OpenLineage; None: nobody does.
        options: of the :class:`Handler`.
    """

    def __init__(
        self,
        pipeline: str,
        transform: Transform,
        *,
        metrics: bool = True,
        events: LineageEvents | None = None,
        **options: Any,
    ) -> None:
        self._tally = Tally({"Pipeline": pipeline, "Transform": transform.name}) if metrics else None
        self._handler = Handler(transform, ended=self._ended, **options)
        self._transform = transform.name
        self._events = events

    def __call__(self, event: Mapping[str, Any], context: InvocationContext) -> dict[str, Any]:
        """As :class:`Handler`."""
        with request(context):
            try:
                return self._handler(event, context)
            finally:
                if self._tally is not None:
                    self._tally.flush()
                if self._events is not None:
                    self._events.flush(context.get_remaining_time_in_millis() / 1000 - SPARE)

    def _ended(self, report: Report) -> None:
        line = {"transform": self._transform, "message_id": report.message_id, **report.to_dict()}
        if self._events is not None:
            self._events.add(line, time.time())
        _log.log(_LEVELS.get(line["verdict"], logging.INFO), "%s", line["verdict"], extra=line)
        if self._tally is not None:
            tally(self._tally, report)


def tally(metrics: Tally, report: Report) -> None:
    """Add what became of a message's files to the metrics.

    Rows and bytes count where silver was made of them: a duplicate would count them twice.
    """
    if report.error is not None:
        metrics.count("FilesFailed")
    for outcome in report.outcomes:
        metrics.count(f"Files{outcome.verdict.value.title().replace(' ', '')}")
        if outcome.verdict is Verdict.COMMITTED:
            metrics.count("RowsRead", outcome.rows_read)
            metrics.count("RowsWritten", outcome.rows_written)
            metrics.count("RowsRejected", outcome.rows_rejected)
            metrics.count("Bytes", outcome.size)
            metrics.measure("Duration", sum(outcome.stages.values()))
            if outcome.age is not None:
                metrics.measure("Age", outcome.age)


# The start of a function before anybody waits for it: into a snapshot, or into an environment that is kept warm.
# https://docs.aws.amazon.com/lambda/latest/dg/snapstart-best-practices.html
# docs/decisions/0161-begin-before-the-first-invocation.md

#: The variable by which Lambda says how it starts a function, and its values where nobody waits.
#: https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
TYPE, SNAPSHOT, KEPT_WARM = "AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start", "provisioned-concurrency"

#: Small files of the commonest formats, by key.
_SAMPLES = {
    "sample.csv": b"number,text,time\n1,a,2026-01-02\n2.5,b,2026-01-03\n",
    "sample.json": b'[{"number": 1, "text": "a"}, {"number": 2, "text": null}]',
    "sample.ndjson": b'{"number": 1, "text": "a"}\n{"number": 2, "text": null}\n',
}


def is_ahead(environment: Mapping[str, str]) -> bool:
    """Whether the function is started before anybody waits for it."""
    return environment.get(TYPE) in {SNAPSHOT, KEPT_WARM}


def warm_up(client: Callable[[str], Any], environment: Mapping[str, str]) -> None:
    """Do what a process does only once: make clients, and convert samples, by none of the user's code.

    No connection is opened: it would not outlive the snapshot.

    Args:
        client: gives the boto3 client of a service.
        environment: the function's.
    """
    client("sqs")
    sample = {"Bucket": environment["SILVERSMITH_BRONZE"], "Key": "sample"}
    client("s3").generate_presigned_url("head_object", Params=sample)  # endpoint rules, credentials, signer
    pipeline = Pipeline("warm-up")
    pipeline.transform("*", name="rows")(lambda rows: rows)
    transform = pipeline.find("rows")
    for key, data in _SAMPLES.items():
        head = Head(key, "0" * 32, len(data), datetime.now(UTC))
        with TemporaryDirectory() as scratch:
            convert(Source(head, data, None), transform, empty_lineage(key, transform), Path(scratch))
    if environment[TYPE] == SNAPSHOT:
        from snapshot_restore_py import register_after_restore

        register_after_restore(after_restore)


def after_restore() -> None:
    """All environments of one snapshot would draw the same random numbers: retries would come at the same time.

    https://docs.aws.amazon.com/lambda/latest/dg/snapstart-uniqueness.html
    """
    random.seed()
    pl.set_random_seed(random.SystemRandom().getrandbits(63))


# The entry point.


def handler(event: Mapping[str, Any], context: InvocationContext) -> dict[str, Any]:
    """Lambda's entry point. Configured by the environment that the template sets: ``SILVERSMITH_PIPELINE``,
    ``SILVERSMITH_TRANSFORM``, ``SILVERSMITH_BRONZE``, ``SILVERSMITH_SILVER``, ``SILVERSMITH_QUARANTINE``,
    ``SILVERSMITH_QUEUE`` and ``SILVERSMITH_DLQ`` (their URLs), ``SILVERSMITH_STACK`` (the deployed name),
    ``SILVERSMITH_FINGERPRINT`` (of the code that was deployed). ``SILVERSMITH_LOG_LEVEL`` and ``SILVERSMITH_METRICS``
    (``off``) are yours to set: docs/observability.md"""
    return _from_environment()(event, context)


@cache
def _from_environment() -> Function:
    """Built once per execution environment, so that warm invocations pay nothing for it; and where Lambda starts one
    before anybody waits for it, with all that the first invocation would do once."""
    from silversmith.stores.s3 import aws_client

    set_up()
    pipeline = load(os.environ["SILVERSMITH_PIPELINE"])
    seconds = pipeline.find(os.environ["SILVERSMITH_TRANSFORM"]).timeout
    client = cache(partial(aws_client, time_limit=seconds))
    secrets = needs.from_aws(client, os.environ.get("SILVERSMITH_STACK", ""))
    function = build(os.environ, s3=client("s3"), sqs=partial(client, "sqs"), pipeline=pipeline, fetch=secrets)
    if is_ahead(os.environ):
        warm_up(client, os.environ)
    return function


def build(
    environment: Mapping[str, str],
    *,
    s3: Any,
    sqs: Callable[[], Any],
    pipeline: Pipeline | None = None,
    fetch: needs.Fetch = needs.no_secrets,
) -> Function:
    """The function that an environment describes. ``s3`` is a boto3 client, ``sqs`` gives one. That takes a tenth of a
    second to make, and most invocations do not need it: SQS itself deletes what succeeds. ``pipeline`` is the one that
    the environment names; None: it is imported. ``fetch`` reads the secrets that its transform declares.

    Raises:
        DefinitionError: ``SILVERSMITH_PIPELINE`` is none, or has no such transform.
    """
    from silversmith.stores.s3 import S3Store

    scratch = Path(tempfile.gettempdir())
    pipeline = pipeline or load(environment["SILVERSMITH_PIPELINE"])
    transform = pipeline.find(environment["SILVERSMITH_TRANSFORM"])
    transform = replace(transform, since=environment.get("SILVERSMITH_SINCE", transform.since))
    _compare(transform, environment.get("SILVERSMITH_FINGERPRINT", ""))
    names = [environment[f"SILVERSMITH_{name}"] for name in ("BRONZE", "SILVER", "QUARANTINE")]
    lake = Lake(*(S3Store(name, client=s3, scratch=scratch) for name in names))
    schemas = Schemas(lake.silver, transform.name)
    queue = FunctionQueue(environment["SILVERSMITH_QUEUE"], environment["SILVERSMITH_DLQ"], sqs)
    name = environment.get("SILVERSMITH_STACK", pipeline.name)
    return Function(
        name,
        transform,
        metrics=environment.get("SILVERSMITH_METRICS", "on").lower() != "off",
        bucket=environment["SILVERSMITH_BRONZE"],
        events=of_environment(
            environment,
            name,
            Places.on_s3(names[0], names[1], pipeline.gold),
            lambda _: schemas.columns(transform.fingerprint),
        ),
        lake=lake,
        scratch=scratch,
        release=queue.release,
        move_to_dlq=queue.move_to_dlq,
        acknowledge=queue.acknowledge,
        io_threads=IO_THREADS,
        owner=Owner.of(environment),
        counts_receives=True,
        fetch=fetch,
    )


def _compare(transform: Transform, deployed: str) -> None:
    """Silver says what this code is. The commands compare it with what the template says, so that must be the same."""
    if deployed not in {"", transform.fingerprint}:
        _log.warning(
            "the code of the transform %s has the fingerprint %s, and the template says %s: `silversmith reconcile "
            "--changed` takes what this code makes for outdated. Deploy both together: `silversmith deploy`",
            transform.name, transform.fingerprint, deployed,
        )  # fmt: skip


if is_ahead(os.environ):
    # A pipeline that cannot be loaded fails the deploy, and what runs goes on.
    _from_environment()
