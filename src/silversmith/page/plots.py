"""Plots as SVG: numbers turned into paths and bars, and what they say in words. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from silversmith.operations.text import count, millis
from silversmith.page.history import FileCounts, Point, Series, Span


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


def bars(
    steps: Sequence[tuple[float, float, str]], top: float, width: float = WIDTH, height: float = HEIGHT
) -> list[Bar]:
    """A bar for each step: files done, files failed, and its text. ``width`` and ``height`` are the plot's."""
    step = width / max(1, len(steps))
    drawn = []
    for position, (done, failed, text) in enumerate(steps):
        done_height, failed_height = done / top * height, failed / top * height
        bar = Bar(
            x=round(position * step + step * 0.1, 2),
            width=round(step * 0.8, 2),
            done_top=round(height - done_height, 2),
            done=round(done_height, 2),
            failed_top=round(height - done_height - failed_height, 2),
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


def draw(series: Series, span: Span, now: float, *, counted: bool) -> list[Plot]:
    """The plots. ``counted``: whether files have a history; without one only the depth is shown."""
    points = series.points(span, now)
    plots = [_throughput(points, span), _latency(points, span, series.over(span, now))] if counted else []
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


def _latency(points: Sequence[Point], span: Span, over: FileCounts) -> Plot:
    highest = max((point.slow or 0 for point in points), default=0)
    top = ceiling(highest)
    lines = [
        ("slow", line([point.slow for point in points], top)),
        ("median", line([point.median for point in points], top)),
    ]
    says = f"From bronze to silver, in the last {span.title}: no files."
    median, slow = over.latencies.quantile(0.5), over.latencies.quantile(0.95)
    if median is not None and slow is not None:
        half = f"half of {count(over.latencies.count, 'file')} took at most {millis(median)}"
        says = f"{says.removesuffix('no files.')}{half}, 19 of 20 at most {millis(slow)}."
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


#: The inside of a sparkline, in SVG's units.
SPARK_WIDTH, SPARK_HEIGHT = 120.0, 24.0


def spark(tallies: Sequence[FileCounts]) -> list[Bar]:
    """The bars of a sparkline: files by step, those that failed on top. A single file among thousands is seen, too."""
    top = max((tally.done + tally.failed for tally in tallies), default=0)
    least = top * 0.08
    steps = [
        (max(tally.done, least * bool(tally.done)), max(tally.failed, least * bool(tally.failed)), "")
        for tally in tallies
    ]
    drawn = bars(steps, max(1.0, top + 2 * least), SPARK_WIDTH, SPARK_HEIGHT)
    return [bar for bar in drawn if bar.done or bar.failed]
