"""What the page remembers: recent files, rates, a day of history, and the thread that keeps it up to date.

Memory is bounded.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise, takewhile
from types import MappingProxyType

from silversmith.lineage import silver_key
from silversmith.operations.reports import Status, status
from silversmith.operations.target import Hop, News, Target
from silversmith.page.backend import Backend
from silversmith.pipeline import Pipeline
from silversmith.stores import Head

_log = logging.getLogger("silversmith.page")

#: A rate is taken over so many seconds.
WINDOW = 5.0


class Rates:
    """How fast counters rise."""

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


#: So many outcomes are kept, and so many files that are on their way.
MOST = 10_000
MOST_ON_THE_WAY = 20_000

#: The function's verdicts on a message.
VERDICTS = frozenset({"committed", "quarantined", "failed", "gone", "removed", "duplicate", "marker", "archived"})


@dataclass(frozen=True)
class FileEvent:
    """What a transform made of one version of a file. ``at`` in Unix seconds, ``size`` in bytes.

    ``legs`` are the milliseconds from each hop to the next, as far as they are known; ``total`` is their sum, None
    where the beginning is unknown. ``code`` is the error's, or empty.
    """

    number: int
    key: str
    version: str
    transform: str
    outcome: str
    at: float
    rows: int | None = None
    rejected: int | None = None
    size: int | None = None
    attempt: int | None = None
    code: str = ""
    legs: Sequence[tuple[str, float]] = ()
    total: float | None = None


@dataclass
class _Passage:
    """When a version passed each hop; ``queued`` by the queue's name."""

    at: dict[str, float] = field(default_factory=dict)
    queued: dict[str, float] = field(default_factory=dict)


class LastFiles:
    """The newest outcomes, at most :data:`MOST`."""

    def __init__(self) -> None:
        self._events: deque[FileEvent] = deque(maxlen=MOST)
        self._passages: OrderedDict[tuple[str, str], _Passage] = OrderedDict()

    def __len__(self) -> int:
        return len(self._events)

    def take(self, news: Iterable[News], transforms: Mapping[str, str]) -> list[FileEvent]:
        """Read news, and return the files that ended with them, in order. ``transforms``: by the function's name."""
        ended = []
        for item in news:
            if item.hop.room != "function":
                self._pass(item)
            elif item.hop.what in VERDICTS:
                ended.append(self._end(item, transforms))
        self._events.extend(ended)
        return ended

    def newest(
        self, most: int, *, before: int | None = None, chosen: Mapping[str, str] | None = None
    ) -> list[FileEvent]:
        """The newest, the last one first; ``before``: only those with a lower number. ``chosen``: see :func:`fits`."""
        events = (
            event
            for event in reversed(self._events)
            if (before is None or event.number < before) and (not chosen or fits(event, chosen))
        )
        return list(islice(events, most))

    def since(self, number: int) -> list[FileEvent]:
        """Those with a higher number, the last one first."""
        return list(takewhile(lambda event: event.number > number, reversed(self._events)))

    def keys(self, text: str, most: int) -> list[str]:
        """The keys that contain the text, the newest first."""
        matching = dict.fromkeys(event.key for event in reversed(self._events) if text in event.key)
        return list(islice(matching, most))

    def _pass(self, item: News) -> None:
        name, hop = (item.key, item.hop.version), item.hop
        if name not in self._passages:
            self._passages[name] = _Passage()
            if len(self._passages) > MOST_ON_THE_WAY:
                self._passages.popitem(last=False)
        passage = self._passages[name]
        if hop.room != "queue":
            passage.at.setdefault(hop.room, hop.at)
        elif hop.what != "dead":
            passage.queued[hop.name] = hop.at

    def _end(self, item: News, transforms: Mapping[str, str]) -> FileEvent:
        hop, detail = item.hop, item.hop.detail
        legs = self._legs(item.key, hop)
        error = detail.get("error")
        committed = hop.what == "committed"
        return FileEvent(
            number=item.number,
            key=item.key,
            version=hop.version,
            transform=transforms.get(hop.name) or str(detail.get("transform") or hop.name),
            outcome=hop.what,
            at=hop.at,
            rows=_integer(detail.get("rows_written")) if committed else None,
            rejected=_integer(detail.get("rows_rejected")) if committed else None,
            size=_integer(detail.get("size")),
            attempt=_integer(detail.get("attempt")),
            code=str(error.get("code", "")) if isinstance(error, dict) else "",
            legs=legs,
            total=sum(length for _, length in legs) if legs and legs[0][0] == "rule" else None,
        )

    def _legs(self, key: str, hop: Hop) -> list[tuple[str, float]]:
        """Each leg has the name of the hop at its end. A redriven message passes only the queue and the function."""
        passage = self._passages.get((key, hop.version), _Passage())
        times: list[tuple[str, float]] = [
            (room, passage.at[room]) for room in ("bucket", "rule", "topic") if room in passage.at
        ]
        queued = passage.queued.get(hop.name)
        if queued is not None:
            if times and queued < times[-1][1]:
                times = []
            times.append(("queue", queued))
        times.append(("function", hop.at))
        return [(room, max(0.0, (at - before) * 1000)) for (_, before), (room, at) in pairwise(times)]


def fits(event: FileEvent, chosen: Mapping[str, str]) -> bool:
    """Whether it has the chosen ``outcome`` and ``transform``, and the text ``q`` in its key; empty: any."""
    return (
        chosen.get("outcome") in {None, "", event.outcome}
        and chosen.get("transform") in {None, "", event.transform}
        and chosen.get("q", "") in event.key
    )


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


#: So many objects of each transform's silver are listed: ten requests.
LISTED = 10_000

_ENDING = ".parquet"


def stored(
    pipeline: Pipeline, target: Target, most: int, *, chosen: Mapping[str, str] = MappingProxyType({})
) -> list[FileEvent]:
    """The newest silver objects among the first :data:`LISTED` of each transform, the last one first. ``chosen``: see
    :func:`fits`."""
    events: list[FileEvent] = []
    for transform in pipeline.transforms:
        if chosen.get("transform") in {None, "", transform.name}:
            heads = islice(target.lake.silver.list(f"{transform.name}/"), LISTED)
            silver = (_committed(transform.name, head) for head in heads if head.key.endswith(_ENDING))
            events += heapq.nlargest(
                most, (event for event in silver if fits(event, chosen)), key=lambda event: event.at
            )
    return sorted(events, key=lambda event: -event.at)[:most]


def _committed(transform: str, head: Head) -> FileEvent:
    """The event of a silver object; its key is empty where the object's name was cut short."""
    key = head.key.removeprefix(f"{transform}/").removesuffix(_ENDING)
    key = key if silver_key(transform, key) == head.key else ""
    return FileEvent(0, key, "", transform, "committed", head.modified.timestamp())


#: The length of a slot, in seconds, and how many are kept: a day.
SLOT = 10
MOST_SLOTS = 8640

#: So many latencies of a slot are kept.
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

    ``waiting`` is the greatest depth of the queues; None where nobody looked.
    """

    at: float
    done: float
    failed: float
    median: float | None
    slow: float | None
    waiting: int | None


class History:
    """The last day."""

    def __init__(self) -> None:
        self._slots: OrderedDict[int, _Slot] = OrderedDict()

    def add(self, ended: Iterable[FileEvent]) -> None:
        """Add files that ended."""
        for event in ended:
            slot = self._slot(event.at)
            slot.done += event.outcome == "committed"
            slot.failed += event.outcome in {"failed", "quarantined"}
            if event.total is not None and len(slot.latencies) < MOST_LATENCIES:
                slot.latencies.append(event.total)

    def depth(self, at: float, waiting: int) -> None:
        """Add how many messages waited at that time."""
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
        return Point(
            at=start + step,
            done=sum(slot.done for slot in slots) / step,
            failed=sum(slot.failed for slot in slots) / step,
            median=quantile(latencies, 0.5),
            slow=quantile(latencies, 0.95),
            waiting=max((slot.waiting for slot in slots if slot.waiting is not None), default=None),
        )

    def _slot(self, at: float) -> _Slot:
        number = int(at // SLOT)
        if number not in self._slots:
            self._slots[number] = _Slot()
            while len(self._slots) > MOST_SLOTS:
                self._slots.pop(min(self._slots))
        return self._slots[number]


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """The value that this share of the ordered values does not exceed; None without values."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


#: So many hops are read at a time; and so many back from the newest when the page starts.
BATCH = 5000
BACK = 150_000


@dataclass(frozen=True)
class Overview:
    """The result of one look. ``rates``: how much each counter rises in a second.

    ``problem`` says why the look failed, ``no_history`` why there is no history, where there is none.
    """

    number: int
    at: float
    status: Status | None
    rates: Mapping[str, float]
    remembers: bool
    problem: str = ""
    no_history: str = ""


@dataclass
class _Memory:
    """What was read so far. A journal that was begun anew gets a new one."""

    files: LastFiles = field(default_factory=LastFiles)
    history: History = field(default_factory=History)
    after: int = 0


class Watch:
    """Looks at a backend again and again, in its own thread, and tells its listeners. Any thread may call.

    Args:
        backend: what to look at.
        clock: the time in Unix seconds.
    """

    def __init__(self, backend: Backend, *, clock: Callable[[], float] = time.time) -> None:
        self._backend = backend
        self._clock = clock
        self._lock = threading.Lock()
        self._memory = _Memory()
        self._rates = Rates()
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._looked = threading.Event()
        self._listeners: dict[int, Callable[[], object]] = {}
        self._glance = Overview(0, clock(), None, {}, remembers=False, problem="not looked yet")
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the look that it is at."""
        self._ended.set()
        self._wake.set()

    @property
    def glance(self) -> Overview:
        """The latest look."""
        return self._glance

    @property
    def ended(self) -> bool:
        """Whether it was stopped."""
        return self._ended.is_set()

    def subscribe(self, listener: Callable[[], object]) -> Callable[[], None]:
        """Call ``listener`` after every look, in the watch's thread. Returns what ends the subscription."""
        with self._lock:
            number = max(self._listeners, default=0) + 1
            self._listeners[number] = listener
        self._wake.set()

        def unsubscribe() -> None:
            with self._lock:
                self._listeners.pop(number, None)

        return unsubscribe

    def newest(
        self, most: int, *, before: int | None = None, chosen: Mapping[str, str] | None = None
    ) -> list[FileEvent]:
        """See :meth:`LastFiles.newest`."""
        with self._lock:
            return self._memory.files.newest(most, before=before, chosen=chosen)

    def since(self, number: int) -> list[FileEvent]:
        """See :meth:`LastFiles.since`."""
        with self._lock:
            return self._memory.files.since(number)

    def keys(self, text: str, most: int) -> list[str]:
        """See :meth:`LastFiles.keys`."""
        with self._lock:
            return self._memory.files.keys(text, most)

    def points(self, span: Span) -> list[Point]:
        """See :meth:`History.points`, until now."""
        with self._lock:
            return self._memory.history.points(span, self._clock())

    def recent(self, patience: float = 10.0) -> Overview:
        """The latest look, after the first one; a new one where the watch rests without listeners and the last is old.
        Waits ``patience`` seconds at the most."""
        if not self._thread.is_alive():
            return self._glance
        self._looked.wait(patience)
        if self._backend.every_unwatched is None and self._clock() - self._glance.at > 2 * self._backend.every:
            looked = threading.Event()
            unsubscribe = self.subscribe(looked.set)
            looked.wait(patience)
            unsubscribe()
        return self._glance

    def look(self) -> Overview:
        """Look once, now."""
        now, number = self._clock(), self._glance.number + 1
        try:
            self._backend.refresh()
            with self._backend.opened() as (pipeline, target):
                current = status(pipeline, target, now=now)
                self._read(pipeline, target)
                self._rates.add(now, target.totals() or {})
                remembers, no_history = target.remembers, target.no_history
        except Exception as error:  # noqa: BLE001 -- whatever it is, the page says so, and looks again
            _log.warning("the pipeline could not be looked at: %s", error)
            self._glance = Overview(number, now, None, {}, remembers=False, problem=str(error))
        else:
            with self._lock:
                self._memory.history.depth(now, sum(each.waiting for each in current.transforms))
            why = "" if remembers else no_history
            self._glance = Overview(number, now, current, self._rates.per_second(), remembers, no_history=why)
        self._looked.set()
        for listener in self._current_listeners():
            listener()
        return self._glance

    def _read(self, pipeline: Pipeline, target: Target) -> None:
        newest = target.newest()
        if newest < self._memory.after:
            self._memory = _Memory()
        if not self._memory.after:
            self._memory.after = max(0, newest - BACK)
        if newest <= self._memory.after:
            return
        transforms = {f"{pipeline.name}_{transform.name}": transform.name for transform in pipeline.transforms}
        while news := target.news(self._memory.after, BATCH):
            with self._lock:
                self._memory.history.add(self._memory.files.take(news, transforms))
            self._memory.after = news[-1].number
            if len(news) < BATCH or self.ended:
                return

    def _current_listeners(self) -> Sequence[Callable[[], object]]:
        with self._lock:
            return list(self._listeners.values())

    def _run(self) -> None:
        while not self.ended:
            self.look()
            self._wake.clear()
            self._wake.wait(self._backend.every if self._current_listeners() else self._backend.every_unwatched)
