"""Erase: no byte of a file is left anywhere in its lake, whatever happened before, wherever the command was killed."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from silversmith import Contract, Pipeline
from silversmith.lineage import error_key, rejected_key, silver_key
from silversmith.local.lake import LakeFolder, LakeLock
from silversmith.operations import WrongCall
from silversmith.operations.erase import ErasePlan, EraseReport, Erasure, delete_orphans, folders, orphans
from silversmith.operations.versions import UNDO_FOLDER, undo_copies, undo_name
from silversmith.schemas import Schemas
from silversmith.schemas.recorded import recorded_transforms
from silversmith.stores.keys import InvalidKey
from silversmith.stores.local import LocalStore
from silversmith.tables.commit import bring
from silversmith.tables.delta import DeltaFormat
from silversmith.tables.lineage import follow
from silversmith.tables.spec import TableSpec
from silversmith.tables.views import refresh
from tests.unit.conftest import Bench
from tests.unit.operations.test_history import saying
from tests.unit.tables.test_commit import Killed, kill_at

#: One of them is so long that its keys in silver and quarantine are cut short.
KEYS = ["people/a.csv", "people/b.csv", "people/c/d.csv", f"people/{'/'.join(['x' * 200] * 5)}.csv"]


def people(*, more: bool = True) -> Pipeline:
    """A transform with a contract, which fails on some rows, its table and a view; and ``more``: another transform with
    its table, and the lineage."""
    pipeline = Pipeline("shop", lineage=more)
    contract = Contract({"id": pl.Int64, "who": pl.String})

    @pipeline.transform("people/*.csv", contract=contract, max_receive_count=2)
    def customers(rows: pl.LazyFrame) -> pl.LazyFrame:
        if 666 in rows.collect()["id"]:
            raise RuntimeError(f"666 is nobody: {rows.collect()['who'].to_list()}")
        return rows

    pipeline.table("customers", of=customers, partition_by=["who"])
    if more:

        @pipeline.transform("*.csv")
        def copies(rows: pl.LazyFrame) -> pl.LazyFrame:
            return rows

        pipeline.table("copies", of=copies)
    pipeline.view("names", "select who, count(*) as n from customers group by who", by=["who"])
    return pipeline


class ErasingBench:
    """A lake whose chain is worked by hand, tables included."""

    def __init__(self, root: Path, pipeline: Pipeline | None = None) -> None:
        self.bench = Bench(LakeFolder(root / "lake"), pipeline or people())
        self.pipeline = self.bench.pipeline
        self.root = self.bench.folder.path
        self.gold = DeltaFormat(self.bench.folder.bucket(self.pipeline.gold), scratch=self.bench.folder.scratch)

    def put(self, key: str, text: str) -> None:
        self.bench.land(key, text=text)

    def work(self) -> None:
        self.bench.work()
        self.bring()

    def bring(self) -> None:
        """As the tables' function does, of all there is and was."""
        lake, spec = self.bench.lake, self.pipeline.tables
        for table in spec.tables:
            keys = [silver_key(table.transform, key) for key in KEYS]
            bring(table, keys, silver=lake.silver, gold=self.gold, step=lambda _: None)
        objects = [
            head.key
            for store in (lake.silver, lake.quarantine)
            for name in spec.lineage
            for head in store.list(f"{name}/")
        ]
        follow(
            spec.lineage, objects, silver=lake.silver, quarantine=lake.quarantine, gold=self.gold, step=lambda _: None
        )
        refresh(spec.views, self.gold, step=lambda _: None)

    def find(self, *keys: str) -> ErasePlan:
        with self.bench.opened() as target:
            return Erasure(keys, self.pipeline, target).find()

    def erase(self, *keys: str, **options: Any) -> EraseReport:
        with self.bench.opened() as target:
            return Erasure(keys, self.pipeline, target, pause=lambda _: None, **options).run()

    def close(self) -> None:
        self.bench.journal.close()


def renamed() -> Pipeline:
    """The first transform of :func:`people` under another name."""
    pipeline = Pipeline("shop")

    @pipeline.transform("people/*.csv", was="customers")
    def clients(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows

    return pipeline


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[ErasingBench]:
    bench = ErasingBench(tmp_path)
    yield bench
    bench.close()


GOOD = "id,who\n1,jane\n2,x\n"


def test_nothing_is_left_of_a_file_and_all_of_the_others(lake: ErasingBench) -> None:
    lake.put(KEYS[0], "id,who\n1,jane\n2,x\n")
    lake.put(KEYS[1], "id,who\n3,x\n")
    lake.work()
    lake.put(KEYS[0], "id,who\n1,jane-second\nx,jane-rejected\n")
    lake.work()
    lake.put(KEYS[0], "idd,whoo\n1,jane-quarantined\n")
    lake.work()
    assert len(saying("jane", lake.root)) > 5
    plan = lake.find(KEYS[0])
    assert [(each.bucket, each.key) for each in plan.objects] == [
        ("dl-bronze-layer", KEYS[0]),
        ("dl-quarantine-layer", rejected_key("customers", KEYS[0])),
        ("dl-quarantine-layer", error_key("customers", KEYS[0])),
        ("dl-silver-layer", silver_key("customers", KEYS[0])),
        ("dl-silver-layer", silver_key("copies", KEYS[0])),
    ]
    assert {each.table: each.keys for each in plan.tables} == {"customers": 1, "copies": 1, "_lineage": 1, "names": 0}
    assert plan.schemas == ["customers", "copies"]
    report = lake.erase(KEYS[0])
    assert (report.verified, report.left) == (True, [])
    assert report.deleted == plan.objects
    assert {each.table for each in report.histories} == {"customers", "copies", "_lineage", "names"}
    assert saying("jane", lake.root) == saying("people/a.csv", lake.root) == []
    assert pl.read_delta(lake.gold.location("customers"))["who"].to_list() == ["x"]
    assert pl.read_delta(lake.gold.location("names")).rows() == [("x", 1)]
    assert lake.find(KEYS[0]).is_empty
    assert not lake.find(KEYS[1]).is_empty
    json.dumps(report.to_dict())


def test_dead_messages_failed_tries_and_events_on_the_way_are_erased(lake: ErasingBench) -> None:
    lake.put(KEYS[0], "id,who\n666,jane\n")
    lake.put(KEYS[1], "id,who\n666,joe\n")
    for _ in range(3):
        lake.work()
    lake.put(KEYS[0], "id,who\n666,jane-again\n")  # nobody has taken its event
    records, others = lake.find(KEYS[0]).records, lake.find(KEYS[1]).records
    assert records["events on the way"] == 1
    assert records["messages"] == others["messages"] >= 1, "a dead one, and those to the tables"
    assert lake.erase(KEYS[0]).verified
    assert saying("jane", lake.root) == []
    assert lake.find(KEYS[1]).records == others
    with closing(sqlite3.connect(lake.bench.folder.journal)) as journal:
        depths = journal.execute("SELECT sum(messages) FROM queues").fetchone()
        assert depths == journal.execute("SELECT count(*) FROM messages").fetchone()
    lake.work()
    assert saying("jane", lake.root) == []


def test_the_journals_free_pages_keep_nothing(lake: ErasingBench) -> None:
    lake.put(KEYS[0], "idd\njane\n")
    lake.work()
    with lake.bench.journal.transaction():
        lake.bench.journal.change("forget_outcome", transform="customers", key=KEYS[0])
    assert lake.erase(KEYS[0]).verified
    assert saying(KEYS[0], lake.root) == []


def test_lines_of_logs_and_what_killed_processes_left(lake: ErasingBench) -> None:
    folder = lake.bench.folder
    log = folder.logs / "functions.log"
    line = json.dumps({"key": KEYS[0], "error": "jane"})
    log.write_text(f"before\n{line}\npeople/a.csv2 stays, as does apeople/a.csv\nafter\n")
    size = log.stat().st_size
    abandoned, recent = folder.engine_scratch / "bronze-1", folder.scratch / "0011"
    for path in (abandoned, recent, folder.state / "journal.db.damaged", folder.state / "journal.db.damaged-wal"):
        path.write_text("jane")
    os.utime(recent, (0, 0))
    assert lake.find(KEYS[0]).records == {"lines of logs": 1, "temporary files": 2, "damaged journals": 2}
    assert lake.erase(KEYS[0]).verified
    assert saying("jane", lake.root) == []
    assert "people/a.csv2 stays, as does apeople/a.csv\nafter\n" in log.read_text()
    assert log.stat().st_size == size, "whoever appends to it goes on"


def test_the_workers_of_a_running_engine_keep_their_files(lake: ErasingBench) -> None:
    path = lake.bench.folder.engine_scratch / "bronze-1"
    path.write_text("of a worker")
    lock = LakeLock(lake.bench.folder)
    try:
        assert lake.erase(KEYS[0]).verified
        assert path.exists()
    finally:
        lock.release()


def test_what_a_page_keeps_to_undo_an_upload(lake: ErasingBench) -> None:
    folder = Path(tempfile.mkdtemp(prefix=UNDO_FOLDER))
    try:
        (folder / undo_name("people/undo.csv", 1)).write_text("jane")
        (folder / undo_name("people/other.csv", 2)).write_text("joe")
        assert lake.find("people/undo.csv").undo_copies == 1
        assert lake.erase("people/undo.csv").undo_copies == 1
        assert list(undo_copies(["people/undo.csv"])) == []
        assert len(list(folder.iterdir())) == 1
    finally:
        shutil.rmtree(folder)


def test_bronze_may_be_kept(lake: ErasingBench) -> None:
    lake.put(KEYS[0], GOOD)
    lake.work()
    report = lake.erase(KEYS[0], keep_bronze=True)
    assert report.verified
    assert report.kept_bronze
    assert any("next reconciliation makes" in note for note in report.notes)
    assert [path for path in saying("jane", lake.root) if not path.startswith("dl-bronze-layer")] == []
    assert (lake.bench.folder.bucket("dl-bronze-layer") / KEYS[0]).read_text() == GOOD


def test_silver_of_a_transform_that_is_gone_goes_and_of_another_pipeline_stays(lake: ErasingBench) -> None:
    lake.put(KEYS[0], GOOD)
    lake.work()
    silver = lake.bench.lake.silver
    body = silver.read(silver_key("copies", KEYS[0]))
    assert body is not None
    for name in ("former", "foreign"):
        silver.put(silver_key(name, KEYS[0]), body)
    recorded = Schemas(silver, "foreign").look()
    recorded.replaced(silver, replace(recorded.document, owner="other"))
    report = lake.erase(KEYS[0])
    assert report.verified
    assert report.notes == [f"{silver_key('foreign', KEYS[0])} is silver of the pipeline other: erase the key there"]
    assert silver.head(silver_key("former", KEYS[0])) is None, "its lineage says that it was ours"
    assert silver.head(silver_key("foreign", KEYS[0])) is not None


def test_results_under_a_former_name_go(tmp_path: Path) -> None:
    """Silver, rejected rows and an error document, which none of the new name's are made of yet."""

    def shop(name: str, was: str = "") -> ErasingBench:
        pipeline = Pipeline("shop")
        pipeline.transform("people/*.csv", contract=Contract({"id": pl.Int64, "who": pl.String}), name=name, was=was)(
            lambda rows: rows
        )
        return ErasingBench(tmp_path, pipeline)

    lake = shop("clients")
    lake.put(KEYS[0], "id,who\n1,jane\nx,jane-rejected\n")
    lake.put(KEYS[1], "no\njane-quarantined\n")
    lake.work()
    lake.close()
    lake = shop("customers", was="clients")
    assert [each.key for each in lake.find(KEYS[0], KEYS[1]).objects if not each.key.startswith("people/")] == [
        rejected_key("clients", KEYS[0]),
        error_key("clients", KEYS[1]),
        silver_key("clients", KEYS[0]),
    ]
    assert lake.erase(KEYS[0], KEYS[1]).verified
    assert saying("jane", lake.root) == []
    lake.close()


def test_a_table_that_is_declared_no_more_is_named(lake: ErasingBench) -> None:
    lake.put(KEYS[0], GOOD)
    lake.work()
    former = TableSpec("former", "customers")
    bring(
        former, [silver_key("customers", KEYS[0])], silver=lake.bench.lake.silver, gold=lake.gold, step=lambda _: None
    )
    report = lake.erase(KEYS[0])
    assert not report.verified
    assert [(each.place, "does not declare" in each.reason) for each in report.left] == [("former", True)]


def test_a_lookup_is_not_erased_unless_that_is_said(tmp_path: Path) -> None:
    pipeline = Pipeline("shop")

    @pipeline.transform("people/*.csv", lookups=["lookup/names.csv"])
    def customers(rows: pl.LazyFrame, context: Any) -> pl.LazyFrame:
        return rows.join(context.read("lookup/names.csv"), on="id")

    lake = ErasingBench(tmp_path, pipeline)
    lake.put("lookup/names.csv", "id,name\n1,jane\n")
    with pytest.raises(WrongCall, match=r"is a lookup of customers: .* --lookups"):
        lake.erase("lookup/names.csv")
    report = lake.erase("lookup/names.csv", lookups=True)
    assert report.verified
    assert "all silver of customers may have values of it" in report.notes[0]
    assert saying("jane", lake.root) == []
    lake.close()


@pytest.mark.parametrize("keys", [[], [""], ["x" * 1025]])
def test_calls_that_are_wrong(lake: ErasingBench, keys: list[str]) -> None:
    with pytest.raises((WrongCall, InvalidKey)):
        lake.erase(*keys)


def test_what_cannot_be_deleted_is_told_with_the_reason(lake: ErasingBench) -> None:
    lake.put(KEYS[0], GOOD)
    lake.work()
    folder = lake.bench.folder.bucket("dl-silver-layer") / "copies/people"
    if os.geteuid() == 0:
        view = lake.gold.read("copies")
        assert view is not None
        (lake.bench.folder.bucket("dl-gold-layer") / "copies" / next(iter(view.paths))).unlink()
        report = lake.erase(KEYS[0])
        assert not report.verified
        assert any(each.place == "copies" for each in report.left)
        return
    folder.chmod(0o500)
    try:
        report = lake.erase(KEYS[0])
    finally:
        folder.chmod(0o700)
    assert not report.verified
    assert any(each.key == silver_key("copies", KEYS[0]) for each in report.left)


STEPS = [
    "erase.bronze", "erase.results", "erase.schemas", "erase.rows", "erase.closed", "erase.data", "erase.checkpoint",
    "erase.log", "erase.records",
]  # fmt: skip


@pytest.mark.full
@pytest.mark.parametrize("name", STEPS)
def test_it_is_killed_at_any_step_and_goes_on(lake: ErasingBench, name: str) -> None:
    lake.put(KEYS[0], "id,who\n1,jane\nx,jane-rejected\n")
    lake.work()
    with pytest.raises(Killed):
        lake.erase(KEYS[0], step=kill_at(name))
    lake.work()  # life goes on between
    assert lake.erase(KEYS[0]).verified
    lake.work()
    assert saying("jane", lake.root) == []


def test_the_transforms_of_which_something_is_recorded(tmp_path: Path) -> None:
    """Nothing else under that prefix is the name of one."""
    store = LocalStore(tmp_path / "b", scratch=tmp_path / "s", locks=tmp_path / "l", foreign_writers=False)
    for key in ("_schemas/b.json", "_schemas/a.json", "_schemas/a/b.json", "_schemas/c.txt", "a/_schemas/d.json"):
        store.put(key, b"{}")
    assert sorted(recorded_transforms(store)) == ["a", "b"]


def test_the_folders_of_a_bucket(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "b", scratch=tmp_path / "s", locks=tmp_path / "l", foreign_writers=False)
    for key in ("a/1", "a/2", "a-b/x", "a0/y", "top", "z/é/x", "_schemas/a.json"):
        store.put(key, b"x")
    assert list(folders(store)) == sorted({"a", "a-b", "a0", "z", "_schemas"}, key=lambda name: f"{name}/")


#: So few that they meet: one of them is long.
FEW = st.sampled_from([KEYS[0], KEYS[3]])


class Erasing(RuleBasedStateMachine):
    """Whatever happens to files, and wherever erasures are killed: of an erased file nothing is left."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.lake = ErasingBench(self.folder, people(more=False))
        self.number = 0
        self.tokens: dict[str, list[str]] = {}

    def teardown(self) -> None:
        self.lake.close()
        shutil.rmtree(self.folder)

    @rule(key=FEW, kind=st.sampled_from(["good", "partly", "bad", "harmful"]), is_taken=st.booleans())
    def put(self, key: str, kind: str, is_taken: bool) -> None:
        self.number += 1
        token = f"token{self.number:04}."
        self.tokens.setdefault(key, []).append(token)
        texts = {"good": "id,who\n1,{}\n2,x\n", "partly": "id,who\n1,{}\n{},y\n", "bad": "no,{}\n{},1\n"}
        self.lake.put(key, texts.get(kind, "id,who\n666,{}\n").replace("{}", token))
        if is_taken:
            self.lake.work()

    @rule()
    def work(self) -> None:
        self.lake.work()

    @rule(key=FEW)
    def send_again(self, key: str) -> None:
        """A duplicate, or an event that comes late."""
        if (self.lake.bench.folder.bucket("dl-bronze-layer") / key).exists():
            self.lake.bench.notice(key)

    @rule(key=FEW, step=st.sampled_from(STEPS), event_is_late=st.booleans())
    def erase(self, key: str, step: str, event_is_late: bool) -> None:
        with suppress(Killed):
            self.lake.erase(key, step=kill_at(step))
        if event_is_late:
            self.lake.work()
        report = self.lake.erase(key)
        assert report.verified, report.left
        said = {token: saying(token, self.lake.root) for token in self.tokens.pop(key, ())}
        assert not any(said.values()), said
        assert self.lake.find(key).is_empty

    @invariant()
    def others_are_there(self) -> None:
        bronze = self.lake.bench.folder.bucket("dl-bronze-layer")
        assert all(tokens[-1] in (bronze / key).read_text() for key, tokens in self.tokens.items())


Erasing.TestCase.settings = settings(max_examples=25, stateful_step_count=10)
TestErasing = pytest.mark.timeout(1_200)(pytest.mark.full(Erasing.TestCase))


# -- orphans


def test_orphans_are_deleted_with_their_rows_and_nothing_else_is(lake: ErasingBench) -> None:
    lake.put(KEYS[0], "id,who\n1,jane\nx,jane-rejected\n")
    lake.put(KEYS[1], "no\njane-quarantined\n")
    lake.put(KEYS[2], "id,who\n2,joe\nx,joe-rejected\n")
    lake.put("people/back.csv", GOOD)
    lake.work()
    store, back = lake.bench.lake, "people/back.csv"
    body = store.silver.read(silver_key("copies", KEYS[2]))
    assert body is not None
    for name in ("former", "foreign"):
        store.silver.put(silver_key(name, KEYS[2]), body)
    recorded = Schemas(store.silver, "foreign").look()
    recorded.replaced(store.silver, replace(recorded.document, owner="other"))
    with lake.bench.opened() as target:
        assert [each.transform for each in orphans(lake.pipeline, target)] == ["former"]
        for key in (KEYS[0], KEYS[1], back):
            store.bronze.delete(key)
        listed = list(orphans(lake.pipeline, target))
        gone = {(name, key) for name in ("customers", "copies") for key in (KEYS[0], KEYS[1], back)}
        assert {(each.transform, each.key) for each in listed} == {("former", KEYS[2]), *gone}
        store.bronze.put(back, GOOD.encode())  # it has come back meanwhile
        deleted = delete_orphans(listed, lake.pipeline, target)
        assert {each.key for each in listed} - {each.key for each in deleted} == {back}
        assert list(orphans(lake.pipeline, target)) == []
    assert store.silver.head(silver_key("foreign", KEYS[2])) is not None
    assert store.quarantine.head(rejected_key("customers", KEYS[2])) is not None
    assert store.quarantine.head(error_key("customers", KEYS[1])) is None
    assert set(pl.read_delta(lake.gold.location("customers"))["_file"]) == {KEYS[2]}


def test_silver_of_a_former_name_is_no_orphan_before_it_is_taken_over(tmp_path: Path) -> None:
    lake = ErasingBench(tmp_path, people(more=False))
    good, gone, bad, long = KEYS[0], KEYS[1], KEYS[2], KEYS[3]
    for key in (good, gone, long):
        lake.put(key, "id,who\n1,jane\nx,jane-rejected\n")
    lake.put(bad, "no\n1\n")
    lake.work()
    store = lake.bench.lake
    store.bronze.delete(gone)

    def listed() -> set[tuple[str, str]]:
        with lake.bench.opened() as target:
            return {(each.key, name) for each in orphans(renamed(), target) for name in (each.silver, *each.quarantine)}

    def results(key: str) -> set[tuple[str, str]]:
        return {(key, ""), (key, silver_key("customers", key)), (key, rejected_key("customers", key))}

    of_bad = {(bad, ""), (bad, error_key("customers", bad))}
    assert listed() == {*results(gone), *of_bad}
    for key in (good, long):
        body = store.silver.read(silver_key("customers", key))
        store.silver.put(silver_key("clients", key), body or b"")
    taken_over = {*results(good), *results(long)}
    assert listed() == {*results(gone), *of_bad, *taken_over}
    with lake.bench.opened() as target:
        delete_orphans(list(orphans(renamed(), target)), renamed(), target)
    assert listed() == set()
    assert [head.key for head in store.silver.list("clients/")]
    lake.close()
