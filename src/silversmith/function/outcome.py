"""The outcome of one object and the report of one message, and the stages whose time is measured."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

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
        """This stage took the time since the stage before ended."""
        now = self._clock()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._since
        self._since = now


class Verdict(StrEnum):
    """The end of the processing of one object."""

    COMMITTED = "committed"  #: a new silver object
    DUPLICATE = "duplicate"  #: silver was already made of this version by this code
    GONE = "gone"  #: there is no such bronze object (any more)
    REMOVED = "removed"  #: there is no such bronze object any more, and its silver was removed
    MARKER = "marker"  #: it stands for a folder or a job, and is no data: passed over
    BEFORE_SINCE = "before since"  #: it landed before the time from which on the transform takes files: left alone
    ARCHIVED = "archived"  #: it cannot be read before it is restored; the event that says so brings it back
    QUARANTINED = "quarantined"  #: the data is at fault: an error document says why


@dataclass(frozen=True)
class Outcome:
    """The end of the processing of one object. Sizes in bytes.

    ``stages``: the seconds that each of :data:`STAGES` took. ``age``: the seconds from the event's time to the end;
    None where the event has no time. ``broken``: how many rows broke each rule or column. Two outcomes are the same
    whatever time they took.
    """

    verdict: Verdict
    transform: str
    key: str
    silver: str
    etag: str = ""
    version: str = ""
    size: int = 0
    format: str = ""
    rows_read: int = 0
    rows_written: int = 0
    rows_rejected: int = 0
    rows_dropped: int = 0
    error: Mapping[str, Any] | None = None
    broken: Mapping[str, int] = field(default_factory=dict)
    stages: Mapping[str, float] = field(default_factory=dict, compare=False)
    age: float | None = field(default=None, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        values = {
            **vars(self),
            "verdict": self.verdict.value,
            "error": dict(self.error) if self.error else None,
            "broken": dict(self.broken),
            "stages": dict(self.stages),
        }
        return values if self.broken else {name: value for name, value in values.items() if name != "broken"}


@dataclass(frozen=True)
class Report:
    """The end of one message.

    Attributes:
        message_id: of the message.
        outcomes: of its objects.
        error: what went wrong; None: nothing.
        key: the bronze key with which it went wrong; empty: with none.
        retry_in: the seconds until the message should come back.
        waited: the seconds in which others of its batch came first.
        system: the system is at fault, nothing is charged to the file.
        dead: it was the last try, and the message goes to the dead-letter queue.
    """

    message_id: str
    outcomes: tuple[Outcome, ...]
    error: Mapping[str, Any] | None = None
    key: str = ""
    retry_in: float | None = None
    waited: float = 0.0
    system: bool = False
    dead: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; of several objects in one message, the sums of their rows and the worst of their outcomes."""
        worst = min(self.outcomes, key=lambda outcome: _WORST_FIRST.index(outcome.verdict), default=None)
        values: dict[str, Any] = worst.to_dict() if worst else {"verdict": "dropped"}
        for name in ("rows_read", "rows_written", "rows_rejected", "rows_dropped"):
            values[name] = sum(getattr(outcome, name) for outcome in self.outcomes)
        if "broken" in values:
            values["broken"] = dict(sum((Counter(outcome.broken) for outcome in self.outcomes), Counter[str]()))
        values["stages"] = self._stages()
        if self.error is not None:
            values |= {"verdict": "failed", "failed": True, "key": self.key}
            values |= {"error": dict(self.error), "retry_in": self.retry_in, "system": self.system, "dead": self.dead}
        return values

    def _stages(self) -> dict[str, float]:
        """By stage, in the order of :data:`STAGES`; a failed file has only the time that it waited."""
        total = {"batch": self.waited}
        for outcome in self.outcomes:
            for stage, seconds in outcome.stages.items():
                total[stage] = total.get(stage, 0.0) + seconds
        return {stage: round(total[stage], 6) for stage in STAGES if stage in total}


_WORST_FIRST = [
    Verdict.QUARANTINED,
    Verdict.ARCHIVED,
    Verdict.COMMITTED,
    Verdict.REMOVED,
    Verdict.GONE,
    Verdict.DUPLICATE,
    Verdict.BEFORE_SINCE,
    Verdict.MARKER,
]
