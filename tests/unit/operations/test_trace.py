"""A trace tells all that is known of a key: from the buckets what there is, from the journal what happened."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith import Pipeline
from silversmith.operations.reports import Trace, TransformTrace, trace, versions
from silversmith.operations.target import Hop
from silversmith.stores.keys import InvalidKey
from tests.unit.operations.conftest import BAD, GOOD, HARMFUL, PARTLY

if TYPE_CHECKING:
    from silversmith.operations.local import LocalTarget
    from tests.unit.conftest import Bench


def of(actual: Trace, name: str) -> TransformTrace:
    return next(transform for transform in actual.transforms if transform.transform == name)


def test_a_file_that_became_silver(bench: Bench, target: LocalTarget) -> None:
    bench.land("orders/a.csv", text=GOOD)
    bench.now += 1.5
    bench.work()
    hops = trace("orders/a.csv", bench.pipeline, target)
    (version,) = hops.versions
    steps = [(step.room, step.what) for step in version.steps]
    assert steps[:3] == [("bucket", "created"), ("rule", "matched"), ("topic", "published")]
    assert steps.count(("queue", "queued")) == steps.count(("function", "committed")) == 2
    assert [step.elapsed_ms for step in version.steps][:2] == [0, 1500]
    assert {step.attempt for step in version.steps if step.room == "function"} == {1}
    orders = of(hops, "orders")
    assert (orders.state, orders.matches, orders.error, orders.rejected) == ("current", True, None, None)
    assert orders.silver is not None
    assert orders.silver.lineage is not None
    assert (orders.silver.lineage.rows_read, orders.silver.lineage.rows_written) == (2, 2)
    assert orders.last is not None
    assert orders.last.verdict == "committed"


def test_without_a_journal_the_buckets_still_tell(bench: Bench) -> None:
    for key, text in {"a": GOOD, "b": PARTLY, "c": BAD}.items():
        bench.land(f"orders/{key}.csv", text=text)
    bench.work()
    for file in bench.folder.state.glob("journal.db*"):
        file.unlink()
    with bench.opened(writable=False) as target:
        good, partly, bad = (trace(f"orders/{key}.csv", bench.pipeline, target) for key in "abc")
    assert (good.known, good.remembers, good.versions) == (True, False, [])
    lineage = bench.lineage("orders", "orders/a.csv")
    silver = of(good, "orders").silver
    assert silver is not None
    assert silver.lineage == lineage
    rejected = of(partly, "orders").rejected
    assert rejected is not None
    assert (rejected.rows, [row.row for row in rejected.first]) == (2, [2, 3])
    assert (of(bad, "orders").state, of(bad, "copies").state) == ("quarantined", "current")


def test_rejected_rows_come_with_their_reasons(bench: Bench, target: LocalTarget) -> None:
    bench.land("orders/b.csv", text=PARTLY)
    bench.work()
    result = of(trace("orders/b.csv", bench.pipeline, target), "orders")
    assert result.state == "current"
    assert result.rejected is not None
    assert (result.rejected.key, result.rejected.rows, result.rejected.rows_read) == ("orders/b.csv", 2, 3)
    assert "total is positive" in result.rejected.first[0].reasons[0]


def test_a_file_in_quarantine_comes_with_its_error(bench: Bench, target: LocalTarget) -> None:
    bench.land("orders/c.csv", text=BAD)
    bench.work()
    result = of(trace("orders/c.csv", bench.pipeline, target), "orders")
    assert result.state == "quarantined"
    assert result.error is not None
    assert (result.error.code, result.error.key) == ("MissingColumn", "orders/c.csv")


def test_attempts_and_death_are_shown(bench: Bench, target: LocalTarget) -> None:
    bench.land("orders/d.csv", text=HARMFUL)
    bench.work()
    hops = trace("orders/d.csv", bench.pipeline, target)
    orders = next(f.settings.name for f in bench.services.functions if f.settings.transform == "orders")
    steps = [(step.what, step.attempt) for step in hops.versions[0].steps if step.name == orders]
    assert [step for step in steps if step[0] == "failed"] == [("failed", 1), ("failed", 2)]
    assert [step.what for step in hops.versions[0].steps][-2:] == ["failed", "dead"], "the reason comes before the end"
    assert (of(hops, "orders").state, of(hops, "copies").state) == ("missing", "current")


def test_each_version_has_its_own_hops(bench: Bench, target: LocalTarget) -> None:
    for text in (GOOD, PARTLY):
        bench.land("orders/a.csv", text=text)
        bench.work()
    hops = trace("orders/a.csv", bench.pipeline, target)
    assert len(hops.versions) == 2
    assert all(version.steps[0].what == "created" for version in hops.versions)
    silver = of(hops, "orders").silver
    assert silver is not None
    assert silver.lineage is not None
    assert silver.lineage.bronze_version == hops.versions[1].version


def test_silver_of_changed_bronze_is_stale_and_of_deleted_bronze_orphaned(bench: Bench, target: LocalTarget) -> None:
    bench.land("orders/a.csv", text=GOOD)
    bench.work()
    bench.land("orders/a.csv", text=PARTLY)
    assert of(trace("orders/a.csv", bench.pipeline, target), "orders").state == "stale"
    bench.lake.bronze.delete("orders/a.csv")
    hops = trace("orders/a.csv", bench.pipeline, target)
    assert (hops.bronze, hops.known, of(hops, "orders").state) == (None, True, "orphaned")


def test_silver_of_other_code_is_outdated(bench: Bench, target: LocalTarget) -> None:
    bench.land("orders/a.csv", text=GOOD)
    bench.work()
    changed = Pipeline("shop")

    @changed.transform("orders/*.csv")
    def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.head(1)

    assert of(trace("orders/a.csv", changed, target), "orders").state == "outdated"


def test_silver_of_a_pattern_that_no_longer_matches_is_shown(bench: Bench, target: LocalTarget) -> None:
    bench.land("orders/a.csv", text=GOOD)
    bench.work()
    changed = Pipeline("shop")
    changed.sql("elsewhere/*", "SELECT * FROM rows", name="orders")
    changed.sql("nowhere/*", "SELECT * FROM rows", name="never")
    hops = trace("orders/a.csv", changed, target)
    assert [(item.transform, item.matches) for item in hops.transforms] == [("orders", False)]


def test_a_file_that_was_not_noticed_yet_is_known(bench: Bench, target: LocalTarget) -> None:
    bench.lake.bronze.put("orders/new.csv", GOOD.encode())
    hops = trace("orders/new.csv", bench.pipeline, target)
    assert (hops.known, hops.versions, of(hops, "orders").state) == (True, [], "missing")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("a.csv", "orders/2026/a.csv"),
        ("lake/dl-bronze-layer/orders/2026/a.csv", "orders/2026/a.csv"),
        ("orders/2026/A.csv", "orders/2026/a.csv"),
        ("order/2026/a.csv", "orders/2026/a.csv"),
    ],
)
def test_an_unknown_key_brings_those_that_look_like_it(
    bench: Bench, target: LocalTarget, asked: str, expected: str
) -> None:
    bench.land("orders/2026/a.csv", "something/else.txt")
    hops = trace(asked, bench.pipeline, target)
    assert (hops.known, hops.transforms) == (False, [])
    assert hops.near[0] == expected
    assert "something/else.txt" not in hops.near


def test_only_the_newest_hops_are_shown_and_it_says_so(bench: Bench, target: LocalTarget) -> None:
    for _ in range(3):
        bench.land("orders/a.csv", text=GOOD)
        bench.work()
    whole = trace("orders/a.csv", bench.pipeline, target)
    part = trace("orders/a.csv", bench.pipeline, target, most=4)
    every = [step for version in whole.versions for step in version.steps]
    assert (whole.older, part.older) == (False, True)
    shown = [step for version in part.versions for step in version.steps]
    assert [(step.at, step.what) for step in shown] == [(step.at, step.what) for step in every[-4:]]


@pytest.mark.parametrize("key", ["", "k" * 1025, "\udcff"])
def test_invalid_keys_are_refused(bench: Bench, target: LocalTarget, key: str) -> None:
    with pytest.raises(InvalidKey):
        trace(key, bench.pipeline, target)


def test_it_can_be_printed_as_json(bench: Bench, target: LocalTarget) -> None:
    for key, text in {"b": PARTLY, "c": BAD, "d": HARMFUL}.items():
        bench.land(f"orders/{key}.csv", text=text)
    bench.work()
    for key in "bcd":
        hops = trace(f"orders/{key}.csv", bench.pipeline, target).to_dict()
        assert json.loads(json.dumps(hops, allow_nan=False))["key"] == f"orders/{key}.csv"
        assert hops["transforms"][0]["last"]["at"].endswith("+00:00")


hops = st.builds(
    Hop,
    version=st.sampled_from("abc"),
    at=st.floats(0, 1e9),
    room=st.just("queue"),
    name=st.just("q"),
    what=st.just("queued"),
    detail=st.just({}),
)


@given(st.lists(hops))
def test_no_hop_is_lost_and_none_comes_before_its_version_began(given_hops: list[Hop]) -> None:
    result = versions(given_hops)
    assert sum(len(version.steps) for version in result) == len(given_hops)
    assert [version.version for version in result] == list(dict.fromkeys(hop.version for hop in given_hops))
    assert all(step.elapsed_ms >= 0 for version in result for step in version.steps)
