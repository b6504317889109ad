"""The flow: the chain as a picture, with its numbers as they change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response

from silversmith.operations.reports import Status, TablesQueue, TransformStatus
from silversmith.operations.text import duration
from silversmith.page.context import ViewContext, engine, number
from silversmith.page.plots import per_second


@dataclass(frozen=True)
class Flow:
    """The numbers of the picture. ``values`` are texts by name, ``marks`` the states (``busy``, ``bad``) by name: a
    browser replaces them by name."""

    values: dict[str, str] = field(default_factory=dict)
    marks: dict[str, bool] = field(default_factory=dict)


def flow(status: Status | None, rates: Mapping[str, float]) -> Flow:
    """The picture's numbers. ``rates``: how much each counter rises in a second."""
    if status is None:
        return Flow()
    chain = status.chain
    created, events = rates.get("bucket.created", 0.0), rates.get("bus.events", 0.0)
    values = {
        "engine": engine(status),
        "bucket.created": number(chain.created),
        "bucket.rate": _rate(created, chain.created),
        "rule.unmatched": number(chain.unmatched),
        "rule.rate": _rate(events, chain.events),
        "rule.dead": f"{chain.dead:,}",
        "topic.published": number(chain.published),
        "topic.rate": _rate(rates.get("topic.published", 0.0), chain.published),
        "topic.way": number(chain.on_the_way),
        "topic.dropped": number(chain.dropped),
    }
    marks = {
        "engine.runs": status.running,
        "bucket.busy": created > 0,
        "rule.busy": events > 0,
        "rule.bad": chain.dead > 0,
        "topic.bad": bool(chain.dropped),
    }
    for transform in status.transforms:
        _add_transform(transform, rates, values, marks)
    if status.tables_queue is not None:
        _add_gold(status, status.tables_queue, values, marks)
    return Flow(values, marks)


def _add_transform(
    transform: TransformStatus, rates: Mapping[str, float], values: dict[str, str], marks: dict[str, bool]
) -> None:
    name = transform.name
    committed = rates.get(f"transform.{name}.committed", 0.0)
    undelivered, dead = dead_letters(transform)
    values.update({
        f"{name}.waiting": f"{transform.waiting:,}",
        f"{name}.flight": f"{transform.in_flight:,}",
        f"{name}.oldest": duration(transform.oldest_seconds),
        f"{name}.undelivered": f"{undelivered:,}",
        f"{name}.dead": f"{dead:,}",
        f"{name}.done": number(transform.done),
        f"{name}.rate": _rate(committed, transform.done),
        f"{name}.rows": number(transform.rows),
        f"{name}.retried": number(transform.retried),
        f"{name}.rejected": number(transform.rejected),
        f"{name}.quarantined": f"{transform.quarantined:,}",
    })  # fmt: skip
    marks.update({
        f"{name}.queued": transform.waiting > 0,
        f"{name}.busy": transform.in_flight > 0 or committed > 0,
        f"{name}.undelivered": undelivered > 0,
        f"{name}.dead": dead > 0,
        f"{name}.bad": transform.quarantined > 0,
    })  # fmt: skip


def _add_gold(status: Status, queue: TablesQueue, values: dict[str, str], marks: dict[str, bool]) -> None:
    """The way from silver into the tables. No transform's name has an ``@``."""
    undelivered, dead = dead_letters(queue)
    values.update({
        "@gold.waiting": f"{queue.waiting:,}",
        "@gold.flight": f"{queue.in_flight:,}",
        "@gold.oldest": duration(queue.oldest_seconds),
        "@gold.undelivered": f"{undelivered:,}",
        "@gold.dead": f"{dead:,}",
        "@gold.rows": f"{sum(table.rows for table in status.tables):,}",
        "@gold.versions": f"{sum(table.version or 0 for table in status.tables):,}",
    })  # fmt: skip
    marks.update({
        "@gold.queued": queue.waiting > 0,
        "@gold.busy": queue.in_flight > 0,
        "@gold.undelivered": undelivered > 0,
        "@gold.dead": dead > 0,
    })  # fmt: skip


def dead_letters(transform: TransformStatus | TablesQueue) -> tuple[int, int]:
    """How many messages the topic could not deliver, and how many the queue gave up on."""
    depths = transform.dead_letters.items()
    undelivered = sum(depth for name, depth in depths if name.endswith("SubscriptionDLQ"))
    return undelivered, transform.dead - undelivered


def _rate(value: float, counter: int | None) -> str:
    return "-" if counter is None else per_second(value)


#: How many of the last files stand below the picture.
FEW = 20


async def view(request: Request) -> Response:
    """``/flow``"""
    context = ViewContext.of(request)
    glance = await context.look()
    last_files, scale = await context.last_files(FEW)
    values = {
        "title": "Flow",
        "glance": glance,
        "flow": flow(glance.status, glance.rates),
        "deployed": context.backend.deployed,
        "files": last_files,
        "scale": scale,
    }
    return context.answer(request, "flow.html", values)
