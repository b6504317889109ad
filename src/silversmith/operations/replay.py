"""Runs bronze objects again that have been run before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from silversmith.events import ObjectEvent
from silversmith.lineage import Lineage, silver_key
from silversmith.operations.target import Target
from silversmith.operations.text import iso
from silversmith.patterns.keys import KeyPattern
from silversmith.pipeline import Pipeline, Transform
from silversmith.pipeline.lookups import current_digest
from silversmith.schemas.recorded import require_ours
from silversmith.stores import Head, Store, batched, mapped

#: How many are sent at a time.
BATCH = 500


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
class Batch:
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
) -> Iterator[Batch]:
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
        for batch in batched(heads, BATCH):
            if not dry_run:
                events = [_event(pipeline.bronze, head, made_after) for head in batch]
                target.send(each.name, events, reason="replay")
            yield Batch(each.name, [head.key for head in batch])


def _event(bucket: str, head: Head, made_after: str) -> ObjectEvent:
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

    return (head for head, outdated in mapped(look, heads, workers) if outdated)
