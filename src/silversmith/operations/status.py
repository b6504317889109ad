"""Where everything is: what waits, what is worked on, what came of it, for each transform."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from silversmith.operations.target import Depth, Target, TransformQueues
from silversmith.pipeline import Pipeline, Transform
from silversmith.schemas.recorded import others


@dataclass(frozen=True)
class TransformStatus:
    """One transform. The first block is how things are now, the second what happened since the journal was made: None
    where nobody counts, as on AWS.

    ``waiting``, ``in_flight`` and ``dead`` count messages (``in_flight``: hidden because they are worked on, or until
    their next try), ``dead_letters`` those of each of its dead-letter queues, ``oldest_seconds`` is the
    age of the oldest, ``quarantined`` counts files. ``done``, ``duplicates``
    and ``gone`` count files, ``rows`` and ``rejected`` rows, ``retried`` failed tries. ``owner`` is who has its silver,
    where that is another pipeline; else empty.
    """

    name: str
    pattern: str
    waiting: int
    in_flight: int
    oldest_seconds: float | None
    dead: int
    quarantined: int

    done: int | None
    duplicates: int | None
    gone: int | None
    rows: int | None
    rejected: int | None
    retried: int | None

    dead_letters: Mapping[str, int] = field(default_factory=dict)
    owner: str = ""


@dataclass(frozen=True)
class ChainStatus:
    """What passed through bucket, rules and topic since the journal was made; ``on_the_way`` and ``dead`` are of now.
    What nobody counts is None, as on AWS.

    ``created``: versions that landed in bronze. ``unmatched``: events that no rule wanted. ``dropped``: messages that
    were refused and had no dead-letter queue to go to. ``dead``: messages in the rules' dead-letter queues.
    """

    created: int | None
    events: int | None
    unmatched: int | None
    published: int | None
    dropped: int | None
    on_the_way: int | None
    dead: int


@dataclass(frozen=True)
class Status:
    """The whole pipeline. ``lake`` is the folder, or the stack. ``ran`` is False where there is no history."""

    pipeline: str
    lake: str
    ran: bool
    running: bool
    buckets: Mapping[str, str]
    chain: ChainStatus
    transforms: Sequence[TransformStatus]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def status(pipeline: Pipeline, target: Target, *, now: float) -> Status:
    """Look at everything once. ``now`` in Unix seconds."""
    totals = target.totals()
    queues = {found.transform: found for found in target.queues()}
    return Status(
        pipeline=pipeline.name,
        lake=target.place,
        ran=target.remembers,
        running=target.running(),
        buckets={"bronze": pipeline.bronze, "silver": pipeline.silver, "quarantine": pipeline.quarantine},
        chain=_chain(target, totals),
        transforms=[
            _transform(transform, queues[transform.name], target, totals, now) for transform in pipeline.transforms
        ],
    )


def _chain(target: Target, totals: Mapping[str, int] | None) -> ChainStatus:
    return ChainStatus(
        created=_total(totals, "bucket.created"),
        events=_total(totals, "bus.events"),
        unmatched=_total(totals, "bus.unmatched"),
        published=_total(totals, "topic.published"),
        dropped=_total(totals, "dropped"),
        on_the_way=target.on_the_way(),
        dead=sum(map(_held, target.rules_dead())),
    )


def _transform(
    transform: Transform, queues: TransformQueues, target: Target, totals: Mapping[str, int] | None, now: float
) -> TransformStatus:
    def total(what: str) -> int | None:
        return _total(totals, f"transform.{transform.name}.{what}")

    oldest = queues.queue.oldest
    return TransformStatus(
        name=transform.name,
        pattern=transform.pattern.text,
        waiting=queues.queue.waiting,
        in_flight=queues.queue.in_flight,
        oldest_seconds=None if oldest is None else max(0.0, round(now - oldest, 3)),
        dead=queues.dead,
        quarantined=target.quarantined(transform.name),
        owner=next(iter(others(target.lake.silver, None, transform.name, target.owner)), ""),
        dead_letters={depth.name: _held(depth) for depth in queues.dead_letters},
        done=total("committed"),
        duplicates=total("duplicate"),
        gone=total("gone"),
        rows=total("rows"),
        rejected=total("rejected"),
        retried=total("failed"),
    )


def _total(totals: Mapping[str, int] | None, name: str) -> int | None:
    return None if totals is None else totals.get(name, 0)


def _held(depth: Depth) -> int:
    return depth.waiting + depth.in_flight
