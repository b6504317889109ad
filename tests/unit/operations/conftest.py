"""A shop whose files are good, partly good, bad, or harmful to its code; worked by hand, with time passed in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from silversmith import Contract, Pipeline
from silversmith.local.lake import LakeFolder
from silversmith.local.queue import Message
from silversmith.operations.local import LocalTarget
from tests.unit.conftest import Bench

GOOD = b"x\n1\n2\n"
#: One good row and two that break the contract.
PARTLY = b"x\n1\n-2\n-3\n"
#: Of another schema.
BAD = b"y\n1\n"
#: The transform's own code raises on it.
HARMFUL = b"x\n666\n"


def shop() -> Pipeline:
    pipeline = Pipeline("shop")
    contract = Contract(schema={"x": pl.Int64}, rules={"x is positive": pl.col("x") > 0})

    @pipeline.transform("orders/*.csv", contract=contract, max_receive_count=2)
    def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
        if 666 in rows.collect()["x"]:
            raise RuntimeError("no such thing")
        return rows

    @pipeline.transform("*.csv")
    def copies(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows

    return pipeline


@dataclass
class World(Bench):
    """A bench on which what lands is in the queues at once."""

    def land(self, key: str, data: bytes) -> None:  # type: ignore[override]
        path = self.folder.bucket(self.pipeline.bronze) / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self.notice(key)
        self.chain.courier.deliver(self.now)

    def receive(self, transform: str) -> Message | None:
        """One message of a transform's queue, as a function would."""
        found = self.chain.queues[self.arn(f"shop_{transform}")].receive(1, self.now)
        return found[0] if found else None


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(LakeFolder(tmp_path / "lake"), shop())


@pytest.fixture
def target(world: World) -> Iterator[LocalTarget]:
    with world.opened(writable=False) as opened:
        yield opened
