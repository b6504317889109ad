"""A transform over a lake on disk, whose buckets fail on demand."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from silversmith import Contract, Pipeline
from silversmith.events import ObjectEvent
from silversmith.function.outcome import Outcome
from silversmith.function.process import run
from silversmith.function.task import Task
from silversmith.lineage import Lineage, error_key, rejected_key, silver_key
from silversmith.pipeline import Transform
from silversmith.pipeline.lookups import Lookups
from silversmith.schemas import Schemas
from silversmith.stores import Head, Lake, Put, Source
from silversmith.stores.local import LocalStore

KEY = "orders/may.csv"
GOOD = b"id,total\n1,2.5\n2,3\n"
MIXED = b"id,total\n1,2.5\nx,1\n3,-1\n"
BROKEN = b"name,sum\nx,1\n"
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.with_columns(twice=pl.col("total") * 2)


CONTRACT = Contract(schema={"id": pl.Int64, "total": pl.Float64}, rules={"total is positive": pl.col("total") > 0})


def declared(function: object = orders) -> Transform:
    pipeline = Pipeline("shop")
    pipeline.transform("*", contract=CONTRACT, name="orders")(function)  # type: ignore[type-var]
    return pipeline.find("orders")


ORDERS = declared()


class Bucket(LocalStore):
    """A folder that fails on demand.

    ``failures`` names a method and what it raises, once for each entry; ``refused`` what several puts come to, by key;
    ``groups`` is how many objects were put together each time.
    """

    failures: list[tuple[str, Exception]]
    refused: dict[str, Exception]
    calls: list[str]
    groups: list[int]

    def _called(self, method: str) -> None:
        self.calls.append(method)
        for position, (name, error) in enumerate(self.failures):
            if name == method:
                del self.failures[position]
                raise error

    def head(self, key: str) -> Head | None:
        self._called("head")
        return super().head(key)

    @contextmanager
    def open(self, key: str) -> Iterator[Source | None]:
        self._called("open")
        with super().open(key) as source:
            yield source

    def verify(self, source: Source) -> None:
        self._called("verify")
        super().verify(source)

    def put(
        self,
        key: str,
        body: bytes | Path,
        *,
        metadata: Mapping[str, str] | None = None,
        if_match: str | None = None,
        if_none_match: bool = False,
    ) -> str:
        self._called("put")
        return super().put(key, body, metadata=metadata, if_match=if_match, if_none_match=if_none_match)

    def put_all(self, puts: Sequence[Put]) -> list[str | Exception]:
        self.groups.append(len(puts))
        errors = dict(self.refused)
        for put in puts:
            try:
                self._called("put")
            except Exception as error:  # noqa: BLE001 -- it is this put's
                errors[put.key] = error
        answers = iter(super().put_all([put for put in puts if put.key not in errors]))
        return [errors[put.key] if put.key in errors else next(answers) for put in puts]


@dataclass
class Shop:
    """A lake on disk and what is done with it.

    ``receives``: how often each message was received; at the first silver is expected not to have the key.
    """

    folder: Path
    now: datetime = NOON
    receives: int = 3
    bronze: Bucket = field(init=False)
    silver: Bucket = field(init=False)
    quarantine: Bucket = field(init=False)

    def __post_init__(self) -> None:
        self.bronze, self.silver, self.quarantine = (
            self._bucket(name, foreign_writers=name == "bronze") for name in ("bronze", "silver", "quarantine")
        )

    def _bucket(self, name: str, *, foreign_writers: bool) -> Bucket:
        bucket = Bucket(
            self.folder / name,
            scratch=self.folder / "scratch",
            locks=self.folder / "locks",
            foreign_writers=foreign_writers,
            fsync=lambda _: None,
        )
        bucket.failures, bucket.calls, bucket.refused, bucket.groups = [], [], {}, []
        return bucket

    def process(
        self,
        content: bytes | None = None,
        transform: Transform = ORDERS,
        *,
        key: str = KEY,
        event: ObjectEvent | None = None,
        schemas: Schemas | None = None,
    ) -> Outcome:
        """Put ``content`` into bronze, if any is given, and process its key."""
        if content is not None:
            self.bronze.put(key, content)
        lake = Lake(self.bronze, self.silver, self.quarantine)
        scratch = self.folder / "scratch"
        lookups = Lookups(self.bronze, transform.lookups, scratch, name=transform.name)
        event = event or ObjectEvent("bronze", key, size=10)
        task = Task(event, transform, lake, scratch, lookups, schemas, receives=self.receives, now=lambda: self.now)
        outcome = run(task)
        del task
        assert list(scratch.iterdir()) == [], "temporary files are left"
        return outcome

    def head(self, key: str = KEY) -> Head:
        head = self.silver.head(silver_key("orders", key))
        assert head is not None
        return head

    def lineage(self) -> Lineage:
        lineage = Lineage.from_metadata(self.head().metadata)
        assert lineage is not None
        return lineage

    def rows(self) -> list[tuple[object, ...]]:
        return pl.read_parquet(self.folder / "silver" / silver_key("orders", KEY)).rows()

    def rejected(self) -> pl.DataFrame | None:
        path = self.folder / "quarantine" / rejected_key("orders", KEY)
        return pl.read_parquet(path) if path.exists() else None

    def error(self) -> dict[str, object] | None:
        body = self.quarantine.read(error_key("orders", KEY))
        return None if body is None else json.loads(body)
