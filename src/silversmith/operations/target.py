"""Where a pipeline runs, as far as the operations look at it: its buckets, its queues, what is remembered of the past.

``operations/local.py`` is one, ``operations/aws.py`` another. All times are Unix seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from silversmith.events import ObjectEvent
from silversmith.pipeline import Transform
from silversmith.schemas import Owner
from silversmith.stores import Lake


@dataclass(frozen=True)
class Depth:
    """How many messages a queue holds: those that may be received, those that are hidden, when the oldest was sent."""

    name: str
    waiting: int
    in_flight: int
    oldest: float | None


@dataclass(frozen=True)
class TransformQueues:
    """A transform's queue, and what did not get through it: after too many receives, or because it was not taken."""

    transform: str
    queue: Depth
    dead_letters: tuple[Depth, ...]

    @property
    def dead(self) -> int:
        """How many messages lie in its dead-letter queues."""
        return sum(depth.waiting + depth.in_flight for depth in self.dead_letters)


@dataclass(frozen=True)
class Hop:
    """One thing that happened to one version of an object."""

    version: str
    at: float
    room: str
    name: str
    what: str
    detail: Mapping[str, Any]


@dataclass(frozen=True)
class News:
    """A hop as it is read in the order in which all hops happened. ``number`` only rises."""

    number: int
    key: str
    hop: Hop


@dataclass(frozen=True)
class LastOutcome:
    """What a transform last made of a key. ``verdict``: committed, quarantined, gone, failed."""

    verdict: str
    version: str
    at: float
    detail: Mapping[str, Any]


class DeadKind(StrEnum):
    """Who gave up on a message."""

    QUEUE = "queue"  #: it was received too often
    SUBSCRIPTION = "subscription"  #: the topic could not deliver it to the transform's queue
    RULE = "rule"  #: the event bus could not deliver it to the topic
    UNKNOWN = "unknown"  #: something that the pipeline as it is now does not have


@dataclass(frozen=True)
class DeadMessage:
    """A message in a dead-letter queue.

    ``source`` is the name of what gave up on it and ``reason`` what that said; ``transform`` is None where all that
    match are meant (a rule's). ``error`` is the function's last error, ``attempts`` how often it was tried, and
    ``log_group``, ``log_stream`` and ``request_id`` where the log of the last try is, where known.
    """

    message_id: str
    kind: DeadKind
    source: str
    queue: str
    transform: str | None
    key: str
    version: str
    reason: str
    sent: float
    dead_at: float | None
    attempts: int | None
    error: Mapping[str, Any] | None
    log_group: str | None = None
    log_stream: str | None = None
    request_id: str | None = None

    def concerns(self, transform: Transform | None) -> bool:
        """Whether it is one of this transform's; None: of any. What is nobody's own, as a rule's is, is every
        transform's that would have got it."""
        if transform is None or self.transform == transform.name:
            return True
        return self.transform is None and transform.pattern.matches(self.key)


@dataclass(frozen=True)
class Lately:
    """A failure in a few words, as the end of a run names it. ``transform`` as in :class:`DeadMessage`."""

    transform: str | None
    key: str
    code: str
    message: str


class Target(Protocol):
    """Where a pipeline runs."""

    @property
    def place(self) -> str:
        """Which one it is, for a person: the lake's folder, or the stack."""

    @property
    def lake(self) -> Lake:
        """The three buckets."""

    @property
    def owner(self) -> Owner:
        """Whose silver it is to be."""

    @property
    def remembers(self) -> bool:
        """Whether there is any history: False where nothing ever ran, and on AWS."""

    @property
    def no_history(self) -> str:
        """Why there is no history, for a person, where there is none."""

    def running(self) -> bool:
        """Whether anything works on it at this moment."""

    def totals(self) -> Mapping[str, int] | None:
        """The counters since it was made, by name: ``bucket.created``, ``transform.{name}.committed`` …

        None where nobody counts."""

    def on_the_way(self) -> int | None:
        """How many messages have left one room and not yet reached the next; None where nobody knows."""

    def queues(self) -> list[TransformQueues]:
        """Every transform's queues."""

    def rules_dead(self) -> list[Depth]:
        """The dead-letter queues of the rules."""

    def quarantined(self, transform: str) -> int:
        """How many files this transform last had to put in quarantine."""

    def hops(self, key: str, most: int) -> list[Hop]:
        """The newest ``most`` things that happened to any version of the key, in the order in which they did."""

    def newest(self) -> int:
        """The number of the newest hop of all; 0 where nothing is remembered."""

    def news(self, after: int, most: int) -> list[News]:
        """Up to ``most`` hops of any key whose number is above ``after``, in order. What they cost does not grow with
        what is remembered."""

    def outcome(self, transform: str, key: str) -> LastOutcome | None:
        """What the transform made of the key when it last had to do with it."""

    def dead(self) -> Iterator[DeadMessage]:
        """Every message in every dead-letter queue."""

    @property
    def workers(self) -> int:
        """How many objects are worth asking the buckets for at once."""

    def waiting(self, transform: str, etags: Mapping[str, str]) -> Set[str]:
        """Of these keys, with the etags that bronze has now, those of which there is a message already: on its way to
        the transform, or in a dead-letter queue. As far as the target can know; what is sent twice does no harm."""

    def send(self, transform: str, events: Sequence[ObjectEvent], *, reason: str) -> None:
        """Put events in a transform's own queue. Durable when it returns. ``reason``: reconcile, redrive or replay.

        Raises:
            WrongCall: there are no queues yet.
        """

    def redrive(self, messages: Sequence[DeadMessage]) -> int:
        """Give messages back to what gave up on them, as new: a queue's and a subscription's to the transform's queue,
        a rule's to where all transforms that want it get it. Returns how many; the others are not there any more, or
        of a kind that is unknown."""

    def lately(self, since: float, most: int) -> list[Lately]:
        """Up to ``most`` failures since then, by memory alone: enough for a summary, not for the truth."""
