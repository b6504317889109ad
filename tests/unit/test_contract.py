"""A contract splits rows into good ones and rejected ones with reasons, and loses none."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith.contract import Contract
from silversmith.errors import DataError
from silversmith.formats import MALFORMED, ROW, Table

FLIGHT = Contract(
    {"flight": pl.Int64, "distance": pl.Float64, "day": pl.Date},
    {"distance is positive": pl.col("distance") > 0, "flight is small": pl.col("flight") < 10_000},
    required=["flight"],
)


def table(columns: dict[str, Any], *, malformed: list[tuple[int, str, str]] | None = None, **more: Any) -> Table:
    """A table as a reader hands it over, of text where no type is given."""
    frame = pl.DataFrame(columns)
    frame = frame.with_columns(pl.int_range(1, frame.height + 1, dtype=pl.UInt64).alias(ROW))
    broken = pl.DataFrame(malformed, schema=MALFORMED, orient="row") if malformed else None
    return Table(frame.lazy(), "csv", frame, broken, **more)


def both_ways(contract: Contract, rows: Table) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """The result of the eager and the streaming way, which is the same."""
    assert rows.frame is not None
    good, rejected = contract.split(rows.frame, rows)
    checked = contract.check(rows)
    plans = pl.collect_all([checked.good, checked.rejected], engine="streaming")
    assert plans[0].equals(good)
    assert plans[0].schema == good.schema
    if rejected is None:
        assert plans[1].height == 0
    else:
        assert plans[1].sort("row").equals(rejected)
    return good, rejected


def reasons(rejected: pl.DataFrame | None) -> dict[int, list[str]]:
    return {} if rejected is None else dict(rejected.select("row", "reasons").iter_rows())


def test_good_rows_get_their_types_and_lose_their_numbers() -> None:
    rows = table({"day": ["2013-01-01", None], "flight": [" 1", "2.0"], "distance": ["7.5", ""]})
    good, rejected = both_ways(FLIGHT, rows)
    assert rejected is None
    assert good.schema == {"flight": pl.Int64, "distance": pl.Float64, "day": pl.Date}
    assert good.select("flight", "distance").rows() == [(1, 7.5), (2, None)]


def test_each_reason_is_named() -> None:
    rows = table(
        {
            "flight": ["1", "x", None, "20000", "2"],
            "distance": ["5", "-1", "0", "abc", "6"],
            "day": ["2013-01-01", "2013-02-30", None, None, None],
        },
        malformed=[(6, "1,2", "line 7: has 2 fields, the header has 3")],
    )
    good, rejected = both_ways(FLIGHT, rows)
    assert good["flight"].to_list() == [1, 2]
    assert reasons(rejected) == {
        2: [
            'flight: "x" is not Int64',
            'day: "2013-02-30" is not Date',
            "distance is positive: the rule is broken by distance -1.0",
        ],
        3: ["flight: is required, and is null", "distance is positive: the rule is broken by distance 0.0"],
        4: ['distance: "abc" is not Float64', "flight is small: the rule is broken by flight 20000"],
        6: ["line 7: has 2 fields, the header has 3"],
    }
    assert rejected is not None
    assert rejected.filter(row=2).select("flight", "distance", "day").row(0) == ("x", "-1", "2013-02-30")
    assert rejected.filter(row=6)["text"].to_list() == ["1,2"]


def test_a_rule_that_is_null_is_not_broken() -> None:
    rows = table({"flight": ["1"], "distance": [None], "day": [None]}, malformed=None)
    assert both_ways(FLIGHT, Table(rows.rows, "csv", rows.frame)) [1] is None  # fmt: skip


def test_no_contract_keeps_everything() -> None:
    rows = table({"a": [1, 2], "*": ["x", None]}, malformed=[(3, "x", "bad")])
    good, rejected = both_ways(Contract(), rows)
    assert good.to_dict(as_series=False) == {"a": [1, 2], "*": ["x", None]}
    assert reasons(rejected) == {3: ["bad"]}


@pytest.mark.parametrize(
    ("choice", "names"), [("keep", ["b", "a", "^x$", "z"]), ("drop", ["b", "a"])]
)  # fmt: skip
def test_columns_that_the_contract_does_not_name(choice: Any, names: list[str]) -> None:
    rows = table({"a": ["1", "x"], "^x$": ["p", "q"], "b": ["2", "2"], "z": [1, 2]})
    contract = Contract({"b": pl.Int64, "a": pl.Int64}, {"z is not null": pl.col("z") > 0}, on_extra_column=choice)
    good, rejected = both_ways(contract, rows)
    assert good.columns == names
    assert rejected is not None
    assert rejected.columns[:5] == ["row", "a", "^x$", "b", "z"]
    sound = table({"a": ["1"], "^x$": ["p"], "b": ["2"], "z": [1]})
    assert both_ways(contract, sound)[0].columns == names


def test_an_extra_column_may_refuse_the_file() -> None:
    with pytest.raises(DataError, match='"b" and 1 more') as caught:
        Contract({"a": pl.Int64}, on_extra_column="reject").check(table({"a": ["1"], "b": ["2"], "c": ["3"]}))
    assert caught.value.code == "ExtraColumn"
    assert caught.value.place.column == "b"
    assert Contract(on_extra_column="reject").split(pl.DataFrame({"a": [1], ROW: [1]}))[0].columns == ["a"]


def test_a_missing_column_refuses_the_file_and_says_what_is_near() -> None:
    rows = table({"Flight": ["1"], "dist": ["2"], "day": ["x"]})
    with pytest.raises(DataError, match='"flight" is missing; the file has "Flight", "dist", "day"') as caught:
        FLIGHT.check(rows)
    assert caught.value.code == "MissingColumn"
    assert '"Flight"' in caught.value.hint
    assert caught.value.place.column == "flight"


def test_a_missing_column_may_be_filled_unless_it_is_required() -> None:
    contract = Contract({"a": pl.Int64, "b": pl.Date}, required=["a"], on_missing_column="fill")
    good, rejected = both_ways(contract, table({"a": ["1", ""]}))
    assert good.schema == {"a": pl.Int64, "b": pl.Date}
    assert good.rows() == [(1, None)]
    assert reasons(rejected) == {2: ["a: is required, and is null"]}
    with pytest.raises(DataError, match='"a" is missing'):
        contract.check(table({"b": ["1"]}))


def test_unique_rows_keep_the_first_that_is_good() -> None:
    contract = Contract(
        {"a": pl.Int64, "b": pl.String}, {"b is not x": pl.col("b") != "x"}, unique=["a", "b"], required=["a"]
    )
    rows = table({"a": ["1", "1", "1", "2", "2", "3", "3"], "b": ["y", "y", "z", "x", "x", None, None]})
    good, rejected = both_ways(contract, rows)
    assert good.rows() == [(1, "y"), (1, "z"), (3, None), (3, None)]
    assert reasons(rejected) == {
        2: ["a, b: an earlier row has the same"],
        4: ['b is not x: the rule is broken by b "x"'],
        5: ['b is not x: the rule is broken by b "x"'],
    }


def test_a_rule_may_compare_a_row_with_all_others() -> None:
    contract = Contract({"a": pl.Int64}, {"no outlier": pl.col("a") <= 2 * pl.col("a").mean()})
    assert reasons(both_ways(contract, table({"a": ["1", "2", "3", "100"]}))[1]) == {
        4: ["no outlier: the rule is broken by a 100"]
    }


@pytest.mark.parametrize(
    ("rule", "code", "said"),
    [
        (pl.col("other") > 0, "MissingColumn", '"other" is missing'),
        (pl.col("name") > 0, "BrokenRule", "cannot be computed"),
        (pl.col("name") + "x", "BrokenRule", "is String over this file"),
    ],
)
def test_a_rule_that_cannot_be_computed_refuses_the_file(rule: pl.Expr, code: str, said: str) -> None:
    contract = Contract({"distance": pl.Int64}, {"fine": pl.col("distance") > 0, "odd": rule})
    rows = table({"distance": ["1"], "name": ["x"]})
    assert rows.frame is not None
    for way in (lambda: contract.check(rows), lambda: contract.split(rows.frame, rows)):
        with pytest.raises(DataError, match=said) as caught:
            way()
        assert caught.value.code == code
        assert 'the rule "odd"' in caught.value.message
        assert caught.value.hint


def test_columns_that_are_called_as_those_of_rejected_rows() -> None:
    rows = table(
        {"row": ["x"], "reasons": ["2"], "text": ["3"], "row_": ["4"], "__bad": ["5"], "__before row": ["6"]},
        malformed=[(2, "7", "bad")],
    )
    contract = Contract({"row": pl.Int64})
    good, rejected = both_ways(contract, rows)
    assert good.height == 0
    assert good.columns == ["row", "reasons", "text", "row_", "__bad", "__before row"]
    assert rejected is not None
    assert rejected.row(0, named=True) == {
        "row": 1, "row__": "x", "reasons_": "2", "text_": "3", "row_": "4", "__bad": "5", "__before row": "6",
        "reasons": ['row: "x" is not Int64'], "text": None,
    }  # fmt: skip


def test_decimal_commas() -> None:
    contract = Contract({"a": pl.Float64})
    good, rejected = both_ways(contract, table({"a": ["1,5", "1.5"]}, decimal_comma=True))
    assert good.rows() == [(1.5,)]
    assert reasons(rejected) == {2: ['a: "1.5" is not Float64']}
    assert both_ways(contract, table({"a": ["1,5"]}, decimal_comma=True))[0].rows() == [(1.5,)]


@pytest.mark.parametrize(
    ("limit", "allowed", "refused"),
    [
        (None, (10, 9), None),
        (0, (10, 0), (10, 1)),
        (2, (10, 2), (10, 3)),
        (0.5, (10, 5), (10, 6)),
        (1.0, (3, 3), None),
    ],
)
def test_too_many_rejected_rows(limit: float | None, allowed: tuple[int, int], refused: tuple[int, int] | None) -> None:
    contract = Contract(max_rejected=limit)
    contract.judge(*allowed)
    if refused:
        with pytest.raises(DataError) as caught:
            contract.judge(*refused)
        assert caught.value.code == "TooManyRejected"


# An independent reading of the contract below, in plain Python.


def is_integer(cell: str) -> bool:
    text = cell.strip().removesuffix(".0")
    digits = text[1:] if text[:1] in ("+", "-") else text
    return digits.isdecimal() and digits.isascii() and -(2**63) <= int(text) < 2**63


def expected(row: tuple[str | None, str | None], seen: set[int]) -> bool:
    """Whether a row of (id, amount) is good, in the order of the file."""
    number, amount = [None if cell is None or not cell.strip() else cell for cell in row]
    if number is None or not is_integer(number) or (amount is not None and not is_integer(amount)):
        return False
    identity = int(number.strip().removesuffix(".0"))
    if identity <= 0 or (amount is not None and int(amount.strip().removesuffix(".0")) >= 5) or identity in seen:
        return False
    seen.add(identity)
    return True


CELL = st.one_of(
    st.none(), st.integers(-2, 6).map(str), st.sampled_from(["", " ", " 3 ", "2.0", "2.5", "x", "9" * 20, "+1"])
)


@given(st.lists(st.tuples(CELL, CELL), max_size=8))
def test_every_row_is_either_good_or_rejected_and_rightly_so(rows: list[tuple[str | None, str | None]]) -> None:
    contract = Contract(
        {"id": pl.Int64, "amount": pl.Int64},
        {"id is positive": pl.col("id") > 0, "amount is small": pl.col("amount") < 5},
        required=["id"],
        unique=["id"],
    )
    cells = {
        name: pl.Series([row[place] for row in rows], dtype=pl.String) for place, name in enumerate(("id", "amount"))
    }
    good, rejected = both_ways(contract, table(cells))
    messages = reasons(rejected)
    seen: set[int] = set()
    verdicts = [expected(row, seen) for row in rows]
    assert sorted(messages) == [number for number, is_good in enumerate(verdicts, 1) if not is_good]
    assert good.height == sum(verdicts)
    assert good["id"].to_list() == [
        int((number or "").strip().removesuffix(".0"))
        for (number, _), is_good in zip(rows, verdicts, strict=True)
        if is_good
    ]
    assert all(messages.values())
