"""The rooms of the engine over real files and a real journal, worked by hand: no process, and time passed in."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import polars as pl
import pytest

from silversmith.function.handler import Handler
from silversmith.function.outcome import Report
from silversmith.lineage import Lineage, silver_key
from silversmith.local.journal import Journal
from silversmith.local.lake import LakeFolder
from silversmith.local.services.bucket import Landed
from silversmith.local.services.function import Invocation
from silversmith.local.stack import StackResources, read
from silversmith.local.wiring import Services, build
from silversmith.operations.local import LocalTarget, open_lake
from silversmith.pipeline import Pipeline
from silversmith.runtime.queue import SystemUnavailable
from silversmith.stores import Lake
from silversmith.template import compile as compile_template

#: 2026-01-02T12:00:00Z.
NOON = 1_767_355_200.0


class Leisure:
    """A Lambda context with all the time there is."""

    def get_remaining_time_in_millis(self) -> int:
        return 300_000


@dataclass
class Bench:
    """A lake, and the chain of a pipeline over it. ``now`` is what every clock shows."""

    folder: LakeFolder
    pipeline: Pipeline
    now: float = NOON
    stack: StackResources = field(init=False)
    journal: Journal = field(init=False)
    services: Services = field(init=False)
    lake: Lake = field(init=False)

    def __post_init__(self) -> None:
        self.folder.create(self.pipeline.bronze, self.pipeline.silver, self.pipeline.quarantine)
        self.journal = Journal(self.folder.journal)
        self.use(self.pipeline)

    def use(self, pipeline: Pipeline) -> None:
        """Go on with this pipeline, as a new engine would after the code was changed."""
        self.pipeline = pipeline
        self._writes = count()
        self.stack = read(compile_template(pipeline))
        self.services = build(
            self.stack,
            self.journal,
            bronze=pipeline.bronze,
            silver=pipeline.silver,
            quarantine=pipeline.quarantine,
            clock=lambda: self.now,
        )
        self.lake = self.folder.stores(pipeline)

    def land(self, *keys: str, text: str = "x\n1\n") -> None:
        """Files land in bronze and are noticed: their events are on the way to the bus."""
        for key in keys:
            path = self.folder.bucket(self.pipeline.bronze) / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            self.notice(key)

    def notice(self, key: str) -> None:
        """A write is noticed; where this very file was noticed before, another one of the same bytes."""
        store = self.folder.store(self.pipeline.bronze, foreign_writers=True)
        glance, head = store.glance(key), store.head(key)
        assert glance is not None
        assert head is not None
        row = self.journal.row("object", bucket=self.pipeline.bronze, key=key)
        again = f" {next(self._writes)}" if row is not None and row[0] == glance.identity else ""
        self.services.bucket.notice([Landed(key, glance.identity + again, head.etag, head.size)])

    def lose(self, condition: str = "1") -> int:
        """Lose events that are on the way: those that an SQL condition on the outbox chooses."""
        with closing(sqlite3.connect(self.folder.journal, isolation_level=None)) as connection:
            return connection.execute(f"DELETE FROM outbox WHERE {condition}").rowcount

    def work(self) -> list[Report]:
        """Deliver what is on the way, and let the functions do all that is in their queues, their retries too."""
        reports: list[Report] = []
        self.services.delivery.deliver(self.now)
        busy = True
        while busy:
            busy = False
            for function in self.services.functions:
                with self.journal.transaction():
                    self.services.queues[function.settings.queue.arn].hasten(self.now)
                for invocation in function.poll(self.now):
                    busy = True
                    try:
                        response = self._handler(invocation, reports)(invocation.event(), Leisure())
                    except SystemUnavailable as error:  # as a worker does
                        response = error.response
                    function.complete([(invocation, response)], self.now)
        return reports

    def _handler(self, invocation: Invocation, reports: list[Report]) -> Handler:
        def ended(report: Report) -> None:
            invocation.outcomes[report.message_id] = report.to_dict()
            reports.append(report)

        return Handler(
            self.pipeline.find(invocation.settings.transform),
            bucket=self.pipeline.bronze,
            lake=self.lake,
            scratch=self.folder.scratch,
            ended=ended,
            now=lambda: datetime.fromtimestamp(self.now, UTC),
            owner=self.folder.owner(self.pipeline),
        )

    def opened(self, *, writable: bool = True) -> AbstractContextManager[LocalTarget]:
        """The lake as another process sees it."""
        return open_lake(self.folder, self.pipeline, writable=writable, clock=lambda: self.now)

    def arn(self, name: str) -> str:
        return next(queue.arn for queue in self.stack.queues if queue.name == name)

    def depth(self, name: str) -> int:
        """How many messages the queue of this name holds."""
        return self.services.queues[self.arn(name)].depth(self.now)[0]

    def depths(self) -> dict[str, int]:
        return {queue.name: depth for queue in self.stack.queues if (depth := self.depth(queue.name))}

    def hops(self, key: str) -> list[tuple[str, str, str]]:
        """Version, room and what happened there, of every hop of a key."""
        return [(row[2], row[4], row[6]) for row in self.journal.rows("hops", key=key)]

    def silver(self, transform: str, key: str) -> pl.DataFrame | None:
        path = self.folder.bucket(self.pipeline.silver) / silver_key(transform, key)
        return pl.read_parquet(path) if path.exists() else None

    def lineage(self, transform: str, key: str) -> Lineage:
        head = self.lake.silver.head(silver_key(transform, key))
        assert head is not None
        result = Lineage.from_metadata(head.metadata)
        assert result is not None
        return result


@pytest.fixture
def make(tmp_path: Path) -> Callable[[Pipeline], Bench]:
    """Makes a bench for a pipeline."""
    return lambda pipeline: Bench(LakeFolder(tmp_path / "lake"), pipeline)
