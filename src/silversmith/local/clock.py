"""The time of day, and when somebody sets it.

Messages wait until a time of day, because they must also wait while no engine runs. So when the clock is set, forwards
or back, what waits has to move with it: else a message could be hidden for a day, or its retention end at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from silversmith.local.journal import Journal

#: The clock is corrected by this much now and then, in seconds; nobody notices less.
TOLERANCE = 1.0


def running() -> float:
    """Seconds that nobody sets, and that go on while the computer sleeps, where the system has such a clock."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Clock:
    """Compares the time of day with a clock that nobody sets.

    Args:
        now: the time of day, in Unix seconds.
        steady: seconds since whenever.
    """

    def __init__(self, now: Callable[[], float] = time.time, steady: Callable[[], float] = running) -> None:
        self.now = now
        self._steady = steady
        self._ahead = now() - steady()

    def jump(self) -> float:
        """By how many seconds the time of day was set forward since this was last asked; 0.0 if it was not."""
        ahead = self.now() - self._steady()
        jump = ahead - self._ahead
        if abs(jump) < TOLERANCE:
            return 0.0
        self._ahead = ahead
        return jump


def move(journal: Journal, jump: float) -> None:
    """Move every time that something waits for by so many seconds."""
    with journal.transaction():
        journal.change("move_messages", jump=jump)
        journal.change("move_outbox", jump=jump)
