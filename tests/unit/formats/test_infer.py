"""Types are inferred without loss, by both ways of inferring alike."""

from __future__ import annotations

from datetime import UTC, date, datetime

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from silversmith.formats import infer


def by_lists(cells: list[str | None], *, decimal_comma: bool = False) -> pl.Series:
    return infer.column(pl.Series("a", cells, dtype=pl.String), decimal_comma=decimal_comma)


def by_expressions(cells: list[str | None], *, decimal_comma: bool = False) -> pl.Series:
    rows = pl.LazyFrame({"a": cells}, schema={"a": pl.String})
    dtypes = infer.types(rows, ["a"], decimal_comma=decimal_comma)
    return rows.with_columns(infer.casts(dtypes, decimal_comma=decimal_comma)).collect()["a"]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1", "-20", "0"], pl.Int64),
        (["9223372036854775807", "-9223372036854775808"], pl.Int64),
        (["9223372036854775808"], pl.String),
        (["1", "2.5"], pl.Float64),
        (["0.30000000000000004", "1e-05", "-1.2345678901234568e-05"], pl.Float64),
        (["5e-324"], pl.Float64),
        (["00501"], pl.String),
        (["+1"], pl.String),
        ([" 1"], pl.String),
        (["1_0"], pl.String),
        (["\uff11"], pl.String),
        (["1."], pl.String),
        ([".5"], pl.String),
        (["1e5"], pl.String),
        (["1e+999"], pl.String),
        (["1e-400"], pl.String),
        (["0.1234567890123456789"], pl.String),
        (["9007199254740993", "1.5"], pl.String),
        (["nan"], pl.String),
        (["1", "n/a"], pl.String),
        (["true", "false"], pl.Boolean),
        (["True"], pl.Boolean),
        (["true", "FALSE"], pl.String),
        (["t"], pl.String),
        (["2013-01-01", "2012-02-29"], pl.Date),
        (["2013-02-29"], pl.String),
        (["20130101"], pl.Int64),
        (["2013-W01-1"], pl.String),
        (["0000-01-01"], pl.String),
        (["2013-01-01", "2013-01-01 05:00"], pl.String),
        (["2013-01-01T05:00", "2013-01-01 05:00:01.5"], pl.Datetime("us")),
        (["2013-01-01T24:00"], pl.String),
        (["2013-01-01T05:00:00.1234567"], pl.String),
        (["2013-01-01T05:00:00Z", "2013-01-01T05:00+00:00"], pl.Datetime("us", "UTC")),
        (["2013-01-01T05:00:00+02:00"], pl.String),
        (["2013-01-01T05:00:00Z", "2013-01-01T05:00:00"], pl.String),
        ([""], pl.String),
        ([], pl.String),
    ],
)
def test_each_type_and_its_near_misses(cells: list[str], expected: pl.DataType) -> None:
    for infers in (by_lists, by_expressions):
        assert infers([None, *cells, None]).dtype == expected
        assert infers([None, *cells, None]).null_count() == 2


def test_values_are_what_the_cells_say() -> None:
    assert by_lists(["2013-01-01T05:00:00Z"]).to_list() == [datetime(2013, 1, 1, 5, tzinfo=UTC)]
    assert by_lists(["2013-01-31", None]).to_list() == [date(2013, 1, 31), None]
    assert by_lists(["TRUE", None, "FALSE"]).to_list() == [True, None, False]


def test_a_decimal_comma_is_one_and_a_dot_then_is_none() -> None:
    for infers in (by_lists, by_expressions):
        assert infers(["1,5", "2", None], decimal_comma=True).to_list() == [1.5, 2.0, None]
        assert infers(["1,5", "1.5"], decimal_comma=True).dtype == pl.String
        assert infers(["1.234,5"], decimal_comma=True).dtype == pl.String
        assert infers(["1,5"]).dtype == pl.String


def test_one_word_after_the_sample_keeps_the_whole_column_text() -> None:
    cells: list[str | None] = [*map(str, range(5000)), "n/a"]
    assert by_expressions(cells).to_list() == cells
    assert by_expressions([*cells[:-1], "0.5"]).dtype == pl.Float64
    late: list[str | None] = [*[None] * 2000, "7"]
    assert by_expressions(late).dtype == pl.Int64


def test_many_columns_are_proved_in_turns() -> None:
    columns = {f"c{number}": [str(number), "x" if number % 3 == 0 else "1"] for number in range(250)}
    dtypes = infer.types(pl.LazyFrame(columns), list(columns))
    assert dtypes == {f"c{number}": pl.Int64() for number in range(250) if number % 3}


CELLS = st.one_of(
    st.integers().map(str),
    st.integers(-(2**64), 2**64).map(str),
    st.floats().map(str),
    st.decimals(allow_nan=False, allow_infinity=False).map(str),
    st.dates().map(str),
    st.datetimes().map(str),
    st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    st.booleans().map(str),
    st.sampled_from(["true", "false", "-0", "0.0", "-", "", "1e5", "1e-05", "007", "2013-01-01", "12:00"]),
    st.text(alphabet="0123456789+-.eETZ:, ", max_size=24),
)


@given(st.lists(st.one_of(st.none(), CELLS), max_size=6), st.booleans())
def test_both_ways_of_inferring_agree(cells: list[str | None], decimal_comma: bool) -> None:
    listed, expressed = by_lists(cells, decimal_comma=decimal_comma), by_expressions(cells, decimal_comma=decimal_comma)
    assert listed.dtype == expressed.dtype
    assert listed.equals(expressed)


@given(st.lists(CELLS, min_size=1, max_size=6))
def test_no_cell_loses_anything(cells: list[str]) -> None:
    column = by_lists(list(cells))
    assert column.null_count() == 0
    for cell, value in zip(cells, column.to_list(), strict=True):
        if isinstance(value, bool):
            assert str(value).lower() == cell.lower()
        elif isinstance(value, float):
            assert float(cell) == value
            assert infer.digits(cell) == infer.digits(repr(value))
        elif isinstance(value, datetime):
            assert datetime.fromisoformat(cell) == value
        else:
            assert str(value) == cell


@given(st.lists(st.lists(st.one_of(st.none(), CELLS), max_size=3), max_size=4), st.booleans())
@example([["1"], ["2.5"], ["abc"]], False)
@example([["1"], ["2,5"], ["3", "1.5"]], True)
def test_types_do_not_depend_on_where_frames_end(frames: list[list[str | None]], decimal_comma: bool) -> None:
    typing = infer.Typing(["a"], decimal_comma=decimal_comma)
    for cells in frames:
        typing.add(pl.DataFrame({"a": cells}, schema={"a": pl.String}))
    dtype = typing.dtypes().get("a", pl.String())
    assert dtype == by_lists([cell for cells in frames for cell in cells], decimal_comma=decimal_comma).dtype


def test_one_way_to_write_booleans_in_all_frames() -> None:
    typing = infer.Typing(["a"])
    typing.add(pl.DataFrame({"a": ["true"]}))
    assert typing.dtypes() == {"a": pl.Boolean()}
    typing.add(pl.DataFrame({"a": ["True"]}))
    assert not typing.dtypes()
