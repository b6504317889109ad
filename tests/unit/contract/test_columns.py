"""Renames, defaults, and columns that are not there."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silversmith import Contract
from silversmith.errors import DataError
from tests.examples import examples
from tests.unit.test_contract import both_ways, reasons, table


def test_a_renamed_column_is_known_by_its_new_name() -> None:
    contract = Contract({"flight": pl.Int64}, {"small": pl.col("flight") < 9}, rename={"Flight No.": "flight"})
    assert contract.declared == {"flight": pl.Int64(), "Flight No.": pl.Int64()}
    good, rejected = both_ways(contract, table({"Flight No.": ["1", "x", "10"], "z": [1, 2, 3]}))
    assert good.rows() == [(1, 1)]
    assert good.columns == ["flight", "z"]
    assert reasons(rejected) == {2: ['flight: "x" is not Int64'], 3: ["small: the rule is broken by flight 10"]}
    assert both_ways(contract, table({"flight": ["1"]}))[0].rows() == [(1,)], "a file may have the new name already"


def test_a_column_that_the_schema_does_not_name_may_be_renamed_too() -> None:
    contract = Contract({"a": pl.Int64}, rename={"B b": "b"})
    assert both_ways(contract, table({"a": ["1"], "B b": ["x"]}))[0].columns == ["a", "b"]


def test_both_names_at_once_refuse_the_file() -> None:
    contract = Contract({"flight": pl.Int64}, rename={"Flight No.": "flight"})
    rows = table({"Flight No.": ["1"], "flight": ["2"]})
    assert rows.frame is not None
    for way in (lambda: contract.check(rows), lambda: contract.split(rows.frame, rows)):
        with pytest.raises(DataError, match='both "Flight No') as caught:
            way()
        assert caught.value.code == "DuplicateColumns"
    nothing = table({"Flight No.": pl.Series([], dtype=pl.Int64), "flight": pl.Series([], dtype=pl.Int64)})
    assert both_ways(contract, nothing)[0].columns == ["flight"], "as a reader makes of a file without records"


def test_a_default_stands_for_what_says_nothing_and_for_nothing_else() -> None:
    contract = Contract({"a": pl.Int64, "b": pl.String}, required=["a"], defaults={"a": 7, "b": "?"})
    good, rejected = both_ways(contract, table({"a": ["1", "", None, "x"], "b": ["p", None, " ", None]}))
    assert both_ways(contract, table({"a": [" 1"], "b": [" "]}))[0].rows() == [(1, "?")]
    assert good.rows() == [(1, "p"), (7, "?"), (7, "?")], "blank text says nothing"
    assert reasons(rejected) == {4: ['a: "x" is not Int64']}
    assert rejected is not None
    assert rejected["b"].to_list() == [None], "a rejected row is as it was read"


def test_a_default_of_a_column_that_has_its_type_already() -> None:
    contract = Contract({"a": pl.Int64}, defaults={"a": 7}, ranges={"a": (0, 9)})
    good, rejected = both_ways(contract, table({"a": [None, 3, 10]}))
    assert good["a"].to_list() == [7, 3]
    assert reasons(rejected) == {3: ["a: 10 is above 9"]}


@pytest.mark.parametrize(
    ("choice", "columns", "rows"),
    [("fill", ["a", "b", "c"], [(1, 5, None)]), ("keep", ["a"], [(1,)])],
)
def test_missing_columns(choice: Any, columns: list[str], rows: list[tuple[Any, ...]]) -> None:
    contract = Contract(
        {"a": pl.Int64, "b": pl.Int64, "c": pl.Date},
        defaults={"b": 5},
        ranges={"b": (0, 9)},
        unique=["a", "b"],
        on_missing_column=choice,
    )
    good, rejected = both_ways(contract, table({"a": ["1"]}))
    assert good.columns == columns
    assert good.rows() == rows
    assert rejected is None


def test_a_required_column_may_be_missing_only_if_there_is_a_default_to_fill_it_with() -> None:
    schema = {"a": pl.Int64, "b": pl.Int64}
    filled = Contract(schema, required=["b"], defaults={"b": 5}, on_missing_column="fill")
    assert both_ways(filled, table({"a": ["1"]}))[0].rows() == [(1, 5)]
    for contract in (
        Contract(schema, required=["b"], on_missing_column="fill"),
        Contract(schema, required=["b"], defaults={"b": 5}, on_missing_column="keep"),
        Contract(schema, defaults={"b": 5}),
    ):
        with pytest.raises(DataError, match='"b" is missing'):
            contract.check(table({"a": ["1"]}))


def test_a_rule_over_a_column_that_is_kept_missing_refuses_the_file() -> None:
    contract = Contract({"a": pl.Int64, "b": pl.Int64}, {"more": pl.col("b") > 0}, on_missing_column="keep")
    with pytest.raises(DataError, match='the rule "more" needs it'):
        contract.check(table({"a": ["1"]}))


@given(st.lists(st.sampled_from([None, "", " ", "1", "x"]), min_size=1, max_size=6), st.booleans(), st.booleans())
@settings(max_examples=examples(60), deadline=None)
def test_defaults_and_requirements_as_plain_python_says(
    cells: list[str | None], has_default: bool, is_required: bool
) -> None:
    contract = Contract({"a": pl.Int64}, required=["a"] * is_required, defaults={"a": 9} if has_default else {})
    good, rejected = both_ways(contract, table({"a": pl.Series(cells, dtype=pl.String)}))
    expected = []
    for cell in cells:
        value = 9 if has_default else None
        if cell is not None and cell.strip():
            value = int(cell) if cell == "1" else -1
        expected.append(value)
    bad = [n for n, value in enumerate(expected, 1) if value == -1 or (value is None and is_required)]
    assert sorted(reasons(rejected)) == bad
    assert good["a"].to_list() == [value for n, value in enumerate(expected, 1) if n not in bad]
