"""Where the time of one file goes while a worker has it: a stopwatch that is told which stage has just ended."""

from __future__ import annotations

import time
from collections.abc import Callable

#: The stages in which a worker has a file, in their order.
#:
#: ``batch``: waiting for those before it in its batch. ``read``: silver headed, bronze headed and read. ``turn``:
#: waiting until no other file is being converted, or until others can be committed with it. ``parse``, ``contract``,
#: ``transform``, ``write`` (Parquet, and fitting the recorded schema): in memory. ``one pass``: all these four, where a
#: large file streams through them at once. ``commit``: the conditional put, made durable, and what is cleared
#: afterwards. Files that are written and committed together each have the time that all of them took.
STAGES = ("batch", "read", "turn", "parse", "contract", "transform", "one pass", "write", "commit")


class Stages:
    """Adds up seconds by stage, for one file in one thread at a time.

    Args:
        clock: seconds since whenever.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds: dict[str, float] = {}
        self._clock = clock
        self._since = clock()

    def end(self, stage: str) -> None:
        """What has passed since the end of the stage before was this stage."""
        now = self._clock()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._since
        self._since = now
