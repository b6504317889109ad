"""``silversmith status``: where everything is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from silversmith.cli.opened import opened
from silversmith.cli.options import PIPELINE, JsonOption, PipelineArgument
from silversmith.cli.screen import say, say_json, width
from silversmith.cli.text import aligned
from silversmith.cli.where import HERE, Where
from silversmith.operations.text import count, duration

if TYPE_CHECKING:
    from silversmith.operations.status import ChainStatus, Status, TransformStatus

_COLUMNS = (
    "transform", "pattern", "waiting", "in flight", "oldest", "done", "duplicates", "rows", "rejected", "quarantined",
    "retried", "DLQ",
)  # fmt: skip


def status(pipeline: PipelineArgument = PIPELINE, *, where: Where = HERE, json: JsonOption = False) -> int:
    """Show where everything is: what waits, what is worked on, what came of it."""
    from silversmith.operations.status import status as look

    with opened(pipeline, where) as (definition, target):
        found = look(definition, target, now=time.time())
    if json:
        say_json(found.to_dict())
    else:
        _show(found, where, target.no_history)
    return 0


def _show(found: Status, where: Where, no_history: str) -> None:
    engine = "an engine runs" if found.running else "no engine runs"
    say(f"pipeline {found.pipeline} over {found.lake}: {'deployed' if where.on_aws else engine}")
    if not found.ran:
        say(f"no history: {no_history}" if where.on_aws else f"{no_history}; start one with `silversmith run`")
    say()
    for line in aligned(_chain(found.buckets["bronze"], found.chain)):
        say(line)
    say()
    header, *rows = aligned([_COLUMNS, *map(_row, found.transforms)], right=range(2, len(_COLUMNS)), width=width())
    say(header, style="bold")
    for row in rows:
        say(row)
    for transform in found.transforms:
        if transform.owner:
            say()
            say(
                f"the silver of {transform.name} is {transform.owner}'s, and files fail; rename the transform, or see "
                "`silversmith take-over --help`",
                style="bold red",
            )
    if any(transform.quarantined or transform.dead for transform in found.transforms) or found.chain.dead:
        say()
        say("what failed, and why: silversmith failures")


def _chain(bronze: str, chain: ChainStatus) -> list[tuple[str, str]]:
    if chain.created is None or chain.events is None:  # where nobody counts
        return [("bucket", bronze), ("rules", f"DLQ {chain.dead:,}")]
    return [
        ("bucket", f"{bronze}: {count(chain.created, 'version')} landed"),
        ("rules", f"{count(chain.events, 'event')}, {chain.unmatched:,} that no rule matches, DLQ {chain.dead:,}"),
        ("topic", f"{chain.published:,} published, {chain.on_the_way:,} on the way, {chain.dropped:,} dropped"),
    ]


def _row(found: TransformStatus) -> tuple[str, ...]:
    numbers = (
        found.done, _sum(found.duplicates, found.gone), found.rows, found.rejected,
        found.quarantined, found.retried, found.dead,
    )  # fmt: skip
    return (
        found.name,
        found.pattern,
        f"{found.waiting:,}",
        f"{found.in_flight:,}",
        duration(found.oldest_seconds),
        *("-" if number is None else f"{number:,}" for number in numbers),
    )


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other
