"""A pipeline over the files of a test: in this process, by the handler that Lambda runs, over folders that go again."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from silversmith.handler import Handler
from silversmith.pipeline import Pipeline, Transform
from silversmith.report import Report
from silversmith.stores import Lake
from silversmith.stores.local import LocalStore
from silversmith.testing.events import Context, eventbridge, sqs
from silversmith.testing.files import Files, encode
from silversmith.testing.result import Result, collect


def run(pipeline: Pipeline, *landings: Files, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Result:
    """What a pipeline makes of files.

    The bytes go the way that they go on Lambda, from the event on: the same handler, the same checks, the same commit.
    What is left out is what brings the event there; :func:`~silversmith.testing.run_engine` has that, too. A transform
    that raises is tried once.

    Args:
        pipeline: what to run.
        landings: what lands in bronze, by key. Several of them land one after another over the same buckets, as when a
            file is replaced: the result is what there is in the end.
        now: the time of day, in UTC.

    Raises:
        ValueError, TypeError: a file's content is none. See :func:`~silversmith.testing.encode`.
    """
    with tempfile.TemporaryDirectory(prefix="silversmith-") as folder:
        bench = _Bench(pipeline, _lake(Path(folder)), Path(folder) / "scratch", now)
        keys: dict[str, None] = {}
        for files in landings:
            for key, content in files.items():
                bench.lake.bronze.put(key, encode(key, content))
            keys |= dict.fromkeys(files)
            for transform in pipeline.transforms:
                bench.handle(transform, [key for key in files if transform.pattern.matches(key)])
        return collect(pipeline, bench.lake, list(keys), bench.failures)


@dataclass
class _Bench:
    """Where a pipeline runs. ``failures``, by transform and bronze key, are those that were not mended since."""

    pipeline: Pipeline
    lake: Lake
    scratch: Path
    now: Callable[[], datetime]
    failures: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def handle(self, transform: Transform, keys: Sequence[str]) -> None:
        """Hand the transform the events of these keys, in batches as large as it takes them."""
        reports: list[Report] = []
        handler = Handler(
            transform,
            bucket=self.pipeline.bronze,
            lake=self.lake,
            scratch=self.scratch,
            ended=reports.append,
            now=self.now,
        )
        for start in range(0, len(keys), transform.batch_size):
            some = keys[start : start + transform.batch_size]
            handler(sqs(*(eventbridge(self.pipeline.bronze, key) for key in some)), Context(transform.timeout))
        for key in keys:
            self.failures.pop((transform.name, key), None)
        for report in reports:
            if report.error is not None:
                self.failures[transform.name, report.key] = dict(report.error)


def _lake(folder: Path) -> Lake:
    bronze, silver, quarantine = (
        LocalStore(
            folder / name,
            scratch=folder / "scratch",
            locks=folder / "locks",
            foreign_writers=name == "bronze",
            fsync=lambda _: None,
        )
        for name in ("bronze", "silver", "quarantine")
    )
    return Lake(bronze, silver, quarantine)
