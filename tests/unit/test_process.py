"""One bronze object, over folders as buckets: every way in which processing it can end."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from silversmith.errors import (
    AccessDenied,
    DataError,
    NotOurs,
    Place,
    PreconditionFailed,
    SourceChanged,
    TransformError,
)
from silversmith.events import ObjectEvent
from silversmith.formats.writer import parquet_bytes
from silversmith.function.outcome import Verdict
from silversmith.function.process import TRIES, Contended
from silversmith.lineage import Lineage, failed_key, rejected_key, silver_key
from silversmith.schemas import Owner, Schemas
from silversmith.stores import IN_MEMORY
from tests.unit.shop import BROKEN, GOOD, KEY, MIXED, ORDERS, Bucket, Shop, declared


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_a_new_file_becomes_silver_with_its_lineage(shop: Shop) -> None:
    outcome = shop.process(GOOD)
    assert shop.rows() == [(1, 2.5, 5.0), (2, 3.0, 6.0)]
    bronze = shop.bronze.head(KEY)
    assert bronze is not None
    assert shop.lineage() == Lineage(
        bronze_key=KEY,
        bronze_etag=bronze.etag,
        bronze_version="",
        bronze_size=len(GOOD),
        sequencer="",
        transform="orders",
        fingerprint=ORDERS.fingerprint,
        rows_read=2,
        rows_written=2,
        rows_rejected=0,
        committed_at="2026-01-02T12:00:00.000+00:00",
        attempt=3,
        format="csv",
        dialect='{"separator":",","quote":"\\"","encoding":"utf-8","confidence":1.0}',
    )
    assert json.loads(json.dumps(outcome.to_dict())) == {
        "verdict": "committed",
        "transform": "orders",
        "key": KEY,
        "silver": silver_key("orders", KEY),
        "etag": bronze.etag,
        "version": "",
        "size": len(GOOD),
        "format": "csv",
        "rows_read": 2,
        "rows_written": 2,
        "rows_rejected": 0,
        "rows_dropped": 0,
        "error": None,
        "stages": dict(outcome.stages),
        "age": None,
    }
    assert list(outcome.stages) == ["read", "turn", "parse", "contract", "transform", "write", "commit"]
    assert list(shop.quarantine.list()) == []


def test_a_duplicate_changes_nothing(shop: Shop) -> None:
    first, before = shop.process(GOOD), shop.head()
    outcome = shop.process()
    assert outcome == replace(first, verdict=Verdict.DUPLICATE)
    assert shop.head() == before


def test_the_same_bytes_put_again_are_a_duplicate(shop: Shop) -> None:
    shop.process(GOOD)
    assert shop.process(GOOD).verdict is Verdict.DUPLICATE


def test_a_new_version_replaces_silver(shop: Shop) -> None:
    shop.process(GOOD)
    assert shop.process(b"id,total\n7,1\n").verdict is Verdict.COMMITTED
    assert shop.rows() == [(7, 1.0, 2.0)]


def test_new_code_replaces_silver(shop: Shop) -> None:
    shop.process(GOOD)
    transform = declared(lambda rows: rows.select("id"))
    assert shop.process(transform=transform).verdict is Verdict.COMMITTED
    assert shop.rows() == [(1,), (2,)]
    assert shop.lineage().fingerprint == transform.fingerprint


def test_silver_without_lineage_is_replaced(shop: Shop) -> None:
    shop.silver.put(silver_key("orders", KEY), b"somebody else's")
    assert shop.process(GOOD).verdict is Verdict.COMMITTED
    assert shop.lineage().rows_written == 2


@pytest.mark.parametrize(
    ("made_after", "verdict"),
    [("2026-01-02T12:00:00.000+00:00", Verdict.DUPLICATE), ("2026-01-02T12:00:00.001+00:00", Verdict.COMMITTED)],
)
def test_a_replay_makes_again_what_is_older_than_itself(shop: Shop, made_after: str, verdict: Verdict) -> None:
    shop.process(GOOD)
    shop.now = datetime(2026, 1, 2, 13, tzinfo=UTC)
    event = ObjectEvent("bronze", KEY, made_after=made_after)
    assert shop.process(event=event).verdict is verdict
    assert shop.process(event=event).verdict is Verdict.DUPLICATE, "once is enough"


def test_the_event_is_believed_about_the_version_only_if_it_speaks_of_these_bytes(shop: Shop) -> None:
    shop.bronze.put(KEY, GOOD)
    head = shop.bronze.head(KEY)
    assert head is not None
    shop.process(event=ObjectEvent("bronze", KEY, etag="another", version="v1", sequencer="01"))
    assert (shop.lineage().bronze_version, shop.lineage().sequencer) == ("", "")
    later = "2027-01-01T00:00:00.000+00:00"
    shop.process(event=ObjectEvent("bronze", KEY, etag=head.etag, version="v2", sequencer="02", made_after=later))
    assert (shop.lineage().bronze_version, shop.lineage().sequencer) == ("v2", "02")


def test_a_file_that_is_gone(shop: Shop) -> None:
    outcome = shop.process(event=ObjectEvent("bronze", KEY, version="v1"))
    assert (outcome.verdict, outcome.version) == (Verdict.GONE, "v1")
    assert list(shop.silver.list()) == []


def test_silver_of_a_file_that_is_gone_stays_and_its_error_does_not(shop: Shop) -> None:
    shop.process(GOOD)
    shop.process(BROKEN)
    shop.bronze.delete(KEY)
    assert shop.process().verdict is Verdict.GONE
    assert len(shop.rows()) == 2
    assert shop.error() is None


def test_rejected_rows_are_put_into_quarantine_with_the_same_lineage(shop: Shop) -> None:
    outcome = shop.process(MIXED)
    assert (outcome.rows_read, outcome.rows_written, outcome.rows_rejected) == (3, 1, 2)
    rejected = shop.rejected()
    assert rejected is not None
    assert rejected["row"].to_list() == [2, 3]
    head = shop.quarantine.head(rejected_key("orders", KEY))
    assert head is not None
    assert Lineage.from_metadata(head.metadata) == shop.lineage()
    assert shop.process().verdict is Verdict.DUPLICATE
    assert shop.quarantine.head(rejected_key("orders", KEY)) == head


def test_a_version_without_rejected_rows_removes_those_of_the_last(shop: Shop) -> None:
    shop.process(MIXED)
    shop.process(GOOD)
    assert list(shop.quarantine.list()) == []


@pytest.mark.parametrize("state", ["none", "of other bytes", "no Parquet"])
def test_rejected_rows_that_are_not_those_of_silver_are_made_again(shop: Shop, state: str) -> None:
    shop.process(MIXED)
    kept = shop.rejected()
    name = rejected_key("orders", KEY)
    if state == "none":
        shop.quarantine.delete(name)
    elif state == "no Parquet":
        shop.quarantine.put(name, b"nonsense")
    else:
        Shop.process(second := Shop(shop.folder / "other"), b"id,total\nz,1\n1,1\n")
        body = second.quarantine.read(name)
        assert body is not None
        shop.quarantine.put(name, body)
    assert shop.process().verdict is Verdict.COMMITTED
    rejected = shop.rejected()
    assert rejected is not None
    assert kept is not None
    assert rejected.equals(kept)
    assert shop.process().verdict is Verdict.DUPLICATE


def test_a_message_that_comes_twice_leaves_settled_silver_without_an_error(tmp_path: Path) -> None:
    """Though the code finds another time that the data is at fault; its copy says that it was received once, too."""
    shop, is_strict = Shop(tmp_path, receives=1), False

    def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
        if is_strict:
            raise DataError("Late", "it is too late for these rows")
        return rows

    transform = replace(ORDERS, function=orders)
    assert shop.process(GOOD, transform).verdict is Verdict.COMMITTED
    is_strict = True
    assert shop.process(None, transform).verdict is Verdict.DUPLICATE
    assert list(shop.quarantine.list()) == []


def test_rejected_rows_that_a_dead_worker_left_are_removed_by_a_duplicate(shop: Shop) -> None:
    shop.process(GOOD)
    shop.quarantine.put(rejected_key("orders", KEY), b"of a worker that died")
    assert shop.process().verdict is Verdict.DUPLICATE
    assert list(shop.quarantine.list()) == []


def test_a_broken_file_gets_an_error_document(shop: Shop) -> None:
    outcome = shop.process(BROKEN, event=ObjectEvent("bronze", KEY))
    assert list(shop.silver.list()) == []
    head = shop.bronze.head(KEY)
    document = shop.error()
    assert head is not None
    assert document is not None
    assert document["bronze"] == {"key": KEY, "etag": head.etag, "version": "", "size": len(BROKEN)}
    assert (document["transform"], document["attempt"]) == ("orders", 3)
    assert (document["fingerprint"], document["at"]) == (ORDERS.fingerprint, "2026-01-02T12:00:00.000+00:00")
    assert (outcome.verdict, outcome.error, outcome.etag) == (Verdict.QUARANTINED, document["error"], head.etag)
    assert outcome.error is not None
    assert outcome.error["code"] == "MissingColumn"
    assert outcome.error["place"] == {"column": "id"}
    assert "id" in str(outcome.error["message"])


def test_a_broken_version_leaves_the_last_good_silver_and_its_rejected_rows(shop: Shop) -> None:
    shop.process(MIXED)
    silver, rejected = shop.head(), shop.quarantine.head(rejected_key("orders", KEY))
    assert shop.process(BROKEN).verdict is Verdict.QUARANTINED
    assert shop.head() == silver
    assert rejected is not None
    assert shop.quarantine.head(rejected_key("orders", KEY)) == rejected


@pytest.mark.parametrize("before", [b"", GOOD])
def test_a_corrected_file_clears_its_error(shop: Shop, before: bytes) -> None:
    if before:
        shop.process(before)
    shop.process(BROKEN)
    shop.process(b"id,total\n5,5\n")
    assert list(shop.quarantine.list()) == []
    assert shop.rows() == [(5, 5.0, 10.0)]


def test_a_file_put_back_to_what_silver_was_made_of_clears_its_error(shop: Shop) -> None:
    shop.process(GOOD)
    shop.process(BROKEN)
    assert shop.process(GOOD).verdict is Verdict.DUPLICATE
    assert shop.error() is None


def test_mended_code_clears_the_error(shop: Shop) -> None:
    def picky(rows: pl.LazyFrame) -> pl.LazyFrame:
        raise DataError("TooSmall", "this file is too small", hint="send more", place=Place(line=1, text="\ud800"))

    assert shop.process(GOOD, declared(picky)).verdict is Verdict.QUARANTINED
    document = shop.error()
    assert document is not None
    assert document["error"] == {
        "code": "TooSmall",
        "message": "this file is too small",
        "hint": "send more",
        "help": "silversmith explain TooSmall",
        "place": {"line": 1, "text": "\\ud800"},
    }
    assert shop.process().verdict is Verdict.COMMITTED
    assert shop.error() is None


def test_the_users_error_is_raised_and_nothing_is_written(shop: Shop) -> None:
    def faulty(rows: pl.LazyFrame) -> pl.LazyFrame:
        raise KeyError("no such thing")

    with pytest.raises(TransformError, match="no such thing"):
        shop.process(GOOD, declared(faulty))
    assert [*shop.silver.list(), *shop.quarantine.list()] == []


def test_the_users_error_over_torn_bytes_is_nobodys(shop: Shop) -> None:
    calls = []

    def faulty(rows: pl.LazyFrame) -> pl.LazyFrame:
        calls.append(1)
        if len(calls) == 1:
            raise KeyError("a column that is half written")
        return rows

    shop.bronze.failures = [("verify", SourceChanged(KEY))]
    assert shop.process(GOOD, declared(faulty)).verdict is Verdict.COMMITTED
    assert len(calls) == 2


@pytest.mark.parametrize("content", [GOOD, MIXED, BROKEN])
def test_bytes_that_change_while_they_are_read_are_read_again(shop: Shop, content: bytes) -> None:
    expected = Shop(shop.folder / "calm").process(content)
    shop.bronze.failures = [("verify", SourceChanged(KEY))] * (TRIES - 1)
    assert shop.process(content) == expected
    assert shop.bronze.calls.count("verify") == TRIES


@pytest.mark.parametrize(("method", "error"), [("put", PreconditionFailed("late")), ("head", SourceChanged("late"))])
def test_contended_after_so_many_tries(shop: Shop, method: str, error: Exception) -> None:
    shop.silver.failures = [(method, error)] * TRIES
    with pytest.raises(Contended, match=f"{KEY} .* {TRIES} times"):
        shop.process(GOOD)
    assert shop.silver.failures == []
    assert shop.process().verdict is Verdict.COMMITTED


@pytest.mark.parametrize("bucket", ["bronze", "silver", "quarantine"])
@pytest.mark.parametrize("error", [AccessDenied("no policy allows it"), OSError("the disk is full")])
def test_requests_that_the_system_refuses_are_not_tried_again_here(shop: Shop, bucket: str, error: Exception) -> None:
    shop.process(MIXED)
    refusing: Bucket = getattr(shop, bucket)
    refusing.failures, refusing.calls = [("head", error)], []
    with pytest.raises(type(error), match=str(error)):
        shop.process(b"id,total\n9,1\nx,1\n")
    assert refusing.calls[-1] == "head"
    assert shop.process().verdict in {Verdict.COMMITTED, Verdict.DUPLICATE}
    assert [row[0] for row in shop.rows()] == [9]


def test_a_large_file_streams_and_leaves_no_temporary_files(shop: Shop) -> None:
    line = b"1,2.5," + b"x" * 1000 + b"\n"
    content = b"id,total,note\n" + line * (IN_MEMORY // len(line) + 1) + b"x,1,\n"
    outcome = shop.process(content)
    assert outcome.rows_read == content.count(b"\n") - 1
    assert (outcome.rows_written, outcome.rows_rejected) == (outcome.rows_read - 1, 1)
    assert shop.lineage().rows_written == outcome.rows_written
    assert shop.process().verdict is Verdict.DUPLICATE
    assert shop.process(b"name,sum\n" + b"x,1\n" * (IN_MEMORY // 4)).verdict is Verdict.QUARANTINED


@pytest.mark.parametrize("known", [True, False])
def test_version_and_sequencer_of_an_event_are_trusted_only_for_its_etag(shop: Shop, known: bool) -> None:
    """Its etag is known only when its rows are written already, and stands in the file all the same."""
    shop.bronze.put(KEY, b"id,total,note\n" + b"1,2.5,x\n" * (IN_MEMORY // 8))
    head = shop.bronze.head(KEY)
    assert head is not None
    event = ObjectEvent("bronze", KEY, etag=head.etag if known else "another", version="v1", sequencer="01" * 8)
    outcome = shop.process(event=event)
    lineage = shop.lineage()
    assert (lineage.bronze_etag, outcome.etag) == (head.etag, head.etag)
    assert (lineage.bronze_version, lineage.sequencer) == (("v1", "01" * 8) if known else ("", ""))
    assert shop.process().verdict is Verdict.DUPLICATE


def test_a_transform_that_deletes_its_input(shop: Shop) -> None:
    path = shop.folder / "bronze" / KEY

    def greedy(rows: pl.LazyFrame) -> pl.LazyFrame:
        path.unlink(missing_ok=True)
        return rows

    line = b"1,2.5," + b"x" * 1000 + b"\n"
    large = b"id,total,note\n" + line * (IN_MEMORY // len(line) + 1)
    assert shop.process(GOOD, declared(greedy)).verdict is Verdict.COMMITTED, "its bytes were read already"
    assert shop.process(large, declared(greedy)).verdict is Verdict.GONE, "there is nothing left to read"


def test_a_transform_may_read_what_is_elsewhere_in_the_lake(shop: Shop) -> None:
    shop.bronze.put("reference.csv", b"id,name\n1,one\n2,two\n")
    reference = shop.folder / "bronze" / "reference.csv"

    def joined(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.join(pl.scan_csv(reference), on="id").select("name")

    shop.process(GOOD, declared(joined))
    assert sorted(shop.rows()) == [("one",), ("two",)]


def test_schemas_may_change_from_version_to_version(shop: Shop) -> None:
    wide = declared(lambda rows: rows)
    shop.process(GOOD, wide)
    shop.process(b"note,id,total\nx,1,1\n", wide)
    assert pl.read_parquet(shop.folder / "silver" / silver_key("orders", KEY)).columns == ["id", "total", "note"]


def test_a_column_that_parquet_has_not_is_the_transforms_fault(shop: Shop) -> None:
    def hollow(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.with_columns(nothing=pl.lit(None, dtype=pl.Struct([])))

    with pytest.raises(TransformError, match="struct type with no child field"):
        shop.process(GOOD, declared(hollow))


REMOVING = replace(ORDERS, removes=True)


def test_a_deleted_file_takes_its_silver_and_its_rejected_rows_with_it(shop: Shop) -> None:
    shop.process(MIXED, REMOVING)
    assert shop.rejected() is not None
    shop.bronze.delete(KEY)
    assert shop.process(transform=REMOVING).verdict is Verdict.REMOVED
    assert list(shop.silver.list()) == list(shop.quarantine.list()) == []
    assert shop.process(transform=REMOVING).verdict is Verdict.GONE
    assert shop.process(MIXED, REMOVING).verdict is Verdict.COMMITTED


def test_a_deleted_file_takes_its_error_and_its_count_of_failures_with_it(shop: Shop) -> None:
    assert shop.process(BROKEN, REMOVING).verdict is Verdict.QUARANTINED
    shop.quarantine.put(failed_key("orders", KEY), b"{}")
    shop.bronze.delete(KEY)
    assert shop.process(transform=REMOVING).verdict is Verdict.GONE
    assert list(shop.quarantine.list()) == []


def test_silver_stays_without_its_file_where_nothing_else_is_said(shop: Shop) -> None:
    shop.process(MIXED)
    shop.bronze.delete(KEY)
    assert shop.process().verdict is Verdict.GONE
    assert shop.rows() == [(1, 2.5, 5.0)]
    assert shop.rejected() is not None


def test_silver_that_does_not_say_that_it_is_of_this_file_stays(shop: Shop) -> None:
    shop.silver.put(silver_key("orders", KEY), b"somebody else's")
    assert shop.process(transform=REMOVING).verdict is Verdict.GONE
    shop.process(GOOD, REMOVING)
    copy = parquet_bytes(pl.DataFrame({"x": [1]}), replace(shop.lineage(), bronze_key="another.csv").to_json())
    shop.silver.put(silver_key("orders", KEY), copy)
    shop.bronze.delete(KEY)
    assert shop.process(transform=REMOVING).verdict is Verdict.GONE
    assert shop.silver.read(silver_key("orders", KEY)) == copy


def test_silver_of_another_pipeline_stays_when_its_file_is_deleted(shop: Shop) -> None:
    shop.process(GOOD, REMOVING)
    theirs = parquet_bytes(pl.DataFrame({"x": [1]}), replace(shop.lineage(), owner="other").to_json())
    shop.silver.put(silver_key("orders", KEY), theirs)
    shop.bronze.delete(KEY)
    schemas = Schemas(shop.silver, "orders", Owner("us", "silver", "quarantine"))
    with pytest.raises(NotOurs):
        shop.process(transform=REMOVING, schemas=schemas)
    assert shop.silver.read(silver_key("orders", KEY)) == theirs
