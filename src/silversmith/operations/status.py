"""Where everything is: what waits, what is worked on, what came of it, for each transform."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from silversmith.operations.target import Depth, Target, TransformQueues
from silversmith.pipeline import Pipeline, Transform


@dataclass(frozen=True)
class TransformStatus:
    """One transform. The first block is how things are now, the second what happened since the journal was made.

    ``waiting``, ``in_flight`` and ``dead`` count messages (``in_flight``: hidden because they are worked on, or until
    their next try), ``oldest_seconds`` is the age of the oldest, ``quarantined`` counts files. ``done``, ``duplicates``
    and ``gone`` count files, ``rows`` and ``rejected`` rows, ``retried`` failed tries.
    """

    name: str
    pattern: str
    waiting: int
    in_flight: int
    oldest_seconds: float | None
    dead: int
    quarantined: int

    done: int
    duplicates: int
    gone: int
    rows: int
    rejected: int
    retried: int


@dataclass(frozen=True)
class ChainStatus:
    """What passed through bucket, rules and topic since the journal was made; ``on_the_way`` and ``dead`` are of now.

    ``created``: versions that landed in bronze. ``unmatched``: events that no rule wanted. ``dropped``: messages that
    were refused and had no dead-letter queue to go to. ``dead``: messages in the rules' dead-letter queues.
    """

    created: int
    events: int
    unmatched: int
    published: int
    dropped: int
    on_the_way: int
    dead: int


@dataclass(frozen=True)
class Status:
    """The whole pipeline. ``ran`` is False where no engine ever ran: then all counts are zero."""

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


def _chain(target: Target, totals: Mapping[str, int]) -> ChainStatus:
    return ChainStatus(
        created=totals.get("bucket.created", 0),
        events=totals.get("bus.events", 0),
        unmatched=totals.get("bus.unmatched", 0),
        published=totals.get("topic.published", 0),
        dropped=totals.get("dropped", 0),
        on_the_way=target.on_the_way(),
        dead=sum(map(_held, target.rules_dead())),
    )


def _transform(
    transform: Transform, queues: TransformQueues, target: Target, totals: Mapping[str, int], now: float
) -> TransformStatus:
    def total(what: str) -> int:
        return totals.get(f"transform.{transform.name}.{what}", 0)

    oldest = queues.queue.oldest
    return TransformStatus(
        name=transform.name,
        pattern=transform.pattern.text,
        waiting=queues.queue.waiting,
        in_flight=queues.queue.in_flight,
        oldest_seconds=None if oldest is None else max(0.0, round(now - oldest, 3)),
        dead=queues.dead,
        quarantined=target.quarantined(transform.name),
        done=total("committed"),
        duplicates=total("duplicate"),
        gone=total("gone"),
        rows=total("rows"),
        rejected=total("rejected"),
        retried=total("failed"),
    )


def _held(depth: Depth) -> int:
    return depth.waiting + depth.in_flight
