"""Numbers over time: what was done in each step of a span, and on each day.

Memory is bounded: a span has as many steps as its plot has points, and the times of a step are a histogram.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from silversmith.operations.histogram import Histogram


@dataclass(frozen=True)
class Span:
    """How far back a plot looks. ``seconds`` in all, ``step`` for each point."""

    name: str
    title: str
    seconds: int
    step: int


SPANS = {
    span.name: span
    for span in (
        Span("10m", "10 minutes", 600, 10),
        Span("2h", "2 hours", 7200, 120),
        Span("24h", "24 hours", 86_400, 1440),
    )
}


class Ended(Protocol):
    """A file that ended, as far as it counts. ``at`` in Unix seconds, ``total`` in milliseconds from bronze to silver.

    ``broken``: how many rows broke each rule or column.
    """

    @property
    def transform(self) -> str: ...
    @property
    def outcome(self) -> str: ...
    @property
    def at(self) -> float: ...
    @property
    def total(self) -> float | None: ...
    @property
    def rows(self) -> int | None: ...
    @property
    def rows_read(self) -> int | None: ...
    @property
    def rejected(self) -> int | None: ...
    @property
    def broken(self) -> Mapping[str, int]: ...


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

    def add(self, event: Ended) -> None:
        """Add a file that ended."""
        if event.outcome != "committed":
            self.failed += event.outcome in {"failed", "quarantined"}
            return
        self.done += 1
        self.partial += bool(event.rejected)
        self.rows += event.rows or 0
        self.rows_read += event.rows_read or 0
        self.rejected += event.rejected or 0
        if event.broken:
            self.broken.update(event.broken)
        if event.total is not None:
            self.latencies.add(event.total)

    def merge(self, part: FileCounts) -> None:
        """Add what another one counted."""
        for name in ("done", "partial", "failed", "rows", "rows_read", "rejected"):
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


#: So many days are kept: today's and yesterday's numbers.
DAYS = 2


class _Newest:
    """The tallies with the highest numbers, at most ``most``."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._least = -1
        self.kept: dict[int, FileCounts] = {}

    def of(self, number: int) -> FileCounts | None:
        """The tally of a number; None: it is too low."""
        tally = self.kept.get(number)
        if tally is None and number > self._least:
            tally = self.kept[number] = FileCounts()
            if len(self.kept) > self._most:
                self._least = min(self.kept)
                del self.kept[self._least]
        return tally if tally is not None and number in self.kept else None


class Series:
    """The newest steps of each span, and the newest days."""

    def __init__(self) -> None:
        self._steps = {name: _Newest(span.seconds // span.step + 1) for name, span in SPANS.items()}
        self._days = _Newest(DAYS)

    def add(self, event: Ended) -> None:
        """Add a file that ended."""
        for tally in self._tallies(event.at):
            tally.add(event)

    def depth(self, at: float, waiting: int) -> None:
        """Add how many messages waited at that time."""
        for tally in self._tallies(at):
            tally.waiting = max(waiting, tally.waiting or 0)

    def steps(self, span: Span, now: float) -> list[FileCounts]:
        """The steps of a span that ends now, the oldest first."""
        last, kept = int(now // span.step), self._steps[span.name].kept
        return [kept.get(number) or FileCounts() for number in range(last - span.seconds // span.step + 1, last + 1)]

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
        return self._days.kept.get(_day(now)) or FileCounts()

    def _tallies(self, at: float) -> Iterable[FileCounts]:
        tallies = [self._steps[name].of(int(at // span.step)) for name, span in SPANS.items()]
        return [tally for tally in (*tallies, self._days.of(_day(at))) if tally is not None]


def _day(at: float) -> int:
    return datetime.fromtimestamp(at).toordinal()  # noqa: DTZ006 -- a day begins at midnight where the reader is


#: So many transforms have numbers of their own; a pipeline has fewer.
MOST_TRANSFORMS = 500


class History:
    """The last day, in all and by transform."""

    def __init__(self) -> None:
        self.all = Series()
        self._by_transform: dict[str, Series] = {}

    def add(self, ended: Iterable[Ended]) -> None:
        """Add files that ended."""
        for event in ended:
            self.all.add(event)
            if event.transform in self._by_transform or len(self._by_transform) < MOST_TRANSFORMS:
                self._by_transform.setdefault(event.transform, Series()).add(event)

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
