"""Reads the trace in an engine's journal as it grows, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

from silversmith.local.journal import Journal
from silversmith.operations.target import Hop

#: How often the journal is looked at, in seconds, and how many hops are read at once.
EVERY = 0.5
AT_ONCE = 1_000


class Follower:
    """Tells of each hop once, from those on that come after it was made.

    Args:
        journal: a connection that is used in one thread only.
        tell: told the key and what happened to it.
    """

    def __init__(self, journal: Journal, tell: Callable[[str, Hop], None]) -> None:
        self._journal = journal
        self._tell = tell
        ((newest,),) = journal.rows("newest_hop")
        self._after = newest or 0

    def catch_up(self) -> None:
        """Tell all that has happened since."""
        while rows := self._journal.rows("hops_after", after=self._after, most=AT_ONCE):
            for number, key, version, at, room, name, what, detail in rows:
                self._after = number
                self._tell(key, Hop(version, at, room, name, what, orjson.loads(detail)))


@contextmanager
def following(path: Path, tell: Callable[[str, Hop], None]) -> Iterator[None]:
    """While the block lasts, and once more at its end, tell of what is new in the journal of this path."""
    begun, ended = threading.Event(), threading.Event()

    def work() -> None:
        journal = Journal(path, readonly=True)
        try:
            follower = Follower(journal, tell)
            begun.set()
            while not ended.wait(EVERY):
                follower.catch_up()
            follower.catch_up()
        finally:
            begun.set()
            journal.close()

    thread = threading.Thread(target=work, name="spans", daemon=True)
    thread.start()
    begun.wait()
    try:
        yield
    finally:
        ended.set()
        thread.join()
