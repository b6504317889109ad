"""The lineage as a table: what every object of silver and every document in quarantine says, each once."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from silversmith.formats.writer import parquet_bytes
from silversmith.lineage import error_key, failed_key, silver_key
from silversmith.stores import Store
from silversmith.stores.local import LocalStore
from silversmith.tables.commit import Brought
from silversmith.tables.lineage import COLUMNS, differing, follow
from silversmith.tables.spec import LINEAGE
from silversmith.tables.upkeep import keep
from tests.unit.tables.kit import TRANSFORM, GoldBench, lineage, nothing
from tests.unit.tables.test_commit import Killed, kill_at, once

#: One of them is so long that its keys in silver and quarantine are cut short.
LONG = "long/" + "x" * 1000
NAMES = ["a.csv", "b.csv", "c/d.csv", "it's.csv", LONG]
FILES = st.sampled_from(NAMES)
STEPS = st.sampled_from(["tables.looked", "tables.read", "tables.committed"])
AT = "2026-01-02T03:04:05.000Z"


class LineageBench(GoldBench):
    """Silver, quarantine and the lineage."""

    quarantine: Store

    def __post_init__(self) -> None:
        super().__post_init__()
        self.quarantine = LocalStore(
            self.root / "quarantine", scratch=self.root / "scratch", locks=self.root / "locks", foreign_writers=False
        )

    def silvered(self, file: str, **fields: Any) -> str:
        """Put silver whose lineage says so."""
        key = silver_key(TRANSFORM, file)
        said = replace(lineage(file, TRANSFORM, 1), **fields)
        self.silver.put(key, parquet_bytes(pl.DataFrame({"x": [1]}), said.to_json()))
        return key

    def quarantined(self, file: str, code: str = "MissingColumn", **fields: Any) -> str:
        document = {"error": {"code": code}, "bronze": {"key": file, "etag": "e", "version": "", "size": 3}, "at": AT}
        key = error_key(TRANSFORM, file)
        self.quarantine.put(key, json.dumps({**document, "fingerprint": "f", **fields}).encode())
        return key

    def tried(self, file: str, *, dead: bool) -> str:
        document = {"error": {"code": "ValueError"}, "bronze": {"key": file, "etag": "e"}, "fingerprint": "f"}
        key = failed_key(TRANSFORM, file)
        self.quarantine.put(key, json.dumps({**document, "dead": dead}).encode())
        return key

    def follow(self, *keys: str, step: Callable[[str], None] = nothing) -> Brought:
        return follow([TRANSFORM], keys, silver=self.silver, quarantine=self.quarantine, gold=self.gold, step=step)

    def differing(self) -> list[str]:
        return differing(TRANSFORM, silver=self.silver, quarantine=self.quarantine, gold=self.gold)

    def states(self) -> list[tuple[str, str, str]]:
        """Of each row its file, its state, and the fingerprint or the code of the error."""
        frame = pl.read_delta(self.gold.location(LINEAGE))
        assert frame.columns == list(COLUMNS)
        columns = ("_file", "state", pl.coalesce("error", "fingerprint"))
        return sorted(frame.select(*columns).rows())


@pytest.fixture
def bench(tmp_path: Path) -> LineageBench:
    return LineageBench(tmp_path)


def test_a_row_says_what_the_object_says(bench: LineageBench) -> None:
    fields = {"rows_read": 5, "rows_rejected": 2, "schema": 3}
    key = bench.silvered("a.csv", bronze_version="v1", owner="shop", lookups="l", **fields)
    error = bench.quarantined("b.csv")
    assert bench.follow(key, error).replaced == 2
    silver, document = pl.read_delta(bench.gold.location(LINEAGE)).sort("_file").to_dicts()
    assert {name: value for name, value in silver.items() if name not in {"_etag", "committed_at"}} == {
        "_file": "a.csv", "transform": TRANSFORM, "state": "silver", "bronze_etag": "e", "bronze_version": "v1",
        "bronze_size": 1, "fingerprint": "f", "lookups": "l", "schema_version": 3, "owner": "shop", "rows_read": 5,
        "rows_written": 1, "rows_rejected": 2, "error": None,
    }  # fmt: skip
    head = bench.silver.head(key)
    assert head is not None
    assert silver["_etag"] == head.etag
    assert silver["committed_at"].isoformat() == "2026-01-02T03:04:05+00:00"
    assert (document["state"], document["error"], document["rows_read"]) == ("quarantined", "MissingColumn", None)


def test_rows_that_are_there_already_make_no_commit(bench: LineageBench) -> None:
    key = bench.silvered("a.csv")
    first = bench.follow(key)
    again = bench.follow(key, key)
    assert (again.unchanged, again.commits, again.version) == (1, 0, first.version)


def test_a_file_that_became_silver_leaves_quarantine_by_silvers_event_alone(bench: LineageBench) -> None:
    bench.follow(bench.quarantined("a.csv"), bench.tried("a.csv", dead=True))
    assert [state for _, state, _ in bench.states()] == ["given_up", "quarantined"]
    bench.quarantine.delete(error_key(TRANSFORM, "a.csv"))
    bench.quarantine.delete(failed_key(TRANSFORM, "a.csv"))
    bench.follow(bench.silvered("a.csv"))
    assert [state for _, state, _ in bench.states()] == ["silver"]


def test_a_file_that_is_tried_again_has_no_row(bench: LineageBench) -> None:
    brought = bench.follow(bench.tried("a.csv", dead=False))
    assert brought.commits == 0
    assert bench.gold.read(LINEAGE) is None


@pytest.mark.parametrize("name", ["plain.csv", LONG])
def test_deleted_silver_goes_though_its_key_was_cut_short(bench: LineageBench, name: str) -> None:
    key = bench.silvered(name)
    bench.follow(key)
    bench.silver.delete(key)
    assert bench.differing() == [key]
    assert bench.follow(key).removed == 1
    assert bench.states() == []


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"[]", b"{}", b'{"bronze": 1, "error": []}', b'{"bronze": {"key": "b.csv"}}', b"[" * 9999]
)
def test_a_document_that_is_none_has_no_row(bench: LineageBench, body: bytes) -> None:
    """The last but one speaks of another file than its key does."""
    key = error_key(TRANSFORM, "a.csv")
    bench.quarantine.put(key, body)
    assert bench.follow(key).failed == {}
    assert bench.gold.read(LINEAGE) is None
    assert bench.differing() == []


def test_numbers_that_no_column_takes_are_unknown(bench: LineageBench) -> None:
    bronze = {"key": "a.csv", "etag": 7, "size": 2**70}
    bench.follow(bench.quarantined("a.csv", bronze=bronze, at="yesterday"))
    row = pl.read_delta(bench.gold.location(LINEAGE)).to_dicts()[0]
    assert (row["bronze_etag"], row["bronze_size"], row["committed_at"]) == ("", None, None)


def test_other_objects_and_other_transforms_are_left_out(bench: LineageBench) -> None:
    bench.silver.put("_schemas/orders.json", b"{}")
    bench.silver.put("orders/notes.txt", b"x")
    brought = bench.follow("_schemas/orders.json", "orders/notes.txt", "others/a.csv.parquet", "x")
    assert (brought.commits, brought.unchanged, bench.gold.read(LINEAGE)) == (0, 0, None)


@pytest.mark.parametrize("column", ["bronze_etag", "fingerprint", "rows_written", "error", "_etag"])
def test_a_lie_in_the_table_goes_when_its_object_is_asked(bench: LineageBench, column: str) -> None:
    key = bench.silvered("a.csv")
    bench.follow(key)
    true = pl.read_delta(bench.gold.location(LINEAGE))
    lie = pl.lit(7, pl.Int64) if column == "rows_written" else pl.lit("a lie")
    true.with_columns(lie.alias(column)).write_delta(bench.gold.location(LINEAGE), mode="overwrite")
    assert bench.follow(key).replaced == 1
    assert pl.read_delta(bench.gold.location(LINEAGE)).equals(true)


def test_two_rows_of_one_object_become_one(bench: LineageBench) -> None:
    key = bench.silvered("a.csv")
    bench.follow(key)
    pl.read_delta(bench.gold.location(LINEAGE)).write_delta(bench.gold.location(LINEAGE), mode="append")
    assert bench.differing() == [key]
    assert bench.follow(key).replaced == 1
    assert len(bench.states()) == 1


def test_silver_that_refuses_to_be_headed_fails_alone(tmp_path: Path) -> None:
    bench = LineageBench(tmp_path)

    class Denying(LocalStore):
        def head(self, key: str) -> Any:
            if key.endswith("b.csv.parquet"):
                raise OSError("no")
            return super().head(key)

    keys = [bench.silvered("a.csv"), bench.silvered("b.csv")]
    bench.silver = Denying(tmp_path / "silver", scratch=tmp_path, locks=tmp_path / "locks", foreign_writers=False)
    brought = bench.follow(*keys)
    assert (brought.replaced, list(brought.failed)) == (1, [keys[1]])


def test_keys_without_time_are_left(bench: LineageBench) -> None:
    keys = [bench.silvered(f"{number:03}.csv") for number in range(50)]
    looks = iter([True] * 10)
    brought = follow(
        [TRANSFORM], keys, silver=bench.silver, quarantine=bench.quarantine, gold=bench.gold,
        has_time=lambda: next(looks, False), step=nothing,
    )  # fmt: skip
    assert (brought.replaced, brought.left) == (10, keys[10:])


class LineageMachine(RuleBasedStateMachine):
    """Silver and quarantine change; their events are kept, and come in any order, twice, or never."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="lineage-"))
        self.bench = LineageBench(self.root)
        self.expected: dict[tuple[str, str], str] = {}
        self.events: set[str] = set()
        self.number = 0

    def teardown(self) -> None:
        try:
            self.bench.follow(*self.bench.differing())
            assert self.bench.differing() == []
            there = self.bench.states() if self.bench.gold.read(LINEAGE) is not None else []
            assert there == sorted((file, state, said) for (file, state), said in self.expected.items())
        finally:
            shutil.rmtree(self.root)

    @rule(file=FILES)
    def silver(self, file: str) -> None:
        self.number += 1
        self.expected[file, "silver"] = f"code {self.number}"
        self.events.add(self.bench.silvered(file, fingerprint=f"code {self.number}"))

    @rule(file=FILES)
    def fail(self, file: str) -> None:
        self.number += 1
        self.expected[file, "quarantined"] = f"Error{self.number}"
        self.events.add(self.bench.quarantined(file, f"Error{self.number}"))

    @rule(file=FILES, dead=st.booleans())
    def give_up(self, file: str, dead: bool) -> None:
        self.expected.pop((file, "given_up"), None)
        if dead:
            self.expected[file, "given_up"] = "ValueError"
        self.events.add(self.bench.tried(file, dead=dead))

    @rule(file=FILES, state=st.sampled_from(["silver", "quarantined", "given_up"]))
    def delete(self, file: str, state: str) -> None:
        self.expected.pop((file, state), None)
        derive, store = {
            "silver": (silver_key, self.bench.silver),
            "quarantined": (error_key, self.bench.quarantine),
            "given_up": (failed_key, self.bench.quarantine),
        }[state]
        store.delete(derive(TRANSFORM, file))
        self.events.add(derive(TRANSFORM, file))

    @rule()
    def follow(self) -> None:
        self.bench.follow(*sorted(self.events))
        self.events.clear()

    @rule()
    def lose(self) -> None:
        self.events.clear()

    @rule(name=STEPS)
    def crash(self, name: str) -> None:
        with suppress(Killed):
            self.bench.follow(*sorted(self.events), step=kill_at(name))

    @rule(file=FILES, other_file=FILES, name=STEPS)
    def overtake(self, file: str, other_file: str, name: str) -> None:
        def meanwhile() -> None:
            self.silver(other_file)
            self.bench.follow(silver_key(TRANSFORM, other_file), silver_key(TRANSFORM, file))
            self.silver(file)

        self.bench.follow(silver_key(TRANSFORM, file), step=once(name, meanwhile))

    @rule()
    def compact(self) -> None:
        keep(LINEAGE, self.bench.gold, now=0, sort_by=("_file",), force=True, step=nothing)


TestLineageMachine = LineageMachine.TestCase
TestLineageMachine.settings = settings(max_examples=15, stateful_step_count=12)


def test_silver_without_a_lineage_has_no_row(bench: LineageBench) -> None:
    key = silver_key(TRANSFORM, "a.csv")
    bench.silver.put(key, b"rows")
    assert bench.follow(key).commits == 0
    assert bench.differing() == []
