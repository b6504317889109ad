"""``silversmith status``: where everything is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from silversmith.cli.opened import opened
from silversmith.cli.options import LAKE, PIPELINE, JsonOption, LakeOption, PipelineArgument
from silversmith.cli.screen import say, say_json
from silversmith.cli.text import aligned, count, duration

if TYPE_CHECKING:
    from silversmith.operations.status import ChainStatus, Status, TransformStatus

_COLUMNS = (
    "transform", "pattern", "waiting", "in flight", "oldest", "done", "duplicates", "rows", "rejected", "quarantined",
    "retried", "DLQ",
)  # fmt: skip


def status(pipeline: PipelineArgument = PIPELINE, *, lake: LakeOption = LAKE, json: JsonOption = False) -> int:
    """Show where everything is: what waits, what is worked on, what came of it."""
    from silversmith.operations.status import status as look

    with opened(pipeline, lake) as (definition, target):
        found = look(definition, target, now=time.time())
    if json:
        say_json(found.to_dict())
    else:
        _show(found)
    return 0


def _show(found: Status) -> None:
    say(f"pipeline {found.pipeline} over {found.lake}: {'an engine runs' if found.running else 'no engine runs'}")
    if not found.ran:
        say("no engine ever ran over this lake; start one with `silversmith run`")
    say()
    for line in aligned(_chain(found.buckets["bronze"], found.chain)):
        say(line)
    say()
    header, *rows = aligned([_COLUMNS, *map(_row, found.transforms)], right=range(2, len(_COLUMNS)))
    say(header, style="bold")
    for row in rows:
        say(row)
    if any(transform.quarantined or transform.dead for transform in found.transforms) or found.chain.dead:
        say()
        say("what failed, and why: silversmith failures")


def _chain(bronze: str, chain: ChainStatus) -> list[tuple[str, str]]:
    return [
        ("bucket", f"{bronze}: {count(chain.created, 'version')} landed"),
        ("rules", f"{count(chain.events, 'event')}, {chain.unmatched:,} that no rule matches, DLQ {chain.dead:,}"),
        ("topic", f"{chain.published:,} published, {chain.on_the_way:,} on the way, {chain.dropped:,} dropped"),
    ]


def _row(found: TransformStatus) -> tuple[str, ...]:
    numbers = (
        found.done, found.duplicates + found.gone, found.rows, found.rejected,
        found.quarantined, found.retried, found.dead,
    )  # fmt: skip
    return (
        found.name,
        found.pattern,
        f"{found.waiting:,}",
        f"{found.in_flight:,}",
        duration(found.oldest_seconds),
        *(f"{number:,}" for number in numbers),
    )
