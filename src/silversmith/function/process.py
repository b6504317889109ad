"""One bronze object becomes one silver object: the heart of Silversmith.

An event is only a hint that a key may have changed. Bronze and silver, as they are now, decide what is done about it,
and one conditional put of the silver object makes it true.
docs/decisions/0011-quarantine-follows-silver.md
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
from polars.exceptions import PanicException

from silversmith import faults
from silversmith.errors import Archived, DataError, PreconditionFailed, SourceChanged, SystemFault, TransformError
from silversmith.formats.archives.content import Scratch
from silversmith.function.convert import Converted, convert, encode_silver
from silversmith.function.outcome import Outcome, Verdict
from silversmith.function.retries import begin_try
from silversmith.function.task import Task, error_of_data
from silversmith.lineage import Decision, Lineage, decide, rejected_key, silver_key
from silversmith.runtime.queue import is_system_fault
from silversmith.schemas import Document
from silversmith.schemas.recorded import Recorded, object_owner
from silversmith.stores import Head, Put, Source, Store, unchanged_since

#: How often a task starts again because another worker was first or the bytes changed, before the queue has to wait.
TRIES = 8


class Contended(SystemFault):
    """An object changed, or another worker committed, every time this one tried. The queue will bring it back."""


@dataclass(frozen=True)
class Conversion:
    """A task asks for its turn to convert: one task of a function at a time does, in the function's own thread."""


@dataclass(frozen=True)
class Commit:
    """A task asks for its silver object to be put, perhaps together with those of other tasks."""

    task: Task
    converted: Converted
    silver: bytes | pl.DataFrame | Path
    head: Head | None

    @property
    def size(self) -> int:
        """The bytes of memory that it takes while it waits."""
        if isinstance(self.silver, bytes):
            return len(self.silver)
        return int(self.silver.estimated_size()) if isinstance(self.silver, pl.DataFrame) else 0


#: A task under way. It stops where it has to wait for its turn: for a conversion, or for the put of its silver object,
#: whose ETag is sent to it, or whose error is thrown into it. Whoever runs it may resume it in another thread.
Processing = Generator[Conversion | Commit, str | None, Outcome]


def process(task: Task) -> Processing:
    """Bring the silver object of a bronze key up to date with what bronze holds now.

    Returns:
        What was done. Data at fault is an outcome (``QUARANTINED``), not an exception.

    Raises:
        Contended: another worker was first every time. Try again later.
        TransformError: the user's code raised.
        TriesSpent: the user's code was tried as often as it may, and the last try killed the function.
        LookupMissing, LookupUnusable: a lookup cannot be had. Try again later.
        NotOurs: silver or quarantine is another pipeline's. Nothing was written.
        AccessDenied, OSError: the system is at fault. Try again later.
    """
    lake, stages = task.lake, task.stages
    is_new = task.new_keys.expect(task)
    for attempt in range(TRIES):
        with suppress(PreconditionFailed, SourceChanged):  # what is true has changed: look again
            if task.schemas is not None:
                task.schemas.own()

            # 1. Head silver, unless the key is expected to be new: then the put says whether it was. Silver is headed
            # before bronze is read: that order makes the put safe.
            is_headed = attempt > 0 or not is_new
            head, lineage = _head_silver(task, is_new) if is_headed else (None, None)

            # 2. Settled? Then only what an earlier failure left is cleared away.
            if head is not None and lineage is not None and _is_settled(task, lineage):
                _clear_quarantine(task, lineage, head.etag, is_headed=True)
                return task.outcome_of(Verdict.DUPLICATE, lineage)

            # 3. Open bronze.
            with _opened(task, head, lineage, is_headed=is_headed) as source:
                if isinstance(source, Outcome):
                    return source
                stages.end("read")
                faults.point("process.opened")
                begin_try(task, source.head)
                yield Conversion()

                # 4 to 7. Read, split by the contract, transform, fit and write: convert.py.
                recorded = task.schemas.look() if task.schemas is not None else None
                document = _carried_over(task, recorded.document) if recorded is not None else None
                claimed, context = task.claimed_lineage(source.head), task.lookups.context(source.head)
                stages.end("turn")
                try:
                    former = _taken_over(task, source.head, document) if head is None else None
                    converted = former or convert(
                        source, task.transform, claimed, task.scratch, document, stages=stages, context=context
                    )
                    if recorded is not None and converted.document is None and document != recorded.document:
                        converted = replace(converted, document=document)
                    faults.point("process.written")
                    lake.bronze.verify(source)
                    silver = _record_schema(task, recorded, converted, is_headed=is_headed)
                except DataError as error:
                    lake.bronze.verify(source)  # what torn bytes lead to is nobody's fault
                    return _quarantine(task, source.head, error, is_headed=is_headed)
                except (Exception, PanicException) as error:
                    if isinstance(error, TransformError | OSError):
                        lake.bronze.verify(source)
                    if not is_system_fault(error):
                        task.head = source.head  # the ETag of a large local file is known only while it is open
                        _ = source.head.etag
                    raise

            # 8. Commit: rejected rows, then silver, by one conditional put; and a look whether both are still true.
            rejected = _put_rejected(task, converted, is_headed=is_headed)
            etag = yield Commit(task, converted, silver, head)
            assert etag is not None
            faults.point("process.committed")
            if head is not None or task.transform.removes:
                # Bronze may be back at what the old silver was made of, or gone, and another worker have found nothing
                # to do.
                _require_bronze(task, converted.lineage.bronze_etag)
            if rejected is not None:
                _require_unchanged(lake.quarantine, task.rejected_key, rejected)
            _clear_quarantine(task, converted.lineage, etag, is_headed=is_headed)
            faults.point("process.cleared")
            return task.outcome_of(Verdict.COMMITTED, converted.lineage, broken=converted.broken)
    raise Contended(f"{task.key} changed, or was committed by another worker, {TRIES} times while it was processed")


def advance(processing: Processing, answer: str | Exception | None) -> Conversion | Commit | Outcome | BaseException:
    """Resume a task with what it waited for. Returns what it waits for next, or what it came to or failed with."""
    try:
        return processing.throw(answer) if isinstance(answer, Exception) else processing.send(answer)
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome
    except (Exception, PanicException) as error:  # noqa: BLE001 -- it is this task's failure and no other's
        return error


def run(task: Task) -> Outcome:
    """Process one task alone, in this thread. Returns and raises what :func:`process` does."""
    processing = process(task)
    progress = advance(processing, None)
    while isinstance(progress, Conversion | Commit):
        answer = commit_all(task.lake.silver, [progress])[0] if isinstance(progress, Commit) else None
        progress = advance(processing, answer)
    if isinstance(progress, BaseException):
        raise progress
    return progress


def commit_all(store: Store, commits: Sequence[Commit]) -> list[str | Exception]:
    """Put the silver objects of several tasks: the ETag of each, or what it failed with."""
    rows = []
    for commit in commits:
        commit.task.stages.end("turn")
        if isinstance(commit.silver, pl.DataFrame):
            rows.append((commit.task.transform, commit.silver, commit.converted.lineage))
    encoded = iter(encode_silver(rows))
    bodies = [next(encoded) if isinstance(commit.silver, pl.DataFrame) else commit.silver for commit in commits]
    puts = []
    for commit, body in zip(commits, bodies, strict=True):
        if not isinstance(body, TransformError):
            commit.task.stages.end("write")
            metadata = commit.converted.lineage.to_metadata()
            puts.append(Put(commit.task.silver_key, body, metadata=metadata, **unchanged_since(commit.head)))
    etags = iter(store.put_all(puts))
    return [body if isinstance(body, TransformError) else next(etags) for body in bodies]


def _record_schema(
    task: Task, recorded: Recorded | None, converted: Converted, *, is_headed: bool
) -> bytes | pl.DataFrame | Path:
    """Record a change of the schema, and return silver as it is now.

    A schema is recorded before silver has it: a worker that dies in between has widened it for nothing, and done no
    harm. Rows that Parquet cannot hold must not be recorded, so they are encoded first.
    """
    silver: bytes | pl.DataFrame | Path = converted.silver
    if task.schemas is not None and recorded is not None and converted.document is not None:
        if isinstance(converted.silver, pl.DataFrame):
            (encoded,) = encode_silver([(task.transform, converted.silver, converted.lineage)])
            if isinstance(encoded, TransformError):
                raise encoded
            silver = encoded
        _require_new(task, is_headed=is_headed)
        task.schemas.record(recorded, converted.document)
    faults.point("process.recorded")
    return silver


def _head_silver(task: Task, is_new: bool) -> tuple[Head | None, Lineage | None]:
    head = task.lake.silver.head(task.silver_key)
    if head is None:
        return None, None
    if is_new:
        task.new_keys.refuted()
    lineage = Lineage.from_metadata(head.metadata)
    if lineage is not None:
        task.require_ours(lineage.owner, bucket="silver", key=task.silver_key)
    return head, lineage


def _is_settled(task: Task, lineage: Lineage) -> bool:
    """Whether silver is of these bytes and this code, and so are the rejected rows that it speaks of.

    A worker that died, or was too late with an older version, may have left others.
    """
    bronze = task.lake.bronze.head(task.key)
    fingerprint = task.transform.fingerprint
    decision = decide(
        bronze.etag if bronze else None,
        lineage,
        fingerprint,
        silver_exists=True,
        schema=task.schemas.look().document.of(fingerprint).version if task.schemas is not None else 0,
        lookups=task.lookups.digest,
    )
    if decision is not Decision.DUPLICATE or lineage.committed_at < task.event.made_after:
        return False
    if not lineage.rows_rejected:
        return True
    head = task.lake.quarantine.head(task.rejected_key)
    rejected = Lineage.from_metadata(head.metadata) if head else None
    return rejected is not None and _origin(rejected) == _origin(lineage)


def _origin(lineage: Lineage) -> tuple[str, str, str]:
    return lineage.bronze_etag, lineage.fingerprint, lineage.lookups


@contextmanager
def _opened(task: Task, silver: Head | None, lineage: Lineage | None, *, is_headed: bool) -> Iterator[Source | Outcome]:
    """The bronze object, open; or what becomes of it where it is gone, a marker, or archived."""
    bronze, pattern = task.lake.bronze, task.transform.pattern
    with ExitStack() as stack:
        try:
            marker = bronze.head(task.key) if pattern.passes_over(task.key, None) else None
            source = stack.enter_context(bronze.open(task.key)) if marker is None else None
        except Archived as error:
            if not is_headed:
                raise SourceChanged(f"{task.key} is archived, and silver was not looked for") from error
            yield task.outcome(Verdict.ARCHIVED, error={"code": "Archived", "message": str(error)})
            return
        if source is not None and pattern.passes_over(task.key, source.head.size):
            marker = source.head
        if marker is not None:
            yield _passed_over(task, marker)
        elif source is not None and task.is_before_since(source.head):
            yield task.outcome(Verdict.BEFORE_SINCE, etag=source.head.etag, size=source.head.size)
        else:
            yield source or _gone(task, silver, lineage, is_headed=is_headed)


def _passed_over(task: Task, marker: Head) -> Outcome:
    """Pass over a marker, and remove its documents from quarantine."""
    _remove(task, task.error_key, marker.etag)
    _forget_failures(task, marker.etag)
    return task.outcome(Verdict.MARKER, etag=marker.etag, version=task.version(marker), size=marker.size)


def _gone(task: Task, head: Head | None, lineage: Lineage | None, *, is_headed: bool) -> Outcome:
    """An error document about an object that is no more asks for nothing that anybody could do. Where the pipeline
    says so, silver and the rejected rows go, too: silver last, for ``reconcile`` finds what is left by it."""
    if not is_headed:
        raise SourceChanged(f"{task.key} is gone, and silver was not looked for")
    had_error = _remove(task, task.error_key, None)
    if not task.transform.removes:
        _forget_failures(task, None)
        if head is None and (had_error or task.was_received):
            _remove(task, task.rejected_key, None)
        return task.outcome(Verdict.GONE, version=task.event.version)
    _remove(task, task.failed_key, None)
    _remove(task, task.rejected_key, None)
    faults.point("process.unquarantined")
    is_made_of_it = head is not None and lineage is not None and lineage.bronze_key == task.key
    if head is not None and is_made_of_it:
        task.lake.silver.delete(task.silver_key, if_match=head.etag)
        faults.point("process.removed")
    # Bronze may be back at what silver was made of, and another worker have found nothing to do.
    _require_bronze(task, None)
    return task.outcome(Verdict.REMOVED if is_made_of_it else Verdict.GONE, version=task.event.version)


def _require_new(task: Task, *, is_headed: bool) -> None:
    """Look for silver that was expected not to be there, before anything else is written: the file may be done, or
    silver another pipeline's."""
    if not is_headed and task.lake.silver.head(task.silver_key) is not None:
        raise PreconditionFailed(f"{task.silver_key} was expected to be new")


def _quarantine(task: Task, head: Head, error: DataError, *, is_headed: bool) -> Outcome:
    """Put the error document. If bronze changed meanwhile it is about bytes that are no more: the next look removes
    it."""
    _require_new(task, is_headed=is_headed)
    problem = error_of_data(error)
    document = {"error": problem, **task.quarantine_document(head), "attempt": task.receives}
    body = json.dumps(document, indent=2, ensure_ascii=False).encode()
    _replace(task, task.error_key, body, head.etag)
    faults.point("process.quarantined")
    _require_bronze(task, head.etag)
    _forget_failures(task, head.etag)
    return task.outcome(Verdict.QUARANTINED, etag=head.etag, version=task.version(head), size=head.size, error=problem)


def _put_rejected(task: Task, converted: Converted, *, is_headed: bool) -> str | None:
    """The ETag of the rejected rows in quarantine; None: there are none."""
    if converted.rejected is None:
        return None
    _require_new(task, is_headed=is_headed)
    lineage = converted.lineage
    etag = _replace(task, task.rejected_key, converted.rejected, lineage.bronze_etag, lineage.to_metadata())
    faults.point("process.rejected")
    return etag


def _replace(
    task: Task, key: str, body: bytes | Path, bronze_etag: str, metadata: Mapping[str, str] | None = None
) -> str:
    """Put an object into quarantine, but never over one about a newer version of bronze. Returns its ETag.

    An object that was there before bronze was seen to be still ours is of our version or an older one.
    """
    quarantine = task.lake.quarantine
    existing = quarantine.head(key)
    if existing is not None:
        task.require_ours(_maker(task, existing), bucket="quarantine", key=key)
        _require_bronze(task, bronze_etag)
    return quarantine.put(key, body, metadata=metadata, **unchanged_since(existing))


def _clear_quarantine(task: Task, lineage: Lineage, silver_etag: str, *, is_headed: bool) -> None:
    """Remove what an earlier failure, or an earlier version, left in quarantine.

    Rejected rows without silver are of a worker that did not come to its end: its message comes back, and finds silver.
    docs/decisions/0145-one-head-for-a-new-file.md
    """
    had_error = _remove(task, task.error_key, lineage.bronze_etag)
    _forget_failures(task, lineage.bronze_etag)
    may_be_rejected = is_headed or had_error or task.was_received or task.may_have_failed
    if may_be_rejected and not lineage.rows_rejected and _remove(task, task.rejected_key, lineage.bronze_etag):
        # Another worker may have put them, committed, and been done before they were removed.
        _require_unchanged(task.lake.silver, task.silver_key, silver_etag)


def _forget_failures(task: Task, bronze_etag: str | None) -> None:
    if task.may_have_failed:
        _remove(task, task.failed_key, bronze_etag)


def _remove(task: Task, key: str, bronze_etag: str | None) -> bool:
    """Remove an object from quarantine, on the same terms as :func:`_replace`. Returns whether there was one.

    Headed first: mostly there is none, and where the bucket keeps versions a DELETE would leave a marker each time.
    """
    quarantine = task.lake.quarantine
    existing = quarantine.head(key)
    if existing is None or not task.is_ours(_maker(task, existing)):
        return False
    _require_bronze(task, bronze_etag)
    try:
        quarantine.delete(key, if_match=existing.etag)
    except PreconditionFailed:
        # Another has removed or replaced it, on the same terms. But S3's 409 says only that another was about to.
        left = quarantine.head(key)
        if left is not None and left.etag == existing.etag:
            raise
    return True


def _maker(task: Task, existing: Head) -> str:
    """The pipeline that made an object in quarantine; not asked for where nobody minds."""
    return object_owner(task.lake.quarantine, existing) if task.owner is not None else ""


def _require_bronze(task: Task, etag: str | None) -> None:
    """``etag`` None: there must be no bronze object."""
    bronze = task.lake.bronze.head(task.key)
    if (bronze.etag if bronze else None) != etag:
        raise SourceChanged(f"{task.key} changed while it was processed")


def _require_unchanged(store: Store, key: str, etag: str) -> None:
    head = store.head(key)
    if head is None or head.etag != etag:
        raise PreconditionFailed(f"{key} is not what it was when it was written")


# Silver under a transform's former name (``was=``) is taken over as it is, where it was made of the same bytes.
# docs/decisions/0158-a-former-name.md


def _carried_over(task: Task, document: Document) -> Document:
    """The transform's schema document, or if it has no schema yet, that of its former name under its own."""
    if document.schemas or not task.transform.was:
        return document
    former = Recorded.read(task.lake.silver, task.transform.was).document
    return replace(document, schemas=former.schemas, history=former.history)


def _taken_over(task: Task, bronze: Head, document: Document | None) -> Converted | None:
    """The silver object of the former name, to be committed under the new one; None: there is none of these bytes that
    may be taken.

    Args:
        task: whose silver is missing.
        bronze: the object that silver must be made of.
        document: see :func:`_carried_over`; None: nobody records schemas.

    Raises:
        SourceChanged: the object changed while it was read.
    """
    was = task.transform.was
    head = task.lake.silver.head(silver_key(was, task.key)) if was else None
    lineage = Lineage.from_metadata(head.metadata) if head is not None else None
    if head is None or lineage is None or lineage.bronze_etag != bronze.etag or lineage.bronze_key != task.key:
        return None
    if lineage.committed_at < task.event.made_after or not task.is_ours(lineage.owner):
        return None
    if document is not None and lineage.schema:
        former = Recorded.read(task.lake.silver, was).document
        if document.history[: len(former.history)] != former.history:
            return None  # the number of its schema means another one here
    scratch = Scratch(task.scratch)
    silver = _copied(task.lake.silver, head.key, head.etag, scratch.file(".parquet"))
    rejected = None
    if lineage.rows_rejected:
        rejected = _copied(task.lake.quarantine, rejected_key(was, task.key), None, scratch.file(".rejected.parquet"))
        if rejected is None:
            return None
    if silver is None:
        return None
    return Converted(silver, rejected, lineage, scratches=(scratch,))


def _copied(store: Store, key: str, etag: str | None, path: Path) -> Path | None:
    """The whole object in a file; None: there is none, or another one by now."""
    with store.open(key) as source:
        if source is None or (etag is not None and source.head.etag != etag):
            return None
        if source.data is not None:
            path.write_bytes(source.data)
        elif source.path is not None:
            shutil.copyfile(source.path, path)
        store.verify(source)
    return path
