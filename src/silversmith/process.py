"""One bronze object becomes one silver object: the heart of Silversmith.

An event is only a hint that a key may have changed. What is done about it is decided from what bronze and silver hold
now, and becomes true in one instant: the conditional put of the silver object.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path

from polars.exceptions import PanicException

from silversmith import commit, faults
from silversmith.budgets import is_system_fault
from silversmith.convert import Converted, convert
from silversmith.errors import DataError, PreconditionFailed, SourceChanged, SystemFault, TransformError
from silversmith.events import ObjectEvent
from silversmith.lineage import Decision, Lineage, decide
from silversmith.lookups import Lookups
from silversmith.outcome import Outcome
from silversmith.pipeline import Transform
from silversmith.schemas import Schemas
from silversmith.stores import Head, Lake, Source
from silversmith.work import Ready, Run, Work, call

#: How often one call starts again because somebody else was first or the bytes changed, before the queue has to wait.
TRIES = 8


class Contended(SystemFault):
    """An object changed, or another worker committed, every time this one tried. The queue will bring it back."""


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
        NotOurs: silver or quarantine is another pipeline's. Nothing was written.
        AccessDenied, OSError: the system is at fault. Try again later.
    """
    lookups = lookups or Lookups.of(transform, lake.bronze, scratch)
    return complete(Work(event, transform, lake, attempt, now, scratch, schemas, lookups, run=run))


def complete(work: Work) -> Outcome:
    """As :func:`process`."""
    for _ in range(TRIES):
        try:
            found = prepare(work)
            return commit.commit(found) if isinstance(found, Ready) else found
        except (PreconditionFailed, SourceChanged):
            continue  # what is true has changed: look again
    raise Contended(f"{work.key} changed, or was committed by another worker, {TRIES} times while it was processed")


def prepare_simple(work: Work) -> Outcome | Ready:
    """As :func:`complete`, but what can be committed together with others is left at that."""
    try:
        found = prepare(work, later=True)
        if isinstance(found, Outcome) or commit.is_simple(found):
            return found
        return commit.commit(found)
    except (PreconditionFailed, SourceChanged):
        return complete(work)


def prepare(work: Work, *, later: bool = False) -> Outcome | Ready:
    """All but the commit: steps 2 to 5 of the design. The silver object is headed before bronze is read: that order
    makes the put safe. ``later``: as :func:`~silversmith.convert.convert` has it.

    A schema is recorded before silver has it: who dies in between has widened it for nothing, and done no harm.

    Raises:
        PreconditionFailed, SourceChanged: what is true has changed meanwhile. Or as :func:`process`.
    """
    if work.schemas is not None:
        work.schemas.own()
    head = work.lake.silver.head(work.silver)
    lineage = Lineage.from_metadata(head.metadata) if head else None
    if lineage is not None:
        work.require_ours(lineage.owner, bucket="silver", key=work.silver)
    if head is not None and lineage is not None and _is_settled(work, lineage):
        return commit.settled(work, lineage, head.etag)
    with work.lake.bronze.open(work.key) as source:
        if source is None:
            return commit.gone(work)
        work.stages.end("read")
        faults.point("process.opened")
        if work.tries is not None:
            work.tries.begin(work, source.head)
        try:
            return Ready(work, work.run(partial(_convert, work, source, later)), head)
        except (Exception, PanicException) as error:
            if isinstance(error, DataError | TransformError | OSError):
                work.lake.bronze.verify(source)  # what torn bytes lead to is nobody's fault
            if isinstance(error, DataError):
                return commit.quarantine(work, source, error)
            if work.tries is not None and not is_system_fault(error):
                work.tries.note(source.head)
            raise


def _convert(work: Work, source: Source, later: bool) -> Converted:
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
        identified=partial(_identified, work, source),
        later=later,
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


def _lineage(work: Work, source: Source) -> Lineage:
    """All of the lineage that is known before the rows are, as if the event spoke of these very bytes."""
    return Lineage(
        bronze_key=work.key,
        bronze_etag="",
        bronze_version=source.head.version or work.event.version,
        bronze_size=source.head.size,
        sequencer=work.event.sequencer,
        transform=work.transform.name,
        fingerprint=work.transform.fingerprint,
        rows_read=0,
        rows_written=0,
        rows_rejected=0,
        committed_at=work.now().isoformat(timespec="milliseconds"),
        attempt=work.attempt,
        lookups=work.lookups.digest,
        looked_up=work.lookups.etags,
        owner=work.owner.name if work.owner is not None else "",
    )


def _identified(work: Work, source: Source) -> dict[str, str]:
    """What the lineage is to say of these very bytes."""
    etag = source.head.etag
    sequencer = work.event.sequencer if work.event.etag == etag else ""
    return {"bronze_etag": etag, "bronze_version": work.version(source), "sequencer": sequencer}
