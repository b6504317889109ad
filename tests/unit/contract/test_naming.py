"""The names of columns in a file, matched exactly, in any case, or as snake case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith import Contract, Csv
from silversmith.contract.terms import snake_case
from silversmith.errors import DataError, DefinitionError
from silversmith.formats.table import ROW, Table
from tests.unit.contract.test_dropping import converted, frame

BOTH = pytest.mark.parametrize("on_disk", [False, True])


@pytest.mark.parametrize(
    ("name", "snake"),
    [
        ("Item No.", "item_no"),
        ("ItemNo", "item_no"),
        ("itemNO", "item_no"),
        ("HTTPStatus", "http_status"),
        ("unit-price (EUR)", "unit_price_eur"),
        ("  Größe\u00a0", "größe"),
        ("already_fine", "already_fine"),
        ("2ndName", "2nd_name"),
        ("a__b", "a_b"),
        ("%", "%"),
    ],
)
def test_snake_case(name: str, snake: str) -> None:
    assert snake_case(name) == snake


@given(st.text(max_size=20))
def test_snake_case_of_snake_case_is_the_same(name: str) -> None:
    assert snake_case(snake_case(name)) == snake_case(name)


@BOTH
@pytest.mark.parametrize("rows", [2, 3000])
@pytest.mark.parametrize(
    ("names", "columns"),
    [("any_case", ["item_no", "price", "Sold By"]), ("snake_case", ["item_no", "price", "sold_by"])],
)
def test_names_are_matched_in_every_way_that_a_file_is_read(
    tmp_path: Path, names: Any, columns: list[str], rows: int, on_disk: bool
) -> None:
    contract = Contract(
        {"item_no": pl.String, "price": pl.Float64}, rename={"Unit Price": "price"}, required=["item_no"], names=names
    )
    header = "ITEM_NO" if names == "any_case" else "ItemNo"
    lines = "".join(f"{number:05},1.5,me\n" for number in range(rows))
    data = f"{header},UNIT PRICE,Sold By\n{lines}".encode()
    result = converted(tmp_path, data, on_disk=on_disk, contract=contract, reader=Csv())
    silver = frame(result.silver)
    assert silver.columns == columns
    assert silver["item_no"][1] == "00001"
    assert silver["price"].dtype == pl.Float64


@BOTH
def test_marks_between_thousands_are_found_under_any_spelling(tmp_path: Path, on_disk: bool) -> None:
    contract = Contract({"price": pl.Int64, "code": pl.String}, names="any_case")
    data = b"Code;PRICE\n007;1.234\n008;5\n"
    reader = Csv(separator=";", thousands=".", decimal_comma=True)
    result = converted(tmp_path, data, on_disk=on_disk, contract=contract, reader=reader)
    silver = frame(result.silver)
    assert silver.rows() == [(1234, "007"), (5, "008")]


@BOTH
def test_all_columns_of_a_contract_in_one_pass(tmp_path: Path, on_disk: bool) -> None:
    contract = Contract({"a": pl.Int64, "b": pl.Date}, names="any_case", on_extra_column="reject")
    data = b"B,A\n" + b"2026-01-31,7\n" * 3000 + b"x,1\n"
    result = converted(tmp_path, data, on_disk=on_disk, contract=contract)
    assert (result.lineage.rows_written, result.lineage.rows_rejected) == (3000, 1)
    assert frame(result.silver).columns == ["a", "b"]
    assert frame(result.rejected)["b"].to_list() == ["x"]


def test_two_columns_of_one_name_refuse_the_file() -> None:
    rows = pl.DataFrame({"A": ["1"], "a": ["2"]}).with_row_index(ROW, 1)
    for names in ("any_case", "snake_case"):
        with pytest.raises(DataError, match='both "A", which the contract renames to "a"') as caught:
            Contract({"a": pl.Int64}, names=names).check(Table(rows.lazy(), "csv", rows))
        assert caught.value.code == "DuplicateColumns"


def test_two_names_that_a_file_cannot_tell_apart_are_refused_where_they_are_declared() -> None:
    with pytest.raises(DefinitionError, match="are both 'a' in a file"):
        Contract({"a": pl.Int64, "A": pl.Int64}, names="any_case")
    with pytest.raises(DefinitionError, match="names must be one of"):
        Contract({"a": pl.Int64}, names="lower")  # type: ignore[arg-type]


def test_the_fingerprint_has_it_only_where_it_is_used() -> None:
    prints = {Contract({"a": pl.Int64}, names=names).fingerprint() for names in ("exact", "any_case", "snake_case")}
    assert len(prints) == 3
    assert Contract({"a": pl.Int64}).fingerprint() in prints
