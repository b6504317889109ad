"""Invariant 8 as state machines: whatever is put, overwritten, deleted, killed, compacted, doubled, lost or reordered,
at the end the rows of the table are those of silver, each once, and a view is what its query says of all rows."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from silversmith.lineage import silver_key
from silversmith.tables.compare import differing
from silversmith.tables.spec import TableSpec
from silversmith.tables.upkeep import keep
from silversmith.tables.views import Difference, compare, refresh
from tests.unit.tables.kit import TRANSFORM, GoldBench, nothing
from tests.unit.tables.test_commit import Killed, kill_at, once
from tests.unit.tables.test_views import DAILY, LATEST, views

FILES = st.sampled_from(["a.csv", "b.csv", "c/d.csv", "it's.csv"])
ROW = st.tuples(st.sampled_from(["mo", "tu", None]), st.integers(1, 2), st.integers(0, 9), st.integers(0, 3))
ROWS = st.lists(ROW, max_size=3)
STEPS = st.sampled_from(["tables.looked", "tables.read", "tables.prepared", "tables.committed"])
VIEW_STEPS = st.sampled_from(["tables.view_computed", "tables.view_committed"])
COLUMNS = {"day": pl.String, "customer": pl.Int64, "total": pl.Int64, "at": pl.Int64}

VIEWS = views(
    ("daily", DAILY, ["day"]),
    ("latest", LATEST, ["customer"]),
    ("sizes", "select n, count(*) as days from daily group by n", ["n"]),
    ("everything", "select sum(total) as total, count(*) as n from orders", []),
    ("pairs", "select a.day, count(*) as n from orders a left join orders b on a.day = b.day group by a.day", ["day"]),
).views


class Tables(RuleBasedStateMachine):
    """Silver changes; its events are kept, and come in any order, twice, or never."""

    table = TableSpec("orders", TRANSFORM)

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="gold-"))
        self.bench = GoldBench(self.root)
        self.silver: dict[str, list[tuple[Any, ...]]] = {}
        self.events: set[str] = set()

    def teardown(self) -> None:
        try:
            self.settle()
        finally:
            shutil.rmtree(self.root)

    def settle(self) -> None:
        """Reconcile brings the files that events missed."""
        missed = differing(self.table, self.bench.silver, self.bench.gold)
        self.bench.bring(*missed, table=self.table)
        assert differing(self.table, self.bench.silver, self.bench.gold) == []
        expected = [(file, *row) for file, rows in self.silver.items() for row in rows]
        if self.bench.gold.read("orders") is not None:
            columns = ["_file", *COLUMNS]
            there = self.bench.table(own=True).select(columns).rows()
            assert sorted(there, key=repr) == sorted(expected, key=repr)
        else:
            assert expected == []

    # -- silver

    @rule(file=FILES, rows=ROWS)
    def put(self, file: str, rows: list[tuple[Any, ...]]) -> None:
        self.silver[file] = rows
        self.events.add(self.bench.put(file, pl.DataFrame(rows, schema=COLUMNS, orient="row")))

    @rule(file=FILES)
    def delete(self, file: str) -> None:
        self.silver.pop(file, None)
        self.events.add(self.bench.delete(file))

    # -- events

    @rule()
    def bring_all(self) -> None:
        self.bench.bring(*sorted(self.events), table=self.table)
        self.events.clear()

    @rule(file=FILES)
    def bring_one(self, file: str) -> None:
        self.bench.bring(silver_key(TRANSFORM, file), table=self.table)

    @rule()
    def lose(self) -> None:
        self.events.clear()

    @rule(file=FILES, other_file=FILES, rows=ROWS, name=STEPS)
    def overtake(self, file: str, other_file: str, rows: list[tuple[Any, ...]], name: str) -> None:
        """Another committer, and silver that is overwritten, between two steps."""

        def meanwhile() -> None:
            self.put(other_file, rows)
            self.bench.bring(silver_key(TRANSFORM, other_file), silver_key(TRANSFORM, file), table=self.table)
            self.put(file, rows)

        self.bench.bring(silver_key(TRANSFORM, file), table=self.table, step=once(name, meanwhile))

    @rule(name=STEPS)
    def crash(self, name: str) -> None:
        with suppress(Killed):
            self.bench.bring(*sorted(self.events), table=self.table, step=kill_at(name))

    @rule()
    def compact(self) -> None:
        keep("orders", self.bench.gold, now=0, force=True, step=nothing)

    @rule(name=STEPS, file=FILES)
    def compact_meanwhile(self, name: str, file: str) -> None:
        self.bench.bring(silver_key(TRANSFORM, file), table=self.table, step=once(name, self.compact))

    @invariant()
    def each_row_is_of_silver_once(self) -> None:
        """At any time a file has rows of one of its versions, whole."""
        snapshot = self.bench.gold.read("orders")
        if snapshot is not None:
            assert "" not in snapshot.all_etags().values()


class Views(Tables):
    """The same with views, which are brought up to date now and then."""

    def settle(self) -> None:
        super().settle()
        refresh(VIEWS, self.bench.gold, step=nothing)
        for view in VIEWS:
            assert compare(view, self.bench.gold) in (None, Difference(0, 0)), view.name
        self._require_latest()

    def _require_latest(self) -> None:
        """By hand, for one of them: the comparison itself runs DataFusion's SQL."""
        if self.bench.gold.read("latest") is None:
            return
        rows = [row for rows in self.silver.values() for row in rows]
        best = {
            customer: max((at, -total) for _, name, total, at in rows if name == customer) for _, customer, _, _ in rows
        }
        there = self.bench.table("latest").select("customer", "at", "total").rows()
        assert sorted(there) == sorted((customer, at, -total) for customer, (at, total) in best.items())

    @initialize(rows=st.lists(ROW, min_size=1, max_size=4))
    def begin(self, rows: list[tuple[Any, ...]]) -> None:
        """There is a view already, or the first look would compute all of it."""
        self.follow("first.csv", rows)

    @rule()
    def refresh(self) -> None:
        refresh(VIEWS, self.bench.gold, step=nothing)

    @rule(file=FILES, rows=ROWS)
    def follow(self, file: str, rows: list[tuple[Any, ...]]) -> None:
        """As it goes when nothing happens."""
        self.put(file, rows)
        self.bring_one(file)
        self.refresh()

    @rule(name=VIEW_STEPS)
    def crash_in_a_view(self, name: str) -> None:
        with suppress(Killed):
            refresh(VIEWS, self.bench.gold, step=kill_at(name))

    @rule(name=VIEW_STEPS, file=FILES, rows=ROWS)
    def overtake_a_view(self, name: str, file: str, rows: list[tuple[Any, ...]]) -> None:
        def meanwhile() -> None:
            self.put(file, rows)
            self.bench.bring(silver_key(TRANSFORM, file), table=self.table)
            self.refresh()

        refresh(VIEWS, self.bench.gold, step=once(name, meanwhile))

    @rule()
    def compact_views(self) -> None:
        for view in VIEWS:
            keep(view.name, self.bench.gold, now=0, force=True, step=nothing)


class Sorted(Tables):
    """The same with partitions and an order of rows."""

    table = TableSpec("orders", TRANSFORM, partition_by=("day",), sort_by=("customer", "at"))


TestTables = Tables.TestCase
TestTables.settings = settings(max_examples=15, stateful_step_count=12)

TestSorted = pytest.mark.full(Sorted.TestCase)
TestSorted.settings = settings(max_examples=25, stateful_step_count=15)

TestViews = pytest.mark.full(Views.TestCase)
TestViews.settings = settings(max_examples=25, stateful_step_count=15)
