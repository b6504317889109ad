"""What silver holds, by the lineage as a table: the same as to ask every object, but for what it does not know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from silversmith import Pipeline
from silversmith.operations.reports import SilverCounts, silver_counts, silver_in_lineage
from silversmith.tables.spec import LINEAGE
from tests.unit.operations.conftest import BAD, GOOD, PARTLY, shop
from tests.unit.operations.test_failures_by_lineage import bring

if TYPE_CHECKING:
    from tests.unit.conftest import Bench


def test_the_lineage_counts_what_the_objects_say(make: Callable[[Pipeline], Bench]) -> None:
    bench = make(shop(lineage=True))
    with bench.opened(writable=False) as target:
        assert silver_in_lineage(bench.pipeline, target) == {}, "there is no table yet"
        for key, text in {"a": GOOD, "b": PARTLY, "c": BAD}.items():
            bench.land(f"orders/{key}.csv", text=text)
        bench.work()
        bring(bench, target)
        counted = silver_in_lineage(bench.pipeline, target)
        for transform in bench.pipeline.transforms:
            assert counted[transform.name] == replace(
                silver_counts(transform, target), orphaned=None, dropped=None, before_since=None
            )
        assert counted["orders"] == SilverCounts(
            files=2, rows=3, rejected=2, partial=1, orphaned=None, dropped=None, before_since=None
        )


def test_other_code_is_outdated_and_a_log_that_cannot_be_read_says_nothing(make: Callable[[Pipeline], Bench]) -> None:
    bench = make(shop(lineage=True))
    bench.land("orders/a.csv", text=GOOD)
    bench.work()
    with bench.opened(writable=False) as target:
        bring(bench, target)
        changed = shop(lineage=True)
        changed._transforms = {each.name: replace(each, fingerprint="f" * 32) for each in bench.pipeline.transforms}
        assert {each.outdated for each in silver_in_lineage(changed, target).values()} == {1}
        log = bench.folder.bucket(bench.pipeline.gold) / LINEAGE / "_delta_log"
        for path in log.glob("*.json"):
            path.write_text("{")
        assert silver_in_lineage(bench.pipeline, target) == {}
