"""A place where a pipeline runs, as the operations see it: a lake on this machine, or a stack on AWS."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from silversmith.events import NotAnEvent, ObjectEvent, unwrap
from silversmith.pipeline import Pipeline, Transform
from silversmith.reconcile.rows import LineageRows, existing
from silversmith.schemas import Owner
from silversmith.stores import Lake

if TYPE_CHECKING:
    from silversmith.operations.versions import GoldFiles, Versions
    from silversmith.tables.format import Format


@dataclass(frozen=True)
class Depth:
    """How many messages a queue has: visible, and hidden. ``oldest``: when the oldest was sent, in Unix seconds."""

    name: str
    waiting: int
    in_flight: int
    oldest: float | None

    @property
    def total(self) -> int:
        """All messages."""
        return self.waiting + self.in_flight


@dataclass(frozen=True)
class TransformQueues:
    """A transform's queue, and its dead-letter queues: of the queue itself, and of its subscription. ``transform`` is
    empty for those of the tables."""

    transform: str
    queue: Depth
    dead_letters: tuple[Depth, ...]

    @property
    def dead(self) -> int:
        """How many messages lie in its dead-letter queues."""
        return sum(depth.total for depth in self.dead_letters)


@dataclass(frozen=True)
class Hop:
    """One step of one version of an object. ``room`` is the service (bucket, rule, topic, queue, function), ``name``
    its resource, ``what`` happened at the time ``at`` in Unix seconds."""

    version: str
    at: float
    room: str
    name: str
    what: str
    detail: Mapping[str, Any]


@dataclass(frozen=True)
class News:
    """A hop of a key. ``number`` rises from hop to hop."""

    number: int
    key: str
    hop: Hop


@dataclass(frozen=True)
class LastOutcome:
    """The last result of a transform for a key. ``verdict``: committed, quarantined, gone, failed."""

    verdict: str
    version: str
    at: float
    detail: Mapping[str, Any]


class DeadKind(StrEnum):
    """The part of the chain that gave up on a message."""

    QUEUE = "queue"  #: it was received too often
    SUBSCRIPTION = "subscription"  #: the topic could not deliver it to the transform's queue
    RULE = "rule"  #: the event bus could not deliver it to the topic
    UNKNOWN = "unknown"  #: the pipeline no longer has it


@dataclass(frozen=True)
class DeadMessage:
    """A message in a dead-letter queue.

    ``source`` is the name of the queue, subscription or rule that gave up on it, and ``reason`` why. ``transform`` is
    None for a rule's: all that match. ``tables``: it is about the transform's silver, on its way into tables. Where
    they are known, ``error`` is the function's last error, ``attempts`` how often it was tried, ``log_group``,
    ``log_stream`` and ``request_id`` lead to the log of the last try, and ``size`` is the object's, in bytes.
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
    tables: bool = False
    size: int | None = None

    @property
    def failed_at(self) -> float:
        """The time of the failure, in Unix seconds; if that is unknown, of the sending."""
        return self.dead_at if self.dead_at is not None else self.sent

    def concerns(self, transform: Transform | None) -> bool:
        """Whether it belongs to this transform (None: to any). A rule's message belongs to every matching transform."""
        if transform is None or self.transform == transform.name:
            return True
        return self.transform is None and transform.pattern.matches(self.key)


def first_event(body: str | bytes) -> ObjectEvent:
    """The first event of a message; one without a key where the message has none."""
    with suppress(NotAnEvent):
        return next(iter(unwrap(body)), ObjectEvent("", ""))
    return ObjectEvent("", "")


@dataclass(frozen=True)
class Lately:
    """A failure in a few words, for the end of a run. ``transform``: see :class:`DeadMessage`."""

    transform: str | None
    key: str
    code: str
    message: str


@dataclass(frozen=True)
class FileTime:
    """The seconds that a file takes, and how that is known.

    ``billed``: they are Lambda's, waits and all. Otherwise they are one vCPU's, computing alone. ``size`` is how many
    bytes such a file had on the average; 0: nobody knows.
    """

    seconds: float
    source: str
    size: float = 0.0
    billed: bool = False


#: The seconds of one of :attr:`DayCounts.hours`.
HOUR = 3600


@dataclass(frozen=True)
class DayCounts:
    """What a transform did since a time, as CloudWatch counted it: files, failed tries, rows. ``median`` and ``slow``
    (19 of 20 files are faster) in milliseconds from the event to the commit; None: no file was committed. ``hours``:
    the beginnings of those of the last two weeks in which it made silver, in Unix seconds, the oldest first."""

    done: int = 0
    quarantined: int = 0
    failed: int = 0
    rows: int = 0
    rows_read: int = 0
    rejected: int = 0
    median: float | None = None
    slow: float | None = None
    hours: tuple[float, ...] = ()


@dataclass(frozen=True)
class LogLine:
    """A line that a function printed. ``at`` in Unix seconds."""

    at: float
    text: str


#: A channel that takes nothing has at most so many changes to come; older ones are dropped, and counted.
MOST_PENDING = 100


@dataclass(frozen=True)
class Alarm:
    """A condition of a transform that is true, with the sentence that says so. ``since`` in ISO 8601."""

    transform: str
    condition: str
    since: str
    text: str


@dataclass(frozen=True)
class Change:
    """An alarm that was raised (``state`` is ``alarm``) or is over (``resolved``). ``at`` in ISO 8601."""

    transform: str
    condition: str
    state: str
    at: str
    text: str


@dataclass
class Delivery:
    """What one channel has still to get. ``problem``: why it takes nothing, ``since`` when, in ISO 8601; or empty."""

    pending: list[Change] = field(default_factory=list)
    dropped: int = 0
    problem: str = ""
    since: str = ""

    def add(self, changes: Iterable[Change]) -> None:
        """Add changes, of which the newest are kept."""
        self.pending += changes
        self.dropped += max(0, len(self.pending) - MOST_PENDING)
        del self.pending[:-MOST_PENDING]


@dataclass
class AlarmState:
    """What a lake remembers of alarms from run to run: those that are raised, and what the channels, by name, still
    lack. ``began``: when silence was first looked for, in ISO 8601."""

    began: str = ""
    alarms: list[Alarm] = field(default_factory=list)
    channels: dict[str, Delivery] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> AlarmState:
        """The state in a file; an empty one where there is none, or none that can be read."""
        with suppress(OSError, orjson.JSONDecodeError, TypeError, KeyError, AttributeError):
            values = orjson.loads(path.read_bytes())
            deliveries = {
                name: Delivery(**{**each, "pending": [Change(**change) for change in each["pending"]]})
                for name, each in values["channels"].items()
            }
            return cls(values["began"], [Alarm(**alarm) for alarm in values["alarms"]], deliveries)
        return cls()

    def write(self, path: Path) -> None:
        """Replace the file at once. Raises OSError when the disk does not allow it."""
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(orjson.dumps(asdict(self)))
        temporary.replace(path)


class Target(Protocol):
    """A place where a pipeline runs. The answers that stand here are those of a place that has no such thing."""

    pipeline: Pipeline

    @property
    def place(self) -> str:
        """Its name for a person: the lake's folder, or the stack."""

    @property
    def lake(self) -> Lake:
        """The three buckets."""

    @property
    def gold(self) -> Format:
        """The tables and views.

        Raises:
            WrongCall: the packages that they need are not installed.
        """

    @property
    def owner(self) -> Owner:
        """The owner that this pipeline is there."""

    @property
    def remembers(self) -> bool:
        """Whether there is any history: not where nothing ever ran, and not on AWS."""
        return False

    @property
    def no_history(self) -> str:
        """Why there is no history, for a person."""

    def running(self) -> bool:
        """Whether an engine, or AWS, runs the pipeline now."""
        return True

    def totals(self) -> Mapping[str, int] | None:
        """The counters by name: ``bucket.created``, ``transform.{name}.committed`` … None on AWS."""
        return None

    def on_the_way(self) -> int | None:
        """How many messages are between two services; None on AWS."""
        return None

    def queues(self) -> list[TransformQueues]:
        """Every transform's queues."""

    def tables_queue(self) -> TransformQueues | None:
        """The queues of the tables; None where the pipeline has no tables."""

    def rules_dead(self) -> list[Depth]:
        """The dead-letter queues of the rules."""

    def quarantined(self, transform: str) -> int:
        """How many files of a transform are in quarantine."""

    def hops(self, key: str, most: int) -> list[Hop]:
        """The newest ``most`` hops of all versions of a key, the oldest first."""

    def newest(self) -> int:
        """The number of the newest hop of all; 0 without a history."""
        return 0

    def news(self, after: int, most: int) -> list[News]:
        """Up to ``most`` hops of all keys with a number above ``after``, in order. The cost does not grow with the
        history."""
        del after, most
        return []

    def tallies(self, width: int, since: int) -> list[tuple[int, str, str, int]]:
        """The numbers of each slot of this width from the slot ``since`` on: slot, transform, name, value
        (:mod:`silversmith.local.tallies`). The cost does not grow with the files. None on AWS."""
        del width, since
        return []

    def outcome(self, transform: str, key: str) -> LastOutcome | None:
        """The last result of a transform for a key."""

    def file_time(self, transform: str) -> FileTime | None:
        """The time that a transform takes for a file, as it was measured; None: there is no measurement."""

    def dead(self) -> Iterator[DeadMessage]:
        """Every message in every dead-letter queue, also in those that the pipeline no longer has."""

    @property
    def workers(self) -> int:
        """How many requests to the buckets are worth sending at once."""
        return 1

    @property
    def listers(self) -> int:
        """How many listings are worth reading at once."""
        return 1

    def rows(self) -> LineageRows | None:
        """The lineage as it is now; None: the pipeline does not keep it as a table, or has nothing of it yet."""
        files = self.gold_files() if self.pipeline.lineage else None
        return existing(LineageRows(files.store, files.root, files.options)) if files is not None else None

    def waiting(self, transform: str, etags: Mapping[str, str]) -> Set[str]:
        """Of these keys, with their etags in bronze, those with a message that is on its way to the transform or in a
        dead-letter queue, as far as it is known: a second message does no harm."""

    def send(self, transform: str, events: Sequence[ObjectEvent], *, reason: str) -> None:
        """Send events to a transform's queue. Durable when it returns. ``reason``: reconcile, redrive or replay.

        Raises:
            WrongCall: there are no queues yet.
        """

    def send_to_tables(self, keys: Sequence[str], *, reason: str) -> int:
        """Send events of silver, by its keys, to the tables' queue, and return how many. As :meth:`send`.

        A key is left out where the target knows that a message is about it already.
        """

    def redrive(self, messages: Sequence[DeadMessage]) -> int:
        """Send messages again, as new: a queue's and a subscription's to the queue, a rule's to all that match.

        Returns how many; the others are gone, or of an unknown kind.
        """

    def day_counts(self, since: float, now: float) -> Mapping[str, DayCounts] | None:
        """What each transform did since a time (Unix seconds), by name; None for a lake, whose history says it.

        Raises:
            AccessDenied, AwsFailed: CloudWatch does not say.
        """
        del since, now
        return None

    def log_end(self, transform: str, most: int) -> Sequence[LogLine]:
        """The newest lines of a transform's function, or with an empty name of the tables'; none for a lake, which has
        them in a file.

        Raises:
            AccessDenied, AwsFailed: CloudWatch does not say.
        """
        del transform, most
        return []

    def alarms(self) -> AlarmState | None:
        """The alarms of local runs; None on AWS, where CloudWatch has them."""
        return None

    @property
    def who(self) -> str:
        """Who acts here: the ARN of the caller's identity, or the name of the user on this machine."""

    def versions(self, role: str) -> Versions:
        """The versions of the objects of a bucket: ``bronze``, ``silver``, ``quarantine`` or ``gold``."""

    def gold_files(self) -> GoldFiles | None:
        """The files of gold; None: there is no such bucket."""

    def records(self, keys: Collection[str]) -> Mapping[str, int]:
        """How many records of each kind there are of these keys beside the buckets: messages, history, log lines."""

    def erase_records(self, keys: Collection[str]) -> list[str]:
        """Erase these records. Returns what could not be erased, and why."""

    def settle(self, keys: Collection[str], transforms: Sequence[Transform], pause: Callable[[float], None]) -> None:
        """Wait until no function can be at work any more with what bronze had of these keys."""

    def elsewhere(self, keys: Collection[str]) -> list[str]:
        """Where something of these keys may be that cannot be erased from here: logs, replicas. Texts for a person. A
        lake has no such places: its lines of logs that name a key are erased."""
        del keys
        return []
