"""The plots of throughput, latency and queue depth, as the geometry that the template draws as SVG. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from silversmith.page.recent import Point, Span

#: The inside of every plot, in SVG's units.
WIDTH, HEIGHT = 480.0, 120.0

#: Less than this is as good as nothing.
LEAST = 1e-9


@dataclass(frozen=True)
class Mark:
    """A line across, or a place on the time axis: where it is, and what is written there."""

    at: float
    text: str


@dataclass(frozen=True)
class Bar:
    """One step of a bar plot: ``failed`` stands on top of ``done``, each a height from ``top`` down."""

    x: float
    width: float
    done_top: float
    done: float
    failed_top: float
    failed: float
    text: str


@dataclass(frozen=True)
class Plot:
    """A plot to be drawn; ``lines`` are SVG path data by name, ``says`` what it shows in words."""

    name: str
    title: str
    says: str
    bars: Sequence[Bar]
    lines: Sequence[tuple[str, str]]
    across: Sequence[Mark]
    times: Sequence[Mark]


def ceiling(highest: float) -> float:
    """The next round number: 1, 2 or 5 times a power of ten. 1.0 for nothing."""
    if highest <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(max(highest, LEAST)))
    return next((factor * power for factor in (1, 2, 5) if factor * power >= highest), 10 * power)


def across(top: float, write: Callable[[float], str]) -> list[Mark]:
    """Lines at nothing, the middle and the top."""
    return [Mark(HEIGHT, write(0)), Mark(HEIGHT / 2, write(top / 2)), Mark(0.0, write(top))]


def times(seconds: int) -> list[Mark]:
    """The beginning, the middle and now."""
    return [Mark(0.0, f"{ago(seconds)} ago"), Mark(WIDTH / 2, f"{ago(seconds // 2)} ago"), Mark(WIDTH, "now")]


def ago(seconds: int) -> str:
    """``5 min``, ``12 h``."""
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"


def bars(steps: Sequence[tuple[float, float, str]], top: float) -> list[Bar]:
    """For each step what was done, what failed, and what to say of it."""
    wide = WIDTH / max(1, len(steps))
    drawn = []
    for number, (done, failed, text) in enumerate(steps):
        done_high, failed_high = done / top * HEIGHT, failed / top * HEIGHT
        drawn.append(
            Bar(
                round(number * wide + wide * 0.1, 2),
                round(wide * 0.8, 2),
                round(HEIGHT - done_high, 2),
                round(done_high, 2),
                round(HEIGHT - done_high - failed_high, 2),
                round(failed_high, 2),
                text,
            )
        )
    return drawn


def line(values: Sequence[float | None], top: float) -> str:
    """SVG path data through the middle of each step; where there is no value the line has a gap.

    A value with none beside it is a short stroke, for a line of no length would not be seen.
    """
    wide = WIDTH / max(1, len(values))
    parts, drawing = [], False
    for number, value in enumerate(values):
        if value is None:
            drawing = False
            continue
        x, y = (number + 0.5) * wide, HEIGHT - min(1.0, value / top) * HEIGHT
        alone = not drawing and (number + 1 == len(values) or values[number + 1] is None)
        parts.append(
            f"M{x - wide * 0.4:.1f} {y:.1f}H{x + wide * 0.4:.1f}"
            if alone
            else f"{'L' if drawing else 'M'}{x:.1f} {y:.1f}"
        )
        drawing = not alone
    return "".join(parts)


def draw(points: Sequence[Point], span: Span, *, counted: bool) -> list[Plot]:
    """``counted``: whether there is any history of files; where there is none, only the depth is shown."""
    plots = [_throughput(points, span), _latency(points, span)] if counted else []
    return [*plots, _depth(points, span)]


def _throughput(points: Sequence[Point], span: Span) -> Plot:
    highest = max(point.done + point.failed for point in points)
    top = ceiling(highest)
    steps = [(point.done, point.failed, f"{rate(point.done)} done, {rate(point.failed)} failed") for point in points]
    says = f"In the last {span.title}: at the most {rate(highest)}."
    return Plot("throughput", "Throughput", says, bars(steps, top), [], across(top, rate), times(span.seconds))


def _latency(points: Sequence[Point], span: Span) -> Plot:
    highest = max((point.slow or 0 for point in points), default=0)
    top = ceiling(highest)
    lines = [
        ("slow", line([point.slow for point in points], top)),
        ("median", line([point.median for point in points], top)),
    ]
    medians = sorted(point.median for point in points if point.median is not None)
    middle = f"half of the files took less than about {millis(medians[len(medians) // 2])}" if medians else "no files"
    says = f"From bronze to silver, in the last {span.title}: {middle}; the slowest twentieth up to {millis(highest)}."
    return Plot(
        "latency",
        "Latency",
        says if medians else f"{says[:-1].partition(':')[0]}: no files.",
        [],
        lines,
        across(top, millis),
        times(span.seconds),
    )


def _depth(points: Sequence[Point], span: Span) -> Plot:
    highest = max((point.waiting or 0 for point in points), default=0)
    top = ceiling(max(1, highest))
    lines = [("waiting", line([point.waiting for point in points], top))]
    says = f"Messages in the queues, since this page was started: at the most {highest:,}."
    return Plot("waiting", "Waiting", says, [], lines, across(top, lambda value: f"{value:,.4g}"), times(span.seconds))


def rate(value: float) -> str:
    """Files a second."""
    return f"{value:,.0f}/s" if value >= 100 or not value else f"{value:.3g}/s"


def millis(value: float) -> str:
    """A short length of time for a person: ``0.4 ms``, ``85 ms``, ``1.2 s``, ``3 min``."""
    if value < 1000:
        return f"{value:.0f} ms" if value >= 10 or not value else f"{value:.1f} ms"
    return (
        f"{value / 1000:.2g} s"
        if value < 10_000
        else f"{value / 1000:.0f} s"
        if value < 120_000
        else f"{value / 60_000:.0f} min"
    )
