"""The Lambda entry point of a pipeline's tables: silver's events in, ``batchItemFailures`` out.

The messages of a batch are worked on in groups: a commit has the files of a group, and a group that fails or kills the
function takes no other with it. docs/decisions/0128-a-batch-of-tables-is-worked-on-in-groups.md
https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any

from silversmith import faults
from silversmith.errors import DataError, SilversmithError, SystemFault, describe
from silversmith.events import NotAnEvent, ObjectEvent, object_created
from silversmith.lineage import bronze_key_of
from silversmith.runtime.openlineage import SPARE, LineageEvents, Places, of_environment
from silversmith.runtime.queue import (
    BUSY,
    SENT_AT_ONCE,
    FunctionQueue,
    InvocationContext,
    Message,
    Queue,
    SqsQueue,
    SystemUnavailable,
    age,
    attempt,
    is_system_fault,
    wait_for_system,
    wait_for_user,
)
from silversmith.runtime.telemetry import Tally, printed, request, set_up
from silversmith.stores import Store, batched, map_in_threads
from silversmith.tables.commit import WORKERS, Brought, bring
from silversmith.tables.compare import differing
from silversmith.tables.delta import DeltaFormat
from silversmith.tables.format import Format, Refused
from silversmith.tables.lineage import SILVER, follow, state_of
from silversmith.tables.lineage import differing as differing_lineage
from silversmith.tables.spec import FILE, LINEAGE, TRIES, GoldSpec, TableSpec, ViewSpec
from silversmith.tables.upkeep import Kept, keep
from silversmith.tables.views import Refresh, refresh

#: This share of the time is kept for the last commit, the views, and the answer.
RESERVE = 0.3

#: Upkeep is begun only with so much of the time left.
UPKEEP = 0.5

#: Messages that were received before are worked on in so many groups.
GROUPS = 8

#: What was put in silver less than so many seconds ago a round leaves to its own event.
SETTLED_SECONDS = 3_600

#: How many requests send messages at once.
SENDERS = 16

_log = logging.getLogger(__name__)


class NoTime(SystemFault):
    """Work that is not begun would not be done before the function's deadline."""


class ViewFailed(SilversmithError):
    """A view could not be computed. Its table is as silver is."""


class RoundFailed(SilversmithError):
    """Some tables could not be compared with silver, or some views not computed."""


@dataclass(frozen=True)
class Work:
    """The result of a table or view in one group of messages, and the seconds that it took. ``brought`` is a table's,
    ``refreshed`` a view's; with neither, ``error`` says why."""

    name: str
    seconds: float
    brought: Brought | None = None
    refreshed: Refresh | None = None
    error: Exception | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        values: dict[str, Any] = {"table": self.name, "seconds": round(self.seconds, 6)}
        if self.brought is not None:
            numbers = {name: value for name, value in vars(self.brought).items() if name not in {"left", "failed"}}
            values |= {"verdict": "brought", **numbers, "failed": len(self.brought.failed)}
        elif self.refreshed is not None:
            values["verdict"] = self.refreshed.value
        if self.error is not None:
            values |= {"verdict": "failed", "error": describe(self.error)}
        return values


@dataclass(frozen=True)
class TablesReport:
    """The end of one message.

    Attributes:
        message_id: of the message.
        silver: the keys in silver that it is about.
        tables: by name, the versions that have these keys as silver has them.
        error: what went wrong; None: nothing.
        retry_in: the seconds until the message should come back.
        system: the system is at fault.
        dead: it was the last try, and the message goes to the dead-letter queue.
        age: the seconds from the event's time to the end; None where the event has no time.
    """

    message_id: str
    silver: tuple[str, ...] = ()
    tables: Mapping[str, int | None] = field(default_factory=dict)
    error: Mapping[str, Any] | None = None
    retry_in: float | None = None
    system: bool = False
    dead: bool = False
    age: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values. ``key`` is the bronze key that people know."""
        silver = self.silver[0] if self.silver else ""
        values: dict[str, Any] = {
            "verdict": "in tables" if self.silver else "dropped",
            "transform": silver.partition("/")[0],
            "key": bronze_key_of(silver),
            "silver": silver,
            "tables": dict(self.tables),
            "age": self.age,
        }
        if self.error is not None:
            values |= {"verdict": "failed", "failed": True, "error": dict(self.error)}
            values |= {"retry_in": self.retry_in, "system": self.system, "dead": self.dead}
        return values


@dataclass
class Comparison:
    """What a round found: the keys in silver that some table does not have as silver has them now, what became of each
    view, and the tables and views that failed, each with its error."""

    differing: list[str] = field(default_factory=list)
    views: dict[str, Refresh] = field(default_factory=dict)
    failed: dict[str, Exception] = field(default_factory=dict)


class TableHandler:
    """Handles the messages of the tables' queue, and compares the tables with silver.

    Args:
        spec: the tables and views.
        bucket: the silver bucket's name; events of another bucket are dropped.
        silver: the bucket.
        gold: where the tables are.
        quarantine: the bucket and its name, where the lineage is kept.
        began: told the ids of the messages that are worked on next.
        ended: told what became of a message.
        worked: told what became of a table or view.
        release: makes a failed message visible again after so many seconds, by its receipt handle.
        move_to_dlq: sends a message, by its record, to the dead-letter queue, with its last error.
        acknowledge: deletes messages from the queue before the invocation ends, by their receipt handles.
        queue: opens a queue by its URL, for a round.
        workers: how many objects are asked for side by side; in a folder, where nothing waits, one is fastest.
        now: the time, in seconds since 1970.
        step: as :func:`silversmith.tables.commit.bring` has it.
    """

    def __init__(
        self,
        spec: GoldSpec,
        *,
        bucket: str,
        silver: Store,
        gold: Format,
        quarantine: tuple[str, Store] | None = None,
        began: Callable[[Sequence[str]], None] = lambda _: None,
        ended: Callable[[TablesReport], None] = lambda _: None,
        worked: Callable[[Work], None] = lambda _: None,
        release: Callable[[str, float], None] = lambda _receipt, _seconds: None,
        move_to_dlq: Callable[[Mapping[str, Any], Mapping[str, Any]], None] = lambda _record, _error: None,
        acknowledge: Callable[[list[str]], None] = lambda _receipts: None,
        queue: Callable[[str], Queue] | None = None,
        workers: int = WORKERS,
        now: Callable[[], float] = time.time,
        step: Callable[[str], None] = faults.point,
    ) -> None:
        self._spec = spec
        self._bucket = bucket
        self._silver = silver
        self._gold = gold
        self._quarantine = quarantine
        self._began = began
        self._ended = ended
        self._worked = worked
        self._release = release
        self._move_to_dlq = move_to_dlq
        self._acknowledge = acknowledge
        self._queue = queue
        self._workers = workers
        self._now = now
        self._step = step

    def __call__(self, event: Mapping[str, Any], context: InvocationContext) -> dict[str, Any]:
        """Bring the tables and views up to date with silver; or, with ``"reconcile": true`` in the event, compare them.

        A message fails with any of its keys, in any of the tables that the key is for; then it comes back, and what is
        done already is found done.

        A message that was received before may be the one that killed the function, and nobody knows which it was. So
        those come last, in groups that are cast anew at each receive, and what is finished is deleted from the queue
        before each group.

        Raises:
            SystemUnavailable: the system failed all that was begun.
            RoundFailed, NotSent: of a round.
        """
        total = context.get_remaining_time_in_millis()

        def has(share: float) -> bool:
            return context.get_remaining_time_in_millis() >= share * total

        if event.get("reconcile"):
            return self._round(event, lambda: has(RESERVE))
        batch = _Received()
        for messages in _groups([Message(record) for record in event.get("Records", [])]):
            if not has(RESERVE):
                self._hand_back(messages, batch)
                continue
            if batch.finished:
                attempt(self._acknowledge, batch.finished)
                batch.finished = []
            self._began([message.id for message in messages])
            self._work_on(messages, batch, lambda: has(RESERVE))
        self._keep(batch, lambda: has(UPKEEP))
        response = {"batchItemFailures": [{"itemIdentifier": message} for message in batch.failed]}
        if batch.failures and not batch.ended and all(failure.system for failure in batch.failures):
            error = batch.failures[0].error or {}
            raise SystemUnavailable(
                f"the system failed all {len(batch.failures)} messages of this invocation, the first by "
                f"{error.get('code')}: {error.get('message')}",
                response,
            )
        return response

    def compare(self, *, before: datetime | None = None, lineage: bool = True) -> Comparison:
        """Find what events missed. What differs is for the queue, like any other change; views are brought up to date
        here, for of a view that was declared later there is no event. ``before``: silver that is younger is left to
        its own event. ``lineage``: whether that is compared, too, with all of its ETags in memory."""
        comparison = Comparison()
        keys: dict[str, None] = {}
        for table in self._spec.tables:
            try:
                keys |= dict.fromkeys(differing(table, self._silver, self._gold, before=before))
            except (SilversmithError, OSError) as error:
                comparison.failed[table.name] = error
        if lineage and self._quarantine is not None:
            buckets = {"silver": self._silver, "quarantine": self._quarantine[1]}
            try:
                for transform in self._spec.lineage:
                    keys |= dict.fromkeys(differing_lineage(transform, **buckets, gold=self._gold, before=before))
            except (SilversmithError, OSError) as error:
                comparison.failed[LINEAGE] = error
        for view in self._spec.views:
            try:
                comparison.views |= refresh([view], self._gold, step=self._step)
            except (SilversmithError, OSError) as error:
                comparison.failed[view.name] = error
        comparison.differing = list(keys)
        return comparison

    def _round(self, event: Mapping[str, Any], has_time: Callable[[], bool]) -> dict[str, Any]:
        """Compare, and send what differs to the queue that the event names. Nothing is sent while many messages wait:
        what differs is probably among them, and each round would add another message of it."""
        if self._queue is None:
            raise RoundFailed("this function was given no queue to send to")
        queue = self._queue(event["queue"])
        waiting = queue.waiting()
        if waiting > BUSY:
            _log.info("skipped", extra={"skipped": True, "waiting": waiting})
            return {"skipped": True, "waiting": waiting}
        settled = timedelta(seconds=event.get("settled_seconds", SETTLED_SECONDS))
        # the reconciler proves the lineage, in ranges of keys
        comparison = self.compare(before=datetime.fromtimestamp(self._now(), UTC) - settled, lineage=False)
        events = (ObjectEvent(self._bucket, key) for key in comparison.differing)
        bodies = (object_created(each, reason="reconcile").decode() for each in events)

        def send(some: list[str]) -> int:
            if not has_time():
                return 0
            queue.send(some)
            return len(some)

        sent = sum(map_in_threads(send, batched(bodies, SENT_AT_ONCE), SENDERS))
        errors = {name: describe(error)["message"] for name, error in comparison.failed.items()}
        answer = {"sent": sent, "left": len(comparison.differing) - sent, "views": {**comparison.views}}
        _log.log(logging.ERROR if errors else logging.INFO, "reconciled", extra={**answer, "errors": errors})
        if errors:
            raise RoundFailed("; ".join(f"{name}: {message}" for name, message in errors.items()))
        return answer

    def _hand_back(self, messages: Iterable[Message], batch: _Received) -> None:
        """A timeout would throw away what the batch has done: so what cannot be done in time goes back."""
        for message in messages:
            attempt(self._release, message.receipt, 0.0)
            batch.failed.append(message.id)

    def _work_on(self, messages: Sequence[Message], batch: _Received, has_time: Callable[[], bool]) -> None:
        """Bring tables and views up to date with what some messages speak of, and settle these."""
        group = _Group(messages, self._bucket, self._quarantine[0] if self._quarantine is not None else "")
        self._follow(group, has_time)
        for table in self._spec.tables:
            self._bring(table, group, has_time)
        # though no table changed: an invocation before may have died between the table and the view
        for view in self._spec.views_over(group.versions):
            self._refresh(view, group)
        batch.changed |= group.changed
        for message in messages:
            error = group.errors.get(message.id)
            if isinstance(error, NoTime):
                self._hand_back([message], batch)
            else:
                self._settle(message, self._report(message, group, error), batch)

    def _follow(self, group: _Group, has_time: Callable[[], bool]) -> None:
        """Bring the lineage up to date with what some messages speak of."""
        mine = [key for transform in self._spec.lineage for key in group.keys_of(transform)]
        if not mine or self._quarantine is None:
            return
        quarantine = self._quarantine[1]

        def bring_lineage() -> Brought:
            return follow(
                self._spec.lineage,
                mine,
                silver=self._silver,
                quarantine=quarantine,
                gold=self._gold,
                step=self._step,
                workers=self._workers,
                has_time=has_time,
            )

        self._brought(LINEAGE, (FILE,), mine, group, bring_lineage)

    def _bring(self, table: TableSpec, group: _Group, has_time: Callable[[], bool]) -> None:
        mine = group.keys_of(table.transform)
        if not mine:
            return
        options: dict[str, Any] = {"silver": self._silver, "gold": self._gold, "sizes": group.sizes}
        options |= {"step": self._step, "workers": self._workers, "has_time": has_time}
        self._brought(table.name, table.sort_by, mine, group, lambda: bring(table, mine, **options))

    def _brought(
        self, name: str, sort_by: tuple[str, ...], keys: Sequence[str], group: _Group, work: Callable[[], Brought]
    ) -> None:
        """Note what became of a group's keys in one table."""
        began = time.perf_counter()
        try:
            brought = work()
        except Exception as error:  # noqa: BLE001 -- this table's failure and no other's
            group.fail(keys, error)
            self._worked(Work(name, time.perf_counter() - began, error=error))
            return
        group.versions[name] = brought.version
        if brought.commits:
            group.changed[name] = sort_by
        for key, reason in brought.failed.items():
            group.fail([key], reason)
        group.fail(brought.left, NoTime("there was no time for it: it comes back"))
        self._worked(Work(name, time.perf_counter() - began, brought=brought))

    def _refresh(self, view: ViewSpec, group: _Group) -> None:
        """Bring a view up to date. Where that fails, one message carries the next try: the files are in their tables,
        and as many tries as files would be too many."""
        began = time.perf_counter()
        try:
            refreshed = refresh([view], self._gold, step=self._step)[view.name]
        except Exception as error:  # noqa: BLE001 -- this view's failure and no table's
            reason = f"the view {view.name} could not be brought up to date: {describe(error)['message']}"
            transforms = [table.transform for table in self._spec.tables if view in self._spec.views_over([table.name])]
            group.fail_one(transforms, error if isinstance(error, Refused) else ViewFailed(reason))
            self._worked(Work(view.name, time.perf_counter() - began, error=error))
            return
        if refreshed in {Refresh.GROUPS, Refresh.WHOLE}:
            group.changed[view.name] = ()
        self._worked(Work(view.name, time.perf_counter() - began, refreshed=refreshed))

    def _report(self, message: Message, group: _Group, error: Exception | None) -> TablesReport:
        silver, event = group.silver_of.get(message.id, ()), group.first_of.get(message.id)
        names = [table.name for key in silver for table in self._spec.of_transform(key.partition("/")[0])]
        names += [LINEAGE] if self._spec.lineage else []
        versions = {name: group.versions[name] for name in names if name in group.versions}
        waited = age(event, datetime.fromtimestamp(self._now(), UTC)) if event is not None else None
        if error is None:
            return TablesReport(message.id, silver, versions, age=waited)
        system = is_system_fault(error)
        dead = isinstance(error, NotAnEvent) or (not system and message.receives >= TRIES)
        wait = wait_for_system(message.receives, message.id) if system else wait_for_user(message.receives)
        problem = describe(error)
        if isinstance(error, DataError):
            problem["code"] = error.code
        return TablesReport(
            message.id, silver, versions, problem, 0.0 if dead else wait, system=system, dead=dead, age=waited
        )

    def _settle(self, message: Message, report: TablesReport, batch: _Received) -> None:
        """Note what became of a message, and tell the queue."""
        if report.dead and report.error is not None:
            try:
                self._move_to_dlq(message.record, report.error)
            except Exception as error:  # noqa: BLE001 -- the message stays where it is
                wait = wait_for_system(message.receives, message.id)
                report = TablesReport(
                    message.id, report.silver, error=describe(error), retry_in=wait, system=True, age=report.age
                )
        if report.error is None or report.dead:
            batch.finished.append(message.receipt)
            batch.ended += 1
        else:
            batch.failed.append(message.id)
            batch.failures.append(report)
            attempt(self._release, message.receipt, report.retry_in or 0.0)
        self._ended(report)

    def _keep(self, batch: _Received, has_time: Callable[[], bool]) -> None:
        for name, sort_by in batch.changed.items():
            if not has_time():
                return
            try:
                kept = keep(name, self._gold, now=self._now(), sort_by=sort_by, step=self._step)
            except (SilversmithError, OSError):
                _log.warning("the table %s could not be compacted or vacuumed: it is tried again", name, exc_info=True)
                continue
            if kept != Kept():
                _log.info("kept", extra={"table": name, "compacted": kept.compacted, "vacuumed": kept.vacuumed})


@dataclass
class _Received:
    """The state of a batch so far: the receipts of what is finished and not deleted yet, the ids of what comes back,
    their reports, how many messages ended, and the tables and views that changed, with the columns that sort them."""

    finished: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    failures: list[TablesReport] = field(default_factory=list)
    ended: int = 0
    changed: dict[str, tuple[str, ...]] = field(default_factory=dict)


class _Group:
    """Some messages, the keys in silver that they are about, and what became of both."""

    def __init__(self, messages: Sequence[Message], bucket: str, quarantine: str) -> None:
        self.errors: dict[str, Exception] = {}
        self.versions: dict[str, int | None] = {}
        self.changed: dict[str, tuple[str, ...]] = {}
        self.silver_of: dict[str, tuple[str, ...]] = {}
        self.first_of: dict[str, ObjectEvent] = {}
        self.sizes: dict[str, int] = {}
        self._messages_of: defaultdict[str, list[str]] = defaultdict(list)
        self._receives = {message.id: message.receives for message in messages}
        for message in messages:
            try:
                events = [
                    event
                    for event in message.events
                    if event.bucket == bucket
                    or (event.bucket == quarantine and state_of(event.key) not in {"", SILVER})
                ]
            except NotAnEvent as error:
                self.errors[message.id] = error
                continue
            self.silver_of[message.id] = tuple(event.key for event in events)
            for event in events:
                self._messages_of[event.key].append(message.id)
                self.first_of.setdefault(message.id, event)
                self.sizes[event.key] = max(event.size or 0, self.sizes.get(event.key, 0))

    def keys_of(self, transform: str) -> list[str]:
        return [key for key in self._messages_of if key.startswith(f"{transform}/")]

    def fail(self, keys: Iterable[str], error: Exception) -> None:
        for key in keys:
            for message in self._messages_of[key]:
                self.errors.setdefault(message, error)

    def fail_one(self, transforms: Iterable[str], error: Exception) -> None:
        """Of the messages about these transforms' silver that have not failed, the one that was received most often
        fails: so the tries of several groups become those of one message."""
        keys = [key for transform in transforms for key in self.keys_of(transform)]
        ready = [message for key in keys for message in self._messages_of[key] if message not in self.errors]
        if ready:
            self.errors[max(ready, key=lambda message: self._receives[message])] = error


def _groups(messages: Sequence[Message]) -> list[list[Message]]:
    """Messages that come for the first time, together; then the others, apart. A checksum would not do: checksums of
    equally long texts differ by the same bits at each receive, and two messages would stay together for ever."""
    groups: defaultdict[int, list[Message]] = defaultdict(list)
    for message in messages:
        digest = hashlib.sha256(f"{message.receives} {message.id}".encode()).digest()
        groups[0 if message.receives < 2 else 1 + digest[0] % GROUPS].append(message)
    return [groups[number] for number in sorted(groups)]


class TableFunction:
    """A handler as Lambda runs it: the fate of each message, table and view is logged, and metrics are written.

    Args:
        pipeline: the deployed name, for the metrics.
        metrics: whether metrics are written.
        events: takes what became of files, for OpenLineage; None: nobody does.
        options: of the :class:`TableHandler`.
    """

    def __init__(
        self,
        pipeline: str,
        spec: GoldSpec,
        *,
        metrics: bool = True,
        events: LineageEvents | None = None,
        **options: Any,
    ) -> None:
        self._events = events
        self._pipeline = pipeline
        self._write = printed if metrics else lambda _: None
        self._tallies: dict[str, Tally] = {}
        self._handler = TableHandler(spec, ended=self._ended, worked=self._worked, **options)

    def __call__(self, event: Mapping[str, Any], context: InvocationContext) -> dict[str, Any]:
        """As :class:`TableHandler`."""
        with request(context):
            try:
                return self._handler(event, context)
            finally:
                for tally in self._tallies.values():
                    tally.flush()
                if self._events is not None:
                    self._events.flush(context.get_remaining_time_in_millis() / 1000 - SPARE)

    def _ended(self, report: TablesReport) -> None:
        line = {"message_id": report.message_id, **report.to_dict()}
        if self._events is not None:
            self._events.add(line, time.time())
        _log.log(_level(line), "%s", line["verdict"], extra=line)
        for name in report.tables:
            if report.error is None and report.age is not None:
                self._tally(name).measure("Age", report.age)

    def _worked(self, work: Work) -> None:
        line = work.to_dict()
        _log.log(_level(line), "%s", line["verdict"], extra=line)
        tally = self._tally(work.name)
        if work.error is not None:
            tally.count("Failed")
            return
        tally.measure("Duration", work.seconds)
        if work.brought is not None:
            counts = {
                "FilesCommitted": work.brought.replaced,
                "FilesRemoved": work.brought.removed,
                "FilesDuplicate": work.brought.unchanged,
                "FilesFailed": len(work.brought.failed),
                "RowsWritten": work.brought.rows,
            }
            for name, number in counts.items():
                if number:
                    tally.count(name, number)

    def _tally(self, name: str) -> Tally:
        if name not in self._tallies:
            self._tallies[name] = Tally({"Pipeline": self._pipeline, "Table": name}, write=self._write)
        return self._tallies[name]


def _level(line: Mapping[str, Any]) -> int:
    return logging.ERROR if line["verdict"] == "failed" else logging.INFO


def handler(event: Mapping[str, Any], context: InvocationContext) -> dict[str, Any]:
    """Lambda's entry point, configured by the template's environment variables: ``SILVERSMITH_TABLES`` (the tables and
    views as :meth:`GoldSpec.to_json` has them, or the path of a file with that, in the bundle), ``SILVERSMITH_STACK``
    (the deployed name), ``SILVERSMITH_SILVER``, ``SILVERSMITH_GOLD`` and, where the lineage is kept,
    ``SILVERSMITH_QUARANTINE`` (the buckets), ``SILVERSMITH_QUEUE`` and
    ``SILVERSMITH_DLQ`` (their URLs). ``SILVERSMITH_LOG_LEVEL`` and ``SILVERSMITH_METRICS`` (``off``) are yours to set:
    docs/observability.md"""
    return _from_environment()(event, context)


@cache
def _from_environment() -> TableFunction:
    """Built once per execution environment, so that warm invocations pay nothing for it."""
    from silversmith.stores.s3 import aws_client

    set_up()
    return build(os.environ, s3=aws_client("s3"), sqs=cache(partial(aws_client, "sqs")))


def build(environment: Mapping[str, str], *, s3: Any, sqs: Callable[[], Any]) -> TableFunction:
    """The function that an environment describes. ``s3`` is a boto3 client, ``sqs`` gives one."""
    from silversmith.stores.s3 import S3Store

    scratch = Path(tempfile.gettempdir())
    silver, quarantine = environment["SILVERSMITH_SILVER"], environment.get("SILVERSMITH_QUARANTINE", "")
    queue = FunctionQueue(environment["SILVERSMITH_QUEUE"], environment["SILVERSMITH_DLQ"], sqs)
    name = environment["SILVERSMITH_STACK"]
    return TableFunction(
        name,
        read_spec(environment["SILVERSMITH_TABLES"], Path(environment.get("LAMBDA_TASK_ROOT", ""))),
        metrics=environment.get("SILVERSMITH_METRICS", "on").lower() != "off",
        events=of_environment(environment, name, Places.on_s3("", silver, environment["SILVERSMITH_GOLD"])),
        bucket=silver,
        silver=S3Store(silver, client=s3, scratch=scratch),
        quarantine=(quarantine, S3Store(quarantine, client=s3, scratch=scratch)) if quarantine else None,
        gold=DeltaFormat(
            f"s3://{environment['SILVERSMITH_GOLD']}", scratch=scratch, storage_options=storage_options(environment)
        ),
        release=queue.release,
        move_to_dlq=queue.move_to_dlq,
        acknowledge=queue.acknowledge,
        queue=lambda url: SqsQueue(url, sqs()),
    )


def storage_options(environment: Mapping[str, str]) -> dict[str, str]:
    """delta-rs's options for S3 besides the credentials and the region, which it finds in the environment itself."""
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    if not endpoint:
        return {}
    return {"AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": str(endpoint.startswith("http:")).lower()}


def read_spec(text: str, folder: Path = Path()) -> GoldSpec:
    """The tables and views from their JSON, or from a file below a folder with it: an environment takes 4 KB in all.
    https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""
    return GoldSpec.from_json(text if text.lstrip().startswith("{") else folder.joinpath(text).read_bytes())
