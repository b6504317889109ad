"""Disturbance on purpose between the services: messages that are lost, doubled, late or out of order.

EventBridge, SNS and SQS promise "at least once, in any order", and Silversmith's promises hold even where they lose
messages: with any seed the lake ends up the same, once reconciliation has sent what was lost.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from silversmith.local.journal import Journal
from silversmith.local.services import Service, ServiceMessage, hop_row, write
from silversmith.local.services.queue import QueueService
from silversmith.local.wiring import Delivery

#: No delay is shorter, in seconds, so that a late message is never due at once.
SHORTEST_DELAY = 0.001


@dataclass(frozen=True)
class Rates:
    """How often each thing happens to a message at one hop, from 0 (never) to 1 (always).

    ``longest_delay`` is in seconds. Every hop counts by itself: a file passes three of them.
    """

    loss: float = 0.0
    duplicates: float = 0.1
    delays: float = 0.1
    longest_delay: float = 5.0


class DisturbedDelivery(Delivery):
    """A delivery in which every hop is a transaction of its own, and messages lie in the outbox between two hops.

    The same seed disturbs in the same way, in the order of the messages.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        services: Mapping[str, tuple[str, Service]],
        dead_letters: Mapping[str, QueueService],
        most: int = 500,
        seed: int,
        rates: Rates,
    ) -> None:
        super().__init__(journal, services=services, dead_letters=dead_letters, most=most)
        self._outbox = journal
        self._random = random.Random(seed)
        self._rates = rates
        self.is_calm = False

    def carry(self, messages: Sequence[ServiceMessage], now: float) -> list[str]:
        if self.is_calm:
            return super().carry(messages, now)
        if not all(message.id for message in messages):  # sent just now: into the outbox first
            write(self._outbox, messages=messages)
            return []
        names, onward = self.hop(self._disturb(messages, now), now)
        write(self._outbox, messages=onward)
        return names

    def _disturb(self, messages: Sequence[ServiceMessage], now: float) -> list[ServiceMessage]:
        """The messages that arrive now, in any order. Late ones go back to the outbox, lost ones into the trace.

        Each hop disturbs a message once: copies of copies of late ones would never come to an end.
        """
        arrived = [message for message in messages if message.due > message.created]
        for message in messages:
            if message.due > message.created:
                continue
            delays = self._arrivals()
            arrived += [message for delay in delays if not delay]
            write(self._outbox, messages=[message._replace(due=now + delay) for delay in delays if delay])
            if not delays:
                detail = {"from": message.source, "to": message.target}
                hop = hop_row(
                    message.key, message.version, at=now, room="courier", name="-", what="lost", detail=detail
                )
                write(self._outbox, hops=[hop])
                self._outbox.count("lost")
        return self._random.sample(arrived, len(arrived))

    def _arrivals(self) -> list[float]:
        """For one message at one hop: how many seconds late each copy of it arrives. Empty: it is lost."""
        if self._happens(self._rates.loss):
            return []
        copies = 2 if self._happens(self._rates.duplicates) else 1
        return [self._delay() for _ in range(copies)]

    def _delay(self) -> float:
        if not self._happens(self._rates.delays):
            return 0.0
        return self._random.uniform(SHORTEST_DELAY, self._rates.longest_delay)

    def _happens(self, rate: float) -> bool:
        return self._random.random() < rate


def disturbed(seed: int, rates: Rates | None = None) -> Callable[..., Delivery]:
    """Makes a :class:`DisturbedDelivery`, for an engine or for ``build``."""
    return partial(DisturbedDelivery, seed=seed, rates=rates or Rates())
