"""Numbers over time: what was done in each step of a span, and on each day.

The journal adds them up (silversmith.local.tallies); only the depth of the queues is known here alone.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from silversmith.local.histogram import Histogram
from silversmith.local.journal import TALLIES
from silversmith.local.tallies import BROKEN, LATENCY


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
        """Add what another one counted."""
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(part, name))
        depths = [depth for depth in (self.waiting, part.waiting) if depth is not None]
        self.waiting = max(depths, default=None)
        self.broken.update(part.broken)
        self.latencies.merge(part.latencies)


@dataclass(frozen=True)
class Point:
    """One step of a plot: rates in files a second, latencies in milliseconds."""

    done: float
    failed: float
    median: float | None
    slow: float | None
    waiting: int | None


#: The width of the slots that a day is put together from.
_DAY = max(TALLIES)


class Series:
    """The numbers of the slots of each width, as the journal keeps them, and the depths of the queues by span."""

    def __init__(self) -> None:
        self._slots: dict[int, dict[int, FileCounts]] = {width: {} for width in TALLIES}
        self._depths: dict[str, dict[int, int]] = {name: {} for name in SPANS}

    def newest(self, width: int) -> int:
        """The newest slot; -1: there is none."""
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

    def points(self, span: Span, now: float) -> list[Point]:
        """The points of a span that ends now, the oldest first."""
        return [
            Point(
                done=tally.done / span.step,
                failed=tally.failed / span.step,
                median=tally.latencies.quantile(0.5),
                slow=tally.latencies.quantile(0.95),
                waiting=tally.waiting,
            )
            for tally in self.steps(span, now)
        ]

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
        """One transform's numbers."""
        return self._by_transform.get(transform) or Series()


#: A rate is taken over so many seconds.
WINDOW = 5.0


class Rates:
    """The rates at which counters rise."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, Mapping[str, int]]] = deque()

    def add(self, now: float, totals: Mapping[str, int]) -> None:
        """Add a sample of the counters; ``now`` in seconds. A clock or counter that goes back starts over."""
        if self._samples:
            before, counters = self._samples[-1]
            if now <= before or any(totals.get(name, 0) < value for name, value in counters.items()):
                self._samples.clear()
        self._samples.append((now, dict(totals)))
        while len(self._samples) > 2 and now - self._samples[1][0] >= WINDOW:
            self._samples.popleft()

    def per_second(self) -> dict[str, float]:
        """The rate of each counter; empty while there are fewer than two samples."""
        if len(self._samples) < 2:
            return {}
        (since, before), (until, after) = self._samples[0], self._samples[-1]
        return {name: (value - before.get(name, 0)) / (until - since) for name, value in after.items()}
