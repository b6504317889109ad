"""Disturbance on purpose between the rooms: posts that are lost, doubled, late or out of order. For tests and trials.

What EventBridge, SNS and SQS promise is "at least once, in any order", and what Silversmith promises holds even where
they lose something: so with any seed the lake ends up the same, once reconciliation has sent what was lost.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

_Item = TypeVar("_Item")

#: No delay is shorter, in seconds, so that what is late is never due at once.
SHORTEST_DELAY = 0.001


@dataclass(frozen=True)
class Rates:
    """How often each thing happens to a post at one hop, from 0 (never) to 1 (always).

    ``longest_delay`` is in seconds. Every hop counts by itself: a file passes three of them.
    """

    loss: float = 0.0
    duplicates: float = 0.1
    delays: float = 0.1
    longest_delay: float = 5.0

    def __post_init__(self) -> None:
        for field in fields(self)[:3]:
            if not 0 <= getattr(self, field.name) <= 1:
                raise ValueError(f"{field.name} must be from 0 (never) to 1 (always), not {getattr(self, field.name)}")
        if self.longest_delay < SHORTEST_DELAY:
            raise ValueError(f"longest_delay must be {SHORTEST_DELAY} seconds or more, not {self.longest_delay}")


class Chaos:
    """Decides what happens to posts. The same seed decides the same, in the order in which it is asked."""

    def __init__(self, seed: int, rates: Rates | None = None) -> None:
        self._random = random.Random(seed)  # noqa: S311 -- to be foreseen is what it is for
        self._rates = rates or Rates()

    def arrivals(self) -> list[float]:
        """For one post at one hop: how many seconds late each copy of it arrives. Empty: it is lost."""
        if self._happens(self._rates.loss):
            return []
        copies = 2 if self._happens(self._rates.duplicates) else 1
        return [self._delay() for _ in range(copies)]

    def shuffled(self, items: Sequence[_Item]) -> list[_Item]:
        """The items in another order."""
        return self._random.sample(items, len(items))

    def _delay(self) -> float:
        if not self._happens(self._rates.delays):
            return 0.0
        return self._random.uniform(SHORTEST_DELAY, self._rates.longest_delay)

    def _happens(self, rate: float) -> bool:
        return self._random.random() < rate
