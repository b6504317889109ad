"""Failures where the lineage is a table: counted by it, and only the shown documents are read."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silversmith import Pipeline
from silversmith.errors import SilversmithError
from silversmith.local.lake import LakeFolder
from silversmith.operations.failures import FailureCount, Failures, Query, failures, rejected
from silversmith.operations.local import LocalTarget
from silversmith.patterns import KeyPattern
from silversmith.stores import Head
from silversmith.stores.local import LocalStore
from silversmith.tables.lineage import follow
from silversmith.tables.spec import LINEAGE
from tests.examples import examples
from tests.unit.conftest import Bench as Lake
from tests.unit.operations.conftest import BAD, GOOD, HARMFUL, PARTLY, shop

if TYPE_CHECKING:
    from tests.unit.conftest import Bench

DEAD = "arn:aws:sqs:us-east-1:000000000000:shop_orders_DLQ"


@pytest.fixture
def bench(make: Callable[[Pipeline], Bench]) -> Bench:
    return make(shop(lineage=True))


@pytest.fixture
def target(bench: Bench) -> Iterator[LocalTarget]:
    with bench.opened(writable=False) as result:
        yield result


def look(bench: Bench, target: LocalTarget, query: Query | None = None) -> Failures:
    return failures(bench.pipeline, target, query or Query(), now=bench.now)


def bring(bench: Bench, target: LocalTarget) -> None:
    """Have the lineage say what every object says."""
    lake = bench.lake
    keys = [head.key for store in (lake.silver, lake.quarantine) for head in store.list()]
    brought = follow(["orders", "copies"], keys, silver=lake.silver, quarantine=lake.quarantine, gold=target.gold)
    assert not brought.failed


def day(bench: Bench) -> str:
    return datetime.fromtimestamp(bench.now, UTC).strftime("%Y-%m-%d")


def test_failures_are_counted_by_transform_code_and_day(bench: Bench, target: LocalTarget) -> None:
    bench.land("orders/a.csv", text=BAD)
    bench.land("orders/b.csv", text=BAD)
    bench.land("orders/good.csv", text=GOOD)
    bench.work()
    first = day(bench)
    bench.now += 86_400
    bench.land("orders/c.csv", text=BAD)
    bench.land("orders/empty.csv", text="")
    bench.work()
    bring(bench, target)
    report = look(bench, target)
    assert set(report.counts) == {
        FailureCount("orders", "quarantined", "MissingColumn", first, 2),
        FailureCount("orders", "quarantined", "MissingColumn", day(bench), 1),
        FailureCount("orders", "quarantined", "EmptyFile", day(bench), 1),
        FailureCount("copies", "quarantined", "EmptyFile", day(bench), 1),
    }
    assert [each.day for each in report.counts] == [day(bench)] * 3 + [first]
    assert report.quarantined_total == len(report.quarantined) == 5
    assert report.to_dict()["counts"][-1] == {
        "transform": "orders", "state": "quarantined", "code": "MissingColumn", "day": first, "files": 2
    }  # fmt: skip


def test_each_cause_shows_its_newest_files(bench: Bench, target: LocalTarget) -> None:
    for number in range(6):
        bench.land(f"orders/{number}.csv", text=BAD)
        bench.now += 60
        bench.work()
    bench.land("orders/empty.csv", text="")
    bench.work()
    bring(bench, target)
    report = look(bench, target, Query(transform="orders", most=4))
    assert report.quarantined_total == 7
    assert [each.key for each in report.quarantined] == [
        "orders/5.csv",
        "orders/4.csv",
        "orders/3.csv",
        "orders/empty.csv",
    ]
    chosen = look(bench, target, Query(pattern=KeyPattern.parse("orders/0*")))
    assert ([each.key for each in chosen.quarantined], chosen.quarantined_total) == (["orders/0.csv"], 1)
    assert look(bench, target, Query(transform="copies")).quarantined_total == 1


class Unlisted(LocalStore):
    """A bucket that nobody may list, and that counts what is read."""

    reads = 0

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[Head]:
        raise AssertionError(f"{prefix} was listed")

    def read(self, key: str) -> bytes | None:
        self.reads += 1
        return super().read(key)


def test_quarantine_is_not_listed_and_only_the_shown_documents_are_read(bench: Bench, target: LocalTarget) -> None:
    for number in range(20):
        bench.land(f"orders/{number}.csv", text=BAD)
    bench.work()
    bring(bench, target)
    bucket = bench.folder.bucket("dl-quarantine-layer")
    quarantine = Unlisted(bucket, scratch=bench.folder.scratch, locks=bench.folder.scratch, foreign_writers=False)
    target.lake = target.lake.__class__(target.lake.bronze, target.lake.silver, quarantine)
    report = look(bench, target, Query(most=3))
    assert (report.quarantined_total, len(report.quarantined), quarantine.reads) == (20, 3, 3)


def test_a_document_that_is_gone_is_not_counted(bench: Bench, target: LocalTarget) -> None:
    """A row may be late."""
    bench.land("orders/a.csv", text=BAD)
    bench.land("orders/b.csv", text=BAD)
    bench.work()
    bring(bench, target)
    bench.lake.quarantine.delete("orders/orders/a.csv.error.json")
    report = look(bench, target)
    assert ([each.key for each in report.quarantined], report.quarantined_total) == (["orders/b.csv"], 1)


def test_what_the_code_was_given_up_on_is_reported_once(bench: Bench, target: LocalTarget) -> None:
    for name in "de":
        bench.land(f"orders/{name}.csv", text=HARMFUL)
    bench.work()
    bring(bench, target)
    report = look(bench, target)
    assert (report.quarantined_total, report.dead_total) == (0, 2)
    assert report.counts == [FailureCount("orders", "given_up", "TransformError", day(bench), 2)]
    row = bench.journal.rows("dead_messages", queue=DEAD, after=0, most=9)[0]
    with bench.journal.transaction():
        bench.journal.rows("take_dead", message_id=row[1])
    report = look(bench, target)
    assert (report.quarantined_total, report.dead_total) == (1, 1)
    assert "reconcile --dead" in report.quarantined[0].hint
    assert look(bench, target, Query(most=1)).quarantined_total == 1


def test_without_a_lineage_quarantine_is_listed(bench: Bench, target: LocalTarget) -> None:
    bench.land("orders/a.csv", text=BAD)
    bench.work()
    report = look(bench, target)
    assert (report.quarantined_total, report.counts, report.more) == (1, (), False)


def test_an_unreadable_lineage_is_left_aside(bench: Bench, target: LocalTarget) -> None:
    bench.land("orders/a.csv", text=BAD)
    bench.work()
    bring(bench, target)
    log = bench.folder.bucket("dl-gold-layer") / LINEAGE / "_delta_log"
    for path in log.glob("*.json"):
        path.write_text("{")
    with pytest.raises(SilversmithError):
        target.rows()
    assert look(bench, target).quarantined_total == 1


def test_a_lineage_without_its_data_files_is_left_aside(bench: Bench, target: LocalTarget) -> None:
    bench.land("orders/a.csv", text=BAD)
    bench.work()
    bring(bench, target)
    for path in (bench.folder.bucket("dl-gold-layer") / LINEAGE).rglob("*.parquet"):
        path.unlink()
    assert look(bench, target).quarantined_total == 1


def test_without_a_lineage_the_listing_is_bounded(bench: Bench, target: LocalTarget) -> None:
    for number in range(5):
        bench.land(f"orders/{number}.csv", text=BAD)
        bench.land(f"orders/partly{number}.csv", text=PARTLY)
    bench.work()
    report = failures(bench.pipeline, target, Query(), now=bench.now, most_listed=3)
    assert (report.quarantined_total, report.more) == (3, True)
    files = rejected(bench.pipeline, target, Query(), most_listed=10)
    assert (files.total, files.more) == (5, False)
    files = rejected(bench.pipeline, target, Query(), most_listed=9)
    assert (files.total, files.more) == (4, True)


@settings(max_examples=examples(20))
@given(landed=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([BAD, GOOD, ""])), max_size=8))
def test_the_lineage_counts_what_a_listing_counts(landed: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        bench = Lake(LakeFolder(Path(folder)), shop(lineage=True))
        try:
            for name, text in landed:
                bench.land(f"orders/{name}.csv", text=text)
                bench.work()
            with bench.opened(writable=False) as target:
                listed = look(bench, target)
                bring(bench, target)
                counted = look(bench, target)
        finally:
            bench.journal.close()
    assert counted.quarantined_total == listed.quarantined_total
    assert sorted(map(str, counted.quarantined)) == sorted(map(str, listed.quarantined))
    expected = Counter((each.transform, each.code) for each in listed.quarantined)
    assert Counter({(each.transform, each.code): each.files for each in counted.counts}) == expected
