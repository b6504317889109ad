"""Recent files, rates, and a day of throughput, latency and queue depth, for the page. Memory is bounded."""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from types import MappingProxyType

from silversmith.lineage import silver_key
from silversmith.operations.target import Hop, News, Target
from silversmith.pipeline import Pipeline
from silversmith.stores import Head

#: Over so many seconds a rate is taken.
WINDOW = 5.0


class Rates:
    """Counters as they were lately."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, Mapping[str, int]]] = deque()

    def add(self, now: float, totals: Mapping[str, int]) -> None:
        """What the counters say now, in seconds on any clock. A clock or a counter that goes back begins anew."""
        if self._samples:
            before, known = self._samples[-1]
            if now <= before or any(totals.get(name, 0) < value for name, value in known.items()):
                self._samples.clear()
        self._samples.append((now, dict(totals)))
        while len(self._samples) > 2 and now - self._samples[1][0] >= WINDOW:
            self._samples.popleft()

    def of(self, name: str) -> float:
        """By how much it rises a second; 0.0 where there are not two samples yet."""
        if len(self._samples) < 2:
            return 0.0
        (since, before), (until, after) = self._samples[0], self._samples[-1]
        return (after.get(name, 0) - before.get(name, 0)) / (until - since)


#: So many outcomes are kept, and so many files on their way.
MOST = 10_000
MOST_UNDER_WAY = 20_000

#: The verdicts of the function room that end a message's way, or one try of it.
ENDS = frozenset({"committed", "quarantined", "failed", "gone", "duplicate"})


@dataclass(frozen=True)
class FileEvent:
    """What a transform made of one version of a file. ``at`` in Unix seconds, ``size`` in bytes.

    ``legs`` are the milliseconds from each hop to the next, as far as the news told; ``total`` their sum, None where
    the beginning is not known. ``code`` is the error's, or empty.
    """

    number: int
    key: str
    version: str
    transform: str
    outcome: str
    at: float
    rows: int | None
    rejected: int | None
    size: int | None
    attempt: int | None
    code: str
    legs: Sequence[tuple[str, float]]
    total: float | None


@dataclass
class _Way:
    """When a version was at which hop; ``queued`` by the queue's name."""

    at: dict[str, float] = field(default_factory=dict)
    queued: dict[str, float] = field(default_factory=dict)


class LastFiles:
    """The newest outcomes, at most :data:`MOST`; memory is bounded."""

    def __init__(self) -> None:
        self._seen: deque[FileEvent] = deque(maxlen=MOST)
        self._ways: OrderedDict[tuple[str, str], _Way] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def take(self, news: Iterable[News], transforms: Mapping[str, str]) -> list[FileEvent]:
        """What ended with these news, in order. ``transforms``: by the name of a function, which transform it is."""
        ended = []
        for item in news:
            if item.hop.room != "function":
                self._pass(item)
            elif item.hop.what in ENDS:
                ended.append(self._end(item, transforms))
        self._seen.extend(ended)
        return ended

    def newest(
        self, most: int, *, before: int | None = None, chosen: Mapping[str, str] | None = None
    ) -> list[FileEvent]:
        """The newest, the last one first; ``before``: only those with a lower number. ``chosen`` as :func:`fits`."""
        events = (
            seen
            for seen in reversed(self._seen)
            if (before is None or seen.number < before) and (not chosen or fits(seen, chosen))
        )
        return list(islice(events, most))

    def since(self, number: int) -> list[FileEvent]:
        """Those with a higher number, the last one first."""
        return list(_until(reversed(self._seen), number))

    def keys(self, text: str, most: int) -> list[str]:
        """Keys in which the text is, the newest first."""
        matching = dict.fromkeys(seen.key for seen in reversed(self._seen) if text in seen.key)
        return list(islice(matching, most))

    def _pass(self, item: News) -> None:
        name = (item.key, item.hop.version)
        way = self._ways.get(name)
        if way is None:
            way = self._ways[name] = _Way()
            if len(self._ways) > MOST_UNDER_WAY:
                self._ways.popitem(last=False)
        hop = item.hop
        if hop.room == "queue":
            if hop.what != "dead":
                way.queued[hop.name] = hop.at
        else:
            way.at.setdefault(hop.room, hop.at)

    def _end(self, item: News, transforms: Mapping[str, str]) -> FileEvent:
        hop, detail = item.hop, item.hop.detail
        legs = self._legs(item.key, hop)
        error = detail.get("error")
        return FileEvent(
            number=item.number,
            key=item.key,
            version=hop.version,
            transform=transforms.get(hop.name) or str(detail.get("transform") or hop.name),
            outcome=hop.what,
            at=hop.at,
            rows=_whole(detail.get("rows_written")) if hop.what == "committed" else None,
            rejected=_whole(detail.get("rows_rejected")) if hop.what == "committed" else None,
            size=_whole(detail.get("size")),
            attempt=_whole(detail.get("attempt")),
            code=str(error.get("code", "")) if isinstance(error, dict) else "",
            legs=legs,
            total=sum(length for _, length in legs) if legs and legs[0][0] == "rule" else None,
        )

    def _legs(self, key: str, hop: Hop) -> list[tuple[str, float]]:
        """Named by the hop at whose end each is. What a redrive sends has only the queue and the function."""
        way = self._ways.get((key, hop.version), _Way())
        times: list[tuple[str, float]] = [
            (room, way.at[room]) for room in ("bucket", "rule", "topic") if room in way.at
        ]
        queued = way.queued.get(hop.name)
        if queued is not None:
            if times and queued < times[-1][1]:
                times = []
            times.append(("queue", queued))
        times.append(("function", hop.at))
        return [(room, max(0.0, (at - before) * 1000)) for (_, before), (room, at) in pairwise(times)]


def fits(seen: FileEvent, chosen: Mapping[str, str]) -> bool:
    """Whether it has the outcome, the transform, and the text in its key that are chosen; an empty choice takes all."""
    if (outcome := chosen.get("outcome")) and seen.outcome != outcome:
        return False
    if (transform := chosen.get("transform")) and seen.transform != transform:
        return False
    return chosen.get("q", "") in seen.key


def _until(newest_first: Iterable[FileEvent], number: int) -> Iterator[FileEvent]:
    for seen in newest_first:
        if seen.number <= number:
            return
        yield seen


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


#: So many objects of each transform's silver are listed: ten requests.
LISTED = 10_000

#: What the name of a silver object ends in.
SILVER = ".parquet"


def stored(
    pipeline: Pipeline, target: Target, most: int, *, chosen: Mapping[str, str] = MappingProxyType({})
) -> list[FileEvent]:
    """The newest silver objects, among the first :data:`LISTED` of each transform, the last one first. ``chosen`` as
    :func:`fits`."""
    events = []
    for transform in pipeline.transforms:
        if chosen.get("transform") in {None, "", transform.name}:
            heads = islice(target.lake.silver.list(f"{transform.name}/"), LISTED)
            every = (_seen(transform.name, head) for head in heads if head.key.endswith(SILVER))
            events += heapq.nlargest(most, (seen for seen in every if fits(seen, chosen)), key=lambda seen: seen.at)
    return sorted(events, key=lambda seen: -seen.at)[:most]


def _seen(transform: str, head: Head) -> FileEvent:
    return FileEvent(
        number=0,
        key=bronze_key(transform, head.key),
        version="",
        transform=transform,
        outcome="committed",
        at=head.modified.timestamp(),
        rows=None,
        rejected=None,
        size=None,
        attempt=None,
        code="",
        legs=(),
        total=None,
    )


def bronze_key(transform: str, silver: str) -> str:
    """The bronze key of a silver object by its name; empty where that was cut short, and does not tell."""
    key = silver.removeprefix(f"{transform}/").removesuffix(SILVER)
    return key if silver_key(transform, key) == silver else ""


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

    def add(self, ended: Iterable[FileEvent]) -> None:
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
        latencies = sorted(latency for slot in slots for latency in slot.latencies)
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
