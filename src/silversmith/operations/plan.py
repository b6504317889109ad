"""The plan of sending many files again: how many, how large, how long and how dear, before the first is sent.

No request is for a single file: the lineage knows, or a listing, or the depth of a queue. So it may say "at most".
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import polars as pl

from silversmith.errors import SilversmithError
from silversmith.keypatterns import KeyPattern
from silversmith.operations.estimate import Burst, Functions, assumed, costs, estimate
from silversmith.operations.failures import ERROR, MOST_LISTED, QuarantineKeys, failed_rows, matches, rows_or_none
from silversmith.operations.pace import Place, from_place
from silversmith.operations.send import QUARANTINE, FailureSelection, Range, matching, transforms_of
from silversmith.operations.target import Target
from silversmith.pipeline import Pipeline, Transform
from silversmith.pipeline.deployment import Deployment
from silversmith.pipeline.lookups import current_digest
from silversmith.reconcile.rows import LineageRows
from silversmith.tables.spec import FILE
from silversmith.template.transform import concurrency

#: Files a second that one command sends to SQS where no rate is given: bench/notes/0175-plans.md
SENT_PER_SECOND = 1_000.0


class Certainty(StrEnum):
    """How far a number of files can be trusted."""

    EXACT = ""
    ABOUT = "about"
    AT_MOST = "at most"
    AT_LEAST = "at least"


class FileCount(NamedTuple):
    """So many files, and their bytes."""

    files: int = 0
    size: int = 0

    def plus(self, files: int, size: int) -> FileCount:
        return FileCount(self.files + files, self.size + size)


@dataclass(frozen=True)
class TransformPlan:
    """What it takes to send so many files to a transform. ``transform`` empty: to all that match.

    ``size`` in bytes, 0: nobody knows. ``minutes`` until all are in silver, by the model of ``silversmith estimate``
    with ``at_once`` invocations, or on this machine processes, side by side. ``dollars`` at AWS's list prices.
    """

    transform: str
    files: int
    size: int
    minutes: float
    dollars: float
    at_once: int


@dataclass(frozen=True)
class SendPlan:
    """What it takes to send files. The transforms work side by side."""

    certainty: Certainty
    transforms: tuple[TransformPlan, ...]

    @property
    def files(self) -> int:
        return sum(each.files for each in self.transforms)

    @property
    def size(self) -> int:
        return sum(each.size for each in self.transforms)

    @property
    def minutes(self) -> float:
        return max((each.minutes for each in self.transforms), default=0.0)

    @property
    def dollars(self) -> float:
        return sum(each.dollars for each in self.transforms)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "certainty": self.certainty.value or "exact",
            **{name: getattr(self, name) for name in ("files", "size", "minutes", "dollars")},
            "transforms": [asdict(each) for each in self.transforms],
        }


#: By transform, the number of files and of their bytes.
Counts = Mapping[str, tuple[int, int]]


def plan_of(
    counts: Counts,
    certainty: Certainty,
    pipeline: Pipeline,
    target: Target,
    *,
    rate: float | None,
    deployed: bool,
    workers: int | None = None,
) -> SendPlan:
    """The plan of sending so many files to each transform.

    Args:
        counts: by transform.
        certainty: of the counts.
        pipeline: the pipeline.
        target: its measurements of a file's time count, where it has some.
        rate: files a second, or None.
        deployed: it runs on AWS.
        workers: the processes that work on this machine; None: one for each CPU.
    """
    by_name = {transform.name: transform for transform in pipeline.transforms}
    plans = []
    for name, number in ((name, FileCount(*pair)) for name, pair in counts.items()):
        transform = by_name.get(name)
        if transform is None or not number.files:  # a rule's message goes to whichever transforms match
            plans.append(TransformPlan(name, number.files, number.size, 0.0, 0.0, 0))
            continue
        size = max(1, number.size // number.files)
        time = None
        with suppress(SilversmithError):  # who may not read the metrics gets the assumption
            time = target.file_time(name)
        time = time or assumed(size)
        if deployed:
            functions = _functions(transform, pipeline)
            burst = Burst(number.files, size, rate or SENT_PER_SECOND)
            result = estimate(burst, functions, time)
            paid = costs(burst, functions, result.file_seconds)
            dollars = sum(sum_ for service, sum_ in paid.items() if service not in {"EventBridge", "SNS"})
            minutes, at_once = result.silver / 60, result.invocations_at_once
        else:
            at_once = workers or os.cpu_count() or 1
            seconds = time.seconds * (max(1.0, size / time.size) if time.size else 1.0)
            sending = number.files / rate if rate is not None else 0.0
            minutes, dollars = max(sending, number.files * seconds / at_once) / 60, 0.0
        plans.append(TransformPlan(name, number.files, number.size, minutes, dollars, at_once))
    return SendPlan(certainty, tuple(plans))


def _functions(transform: Transform, pipeline: Pipeline) -> Functions:
    options = Deployment()
    memory = options.tables_memory if pipeline.tables else None
    return Functions(transform.memory, transform.batch_size, concurrency(transform, options), memory)


# -- how many


def count_replay(
    pipeline: Pipeline,
    target: Target,
    objects: Range,
    *,
    transform: str | None = None,
    changed: bool = False,
    after: Place | None = None,
) -> tuple[Counts, Certainty]:
    """The files that a replay sends: one listing of bronze, or with ``changed`` the rows of the lineage.

    Those do not say when a file landed.
    """
    chosen = transforms_of(pipeline, transform)
    has_since = not objects.is_key and any(each.since for each in chosen)
    is_timed = has_since or objects.since is not None or objects.until is not None
    rows = rows_or_none(target) if changed else None
    counts: dict[str, FileCount] = {}
    for each, start in from_place(chosen, after):
        if rows is not None:
            counts[each.name] = _changed(rows, each, target, objects.pattern, start)
            continue
        number = FileCount()
        for head in matching(target.lake.bronze, each, objects, start):
            if not each.pattern.passes_over(head.key, head.size) and not objects.leaves(each, head):
                number = number.plus(1, head.size)
        counts[each.name] = number
    if not changed:
        return counts, Certainty.EXACT
    return counts, Certainty.ABOUT if rows is not None and not is_timed else Certainty.AT_MOST


def count_changed(
    pipeline: Pipeline, target: Target, *, transform: str | None = None, after: Place | None = None
) -> tuple[Counts, Certainty]:
    """The files that ``reconcile --changed`` sends, but for those that are missing."""
    every = Range(KeyPattern.parse("*"))
    return count_replay(pipeline, target, every, transform=transform, changed=True, after=after)


def count_redrive(
    pipeline: Pipeline, target: Target, selection: FailureSelection, *, after: Place | None = None
) -> tuple[Counts, Certainty]:
    """The failures that a redrive sends: by the lineage, or a listing of quarantine; and by the queues' depths."""
    chosen = transforms_of(pipeline, selection.transform)
    counts = dict.fromkeys((each.name for each in chosen), FileCount())
    bounds = (selection.error, selection.since, selection.until, selection.pattern, after)
    is_narrow = any(each is not None for each in bounds)
    certainty = Certainty.AT_MOST if is_narrow else Certainty.ABOUT
    if selection.where in {None, QUARANTINE}:
        rows = rows_or_none(target)
        if rows is not None:
            counts |= _quarantined(rows, selection)
        else:
            keys = QuarantineKeys(
                target.lake.quarantine,
                selection.transform,
                selection.pattern,
                ERROR,
                most=MOST_LISTED,
                start_after=f"{after}{ERROR}" if after is not None else "",
            )
            for key in keys:
                name = key.partition("/")[0]
                counts[name] = counts.get(name, FileCount()).plus(1, 0)
            certainty = Certainty.AT_LEAST if keys.more and not is_narrow else certainty
    if selection.where != QUARANTINE:
        for queues in target.queues():
            if queues.transform in counts:
                counts[queues.transform] = counts[queues.transform].plus(queues.dead, 0)
        rules = sum(depth.total for depth in target.rules_dead())
        if rules:
            counts[""] = FileCount(rules)
    return {name: number for name, number in counts.items() if number.files}, certainty


def _changed(rows: LineageRows, transform: Transform, target: Target, pattern: KeyPattern, after: str) -> FileCount:
    """The files whose silver was made by other code, or with other lookups."""
    silver = rows.scan("silver", transform=transform.name)
    if silver is None:
        return FileCount()
    lookups = current_digest(target.lake.bronze, transform.lookups)
    is_other = (pl.col("fingerprint") != transform.fingerprint) | (pl.col("lookups") != lookups)
    other = silver.filter(is_other, pl.col(FILE) > after)
    return next(iter(_sums(other if pattern.text == "*" else other.filter(matches(pattern)))), ("", FileCount()))[1]


def _quarantined(rows: LineageRows, selection: FailureSelection) -> dict[str, FileCount]:
    failed = failed_rows(rows, selection.transform, selection.pattern)
    if failed is None:
        return {}
    conditions = [pl.col("state") == "quarantined"]
    if selection.error is not None:
        conditions.append(pl.col("error").str.to_lowercase() == selection.error.lower())
    seconds = pl.col("committed_at").dt.epoch("us") / 1e6
    if selection.since is not None:
        conditions.append(seconds >= selection.since)
    if selection.until is not None:
        conditions.append(seconds < selection.until)
    return dict(_sums(failed.filter(*conditions)))


def _sums(rows: pl.LazyFrame) -> Iterator[tuple[str, FileCount]]:
    sums = rows.group_by("transform").agg(pl.len(), pl.col("bronze_size").sum()).collect(engine="streaming")
    for name, files, size in sums.iter_rows():
        yield name, FileCount(files, size or 0)
