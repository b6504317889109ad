"""The plan of sending many files: their number by the lineage, a listing or the queues' depths, and what it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from silversmith import Pipeline
from silversmith.errors import AccessDenied
from silversmith.operations.local import LocalTarget
from silversmith.operations.pace import Certainty, count_changed, count_redrive, count_replay, plan_of
from silversmith.operations.send import FailureSelection, Place, Range, redrive, replay
from silversmith.operations.target import FileTime
from silversmith.patterns import KeyPattern
from silversmith.pipeline import as_deployed
from silversmith.pipeline.deployment import ROLES
from silversmith.tables.lineage import follow
from tests.unit.operations.conftest import BAD, GOOD, HARMFUL, shop

if TYPE_CHECKING:
    from tests.unit.conftest import Bench

EVERY = Range(KeyPattern.parse("*"))


@pytest.fixture
def bench(make: Callable[[Pipeline], Bench]) -> Bench:
    """Two files done, two in quarantine, one dead; the copies of all are done."""
    bench = make(shop(lineage=True))
    bench.land("orders/a.csv", "orders/b.csv", text=GOOD)
    bench.land("orders/c.csv", "orders/d.csv", text=BAD)
    bench.land("orders/e.csv", text=HARMFUL)
    bench.work()
    return bench


@pytest.fixture
def target(bench: Bench) -> Iterator[LocalTarget]:
    with bench.opened(writable=False) as result:
        yield result


def bring(bench: Bench, target: LocalTarget) -> None:
    lake = bench.lake
    keys = [head.key for store in (lake.silver, lake.quarantine) for head in store.list()]
    follow(["orders", "copies"], keys, silver=lake.silver, quarantine=lake.quarantine, gold=target.gold)


def test_a_replay_is_counted_by_a_listing(bench: Bench, target: LocalTarget) -> None:
    counts, certainty = count_replay(bench.pipeline, target, EVERY)
    size = 2 * len(GOOD) + 2 * len(BAD) + len(HARMFUL)
    assert (counts, certainty) == ({"orders": (5, size), "copies": (5, size)}, Certainty.EXACT)
    after = Place("orders", "orders/d.csv")
    counts, _ = count_replay(bench.pipeline, target, EVERY, after=after)
    assert {name: files for name, (files, _) in counts.items()} == {"orders": 1, "copies": 5}
    sent = sum(len(batch.keys) for batch in replay(bench.pipeline, target, EVERY, after=after, dry_run=True))
    assert sent == 6
    counts, certainty = count_replay(bench.pipeline, target, EVERY, transform="orders", changed=True)
    assert (counts["orders"][0], certainty) == (5, Certainty.AT_MOST)


@pytest.mark.parametrize("lineage", [False, True])
def test_a_redrive_is_counted_with_and_without_a_lineage(bench: Bench, target: LocalTarget, lineage: bool) -> None:
    if lineage:
        bring(bench, target)

    def counted(selection: FailureSelection) -> tuple[int, Certainty]:
        counts, certainty = count_redrive(bench.pipeline, target, selection)
        found = sum(len(batch.failures) for batch in redrive(bench.pipeline, target, selection, dry_run=True))
        number = sum(files for files, _ in counts.values())
        assert number >= found
        return number, certainty

    assert counted(FailureSelection()) == (3, Certainty.ABOUT)
    assert counted(FailureSelection(transform="copies")) == (0, Certainty.ABOUT)
    assert counted(FailureSelection(where="quarantine")) == (2, Certainty.ABOUT)
    assert counted(FailureSelection(where="queue")) == (1, Certainty.ABOUT)
    assert counted(FailureSelection(error="missingcolumn"))[1] is Certainty.AT_MOST
    assert counted(FailureSelection(error="Other", where="quarantine"))[0] == (0 if lineage else 2)
    assert counted(FailureSelection(since=bench.now + 60, where="quarantine"))[0] == (0 if lineage else 2)
    assert counted(FailureSelection(until=bench.now + 60, where="quarantine"))[0] == 2
    assert counted(FailureSelection(pattern=KeyPattern.parse("*d.csv"), where="quarantine"))[0] == 1


def test_what_other_code_made_is_counted_by_the_lineage(make: Callable[[Pipeline], Bench]) -> None:
    bench = make(shop(lineage=True))
    bench.land("orders/a.csv", "orders/b.csv", text=GOOD)
    bench.work()
    with bench.opened(writable=False) as target:
        bring(bench, target)
        counts, certainty = count_changed(bench.pipeline, target)
        assert (counts, certainty) == ({"orders": (0, 0), "copies": (0, 0)}, Certainty.ABOUT)
        newer = newer_shop()
        assert count_changed(newer, target)[0] == {"orders": (2, 2 * len(GOOD)), "copies": (0, 0)}
        after = Place("orders", "orders/a.csv")
        assert count_changed(newer, target, transform="orders", after=after)[0] == {"orders": (1, len(GOOD))}
        some = Range(KeyPattern.parse("*a.csv"))
        assert count_replay(newer, target, some, transform="orders", changed=True)[0] == {"orders": (1, len(GOOD))}


def newer_shop() -> Pipeline:
    """The shop, whose orders other code makes."""
    pipeline = shop(lineage=True)
    orders, copies = pipeline.transforms
    buckets = {role: getattr(pipeline, role) for role in ROLES}
    return as_deployed(pipeline, buckets, [replace(orders, fingerprint="newer"), copies])


class Measured:
    """A target that knows the time of a file, or may not ask."""

    def __init__(self, time: FileTime | None = None) -> None:
        self._time = time

    def file_time(self, transform: str) -> FileTime | None:
        if self._time is None:
            raise AccessDenied("GetMetricStatistics")
        return self._time


def test_on_aws_it_takes_what_estimate_says() -> None:
    target: Any = Measured(FileTime(0.06, "measured", 4096.0, billed=True))
    counts = {"orders": (1_000_000, 4_096_000_000), "copies": (1_000, 4_096_000), "": (3, 0)}
    plan = plan_of(counts, Certainty.ABOUT, shop(), target, rate=None, deployed=True)
    orders, copies, rules = plan.transforms
    assert (plan.files, plan.size, plan.minutes) == (1_001_003, 4_100_096_000, orders.minutes)
    assert 15 < orders.minutes < 20, "a thousand files a second are sent"
    assert copies.minutes < 1
    assert plan.dollars == pytest.approx(orders.dollars + copies.dollars)
    assert 5 < orders.dollars < 10
    assert (rules.transform, rules.files, rules.dollars) == ("", 3, 0.0)
    slow = plan_of(counts, Certainty.ABOUT, shop(), target, rate=100, deployed=True)
    assert slow.minutes == pytest.approx(1_000_000 / 100 / 60, rel=0.01)


def test_here_it_takes_the_processors() -> None:
    target: Any = Measured(FileTime(0.06, "measured", 1000.0))
    plan = plan_of(
        {"orders": (1_000, 1_000_000)}, Certainty.EXACT, shop(), target, rate=None, deployed=False, workers=4
    )
    assert plan.minutes == pytest.approx(0.25)
    assert (plan.dollars, plan.transforms[0].at_once) == (0.0, 4)
    slow = plan_of({"orders": (1_000, 1_000_000)}, Certainty.EXACT, shop(), target, rate=1, deployed=False, workers=4)
    assert slow.minutes == pytest.approx(1000 / 60)


def test_who_may_not_read_the_metrics_gets_the_assumption() -> None:
    target: Any = Measured()
    plan = plan_of({"orders": (1_000, 4_096_000)}, Certainty.EXACT, shop(), target, rate=None, deployed=True)
    assert plan.minutes > 0
    assert plan.to_dict()["transforms"][0]["files"] == 1_000
