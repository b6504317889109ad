"""Reconciliation by difference: what it finds is what asking every object finds, and a row that lies is found, too."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silversmith import Pipeline
from silversmith.formats.writer import parquet_bytes
from silversmith.lineage import Decision, Lineage, error_key, failed_key, silver_key
from silversmith.pipeline import Transform
from silversmith.reconcile.compare import comparison_of, look
from silversmith.reconcile.difference import ComparedRange, KeyRange, LineageComparison, Proof, ranges_of
from silversmith.reconcile.rows import LineageRows, LineageUnreadable
from silversmith.stores import Head, Lake
from silversmith.stores.local import LocalStore
from silversmith.tables.delta import DeltaFormat
from silversmith.tables.lineage import differing as differing_lineage
from silversmith.tables.lineage import follow
from silversmith.tables.spec import LINEAGE

LONG = "in/" + "x" * 1000 + ".csv"

#: Some are the beginnings of others, which turns their order in silver around; one is cut short there.
NAMES = ["in/a.csv", "in/a", "in/a-1.csv", "in/a.csv-1", "in/b/c.csv", "in/é.csv", "in/z", LONG]
FILES = st.sampled_from(NAMES)


def transform(*, removes: bool = False, pattern: str = "in/*") -> Transform:
    pipeline = Pipeline("shop", on_delete="remove" if removes else "keep")
    pipeline.sql(pattern, "SELECT * FROM rows", name="orders")
    return pipeline.transforms[0]


class Requests(LocalStore):
    """A bucket that counts what it is asked for."""

    heads = lists = 0

    def head(self, key: str) -> Head | None:
        self.heads += 1
        return super().head(key)

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[Head]:
        self.lists += 1
        return super().list(prefix, start_after=start_after)


class Bench:
    """A lake with its lineage."""

    def __init__(self, root: Path, of: Transform | None = None) -> None:
        self.root = root
        self.transform = of or transform()
        self.stores = {
            name: Requests(root / name, scratch=root / "scratch", locks=root / "locks", foreign_writers=False)
            for name in ("bronze", "silver", "quarantine", "gold")
        }
        self.lake = Lake(self.stores["bronze"], self.stores["silver"], self.stores["quarantine"])
        self.gold = DeltaFormat(root / "gold", scratch=root / "scratch")

    def land(self, key: str, body: bytes = b"1") -> str:
        return self.lake.bronze.put(key, body)

    def silvered(self, key: str, etag: str | None = None, **fields: Any) -> str:
        """Make silver of what bronze holds, or of other bytes."""
        bronze = self.lake.bronze.head(key)
        said = Lineage(
            key, etag or (bronze.etag if bronze else "gone"), "", 1, "", "orders", self.transform.fingerprint,
            1, 1, 0, "2026-01-02T03:04:05.000Z", 1,
        )  # fmt: skip
        name = silver_key("orders", key)
        self.lake.silver.put(name, parquet_bytes(pl.DataFrame({"x": [1]}), replace(said, **fields).to_json()))
        return name

    def document(self, key: str, *, dead: bool | None = None, **fields: Any) -> str:
        bronze = self.lake.bronze.head(key)
        document = {
            "error": {"code": "MissingColumn"},
            "bronze": {"key": key, "etag": bronze.etag if bronze else "gone", "version": ""},
            "fingerprint": self.transform.fingerprint, "lookups": "", "dead": bool(dead), **fields,
        }  # fmt: skip
        name = (error_key if dead is None else failed_key)("orders", key)
        self.lake.quarantine.put(name, json.dumps(document).encode())
        return name

    def follow(self, *keys: str) -> None:
        buckets: Any = {"silver": self.lake.silver, "quarantine": self.lake.quarantine}
        follow(["orders"], keys or self.differing(), **buckets, gold=self.gold, step=lambda _: None)

    def differing(self) -> list[str]:
        buckets: Any = {"silver": self.lake.silver, "quarantine": self.lake.quarantine}
        return differing_lineage("orders", **buckets, gold=self.gold)

    def rows(self) -> LineageRows:
        return LineageRows(self.stores["gold"], str(self.root / "gold"))

    def difference(self, *, proof: Proof | None = None, window: int = 50_000, **options: Any) -> LineageComparison:
        comparison = comparison_of(self.transform, self.lake, **options)
        return LineageComparison(comparison, self.rows(), proof or Proof(), window)

    def parts(self, *, ranges: list[KeyRange] | None = None, workers: int = 1, **options: Any) -> list[ComparedRange]:
        return list(self.difference(**options).parts(ranges or [KeyRange()], workers=workers))

    def lie(self, **columns: Any) -> None:
        """Change all rows of the table behind everybody's back."""
        place = self.gold.location(LINEAGE)
        frame = pl.read_delta(place)
        frame.with_columns(pl.lit(value).alias(name) for name, value in columns.items()).write_delta(
            place, mode="overwrite"
        )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def findings(parts: list[ComparedRange]) -> list[tuple[str, Decision]]:
    return sorted((look.finding.key, look.finding.kind) for part in parts for look in part.looked if look.finding)


def given_up(parts: list[ComparedRange]) -> list[str]:
    return sorted(look.given_up.key for part in parts for look in part.looked if look.given_up)


def behind(parts: list[ComparedRange]) -> list[str]:
    return sorted({key for part in parts for key in part.behind})


def full(bench: Bench, **options: Any) -> tuple[list[tuple[str, Decision]], list[str]]:
    """The findings of asking every object."""
    looked = list(look(bench.transform, bench.lake, **options))
    return (
        sorted((item.finding.key, item.finding.kind) for item in looked if item.finding),
        sorted(item.given_up.key for item in looked if item.given_up),
    )


def test_keys_that_agree_cost_no_request(bench: Bench) -> None:
    for number in range(20):
        bench.land(f"in/{number}.csv")
        bench.silvered(f"in/{number}.csv")
    bench.land("in/bad.csv")
    bench.document("in/bad.csv")
    bench.land("in/dead.csv")
    bench.document("in/dead.csv", dead=True)
    bench.follow()
    before = {name: store.heads for name, store in bench.stores.items()}
    parts = bench.parts()
    assert (findings(parts), given_up(parts), behind(parts)) == ([], ["in/dead.csv"], [])
    assert sum(part.checked for part in parts) == 22
    assert {name: store.heads for name, store in bench.stores.items()} == before


def test_only_what_differs_is_asked(bench: Bench) -> None:
    for number in range(20):
        bench.land(f"in/{number}.csv")
        bench.silvered(f"in/{number}.csv")
    bench.follow()
    bench.land("in/7.csv", b"other")
    bench.land("in/new.csv")
    heads = bench.stores["silver"].heads
    parts = bench.parts()
    assert findings(parts) == [("in/7.csv", Decision.STALE), ("in/new.csv", Decision.MISSING)]
    assert bench.stores["silver"].heads - heads == 2


def test_young_files_are_left_to_their_events(bench: Bench) -> None:
    bench.land("in/a.csv")
    bench.follow()
    soon = datetime.now(UTC) + timedelta(hours=1)
    assert findings(bench.parts(settled=soon)) == [("in/a.csv", Decision.MISSING)]
    assert findings(bench.parts(settled=soon - timedelta(hours=2))) == []


def test_a_late_row_is_reported_and_finds_nothing(bench: Bench) -> None:
    bench.land("in/a.csv")
    name = bench.silvered("in/a.csv")
    parts = bench.parts()
    assert findings(parts) == []
    bench.follow(*behind(parts))
    assert name in behind(parts)
    assert behind(bench.parts()) == []


def test_silver_that_is_gone_is_not_called_an_orphan(bench: Bench) -> None:
    name = bench.silvered("in/a.csv")
    bench.follow()
    assert findings(bench.parts()) == [("in/a.csv", Decision.ORPHANED)]
    bench.lake.silver.delete(name)
    parts = bench.parts()
    assert (findings(parts), behind(parts)) == ([], [name])


def test_many_orphans_are_counted_without_a_request(bench: Bench) -> None:
    names = [bench.silvered(f"in/{number:03}.csv") for number in range(150)]
    bench.follow()
    heads = bench.stores["bronze"].heads
    assert len(findings(bench.parts())) == len(names)
    assert bench.stores["bronze"].heads == heads
    parts = bench.parts(window=40)
    assert len(findings(parts)) == len(names)
    assert len(parts) > 1, "rows of many files that bronze has not are taken in pieces"


@pytest.mark.parametrize("listing", [True, False])
def test_a_row_that_lies_is_found_by_the_proof(bench: Bench, listing: bool) -> None:
    """The row says that silver is of bronze's bytes; silver is of others."""
    etag = bench.land("in/a.csv")
    name = bench.silvered("in/a.csv", etag="others")
    bench.follow()
    bench.lie(bronze_etag=etag, **({"_etag": "another"} if listing else {}))
    assert findings(bench.parts()) == []
    proof = Proof(listing=True) if listing else Proof(share=1)
    parts = bench.parts(proof=proof)
    assert (findings(parts), behind(parts)) == ([("in/a.csv", Decision.STALE)], [name])
    bench.follow(name)
    assert findings(bench.parts()) == [("in/a.csv", Decision.STALE)]


def test_the_proof_says_nothing_where_all_is_well(bench: Bench) -> None:
    for key in NAMES:
        bench.land(key)
        bench.silvered(key)
    bench.follow()
    for window in (1, 3, 100):
        parts = bench.parts(proof=Proof(listing=True, share=2), window=window)
        assert (findings(parts), behind(parts)) == ([], [])
        assert sum(part.proven for part in parts) == len(NAMES)


def test_each_object_has_its_turn_to_be_headed() -> None:
    keys = [f"in/{number}" for number in range(200)]
    turns = [{key for key in keys if Proof(share=7, turn=turn).chooses(key)} for turn in range(7)]
    assert set.union(*turns) == set(keys)
    assert sum(map(len, turns)) == len(keys)


def test_silver_that_the_lineage_has_no_row_of_is_found_by_the_proof(bench: Bench) -> None:
    bench.silvered("in/a.csv")
    bench.follow()
    name = bench.silvered("in/b.csv")
    assert behind(bench.parts()) == []
    assert behind(bench.parts(proof=Proof(listing=True))) == [name]


def test_a_comparison_goes_on_where_it_stopped(bench: Bench) -> None:
    for number in range(30):
        bench.land(f"in/{number:02}.csv")
    bench.follow()
    keys = KeyRange("in/04.csv", "in/21.csv")
    whole = bench.parts(ranges=[keys], window=4)
    assert whole[-1].left is None
    for number, part in enumerate(whole[:-1]):
        assert part.left is not None
        rest = bench.parts(ranges=[part.left], window=4)
        assert findings(whole[: number + 1]) + findings(rest) == findings(whole)


def test_ranges_side_by_side_find_the_same_and_end_when_they_are_left(bench: Bench) -> None:
    for number in range(60):
        bench.land(f"in/{number:02}.csv")
        if number % 3:
            bench.silvered(f"in/{number:02}.csv")
    bench.follow()
    ranges = ranges_of(bench.rows(), "orders", 6)
    assert len(ranges) > 3
    assert findings(bench.parts(ranges=ranges, workers=4, window=5)) == findings(bench.parts())
    parts = bench.difference(window=5).parts(ranges, workers=4)
    next(parts)
    parts.close()


def test_an_error_in_a_range_is_raised_with_its_part(bench: Bench) -> None:
    class Broken:
        def between(self, *_: Any) -> pl.DataFrame:
            raise OSError("no")

        def split(self, *_: Any) -> list[str]:
            return []

        def sizes(self, state: str = "silver") -> dict[str, int]:
            return {state: 0}

    difference = LineageComparison(comparison_of(bench.transform, bench.lake), Broken())
    with pytest.raises(OSError, match="no"):
        list(difference.parts([KeyRange("", "k"), KeyRange("k", "")], workers=2))


# -- the log of the table


def test_a_checkpoint_and_what_follows_it_are_read(bench: Bench) -> None:
    for number in range(43):
        bench.land(f"in/{number:02}.csv")
        bench.follow(bench.silvered(f"in/{number:02}.csv"))
    assert (bench.root / "gold" / LINEAGE / "_delta_log" / "_last_checkpoint").exists()
    rows = bench.rows()
    assert rows.between("orders", "in/07.csv", "in/10.csv", 9)["_file"].to_list() == [
        f"in/{n:02}.csv" for n in (8, 9, 10)
    ]
    assert findings(bench.parts()) == []
    (bench.root / "gold" / LINEAGE / "_delta_log" / f"{42:020}.json").unlink()
    with pytest.raises(LineageUnreadable, match=r"version 0*43 follows on 41"):
        bench.rows()


@pytest.mark.parametrize("body", [b"no json", b'{"add": {}}', b'{"add": 1}', b"[]"])
def test_a_log_that_is_none_is_refused(bench: Bench, body: bytes) -> None:
    bench.land("in/a.csv")
    bench.follow(bench.silvered("in/a.csv"))
    bench.stores["gold"].put(f"{LINEAGE}/_delta_log/{2:020}.json", body)
    with pytest.raises(LineageUnreadable):
        bench.rows()


def test_long_keys_that_begin_alike_are_found_by_their_files(bench: Bench) -> None:
    """The log may say less of a long text than it has."""
    keys = [f"in/{'k' * 200}{number:02}.csv" for number in range(20)]
    for key in keys:
        bench.land(key)
    bench.follow(*(bench.silvered(key) for key in keys))
    assert [file.rows for file in bench.rows().files] == [20]
    for window in (1, 7, 50):
        assert (findings(parts := bench.parts(window=window)), behind(parts)) == ([], [])


def test_parts_are_cut_where_the_rows_are(bench: Bench) -> None:
    keys = [f"in/{number:04}.csv" for number in range(400)]
    bench.follow(*(bench.silvered(key) for key in keys))
    assert bench.rows().split("orders", 4) == [keys[100], keys[200], keys[300]]
    assert bench.rows().split("nothing", 4) == []
    assert ranges_of(bench.rows(), "orders", 2, keys=KeyRange("in/0300.csv")) == [KeyRange("in/0300.csv", "")]


# -- the rule


@st.composite
def events(draw: st.DrawFn) -> list[tuple[str, ...]]:
    step = st.sampled_from(
        ["land", "silver", "other bytes", "other code", "fail", "give up", "forget", "delete", "follow"]
    )
    return draw(st.lists(st.tuples(step, FILES), min_size=1, max_size=14))


def _play(bench: Bench, played: list[tuple[str, ...]]) -> Iterator[str]:
    for number, (step, key) in enumerate(played):
        if step == "land":
            bench.land(key, b"%d" % number)
        elif step in {"silver", "other bytes", "other code"}:
            fields = {"other bytes": {"etag": "other"}, "other code": {"fingerprint": "old"}}.get(step, {})
            yield bench.silvered(key, **fields)
        elif step in {"fail", "give up"}:
            yield bench.document(key, dead=True if step == "give up" else None)
        elif step == "forget":
            bench.lake.quarantine.delete(error_key("orders", key))
            bench.lake.quarantine.delete(failed_key("orders", key))
        elif step == "delete":
            bench.lake.bronze.delete(key)
        else:
            bench.follow()


@given(events(), st.booleans(), st.booleans(), st.booleans(), st.integers(1, 5))
@settings(max_examples=15, deadline=None)
def test_it_finds_what_asking_every_object_finds(
    played: list[tuple[str, ...]],
    changed: bool,
    removes: bool,
    dead: bool,
    window: int,
) -> None:
    """For any rows of the lineage. Only silver without a row there, and without bronze, is left to the proof."""
    root = Path(tempfile.mkdtemp(prefix="difference-"))
    try:
        bench = Bench(root, transform(removes=removes))
        list(_play(bench, played))
        options: Any = {"changed": changed, "dead": dead}
        expected, spent = full(bench, **options)
        parts = bench.parts(window=window, **options)
        known = {key for key, kind in findings(parts)}
        unknown = [
            item for item in expected if item[1] in {Decision.ORPHANED, Decision.DELETED} and item[0] not in known
        ]
        assert findings(parts) + unknown == sorted(expected, key=lambda item: item in unknown)
        assert given_up(parts) == spent
        bench.follow(*behind(parts), *behind(bench.parts(proof=Proof(listing=True), window=window, **options)))
        bench.follow()
        parts = bench.parts(proof=Proof(listing=True, share=1), window=window, **options)
        assert (findings(parts), given_up(parts), behind(parts)) == (expected, spent, [])
    finally:
        shutil.rmtree(root)
