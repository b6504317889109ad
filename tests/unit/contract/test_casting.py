"""Casts are lenient about blanks and exact about values, by expression and directly alike."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith.contract import casting

BAD = object()  #: a cell that has no value of the type


def local(*parts: int) -> datetime:
    """A time without a zone."""
    return datetime(*parts)  # type: ignore[arg-type]  # noqa: DTZ001


def outcome(cells: list[Any], source: pl.DataType, target: pl.DataType, *, decimal_comma: bool = False) -> list[Any]:
    """The values, and BAD where the cast failed."""
    frame = pl.DataFrame({"raw": pl.Series(cells, dtype=source)})
    result = frame.select(
        casting.cast(pl.col("raw"), source, target, decimal_comma=decimal_comma).alias("result"), pl.col("raw")
    ).with_columns(casting.failed(pl.col("raw"), pl.col("result"), source).alias("failed"))
    assert result.schema["result"] == target
    assert result["failed"].null_count() == 0
    return [
        BAD if failed else value for value, failed in zip(result["result"].to_list(), result["failed"], strict=True)
    ]


BERLIN = pl.Datetime("us", "Europe/Berlin")


@pytest.mark.parametrize(
    ("target", "cells"),
    [
        (pl.Int64(), {"12": 12, " -7 ": -7, "+3": 3, "007": 7, "12.0": 12, "12.5": BAD, "1e3": BAD, "abc": BAD,
                      "": None, "  ": None, "1_0": BAD, "9223372036854775808": BAD, "1,000": BAD}),
        (pl.UInt8(), {"255": 255, "256": BAD, "-1": BAD, "255.0": 255}),
        (pl.Float64(), {"1.5": 1.5, " 2 ": 2.0, "1e3": 1000.0, ".5": 0.5, "inf": float("inf"), "1e999": BAD,
                        "x": BAD, "": None, "1,5": BAD, "0x10": BAD}),
        (pl.Float32(), {"0.5": 0.5, "1e40": BAD}),
        (pl.Decimal(10, 2), {"1.5": Decimal("1.50"), "-1": Decimal("-1.00"), "1.500": Decimal("1.50"), "1.234": BAD,
                             "x": BAD, "123456789.00": BAD, ".25": Decimal("0.25"), "1e2": BAD}),
        (pl.Boolean(), {"true": True, "FALSE": False, " True ": True, "1": True, "0": False, "yes": BAD, "2": BAD,
                        "": None}),
        (pl.Date(), {"2013-01-31": date(2013, 1, 31), " 2012-02-29": date(2012, 2, 29), "2013-02-29": BAD,
                     "2013-1-2": BAD, "20130102": BAD, "02.01.2013": BAD, "0000-01-01": BAD, "": None}),
        (pl.Time(), {"05:06": time(5, 6), "05:06:07.5": time(5, 6, 7, 500000), "24:00": BAD, "5:06": BAD, "": None}),
        (pl.Datetime("us"), {
            "2013-01-02T03:04:05": local(2013, 1, 2, 3, 4, 5), "2013-01-02 03:04": local(2013, 1, 2, 3, 4),
            "2013-01-02": local(2013, 1, 2), "2013-01-02T03:04:05.1234560": local(2013, 1, 2, 3, 4, 5, 123456),
            "2013-01-02T03:04:05.1234567": BAD, "2013-01-02T03:04:05Z": BAD, "2013-01-02T25:00": BAD, "": None}),
        (pl.Datetime("ms"), {"2013-01-02T03:04:05.123": local(2013, 1, 2, 3, 4, 5, 123000),
                             "2013-01-02T03:04:05.1234": BAD}),
        (pl.Datetime("us", "UTC"), {
            "2013-01-02T05:04:05+0200": datetime(2013, 1, 2, 3, 4, 5, tzinfo=UTC),
            "2013-01-02T03:04:05Z": datetime(2013, 1, 2, 3, 4, 5, tzinfo=UTC),
            "2013-01-02T03:04:05+02:00": datetime(2013, 1, 2, 1, 4, 5, tzinfo=UTC),
            "2013-01-02T03:04-01:00": datetime(2013, 1, 2, 4, 4, tzinfo=UTC),
            "2013-01-02 03:04:05": datetime(2013, 1, 2, 3, 4, 5, tzinfo=UTC), "x": BAD}),
        (BERLIN, {"2013-07-01T12:00": datetime(2013, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin")),
                  "2013-07-01T12:00Z": datetime(2013, 7, 1, 14, tzinfo=ZoneInfo("Europe/Berlin")),
                  "2013-03-31T02:30": BAD, "2013-10-27T02:30": BAD}),
        (pl.Enum(["EWR", "JFK"]), {"EWR": "EWR", "LAX": BAD, "": None}),
        (pl.List(pl.Int64), {"[1]": BAD, "": None}),
        (pl.Duration("us"), {"1": BAD}),
    ],
)  # fmt: skip
def test_from_text(target: pl.DataType, cells: dict[str, Any]) -> None:
    assert outcome([*cells, None], pl.String(), target) == [*cells.values(), None]


def test_nan_stays() -> None:
    (value,) = outcome(["NaN"], pl.String(), pl.Float64())
    assert value != value  # noqa: PLR0124
    (value,) = outcome([float("nan")], pl.Float64(), pl.Float32())
    assert value != value  # noqa: PLR0124


def test_decimal_comma() -> None:
    for target, half in ((pl.Float64(), 1.5), (pl.Decimal(10, 2), Decimal("1.50"))):
        cells = ["1,5", "1.5", "1.000,5", "2", "", "x"]
        values = outcome(cells, pl.String(), target, decimal_comma=True)
        assert values == [half, BAD, BAD, 2, None, BAD]
    assert outcome(["1.000", "12,0", "1,5"], pl.String(), pl.Int64(), decimal_comma=True) == [BAD, 12, BAD]


MOMENT = local(2013, 1, 2, 3, 4, 5, 123456)


@pytest.mark.parametrize(
    ("source", "target", "pairs"),
    [
        (pl.Float64(), pl.Int64(), [(3.0, 3), (3.5, BAD), (1e20, BAD), (float("nan"), BAD), (-0.0, 0)]),
        (pl.Float64(), pl.Float32(), [(0.1, 0.10000000149011612), (1e40, BAD), (float("inf"), float("inf"))]),
        (pl.Int64(), pl.Float64(), [(3, 3.0), (2**53 + 1, BAD)]),
        (pl.Int64(), pl.UInt8(), [(255, 255), (256, BAD), (-1, BAD)]),
        (pl.Int64(), pl.Boolean(), [(1, True), (0, False), (2, BAD)]),
        (pl.Int64(), pl.String(), [(7, "7")]),
        (pl.Int64(), pl.Date(), [(7, BAD)]),
        (pl.Int64(), pl.Decimal(4, 1), [(7, Decimal("7.0")), (12345, BAD)]),
        (pl.Boolean(), pl.Int64(), [(True, BAD)]),
        (pl.Boolean(), pl.String(), [(True, "true")]),
        (pl.Decimal(10, 2), pl.Decimal(10, 1), [(Decimal("1.50"), Decimal("1.5")), (Decimal("1.55"), BAD)]),
        (pl.Decimal(10, 2), pl.Int64(), [(Decimal("2.00"), 2), (Decimal("1.50"), BAD)]),
        (pl.Datetime("us"), pl.Date(), [(local(2013, 1, 2), date(2013, 1, 2)), (MOMENT, BAD)]),
        (pl.Date(), pl.Datetime("us"), [(date(2013, 1, 2), local(2013, 1, 2))]),
        (pl.Datetime("us"), pl.Datetime("ms"), [(MOMENT, BAD), (local(2013, 1, 2), local(2013, 1, 2))]),
        (pl.Datetime("us"), pl.Datetime("us", "UTC"), [(MOMENT, MOMENT.replace(tzinfo=UTC))]),
        (pl.Datetime("us", "UTC"), pl.Datetime("us"), [(MOMENT.replace(tzinfo=UTC), BAD)]),
        (pl.Datetime("us"), BERLIN, [(local(2013, 3, 31, 2, 30), BAD)]),
        (pl.Duration("us"), pl.Int64(), [(timedelta(1), BAD)]),
        (pl.Binary(), pl.String(), [(b"a", BAD)]),
        (pl.List(pl.Float64), pl.List(pl.Int64), [([1.0, 2.0], [1, 2]), ([1.5], BAD), ([], [])]),
        (pl.List(pl.String), pl.List(pl.Int64), [(["1"], [1]), (["x"], BAD), ([], [])]),
        (pl.List(pl.Int64), pl.String(), [([1], BAD)]),
        (pl.Struct({"a": pl.Int64}), pl.Struct({"a": pl.Float64}), [({"a": 1}, {"a": 1.0})]),
        (pl.Struct({"a": pl.Int64, "b": pl.Int64}), pl.Struct({"a": pl.Int64}), [({"a": 1, "b": 2}, BAD)]),
        (pl.Struct({"a": pl.Int64}), pl.Int64(), [({"a": 1}, BAD)]),
        (pl.List(pl.Struct({"x": pl.Int8})), pl.List(pl.Float64), [([{"x": 1}], BAD)]),
        (pl.List(pl.Float64), pl.List(pl.Struct({"x": pl.Int8})), [([1.0], BAD)]),
        (pl.Struct({"a": pl.List(pl.Int8)}), pl.Struct({"a": pl.Int64}), [({"a": [1]}, BAD)]),
        (pl.Null(), pl.Int64(), []),
    ],
)
def test_between_types(source: pl.DataType, target: pl.DataType, pairs: list[tuple[Any, Any]]) -> None:
    cells = [before for before, _ in pairs]
    assert [*map(str, outcome([*cells, None], source, target))] == [*(str(after) for _, after in pairs), "None"]


def test_reasons_name_the_cell() -> None:
    frame = pl.DataFrame({"a": ["abc", "x" * 200]})
    (first, second) = frame.select(casting.reason("distance", pl.col("a"), pl.String(), pl.Int64())).to_series()
    assert first == 'distance: "abc" is not Int64'
    assert second == f'distance: "{"x" * 100}…" is not Int64'
    for cells, source, shown in (
        ([1.5], pl.Float64(), "1.5"),
        ([{"a": 1}], pl.Struct({"a": pl.Int64}), '{"a":1}'),
        ([[1]], pl.List(pl.Int64), "a value of type List(Int64)"),
        ([b"\xff"], pl.Binary(), "a value of type Binary"),
    ):
        frame = pl.DataFrame({"a": pl.Series(cells, dtype=source)})
        result = frame.select(casting.reason("x", pl.col("a"), source, pl.Int64())).to_series().to_list()
        assert result == [f"x: {shown} is not Int64"]


TEXTS = st.one_of(
    st.none(),
    st.integers(-300, 300).map(str),
    st.integers().map(str),
    st.floats().map(str),
    st.dates().map(str),
    st.datetimes().map(lambda moment: moment.isoformat()),
    st.sampled_from(["true", "0", "", " ", " 1", "1.0", "NaN", "inf", "1e400", "2013-01-01T00:00:00Z", "x"]),
)
TARGETS: list[pl.DataType] = [
    pl.Int64(), pl.Int8(), pl.UInt64(), pl.Float64(), pl.Float32(), pl.Boolean(), pl.Date(), pl.Datetime("us"),
    pl.Datetime("us", "UTC"), pl.String(), pl.Time(), pl.Decimal(8, 2),
]  # fmt: skip


@given(st.lists(TEXTS, max_size=5), st.sampled_from(TARGETS))
def test_the_quick_way_gives_what_the_long_one_does_or_nothing(cells: list[str | None], target: pl.DataType) -> None:
    series = pl.Series("raw", cells, dtype=pl.String)
    quick = casting.quickly(series, target)
    if quick is not None:
        assert quick.dtype == target
        values = outcome(cells, pl.String(), target)
        assert BAD not in values
        assert quick.equals(pl.Series(values, dtype=target))


@given(
    st.lists(st.none() | st.integers(-(2**63), 2**63 - 1) | st.integers(-300, 300), max_size=4),
    st.sampled_from(TARGETS),
)
def test_the_quick_way_with_integers(cells: list[int | None], target: pl.DataType) -> None:
    quick = casting.quickly(pl.Series("raw", cells, dtype=pl.Int64), target)
    if quick is not None:
        values = outcome(cells, pl.Int64(), target)
        assert BAD not in values
        assert quick.equals(pl.Series(values, dtype=target))
