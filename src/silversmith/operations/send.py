"""Put files in bronze, and send files through their queues again: redrive, replay and reconcile."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from silversmith.events import ObjectEvent
from silversmith.keypatterns import KeyPattern
from silversmith.lineage import Lineage, silver_key
from silversmith.operations import Record, WrongCall
from silversmith.operations.failures import (
    ERROR,
    ErrorDocument,
    QuarantineKeys,
    forget_tries,
    read_error,
    recorded_documents,
    rows_or_none,
    with_error,
)
from silversmith.operations.target import DeadKind, DeadMessage, Target
from silversmith.operations.text import iso, moment
from silversmith.pipeline import Pipeline, Transform
from silversmith.pipeline.lookups import current_digest
from silversmith.reconcile.compare import archived_in
from silversmith.schemas.recorded import require_ours
from silversmith.stores import IN_MEMORY, Head, Store, batched, map_in_threads
from silversmith.stores.keys import InvalidKey, check, printable


@dataclass(frozen=True)
class Upload:
    """A file, and its key in bronze."""

    path: Path
    key: str


@dataclass(frozen=True)
class PutResult(Record):
    """A file in bronze. ``size`` in bytes; ``transforms`` are the names of those that match its key, ``lookup_of`` of
    those that read it as a lookup."""

    key: str
    size: int
    etag: str
    transforms: Sequence[str]
    lookup_of: Sequence[str] = ()


def plan(paths: Sequence[Path], *, key: str | None = None, prefix: str = "") -> list[Upload]:
    """Choose a key for each file, by names only; nothing is put yet.

    Args:
        paths: files, and folders with everything below them (links to folders are not followed).
        key: the key of the only file.
        prefix: goes before every key, with one ``/`` between.

    Raises:
        WrongCall: a path is neither file nor folder, a key is invalid, or two files would have the same.
    """
    if key is not None:
        if len(paths) != 1:
            raise WrongCall(f"--key names the key of one file, but there are {len(paths)} files; use --prefix instead")
        if paths[0].is_dir():
            place = printable(str(paths[0]))
            raise WrongCall(f"--key names the key of one file, but {place} is a folder; use --prefix instead")
        return [_checked(path, key) for path, _ in files_of(paths)]
    start = f"{prefix.removesuffix('/')}/" if prefix else ""
    uploads = [_checked(path, start + name) for path, name in files_of(paths)]
    seen: dict[str, Path] = {}
    for upload in uploads:
        earlier = seen.setdefault(upload.key, upload.path)
        if earlier is not upload.path:
            raise WrongCall(
                f"{printable(str(earlier))} and {printable(str(upload.path))} would both have the key {upload.key}, "
                "and the second would replace the first. Put them one by one, with --prefix or --key."
            )
    return uploads


def files_of(paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Every file with its name as a key; below a folder that is its path from there.

    Raises:
        WrongCall: a path is neither file nor folder.
    """
    for path in paths:
        if path.is_file():
            yield path, path.name
            continue
        if not path.is_dir():
            problem = "is neither a file nor a folder" if path.exists() else "does not exist"
            raise WrongCall(f"{printable(str(path))} {problem}")
        for folder, folders, names in os.walk(path):
            folders.sort()
            for name in sorted(names):
                file = Path(folder, name)
                if file.is_file():  # not a pipe, a socket, or a link to nowhere
                    yield file, file.relative_to(path).as_posix()


def _checked(path: Path, key: str) -> Upload:
    try:
        check(key)
    except InvalidKey as error:
        raise WrongCall(f"{printable(str(path))} cannot be put: {error}") from None
    return Upload(path, key)


def put(uploads: Sequence[Upload], pipeline: Pipeline, bronze: Store, *, scratch: Path | None) -> Iterator[PutResult]:
    """Put files, one after the other. Each is durable when it is returned.

    Args:
        uploads: see :func:`plan`.
        pipeline: its transforms match the keys.
        bronze: the bucket.
        scratch: a folder for copies of large files on the bucket's file system, for a store that moves the files that
            it gets; None: it leaves them.
    """
    for upload in uploads:
        size, etag = _put(upload, bronze, scratch)
        matching = [transform.name for transform in pipeline.matching(upload.key)]
        readers = [transform.name for transform in pipeline.transforms if upload.key in transform.lookups]
        yield PutResult(upload.key, size, etag, matching, readers)


def put_own(path: Path, key: str, pipeline: Pipeline, bronze: Store, **condition: Any) -> PutResult:
    """Put one file that the store may move. Durable when it returns. ``condition``: as :meth:`Store.put` has it.

    Raises:
        InvalidKey: the key is invalid.
        PreconditionFailed: bronze has another object than the condition says.
    """
    size = path.stat().st_size
    etag = bronze.put(key, path.read_bytes() if size <= IN_MEMORY else path, **condition)
    return PutResult(key, size, etag, [transform.name for transform in pipeline.matching(key)])


def _put(upload: Upload, bronze: Store, scratch: Path | None) -> tuple[int, str]:
    """A store may move the file that it gets, and this one is the user's: it gets a copy."""
    size = upload.path.stat().st_size
    if size <= IN_MEMORY:
        data = upload.path.read_bytes()
        return len(data), bronze.put(upload.key, data)
    if scratch is None:
        return size, bronze.put(upload.key, upload.path)
    with tempfile.TemporaryDirectory(dir=scratch, prefix="put-") as folder:
        copy = Path(folder, "body")
        shutil.copyfile(upload.path, copy)
        return copy.stat().st_size, bronze.put(upload.key, copy)


# -- the place up to which files are sent


class Place(NamedTuple):
    """A transform and a key: all keys of earlier transforms are done, and this one's up to the key."""

    transform: str
    key: str

    def __str__(self) -> str:
        return f"{self.transform}/{self.key}"

    @staticmethod
    def parse(text: str, transform: str | None = None) -> Place | None:
        """The place that a text says; None for an empty one.

        Raises:
            WrongCall: it is not a place, or not one in this ``transform``.
        """
        if not text:
            return None
        name, slash, key = text.partition("/")
        if not slash or not key:
            raise WrongCall(
                f"--after {text!r} is no place to go on from: write TRANSFORM/KEY, as the command printed it"
            )
        if transform not in {None, name}:
            raise WrongCall(f"--after {text!r} is a place in the transform {name}, and --transform names another one")
        return Place(name, key)


def from_place(transforms: Sequence[Transform], after: Place | None) -> Iterator[tuple[Transform, str]]:
    """The transforms from a place on, each with the key after which it begins; empty: at its first.

    Raises:
        WrongCall: none of them is the place's.
    """
    names = [transform.name for transform in transforms]
    if after is not None and after.transform not in names:
        raise WrongCall(
            f"--after {str(after)!r} is a place in the transform {after.transform}, which the pipeline has not"
        )
    start = names.index(after.transform) if after is not None else 0
    for transform in transforms[start:]:
        yield transform, after.key if after is not None and transform.name == after.transform else ""


class SentFile(NamedTuple):
    """A bronze object that was sent to a transform; an empty one: to all that match. ``size`` in bytes."""

    transform: str
    key: str
    size: int


class SentBatch(Protocol):
    """Some files that were sent. ``place``: all up to there is done; empty: as before."""

    @property
    def files(self) -> Sequence[SentFile]: ...
    @property
    def place(self) -> str: ...


# -- redrive

#: So many messages are sent at a time.
REDRIVE_BATCH = 100

#: Of so many dead messages the code of the last error is asked for, where nobody selects by it.
NAMED = 100

#: So many documents in quarantine are compared with the lineage at once.
WINDOW = 10_000

#: :attr:`Failure.where` of a file in quarantine.
QUARANTINE = "quarantine"


@dataclass(frozen=True)
class FailureSelection:
    """The failures to try again; None: all.

    ``error`` is the code of an error (``MissingColumn``, ``TransformError`` …) in any case. ``since`` and ``until`` are
    Unix seconds: it failed at ``since`` or later, and before ``until``. ``where``: see :class:`Failure`.
    """

    transform: str | None = None
    pattern: KeyPattern | None = None
    error: str | None = None
    since: float | None = None
    until: float | None = None
    where: str | None = None

    def fits(self, key: str, code: str, at: float | None) -> bool:
        """Whether a failure fits, apart from its transform. A failure without a time fits no bounds of time."""
        if self.pattern is not None and not self.pattern.matches(key):
            return False
        if self.error is not None and self.error.casefold() != code.casefold():
            return False
        if self.since is None and self.until is None:
            return True
        return at is not None and (self.since or 0) <= at < (self.until if self.until is not None else float("inf"))


@dataclass(frozen=True)
class Failure:
    """A selected failure. ``at`` is when it failed, in Unix seconds; ``code`` is empty where there is none, or nobody
    asked for it.

    ``where`` is ``quarantine``, or who gave up on the message: ``queue``, ``subscription``, ``rule``, ``unknown``.
    ``lost``: the pipeline no longer has what it came from. ``size`` of the file in bytes; None: it is not known.
    """

    transform: str | None
    key: str
    version: str
    where: str
    code: str
    at: float | None
    lost: bool
    size: int | None = None


@dataclass(frozen=True)
class RedriveBatch:
    """Some failures, and how many of them were sent. ``place`` as :class:`SentBatch`
    has it: that of the last file in quarantine."""

    failures: Sequence[Failure]
    sent: int
    place: str = ""

    @property
    def files(self) -> Sequence[SentFile]:
        """Those of one transform each that were sent."""
        failures = self.failures if self.sent else ()
        return [SentFile(each.transform or "", each.key, each.size or 0) for each in failures if not each.lost]


Origin = ErrorDocument | DeadMessage


def redrive(
    pipeline: Pipeline,
    target: Target,
    selection: FailureSelection,
    *,
    most: int | None = None,
    dry_run: bool = False,
    batch: int = REDRIVE_BATCH,
    after: Place | None = None,
    named: int = NAMED,
) -> Iterator[RedriveBatch]:
    """Try failures again. Each batch is sent before it is returned; memory is bounded.

    Their counted tries are forgotten before. Of a file in quarantine a new event goes to its transform's queue; the
    error document goes when that succeeds. A dead message moves back to what gave up on it.

    Args:
        pipeline: the pipeline.
        target: where it runs.
        selection: which failures.
        most: not more than so many.
        dry_run: send nothing.
        batch: so many at a time.
        after: leave out what is in quarantine up to this place. What was sent before it is no dead message any more.
        named: the error's code is asked for of so many dead messages, unless all are selected by it.

    Raises:
        DefinitionError: the pipeline has no transform of the selected name.
        NotOurs: another pipeline owns the silver of a transform with failures: they would fail again.
        WrongCall: there is something to send, and nowhere to send it.
    """
    transform = pipeline.find(selection.transform) if selection.transform is not None else None
    selected = chain(
        _quarantined(pipeline, target, selection, after) if selection.where in {None, QUARANTINE} else (),
        _dead(transform, target, selection, named) if selection.where != QUARANTINE else (),
    )
    ours: set[str] = set()
    for some in batched(islice(selected, most), batch):
        sent = 0
        if not dry_run:
            names = {
                failure.transform
                for failure, origin in some
                if failure.transform is not None
                and not failure.lost
                and not (isinstance(origin, DeadMessage) and origin.tables)
            }
            unchecked = [pipeline.find(name).name for name in sorted(names - ours)]
            require_ours(target.owner, target.lake.silver, None, unchecked)
            ours |= names
            sent = _send(pipeline, target, [origin for failure, origin in some if not failure.lost])
        documents = [origin.document for _, origin in some if isinstance(origin, ErrorDocument)]
        place = documents[-1].removesuffix(ERROR) if documents else ""
        yield RedriveBatch([failure for failure, _ in some], sent, place)


def _send(pipeline: Pipeline, target: Target, origins: Sequence[Origin]) -> int:
    documents = [origin for origin in origins if isinstance(origin, ErrorDocument)]
    messages = [origin for origin in origins if isinstance(origin, DeadMessage)]
    for transform, group in groupby(documents, key=lambda document: document.transform):
        events = [
            ObjectEvent(pipeline.bronze, each.key, etag=each.etag, version=each.version, size=each.size)
            for each in group
        ]
        target.send(transform, events, reason="redrive")
    quarantine = target.lake.quarantine
    for _ in map_in_threads(lambda message: forget_tries(quarantine, message), messages, target.workers):
        pass
    return len(documents) + (target.redrive(messages) if messages else 0)


def _quarantined(
    pipeline: Pipeline, target: Target, selection: FailureSelection, after: Place | None
) -> Iterator[tuple[Failure, Origin]]:
    transforms = {transform.name for transform in pipeline.transforms}
    quarantine = target.lake.quarantine
    start = f"{after}{ERROR}" if after is not None else ""
    listed = QuarantineKeys(quarantine, selection.transform, selection.pattern, ERROR, start_after=start)
    for document in _documents(target, listed.heads()):
        at = moment(document.at)
        if selection.fits(document.key, document.code, at):
            lost = document.transform not in transforms
            key, version = document.key, document.version
            where, size = QUARANTINE, document.size
            yield Failure(document.transform, key, version, where, document.code, at, lost, size), document


def _documents(target: Target, heads: Iterable[Head]) -> Iterator[ErrorDocument]:
    """The error documents. Where the lineage has a row of this very document it is not read: the row says enough."""
    quarantine = target.lake.quarantine
    rows = rows_or_none(target)
    for window in batched(heads, WINDOW):
        known = {} if rows is None else recorded_documents(rows, window)
        unknown = (head for head in window if head.key not in known)
        read = map_in_threads(lambda head: read_error(quarantine, head.key), unknown, target.workers)
        for head in window:
            document = known[head.key] if head.key in known else next(read)
            if document is not None:
                yield document


def _dead(
    transform: Transform | None, target: Target, selection: FailureSelection, named: int
) -> Iterator[tuple[Failure, Origin]]:
    quarantine, bounds = target.lake.quarantine, replace(selection, error=None)
    chosen = (
        dead
        for dead in target.dead()
        if selection.where in {None, dead.kind.value}
        and dead.concerns(transform)
        and bounds.fits(dead.key, "", dead.failed_at)
    )
    asked = None if selection.error is not None else named
    with_errors = map_in_threads(lambda dead: with_error(quarantine, dead), islice(chosen, asked), target.workers)
    for message in chain(with_errors, chosen):
        code = str((message.error or {}).get("code", ""))
        if selection.fits(message.key, code, message.failed_at):
            lost, where = message.kind is DeadKind.UNKNOWN, message.kind.value
            yield (
                Failure(
                    message.transform, message.key, message.version, where, code, message.failed_at, lost, message.size
                ),
                message,
            )


#: So many events are sent at a time.
REPLAY_BATCH = 500


@dataclass(frozen=True)
class Range:
    """Bronze objects by key and by modification time, in Unix seconds: from ``since`` until before ``until``."""

    pattern: KeyPattern
    since: float | None = None
    until: float | None = None

    def holds(self, head: Head) -> bool:
        """Whether an object is one of them."""
        at = head.modified.timestamp()
        if (self.since is not None and at < self.since) or (self.until is not None and at >= self.until):
            return False
        return self.pattern.matches(head.key)

    def leaves(self, transform: Transform, head: Head) -> bool:
        """Whether a transform's ``since`` counts for an object: it does not for the whole key of one."""
        return not self.is_key and transform.is_before_since(head.modified)

    @property
    def is_key(self) -> bool:
        """Whether the pattern is the key of one object."""
        return "*" not in self.pattern.text


@dataclass(frozen=True)
class ReplayBatch:
    """Some bronze objects of one transform. The events of ``keys`` were sent, except in a dry run.

    ``archived`` by their tiers: they must be restored first. ``markers``: how many stand for folders and jobs;
    ``before_since``: how many landed before the transform's ``since``. ``sizes`` of the keys' objects in bytes,
    ``place`` as :class:`SentBatch` has it.
    """

    transform: str
    keys: Sequence[str]
    archived: Mapping[str, str] = field(default_factory=dict)
    markers: int = 0
    sizes: Sequence[int] = ()
    place: str = ""
    before_since: int = 0

    @property
    def files(self) -> Sequence[SentFile]:
        """Those of ``keys``."""
        return [SentFile(self.transform, key, size) for key, size in zip(self.keys, self.sizes, strict=True)]


def replay(
    pipeline: Pipeline,
    target: Target,
    objects: Range,
    *,
    transform: str | None = None,
    changed: bool = False,
    force: float | None = None,
    dry_run: bool = False,
    batch: int = REPLAY_BATCH,
    after: Place | None = None,
) -> Iterator[ReplayBatch]:
    """Send an event for every object to each transform that matches it. Lazy; memory is bounded.

    A transform leaves silver of the same bytes by the same code as it is, unless ``force`` is given. It leaves files
    alone that landed before its ``since``, unless the pattern is the key of one file.

    Args:
        pipeline: the pipeline.
        target: where it runs.
        objects: which objects.
        transform: only this one.
        changed: only objects whose silver was made by other code, or with other lookups.
        force: make silver again that is older than this time (Unix seconds), in any case.
        dry_run: send nothing.
        batch: so many at a time.
        after: leave out what comes up to this place.

    Raises:
        DefinitionError: the pipeline has no such transform.
        NotOurs: another pipeline owns the transform's silver.
        WrongCall: there is something to send, and nowhere to send it.
    """
    made_after = iso(force) or ""
    for each, start in from_place(transforms_of(pipeline, transform), after):
        require_ours(target.owner, target.lake.silver, None, [each.name])
        chosen = matching(target.lake.bronze, each, objects, start)
        if changed:
            chosen = _outdated(chosen, target, each)
        for heads in batched(chosen, batch):
            all_data = [head for head in heads if not each.pattern.passes_over(head.key, head.size)]
            data = [head for head in all_data if not objects.leaves(each, head)]
            tiers = {head.key: archived_in(head, target.lake.bronze) for head in data}
            archived = {key: tier for key, tier in tiers.items() if tier}
            sendable = [head for head in data if head.key not in archived]
            if not dry_run and sendable:
                # Without an etag: nothing relies on it, and a folder would have to read the file for it.
                events = [
                    ObjectEvent(
                        pipeline.bronze,
                        head.key,
                        version=head.version or "",
                        size=head.size,
                        made_after=made_after,
                        whenever=objects.is_key,
                    )
                    for head in sendable
                ]
                target.send(each.name, events, reason="replay")
            yield ReplayBatch(
                each.name,
                [head.key for head in sendable],
                archived,
                len(heads) - len(all_data),
                [head.size for head in sendable],
                str(Place(each.name, heads[-1].key)),
                len(all_data) - len(data),
            )


def transforms_of(pipeline: Pipeline, transform: str | None) -> Sequence[Transform]:
    return [pipeline.find(transform)] if transform is not None else pipeline.transforms


def matching(bronze: Store, transform: Transform, objects: Range, start_after: str = "") -> Iterator[Head]:
    """The chosen objects that the transform takes, in the order of their keys."""
    for prefix in transform.pattern.prefixes:
        short, long = sorted([prefix, objects.pattern.literal_prefix], key=len)
        if not long.startswith(short):  # no key can match both patterns
            continue
        for head in bronze.list(long, start_after=start_after):
            if objects.holds(head) and transform.pattern.matches(head.key):
                yield head


def _outdated(heads: Iterator[Head], target: Target, transform: Transform) -> Iterator[Head]:
    """The objects whose silver was made by other code, or with other lookups."""
    current = (transform.fingerprint, current_digest(target.lake.bronze, transform.lookups))

    def compare(head: Head) -> tuple[Head, bool]:
        silver = target.lake.silver.head(silver_key(transform.name, head.key))
        lineage = Lineage.from_metadata(silver.metadata) if silver else None
        return head, lineage is not None and (lineage.fingerprint, lineage.lookups) != current

    return (head for head, is_outdated in map_in_threads(compare, heads, target.workers) if is_outdated)
