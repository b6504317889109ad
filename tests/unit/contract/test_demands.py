"""Allowed values, ranges and patterns, held against an independent reading in plain Python."""

from __future__ import annotations

import re
from datetime import date
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silversmith import Contract
from tests.examples import examples
from tests.unit.test_contract import both_ways, reasons, table

FLIGHT = Contract(
    {"carrier": pl.String, "distance": pl.Int64, "day": pl.Date, "tail": pl.String},
    allowed={"carrier": ["AA", "UA"]},
    ranges={"distance": (0, 5000), "day": (date(2013, 1, 1), None)},
    patterns={"tail": "N[0-9]+|-"},
)


def test_each_reason_names_the_cell_and_what_it_should_be() -> None:
    rows = table(
        {
            "carrier": ["AA", "ZZ", None, "UA", "UA"],
            "distance": ["0", "-1", None, "9000", "5000"],
            "day": ["2013-01-01", "2012-12-31", None, "x", "2014-01-01"],
            "tail": ["N1", "N", None, "-x", "-"],
        }
    )
    good, rejected = both_ways(FLIGHT, rows)
    assert good["carrier"].to_list() == ["AA", None, "UA"], "null breaks none of them"
    assert reasons(rejected) == {
        2: [
            'carrier: "ZZ" is none of "AA", "UA"',
            "distance: -1 is below 0",
            "day: 2012-12-31 is below 2013-01-01",
            'tail: "N" does not match N[0-9]+|-',
        ],
        4: ['day: "x" is not Date', "distance: 9000 is above 5000", 'tail: "-x" does not match N[0-9]+|-'],
    }


def test_a_value_that_cannot_be_shown_short_is_cut() -> None:
    contract = Contract({"a": pl.String}, allowed={"a": [f"{number}" for number in range(20)]})
    (messages,) = reasons(both_ways(contract, table({"a": ["x" * 500]}))[1])[1]
    assert len(messages) < 250
    assert messages.endswith('"7" … (20 in all)')


@pytest.mark.parametrize(("number", "text"), [(float("nan"), "NaN"), (float("inf"), "inf")])
def test_nan_is_in_no_range(number: float, text: str) -> None:
    contract = Contract({"a": pl.Float64}, ranges={"a": (0, 10)})
    assert reasons(both_ways(contract, table({"a": [number, 1.0]}))[1]) == {1: [f"a: {text} is above 10.0"]}


CELLS = st.one_of(st.none(), st.integers(-3, 9).map(str), st.sampled_from(["", " 2 ", "x", "4.0"]))


@given(
    cells=st.lists(CELLS, min_size=1, max_size=8),
    low=st.one_of(st.none(), st.integers(-2, 4)),
    width=st.one_of(st.none(), st.integers(0, 4)),
    allowed=st.lists(st.integers(-3, 9), min_size=1, max_size=9, unique=True),
)
@settings(max_examples=examples(60), deadline=None)
def test_integers_as_plain_python_says(
    cells: list[str | None], low: int | None, width: int | None, allowed: list[int]
) -> None:
    high = None if width is None else (low or 0) + width
    ranges = {} if low is None and high is None else {"a": (low, high)}
    contract = Contract({"a": pl.Int64}, allowed={"a": allowed}, ranges=ranges)

    def is_good(cell: str | None) -> bool:
        if cell is None or not cell.strip():
            return True
        if not re.fullmatch(r"\s*-?\d+(\.0)?\s*", cell):
            return False
        number = int(float(cell))
        return number in allowed and (low is None or number >= low) and (high is None or number <= high)

    rejected = reasons(both_ways(contract, table({"a": pl.Series(cells, dtype=pl.String)}))[1])
    assert sorted(rejected) == [number for number, cell in enumerate(cells, 1) if not is_good(cell)]


@given(st.lists(st.one_of(st.none(), st.text("ab1\n ", max_size=4)), min_size=1, max_size=8))
@settings(max_examples=examples(60), deadline=None)
def test_a_pattern_matches_the_whole_text(cells: list[Any]) -> None:
    contract = Contract({"a": pl.String}, patterns={"a": "a+|b[0-9]"})
    rejected = reasons(both_ways(contract, table({"a": pl.Series(cells, dtype=pl.String)}))[1])
    bad = [n for n, cell in enumerate(cells, 1) if cell is not None and not re.fullmatch("a+|b[0-9]", cell)]
    assert sorted(rejected) == bad
