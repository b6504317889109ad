"""One bronze object becomes one silver object: the heart of Silversmith.

An event is only a hint that a key may have changed. Bronze and silver, as they are now, decide what is done about it,
and one conditional put of the silver object makes it true.
docs/decisions/0011-quarantine-follows-silver.md
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
from polars.exceptions import PanicException

from silversmith import faults
from silversmith.errors import DataError, PreconditionFailed, SourceChanged, SystemFault, TransformError, told
from silversmith.events import ObjectEvent
from silversmith.function.convert import Converted, convert, write_all
from silversmith.function.outcome import Outcome, Verdict
from silversmith.function.retries import is_system_fault
from silversmith.function.task import Ready, Run, Work, call
from silversmith.lineage import Decision, Lineage, decide
from silversmith.pipeline import Transform
from silversmith.pipeline.lookups import Lookups
from silversmith.schemas import Schemas
from silversmith.schemas.recorded import object_owner
from silversmith.stores import Head, Lake, Put, Source, Store, as_seen


def commit(ready: Ready) -> Outcome:
    """The rejected rows, the silver object, and a look at whether they are still what they should be.

    Raises:
        PreconditionFailed, SourceChanged: what is true has changed. Nothing was put that is not true.
    """
    work, made = ready.work, ready.made
    assert not isinstance(made.silver, pl.DataFrame), "only simple ones are left to be written with others"
    rejected = None
    if made.rejected is not None:
        metadata = made.lineage.to_metadata()
        rejected = _replace(work, work.rejected, made.rejected, made.lineage.bronze_etag, metadata)
        faults.point("process.rejected")
    silver = work.lake.silver.put(
        work.silver,
        made.silver,
        metadata=made.lineage.to_metadata(),
        **as_seen(ready.head),
    )
    return _committed(ready, silver, rejected)


def is_simple(ready: Ready) -> bool:
    """Whether it is one small object that can be committed together with others."""
    return ready.made.rejected is None and not isinstance(ready.made.silver, Path)


def commit_all(silver: Store, readies: Sequence[Ready]) -> list[Outcome | Exception]:
    """The same for several that are simple, for the price of about one: what :func:`commit` returns or raises, of each.

    ``silver`` is the store that all of them have.
    """
    for ready in readies:
        ready.work.stages.end("turn")
    bodies = _written(readies)
    puts = [
        Put(ready.work.silver, body, metadata=ready.made.lineage.to_metadata(), **as_seen(ready.head))
        for ready, body in zip(readies, bodies, strict=True)
        if isinstance(body, bytes)
    ]
    put = iter(silver.put_all(puts))
    found: list[Outcome | Exception] = []
    for ready, body in zip(readies, bodies, strict=True):
        try:
            done = next(put) if isinstance(body, bytes) else body
            found.append(_committed(ready, done, None) if isinstance(done, str) else done)
        except Exception as error:  # noqa: BLE001 -- it is this one's, and the others go on
            found.append(error)
    return found


def _written(readies: Sequence[Ready]) -> list[bytes | TransformError]:
    """The bodies of silver objects that are simple. What was left to be written with others is written now."""
    waiting = [
        (ready, (ready.work.transform, ready.made.silver, ready.made.lineage))
        for ready in readies
        if isinstance(ready.made.silver, pl.DataFrame)
    ]
    written = iter(write_all([rows for _, rows in waiting]))
    for ready, _ in waiting:
        ready.work.stages.end("write")
    return [ready.made.silver if isinstance(ready.made.silver, bytes) else next(written) for ready in readies]


def _committed(ready: Ready, silver: str, rejected: str | None) -> Outcome:
    """After the puts, whose etags these are."""
    work, lineage = ready.work, ready.made.lineage
    faults.point("process.committed")
    if ready.head is not None:
        # Bronze may be back at what the old silver was made of, and another worker have found nothing to do.
        _require_bronze(work, lineage.bronze_etag)
    if rejected is not None:
        _require(work.lake.quarantine, work.rejected, rejected)
    _clear(work, lineage, silver)
    faults.point("process.cleared")
    return work.outcome(Verdict.COMMITTED, **_rows(lineage))


def settled(work: Work, lineage: Lineage, silver: str) -> Outcome:
    """Silver is what it should be: only what an earlier failure left is cleared away."""
    _clear(work, lineage, silver)
    return work.outcome(Verdict.DUPLICATE, **_rows(lineage))


def gone(work: Work) -> Outcome:
    """An error document about an object that is no more asks for nothing that anybody could do."""
    _remove(work, work.error, None)
    _forget_tries(work, None)
    return work.outcome(Verdict.GONE, version=work.event.version)


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
    _forget_tries(work, lineage.bronze_etag)
    if not lineage.rows_rejected and _remove(work, work.rejected, lineage.bronze_etag):
        # They may have been put by who then committed, and who was done before they went.
        _require(work.lake.silver, work.silver, silver)


def _forget_tries(work: Work, bronze: str | None) -> None:
    """Not asked for where there can be none: a request for each file would be one too many."""
    if work.tries is not None and work.tries.may_be_there:
        _remove(work, work.failed, bronze)


def quarantine(work: Work, source: Source, error: DataError) -> Outcome:
    """The error document. If bronze changed meanwhile it is about bytes that are no more: the next look removes it."""
    document = _document(work, source, error)
    body = json.dumps(document, indent=2, ensure_ascii=False).encode()
    _replace(work, work.error, body, source.head.etag)
    faults.point("process.quarantined")
    _require_bronze(work, source.head.etag)
    _forget_tries(work, source.head.etag)
    return work.outcome(
        Verdict.QUARANTINED,
        etag=source.head.etag,
        version=work.version(source),
        size=source.head.size,
        error=document["error"],
    )


def _replace(work: Work, key: str, body: bytes | Path, bronze: str, metadata: Mapping[str, str] | None = None) -> str:
    """Put an object into quarantine, but never over one that tells of a newer version of bronze. Its etag.

    What was there before bronze was seen to be still ours is of our version or an older one.
    """
    existing = work.lake.quarantine.head(key)
    if existing is not None:
        work.require_ours(_maker(work, existing), bucket="quarantine", key=key)
        _require_bronze(work, bronze)
    return work.lake.quarantine.put(key, body, metadata=metadata, **as_seen(existing))


def _remove(work: Work, key: str, bronze: str | None) -> bool:
    """Remove an object from quarantine, on the same terms. Whether there was one.

    Headed first: mostly there is none, and where the bucket keeps versions a DELETE would leave a marker each time.
    """
    existing = work.lake.quarantine.head(key)
    if existing is None or not work.is_ours(_maker(work, existing)):
        return False
    _require_bronze(work, bronze)
    try:
        work.lake.quarantine.delete(key, if_match=existing.etag)
    except PreconditionFailed:
        # Another has removed or replaced it, on the same terms. But S3's 409 says only that another was about to.
        left = work.lake.quarantine.head(key)
        if left is not None and left.etag == existing.etag:
            raise
    return True


def _maker(work: Work, existing: Head) -> str:
    """Who made an object in quarantine; not asked for where nobody minds."""
    return object_owner(work.lake.quarantine, existing) if work.owner is not None else ""


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
        **({"owner": work.owner.name} if work.owner is not None else {}),
        "bronze": {
            "key": work.key,
            "etag": source.head.etag,
            "version": work.version(source),
            "size": source.head.size,
        },
        "fingerprint": work.transform.fingerprint,
        **({"lookups": work.lookups.digest} if work.transform.lookups else {}),
        "attempt": work.attempt,
        "at": work.now().isoformat(timespec="milliseconds"),
    }


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
            return commit(found) if isinstance(found, Ready) else found
        except (PreconditionFailed, SourceChanged):
            continue  # what is true has changed: look again
    raise Contended(f"{work.key} changed, or was committed by another worker, {TRIES} times while it was processed")


def prepare_simple(work: Work) -> Outcome | Ready:
    """As :func:`complete`, but what can be committed together with others is left at that."""
    try:
        found = prepare(work, later=True)
        if isinstance(found, Outcome) or is_simple(found):
            return found
        return commit(found)
    except (PreconditionFailed, SourceChanged):
        return complete(work)


def prepare(work: Work, *, later: bool = False) -> Outcome | Ready:
    """All but the commit: steps 2 to 5 of the design. The silver object is headed before bronze is read: that order
    makes the put safe. ``later``: as :func:`~silversmith.function.convert.convert` has it.

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
        return settled(work, lineage, head.etag)
    with work.lake.bronze.open(work.key) as source:
        if source is None:
            return gone(work)
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
                return quarantine(work, source, error)
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
