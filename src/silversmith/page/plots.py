"""The three plots: throughput, latency, and what waits. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from silversmith.page.history import Point, Span
from silversmith.page.plot import Plot, across, bars, ceiling, line, times


def draw(points: Sequence[Point], span: Span, *, counted: bool) -> list[Plot]:
    """``counted``: whether there is any history of files; where there is none, only the depth is shown."""
    found = [_throughput(points, span), _latency(points, span)] if counted else []
    return [*found, _depth(points, span)]


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
