"""One bronze object that one transform makes silver of: the facts that its processing needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from silversmith.errors import DataError, as_utf8, help_for, masked
from silversmith.events import ObjectEvent
from silversmith.function.outcome import Outcome, Stages, Verdict
from silversmith.lineage import Lineage, error_key, failed_key, rejected_key, silver_key
from silversmith.pipeline import Transform
from silversmith.pipeline.lookups import Lookups
from silversmith.runtime.queue import age
from silversmith.schemas import Owner, Schemas
from silversmith.stores import IN_MEMORY, Head, Lake


def _utc_now() -> datetime:
    return datetime.now(UTC)


#: After a new file turned out to be known, silver is headed first for so many files.
OVERWRITES_EXPECTED = 100


@dataclass
class NewKeys:
    """Expects of a file that fits in memory, whose message came from S3 and for the first time, that silver does not
    have its key.

    Then silver is not headed, because its conditional put tells. Shared by all tasks of a function, so that a
    transform whose keys are overwritten reads few files in vain.
    """

    _headed: int = 0

    def expect(self, task: Task) -> bool:
        """Whether the task may begin without a HEAD of silver."""
        size = task.event.size
        if task.may_have_failed or size is None or size > IN_MEMORY:
            return False
        self._headed = max(0, self._headed - 1)
        return not self._headed

    def refuted(self) -> None:
        """Silver had the key."""
        self._headed = OVERWRITES_EXPECTED


@dataclass
class Task:
    """One (transform, bronze key), and the message that asks for it.

    Attributes:
        event: says that the key may have changed; nothing else of it is relied upon.
        transform: makes silver of it.
        lake: the buckets.
        scratch: a folder for temporary files, on the buckets' file system where they are local.
        lookups: the transform's lookups, as this worker knows them.
        schemas: where the transform's schema is recorded; None: it is not, and files may differ as they like.
        receives: how often the message was received, this time included.
        was_received: whether the message may have been received before this time: always where the queue does not count
            every receive.
        message_id: of the SQS message; empty: nobody counts failures.
        was_dead: the message comes from a dead-letter queue.
        log: where the log of this invocation is: ``group``, ``stream``, ``request``.
        now: the time of day in UTC.
        stages: measures the time of each stage.
        new_keys: expects whether silver has the key; the function's own.
        head: the bronze object that the current try is about, as far as it is known.
        try_begun: the ETag whose try was written down in ``.failed.json`` before it began, and the number of tries
            before it.
        document_before: the ``.failed.json`` that was there then.
    """

    event: ObjectEvent
    transform: Transform
    lake: Lake
    scratch: Path
    lookups: Lookups
    schemas: Schemas | None = None
    receives: int = 1
    was_received: bool = True
    message_id: str = ""
    was_dead: bool = False
    log: Mapping[str, str | None] = field(default_factory=dict)
    now: Callable[[], datetime] = _utc_now
    stages: Stages = field(default_factory=Stages)
    new_keys: NewKeys = field(default_factory=NewKeys)
    head: Head | None = None
    try_begun: tuple[str, int] | None = None
    document_before: dict[str, Any] | None = None

    @property
    def key(self) -> str:
        return self.event.key

    @cached_property
    def silver_key(self) -> str:
        return silver_key(self.transform.name, self.key)

    @property
    def rejected_key(self) -> str:
        return rejected_key(self.transform.name, self.key)

    @property
    def error_key(self) -> str:
        return error_key(self.transform.name, self.key)

    @property
    def failed_key(self) -> str:
        return failed_key(self.transform.name, self.key)

    @property
    def owner(self) -> Owner | None:
        """For whom silver is made; None: nobody minds whose it is."""
        return self.schemas.owner if self.schemas is not None else None

    @property
    def may_have_failed(self) -> bool:
        """Whether a ``.failed.json`` may be there. It is not looked for where it cannot be: that saves a request."""
        return self.receives > 1 or self.event.resent or self.was_dead

    def is_before_since(self, bronze: Head) -> bool:
        """Whether the transform leaves this object alone, for it landed before its ``since``."""
        return not self.event.whenever and self.transform.is_before_since(bronze.modified)

    def is_ours(self, maker: str) -> bool:
        """Whether an object that this pipeline made may be replaced; an empty name for an object that names nobody."""
        if self.schemas is None or self.owner is None:
            return True
        return maker in self.schemas.look().document.owners(self.owner.name)

    def require_ours(self, maker: str, *, bucket: str, key: str) -> None:
        """
        Raises:
            NotOurs: another pipeline, the ``maker``, made this object of the ``bucket`` (silver or quarantine).
        """
        if self.owner is not None and not self.is_ours(maker):
            raise self.owner.refusal(self.transform.name, maker, getattr(self.owner, bucket), key)

    def version(self, head: Head) -> str:
        """The id of the version that was read: from the store, or from the event if it is about these bytes."""
        return head.version or (self.event.version if self.event.etag == head.etag else "")

    def claimed_lineage(self, head: Head) -> Lineage:
        """The lineage before the rows are known, as the event claims it: see :meth:`Lineage.of_bytes`."""
        return Lineage(
            bronze_key=self.key,
            bronze_etag=self.event.etag,
            bronze_version=head.version or self.event.version,
            bronze_size=head.size,
            sequencer=self.event.sequencer,
            transform=self.transform.name,
            fingerprint=self.transform.fingerprint,
            rows_read=0,
            rows_written=0,
            rows_rejected=0,
            committed_at=self.now().isoformat(timespec="milliseconds"),
            attempt=self.receives,
            lookups=self.lookups.digest,
            looked_up=self.lookups.etags,
            owner=self.owner.name if self.owner is not None else "",
        )

    def quarantine_document(self, head: Head, **more: Any) -> dict[str, Any]:
        """The fields of all documents in quarantine about their transform and bytes."""
        return {
            "transform": self.transform.name,
            **({"owner": self.owner.name} if self.owner is not None else {}),
            "bronze": {"key": self.key, "etag": head.etag, "version": self.version(head), "size": head.size},
            "fingerprint": self.transform.fingerprint,
            **({"lookups": self.lookups.digest} if self.transform.lookups else {}),
            "at": self.now().isoformat(timespec="milliseconds"),
            **more,
        }

    def outcome(self, verdict: Verdict, **more: Any) -> Outcome:
        """The end of this task. ``more`` are fields of the outcome."""
        self.stages.end("commit" if verdict in {Verdict.COMMITTED, Verdict.QUARANTINED} else "read")
        return Outcome(
            verdict,
            self.transform.name,
            self.key,
            self.silver_key,
            stages=self.stages.seconds,
            age=age(self.event, self.now()),
            **more,
        )

    def outcome_of(self, verdict: Verdict, lineage: Lineage, **more: Any) -> Outcome:
        """The end of a task that leaves silver with this lineage. ``more`` are fields of the outcome."""
        return self.outcome(
            verdict,
            etag=lineage.bronze_etag,
            version=lineage.bronze_version,
            size=lineage.bronze_size,
            format=lineage.format,
            rows_read=lineage.rows_read,
            rows_written=lineage.rows_written,
            rows_rejected=lineage.rows_rejected,
            rows_dropped=lineage.rows_dropped,
            **more,
        )


def empty_lineage(key: str, transform: Transform) -> Lineage:
    """The lineage of a file that lies in no bucket."""
    return Lineage(
        bronze_key=key,
        bronze_etag="",
        bronze_version="",
        bronze_size=0,
        sequencer="",
        transform=transform.name,
        fingerprint=transform.fingerprint,
        rows_read=0,
        rows_written=0,
        rows_rejected=0,
        committed_at="",
        attempt=1,
    )


def error_of_data(error: DataError) -> dict[str, Any]:
    """A fault of the data as JSON values, as the error document has it."""
    place = {name: value for name, value in vars(error.place).items() if value is not None}
    return {
        "code": as_utf8(error.code),
        "message": as_utf8(masked(error.message)),
        "hint": as_utf8(masked(error.hint)),
        "help": as_utf8(help_for(error.code)),
        "place": {name: as_utf8(value) if isinstance(value, str) else value for name, value in place.items()},
    }
