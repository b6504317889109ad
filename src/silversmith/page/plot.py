"""Numbers over time as the geometry of a plot: what the template draws as SVG. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
    found = []
    for number, (done, failed, text) in enumerate(steps):
        done_high, failed_high = done / top * HEIGHT, failed / top * HEIGHT
        found.append(
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
    return found


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
