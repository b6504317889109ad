"""The first page: is my data fine? Today's numbers, what fails and why, and how each transform does. And the flow: the
chain as a picture, with its numbers as they change."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from silversmith.errors import SilversmithError
from silversmith.operations.reports import Status, TablesQueue, TransformStatus
from silversmith.operations.target import HOUR, DayCounts, Target
from silversmith.operations.text import count, duration
from silversmith.page.context import ViewContext, engine, number
from silversmith.page.failures import Cause, alike, causes_now
from silversmith.page.history import SPANS, Bar, FileCounts, History, Plot, draw, midnight, per_second, spark
from silversmith.page.recent import MOST_PAUSES, FileEvent, LastFiles, Overview, longest_pause, stored
from silversmith.pipeline import Pipeline


@dataclass(frozen=True)
class Flow:
    """The numbers of the picture. ``values`` are texts by name, ``marks`` the states (``busy``, ``bad``) by name: a
    browser replaces them by name."""

    values: dict[str, str] = field(default_factory=dict)
    marks: dict[str, bool] = field(default_factory=dict)


def flow(status: Status | None, rates: Mapping[str, float]) -> Flow:
    """The picture's numbers. ``rates``: how much each counter rises in a second."""
    if status is None:
        return Flow()
    chain = status.chain
    created, events = rates.get("bucket.created", 0.0), rates.get("bus.events", 0.0)
    values = {
        "engine": engine(status),
        "bucket.created": number(chain.created),
        "bucket.rate": per_second(created, chain.created),
        "rule.unmatched": number(chain.unmatched),
        "rule.rate": per_second(events, chain.events),
        "rule.dead": f"{chain.dead:,}",
        "topic.published": number(chain.published),
        "topic.rate": per_second(rates.get("topic.published", 0.0), chain.published),
        "topic.way": number(chain.on_the_way),
        "topic.dropped": number(chain.dropped),
    }
    marks = {
        "engine.runs": status.running,
        "bucket.busy": created > 0,
        "rule.busy": events > 0,
        "rule.bad": chain.dead > 0,
        "topic.bad": bool(chain.dropped),
    }
    for transform in status.transforms:
        _add_transform(transform, rates, values, marks)
    if status.tables_queue is not None:  # no transform's name has an @
        _add_queue("@gold", status.tables_queue, values, marks)
        values["@gold.rows"] = f"{sum(table.rows for table in status.tables):,}"
        values["@gold.versions"] = f"{sum(table.version or 0 for table in status.tables):,}"
    return Flow(values, marks)


def _add_queue(name: str, queue: TransformStatus | TablesQueue, values: dict[str, str], marks: dict[str, bool]) -> None:
    undelivered, dead = dead_letters(queue)
    values.update({
        f"{name}.waiting": f"{queue.waiting:,}",
        f"{name}.flight": f"{queue.in_flight:,}",
        f"{name}.oldest": duration(queue.oldest_seconds),
        f"{name}.undelivered": f"{undelivered:,}",
        f"{name}.dead": f"{dead:,}",
    })  # fmt: skip
    marks.update({
        f"{name}.queued": queue.waiting > 0,
        f"{name}.busy": queue.in_flight > 0,
        f"{name}.undelivered": undelivered > 0,
        f"{name}.dead": dead > 0,
    })  # fmt: skip


def _add_transform(
    transform: TransformStatus, rates: Mapping[str, float], values: dict[str, str], marks: dict[str, bool]
) -> None:
    name = transform.name
    committed = rates.get(f"transform.{name}.committed", 0.0)
    _add_queue(name, transform, values, marks)
    values.update({
        f"{name}.done": number(transform.done),
        f"{name}.rate": per_second(committed, transform.done),
        f"{name}.rows": number(transform.rows),
        f"{name}.retried": number(transform.retried),
        f"{name}.rejected": number(transform.rejected),
        f"{name}.quarantined": f"{transform.quarantined:,}",
    })  # fmt: skip
    marks[f"{name}.busy"] |= committed > 0
    marks[f"{name}.bad"] = transform.quarantined > 0


def dead_letters(transform: TransformStatus | TablesQueue) -> tuple[int, int]:
    """How many messages the topic could not deliver, and how many the queue gave up on."""
    depths = transform.dead_letters.items()
    undelivered = sum(depth for name, depth in depths if name.endswith("SubscriptionDLQ"))
    return undelivered, transform.dead - undelivered


@dataclass(frozen=True)
class Broken:
    """A rule or column, and the share of today's rows that broke it."""

    name: str
    share: float


@dataclass(frozen=True)
class TransformRow:
    """One transform in the table. ``bars`` are of 24 hours; ``median`` and ``slow`` (19 of 20 files are faster) in
    milliseconds; ``last`` is the file that it last made silver of, ``silent`` for so many seconds; ``usual``: the
    longest pause that is usual, None where nobody knows."""

    status: TransformStatus
    today: FileCounts
    bars: Sequence[Bar]
    median: float | None
    slow: float | None
    broken: Sequence[Broken]
    last: FileEvent | None
    silent: float | None
    usual: float | None = None

    @property
    def failing(self) -> int:
        """How many of its files and messages failed."""
        return self.status.quarantined + self.status.dead

    @property
    def level(self) -> str:
        """``bad``, ``partial``, ``busy`` or ``good``."""
        if self.failing:
            return "bad"
        if self.today.rejected or self.stale:
            return "partial"
        return "busy" if self.status.waiting or self.status.in_flight else "good"

    @property
    def stale(self) -> bool:
        """Whether it has been silent for longer than is usual."""
        return self.silent is not None and self.usual is not None and self.silent > self.usual

    @property
    def rejected_share(self) -> float | None:
        """Of today's rows; None where there were none."""
        return self.today.rejected / self.today.rows_read if self.today.rows_read else None


#: So many rules are named in the table.
MOST_BROKEN = 3


#: Where nobody says how often files come, a pause is unusual from this many times the longest of the last ones on.
LATE = 2.0


def transform_row(
    status: TransformStatus,
    files: LastFiles,
    history: History,
    now: float,
    *,
    measured: DayCounts | None = None,
    expected: float | None = None,
) -> TransformRow:
    """One transform's numbers. ``measured``: those that CloudWatch has, where there is no history; of the files of
    before it has the hours, so that silence begins when the last of them ended. ``expected``: the seconds within which
    a file must come; None: nobody says."""
    series = history.of(status.name)
    today, day = series.today(now) if measured is None else as_counts(measured), SPANS["24h"]
    last, pause = files.last(status.name), files.pause(status.name)
    at = None if last is None else last.at
    if measured is not None and measured.hours:
        at = measured.hours[-1] + HOUR
        pause = longest_pause([after - before for before, after in pairwise(measured.hours)][-MOST_PAUSES:])
    broken = [Broken(name, rows / today.rows_read) for name, rows in today.broken.most_common() if today.rows_read]
    return TransformRow(
        status=status,
        today=today,
        bars=spark(series.steps(day, now)),
        median=today.latencies.quantile(0.5) if measured is None else measured.median,
        slow=today.latencies.quantile(0.95) if measured is None else measured.slow,
        broken=broken[:MOST_BROKEN],
        last=last,
        silent=None if at is None else max(0.0, now - at),
        usual=expected if expected is not None else None if pause is None else LATE * pause,
    )


@dataclass(frozen=True)
class FirstScreen:
    """The counts of the first page. ``oldest`` in seconds, ``median`` and ``slow`` in milliseconds; ``rows`` by
    transform. ``running``: None where nothing could be looked at."""

    running: bool | None
    today: FileCounts
    median: float | None
    slow: float | None
    waiting: int
    in_flight: int
    quarantined: int
    dead: int
    oldest: float | None
    rows: Sequence[TransformRow]

    @property
    def level(self) -> str:
        """``good``, ``partial``, ``busy``, ``bad`` or ``unknown``."""
        pending = self.waiting + self.in_flight
        if self.running is None:
            return "unknown"
        if self.quarantined or self.dead:
            return "bad"
        if (pending and not self.running) or (not pending and (self.today.rejected or self.silent)):
            return "partial"
        return "busy" if pending else "good"

    @property
    def silent(self) -> Sequence[TransformRow]:
        """The transforms from which a file should have come."""
        return [row for row in self.rows if row.stale]

    @property
    def says(self) -> str:
        """Whether the data is fine, in a sentence."""
        today, pending = self.today, self.waiting + self.in_flight
        if self.level == "unknown":
            return "The pipeline does not answer."
        if self.level == "bad":
            parts = [f"{count(self.quarantined, 'file')} in quarantine"] if self.quarantined else []
            parts += [f"{count(self.dead, 'message')} in dead-letter queues"] if self.dead else []
            return f"{' and '.join(parts)}: {'it needs' if self.quarantined + self.dead == 1 else 'they need'} you."
        if pending and not self.running:
            return f"{count(pending, 'message')} waiting, and no engine runs: start one with silversmith run."
        rejected = f"{today.rejected:,} of {count(today.rows_read, 'row')} rejected today" if today.rejected else ""
        if pending:
            since = f", the oldest for {duration(self.oldest)}" if self.oldest is not None else ""
            return (
                "; ".join(filter(None, ["Nothing fails", f"{count(pending, 'message')} on the way{since}", rejected]))
                + "."
            )
        silent = [f"{row.status.name} got no file for {duration(row.silent)}" for row in self.silent]
        if notes := "; ".join(filter(None, [rejected, *silent])):
            return f"Nothing fails and nothing waits; {notes}."
        return "All is well: nothing fails and nothing waits."


def as_counts(measured: DayCounts) -> FileCounts:
    """What CloudWatch counted, as the history counts it."""
    return FileCounts(
        done=measured.done,
        failed=measured.failed + measured.quarantined,
        rows=measured.rows,
        rows_read=measured.rows_read,
        rejected=measured.rejected,
    )


def first_screen(
    status: Status | None,
    files: LastFiles,
    history: History,
    now: float,
    *,
    measured: Mapping[str, DayCounts] = MappingProxyType({}),
    expected: float | None = None,
) -> FirstScreen:
    """The numbers of the first page. ``measured``, ``expected``: see :func:`transform_row`."""
    today = FileCounts() if measured else history.all.today(now)
    for counts in measured.values():
        today.merge(as_counts(counts))
    transforms = status.transforms if status is not None else ()
    queue = status.tables_queue if status is not None else None
    queues: list[TransformStatus | TablesQueue] = [*transforms, *([queue] if queue is not None else [])]
    return FirstScreen(
        running=status.running if status is not None else None,
        today=today,
        median=today.latencies.quantile(0.5),
        slow=today.latencies.quantile(0.95),
        waiting=sum(each.waiting for each in queues),
        in_flight=sum(each.in_flight for each in queues),
        quarantined=sum(each.quarantined for each in transforms),
        dead=sum(each.dead for each in queues) + (status.chain.dead if status is not None else 0),
        oldest=max((each.oldest_seconds for each in queues if each.oldest_seconds is not None), default=None),
        rows=[
            transform_row(each, files, history, now, measured=measured.get(each.name), expected=expected)
            for each in transforms
        ],
    )


#: CloudWatch's metrics are asked for again after so many seconds.
MEASURED_FOR = 60.0

#: How many of the last files the page shows.
FEW = 12


async def overview(request: Request) -> Response:
    """``/``"""
    context = ViewContext.of(request)
    span = SPANS.get(request.query_params.get("span", ""), SPANS["10m"])
    glance = await context.look()
    measured, why_not = await measured_today(context)

    def read(files: LastFiles, history: History, now: float) -> tuple[FirstScreen, list[Plot]]:
        return first_screen(
            glance.status, files, history, now, measured=measured, expected=context.backend.expected
        ), draw(history.all, span, now, counted=glance.remembers)

    first, plots = context.watch.ask(read)
    failing: Sequence[Sequence[Cause]] = ()
    if first.quarantined + first.dead and not context.backend.deployed:
        failing = alike(await causes_now(context))
    values = {
        **await _shared(context, glance, FEW),
        "title": context.backend.pipeline.name,
        "first": first,
        "causes": failing,
        "counted": bool(measured) or glance.remembers or not context.backend.deployed,
        "why_not": why_not,
        "plots": plots,
        "span": span,
        "spans": SPANS.values(),
    }
    return context.answer(request, "overview.html", values)


async def measured_today(context: ViewContext) -> tuple[Mapping[str, DayCounts], str]:
    """What CloudWatch counted since midnight, by transform, and why it says nothing. Asked once a minute: it has a
    price."""
    if not context.backend.deployed:
        return {}, ""

    def ask(_: Pipeline, target: Target) -> Mapping[str, DayCounts]:
        now = time.time()
        return target.day_counts(midnight(now), now) or {}

    try:
        return await context.cached("today", int(time.monotonic() // MEASURED_FOR), 0, ask), ""
    except SilversmithError as error:
        return {}, str(error)


#: How many of the last files stand below the picture.
FEW_BELOW_FLOW = 20

#: The seconds for which a listing of silver is shown.
LISTED_FOR = 60.0


async def flow_view(request: Request) -> Response:
    """``/flow``"""
    context = ViewContext.of(request)
    glance = await context.look()
    values = {"title": "Flow", **await _shared(context, glance, FEW_BELOW_FLOW)}
    return context.answer(request, "flow.html", values)


async def _shared(context: ViewContext, glance: Overview, most: int) -> dict[str, Any]:
    """What both pages show: the picture's numbers, and the files that ended last, from silver where nothing else says
    them."""
    if glance.remembers or glance.status is None:
        last_files = context.watch.ask(lambda files, *_: files.newest(most))
    else:
        listing = int(time.monotonic() // LISTED_FOR)
        last_files = await context.cached(f"stored {most}", listing, 0, partial(stored, most=most))
    return {
        "glance": glance,
        "flow": flow(glance.status, glance.rates),
        "deployed": context.backend.deployed,
        "files": last_files,
        "scale": context.watch.scale(),
    }
