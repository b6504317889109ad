"""Compaction, vacuum and checkpoints: what a reader sees stays the same."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import polars as pl
import pytest

from silversmith.stores import batched
from silversmith.tables.delta import MOST_SMALL, MOST_SORTED, RETENTION_DAYS, TARGET_ROWS, YOUNG_SECONDS
from silversmith.tables.format import Refused
from silversmith.tables.spec import TableSpec
from silversmith.tables.upkeep import VACUUM_SECONDS, VACUUMED, YOUNG, Kept, keep
from tests.unit.tables.kit import TRANSFORM, GoldBench, nothing
from tests.unit.tables.test_commit import once


@pytest.fixture
def bench(tmp_path: Path) -> GoldBench:
    return GoldBench(tmp_path)


def kept(bench: GoldBench, now: float = 0.0, *, force: bool = False) -> Kept:
    return keep("orders", bench.gold, now=now, force=force, step=nothing)


def test_many_small_files_become_one(bench: GoldBench) -> None:
    for number in range(MOST_SMALL):
        assert not kept(bench).compacted
        bench.bring(bench.put(f"{number}.csv", {"x": [number]}))
    rows, version = bench.rows(), bench.snapshot().version
    assert kept(bench).compacted
    assert len(bench.snapshot().table.file_uris()) == 1
    assert bench.rows() == rows
    assert bench.snapshot().version == version + 2
    changed = bench.snapshot().changes(version, ["x"])
    assert changed is not None
    assert not list(changed.batches)


def test_partitions_are_compacted_each_for_itself(bench: GoldBench) -> None:
    table = TableSpec("orders", TRANSFORM, partition_by=("day",), sort_by=("x",))
    for number in range(MOST_SMALL):
        day = "mo" if number else None
        bench.bring(bench.put(f"{number}.csv", {"x": [number, -number], "day": [day, "it's/tu"]}), table=table)
    rows = bench.rows()
    assert keep("orders", bench.gold, now=0, sort_by=("x",), step=nothing).compacted
    assert len(bench.snapshot().table.file_uris()) == MOST_SMALL + 1
    assert bench.rows() == rows
    (compacted,) = [file for file in bench.snapshot().table.file_uris() if "tu" in file]
    numbers = pl.read_parquet(compacted, hive_partitioning=False)["x"].to_list()
    assert numbers == sorted(numbers)
    assert keep("orders", bench.gold, now=0, force=True, step=nothing).compacted
    assert len(bench.snapshot().table.file_uris()) == 3
    assert bench.rows() == rows


@pytest.mark.full
def test_a_data_file_has_so_many_rows_that_a_correction_stays_cheap(bench: GoldBench) -> None:
    """Rows that compress well: by their bytes alone millions would be in one data file."""

    def rows_of_files() -> list[int]:
        return [int(n) for n in bench.snapshot().table.get_add_actions(flatten=True).column("num_records").to_pylist()]

    number, every = 8 * TARGET_ROWS // MOST_SMALL, 4
    for file in range(MOST_SMALL):
        bench.bring(bench.put(f"{file:02}.csv", {"x": [file * number + row for row in range(number)]}))
    assert kept(bench).compacted
    assert len(rows_of_files()) > 2
    assert max(rows_of_files()) <= 2 * TARGET_ROWS
    for _ in range(2):
        bench.bring(*(bench.put(f"{file:02}.csv", {"x": [file] * number}) for file in range(0, MOST_SMALL, every)))
        assert max(rows_of_files()) <= 4 * TARGET_ROWS, "what is replaced anywhere is not written into one file"
    assert sum(rows_of_files()) == MOST_SMALL * number


@pytest.mark.full
def test_a_large_partition_is_not_sorted_by_the_way(bench: GoldBench) -> None:
    table = TableSpec("orders", TRANSFORM, sort_by=("x",))
    number = TARGET_ROWS // 4
    for files in batched(range(4 * (MOST_SORTED + 3)), 4):
        keys = [bench.put(f"{file:02}.csv", {"x": [number - row for row in range(number)]}) for file in files]
        bench.bring(*keys, table=table)
    large = set(bench.snapshot().table.file_uris())
    for file in range(MOST_SMALL):
        bench.bring(bench.put(f"small-{file:02}.csv", {"x": [-file]}), table=table)
    assert keep("orders", bench.gold, now=0, sort_by=("x",), step=nothing).compacted
    assert large & set(bench.snapshot().table.file_uris()), "those that are large enough are left as they are"
    bench.bring(bench.put("more.csv", {"x": [1]}), table=table)
    keep("orders", bench.gold, now=0, sort_by=("x",), force=True, step=nothing)
    assert not large & set(bench.snapshot().table.file_uris())


def test_a_vacuum_is_once_a_day_and_leaves_what_readers_may_need(bench: GoldBench) -> None:
    for number in range(YOUNG):
        bench.bring(bench.put("a.csv", {"x": [number]}))
    folder = bench.root / "gold" / "orders"
    assert len(list(folder.glob("*.parquet"))) == YOUNG
    old = bench.snapshot()
    assert kept(bench, now=1_000_000).vacuumed
    assert bench.snapshot().mark(VACUUMED) == 1_000_000
    assert not kept(bench, now=1_000_000 + VACUUM_SECONDS - 1).vacuumed
    assert kept(bench, now=1_000_000 + VACUUM_SECONDS).vacuumed
    assert len(list(folder.glob("*.parquet"))) == YOUNG
    assert old.etags(["a.csv"])  # a query that began before goes on
    assert bench.rows() == [("a.csv", YOUNG - 1)]


def test_a_vacuum_deletes_what_no_version_of_the_last_days_needs(bench: GoldBench) -> None:
    bench.bring(bench.put("a.csv", {"x": [1]}))
    folder = bench.root / "gold" / "orders"
    abandoned = folder / "part-00000-00000000-0000-0000-0000-000000000000-c000.zstd.parquet"
    abandoned.write_bytes(b"a commit that was refused")
    young = folder / "part-00001-00000000-0000-0000-0000-000000000000-c000.zstd.parquet"
    young.write_bytes(b"a commit that is under way")
    past = time.time() - (RETENTION_DAYS + 1) * 24 * 60 * 60
    os.utime(abandoned, (past, past))
    assert kept(bench, force=True).vacuumed
    assert not abandoned.exists()
    assert young.exists()
    assert bench.rows() == [("a.csv", 1)]


def test_upkeep_gives_way_to_a_commit(bench: GoldBench) -> None:
    for number in range(3):
        bench.bring(bench.put(f"{number}.csv", {"x": [number]}))
    step = once("tables.compacted", lambda: bench.bring(bench.put("more.csv", {"x": [7]})))
    assert keep("orders", bench.gold, now=0, force=True, step=step) == Kept(compacted=True)
    assert sorted(bench.table()["x"]) == [0, 1, 2, 7]


@pytest.mark.parametrize("sort_by", [(), ("x",)])
def test_compaction_goes_on_beside_a_vacuum(sort_by: tuple[str, ...], bench: GoldBench) -> None:
    """A vacuum notes its begin and its end in the log: compaction, which changes no row, stands behind them."""
    for number in range(3):
        bench.bring(bench.put(f"{number}.csv", {"x": [number]}))
    bench.bring(bench.put("0.csv", {"x": [9]}))
    begun = bench.snapshot()._announced()
    bench.snapshot().table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False, full=True)
    assert begun._compacted([], sort_by, 1_000_000).extent.files == 1
    assert bench.rows() == [("0.csv", 9), ("1.csv", 1), ("2.csv", 2)]


@pytest.mark.parametrize("sort_by", [(), ("x",)])
@pytest.mark.parametrize(
    ("act", "is_refused"),
    [
        (lambda bench: bench.bring(bench.put("new.csv", {"x": [7]})), False),
        (lambda bench: bench.bring(bench.put("1.csv", {"x": [7]})), True),
        (lambda bench: bench.bring(bench.delete("1.csv")), True),
        (lambda bench: bench.bring(bench.put("new.csv", {"x": [7], "y": [1]})), True),
        (lambda bench: bench.snapshot().rewrite([], bench.snapshot().columns, partition_by=[]), True),
        (lambda bench: bench.snapshot().compact((), force=True), True),
    ],
    ids=["new", "corrected", "deleted", "column", "rewritten", "compacted"],
)
def test_compaction_behind_a_commit_changes_no_row(
    act: Callable[[GoldBench], object], is_refused: bool, sort_by: tuple[str, ...], bench: GoldBench
) -> None:
    for number in range(3):
        bench.bring(bench.put(f"{number}.csv", {"x": [number]}))
    stalled, begun = bench.snapshot(), bench.snapshot()._announced()
    act(bench)
    rows = bench.rows()
    with pytest.raises(Refused):
        stalled.compact(sort_by, force=True)
    with pytest.raises(Refused) if is_refused else nullcontext():
        begun._compacted([], sort_by, 1_000_000)
    assert bench.rows() == rows


@pytest.mark.parametrize("sort_by", [(), ("x",)])
def test_of_two_compactions_that_began_one_is_refused(sort_by: tuple[str, ...], bench: GoldBench) -> None:
    """delta-rs would let both be: every row would be there twice."""
    for number in range(3):
        bench.bring(bench.put(f"{number}.csv", {"x": [number]}))
    first = bench.snapshot()._announced()
    second = bench.snapshot()._announced()
    with pytest.raises(Refused):
        first._compacted([], sort_by, 1_000_000)
    assert second._compacted([], sort_by, 1_000_000).extent.files == 1
    bench.bring(bench.put("new.csv", {"x": [3]}))
    third = bench.snapshot()._announced()
    bench.snapshot().compact(sort_by, force=True)
    with pytest.raises(Refused):
        third._compacted([], sort_by, 1_000_000)
    assert [row[1] for row in bench.rows()] == [0, 1, 2, 3]


def test_the_log_is_bounded_by_checkpoints(bench: GoldBench) -> None:
    for number in range(45):
        bench.bring(bench.put("a.csv", {"x": [number]}))
    log = bench.root / "gold" / "orders" / "_delta_log"
    assert len(list(log.glob("*.checkpoint.parquet"))) == 2


def test_a_table_that_is_not_there_needs_nothing(bench: GoldBench) -> None:
    assert kept(bench) == Kept()


def test_a_folder_keeps_so_many_versions(bench: GoldBench) -> None:
    """A reader at a forgotten version begins again."""
    bench.bring(bench.put("a.csv", {"x": [1]}))
    stalled = [bench.snapshot() for _ in range(3)]
    newest = bench.snapshot()
    while newest.version < 131:
        newest = newest.commit([])
    log = bench.root / "gold" / "orders" / "_delta_log"
    before = set(log.iterdir())
    newest.forget(60)
    assert set(log.iterdir()) == before, "what is younger than an hour stays"
    past = time.time() - YOUNG_SECONDS - 1
    for path in before:
        os.utime(path, (past, past))
    newest.forget(300)
    assert set(log.iterdir()) == before
    newest.forget(60)
    left = sorted(path.name for path in log.iterdir())
    assert left[:2] == [f"{59:020}.checkpoint.parquet", f"{59:020}.json"]
    assert set(before) - set(log.iterdir()) == {path for path in before if path.name < left[0]}
    assert bench.rows() == [("a.csv", 1)]
    assert bench.gold.read("orders", 58) is None
    assert bench.gold.read("orders", 59) is not None
    assert newest.changes(30, ["x"]) is None
    assert newest.changes(60, ["x"]) is not None
    with pytest.raises(Refused):
        stalled[0].commit([], where="_file = 'a.csv'")
    with pytest.raises(Refused):
        stalled[1].rewrite([], stalled[1].columns, partition_by=())
    with pytest.raises(Refused):
        stalled[2].add_columns({"y": "string"})
    assert sorted(path.name for path in log.iterdir()) == left
    assert stalled[0].etags(["a.csv"]), "a query that began before goes on"
    assert bench.bring(bench.put("a.csv", {"x": [2]})).commits == 1


def test_the_log_loses_what_is_older_than_a_week(bench: GoldBench) -> None:
    newest = bench.snapshot() if bench.bring(bench.put("a.csv", {"x": [1]})).commits else None
    assert newest is not None
    while newest.version < 70:
        newest = newest.commit([])
    log = bench.root / "gold" / "orders" / "_delta_log"
    past = time.time() - (RETENTION_DAYS + 1) * 24 * 60 * 60
    for path in log.glob("*.json"):
        if int(path.stem) < 50:
            os.utime(path, (past, past))
    newest.commit([])
    assert (log / f"{0:020}.json").exists(), "a commit looks at no old file of the log"
    assert kept(bench, force=True).vacuumed
    assert not (log / f"{0:020}.json").exists()
    assert bench.rows() == [("a.csv", 1)]
