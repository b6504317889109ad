"""Reconcile: compare bronze with silver, silver with the tables, and send what differs; and the plan of it."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from silversmith.lineage import Decision
from silversmith.operations.send import Place, SentFile, from_place, transforms_of
from silversmith.operations.target import Target
from silversmith.pipeline import Pipeline, Transform
from silversmith.reconcile.compare import Finding, Looked, comparison_of, look
from silversmith.reconcile.difference import ComparedRange, KeyRange, LineageComparison, Proof, ranges_of
from silversmith.stores import batched

#: So many keys are compared before events are sent.
RECONCILE_BATCH = 500


@dataclass(frozen=True)
class ReconcileBatch:
    """The comparison of some keys of a transform.

    ``checked`` counts the keys. ``found`` is missing, stale or outdated: sent, except in a dry run; ``waiting`` is so
    too, but a message of it is on its way or in a dead-letter queue: not sent. ``orphaned`` is silver without a bronze
    object, ``foreign`` silver of another pipeline: nothing is done about either. ``given_up``: this code has failed on
    these bytes as often as it may, and no dead message of it is left: not sent. ``archived`` must be restored first;
    ``markers`` stand for folders and jobs, and are no data; ``before_since`` landed before the transform's ``since``.
    ``behind``: of so many objects the lineage does not say what they say. ``place`` as
    :class:`~silversmith.operations.send.SentBatch` has it.
    """

    transform: str
    checked: int
    found: Sequence[Finding]
    waiting: Sequence[Finding]
    orphaned: Sequence[Finding]
    foreign: Sequence[Finding] = ()
    given_up: Sequence[Finding] = ()
    archived: Sequence[Finding] = ()
    markers: Sequence[Finding] = ()
    behind: int = 0
    place: str = ""
    before_since: Sequence[Finding] = ()

    @property
    def files(self) -> Sequence[SentFile]:
        """Those of ``found``."""
        return [SentFile(self.transform, finding.key, finding.size or 0) for finding in self.found]


@dataclass(frozen=True)
class RoundPlan:
    """What a comparison of one transform takes, by what the lineage knows before it begins.

    ``files``: of which the lineage has silver; None: nobody keeps count, and every silver object is headed. ``dollars``
    at S3's list price in us-east-1. ``minutes`` are those that S3's answers and the processor take.
    """

    transform: str
    files: int | None
    lists: int = 0
    heads: int = 0
    dollars: float = 0.0
    minutes: float = 0.0


#: Dollars for one LIST. https://aws.amazon.com/s3/pricing/
LIST_PRICE = 5.00 / 1_000_000

#: Seconds of a processor for one key, and that S3 takes for one answer. bench/notes/0142-difference.md
KEY_SECONDS, ANSWER_SECONDS = 8e-6, 0.15

#: Into so many ranges of keys a transform is split where requests go over a network.
RANGES = 128


def plan(pipeline: Pipeline, target: Target, *, transform: str | None = None, prove: bool = False) -> list[RoundPlan]:
    """What a reconciliation will take, without one request for a file."""
    rows = target.rows()
    counts = {} if rows is None else rows.sizes()
    plans = []
    for each in transforms_of(pipeline, transform):
        files = None if rows is None else counts.get(each.name, 0)
        rounds = 2 if prove else 1
        lists = -(-(files or 0) // 1000) * rounds
        seconds = max(lists * ANSWER_SECONDS / target.listers, (files or 0) * KEY_SECONDS * rounds)
        plans.append(RoundPlan(each.name, files, lists, dollars=lists * LIST_PRICE, minutes=seconds / 60))
    return plans


def reconcile(
    pipeline: Pipeline,
    target: Target,
    *,
    transform: str | None = None,
    changed: bool = False,
    dead: bool = False,
    dry_run: bool = False,
    batch: int = RECONCILE_BATCH,
    sent_at_once: int = RECONCILE_BATCH,
    after: Place | None = None,
    prove: bool = False,
) -> Iterator[ReconcileBatch]:
    """Compare bronze with silver's lineage, key by key, and send the differences to their queues.

    Lazy: each batch is sent before it is returned, so a caller may stop at any time. Memory is bounded.

    Args:
        pipeline: the pipeline.
        target: where it runs.
        transform: only this one.
        changed: also silver that other code made.
        dead: also files on which the code has failed as often as it may.
        dry_run: send nothing.
        batch: so many keys are compared at a time.
        sent_at_once: so many of them are sent at a time, at most.
        after: leave out what comes up to this place.
        prove: list silver, too, and compare what the lineage says of each object with it.

    Raises:
        DefinitionError: the pipeline has no such transform.
        NotOurs: another pipeline owns a transform's silver.
        WrongCall: there is something to send, and nowhere to send it.
    """
    options: dict[str, Any] = {"changed": changed, "dead": dead, "owner": target.owner}
    for each, start in from_place(transforms_of(pipeline, transform), after):
        for part, done in _parts(each, target, batch, start, prove=prove, options=options):
            result = _sorted_out(each.name, part, str(Place(each.name, done)) if done else "", target)
            if part.behind and not dry_run:
                target.send_to_tables(part.behind, reason="reconcile")
            *first, last = list(batched(result.found, sent_at_once)) or [[]]
            for found in (*first, last):
                if found and not dry_run:
                    events = [finding.event(pipeline.bronze) for finding in found]
                    target.send(each.name, events, reason="reconcile")
                if found is not last:
                    yield ReconcileBatch(each.name, 0, found, (), ())
            yield replace(result, found=last)


def _parts(
    transform: Transform, target: Target, batch: int, after: str, *, prove: bool, options: Mapping[str, Any]
) -> Generator[tuple[ComparedRange, str]]:
    """The comparison, and after each part the key up to which all are done."""
    rows = target.rows()
    if rows is None:
        for keys in batched(look(transform, target.lake, after=after, workers=target.workers, **options), batch):
            done = next((key.after for key in reversed(keys) if key.after), "")
            yield ComparedRange(0, None, len(keys), keys), done
        return
    ranges = ranges_of(rows, transform.name, RANGES if target.listers > 1 else 1, keys=KeyRange(after))
    left: list[KeyRange | None] = [*ranges]
    difference = LineageComparison(comparison_of(transform, target.lake, **options), rows, Proof(listing=prove))
    for part in difference.parts(ranges, workers=target.listers):
        left[part.number] = part.left
        yield part, next((keys.after for keys in left if keys is not None), "")


@dataclass(frozen=True)
class TableBatch:
    """The silver keys that a table does not have as silver has them, and how many of them were sent: of the others
    there is a message already, or it was a dry run."""

    table: str
    keys: Sequence[str]
    sent: int


def reconcile_tables(
    pipeline: Pipeline, target: Target, *, transform: str | None = None, dry_run: bool = False
) -> Iterator[TableBatch]:
    """Compare silver with the tables, of which each knows what it was made of, and send the differences to their queue.

    ``transform``: only the tables of this one.

    Raises:
        WrongCall: there is something to send, and nowhere to send it.
        GoldFailed, OSError: gold or silver cannot be read.
    """
    tables = pipeline.tables.tables if transform is None else pipeline.tables.of_transform(transform)
    if not tables:
        return
    from silversmith.operations.tables import require_tables

    require_tables(pipeline)
    from silversmith.tables.compare import differing

    for table in tables:
        for keys in batched(differing(table, target.lake.silver, target.gold), RECONCILE_BATCH):
            sent = 0 if dry_run else target.send_to_tables(keys, reason="reconcile")
            yield TableBatch(table.name, keys, sent)


def _sorted_out(transform: str, part: ComparedRange, place: str, target: Target) -> ReconcileBatch:
    compared: Sequence[Looked] = part.looked
    findings = [item.finding for item in compared if item.finding is not None]
    wrong = {finding.key: finding for finding in findings if finding.is_to_be_sent}
    given_up = {item.given_up.key: item.given_up for item in compared if item.given_up is not None}
    etags = {key: finding.etag for key, finding in (wrong | given_up).items()}
    waiting = target.waiting(transform, etags) if etags else set()
    return ReconcileBatch(
        transform,
        part.checked,
        found=[finding for key, finding in wrong.items() if key not in waiting],
        waiting=[finding for key, finding in (wrong | given_up).items() if key in waiting],
        orphaned=[finding for finding in findings if finding.kind is Decision.ORPHANED],
        foreign=[finding for finding in findings if finding.kind is Decision.FOREIGN],
        given_up=[finding for key, finding in given_up.items() if key not in waiting],
        archived=[finding for finding in findings if finding.kind is Decision.ARCHIVED],
        markers=[finding for finding in findings if finding.kind is Decision.MARKER],
        behind=len(part.behind),
        place=place,
        before_since=[finding for finding in findings if finding.kind is Decision.BEFORE_SINCE],
    )
