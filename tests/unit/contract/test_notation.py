"""Days and times that are not ISO 8601, numbers with marks: read exactly as formats say, or the row is rejected."""

# ruff: noqa: DTZ001 -- times without a zone are what is read

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith import Pipeline
from silversmith.contract import Contract
from silversmith.errors import DefinitionError
from silversmith.formats import ROW, Table
from silversmith.testing import run
from tests.unit.formats.test_excel import xlsx

MOMENT = pl.Datetime("us")
UTC_MOMENT = pl.Datetime("us", "UTC")


def values(dtype: Any, formats: Any, *cells: object) -> list[object]:
    """The value of each cell, and None where its row is rejected: in memory, and the same by a plan."""
    contract = Contract({"a": dtype}, formats={"a": formats})
    frame = pl.DataFrame({"a": cells}).with_row_index(ROW, 1).with_columns(pl.col(ROW).cast(pl.UInt64))
    good, rejected = contract.split(frame)
    checked = contract.check(Table(frame.lazy(), "csv", height=len(cells)))
    assert checked.good.collect().equals(good)
    numbers = set() if rejected is None else set(rejected["row"].to_list())
    remaining = iter(good["a"].to_list())
    return [None if number in numbers else next(remaining) for number in range(1, len(cells) + 1)]


@pytest.mark.parametrize(
    ("dtype", "formats", "cell", "value"),
    [
        (pl.Date, "%d.%m.%Y", "31.01.2026", date(2026, 1, 31)),
        (pl.Date, "%d.%m.%Y", " 1.2.2026 ", date(2026, 2, 1)),
        (pl.Date, "%d.%m.%Y", "31.02.2026", None),
        (pl.Date, "%d.%m.%Y", "31.01.26", None),
        (pl.Date, "%d.%m.%Y", "2026-01-31", None),
        (pl.Date, "%d.%m.%y", "31.01.69", date(2069, 1, 31)),
        (pl.Date, "%d.%m.%y", "31.01.70", date(1970, 1, 31)),
        (pl.Date, "%Y%m%d", "20260131", date(2026, 1, 31)),
        (pl.Date, "%Y%m%d", "2026131", None),
        (pl.Date, "%b %d, %Y", "Jan 5, 2026", date(2026, 1, 5)),
        (pl.Date, "%A %d %B %Y", "Monday 5 January 2026", date(2026, 1, 5)),
        (pl.Date, "%A %d %B %Y", "Tuesday 5 January 2026", None),
        (pl.Date, "%Y-%j", "2026-031", date(2026, 1, 31)),
        (pl.Date, "%d.%m.%Y %R", "31.01.2026 00:00", date(2026, 1, 31)),
        (pl.Date, "%d.%m.%Y %R", "31.01.2026 00:01", None),
        (pl.Date, ["%d.%m.%Y", "%F"], "2026-01-31", date(2026, 1, 31)),
        (MOMENT, "%d.%m.%Y", "31.01.2026", datetime(2026, 1, 31)),
        (MOMENT, "%d.%m.%Y %T.%f", "31.01.2026 10:11:12.5", datetime(2026, 1, 31, 10, 11, 12, 500_000)),
        (MOMENT, "%d.%m.%Y %T.%f", "31.01.2026 10:11:12.1234567", None),
        (MOMENT, "%m/%d/%Y %I:%M %p", "1/5/2026 1:05 pm", datetime(2026, 1, 5, 13, 5)),
        (UTC_MOMENT, "%d/%b/%Y:%T %z", "31/Jan/2026:10:11:12 +0100", datetime(2026, 1, 31, 9, 11, 12, tzinfo=UTC)),
        (UTC_MOMENT, "%d/%b/%Y:%T %z", "31/Jan/2026:10:11:12", None),
        (pl.Datetime("us", "Europe/Berlin"), "%d.%m.%Y %R", "29.03.2026 02:30", None),
        (pl.Time, "%I:%M %p", "1:05 PM", time(13, 5)),
        (pl.Time, "%H%M", "0105", time(1, 5)),
        (pl.Time, "%H%M", "105", None),
        (pl.Date, "%d%%%m%%%Y", "31%01%2026", date(2026, 1, 31)),
    ],
)
def test_a_cell_is_what_the_format_says_or_its_row_is_rejected(
    dtype: Any, formats: Any, cell: str, value: object
) -> None:
    assert values(dtype, formats, cell) == [value]


def test_whole_numbers_are_read_as_their_digits_and_values_of_the_type_are_kept() -> None:
    assert values(pl.Date, "%Y%m%d", 20260131, 20260231) == [date(2026, 1, 31), None]
    assert values(pl.Date, "%d.%m.%Y", date(2026, 1, 31)) == [date(2026, 1, 31)]


@given(st.dates(date(1000, 1, 1)), st.sampled_from(["%d.%m.%Y", "%m/%d/%Y", "%Y%m%d", "%d %B %Y", "%Y-%j", "%a %F"]))
def test_formatted_days_are_read_back(day: date, written: str) -> None:
    assert values(pl.Date, written, day.strftime(written)) == [day]


@given(
    st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)), st.sampled_from(["%d.%m.%Y %T.%f", "%F %I:%M:%S.%f %p"])
)
def test_formatted_times_are_read_back(moment: datetime, written: str) -> None:
    assert values(MOMENT, written, moment.strftime(written)) == [moment]


@given(st.text("0123456789./ ", max_size=12))
def test_any_other_text_is_rejected(cell: str) -> None:
    day, month, year = (*cell.strip().split("."), "", "", "")[:3]
    sizes_fit = len(day) in {1, 2} and len(month) in {1, 2} and len(year) == 4
    try:
        expected = date(int(year), int(month), int(day)) if sizes_fit and cell.strip().count(".") == 2 else None
    except ValueError:
        expected = None
    (value,) = values(pl.Date, "%d.%m.%Y", cell)
    assert value == expected


def test_the_reason_names_the_format() -> None:
    contract = Contract({"day": pl.Date}, formats={"day": ["%d.%m.%Y", "%d.%m.%y"]})
    _, rejected = contract.split(pl.DataFrame({"day": ["31.02.2026"]}).with_row_index(ROW, 1))
    assert rejected is not None
    assert rejected["reasons"].to_list() == [['day: "31.02.2026" is not Date written %d.%m.%Y or %d.%m.%y']]


def test_formats_are_in_the_fingerprint_only_where_there_are_some() -> None:
    plain = Contract({"day": pl.Date})
    assert plain.fingerprint() == Contract({"day": pl.Date}, formats={}).fingerprint()
    first, second = (Contract({"day": pl.Date}, formats={"day": written}) for written in ("%d.%m.%Y", "%m.%d.%Y"))
    assert len({plain.fingerprint(), first.fingerprint(), second.fingerprint()}) == 3


@pytest.mark.parametrize(
    ("dtype", "formats", "message"),
    [
        (pl.String, "%d", "only numbers, pl.Date, pl.Datetime and pl.Time"),
        (pl.Int64, "%d", "write 1234.56 as the file would"),
        (pl.Float64, "1.234.56", "write 1234.56 as the file would"),
        (pl.Float64, "1x234,56", "write 1234.56 as the file would"),
        (pl.Float64, ["1.234,56", ""], "write 1234.56 as the file would"),
        (pl.Date, "", "tells no year"),
        (pl.Date, [], "give a format"),
        (pl.Date, 5, "give a format"),
        (pl.Date, "%d.%m", "tells no year"),
        (pl.Date, "%d.%m.%Y %q", "with '%q'; there are %d"),
        (pl.Date, "%d.%m.%Y%", "with '%'"),
        (pl.Date, "%d.%m.%Y %d", "names the day twice"),
        (MOMENT, "%F %H", "no hour and minute"),
        (MOMENT, "%F %I:%M", "no hour and minute"),
        (MOMENT, "%F %T %z", "only a type with a zone"),
        (MOMENT, "%F %T%f", "a fraction follows a point"),
        (pl.Time, "%F %T", "tells a day"),
    ],
)
def test_an_invalid_format_is_refused_at_its_declaration(dtype: Any, formats: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        Contract({"a": dtype}, formats={"a": formats})


def test_a_format_of_an_unknown_column_is_refused() -> None:
    with pytest.raises(DefinitionError, match="no column 'b'"):
        Contract({"a": pl.Date}, formats={"b": "%d.%m.%Y"})


@pytest.mark.parametrize(
    ("dtype", "formats", "cell", "value"),
    [
        (pl.Float64, "1.234,56", " 1.299,50 ", 1299.5),
        (pl.Float64, "1.234,56", "-1.234.567", -1234567.0),
        (pl.Float64, "1.234,56", "1299,5", 1299.5),
        (pl.Float64, "1.234,56", "7", 7.0),
        (pl.Float64, "1.234,56", "1.5", None),
        (pl.Float64, "1.234,56", "1,299.50", None),
        (pl.Float64, "1.234,56", "far", None),
        (pl.Float64, "1234,56", "1.299,50", None),
        (pl.Float64, "1\u00a0234,56", "12\u00a0345,5", 12345.5),
        (pl.Float64, "1,234.56", "1,299.50", 1299.5),
        (pl.Float64, "1,234.56", "1299,50", None),
        (pl.Float64, ["1.234,56", "1234.56"], "1.5", 1.5),
        (pl.Int64, "1.234,56", "1.299", 1299),
        (pl.Int64, "1.234,56", "1.299,5", None),
        (pl.Decimal(10, 2), "1.234,56", "1.299,50", Decimal("1299.50")),
        (pl.Decimal(10, 2), "1.234,56", "1.299,505", None),
    ],
)
def test_each_format_of_numbers(dtype: Any, formats: Any, cell: str, value: object) -> None:
    assert values(dtype, formats, cell) == [value]


@given(
    st.decimals(-10_000_000, 10_000_000, places=2), st.sampled_from(["1.234,56", "1'234.56", "1 234,56", "1,234.56"])
)
def test_a_number_is_read_as_it_is_written(number: Decimal, written: str) -> None:
    mark, point = written[1], written[5]
    text = f"{number:,.2f}".translate(str.maketrans(",.", mark + point))
    assert values(pl.Decimal(12, 2), written, text) == [number]
    assert values(pl.Float64, written, text) == [float(number)]


ROWS = {
    "prices/a.csv": "id;price\n1;1.299,50\n2;7,95\n3;1.5\n",
    "prices/b.json": '[{"id": 1, "price": "1.299,50"}, {"id": 2, "price": "7,95"}, {"id": 3, "price": "1.5"}]',
    "prices/c.xml": "<rows><r><id>1</id><price>1.299,50</price></r><r><id>2</id><price>7,95</price></r>"
    "<r><id>3</id><price>1.5</price></r></rows>",
    "prices/d.xlsx": xlsx({"prices": [["id", "price"], [1, "1.299,50"], [2, "7,95"], [3, "1.5"]]}),
}


@pytest.mark.parametrize("key", ROWS)
def test_numbers_with_a_decimal_comma_in_every_format_with_text(key: str) -> None:
    pipeline = Pipeline("shop")
    contract = Contract({"id": pl.Int64, "price": pl.Float64}, formats={"price": "1.234,56"})

    @pipeline.transform("prices/*", contract=contract)
    def prices(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows

    result = run(pipeline, {key: ROWS[key]})
    assert result.silver["prices", key].rows() == [(1, 1299.5), (2, 7.95)]
    assert result.rejected["prices", key]["reasons"].to_list() == [['price: "1.5" is not Float64 written 1.234,56']]
