"""The recorded schema beside silver: written once, before silver has it; whoever is too late looks again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from silversmith import Contract, Pipeline
from silversmith.errors import PreconditionFailed
from silversmith.function.outcome import Verdict
from silversmith.lineage import error_key, silver_key
from silversmith.pipeline import Transform
from silversmith.schemas import Document, Recorded, Schemas, schema_key
from silversmith.silver import NotRecorded, scan
from silversmith.stores import IN_MEMORY
from tests.unit.shop import Shop


class Killed(BaseException):
    """The end of a worker."""


def declared(
    contract: Contract | None = None, function: Callable[[pl.LazyFrame], pl.LazyFrame] = lambda rows: rows
) -> Transform:
    pipeline = Pipeline("shop")
    pipeline.transform("*", contract=contract, name="orders")(function)
    return pipeline.find("orders")


PLAIN = declared()


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def schemas(shop: Shop) -> Schemas:
    """As a worker has it that was just started."""
    return Schemas(shop.silver, "orders")


def recorded(shop: Shop) -> Document:
    return schemas(shop).look().document


def everything(shop: Shop) -> pl.DataFrame:
    return scan(shop.folder / "silver/orders").collect()


def version(shop: Shop, key: str) -> int:
    return int(shop.head(key).metadata["schema"])


def test_the_first_file_says_what_silver_is(shop: Shop) -> None:
    shop.process(b"a,b\n1,x\n", PLAIN, schemas=schemas(shop))
    result = recorded(shop)
    assert result.of(PLAIN.fingerprint).columns == {"a": pl.Int64(), "b": pl.String()}
    (entry,) = result.history
    assert (entry.version, entry.key, entry.code) == (1, "orders/may.csv", PLAIN.fingerprint)
    assert entry.changes == ("+ a: Int64", "+ b: String")
    assert entry.at == shop.lineage().committed_at
    assert version(shop, "orders/may.csv") == 1


def test_files_after_it_cost_no_request_but_their_own(shop: Shop) -> None:
    worker = schemas(shop)
    shop.process(b"a\n1\n", PLAIN, schemas=worker)
    shop.silver.calls.clear()
    for number in range(3):
        shop.process(f"a\n{number}\n".encode(), PLAIN, key=f"{number}.csv", schemas=worker)
    assert shop.silver.calls == ["head", "put"] * 3
    worker.look_again()
    shop.process(b"a\n9\n", PLAIN, key="9.csv", schemas=worker)
    assert shop.silver.calls[6:] == ["head", "head", "put"], "once in a batch it is asked for"


def test_a_wider_file_widens_and_a_narrower_one_fits(shop: Shop) -> None:
    worker = schemas(shop)
    shop.process(b"a,b\n1,x\n", PLAIN, key="1.csv", schemas=worker)
    shop.process(b"a,c\n0.5,true\n", PLAIN, key="2.csv", schemas=worker)
    shop.process(b"b\ny\n", PLAIN, key="3.csv", schemas=worker)
    assert [version(shop, f"{number}.csv") for number in (1, 2, 3)] == [1, 2, 2]
    assert everything(shop).sort("a", nulls_last=True).rows() == [
        (0.5, None, True),
        (1.0, "x", None),
        (None, "y", None),
    ]
    assert recorded(shop).history[1].changes == ("~ a: Int64 → Float64", "+ c: Boolean")


def test_incompatible_files_are_quarantined_with_the_difference(shop: Shop) -> None:
    worker = schemas(shop)
    shop.process(b"a,b\n1,x\n", PLAIN, key="1.csv", schemas=worker)
    outcome = shop.process(b"a,c\n1,y\nn/a,z\n", PLAIN, key="2.csv", schemas=worker)
    assert outcome.verdict is Verdict.QUARANTINED
    body = shop.quarantine.read(error_key("orders", "2.csv"))
    assert body is not None
    error = json.loads(body)["error"]
    assert error["code"] == "SchemaChanged"
    assert '~ a: Int64 → String, such as "n/a"\n  - b: String\n  + c: String' in error["message"]
    assert error["place"] == {"column": "a", "text": '"n/a"'}
    assert everything(shop).height == 1
    assert recorded(shop).version == 1


@pytest.mark.parametrize("content", [b"zip,n\n12,1\n00012,2\n", b"zip,n\n00012,1\n", b"n\n4\n"])
def test_digits_are_text_if_silver_has_text(shop: Shop, content: bytes) -> None:
    worker = schemas(shop)
    shop.process(b"zip,n\nx1,1\n", PLAIN, key="1.csv", schemas=worker)
    shop.process(b"zip,n\n99,2\n1.50,3\n", PLAIN, key="2.csv", schemas=worker)
    assert shop.process(content, PLAIN, key="3.csv", schemas=worker).verdict is Verdict.COMMITTED
    assert everything(shop)["zip"].to_list()[:3] == ["x1", "99", "1.50"], "as the file has it"


def test_a_transform_that_needs_numbers_is_not_given_text(shop: Shop) -> None:
    """So the file is refused for the column, and not the code for the file."""

    def double(rows: pl.LazyFrame) -> pl.LazyFrame:
        if rows.collect_schema()["a"] == pl.Int64:
            return rows.select(a=pl.col("a") * 2)
        return rows.select(pl.col("a").str.to_uppercase() if rows.collect()["a"][0] == "x" else pl.col("a").sqrt())

    worker, transform = schemas(shop), declared(function=double)
    shop.process(b"a\nx\n", transform, key="1.csv", schemas=worker)
    outcome = shop.process(b"a\n1\n", transform, key="2.csv", schemas=worker)
    assert outcome.error is not None
    assert outcome.error["code"] == "SchemaChanged"


def test_the_later_of_two_workers_looks_again(shop: Shop) -> None:
    first, second = schemas(shop), schemas(shop)
    assert first.look() == second.look()
    shop.process(b"a\n1\n", PLAIN, key="1.csv", schemas=first)
    shop.process(b"b\nx\n", PLAIN, key="2.csv", schemas=second)
    assert recorded(shop).of(PLAIN.fingerprint).columns == {"a": pl.Int64(), "b": pl.String()}
    assert everything(shop).sort("a").rows() == [(None, "x"), (1, None)]
    shop.process(b"a\n0.5\n", PLAIN, key="3.csv", schemas=first)
    assert everything(shop).schema == {"a": pl.Float64, "b": pl.String}


def test_a_worker_that_does_not_know_yet_makes_what_can_be_read(shop: Shop) -> None:
    first, second = schemas(shop), schemas(shop)
    shop.process(b"a\n1\n", PLAIN, key="1.csv", schemas=first)
    second.look()
    shop.process(b"a\n0.5\n", PLAIN, key="2.csv", schemas=first)
    shop.process(b"a\n7\n", PLAIN, key="3.csv", schemas=second)
    assert version(shop, "3.csv") == 1
    assert sorted(everything(shop)["a"]) == [0.5, 1.0, 7.0]
    shop.process(b"a\n9007199254740993\n", PLAIN, key="4.csv", schemas=second)
    assert shop.quarantine.read(error_key("orders", "4.csv")) is not None, "it has to look, and finds floats"


@pytest.mark.parametrize("at", [1, 2])
def test_a_worker_that_dies_has_done_no_harm(shop: Shop, at: int) -> None:
    """Before the schema is recorded, and between that and silver."""
    shop.process(b"a\n1\n", PLAIN, key="1.csv", schemas=schemas(shop))
    shop.silver.failures = [("put", PreconditionFailed("late"))] * (at - 1)
    before = recorded(shop)

    class Dying(Schemas):
        def record(self, recorded: Recorded, document: Document) -> None:
            if at == 2:
                super().record(recorded, document)
            raise Killed

    shop.silver.failures.clear()
    with pytest.raises(Killed):
        shop.process(b"b\nx\n", PLAIN, key="2.csv", schemas=Dying(shop.silver, "orders"))
    assert shop.silver.head(silver_key("orders", "2.csv")) is None
    assert everything(shop).height == 1
    assert (recorded(shop) == before) == (at == 1)
    shop.process(key="2.csv", transform=PLAIN, schemas=schemas(shop))
    assert everything(shop).height == 2
    assert recorded(shop).version == 2


def test_a_duplicate_from_before_the_record_is_remade(shop: Shop) -> None:
    worker = schemas(shop)
    shop.process(b"a\n1\n", PLAIN, key="1.csv", schemas=worker)
    assert shop.process(key="1.csv", transform=PLAIN, schemas=worker).verdict is Verdict.DUPLICATE
    shop.process(b"a\n0.5\n", PLAIN, key="2.csv", schemas=worker)
    assert shop.process(key="1.csv", transform=PLAIN, schemas=worker).verdict is Verdict.COMMITTED
    assert shop.process(key="1.csv", transform=PLAIN, schemas=worker).verdict is Verdict.DUPLICATE
    assert pl.scan_parquet(shop.folder / "silver/orders/**/*.parquet").collect().height == 2, "without any option"


def test_a_lost_or_damaged_record_is_written_again(shop: Shop) -> None:
    for body in (None, b"{", b"[]", b'{"schemas": [{}]}'):
        if body is None:
            shop.silver.delete(schema_key("orders"))
        else:
            shop.silver.put(schema_key("orders"), body)
        shop.process(b"a\n1\n", PLAIN, schemas=schemas(shop), key=f"{body!r}.csv")
        assert recorded(shop).version == 1


def test_a_large_file_is_fitted_too(shop: Shop) -> None:
    """By types while it is written, by values in another pass over what was written."""
    worker = schemas(shop)
    shop.process(b"a,b,c,d\n1,x,0.5,2\n", PLAIN, key="1.csv", schemas=worker)
    line = b"7,%s,3,\n" % (b"y" * 1000)
    large = b"a,b,c,e\n" + line * (IN_MEMORY // len(line) + 2)
    outcome = shop.process(large, PLAIN, key="2.csv", schemas=worker)
    assert outcome.rows_written == large.count(b"\n") - 1
    assert recorded(shop).of(PLAIN.fingerprint).columns == {
        "a": pl.Int64(),
        "b": pl.String(),
        "c": pl.Float64(),
        "d": pl.Int64(),
        "e": pl.Null(),
    }
    result = everything(shop)
    assert result["c"].unique().sort().to_list() == [0.5, 3.0]
    assert result["d"].null_count() == outcome.rows_written
    assert shop.process(b"e\n5\n", PLAIN, key="3.csv", schemas=worker).verdict is Verdict.COMMITTED
    assert everything(shop)["e"].drop_nulls().to_list() == [5]


def test_nothing_recorded_is_nothing_to_scan(tmp_path: Path) -> None:
    with pytest.raises(NotRecorded, match="orders"):
        scan(tmp_path / "orders")
