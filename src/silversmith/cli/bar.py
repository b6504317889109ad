"""A bar for what takes a while, on a terminal alone: how much is done, how fast, and how long it will take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from silversmith.cli.screen import colourful, console, is_quiet
from silversmith.operations.text import duration

if TYPE_CHECKING:
    from rich.progress import Progress, Task

#: Told that so much more is done.
Advance = Callable[[float], None]


@contextmanager
def bar(unit: str, total: float | None = None, *, json: bool = False) -> Iterator[Advance]:
    """Shows a bar while the block lasts, below what is said meanwhile; nothing where output is piped, quiet or JSON.

    Args:
        unit: what is counted, as in ``files``; ``bytes`` are shown as sizes.
        total: how many there are; None: nobody knows, so there is a rate and no time left.
        json: one document is asked for, and nothing else.
    """
    if json or is_quiet() or not colourful():
        yield lambda _: None
        return
    with _progress(unit, known=total is not None) as progress:
        task = progress.add_task("", total=total)
        yield lambda more: progress.advance(task, more)


def _progress(unit: str, *, known: bool) -> Progress:
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(rate(task.completed, task.elapsed, unit, total=task.total))

    if unit == "bytes":
        columns = [BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()]
        return Progress(*columns, console=console(), transient=True)
    if known:
        return Progress(
            BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn(), console=console(), transient=True
        )
    return Progress(BarColumn(), Rate(), console=console(), transient=True)


def rate(done: float, seconds: float | None, unit: str, *, total: float | None) -> str:
    """How fast it goes, and how far it is where that is not known otherwise: ``1,200 keys, 300/s, 4.0 s``."""
    speed = f"{done / max(seconds or 0.0, 0.1):,.0f}/s"
    return f"{speed} {unit}" if total is not None else f"{done:,.0f} {unit}, {speed}, {duration(seconds)}"
