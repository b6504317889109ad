"""How long each stage of some work took."""

from __future__ import annotations

import time
from collections.abc import Callable


class Stopwatch:
    """Running from the moment it is made.

    Args:
        clock: seconds from an arbitrary moment, never going back.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._since = clock()
        self._laps: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """All the time since the last lap went into this stage. A stage that is repeated adds up."""
        now = self._clock()
        self._laps[stage] = self._laps.get(stage, 0.0) + now - self._since
        self._since = now

    @property
    def laps(self) -> dict[str, float]:
        """Seconds by stage, to the microsecond, in the order in which the stages began."""
        return {stage: round(seconds, 6) for stage, seconds in self._laps.items()}
