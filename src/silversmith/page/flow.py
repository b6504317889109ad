"""The flow from bronze to silver as a picture that lives: its numbers by name, so that a browser can put in new ones.

Pure: from a status and rates to what the template draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from silversmith.operations.reports import Status, TransformStatus
from silversmith.operations.text import duration
from silversmith.page.plots import rate
from silversmith.page.recent import Rates


@dataclass(frozen=True)
class Moment:
    """The numbers of one moment. ``values`` are texts by name, ``marks`` what is so (``busy``, ``bad``) by name."""

    values: Mapping[str, str]
    marks: Mapping[str, bool]


def moment(status: Status, rates: Rates) -> Moment:
    """What the picture shows now."""
    chain = status.chain
    values = {
        "engine": _engine(status),
        "bucket.created": _number(chain.created),
        "bucket.rate": _rate(rates.of("bucket.created"), chain.created),
        "rule.unmatched": _number(chain.unmatched),
        "rule.rate": _rate(rates.of("bus.events"), chain.events),
        "rule.dead": f"{chain.dead:,}",
        "topic.published": _number(chain.published),
        "topic.rate": _rate(rates.of("topic.published"), chain.published),
        "topic.way": _number(chain.on_the_way),
        "topic.dropped": _number(chain.dropped),
    }
    marks = {
        "engine.runs": status.running,
        "bucket.busy": rates.of("bucket.created") > 0,
        "rule.busy": rates.of("bus.events") > 0,
        "rule.bad": chain.dead > 0,
        "topic.bad": bool(chain.dropped),
    }
    for transform in status.transforms:
        _add(transform, rates, values, marks)
    return Moment(values, marks)


def _add(transform: TransformStatus, rates: Rates, values: dict[str, str], marks: dict[str, bool]) -> None:
    name = transform.name
    done = rates.of(f"transform.{name}.committed")
    subscription, queue = dead_letters(transform)
    values.update({
        f"{name}.waiting": f"{transform.waiting:,}",
        f"{name}.flight": f"{transform.in_flight:,}",
        f"{name}.oldest": duration(transform.oldest_seconds),
        f"{name}.undelivered": f"{subscription:,}",
        f"{name}.dead": f"{queue:,}",
        f"{name}.done": _number(transform.done),
        f"{name}.rate": _rate(done, transform.done),
        f"{name}.rows": _number(transform.rows),
        f"{name}.retried": _number(transform.retried),
        f"{name}.rejected": _number(transform.rejected),
        f"{name}.quarantined": f"{transform.quarantined:,}",
    })  # fmt: skip
    marks.update({
        f"{name}.queued": transform.waiting > 0,
        f"{name}.busy": transform.in_flight > 0 or done > 0,
        f"{name}.undelivered": subscription > 0,
        f"{name}.dead": queue > 0,
        f"{name}.bad": transform.quarantined > 0,
    })  # fmt: skip


def dead_letters(transform: TransformStatus) -> tuple[int, int]:
    """How many messages the topic could not deliver, and how many the queue gave up on."""
    subscription = sum(depth for name, depth in transform.dead_letters.items() if name.endswith("SubscriptionDLQ"))
    return subscription, transform.dead - subscription


def _engine(status: Status) -> str:
    if not status.ran and status.running:
        return "deployed"
    return "the engine runs" if status.running else "no engine runs"


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _rate(value: float, counted: int | None) -> str:
    return "-" if counted is None else rate(value)
