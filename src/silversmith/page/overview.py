"""The first page: is my data fine? Today's numbers, what fails and why, and how each transform does."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from starlette.requests import Request
from starlette.responses import Response

from silversmith.errors import SilversmithError
from silversmith.operations.reports import Status, TablesQueue, TransformStatus
from silversmith.operations.target import DayCounts, Target
from silversmith.operations.text import count, duration
from silversmith.page.context import ViewContext
from silversmith.page.failures import Cause, alike, causes_now
from silversmith.page.flow import flow
from silversmith.page.history import SPANS, FileCounts, History, Span, midnight
from silversmith.page.plots import Bar, Plot, draw, spark
from silversmith.page.recent import FileEvent, LastFiles
from silversmith.pipeline import Pipeline


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
    """One transform's numbers. ``measured``: today's by CloudWatch, where there is no history. ``expected``: the
    seconds within which a file must come; None: nobody says."""
    series = history.of(status.name)
    today, day = series.today(now) if measured is None else as_counts(measured), SPANS["24h"]
    last, pause = files.last(status.name), files.pause(status.name)
    broken = [Broken(name, rows / today.rows_read) for name, rows in today.broken.most_common() if today.rows_read]
    return TransformRow(
        status=status,
        today=today,
        bars=spark(series.steps(day, now)),
        median=today.latencies.quantile(0.5) if measured is None else measured.median,
        slow=today.latencies.quantile(0.95) if measured is None else measured.slow,
        broken=broken[:MOST_BROKEN],
        last=last,
        silent=None if last is None else max(0.0, now - last.at),
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


def span_of(request: Request) -> Span:
    """The time span of the plots, by the URL."""
    return SPANS.get(request.query_params.get("span", ""), SPANS["10m"])


async def overview(request: Request) -> Response:
    """``/``"""
    context = ViewContext.of(request)
    span = span_of(request)
    glance = await context.look()
    last_files, scale = await context.last_files(FEW)
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
        "title": context.backend.pipeline.name,
        "glance": glance,
        "flow": flow(glance.status, glance.rates),
        "first": first,
        "causes": failing,
        "deployed": context.backend.deployed,
        "counted": bool(measured) or glance.remembers or not context.backend.deployed,
        "why_not": why_not,
        "files": last_files,
        "scale": scale,
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
