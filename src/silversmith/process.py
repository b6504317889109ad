"""One bronze object becomes one silver object: the heart of Silversmith.

An event is only a hint that a key may have changed. What is done about it is decided from what bronze and silver hold
now, and becomes true in one instant: the conditional put of the silver object.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from silversmith import faults
from silversmith.convert import Converted, convert
from silversmith.errors import DataError, PreconditionFailed, SilversmithError, SourceChanged, TransformError, told
from silversmith.events import ObjectEvent
from silversmith.lineage import Decision, Lineage, decide, error_key, rejected_key, silver_key
from silversmith.lookups import Lookups
from silversmith.pipeline import Transform
from silversmith.schemas import Known, Schemas
from silversmith.stages import Stages
from silversmith.stores import Head, Lake, Source, Store

#: How often one call starts again because somebody else was first or the bytes changed, before the queue has to wait.
TRIES = 8


class Contended(SilversmithError):
    """An object changed, or another worker committed, every time this one tried. The queue will bring it back."""


class Verdict(StrEnum):
    """How the processing of one object ended."""

    COMMITTED = "committed"  #: a new silver object
    DUPLICATE = "duplicate"  #: silver was already made of this version by this code
    GONE = "gone"  #: there is no such bronze object (any more)
    QUARANTINED = "quarantined"  #: the data is at fault: an error document says why


@dataclass(frozen=True)
class Outcome:
    """What became of one object. Sizes in bytes.

    ``stages``: the seconds that went into each of :data:`silversmith.stages.STAGES`. ``age``: the seconds from the time
    in the event to the end, as far as there was one. Two outcomes are the same whatever time they took.
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
    error: Mapping[str, Any] | None = None
    stages: Mapping[str, float] = field(default_factory=dict, compare=False)
    age: float | None = field(default=None, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            **vars(self),
            "verdict": self.verdict.value,
            "error": dict(self.error) if self.error else None,
            "stages": dict(self.stages),
        }


class Run(Protocol):
    """How the one part of the work is run that is no waiting for buckets: reading, checking, transforming, writing."""

    def __call__(self, step: Callable[[], Converted], /) -> Converted: ...


def call(step: Callable[[], Converted], /) -> Converted:
    """At once, in this thread."""
    return step()


@dataclass(frozen=True)
class Work:
    """One (transform, bronze key), with all that its processing needs. ``attempt`` counts from 1."""

    event: ObjectEvent
    transform: Transform
    lake: Lake
    attempt: int
    now: Callable[[], datetime]
    scratch: Path
    schemas: Schemas | None
    lookups: Lookups
    run: Run = call
    stages: Stages = field(default_factory=Stages)

    @property
    def key(self) -> str:
        return self.event.key

    @property
    def known(self) -> Known | None:
        """What is recorded of the schema of silver; None where nothing is to be recorded."""
        return self.schemas.look() if self.schemas is not None else None

    @property
    def silver(self) -> str:
        return silver_key(self.transform.name, self.key)

    @property
    def rejected(self) -> str:
        return rejected_key(self.transform.name, self.key)

    @property
    def error(self) -> str:
        return error_key(self.transform.name, self.key)

    def outcome(self, verdict: Verdict, **more: Any) -> Outcome:
        self.stages.end("commit" if verdict in {Verdict.COMMITTED, Verdict.QUARANTINED} else "read")
        return Outcome(verdict, self.transform.name, self.key, self.silver, stages=self.stages.seconds, **more)


def process(
    event: ObjectEvent,
    transform: Transform,
    lake: Lake,
    *,
    attempt: int,
    now: Callable[[], datetime],
    scratch: Path,
    schemas: Schemas | None = None,
    run: Run = call,
    lookups: Lookups | None = None,
) -> Outcome:
    """Bring the silver object of ``event.key`` up to date with what bronze holds now.

    Args:
        event: which key may have changed; nothing else of it is relied upon.
        transform: what makes silver of it.
        lake: the buckets.
        attempt: how often this message has been received, from 1; kept in the lineage.
        now: the time of day in UTC.
        scratch: a folder for temporary files, on the buckets' file system where they are local.
        schemas: where the transform's schema is recorded; None: it is not, and files may differ as they like.
        run: runs the conversion; so that several objects may be under way at once, but only one be converted.
        lookups: the transform's lookups, as this worker knows them; None: nothing is known of them yet.

    Returns:
        What was done. Data at fault is an outcome (``QUARANTINED``), not an exception.

    Raises:
        Contended: somebody else was first every time. Try again later.
        TransformError: the user's code raised.
        LookupMissing, LookupUnusable: a lookup cannot be had. Try again later.
        AccessDenied, OSError: the system is at fault. Try again later.
    """
    lookups = lookups or Lookups.of(transform, lake.bronze, scratch)
    work = Work(event, transform, lake, attempt, now, scratch, schemas, lookups, run=run)
    for _ in range(TRIES):
        try:
            return _once(work)
        except (PreconditionFailed, SourceChanged):
            continue  # what is true has changed: look again
    raise Contended(f"{event.key} changed, or was committed by another worker, {TRIES} times while it was processed")


def _once(work: Work) -> Outcome:
    """Steps 2 to 6 of the design. The silver object is headed before bronze is read: that order makes the put safe.

    A schema is recorded before silver has it: who dies in between has widened it for nothing, and done no harm.
    """
    head = work.lake.silver.head(work.silver)
    lineage = Lineage.from_metadata(head.metadata) if head else None
    if head is not None and lineage is not None and _is_settled(work, lineage):
        _clear(work, lineage, head.etag)
        return work.outcome(Verdict.DUPLICATE, **_rows(lineage))
    with work.lake.bronze.open(work.key) as source:
        if source is None:
            return _gone(work)
        work.stages.end("read")
        faults.point("process.opened")
        try:
            made = work.run(partial(_convert, work, source))
        except (DataError, TransformError, OSError) as error:
            work.lake.bronze.verify(source)  # what torn bytes lead to is nobody's fault
            if isinstance(error, DataError):
                return _quarantine(work, source, error)
            raise
        return _commit(work, made, head)


def _convert(work: Work, source: Source) -> Converted:
    """What is to be put, and its schema recorded: the next object shall be read with that in mind."""
    known = work.known
    work.stages.end("turn")
    made = convert(
        source,
        work.transform,
        _lineage(work, source),
        work.scratch,
        known,
        context=work.lookups.context(source.head),
        stages=work.stages,
    )
    faults.point("process.written")
    work.lake.bronze.verify(source)
    if work.schemas is not None and made.change is not None:
        work.schemas.record(made.change)
    faults.point("process.recorded")
    return made


def _is_settled(work: Work, lineage: Lineage) -> bool:
    """Whether silver is of these bytes and this code, and so are the rejected rows that it speaks of.

    A worker that died, or was too late with an older version, may have left others.
    """
    bronze = work.lake.bronze.head(work.key)
    fingerprint = work.transform.fingerprint
    schema = work.known.document.of(fingerprint).version if work.known is not None else 0
    decision = decide(
        bronze.etag if bronze else None,
        lineage,
        fingerprint,
        silver_exists=True,
        schema=schema,
        lookups=work.lookups.digest,
    )
    if decision is not Decision.DUPLICATE or lineage.committed_at < work.event.made_after:
        return False
    return not lineage.rows_rejected or _has_origin(work.lake.quarantine.head(work.rejected), lineage)


def _has_origin(head: Head | None, lineage: Lineage) -> bool:
    """Whether an object in quarantine was made of the same bytes by the same code."""
    found = Lineage.from_metadata(head.metadata) if head else None
    return found is not None and _origin(found) == _origin(lineage)


def _origin(lineage: Lineage) -> tuple[str, str, str]:
    return lineage.bronze_etag, lineage.fingerprint, lineage.lookups


def _gone(work: Work) -> Outcome:
    """An error document about an object that is no more asks for nothing that anybody could do."""
    _remove(work, work.error, None)
    return work.outcome(Verdict.GONE, version=work.event.version)


def _commit(work: Work, made: Converted, head: Head | None) -> Outcome:
    """The rejected rows, the silver object, and a look at whether they are still what they should be."""
    lineage = made.lineage
    rejected = None
    if made.rejected is not None:
        rejected = _replace(work, work.rejected, made.rejected, lineage.bronze_etag, lineage.to_metadata())
        faults.point("process.rejected")
    silver = work.lake.silver.put(
        work.silver,
        made.silver,
        metadata=lineage.to_metadata(),
        if_match=head.etag if head else None,
        if_none_match=head is None,
    )
    faults.point("process.committed")
    if head is not None:
        # Bronze may be back at what the old silver was made of, and another worker have found nothing to do.
        _require_bronze(work, lineage.bronze_etag)
    if rejected is not None:
        _require(work.lake.quarantine, work.rejected, rejected)
    _clear(work, lineage, silver)
    faults.point("process.cleared")
    return work.outcome(Verdict.COMMITTED, **_rows(lineage))


def _lineage(work: Work, source: Source) -> Lineage:
    """All of the lineage that is known before the rows are."""
    return Lineage(
        bronze_key=work.key,
        bronze_etag=source.head.etag,
        bronze_version=_version(work, source),
        bronze_size=source.head.size,
        sequencer=work.event.sequencer if work.event.etag == source.head.etag else "",
        transform=work.transform.name,
        fingerprint=work.transform.fingerprint,
        rows_read=0,
        rows_written=0,
        rows_rejected=0,
        committed_at=work.now().isoformat(timespec="milliseconds"),
        attempt=work.attempt,
        lookups=work.lookups.digest,
        looked_up=work.lookups.etags,
    )


def _version(work: Work, source: Source) -> str:
    """The version's id: the store's word, or else the event's where it speaks of these very bytes."""
    if source.head.version:
        return source.head.version
    return work.event.version if work.event.etag == source.head.etag else ""


def _rows(lineage: Lineage) -> dict[str, Any]:
    return {
        "etag": lineage.bronze_etag,
        "version": lineage.bronze_version,
        "size": lineage.bronze_size,
        "format": lineage.format,
        "rows_read": lineage.rows_read,
        "rows_written": lineage.rows_written,
        "rows_rejected": lineage.rows_rejected,
    }


def _clear(work: Work, lineage: Lineage, silver: str) -> None:
    """Remove what an earlier failure, or an earlier version, left in quarantine. ``silver`` is the etag of silver."""
    _remove(work, work.error, lineage.bronze_etag)
    if not lineage.rows_rejected and _remove(work, work.rejected, lineage.bronze_etag):
        # They may have been put by who then committed, and who was done before they went.
        _require(work.lake.silver, work.silver, silver)


def _quarantine(work: Work, source: Source, error: DataError) -> Outcome:
    """The error document. If bronze changed meanwhile it is about bytes that are no more: the next look removes it."""
    document = _document(work, source, error)
    body = json.dumps(document, indent=2, ensure_ascii=False).encode()
    _replace(work, work.error, body, source.head.etag)
    faults.point("process.quarantined")
    _require_bronze(work, source.head.etag)
    return work.outcome(
        Verdict.QUARANTINED,
        etag=source.head.etag,
        version=_version(work, source),
        size=source.head.size,
        error=document["error"],
    )


def _replace(work: Work, key: str, body: bytes | Path, bronze: str, metadata: Mapping[str, str] | None = None) -> str:
    """Put an object into quarantine, but never over one that tells of a newer version of bronze. Its etag.

    What was there before bronze was seen to be still ours is of our version or an older one.
    """
    existing = work.lake.quarantine.head(key)
    if existing is not None:
        _require_bronze(work, bronze)
    return work.lake.quarantine.put(
        key,
        body,
        metadata=metadata,
        if_match=existing.etag if existing else None,
        if_none_match=existing is None,
    )


def _remove(work: Work, key: str, bronze: str | None) -> bool:
    """Remove an object from quarantine, on the same terms. Whether there was one.

    Headed first: mostly there is none, and where the bucket keeps versions a DELETE would leave a marker each time.
    """
    existing = work.lake.quarantine.head(key)
    if existing is None:
        return False
    _require_bronze(work, bronze)
    with contextlib.suppress(PreconditionFailed):  # another has removed or replaced it, on the same terms
        work.lake.quarantine.delete(key, if_match=existing.etag)
    return True


def _require_bronze(work: Work, etag: str | None) -> None:
    """``etag`` None: there must be no bronze object."""
    bronze = work.lake.bronze.head(work.key)
    if (bronze.etag if bronze else None) != etag:
        raise SourceChanged(f"{work.key} changed while it was processed")


def _require(store: Store, key: str, etag: str) -> None:
    head = store.head(key)
    if head is None or head.etag != etag:
        raise PreconditionFailed(f"{key} is not what it was when it was written")


def _document(work: Work, source: Source, error: DataError) -> dict[str, Any]:
    found = {name: value for name, value in vars(error.place).items() if value is not None}
    place = {name: told(value) if isinstance(value, str) else value for name, value in found.items()}
    return {
        "error": {"code": told(error.code), "message": told(error.message), "hint": told(error.hint), "place": place},
        "transform": work.transform.name,
        "bronze": {
            "key": work.key,
            "etag": source.head.etag,
            "version": _version(work, source),
            "size": source.head.size,
        },
        "fingerprint": work.transform.fingerprint,
        **({"lookups": work.lookups.digest} if work.transform.lookups else {}),
        "attempt": work.attempt,
        "at": work.now().isoformat(timespec="milliseconds"),
    }
