"""The Lambda entry point of the scheduled reconciliation: looks, and sends what events missed to the queues.

The schedule's input says which queue is whose: ``{"queues": {"orders": "https://sqs…"}}``, and likewise ``"dead"``, the
dead-letter queues. With ``"changed": true`` in it, what other code made is found, too; ``"settled_seconds"`` is how
long an object is left to its own event; ``"round"`` names the round, so that one which is invoked twice is done once;
``"since"`` has the times of transforms that take files from their first deploy on.
``"follow": true`` has it follow a round that is going on. ``"hops"`` are checked when the round begins. Where the
lineage is a table, ``"tables"`` is their queue, ``"buckets"`` the names of silver and quarantine, and ``"prove": true``
proves the table against silver's listing, which a round does by itself when that was a week ago.

When the time runs out, the function invokes itself with the same input, for the next step of the round. Where the round
is, and whose turn, is in its lease (``lease.py``): an invocation that is lost costs one round, no more, and one that
comes twice does nothing.

Where the lineage has many rows, the first invocation splits the round into branches: each has its share of the ranges
of keys, a lease of its own, and its own chain of invocations, whose events say ``"branch": number``. The branch that is
through last sums up. docs/reconcile.md
"""

from __future__ import annotations

import json
import logging
import math
import os
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from silversmith.errors import NotOurs, SilversmithError
from silversmith.events import ObjectEvent, object_created
from silversmith.function.retries import parse
from silversmith.lineage import SILVER_ENDING, Decision, error_key
from silversmith.pipeline import Pipeline, Transform, load, with_moments
from silversmith.reconcile.compare import Finding, Looked, comparison_of, look
from silversmith.reconcile.difference import ComparedRange, KeyRange, LineageComparison, Proof, ranges_of
from silversmith.reconcile.inventory import MARGIN, Inventories, InventoryReader
from silversmith.reconcile.lease import Keeper, Lease, NotNext, Phase, branch_key, lease_key
from silversmith.reconcile.progress import Cursor, RoundProgress, Window, mark_of, together
from silversmith.reconcile.rows import LineageRows, LineageSource, LineageUnreadable, existing
from silversmith.runtime.queue import BUSY, SENT_AT_ONCE, InvocationContext, Queue, SqsQueue
from silversmith.runtime.telemetry import document, printed, request, set_up
from silversmith.schemas import Owner
from silversmith.stores import Lake, batched

if TYPE_CHECKING:
    from silversmith.reconcile.hops import Client, Problem

#: What landed less than so many seconds ago is left to its own event, unless the schedule's input says otherwise.
SETTLED_SECONDS = 3_600

#: Only what is older than this counts as missing, whatever the schedule's input says.
MISSING_AFTER = timedelta(hours=1)

#: So many milliseconds before its end the function hands on what is left.
RESERVE = 30_000

#: How many objects are headed at once, and how many keys looked at before what was found is sent.
WORKERS = 16
BATCH = 500

#: Into so many ranges of keys a transform with a lineage is split, and so many of them are compared at once.
RANGES, LISTERS = 128, 32

#: A round of more rows than this is split: into a branch for so many, up to so many branches.
BRANCH_ROWS, BRANCHES = 5_000_000, 8

#: One silver object of so many is headed in each round to prove the lineage; after so long a round lists silver, too.
PROVEN_SHARE, PROVEN_AFTER = 10_000, timedelta(days=7)

#: What a queue's metric says of its oldest message may be so much behind.
METRIC_DELAY = timedelta(minutes=15)

#: What the scheduler's keywords begin with: what still has one was not put in by the scheduler, and names no round.
#: https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-context-attributes.html
KEYWORD = "<aws.scheduler."


_log = logging.getLogger(__name__)


class NoProgress(SilversmithError):
    """An invocation ended where it began; another one would, too, and for ever."""


class Reconciler:
    """Does a round, or as much of it as there is time for.

    Args:
        pipeline: whose transforms.
        bucket: the bronze bucket's name.
        lake: the buckets.
        lease: the key of the lease, in quarantine.
        queue: opens a queue by its URL.
        owner: whose silver it should be; None: nobody minds.
        again: invokes this function once more, asynchronously, with an event.
        check: what is wrong with the hops that an event names.
        measure: told the values of metrics by their names.
        now: the time of day, in UTC.
        log: told what was done, as JSON values.
        batch: how many keys are looked at before what was found is sent.
        rows: reads the lineage; None: there is none, and every silver object is headed.
        oldest: how many seconds ago the oldest message of a queue, by its URL, was sent; None: nobody knows.
        inventories: of bronze, read in the place of its listing where there is a lineage; None: there are none.
        listers: how many ranges of keys are compared at once.
        branch_rows: a round is split into a branch for so many rows of the lineage.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        bucket: str,
        lake: Lake,
        lease: str,
        queue: Callable[[str], Queue],
        again: Callable[[dict[str, Any]], None],
        owner: Owner | None = None,
        check: Callable[[Sequence[Mapping[str, Any]]], Sequence[Problem]] = lambda _: (),
        measure: Callable[[Mapping[str, int]], None] = lambda _: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        log: Callable[[dict[str, Any]], None] = lambda _: None,
        batch: int = BATCH,
        rows: Callable[[], LineageSource | None] = lambda: None,
        oldest: Callable[[str], float | None] = lambda _: None,
        inventories: Inventories | None = None,
        listers: int = LISTERS,
        branch_rows: int = BRANCH_ROWS,
    ) -> None:
        self._pipeline = pipeline
        self._bucket = bucket
        self._lake = lake
        self._lease = lease
        self._queue = queue
        self._again = again
        self._owner = owner
        self._check = check
        self._measure = measure
        self._now = now
        self._log = log
        self._batch = batch
        self._rows = rows
        self._oldest = oldest
        self._inventories = inventories
        self._listers = listers
        self._branch_rows = branch_rows

    def __call__(self, event: Mapping[str, Any], context: InvocationContext) -> dict[str, Any]:
        """Do the step that the event names. Returns ``{"done": …}``, False if another invocation does the rest, or
        ``{"refused": why}`` where it is not this one's turn.

        Raises:
            NotSent: see there.
            NoProgress: not one key could be looked at in the time of an invocation.
        """
        self._pipeline = with_moments(self._pipeline, event.get("since", {}))
        round_id, number, branch = _round(event, context), _number(event, "step") or 0, _number(event, "branch")
        main = self._keeper(self._lease)
        keeper = main if branch is None else self._keeper(branch_key(self._lease, branch))
        try:
            if branch is None:
                lease = main.begin(round_id, number, _wish(event, round_id))
                step = _Step(main, lease, event, context, lease.memory, self._rows, self._reader(context))
            else:
                memory = main.renew(round_id).memory
                lease, reader = keeper.resume(round_id, number), self._reader(context)
                step = _Step(keeper, lease, event, context, memory, self._rows, reader, branch)
        except NotNext as refused:
            self._log({"refused": str(refused), "round": round_id, "step": number, **_of_branch(branch)})
            self._go_on(round_id, event, branch)
            return {"refused": str(refused)}
        return self._guarded(step, lambda: self._do(step))

    def _reader(self, context: InvocationContext | None) -> InventoryReader:
        remaining = context.get_remaining_time_in_millis if context is not None else lambda: math.inf
        return InventoryReader(self._inventories, now=self._now, log=self._log, remaining=remaining)

    def _guarded(self, step: _Step, do: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """An error gives the step back. Where the round is split already, or the branch is through, there is none: when
        Lambda tries this invocation again, it does what is next in the round."""
        number = step.lease.step
        try:
            return do()
        except Exception:
            is_over = step.lease.phase is Phase.SPLIT or (step.branch is not None and step.lease.phase is Phase.DONE)
            if not is_over:
                with suppress(Exception):  # the first error must be told
                    step.keeper.fail(step.lease, number)
            raise

    def _keeper(self, key: str) -> Keeper:
        return Keeper(self._lake.quarantine, key, owner=uuid.uuid4().hex, now=self._now)

    def _do(self, step: _Step) -> dict[str, Any]:
        before = RoundProgress.of(step.lease.progress, self._now())
        if before.cursors is None:
            replaced = step.keeper.replaced
            self._measure({"Unfinished": int(replaced is not None and replaced.phase is not Phase.DONE)})
            self._check_hops(step.event)
            shares = self._shares(before, step)
            if shares:
                return self._split(step, before, shares)
        step.cursors = before.cursors or ()
        with step.inventories:
            after = self._transforms(before, step)
        if not after.cursors:
            return self._finish(step, after) if step.branch is None else self._finish_branch(step, after)
        if before.place == after.place:
            left = after.cursors[0]
            raise NoProgress(f"the transform {left.transform} is still at {left.after!r}: give the function more time")
        step.lease = step.keeper.hand_on(step.lease, after.to_dict())
        self._again({**step.event, "round": step.lease.round, "step": step.lease.step})
        return {"done": False}

    def _finish(self, step: _Step, progress: RoundProgress) -> dict[str, Any]:
        """The number of missing files is measured before the round is done: a crash between has it measured twice,
        never not at all."""
        self._measure({"Missing": progress.missing})
        names = {transform.name for transform in self._pipeline.transforms}
        marks = {**step.lease.memory, **progress.marks}
        step.lease = step.keeper.finish(step.lease, {name: mark for name, mark in marks.items() if name in names})
        if step.lease.wish:
            event = {name: value for name, value in step.event.items() if name != "branch"}
            self._again({**event, **step.lease.wish, "step": 0})
        return {"done": True}

    # -- branches

    def _shares(self, progress: RoundProgress, step: _Step) -> list[list[Cursor]]:
        """The work of each branch; empty: the lineage is not so large, and the round is not split. Ranges are dealt
        like cards: files of one time lie together, and differ together."""
        rows = step.rows
        names = [transform.name for transform in self._pipeline.transforms if transform.name in step.event["queues"]]
        total = sum(rows.sizes().get(name, 0) for name in names) if rows is not None else 0
        branches = min(BRANCHES, -(-total // self._branch_rows))
        if rows is None or branches < 2:
            return []
        shares: list[list[Cursor]] = [[] for _ in range(branches)]
        turn = 0
        for name in names:
            cursor = self._begun(self._pipeline.find(name), Cursor(name), progress, step)
            if cursor is None:
                continue
            for share in shares:
                share.append(replace(cursor, ranges=[]))
            for keys in ranges_of(rows, name, branches * self._listers):
                cast("list[KeyRange]", shares[turn % branches][-1].ranges).append(keys)
                turn += 1
        return [[cursor for cursor in share if cursor.ranges] for share in shares]

    def _split(self, step: _Step, progress: RoundProgress, shares: Sequence[Sequence[Cursor]]) -> dict[str, Any]:
        for branch, share in enumerate(shares):
            work = replace(progress, cursors=share).to_dict()
            self._keeper(branch_key(self._lease, branch)).prepare(step.lease.round, work)
        split = replace(progress, branches=len(shares)).to_dict()
        step.lease = step.keeper.hand_on(step.lease, split, Phase.SPLIT)
        self._go_on(step.lease.round, step.event, None)
        return {"done": False}

    def _finish_branch(self, step: _Step, progress: RoundProgress) -> dict[str, Any]:
        step.lease = step.keeper.finish(step.lease, progress.to_dict())
        return {"done": self._go_on(step.lease.round, step.event, step.branch)}

    def _go_on(self, round_id: str, event: Mapping[str, Any], branch: int | None) -> bool:
        """Do what is next in a round that is split: have the branches begin that wait, if this is no branch itself; sum
        up where all are through. Whether the round is done by that. May be called at any time, and again."""
        main = self._keeper(self._lease)
        lease = main.read()
        progress = RoundProgress.of(lease.progress, self._now()) if lease is not None else None
        if lease is None or progress is None or lease.round != round_id or not progress.branches:
            return False
        leases = [self._keeper(branch_key(self._lease, number)).read() for number in range(progress.branches)]
        if branch is None:
            for number, each in enumerate(leases):
                if each is not None and each.round == round_id and each.phase in {Phase.WAITING, Phase.FAILED}:
                    self._again({**event, "round": round_id, "branch": number, "step": each.step})
        reports = [
            RoundProgress.of(each.memory, self._now())
            for each in leases
            if each is not None and each.round == round_id and each.phase is Phase.DONE
        ]
        if len(reports) < progress.branches:
            return False
        with suppress(NotNext):  # another branch was through at the same time, and does it
            lease = main.resume(round_id, lease.step)
            step = _Step(main, lease, event, None, lease.memory, self._rows, self._reader(None))
            self._guarded(step, lambda: self._sum_up(step, RoundProgress(progress.begun), reports))
            return True
        return False

    def _sum_up(self, step: _Step, progress: RoundProgress, reports: Sequence[RoundProgress]) -> dict[str, Any]:
        skipped = {name for report in reports for name in report.skipped}
        for transform in self._pipeline.transforms:
            shares = [each for report in reports for each in report.finished if each.transform == transform.name]
            if shares and transform.name not in skipped:
                progress = self._ended(transform, together(shares), progress, step)
        return self._finish(step, progress)

    # -- transforms

    def _check_hops(self, event: Mapping[str, Any]) -> None:
        hops = event.get("hops")
        if not isinstance(hops, list):
            return
        problems = self._check(hops)
        for problem in problems:
            self._log({"hop": problem.to_dict()})
        self._measure({"ChainBroken": sum(problem.is_known for problem in problems)})

    def _transforms(self, progress: RoundProgress, step: _Step) -> RoundProgress:
        """The progress of the round when the time is up; without cursors: through."""
        transforms = {transform.name: transform for transform in self._pipeline.transforms}
        left = [*progress.cursors] if progress.cursors is not None else [Cursor(name) for name in transforms]
        while left:
            transform = transforms.get(left[0].transform)
            progress, rest = (
                self._transform(transform, left[0], progress, step) if transform is not None else (progress, None)
            )
            if rest is not None:
                return replace(progress, cursors=[rest, *left[1:]])
            del left[0]
        return replace(progress, cursors=[])

    def _begun(self, transform: Transform, cursor: Cursor, progress: RoundProgress, step: _Step) -> Cursor | None:
        """The cursor of a transform whose turn comes; None: it is left to the next round."""
        url = step.event["queues"].get(transform.name)
        if url is None:
            return None  # it was declared after the stack was deployed
        if cursor.settled is not None:
            return cursor  # what waits now may be the messages that this very round has sent
        waiting = self._queue(url).waiting()
        settled = self._settled(url, waiting, step.event)
        if settled is None:
            self._log({"transform": transform.name, "after": cursor.after, "skipped": True, "waiting": waiting})
            return None
        is_due = self._is_proof_due(transform, progress, step)
        # where silver goes with its files, one that is younger than an inventory would be taken for gone
        is_listed = transform.removes or step.rows is None
        inventory = step.inventories.newest() if not is_listed else None
        if inventory is not None:  # what is younger is left to its event
            settled = max(settled, (progress.begun - inventory.taken + MARGIN).total_seconds())
        manifest = inventory.manifest if inventory is not None else ""
        return replace(cursor, waiting=waiting, settled=settled, prove=is_due, inventory=manifest)

    def _transform(
        self, transform: Transform, cursor: Cursor, progress: RoundProgress, step: _Step
    ) -> tuple[RoundProgress, Cursor | None]:
        """Compare one transform from a cursor on. With a cursor: there the time ran out."""
        line = {"transform": transform.name, "after": cursor.after, **_of_branch(step.branch)}
        begun = self._begun(transform, cursor, progress, step)
        if begun is None:
            return replace(progress, skipped=[*progress.skipped, transform.name]), None
        cursor = begun
        queue = self._queue(step.event["queues"][transform.name])
        window = self._window(transform, cursor, progress, step)
        try:
            left, parts = self._compared(transform, cursor, progress, step)
        except NotOurs as error:  # nothing that is sent would be done
            self._log({**line, "skipped": True, "error": str(error)})
            return replace(progress, skipped=[*progress.skipped, transform.name]), None
        counts = Counter(dict.fromkeys(_ALWAYS, 0) | dict(cursor.counts))
        with closing(parts):
            for part in parts:
                findings = [look.finding for look in part.looked if look.finding is not None]
                wrong = [finding for finding in findings if finding.is_to_be_sent]
                for messages in batched(wrong, SENT_AT_ONCE):
                    queue.send([_body(finding.event(self._bucket)) for finding in messages])
                self._tell_tables(part.behind, step.event)
                counts.update(checked=part.checked, sent=len(wrong), behind=len(part.behind), proven=part.proven)
                counts.update(finding.kind.value for finding in findings if not finding.is_to_be_sent)
                missed = sum(self._is_missed(finding, window) for finding in wrong)
                cursor = replace(cursor, missed=cursor.missed + missed, counts=dict(counts))
                if left is None:
                    cursor = replace(cursor, after=part.left.after or cursor.after) if part.left is not None else cursor
                else:
                    left[part.number] = part.left
                is_over = part.left is None and not any(left or ())
                if not is_over and step.is_late:
                    ranges = [keys for keys in left if keys is not None] if left is not None else None
                    self._log({**line, **counts, "stopped": cursor.after or f"{len(ranges or ())} ranges left"})
                    return progress, replace(cursor, ranges=ranges)
        cursor = replace(cursor, ranges=None)
        if step.branch is not None:
            self._log({**line, **_told(counts)})
            return replace(progress, finished=[*progress.finished, cursor]), None
        return self._ended(transform, cursor, progress, step), None

    def _ended(self, transform: Transform, cursor: Cursor, progress: RoundProgress, step: _Step) -> RoundProgress:
        """All of a transform was compared."""
        missing = self._missing(cursor, step.event)
        self._log({"transform": transform.name, "after": cursor.after, **_told(cursor.counts), "missing": missing})
        proven = progress.begun.isoformat() if cursor.prove else mark_of(transform, step.memory).get("proven", "")
        mark = self._window(transform, cursor, progress, step).mark(transform)
        mark |= {"proven": proven} if proven else {}
        return replace(progress, missing=progress.missing + missing, marks={**progress.marks, transform.name: mark})

    def _window(self, transform: Transform, cursor: Cursor, progress: RoundProgress, step: _Step) -> Window:
        end = progress.begun - max(timedelta(seconds=cursor.settled or 0), MISSING_AFTER)
        return Window.of(transform, step.memory, end)

    def _settled(self, url: str, waiting: int, event: Mapping[str, Any]) -> float | None:
        """For how many seconds objects are left to their own events. Where many messages wait, files that are younger
        than the oldest of them are left to these; if nobody knows its age, the transform is left out: None."""
        settled = float(event.get("settled_seconds", SETTLED_SECONDS))
        if waiting <= BUSY:
            return settled
        oldest = self._oldest(url)
        return None if oldest is None else max(settled, oldest + METRIC_DELAY.total_seconds())

    def _is_proof_due(self, transform: Transform, progress: RoundProgress, step: _Step) -> bool:
        proven = mark_of(transform, step.memory).get("proven")
        if step.event.get("prove") is True or not isinstance(proven, str):
            return True
        return progress.begun - datetime.fromisoformat(proven) >= PROVEN_AFTER

    def _compared(
        self, transform: Transform, cursor: Cursor, progress: RoundProgress, step: _Step
    ) -> tuple[list[KeyRange | None] | None, Generator[ComparedRange]]:
        """The ranges that are left, None without a lineage, and the comparison of what is left."""
        options: dict[str, Any] = {
            "changed": step.event.get("changed") is True,
            "settled": progress.begun - timedelta(seconds=cursor.settled or 0),
            "owner": self._owner,
        }
        rows = step.rows
        if rows is None:
            looked = look(transform, self._lake, after=cursor.after, workers=WORKERS, **options)
            return None, _in_parts(looked, self._batch)
        comparison = comparison_of(transform, self._lake, **options)
        proof = Proof(cursor.prove, PROVEN_SHARE, progress.begun.toordinal())
        ranges = [KeyRange(*keys) for keys in cursor.ranges or ()] or ranges_of(rows, transform.name, RANGES)
        listing = step.inventories.listing(cursor.inventory, step.reach(), rows) if cursor.inventory else None
        difference = LineageComparison(comparison, rows, proof, inventory=listing)
        return [*ranges], difference.parts(ranges, workers=self._listers)

    def _tell_tables(self, keys: Sequence[str], event: Mapping[str, Any]) -> None:
        """Have the lineage look again at objects of silver and quarantine, by their keys."""
        url = event.get("tables")
        if url is None or not keys:
            return
        buckets = event.get("buckets", {})
        names = (buckets.get("silver" if key.endswith(SILVER_ENDING) else "quarantine", "") for key in keys)
        bodies = [_body(ObjectEvent(name, key)) for name, key in zip(names, keys, strict=True)]
        queue = self._queue(url)
        for some in batched(bodies, SENT_AT_ONCE):
            queue.send(some)

    def _is_missed(self, finding: Finding, window: Window) -> bool:
        """An error document of these bytes by other code, or with other lookups, says that their event came."""
        if finding.kind is Decision.OUTDATED or not window.has(finding.modified):
            return False
        document = parse(self._lake.quarantine.read(error_key(finding.transform, finding.key)) or b"")
        return document is None or document["bronze"]["etag"] != finding.etag

    def _missing(self, cursor: Cursor, event: Mapping[str, Any]) -> int:
        """How many events of a transform were lost, at least: each message that waited, or lies in its dead-letter
        queue, may be of one of the files that were found."""
        missed = cursor.missed - cursor.waiting
        url = event.get("dead", {}).get(cursor.transform)
        if missed > 0 and url is not None:
            missed -= self._queue(url).waiting()
        return max(0, missed)


@dataclass
class _Step:
    """An invocation that has the lease of the round, or of a branch of it; the lease as it is now; what the rounds
    before have left; and the ``cursors`` that it began with."""

    keeper: Keeper
    lease: Lease
    event: Mapping[str, Any]
    context: InvocationContext | None
    memory: Mapping[str, Any]
    read_rows: Callable[[], LineageSource | None]
    inventories: InventoryReader
    branch: int | None = None
    cursors: Sequence[Cursor] = ()

    def reach(self) -> list[KeyRange]:
        """The keys that may be compared in this invocation."""
        return [KeyRange(*keys) for each in self.cursors for keys in each.ranges or [KeyRange()]] or [KeyRange()]

    @cached_property
    def rows(self) -> LineageSource | None:
        """The lineage as it was when it was first needed."""
        return self.read_rows()

    @property
    def is_late(self) -> bool:
        """Whether the time has come to hand on what is left."""
        return self.context is not None and self.context.get_remaining_time_in_millis() < RESERVE


def _round(event: Mapping[str, Any], context: InvocationContext) -> str:
    """The id of the round: as the event says, or one of its own. Lambda gives a retried invocation the id that it
    had."""
    named = event.get("round")
    if isinstance(named, str) and named and KEYWORD not in named:
        return named
    return str(getattr(context, "aws_request_id", "")) or uuid.uuid4().hex


def _number(event: Mapping[str, Any], name: str) -> int | None:
    number = event.get(name)
    return number if isinstance(number, int) and number >= 0 else None


def _of_branch(branch: int | None) -> dict[str, int]:
    return {} if branch is None else {"branch": branch}


def _wish(event: Mapping[str, Any], round_id: str) -> dict[str, Any]:
    """The wish in the lease of a running round: this one shall follow it. Empty if it need not."""
    if event.get("follow") is not True:
        return {}
    settled = {name: event[name] for name in ("settled_seconds",) if name in event}
    more = {name: True for name in ("changed", "prove") if event.get(name) is True}
    return {"round": round_id, "follow": True, **settled, **more}


#: The counts that are logged though they are 0.
_ALWAYS = ("checked", "sent", "orphaned")


def _told(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: number for name, number in counts.items() if number or name in _ALWAYS}


def _in_parts(looked: Iterator[Looked], batch: int) -> Generator[ComparedRange]:
    """A comparison that heads every object, as parts of one range."""
    for keys in batched(looked, batch):
        after = next((key.after for key in reversed(keys) if key.after), "")
        yield ComparedRange(0, KeyRange(after) if len(keys) == batch else None, len(keys), keys)


def _body(event: ObjectEvent) -> str:
    return object_created(event, reason="reconcile").decode()


def handler(event: Mapping[str, Any], context: InvocationContext) -> dict[str, Any]:
    """Lambda's entry point. Configured by the environment that the template sets: ``SILVERSMITH_PIPELINE``,
    ``SILVERSMITH_BRONZE``, ``SILVERSMITH_SILVER``, ``SILVERSMITH_QUARANTINE``."""
    with request(context):
        return _from_environment()(event, context)


@cache
def _from_environment() -> Reconciler:
    """Built once per execution environment."""
    from silversmith.stores.s3 import aws_client

    set_up()
    # Its timeout is Lambda's longest: one request with all its retries takes less.
    return build(os.environ, s3=aws_client("s3"), sqs=aws_client("sqs"), functions=aws_client("lambda"))


def build(
    environment: Mapping[str, str], *, s3: Any, sqs: Any, functions: Any, client: Client | None = None
) -> Reconciler:
    """The reconciler that an environment describes.

    Args:
        environment: as :func:`handler` has it.
        s3: a boto3 client, as are the next two.
        sqs: likewise.
        functions: of Lambda.
        client: makes the clients that hops are checked with, by default with short timeouts: in a VPC a service may be
            out of reach.

    Raises:
        DefinitionError: ``SILVERSMITH_PIPELINE`` is none.
    """
    from silversmith.reconcile.hops import Hops, check
    from silversmith.stores.s3 import S3Store

    function, bronze = environment["AWS_LAMBDA_FUNCTION_NAME"], environment["SILVERSMITH_BRONZE"]
    metrics = environment.get("SILVERSMITH_METRICS", "on").lower() != "off"

    def bucket(name: str) -> S3Store:
        return S3Store(environment[f"SILVERSMITH_{name}"], client=s3, scratch=Path(tempfile.gettempdir()))

    def again(event: dict[str, Any]) -> None:
        functions.invoke(FunctionName=function, InvocationType="Event", Payload=json.dumps(event))

    lineage: dict[str, Any] = {}
    if environment.get("SILVERSMITH_INVENTORY"):
        name, _, folder = environment["SILVERSMITH_INVENTORY"].partition("/")
        store = S3Store(name, client=s3, scratch=Path(tempfile.gettempdir()))
        lineage["inventories"] = Inventories(store, folder, bronze)
    if environment.get("SILVERSMITH_GOLD"):
        lineage["rows"] = partial(_lineage, environment, s3)
        lineage["oldest"] = lambda url: _oldest(url, (client or quick_client)("cloudwatch"), datetime.now(UTC))

    def measure(values: Mapping[str, int]) -> None:
        if metrics:
            printed(json.dumps(document(values, {"FunctionName": function}, at=datetime.now(UTC))))

    return Reconciler(
        load(environment["SILVERSMITH_PIPELINE"]),
        bucket=bronze,
        lake=Lake(bucket("BRONZE"), bucket("SILVER"), bucket("QUARANTINE")),
        lease=lease_key(function),
        queue=lambda url: SqsQueue(url, sqs),
        again=again,
        owner=Owner.of(environment),
        **lineage,
        check=lambda hops: check([Hops.of(each) for each in hops], client or quick_client),
        measure=measure,
        log=_log_line,
    )


def _lineage(environment: Mapping[str, str], s3: Any) -> LineageSource | None:
    """The lineage of now. One that cannot be read is as good as none."""
    from silversmith.stores.s3 import S3Store

    gold = environment["SILVERSMITH_GOLD"]
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    options = {"aws_endpoint_url": endpoint, "aws_allow_http": "true"} if endpoint else None
    try:
        store = S3Store(gold, client=s3, scratch=Path(tempfile.gettempdir()))
        return existing(LineageRows(store, f"s3://{gold}", options))
    except LineageUnreadable:
        _log.exception("the lineage cannot be read: every silver object is asked")
        return None


def _oldest(url: str, cloudwatch: Any, now: datetime) -> float | None:
    """The age of a queue's oldest message, in seconds, the longest of the last minutes.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
    """
    try:
        answer = cloudwatch.get_metric_statistics(
            Namespace="AWS/SQS",
            MetricName="ApproximateAgeOfOldestMessage",
            Dimensions=[{"Name": "QueueName", "Value": url.rpartition("/")[2]}],
            StartTime=now - METRIC_DELAY,
            EndTime=now,
            Period=60,
            Statistics=["Maximum"],
        )
    except Exception:  # noqa: BLE001 -- in a VPC it may be out of reach: then nobody knows
        return None
    return max((float(point["Maximum"]) for point in answer["Datapoints"]), default=None)


#: As many seconds a check of a hop may take as a function of that timeout would give one request: two short attempts.
_QUICK = 35.0


def quick_client(service: str) -> Any:
    """A client to check hops with, which does not wait long: in a VPC a service may be out of reach."""
    from silversmith.stores.s3 import aws_client

    return aws_client(service, time_limit=_QUICK)


def _log_line(line: dict[str, Any]) -> None:
    if "hop" in line:
        _log.log(logging.ERROR if line["hop"]["known"] else logging.WARNING, "%s", line["hop"]["found"], extra=line)
        return
    message = next((name for name in ("refused", "skipped", "inventory", "unusable") if line.get(name)), "reconciled")
    level = logging.ERROR if "error" in line else logging.WARNING if "unusable" in line else logging.INFO
    _log.log(level, message, extra=line)
