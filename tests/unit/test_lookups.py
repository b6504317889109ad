"""Lookups: part of what silver is a function of."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith import Context, Csv, DefinitionError, Pipeline
from silversmith.formats.writer import read_lineage
from silversmith.lineage import Decision, error_key, silver_key
from silversmith.pipeline.lookups import Lookups, lookups_digest
from silversmith.reconcile.compare import look
from silversmith.stores.local import LocalStore
from silversmith.testing import run
from tests.unit.conftest import Bench

KEY = "lookup/countries.csv"


def joined(rows: pl.LazyFrame, context: Context) -> pl.LazyFrame:
    return rows.join(context.read(KEY), on="code", how="left", maintain_order="left")


def pipeline(function: Any = joined, lookups: Sequence[str] = (KEY,)) -> Pipeline:
    definition = Pipeline("p")
    definition.transform("orders/*.csv", name="orders", lookups=lookups)(function)
    return definition


ORDERS = {"orders/1.csv": "code\nde\nfr\n"}
COUNTRIES = {KEY: "code,country\nde,Germany\nfr,France\n"}


def test_a_transform_reads_what_it_declares() -> None:
    result = run(pipeline(), {**COUNTRIES, **ORDERS})
    assert result.silver["orders", "orders/1.csv"]["country"].to_list() == ["Germany", "France"]
    assert result.lineage["orders", "orders/1.csv"].lookups
    result.assert_clean()


def test_a_changed_lookup_makes_silver_outdated() -> None:
    landing = {**COUNTRIES, **ORDERS}
    result = run(pipeline(), landing, {**landing, KEY: "code,country\nde,Allemagne\n"})
    assert result.silver["orders", "orders/1.csv"]["country"].to_list() == ["Allemagne", None]


def test_the_context_describes_the_object() -> None:
    def describe(rows: pl.LazyFrame, context: Context) -> pl.LazyFrame:
        return rows.select(key=pl.lit(context.key), size=context.size, etag=pl.lit(context.etag), at=context.modified)

    result = run(pipeline(describe, ()), ORDERS)
    row = result.silver["orders", "orders/1.csv"].row(0, named=True)
    lineage = result.lineage["orders", "orders/1.csv"]
    assert (row["key"], row["size"], row["etag"]) == ("orders/1.csv", 11, lineage.bronze_etag)
    assert row["at"].tzinfo is not None


def reads(key: str) -> Any:
    def function(rows: pl.LazyFrame, context: Context) -> pl.LazyFrame:
        return rows.join(context.read(key), on="code")

    return function


@pytest.mark.parametrize(
    ("function", "files", "code", "says"),
    [
        (reads("lookup/other.csv"), COUNTRIES, "DefinitionError", '"lookup/countries.csv", "lookup/other.csv"]'),
        (joined, {}, "LookupMissing", "put it, then redrive"),
        (joined, {KEY: "code,code\n1,2\n"}, "LookupUnusable", "cannot be read"),
        (joined, {KEY: "code,country\nde,Germany\n1,2,3,4\n"}, "LookupUnusable", "records that are no rows: number 2"),
    ],
)
def test_an_unreadable_lookup_is_no_fault_of_the_file(
    function: Any, files: dict[str, str], code: str, says: str
) -> None:
    """So it is no matter for quarantine: the message comes back, until it lies in the dead-letter queue."""
    result = run(pipeline(function), {**files, **ORDERS})
    error = result.failures["orders", "orders/1.csv"]
    assert error["code"] == code
    assert says in error["message"]
    assert not result.errors


def without_context(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows


def with_default(rows: pl.LazyFrame, factor: int = 2) -> pl.LazyFrame:
    return rows


@pytest.mark.parametrize(
    ("function", "lookups", "says"),
    [
        (without_context, [KEY], "no second parameter"),
        (with_default, [KEY], "no second parameter"),
        (joined, KEY, "must be a list"),
        (joined, [7], "must be a list"),
        (joined, ["lookup/*.csv"], "one whole key"),
        (joined, ["/lookup/a.csv"], "one whole key"),
        (joined, [""], "one whole key"),
        (joined, [f"lookup/{n}.csv" for n in range(21)], "too many"),
        (joined, ["a" * 2001], "too long"),
    ],
)
def test_invalid_lookups_are_refused_at_their_declaration(function: Any, lookups: Any, says: str) -> None:
    with pytest.raises(DefinitionError) as raised:
        pipeline(function, lookups)
    assert says in str(raised.value)


def test_a_parameter_with_a_default_is_left_alone_unless_it_is_called_context() -> None:
    def maybe(rows: pl.LazyFrame, context: Context | None = None) -> pl.LazyFrame:
        return rows.with_columns(has_context=pl.lit(context is not None))

    assert run(pipeline(maybe, ()), ORDERS).silver["orders", "orders/1.csv"]["has_context"].all()
    assert run(pipeline(with_default, ()), ORDERS).silver["orders", "orders/1.csv"].height == 2


# --- the cache --------------------------------------------------------------------------------------------------------


class Counted(LocalStore):
    """A bucket that counts what it is asked."""

    heads = opens = 0

    def head(self, key: str) -> Any:
        self.heads += 1
        return super().head(key)

    def open(self, key: str) -> Any:
        self.opens += 1
        return super().open(key)


def test_a_lookup_is_headed_once_in_a_batch_and_read_once_while_it_stays(tmp_path: Path) -> None:
    bronze = Counted(tmp_path / "b", scratch=tmp_path / "s", locks=tmp_path / "l", foreign_writers=True)
    bronze.put(KEY, b"code\nde\n")
    bronze.put("orders/1.csv", b"code\nde\n")
    lookups = Lookups(bronze, [KEY], tmp_path / "s", name="orders")
    head = bronze.head("orders/1.csv")
    assert head is not None
    bronze.heads = 0
    context = lookups.context(head)
    for _ in range(3):
        assert context.read(KEY).collect().rows() == [("de",)]
    assert (bronze.heads, bronze.opens) == (1, 1)
    lookups.look_again()
    context.read(KEY)
    assert (bronze.heads, bronze.opens) == (2, 1)
    assert context.read(KEY, Csv(header=False)).collect().height == 2
    assert bronze.opens == 2
    bronze.put(KEY, b"code\nfr\n")
    lookups.look_again()
    assert context.read(KEY).collect().rows() == [("fr",)]


@given(st.dictionaries(st.text(), st.text(), max_size=4), st.dictionaries(st.text(), st.text(), max_size=4))
def test_a_digest_is_of_keys_and_etags_in_any_order(one: dict[str, str], other: dict[str, str]) -> None:
    assert lookups_digest(dict(reversed(one.items()))) == lookups_digest(one)
    assert (lookups_digest(one) == lookups_digest(other)) == (one == other)


# --- through the engine -----------------------------------------------------------------------------------------------


def put(bench: Bench, text: str) -> None:
    bench.lake.bronze.put(KEY, text.encode())


def kinds(bench: Bench, *, changed: bool) -> list[Decision]:
    looked = look(bench.pipeline.find("orders"), bench.lake, changed=changed)
    return [item.finding.kind for item in looked if item.finding is not None]


def test_reconcile_changed_finds_what_was_made_with_another_lookup(make: Callable[[Pipeline], Bench]) -> None:
    bench = make(pipeline())
    put(bench, COUNTRIES[KEY])
    bench.land("orders/1.csv", text=ORDERS["orders/1.csv"])
    bench.work()
    assert kinds(bench, changed=True) == []
    put(bench, "code,country\nde,Allemagne\n")
    assert kinds(bench, changed=False) == []
    assert kinds(bench, changed=True) == [Decision.OUTDATED]
    bench.notice("orders/1.csv")
    bench.work()
    assert kinds(bench, changed=True) == []
    silver = bench.silver("orders", "orders/1.csv")
    assert silver is not None
    assert silver["country"].to_list() == ["Allemagne", None]


def test_the_parquet_file_names_its_lookups(make: Callable[[Pipeline], Bench]) -> None:
    bench = make(pipeline())
    put(bench, COUNTRIES[KEY])
    bench.land("orders/1.csv", text=ORDERS["orders/1.csv"])
    bench.work()
    head = bench.lake.bronze.head(KEY)
    assert head is not None
    result = read_lineage(bench.folder.bucket(bench.pipeline.silver) / silver_key("orders", "orders/1.csv"))
    assert result is not None
    assert json.loads(result["looked-up"]) == {KEY: head.etag}
    assert result["lookups"] == bench.lineage("orders", "orders/1.csv").lookups == lookups_digest({KEY: head.etag})


def test_files_that_a_lookup_spoiled_are_tried_with_another_one(make: Callable[[Pipeline], Bench]) -> None:
    """An error document counts as an answer only for the lookups that it was made with."""
    from silversmith import DataError

    def strict(rows: pl.LazyFrame, context: Context) -> pl.LazyFrame:
        known = context.read(KEY).collect()["code"]
        if rows.filter(~pl.col("code").is_in(known.implode())).collect().height:
            raise DataError("UnknownCountry", "a code is in no list")
        return rows

    bench = make(pipeline(strict))
    put(bench, "code\nde\n")
    bench.land("orders/1.csv", text=ORDERS["orders/1.csv"])
    bench.work()
    assert bench.lake.quarantine.head(error_key("orders", "orders/1.csv")) is not None
    assert kinds(bench, changed=True) == []
    put(bench, "code\nde\nfr\n")
    assert kinds(bench, changed=True) == [Decision.MISSING]
    bench.notice("orders/1.csv")
    bench.work()
    assert bench.lake.quarantine.head(error_key("orders", "orders/1.csv")) is None
