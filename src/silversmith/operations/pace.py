"""Send many files: how many, how long and how dear before the first is sent; then at a rate, until too many fail.

A plan takes no request for a single file: the lineage knows, or a listing, or the depth of a queue. So it may say "at
most".
"""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import islice
from typing import Any, NamedTuple, Protocol, TypeVar

import polars as pl

from silversmith.errors import SilversmithError
from silversmith.keypatterns import KeyPattern
from silversmith.lineage import error_key, failed_key, silver_key
from silversmith.operations.estimate import Burst, Functions, assumed, costs, estimate
from silversmith.operations.failures import ERROR, MOST_LISTED, QuarantineKeys, failed_rows, matches, rows_or_none
from silversmith.operations.send import (
    QUARANTINE,
    FailureSelection,
    Place,
    Range,
    SentBatch,
    SentFile,
    from_place,
    matching,
    transforms_of,
)
from silversmith.operations.target import Target
from silversmith.operations.text import count
from silversmith.pipeline import Pipeline, Transform
from silversmith.pipeline.deployment import Deployment
from silversmith.pipeline.lookups import current_digest
from silversmith.reconcile.rows import LineageRows
from silversmith.stores import map_in_threads
from silversmith.tables.spec import FILE
from silversmith.template.transform import concurrency

#: Files a second that one command sends to SQS where no rate is given: bench/notes/0175-plans.md
SENT_PER_SECOND = 1_000.0


class Certainty(StrEnum):
    """How far a number of files can be trusted."""

    EXACT = ""
    ABOUT = "about"
    AT_MOST = "at most"
    AT_LEAST = "at least"


class FileCount(NamedTuple):
    """So many files, and their bytes."""

    files: int = 0
    size: int = 0

    def plus(self, files: int, size: int) -> FileCount:
        return FileCount(self.files + files, self.size + size)


@dataclass(frozen=True)
class TransformPlan:
    """What it takes to send so many files to a transform. ``transform`` empty: to all that match.

    ``size`` in bytes, 0: nobody knows. ``minutes`` until all are in silver, by the model of ``silversmith estimate``
    with ``at_once`` invocations, or on this machine processes, side by side. ``dollars`` at AWS's list prices.
    """

    transform: str
    files: int
    size: int
    minutes: float
    dollars: float
    at_once: int


@dataclass(frozen=True)
class SendPlan:
    """What it takes to send files. The transforms work side by side."""

    certainty: Certainty
    transforms: tuple[TransformPlan, ...]

    @property
    def files(self) -> int:
        return sum(each.files for each in self.transforms)

    @property
    def size(self) -> int:
        return sum(each.size for each in self.transforms)

    @property
    def minutes(self) -> float:
        return max((each.minutes for each in self.transforms), default=0.0)

    @property
    def dollars(self) -> float:
        return sum(each.dollars for each in self.transforms)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "certainty": self.certainty.value or "exact",
            **{name: getattr(self, name) for name in ("files", "size", "minutes", "dollars")},
            "transforms": [asdict(each) for each in self.transforms],
        }


#: By transform, the number of files and of their bytes.
Counts = Mapping[str, tuple[int, int]]


def plan_of(
    counts: Counts,
    certainty: Certainty,
    pipeline: Pipeline,
    target: Target,
    *,
    rate: float | None,
    deployed: bool,
    workers: int | None = None,
) -> SendPlan:
    """The plan of sending so many files to each transform.

    Args:
        counts: by transform.
        certainty: of the counts.
        pipeline: the pipeline.
        target: its measurements of a file's time count, where it has some.
        rate: files a second, or None.
        deployed: it runs on AWS.
        workers: the processes that work on this machine; None: one for each CPU.
    """
    by_name = {transform.name: transform for transform in pipeline.transforms}
    options = Deployment()
    memory = options.tables_memory if pipeline.tables else None
    plans = []
    for name, (files, whole) in counts.items():
        transform = by_name.get(name)
        if transform is None or not files:  # a rule's message goes to whichever transforms match
            plans.append(TransformPlan(name, files, whole, 0.0, 0.0, 0))
            continue
        size = max(1, whole // files)
        measured = None
        with suppress(SilversmithError):  # who may not read the metrics gets the assumption
            measured = target.file_time(name)
        file_time = measured or assumed(size)
        if deployed:
            functions = Functions(transform.memory, transform.batch_size, concurrency(transform, options), memory)
            burst = Burst(files, size, rate or SENT_PER_SECOND)
            result = estimate(burst, functions, file_time)
            paid = costs(burst, functions, result.file_seconds)
            dollars = sum(sum_ for service, sum_ in paid.items() if service not in {"EventBridge", "SNS"})
            minutes, at_once = result.silver / 60, result.invocations_at_once
        else:
            at_once = workers or os.cpu_count() or 1
            seconds = file_time.seconds * (max(1.0, size / file_time.size) if file_time.size else 1.0)
            sending = files / rate if rate is not None else 0.0
            minutes, dollars = max(sending, files * seconds / at_once) / 60, 0.0
        plans.append(TransformPlan(name, files, whole, minutes, dollars, at_once))
    return SendPlan(certainty, tuple(plans))


# -- how many


def count_replay(
    pipeline: Pipeline,
    target: Target,
    objects: Range,
    *,
    transform: str | None = None,
    changed: bool = False,
    after: Place | None = None,
) -> tuple[Counts, Certainty]:
    """The files that a replay sends: one listing of bronze, or with ``changed`` the rows of the lineage.

    Those do not say when a file landed.
    """
    chosen = transforms_of(pipeline, transform)
    has_since = not objects.is_key and any(each.since for each in chosen)
    is_timed = has_since or objects.since is not None or objects.until is not None
    rows = rows_or_none(target) if changed else None
    counts: dict[str, FileCount] = {}
    for each, start in from_place(chosen, after):
        if rows is not None:
            counts[each.name] = _changed(rows, each, target, objects.pattern, start)
            continue
        number = FileCount()
        for head in matching(target.lake.bronze, each, objects, start):
            if not each.pattern.passes_over(head.key, head.size) and not objects.leaves(each, head):
                number = number.plus(1, head.size)
        counts[each.name] = number
    if not changed:
        return counts, Certainty.EXACT
    return counts, Certainty.ABOUT if rows is not None and not is_timed else Certainty.AT_MOST


def count_changed(
    pipeline: Pipeline, target: Target, *, transform: str | None = None, after: Place | None = None
) -> tuple[Counts, Certainty]:
    """The files that ``reconcile --changed`` sends, but for those that are missing."""
    every = Range(KeyPattern.parse("*"))
    return count_replay(pipeline, target, every, transform=transform, changed=True, after=after)


def count_redrive(
    pipeline: Pipeline, target: Target, selection: FailureSelection, *, after: Place | None = None
) -> tuple[Counts, Certainty]:
    """The failures that a redrive sends: by the lineage, or a listing of quarantine; and by the queues' depths."""
    chosen = transforms_of(pipeline, selection.transform)
    counts = dict.fromkeys((each.name for each in chosen), FileCount())
    bounds = (selection.error, selection.since, selection.until, selection.pattern, after)
    is_narrow = any(each is not None for each in bounds)
    certainty = Certainty.AT_MOST if is_narrow else Certainty.ABOUT
    if selection.where in {None, QUARANTINE}:
        rows = rows_or_none(target)
        if rows is not None:
            counts |= _quarantined(rows, selection)
        else:
            keys = QuarantineKeys(
                target.lake.quarantine,
                selection.transform,
                selection.pattern,
                ERROR,
                most=MOST_LISTED,
                start_after=f"{after}{ERROR}" if after is not None else "",
            )
            for key in keys:
                name = key.partition("/")[0]
                counts[name] = counts.get(name, FileCount()).plus(1, 0)
            certainty = Certainty.AT_LEAST if keys.more and not is_narrow else certainty
    if selection.where != QUARANTINE:
        for queues in target.queues():
            if queues.transform in counts:
                counts[queues.transform] = counts[queues.transform].plus(queues.dead, 0)
        rules = sum(depth.total for depth in target.rules_dead())
        if rules:
            counts[""] = FileCount(rules)
    return {name: number for name, number in counts.items() if number.files}, certainty


def _changed(rows: LineageRows, transform: Transform, target: Target, pattern: KeyPattern, after: str) -> FileCount:
    """The files whose silver was made by other code, or with other lookups."""
    silver = rows.scan("silver", transform=transform.name)
    if silver is None:
        return FileCount()
    lookups = current_digest(target.lake.bronze, transform.lookups)
    is_other = (pl.col("fingerprint") != transform.fingerprint) | (pl.col("lookups") != lookups)
    other = silver.filter(is_other, pl.col(FILE) > after)
    return next(iter(_sums(other if pattern.text == "*" else other.filter(matches(pattern)))), ("", FileCount()))[1]


def _quarantined(rows: LineageRows, selection: FailureSelection) -> dict[str, FileCount]:
    failed = failed_rows(rows, selection.transform, selection.pattern)
    if failed is None:
        return {}
    conditions = [pl.col("state") == "quarantined"]
    if selection.error is not None:
        conditions.append(pl.col("error").str.to_lowercase() == selection.error.lower())
    seconds = pl.col("committed_at").dt.epoch("us") / 1e6
    if selection.since is not None:
        conditions.append(seconds >= selection.since)
    if selection.until is not None:
        conditions.append(seconds < selection.until)
    return dict(_sums(failed.filter(*conditions)))


def _sums(rows: pl.LazyFrame) -> Iterator[tuple[str, FileCount]]:
    sums = rows.group_by("transform").agg(pl.len(), pl.col("bronze_size").sum()).collect(engine="streaming")
    for name, files, size in sums.iter_rows():
        yield name, FileCount(files, size or 0)


# -- the rate, and the brake

#: The share of files that may fail before the brake stops the sending; of files that failed before, more may.
MOST_FAILURES, MOST_FAILURES_AGAIN = 0.1, 0.5

#: The outcomes of so many files must be known before their share counts, and so many of the last ones count.
LEAST_KNOWN, LAST_KNOWN = 20, 200

#: So many files are watched at once, for so many seconds; then another one is.
WATCHED, WATCHED_FOR = 30, 120.0

#: Seconds from one look at the watched files to the next, and from one look at queues that are too full to the next.
LOOK_EVERY, WAIT_FOR_QUEUE = 5.0, 2.0

#: So many messages may wait in the queues, before and after enough outcomes are known. So what fails can still be
#: stopped; and functions are kept busy: Lambda runs up to 1,000 batches of a queue at once.
FIRST_AHEAD, MOST_AHEAD = 1_000, 10_000


def batch_of(rate: float | None, most: int) -> int:
    """So many files are sent at once: at most those of one second."""
    return most if rate is None else max(1, min(most, int(rate)))


class Limiter:
    """Keeps to a rate, in files a second; None: to none. In any ``t`` seconds at most ``rate * t`` files and one batch
    are sent.

    ``clock`` in seconds, only rising.
    """

    def __init__(
        self,
        rate: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._due = -math.inf

    def add(self, files: int) -> None:
        """So many files were sent."""
        if self._rate is not None:
            self._due = max(self._due, self._clock()) + files / self._rate

    def wait(self) -> None:
        """Wait until the next batch may be sent."""
        while (seconds := self._due - self._clock()) > 0:
            self._sleep(seconds)


class TooManyFailures(SilversmithError):
    """More of the files that were sent failed than ``--max-failures`` allows."""


class Watched(Protocol):
    """What a brake watches."""

    def outcome(self, file: SentFile, since: float) -> bool | None:
        """Whether a file became silver since a time (Unix seconds); False: it failed, None: it is not known."""

    def backlog(self) -> int:
        """About how many messages wait in the queues, or are being worked on."""


@dataclass(frozen=True)
class WatchedTarget:
    """The transforms' queues, and what silver and quarantine have of single files: three HEADs for each look at one."""

    target: Target

    def outcome(self, file: SentFile, since: float) -> bool | None:
        lake = self.target.lake
        whole = int(since)  # S3 dates to the second
        for bucket, key, outcome in (
            (lake.quarantine, error_key(file.transform, file.key), False),
            (lake.quarantine, failed_key(file.transform, file.key), False),
            (lake.silver, silver_key(file.transform, file.key), True),
        ):
            head = bucket.head(key)
            if head is not None and head.modified.timestamp() >= whole:
                return outcome
        return None

    def backlog(self) -> int:
        return sum(queues.queue.total for queues in self.target.queues())


class Brake:
    """Stops the sending when too many files fail, and keeps it from running far ahead of the functions.

    It looks at a sample of the files that were sent. One that the same code has made silver of already says nothing.

    Args:
        limit: the share of files that may fail, from 0 to 1.
        watched: where outcomes are seen.
        clock: Unix seconds.
        sleep: waits for so many seconds.
        tell: gets a note when the sending waits for the functions.
        workers: so many files are looked at side by side.
    """

    def __init__(
        self,
        limit: float,
        watched: Watched,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], object] = time.sleep,
        tell: Callable[[str], None] = lambda _: None,
        workers: int = 1,
    ) -> None:
        self._limit = limit
        self._watched = watched
        self._clock = clock
        self._sleep = sleep
        self._tell = tell
        self._workers = workers
        self._pending: deque[tuple[SentFile, float]] = deque()
        self._known: deque[bool] = deque(maxlen=LAST_KNOWN)
        self._looked_at = clock()
        self._since_backlog = 0
        self._has_told = False

    def add(self, files: Sequence[SentFile]) -> None:
        """These files were sent."""
        now = self._clock()
        room = WATCHED - len(self._pending)
        own = [file for file in files if file.transform]  # a rule's message goes to whichever transforms match
        if room > 0 and own:
            step = max(1, len(own) // room)
            self._pending += ((file, now) for file in islice(own[::step], room))
        self._since_backlog += len(files)

    def check(self) -> None:
        """Look, where it is time to. While too many messages wait for the functions, wait.

        Raises:
            TooManyFailures: more of the files failed than may.
        """
        while True:
            if self._clock() - self._looked_at >= LOOK_EVERY:
                self._look()
            if self._since_backlog < FIRST_AHEAD:
                return
            ahead = MOST_AHEAD if len(self._known) >= LEAST_KNOWN else FIRST_AHEAD
            backlog = self._watched.backlog()
            if backlog <= ahead:
                self._since_backlog = 0
                return
            if not self._has_told:
                self._tell(
                    f"{count(backlog, 'message')} wait for the functions: the next files are sent when fewer than "
                    f"{ahead:,} do, so that they can be stopped if these fail"
                )
                self._has_told = True
            self._sleep(WAIT_FOR_QUEUE)

    def _look(self) -> None:
        pending = list(self._pending)
        outcomes = map_in_threads(lambda each: self._watched.outcome(*each), pending, self._workers)
        left = deque[tuple[SentFile, float]]()
        for each, outcome in zip(pending, outcomes, strict=True):
            if outcome is not None:
                self._known.append(outcome)
            elif self._clock() - each[1] < WATCHED_FOR:
                left.append(each)
        self._pending = left
        self._looked_at = self._clock()
        failed = self._known.count(False)
        if len(self._known) >= LEAST_KNOWN and failed > self._limit * len(self._known):
            raise TooManyFailures(
                f"{failed:,} of the last {count(len(self._known), 'file')} whose outcome is known failed, more than "
                f"--max-failures {self._limit:g} allows: see `silversmith failures`"
            )


_Batch = TypeVar("_Batch", bound=SentBatch)


def paced(batches: Iterable[_Batch], limiter: Limiter, brake: Brake | None) -> Iterator[_Batch]:
    """The batches, each of which is sent when it is asked for; between them the limiter waits, and the brake looks.

    Raises:
        TooManyFailures: see :class:`Brake`. All batches before were returned.
    """
    for batch in batches:
        files = batch.files
        limiter.add(len(files))
        yield batch
        if brake is not None:
            brake.add(files)
            brake.check()
        limiter.wait()
