"""Tries again what failed: files in quarantine, and messages in the dead-letter queues, whoever gave up on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, islice

from silversmith.events import ObjectEvent
from silversmith.operations.documents import ERROR, ErrorDocument, bronze_key, explained, forget_tries, parse
from silversmith.operations.target import DeadKind, DeadMessage, Target
from silversmith.operations.text import moment
from silversmith.patterns.keys import KeyPattern
from silversmith.pipeline import Pipeline, Transform
from silversmith.schemas.recorded import require_ours
from silversmith.stores import batched

#: How many are sent at a time.
BATCH = 100

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
class Batch:
    """Some failures, and how many of them are tried again now."""

    failed: Sequence[Failed]
    sent: int


def redrive(
    pipeline: Pipeline, target: Target, chosen: Chosen, *, most: int | None = None, dry_run: bool = False
) -> Iterator[Batch]:
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
    for batch in batched(islice(found, most), BATCH):
        names = {failed.transform for failed, _ in batch if failed.transform is not None and not failed.lost}
        if not dry_run:
            unseen = [pipeline.find(name) for name in sorted(names - ours)]
            require_ours(target.owner, target.lake.silver, None, unseen)
            ours |= names
        sent = 0 if dry_run else _send(pipeline, target, [origin for failed, origin in batch if not failed.lost])
        yield Batch([failed for failed, _ in batch], sent)


Origin = ErrorDocument | DeadMessage


def _send(pipeline: Pipeline, target: Target, failures: Sequence[Origin]) -> int:
    documents = [found for found in failures if isinstance(found, ErrorDocument)]
    messages = [found for found in failures if isinstance(found, DeadMessage)]
    for transform, some in groupby(documents, key=lambda document: document.transform):
        target.send(transform, [_event(pipeline.bronze, document) for document in some], reason="redrive")
    for message in messages:
        forget_tries(target.lake.quarantine, message)
    return len(documents) + (target.redrive(messages) if messages else 0)


def _event(bucket: str, document: ErrorDocument) -> ObjectEvent:
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
