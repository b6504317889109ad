"""Looks at the pipeline again and again, in a thread of its own, and tells who watches that there is something new."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from silversmith.operations.reports import Status, status
from silversmith.operations.target import Target
from silversmith.page.backend import Backend
from silversmith.page.flow import Moment, moment
from silversmith.page.recent import FileEvent, History, LastFiles, Point, Rates, Span
from silversmith.pipeline import Pipeline

#: So many hops are read at a time; and so many back from the newest when the page starts.
BATCH = 5000
BACK = 150_000

_log = logging.getLogger("silversmith.page")


@dataclass(frozen=True)
class Glance:
    """What was there at one look. ``problem``: why nothing could be seen; ``no_history``: why
    nothing is remembered, where it is so."""

    number: int
    at: float
    status: Status | None
    moment: Moment
    remembers: bool
    problem: str = ""
    no_history: str = ""


@dataclass
class _Memory:
    """What the news told so far. Kept apart, so that a journal that was begun anew begins a new one."""

    files: LastFiles = field(default_factory=LastFiles)
    history: History = field(default_factory=History)
    after: int = 0


class Watch:
    """The latest look at a place, and what the looks before it gathered. Its methods may be called from any thread.

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
        self._listeners: dict[int, Callable[[], None]] = {}
        self._glance = Glance(0, clock(), None, Moment({}, {}), remembers=False, problem="not looked yet")
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._ended.set()
        self._wake.set()

    @property
    def glance(self) -> Glance:
        """The latest look."""
        return self._glance

    @property
    def ended(self) -> bool:
        """Whether it was stopped."""
        return self._ended.is_set()

    def hear(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have ``listener`` called after every look, from the looking thread. Returns what ends that."""
        with self._lock:
            number = max(self._listeners, default=0) + 1
            self._listeners[number] = listener
        self._wake.set()

        def end() -> None:
            with self._lock:
                self._listeners.pop(number, None)

        return end

    def newest(
        self, most: int, *, before: int | None = None, chosen: Mapping[str, str] | None = None
    ) -> list[FileEvent]:
        """As :meth:`LastFiles.newest`."""
        with self._lock:
            return self._memory.files.newest(most, before=before, chosen=chosen)

    def since(self, number: int) -> list[FileEvent]:
        """As :meth:`LastFiles.since`."""
        with self._lock:
            return self._memory.files.since(number)

    def keys(self, text: str, most: int) -> list[str]:
        """As :meth:`LastFiles.keys`."""
        with self._lock:
            return self._memory.files.keys(text, most)

    def points(self, span: Span) -> list[Point]:
        """As :meth:`History.points`, until now."""
        with self._lock:
            return self._memory.history.points(span, self._clock())

    def recent(self, patience: float = 10.0) -> Glance:
        """The latest look. Where nobody looks unless somebody watches, and nobody did, a new one. Waits for the first
        one, or the new one, but not for ever."""
        if not self._thread.is_alive():
            return self._glance  # nobody will look
        self._looked.wait(patience)
        if self._backend.every_unwatched is None and self._clock() - self._glance.at > 2 * self._backend.every:
            looked = threading.Event()
            end = self.hear(looked.set)
            looked.wait(patience)
            end()
        return self._glance

    def look(self) -> Glance:
        """Look once, now."""
        now = self._clock()
        try:
            self._backend.refresh()
            with self._backend.opened() as (pipeline, target):
                current = status(pipeline, target, now=now)
                self._read(pipeline, target)
                self._rates.add(now, target.totals() or {})
                remembers, no_history = target.remembers, target.no_history
        except Exception as error:  # noqa: BLE001 -- whatever it is, the page says so, and looks again
            _log.warning("the pipeline could not be looked at: %s", error)
            self._glance = Glance(
                self._glance.number + 1, now, None, Moment({}, {}), remembers=False, problem=str(error)
            )
        else:
            with self._lock:
                self._memory.history.depth(now, sum(each.waiting for each in current.transforms))
            why = "" if remembers else no_history
            self._glance = Glance(
                self._glance.number + 1, now, current, moment(current, self._rates), remembers, no_history=why
            )
        self._looked.set()
        for listener in self._each():
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

    def _each(self) -> Sequence[Callable[[], None]]:
        with self._lock:
            return list(self._listeners.values())

    def _run(self) -> None:
        while not self.ended:
            self.look()
            self._wake.clear()
            pause = self._backend.every if self._each() else self._backend.every_unwatched
            self._wake.wait(pause)
