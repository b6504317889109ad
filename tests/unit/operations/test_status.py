"""Status counts what is there, and what happened."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from silversmith.local.lake import LakeFolder, LakeLock
from silversmith.operations import WrongCall
from silversmith.operations.local import JournalUnreadable, LocalTarget, open_lake
from silversmith.operations.status import Status, TransformStatus, status
from tests.unit.operations.conftest import BAD, GOOD, HARMFUL, PARTLY, World, shop


def look(world: World, target: LocalTarget) -> Status:
    return status(world.pipeline, target, now=world.now)


def of(found: Status, name: str) -> TransformStatus:
    return next(transform for transform in found.transforms if transform.name == name)


def test_a_lake_where_nothing_happened_is_all_zeros(world: World, target: LocalTarget) -> None:
    found = look(world, target)
    assert [transform.name for transform in found.transforms] == ["orders", "copies"]
    assert all(transform.waiting == transform.done == transform.dead == 0 for transform in found.transforms)
    assert (found.ran, found.running, found.chain.created) == (True, False, 0)
    assert found.buckets["bronze"] == "dl-bronze-layer"


def test_what_waits_is_counted_with_its_age(world: World, target: LocalTarget) -> None:
    world.land("orders/a.csv", GOOD)
    world.land("b.csv", GOOD)
    world.now += 30
    found = look(world, target)
    assert (of(found, "orders").waiting, of(found, "copies").waiting) == (1, 2)
    assert of(found, "orders").oldest_seconds == 30
    assert (found.chain.created, found.chain.events, found.chain.published) == (2, 2, 2)


def test_what_is_worked_on_is_in_flight(world: World, target: LocalTarget) -> None:
    world.land("orders/a.csv", GOOD)
    assert world.receive("orders") is not None
    found = of(look(world, target), "orders")
    assert (found.waiting, found.in_flight) == (0, 1)


def test_what_came_of_it_is_counted(world: World, target: LocalTarget) -> None:
    for name, data in {"a": GOOD, "b": PARTLY, "c": BAD, "d": HARMFUL}.items():
        world.land(f"orders/{name}.csv", data)
    world.work()
    found = of(look(world, target), "orders")
    assert (found.done, found.rows, found.rejected, found.quarantined) == (2, 3, 2, 1)
    assert (found.dead, found.retried, found.waiting, found.in_flight) == (1, 2, 0, 0)
    assert of(look(world, target), "copies").done == 4


def test_a_mended_file_is_no_longer_in_quarantine(world: World, target: LocalTarget) -> None:
    world.land("orders/c.csv", BAD)
    world.work()
    assert of(look(world, target), "orders").quarantined == 1
    world.land("orders/c.csv", GOOD)
    world.work()
    assert of(look(world, target), "orders").quarantined == 0


def test_an_event_that_no_rule_wants_is_counted(world: World, target: LocalTarget) -> None:
    world.land("readme.txt", b"hello")
    assert look(world, target).chain.unmatched == 1


def test_the_same_again_is_a_duplicate(world: World, target: LocalTarget) -> None:
    world.land("orders/a.csv", GOOD)
    world.work()
    world.land("orders/a.csv", GOOD)
    world.work()
    found = of(look(world, target), "orders")
    assert (found.done, found.duplicates) == (1, 1)


def test_whether_an_engine_runs_is_told(world: World, target: LocalTarget) -> None:
    lock = LakeLock(world.folder)
    assert look(world, target).running
    lock.release()
    assert not look(world, target).running


def test_it_can_be_printed_as_json(world: World, target: LocalTarget) -> None:
    assert json.loads(json.dumps(look(world, target).to_dict()))["pipeline"] == "shop"


def test_a_lake_that_never_ran_says_so(tmp_path: Path) -> None:
    folder, pipeline = LakeFolder(tmp_path), shop()
    folder.create(pipeline.bronze)
    with open_lake(folder, pipeline) as target:
        found = status(pipeline, target, now=0)
    assert (found.ran, found.running) == (False, False)
    assert [transform.name for transform in found.transforms] == ["orders", "copies"]


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
