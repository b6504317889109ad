"""Many slow questions to a bucket: a few of them under way at once, the answers in the order of the questions."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def mapped(function: Callable[[_Item], _Result], items: Iterable[_Item], workers: int) -> Iterator[_Result]:
    """As ``map``, with so many threads; only a few items for each of them are taken ahead. One worker: no thread."""
    if workers == 1:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="ahead")
    ahead: deque[Future[_Result]] = deque()
    try:
        for item in items:
            ahead.append(pool.submit(function, item))
            if len(ahead) >= 4 * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def batched(items: Iterable[_Item], most: int) -> Iterator[list[_Item]]:
    """The items in lists of ``most``, the last one shorter."""
    rest = iter(items)
    while batch := list(islice(rest, most)):
        yield batch
