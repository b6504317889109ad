"""Text as days by a look at its bytes, against the pattern and the parser that say what a day is."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith.contract import casting
from silversmith.formats.infer import DATE_PATTERN, parse_date

CELLS = st.one_of(
    st.dates().map(date.isoformat),
    st.from_regex(r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}\Z"),
    st.from_regex(r"\A[12][09][0-9]{2}[-/.:0][01][0-9][-/.:0][0-3][0-9]\Z"),
    st.from_regex(r"\A[-+ 0-9]{4}-[ 0-9]{2}-[ 0-9]{2}\Z"),
    st.text(max_size=12),
)


def parsed(cells: pl.Series) -> pl.Series:
    days = pl.when(pl.col("cells").str.contains(DATE_PATTERN)).then(pl.col("cells"))
    return cells.to_frame().select(parse_date(days).alias("cells")).to_series()


@given(st.lists(st.none() | CELLS, min_size=1))
def test_days_are_those_of_the_parser_or_nothing_is_said(cells: list[str | None]) -> None:
    text = pl.Series("cells", cells, dtype=pl.String)
    expected, days = parsed(text), casting.days(text)
    if days is not None:
        assert days.equals(expected, check_names=True)
        assert days.dtype == pl.Date
    else:
        assert expected.null_count() > text.null_count()


def test_every_day_of_two_centuries() -> None:
    all_days = [date(1900, 1, 1) + timedelta(place) for place in range(73_049)]
    days = casting.days(pl.Series("cells", [day.isoformat() for day in all_days]))
    assert days is not None
    assert days.equals(pl.Series("cells", all_days), check_names=True)


@pytest.mark.parametrize("at", [0, 2999])
@pytest.mark.parametrize(
    "bad",
    [
        "2023-02-29",
        "2023-13-01",
        "2023-00-10",
        "2023-01-00",
        "2023-04-31",
        "2023-1-01",
        "29-02-2024",
        "2023-01-0:",
        "+2023-1-01",
        "2023- 1-01",
        "-223-01-01",
        "",
    ],
)
def test_an_impossible_day_is_noticed(bad: str, at: int) -> None:
    cells = ["2024-02-29"] * 3000
    cells[at] = bad
    assert casting.days(pl.Series(cells)) is None


def test_null_stays_null() -> None:
    days = casting.days(pl.Series([None, "2024-02-29", None]))
    assert days is not None
    assert days.to_list() == [None, date(2024, 2, 29), None]
