"""The trace of all files, read from the journal as it grows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

from silversmith.local.journal import Journal
from silversmith.operations.target import Hop

#: The seconds between two looks at the journal, and the most hops that are read together.
EVERY = 0.5
BATCH = 1_000


class Follower:
    """Reports each hop once, from those on that come after it was made.

    Args:
        journal: a connection that is used in one thread only.
        report: called with the key and the hop.
    """

    def __init__(self, journal: Journal, report: Callable[[str, Hop], None]) -> None:
        self._journal = journal
        self._report = report
        ((newest,),) = journal.rows("newest_hop")
        self._after = newest or 0

    def catch_up(self) -> None:
        """Report all hops since the last call."""
        while rows := self._journal.rows("hops_after", after=self._after, most=BATCH):
            for number, key, version, at, room, name, what, detail in rows:
                self._after = number
                self._report(key, Hop(version, at, room, name, what, orjson.loads(detail)))


@contextmanager
def following(path: Path, report: Callable[[str, Hop], None]) -> Iterator[None]:
    """While the block lasts, and once more at its end, report new hops in the journal of this path, in a thread."""
    begun, ended = threading.Event(), threading.Event()

    def work() -> None:
        journal = Journal(path, readonly=True)
        try:
            follower = Follower(journal, report)
            begun.set()
            while not ended.wait(EVERY):
                follower.catch_up()
            follower.catch_up()
        finally:
            begun.set()
            journal.close()

    thread = threading.Thread(target=work, name="hops", daemon=True)
    thread.start()
    begun.wait()
    try:
        yield
    finally:
        ended.set()
        thread.join()
