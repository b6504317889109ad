"""The messages of one invocation: their order, what became of each, and the threads that wait for S3."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from silversmith.function.outcome import Report
from silversmith.function.process import Commit, Processing
from silversmith.function.task import Task
from silversmith.runtime.queue import InvocationContext, Message
from silversmith.stores import IN_MEMORY

_Result = TypeVar("_Result")


class IoPool(Generic[_Result]):
    """Runs jobs that wait for buckets, in threads. Its methods are for one thread, the caller's.

    Args:
        threads: how many jobs run at once; 0: each runs in the caller's thread, when its result is asked for.
    """

    def __init__(self, threads: int) -> None:
        self.size = max(threads, 1)
        self.pending = 0
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="io") if threads else None
        self._done: SimpleQueue[Future[_Result]] = SimpleQueue()
        self._jobs: deque[Callable[[], _Result]] = deque()

    @property
    def has_threads(self) -> bool:
        return self._pool is not None

    def submit(self, job: Callable[[], _Result]) -> None:
        """Begin a job."""
        self.pending += 1
        if self._pool is None:
            self._jobs.append(job)
        else:
            self._pool.submit(job).add_done_callback(self._done.put)

    def next_done(self) -> _Result:
        """Wait for the next job that ends, and return what it returns or raise what it raises."""
        self.pending -= 1
        return self._jobs.popleft()() if self._pool is None else self._done.get().result()

    def abandon(self) -> None:
        """Wait until no job is under way, and forget what they came to: for a caller that has to give up."""
        self._jobs.clear()
        while self.pending:
            if self._pool is not None:
                self._done.get()
            self.pending -= 1


#: So many bytes of bronze objects are under way at once, beside the first.
MOST_UNDER_WAY = 4 * IN_MEMORY

#: The share of the function's timeout that is kept free at the end: a message that would probably reach into it is
#: handed back.
RESERVE = 0.1

#: The share of the timeout in which the messages that were tried least come first.
SURE_ONES_FIRST = 0.25


@dataclass
class Running:
    """A message that is processed concurrently with others. ``waited`` are the seconds that it waited for its turn."""

    message: Message
    task: Task
    processing: Processing
    waited: float
    has_begun: bool = False


class Batch:
    """The messages of one invocation, and what became of them so far.

    Args:
        records: as SQS has them.
        context: tells the milliseconds that are left.
    """

    def __init__(self, records: Sequence[Mapping[str, Any]], context: InvocationContext) -> None:
        self.waiting = deque(sorted(map(Message, records), key=lambda message: message.suspicion))
        self.messages = {message.id: message for message in self.waiting}
        self.settled: set[str] = set()
        self.failed: list[str] = []
        self.failures: list[Report] = []
        self.finished: list[str] = []
        #: The bytes of each bronze object under way, by its key.
        self.under_way: dict[str, int] = {}
        self._commits: list[tuple[Running, Commit]] = []
        self._size = 0
        self._left = context.get_remaining_time_in_millis
        self._total = self._left()
        self._longest = 0
        self._began = time.perf_counter()

    def waited(self) -> float:
        """The seconds since the batch came."""
        return time.perf_counter() - self._began

    def has_time(self) -> bool:
        """Whether one more, if it takes as long as the longest so far, is done before the reserve begins."""
        return not self._longest or self._left() >= RESERVE * self._total + self._longest

    def has_room(self, size: int) -> bool:
        """Whether an object of so many bytes may be under way beside the others."""
        return not self.under_way or sum(self.under_way.values()) + size <= MOST_UNDER_WAY

    def take(self) -> Message:
        """The message whose turn it is."""
        is_early = self._left() > self._total * (1 - SURE_ONES_FIRST)
        return self.waiting.popleft() if is_early else self.waiting.pop()

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Around the work on one message."""
        before = self._left()
        try:
            yield
        finally:
            self._longest = max(self._longest, before - self._left(), 1)

    def add_commit(self, running: Running, commit: Commit) -> None:
        """This silver object is to be put, perhaps together with others."""
        self._commits.append((running, commit))
        self._size += commit.size

    def has_commits(self, group_size: int) -> bool:
        """Whether so many silver objects wait to be put that no more shall wait with them, by their number or by the
        memory that they take."""
        return len(self._commits) >= group_size or self._size >= IN_MEMORY

    def take_commits(self) -> list[tuple[Running, Commit]]:
        """The silver objects that are put now."""
        commits, self._commits, self._size = self._commits, [], 0
        return commits

    def system_fault(self) -> Report | None:
        """The first failure, if the system failed every message that was begun; else None."""
        all_of_them = len(self.failures) == len(self.settled) and all(report.system for report in self.failures)
        return self.failures[0] if self.failures and all_of_them else None

    def untouched(self) -> list[Message]:
        """The messages that were not worked on."""
        return [message for message in self.messages.values() if message.id not in self.settled]
