"""A lake on this machine as a target: its folders, and the engine's journal where there is one."""

from __future__ import annotations

import getpass
import platform
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

import orjson

from silversmith import faults
from silversmith.errors import SilversmithError
from silversmith.events import ObjectEvent
from silversmith.local import resend
from silversmith.local.journal import Journal
from silversmith.local.lake import LakeFolder, engine_runs
from silversmith.local.records import LakeRecords, QueueTimes
from silversmith.local.stack import QueueResource, StackResources, read
from silversmith.operations import WrongCall, tables_installed
from silversmith.operations.profile import news
from silversmith.operations.target import (
    AlarmState,
    DeadKind,
    DeadMessage,
    Depth,
    FileTime,
    Hop,
    LastOutcome,
    Lately,
    News,
    Target,
    TransformQueues,
    first_event,
)
from silversmith.operations.text import count
from silversmith.operations.versions import GoldFiles, LocalVersions, Versions
from silversmith.pipeline import Pipeline, Transform
from silversmith.schemas import Owner
from silversmith.stores import Lake

if TYPE_CHECKING:
    from silversmith.tables.format import Format

#: So many seconds an engine takes at the most to notice that a file is gone.
NOTICED = 10.0

#: So many dead messages are read from the journal at a time.
PAGE = 500

#: The stages of a file in which a worker computes, and the most files whose stages are added up.
COMPUTING = ("parse", "contract", "transform", "one pass", "write")
MEASURED = 1_000


class JournalUnreadable(SilversmithError):
    """The journal's file is damaged, or is no journal."""


@contextmanager
def open_lake(
    folder: LakeFolder, pipeline: Pipeline, *, writable: bool = False, clock: Callable[[], float] = time.time
) -> Iterator[LocalTarget]:
    """Open a lake as a target. An engine may be running over it. Only ``writable`` allows to send messages.

    Raises:
        WrongCall: there is no lake in this folder.
        JournalUnreadable, JournalTooNew: the journal cannot be read.
    """
    if not (folder.state.is_dir() or folder.bucket(pipeline.bronze).is_dir()):
        raise WrongCall(
            f"there is no lake in {folder.path}: it has no folder {pipeline.bronze}. Name the lake with --lake, or "
            "make one with `silversmith run` or `silversmith put`."
        )
    with ExitStack() as opened:
        try:
            journal = Journal(folder.journal, readonly=not writable) if folder.journal.is_file() else None
            if journal is not None:
                opened.callback(journal.close)
                journal = journal if _is_whole(journal) else None
            yield LocalTarget(folder, pipeline, journal, clock=clock)
        except sqlite3.DatabaseError as error:
            raise JournalUnreadable(
                f"{folder.journal} cannot be read: {error}. If that lasts, stop the engine and move the file away: the "
                "next `silversmith run` makes a new one from the buckets. History is lost then, and messages in "
                "dead-letter queues."
            ) from error


def _is_whole(journal: Journal) -> bool:
    """Whether it has its tables: an engine may have died while it created the file."""
    try:
        journal.counter("sequencer")
    except sqlite3.DatabaseError as error:
        if "no such table" not in str(error):
            raise
        return False
    return True


@dataclass(frozen=True)
class Origin:
    """A queue, a subscription or a rule, which can give up on a message, with its transform and function."""

    kind: DeadKind
    name: str
    transform: str | None = None
    function: str | None = None
    queue: QueueResource | None = None
    is_of_tables: bool = False


class LocalTarget(Target):
    """A target that is a folder.

    Args:
        folder: the lake.
        pipeline: its pipeline.
        journal: the engine's, or None where none ever ran.
        clock: the time in Unix seconds.
    """

    def __init__(
        self, folder: LakeFolder, pipeline: Pipeline, journal: Journal | None, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.pipeline = pipeline
        self._folder = folder
        self._journal = journal
        self._clock = clock

    @property
    def place(self) -> str:
        return str(self._folder.path)

    @cached_property
    def lake(self) -> Lake:
        return self._folder.stores(self.pipeline)

    @cached_property
    def gold(self) -> Format:
        with tables_installed():
            from silversmith.tables.delta import DeltaFormat
        self._folder.scratch.mkdir(parents=True, exist_ok=True)
        return DeltaFormat(self._folder.bucket(self.pipeline.gold), scratch=self._folder.scratch)

    @property
    def owner(self) -> Owner:
        return self._folder.owner(self.pipeline)

    @property
    def remembers(self) -> bool:
        return self._journal is not None

    @property
    def no_history(self) -> str:
        return "no engine ever ran over this lake"

    def running(self) -> bool:
        return engine_runs(self._folder)

    @cached_property
    def _stack(self) -> StackResources:
        """The template's resources, compiled when they are first needed, because that takes a while."""
        from silversmith.template import compile_for_engine

        return read(compile_for_engine(self.pipeline))

    def _rows(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        return self._journal.rows(query, **values) if self._journal is not None else []

    def totals(self) -> Mapping[str, int]:
        return dict(self._rows("counters"))

    def on_the_way(self) -> int:
        return sum(count for (count,) in self._rows("on_the_way"))

    def quarantined(self, transform: str) -> int:
        return sum(count for (count,) in self._rows("quarantined_of", transform=transform))

    def queues(self) -> list[TransformQueues]:
        return [self._depths(queue, each.transform) for queue, each in self._served if each.transform is not None]

    def tables_queue(self) -> TransformQueues | None:
        return next((self._depths(queue, "") for queue, each in self._served if each.is_of_tables), None)

    def _depths(self, queue: QueueResource, transform: str) -> TransformQueues:
        dead = [queue.dead_letter_arn]
        dead += [item.dead_letter_arn for item in self._stack.subscriptions if item.queue_arn == queue.arn]
        depths = tuple(self._depth(arn) for arn in dict.fromkeys(dead) if arn)
        return TransformQueues(transform, self._depth(queue.arn), depths)

    def rules_dead(self) -> list[Depth]:
        arns = [rule.dead_letter_arn for rule in self._stack.rules]
        return [self._depth(arn) for arn in dict.fromkeys(arns) if arn]

    def hops(self, key: str, most: int) -> list[Hop]:
        rows = self._rows("recent_hops", key=key, most=most)
        return [
            Hop(version, at, room, name, what, _json(detail))
            for version, at, room, name, what, detail in reversed(rows)
        ]

    def newest(self) -> int:
        return max((number or 0 for (number,) in self._rows("newest_hop")), default=0)

    def news(self, after: int, most: int) -> list[News]:
        return news(self._journal, after, most) if self._journal is not None else []

    def tallies(self, width: int, since: int) -> list[tuple[int, str, str, int]]:
        return self._rows("tallies", width=width, since=since)

    def outcome(self, transform: str, key: str) -> LastOutcome | None:
        for verdict, version, at, detail in self._rows("outcome", transform=transform, key=key):
            return LastOutcome(verdict, version, at, _json(detail))
        return None

    def file_time(self, transform: str) -> FileTime | None:
        """By the stages in which a worker computes, of files that it has committed: others wait for a disk here, and
        for S3 there."""
        details = [_json(detail) for (detail,) in self._rows("committed", transform=transform, most=MEASURED)]
        files = [detail for detail in details if detail.get("stages")]
        if not files:
            return None
        seconds = sum(detail["stages"].get(stage, 0.0) for detail in files for stage in COMPUTING)
        bytes_ = sum(int(detail.get("size") or 0) for detail in files)
        source = f"measured: {count(len(files), 'file')} in the lake {self.place}"
        return FileTime(seconds / len(files), source, bytes_ / len(files))

    def dead(self) -> Iterator[DeadMessage]:
        serving = {queue.arn for queue, _ in self._served}
        for (queue,) in self._rows("queues_in_use"):
            if queue not in serving:
                yield from self._dead_in(queue)

    def waiting(self, transform: str, etags: Mapping[str, str]) -> Set[str]:
        if self._journal is None:
            return set()
        return resend.pending(self._journal, self._routes[transform], etags)

    def send(self, transform: str, events: Sequence[ObjectEvent], *, reason: str) -> None:
        queue = self._routes[transform].queue
        resend.send(self._journal_of_an_engine(), queue, events, reason=reason, now=self._clock())

    def send_to_tables(self, keys: Sequence[str], *, reason: str) -> int:
        route = resend.route_of_tables(self._stack)
        assert route is not None  # who has tables has their queue
        return resend.send_silver(
            self._journal_of_an_engine(),
            route,
            keys,
            bronze=self.pipeline.bronze,
            silver=self.pipeline.silver,
            reason=reason,
            now=self._clock(),
        )

    def redrive(self, messages: Sequence[DeadMessage]) -> int:
        journal = self._journal_of_an_engine()
        with journal.transaction():
            moved = sum(self._redrive(journal, message.message_id) for message in messages)
        faults.point("redrive.after_commit")
        return moved

    def _redrive(self, journal: Journal, message_id: str) -> bool:
        """Redrive by the journal's state now, not by that of the listing."""
        for _, source in journal.rows("dead_message", message_id=message_id):
            origin = self._origins.get(source or "")
            if origin is None:
                return False
            now = self._clock()
            if origin.queue is not None:
                return resend.back_to_queue(journal, message_id, origin.queue, now=now)
            if origin.kind is DeadKind.RULE:
                name = self.pipeline.silver if origin.is_of_tables else self.pipeline.bronze
                bucket = next(each.arn for each in self._stack.buckets if each.name == name)
                return resend.back_to_bus(journal, message_id, source=bucket, bus=self._stack.bus_arn, now=now)
        return False

    @property
    def who(self) -> str:
        return f"{getpass.getuser()} on {platform.node()}"

    def versions(self, role: str) -> Versions:
        name = getattr(self.pipeline, role)
        return LocalVersions(name, self._folder.store(name, foreign_writers=role in {"bronze", "gold"}))

    def gold_files(self) -> GoldFiles | None:
        folder = self._folder.bucket(self.pipeline.gold)
        if not folder.is_dir():
            return None
        return GoldFiles(self._folder.store(self.pipeline.gold, foreign_writers=True), str(folder))

    def records(self, keys: Collection[str]) -> Mapping[str, int]:
        return self._lake_records.find(keys)

    def erase_records(self, keys: Collection[str]) -> list[str]:
        return self._lake_records.erase(keys)

    def settle(self, keys: Collection[str], transforms: Sequence[Transform], pause: Callable[[float], None]) -> None:
        """A worker has at most the time of one invocation; and the engine notices files that are gone."""
        left = max((transform.timeout for transform in transforms), default=0) + NOTICED
        while left > 0 and self._lake_records.is_at_work(keys):
            pause(0.2)
            left -= 0.2

    @cached_property
    def _lake_records(self) -> LakeRecords:
        stack = self._stack
        timeouts = {function.arn: function.timeout for function in stack.functions}
        hidden = {queue.arn: queue.visibility_timeout for queue in stack.queues}
        return LakeRecords(
            self._folder,
            self._journal,
            bronze=self.pipeline.bronze,
            transforms=[transform.name for transform in self.pipeline.transforms],
            times={
                mapping.queue_arn: QueueTimes(hidden[mapping.queue_arn], timeouts[mapping.function_arn])
                for mapping in stack.mappings
            },
            clock=self._clock,
        )

    def _journal_of_an_engine(self) -> Journal:
        if self._journal is None:
            raise WrongCall(
                f"no engine ever ran over {self.place}, so there is no queue to send to. Start one with "
                "`silversmith run`: it finds every file in bronze by itself."
            )
        return self._journal

    @cached_property
    def _routes(self) -> Mapping[str, resend.Route]:
        return resend.routes(self._stack)

    def alarms(self) -> AlarmState:
        return AlarmState.read(self._folder.alarms)

    def lately(self, since: float, most: int) -> list[Lately]:
        """Up to ``most`` failures since a time, from the history alone: enough for the summary of a run."""
        failures = []
        for transform, key, _, detail in self._rows("quarantined_lately", since=since, most=most):
            error = _error(_json(detail))
            failures.append(Lately(transform, key, str(error.get("code", "")), str(error.get("message", ""))))
        dead = (message for message in self.dead() if message.dead_at is not None and message.dead_at >= since)
        for message in islice(dead, most - len(failures)):
            error = message.error or {"code": "Undelivered", "message": message.reason}
            failures.append(Lately(message.transform, message.key, str(error.get("code")), str(error.get("message"))))
        return failures

    def _dead_in(self, queue: str) -> Iterator[DeadMessage]:
        after = 0
        while rows := self._rows("dead_messages", queue=queue, after=after, most=PAGE):
            for row, message_id, _, key, version, body, sent, source, reason, dead_at in rows:
                after = row
                origin = self._origins.get(source or "", Origin(DeadKind.UNKNOWN, _name(source or "")))
                detail = self._last_failure(origin, key, version)
                yield DeadMessage(
                    message_id=message_id,
                    kind=origin.kind,
                    source=origin.name,
                    queue=_name(queue),
                    transform=first_event(body).key.partition("/")[0] or None
                    if origin.is_of_tables
                    else origin.transform,
                    key=key,
                    version=version,
                    reason=reason or "",
                    sent=sent,
                    dead_at=dead_at,
                    attempts=detail.get("attempt"),
                    error=_error(detail) or None,
                    tables=origin.is_of_tables,
                )

    def _last_failure(self, origin: Origin, key: str, version: str) -> Mapping[str, Any]:
        """The function's last report on it. Only a queue's messages ever reached a function."""
        if origin.kind is not DeadKind.QUEUE:
            return {}
        for (detail,) in self._rows("last_failure", key=key, version=version, name=origin.function):
            return _json(detail)
        return {}

    @property
    def _served(self) -> Iterator[tuple[QueueResource, Origin]]:
        """The queues that functions are mapped to."""
        origins = ((queue, self._origins[queue.arn]) for queue in self._stack.queues)
        return ((queue, origin) for queue, origin in origins if origin.queue is not None)

    @cached_property
    def _origins(self) -> dict[str, Origin]:
        """By ARN, everything that can give up on a message."""
        stack = self._stack
        functions = {function.arn: function for function in stack.functions}
        served = {mapping.queue_arn: functions[mapping.function_arn] for mapping in stack.mappings}
        origins: dict[str, Origin] = {}
        for queue in stack.queues:
            origin = Origin(DeadKind.QUEUE, queue.name)
            if function := served.get(queue.arn):
                transform = function.environment.get("SILVERSMITH_TRANSFORM")
                origin = replace(
                    origin, transform=transform, function=function.name, queue=queue, is_of_tables=transform is None
                )
            origins[queue.arn] = origin
        topics: set[str] = set()
        for item in stack.subscriptions:
            if of_queue := origins.get(item.queue_arn):
                origins[item.arn] = replace(of_queue, kind=DeadKind.SUBSCRIPTION, name=_name(item.arn))
                topics |= {item.topic_arn} if of_queue.is_of_tables else set()
        for rule in stack.rules:
            is_of_tables = not topics.isdisjoint(rule.targets)
            origins[rule.arn] = Origin(DeadKind.RULE, rule.name, is_of_tables=is_of_tables)
        return origins

    def _depth(self, arn: str) -> Depth:
        rows = self._rows("depth", queue=arn, now=self._clock()) or [(0, 0, None)]
        total, hidden, oldest = rows[0]
        return Depth(_name(arn), total - hidden, hidden, oldest)


def _name(arn: str) -> str:
    return arn.rpartition(":")[2]


def _json(text: str) -> dict[str, Any]:
    value = orjson.loads(text)
    return value if isinstance(value, dict) else {}


def _error(detail: Mapping[str, Any]) -> Mapping[str, Any]:
    error = detail.get("error")
    return error if isinstance(error, dict) else {}
