"""The first page: the flow, the last files and the plots, kept up to date by server-sent events.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from silversmith.operations.reports import Status, TablesQueue, TransformStatus
from silversmith.operations.text import duration, millis
from silversmith.page.context import ViewContext, number, render
from silversmith.page.recent import SPANS, Overview, Point, Span, stored


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
        "engine": _engine(status),
        "bucket.created": number(chain.created),
        "bucket.rate": _rate(created, chain.created),
        "rule.unmatched": number(chain.unmatched),
        "rule.rate": _rate(events, chain.events),
        "rule.dead": f"{chain.dead:,}",
        "topic.published": number(chain.published),
        "topic.rate": _rate(rates.get("topic.published", 0.0), chain.published),
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
    if status.tables_queue is not None:
        _add_gold(status, status.tables_queue, values, marks)
    return Flow(values, marks)


def _add_transform(
    transform: TransformStatus, rates: Mapping[str, float], values: dict[str, str], marks: dict[str, bool]
) -> None:
    name = transform.name
    committed = rates.get(f"transform.{name}.committed", 0.0)
    undelivered, dead = dead_letters(transform)
    values.update({
        f"{name}.waiting": f"{transform.waiting:,}",
        f"{name}.flight": f"{transform.in_flight:,}",
        f"{name}.oldest": duration(transform.oldest_seconds),
        f"{name}.undelivered": f"{undelivered:,}",
        f"{name}.dead": f"{dead:,}",
        f"{name}.done": number(transform.done),
        f"{name}.rate": _rate(committed, transform.done),
        f"{name}.rows": number(transform.rows),
        f"{name}.retried": number(transform.retried),
        f"{name}.rejected": number(transform.rejected),
        f"{name}.quarantined": f"{transform.quarantined:,}",
    })  # fmt: skip
    marks.update({
        f"{name}.queued": transform.waiting > 0,
        f"{name}.busy": transform.in_flight > 0 or committed > 0,
        f"{name}.undelivered": undelivered > 0,
        f"{name}.dead": dead > 0,
        f"{name}.bad": transform.quarantined > 0,
    })  # fmt: skip


def _add_gold(status: Status, queue: TablesQueue, values: dict[str, str], marks: dict[str, bool]) -> None:
    """The way from silver into the tables. No transform's name has an ``@``."""
    undelivered, dead = dead_letters(queue)
    values.update({
        "@gold.waiting": f"{queue.waiting:,}",
        "@gold.flight": f"{queue.in_flight:,}",
        "@gold.oldest": duration(queue.oldest_seconds),
        "@gold.undelivered": f"{undelivered:,}",
        "@gold.dead": f"{dead:,}",
        "@gold.rows": f"{sum(table.rows for table in status.tables):,}",
        "@gold.versions": f"{sum(table.version or 0 for table in status.tables):,}",
    })  # fmt: skip
    marks.update({
        "@gold.queued": queue.waiting > 0,
        "@gold.busy": queue.in_flight > 0,
        "@gold.undelivered": undelivered > 0,
        "@gold.dead": dead > 0,
    })  # fmt: skip


def dead_letters(transform: TransformStatus | TablesQueue) -> tuple[int, int]:
    """How many messages the topic could not deliver, and how many the queue gave up on."""
    depths = transform.dead_letters.items()
    undelivered = sum(depth for name, depth in depths if name.endswith("SubscriptionDLQ"))
    return undelivered, transform.dead - undelivered


def _engine(status: Status) -> str:
    if not status.ran and status.running:
        return "deployed"
    return "the engine runs" if status.running else "no engine runs"


def _rate(value: float, counter: int | None) -> str:
    return "-" if counter is None else per_second(value)


def per_second(value: float) -> str:
    """Files a second."""
    return f"{value:,.0f}/s" if value >= 100 or not value else f"{value:.3g}/s"


#: The inside of every plot, in SVG's units.
WIDTH, HEIGHT = 480.0, 120.0


@dataclass(frozen=True)
class Bar:
    """One step of a bar plot: the failed files stand on top of the done ones; each has a top edge and a height."""

    x: float
    width: float
    done_top: float
    done: float
    failed_top: float
    failed: float
    text: str


@dataclass(frozen=True)
class Plot:
    """A plot as the template draws it.

    ``says`` is its content in words, ``lines`` SVG path data by name; ``across`` are the grid's lines and ``times``
    places on the time axis, each with its text.
    """

    name: str
    title: str
    says: str
    bars: Sequence[Bar]
    lines: Sequence[tuple[str, str]]
    across: Sequence[tuple[float, str]]
    times: Sequence[tuple[float, str]]


def ceiling(highest: float) -> float:
    """The next round number: 1, 2 or 5 times a power of ten. 1.0 for 0."""
    if highest <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(max(highest, 1e-9)))
    return next((factor * power for factor in (1, 2, 5) if factor * power >= highest), 10 * power)


def bars(steps: Sequence[tuple[float, float, str]], top: float) -> list[Bar]:
    """A bar for each step: files done, files failed, and its text."""
    step = WIDTH / max(1, len(steps))
    drawn = []
    for position, (done, failed, text) in enumerate(steps):
        done_height, failed_height = done / top * HEIGHT, failed / top * HEIGHT
        bar = Bar(
            x=round(position * step + step * 0.1, 2),
            width=round(step * 0.8, 2),
            done_top=round(HEIGHT - done_height, 2),
            done=round(done_height, 2),
            failed_top=round(HEIGHT - done_height - failed_height, 2),
            failed=round(failed_height, 2),
            text=text,
        )
        drawn.append(bar)
    return drawn


def line(values: Sequence[float | None], top: float) -> str:
    """SVG path data through the middle of each step, with a gap where there is no value.

    A value without a neighbour is a short stroke, because a line of no length is invisible.
    """
    step = WIDTH / max(1, len(values))
    parts, drawing = [], False
    for position, value in enumerate(values):
        if value is None:
            drawing = False
            continue
        x, y = (position + 0.5) * step, HEIGHT - min(1.0, value / top) * HEIGHT
        if not drawing and (position + 1 == len(values) or values[position + 1] is None):
            parts.append(f"M{x - step * 0.4:.1f} {y:.1f}H{x + step * 0.4:.1f}")
            continue
        parts.append(f"{'L' if drawing else 'M'}{x:.1f} {y:.1f}")
        drawing = True
    return "".join(parts)


def draw(points: Sequence[Point], span: Span, *, counted: bool) -> list[Plot]:
    """The plots. ``counted``: whether files have a history; without one only the depth is shown."""
    plots = [_throughput(points, span), _latency(points, span)] if counted else []
    return [*plots, _depth(points, span)]


def _throughput(points: Sequence[Point], span: Span) -> Plot:
    highest = max(point.done + point.failed for point in points)
    top = ceiling(highest)
    steps = [
        (point.done, point.failed, f"{per_second(point.done)} done, {per_second(point.failed)} failed")
        for point in points
    ]
    says = f"In the last {span.title}: at the most {per_second(highest)}."
    return _plot("throughput", says, span, top, per_second, bars=bars(steps, top))


def _latency(points: Sequence[Point], span: Span) -> Plot:
    highest = max((point.slow or 0 for point in points), default=0)
    top = ceiling(highest)
    lines = [
        ("slow", line([point.slow for point in points], top)),
        ("median", line([point.median for point in points], top)),
    ]
    says = f"From bronze to silver, in the last {span.title}: no files."
    if medians := sorted(point.median for point in points if point.median is not None):
        half = f"half of the files took less than about {millis(medians[len(medians) // 2])}"
        says = f"{says.removesuffix('no files.')}{half}; the slowest twentieth up to {millis(highest)}."
    return _plot("latency", says, span, top, millis, lines=lines)


def _depth(points: Sequence[Point], span: Span) -> Plot:
    highest = max((point.waiting or 0 for point in points), default=0)
    top = ceiling(max(1, highest))
    lines = [("waiting", line([point.waiting for point in points], top))]
    says = f"Messages in the queues, since this page was started: at the most {highest:,}."
    return _plot("waiting", says, span, top, lambda value: f"{value:,.4g}", lines=lines)


def _plot(
    name: str,
    says: str,
    span: Span,
    top: float,
    write: Callable[[float], str],
    *,
    bars: Sequence[Bar] = (),
    lines: Sequence[tuple[str, str]] = (),
) -> Plot:
    across = [(HEIGHT, write(0)), (HEIGHT / 2, write(top / 2)), (0.0, write(top))]
    times = [(0.0, f"{_ago(span.seconds)} ago"), (WIDTH / 2, f"{_ago(span.seconds // 2)} ago"), (WIDTH, "now")]
    return Plot(name, name.capitalize(), says, bars, lines, across, times)


def _ago(seconds: int) -> str:
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"


#: How many of the last files the page shows.
FEW = 30


def span_of(request: Request) -> Span:
    """The time span of the plots, by the URL."""
    return SPANS.get(request.query_params.get("span", ""), SPANS["10m"])


async def overview(request: Request) -> Response:
    """``/``"""
    context = ViewContext.of(request)
    watch, span = context.watch, span_of(request)
    glance = await context.look()
    has_history = glance.remembers or glance.status is None
    last_files = watch.newest(FEW) if has_history else await context.ask(partial(stored, most=FEW))
    values = {
        "title": context.backend.pipeline.name,
        "glance": glance,
        "flow": flow(glance.status, glance.rates),
        "deployed": context.backend.deployed,
        "files": last_files,
        "newest": max((event.number for event in last_files), default=0),
        "plots": draw(watch.points(span), span, counted=glance.remembers),
        "span": span,
        "spans": SPANS.values(),
        "prefixes": sorted({each.pattern.literal_prefix for each in context.backend.pipeline.transforms} - {""}),
    }
    return context.answer(request, "overview.html", values)


#: After so many seconds without news, a comment keeps the stream of events open.
SILENCE = 15.0

#: The plots are drawn again every so many looks.
PLOTS_EVERY = 5


async def live(request: Request) -> Response:
    """``/live?after=NUMBER&span=``: an event for every look, with the files that ended since."""
    context = ViewContext.of(request)
    after = request.query_params.get("after", "")
    start = int(after) if after.isascii() and after.isdigit() else 0
    return StreamingResponse(
        _events(request, context, start, span_of(request)),
        media_type="text/event-stream",
        headers={"x-accel-buffering": "no"},
    )


async def _events(request: Request, context: ViewContext, after: int, span: Span) -> AsyncIterator[bytes]:
    loop, news = asyncio.get_running_loop(), asyncio.Event()
    unsubscribe = context.watch.subscribe(lambda: loop.call_soon_threadsafe(news.set))
    looks = 0
    try:
        yield b"retry: 2000\n\n"
        while not context.watch.ended and not await request.is_disconnected():
            try:
                await asyncio.wait_for(news.wait(), SILENCE)
            except TimeoutError:
                yield b": nothing new\n\n"
                continue
            news.clear()
            look, after = _look(context, context.watch.glance, after, span, plots=looks % PLOTS_EVERY == 0)
            looks += 1
            yield b"event: look\ndata: " + orjson.dumps(look) + b"\n\n"
    finally:
        unsubscribe()


def _look(context: ViewContext, glance: Overview, after: int, span: Span, *, plots: bool) -> tuple[dict[str, Any], int]:
    ended, numbers = context.watch.since(after), flow(glance.status, glance.rates)
    look: dict[str, Any] = {
        "values": numbers.values,
        "marks": numbers.marks,
        "problem": glance.problem,
        "ended": len(ended),
        "failed": sum(event.outcome in {"failed", "quarantined"} for event in ended),
        "transforms": [] if glance.status is None else [each.name for each in glance.status.transforms],
    }
    if ended:
        look["files"] = render("_rows.html", {"files": ended[:FEW]})
        after = ended[0].number
    if plots:
        drawn = draw(context.watch.points(span), span, counted=glance.remembers)
        look["plots"] = render("_plots.html", {"plots": drawn})
    return look, after
