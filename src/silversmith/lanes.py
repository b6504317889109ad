"""Several tasks that mostly wait, under way at once: each in a thread, except for what it brings to the caller.

A transform is the user's code, and memory is bounded for one file at a time: so only waiting for buckets happens side
by side, and conversions one after the other, all in the thread that the batch came in.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Generic, TypeVar

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
