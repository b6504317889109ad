"""The page's memory of files, and the thread that keeps it up to date.

Memory is bounded.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise, takewhile
from types import MappingProxyType
from typing import TypeVar

from silversmith.lineage import silver_key
from silversmith.operations.reports import Status, status
from silversmith.operations.target import Hop, News, Target
from silversmith.page.backend import Backend
from silversmith.page.history import History, Rates
from silversmith.pipeline import Pipeline
from silversmith.stores import Head

_Answer = TypeVar("_Answer")

_log = logging.getLogger("silversmith.page")

#: So many outcomes are kept, so many files, and so many files that are on their way.
MOST = 10_000
MOST_ON_THE_WAY = 20_000

#: Files that come within so many seconds are one delivery. So many pauses between deliveries are kept, and so many say
#: how often they come.
PAUSE, MOST_PAUSES, FEWEST_PAUSES = 60.0, 50, 3

#: The function's verdicts on a message.
VERDICTS = frozenset(
    {"committed", "quarantined", "failed", "gone", "removed", "duplicate", "marker", "before since", "archived"}
)

#: What a file's state may be, with what a person reads. ``failed`` becomes ``retrying`` or ``dead``.
STATES = {
    "silver": "silver",
    "partial": "partial",
    "waiting": "waiting",
    "retrying": "will be tried again",
    "quarantined": "quarantined",
    "dead": "dead",
    "archived": "archived",
    "marker": "marker",
    "before since": "before since",
    "gone": "bronze is gone",
    "removed": "removed",
}


@dataclass(frozen=True)
class FileEvent:
    """The result of one version of a file in a transform, or that it waits. ``at`` in Unix seconds, ``size`` in bytes.

    ``legs`` are the milliseconds from each hop to the next, as far as they are known; ``total`` is their sum, None
    where the beginning is unknown. ``code`` is the error's, or empty. ``dead``: it was the last try.
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
    dead: bool = False

    @property
    def state(self) -> str:
        if self.outcome in {"committed", "duplicate"}:
            return "partial" if self.rejected else "silver"
        if self.outcome == "failed":
            return "dead" if self.dead else "retrying"
        return self.outcome


@dataclass
class _Passage:
    """The times of a version at each hop; ``queued`` by the queue's name, ``resent``: queues of resendings."""

    at: dict[str, float] = field(default_factory=dict)
    queued: dict[str, float] = field(default_factory=dict)
    resent: set[str] = field(default_factory=set)
    size: int | None = None


def longest_pause(pauses: Collection[float]) -> float | None:
    """The longest pause between files; None: there were too few to say how often files come."""
    return max(pauses) if len(pauses) >= FEWEST_PAUSES else None


class LastFiles:
    """The newest outcomes, and the state of each file as the newest of them left it; at most :data:`MOST` of both."""

    def __init__(self) -> None:
        self._events: deque[FileEvent] = deque(maxlen=MOST)
        self._files: OrderedDict[tuple[str, str], FileEvent] = OrderedDict()
        self._passages: OrderedDict[tuple[str, str], _Passage] = OrderedDict()
        self._last: dict[str, FileEvent] = {}
        self._pauses: dict[str, deque[float]] = {}

    def __len__(self) -> int:
        return len(self._events)

    @property
    def number(self) -> int:
        """The number of the newest change of any file."""
        return next((event.number for event in reversed(self._files.values())), 0)

    def newest_of(self, key: str, transforms: Iterable[str]) -> int:
        """The number of the newest change of a file."""
        files = (self._files.get((name, key)) for name in transforms)
        return max((event.number for event in files if event is not None), default=0)

    def take(self, news: Iterable[News], transforms: Mapping[str, str]) -> list[FileEvent]:
        """Read news, and return the files that ended with them, in order. ``transforms``: by the function's name."""
        ended = []
        for item in news:
            if item.hop.room != "function":
                self._pass(item, transforms)
            elif item.hop.what in VERDICTS:
                event = self._end(item, transforms)
                ended.append(event)
                self._keep(event)
                if event.outcome == "committed":
                    self._note_commit(event)
        self._events.extend(ended)
        return ended

    def files(self, chosen: Mapping[str, str] | None = None) -> list[FileEvent]:
        """The newest of each file, the last one first. ``chosen``: see :func:`fits`."""
        return [event for event in reversed(self._files.values()) if not chosen or fits(event, chosen)]

    def newest(self, most: int) -> list[FileEvent]:
        return list(islice(reversed(self._events), most))

    def since(self, number: int) -> list[FileEvent]:
        """The events with a higher number, the last one first."""
        return list(takewhile(lambda event: event.number > number, reversed(self._events)))

    def keys(self, text: str, most: int) -> list[str]:
        matching = dict.fromkeys(key for _, key in reversed(self._files) if text in key)
        return list(islice(matching, most))

    def pause(self, transform: str) -> float | None:
        """The longest of the last pauses between the transform's files, in seconds; None: there were too few to say how
        often files come."""
        return longest_pause(self._pauses.get(transform, ()))

    def _note_commit(self, event: FileEvent) -> None:
        before = self._last.get(event.transform)
        self._last[event.transform] = event
        if before is not None and event.at - before.at >= PAUSE:
            self._pauses.setdefault(event.transform, deque(maxlen=MOST_PAUSES)).append(event.at - before.at)

    def last(self, transform: str) -> FileEvent | None:
        """The file that the transform last made silver of."""
        return self._last.get(transform)

    def _keep(self, event: FileEvent) -> None:
        """While a file waits, and where there was nothing to do, its silver is what it was."""
        name = (event.transform, event.key)
        before = self._files.pop(name, None)
        if before is not None and event.outcome in {"duplicate", "waiting"}:
            event = replace(event, rows=before.rows, rejected=before.rejected, size=event.size or before.size)
        self._files[name] = event
        if len(self._files) > MOST:
            self._files.popitem(last=False)

    def _pass(self, item: News, transforms: Mapping[str, str]) -> None:
        name, hop = (item.key, item.hop.version), item.hop
        if name not in self._passages:
            self._passages[name] = _Passage()
            if len(self._passages) > MOST_ON_THE_WAY:
                self._passages.popitem(last=False)
        passage = self._passages[name]
        if hop.room == "bucket" and hop.what == "deleted":
            self._lose(item, transforms)
        elif hop.room == "bucket":
            passage.size = _integer(hop.detail.get("size"))
        if hop.room == "operations":  # sent again: its time begins here
            to = str(hop.detail.get("to", ""))
            if to == "bus":
                passage.at, passage.resent = {"bucket": hop.at}, set()
            else:
                passage.queued[to] = hop.at
                passage.resent.add(to)
                self._wait(item, to, transforms, passage)
        elif hop.room != "queue":
            passage.at.setdefault(hop.room, hop.at)
        elif hop.what == "dead":
            self._die(item, transforms)
        elif hop.what == "queued":
            if hop.at > passage.queued.get(hop.name, 0.0):  # else the queue took what was sent again just now
                passage.resent.discard(hop.name)
            passage.queued[hop.name] = hop.at
            self._wait(item, hop.name, transforms, passage)

    def _wait(self, item: News, queue: str, transforms: Mapping[str, str], passage: _Passage) -> None:
        if queue in transforms:
            hop = item.hop
            event = FileEvent(item.number, item.key, hop.version, transforms[queue], "waiting", hop.at)
            self._keep(replace(event, size=passage.size))

    def _lose(self, item: News, transforms: Mapping[str, str]) -> None:
        """Its bronze object is gone; what its transforms made may stay."""
        for transform in transforms.values():
            before = self._files.get((transform, item.key))
            if before is not None:
                self._keep(replace(before, outcome="gone", number=item.number, at=item.hop.at))

    def _die(self, item: News, transforms: Mapping[str, str]) -> None:
        """Its queue gave up on it: no further try follows."""
        name = (transforms.get(item.hop.name, ""), item.key)
        if name in self._files:
            self._files[name] = replace(self._files[name], outcome="failed", dead=True)

    def _end(self, item: News, transforms: Mapping[str, str]) -> FileEvent:
        hop, detail = item.hop, item.hop.detail
        passage = self._passages.get((item.key, hop.version), _Passage())
        legs, is_whole = _legs(passage, hop)
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
            size=_integer(detail.get("size")) or passage.size,
            attempt=_integer(detail.get("attempt")),
            code=str(error.get("code", "")) if isinstance(error, dict) else "",
            legs=legs,
            total=sum(length for _, length in legs) if is_whole else None,
            dead=bool(detail.get("dead")),
        )


def _legs(passage: _Passage, hop: Hop) -> tuple[list[tuple[str, float]], bool]:
    """The time from each hop to the next, by the hop at its end; and whether it is all of the file's time.

    A file that was sent again passes only the queue and the function, and its time is from then on. The time in the
    queue, where it is known, is the leg ``wait``.
    """
    queued = passage.queued.get(hop.name)
    is_resent = hop.name in passage.resent
    times: list[tuple[str, float]] = []
    if not is_resent:
        times = [(room, passage.at[room]) for room in ("bucket", "rule", "topic") if room in passage.at]
    is_whole = is_resent or (bool(times) and times[0][0] == "bucket")
    if queued is not None:
        if times and queued < times[-1][1]:  # the clock went back, or these are of another message
            times, is_whole = [], False
        times.append(("queue", queued))
        waited = hop.detail.get("queued")
        if isinstance(waited, int | float) and 0 < waited < hop.at - queued:
            times.append(("wait", queued + waited))
    times.append(("function", hop.at))
    legs = [(room, max(0.0, (at - before) * 1000)) for (_, before), (room, at) in pairwise(times)]
    return legs, is_whole and bool(legs)


def fits(event: FileEvent, chosen: Mapping[str, str]) -> bool:
    """Whether it has the chosen ``state`` and ``transform``, and the text ``q`` in its key; empty: any."""
    return (
        chosen.get("state") in {None, "", event.state}
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


#: So many hops are read at a time; and so many back from the newest when the page starts, for the list of files.
BATCH = 5000
BACK = 200_000


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
    """What was read so far; a new journal gets a new one."""

    files: LastFiles = field(default_factory=LastFiles)
    history: History = field(default_factory=History)
    after: int = 0


class Watch:
    """Looks at a backend again and again, in its own thread, and tells its listeners. Any thread may call.

    Args:
        backend: what to look at.
        clock: the time in Unix seconds.
        back: how many hops are read of those that are there at the start.
    """

    def __init__(self, backend: Backend, *, clock: Callable[[], float] = time.time, back: int = BACK) -> None:
        self._backend = backend
        self._back = back
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
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the look that it is at, and tell the listeners."""
        self._ended.set()
        self._wake.set()
        self._tell()

    @property
    def glance(self) -> Overview:
        return self._glance

    @property
    def ended(self) -> bool:
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

    def ask(self, question: Callable[[LastFiles, History, float], _Answer]) -> _Answer:
        """Answer a question from what is remembered. It gets the files, the numbers and the time."""
        with self._lock:
            return question(self._memory.files, self._memory.history, self._clock())

    def scale(self) -> float:
        """The milliseconds within which 19 of 20 files were done today; 1 second before there are any."""
        return self.ask(lambda _, history, now: history.all.today(now).latencies.quantile(0.95)) or 1000.0

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
                self._memory.history.all.depth(now, sum(each.waiting for each in current.transforms))
            why = "" if remembers else no_history
            self._glance = Overview(number, now, current, self._rates.per_second(), remembers, no_history=why)
        self._looked.set()
        self._tell()
        return self._glance

    def _read(self, pipeline: Pipeline, target: Target) -> None:
        newest = target.newest()
        if newest < self._memory.after:
            self._memory = _Memory()
        if not self._memory.after and newest > self._back:
            self._memory.after = newest - self._back
        with self._lock:
            self._memory.history.read(target.tallies, self._clock())
        transforms = {f"{pipeline.name}_{transform.name}": transform.name for transform in pipeline.transforms}
        while news := target.news(self._memory.after, BATCH):
            with self._lock:
                self._memory.files.take(news, transforms)
            self._memory.after = news[-1].number
            if len(news) < BATCH or self.ended:
                return

    def _tell(self) -> None:
        with self._lock:
            listeners = list(self._listeners.values())
        for listener in listeners:
            listener()

    def _run(self) -> None:
        while not self.ended:
            self.look()
            self._wake.clear()
            self._wake.wait(self._backend.every if self._listeners else self._backend.every_unwatched)
