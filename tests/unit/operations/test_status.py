"""Status counts what is there, and what happened."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from silversmith.local.lake import LakeFolder, LakeLock
from silversmith.operations import WrongCall
from silversmith.operations.local import JournalUnreadable, LocalTarget, open_lake
from silversmith.operations.reports import SilverCounts, Status, TransformStatus, silver_counts, status
from tests.unit.conftest import Bench
from tests.unit.operations.conftest import BAD, GOOD, HARMFUL, PARTLY, shop


def look(bench: Bench, target: LocalTarget) -> Status:
    return status(bench.pipeline, target, now=bench.now)


def of(report: Status, name: str) -> TransformStatus:
    return next(transform for transform in report.transforms if transform.name == name)


def test_a_lake_where_nothing_happened_is_all_zeros(bench: Bench, target: LocalTarget) -> None:
    report = look(bench, target)
    assert [transform.name for transform in report.transforms] == ["orders", "copies"]
    assert all(transform.waiting == transform.done == transform.dead == 0 for transform in report.transforms)
    assert (report.ran, report.running, report.chain.created) == (True, False, 0)
    assert report.buckets["bronze"] == "dl-bronze-layer"


def test_waiting_messages_are_counted_with_their_age(bench: Bench, target: LocalTarget) -> None:
    bench.land("orders/a.csv", "b.csv", text=GOOD)
    assert look(bench, target).chain.on_the_way == 2
    bench.services.delivery.deliver(bench.now)
    bench.now += 30
    report = look(bench, target)
    assert (of(report, "orders").waiting, of(report, "copies").waiting) == (1, 2)
    assert of(report, "orders").oldest_seconds == 30
    assert (report.chain.created, report.chain.events, report.chain.published, report.chain.on_the_way) == (2, 2, 2, 0)


def test_messages_that_are_worked_on_are_in_flight(bench: Bench, target: LocalTarget) -> None:
    bench.land("orders/a.csv", text=GOOD)
    bench.services.delivery.deliver(bench.now)
    function = next(result for result in bench.services.functions if result.settings.transform == "orders")
    assert function.poll(bench.now)
    result = of(look(bench, target), "orders")
    assert (result.waiting, result.in_flight) == (0, 1)


def test_outcomes_are_counted(bench: Bench, target: LocalTarget) -> None:
    for key, text in {"a": GOOD, "b": PARTLY, "c": BAD, "d": HARMFUL}.items():
        bench.land(f"orders/{key}.csv", text=text)
    bench.work()
    result = of(look(bench, target), "orders")
    assert (result.done, result.rows, result.rejected, result.quarantined) == (2, 3, 2, 1)
    assert (result.dead, result.retried, result.waiting, result.in_flight) == (1, 2, 0, 0)
    copies = of(look(bench, target), "copies")
    assert (copies.done, copies.quarantined) == (3, 1), (
        "without a contract, a total that is no number changes the schema"
    )


def test_silver_is_counted_as_it_is_and_not_by_what_was_tried(bench: Bench, target: LocalTarget) -> None:
    for key, text in {"a": PARTLY, "b": PARTLY, "c": GOOD, "d": GOOD}.items():
        bench.land(f"orders/{key}.csv", text=text)
    bench.work()
    bench.land("orders/a.csv", text=GOOD)
    bench.land("orders/b.csv", text=PARTLY)
    bench.work()
    report = of(look(bench, target), "orders")
    assert (report.done, report.rows, report.silver) == (5, 9, None)
    counted = of(status(bench.pipeline, target, now=bench.now, silver=True), "orders").silver
    assert counted == SilverCounts(files=4, rows=7, rejected=2, partial=1)


def test_silver_of_other_code_and_silver_without_bronze_are_counted(bench: Bench, target: LocalTarget) -> None:
    keys = [f"orders/{name}.csv" for name in ("a", "b", "c")] + ["orders/" + ("x" * 200 + "/") * 5 + "x.csv"]
    bench.land(*keys, text=GOOD)
    bench.work()
    for key in keys[2:]:
        bench.lake.bronze.delete(key)
    bench.lake.silver.put("orders/foreign.parquet", b"")
    assert silver_counts(bench.pipeline.find("orders"), target) == SilverCounts(files=5, rows=8, orphaned=2)
    changed = replace(bench.pipeline.find("orders"), fingerprint="other")
    assert silver_counts(changed, target) == SilverCounts(files=5, rows=8, outdated=2, orphaned=2)


def test_a_corrected_file_is_no_longer_in_quarantine(bench: Bench, target: LocalTarget) -> None:
    bench.land("orders/c.csv", text=BAD)
    bench.work()
    assert of(look(bench, target), "orders").quarantined == 1
    bench.land("orders/c.csv", text=GOOD)
    bench.work()
    assert of(look(bench, target), "orders").quarantined == 0


def test_an_event_that_no_rule_matches_is_counted(bench: Bench, target: LocalTarget) -> None:
    bench.land("readme.txt")
    bench.work()
    assert look(bench, target).chain.unmatched == 1


def test_the_same_again_is_a_duplicate(bench: Bench, target: LocalTarget) -> None:
    for _ in range(2):
        bench.land("orders/a.csv", text=GOOD)
        bench.work()
    result = of(look(bench, target), "orders")
    assert (result.done, result.duplicates) == (1, 1)


def test_status_says_whether_an_engine_runs(bench: Bench, target: LocalTarget) -> None:
    lock = LakeLock(bench.folder)
    assert look(bench, target).running
    lock.release()
    assert not look(bench, target).running


def test_it_can_be_printed_as_json(bench: Bench, target: LocalTarget) -> None:
    assert json.loads(json.dumps(look(bench, target).to_dict()))["pipeline"] == "shop"


def test_a_lake_that_never_ran_says_so(tmp_path: Path) -> None:
    folder, pipeline = LakeFolder(tmp_path), shop()
    folder.create(pipeline.bronze)
    with open_lake(folder, pipeline) as target:
        report = status(pipeline, target, now=0)
    assert (report.ran, report.running) == (False, False)
    assert [transform.name for transform in report.transforms] == ["orders", "copies"]


def test_a_folder_that_is_no_lake_is_a_wrong_call(tmp_path: Path) -> None:
    with pytest.raises(WrongCall, match=r"there is no lake in .*--lake"), open_lake(LakeFolder(tmp_path), shop()):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"this is no database at all, it only lies where one should be" * 100])
def test_a_journal_that_is_none_is_noticed(tmp_path: Path, content: bytes) -> None:
    folder, pipeline = LakeFolder(tmp_path), shop()
    folder.create(pipeline.bronze)
    folder.journal.write_bytes(content)
    if content:
        with pytest.raises(JournalUnreadable, match="move the file away"), open_lake(folder, pipeline):
            pass
    else:  # an engine was killed in the moment in which it made the file
        with open_lake(folder, pipeline) as target:
            assert not target.remembers
