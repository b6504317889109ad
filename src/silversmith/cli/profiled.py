"""The table of ``run --profile``: where the time of each transform's files went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Any

from silversmith.cli.screen import say
from silversmith.cli.text import aligned
from silversmith.operations.text import count, shown

if TYPE_CHECKING:
    from silversmith.local.progress import Measured

_COLUMNS = ("stage", "share", "total s", "p50 ms", "p99 ms", "most ms", "slowest")


def show_profile(found: Sequence[Measured]) -> None:
    """One table for each transform, to stdout."""
    if not found:
        say("no file was worked on: there is nothing to profile")
    for transform, group in groupby(found, key=lambda stage: stage.transform):
        stages = list(group)
        say()
        say(f"where the time of {transform} went: {count(max(stage.files for stage in stages), 'file')}", style="bold")
        header, *rows = aligned([_COLUMNS, *map(_row, stages)], right=range(1, 6))
        say(header, style="bold")
        for row in rows:
            say(row)


def documents(found: Sequence[Measured]) -> list[dict[str, Any]]:
    """The same as JSON values, in seconds."""
    return [
        {name: round(value, 6) if isinstance(value, float) else value for name, value in asdict(stage).items()}
        for stage in found
    ]


def _row(stage: Measured) -> tuple[str, ...]:
    times = (f"{seconds * 1000:,.1f}" for seconds in (stage.p50, stage.p99, stage.most))
    return (stage.stage, f"{stage.share:.0%}", f"{stage.total:,.2f}", *times, shown(stage.slowest))
