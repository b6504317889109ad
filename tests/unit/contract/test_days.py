"""Text as days by arithmetic, against the pattern and the parser that say what a day is."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith.contract import casting
from silversmith.contract.casting import AT_ONCE
from silversmith.formats.infer import DATE_PATTERN, parse_date

CELLS = st.one_of(
    st.dates(date(casting.FIRST, 1, 1), date(casting.LAST, 12, 31)).map(date.isoformat),
    st.dates().map(date.isoformat),
    st.from_regex(r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}\Z"),
    st.from_regex(r"\A[12][09][0-9]{2}[-/.:0][01][0-9][-/.:0][0-3][0-9]\Z"),
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
    elif expected.null_count() == text.null_count():
        assert any(day is not None and not casting.FIRST <= day.year <= casting.LAST for day in expected)


@pytest.mark.parametrize("count", [1, AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, 2 * AT_ONCE + 5])
def test_every_day_of_the_calendar_however_many_there_are(count: int) -> None:
    first, number = date(casting.FIRST, 1, 1), (date(casting.LAST, 12, 31) - date(casting.FIRST, 1, 1)).days + 1
    all_days = [first + timedelta(place % number) for place in range(count)]
    days = casting.days(pl.Series("cells", [day.isoformat() for day in all_days]))
    assert days is not None
    assert days.equals(pl.Series("cells", all_days), check_names=True)


@pytest.mark.parametrize("at", [0, AT_ONCE - 1, AT_ONCE])
@pytest.mark.parametrize(
    "bad",
    ["2023-02-29", "2023-13-01", "2023-00-10", "2023-01-00", "2023-04-31", "2023-1-01", "29-02-2024", "2023-01-0:", ""],
)
def test_an_impossible_day_is_noticed(bad: str, at: int) -> None:
    cells = ["2024-02-29"] * (AT_ONCE + 1)
    cells[at] = bad
    assert casting.days(pl.Series(cells)) is None


def test_null_stays_null() -> None:
    days = casting.days(pl.Series([None, "2024-02-29", None]))
    assert days is not None
    assert days.to_list() == [None, date(2024, 2, 29), None]
