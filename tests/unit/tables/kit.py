"""A lake with silver and gold, without the chain between: silver is written as the function writes it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from silversmith.formats.writer import parquet_bytes
from silversmith.lineage import Lineage, silver_key
from silversmith.schemas.document import Document, Schema, join, schema_key
from silversmith.stores import Store
from silversmith.stores.local import LocalStore
from silversmith.tables.commit import Brought, bring
from silversmith.tables.delta import DeltaFormat, DeltaSnapshot
from silversmith.tables.spec import TableSpec

#: The transform that feeds the tables here.
TRANSFORM = "orders"


def nothing(_: str) -> None:
    """A step at which nothing happens."""


@dataclass
class GoldBench:
    """Silver in a folder, gold in another."""

    root: Path
    silver: Store = field(init=False)
    gold: DeltaFormat = field(init=False)
    columns: dict[str, pl.DataType] = field(default_factory=dict)

    def __post_init__(self) -> None:
        scratch = self.root / "scratch"
        self.silver = LocalStore(
            self.root / "silver", scratch=scratch, locks=self.root / "locks", foreign_writers=False
        )
        self.gold = DeltaFormat(self.root / "gold", scratch=scratch)

    def put(self, file: str, rows: pl.DataFrame | Mapping[str, Any], transform: str = TRANSFORM) -> str:
        """Write the silver of a bronze key, and record its schema first. Returns the key in silver."""
        frame = rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(rows)
        self.record(frame.schema, transform)
        key = silver_key(transform, file)
        self.silver.put(key, parquet_bytes(frame, lineage(file, transform, frame.height).to_json()))
        return key

    def record(self, schema: Mapping[str, pl.DataType], transform: str = TRANSFORM) -> None:
        """Record that silver has these columns beside those that it had."""
        for name, kind in schema.items():
            self.columns[name] = join(self.columns[name], kind) or kind if name in self.columns else kind
        document = Document(transform, (Schema("code", 1, dict(self.columns)),))
        self.silver.put(schema_key(transform), document.to_json())

    def delete(self, file: str, transform: str = TRANSFORM) -> str:
        key = silver_key(transform, file)
        self.silver.delete(key)
        return key

    def bring(
        self, *keys: str, table: TableSpec | None = None, step: Callable[[str], None] = nothing, **options: Any
    ) -> Brought:
        return bring(
            table or TableSpec("orders", TRANSFORM), keys, silver=self.silver, gold=self.gold, step=step, **options
        )

    def snapshot(self, name: str = "orders") -> DeltaSnapshot:
        snapshot = self.gold.read(name)
        assert snapshot is not None
        return snapshot

    def table(self, name: str = "orders", *, own: bool = False) -> pl.DataFrame:
        """The rows of a table, as Polars reads it."""
        frame = pl.read_delta(self.gold.location(name))
        return frame if own else frame.drop("_file", "_etag", strict=False)

    def rows(self, name: str = "orders") -> list[tuple[Any, ...]]:
        """The rows of a table in an order of their own, with the file that each came from."""
        return sorted(self.table(name, own=True).drop("_etag", strict=False).rows(), key=repr)

    def log(self, name: str, version: int) -> list[dict[str, Any]]:
        """The actions of one commit."""
        path = self.root / "gold" / name / "_delta_log" / f"{version:020}.json"
        return [json.loads(line) for line in path.read_text().splitlines()]


def lineage(file: str, transform: str, rows: int) -> Lineage:
    return Lineage(
        bronze_key=file,
        bronze_etag="e",
        bronze_version="",
        bronze_size=1,
        sequencer="",
        transform=transform,
        fingerprint="f",
        rows_read=rows,
        rows_written=rows,
        rows_rejected=0,
        committed_at="2026-01-02T03:04:05.000Z",
        attempt=1,
    )


def keys_of(files: Sequence[str]) -> list[str]:
    """The keys in silver of bronze keys."""
    return [silver_key(TRANSFORM, file) for file in files]
