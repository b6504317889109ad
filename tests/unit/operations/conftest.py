"""A shop over a bench: a lake in which everything can happen that the operations tell of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import polars as pl
import pytest

from silversmith import Contract, Pipeline
from silversmith.operations.local import LocalTarget

if TYPE_CHECKING:
    from tests.unit.conftest import Bench

GOOD = "id,total\n1,2\n2,3\n"
PARTLY = "id,total\n1,2\n2,-3\n3,x\n"
BAD = "id\n1\n"
HARMFUL = "id,total\n666,1\n"


def shop(*, lineage: bool = False) -> Pipeline:
    """Two transforms: one with a contract, which fails when it meets the number of the beast, and one that copies."""
    pipeline = Pipeline("shop", lineage=lineage)
    contract = Contract({"id": pl.Int64, "total": pl.Int64}, {"total is positive": pl.col("total") > 0})

    @pipeline.transform("orders/*.csv", contract=contract, max_receive_count=2)
    def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
        if 666 in rows.collect()["id"]:
            raise RuntimeError("666 is no order")
        return rows

    @pipeline.transform("*.csv")
    def copies(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows

    return pipeline


@pytest.fixture
def bench(make: Callable[[Pipeline], Bench]) -> Bench:
    return make(shop())


@pytest.fixture
def target(bench: Bench) -> Iterator[LocalTarget]:
    """The lake as the operations see it: another connection to the journal, only to look."""
    with bench.opened(writable=False) as result:
        yield result
