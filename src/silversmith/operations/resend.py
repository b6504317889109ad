"""Send files through their queues again: what failed, what a user names, and what events missed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, islice

from silversmith.events import ObjectEvent
from silversmith.lineage import Decision, Lineage, silver_key
from silversmith.operations.target import (
    ERROR,
    DeadKind,
    DeadMessage,
    ErrorDocument,
    Target,
    bronze_key,
    explained,
    forget_tries,
    parse,
)
from silversmith.operations.text import iso, moment
from silversmith.patterns.keys import KeyPattern
from silversmith.pipeline import Pipeline, Transform
from silversmith.pipeline.lookups import current_digest
from silversmith.reconcile.compare import Finding, Looked, look
from silversmith.schemas.recorded import require_ours
from silversmith.stores import Head, Store, batched, map_in_threads

#: How many are sent at a time.
REDRIVE_BATCH = 100

#: Where a failure is that is no dead message.
QUARANTINE = "quarantine"


@dataclass(frozen=True)
class Chosen:
    """Which failures to try again. What is None chooses nothing out.

    ``error`` is the stable word of an error (``MissingColumn``, ``TransformError`` …), in capitals or not.
    ``since`` and ``until`` are Unix seconds: it failed at ``since`` or later, and before ``until``. ``where`` as
    :class:`Failed` has it.
    """

    transform: str | None = None
    pattern: KeyPattern | None = None
    error: str | None = None
    since: float | None = None
    until: float | None = None
    where: str | None = None

    def fits(self, key: str, code: str, at: float | None) -> bool:
        """Whether a failure is chosen, by all but its transform. One whose time is not known is of no time."""
        if self.pattern is not None and not self.pattern.matches(key):
            return False
        if self.error is not None and self.error.casefold() != code.casefold():
            return False
        if self.since is None and self.until is None:
            return True
        return at is not None and (self.since or 0) <= at < (self.until if self.until is not None else float("inf"))


@dataclass(frozen=True)
class Failed:
    """A failure that was chosen. ``at`` is when it failed, in Unix seconds; ``code`` is empty where there is none.

    ``where`` is ``quarantine``, or who gave up on the message: ``queue``, ``subscription``, ``rule``, ``unknown``.
    ``lost``: the pipeline has nothing any more to give it back to.
    """

    transform: str | None
    key: str
    version: str
    where: str
    code: str
    at: float | None
    lost: bool


@dataclass(frozen=True)
class RedriveBatch:
    """Some failures, and how many of them are tried again now."""

    failed: Sequence[Failed]
    sent: int


def redrive(
    pipeline: Pipeline, target: Target, chosen: Chosen, *, most: int | None = None, dry_run: bool = False
) -> Iterator[RedriveBatch]:
    """Try again what is chosen. Each batch is sent before it is returned; memory is bounded.

    What the transform's code has failed on may be tried as often as a new file: what was counted is forgotten before.
    Of a file in quarantine a new event goes to its transform's queue; the error document goes when that succeeds. A
    dead message goes back to what gave up on it, at once in one place and no longer in the other.

    Args:
        pipeline: whose failures.
        target: where it runs.
        chosen: which.
        most: not more than so many.
        dry_run: send nothing.

    Raises:
        DefinitionError: the pipeline has no transform of the chosen name.
        NotOurs: the silver of a transform with failures is another pipeline's: they would fail again.
        WrongCall: there is something to send, and nowhere to send it.
    """
    transform = pipeline.find(chosen.transform) if chosen.transform is not None else None
    found = chain(
        _quarantined(pipeline, target, chosen) if chosen.where in {None, QUARANTINE} else (),
        _dead(transform, target, chosen) if chosen.where != QUARANTINE else (),
    )
    ours: set[str] = set()
    for batch in batched(islice(found, most), REDRIVE_BATCH):
        names = {failed.transform for failed, _ in batch if failed.transform is not None and not failed.lost}
        if not dry_run:
            unseen = [pipeline.find(name) for name in sorted(names - ours)]
            require_ours(target.owner, target.lake.silver, None, unseen)
            ours |= names
        sent = 0 if dry_run else _send(pipeline, target, [origin for failed, origin in batch if not failed.lost])
        yield RedriveBatch([failed for failed, _ in batch], sent)


Origin = ErrorDocument | DeadMessage


def _send(pipeline: Pipeline, target: Target, failures: Sequence[Origin]) -> int:
    documents = [found for found in failures if isinstance(found, ErrorDocument)]
    messages = [found for found in failures if isinstance(found, DeadMessage)]
    for transform, some in groupby(documents, key=lambda document: document.transform):
        target.send(transform, [_event_redrive(pipeline.bronze, document) for document in some], reason="redrive")
    for message in messages:
        forget_tries(target.lake.quarantine, message)
    return len(documents) + (target.redrive(messages) if messages else 0)


def _event_redrive(bucket: str, document: ErrorDocument) -> ObjectEvent:
    return ObjectEvent(bucket, document.key, etag=document.etag, version=document.version, size=document.size)


def _quarantined(pipeline: Pipeline, target: Target, chosen: Chosen) -> Iterator[tuple[Failed, Origin]]:
    transforms = {transform.name for transform in pipeline.transforms}
    quarantine = target.lake.quarantine
    for head in quarantine.list(f"{chosen.transform}/" if chosen.transform else ""):
        key = bronze_key(head.key) if head.key.endswith(ERROR) else None
        if not head.key.endswith(ERROR) or (key and chosen.pattern and not chosen.pattern.matches(key)):
            continue
        body = quarantine.read(head.key)
        if body is None:
            continue
        found = parse(head.key, body)
        at = moment(found.at)
        if chosen.fits(found.key, found.code, at):
            lost = found.transform not in transforms
            yield Failed(found.transform, found.key, found.version, QUARANTINE, found.code, at, lost), found


def _dead(transform: Transform | None, target: Target, chosen: Chosen) -> Iterator[tuple[Failed, Origin]]:
    for found in target.dead():
        if chosen.where not in {None, found.kind.value} or not found.concerns(transform):
            continue
        message = explained(target.lake.quarantine, found)
        code = str((message.error or {}).get("code", ""))
        at = message.dead_at if message.dead_at is not None else message.sent
        if chosen.fits(message.key, code, at):
            lost = message.kind is DeadKind.UNKNOWN
            yield Failed(message.transform, message.key, message.version, message.kind.value, code, at, lost), message


#: How many are sent at a time.
REPLAY_BATCH = 500


@dataclass(frozen=True)
class Range:
    """Which bronze objects: by key, and by when they were last modified, in Unix seconds.

    ``since`` is in it, ``until`` is not. None: no bound on this side.
    """

    pattern: KeyPattern
    since: float | None = None
    until: float | None = None

    def holds(self, head: Head) -> bool:
        """Whether an object is one of them."""
        at = head.modified.timestamp()
        if (self.since is not None and at < self.since) or (self.until is not None and at >= self.until):
            return False
        return self.pattern.matches(head.key)


@dataclass(frozen=True)
class ReplayBatch:
    """Some bronze objects of one transform. They were sent, unless only looked for."""

    transform: str
    keys: Sequence[str]


def replay(
    pipeline: Pipeline,
    target: Target,
    wanted: Range,
    *,
    transform: str | None = None,
    changed: bool = False,
    force: float | None = None,
    dry_run: bool = False,
) -> Iterator[ReplayBatch]:
    """Send an event for every object that is wanted to each transform that matches it. Lazy; memory is bounded.

    A transform leaves alone what it made of the same bytes by the same code, unless ``force`` is given.

    Args:
        pipeline: whose transforms.
        target: where it runs.
        wanted: which objects.
        transform: only this one.
        changed: only objects whose silver was made by other code than the pipeline's, or with other lookups.
        force: make silver again that was made before this time (Unix seconds), of whatever and by whatever it was.
        dry_run: send nothing.

    Raises:
        DefinitionError: the pipeline has no such transform.
        NotOurs: the transform's silver is another pipeline's.
        WrongCall: there is something to send, and nowhere to send it.
    """
    made_after = iso(force) or ""
    for each in [pipeline.find(transform)] if transform is not None else pipeline.transforms:
        require_ours(target.owner, target.lake.silver, None, [each])
        heads = _heads(target.lake.bronze, each, wanted)
        if changed:
            heads = _outdated(heads, target.lake.silver, target.lake.bronze, each, target.workers)
        for batch in batched(heads, REPLAY_BATCH):
            if not dry_run:
                events = [_event_replay(pipeline.bronze, head, made_after) for head in batch]
                target.send(each.name, events, reason="replay")
            yield ReplayBatch(each.name, [head.key for head in batch])


def _event_replay(bucket: str, head: Head, made_after: str) -> ObjectEvent:
    """Without an etag: nobody relies on it, and a folder would have to read the file for it."""
    return ObjectEvent(bucket, head.key, version=head.version or "", size=head.size, made_after=made_after)


def _heads(bronze: Store, transform: Transform, wanted: Range) -> Iterator[Head]:
    one, other = sorted([transform.pattern.literal_prefix, wanted.pattern.literal_prefix], key=len)
    if not other.startswith(one):  # no key can match both patterns
        return
    for head in bronze.list(other):
        if wanted.holds(head) and transform.pattern.matches(head.key):
            yield head


def _outdated(
    heads: Iterator[Head], silver: Store, bronze: Store, transform: Transform, workers: int
) -> Iterator[Head]:
    lookups = current_digest(bronze, transform.lookups)

    def look(head: Head) -> tuple[Head, bool]:
        found = silver.head(silver_key(transform.name, head.key))
        lineage = Lineage.from_metadata(found.metadata) if found else None
        made_by = (lineage.fingerprint, lineage.lookups) if lineage is not None else None
        return head, made_by is not None and made_by != (transform.fingerprint, lookups)

    return (head for head, outdated in map_in_threads(look, heads, workers) if outdated)


#: How many keys are looked at before what was found is sent.
RECONCILE_BATCH = 500


@dataclass(frozen=True)
class ReconcileBatch:
    """What came of looking at some keys of a transform.

    ``checked`` counts the keys. ``found`` is what is missing, stale or outdated: sent, unless only looked at;
    ``waiting`` what is so too, but a message of it is on its way or in a dead-letter queue, so that it was not sent;
    ``orphaned`` is silver that nothing in bronze explains, ``foreign`` silver that another pipeline made. Nothing is
    done about either. ``given_up`` is left alone, because this code has failed on these bytes as often as it may, and
    no dead message of it is left.
    """

    transform: str
    checked: int
    found: Sequence[Finding]
    waiting: Sequence[Finding]
    orphaned: Sequence[Finding]
    foreign: Sequence[Finding] = ()
    given_up: Sequence[Finding] = ()


def reconcile(
    pipeline: Pipeline,
    target: Target,
    *,
    transform: str | None = None,
    changed: bool = False,
    dead: bool = False,
    dry_run: bool = False,
    batch: int = RECONCILE_BATCH,
) -> Iterator[ReconcileBatch]:
    """Compare bronze with silver's lineage, key by key, and send what is not as it should be to its queue.

    Lazy: each batch is sent before it is returned, so a caller that stops has lost nothing. Memory is bounded.

    Args:
        pipeline: whose transforms.
        target: where it runs.
        transform: only this one.
        changed: also what other code made.
        dead: also what the code has failed on as often as it may.
        dry_run: send nothing.
        batch: how many keys to look at at a time.

    Raises:
        DefinitionError: the pipeline has no such transform.
        NotOurs: a transform's silver is another pipeline's.
        WrongCall: there is something to send, and nowhere to send it.
    """
    for each in [pipeline.find(transform)] if transform is not None else pipeline.transforms:
        looked = look(each, target.lake, changed=changed, dead=dead, workers=target.workers, owner=target.owner)
        for some in batched(looked, batch):
            found = _sorted_out(each.name, some, target)
            if found.found and not dry_run:
                events = [finding.event(pipeline.bronze) for finding in found.found]
                target.send(each.name, events, reason="reconcile")
            yield found


def _sorted_out(transform: str, looked: Sequence[Looked], target: Target) -> ReconcileBatch:
    findings = [item.finding for item in looked if item.finding is not None]
    wrong = {finding.key: finding for finding in findings if finding.is_to_be_sent}
    given_up = {item.given_up.key: item.given_up for item in looked if item.given_up is not None}
    asked = {key: finding.etag for key, finding in (wrong | given_up).items()}
    waiting = target.waiting(transform, asked) if asked else set()
    return ReconcileBatch(
        transform,
        len(looked),
        found=[finding for key, finding in wrong.items() if key not in waiting],
        waiting=[finding for key, finding in (wrong | given_up).items() if key in waiting],
        orphaned=[finding for finding in findings if finding.kind is Decision.ORPHANED],
        foreign=[finding for finding in findings if finding.kind is Decision.FOREIGN],
        given_up=[finding for key, finding in given_up.items() if key not in waiting],
    )
