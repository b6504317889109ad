"""Where a pipeline runs, as the operations see it, and the documents that lie in its quarantine."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol

from silversmith.errors import PreconditionFailed
from silversmith.events import ObjectEvent
from silversmith.function import retries
from silversmith.lineage import error_key, failed_key, rejected_key
from silversmith.pipeline import Transform
from silversmith.schemas import Owner
from silversmith.stores import Lake, Store


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


ERROR = ".error.json"
REJECTED = ".rejected.parquet"
FAILED = ".failed.json"

#: What lineage.py puts at the end of a key that it had to cut short.
_CUT = re.compile(r"~[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class ErrorDocument:
    """Why a file cannot become silver.

    ``code`` is a stable word, ``message`` what was wrong, ``hint`` what to do, ``place`` where
    (line, row, column, text). ``at`` is in ISO 8601, ``size`` in bytes, ``document`` the document's key in quarantine.
    """

    transform: str
    key: str
    code: str
    message: str
    hint: str
    at: str
    etag: str
    version: str
    size: int
    attempt: int
    document: str
    place: Mapping[str, Any] = field(default_factory=dict)


def parse(document: str, body: bytes) -> ErrorDocument:
    """The document at this quarantine key. One that cannot be read is a failure all the same, and says so."""
    transform, _, rest = document.removesuffix(ERROR).partition("/")
    try:
        found = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("error"), dict):
        return ErrorDocument(
            transform, rest,
            code="UnreadableDocument", message="the error document itself cannot be read",
            hint="Look at it, and delete it if it is nobody's.",
            at="", etag="", version="", size=0, attempt=0, document=document,
        )  # fmt: skip
    error, bronze = found["error"], found.get("bronze")
    bronze = bronze if isinstance(bronze, dict) else {}
    place = error.get("place")
    return ErrorDocument(
        transform=_text(found, "transform") or transform,
        key=_text(bronze, "key") or rest,
        code=_text(error, "code"),
        message=_text(error, "message"),
        hint=_text(error, "hint"),
        at=_text(found, "at"),
        etag=_text(bronze, "etag"),
        version=_text(bronze, "version"),
        size=_number(bronze, "size"),
        attempt=_number(found, "attempt"),
        document=document,
        place=place if isinstance(place, dict) else {},
    )


def bronze_key(quarantine_key: str) -> str | None:
    """The bronze key that an object in quarantine is about; None where its name does not tell (it was cut short)."""
    for ending, derived in ((ERROR, error_key), (REJECTED, rejected_key), (FAILED, failed_key)):
        transform, slash, rest = quarantine_key.partition("/")
        if slash and rest.endswith(ending):
            key = rest.removesuffix(ending)
            return None if _CUT.search(key) or derived(transform, key) != quarantine_key else key
    return None


def failed_tries(quarantine: Store, transform: str, key: str) -> dict[str, Any] | None:
    """The document that counts the failed tries of the transform's code on a file; None where there is none."""
    body = quarantine.read(failed_key(transform, key))
    return retries.parse(body) if body is not None else None


def explained(quarantine: Store, message: DeadMessage) -> DeadMessage:
    """A dead message with its last error, from the document, where nothing nearer told it."""
    if message.error is not None or message.transform is None or message.kind is not DeadKind.QUEUE or not message.key:
        return message
    document = failed_tries(quarantine, message.transform, message.key)
    if document is None or (message.version and document["bronze"]["version"] not in {"", message.version}):
        return message  # it is about another version
    return replace(
        message,
        error=document["error"],
        attempts=document["tries"],
        log_group=document["log"]["group"],
        log_stream=document["log"]["stream"],
        request_id=document["log"]["request"],
    )


def forget_tries(quarantine: Store, message: DeadMessage) -> None:
    """The failed tries of a dead message count no more: it is given back, and its tries begin again."""
    if message.transform is None or message.kind is not DeadKind.QUEUE or not message.key:
        return
    head = quarantine.head(failed_key(message.transform, message.key))
    if head is not None:
        with contextlib.suppress(PreconditionFailed):  # somebody works on the file and has just written another
            quarantine.delete(head.key, if_match=head.etag)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _text(found: Mapping[str, Any], name: str) -> str:
    value = found.get(name)
    return value if isinstance(value, str) else ""


def _number(found: Mapping[str, Any], name: str) -> int:
    value = found.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
