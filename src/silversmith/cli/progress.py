"""A run's progress, as a display that changes in place or as lines, and the table of ``run --profile``."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, astuple
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol

from silversmith.cli.screen import aligned, colourful, console, say
from silversmith.operations.text import count, duration, shown

if TYPE_CHECKING:
    from rich.text import Text

    from silversmith.local.progress import Measured, Progress


#: Over how many seconds the speed is taken.
WINDOW = 10.0

#: Plain lines come at most every so many seconds.
EVERY = 2.0


class Speed:
    """Files a second over the last while."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, now: float, files: int) -> float:
        """So many files were done by now (in seconds, on any clock that only rises). The speed, in files a second."""
        self._seen.append((now, files))
        while len(self._seen) > 2 and now - self._seen[1][0] >= WINDOW:
            self._seen.popleft()
        since, before = self._seen[0]
        return (files - before) / max(now - since, 0.1)


class View(Protocol):
    """What shows a run's progress while its block lasts."""

    def __enter__(self) -> View: ...
    def __exit__(self, *error: object) -> None: ...
    def tick(self, progress: Progress) -> None:
        """Where everything is now. Called a few times a second."""


def view(title: str, *, json: bool) -> View:
    """What fits where the output goes."""
    if json:
        return Silent()
    return Live(title) if colourful() else Lines(title)


class Silent:
    """Shows nothing: what is asked for is one JSON document at the end."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def tick(self, progress: Progress) -> None:
        """Nothing."""


class Lines(Silent):
    """A line when the numbers change, at most one every :data:`EVERY` seconds."""

    def __init__(self, title: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._title = title
        self._clock = clock
        self._shown: Progress | None = None
        self._at = float("-inf")
        self._speed = Speed()

    def __enter__(self) -> Lines:
        say(self._title)
        return self

    def tick(self, progress: Progress) -> None:
        now = self._clock()
        speed = self._speed.add(now, finished(progress))
        if progress == self._shown or now - self._at < EVERY or not any(astuple(progress)):
            return
        self._shown, self._at = progress, now
        say(", ".join(f"{value:,} {name}" for name, value in numbers(progress)) + f", {speed:.1f} files/s")


class Live:
    """A display that changes in place."""

    def __init__(self, title: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        from rich.live import Live as Display

        self._title = title
        self._clock = clock
        self._began = clock()
        self._speed = Speed()
        # What is told on stderr meanwhile is drawn above the display, if it goes to the same terminal.
        self._display = Display(
            console=console(), auto_refresh=False, transient=True, redirect_stderr=sys.stderr.isatty()
        )

    def __enter__(self) -> Live:
        self._display.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._display.stop()

    def tick(self, progress: Progress) -> None:
        now = self._clock()
        speed = self._speed.add(now, finished(progress))
        self._display.update(self._drawn(progress, now - self._began, speed), refresh=True)

    def _drawn(self, progress: Progress, elapsed: float, speed: float) -> Text:
        from rich.text import Text

        drawn = Text(no_wrap=True, overflow="ellipsis")
        drawn.append(shown(self._title), style="bold")
        drawn.append(f"   {duration(elapsed)}   {speed:.1f} files/s\n", style="dim")
        for name, value in numbers(progress):
            bad = value > 0 and name in BAD
            drawn.append(f"  {value:>12,}", style="bold red" if bad else "bold")
            drawn.append(f"  {name}\n")
        drawn.append("  Ctrl-C ends the run; what is not finished, the next run does", style="dim")
        return drawn


#: What of :func:`numbers` somebody should look at.
BAD = frozenset({"rows rejected", "quarantined", "in a DLQ"})


def numbers(progress: Progress) -> list[tuple[str, int]]:
    """What is worth showing of a run, in the order in which files go through it."""
    return [
        ("waiting", progress.waiting),
        ("in flight", progress.in_flight),
        ("done", progress.done),
        ("already done", progress.duplicates),
        ("rows", progress.rows),
        ("rows rejected", progress.rejected),
        ("retries", progress.retries),
        ("quarantined", progress.quarantined),
        ("in a DLQ", progress.dead),
    ]


def finished(progress: Progress) -> int:
    """How many files have come to an end, a good one or a bad one."""
    return progress.done + progress.duplicates + progress.quarantined + progress.dead


def summary(progress: Progress, seconds: float) -> str:
    """A run in one line."""
    parts = [
        f"{count(progress.done, 'file')} done" + (f" ({count(progress.rows, 'row')})" if progress.done else ""),
        f"{progress.duplicates:,} already done" if progress.duplicates else "",
        f"{count(progress.rejected, 'row')} rejected" if progress.rejected else "",
        f"{progress.quarantined:,} quarantined" if progress.quarantined else "",
        f"{progress.dead:,} in a DLQ" if progress.dead else "",
        f"{progress.waiting + progress.in_flight:,} left" if progress.waiting + progress.in_flight else "",
    ]
    return ", ".join(filter(None, parts)) + f", in {duration(seconds)}"


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
