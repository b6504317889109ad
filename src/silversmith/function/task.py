"""One (transform, bronze key) with all that its processing needs, and what only has to be committed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from silversmith.events import ObjectEvent
from silversmith.function.convert import Converted
from silversmith.function.outcome import Outcome, Stages, Verdict
from silversmith.lineage import error_key, failed_key, rejected_key, silver_key
from silversmith.pipeline import Transform
from silversmith.pipeline.lookups import Lookups
from silversmith.schemas import Known, Owner, Schemas
from silversmith.stores import Head, Lake, Source


class Run(Protocol):
    """How the one part of the work is run that is no waiting for buckets: reading, checking, transforming, writing."""

    def __call__(self, step: Callable[[], Converted], /) -> Converted: ...


def call(step: Callable[[], Converted], /) -> Converted:
    """At once, in this thread."""
    return step()


class TryCounter(Protocol):
    """Counts the tries of the user's code on a file; see :class:`silversmith.function.retries.Tries`."""

    @property
    def may_be_there(self) -> bool: ...
    def begin(self, work: Work, head: Head) -> None: ...
    def note(self, head: Head) -> None: ...
    def fail(self, work: Work, error: Mapping[str, Any]) -> int: ...
    def set_back(self, work: Work) -> None: ...


@dataclass(frozen=True)
class Work:
    """One (transform, bronze key), with all that its processing needs. ``attempt`` counts from 1. ``tries`` None:
    nobody counts failures."""

    event: ObjectEvent
    transform: Transform
    lake: Lake
    attempt: int
    now: Callable[[], datetime]
    scratch: Path
    schemas: Schemas | None
    lookups: Lookups
    run: Run = call
    tries: TryCounter | None = None
    stages: Stages = field(default_factory=Stages)
    silver: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "silver", silver_key(self.transform.name, self.key))

    @property
    def key(self) -> str:
        return self.event.key

    @property
    def known(self) -> Known | None:
        """What is recorded of the schema of silver; None where nothing is to be recorded."""
        return self.schemas.look() if self.schemas is not None else None

    @property
    def owner(self) -> Owner | None:
        """For whom silver is made; None where nobody minds."""
        return self.schemas.owner if self.schemas is not None else None

    def require_ours(self, maker: str, *, bucket: str, key: str) -> None:
        """
        Raises:
            NotOurs: another pipeline, the ``maker``, made this object of the ``bucket`` (silver or quarantine).
        """
        if self.owner is not None and not self.is_ours(maker):
            raise self.owner.refusal(self.transform.name, maker, getattr(self.owner, bucket), key)

    def is_ours(self, maker: str) -> bool:
        """Whether what this one made may be replaced; an empty name for what does not say."""
        if self.schemas is None or self.owner is None:
            return True
        return maker in self.schemas.look().document.owners(self.owner.name)

    @property
    def rejected(self) -> str:
        return rejected_key(self.transform.name, self.key)

    @property
    def error(self) -> str:
        return error_key(self.transform.name, self.key)

    @property
    def failed(self) -> str:
        return failed_key(self.transform.name, self.key)

    def outcome(self, verdict: Verdict, **more: Any) -> Outcome:
        self.stages.end("commit" if verdict in {Verdict.COMMITTED, Verdict.QUARANTINED} else "read")
        return Outcome(
            verdict,
            self.transform.name,
            self.key,
            self.silver,
            stages=self.stages.seconds,
            age=_age(self.event, self.now()),
            **more,
        )

    def version(self, source: Source) -> str:
        """The version's id: the store's word, or else the event's where it speaks of these very bytes."""
        if source.head.version:
            return source.head.version
        return self.event.version if self.event.etag == source.head.etag else ""


@dataclass(frozen=True)
class Ready:
    """What only has to be committed. ``head`` is what silver was before bronze was read."""

    work: Work
    made: Converted
    head: Head | None


def _age(event: ObjectEvent, now: datetime) -> float | None:
    """Seconds since the time that the event tells, which may be anything; None where it tells none."""
    try:
        told = datetime.fromisoformat(event.time)
    except ValueError:
        return None
    return max(0.0, round((now - told).total_seconds(), 3)) if told.tzinfo else None
