"""How fast counters rise, over the last seconds. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

#: Over so many seconds a rate is taken.
WINDOW = 5.0


class Rates:
    """Counters as they were lately."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, Mapping[str, int]]] = deque()

    def add(self, now: float, totals: Mapping[str, int]) -> None:
        """What the counters say now, in seconds on any clock. A clock or a counter that goes back begins anew."""
        if self._samples:
            before, known = self._samples[-1]
            if now <= before or any(totals.get(name, 0) < value for name, value in known.items()):
                self._samples.clear()
        self._samples.append((now, dict(totals)))
        while len(self._samples) > 2 and now - self._samples[1][0] >= WINDOW:
            self._samples.popleft()

    def of(self, name: str) -> float:
        """By how much it rises a second; 0.0 where there are not two samples yet."""
        if len(self._samples) < 2:
            return 0.0
        (since, before), (until, after) = self._samples[0], self._samples[-1]
        return (after.get(name, 0) - before.get(name, 0)) / (until - since)
