"""What was made becomes true: the conditional put of the silver object, and all that follows from it.

docs/decisions/0011-quarantine-follows-silver.md
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from silversmith import faults
from silversmith.convert import write_all
from silversmith.errors import DataError, PreconditionFailed, SourceChanged, TransformError, told
from silversmith.lineage import Lineage
from silversmith.outcome import Outcome, Verdict
from silversmith.schemas.ownership import object_owner
from silversmith.stores import Head, Put, Source, Store, as_seen
from silversmith.work import Ready, Work


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
