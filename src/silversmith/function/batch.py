"""The messages of one invocation: their order, what became of each, and the threads that wait for S3."""

from __future__ import annotations

import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

import polars as pl

from silversmith.errors import SilversmithError
from silversmith.events import ObjectEvent, unwrap
from silversmith.function.outcome import Report
from silversmith.function.task import Ready
from silversmith.stores import IN_MEMORY

_Result = TypeVar("_Result")
_Made = TypeVar("_Made")


class Closed(BaseException):
    """The caller has gone away in the middle: no task may go on as if it had not."""


class Lanes(Generic[_Result]):
    """Runs tasks. ``start`` and ``finished`` are for one thread, the caller's; ``here`` is for the tasks.

    Args:
        most: how many tasks are under way at once at the most.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._pool = ThreadPoolExecutor(most, thread_name_prefix="lane")
        self._inbox: SimpleQueue[Future[_Result] | Callable[[], None]] = SimpleQueue()
        self.under_way = 0
        self._open = True

    def start(self, task: Callable[[], _Result]) -> None:
        """Begin a task in a thread."""
        self.under_way += 1
        self._pool.submit(task).add_done_callback(self._inbox.put)

    def finished(self) -> _Result:
        """What the next task to be done returns, or raises; until then, run what the tasks bring here."""
        while True:
            item = self._inbox.get()
            if isinstance(item, Future):
                self.under_way -= 1
                return item.result()
            item()

    def here(self, call: Callable[[], _Made]) -> _Made:
        """From a task: have the caller's thread make the call, and return what it returns, or raise what it raises."""
        answer: Future[_Made] = Future()
        self._inbox.put(lambda: self._answer(answer, call))
        return answer.result()

    def _answer(self, answer: Future[_Made], call: Callable[[], _Made]) -> None:
        if not self._open:
            answer.set_exception(Closed())
            return
        try:
            answer.set_result(call())
        except BaseException as error:  # noqa: BLE001 -- it is raised where the call came from
            answer.set_exception(error)

    def abandon(self) -> None:
        """Wait until no task is under way, without running anything for them: for a caller that has to give up."""
        self._open = False
        while self.under_way:
            try:
                self.finished()
            except BaseException:  # noqa: BLE001, S112 -- whatever it was, it is given up
                continue
        self._open = True


#: Of the function's timeout, the share that is kept free at the end: what would probably reach into it is handed back.
RESERVE = 0.1

#: The share of the timeout in which the messages that were tried least come first.
SURE_ONES_FIRST = 0.25


class Context(Protocol):
    """What Lambda tells a handler of its invocation.

    https://docs.aws.amazon.com/lambda/latest/dg/python-context.html
    """

    def get_remaining_time_in_millis(self) -> int: ...


class Batch:
    """The messages of one invocation, and what became of them so far. By the ids of messages: ``keys`` of those under
    way beside others, and ``ready``, with the seconds they had waited, what is to be committed together.

    Args:
        records: as SQS has them.
        context: tells the milliseconds that are left.
    """

    def __init__(self, records: Sequence[Mapping[str, Any]], context: Context) -> None:
        self.waiting = deque(sorted(records, key=suspicion))
        self.records = {record["messageId"]: record for record in self.waiting}
        self.touched: set[str] = set()
        self.failed: list[str] = []
        self.failures: list[Report] = []
        self.finished: list[str] = []
        self.keys: dict[str, str] = {}
        self.ready: dict[str, tuple[Ready, float]] = {}
        self._left = context.get_remaining_time_in_millis
        self._total = self._left()
        self._longest = 0
        self._held = 0
        self._began = time.perf_counter()

    def waited(self) -> float:
        """The seconds since the batch came."""
        return time.perf_counter() - self._began

    def has_time(self) -> bool:
        """Whether one more, if it takes as long as the longest so far, is done before the reserve begins."""
        return not self._longest or self._left() >= RESERVE * self._total + self._longest

    def take(self) -> Mapping[str, Any]:
        """The record whose turn it is."""
        is_early = self._left() > self._total * (1 - SURE_ONES_FIRST)
        return self.waiting.popleft() if is_early else self.waiting.pop()

    def is_full(self, together: int) -> bool:
        """Whether so many are ready that no more shall wait with them, by their number or by what they hold."""
        return len(self.ready) >= together or self._held >= IN_MEMORY

    def add(self, message: str, ready: Ready, waited: float) -> None:
        """This one is to be committed with others. ``waited``: the seconds that it had waited before."""
        self.ready[message] = ready, waited
        self._held += _held(ready)

    def system_fault(self) -> Report | None:
        """The first failure, where the system failed everything that was begun; else None."""
        all_of_them = len(self.failures) == len(self.touched) and all(report.system for report in self.failures)
        return self.failures[0] if self.failures and all_of_them else None

    def take_ready(self) -> dict[str, tuple[Ready, float]]:
        """What is to be committed now; from then on it is not ready any more."""
        ready, self.ready, self._held = self.ready, {}, 0
        return ready

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Around the work on one message."""
        before = self._left()
        try:
            yield
        finally:
            self._longest = max(self._longest, before - self._left(), 1)

    def untouched(self) -> list[Mapping[str, Any]]:
        """The records that were not worked on."""
        return [record for message, record in self.records.items() if message not in self.touched]


def _held(one: Ready) -> int:
    """The bytes of memory that it takes while it waits."""
    silver = one.made.silver
    if isinstance(silver, bytes):
        return len(silver)
    return int(silver.estimated_size()) if isinstance(silver, pl.DataFrame) else 0


def calm(record: Mapping[str, Any]) -> ObjectEvent | None:
    """The event of a message that may be under way beside others; None for one that shall be alone: it was received
    before, it is large and would need much room on the disk, or it is no event of a single object."""
    if receives(record) > 1:
        return None
    try:
        (event,) = unwrap(record["body"])
    except (ValueError, SilversmithError):
        return None
    return event if event.size is not None and event.size <= IN_MEMORY else None


def receives(record: Mapping[str, Any]) -> int:
    """How often the message was received, this time included."""
    return int(record.get("attributes", {}).get("ApproximateReceiveCount", 1))


def suspicion(record: Mapping[str, Any]) -> tuple[int, int]:
    """The least suspicious first. Messages that died together change places each time, or the first would always be
    the first, and if it is the one that kills, none of the others would ever be tried."""
    times = receives(record)
    return times, zlib.crc32(f"{times} {record['messageId']}".encode()) if times > 1 else 0
