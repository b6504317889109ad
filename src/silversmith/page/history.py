"""Numbers over time: what was done in each step of a span, and on each day; and their plots, as SVG.

The journal adds the numbers up (silversmith.local.tallies); only the depth of the queues is known here alone.
"""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from silversmith.local.journal import TALLIES
from silversmith.local.tallies import BROKEN, LATENCY, Histogram
from silversmith.operations.text import count, millis


@dataclass(frozen=True)
class Span:
    """How far back a plot looks. ``seconds`` in all, ``step`` for each point: one or more slots of ``width``."""

    name: str
    title: str
    seconds: int
    step: int
    width: int


SPANS = {
    span.name: span
    for span in (
        Span("10m", "10 minutes", 600, 10, width=10),
        Span("2h", "2 hours", 7200, 120, width=120),
        Span("24h", "24 hours", 86_400, 1800, width=900),
    )
}


_NUMBERS = frozenset({"done", "partial", "failed", "rows", "rows_read", "rejected"})


@dataclass
class FileCounts:
    """The counts of a time: ``done`` files, ``partial`` ones among them, ``failed`` tries and quarantined files, rows.

    ``waiting`` is the greatest depth of the queues; None where nobody looked.
    """

    done: int = 0
    partial: int = 0
    failed: int = 0
    rows: int = 0
    rows_read: int = 0
    rejected: int = 0
    waiting: int | None = None
    broken: Counter[str] = field(default_factory=Counter)
    latencies: Histogram = field(default_factory=Histogram)

    def count(self, name: str, value: int) -> None:
        """Add a number of the journal by its name there."""
        if name.startswith(BROKEN):
            self.broken[name.removeprefix(BROKEN)] += value
        elif name.startswith(LATENCY):
            self.latencies.add_bucket(int(name.removeprefix(LATENCY)), value)
        elif name in _NUMBERS:
            setattr(self, name, getattr(self, name) + value)

    def merge(self, part: FileCounts) -> None:
        """Add what another one counted, but not its depth."""
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(part, name))
        self.broken.update(part.broken)
        self.latencies.merge(part.latencies)


#: The width of the slots that a day is put together from.
_DAY = max(TALLIES)


class Series:
    """The numbers of the slots of each width, as the journal keeps them, and the depths of the queues by span."""

    def __init__(self) -> None:
        self._slots: dict[int, dict[int, FileCounts]] = {width: {} for width in TALLIES}
        self._depths: dict[str, dict[int, int]] = {name: {} for name in SPANS}

    def newest(self, width: int) -> int:
        return max(self._slots[width], default=-1)

    def put(self, width: int, slots: Mapping[int, FileCounts]) -> None:
        """Replace what was known of these slots, and forget those that are too old."""
        kept = self._slots[width]
        kept.update(slots)
        oldest = max(kept, default=0) - TALLIES[width] // width
        for slot in [slot for slot in kept if slot < oldest]:
            del kept[slot]

    def depth(self, at: float, waiting: int) -> None:
        """Add how many messages waited at that time."""
        for name, span in SPANS.items():
            depths, number = self._depths[name], int(at // span.step)
            depths[number] = max(waiting, depths.get(number, 0))
            for old in [each for each in depths if each < number - span.seconds // span.step]:
                del depths[old]

    def steps(self, span: Span, now: float) -> list[FileCounts]:
        """The steps of a span that ends now, the oldest first."""
        last, slots = int(now // span.step), span.step // span.width
        steps = []
        for number in range(last - span.seconds // span.step + 1, last + 1):
            step = self._sum(span.width, range(number * slots, (number + 1) * slots))
            step.waiting = self._depths[span.name].get(number)
            steps.append(step)
        return steps

    def over(self, span: Span, now: float) -> FileCounts:
        """All of a span that ends now."""
        total = FileCounts()
        for tally in self.steps(span, now):
            total.merge(tally)
        return total

    def today(self, now: float) -> FileCounts:
        """Since midnight, by this machine's clock."""
        first, last = int(midnight(now) // _DAY), int(now // _DAY)
        return self._sum(_DAY, range(first, last + 1))

    def _sum(self, width: int, slots: Iterable[int]) -> FileCounts:
        total, kept = FileCounts(), self._slots[width]
        for slot in slots:
            if slot in kept:
                total.merge(kept[slot])
        return total


def midnight(now: float) -> float:
    """The beginning of the day that is now on this machine, in Unix seconds: a day begins where the reader is."""
    today = time.localtime(now)
    return time.mktime((today.tm_year, today.tm_mon, today.tm_mday, 0, 0, 0, 0, 0, -1))


class History:
    """The last day, in all and by transform."""

    def __init__(self) -> None:
        self.all = Series()
        self._by_transform: dict[str, Series] = {}

    def read(self, rows: Callable[[int, int], Iterable[tuple[int, str, str, int]]], now: float) -> None:
        """Bring the numbers up to date. ``rows``: see :meth:`silversmith.operations.target.Target.tallies`. The slots
        that may have grown since the last time are read again."""
        for width, seconds in TALLIES.items():
            current, newest = int(now // width), self.all.newest(width)
            since = min(newest, current - 1) if newest >= 0 else current - seconds // width
            total: dict[int, FileCounts] = defaultdict(FileCounts)
            parts: dict[str, dict[int, FileCounts]] = defaultdict(lambda: defaultdict(FileCounts))
            for slot, transform, name, value in rows(width, since):
                total[slot].count(name, value)
                parts[transform][slot].count(name, value)
            self.all.put(width, total)
            for transform, slots in parts.items():
                self._by_transform.setdefault(transform, Series()).put(width, slots)

    def of(self, transform: str) -> Series:
        return self._by_transform.get(transform) or Series()


class Rates:
    """The rates at which counters rise, over the last ``window`` seconds."""

    def __init__(self, window: float = 5.0) -> None:
        self._window = window
        self._samples: deque[tuple[float, Mapping[str, int]]] = deque()

    def add(self, now: float, totals: Mapping[str, int]) -> None:
        """Add a sample of the counters; ``now`` in seconds. A clock or counter that goes back starts over."""
        if self._samples:
            before, counters = self._samples[-1]
            if now <= before or any(totals.get(name, 0) < value for name, value in counters.items()):
                self._samples.clear()
        self._samples.append((now, dict(totals)))
        while len(self._samples) > 2 and now - self._samples[1][0] >= self._window:
            self._samples.popleft()

    def per_second(self) -> dict[str, float]:
        """The rate of each counter; empty while there are fewer than two samples."""
        if len(self._samples) < 2:
            return {}
        (since, before), (until, after) = self._samples[0], self._samples[-1]
        return {name: (value - before.get(name, 0)) / max(until - since, 0.1) for name, value in after.items()}


def per_second(value: float, counter: int | None = 0) -> str:
    """A rate; a dash where nobody counts."""
    if counter is None:
        return "-"
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
    steps = series.steps(span, now)
    plots = [_throughput(steps, span), _latency(steps, span, series.over(span, now))] if counted else []
    return [*plots, _depth(steps, span)]


def _throughput(steps: Sequence[FileCounts], span: Span) -> Plot:
    rates = [(each.done / span.step, each.failed / span.step) for each in steps]
    highest = max(done + failed for done, failed in rates)
    top = ceiling(highest)
    drawn = bars([(*each, "{} done, {} failed".format(*map(per_second, each))) for each in rates], top)
    says = f"In the last {span.title}: at the most {per_second(highest)}."
    return _plot("throughput", says, span, top, per_second, bars=drawn)


def _latency(steps: Sequence[FileCounts], span: Span, over: FileCounts) -> Plot:
    shares = {"slow": 0.95, "median": 0.5}
    values = {name: [each.latencies.quantile(share) for each in steps] for name, share in shares.items()}
    top = ceiling(max((value or 0 for value in values["slow"]), default=0))
    says = f"From bronze to silver, in the last {span.title}: no files."
    median, slow = over.latencies.quantile(0.5), over.latencies.quantile(0.95)
    if median is not None and slow is not None:
        half = f"half of {count(over.latencies.count, 'file')} took at most {millis(median)}"
        says = f"{says.removesuffix('no files.')}{half}, 19 of 20 at most {millis(slow)}."
    return _plot("latency", says, span, top, millis, lines=[(name, line(of, top)) for name, of in values.items()])


def _depth(steps: Sequence[FileCounts], span: Span) -> Plot:
    highest = max((each.waiting or 0 for each in steps), default=0)
    top = ceiling(max(1, highest))
    lines = [("waiting", line([each.waiting for each in steps], top))]
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
