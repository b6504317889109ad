"""Throughput, latency and depth over time, in slots of ten seconds: what the plots show. Pure, and bounded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from silversmith.page.seen import Seen

#: The length of a slot, in seconds, and how many are kept: a day.
SLOT = 10
MOST_SLOTS = 8640

#: Of so many files of a slot the latency is kept.
MOST_LATENCIES = 200


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


@dataclass
class _Slot:
    done: int = 0
    failed: int = 0
    waiting: int | None = None
    latencies: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Point:
    """One step of a plot. ``at`` is its end in Unix seconds; rates in files a second, latencies in milliseconds.

    ``waiting`` is the deepest that the queues were; None where nobody looked.
    """

    at: float
    done: float
    failed: float
    median: float | None
    slow: float | None
    waiting: int | None


class History:
    """What happened in the last day."""

    def __init__(self) -> None:
        self._slots: OrderedDict[int, _Slot] = OrderedDict()

    def add(self, ended: Iterable[Seen]) -> None:
        """Files that came to an end."""
        for seen in ended:
            slot = self._slot(seen.at)
            if seen.outcome == "committed":
                slot.done += 1
            elif seen.outcome in {"failed", "quarantined"}:
                slot.failed += 1
            if seen.total is not None and len(slot.latencies) < MOST_LATENCIES:
                slot.latencies.append(seen.total)

    def depth(self, at: float, waiting: int) -> None:
        """So many messages waited at that time."""
        slot = self._slot(at)
        slot.waiting = max(waiting, slot.waiting or 0)

    def points(self, span: Span, now: float) -> list[Point]:
        """The points of a span that ends now, the oldest first."""
        last = int(now // span.step)
        steps = span.seconds // span.step
        return [self._point(number * span.step, span.step) for number in range(last - steps + 1, last + 1)]

    def _point(self, start: int, step: int) -> Point:
        numbers = range(start // SLOT, (start + step) // SLOT)
        slots = [self._slots[number] for number in numbers if number in self._slots]
        latencies = sorted(found for slot in slots for found in slot.latencies)
        depths = [slot.waiting for slot in slots if slot.waiting is not None]
        return Point(
            at=start + step,
            done=sum(slot.done for slot in slots) / step,
            failed=sum(slot.failed for slot in slots) / step,
            median=quantile(latencies, 0.5),
            slow=quantile(latencies, 0.95),
            waiting=max(depths, default=None),
        )

    def _slot(self, at: float) -> _Slot:
        number = int(at // SLOT)
        if number not in self._slots:
            self._slots[number] = _Slot()
            while len(self._slots) > MOST_SLOTS:
                self._slots.pop(min(self._slots))
        return self._slots[number]


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """The value that this share of the ordered values does not exceed; None where there are none."""
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
