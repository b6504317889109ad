"""Files are run again: by key, by time, by code; and again all the same when it is asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import polars as pl
import pytest

from silversmith import DefinitionError, Pipeline
from silversmith.operations.send import Range, replay
from silversmith.patterns import KeyPattern

if TYPE_CHECKING:
    from tests.unit.conftest import Bench

    Make = Callable[[Pipeline], Bench]


def shop() -> Pipeline:
    pipeline = Pipeline("shop")

    @pipeline.transform("orders/*.csv")
    def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows

    @pipeline.transform("*.csv", name="every")
    def every(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows

    return pipeline


def shop_with_other_code() -> Pipeline:
    pipeline = Pipeline("shop")

    @pipeline.transform("orders/*.csv")
    def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.with_columns(y=1)

    @pipeline.transform("*.csv", name="every")
    def every(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows

    return pipeline


def run(
    bench: Bench, pattern: str, *, since: float | None = None, until: float | None = None, **options: object
) -> list[tuple[str, str]]:
    expected = Range(KeyPattern.parse(pattern), since, until)
    with bench.opened() as target:
        batches = list(replay(bench.pipeline, target, expected, **options))  # type: ignore[arg-type]
    return [(batch.transform, key) for batch in batches for key in batch.keys]


def verdicts(bench: Bench) -> list[str]:
    return sorted(str(report.outcomes[0].verdict) for report in bench.work())


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*", [("orders", "orders/a.csv"), ("every", "b.csv"), ("every", "orders/a.csv")]),
        ("orders/*", [("orders", "orders/a.csv"), ("every", "orders/a.csv")]),
        ("orders/a.csv", [("orders", "orders/a.csv"), ("every", "orders/a.csv")]),
        ("ord*", [("orders", "orders/a.csv"), ("every", "orders/a.csv")]),
        ("b*", [("every", "b.csv")]),
        ("*.txt", []),
        ("nothing/*", []),
    ],
)
def test_each_transform_gets_the_keys_that_both_patterns_match(
    make: Make, pattern: str, expected: list[tuple[str, str]]
) -> None:
    bench = make(shop())
    bench.land("orders/a.csv", "b.csv", "c.txt")
    bench.work()
    assert run(bench, pattern) == expected


def test_files_up_to_date_are_left_alone(make: Make) -> None:
    bench = make(shop())
    bench.land("orders/a.csv")
    bench.work()
    before = bench.lineage("orders", "orders/a.csv")
    bench.now += 60
    run(bench, "*")
    assert verdicts(bench) == ["duplicate", "duplicate"]
    assert bench.lineage("orders", "orders/a.csv") == before


def test_with_force_it_is_made_again_and_only_once(make: Make) -> None:
    bench = make(shop())
    bench.land("orders/a.csv")
    bench.work()
    before = bench.lineage("orders", "orders/a.csv")
    bench.now += 60
    assert run(bench, "*", transform="orders", force=bench.now) == [("orders", "orders/a.csv")]
    run(bench, "*", transform="orders", force=bench.now)
    assert verdicts(bench) == ["committed", "duplicate"], "a second message of the same moment finds it done"
    after = bench.lineage("orders", "orders/a.csv")
    assert after.committed_at > before.committed_at
    assert after.bronze_version == before.bronze_version != ""


def test_a_replay_is_in_the_trace_of_the_version(make: Make) -> None:
    bench = make(shop())
    bench.land("orders/a.csv")
    bench.work()
    run(bench, "*", transform="orders")
    bench.work()
    hops = bench.hops("orders/a.csv")
    assert len({version for version, _, _ in hops}) == 1
    assert [(room, what) for _, room, what in hops][-3:] == [
        ("operations", "replayed"),
        ("queue", "queued"),
        ("function", "duplicate"),
    ]


def test_only_silver_of_other_code(make: Make) -> None:
    bench = make(shop())
    bench.land("orders/a.csv")
    bench.work()
    bench.land("orders/new.csv")
    bench.lose()
    assert run(bench, "*", changed=True) == []
    bench.use(shop_with_other_code())
    assert run(bench, "*", changed=True) == [("orders", "orders/a.csv")]
    assert verdicts(bench) == ["committed"]


def test_only_what_was_modified_in_a_range_of_time(make: Make) -> None:
    bench = make(shop())
    for number in range(4):
        bench.land(f"{number}.csv")
        os.utime(bench.folder.bucket("dl-bronze-layer") / f"{number}.csv", (1000 + number, 1000 + number))
    bench.work()
    assert run(bench, "*", since=1001) == [("every", "1.csv"), ("every", "2.csv"), ("every", "3.csv")]
    assert run(bench, "*", until=1001) == [("every", "0.csv")]
    assert run(bench, "*", since=1001, until=1003) == [("every", "1.csv"), ("every", "2.csv")]


def test_a_dry_run_only_tells(make: Make) -> None:
    bench = make(shop())
    bench.land("b.csv")
    bench.work()
    with bench.opened(writable=False) as target:
        (batch,) = replay(bench.pipeline, target, Range(KeyPattern.parse("*")), dry_run=True)
    assert (batch.transform, batch.keys) == ("every", ["b.csv"])
    assert bench.depths() == {}


def test_a_transform_that_is_not_there(make: Make) -> None:
    bench = make(shop())
    with pytest.raises(DefinitionError, match="it has: orders, every"):
        run(bench, "*", transform="order")
